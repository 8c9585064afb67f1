-- Where finished days of the trail were archived, and the removal of partitions that are.
--
-- What proves an archive are its files: signed manifests, of which these rows say where they are and what they hash to. A row is
-- written by the trail's function alone, with an event that the ledger seals like any other: so a day that is missing in an archive
-- with its manifest is still known of.

CREATE TABLE audit.archives (
    place       text        NOT NULL,
    parent      text        NOT NULL,
    day         date        NOT NULL,
    number      integer     NOT NULL CHECK (number > 0),
    sha256      bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    rows        bigint      NOT NULL CHECK (rows > 0),
    archived_at timestamptz NOT NULL,
    archived_by text        NOT NULL,
    event       uuid        NOT NULL,
    PRIMARY KEY (place, parent, day, number)
);
COMMENT ON TABLE audit.archives IS 'The signed manifests of archives: each is of rows of one table and day.';
COMMENT ON COLUMN audit.archives.place IS 'The folder, as a path from its root, or the bucket.';
COMMENT ON COLUMN audit.archives.number IS 'Counts the manifests of a table and day at a place, from 1: records that came late have one of their own.';
COMMENT ON COLUMN audit.archives.sha256 IS 'Of the manifest''s bytes.';
COMMENT ON COLUMN audit.archives.event IS 'The event audit.archived, which says the same.';

CREATE FUNCTION audit.record_archive(place text, kind text, day date, number integer, sha256 bytea, rows bigint) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO'
AS $$
DECLARE
    known audit.archives;
    event uuid;
BEGIN
    PERFORM audit.check_text('the place of an archive', place, 1024);
    IF kind IS NULL OR day IS NULL OR NOT isfinite(day) OR octet_length(sha256) IS DISTINCT FROM 32 OR coalesce(number, 0) < 1 OR coalesce(rows, 0) < 1 THEN
        RAISE EXCEPTION 'audit trail: an archive is of a table and a day, with a number, a hash of 32 bytes and rows' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM audit.check_kinds(ARRAY[kind]);
    -- One archives a place at a time; whoever was interrupted says it once more.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.archives IN SHARE ROW EXCLUSIVE MODE');
    SELECT a.* INTO known FROM audit.archives a
        WHERE a.place = record_archive.place AND a.parent = kind AND a.day = record_archive.day AND a.number = record_archive.number;
    IF FOUND THEN
        IF known.sha256 <> record_archive.sha256 THEN
            RAISE EXCEPTION 'audit trail: another manifest % of % of % was archived there', number, kind, day USING ERRCODE = 'unique_violation';
        END IF;
        RETURN known.event;
    END IF;
    event := audit.append_event('audit.archived', 'archive', format('%s %s %s', kind, day, number), 'A day of the trail was archived.', NULL, NULL, jsonb_build_object(
        'place', place, 'kind', kind, 'day', day, 'number', number, 'manifest', encode(sha256, 'hex'), 'rows', rows));
    INSERT INTO audit.archives VALUES (place, kind, day, number, sha256, rows, clock_timestamp(), session_user, event);
    RETURN event;
END
$$;
COMMENT ON FUNCTION audit.record_archive(text, text, date, integer, bytea, bigint) IS 'Records in the trail that rows of a table and a day were archived, with the hash of the manifest. Once: said again, it returns the same event.';

-- The hashes are compared behind the lock under which the partition is removed, so nothing goes that is not in the archive. Whoever
-- calls this has read the archive; the database cannot.
CREATE FUNCTION audit.remove_archived_partition(leaf text, keep interval, place text, manifests bytea[], hashes bytea) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM audit.check_text('the place of an archive', place, 1024);
    IF leaf IS NULL OR keep IS NULL OR manifests IS NULL OR octet_length(hashes) IS DISTINCT FROM 32 THEN
        RAISE EXCEPTION 'audit trail: what was archived of a partition is not said' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM unnest(manifests) m LEFT JOIN audit.archives a ON a.place = remove_archived_partition.place AND a.sha256 = m WHERE a.sha256 IS NULL) THEN
        RAISE EXCEPTION 'audit_parts.%: not removed: a manifest of the archive is none that audit.archives knows', left(leaf, 64) USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN audit.take_partition(leaf, keep, jsonb_build_object(
        'place', place, 'hashes', encode(hashes, 'hex'), 'manifests', ARRAY(SELECT encode(m, 'hex') FROM unnest(manifests) WITH ORDINALITY AS u (m, place) ORDER BY u.place)));
END
$$;
COMMENT ON FUNCTION audit.remove_archived_partition(text, interval, text, bytea[], bytea) IS 'Removes one partition as audit.remove_partition does, unless its rows are not those that were read in an archive: hashes is over them as docs/archive.md says. The event names the manifests.';

-- The keys with which archives encrypt the content of rows, if they are asked to: one for what a user of a tenant has in a month. To erase
-- the user or the tenant destroys the key, and with it the content in each archive, which is written once. What is left of the key says by which
-- erasure. Of the user there is a hash, while there is the key; '' where a row has no user.
CREATE TABLE audit.subject_keys (
    key_id     uuid        PRIMARY KEY,
    month      date        NOT NULL,
    tenant_id  uuid,
    subject    bytea       CHECK (octet_length(subject) IN (0, 32)),
    key        bytea       CHECK (octet_length(key) = 32),
    made_at    timestamptz NOT NULL,
    erasure_id uuid,
    CHECK (num_nonnulls(subject, key) = CASE WHEN erasure_id IS NULL THEN 2 ELSE 0 END)
);
CREATE UNIQUE INDEX subject_keys_subject_idx ON audit.subject_keys (subject, month, tenant_id) NULLS NOT DISTINCT WHERE erasure_id IS NULL;
COMMENT ON TABLE audit.subject_keys IS 'The keys of content that archives have encrypted: each is of a user of a tenant and a month.';
COMMENT ON COLUMN audit.subject_keys.subject IS 'The SHA-256 of the user; empty: of rows without a user; NULL: the key was destroyed.';
COMMENT ON COLUMN audit.subject_keys.erasure_id IS 'The target of the event audit.erased of the erasure that has destroyed the key.';

-- What stands for a user in audit.subject_keys.
CREATE FUNCTION audit.subject_of(name text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN name IS NULL THEN ''::bytea ELSE sha256(convert_to(name, 'UTF8')) END;
COMMENT ON FUNCTION audit.subject_of(text) IS 'The hash of a user by which the keys of archived content are found; for the functions of the trail.';

-- A key that is made here is destroyed by an erasure that comes later. One that came before has left nothing to be encrypted: so whoever
-- calls this takes the snapshot of the rows afterwards.
CREATE FUNCTION audit.subject_keys_of(month date, tenants uuid[], users text[]) RETURNS TABLE (key_id uuid, key bytea)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    first_day constant date := subject_keys_of.month;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    IF first_day IS NULL OR NOT isfinite(first_day) OR extract(day FROM first_day) <> 1 OR coalesce(array_ndims(tenants), 1) <> 1 OR coalesce(array_ndims(users), 1) <> 1
        OR cardinality(tenants) IS NULL OR cardinality(tenants) IS DISTINCT FROM cardinality(users) THEN
        RAISE EXCEPTION 'audit trail: keys are of a month, by its first day, and of tenants with a user each' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A month's keys are made once: most calls find them. LIMIT has each looked up by the index: there are no statistics, and Postgres would
    -- compare each user with all keys of the month.
    IF cardinality(tenants) > (
        SELECT count(*) FROM unnest(tenants, users) u (tenant, name), LATERAL (
            SELECT FROM audit.subject_keys k WHERE k.subject = audit.subject_of(u.name) AND k.month = first_day AND k.tenant_id = u.tenant AND k.erasure_id IS NULL
            UNION ALL SELECT FROM audit.subject_keys k
                WHERE u.tenant IS NULL AND k.subject = audit.subject_of(u.name) AND k.month = first_day AND k.tenant_id IS NULL AND k.erasure_id IS NULL
            LIMIT 1) f) THEN
        PERFORM audit.run_with_short_waits('LOCK TABLE audit.subject_keys IN SHARE ROW EXCLUSIVE MODE');
        INSERT INTO audit.subject_keys (key_id, month, tenant_id, subject, key, made_at)
        SELECT gen_random_uuid(), first_day, s.tenant, s.subject, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), clock_timestamp()
        FROM (SELECT DISTINCT u.tenant, audit.subject_of(u.name) AS subject FROM unnest(tenants, users) u (tenant, name)) s
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN QUERY SELECT f.key_id, f.key FROM unnest(tenants, users) WITH ORDINALITY u (tenant, name, place), LATERAL (
            SELECT k.key_id, k.key FROM audit.subject_keys k WHERE k.subject = audit.subject_of(u.name) AND k.month = first_day AND k.tenant_id = u.tenant AND k.erasure_id IS NULL
            UNION ALL SELECT k.key_id, k.key FROM audit.subject_keys k
                WHERE u.tenant IS NULL AND k.subject = audit.subject_of(u.name) AND k.month = first_day AND k.tenant_id IS NULL AND k.erasure_id IS NULL
            LIMIT 1) f
        ORDER BY u.place;
END
$$;
COMMENT ON FUNCTION audit.subject_keys_of(date, uuid[], text[]) IS 'Returns the keys of a month for these users, each of the tenant at its place, in this order; makes those that are lacking.';

-- Empties the keys of a user, of a tenant or of a user of a tenant. Nobody makes one meanwhile.
CREATE FUNCTION audit.destroy_subject_keys(erasure uuid, of_user text, of_tenant uuid) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    name  constant bytea := CASE WHEN of_user IS NOT NULL THEN audit.subject_of(of_user) END;
    holds text;
    destroyed bigint;
BEGIN
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.subject_keys IN SHARE ROW EXCLUSIVE MODE');
    SELECT string_agg(DISTINCT h.id::text, ', ') INTO holds FROM audit.subject_keys k
        JOIN audit.legal_holds h ON (h.tenant_id IS NULL OR h.tenant_id = k.tenant_id) AND h.from_time < k.month + interval '1 month' AND h.to_time > k.month::timestamptz
        WHERE k.erasure_id IS NULL AND (name IS NULL OR k.subject = name) AND (of_tenant IS NULL OR k.tenant_id = of_tenant)
            AND NOT EXISTS (SELECT FROM audit.legal_hold_lifts l WHERE l.hold_id = h.id);
    IF holds IS NOT NULL THEN
        RAISE EXCEPTION 'audit trail: archived content is not erased: held by the legal hold %', holds USING ERRCODE = 'object_in_use';
    END IF;
    IF NOT EXISTS (SELECT FROM audit.subject_keys k WHERE k.erasure_id IS NULL AND (name IS NULL OR k.subject = name) AND (of_tenant IS NULL OR k.tenant_id = of_tenant)) THEN
        RETURN 0;
    END IF;
    ALTER TABLE audit.subject_keys DISABLE TRIGGER append_only, DISABLE TRIGGER append_only_rows;
    UPDATE audit.subject_keys k SET key = NULL, subject = NULL, erasure_id = erasure
        WHERE k.erasure_id IS NULL AND (name IS NULL OR k.subject = name) AND (of_tenant IS NULL OR k.tenant_id = of_tenant);
    GET DIAGNOSTICS destroyed = ROW_COUNT;
    ALTER TABLE audit.subject_keys ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_rows;
    RETURN destroyed;
END
$$;
COMMENT ON FUNCTION audit.destroy_subject_keys(uuid, text, uuid) IS 'Destroys the keys of archived content of a user or a tenant, unless a legal hold covers its month, and returns how many; for audit.erase.';

DO $$
BEGIN
    REVOKE ALL ON audit.archives FROM PUBLIC;
    GRANT SELECT ON audit.archives TO audit_auditor, audit_operator;
    CREATE POLICY auditor ON audit.archives FOR SELECT TO audit_auditor USING (true);
    CREATE POLICY operator ON audit.archives FOR SELECT TO audit_operator USING (true);
    CREATE POLICY maintainer ON audit.archives FOR SELECT TO audit_maintainer USING (true);
    CREATE POLICY adding ON audit.archives FOR INSERT TO audit_maintainer WITH CHECK (true);
    ALTER TABLE audit.archives ENABLE ROW LEVEL SECURITY;
    ALTER TABLE audit.archives FORCE ROW LEVEL SECURITY;
    PERFORM audit.make_append_only('audit.archives'::regclass);
    PERFORM audit.give_to_owner('audit.archives'::regclass);
    -- A reader has the keys of the tenant whose rows are seen.
    REVOKE ALL ON audit.subject_keys FROM PUBLIC;
    GRANT SELECT ON audit.subject_keys TO audit_reader, audit_auditor;
    CREATE POLICY tenant ON audit.subject_keys FOR SELECT TO audit_reader USING (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid);
    CREATE POLICY auditor ON audit.subject_keys FOR SELECT TO audit_auditor USING (true);
    CREATE POLICY maintainer ON audit.subject_keys FOR SELECT TO audit_maintainer USING (true);
    CREATE POLICY adding ON audit.subject_keys FOR INSERT TO audit_maintainer WITH CHECK (true);
    CREATE POLICY destroying ON audit.subject_keys FOR UPDATE TO audit_maintainer USING (true) WITH CHECK (true);
    ALTER TABLE audit.subject_keys ENABLE ROW LEVEL SECURITY;
    ALTER TABLE audit.subject_keys FORCE ROW LEVEL SECURITY;
    PERFORM audit.make_append_only('audit.subject_keys'::regclass);
    PERFORM audit.keep_no_statistics('audit.subject_keys'::regclass);
    PERFORM audit.give_to_owner('audit.subject_keys'::regclass);
    PERFORM audit.close_functions();
END
$$;
GRANT EXECUTE ON FUNCTION audit.record_archive(text, text, date, integer, bytea, bigint) TO audit_auditor, audit_operator;
GRANT EXECUTE ON FUNCTION audit.remove_archived_partition(text, interval, text, bytea[], bytea) TO audit_operator;
GRANT EXECUTE ON FUNCTION audit.subject_keys_of(date, uuid[], text[]) TO audit_auditor;
