-- The process that creates the schema creates the trail; the others wait here. A role that may create schemas in the
-- database can make them wait, up to the migration's lock_timeout, by creating a schema of this name in a transaction
-- that stays open; with an advisory lock any role could.
-- An empty schema is dropped and created again: others may have granted rights on it, or be about to create objects in it.
DO $$
DECLARE
    schema text;
BEGIN
    FOREACH schema IN ARRAY ARRAY['audit', 'audit_parts', 'audit_guard'] LOOP
        CONTINUE WHEN schema = 'audit_guard' AND (
            NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            OR EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = schema));
        -- A schema that another role created since the look stays; the next look names it.
        CONTINUE WHEN EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
            WHERE n.nspname = schema AND NOT r.rolsuper AND r.rolname NOT IN (current_user, 'audit_owner'));
        EXECUTE format('DROP SCHEMA IF EXISTS %I', schema);
    END LOOP;
    CREATE SCHEMA audit;
EXCEPTION WHEN duplicate_schema OR unique_violation OR dependent_objects_still_exist OR insufficient_privilege OR invalid_schema_name THEN
    -- If the trail exists (another process may have just created it), or another role created the schema, which the next
    -- look names, the error is expected. Otherwise raise it.
    IF NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'audit' AND c.relname = 'schema_migrations' AND c.relowner = to_regrole('audit_owner'))
        AND NOT EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
            WHERE n.nspname = 'audit' AND NOT r.rolsuper AND r.rolname NOT IN (current_user, 'audit_owner'))
    THEN
        RAISE;
    END IF;
END
$$;
