-- Whoever makes the schema makes the trail: the others wait here until it is there. No lock that a stranger can take.
-- A schema that is empty is made anew: the one that was there may have rights that others gave, and objects that
-- others are about to make.
DO $$
DECLARE
    schema text;
BEGIN
    FOREACH schema IN ARRAY ARRAY['audit', 'audit_parts', 'audit_guard'] LOOP
        CONTINUE WHEN schema = 'audit_guard' AND (
            NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            OR EXISTS (SELECT FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
                WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = schema));
        EXECUTE format('DROP SCHEMA IF EXISTS %I', schema);
    END LOOP;
    CREATE SCHEMA audit;
EXCEPTION WHEN duplicate_schema OR unique_violation OR dependent_objects_still_exist OR insufficient_privilege OR invalid_schema_name THEN
    -- Another process has made the trail meanwhile, or it is there for long; else this is what is wrong.
    IF NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'audit' AND c.relname = 'schema_migrations' AND c.relowner = to_regrole('audit_owner'))
    THEN
        RAISE;
    END IF;
END
$$;
