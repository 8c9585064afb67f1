//! `tracing-audit doctor` against a real Postgres: an intact trail passes, and every kind of
//! tampering is found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;
use testkit::Postgres;

/// One way to tamper with the trail.
struct Case {
    /// The statements, run as a superuser.
    done: &'static str,
    undone: Undone,
    /// Exactly the expected findings, each `severity check object`.
    found: &'static [&'static str],
}

/// How the database is restored.
enum Undone {
    /// By following `doctor`'s advice, which tests the advice.
    AsAdvised,
    /// By the advice, then by that of a second check.
    Twice,
    /// By the advice, then by this statement.
    Then(&'static str),
    By(&'static str),
}

use Undone::{AsAdvised, By, Then, Twice};

const ROLES: &[Case] = &[
    Case {
        done: "ALTER ROLE audit_reader LOGIN CREATEDB",
        undone: AsAdvised,
        found: &["problem roles audit_reader"],
    },
    Case {
        done: "ALTER ROLE audit_auditor SUPERUSER BYPASSRLS CREATEROLE REPLICATION",
        undone: AsAdvised,
        found: &["problem roles audit_auditor"],
    },
    Case {
        done: "GRANT audit_owner TO somebody",
        undone: AsAdvised,
        found: &["problem closed_roles audit_owner"],
    },
    Case {
        done: "GRANT audit_maintainer TO somebody",
        undone: AsAdvised,
        found: &["problem closed_roles audit_maintainer"],
    },
    Case {
        done: "REVOKE audit_owner FROM audit_maintainer",
        undone: AsAdvised,
        found: &["problem closed_roles audit_maintainer"],
    },
    Case {
        done: "GRANT somebody TO audit_writer",
        undone: AsAdvised,
        found: &["problem closed_roles audit_writer"],
    },
    Case {
        done: "ALTER ROLE app SUPERUSER",
        undone: By("ALTER ROLE app NOSUPERUSER"),
        found: &["problem writer_logins app"],
    },
    Case {
        done: "ALTER ROLE app BYPASSRLS",
        undone: By("ALTER ROLE app NOBYPASSRLS"),
        found: &["problem writer_logins app", "warning bypass BYPASSRLS"],
    },
    Case {
        done: "ALTER ROLE app CREATEROLE",
        undone: By("ALTER ROLE app NOCREATEROLE"),
        found: &["problem writer_logins app", "warning bypass CREATEROLE"],
    },
    Case {
        done: "ALTER ROLE somebody REPLICATION",
        undone: By("ALTER ROLE somebody NOREPLICATION"),
        found: &["warning bypass REPLICATION"],
    },
    Case {
        done: "ALTER DATABASE audit OWNER TO app",
        undone: By("ALTER DATABASE audit OWNER TO postgres"),
        found: &["warning writer_logins app"],
    },
    Case {
        done: "GRANT audit_auditor, audit_reader TO app",
        undone: AsAdvised,
        found: &["warning writer_logins app", "warning writer_logins app"],
    },
    Case {
        // Through another role.
        done: "GRANT audit_writer TO team; GRANT team TO somebody; GRANT audit_operator TO somebody",
        undone: By("REVOKE audit_writer FROM team; REVOKE team FROM somebody; REVOKE audit_operator FROM somebody"),
        found: &["warning writer_logins somebody"],
    },
    Case {
        // From Postgres 16 on, existing members keep inheriting: there it is reported for each
        // membership.
        done: "DO $$ BEGIN
            IF current_setting('server_version_num')::int < 160000 THEN
                ALTER ROLE app NOINHERIT;
            ELSE
                EXECUTE 'GRANT audit_writer TO app WITH INHERIT FALSE';
            END IF; END $$",
        undone: AsAdvised,
        found: &["warning writer_logins app"],
    },
    Case {
        done: "DO $$ BEGIN
            IF current_setting('server_version_num')::int < 160000 THEN
                ALTER ROLE audit_maintainer NOINHERIT;
            ELSE
                EXECUTE 'GRANT audit_owner TO audit_maintainer WITH INHERIT FALSE';
            END IF; END $$",
        undone: AsAdvised,
        found: &["problem closed_roles audit_maintainer"],
    },
    Case {
        // It remains a member.
        done: "GRANT audit_reader, audit_operator TO \"Some Body\" WITH ADMIN OPTION",
        undone: AsAdvised,
        found: &["warning bypass Some Body"],
    },
    Case {
        done: "GRANT pg_read_all_data, pg_write_all_data TO somebody",
        undone: AsAdvised,
        found: &["warning bypass pg_read_all_data", "warning bypass pg_write_all_data"],
    },
    Case {
        done: "GRANT pg_execute_server_program, pg_read_server_files, pg_write_server_files TO team; GRANT team TO somebody",
        undone: By("REVOKE pg_execute_server_program, pg_read_server_files, pg_write_server_files FROM team; REVOKE team FROM somebody"),
        found: &["warning bypass pg_execute_server_program", "warning bypass pg_read_server_files", "warning bypass pg_write_server_files"],
    },
    Case {
        done: "CREATE ROLE actor; GRANT actor TO app; ALTER ROLE app SET role = actor",
        undone: AsAdvised,
        found: &["problem role_settings role app"],
    },
    Case {
        done: "ALTER ROLE app IN DATABASE audit SET role = actor",
        undone: AsAdvised,
        found: &["problem role_settings role app in database audit"],
    },
    Case {
        done: "ALTER ROLE app SET session_replication_role = replica",
        undone: AsAdvised,
        found: &["problem role_settings role app"],
    },
    Case {
        done: "ALTER ROLE app IN DATABASE audit SET synchronous_commit = off",
        undone: AsAdvised,
        found: &["warning role_settings role app in database audit"],
    },
    Case {
        done: "ALTER DATABASE audit SET row_security = off",
        undone: AsAdvised,
        found: &["warning role_settings database audit"],
    },
    Case {
        done: "ALTER DATABASE audit SET app.current_tenant = '00000000-0000-0000-0000-000000000001'",
        undone: AsAdvised,
        found: &["warning role_settings database audit"],
    },
    Case {
        done: "ALTER ROLE app SET search_path = public, pg_catalog; ALTER ROLE app SET default_transaction_read_only = on",
        undone: AsAdvised,
        found: &["problem role_settings role app", "warning role_settings role app"],
    },
    Case {
        done: "ALTER DATABASE audit SET row_security = 'f'; ALTER ROLE app SET default_transaction_read_only = 't'",
        undone: AsAdvised,
        found: &["warning role_settings database audit", "warning role_settings role app"],
    },
    Case {
        done: "ALTER ROLE app VALID UNTIL '2020-01-01'",
        undone: AsAdvised,
        found: &["problem logins app"],
    },
    Case {
        done: "REVOKE CONNECT ON DATABASE audit FROM PUBLIC",
        undone: AsAdvised,
        found: &["problem logins app"],
    },
    Case {
        // Common settings of hosts, which are no fault.
        done: "ALTER ROLE app SET search_path = app, public; ALTER ROLE app SET synchronous_commit = remote_write;
            ALTER ROLE somebody SET app.current_tenant = '00000000-0000-0000-0000-000000000001'",
        undone: By("ALTER ROLE app RESET ALL; ALTER ROLE somebody RESET ALL"),
        found: &[],
    },
];

const RIGHTS: &[Case] = &[
    Case {
        done: "ALTER TABLE audit.batches OWNER TO somebody; ALTER TABLE audit_parts.events_default OWNER TO somebody;
            ALTER VIEW audit.trail OWNER TO somebody; ALTER SCHEMA audit_parts OWNER TO somebody;
            ALTER TYPE audit.run_status OWNER TO somebody; ALTER FUNCTION audit.id_at(timestamptz) OWNER TO somebody",
        // The advice about unread tables is not a statement.
        undone: By("ALTER TABLE audit.batches OWNER TO audit_owner; ALTER TABLE audit_parts.events_default OWNER TO audit_owner;
            ALTER VIEW audit.trail OWNER TO audit_owner; ALTER SCHEMA audit_parts OWNER TO audit_owner;
            ALTER TYPE audit.run_status OWNER TO audit_owner; ALTER FUNCTION audit.id_at(timestamptz) OWNER TO audit_maintainer"),
        found: &[
            "problem owners audit.batches",
            "problem owners audit.id_at(timestamp with time zone)",
            "problem owners audit.run_status",
            "problem owners audit.trail",
            "problem owners audit_parts",
            "problem owners audit_parts.events_default",
            // Tables that may belong to somebody else are not read.
            "warning batch_rows audit.batches",
            "warning batches audit.batches",
            "warning dead_letters audit.dead_letters",
            "warning schema_version audit.schema_migrations",
        ],
    },
    Case {
        done: "GRANT SELECT, UPDATE ON audit.events TO somebody",
        undone: AsAdvised,
        found: &["problem privileges audit.events"],
    },
    Case {
        done: "GRANT SELECT ON audit_parts.events_default TO PUBLIC",
        undone: AsAdvised,
        found: &["problem privileges audit_parts.events_default"],
    },
    Case {
        done: "GRANT ALL ON ALL TABLES IN SCHEMA audit TO \"Some Body\"; REVOKE ALL ON audit.trail, audit.query_runs, audit.prompt_runs,
            audit.events, audit.activities, audit.writers, audit.dead_letters, audit.removals, audit.legal_holds, audit.legal_hold_lifts, audit.settings,
            audit.partition_lock, audit.schema_migrations FROM \"Some Body\"",
        undone: AsAdvised,
        found: &["problem privileges audit.batches"],
    },
    Case {
        done: "GRANT SELECT ON audit.events TO audit_reader WITH GRANT OPTION; SET ROLE audit_reader;
            GRANT SELECT ON audit.events TO somebody; RESET ROLE",
        // Also from the role it was passed on to.
        undone: AsAdvised,
        found: &["problem privileges audit.events", "problem privileges audit.events"],
    },
    Case {
        done: "REVOKE SELECT ON audit.trail FROM audit_reader",
        undone: AsAdvised,
        found: &["problem privileges audit.trail"],
    },
    Case {
        done: "REVOKE INSERT ON audit_parts.events_default FROM audit_writer",
        undone: AsAdvised,
        found: &["problem privileges audit_parts.events_default"],
    },
    Case {
        done: "REVOKE SELECT ON audit.legal_holds FROM audit_owner",
        undone: AsAdvised,
        found: &["problem privileges audit.legal_holds"],
    },
    Case {
        // For a host's foreign keys.
        done: "GRANT REFERENCES ON audit.query_runs TO somebody; GRANT REFERENCES (id) ON audit.events TO somebody",
        undone: By("REVOKE REFERENCES ON audit.query_runs, audit.events FROM somebody"),
        found: &[],
    },
    Case {
        done: "GRANT USAGE ON SCHEMA audit_parts TO audit_reader; GRANT CREATE ON SCHEMA audit TO PUBLIC; GRANT USAGE ON SCHEMA audit_guard TO somebody",
        undone: AsAdvised,
        found: &["problem privileges audit", "problem privileges audit_guard", "problem privileges audit_parts"],
    },
    Case {
        done: "REVOKE USAGE ON SCHEMA audit FROM audit_writer",
        undone: AsAdvised,
        found: &["problem privileges audit"],
    },
    Case {
        done: "GRANT EXECUTE ON FUNCTION audit.append_event(text, text, text, text, text, uuid, jsonb) TO audit_reader;
            GRANT EXECUTE ON FUNCTION audit.lift_hold(uuid, text) TO audit_operator",
        undone: AsAdvised,
        found: &["problem privileges audit.append_event(text,text,text,text,text,uuid,jsonb)", "problem privileges audit.lift_hold(uuid,text)"],
    },
    Case {
        done: "REVOKE EXECUTE ON FUNCTION audit.writer_position(uuid) FROM audit_writer; REVOKE EXECUTE ON FUNCTION audit.tenant_uuid(text) FROM PUBLIC",
        undone: AsAdvised,
        found: &["problem privileges audit.tenant_uuid(text)", "problem privileges audit.writer_position(uuid)"],
    },
    Case {
        done: "REVOKE USAGE ON TYPE audit.run_status FROM PUBLIC",
        undone: AsAdvised,
        found: &["problem privileges audit.run_status"],
    },
    Case {
        done: "GRANT SELECT (user_id), UPDATE (status) ON audit.events TO somebody",
        undone: AsAdvised,
        found: &["problem privileges audit.events"],
    },
    Case {
        done: "GRANT UPDATE (success) ON audit.schema_migrations TO audit_writer",
        undone: By("REVOKE UPDATE (success) ON audit.schema_migrations FROM audit_writer"),
        found: &["problem privileges audit.schema_migrations"],
    },
    Case {
        done: "REVOKE SELECT (version) ON audit.schema_migrations FROM audit_writer",
        undone: AsAdvised,
        found: &["problem privileges audit.schema_migrations"],
    },
    Case {
        done: "GRANT INSERT ON audit.schema_migrations TO somebody",
        undone: AsAdvised,
        found: &["problem privileges audit.schema_migrations"],
    },
    Case {
        done: "ALTER DEFAULT PRIVILEGES IN SCHEMA audit_parts GRANT SELECT ON TABLES TO PUBLIC",
        undone: AsAdvised,
        found: &["problem default_privileges audit_parts"],
    },
    Case {
        done: "ALTER DEFAULT PRIVILEGES FOR ROLE audit_maintainer GRANT SELECT, INSERT ON TABLES TO \"Some Body\"",
        undone: AsAdvised,
        found: &["problem default_privileges audit_maintainer"],
    },
];

/// Names that look like something else.
const NAMES: &[Case] = &[
    Case {
        done: "CREATE ROLE \"(owner)\"; GRANT SELECT, UPDATE ON audit.query_runs TO \"(owner)\"; CREATE ROLE \"PUBLIC\"; GRANT EXECUTE ON FUNCTION audit.tenant_uuid(text) TO \"PUBLIC\"",
        undone: Then("DROP ROLE \"(owner)\", \"PUBLIC\""),
        found: &[
            "problem privileges audit.query_runs",
            "problem privileges audit.tenant_uuid(text)",
        ],
    },
    Case {
        done: "CREATE ROLE \"evil REFERENCES (\"; GRANT SELECT ON audit_parts.events_MONTH TO \"evil REFERENCES (\"",
        undone: Then("DROP ROLE \"evil REFERENCES (\""),
        found: &["problem privileges audit_parts.events_MONTH"],
    },
    Case {
        // The rights that foreign keys need.
        done: "GRANT USAGE ON SCHEMA audit TO somebody; GRANT REFERENCES ON audit.query_runs TO somebody",
        undone: By(
            "REVOKE USAGE ON SCHEMA audit FROM somebody; REVOKE REFERENCES ON audit.query_runs FROM somebody",
        ),
        found: &[],
    },
    Case {
        done: "GRANT SET ON PARAMETER session_replication_role TO somebody; GRANT UPDATE ON pg_trigger TO somebody; GRANT SELECT ON pg_statistic TO somebody",
        undone: AsAdvised,
        found: &[
            "warning bypass somebody",
            "warning bypass somebody",
            "warning bypass somebody",
        ],
    },
    Case {
        done: "ALTER DATABASE audit SET synchronous_commit = 'false'; ALTER DATABASE audit CONNECTION LIMIT 0",
        undone: AsAdvised,
        found: &[
            "problem logins database audit",
            "warning role_settings database audit",
        ],
    },
];

/// What was renamed gets its name back, and nothing is created in its place.
const RENAMED: &[Case] = &[
    Case {
        done: "ALTER SCHEMA audit RENAME TO other",
        undone: AsAdvised,
        found: &["problem tables audit"],
    },
    Case {
        done: "ALTER SCHEMA audit_parts RENAME TO other; ALTER SCHEMA audit_guard RENAME TO \"Other\"",
        undone: AsAdvised,
        found: &["problem tables audit_guard", "problem tables audit_parts"],
    },
    Case {
        done: "ALTER TABLE audit.writers RENAME TO t; ALTER TABLE audit.batches RENAME TO writers; ALTER TABLE audit.t RENAME TO batches",
        undone: AsAdvised,
        found: &["problem tables audit.batches"],
    },
    Case {
        done: "ALTER TABLE audit.query_runs RENAME TO t; ALTER TABLE audit.prompt_runs RENAME TO query_runs; ALTER TABLE audit.t RENAME TO prompt_runs",
        undone: AsAdvised,
        found: &["problem tables audit.prompt_runs"],
    },
    Case {
        done: "ALTER TABLE audit.batches SET SCHEMA public; ALTER TABLE public.batches OWNER TO postgres",
        undone: Twice,
        found: &["problem tables audit.batches"],
    },
    Case {
        // An empty copy in its place.
        done: "ALTER TABLE audit.batches RENAME TO batches_old; CREATE TABLE audit.batches (LIKE audit.batches_old INCLUDING ALL)",
        undone: Then("DROP TABLE audit.batches_of_somebody_else"),
        found: &["problem tables audit.batches"],
    },
    Case {
        done: "ALTER TABLE audit.batches RENAME CONSTRAINT batches_pkey TO foo; ALTER TRIGGER append_only ON audit.events RENAME TO bar;
            ALTER POLICY tenant ON audit.events RENAME TO baz",
        undone: AsAdvised,
        found: &["problem constraints audit.batches", "problem policies audit.events", "problem triggers audit.events"],
    },
    Case {
        // Every trigger calls it.
        done: "ALTER FUNCTION audit.refuse_change() RENAME TO accept_change",
        undone: AsAdvised,
        found: &["problem functions audit.refuse_change()"],
    },
    Case {
        // With a dependent view.
        done: "CREATE VIEW public.report WITH (security_invoker = true) AS SELECT count(*) FROM audit.trail;
            ALTER VIEW audit.trail RENAME COLUMN request_id TO r; ALTER VIEW audit.trail RENAME COLUMN user_id TO request_id",
        undone: AsAdvised,
        found: &["problem view audit.trail"],
    },
    Case {
        done: "ALTER VIEW audit.trail RENAME TO trail2",
        undone: Then("DROP VIEW public.report"),
        found: &["problem view audit.trail"],
    },
    Case {
        // Beside a dropped column.
        done: "ALTER TABLE audit.events ADD z int; ALTER TABLE audit.events ADD y int; ALTER TABLE audit.events DROP z;
            ALTER TABLE audit.events RENAME user_role TO role2",
        undone: Twice,
        found: &["problem columns audit.events", "warning columns audit.events.y"],
    },
    Case {
        // In only one partition.
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_NEXT; ALTER TABLE audit_parts.events_NEXT RENAME agent_id TO x;
            ALTER TABLE audit_parts.events_NEXT RENAME parent_id TO agent_id; ALTER TABLE audit_parts.events_NEXT RENAME x TO parent_id;
            DO $do$ BEGIN EXECUTE format('ALTER TABLE audit.events ATTACH PARTITION audit_parts.events_NEXT FOR VALUES FROM (%L) TO (%L)',
                audit.id_at(date_trunc('month', now()) + interval '1 month'), audit.id_at(date_trunc('month', now()) + interval '2 months')); END $do$",
        undone: AsAdvised,
        found: &["problem columns audit_parts.events_NEXT"],
    },
    Case {
        done: "ALTER TYPE audit.run_status RENAME VALUE 'cancelled' TO 'x'; ALTER TYPE audit.run_status RENAME VALUE 'failed' TO 'cancelled';
            ALTER TYPE audit.run_status RENAME VALUE 'x' TO 'failed'",
        undone: AsAdvised,
        found: &["problem columns audit.run_status"],
    },
    Case {
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_default; ALTER TABLE audit_parts.events_default RENAME TO old",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.old"],
    },
    Case {
        // Recognized by the check of its month.
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_MONTH; ALTER TABLE audit_parts.events_MONTH SET SCHEMA public;
            ALTER TABLE public.events_MONTH RENAME TO foo; ALTER TABLE public.foo OWNER TO postgres",
        undone: Twice,
        found: &["problem partitions public.foo"],
    },
    Case {
        // Somebody's own tables.
        done: "CREATE TABLE public.events_MONTH (id int); CREATE TABLE public.copy AS SELECT * FROM audit.events; CREATE TABLE public.events_NEXT (LIKE audit.events INCLUDING ALL)",
        undone: By("DROP TABLE public.events_MONTH, public.copy, public.events_NEXT"),
        found: &[],
    },
    Case {
        // Anybody may create a table that looks like a detached partition; nobody should be advised
        // to attach it.
        done: "CREATE TABLE public.events_2020_01 (LIKE audit_parts.events_MONTH INCLUDING ALL); ALTER TABLE public.events_2020_01 OWNER TO somebody;
            ALTER TABLE public.events_2020_01 RENAME CONSTRAINT events_MONTH_month TO events_2020_01_month",
        undone: By("DROP TABLE public.events_2020_01"),
        found: &[],
    },
    Case {
        // Recreated in its place.
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_NEXT; ALTER TABLE audit_parts.events_NEXT SET SCHEMA public;
            SELECT audit.ensure_partition('events', now() + interval '1 month')",
        undone: By("DROP TABLE public.events_NEXT"),
        found: &["problem partitions public.events_NEXT"],
    },
    Case {
        done: "CREATE TABLE audit_parts.events_9999_12 (id int)",
        undone: Then("DROP TABLE public.events_9999_12"),
        found: &["problem partitions audit_parts.events_9999_12"],
    },
];

/// What else a superuser can do to the catalog.
const HIDDEN: &[Case] = &[
    Case {
        done: "UPDATE pg_class SET relhastriggers = false, relchecks = 0 WHERE oid = 'audit.batches'::regclass",
        undone: AsAdvised,
        found: &["problem triggers audit.batches", "problem triggers audit.batches"],
    },
    Case {
        // They are no longer dumped.
        done: "ALTER EXTENSION plpgsql ADD TABLE audit.batches; ALTER EXTENSION plpgsql ADD FUNCTION audit.refuse_change();
            ALTER TRIGGER append_only ON audit.events DEPENDS ON EXTENSION plpgsql",
        undone: AsAdvised,
        found: &["problem tables append_only on audit.events", "problem tables audit.batches", "problem tables audit.refuse_change()"],
    },
    Case {
        // A whole-row reference.
        done: "CREATE VIEW public.leak AS SELECT to_jsonb(e) FROM audit.events e;
            CREATE FUNCTION public.leak() RETURNS bigint LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT count(*) FROM audit.events; END",
        undone: Then("DROP VIEW public.leak; DROP FUNCTION public.leak()"),
        found: &["warning leaks public.leak", "warning leaks public.leak()"],
    },
    Case {
        done: "CREATE FUNCTION public.compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
            CREATE OPERATOR CLASS public.mine FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 public.compare(int, int);
            CREATE INDEX ON audit.batches (dead_letters public.mine); CREATE INDEX ON audit.query_runs (sql_text)",
        undone: Then("DROP OPERATOR FAMILY public.mine USING btree CASCADE; DROP FUNCTION public.compare(int, int)"),
        found: &["problem indexes audit.batches", "warning indexes audit.query_runs"],
    },
    Case {
        // An operator's own indexes and settings.
        done: "CREATE INDEX mine ON audit.query_runs USING brin (started_at) WITH (pages_per_range = 16); CREATE INDEX yours ON audit.events (created_at) WHERE status = 'failed';
            ALTER TABLE audit.batches SET (autovacuum_enabled = false)",
        undone: By("DROP INDEX audit.mine, audit.yours; ALTER TABLE audit.batches RESET (autovacuum_enabled)"),
        found: &[],
    },
];

const GUARDS: &[Case] = &[
    Case {
        done: "ALTER TABLE audit.events NO FORCE ROW LEVEL SECURITY; ALTER TABLE audit.batches DISABLE ROW LEVEL SECURITY",
        undone: AsAdvised,
        found: &["problem row_security audit.batches", "problem row_security audit.events"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_default ENABLE ROW LEVEL SECURITY",
        undone: AsAdvised,
        found: &["problem row_security audit_parts.events_default"],
    },
    Case {
        done: "CREATE POLICY \"All\" ON audit.events FOR SELECT USING (true)",
        undone: AsAdvised,
        found: &["problem policies audit.events"],
    },
    Case {
        done: "CREATE POLICY none ON audit.batches AS RESTRICTIVE USING (false)",
        undone: AsAdvised,
        found: &["problem policies audit.batches"],
    },
    Case {
        done: "DROP POLICY tenant ON audit.events; DROP POLICY adding ON audit.batches",
        undone: AsAdvised,
        found: &["problem policies audit.batches", "problem policies audit.events"],
    },
    Case {
        done: "ALTER POLICY tenant ON audit.query_runs USING (tenant_id IS NOT NULL)",
        undone: AsAdvised,
        found: &["problem policies audit.query_runs"],
    },
    Case {
        done: "ALTER POLICY auditor ON audit.query_runs TO audit_auditor, somebody; ALTER POLICY maintainer ON audit.removals TO PUBLIC",
        undone: AsAdvised,
        found: &["problem policies audit.query_runs", "problem policies audit.removals"],
    },
    Case {
        done: "ALTER TABLE audit.events DISABLE TRIGGER append_only; ALTER TABLE audit.batches ENABLE TRIGGER append_only_rows",
        undone: AsAdvised,
        found: &["problem triggers audit.batches", "problem triggers audit.events"],
    },
    Case {
        done: "DROP TRIGGER append_only ON audit_parts.events_default; DROP TRIGGER append_only_rows ON audit_parts.events_default",
        undone: AsAdvised,
        found: &["problem triggers audit_parts.events_default", "problem triggers audit_parts.events_default"],
    },
    Case {
        // It exists, but for one column only.
        done: "DROP TRIGGER append_only_rows ON audit.batches;
            CREATE TRIGGER append_only_rows BEFORE UPDATE OF service_name OR DELETE ON audit.batches
            FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
            ALTER TABLE audit.batches ENABLE ALWAYS TRIGGER append_only_rows",
        undone: AsAdvised,
        found: &["problem triggers audit.batches"],
    },
    Case {
        done: "CREATE TRIGGER swallow BEFORE INSERT ON audit_parts.events_default FOR EACH ROW EXECUTE FUNCTION public.swallow()",
        undone: AsAdvised,
        found: &["problem triggers audit_parts.events_default"],
    },
    Case {
        done: "ALTER TABLE audit.legal_holds DISABLE TRIGGER ALL",
        undone: AsAdvised,
        found: &[
            "problem triggers audit.legal_holds",
            "problem triggers audit.legal_holds",
            "warning triggers audit.legal_holds",
        ],
    },
    Case {
        done: "CREATE RULE swallow AS ON INSERT TO audit_parts.events_default DO INSTEAD NOTHING",
        undone: AsAdvised,
        found: &["problem rules audit_parts.events_default"],
    },
    Case {
        done: "ALTER EVENT TRIGGER audit_refuse_ddl DISABLE; ALTER EVENT TRIGGER audit_refuse_drop ENABLE REPLICA",
        undone: AsAdvised,
        found: &["problem event_triggers audit_refuse_ddl", "problem event_triggers audit_refuse_drop"],
    },
    Case {
        done: "DROP EVENT TRIGGER audit_refuse_ddl",
        undone: AsAdvised,
        found: &["problem event_triggers audit_refuse_ddl"],
    },
    Case {
        // It calls another function, and only for some statements.
        done: "DROP EVENT TRIGGER audit_refuse_ddl; DROP EVENT TRIGGER audit_refuse_drop;
            CREATE EVENT TRIGGER audit_refuse_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION audit_guard.refuse_ddl();
            CREATE EVENT TRIGGER audit_refuse_drop ON sql_drop EXECUTE FUNCTION public.nothing();
            ALTER EVENT TRIGGER audit_refuse_ddl ENABLE ALWAYS; ALTER EVENT TRIGGER audit_refuse_drop ENABLE ALWAYS",
        undone: AsAdvised,
        found: &["problem event_triggers audit_refuse_ddl", "problem event_triggers audit_refuse_drop"],
    },
    Case {
        done: "DROP SCHEMA audit_guard CASCADE",
        undone: AsAdvised,
        found: &["warning event_triggers audit_guard"],
    },
    Case {
        // Its function would run as whoever alters something next.
        done: "ALTER SCHEMA audit_guard OWNER TO somebody; ALTER FUNCTION audit_guard.refuse_ddl() OWNER TO somebody;
            ALTER ROLE somebody SUPERUSER; ALTER EVENT TRIGGER audit_refuse_ddl OWNER TO somebody; ALTER ROLE somebody NOSUPERUSER",
        undone: AsAdvised,
        found: &["problem owners audit_guard", "problem owners audit_guard.refuse_ddl()", "problem owners audit_refuse_ddl"],
    },
    Case {
        done: "ALTER VIEW audit.trail SET (security_invoker = 'TRUE')",
        undone: By("ALTER VIEW audit.trail SET (security_invoker = true)"),
        found: &[],
    },
    Case {
        done: "ALTER VIEW audit.trail RENAME COLUMN user_id TO x; ALTER VIEW audit.trail RENAME COLUMN user_role TO user_id;
            ALTER VIEW audit.trail RENAME COLUMN x TO user_role",
        undone: AsAdvised,
        found: &["problem view audit.trail"],
    },
    Case {
        done: "DO $do$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW audit.trail WITH (security_invoker = true) AS '
            || replace(pg_get_viewdef('audit.trail'::regclass), '''audit.query_run''', '''Audit.query_run'''); END $do$",
        undone: AsAdvised,
        found: &["problem view audit.trail"],
    },
    Case {
        done: "ALTER VIEW audit.trail RESET (security_invoker)",
        undone: AsAdvised,
        found: &["problem view audit.trail"],
    },
    Case {
        done: "DROP VIEW audit.trail",
        undone: AsAdvised,
        found: &["problem view audit.trail"],
    },
    Case {
        done: "DO $do$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW audit.trail WITH (security_invoker = true) AS SELECT * FROM ('
            || rtrim(pg_get_viewdef('audit.trail'::regclass), ';') || ') t WHERE user_id <> ''mallory'''; END $do$",
        undone: AsAdvised,
        found: &["problem view audit.trail"],
    },
    Case {
        done: "CREATE VIEW public.leak AS SELECT user_id FROM audit.events; CREATE MATERIALIZED VIEW public.copy AS SELECT user_id FROM audit.trail",
        undone: By("DROP VIEW public.leak; DROP MATERIALIZED VIEW public.copy"),
        found: &["warning leaks public.copy", "warning leaks public.leak"],
    },
    Case {
        // It reads with the rights of the reader, not of its creator.
        done: "CREATE VIEW public.fine WITH (security_invoker = true) AS SELECT user_id FROM audit.events",
        undone: By("DROP VIEW public.fine"),
        found: &[],
    },
    Case {
        // Counts and names, but no value of a record.
        done: "CREATE VIEW public.counts AS SELECT count(*), 'audit.events'::regclass FROM audit.events;
            CREATE VIEW public.version AS SELECT version FROM audit.schema_migrations",
        undone: By("DROP VIEW public.counts, public.version"),
        found: &[],
    },
    Case {
        // A copy of what one tenant's reader sees, for anyone who may read the copy; and a view on
        // a view that is itself safe.
        done: "CREATE VIEW public.fine WITH (security_invoker = 'TRUE') AS SELECT user_id FROM audit.events;
            CREATE MATERIALIZED VIEW public.copy AS SELECT user_id FROM public.fine; ALTER MATERIALIZED VIEW public.copy OWNER TO somebody;
            CREATE VIEW public.outer AS SELECT user_id FROM public.fine",
        undone: By("DROP MATERIALIZED VIEW public.copy; DROP VIEW public.outer; DROP VIEW public.fine"),
        found: &["warning leaks public.\"outer\"", "warning leaks public.copy"],
    },
    Case {
        // An extension is one finding, whatever it brought; and what only names a schema is not
        // part of it.
        done: "CREATE EXTENSION citext SCHEMA audit; CREATE EXTENSION hstore SCHEMA audit_parts;
            CREATE VIEW public.monitor AS SELECT count(*) FROM pg_class WHERE relnamespace = 'audit'::regnamespace;
            CREATE TABLE public.named (n regnamespace DEFAULT 'audit'::regnamespace CHECK (n <> 'audit_parts'::regnamespace))",
        undone: Then("DROP EXTENSION citext; DROP EXTENSION hstore; DROP VIEW public.monitor; DROP TABLE public.named"),
        found: &["problem tables citext", "problem tables hstore"],
    },
    Case {
        // The guard refuses it.
        done: "CREATE TYPE public.trap AS ENUM ('x'); CREATE FUNCTION public.spring(public.trap) RETURNS uuid LANGUAGE sql RETURN NULL::uuid;
            CREATE CAST (public.trap AS uuid) WITH FUNCTION public.spring(public.trap) AS IMPLICIT; ALTER EVENT TRIGGER audit_refuse_ddl DISABLE;
            CREATE TABLE public.feedback (run public.trap REFERENCES audit.query_runs (id)); ALTER EVENT TRIGGER audit_refuse_ddl ENABLE ALWAYS",
        undone: Then("DROP TABLE public.feedback; DROP TYPE public.trap CASCADE"),
        found: &["problem leaks foreign key feedback_run_fkey of public.feedback"],
    },
    Case {
        done: "CREATE PUBLICATION leak FOR TABLE audit.batches, audit.events",
        undone: Then("DROP PUBLICATION leak"),
        found: &["warning leaks publication leak"],
    },
    Case {
        done: "CREATE PUBLICATION leak FOR TABLES IN SCHEMA audit",
        undone: By("DROP PUBLICATION leak"),
        found: &["warning leaks publication leak"],
    },
];

/// Where a table lies, and by which access method.
const STORAGE: &[Case] = &[
    Case {
        done: "CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler; ALTER TABLE audit_parts.events_NEXT SET ACCESS METHOD heap2",
        undone: Then("DROP ACCESS METHOD heap2"),
        found: &["warning tables audit_parts.events_NEXT"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_NEXT SET TABLESPACE fast; ALTER INDEX audit_parts.events_NEXT_pkey SET TABLESPACE fast",
        undone: AsAdvised,
        found: &[
            "warning tables audit_parts.events_NEXT",
            "warning tables audit_parts.events_NEXT",
        ],
    },
    Case {
        // Nobody logs in as a group.
        done: "ALTER ROLE team SET search_path = public, pg_catalog; ALTER ROLE audit_writer SET search_path = public, pg_catalog",
        undone: By("ALTER ROLE team RESET ALL; ALTER ROLE audit_writer RESET ALL"),
        found: &[],
    },
];

const FUNCTIONS: &[Case] = &[
    Case {
        done: "CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END'",
        undone: AsAdvised,
        found: &["problem functions audit.refuse_change()"],
    },
    Case {
        done: "CREATE OR REPLACE FUNCTION audit_guard.refuse_ddl() RETURNS event_trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS 'BEGIN END'",
        undone: AsAdvised,
        found: &["problem functions audit_guard.refuse_ddl()"],
    },
    Case {
        done: "CREATE OR REPLACE FUNCTION audit.current_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
            RETURN '00000000-0000-0000-0000-000000000001'::uuid",
        undone: AsAdvised,
        found: &["problem functions audit.current_tenant()"],
    },
    Case {
        done: "ALTER FUNCTION audit.ensure_partition(text, timestamptz) RESET search_path;
            ALTER FUNCTION audit.writer_position(uuid) SECURITY INVOKER; ALTER FUNCTION audit.id_at(timestamptz) SECURITY DEFINER;
            ALTER FUNCTION audit.record_reading(text, text, uuid) STRICT; ALTER FUNCTION audit.tenant_uuid(text) VOLATILE;
            ALTER FUNCTION audit.plan_retention(interval, text[]) SET search_path = public",
        undone: AsAdvised,
        found: &[
            "problem functions audit.ensure_partition(text,timestamp with time zone)",
            "problem functions audit.id_at(timestamp with time zone)",
            "problem functions audit.plan_retention(interval,text[])",
            "problem functions audit.record_reading(text,text,uuid)",
            "problem functions audit.tenant_uuid(text)",
            "problem functions audit.writer_position(uuid)",
        ],
    },
    Case {
        done: "ALTER FUNCTION audit.request_trail(text) RESET jit",
        undone: AsAdvised,
        found: &["problem functions audit.request_trail(text)"],
    },
    Case {
        // A hold would cover nothing.
        done: "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('audit.place_hold(text, uuid, timestamptz, timestamptz, text[], boolean)'::regprocedure),
            '''infinity''', '''1971-01-01'''); END $do$",
        undone: AsAdvised,
        found: &["problem functions audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean)"],
    },
    Case {
        done: "DO $do$ DECLARE old text := pg_get_functiondef('audit.lift_hold(uuid, text)'::regprocedure); BEGIN
            DROP FUNCTION audit.lift_hold(uuid, text); EXECUTE replace(old, ' text)', '_text text)'); END $do$;
            ALTER FUNCTION audit.lift_hold(uuid, text) OWNER TO audit_maintainer; REVOKE ALL ON FUNCTION audit.lift_hold(uuid, text) FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION audit.lift_hold(uuid, text) TO audit_auditor",
        undone: AsAdvised,
        found: &["problem functions audit.lift_hold(uuid,text)"],
    },
    Case {
        // Blanks and case.
        done: "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('audit.append_event(text, text, text, text, text, uuid, jsonb)'::regprocedure),
            '''postgres''', '''Postgres '''); END $do$",
        undone: AsAdvised,
        found: &["problem functions audit.append_event(text,text,text,text,text,uuid,jsonb)"],
    },
    Case {
        // It would keep running with the trail's rights.
        done: "ALTER FUNCTION audit.id_at(timestamptz) SET SCHEMA public",
        undone: AsAdvised,
        found: &["problem functions audit.id_at(timestamp with time zone)", "problem functions public.id_at(timestamp with time zone)"],
    },
    Case {
        done: "CREATE AGGREGATE audit.total(int) (SFUNC = int4pl, STYPE = int); CREATE OPERATOR audit.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat);
            CREATE COLLATION audit.mine FROM \"C\"; CREATE DOMAIN audit.text AS pg_catalog.text",
        undone: AsAdvised,
        found: &["problem tables audit.+(pg_catalog.text,pg_catalog.text)", "problem tables audit.mine", "problem tables audit.text", "problem tables audit.total(integer)"],
    },
    Case {
        done: "DROP FUNCTION audit.record_reading(text, text, uuid)",
        undone: AsAdvised,
        found: &["problem functions audit.record_reading(text,text,uuid)"],
    },
    Case {
        done: "CREATE FUNCTION audit.all_rows() RETURNS SETOF audit.events LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM audit.events'",
        undone: AsAdvised,
        found: &["problem functions audit.all_rows()"],
    },
    Case {
        // It would be called instead of ours.
        done: "CREATE FUNCTION audit.tenant_uuid(tenant_key varchar) RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        undone: AsAdvised,
        found: &["problem functions audit.tenant_uuid(character varying)"],
    },
];

const TABLES: &[Case] = &[
    Case {
        done: "ALTER TABLE audit.dead_letters SET UNLOGGED; ALTER TABLE audit_parts.events_default SET UNLOGGED",
        undone: AsAdvised,
        found: &[
            "problem tables audit.dead_letters",
            "problem tables audit_parts.events_default",
        ],
    },
    Case {
        done: "CREATE TABLE audit.mine (); CREATE VIEW audit.yours AS SELECT 1 AS one; CREATE SEQUENCE audit.theirs",
        undone: By("DROP TABLE audit.mine; DROP VIEW audit.yours; DROP SEQUENCE audit.theirs"),
        found: &[
            "problem tables audit.mine",
            "problem tables audit.theirs",
            "problem tables audit.yours",
        ],
    },
    Case {
        // Rows that nobody wrote show up in ours.
        done: "CREATE TABLE public.evil (LIKE audit.batches INCLUDING ALL); ALTER TABLE public.evil INHERIT audit.batches",
        undone: By("DROP TABLE public.evil"),
        found: &["problem tables public.evil"],
    },
    Case {
        done: "CREATE TABLE public.evil PARTITION OF audit.events FOR VALUES FROM ('00000000-0000-0000-0000-000000000000') TO ('00000000-0001-0000-0000-000000000000')",
        undone: By("DROP TABLE public.evil"),
        found: &["problem tables public.evil"],
    },
    Case {
        done: "ALTER TABLE audit.dead_letters RENAME TO lost",
        undone: AsAdvised,
        found: &["problem tables audit.dead_letters"],
    },
    Case {
        done: "ALTER TABLE audit.settings ADD COLUMN demanded int NOT NULL, ADD COLUMN harmless int",
        // The advice first makes the trail writable, then drops the column.
        undone: Twice,
        found: &[
            "problem columns audit.settings.demanded",
            "warning columns audit.settings.harmless",
        ],
    },
    Case {
        done: "ALTER TABLE audit.batches ALTER COLUMN committed_at DROP DEFAULT, ALTER COLUMN first_id SET NOT NULL;
            ALTER TABLE audit.dead_letters DROP COLUMN record_id, ALTER COLUMN reason TYPE varchar",
        undone: AsAdvised,
        found: &[
            "problem columns audit.batches.committed_at",
            "problem columns audit.batches.first_id",
            "problem columns audit.dead_letters.reason",
            "problem columns audit.dead_letters.record_id",
        ],
    },
    Case {
        done: "ALTER TABLE audit.dead_letters SET SCHEMA public",
        undone: AsAdvised,
        found: &["problem tables audit.dead_letters"],
    },
    Case {
        // Each has the other's values.
        done: "ALTER TABLE audit.events RENAME COLUMN user_id TO x; ALTER TABLE audit.events RENAME COLUMN user_role TO user_id;
            ALTER TABLE audit.events RENAME COLUMN x TO user_role",
        undone: AsAdvised,
        found: &["problem columns audit.events"],
    },
    Case {
        // Another column has taken its place.
        done: "ALTER TABLE audit.writers RENAME COLUMN service_name TO hidden; ALTER TABLE audit.writers ADD COLUMN service_name text",
        undone: Twice,
        found: &["problem columns audit.writers"],
    },
    Case {
        done: "ALTER TABLE audit.legal_hold_lifts ALTER CONSTRAINT legal_hold_lifts_hold_id_fkey DEFERRABLE INITIALLY DEFERRED;
            ALTER TABLE audit.batches ALTER COLUMN service_name TYPE text COLLATE \"C\"",
        undone: AsAdvised,
        found: &["problem columns audit.batches.service_name", "problem constraints audit.legal_hold_lifts"],
    },
    Case {
        done: "CREATE FUNCTION public.lie(audit.run_status) RETURNS text LANGUAGE sql AS $$SELECT 'succeeded'$$;
            CREATE CAST (audit.run_status AS text) WITH FUNCTION public.lie(audit.run_status) AS IMPLICIT",
        undone: Then("DROP FUNCTION public.lie(audit.run_status)"),
        found: &["problem columns audit.run_status"],
    },
    Case {
        done: "CREATE INDEX ON audit_parts.events_default (lower(user_id)); CREATE INDEX ON audit.batches (committed_at) WHERE dead_letters > 0;
            CREATE INDEX mine ON audit.batches (service_name)",
        undone: By("DROP INDEX audit.mine, audit.batches_committed_at_idx1, audit_parts.events_default_lower_idx"),
        found: &["problem indexes audit_parts.events_default", "warning indexes audit.batches"],
    },
    Case {
        // Stored statistics stay.
        done: "ALTER TABLE audit_parts.events_default ALTER COLUMN user_id SET STATISTICS 100;
            INSERT INTO audit_parts.events_default (id, created_at, status, writer_id, seq, salt, user_id)
                SELECT audit.id_at('2100-01-05Z'), '2100-01-05Z', 'succeeded', gen_random_uuid(), 1, '', 'alice';
            ANALYZE audit_parts.events_default; ALTER TABLE audit_parts.events_default ALTER COLUMN user_id SET STATISTICS 0;
            ALTER TABLE audit_parts.events_default DISABLE TRIGGER USER; TRUNCATE audit_parts.events_default;
            ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only; ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only_rows",
        undone: AsAdvised,
        found: &["problem statistics audit_parts.events_default"],
    },
    Case {
        // In one partition only.
        done: "ALTER TABLE audit_parts.events_default ALTER COLUMN user_id SET NOT NULL, ALTER COLUMN problems SET DEFAULT '{forged}'",
        undone: AsAdvised,
        found: &[
            "problem columns audit_parts.events_default.problems",
            "problem columns audit_parts.events_default.user_id",
        ],
    },
    Case {
        done: "ALTER TYPE audit.run_status RENAME VALUE 'failed' TO 'fine'",
        undone: AsAdvised,
        found: &["problem columns audit.run_status"],
    },
    Case {
        done: "ALTER TABLE audit.events ADD CONSTRAINT refusing CHECK (user_id <> 'mallory')",
        undone: AsAdvised,
        // Each partition inherits it: one cause.
        found: &["problem constraints audit.events"],
    },
    Case {
        done: "ALTER TABLE audit.legal_holds DROP CONSTRAINT legal_holds_check; ALTER TABLE audit.legal_hold_lifts DROP CONSTRAINT legal_hold_lifts_hold_id_fkey",
        undone: AsAdvised,
        found: &[
            "problem constraints audit.legal_hold_lifts",
            "problem constraints audit.legal_holds",
        ],
    },
    Case {
        done: "CREATE UNIQUE INDEX refusing ON audit_parts.events_default (user_id)",
        undone: AsAdvised,
        found: &["problem indexes audit_parts.events_default"],
    },
    Case {
        done: "DROP INDEX audit.batches_committed_at_idx; ALTER TABLE audit.dead_letters DROP CONSTRAINT dead_letters_pkey",
        undone: AsAdvised,
        found: &[
            "problem constraints audit.dead_letters",
            "warning indexes audit.batches",
        ],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_default ALTER COLUMN user_id SET STATISTICS 100;
            CREATE STATISTICS public.pairs ON user_id, tenant_id FROM audit.events",
        undone: AsAdvised,
        found: &[
            "problem statistics audit.events",
            "problem statistics audit_parts.events_default",
        ],
    },
    Case {
        done: "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_parts.events_default_request_id_tenant_id_idx'::regclass",
        undone: AsAdvised,
        found: &["warning indexes audit_parts.events_default"],
    },
];

const PARTITIONS: &[Case] = &[
    Case {
        done: "DROP TABLE audit_parts.events_NEXT",
        undone: AsAdvised,
        found: &["warning partitions_ahead audit.events"],
    },
    Case {
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_MONTH",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.events_MONTH"],
    },
    Case {
        done: "CREATE TABLE audit_parts.mine ()",
        undone: By("DROP TABLE audit_parts.mine"),
        found: &["problem partitions audit_parts.mine"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_MONTH DROP CONSTRAINT events_MONTH_month",
        undone: AsAdvised,
        found: &["warning partitions audit_parts.events_MONTH"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_MONTH DROP CONSTRAINT events_MONTH_month, ADD CONSTRAINT events_MONTH_month CHECK (created_at < '1999-01-01Z') NOT VALID",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.events_MONTH"],
    },
    Case {
        // The ids of another month, according to its bound.
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_NEXT;
            ALTER TABLE audit.events ATTACH PARTITION audit_parts.events_NEXT FOR VALUES FROM ('00000000-0000-0000-0000-000000000000') TO ('00000000-0001-0000-0000-000000000000')",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.events_NEXT"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_NEXT RENAME TO odd",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.odd"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_MONTH SET SCHEMA public",
        undone: AsAdvised,
        found: &["problem partitions public.events_MONTH"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_MONTH SET SCHEMA public; ALTER TABLE public.events_MONTH RENAME TO \"Odd one\"",
        undone: AsAdvised,
        found: &["problem partitions public.\"Odd one\""],
    },
    Case {
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_MONTH; ALTER TABLE audit_parts.events_MONTH SET SCHEMA public",
        undone: AsAdvised,
        found: &["problem partitions public.events_MONTH"],
    },
    Case {
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_MONTH; ALTER TABLE audit_parts.events_MONTH RENAME TO odd",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.odd"],
    },
    Case {
        // A table with the columns of events is not one of theirs because of that.
        done: "ALTER TABLE audit.activities DETACH PARTITION audit_parts.activities_MONTH; ALTER TABLE audit_parts.activities_MONTH RENAME TO odd",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.odd"],
    },
    Case {
        // Each has the other's name.
        done: "ALTER TABLE audit_parts.events_MONTH RENAME TO x; ALTER TABLE audit_parts.events_NEXT RENAME TO events_MONTH;
            ALTER TABLE audit_parts.x RENAME TO events_NEXT",
        undone: AsAdvised,
        found: &["problem partitions audit.events"],
    },
    Case {
        done: "ALTER TABLE audit_parts.events_default RENAME TO odd",
        undone: AsAdvised,
        found: &["problem partitions audit_parts.odd"],
    },
    Case {
        done: "ALTER TABLE audit.events DETACH PARTITION audit_parts.events_default; DROP TABLE audit_parts.events_default",
        undone: AsAdvised,
        found: &["problem default_partition audit_parts.events_default"],
    },
];

#[test]
fn freshly_migrated_trail_has_no_problem() {
    let postgres = Postgres::start();
    migrate(&postgres.url());
    let looked = doctor(&postgres.url());
    assert_eq!(looked.status.code(), Some(0), "{}", stdout(&looked));
    // A writer creates the partitions; none has run yet.
    assert_eq!(
        found(&looked),
        [
            "warning partitions_ahead audit.activities",
            "warning partitions_ahead audit.events",
            "warning partitions_ahead audit.prompt_runs",
            "warning partitions_ahead audit.query_runs"
        ]
    );
    make_partitions(&postgres);
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), [""; 0]);
    let text = command(&postgres.url(), &["doctor"]).output().unwrap();
    assert_eq!(text.status.code(), Some(0));
    // A line for each passed check.
    assert!(
        stdout(&text).contains("\n  ok       owners  "),
        "{}",
        stdout(&text)
    );
    assert!(
        stdout(&text).ends_with("\nNo problem, no warning.\n"),
        "{}",
        stdout(&text)
    );
}

#[test]
fn golden_file_matches_the_migrations() {
    let postgres = with_partitions();
    let facts = command(&postgres.url(), &["doctor", "--snapshot"])
        .output()
        .unwrap();
    assert!(facts.status.success());
    let version: u32 = postgres.psql("SHOW server_version_num").parse().unwrap();
    let file = |version: u32| {
        format!(
            "{}/src/doctor/golden/{version}.sql",
            env!("CARGO_MANIFEST_DIR"),
        )
    };
    let mut version = version / 10_000;
    // Set by `scripts/golden`.
    let is_written = std::env::var("GOLDEN").is_ok_and(|value| value == "write");
    if is_written {
        std::fs::write(file(version), stdout(&facts)).unwrap();
    }
    // A version without a file uses that of the version before it.
    while !std::path::Path::new(&file(version)).exists() {
        version -= 1;
    }
    let file = file(version);
    let golden = std::fs::read_to_string(&file).unwrap();
    assert!(
        golden == stdout(&facts),
        "{file} is not what the migrations make: run scripts/golden"
    );
}

#[test]
fn tampering_with_roles_is_found() {
    each_is_found(ROLES);
}

#[test]
fn tampering_with_rights_is_found() {
    each_is_found(RIGHTS);
}

#[test]
fn objects_with_lookalike_names_are_found() {
    each_is_found(NAMES);
}

#[test]
fn renamed_objects_are_found_and_renamed_back() {
    each_is_found(RENAMED);
}

#[test]
fn tampering_hidden_in_the_catalog_is_found() {
    each_is_found(HIDDEN);
}

#[test]
fn tampering_with_guards_is_found() {
    each_is_found(GUARDS);
}

#[test]
fn tampering_with_functions_is_found() {
    each_is_found(FUNCTIONS);
}

#[test]
fn tampering_with_tables_is_found() {
    each_is_found(TABLES);
}

#[test]
fn tampering_with_partitions_is_found() {
    each_is_found(PARTITIONS);
}

#[test]
fn storage_of_another_kind_is_found_and_settings_of_groups_are_not() {
    each_is_found(STORAGE);
}

#[test]
fn a_prepared_transaction_that_holds_a_lock_of_the_trail_is_found() {
    let postgres = Postgres::start_with(&["max_prepared_transactions=4"]);
    migrate(&postgres.url());
    make_partitions(&postgres);
    postgres.psql("CREATE TABLE public.own ()");
    for (reads, name) in [
        ("audit_parts.events_default", "it''s"),
        ("public.own", "other"),
    ] {
        let mut session = postgres.session("postgres");
        for statement in [
            "BEGIN",
            &format!("SELECT FROM {reads}"),
            &format!("PREPARE TRANSACTION '{name}'"),
        ] {
            session.run(statement).unwrap();
        }
    }
    let looked = doctor(&postgres.url());
    assert_eq!(
        found(&looked),
        ["warning server_settings prepared transaction it's"]
    );
    follow(&postgres, &looked);
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
    assert_eq!(postgres.psql("SELECT gid FROM pg_prepared_xacts"), "other");
}

#[test]
fn a_partition_that_is_removed_during_the_look_is_no_problem() {
    let postgres = with_partitions();
    postgres.psql("SELECT audit.ensure_partition('events', '2012-05-04Z')");
    // The look waits for this when it has listed the partitions.
    let mut removing = postgres.session("postgres");
    removing
        .run("BEGIN; LOCK TABLE ONLY audit.query_runs IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let looking = command(&postgres.url(), &["doctor", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    testkit::wait_until("the look waits", std::time::Duration::from_secs(9), || {
        postgres.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event_type = 'Lock'") == "1"
    });
    removing
        .run("ALTER TABLE audit.events DETACH PARTITION audit_parts.events_2012_05; DROP TABLE audit_parts.events_2012_05; COMMIT")
        .unwrap();
    let looked = looking.wait_with_output().unwrap();
    assert_eq!(found(&looked), [""; 0]);
}

#[test]
fn rows_that_are_gone_are_found_whatever_else_is_gone_by_the_rules() {
    let postgres = with_partitions();
    // A batch of dead letters alone, and one of which retention has removed one table's rows.
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
         VALUES ('00000000-0000-7000-8000-00000000000a', 1, 3, '{}', 3, NULL, NULL, 'test'),
             ('00000000-0000-7000-8000-00000000000b', 1, 5, '{\"events\": 2, \"query_runs\": 3}', 0, audit.id_at(now()), audit.id_at(now() + interval '1 minute'), 'test');
         INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by)
         VALUES ('events_2012_05', 'events', '00000000-0000-7000-8000-00000000000b', 1, 5, 2, '', 'x')",
    );
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), ["problem batch_rows audit.batches"]);
    assert!(
        stdout(&looked).contains("6 rows that 2 batches of 2 writers wrote are not there"),
        "{}",
        stdout(&looked)
    );
}

#[test]
fn rows_that_are_dated_ahead_hide_none_that_no_batch_counts() {
    let postgres = with_partitions();
    postgres.psql(
        "INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
         SELECT overlay(audit.id_at(at)::text PLACING lpad(n::text, 12, '0') FROM 25)::uuid, at, 'succeeded', '00000000-0000-7000-8000-00000000000a', n, ''
         FROM generate_series(1, 10000) n, (VALUES ('2099-01-01Z'::timestamptz)) v (at);
         INSERT INTO audit.events (id, created_at, status, service_name, action_type, writer_id, seq, salt)
         VALUES (audit.id_at(now()), now(), 'succeeded', 'postgres', 'audit.partition_removed', '00000000-0000-7000-8000-00000000000b', 1, '');
         INSERT INTO audit.writers (writer_id, login, secret_sha256) VALUES ('00000000-0000-7000-8000-00000000000b', 'app', sha256('secret'))",
    );
    count_events(&postgres, 10000);
    let looked = doctor(&postgres.url());
    let words = stdout(&looked);
    assert!(
        words.contains("1 of the newest rows are counted by no batch")
            && words.contains("1 of the newest events say that the database made them"),
        "{words}"
    );
    // Those that are ahead are looked at as well.
    postgres.psql(
        "INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
         VALUES (audit.id_at('2098-01-01Z'), '2098-01-01Z', 'succeeded', '00000000-0000-7000-8000-00000000000c', 1, '')",
    );
    assert!(
        stdout(&doctor(&postgres.url())).contains("2 of the newest rows are counted by no batch")
    );
}

#[test]
fn missing_role_is_found() {
    let postgres = with_partitions();
    for role in [
        "audit_owner",
        "audit_maintainer",
        "audit_writer",
        "audit_reader",
        "audit_auditor",
        "audit_operator",
    ] {
        postgres.psql(&format!("ALTER ROLE {role} RENAME TO gone"));
        let looked = doctor(&postgres.url());
        assert_eq!(looked.status.code(), Some(1));
        // A single finding: the role is recognized by what it owns and by its policies.
        assert_eq!(found(&looked), [format!("problem roles {role}")]);
        follow(&postgres, &looked);
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
}

#[test]
fn unsafe_server_settings_are_found() {
    let postgres = Postgres::start_with(&[
        "fsync=off",
        "full_page_writes=off",
        "synchronous_commit=off",
        "session_replication_role=replica",
        "row_security=off",
        "zero_damaged_pages=on",
        "ignore_checksum_failure=on",
    ]);
    migrate(&postgres.url());
    make_partitions(&postgres);
    assert_eq!(
        found(&doctor(&postgres.url())),
        [
            "problem server_settings fsync",
            "problem server_settings full_page_writes",
            "problem server_settings ignore_checksum_failure",
            "problem server_settings session_replication_role",
            "problem server_settings zero_damaged_pages",
            "warning server_settings row_security",
            "warning server_settings synchronous_commit",
        ]
    );
}

#[test]
fn missing_trail_or_another_schema_version_is_found() {
    let postgres = Postgres::start();
    postgres.psql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    assert_eq!(
        found(&doctor(&postgres.url_of("ascii"))),
        ["problem encoding encoding", "problem schema_version audit"]
    );

    migrate(&postgres.url());
    make_partitions(&postgres);
    postgres.psql("CREATE TABLE kept AS SELECT * FROM audit.schema_migrations");
    let restore =
        "TRUNCATE audit.schema_migrations; INSERT INTO audit.schema_migrations SELECT * FROM kept";
    for (done, expected) in [
        (
            "INSERT INTO audit.schema_migrations SELECT 99, description, now(), true, '', 0 FROM kept LIMIT 1",
            &["problem schema_version audit"][..],
        ),
        (
            "DELETE FROM audit.schema_migrations WHERE version = 2",
            &["problem schema_version audit"],
        ),
        (
            "UPDATE audit.schema_migrations SET success = false WHERE version = 2",
            &[
                "problem schema_version audit",
                "problem schema_version audit.schema_migrations",
            ],
        ),
        (
            "UPDATE audit.schema_migrations SET checksum = '' WHERE version = 1",
            &["problem schema_checksum migration 1"],
        ),
    ] {
        postgres.psql(done);
        assert_eq!(found(&doctor(&postgres.url())), expected, "{done}");
        postgres.psql(restore);
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);

    // A row for a newer migration, which could be inserted by hand, hides nothing.
    postgres.psql(
        "INSERT INTO audit.schema_migrations SELECT 99, description, now(), true, '', 0 FROM kept LIMIT 1;
        CREATE POLICY leak ON audit.events USING (true)",
    );
    assert_eq!(
        found(&doctor(&postgres.url())),
        [
            "problem policies audit.events",
            "problem schema_version audit"
        ]
    );
}

#[test]
fn doctor_completes_when_values_are_at_the_limits_of_their_range() {
    let postgres = with_partitions();
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version, committed_at)
        SELECT '00000000-0000-7000-8000-00000000000a', first, 9223372036854775807, '{}', 9223372036854775807 - first + 1, 'test', at::timestamptz
        FROM (VALUES (9223372036854775806, 'infinity'), (9223372036854775807, '-infinity')) v(first, at)",
    );
    let looked = doctor(&postgres.url());
    assert_eq!(
        found(&looked),
        [
            "problem batch_rows audit.batches",
            "warning batches audit.batches",
            "warning newest_batch newest batch",
        ],
        "{}",
        stdout(&looked)
    );
    assert!(stdout(&looked).contains("2 of the newest 2 do not begin"));
    assert_eq!(looked.status.code(), Some(1));
    let strict = command(&postgres.url(), &["doctor", "--json", "--strict"]);
    assert_eq!({ strict }.output().unwrap().status.code(), Some(1));

    // The default partition takes rows of any month without a partition, unless a constraint
    // refuses them.
    postgres.psql(
        "DO $$DECLARE c record; BEGIN
            FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = 'audit.events'::regclass AND contype = 'c' LOOP
                EXECUTE format('ALTER TABLE audit.events DROP CONSTRAINT %I', c.conname);
            END LOOP; END$$;
        ALTER TABLE audit_parts.events_default DROP CONSTRAINT events_default_month;
        INSERT INTO audit_parts.events_default (id, created_at, status, service_name, writer_id, seq, salt)
        VALUES (gen_random_uuid(), 'infinity', 'succeeded', 'billing', gen_random_uuid(), 1, '')",
    );
    let looked = doctor(&postgres.url());
    assert!(
        stdout(&looked).contains("1 row of no month, of service billing"),
        "{}",
        stdout(&looked)
    );
}

#[test]
fn rows_deleted_without_a_recorded_removal_are_found() {
    let postgres = with_partitions();
    // Two writers, each with a batch of two events.
    for writer in ["a", "b"] {
        postgres.psql(&format!(
            "WITH ids AS (SELECT audit.id_at(now()) AS one, audit.id_at(now() + interval '1 second') AS two),
            written AS (
                INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
                SELECT one, now(), 'succeeded'::audit.run_status, '00000000-0000-7000-8000-00000000000{writer}'::uuid, 1, ''::bytea FROM ids
                UNION ALL
                SELECT two, now(), 'succeeded', '00000000-0000-7000-8000-00000000000{writer}', 2, '' FROM ids)
            INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
            SELECT '00000000-0000-7000-8000-00000000000{writer}', 1, 2, '{{\"events\": 2}}', 0, one, two, 'test' FROM ids"
        ));
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
    // Deleted by somebody who may disable the triggers and enables them again afterwards.
    postgres.psql(
        "CREATE TEMP TABLE stopped AS
            SELECT format('%s', tgrelid::regclass) AS relation, tgname FROM pg_trigger
            WHERE tgenabled = 'A' AND tgrelid IN (SELECT relid FROM pg_partition_tree('audit.events'));
        DO $$DECLARE t record; BEGIN
            FOR t IN SELECT * FROM stopped LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', t.relation, t.tgname); END LOOP;
            DELETE FROM audit.events WHERE seq = 2 AND writer_id = '00000000-0000-7000-8000-00000000000b';
            FOR t IN SELECT * FROM stopped LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.relation, t.tgname); END LOOP;
        END$$",
    );
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), ["problem batch_rows audit.batches"]);
    assert!(
        stdout(&looked).contains("1 rows that 1 batches of 1 writers"),
        "{}",
        stdout(&looked)
    );
    // A removal by retention accounts for them.
    postgres.psql(
        "INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by)
        VALUES ('events_2000_01', 'events', '00000000-0000-7000-8000-00000000000b', 1, 2, 1, '', 'operator')",
    );
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
}

#[test]
fn deleted_month_and_deleted_dead_letters_are_found_after_a_thousand_later_batches() {
    let postgres = with_partitions();
    // A thousand intact batches since, and as many that claim the ids of all time.
    postgres.psql(
        "WITH n AS (SELECT n, audit.id_at(now() + n * interval '1 ms') AS id FROM generate_series(1, 1100) n),
        written AS (
            INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
            SELECT id, now(), 'succeeded'::audit.run_status, '00000000-0000-7000-8000-00000000000e'::uuid, n, ''::bytea FROM n)
        INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
        SELECT '00000000-0000-7000-8000-00000000000e', n, n, '{\"events\": 1}', 0, id, id, 'test' FROM n",
    );
    let older = |writer: &str, counts: &str| {
        postgres.psql(&format!(
            "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, committed_at)
            SELECT '00000000-0000-7000-8000-00000000000{writer}', 1, 2, {counts}, audit.id_at(at), audit.id_at(at), 'test', at FROM (SELECT now() - interval '90 days' AS at) a"
        ));
    };
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
    older("a", r#"'{"prompt_runs": 2}', 0"#);
    older("b", r#"'{"query_runs": 1}', 1"#);
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), ["problem batch_rows audit.batches"]);
    assert!(
        stdout(&looked).contains("4 rows that 2 batches of 2 writers"),
        "{}",
        stdout(&looked)
    );
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
        SELECT '00000000-0000-7000-8000-00000000000f', n, n, '{\"events\": 1}', 0, audit.id_at('1970-01-01Z'), 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'test'
        FROM generate_series(1, 1100) n",
    );
    let looked = doctor(&postgres.url());
    assert!(
        stdout(&looked).contains("14 rows that 12 batches of 3 writers"),
        "{}",
        stdout(&looked)
    );
}

#[test]
fn rows_not_counted_by_any_batch_are_found() {
    let postgres = with_partitions();
    // As the trail itself adds one.
    postgres.psql("SELECT audit.record_reading('ticket 4711')");
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);

    // By a login that may write, under a random writer id.
    postgres.psql("CREATE ROLE app LOGIN IN ROLE audit_writer");
    postgres.psql(
        "SET SESSION AUTHORIZATION app;
        INSERT INTO audit_parts.events_default (id, created_at, status, writer_id, seq, salt)
            SELECT audit.id_at('2100-01-05Z'), '2100-01-05Z', 'succeeded', gen_random_uuid(), 7, ''",
    );
    let looked = doctor(&postgres.url());
    assert!(
        found(&looked).contains(&"problem uncounted_rows audit.events".to_owned()),
        "{}",
        stdout(&looked)
    );
    assert!(stdout(&looked).contains("1 of the newest rows"));

    // As if the database had made it, but by a program that is registered and counts it.
    postgres.psql(
        "INSERT INTO audit.writers (writer_id, login, secret_sha256) VALUES ('00000000-0000-7000-8000-00000000000a', 'app', sha256('secret'));
        INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt, service_name, action_type)
            SELECT audit.id_at(now()), now(), 'succeeded', '00000000-0000-7000-8000-00000000000a', 1, '', 'postgres', 'audit.hold_lifted'",
    );
    count_events(&postgres, 1);
    assert!(
        stdout(&doctor(&postgres.url()))
            .contains("1 of the newest events say that the database made them")
    );
    // Nor among the activities, where the database writes none.
    postgres.psql(
        "INSERT INTO audit.activities (id, created_at, status, writer_id, seq, salt, service_name, action_type)
            SELECT audit.id_at(now()), now(), 'succeeded', '00000000-0000-7000-8000-00000000000a', 1, '', 'postgres', 'audit.hold_lifted'",
    );
    assert!(
        stdout(&doctor(&postgres.url()))
            .contains("2 of the newest events say that the database made them")
    );
}

#[test]
fn failed_check_becomes_a_finding_and_the_other_checks_run() {
    let postgres = with_partitions();
    postgres.psql(
        "ALTER TABLE audit.dead_letters DROP CONSTRAINT dead_letters_sqlstate_check, ALTER COLUMN sqlstate TYPE integer USING 0;
        CREATE POLICY leak ON audit.events USING (true)",
    );
    let looked = doctor(&postgres.url());
    let found = found(&looked);
    for expected in [
        "problem failed audit.dead_letters",
        "problem columns audit.dead_letters.sqlstate",
        "problem policies audit.events",
    ] {
        assert!(found.contains(&expected.to_owned()), "{found:?}");
    }
    assert!(stdout(&looked).contains("SQLSTATE 22P02"));
    // The checks after it still ran.
    assert!(
        findings(&looked)
            .iter()
            .any(|finding| finding["check"] == "newest_batch")
    );
    assert_eq!(looked.status.code(), Some(1));
}

#[test]
fn default_partition_finding_shows_only_months_and_services() {
    let postgres = with_partitions();
    postgres.psql(
        "INSERT INTO audit_parts.events_default (id, created_at, status, service_name, user_id, writer_id, seq, salt)
        SELECT audit.id_at('2100-01-05Z'), '2100-01-05Z', 'succeeded', 'billing', 'alice', '00000000-0000-7000-8000-00000000000a', 1, ''",
    );
    count_events(&postgres, 1);
    let looked = doctor(&postgres.url());
    assert_eq!(
        found(&looked),
        ["problem default_partition audit_parts.events_default"]
    );
    assert!(stdout(&looked).contains("1 row of 2100-01, of service billing"));
    assert!(!stdout(&looked).contains("alice"), "{}", stdout(&looked));

    // A login that may not read the rows is told that there are some.
    postgres.psql("CREATE ROLE auditor LOGIN IN ROLE audit_auditor");
    let looked = doctor(&url_as(&postgres, "auditor"));
    assert_eq!(looked.status.code(), Some(0));
    assert_eq!(
        found(&looked),
        ["warning default_partition audit_parts.events_default"]
    );
}

#[test]
fn dead_letters_and_gaps_are_reported_as_counts_without_reasons_or_values() {
    let postgres = with_partitions();
    let batch = |writer: &str, first: i64, last: i64| {
        postgres.psql(&format!(
            "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
            VALUES ('{writer}', {first}, {last}, '{{\"events\": {}}}', 0, audit.id_at(now()), audit.id_at(now() + interval '1 hour'), 'test');
            INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
            SELECT overlay(audit.id_at(now())::text PLACING right(gen_random_uuid()::text, 12) FROM 25)::uuid, now(), 'succeeded', '{writer}', n, ''
            FROM generate_series({first}, {last}) n",
            last - first + 1
        ));
    };
    let (whole, broken) = (
        "00000000-0000-7000-8000-00000000000a",
        "00000000-0000-7000-8000-00000000000b",
    );
    for (first, last) in [(1, 3), (4, 4), (5, 9)] {
        batch(whole, first, last);
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);

    batch(broken, 2, 3);
    batch(broken, 5, 6);
    for n in 1..=2 {
        postgres.psql(&format!(
            "INSERT INTO audit.dead_letters (writer_id, seq, kind, sqlstate, reason, frame, salt)
            VALUES ('{broken}', {n}, 'audit.event', '22021', 'alice said so', 'alice', '')"
        ));
    }
    let looked = doctor(&postgres.url());
    assert_eq!(
        found(&looked),
        [
            "warning batches audit.batches",
            "warning dead_letters audit.dead_letters"
        ]
    );
    assert_eq!(looked.status.code(), Some(0), "warnings are no problem");
    let text = stdout(&looked);
    assert!(text.contains("2 refused with SQLSTATE 22021"), "{text}");
    assert!(text.contains("2 of the newest 5"), "{text}");
    assert!(text.contains(broken), "{text}");
    assert!(!text.contains("alice"), "{text}");
}

#[test]
fn doctor_lists_what_a_login_without_rights_cannot_see() {
    let postgres = with_partitions();
    postgres.psql(
        "CREATE ROLE somebody LOGIN; CREATE ROLE reader LOGIN IN ROLE audit_reader;
        CREATE ROLE auditor LOGIN IN ROLE audit_auditor; CREATE ROLE everything LOGIN IN ROLE pg_read_all_data",
    );
    let unseen = [
        "warning batches audit.batches",
        "warning dead_letters audit.dead_letters",
    ];
    let without_schema = [
        &unseen[..],
        &["warning schema_version audit.schema_migrations"],
    ]
    .concat();
    // Reported to each of them: a role exists that can read everything.
    let bypass = "warning bypass pg_read_all_data";
    for (login, expected) in [
        ("auditor", &[][..]),
        ("reader", &unseen),
        ("somebody", &without_schema),
        // It may read the tables, but row-level security hides all rows from it.
        ("everything", &unseen),
    ] {
        let looked = doctor(&url_as(&postgres, login));
        let mut found = found(&looked);
        found.retain(|finding| finding != bypass);
        assert_eq!(found, expected, "{login}");
        // Seeing too little counts as not checked.
        let code = if expected.is_empty() { 0 } else { 2 };
        assert_eq!(looked.status.code(), Some(code), "{login}");
    }
    // Everybody may see the catalog.
    postgres.psql("CREATE PUBLICATION leak FOR TABLE audit.batches");
    let looked = doctor(&url_as(&postgres, "somebody"));
    assert!(found(&looked).contains(&"warning leaks publication leak".to_owned()));
    assert!(!stdout(&looked).contains("this check failed"));
    postgres.psql("CREATE POLICY leak ON audit.events USING (true)");
    let looked = doctor(&url_as(&postgres, "somebody"));
    assert!(found(&looked).contains(&"problem policies audit.events".to_owned()));
    assert_eq!(looked.status.code(), Some(1));
}

#[test]
fn advice_secures_a_trail_migrated_without_a_superuser() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE host LOGIN CREATEROLE; ALTER DATABASE audit OWNER TO host; CREATE ROLE app LOGIN");
    let migrated = command(
        &url_as(&postgres, "host"),
        &["migrate", "--writer-login", "app"],
    )
    .output()
    .unwrap();
    assert!(migrated.status.success());
    make_partitions(&postgres);
    let looked = doctor(&postgres.url());
    assert_eq!(looked.status.code(), Some(0), "{}", stdout(&looked));
    // It can grant itself anything.
    let creates = "warning bypass CREATEROLE";
    let mut expected = vec![creates, "warning event_triggers audit_guard"];
    let version: u32 = postgres.psql("SHOW server_version_num").parse().unwrap();
    if version >= 160_000 {
        // The creator of a role administers it there.
        expected.extend([
            "warning bypass host",
            "warning closed_roles audit_maintainer",
            "warning closed_roles audit_owner",
        ]);
        expected.sort_unstable();
    }
    assert_eq!(found(&looked), expected);
    for finding in findings(&looked) {
        if finding["object"] != "CREATEROLE"
            && let Some(advice) = advice_of(&finding)
        {
            postgres.psql(&advice);
        }
    }
    assert_eq!(found(&doctor(&postgres.url())), [creates]);
    if version >= 160_000 {
        let grant = "SET SESSION AUTHORIZATION host; GRANT audit_auditor TO host";
        assert!(postgres.try_psql(grant).is_err());
    }
    // What it had created is still there: memberships, and functions that run as the owner.
    assert_eq!(
        postgres.psql(
            "SET SESSION AUTHORIZATION app;
            SELECT audit.ensure_partition('events', now() - interval '2 months') = to_char(now() - interval '2 months', '\"events_\"YYYY_MM')"
        ),
        "t"
    );
}

#[test]
fn role_that_migrated_can_still_write_after_the_advice() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE host LOGIN CREATEROLE; ALTER DATABASE audit OWNER TO host");
    migrate(&url_as(&postgres, "host"));
    // One membership granted by the role's administrator, one by a superuser, and both.
    postgres.psql("SET SESSION AUTHORIZATION host; GRANT audit_auditor, audit_reader TO host");
    let words = [
        "migrate",
        "--writer-login",
        "host",
        "--reader-login",
        "host",
    ];
    let granted = command(&postgres.url(), &words).output().unwrap();
    assert!(granted.status.success());
    let of_host = "SET SESSION AUTHORIZATION host; SELECT string_agg(role, ' ' ORDER BY role)
        FROM unnest(ARRAY['audit_auditor', 'audit_operator', 'audit_owner', 'audit_maintainer', 'audit_reader', 'audit_writer']) role
        WHERE pg_has_role(role, 'USAGE')";
    assert_eq!(
        postgres.psql(of_host),
        "audit_auditor audit_reader audit_writer"
    );
    for finding in findings(&doctor(&postgres.url())) {
        if let Some(advice) = advice_of(&finding)
            && (finding["check"] == "closed_roles" || finding["object"] == "host")
            && !finding["found"].as_str().unwrap().contains("writes")
        {
            postgres.psql(&advice);
        }
    }
    assert_eq!(
        postgres.psql(of_host),
        "audit_auditor audit_reader audit_writer"
    );
    let found = found(&doctor(&postgres.url()));
    assert!(
        !found
            .iter()
            .any(|finding| finding == "warning bypass host" || finding.contains("closed_roles")),
        "{found:?}"
    );
}

#[test]
fn finding_shows_actual_and_expected_state_and_a_statement_to_copy() {
    let postgres = with_partitions();
    postgres.psql(
        "ALTER TABLE audit.events NO FORCE ROW LEVEL SECURITY;
        ALTER FUNCTION audit.remove_partition(text, interval) RESET datestyle",
    );
    let looked = command(&postgres.url(), &["doctor"])
        .env("COLUMNS", "60")
        .output()
        .unwrap();
    assert_eq!(looked.status.code(), Some(1));
    let text = stdout(&looked);
    let told = "
  problem  audit.events: row-level security is not forced:
           its owner sees all rows
           should be   enabled and forced
           to mend it  ALTER TABLE audit.events FORCE ROW
                         LEVEL SECURITY;
";
    assert!(text.contains(told), "{text}");
    // The text cuts a long statement; JSON has all of it.
    assert!(text.contains("more lines (--json)\n"), "{text}");
    assert!(text.ends_with("\n2 problems.\n"), "{text}");
    for advice in advice(&doctor(&postgres.url())) {
        postgres.psql(&advice);
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
}

#[test]
fn schema_or_role_of_another_owner_is_not_mistaken_for_the_trails() {
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE ROLE host; CREATE SCHEMA audit AUTHORIZATION host; CREATE SCHEMA other AUTHORIZATION host;
        CREATE TABLE audit.batches (tenant_id uuid); ALTER TABLE audit.batches OWNER TO host;
        CREATE POLICY tenant ON audit.batches TO host USING (true);
        CREATE TABLE other.batches (); CREATE FUNCTION other.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER append_only BEFORE DELETE ON other.batches EXECUTE FUNCTION other.refuse_change()",
    );
    for looked in [doctor(&postgres.url()), {
        postgres.psql("DROP SCHEMA audit CASCADE");
        doctor(&postgres.url())
    }] {
        assert_eq!(found(&looked), ["problem schema_version audit"]);
        assert!(advice(&looked).is_empty(), "{}", stdout(&looked));
    }
}

#[test]
fn added_status_value_is_a_warning_without_advice() {
    let postgres = with_partitions();
    postgres.psql("ALTER TYPE audit.run_status ADD VALUE 'odd' AFTER 'failed'");
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), ["warning columns audit.run_status"]);
    assert!(advice(&looked).is_empty());
}

#[test]
fn doctor_can_run_a_single_check() {
    let postgres = with_partitions();
    postgres.psql("DROP POLICY tenant ON audit.events; DROP TRIGGER append_only ON audit.batches");
    let looked = |words: &[&str]| {
        let words = [&["doctor", "--json"], words].concat();
        command(&postgres.url(), &words).output().unwrap()
    };
    assert_eq!(
        found(&looked(&["--check", "policies"])),
        ["problem policies audit.events"]
    );
    let others = looked(&["--check", "owners", "--check", "rules"]);
    assert_eq!(found(&others), [""; 0]);
    assert_eq!(findings(&others).len(), 2);
    assert_eq!(others.status.code(), Some(0));
    // Every finding's check has a name.
    let all = findings(&looked(&[]));
    let names: BTreeSet<&str> = all
        .iter()
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    let words: Vec<&str> = names
        .into_iter()
        .flat_map(|name| ["--check", name])
        .collect();
    assert_eq!(findings(&looked(&words)).len(), all.len());
    // If nothing could be compared, every check reports that.
    postgres.psql("ALTER SCHEMA audit RENAME TO other");
    assert_eq!(
        found(&looked(&["--check", "rules"])),
        ["problem tables audit"]
    );
    let unknown = looked(&["--check", "polices"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("policies"));
}

#[test]
fn finding_accepted_with_a_reason_does_not_fail_the_run() {
    let postgres = with_partitions();
    postgres.psql("DROP POLICY tenant ON audit.events; DROP TRIGGER append_only ON audit.batches");
    let folder = testkit::trail::Folder::new();
    std::fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("accepted.json");
    let accept = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let words = [
            "doctor",
            "--json",
            "--strict",
            "--accept",
            file.to_str().unwrap(),
        ];
        command(&postgres.url(), &words).output().unwrap()
    };
    // One as printed, with a reason; another accepted however it is found.
    let mut printed = findings(&doctor(&postgres.url()));
    printed.retain(|finding| finding["check"] == "policies" && finding["severity"] == "problem");
    printed[0]["reason"] = "one tenant".into();
    let other = r#"{"check": "triggers", "object": "audit.batches", "reason": "until Monday"}"#;
    let accepted = accept(&format!("[{}, {other}]", printed[0]));
    assert_eq!(
        found(&accepted),
        [
            "accepted policies audit.events",
            "accepted triggers audit.batches"
        ]
    );
    assert_eq!(accepted.status.code(), Some(0), "{}", stdout(&accepted));

    // Found differently, it is not accepted; and an accepted finding that does not occur is
    // reported.
    postgres.psql("CREATE POLICY tenant ON audit.events USING (true)");
    let accepted = accept(&format!("[{}, {other}]", printed[0]));
    assert_eq!(
        found(&accepted),
        [
            "accepted triggers audit.batches",
            "problem policies audit.events",
            "warning accepted audit.events"
        ]
    );
    assert_eq!(accepted.status.code(), Some(1));

    for (text, said) in [
        (
            r#"[{"check": "triggers", "object": "audit.batches"}]"#,
            "entry 1 has no reason",
        ),
        (r#"{"check": "triggers"}"#, "array"),
    ] {
        let refused = accept(text);
        assert_eq!(refused.status.code(), Some(2));
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn max_age_finds_a_trail_without_recent_batches() {
    let postgres = with_partitions();
    let within = |age: &str| {
        let words = ["doctor", "--json", "--max-age", age];
        command(&postgres.url(), &words).output().unwrap()
    };
    let silent = "problem newest_batch newest batch";
    assert_eq!(found(&within("1h")), [silent]);
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, committed_at)
        VALUES ('00000000-0000-7000-8000-00000000000a', 1, 1, '{\"events\": 1}', 0, audit.id_at(now()), audit.id_at(now()), 'test', now() - interval '2 hours');
        INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
        VALUES (audit.id_at(now()), now(), 'succeeded', '00000000-0000-7000-8000-00000000000a', 1, '')",
    );
    assert_eq!(found(&within("1h")), [silent]);
    assert_eq!(found(&within("3h")), [""; 0]);
    assert_eq!(within("soon").status.code(), Some(2));
}

#[test]
fn doctor_exits_with_2_when_the_server_is_unreachable() {
    // Nothing listens on port 1.
    let looked = doctor("postgres://u:hunter2@127.0.0.1:1/d");
    assert_eq!(looked.status.code(), Some(2));
    assert_eq!(stdout(&looked), "");
    assert!(!String::from_utf8_lossy(&looked.stderr).contains("hunter2"));
}

#[test]
fn doctor_never_reads_or_runs_objects_that_shadow_the_catalog() {
    let postgres = with_partitions();
    // As the owner of a database may do to whoever checks it.
    postgres.psql(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE TABLE evil.pg_policy AS SELECT * FROM pg_policy; CREATE TABLE evil.pg_trigger AS SELECT * FROM pg_trigger;
        ALTER DATABASE audit SET search_path = evil, pg_catalog",
    );
    let path = "problem role_settings database audit";
    assert_eq!(found(&doctor(&postgres.url())), [path]);
    postgres.psql("DROP POLICY tenant ON audit.events; DROP TRIGGER append_only ON audit.batches");
    assert_eq!(
        found(&doctor(&postgres.url())),
        [
            "problem policies audit.events",
            path,
            "problem triggers audit.batches"
        ]
    );
}

#[test]
fn control_characters_in_names_are_not_printed() {
    let postgres = with_partitions();
    postgres.psql("CREATE TABLE audit.\"x\x1b[31m\u{202e}\" ()");
    for words in [&["doctor"][..], &["doctor", "--json"]] {
        let looked = command(&postgres.url(), words).output().unwrap();
        assert_eq!(looked.status.code(), Some(1));
        let text = stdout(&looked);
        assert!(
            !text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{text}"
        );
    }
}

/// Applies each case, checks the findings, undoes it, and checks that all is well again.
#[track_caller]
fn each_is_found(cases: &[Case]) {
    let postgres = Postgres::start_with(&["allow_in_place_tablespaces=on"]);
    migrate(&postgres.url());
    make_partitions(&postgres);
    postgres.psql("CREATE TABLESPACE fast LOCATION ''");
    postgres.psql(
        "CREATE ROLE app LOGIN IN ROLE audit_writer; CREATE ROLE somebody; CREATE ROLE team; CREATE ROLE \"Some Body\";
        CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE FUNCTION public.nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    );
    let months = postgres.psql(
        "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'), to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM')",
    );
    let (month, next) = months.split_once('|').unwrap();
    let in_time = |text: &str| text.replace("MONTH", month).replace("NEXT", next);
    postgres.psql(
        "INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
        SELECT audit.id_at(at), at, 'succeeded', '00000000-0000-7000-8000-00000000000a', n, ''
        FROM generate_series(1, 180) n, LATERAL (SELECT date_trunc('month', now()) + n * interval '1 hour') a (at)",
    );
    count_events(&postgres, 180);
    assert_eq!(
        found(&doctor(&postgres.url())),
        [""; 0],
        "before anything was done"
    );
    for case in cases {
        postgres.psql(&in_time(case.done));
        let looked = doctor(&postgres.url());
        let mut expected: Vec<String> = case.found.iter().map(|text| in_time(text)).collect();
        expected.sort();
        assert_eq!(found(&looked), expected, "{}", case.done);
        let problems = expected
            .iter()
            .any(|finding| finding.starts_with("problem"));
        assert_eq!(
            looked.status.code(),
            Some(i32::from(problems)),
            "{}",
            case.done
        );
        match case.undone {
            By(statement) => {
                postgres.psql(&in_time(statement));
            }
            AsAdvised => follow(&postgres, &looked),
            Then(statement) => {
                follow(&postgres, &looked);
                postgres.psql(statement);
            }
            Twice => {
                follow(&postgres, &looked);
                follow(&postgres, &doctor(&postgres.url()));
            }
        }
        assert_eq!(
            found(&doctor(&postgres.url())),
            [""; 0],
            "after {}",
            case.done
        );
        let rows = postgres.psql("SELECT count(*) FROM audit.events");
        assert_eq!(rows, "180", "rows after {}", case.done);
    }
}

/// Adds a batch that counts this many events of the writer `…a`.
fn count_events(postgres: &Postgres, events: u32) {
    postgres.psql(&format!(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
        VALUES ('00000000-0000-7000-8000-00000000000a', 1, {events}, '{{\"events\": {events}}}', 0,
            '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'test')"
    ));
}

/// Runs the advice.
#[track_caller]
fn follow(postgres: &Postgres, looked: &Output) {
    // Rights that were passed on are already gone by then.
    for advice in advice(looked) {
        postgres.psql(&advice);
    }
}

/// Returns the findings that are not ok, each `severity check object`, sorted.
fn found(looked: &Output) -> Vec<String> {
    let mut found: Vec<String> = findings(looked)
        .iter()
        .filter(|finding| finding["severity"] != "ok")
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap();
            // The reader must know what to do.
            assert!(!text("expected").is_empty(), "{finding}");
            let words = |name: &str| finding[name].as_str().unwrap_or_default();
            assert!(
                !words("advice").is_empty() || !words("explanation").is_empty(),
                "{finding}"
            );
            format!("{} {} {}", text("severity"), text("check"), text("object"))
        })
        .collect();
    found.sort();
    found
}

/// Returns the advised statements, each once.
fn advice(looked: &Output) -> BTreeSet<String> {
    findings(looked).iter().filter_map(advice_of).collect()
}

fn advice_of(finding: &Value) -> Option<String> {
    finding["advice"].as_str().map(str::to_owned)
}

fn findings(looked: &Output) -> Vec<Value> {
    let text = stdout(looked);
    let errors = String::from_utf8_lossy(&looked.stderr);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"))
}

/// Starts a server with the audit tables, and the partitions that a writer creates.
fn with_partitions() -> Postgres {
    let postgres = Postgres::start();
    migrate(&postgres.url());
    make_partitions(&postgres);
    postgres
}

fn make_partitions(postgres: &Postgres) {
    postgres.psql(
        "SELECT audit.ensure_partition(t, now() + m * interval '1 month')
        FROM unnest(audit.record_tables()) t, generate_series(0, 1) m",
    );
}

fn migrate(url: &str) {
    let output = command(url, &["migrate"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn doctor(url: &str) -> Output {
    command(url, &["doctor", "--json"]).output().unwrap()
}

fn url_as(postgres: &Postgres, login: &str) -> String {
    postgres.url().replace("postgres@", &format!("{login}@"))
}

/// The program, without the environment variables that change its behaviour.
fn command(url: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    for name in ["AUDIT_DATABASE_URL", "DATABASE_URL", "COLUMNS"] {
        command.env_remove(name);
    }
    command.args(words).env("AUDIT_DATABASE_URL", url);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
