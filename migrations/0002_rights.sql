-- Who may do what: roles, row-level security, append-only tables, a default
-- partition, legal holds and retention.
--
-- Run by a superuser, or by a role that may create roles and schemas in this
-- database. What keeps the tables from being altered or dropped is in guard.sql.

-- Roles ----------------------------------------------------------------------

-- Roles belong to the whole server: another database's trail may have made them.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['audit_owner', 'audit_maintainer', 'audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator'] LOOP
        IF to_regrole(role) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                -- At the same moment, from another database.
                NULL;
            END;
        END IF;
    END LOOP;
    IF NOT pg_has_role('audit_maintainer', 'audit_owner', 'MEMBER') THEN
        GRANT audit_owner TO audit_maintainer;
    END IF;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        -- To give them what it has made; taken back at the end.
        EXECUTE format('GRANT audit_owner, audit_maintainer TO %I', current_user);
    END IF;
END
$$;

ALTER SCHEMA audit OWNER TO audit_owner;
ALTER SCHEMA audit_parts OWNER TO audit_owner;
REVOKE ALL ON SCHEMA audit, audit_parts FROM PUBLIC;
GRANT USAGE ON SCHEMA audit TO audit_writer, audit_reader, audit_auditor, audit_operator;
-- A leaf is named by who writes to it, and by nobody else.
GRANT USAGE ON SCHEMA audit_parts TO audit_writer;

-- The version of the tables is no secret; it is how a writer knows that it can start.
GRANT SELECT (version, description, success) ON audit.schema_migrations
    TO audit_writer, audit_reader, audit_auditor, audit_operator, audit_maintainer;
-- Whoever migrates notes that here, also when it owns the schema no more.
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA audit TO %I', current_user);
END
$$;

-- Append-only ------------------------------------------------------------------

CREATE FUNCTION audit.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'audit trail: % on %.% is refused, it is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;
COMMENT ON FUNCTION audit.refuse_change() IS 'Refuses UPDATE, DELETE and TRUNCATE, for everybody.';

-- Makes a table append-only. Two triggers: statements fire one for each statement, also when no
-- row is concerned; what logical replication applies fires only those for each row. ALWAYS, so
-- that session_replication_role = replica switches neither off.
CREATE FUNCTION audit.make_append_only(target regclass) RETURNS void
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', target);
    -- Those of a partitioned table are cloned to its leaves; each leaf has its own.
    IF (SELECT relkind FROM pg_class WHERE oid = target) = 'r' THEN
        EXECUTE format('CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()', target);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only_rows', target);
    END IF;
END
$$;
COMMENT ON FUNCTION audit.make_append_only(regclass) IS 'Makes a table append-only; for the functions of the trail.';

-- Row-level security hides rows and not what ANALYZE has noted of them: EXPLAIN would tell a reader,
-- by its estimates, which values other tenants have, and how often. What is left is what a plan by
-- time needs.
CREATE FUNCTION audit.keep_no_statistics(target regclass) RETURNS void
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE (
        SELECT format('ALTER TABLE %s %s', target, string_agg(format('ALTER COLUMN %I SET STATISTICS 0', attname), ', '))
        FROM pg_attribute
        WHERE attrelid = target AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', 'started_at', 'created_at'));
END
$$;
COMMENT ON FUNCTION audit.keep_no_statistics(regclass) IS 'Keeps ANALYZE from noting values that a reader could learn of from EXPLAIN; for the functions of the trail.';

-- What a leaf must have before it holds a row.
CREATE FUNCTION audit.make_leaf_safe(leaf regclass) RETURNS void
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', leaf);
    EXECUTE format('GRANT INSERT ON %s TO audit_writer', leaf);
    PERFORM audit.make_append_only(leaf);
    PERFORM audit.keep_no_statistics(leaf);
    EXECUTE format('ALTER TABLE %s OWNER TO audit_owner', leaf);
END
$$;
COMMENT ON FUNCTION audit.make_leaf_safe(regclass) IS 'Gives a leaf its owner, rights, triggers and columns without statistics; for the functions of the trail.';

-- Partitions ---------------------------------------------------------------------

CREATE TABLE audit.removals (
    partition  text        NOT NULL,
    parent     text        NOT NULL,
    writer_id  uuid        NOT NULL,
    first_seq  bigint      NOT NULL,
    last_seq   bigint      NOT NULL,
    rows       bigint      NOT NULL,
    sha256     bytea       NOT NULL,
    removed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    removed_by text        NOT NULL,
    PRIMARY KEY (partition, removed_at, writer_id, first_seq)
);
COMMENT ON TABLE audit.removals IS 'What retention removed: for each batch with rows in a removed partition, how many, and a hash of them.';
COMMENT ON COLUMN audit.removals.sha256 IS 'sha256 over the sha256 of each of its rows in the order of seq; a row as its text in UTF8.';

CREATE TABLE audit.legal_holds (
    id        uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    reason    text        NOT NULL CHECK (reason <> ''),
    tenant_id uuid,
    kinds     text[],
    from_time timestamptz NOT NULL,
    to_time   timestamptz NOT NULL CHECK (to_time > from_time),
    placed_by text        NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE audit.legal_holds IS 'What must not be removed: records of a tenant (NULL: all) and of kinds (NULL: all) that began in a span of time. Lifted by a row in audit.legal_hold_lifts.';

CREATE TABLE audit.legal_hold_lifts (
    hold_id   uuid        NOT NULL PRIMARY KEY REFERENCES audit.legal_holds (id),
    reason    text        NOT NULL CHECK (reason <> ''),
    lifted_by text        NOT NULL,
    lifted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE audit.legal_hold_lifts IS 'The end of a legal hold: who lifted it, when and why.';

-- The name of the column with the time of a record table; NULL for any other name.
CREATE FUNCTION audit.time_column(parent text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE parent WHEN 'query_runs' THEN 'started_at' WHEN 'prompt_runs' THEN 'created_at' WHEN 'events' THEN 'created_at' END
$$;
COMMENT ON FUNCTION audit.time_column(text) IS 'The column with the time of a record table.';

CREATE OR REPLACE FUNCTION audit.ensure_partition(parent text, at timestamptz) RETURNS text
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    month_start constant timestamptz := date_trunc('month', at);
    month_end   constant timestamptz := date_trunc('month', at) + interval '1 month';
    leaf        constant text := parent || '_' || to_char(date_trunc('month', at), 'YYYY_MM');
    net         constant text := parent || '_default';
    time_column constant text := audit.time_column(parent);
    is_there    boolean;
    is_in_net   boolean;
BEGIN
    IF time_column IS NULL THEN
        RAISE EXCEPTION 'audit.%: no such record table', parent USING ERRCODE = 'undefined_table';
    END IF;
    IF at < '1970-01-01 00:00+00' OR at >= '10000-01-01 00:00+00' THEN
        RAISE EXCEPTION 'audit.%: no partition for a time outside the years 1970 to 9999', parent
            USING ERRCODE = 'datetime_field_overflow';
    END IF;
    -- Not by to_regclass: that remembers what was not there, and what another session has made while
    -- this one waits below would still not be there.
    is_there := EXISTS (SELECT FROM pg_class WHERE relnamespace = 'audit_parts'::regnamespace AND relname = leaf);
    IF NOT is_there THEN
        -- A clock that is ahead makes no partitions: its rows are kept in the default one.
        IF month_start > now() + interval '2 months' THEN
            RETURN net;
        END IF;
        -- Writers that need the same partition at the same moment wait for each other here.
        PERFORM pg_advisory_xact_lock(hashtextextended('tracing-audit partition', 0));
        is_there := EXISTS (SELECT FROM pg_class WHERE relnamespace = 'audit_parts'::regnamespace AND relname = leaf);
    END IF;
    IF is_there THEN
        -- Rows in a table that was detached would be in nobody's trail.
        IF NOT EXISTS (
            SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE c.relnamespace = 'audit_parts'::regnamespace AND c.relname = leaf
                AND i.inhparent = format('audit.%I', parent)::regclass
                AND NOT i.inhdetachpending)
        THEN
            RAISE EXCEPTION 'audit_parts.%: not a partition of audit.% (any more)', leaf, parent
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Attach it again, or rename it so that a new partition can be made.';
        END IF;
        RETURN leaf;
    END IF;
    -- A month that has rows in the default partition already stays there.
    EXECUTE format('SELECT EXISTS (SELECT FROM audit_parts.%I WHERE id >= $1 AND id < $2)', net)
        INTO is_in_net USING audit.id_at(month_start), audit.id_at(month_end);
    IF is_in_net THEN
        RETURN net;
    END IF;
    -- Created alone and attached afterwards: CREATE TABLE ... PARTITION OF would lock
    -- out every reader of the parent, ATTACH does not.
    EXECUTE format(
        'CREATE TABLE audit_parts.%I (LIKE audit.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)',
        leaf, parent);
    -- Lets a query by time skip the partition although it is partitioned by id.
    EXECUTE format(
        'ALTER TABLE audit_parts.%I ADD CONSTRAINT %I CHECK (%I >= %L AND %I < %L)',
        leaf, leaf || '_month', time_column, month_start, time_column, month_end);
    PERFORM audit.make_leaf_safe(format('audit_parts.%I', leaf)::regclass);
    EXECUTE format(
        'ALTER TABLE audit.%I ATTACH PARTITION audit_parts.%I FOR VALUES FROM (%L) TO (%L)',
        parent, leaf, audit.id_at(month_start), audit.id_at(month_end));
    RETURN leaf;
END
$$;
COMMENT ON FUNCTION audit.ensure_partition(text, timestamptz) IS 'Makes the monthly partition of a record table for a moment unless it is there, and returns the name of the partition in schema audit_parts that the records of that month belong in: the default one for a time that is more than two months ahead.';

-- What is there already gets the same; then the default partitions.
DO $$
DECLARE
    leaf   regclass;
    parent text;
BEGIN
    FOR leaf IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'audit_parts'::regnamespace AND c.relkind = 'r' LOOP
        PERFORM audit.make_leaf_safe(leaf);
    END LOOP;
    FOREACH parent IN ARRAY ARRAY['query_runs', 'prompt_runs', 'events'] LOOP
        EXECUTE format(
            'CREATE TABLE audit_parts.%I (LIKE audit.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)',
            parent || '_default', parent);
        EXECUTE format('COMMENT ON TABLE audit_parts.%I IS %L', parent || '_default',
            'Rows of a time that has no partition of its own: of a clock that is ahead. Empty when all is well.');
        PERFORM audit.make_leaf_safe(format('audit_parts.%I', parent || '_default')::regclass);
        EXECUTE format('ALTER TABLE audit.%I ATTACH PARTITION audit_parts.%I DEFAULT', parent, parent || '_default');
    END LOOP;
END
$$;

-- Row-level security -------------------------------------------------------------

-- The tenant that the session or the transaction has set; NULL when none is. What is no UUID is
-- an error (22P02), never another tenant.
CREATE FUNCTION audit.current_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    -- Read once, here: no search_path of a caller changes what it means.
    RETURN nullif(current_setting('app.current_tenant', true), '')::uuid;
COMMENT ON FUNCTION audit.current_tenant() IS 'The tenant of the setting app.current_tenant, whose rows are seen; NULL: none.';

DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['query_runs', 'prompt_runs', 'events'] LOOP
        EXECUTE format('REVOKE ALL ON audit.%I FROM PUBLIC', target);
        EXECUTE format('GRANT SELECT ON audit.%I TO audit_reader, audit_auditor', target);
        -- For everybody who may read at all, whoever granted it.
        PERFORM audit.keep_no_statistics(format('audit.%I', target)::regclass);
        EXECUTE format('CREATE POLICY tenant ON audit.%I FOR SELECT TO PUBLIC USING (tenant_id = nullif(current_setting(''app.current_tenant'', true), '''')::uuid)', target);
    END LOOP;
    FOREACH target IN ARRAY ARRAY['batches', 'dead_letters', 'removals', 'legal_holds', 'legal_hold_lifts'] LOOP
        EXECUTE format('REVOKE ALL ON audit.%I FROM PUBLIC', target);
        EXECUTE format('GRANT SELECT ON audit.%I TO audit_auditor', target);
        EXECUTE format('CREATE POLICY maintainer ON audit.%I FOR SELECT TO audit_maintainer USING (true)', target);
    END LOOP;
    FOREACH target IN ARRAY ARRAY['batches', 'dead_letters'] LOOP
        EXECUTE format('GRANT INSERT ON audit.%I TO audit_writer', target);
        EXECUTE format('CREATE POLICY adding ON audit.%I FOR INSERT TO audit_writer, audit_maintainer WITH CHECK (true)', target);
    END LOOP;
    FOREACH target IN ARRAY ARRAY['legal_holds', 'legal_hold_lifts', 'removals'] LOOP
        EXECUTE format('CREATE POLICY adding ON audit.%I FOR INSERT TO audit_maintainer WITH CHECK (true)', target);
        EXECUTE format('GRANT SELECT ON audit.%I TO audit_operator', target);
        EXECUTE format('CREATE POLICY operator ON audit.%I FOR SELECT TO audit_operator USING (true)', target);
    END LOOP;
    FOREACH target IN ARRAY ARRAY['query_runs', 'prompt_runs', 'events', 'batches', 'dead_letters', 'removals', 'legal_holds', 'legal_hold_lifts'] LOOP
        EXECUTE format('CREATE POLICY auditor ON audit.%I FOR SELECT TO audit_auditor USING (true)', target);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', target);
        PERFORM audit.make_append_only(format('audit.%I', target)::regclass);
        EXECUTE format('ALTER TABLE audit.%I OWNER TO audit_owner', target);
    END LOOP;
END
$$;

-- All kinds in one, for reading.
CREATE VIEW audit.trail WITH (security_invoker = true) AS
    SELECT 'audit.query_run' AS kind, id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id,
        trace_id, span_id, service_name, started_at AS began_at, duration_ms, coalesce(question_text, sql_text) AS what, status, error_code, writer_id, seq
    FROM audit.query_runs
    UNION ALL
    SELECT 'audit.prompt_run', id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id,
        trace_id, span_id, service_name, created_at, duration_ms, coalesce(prompt_template_name, model_name), status, error_code, writer_id, seq
    FROM audit.prompt_runs
    UNION ALL
    SELECT 'audit.event', id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id,
        trace_id, span_id, service_name, created_at, latency_ms, action_type, status, error_code, writer_id, seq
    FROM audit.events;
ALTER VIEW audit.trail OWNER TO audit_owner;
GRANT SELECT ON audit.trail TO audit_reader, audit_auditor;
COMMENT ON VIEW audit.trail IS 'The records of all kinds with what they have in common; read with the reader''s own rights.';

-- A request's story. Without statistics Postgres expects thousands of records of each request, and would start
-- workers and compile the query for the few that there are: a third of a second among millions. So it does neither here.
CREATE FUNCTION audit.request_trail(request_id text) RETURNS TABLE (
        kind text, id uuid, tenant_id uuid, user_id text, user_role text, agent_id uuid, request_id text, llm_session_id uuid, conversation_id text,
        parent_id uuid, trace_id text, span_id text, service_name text, began_at timestamptz, duration_ms bigint, what text, status audit.run_status,
        error_code text, writer_id uuid, seq bigint)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = 'off'
    SET max_parallel_workers_per_gather = '0'
AS $$
    SELECT * FROM audit.trail WHERE trail.request_id = $1 ORDER BY began_at, seq, id
$$;
COMMENT ON FUNCTION audit.request_trail(text) IS 'The records of a request in audit.trail, by their beginning; quick among millions. Read with the reader''s own rights.';

-- Records that Postgres makes itself ---------------------------------------------

-- An event of the trail's own, by whoever is logged in. It is a writer with one record.
CREATE FUNCTION audit.append_event(
    action_type text, target_type text, target_id text, input_summary text, request_id text, tenant_id uuid, metadata jsonb
) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    at     constant timestamptz := clock_timestamp();
    writer constant uuid := gen_random_uuid();
    -- A UUIDv7: 48 bits of milliseconds, the version, and random bits.
    event  constant uuid := encode(set_byte(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        6, (get_byte(uuid_send(writer), 6) & 15) | 112), 'hex')::uuid;
BEGIN
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, query_runs, prompt_runs, events, dead_letters, first_id, last_id, service_name, library_version)
        VALUES (writer, 1, 1, 0, 0, 1, 0, event, event, 'postgres', 'sql');
    EXECUTE format(
        'INSERT INTO audit_parts.%I (id, tenant_id, user_id, request_id, service_name, action_type, target_type, target_id, input_summary, status, created_at, metadata, writer_id, seq, salt)
         VALUES ($1, $2, $3, $4, ''postgres'', $5, $6, $7, $8, ''succeeded'', $9, $10, $11, 1, $12)',
        audit.ensure_partition('events', at))
        USING event, tenant_id, session_user::text, request_id, action_type, target_type, target_id, input_summary, at,
            coalesce(metadata, '{}') || jsonb_strip_nulls(jsonb_build_object(
                'client_address', host(inet_client_addr()), 'application_name', nullif(current_setting('application_name'), ''))),
            writer, substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) FROM 1 FOR 16);
    RETURN event;
END
$$;
COMMENT ON FUNCTION audit.append_event(text, text, text, text, text, uuid, jsonb) IS 'Adds an event that the database makes itself; for the functions of the trail.';

CREATE FUNCTION audit.record_reading(purpose text, request_id text DEFAULT NULL, tenant_id uuid DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF coalesce(btrim(purpose), '') = '' THEN
        RAISE EXCEPTION 'audit trail: a reading is recorded with its purpose' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN audit.append_event('audit.read', CASE WHEN request_id IS NULL THEN 'trail' ELSE 'request' END, request_id, purpose, NULL, tenant_id, NULL);
END
$$;
COMMENT ON FUNCTION audit.record_reading(text, text, uuid) IS 'Records in the trail that the trail is read: by whom, when, from where, why, and of which request or tenant. Returns the id of the event.';

-- Legal holds ----------------------------------------------------------------------

CREATE FUNCTION audit.place_hold(
    reason text, tenant_id uuid DEFAULT NULL, from_time timestamptz DEFAULT '-infinity', to_time timestamptz DEFAULT 'infinity', kinds text[] DEFAULT NULL
) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hold uuid;
    kind text;
BEGIN
    FOREACH kind IN ARRAY coalesce(kinds, '{}') LOOP
        IF audit.time_column(kind) IS NULL THEN
            RAISE EXCEPTION 'audit.%: no such record table', kind USING ERRCODE = 'undefined_table';
        END IF;
    END LOOP;
    INSERT INTO audit.legal_holds (reason, tenant_id, kinds, from_time, to_time, placed_by)
        VALUES (reason, tenant_id, kinds, from_time, to_time, session_user)
        RETURNING id INTO hold;
    PERFORM audit.append_event('audit.hold_placed', 'legal_hold', hold::text, reason, NULL, tenant_id, NULL);
    RETURN hold;
END
$$;
COMMENT ON FUNCTION audit.place_hold(text, uuid, timestamptz, timestamptz, text[]) IS 'Keeps records from being removed until the hold is lifted; kinds are names of record tables. Returns the id of the hold.';

CREATE FUNCTION audit.lift_hold(hold uuid, reason text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant uuid;
BEGIN
    SELECT h.tenant_id INTO tenant FROM audit.legal_holds h WHERE h.id = hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit trail: no such hold' USING ERRCODE = 'no_data_found';
    END IF;
    IF EXISTS (SELECT FROM audit.legal_hold_lifts l WHERE l.hold_id = hold) THEN
        RAISE EXCEPTION 'audit trail: the hold was lifted before' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO audit.legal_hold_lifts (hold_id, reason, lifted_by) VALUES (hold, reason, session_user);
    PERFORM audit.append_event('audit.hold_lifted', 'legal_hold', hold::text, reason, NULL, tenant, NULL);
END
$$;
COMMENT ON FUNCTION audit.lift_hold(uuid, text) IS 'Ends a legal hold.';

-- Retention --------------------------------------------------------------------------

-- Why a leaf must not be removed.
CREATE FUNCTION audit.held(parent text, month_start timestamptz, month_end timestamptz) RETURNS TABLE (id uuid, tenant_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT h.id, h.tenant_id FROM audit.legal_holds h
    WHERE h.from_time < month_end AND h.to_time > month_start AND (h.kinds IS NULL OR parent = ANY (h.kinds))
        AND NOT EXISTS (SELECT FROM audit.legal_hold_lifts l WHERE l.hold_id = h.id)
    ORDER BY h.placed_at, h.id
$$;
COMMENT ON FUNCTION audit.held(text, timestamptz, timestamptz) IS 'The legal holds that are in force over a time; for the functions of the trail.';

-- The foreign keys of the host that rows of a leaf are referred to by.
CREATE FUNCTION audit.referring(parent text, month_start timestamptz, month_end timestamptz) RETURNS SETOF text
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    -- A row that a policy of the host hides is an error, and not no row.
    SET row_security = off
AS $$
DECLARE
    referrer record;
    referred bigint;
BEGIN
    FOR referrer IN
        SELECT c.conrelid::regclass AS host, a.attname AS col, t.oid = 'uuid'::regtype OR t.typbasetype = 'uuid'::regtype AS is_uuid
        FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        JOIN pg_type t ON t.oid = a.atttypid
        WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confrelid = format('audit.%I', parent)::regclass
    LOOP
        -- A type of the host's own becomes a uuid by a function of the host's own, which must not run with these rights.
        IF NOT referrer.is_uuid THEN
            RETURN NEXT format('whether %s refers to it is not read: its column %I is no uuid', referrer.host, referrer.col);
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('SELECT count(*) FROM %s WHERE %I >= $1 AND %I < $2', referrer.host, referrer.col, referrer.col)
                INTO referred USING audit.id_at(month_start), audit.id_at(month_end);
            IF referred > 0 THEN
                RETURN NEXT format('%s rows of %s refer to it by %I', referred, referrer.host, referrer.col);
            END IF;
        EXCEPTION WHEN insufficient_privilege THEN
            RETURN NEXT format('whether %s refers to it cannot be read: GRANT SELECT ON %s TO audit_maintainer, and USAGE on its schema',
                referrer.host, referrer.host);
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION audit.referring(text, timestamptz, timestamptz) IS 'What of the host refers to rows of a time; for the functions of the trail.';

-- What of the host a leaf cannot be dropped without: a view, a function, a foreign key to the leaf alone. Not what goes
-- with the leaf, nor the parts of foreign keys to its parent, which detaching it takes away.
CREATE FUNCTION audit.depending(leaf text) RETURNS SETOF text
    LANGUAGE sql STABLE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT format('%s %s depends on it', o.type, o.identity)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = c.reltype
    JOIN pg_depend d ON d.deptype = 'n' AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
        OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray))
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
    CROSS JOIN LATERAL pg_identify_object(
        CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END, coalesce(r.ev_class, d.objid),
        CASE WHEN r.oid IS NULL THEN d.objsubid ELSE 0 END) o
    WHERE n.nspname = 'audit_parts' AND c.relname = leaf AND coalesce(k.conparentid, 0) = 0
        AND NOT EXISTS (SELECT FROM pg_depend own WHERE own.classid = d.classid AND own.objid = d.objid
            AND own.deptype <> 'n' AND own.refclassid = 'pg_class'::regclass AND own.refobjid = c.oid)
    ORDER BY 1
$$;
COMMENT ON FUNCTION audit.depending(text) IS 'What of the host a leaf cannot be dropped without; for the functions of the trail.';

CREATE FUNCTION audit.obstacles(parent text, leaf text, month_start timestamptz, month_end timestamptz) RETURNS text[]
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found    text[] := '{}';
    hold     record;
    is_there boolean;
BEGIN
    FOR hold IN SELECT h.id, h.tenant_id FROM audit.held(parent, month_start, month_end) h LOOP
        is_there := true;
        IF hold.tenant_id IS NOT NULL THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM audit_parts.%I WHERE tenant_id = $1)', leaf) INTO is_there USING hold.tenant_id;
        END IF;
        IF is_there THEN
            found := found || format('held by the legal hold %s', hold.id);
        END IF;
    END LOOP;
    RETURN found || ARRAY(SELECT audit.referring(parent, month_start, month_end)) || ARRAY(SELECT audit.depending(leaf));
END
$$;
COMMENT ON FUNCTION audit.obstacles(text, text, timestamptz, timestamptz) IS 'Why a leaf must not be removed; for the functions of the trail.';

CREATE FUNCTION audit.plan_retention(keep interval, kinds text[] DEFAULT NULL)
    RETURNS TABLE (parent text, partition text, from_time timestamptz, to_time timestamptz, rows bigint, bytes bigint, obstacles text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    leaf text;
BEGIN
    IF keep IS NULL OR now() - keep > now() - interval '1 day' THEN
        RAISE EXCEPTION 'audit trail: records are kept for a day at least' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH parent IN ARRAY coalesce(kinds, ARRAY['query_runs', 'prompt_runs', 'events']) LOOP
        IF audit.time_column(parent) IS NULL THEN
            RAISE EXCEPTION 'audit.%: no such record table', parent USING ERRCODE = 'undefined_table';
        END IF;
        FOR leaf IN
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = format('audit.%I', parent)::regclass AND c.relname ~ '_[0-9]{4}_[0-9]{2}$' ORDER BY 1
        LOOP
            from_time := to_timestamp(right(leaf, 7), 'YYYY_MM');
            to_time := from_time + interval '1 month';
            CONTINUE WHEN to_time > now() - keep;
            partition := leaf;
            EXECUTE format('SELECT count(*) FROM audit_parts.%I', leaf) INTO rows;
            bytes := pg_total_relation_size(format('audit_parts.%I', leaf)::regclass);
            obstacles := audit.obstacles(parent, leaf, from_time, to_time);
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION audit.plan_retention(interval, text[]) IS 'The partitions all of whose records are older than keep, with what stands against their removal. Changes nothing.';

CREATE FUNCTION audit.remove_partition(leaf text, keep interval) RETURNS uuid
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    -- A row's text, which is hashed, is the same whoever calls.
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET bytea_output = 'hex'
AS $$
DECLARE
    plan    record;
    batches bigint;
    hashed  bytea;
    event   uuid;
BEGIN
    -- No hold is placed, and no row added, from here on.
    LOCK TABLE audit.legal_holds, audit.legal_hold_lifts IN SHARE MODE;
    IF leaf !~ '^(query_runs|prompt_runs|events)_[0-9]{4}_[0-9]{2}$' THEN
        RAISE EXCEPTION 'audit_parts.%: no monthly partition', leaf USING ERRCODE = 'undefined_table';
    END IF;
    EXECUTE format('LOCK TABLE audit_parts.%I IN SHARE MODE', leaf);
    SELECT * INTO plan FROM audit.plan_retention(keep, ARRAY[left(leaf, -8)]) p WHERE p.partition = leaf;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit_parts.%: not there, or it holds records that are to be kept', leaf
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF cardinality(plan.obstacles) > 0 THEN
        RAISE EXCEPTION 'audit_parts.%: not removed: %', leaf, array_to_string(plan.obstacles, '; ')
            USING ERRCODE = 'object_in_use';
    END IF;
    EXECUTE format(
        'INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by)
         SELECT $1, $2, r.writer_id, min(r.seq), max(r.seq), count(*), sha256(string_agg(sha256(convert_to(r::text, ''UTF8'')), '''' ORDER BY r.seq)), session_user
         FROM audit_parts.%I r LEFT JOIN LATERAL (
             SELECT b.first_seq FROM audit.batches b WHERE b.writer_id = r.writer_id AND b.first_seq <= r.seq ORDER BY b.first_seq DESC LIMIT 1) b ON true
         GROUP BY r.writer_id, b.first_seq', leaf) USING leaf, plan.parent;
    SELECT count(*), sha256(coalesce(string_agg(r.sha256, '' ORDER BY r.writer_id, r.first_seq), '')) INTO batches, hashed
        FROM audit.removals r WHERE r.partition = leaf AND r.removed_at >= transaction_timestamp();
    EXECUTE format('ALTER TABLE audit.%I DETACH PARTITION audit_parts.%I', plan.parent, leaf);
    EXECUTE format('DROP TABLE audit_parts.%I', leaf);
    event := audit.append_event('audit.partition_removed', 'partition', leaf, format('kept for %s', keep), NULL, NULL, jsonb_build_object(
        'rows', plan.rows, 'bytes', plan.bytes, 'batches', batches, 'sha256', encode(hashed, 'hex'),
        'from', plan.from_time, 'to', plan.to_time));
    RETURN event;
END
$$;
COMMENT ON FUNCTION audit.remove_partition(text, interval) IS 'Removes one monthly partition all of whose records are older than keep, unless something stands against it; notes what was removed in audit.removals and as an event, whose id it returns.';

-- Who owns and may call what ---------------------------------------------------------

DO $$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'audit'::regnamespace LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
        EXECUTE format('ALTER FUNCTION %s OWNER TO audit_maintainer', function);
    END LOOP;
    ALTER TYPE audit.run_status OWNER TO audit_owner;
END
$$;
-- They read and change nothing.
GRANT EXECUTE ON FUNCTION audit.tenant_uuid(text), audit.id_at(timestamptz), audit.current_tenant() TO PUBLIC;
GRANT EXECUTE ON FUNCTION audit.ensure_partition(text, timestamptz) TO audit_writer, audit_operator;
GRANT EXECUTE ON FUNCTION audit.writer_position(uuid) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.request_trail(text), audit.record_reading(text, text, uuid) TO audit_reader, audit_auditor;
GRANT EXECUTE ON FUNCTION audit.place_hold(text, uuid, timestamptz, timestamptz, text[]) TO audit_auditor, audit_operator;
-- Whoever removes lifts no hold.
GRANT EXECUTE ON FUNCTION audit.lift_hold(uuid, text) TO audit_auditor;
GRANT EXECUTE ON FUNCTION audit.plan_retention(interval, text[]), audit.remove_partition(text, interval) TO audit_operator;

-- What it took to give away what was made --------------------------------------------

DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('REVOKE audit_owner, audit_maintainer FROM %I', current_user);
    END IF;
END
$$;
