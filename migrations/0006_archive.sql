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
    PERFORM audit.close_functions();
END
$$;
GRANT EXECUTE ON FUNCTION audit.record_archive(text, text, date, integer, bytea, bigint) TO audit_auditor, audit_operator;
GRANT EXECUTE ON FUNCTION audit.remove_archived_partition(text, interval, text, bytea[], bytea) TO audit_operator;
