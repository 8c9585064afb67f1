-- Whoever makes the schema makes the trail: the others wait here until it is there. A stranger who may make schemas in the
-- database can have them wait, for as long as the migration's lock_timeout, by making one of its name and not ending the
-- transaction; anybody could with a lock.
-- A schema that is empty is made anew: the one that was there may have rights that others gave, and objects that
-- others are about to make.
DO $$
DECLARE
    schema text;
BEGIN
    FOREACH schema IN ARRAY ARRAY['audit', 'audit_parts', 'audit_guard'] LOOP
        CONTINUE WHEN schema = 'audit_guard' AND (
            NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            OR EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = schema));
        -- One that a stranger has made since the look stays, and the next look names it.
        CONTINUE WHEN EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
            WHERE n.nspname = schema AND NOT r.rolsuper AND r.rolname NOT IN (current_user, 'audit_owner'));
        EXECUTE format('DROP SCHEMA IF EXISTS %I', schema);
    END LOOP;
    CREATE SCHEMA audit;
EXCEPTION WHEN duplicate_schema OR unique_violation OR dependent_objects_still_exist OR insufficient_privilege OR invalid_schema_name THEN
    -- Another process has made the trail meanwhile, or it is there for long, or a stranger has made the schema, which the
    -- next look names; else this is what is wrong.
    IF NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'audit' AND c.relname = 'schema_migrations' AND c.relowner = to_regrole('audit_owner'))
        AND NOT EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
            WHERE n.nspname = 'audit' AND NOT r.rolsuper AND r.rolname NOT IN (current_user, 'audit_owner'))
    THEN
        RAISE;
    END IF;
END
$$;
