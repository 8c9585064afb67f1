//! Triggers, functions and what else guards the trail.

use super::Undone::{AsAdvised, By, Then};
use super::{Case, each_is_found};

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
            ALTER FUNCTION audit.record_reading(text, text, uuid, jsonb) STRICT; ALTER FUNCTION audit.tenant_uuid(text) VOLATILE;
            ALTER FUNCTION audit.plan_retention(interval, text[]) SET search_path = public",
        undone: AsAdvised,
        found: &[
            "problem functions audit.ensure_partition(text,timestamp with time zone)",
            "problem functions audit.id_at(timestamp with time zone)",
            "problem functions audit.plan_retention(interval,text[])",
            "problem functions audit.record_reading(text,text,uuid,jsonb)",
            "problem functions audit.tenant_uuid(text)",
            "problem functions audit.writer_position(uuid)",
        ],
    },
    Case {
        done: "ALTER FUNCTION audit.request_trail(text, timestamptz, timestamptz) RESET jit",
        undone: AsAdvised,
        found: &["problem functions audit.request_trail(text,timestamp with time zone,timestamp with time zone)"],
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
        done: "DO $do$ BEGIN EXECUTE replace(pg_get_functiondef('audit.append_event(text, text, text, text, text, uuid, jsonb, audit.run_status)'::regprocedure),
            '''postgres''', '''Postgres '''); END $do$",
        undone: AsAdvised,
        found: &["problem functions audit.append_event(text,text,text,text,text,uuid,jsonb,audit.run_status)"],
    },
    Case {
        // It would keep running with the trail's rights.
        done: "ALTER FUNCTION audit.id_at(timestamptz) SET SCHEMA public",
        undone: AsAdvised,
        found: &["problem functions audit.id_at(timestamp with time zone)", "problem functions public.id_at(timestamp with time zone)",
            "problem view audit.agent_metrics_daily", "problem view audit.agent_metrics_hourly", "problem view audit.model_usage"],
    },
    Case {
        done: "CREATE AGGREGATE audit.total(int) (SFUNC = int4pl, STYPE = int); CREATE OPERATOR audit.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat);
            CREATE COLLATION audit.mine FROM \"C\"; CREATE DOMAIN audit.text AS pg_catalog.text",
        undone: AsAdvised,
        found: &["problem tables audit.+(pg_catalog.text,pg_catalog.text)", "problem tables audit.mine", "problem tables audit.text", "problem tables audit.total(integer)"],
    },
    Case {
        done: "DROP FUNCTION audit.record_reading(text, text, uuid, jsonb)",
        undone: AsAdvised,
        found: &["problem functions audit.record_reading(text,text,uuid,jsonb)"],
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
