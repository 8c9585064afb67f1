-- The schemas and the table of applied migrations, where there is no trail yet.
--
-- Creates the claimed schemas again, this time owned by audit_owner, so that the migrating role's default privileges do
-- not apply to them. Without IF NOT EXISTS: an object that already exists is an error.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'audit' AND c.relname = 'schema_migrations' AND c.relowner = to_regrole('audit_owner'))
    THEN
        RETURN;
    END IF;
    DROP SCHEMA audit;
    CREATE SCHEMA audit AUTHORIZATION audit_owner;
    CREATE SCHEMA audit_parts AUTHORIZATION audit_owner;
    SET LOCAL ROLE audit_maintainer;
    CREATE TABLE audit.schema_migrations (
        version        bigint      NOT NULL PRIMARY KEY,
        description    text        NOT NULL,
        installed_on   timestamptz NOT NULL DEFAULT now(),
        success        boolean     NOT NULL,
        checksum       bytea       NOT NULL,
        execution_time bigint      NOT NULL
    );
    COMMENT ON TABLE audit.schema_migrations IS 'Which migrations of the trail were applied.';
    ALTER TABLE audit.schema_migrations OWNER TO audit_owner;
    RESET ROLE;
END
$$;
