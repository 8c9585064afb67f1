//! Roles, rights and names that were tampered with.

use super::Undone::{AsAdvised, By, Then, Twice};
use super::{Case, each_is_found};

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
            "warning schema_version audit.schema_migrations", "warning tracked_tables audit.tracked_tables",
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
            audit.agent_executions, audit.agent_logs, audit.agent_metrics_daily, audit.agent_metrics_hourly, audit.approvals, audit.escalations,
            audit.feedback, audit.llm_calls, audit.mandates, audit.model_usage, audit.request_logs, audit.security_events, audit.system_errors,
            audit.system_metrics, audit.tool_invocations, audit.transaction_events, audit.transactions, audit.user_agent_interactions,
            audit.events, audit.activities, audit.writers, audit.dead_letters, audit.removals, audit.legal_holds, audit.legal_hold_lifts, audit.settings,
            audit.partition_lock, audit.schema_migrations, audit.tracked_tables, audit.tracked, audit.changes,
            audit.ledger, audit.ledger_nodes, audit.checkpoint, audit.erasures, audit.archives, audit.subject_keys FROM \"Some Body\"",
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
        done: "GRANT EXECUTE ON FUNCTION audit.append_event(text, text, text, text, text, uuid, jsonb, audit.run_status) TO audit_reader;
            GRANT EXECUTE ON FUNCTION audit.lift_hold(uuid, text) TO audit_operator",
        undone: AsAdvised,
        found: &["problem privileges audit.append_event(text,text,text,text,text,uuid,jsonb,audit.run_status)", "problem privileges audit.lift_hold(uuid,text)"],
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
        found: &["problem columns audit.run_status", "problem view audit.agent_metrics_daily", "problem view audit.agent_metrics_hourly", "problem view audit.model_usage"],
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
            ALTER TABLE public.events_2020_01 RENAME CONSTRAINT events_MONTH_time TO events_2020_01_time",
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
