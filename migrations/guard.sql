-- Against DROP and ALTER of what belongs to the trail: event triggers, which only a superuser can
-- make. Run after the migrations, or whenever a superuser migrates what another role had.

-- In a schema of its own, which belongs to the superuser: it does not go with what it guards.
CREATE SCHEMA audit_guard;
COMMENT ON SCHEMA audit_guard IS 'Keeps the tables of the audit trail from being altered or dropped.';
CREATE FUNCTION audit_guard.refuse_ddl() RETURNS event_trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    -- Few rows, by indexes, however large the catalog is.
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET jit = off
AS $$
DECLARE
    guarded constant text[] := ARRAY['audit', 'audit_parts', 'audit_guard'];
    could_switch_this_off constant boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    refused text;
BEGIN
    -- The trail's own functions, whose role nobody can take.
    IF current_user = 'audit_maintainer' THEN
        RETURN;
    END IF;
    -- A session runs as audit_owner only while Postgres checks a foreign key, and then a host's code may run: refuse
    -- all DDL.
    IF current_user = 'audit_owner' THEN
        RAISE EXCEPTION 'audit trail: % by audit_owner is refused', TG_TAG USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- If the transaction's snapshot is older than the trail, the queries below would not see the trail, though perhaps another
    -- schema of its name.
    IF to_regnamespace('audit') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid = to_regnamespace('audit'))
        OR to_regnamespace('audit_parts') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid = to_regnamespace('audit_parts'))
    THEN
        RAISE EXCEPTION 'audit trail: % is refused in a transaction that began before there was the trail', TG_TAG
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Begin it again.';
    END IF;
    -- Postgres checks a foreign key with the rights of the referenced table's owner, including casts of the key's
    -- column. A cast of a user-defined type would therefore run with the trail's rights, so every command that leaves
    -- such a key fails, also for a superuser. One that came while this was switched off keeps no superuser from other
    -- work. Found through pg_depend, because pg_constraint has no index on confrelid.
    IF TG_EVENT = 'ddl_command_end' THEN
        SELECT format('%I of table %s', k.conname, k.conrelid::regclass) INTO refused
        FROM pg_depend s JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.objid AND d.classid = 'pg_constraint'::regclass
        JOIN pg_constraint k ON k.oid = d.objid AND k.contype = 'f' AND k.confrelid = s.objid
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
        -- A type that the snapshot does not show counts as not from pg_catalog.
        LEFT JOIN pg_type kt ON kt.oid = a.atttypid
        WHERE s.refclassid = 'pg_namespace'::regclass AND s.refobjid IN (to_regnamespace('audit'), to_regnamespace('audit_parts')) AND s.classid = 'pg_class'::regclass
            AND NOT EXISTS (
                WITH RECURSIVE base AS (
                    SELECT kt.typbasetype, kt.typnamespace UNION ALL SELECT d.typbasetype, d.typnamespace FROM base JOIN pg_type d ON d.oid = base.typbasetype)
                SELECT FROM base WHERE typbasetype = 0 AND typnamespace = 'pg_catalog'::regnamespace)
            AND (NOT could_switch_this_off OR k.conrelid IN (
                SELECT o.objid FROM pg_event_trigger_ddl_commands() o WHERE o.classid = 'pg_class'::regclass))
        LIMIT 1;
        IF refused IS NOT NULL THEN
            RAISE EXCEPTION 'audit trail: the foreign key % is refused, for a cast of its column would run with the rights of the trail', refused
                USING ERRCODE = 'insufficient_privilege', HINT = 'Its column must be of a type of Postgres itself, as uuid, or of a domain over one.';
        END IF;
    END IF;
    IF could_switch_this_off THEN
        RETURN;
    END IF;
    IF TG_EVENT = 'sql_drop' THEN
        SELECT object_identity INTO refused FROM pg_event_trigger_dropped_objects()
        -- For an object on a table (trigger, policy), only address_names holds the schema: schema, table, name.
        WHERE (schema_name = ANY (guarded) OR (object_type = 'schema' OR cardinality(address_names) = 3) AND address_names[1] = ANY (guarded))
            -- A host's foreign key has triggers on both tables, and they go with it.
            AND NOT (object_type = 'trigger' AND address_names[3] LIKE 'RI\_ConstraintTrigger\_%') LIMIT 1;
    ELSIF TG_TAG = 'REASSIGN OWNED' THEN
        -- REASSIGN OWNED does not report which objects it changed.
        SELECT c.oid::regclass::text INTO refused FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('audit', 'audit_parts')
            AND (c.relkind IN ('r', 'p', 'v') AND c.relowner <> to_regrole('audit_owner') OR n.nspowner <> to_regrole('audit_owner')) LIMIT 1;
    ELSIF TG_TAG NOT IN ('REINDEX', 'COMMENT', 'GRANT', 'REVOKE') THEN
        SELECT o.object_identity INTO refused FROM pg_event_trigger_ddl_commands() o
        LEFT JOIN pg_class c ON c.oid = CASE o.classid
            WHEN 'pg_class'::regclass THEN o.objid
            WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE oid = o.objid)
            WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE oid = o.objid)
            WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite WHERE oid = o.objid)
        END
        LEFT JOIN pg_proc p ON o.classid = 'pg_proc'::regclass AND p.oid = o.objid
        LEFT JOIN pg_type t ON o.classid = 'pg_type'::regclass AND t.oid = o.objid
        LEFT JOIN pg_extension e ON o.classid = 'pg_extension'::regclass AND e.oid = o.objid
        LEFT JOIN pg_namespace n ON n.oid = CASE WHEN o.classid = 'pg_namespace'::regclass THEN o.objid
            ELSE coalesce(c.relnamespace, p.pronamespace, t.typnamespace, e.extnamespace) END
        WHERE n.nspname = ANY (guarded) OR o.schema_name = ANY (guarded)
            -- The script of a trusted extension runs as a superuser, whoever asks for it.
            OR EXISTS (SELECT FROM pg_depend m JOIN pg_depend s ON s.classid = m.classid AND s.objid = m.objid
                JOIN pg_namespace sn ON s.refclassid = 'pg_namespace'::regclass AND sn.oid = s.refobjid
                WHERE m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid AND m.deptype = 'e' AND sn.nspname = ANY (guarded))
            -- A table of somebody's own that is read as a part of one of these.
            OR EXISTS (SELECT FROM pg_inherits i JOIN pg_class parent ON parent.oid = i.inhparent
                WHERE i.inhrelid = c.oid AND parent.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = ANY (guarded)))
            -- What was renamed or moved out of its schema just now.
            OR coalesce(c.relowner, p.proowner, t.typowner, n.nspowner) IN (to_regrole('audit_owner'), to_regrole('audit_maintainer'))
        LIMIT 1;
    END IF;
    IF refused IS NOT NULL THEN
        RAISE EXCEPTION 'audit trail: % of % is refused', TG_TAG, refused
            USING ERRCODE = 'insufficient_privilege', HINT = 'Only a superuser and the functions of the trail may.';
    END IF;
END
$$;
COMMENT ON FUNCTION audit_guard.refuse_ddl() IS 'Refuses DROP and ALTER of what belongs to the audit trail, for everybody but a superuser and its own functions.';
CREATE EVENT TRIGGER audit_refuse_ddl ON ddl_command_end EXECUTE FUNCTION audit_guard.refuse_ddl();
ALTER EVENT TRIGGER audit_refuse_ddl ENABLE ALWAYS;
CREATE EVENT TRIGGER audit_refuse_drop ON sql_drop EXECUTE FUNCTION audit_guard.refuse_ddl();
ALTER EVENT TRIGGER audit_refuse_drop ENABLE ALWAYS;
-- Nothing of it is for others, whatever default privileges the superuser has.
DO $$
DECLARE
    grantee oid;
    who     text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT a.grantee FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'audit_guard' AND a.grantee <> n.nspowner
        UNION SELECT a.grantee FROM pg_proc p, aclexplode(p.proacl) a WHERE p.oid = 'audit_guard.refuse_ddl()'::regprocedure AND a.grantee <> p.proowner
    LOOP
        who := CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END;
        EXECUTE format('REVOKE ALL ON SCHEMA audit_guard FROM %s', who);
        EXECUTE format('REVOKE ALL ON FUNCTION audit_guard.refuse_ddl() FROM %s', who);
    END LOOP;
END
$$;
