-- Who may do what: roles, row-level security, append-only tables, a default
-- partition, legal holds and retention.
--
-- Run as audit_maintainer: what is made belongs to it, and default privileges of
-- whoever migrates do not reach it. The roles are made in roles.sql. What keeps the
-- tables from being altered or dropped is in guard.sql.

-- Schemas --------------------------------------------------------------------

REVOKE ALL ON SCHEMA audit, audit_parts FROM PUBLIC;
GRANT USAGE ON SCHEMA audit TO audit_writer, audit_reader, audit_auditor, audit_operator, audit_sealer;
-- A leaf is named by who writes to it, and by nobody else.
GRANT USAGE ON SCHEMA audit_parts TO audit_writer;

-- The version of the tables is no secret; it is how a writer knows that it can start.
GRANT SELECT (version, description, success) ON audit.schema_migrations
    TO audit_writer, audit_reader, audit_auditor, audit_operator, audit_sealer, audit_maintainer;

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

-- Makes a table append-only. Two triggers: The statement trigger also fires when no row matches; logical replication
-- fires only row triggers. ALWAYS, so that session_replication_role = replica switches neither off.
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

-- Row-level security hides rows but not the statistics that ANALYZE collects: through the estimates of EXPLAIN, a
-- reader could learn which values other tenants have, and how often. Only the statistics that time-range plans need
-- are kept.
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

-- Postgres checks a foreign key as the owner of the referenced table, and a host's code (such as a type's cast) may
-- run during the check. So the owner may read only the ids that foreign keys refer to; the functions get their rights
-- by GRANT.
CREATE FUNCTION audit.give_to_owner(target regclass) RETURNS void
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s OWNER TO audit_owner', target);
    EXECUTE format('GRANT ALL ON %s TO audit_maintainer', target);
    EXECUTE format('REVOKE ALL ON %s FROM audit_owner', target);
    IF target = to_regclass('audit.legal_holds') OR target IN (SELECT to_regclass(format('audit.%I', name)) FROM unnest(audit.record_tables()) name) THEN
        EXECUTE format('GRANT SELECT (id), UPDATE (id) ON %s TO audit_owner', target);
    END IF;
END
$$;
COMMENT ON FUNCTION audit.give_to_owner(regclass) IS 'Gives a table to audit_owner, who cannot read or change what it holds; for the functions of the trail.';

-- What a leaf must have before it holds a row.
CREATE FUNCTION audit.make_leaf_safe(leaf regclass) RETURNS void
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    grantee oid;
    net     text := (SELECT relname FROM pg_class WHERE oid = leaf AND relname LIKE '%\_default');
BEGIN
    -- The id and the time are of one day, as in a partition for any interval: else the row could never be settled.
    IF net IS NOT NULL THEN
        EXECUTE format(
            'ALTER TABLE %s ADD CONSTRAINT %I CHECK (date_trunc(''day'', %I AT TIME ZONE ''UTC'') = date_trunc(''day'',
                to_timestamp((''x'' || translate(left(id::text, 13), ''-'', ''''))::bit(48)::bigint / 1000) AT TIME ZONE ''UTC''))',
            leaf, net || '_time', audit.time_column(left(net, -8)));
    END IF;
    -- What default privileges of any kind have given to others; it belongs to whoever has made it just now.
    FOR grantee IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = leaf AND a.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', leaf, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END);
    END LOOP;
    EXECUTE format('GRANT INSERT ON %s TO audit_writer', leaf);
    PERFORM audit.make_append_only(leaf);
    PERFORM audit.keep_no_statistics(leaf);
    PERFORM audit.give_to_owner(leaf);
END
$$;
COMMENT ON FUNCTION audit.make_leaf_safe(regclass) IS 'Gives a leaf its owner, rights, triggers and columns without statistics; for the functions of the trail.';

-- Partitions ---------------------------------------------------------------------

-- Sessions that create, remove or settle a partition wait for each other here. A table rather than an advisory lock, which
-- any role could hold: no other role has a right to this table, though Postgres refuses some statements late.
CREATE TABLE audit.partition_lock ();
REVOKE ALL ON audit.partition_lock FROM PUBLIC;
SELECT audit.give_to_owner('audit.partition_lock');
SELECT audit.give_to_owner('audit.schema_migrations');
COMMENT ON TABLE audit.partition_lock IS 'Empty. Its lock keeps two sessions from changing the partitions at once.';

CREATE TABLE audit.settings (
    id                 bigint      GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    least_age          interval,
    partition_interval text        CHECK (partition_interval IN ('month', 'week', 'day')),
    of_table           text,
    reason             text        NOT NULL CHECK (octet_length(reason) BETWEEN 1 AND 4096),
    changed_by         text        NOT NULL,
    changed_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT settings_one CHECK ((least_age IS NULL) = (partition_interval IS NOT NULL) AND (of_table IS NULL) = (partition_interval IS NULL)),
    -- Not BETWEEN, which a dump writes with other parentheses than were stored.
    CHECK (least_age >= interval '1 day' AND least_age <= interval '1000 years' AND extract(year FROM least_age) >= 0 AND extract(month FROM least_age) >= 0
        AND extract(day FROM least_age) >= 0 AND extract(hour FROM least_age) >= 0 AND extract(minute FROM least_age) >= 0 AND extract(second FROM least_age) >= 0)
);
COMMENT ON TABLE audit.settings IS 'The settings of the trail, a row for each change of one of them; the newest counts. Changed by audit.set_least_age and audit.set_partition_interval.';
COMMENT ON COLUMN audit.settings.least_age IS 'No record younger than this is removed, whatever an operator asks for. Without a row: 30 days.';
COMMENT ON COLUMN audit.settings.partition_interval IS 'How much time one new partition of a record table holds: a month, a week from Monday on, or a day, in UTC. Without a row: a month.';
COMMENT ON COLUMN audit.settings.of_table IS 'The record table that the partition interval is of.';

CREATE TABLE audit.removals (
    -- In the order of time, as the names of partitions are.
    partition  text        COLLATE "C" NOT NULL,
    parent     text        NOT NULL,
    writer_id  uuid        NOT NULL,
    first_seq  bigint      NOT NULL,
    last_seq   bigint      NOT NULL,
    rows       bigint      NOT NULL,
    sha256     bytea       NOT NULL,
    batch      bigint,
    from_leaf  bigint,
    hashes     bytea,
    removed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    removed_by text        NOT NULL,
    PRIMARY KEY (partition, removed_at, writer_id, first_seq)
);
CREATE INDEX removals_batch_idx ON audit.removals (writer_id, batch);
COMMENT ON TABLE audit.removals IS 'What retention removed: for each batch with rows in a removed partition, how many, and a hash of them.';
COMMENT ON COLUMN audit.removals.sha256 IS 'sha256 over the hashes of its rows, by which they were leaves of the batch''s Merkle tree, in their order there.';
COMMENT ON COLUMN audit.removals.batch IS 'The first seq of the batch; NULL: of no batch.';
COMMENT ON COLUMN audit.removals.from_leaf IS 'Where its rows stood in the batch''s Merkle tree, from 0; they followed each other.';
COMMENT ON COLUMN audit.removals.hashes IS 'What stands for its rows in that tree: the roots of the largest full subtrees that they made up, from the left, 32 bytes each.';

CREATE TABLE audit.legal_holds (
    id        uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    reason    text        NOT NULL CHECK (octet_length(reason) BETWEEN 1 AND 4096),
    tenant_id uuid,
    kinds     text[]      CHECK (cardinality(kinds) > 0 AND array_position(kinds, NULL) IS NULL),
    from_time timestamptz NOT NULL,
    to_time   timestamptz NOT NULL CHECK (to_time > from_time),
    placed_by text        NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE audit.legal_holds IS 'What must not be removed: records of a tenant (NULL: all) and of kinds (NULL: all) that began in a span of time. Lifted by a row in audit.legal_hold_lifts.';

CREATE TABLE audit.legal_hold_lifts (
    hold_id   uuid        NOT NULL PRIMARY KEY REFERENCES audit.legal_holds (id),
    reason    text        NOT NULL CHECK (octet_length(reason) BETWEEN 1 AND 4096),
    lifted_by text        NOT NULL,
    lifted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE audit.legal_hold_lifts IS 'The end of a legal hold: who lifted it, when and why.';

-- What an event of the trail has of a row of a small table, so that the row is proven with the event.
CREATE FUNCTION audit.row_sha256(r anyelement) RETURNS bytea
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET bytea_output = 'hex'
    SET intervalstyle = 'postgres'
AS $$
    SELECT sha256(convert_to(to_jsonb(r)::text, 'UTF8'))
$$;
COMMENT ON FUNCTION audit.row_sha256(anyelement) IS 'The hash of a row as jsonb, with times in UTC; for the functions of the trail.';

-- Prevents PREPARE TRANSACTION: a prepared transaction keeps its locks after its session ends. Postgres refuses to
-- prepare a transaction that has executed NOTIFY.
CREATE FUNCTION audit.refuse_prepare() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('max_prepared_transactions')::integer > 0 THEN
        PERFORM pg_notify('tracing_audit_partitions', '');
    END IF;
END
$$;
COMMENT ON FUNCTION audit.refuse_prepare() IS 'Keeps the transaction from being prepared; for the functions of the trail.';

-- Runs a statement that others queue behind while it waits for its lock: it waits for less than half a second, which is
-- also less than the deadlock_timeout, and lets them all pass before it tries again.
CREATE FUNCTION audit.run_with_short_waits(statement text, attempts integer DEFAULT 8) RETURNS void
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '400ms'
AS $$
BEGIN
    PERFORM audit.refuse_prepare();
    FOR attempt IN 1 .. attempts LOOP
        BEGIN
            EXECUTE statement;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF attempt = attempts THEN
                RAISE EXCEPTION 'audit trail: a transaction that is still open holds a lock that this needs; it was tried % times', attempts
                    USING ERRCODE = 'lock_not_available', HINT = 'pg_locks and pg_stat_activity say which. Try again when it has ended.';
            END IF;
        END;
        PERFORM pg_sleep(0.6);
    END LOOP;
END
$$;
COMMENT ON FUNCTION audit.run_with_short_waits(text, integer) IS 'Runs a statement that needs a strong lock, without a queue behind it; for the functions of the trail.';

-- A snapshot that is older than the locks that a function takes would not show it what was committed in between.
CREATE FUNCTION audit.refuse_old_snapshot() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'audit trail: this is done in a transaction that is READ COMMITTED, and in no other'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
END
$$;
COMMENT ON FUNCTION audit.refuse_old_snapshot() IS 'Fails in a transaction that does not see what others commit; for the functions of the trail.';

-- The partitions of a record table that are the trail's own: what is attached to it besides is not looked into.
CREATE FUNCTION audit.leaves(parent text) RETURNS SETOF text
    LANGUAGE sql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
    WHERE p.relnamespace = 'audit'::regnamespace AND p.relname = parent AND c.relnamespace = 'audit_parts'::regnamespace
        AND c.relkind = 'r' AND c.relowner = 'audit_owner'::regrole AND NOT i.inhdetachpending
    ORDER BY 1
$$;
COMMENT ON FUNCTION audit.leaves(text) IS 'The partitions of a record table that belong to the trail; for the functions of the trail.';

-- The name of a partition says which days it holds, in UTC: those of a calendar month (events_2026_11), one (events_2026_11_05),
-- or those from a first to a last one (events_2026_11_02_to_2026_11_08). So nothing has to look up its bounds, which Postgres tells
-- as text alone; names follow each other as the partitions do; and each bound has one name.
CREATE FUNCTION audit.leaf_name(parent text, from_time timestamptz, to_time timestamptz) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
BEGIN
    RETURN parent || CASE
        WHEN from_time = date_trunc('month', from_time) AND to_time = from_time + interval '1 month' THEN to_char(from_time, '_YYYY_MM')
        WHEN to_time = from_time + interval '1 day' THEN to_char(from_time, '_YYYY_MM_DD')
        ELSE to_char(from_time, '_YYYY_MM_DD') || to_char(to_time - interval '1 day', '"_to_"YYYY_MM_DD') END;
END
$$;
COMMENT ON FUNCTION audit.leaf_name(text, timestamptz, timestamptz) IS 'The name of the partition of a record table for whole days, from the first moment to the one after the last; for the functions of the trail.';

CREATE FUNCTION audit.leaf_span(parent text, leaf text, OUT from_time timestamptz, OUT to_time timestamptz)
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    d constant text[] := regexp_match(leaf, concat('^', parent,
        '_(19[7-9][0-9]|[2-9][0-9]{3})_(0[1-9]|1[0-2])(?:_([0-3][0-9])(?:_to_(19[7-9][0-9]|[2-9][0-9]{3})_(0[1-9]|1[0-2])_([0-3][0-9]))?)?$'));
BEGIN
    from_time := make_timestamptz(d[1]::integer, d[2]::integer, 1, 0, 0, 0);
    IF d[3] IS NULL THEN
        to_time := from_time + interval '1 month';
    ELSE
        -- No day of a month is invalid here: one that the month does not have makes another name.
        from_time := from_time + make_interval(days => d[3]::integer - 1);
        to_time := coalesce(make_timestamptz(d[4]::integer, d[5]::integer, 1, 0, 0, 0) + make_interval(days => d[6]::integer), from_time + interval '1 day');
    END IF;
    -- No partition is of more than a month.
    IF to_time <= from_time OR to_time > from_time + interval '31 days' OR audit.leaf_name(parent, from_time, to_time) <> leaf THEN
        from_time := NULL;
        to_time := NULL;
    END IF;
END
$$;
COMMENT ON FUNCTION audit.leaf_span(text, text) IS 'The time of a partition of a record table by its name, up to the moment after it; NULL for any other name, as that of the default partition. For the functions of the trail.';

-- What has the name of a partition that holds any time from one moment to another, and whether it is one.
CREATE FUNCTION audit.leaves_over(parent text, first_time timestamptz, last_time timestamptz)
    RETURNS TABLE (leaf text, from_time timestamptz, to_time timestamptz, is_leaf boolean)
    -- In plpgsql, whose plans are kept: it is asked for each batch.
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
BEGIN
    RETURN QUERY SELECT c.relname::text, s.from_time, s.to_time, c.relkind = 'r' AND c.relowner = 'audit_owner'::regrole AND EXISTS (
        SELECT FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
        WHERE i.inhrelid = c.oid AND NOT i.inhdetachpending AND p.relnamespace = 'audit'::regnamespace AND p.relname = parent)
    FROM pg_class c, LATERAL audit.leaf_span(leaves_over.parent, c.relname::text) s
    -- By the index on names; no partition is of more than a month.
    WHERE c.relnamespace = 'audit_parts'::regnamespace AND s.to_time > first_time AND s.from_time <= last_time
        AND c.relname >= (parent || to_char(first_time - interval '31 days', '_YYYY_MM'))::name
        AND c.relname <= (parent || to_char(least(last_time, '9999-12-31 00:00+00'), '_YYYY_MM_DD"_to_9"'))::name
    ORDER BY s.from_time, c.relname;
END
$$;
COMMENT ON FUNCTION audit.leaves_over(text, timestamptz, timestamptz) IS 'What has the name of a partition of a record table over a time, and whether it is one; for the functions of the trail.';

-- Makes the table of a partition, and does not attach it yet: CREATE TABLE ... PARTITION OF would lock out every reader of
-- the parent, ATTACH does not.
CREATE FUNCTION audit.make_leaf(parent text, leaf text, from_time timestamptz, to_time timestamptz) RETURNS void
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET default_tablespace = ''
AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE audit_parts.%I (LIKE audit.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)',
        leaf, parent);
    -- Lets a query by time skip the partition although it is partitioned by id.
    EXECUTE format(
        'ALTER TABLE audit_parts.%I ADD CONSTRAINT %I CHECK (%I >= %L AND %I < %L)',
        leaf, leaf || '_time', audit.time_column(parent), from_time, audit.time_column(parent), to_time);
    PERFORM audit.make_leaf_safe(format('audit_parts.%I', leaf)::regclass);
END
$$;
COMMENT ON FUNCTION audit.make_leaf(text, text, timestamptz, timestamptz) IS 'Makes the table of a partition, not attached; for the functions of the trail.';

CREATE FUNCTION audit.attach_leaf(parent text, leaf text, from_time timestamptz, to_time timestamptz, attempts integer) RETURNS void
    LANGUAGE sql STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT audit.run_with_short_waits(format(
        'ALTER TABLE audit.%I ATTACH PARTITION audit_parts.%I FOR VALUES FROM (%L) TO (%L)',
        parent, leaf, audit.id_at(from_time), audit.id_at(to_time)), attempts)
$$;
COMMENT ON FUNCTION audit.attach_leaf(text, text, timestamptz, timestamptz, integer) IS 'Makes a table a partition; for the functions of the trail.';

CREATE FUNCTION audit.partition_interval(parent text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT s.partition_interval FROM audit.settings s WHERE s.of_table = parent ORDER BY s.id DESC LIMIT 1), 'month')
$$;
COMMENT ON FUNCTION audit.partition_interval(text) IS 'How much time one new partition of a record table holds: month, week or day.';

-- The times over a time of which partitions were removed, each once.
CREATE FUNCTION audit.removed_over(parent text, first_time timestamptz, last_time timestamptz) RETURNS TABLE (from_time timestamptz, to_time timestamptz)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    name  text := parent || to_char(first_time - interval '62 days', '_YYYY_MM');
    until constant text := parent || to_char(least(last_time, '9999-12-31 00:00+00'), '_YYYY_MM_DD"_to_9"');
BEGIN
    -- By the index, from name to name: there is a row for each batch.
    LOOP
        SELECT r.partition INTO name FROM audit.removals r WHERE r.partition > name AND r.partition <= until ORDER BY r.partition LIMIT 1;
        EXIT WHEN NOT FOUND;
        RETURN QUERY SELECT s.from_time, s.to_time FROM audit.leaf_span(parent, name) s WHERE s.to_time > first_time AND s.from_time <= last_time;
    END LOOP;
END
$$;
COMMENT ON FUNCTION audit.removed_over(text, timestamptz, timestamptz) IS 'The times of removed partitions of a record table over a time; for the functions of the trail.';

-- The time of the partition that would be made for a moment: the month, week or day that it lies in, less what another table holds.
-- So what there is keeps its time when the interval changes, and nothing is left between one and the next. Nor is one made around
-- what was removed: its rows would be no neighbours in the trees of their batches. What comes late for that has its time, or a part.
CREATE FUNCTION audit.free_span(parent text, at timestamptz, OUT from_time timestamptz, OUT to_time timestamptz)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    every  constant text := audit.partition_interval(parent);
    before timestamptz;
    after  timestamptz;
BEGIN
    from_time := date_trunc(every, at);
    to_time := from_time + ('1 ' || every)::interval;
    SELECT max(CASE WHEN l.to_time <= at THEN l.to_time WHEN l.from_time <= at THEN l.from_time END),
            min(CASE WHEN l.from_time > at THEN l.from_time WHEN l.to_time > at THEN l.to_time END) INTO before, after
        FROM (SELECT t.from_time, t.to_time FROM audit.leaves_over(parent, free_span.from_time, free_span.to_time) t
            UNION ALL SELECT t.from_time, t.to_time FROM audit.removed_over(parent, free_span.from_time, free_span.to_time) t) l;
    -- No id is earlier than 1970.
    from_time := greatest(from_time, before, '1970-01-01 00:00+00');
    to_time := least(to_time, after);
END
$$;
COMMENT ON FUNCTION audit.free_span(text, timestamptz) IS 'The time of the partition that would be made for a moment; for the functions of the trail.';

CREATE FUNCTION audit.ensure_partition(parent text, at timestamptz) RETURNS text
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    net       constant text := parent || '_default';
    leaf      text;
    is_leaf   boolean;
    span      record;
    is_in_net boolean;
BEGIN
    IF audit.time_column(parent) IS NULL THEN
        RAISE EXCEPTION 'audit.%: no such record table', left(parent, 64) USING ERRCODE = 'undefined_table';
    END IF;
    IF at < '1970-01-01 00:00+00' OR at >= '10000-01-01 00:00+00' THEN
        RAISE EXCEPTION 'audit.%: no partition for a time outside the years 1970 to 9999', parent
            USING ERRCODE = 'datetime_field_overflow';
    END IF;
    SELECT l.leaf, l.is_leaf INTO leaf, is_leaf FROM audit.leaves_over(parent, at, at) l ORDER BY l.is_leaf DESC LIMIT 1;
    IF leaf IS NULL THEN
        -- A clock that is wrong makes no partitions: its rows are kept in the default one. Each partition costs every
        -- reader some time, so nobody but an operator makes those of long ago.
        span := audit.free_span(parent, at);
        IF span.from_time > now() + interval '2 months'
            OR span.to_time <= now() - interval '1 year' AND NOT pg_has_role(session_user, 'audit_operator', 'MEMBER')
        THEN
            RETURN net;
        END IF;
        -- Writers that need the same partition at the same moment wait for each other here, and not for ever: where one is
        -- idle in its transaction, readings and holds are refused rather than hang.
        PERFORM audit.run_with_short_waits('LOCK TABLE audit.partition_lock IN SHARE UPDATE EXCLUSIVE MODE', 4);
        SELECT l.leaf, l.is_leaf INTO leaf, is_leaf FROM audit.leaves_over(parent, at, at) l ORDER BY l.is_leaf DESC LIMIT 1;
    END IF;
    IF leaf IS NOT NULL THEN
        -- Rows written to a detached table would be missing from the trail; rows written to another owner's table
        -- would be under that owner's control.
        IF NOT is_leaf THEN
            RAISE EXCEPTION 'audit_parts.%: not a partition of audit.% (any more)', leaf, parent
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Attach it again, as a table of audit_owner, or rename it so that a new partition can be made.';
        END IF;
        RETURN leaf;
    END IF;
    IF net NOT IN (SELECT audit.leaves(parent)) THEN
        RAISE EXCEPTION 'audit_parts.%: not the default partition of audit.%', net, parent
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- By what others have made, and by the interval that somebody has set, before the lock was free.
    span := audit.free_span(parent, at);
    -- A time that has rows in the default partition already stays there until they are settled.
    EXECUTE format('SELECT EXISTS (SELECT FROM audit_parts.%I WHERE id >= $1 AND id < $2)', net)
        INTO is_in_net USING audit.id_at(span.from_time), audit.id_at(span.to_time);
    IF is_in_net THEN
        RETURN net;
    END IF;
    leaf := audit.leaf_name(parent, span.from_time, span.to_time);
    -- Another session has made it since this transaction's snapshot, in which it cannot be seen.
    IF to_regclass(format('audit_parts.%I', leaf)) IS NOT NULL THEN
        RETURN leaf;
    END IF;
    PERFORM audit.make_leaf(parent, leaf, span.from_time, span.to_time);
    -- One attempt only: the caller runs this in a transaction of its own and retries.
    PERFORM audit.attach_leaf(parent, leaf, span.from_time, span.to_time, 1);
    RETURN leaf;
END
$$;
COMMENT ON FUNCTION audit.ensure_partition(text, timestamptz) IS 'Makes the partition of a record table for a moment, by the table''s interval, unless there is one, and returns the name of the partition in schema audit_parts that the records of that moment belong in: the default one for a time that is more than two months ahead, or more than a year ago unless an operator asks.';

CREATE FUNCTION audit.lacking_partitions() RETURNS TABLE (parent text, from_time timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    ends timestamptz;
BEGIN
    FOREACH parent IN ARRAY audit.record_tables() LOOP
        from_time := date_trunc('day', now());
        WHILE from_time < date_trunc('month', now()) + interval '2 months' LOOP
            ends := (SELECT max(l.to_time) FROM audit.leaves_over(parent, from_time, from_time) l WHERE l.is_leaf);
            IF ends IS NULL THEN
                ends := (SELECT s.to_time FROM audit.free_span(parent, from_time) s);
                RETURN NEXT;
            END IF;
            from_time := ends;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION audit.lacking_partitions() IS 'Which partitions are not there from today until the end of next month, by a moment of each: what audit.ensure_partition is called with ahead of time. Changes nothing.';

-- The default partitions.
DO $$
DECLARE
    parent text;
BEGIN
    FOREACH parent IN ARRAY audit.record_tables() LOOP
        EXECUTE format(
            'CREATE TABLE audit_parts.%I (LIKE audit.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)',
            parent || '_default', parent);
        EXECUTE format('COMMENT ON TABLE audit_parts.%I IS %L', parent || '_default',
            'Rows of a time that has no partition of its own: of a clock that is wrong, or older than a year. Empty when all is well.');
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
    FOREACH target IN ARRAY audit.record_tables() LOOP
        EXECUTE format('REVOKE ALL ON audit.%I FROM PUBLIC', target);
        EXECUTE format('GRANT SELECT ON audit.%I TO audit_reader, audit_auditor', target);
        PERFORM audit.keep_no_statistics(format('audit.%I', target)::regclass);
        -- Not TO PUBLIC: a role that got SELECT by another grant sees no row.
        EXECUTE format('CREATE POLICY tenant ON audit.%I FOR SELECT TO audit_reader USING (tenant_id = nullif(current_setting(''app.current_tenant'', true), '''')::uuid)', target);
        -- The functions of the trail see no more than a reader does.
        EXECUTE format('CREATE POLICY maintainer ON audit.%I FOR SELECT TO audit_maintainer USING (tenant_id = nullif(current_setting(''app.current_tenant'', true), '''')::uuid)', target);
    END LOOP;
    FOREACH target IN ARRAY ARRAY['writers', 'batches', 'dead_letters', 'removals', 'legal_holds', 'legal_hold_lifts', 'settings'] LOOP
        EXECUTE format('REVOKE ALL ON audit.%I FROM PUBLIC', target);
        EXECUTE format('GRANT SELECT ON audit.%I TO audit_auditor', target);
        EXECUTE format('CREATE POLICY maintainer ON audit.%I FOR SELECT TO audit_maintainer USING (true)', target);
    END LOOP;
    -- Added by functions alone, which check what they are given.
    FOREACH target IN ARRAY ARRAY['writers', 'batches', 'dead_letters', 'legal_holds', 'legal_hold_lifts', 'removals', 'settings'] LOOP
        EXECUTE format('CREATE POLICY adding ON audit.%I FOR INSERT TO audit_maintainer WITH CHECK (true)', target);
    END LOOP;
    FOREACH target IN ARRAY ARRAY['legal_holds', 'legal_hold_lifts', 'removals', 'settings'] LOOP
        EXECUTE format('GRANT SELECT ON audit.%I TO audit_operator', target);
        EXECUTE format('CREATE POLICY operator ON audit.%I FOR SELECT TO audit_operator USING (true)', target);
    END LOOP;
    FOREACH target IN ARRAY audit.record_tables() || ARRAY['writers', 'batches', 'dead_letters', 'removals', 'legal_holds', 'legal_hold_lifts', 'settings'] LOOP
        EXECUTE format('CREATE POLICY auditor ON audit.%I FOR SELECT TO audit_auditor USING (true)', target);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', target);
        PERFORM audit.make_append_only(format('audit.%I', target)::regclass);
        PERFORM audit.give_to_owner(format('audit.%I', target)::regclass);
    END LOOP;
    REVOKE ALL ON SEQUENCE audit.settings_id_seq FROM audit_owner;
END
$$;

-- All kinds in one, for reading.
CREATE VIEW audit.trail WITH (security_invoker = true) AS
    SELECT 'audit.query_run' AS kind, id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id,
        trace_id, span_id, service_name, started_at AS began_at, duration_ms, coalesce(question_text, sql_text) AS what, NULL AS target_type, NULL AS target_id,
        status, error_code, error_message, metadata, redactions, writer_id, seq
    FROM audit.query_runs
    UNION ALL
    SELECT 'audit.prompt_run', id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id,
        trace_id, span_id, service_name, created_at, duration_ms, coalesce(prompt_template_name, model_name), NULL, NULL,
        status, error_code, error_message, metadata, redactions, writer_id, seq
    FROM audit.prompt_runs
    UNION ALL
    SELECT 'audit.event', id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id,
        trace_id, span_id, service_name, created_at, latency_ms, action_type, target_type, target_id,
        status, error_code, error_message, metadata, redactions, writer_id, seq
    FROM audit.events
    UNION ALL
    SELECT 'audit.event', id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id,
        trace_id, span_id, service_name, created_at, latency_ms, action_type, target_type, target_id,
        status, error_code, error_message, metadata, redactions, writer_id, seq
    FROM audit.activities;
ALTER VIEW audit.trail OWNER TO audit_owner;
GRANT SELECT ON audit.trail TO audit_reader, audit_auditor;
COMMENT ON VIEW audit.trail IS 'The records of all kinds with what they have in common; read with the reader''s own rights.';

-- A request's story. Without statistics Postgres expects thousands of records of each request, and would start
-- workers and compile the query for the few that there are: a third of a second among millions. So it does neither here.
--
-- `learned_user_id` is for records that ended before the user was known, as the login itself: the user of the record that
-- they lie within, if the outermost record and all within it name no other user, and no second tenant. Records that merely
-- share a request id are not taken together: a stranger may send the id of another's request.
--
-- With a time, the partitions are chosen by what is written in the query: each one that is not read costs next to nothing. A query that
-- names no time plans for each partition, and takes a lock on it.
CREATE FUNCTION audit.request_trail(request text, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL) RETURNS TABLE (
        kind text, id uuid, tenant_id uuid, user_id text, user_role text, agent_id uuid, request_id text, llm_session_id uuid, conversation_id text,
        parent_id uuid, trace_id text, span_id text, service_name text, began_at timestamptz, duration_ms bigint, what text, target_type text, target_id text,
        status audit.run_status, error_code text, error_message text, metadata jsonb, redactions text[], writer_id uuid, seq bigint, learned_user_id text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = 'off'
    SET max_parallel_workers_per_gather = '0'
    -- Postgres expects a few records, and would compare each of ten thousand with each other.
    SET enable_nestloop = 'off'
AS $$
BEGIN
    RETURN QUERY EXECUTE format($query$
    WITH RECURSIVE records AS MATERIALIZED (
        SELECT * FROM audit.trail WHERE trail.request_id = $1 AND ($2 IS NULL OR trail.began_at >= $2) AND ($3 IS NULL OR trail.began_at < $3)%s
    ), nodes AS MATERIALIZED (
        -- Of rows that have one id, of which all but one are forged, one has a parent: so there is one way to each record. Without
        -- texts: each step below goes through all of them, which are to stay in memory.
        SELECT DISTINCT ON (id) id, parent_id, user_id IS NOT NULL AS has_user FROM records ORDER BY id, parent_id IS NOT NULL, began_at, seq
    ), within (id, outermost, has_user, depth) AS (
        SELECT n.id, n.id, n.has_user, 0 FROM nodes n WHERE NOT EXISTS (SELECT 1 FROM nodes p WHERE p.id = n.parent_id)
        UNION ALL
        SELECT n.id, w.outermost, n.has_user OR w.has_user, w.depth + 1 FROM within w JOIN nodes n ON n.parent_id = w.id WHERE w.depth < 200
    ), learned (id, user_id) AS (
        SELECT w.id, min(of_one_user.user_id) FROM within w JOIN (
            SELECT w.outermost, min(r.user_id) AS user_id FROM within w JOIN records r ON r.id = w.id
            GROUP BY w.outermost
            HAVING count(DISTINCT r.user_id) = 1 AND count(DISTINCT r.tenant_id) <= 1
        ) AS of_one_user ON of_one_user.outermost = w.outermost
        WHERE w.has_user
        GROUP BY w.id
    )
    SELECT r.*, CASE WHEN r.user_id IS NULL THEN l.user_id END
    FROM records r LEFT JOIN learned l ON l.id = r.id
    ORDER BY r.began_at, r.seq, r.id
    $query$, concat(' AND trail.id >= ' || quote_literal(audit.id_at(from_time)),
        -- An id has milliseconds.
        ' AND trail.id < ' || quote_literal(audit.id_at(date_trunc('milliseconds', to_time + interval '999 microseconds'))))) USING $1, $2, $3;
END
$$;
COMMENT ON FUNCTION audit.request_trail(text, timestamptz, timestamptz) IS 'The records of a request in audit.trail, by their beginning; with times, those that began from the one on and before the other, for which only the partitions of that time are read. learned_user_id: whose a record was that ended before the user was known, by the records that are returned. Read with the reader''s own rights.';

-- Returns a tenant's rows in new batches. Batches without a row of the tenant are left out, so that a reader cannot
-- learn how much other tenants write.
CREATE FUNCTION audit.tenant_batches(since timestamptz, writers uuid[], positions bigint[]) RETURNS TABLE (
        writer_id uuid, first_seq bigint, last_seq bigint, first_id uuid, last_id uuid, tables text[])
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = 'off'
    SET max_parallel_workers_per_gather = '0'
AS $$
    SELECT b.writer_id, min(r.seq), max(r.seq), min(r.id::text)::uuid, max(r.id::text)::uuid, array_agg(DISTINCT r.name)
    FROM audit.batches b, LATERAL (
        SELECT 'query_runs' AS name, q.id, q.seq FROM audit.query_runs q
            WHERE q.tenant_id = audit.current_tenant() AND q.id BETWEEN b.first_id AND b.last_id
                AND q.writer_id = b.writer_id AND q.seq BETWEEN b.first_seq AND b.last_seq
        UNION ALL
        SELECT 'prompt_runs', p.id, p.seq FROM audit.prompt_runs p
            WHERE p.tenant_id = audit.current_tenant() AND p.id BETWEEN b.first_id AND b.last_id
                AND p.writer_id = b.writer_id AND p.seq BETWEEN b.first_seq AND b.last_seq
        UNION ALL
        SELECT 'events', e.id, e.seq FROM audit.events e
            WHERE e.tenant_id = audit.current_tenant() AND e.id BETWEEN b.first_id AND b.last_id
                AND e.writer_id = b.writer_id AND e.seq BETWEEN b.first_seq AND b.last_seq
        UNION ALL
        SELECT 'activities', a.id, a.seq FROM audit.activities a
            WHERE a.tenant_id = audit.current_tenant() AND a.id BETWEEN b.first_id AND b.last_id
                AND a.writer_id = b.writer_id AND a.seq BETWEEN b.first_seq AND b.last_seq
    ) AS r
    WHERE b.committed_at > since AND NOT EXISTS (
        SELECT FROM unnest(writers, positions) AS place (writer, last) WHERE place.writer = b.writer_id AND b.first_seq <= place.last)
    GROUP BY b.writer_id, b.first_seq, b.committed_at
    ORDER BY max(b.committed_at) OVER (PARTITION BY b.writer_id ORDER BY b.first_seq), b.writer_id, b.first_seq
$$;
COMMENT ON FUNCTION audit.tenant_batches(timestamptz, uuid[], bigint[]) IS 'What the tenant of app.current_tenant has in the batches committed since a moment, but for those that begin at or before a writer''s position.';

-- Batches --------------------------------------------------------------------------

-- AT001 and AT002 are the trail's own errors, which the library knows.
CREATE FUNCTION audit.check_writer(writer uuid, secret bytea) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM audit.writers w WHERE w.writer_id = writer AND w.secret_sha256 = sha256(secret)) THEN
        RAISE EXCEPTION 'audit trail: not the secret of this writer' USING ERRCODE = 'AT002';
    END IF;
END
$$;
COMMENT ON FUNCTION audit.check_writer(uuid, bytea) IS 'Refuses whoever does not know the secret of a writer (AT002); for the functions of the trail.';

CREATE FUNCTION audit.add_batch(
    writer uuid, secret bytea, first_seq bigint, last_seq bigint, records jsonb, dead_letters integer,
    first_id uuid, last_id uuid, service_name text, library_version text, mark bytea DEFAULT NULL, root bytea DEFAULT NULL, fingerprints bytea DEFAULT NULL
) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF writer IS NULL OR secret IS NULL OR octet_length(secret) <> 32 THEN
        RAISE EXCEPTION 'audit trail: a writer has an id, and a secret of 32 bytes' USING ERRCODE = 'AT002';
    END IF;
    IF first_seq = 1 THEN
        -- The first who knows of this writer is this writer.
        INSERT INTO audit.writers (writer_id, login, secret_sha256, service_name)
            VALUES (writer, session_user, sha256(secret), service_name) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM audit.check_writer(writer, secret);
    -- A concurrent insert of the same batch waits for this one at the primary key, and then fails.
    IF first_seq IS DISTINCT FROM audit.writer_position(writer) THEN
        RAISE EXCEPTION 'audit trail: the batch does not begin where the last one of its writer ends' USING ERRCODE = 'AT001';
    END IF;
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, mark, service_name, library_version, root, fingerprints)
        VALUES (writer, first_seq, last_seq, records, dead_letters, first_id, last_id, mark, service_name, library_version, root, fingerprints);
END
$$;
COMMENT ON FUNCTION audit.add_batch(uuid, bytea, bigint, bigint, jsonb, integer, uuid, uuid, text, text, bytea, bytea, bytea) IS 'Adds the batch whose records the transaction writes; the first one registers the writer. Refused: another secret than the writer''s (AT002), a batch that does not follow the last one (AT001).';

-- What a writer compares with its local log: two programs may have a copy of one.
CREATE FUNCTION audit.writer_batches(writer uuid, secret bytea, since bigint) RETURNS TABLE (first_seq bigint, last_seq bigint, mark bytea)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM audit.check_writer(writer, secret);
    RETURN QUERY SELECT b.first_seq, b.last_seq, b.mark FROM audit.batches b
        WHERE b.writer_id = writer AND b.last_seq >= since AND b.first_seq >= coalesce((
            SELECT max(p.first_seq) FROM audit.batches p WHERE p.writer_id = writer AND p.first_seq <= since), 1)
        ORDER BY b.first_seq;
END
$$;
COMMENT ON FUNCTION audit.writer_batches(uuid, bytea, bigint) IS 'The batches of a writer that end at or after a seq, for whoever knows its secret (else AT002).';

CREATE FUNCTION audit.add_dead_letter(writer uuid, secret bytea, seq bigint, record_id uuid, kind text, sqlstate text, reason text, frame bytea, salt bytea)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    batch record;
BEGIN
    PERFORM audit.check_writer(writer, secret);
    SELECT b.first_seq, b.last_seq, b.dead_letters, b.committed_at INTO batch FROM audit.batches b
        WHERE b.writer_id = writer AND b.first_seq <= seq AND b.last_seq >= seq AND b.xmin = pg_current_xact_id()::xid;
    IF NOT FOUND OR batch.dead_letters <= (
        SELECT count(*) FROM audit.dead_letters d WHERE d.writer_id = writer AND d.seq BETWEEN batch.first_seq AND batch.last_seq)
    THEN
        RAISE EXCEPTION 'audit trail: the batch of this transaction has no such dead letter' USING ERRCODE = 'AT001';
    END IF;
    INSERT INTO audit.dead_letters (writer_id, seq, record_id, kind, sqlstate, reason, frame, salt, created_at)
        VALUES (writer, seq, record_id, kind, sqlstate, left(reason, 16384), frame, salt, batch.committed_at);
END
$$;
COMMENT ON FUNCTION audit.add_dead_letter(uuid, bytea, bigint, uuid, text, text, text, bytea, bytea) IS 'Adds a dead letter of the batch that the transaction has added with audit.add_batch, which says how many it has.';

-- Records that Postgres makes itself ---------------------------------------------

-- An event of the trail's own, by whoever is logged in. It is a writer with one record.
CREATE FUNCTION audit.append_event(
    action_type text, target_type text, target_id text, input_summary text, request_id text, tenant_id uuid, metadata jsonb,
    status audit.run_status DEFAULT 'succeeded'
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
    leaf   text;
BEGIN
    -- Prepared, it would keep partitions from being removed for as long as nobody ends it.
    PERFORM audit.refuse_prepare();
    -- A partition that is made locks out readers until the transaction ends, which is for nobody to decide who may not make
    -- one. In a trail that has no partition yet there is nothing to read.
    IF pg_has_role(session_user, 'audit_writer', 'MEMBER') OR pg_has_role(session_user, 'audit_operator', 'MEMBER')
        OR NOT EXISTS (SELECT FROM audit.leaves('events') l WHERE l <> 'events_default')
    THEN
        leaf := audit.ensure_partition('events', at);
    ELSE
        leaf := coalesce((SELECT max(l.leaf) FROM audit.leaves_over('events', at, at) l WHERE l.is_leaf), 'events_default');
    END IF;
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, service_name, library_version)
        VALUES (writer, 1, 1, '{"events": 1}', 0, event, event, 'postgres', 'sql');
    EXECUTE format(
        'INSERT INTO audit_parts.%I (id, tenant_id, user_id, request_id, service_name, action_type, target_type, target_id, input_summary, status, created_at, metadata, writer_id, seq, salt)
         VALUES ($1, $2, $3, $4, ''postgres'', $5, $6, $7, $8, $13, $9, $10, $11, 1, $12)',
        leaf)
        USING event, tenant_id, session_user::text, request_id, action_type, target_type, target_id, input_summary, at,
            coalesce(metadata, '{}') || jsonb_strip_nulls(jsonb_build_object(
                'client_address', host(inet_client_addr()), 'application_name', nullif(current_setting('application_name'), ''))),
            writer, substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) FROM 1 FOR 16), status;
    RETURN event;
END
$$;
COMMENT ON FUNCTION audit.append_event(text, text, text, text, text, uuid, jsonb, audit.run_status) IS 'Adds an event that the database makes itself; for the functions of the trail.';

-- Fails unless a text that a caller gives says something, and is not too long.
CREATE FUNCTION audit.check_text(what text, value text, most_bytes integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF octet_length(value) > most_bytes THEN
        RAISE EXCEPTION 'audit trail: % is longer than % bytes', what, most_bytes USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Nothing but white space, format and control characters, by their bytes in UTF8: no locale decides what is blank.
    IF value IS NULL OR encode(convert_to(value, 'UTF8'), 'hex')
        ~ '^(0[1-9a-f]|1[0-9a-f]|20|7f|c2[89][0-9a-f]|c2a0|c2ad|cd8f|d89c|e1859f|e185a0|e19a80|e19eb[45]|e1a08[bcdef]|e2808[0-9a-f]|e280a[89a-f]|e2819f|e281a[0-9a-f]|e2a080|e38080|e385a4|efb88[0-9a-f]|efbbbf|efbea0|efbfb[0-9ab]|f09bb2a[0-3]|f09d85b[3-9a]|f3a0[89ab][0-9a-f][89ab][0-9a-f])*$'
    THEN
        RAISE EXCEPTION 'audit trail: % is missing or blank', what USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;
COMMENT ON FUNCTION audit.check_text(text, text, integer) IS 'Fails unless a text says something and is not too long; for the functions of the trail.';

-- Fails unless what a caller tells of an event is an object, and not too long.
CREATE FUNCTION audit.check_details(details jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Compressed, a value of a gigabyte may be small; its text could not be built.
    IF pg_column_size(details) > 65536 OR jsonb_typeof(details) <> 'object' THEN
        RAISE EXCEPTION 'audit trail: the details are no object, or longer than 65536 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;
COMMENT ON FUNCTION audit.check_details(jsonb) IS 'Fails unless the details of an event are an object of at most 65536 bytes. For the functions of the trail.';

CREATE FUNCTION audit.record_reading(purpose text, request_id text DEFAULT NULL, tenant_id uuid DEFAULT NULL, details jsonb DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM audit.check_text('the purpose of a reading', purpose, 4096);
    IF octet_length(request_id) > 4096 THEN
        RAISE EXCEPTION 'audit trail: the request id is longer than 4096 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM audit.check_details(details);
    RETURN audit.append_event('audit.read', CASE WHEN request_id IS NULL THEN 'trail' ELSE 'request' END, request_id, purpose, NULL, tenant_id, details);
END
$$;
COMMENT ON FUNCTION audit.record_reading(text, text, uuid, jsonb) IS 'Records in the trail that the trail is read: by whom, when, from where, why, and of which request or tenant; details are what else a program tells of it, as the filter and the number of records. Returns the id of the event.';

-- A comparison of the trail with its ledger, so that the next who looks knows of the last one.
CREATE FUNCTION audit.record_verification(found_anything boolean, details jsonb) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF found_anything IS NULL OR details IS NULL THEN
        RAISE EXCEPTION 'audit trail: it is not said what a verification has found' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM audit.check_details(details);
    RETURN audit.append_event('audit.verify', 'trail', NULL, 'The trail was compared with its ledger.', NULL, NULL, details,
        CASE WHEN found_anything THEN 'failed' ELSE 'succeeded' END::audit.run_status);
END
$$;
COMMENT ON FUNCTION audit.record_verification(boolean, jsonb) IS 'Records in the trail that it was compared with its ledger, by whom, when, and with which outcome. Returns the id of the event.';

-- A login that a program of the trail's has refused, so that it is told where the trail is read.
CREATE FUNCTION audit.record_refused_login(login text, details jsonb DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM audit.check_text('the refused login', login, 1024);
    PERFORM audit.check_details(details);
    RETURN audit.append_event('security', 'login', login, 'A login to read the trail was refused.', NULL, NULL,
        coalesce(details, '{}') || '{"event": "login_refused"}', 'rejected');
END
$$;
COMMENT ON FUNCTION audit.record_refused_login(text, jsonb) IS 'Records in the trail that somebody was not let in to read it. Returns the id of the event.';

-- Legal holds ----------------------------------------------------------------------

-- The kinds that a caller names, each once; NULL: all.
CREATE FUNCTION audit.check_kinds(kinds text[]) RETURNS text[]
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind text;
BEGIN
    IF kinds IS NULL THEN
        RETURN audit.record_tables();
    END IF;
    IF cardinality(kinds) = 0 THEN
        RAISE EXCEPTION 'audit trail: no kind of record is named; leave it out for all of them' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF cardinality(kinds) > cardinality(audit.record_tables()) THEN
        RAISE EXCEPTION 'audit trail: more kinds of records are named than there are' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH kind IN ARRAY kinds LOOP
        IF audit.time_column(kind) IS NULL THEN
            RAISE EXCEPTION 'audit.%: no such record table', left(kind, 64) USING ERRCODE = 'undefined_table';
        END IF;
    END LOOP;
    IF cardinality(kinds) > (SELECT count(DISTINCT k) FROM unnest(kinds) k) THEN
        RAISE EXCEPTION 'audit trail: a kind of record is named twice' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN ARRAY(SELECT unnest(kinds));
END
$$;
COMMENT ON FUNCTION audit.check_kinds(text[]) IS 'The record tables that are named, or all; fails when what is named is none. For the functions of the trail.';

-- The condition for records that programs wrote. The database's own events are excluded: those about holds and
-- readings may name a tenant that has no records.
CREATE FUNCTION audit.by_the_host(parent text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE parent WHEN 'events' THEN 'NOT coalesce(service_name = ''postgres'' AND action_type LIKE ''audit.%'', false)' ELSE 'true' END
$$;
COMMENT ON FUNCTION audit.by_the_host(text) IS 'The condition for records that the database has not made itself; for the functions of the trail.';

-- What is held now: how many partitions stay because of it, how many records it covers, and the key of its tenant, if a
-- record has it.
CREATE FUNCTION audit.covered(tenant uuid, from_time timestamptz, to_time timestamptz, kinds text[])
    RETURNS TABLE (partitions bigint, records bigint, tenant_key text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    parent   text;
    leaf     text;
    present  bigint;
    in_span  bigint;
    key      text;
    first    timestamptz;
    last     timestamptz;
BEGIN
    partitions := 0;
    records := 0;
    FOREACH parent IN ARRAY audit.check_kinds(kinds) LOOP
        FOR leaf, first, last IN SELECT l, s.from_time, s.to_time FROM audit.leaves(parent) l, audit.leaf_span(parent, l) s LOOP
            CONTINUE WHEN from_time >= last OR to_time <= first;
            BEGIN
                EXECUTE format(
                    'SELECT count(*), count(*) FILTER (WHERE %1$I >= $2 AND %1$I < $3),
                        left(max(metadata->>''tenant_key'') FILTER (WHERE audit.tenant_uuid(metadata->>''tenant_key'') = $1), 256)
                     FROM audit_parts.%2$I WHERE ($1 IS NULL OR tenant_id = $1) AND %3$s', audit.time_column(parent), leaf, audit.by_the_host(parent))
                    INTO present, in_span, key USING tenant, from_time, to_time;
            EXCEPTION WHEN undefined_table THEN
                -- It was removed meanwhile.
                CONTINUE;
            END;
            -- Of all tenants, a partition stays with no record in it as well.
            IF present > 0 OR tenant IS NULL AND leaf !~ '_default$' THEN
                partitions := partitions + 1;
            END IF;
            records := records + in_span;
            tenant_key := coalesce(tenant_key, key);
        END LOOP;
    END LOOP;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION audit.covered(uuid, timestamptz, timestamptz, text[]) IS 'What a legal hold would cover; for the functions of the trail.';

CREATE FUNCTION audit.hold_coverage(hold uuid) RETURNS TABLE (partitions bigint, records bigint, tenant_key text)
    LANGUAGE sql STABLE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.* FROM audit.legal_holds h, audit.covered(h.tenant_id, h.from_time, h.to_time, h.kinds) c WHERE h.id = hold
$$;
COMMENT ON FUNCTION audit.hold_coverage(uuid) IS 'How many partitions a legal hold keeps now, how many records of programs it covers, and the key of its tenant where a record has it.';

CREATE FUNCTION audit.place_hold(
    reason text, tenant_id uuid DEFAULT NULL, from_time timestamptz DEFAULT '-infinity', to_time timestamptz DEFAULT 'infinity', kinds text[] DEFAULT NULL,
    even_if_unknown boolean DEFAULT false
) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hold     uuid;
    hashed   bytea;
    parent   text;
    leaf     text;
    is_known boolean := tenant_id IS NULL OR coalesce(even_if_unknown, false);
BEGIN
    PERFORM audit.check_text('the reason of a hold', reason, 4096);
    PERFORM audit.check_kinds(kinds);
    IF from_time IS NULL OR to_time IS NULL OR from_time >= to_time THEN
        RAISE EXCEPTION 'audit trail: a hold covers no time unless its beginning is before its end' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF to_time <= '1970-01-01 00:00+00' OR from_time >= '10000-01-01 00:00+00' THEN
        RAISE EXCEPTION 'audit trail: no record is of a time outside the years 1970 to 9999, so the hold would hold nothing' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH parent IN ARRAY audit.record_tables() LOOP
        FOR leaf IN SELECT audit.leaves(parent) LOOP
            EXIT WHEN is_known;
            BEGIN
                EXECUTE format('SELECT EXISTS (SELECT FROM audit_parts.%I WHERE tenant_id = $1 AND %s)', leaf, audit.by_the_host(parent)) INTO is_known USING tenant_id;
            EXCEPTION WHEN undefined_table THEN
                -- It was removed meanwhile.
                CONTINUE;
            END;
        END LOOP;
    END LOOP;
    IF NOT is_known THEN
        RAISE EXCEPTION 'audit trail: no record is of this tenant, so the hold would hold nothing; if its key is not misspelt, say --even-if-unknown (even_if_unknown => true)'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO audit.legal_holds (reason, tenant_id, kinds, from_time, to_time, placed_by)
        VALUES (reason, tenant_id, CASE WHEN kinds IS NOT NULL THEN audit.check_kinds(kinds) END, from_time, to_time, session_user)
        RETURNING id, audit.row_sha256(legal_holds) INTO hold, hashed;
    PERFORM audit.append_event('audit.hold_placed', 'legal_hold', hold::text, reason, NULL, tenant_id, jsonb_build_object('sha256', encode(hashed, 'hex')));
    RETURN hold;
END
$$;
COMMENT ON FUNCTION audit.place_hold(text, uuid, timestamptz, timestamptz, text[], boolean) IS 'Keeps records from being removed until the hold is lifted; kinds are names of record tables. Refuses a tenant without a record unless even_if_unknown. Returns the id of the hold.';

CREATE FUNCTION audit.lift_hold(hold uuid, reason text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant uuid;
    hashed bytea;
BEGIN
    PERFORM audit.check_text('the reason why a hold ends', reason, 4096);
    SELECT h.tenant_id INTO tenant FROM audit.legal_holds h WHERE h.id = hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit trail: no such hold' USING ERRCODE = 'no_data_found';
    END IF;
    -- Another may lift it at the same moment.
    INSERT INTO audit.legal_hold_lifts AS l (hold_id, reason, lifted_by) VALUES (hold, reason, session_user) ON CONFLICT DO NOTHING
        RETURNING audit.row_sha256(l) INTO hashed;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit trail: the hold was lifted before' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM audit.append_event('audit.hold_lifted', 'legal_hold', hold::text, reason, NULL, tenant, jsonb_build_object('sha256', encode(hashed, 'hex')));
END
$$;
COMMENT ON FUNCTION audit.lift_hold(uuid, text) IS 'Ends a legal hold.';

-- Settings ---------------------------------------------------------------------------

CREATE FUNCTION audit.least_age() RETURNS interval
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT s.least_age FROM audit.settings s WHERE s.least_age IS NOT NULL ORDER BY s.id DESC LIMIT 1), interval '30 days')
$$;
COMMENT ON FUNCTION audit.least_age() IS 'No record younger than this is removed, whatever an operator asks for.';

CREATE FUNCTION audit.set_least_age(age interval, reason text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before interval;
    hashed bytea;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    PERFORM audit.check_text('the reason of a change', reason, 4096);
    -- One change after the other, each with what was so before it.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.settings IN SHARE ROW EXCLUSIVE MODE');
    before := audit.least_age();
    BEGIN
        INSERT INTO audit.settings AS s (least_age, reason, changed_by) VALUES (age, reason, session_user) RETURNING audit.row_sha256(s) INTO hashed;
    EXCEPTION WHEN check_violation OR not_null_violation THEN
        RAISE EXCEPTION 'audit trail: the least age is a span from a day to a thousand years, no part of which is negative'
            USING ERRCODE = 'invalid_parameter_value';
    END;
    RETURN audit.append_event('audit.setting_changed', 'setting', 'least_age', reason, NULL, NULL,
        jsonb_build_object('before', before, 'after', age, 'sha256', encode(hashed, 'hex')));
END
$$;
COMMENT ON FUNCTION audit.set_least_age(interval, text) IS 'Sets below which age no record is removed, whatever an operator asks for; recorded in the trail. Returns the id of the event.';

CREATE FUNCTION audit.set_partition_interval(parent text, every text, reason text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text;
    hashed bytea;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    PERFORM audit.check_text('the reason of a change', reason, 4096);
    IF audit.time_column(parent) IS NULL THEN
        RAISE EXCEPTION 'audit.%: no such record table', left(parent, 64) USING ERRCODE = 'undefined_table';
    END IF;
    IF (every IN ('month', 'week', 'day')) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit trail: a partition is of a month, a week or a day' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- One change after the other, each with what was so before it.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.settings IN SHARE ROW EXCLUSIVE MODE');
    before := audit.partition_interval(parent);
    INSERT INTO audit.settings AS s (partition_interval, of_table, reason, changed_by) VALUES (every, parent, reason, session_user) RETURNING audit.row_sha256(s) INTO hashed;
    RETURN audit.append_event('audit.setting_changed', 'setting', 'partition_interval', reason, NULL, NULL,
        jsonb_build_object('table', parent, 'before', before, 'after', every, 'sha256', encode(hashed, 'hex')));
END
$$;
COMMENT ON FUNCTION audit.set_partition_interval(text, text, text) IS 'Sets how much time one new partition of a record table holds: month, week or day. Partitions that are there stay as they are. Recorded in the trail. Returns the id of the event.';

-- Retention --------------------------------------------------------------------------

-- Why a leaf must not be removed.
CREATE FUNCTION audit.held(parent text, from_time timestamptz, to_time timestamptz) RETURNS TABLE (id uuid, tenant_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT h.id, h.tenant_id FROM audit.legal_holds h
    WHERE h.from_time < held.to_time AND h.to_time > held.from_time AND (h.kinds IS NULL OR parent = ANY (h.kinds))
        AND NOT EXISTS (SELECT FROM audit.legal_hold_lifts l WHERE l.hold_id = h.id)
    ORDER BY h.placed_at, h.id
$$;
COMMENT ON FUNCTION audit.held(text, timestamptz, timestamptz) IS 'The legal holds that are in force over a time; for the functions of the trail.';

-- The foreign keys of the host to a table. By the catalog alone: to read the host's table, and also to detach a
-- partition or to delete a row while there is such a key, runs code of the host's (index predicates, policies, casts,
-- functions of its types) with the rights of whoever does it. So whether a row refers to a record is the host's to say.
CREATE FUNCTION audit.referring(target regclass) RETURNS SETOF text
    LANGUAGE sql STABLE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        'rows of %1$s may refer to it by the foreign key %2$I; its owner takes that away (SET lock_timeout = ''400ms''; ALTER TABLE %1$s DROP CONSTRAINT %2$I), and may add it again afterwards (SET lock_timeout = ''400ms''; ALTER TABLE %1$s ADD CONSTRAINT %2$I %3$s%4$s)',
        c.conrelid::regclass, c.conname, regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', ''), CASE h.relkind WHEN 'p' THEN '' ELSE ' NOT VALID' END)
    FROM pg_constraint c JOIN pg_class h ON h.oid = c.conrelid
    WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confrelid = target
    ORDER BY 1
$$;
COMMENT ON FUNCTION audit.referring(regclass) IS 'The foreign keys of the host to a table, which stand against the removal of a partition; for the functions of the trail.';

-- The host's objects that prevent a leaf from being dropped: views, functions, and foreign keys to the leaf itself. Objects
-- that are dropped with the leaf are left out, and so are foreign keys to its parent, which DETACH removes.
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
COMMENT ON FUNCTION audit.depending(text) IS 'The host''s objects that prevent a leaf from being dropped; for the functions of the trail.';

CREATE FUNCTION audit.obstacles(parent text, leaf text, from_time timestamptz, to_time timestamptz) RETURNS text[]
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    against  text[] := '{}';
    hold     record;
    is_there boolean;
    strays   bigint;
BEGIN
    FOR hold IN SELECT h.id, h.tenant_id FROM audit.held(parent, from_time, to_time) h LOOP
        is_there := true;
        IF hold.tenant_id IS NOT NULL THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM audit_parts.%I WHERE tenant_id = $1)', leaf) INTO is_there USING hold.tenant_id;
        END IF;
        IF is_there THEN
            against := against || format('held by the legal hold %s', hold.id);
        END IF;
    END LOOP;
    -- Its time is in its name, which a superuser can change.
    EXECUTE format('SELECT count(*) FROM audit_parts.%1$I WHERE %2$I < $1 OR %2$I >= $2 OR id < $3 OR id >= $4', leaf, audit.time_column(parent))
        INTO strays USING from_time, to_time, audit.id_at(from_time), audit.id_at(to_time);
    IF strays > 0 THEN
        against := against || format('%s rows are not of the time that its name says', strays);
    END IF;
    RETURN against || ARRAY(SELECT audit.depending(leaf));
END
$$;
COMMENT ON FUNCTION audit.obstacles(text, text, timestamptz, timestamptz) IS 'Why a leaf must not be removed, but for foreign keys to its table; for the functions of the trail.';

-- Of all partitions, or of one: to look at each takes its time.
CREATE FUNCTION audit.plan_removals(keep interval, kinds text[], of_leaf text)
    RETURNS TABLE (parent text, partition text, from_time timestamptz, to_time timestamptz, rows bigint, bytes bigint, obstacles text[])
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    leaf      text;
    floor     constant interval := audit.least_age();
    young     timestamptz;
    referring text[];
BEGIN
    -- By the calendar, at this moment: a span can be longer than another in days and shorter in months.
    BEGIN
        young := now() - keep;
    EXCEPTION WHEN datetime_field_overflow THEN
        -- Beyond all time that there is.
        young := NULL;
    END;
    IF young IS NULL OR NOT isfinite(young) OR young > now() - interval '1 day' OR young > now() - floor THEN
        RAISE EXCEPTION 'audit trail: records are kept for % at least, which is the least age that an auditor has set, or the default; audit.set_least_age changes it', floor
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH parent IN ARRAY audit.check_kinds(kinds) LOOP
        referring := ARRAY(SELECT audit.referring(format('audit.%I', parent)::regclass));
        FOR leaf, from_time, to_time IN SELECT l, s.from_time, s.to_time FROM audit.leaves(parent) l, audit.leaf_span(parent, l) s WHERE s.to_time <= young AND (of_leaf IS NULL OR l = of_leaf) LOOP
            partition := leaf;
            BEGIN
                EXECUTE format('SELECT count(*) FROM audit_parts.%I', leaf) INTO rows;
                bytes := pg_total_relation_size(format('audit_parts.%I', leaf)::regclass);
                obstacles := audit.obstacles(parent, leaf, from_time, to_time) || referring;
            EXCEPTION WHEN undefined_table THEN
                -- It was removed meanwhile.
                CONTINUE;
            END;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION audit.plan_removals(interval, text[], text) IS 'What audit.plan_retention returns, or that of one partition; for the functions of the trail.';

CREATE FUNCTION audit.plan_retention(keep interval, kinds text[] DEFAULT NULL)
    RETURNS TABLE (parent text, partition text, from_time timestamptz, to_time timestamptz, rows bigint, bytes bigint, obstacles text[])
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM audit.plan_removals(keep, kinds, NULL)
$$;
COMMENT ON FUNCTION audit.plan_retention(interval, text[]) IS 'The partitions all of whose records are older than keep, with what stands against their removal. Changes nothing.';

-- Removes a partition. `archive`: what was read of it in an archive, with a hash over its rows; NULL: it was not archived.
CREATE FUNCTION audit.take_partition(leaf text, keep interval, archive jsonb) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = 'on'
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET bytea_output = 'hex'
AS $$
DECLARE
    parent    constant text := (SELECT t FROM unnest(audit.record_tables()) t, audit.leaf_span(t, leaf) s WHERE s.to_time IS NOT NULL);
    plan      record;
    batches   bigint;
    hashed    bytea;
    archived  bytea;
    referring text[];
    proof     record;
    event     uuid;
    at        timestamptz;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    IF parent IS NULL OR leaf NOT IN (SELECT audit.leaves(parent)) THEN
        IF parent IS NOT NULL AND EXISTS (SELECT FROM pg_class WHERE relnamespace = 'audit_parts'::regnamespace AND relname = leaf) THEN
            RAISE EXCEPTION 'audit_parts.%: not a partition of the trail (any more)', leaf USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        RAISE EXCEPTION 'audit_parts.%: no partition of a month, a week or a day', left(leaf, 64) USING ERRCODE = 'undefined_table';
    END IF;
    -- No hold is placed, and no row added, from here on; readers go on reading.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.legal_holds, audit.legal_hold_lifts, audit.settings IN SHARE MODE');
    PERFORM audit.run_with_short_waits(format('LOCK TABLE audit_parts.%I IN SHARE ROW EXCLUSIVE MODE', leaf));
    SELECT * INTO plan FROM audit.plan_removals(keep, ARRAY[parent], leaf);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit_parts.%: not there, or it holds records that are to be kept', leaf
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF cardinality(plan.obstacles) > 0 THEN
        RAISE EXCEPTION 'audit_parts.%: not removed: %', leaf, array_to_string(plan.obstacles, '; ')
            USING ERRCODE = 'object_in_use';
    END IF;
    IF EXISTS (SELECT FROM audit.ledger) THEN
        EXECUTE format('SELECT count(DISTINCT (b.writer_id, b.first_seq)) FROM audit_parts.%I r JOIN audit.batches b ON b.writer_id = r.writer_id AND r.seq BETWEEN b.first_seq AND b.last_seq
            WHERE b.root IS NULL AND NOT EXISTS (SELECT FROM audit.ledger l WHERE l.writer_id = b.writer_id AND l.first_seq = b.first_seq)', leaf) INTO batches;
        IF batches > 0 THEN
            RAISE EXCEPTION 'audit_parts.%: not removed: % batches with rows in it are not sealed yet', leaf, batches
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run tracing-audit seal --once.';
        END IF;
    END IF;
    at := clock_timestamp();
    EXECUTE format(
        'INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, batch, from_leaf, hashes, removed_at, removed_by)
         SELECT $1, $2, g.writer_id, g.first_seq, g.last_seq, g.rows, sha256(g.hashes), g.batch, g.from_leaf, audit.tree_cover(g.hashes, g.from_leaf), $3, session_user
         FROM (
             SELECT h.writer_id, b.first_seq AS batch, min(h.seq) AS first_seq, max(h.seq) AS last_seq, count(*) AS rows,
                 string_agg(h.leaf_hash, '''' ORDER BY h.day, h.seq, h.id) AS hashes, audit.leaves_before(min(h.place), min(h.day), h.writer_id, b.first_seq) AS from_leaf
             FROM (%s) h LEFT JOIN LATERAL (
                 SELECT b.first_seq FROM audit.batches b WHERE b.writer_id = h.writer_id AND b.first_seq <= h.seq ORDER BY b.first_seq DESC LIMIT 1) b ON true
             GROUP BY h.writer_id, b.first_seq) g', audit.leaves_query(parent, leaf, 'true')) USING leaf, plan.parent, at;
    -- By the million: the hashes of many more are too long for one value.
    SELECT coalesce(sum(p.batches), 0), sha256(coalesce(string_agg(p.sha256, '' ORDER BY p.part), '')), sha256(coalesce(string_agg(p.archived, '' ORDER BY p.part), ''))
        INTO batches, hashed, archived
        FROM (
            SELECT h.part, count(*) AS batches, sha256(string_agg(h.sha256, '' ORDER BY h.writer_id, h.first_seq)) AS sha256,
                sha256(string_agg(h.archived, '' ORDER BY h.writer_id, h.first_seq)) AS archived
            FROM (
                SELECT r.writer_id, r.first_seq, audit.row_sha256(r) AS sha256, uuid_send(r.writer_id) || int8send(coalesce(r.batch, 0)) || int8send(r.rows) || r.sha256 AS archived,
                    (row_number() OVER (ORDER BY r.writer_id, r.first_seq) - 1) / 1000000 AS part
                FROM audit.removals r WHERE r.partition = leaf AND r.removed_at = at) h
            GROUP BY h.part) p;
    IF archive ->> 'hashes' <> encode(archived, 'hex') THEN
        RAISE EXCEPTION 'audit_parts.%: not removed: it has other rows than the archive', leaf
            USING ERRCODE = 'object_in_use';
    END IF;
    -- Take these locks only now: held during the hashing, they would block the creation of partitions. No foreign key
    -- is made from here on.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.partition_lock IN SHARE UPDATE EXCLUSIVE MODE');
    PERFORM audit.run_with_short_waits(format('LOCK TABLE ONLY audit.%I IN SHARE UPDATE EXCLUSIVE MODE', parent));
    referring := ARRAY(SELECT audit.referring(format('audit.%I', parent)::regclass));
    IF cardinality(referring) > 0 THEN
        RAISE EXCEPTION 'audit_parts.%: not removed: %', leaf, array_to_string(referring, '; ')
            USING ERRCODE = 'object_in_use';
    END IF;
    -- The trail's own events that prove a row which stays (a hold, a setting, a removal, an erasure) are recorded anew.
    IF plan.parent = 'events' THEN
        FOR proof IN EXECUTE format(
            'SELECT e.* FROM audit_parts.%I e WHERE e.service_name = ''postgres'' AND e.metadata ? ''sha256'' AND (e.action_type, e.target_type) IN ((''audit.hold_placed'', ''legal_hold''),
                (''audit.hold_lifted'', ''legal_hold''), (''audit.setting_changed'', ''setting''), (''audit.partition_removed'', ''partition''), (''audit.erased'', ''erasure''))
                AND EXISTS (SELECT FROM audit.batches b WHERE b.writer_id = e.writer_id AND b.first_seq = e.seq AND b.last_seq = e.seq)
                AND NOT EXISTS (SELECT FROM audit.writers w WHERE w.writer_id = e.writer_id) ORDER BY e.created_at, e.id', leaf)
        LOOP
            PERFORM audit.append_event(proof.action_type, proof.target_type, proof.target_id, proof.input_summary, proof.request_id, proof.tenant_id,
                jsonb_build_object('first_recorded_by', proof.user_id, 'first_recorded_at', proof.created_at) || proof.metadata);
        END LOOP;
    END IF;
    -- Last, since from here to the commit nobody reads the table.
    PERFORM audit.run_with_short_waits(format('ALTER TABLE audit.%I DETACH PARTITION audit_parts.%I', plan.parent, leaf));
    EXECUTE format('DROP TABLE audit_parts.%I', leaf);
    event := audit.append_event('audit.partition_removed', 'partition', leaf, format('kept for %s', keep), NULL, NULL, jsonb_build_object(
        'rows', plan.rows, 'bytes', plan.bytes, 'batches', batches, 'sha256', encode(hashed, 'hex'),
        'from', plan.from_time, 'to', plan.to_time, 'removed_at', at) || CASE WHEN archive IS NULL THEN '{}' ELSE jsonb_build_object('archive', archive) END);
    RETURN event;
END
$$;
COMMENT ON FUNCTION audit.take_partition(text, interval, jsonb) IS 'Removes a partition, one that was archived only if its rows are those of the archive; for the functions of the trail.';

CREATE FUNCTION audit.remove_partition(leaf text, keep interval) RETURNS uuid
    LANGUAGE sql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT audit.take_partition(leaf, keep, NULL)
$$;
COMMENT ON FUNCTION audit.remove_partition(text, interval) IS 'Removes one partition all of whose records are older than keep, unless something stands against it; notes what was removed in audit.removals and as an event, whose id it returns.';

-- Default partitions -------------------------------------------------------------------

-- The partitions that rows of default partitions belong in, and why they stay where they are.
CREATE FUNCTION audit.plan_settling(kinds text[] DEFAULT NULL, at timestamptz DEFAULT NULL)
    RETURNS TABLE (parent text, partition text, from_time timestamptz, to_time timestamptz, rows bigint, obstacles text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    strays    bigint;
    other     text;
    referring text[];
    first     uuid;
    last      uuid;
BEGIN
    FOREACH parent IN ARRAY audit.check_kinds(kinds) LOOP
        CONTINUE WHEN parent || '_default' NOT IN (SELECT audit.leaves(parent));
        -- Also to the default partition alone: rows leave it by a DELETE.
        referring := ARRAY(SELECT audit.referring(format('audit.%I', parent)::regclass))
            || ARRAY(SELECT audit.referring(format('audit_parts.%I', parent || '_default')::regclass));
        SELECT audit.id_at(s.from_time), audit.id_at(s.to_time) INTO first, last FROM audit.free_span(parent, at) s;
        FOR from_time, to_time, rows, strays IN EXECUTE format(
            'SELECT s.from_time, s.to_time, sum(d.rows)::bigint, sum(d.strays)::bigint
             FROM (
                 SELECT d.day, count(*) AS rows, count(*) FILTER (WHERE d.%1$I < d.day OR d.%1$I >= d.day + interval ''1 day'') AS strays
                 FROM (SELECT %1$I, date_trunc(''day'', to_timestamp((''x'' || translate(left(id::text, 13), ''-'', ''''))::bit(48)::bigint / 1000)) AS day FROM audit_parts.%2$I
                     WHERE ($1 IS NULL OR id >= $1) AND ($2 IS NULL OR id < $2)) d
                 GROUP BY d.day) d, audit.free_span(%3$L, d.day) s
             GROUP BY s.from_time, s.to_time ORDER BY s.from_time', audit.time_column(parent), parent || '_default', parent)
            USING first, last
        LOOP
            partition := audit.leaf_name(parent, from_time, to_time);
            obstacles := referring;
            IF from_time > now() + interval '2 months' THEN
                obstacles := obstacles || 'its time is more than two months ahead'::text;
            END IF;
            IF strays > 0 THEN
                obstacles := obstacles || format('%s of the rows have a time that is not of the day of their id', strays);
            END IF;
            FOR other IN SELECT l.leaf FROM audit.leaves_over(parent, from_time, to_time) l WHERE l.from_time < plan_settling.to_time LOOP
                obstacles := obstacles || format('audit_parts.%I is there, and no partition', other);
            END LOOP;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION audit.plan_settling(text[], timestamptz) IS 'The partitions that rows of default partitions belong in, all or the one of a moment, with why they stay where they are. Changes nothing.';

-- Moves rows out of the default partition into the one that they belong in, in one transaction: all of it or nothing. The
-- append-only triggers of the default partition are off for its one DELETE, behind a lock that lets nobody else write.
CREATE FUNCTION audit.settle_partition(parent text, at timestamptz) RETURNS uuid
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET bytea_output = 'hex'
AS $$
DECLARE
    net     constant text := parent || '_default';
    -- By the million, as for a removal.
    hashing constant text := 'SELECT sha256(coalesce(string_agg(p.sha256, '''' ORDER BY p.part), '''')) FROM (
        SELECT h.part, sha256(string_agg(h.sha256, '''' ORDER BY h.id)) AS sha256
        FROM (
            SELECT s.*, (row_number() OVER (ORDER BY s.id) - 1) / 1000000 AS part
            FROM (SELECT r.id, sha256(convert_to(r::text, ''UTF8'')) AS sha256 FROM audit_parts.%I r WHERE r.id >= $1 AND r.id < $2 OFFSET 0) s) h
        GROUP BY h.part) p';
    first   uuid;
    last    uuid;
    columns text;
    plan    record;
    copied  bigint;
    deleted bigint;
    before  bytea;
    after   bytea;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    IF audit.time_column(parent) IS NULL THEN
        RAISE EXCEPTION 'audit.%: no such record table', left(parent, 64) USING ERRCODE = 'undefined_table';
    END IF;
    -- Nobody adds a row to the default partition, and nobody makes a foreign key, from here on; readers go on reading.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.partition_lock IN SHARE UPDATE EXCLUSIVE MODE');
    PERFORM audit.run_with_short_waits(format('LOCK TABLE ONLY audit.%I IN SHARE UPDATE EXCLUSIVE MODE', parent));
    PERFORM audit.run_with_short_waits(format('LOCK TABLE audit_parts.%I IN SHARE ROW EXCLUSIVE MODE', net));
    SELECT * INTO plan FROM audit.plan_settling(ARRAY[parent], at) p WHERE p.from_time <= at AND p.to_time > at;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit_parts.%: no row that would go with that time is in it', net USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF cardinality(plan.obstacles) > 0 THEN
        RAISE EXCEPTION 'audit_parts.%: not settled: %', net, array_to_string(plan.obstacles, '; ') USING ERRCODE = 'object_in_use';
    END IF;
    first := audit.id_at(plan.from_time);
    last := audit.id_at(plan.to_time);
    PERFORM audit.make_leaf(parent, plan.partition, plan.from_time, plan.to_time);
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
        WHERE attrelid = format('audit.%I', parent)::regclass AND attnum > 0 AND NOT attisdropped;
    EXECUTE format('INSERT INTO audit_parts.%1$I (%2$s) SELECT %2$s FROM audit_parts.%3$I WHERE id >= $1 AND id < $2', plan.partition, columns, net)
        USING first, last;
    GET DIAGNOSTICS copied = ROW_COUNT;
    EXECUTE format(hashing, net) INTO before USING first, last;
    EXECUTE format(hashing, plan.partition) INTO after USING first, last;
    EXECUTE format('ALTER TABLE audit_parts.%I DISABLE TRIGGER append_only, DISABLE TRIGGER append_only_rows', net);
    EXECUTE format('DELETE FROM audit_parts.%I WHERE id >= $1 AND id < $2', net) USING first, last;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    EXECUTE format('ALTER TABLE audit_parts.%I ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_rows', net);
    IF copied <> plan.rows OR deleted <> plan.rows OR before <> after THEN
        RAISE EXCEPTION 'audit_parts.%: not settled: what arrived in the new partition is not what was in this one', net
            USING ERRCODE = 'data_exception';
    END IF;
    PERFORM audit.attach_leaf(parent, plan.partition, plan.from_time, plan.to_time, 8);
    RETURN audit.append_event('audit.partition_settled', 'partition', plan.partition, format('moved from %s', net), NULL, NULL, jsonb_build_object(
        'rows', copied, 'sha256', encode(after, 'hex'), 'from', plan.from_time, 'to', plan.to_time));
END
$$;
COMMENT ON FUNCTION audit.settle_partition(text, timestamptz) IS 'Moves rows from the default partition into the partition that a moment belongs in, all that belong there or none, and adds an event that says so, whose id it returns.';

-- Who owns and may call what ---------------------------------------------------------

-- For the end of a migration, before it grants what it has made. audit_maintainer already owns these functions; those of other
-- owners are left unchanged.
CREATE FUNCTION audit.close_functions() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    function   regprocedure;
    is_definer boolean;
BEGIN
    FOR function, is_definer IN SELECT p.oid, p.prosecdef FROM pg_proc p
        WHERE p.pronamespace = 'audit'::regnamespace AND p.proowner = current_user::regrole AND p.proacl IS NULL
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
        -- With row_security = off, the functions would fail for the caller; with the caller's default tablespace or access
        -- method, partitions and indexes would be created there.
        IF is_definer THEN
            EXECUTE format('ALTER FUNCTION %s SET row_security = on', function);
            EXECUTE format('ALTER FUNCTION %s SET default_tablespace = ''''', function);
            EXECUTE format('ALTER FUNCTION %s SET default_table_access_method = ''heap''', function);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION audit.close_functions() IS 'Takes new functions from PUBLIC, and fixes the settings of those that run with the rights of the trail; for its migrations.';
SELECT audit.close_functions();
ALTER TYPE audit.run_status OWNER TO audit_owner;
-- They read and change nothing.
GRANT EXECUTE ON FUNCTION audit.tenant_uuid(text), audit.id_at(timestamptz), audit.current_tenant() TO PUBLIC;
GRANT EXECUTE ON FUNCTION audit.ensure_partition(text, timestamptz), audit.lacking_partitions() TO audit_writer, audit_operator;
GRANT EXECUTE ON FUNCTION audit.set_partition_interval(text, text, text) TO audit_operator;
GRANT EXECUTE ON FUNCTION audit.partition_interval(text) TO audit_auditor, audit_operator, audit_writer;
GRANT EXECUTE ON FUNCTION audit.writer_position(uuid),
    audit.add_batch(uuid, bytea, bigint, bigint, jsonb, integer, uuid, uuid, text, text, bytea, bytea, bytea),
    audit.writer_batches(uuid, bytea, bigint),
    audit.add_dead_letter(uuid, bytea, bigint, uuid, text, text, text, bytea, bytea) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.request_trail(text, timestamptz, timestamptz), audit.record_reading(text, text, uuid, jsonb), audit.record_refused_login(text, jsonb) TO audit_reader, audit_auditor;
GRANT EXECUTE ON FUNCTION audit.record_verification(boolean, jsonb) TO audit_auditor;
GRANT EXECUTE ON FUNCTION audit.tenant_batches(timestamptz, uuid[], bigint[]) TO audit_reader;
GRANT EXECUTE ON FUNCTION audit.place_hold(text, uuid, timestamptz, timestamptz, text[], boolean), audit.hold_coverage(uuid) TO audit_auditor, audit_operator;
-- A role that removes partitions can neither lift holds nor change the least age.
GRANT EXECUTE ON FUNCTION audit.lift_hold(uuid, text), audit.set_least_age(interval, text) TO audit_auditor;
GRANT EXECUTE ON FUNCTION audit.least_age() TO audit_auditor, audit_operator;
GRANT EXECUTE ON FUNCTION audit.plan_settling(text[], timestamptz), audit.settle_partition(text, timestamptz) TO audit_operator;
GRANT EXECUTE ON FUNCTION audit.plan_retention(interval, text[]), audit.remove_partition(text, interval) TO audit_operator;
