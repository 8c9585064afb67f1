-- The roles of the trail, and what it takes to make and give away its objects; taken back when all is made.
--
-- Run before the migrations, by a superuser or by a role that may create roles. Roles belong to the whole
-- server: another database's trail may have made them. The program has looked at them before.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['audit_owner', 'audit_maintainer', 'audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator', 'audit_sealer'] LOOP
        IF to_regrole(role) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                -- At the same moment, from another database.
                NULL;
            END;
        END IF;
    END LOOP;
    IF NOT pg_has_role('audit_maintainer', 'audit_owner', 'USAGE') THEN
        BEGIN
            GRANT audit_owner TO audit_maintainer;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT audit_owner, audit_maintainer TO %I', current_user);
    END IF;
END
$$;
