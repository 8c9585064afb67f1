//! Attacks by somebody who has one of the roles, or a schema of their own.

use super::{allowed, login, migrated, refused};
use testkit::Postgres;
use testkit::trail::{Folder, PATIENCE, balanced, pipeline};
use tracing_audit::{Event, PromptRun, QueryRun};

const EVIL: &str = include_str!("evil.sql");

/// Temporary tables named like those that the trail reads, and like its own.
const TEMPORARY: &str = "
    CREATE TEMPORARY TABLE pg_class (LIKE pg_catalog.pg_class);
    CREATE TEMPORARY TABLE pg_inherits (LIKE pg_catalog.pg_inherits);
    CREATE TEMPORARY TABLE pg_constraint (LIKE pg_catalog.pg_constraint);
    CREATE TEMPORARY TABLE pg_proc (LIKE pg_catalog.pg_proc);
    CREATE TEMPORARY TABLE pg_roles AS SELECT * FROM pg_catalog.pg_roles LIMIT 0;
    CREATE TEMPORARY TABLE batches (LIKE audit.batches);
    CREATE TEMPORARY TABLE events (LIKE audit.events);
    CREATE TEMPORARY TABLE legal_holds (LIKE audit.legal_holds);
    CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'EVIL pg_temp'; RETURN NULL; END $$;
    CREATE FUNCTION pg_temp.ensure_partition(text, timestamptz) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'EVIL pg_temp'; RETURN NULL; END $$;
    CREATE DOMAIN pg_temp.uuid AS text;
    SET search_path = evil, pg_temp, pg_catalog";

/// Starts a server with look-alikes of what the trail uses, and a month that may be removed.
fn with_evil() -> Postgres {
    let postgres = migrated();
    postgres.psql(EVIL);
    postgres.psql("GRANT SELECT ON ALL TABLES IN SCHEMA audit TO PUBLIC; GRANT USAGE ON SCHEMA audit TO PUBLIC");
    postgres.psql(
        "SELECT audit.ensure_partition('events', '2020-01-15Z');
         INSERT INTO audit.events (id, status, created_at, writer_id, seq, salt)
            VALUES (audit.id_at('2020-01-15Z'), 'succeeded', '2020-01-15Z', gen_random_uuid(), 1, '')",
    );
    postgres
}

#[test]
fn search_path_and_temporary_objects_do_not_affect_functions_of_the_trail() {
    let postgres = with_evil();
    let hold = "00000000-0000-4000-8000-000000000001";
    postgres.psql(&format!(
        "INSERT INTO audit.legal_holds (id, reason, from_time, to_time, placed_by)
         VALUES ('{hold}', 'x', now(), 'infinity', '')"
    ));
    let hostile = |role: &str, statements: &[&str]| {
        let name = format!("as_{role}");
        let mut session = login(&postgres, &name, Some(&format!("audit_{role}")));
        allowed(&mut session, TEMPORARY);
        // The attack works outside of the trail's functions.
        allowed(&mut session, "SELECT now()");
        assert!(session.told().contains("EVIL"), "{}", session.told());
        for sql in statements {
            let answer = session.run(sql);
            let told = format!("{answer:?} {}", session.told());
            assert!(!told.contains("EVIL"), "{told}\nin {sql}");
            assert!(
                answer.is_ok()
                    || told.contains("append-only")
                    || told.contains("permission denied for table"),
                "{told}\nin {sql}"
            );
        }
    };
    hostile(
        "writer",
        &[
            "SELECT audit.tenant_uuid('acme')",
            "SELECT audit.id_at('2026-01-01Z')",
            "SELECT audit.current_tenant()",
            "SELECT audit.writer_position('00000000-0000-4000-8000-000000000009')",
            "SELECT audit.ensure_partition('query_runs', '2021-01-01Z')",
            "SELECT audit.ensure_partition('query_runs', '2021-01-01Z')",
            "SELECT audit.ensure_partition('query_runs', '2999-01-01Z')",
        ],
    );
    hostile(
        "reader",
        &[
            "SELECT audit.record_reading('because', 'req-1')",
            "SET app.current_tenant = 'aaaaaaaa-0000-4000-8000-000000000000'; SELECT 1 FROM audit.trail",
            "SELECT 1 FROM audit.events",
        ],
    );
    hostile(
        "auditor",
        &[
            "SELECT audit.place_hold('case', kinds => '{events}', to_time => '2000-01-01Z')",
            "SELECT audit.lift_hold('00000000-0000-4000-8000-000000000001', 'over')",
            "SELECT audit.hold_coverage('00000000-0000-4000-8000-000000000001')",
            "SELECT audit.set_least_age('1 month', 'because')",
        ],
    );
    hostile(
        "operator",
        &[
            "SELECT audit.plan_retention('1 year')",
            "SELECT audit.remove_partition('events_2020_01', '1 year')",
            "SELECT audit.ensure_partition('query_runs', '2021-01-01Z')",
            "SELECT audit.plan_settling()",
            "SELECT audit.least_age()",
        ],
    );
    // The triggers, and the event triggers, which run for everybody.
    hostile(
        "owner",
        &[
            "UPDATE audit.batches SET library_version = NULL",
            "TRUNCATE audit_parts.events_default",
            "CREATE TEMPORARY TABLE fine ()",
            "COMMENT ON TABLE fine IS 'x'",
            "DROP TABLE fine",
        ],
    );
    assert_eq!(
        postgres.psql("SELECT string_agg(action_type, ' ' ORDER BY action_type) FROM audit.events"),
        "audit.hold_lifted audit.hold_placed audit.partition_removed audit.read audit.setting_changed"
    );
}

#[test]
fn login_with_a_hostile_search_path_writes_and_migrates_normally() {
    // The owner of a database may set it for all logins, including an administrator who migrates.
    let postgres = Postgres::start();
    postgres.psql(EVIL);
    postgres.psql("ALTER DATABASE audit SET search_path = evil, pg_catalog");
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql("CREATE ROLE app LOGIN IN ROLE audit_writer");
    let spool = Folder::new();
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.postgres(postgres.url_as("app"))
    });
    audit.record(QueryRun::new("SELECT 1")).unwrap();
    audit.record(PromptRun::new("p")).unwrap();
    audit.record(Event::new("e")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    let log = postgres.log();
    let ran: Vec<&str> = log.lines().filter(|line| line.contains("EVIL")).collect();
    assert_eq!(ran, Vec::<&str>::new());
    postgres.psql("ALTER DATABASE audit RESET search_path");
    balanced(&audit, &postgres);
}

#[test]
fn reading_with_row_security_off_is_an_error() {
    let postgres = with_evil();
    postgres.psql("CREATE ROLE as_owner LOGIN IN ROLE audit_owner");
    let mut owner = postgres.session("as_owner");
    allowed(&mut owner, "SET ROLE audit_owner");
    let reader = login(&postgres, "as_reader", Some("audit_reader"));
    let auditor = login(&postgres, "as_auditor", Some("audit_auditor"));
    let granted = login(&postgres, "as_granted", None);
    for mut session in [owner, reader, auditor, granted] {
        allowed(&mut session, "SET row_security = off");
        for table in [
            "query_runs",
            "prompt_runs",
            "events",
            "trail",
            "batches",
            "dead_letters",
            "removals",
            "legal_holds",
        ] {
            for sql in [
                format!("SELECT count(*) FROM audit.{table}"),
                format!("COPY (SELECT * FROM audit.{table}) TO STDOUT"),
                format!("SELECT EXISTS (SELECT FROM audit.{table})"),
            ] {
                let error = refused(&mut session, "42501", &sql);
                assert!(error.contains("row-level security"), "{error}");
            }
        }
    }
}

#[test]
fn views_and_functions_over_the_trail_show_no_more_than_their_owner_may_see() {
    let postgres = with_evil();
    let ann = "aaaaaaaa-0000-4000-8000-000000000000";
    postgres.psql(&format!(
        "INSERT INTO audit.events (id, tenant_id, status, created_at, writer_id, seq, salt)
            VALUES (audit.id_at('2020-01-16Z'), '{ann}', 'succeeded', '2020-01-16Z', gen_random_uuid(), 1, '');
         CREATE SCHEMA theirs; GRANT ALL ON SCHEMA theirs TO PUBLIC"
    ));
    let mut owner = login(&postgres, "as_owner", Some("audit_owner"));
    let mut reader = login(&postgres, "as_reader", Some("audit_reader"));
    let mut other = login(&postgres, "other", None);
    // Views without security_invoker, and functions that run as their creator.
    for (session, name) in [(&mut owner, "of_owner"), (&mut reader, "of_reader")] {
        allowed(
            session,
            &format!(
                "CREATE VIEW theirs.{name} AS SELECT * FROM audit.events;
                 CREATE VIEW theirs.{name}_trail AS SELECT * FROM audit.trail;
                 CREATE MATERIALIZED VIEW theirs.{name}_kept AS SELECT * FROM audit.events;
                 CREATE FUNCTION theirs.{name}() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM audit.events';
                 GRANT SELECT ON ALL TABLES IN SCHEMA theirs TO PUBLIC"
            ),
        );
        for read in [
            format!("SELECT count(*) FROM theirs.{name}"),
            format!("SELECT theirs.{name}()"),
        ] {
            allowed(&mut other, "RESET app.current_tenant");
            assert_eq!(allowed(&mut other, &read), "0", "{read}");
            allowed(&mut other, &format!("SET app.current_tenant = '{ann}'"));
            // The owner is not a reader.
            let seen = if name == "of_owner" { "0" } else { "1" };
            assert_eq!(allowed(&mut other, &read), seen, "{read}");
        }
        assert_eq!(
            allowed(
                &mut other,
                &format!("SELECT count(*) FROM theirs.{name}_kept")
            ),
            "0"
        );
    }
    // The role itself can own nothing new, in any schema.
    allowed(&mut owner, "SET ROLE audit_owner");
    for sql in [
        "CREATE VIEW theirs.v AS SELECT * FROM audit.events",
        "CREATE FUNCTION theirs.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "CREATE TEMPORARY TABLE t AS SELECT 1 AS one",
        "SELECT 1 AS one INTO theirs.t",
    ] {
        refused(&mut owner, "42501", sql);
    }
}

#[test]
fn host_creates_alters_and_drops_objects_that_reference_the_trail() {
    let postgres = with_evil();
    let id = postgres.psql("SELECT id FROM audit.events");
    let mut host = login(&postgres, "host", None);
    postgres
        .psql("CREATE SCHEMA host AUTHORIZATION host; GRANT REFERENCES ON audit.events TO host");
    allowed(
        &mut host,
        "CREATE TABLE host.feedback (event uuid REFERENCES audit.events (id) ON DELETE CASCADE, note text)",
    );
    allowed(
        &mut host,
        &format!("INSERT INTO host.feedback VALUES ('{id}', 'good')"),
    );
    refused(
        &mut host,
        "23503",
        "INSERT INTO host.feedback VALUES ('00000000-0000-7000-8000-000000000000')",
    );
    allowed(&mut host, "ALTER TABLE host.feedback ADD COLUMN stars int");
    // A month created while it exists has a part of its foreign key.
    postgres.psql("SELECT audit.ensure_partition('events', '2021-01-15Z')");
    allowed(
        &mut host,
        "ALTER TABLE host.feedback DROP CONSTRAINT feedback_event_fkey",
    );
    allowed(
        &mut host,
        "ALTER TABLE host.feedback ADD FOREIGN KEY (event) REFERENCES audit.events",
    );
    allowed(&mut host, "TRUNCATE host.feedback");
    allowed(&mut host, "DROP TABLE host.feedback");
    allowed(
        &mut host,
        "CREATE DOMAIN host.event AS uuid; CREATE TABLE host.domains (event host.event REFERENCES audit.events (id));
         CREATE DOMAIN host.over AS host.event; CREATE TABLE host.deep (event host.over REFERENCES audit.events (id))",
    );
    // Objects that share a name with one of the trail's schemas but are not schemas.
    postgres.psql("CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO host; GRANT CREATE ON DATABASE audit TO host");
    allowed(
        &mut host,
        "CREATE PUBLICATION audit; DROP PUBLICATION audit; CREATE SERVER audit FOREIGN DATA WRAPPER postgres_fdw; DROP SERVER audit",
    );
    allowed(
        &mut host,
        &format!("INSERT INTO host.domains VALUES ('{id}')"),
    );
    allowed(&mut host, "DROP OWNED BY host CASCADE");
}

#[test]
fn code_of_a_host_type_never_runs_with_the_rights_of_the_trail() {
    let postgres = with_evil();
    let mut host = login(&postgres, "host", None);
    postgres.psql("CREATE SCHEMA host AUTHORIZATION host; GRANT REFERENCES ON audit.events TO host; GRANT USAGE ON SCHEMA host TO PUBLIC");
    allowed(
        &mut host,
        "CREATE TYPE host.trap AS ENUM ('x');
         CREATE FUNCTION host.spring(host.trap) RETURNS uuid LANGUAGE plpgsql AS $$
            BEGIN RAISE WARNING 'EVIL as %', current_user; RETURN audit.id_at('2020-01-15Z'); END $$;
         CREATE CAST (host.trap AS uuid) WITH FUNCTION host.spring(host.trap) AS IMPLICIT",
    );
    // By the check of a foreign key, which runs as the table's owner.
    let refer = "CREATE TABLE host.referring (event host.trap REFERENCES audit.events (id))";
    refused(&mut host, "42501", refer);
    refused(
        &mut host,
        "42501",
        "CREATE TABLE host.referring (event uuid REFERENCES audit.events (id)); ALTER TABLE host.referring ALTER event TYPE host.trap USING 'x'",
    );
    // Nor by a table that inherits, or that has a type, that changes.
    refused(
        &mut host,
        "42501",
        "CREATE TABLE host.parent (event uuid); CREATE TABLE host.heir (FOREIGN KEY (event) REFERENCES audit.events (id)) INHERITS (host.parent);
         ALTER TABLE host.parent ALTER event TYPE host.trap USING 'x'",
    );
    refused(
        &mut host,
        "42501",
        "CREATE FUNCTION host.set(uuid) RETURNS host.trap LANGUAGE sql RETURN 'x'::host.trap; CREATE CAST (uuid AS host.trap) WITH FUNCTION host.set(uuid) AS ASSIGNMENT;
         CREATE TYPE host.line AS (event uuid); CREATE TABLE host.typed OF host.line (FOREIGN KEY (event) REFERENCES audit.events (id));
         ALTER TYPE host.line ALTER ATTRIBUTE event TYPE host.trap CASCADE",
    );
    postgres.psql("REVOKE SELECT ON ALL TABLES IN SCHEMA audit FROM PUBLIC");
    // Nor where creating the key checks rows before it is refused: the owner sees only ids.
    allowed(
        &mut host,
        "CREATE OR REPLACE FUNCTION host.look() RETURNS uuid LANGUAGE plpgsql AS $$ DECLARE told text; BEGIN
            BEGIN SELECT action_type INTO told FROM audit.events; RAISE WARNING 'EVIL read'; EXCEPTION WHEN OTHERS THEN NULL; END;
            BEGIN EXECUTE 'GRANT SELECT ON audit.events TO PUBLIC'; RAISE WARNING 'EVIL granted'; EXCEPTION WHEN OTHERS THEN NULL; END;
            BEGIN PERFORM setval('audit.settings_id_seq', 9); RAISE WARNING 'EVIL set'; EXCEPTION WHEN OTHERS THEN NULL; END;
            BEGIN EXECUTE 'ALTER TABLE audit.events DISABLE TRIGGER ALL'; RAISE WARNING 'EVIL disabled'; EXCEPTION WHEN OTHERS THEN NULL; END;
            BEGIN EXECUTE 'INSERT INTO audit.settings (least_age, reason, changed_by) VALUES (''1 day'', ''x'', ''y'')'; RAISE WARNING 'EVIL added';
                EXCEPTION WHEN OTHERS THEN NULL; END;
            RAISE WARNING 'looked as %', current_user;
            RETURN audit.id_at('2020-01-15Z'); END $$;
         CREATE TYPE host.late AS ENUM ('x'); CREATE FUNCTION host.fold(host.late) RETURNS uuid IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN host.look(); END';
         CREATE CAST (host.late AS uuid) WITH FUNCTION host.fold(host.late) AS IMPLICIT; CREATE TABLE host.full (event host.late); INSERT INTO host.full VALUES ('x')",
    );
    refused(
        &mut host,
        "42501",
        "ALTER TABLE host.full ADD FOREIGN KEY (event) REFERENCES audit.events (id)",
    );
    let told = host.told();
    assert!(!told.contains("EVIL"), "{told}");
    // A snapshot older than the type.
    let mut old = postgres.session("host");
    allowed(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    allowed(&mut host, "CREATE TYPE host.later AS ENUM ('x')");
    allowed(
        &mut host,
        "CREATE FUNCTION host.fold(host.later) RETURNS uuid LANGUAGE sql RETURN NULL::uuid; CREATE CAST (host.later AS uuid) WITH FUNCTION host.fold(host.later) AS IMPLICIT",
    );
    refused(
        &mut old,
        "42501",
        "CREATE TABLE host.newer (event host.later REFERENCES audit.events (id))",
    );
    allowed(&mut old, "ROLLBACK");
    // Nor by a key that an administrator creates: the type stays its owner's.
    let mut administrator = postgres.session("postgres");
    refused(&mut administrator, "42501", refer);
    postgres.psql(&format!(
        "ALTER EVENT TRIGGER audit_refuse_ddl DISABLE; {refer}; INSERT INTO host.referring VALUES ('x');
         GRANT SELECT ON host.referring TO audit_maintainer; ALTER EVENT TRIGGER audit_refuse_ddl ENABLE ALWAYS"
    ));
    // Planning retention runs none of it.
    let mut operator = login(&postgres, "as_operator", Some("audit_operator"));
    let plan = allowed(
        &mut operator,
        "SELECT obstacles FROM audit.plan_retention('1 year', '{events}')",
    );
    assert!(
        plan.contains("may refer to it by the foreign key"),
        "{plan}"
    );
    assert!(!operator.told().contains("EVIL"), "{}", operator.told());
    refused(
        &mut operator,
        "55006",
        "SELECT audit.remove_partition('events_2020_01', '1 year')",
    );
    assert!(!operator.told().contains("EVIL"), "{}", operator.told());
    // A guard created beside such a key would refuse everybody's statements.
    postgres.psql("DROP SCHEMA audit_guard CASCADE");
    let told = tracing_audit::migrate(&postgres.url()).unwrap_err();
    assert!(told.to_string().contains("referring_event_fkey"), "{told}");
    postgres.psql("DROP TABLE host.referring");
    tracing_audit::migrate(&postgres.url()).unwrap();
}

/// The limit of Postgres 15, where a role that may create roles may join any role but superusers.
#[test]
fn login_with_createrole_cannot_take_trail_roles_since_postgres_16() {
    let postgres = with_evil();
    let version: u32 = postgres.psql("SHOW server_version_num").parse().unwrap();
    postgres.psql(
        "CREATE ROLE creator LOGIN CREATEROLE CREATEDB; ALTER DATABASE audit OWNER TO creator",
    );
    let mut creator = postgres.session("creator");
    for role in ["auditor", "owner", "maintainer", "writer"] {
        let taken = creator.run(&format!("GRANT audit_{role} TO creator"));
        assert_eq!(taken.is_ok(), version < 160_000, "{taken:?}");
    }
    if version >= 160_000 {
        refused(&mut creator, "42501", "ALTER ROLE audit_owner LOGIN");
        refused(&mut creator, "42501", "DROP ROLE audit_auditor");
        refused(
            &mut creator,
            "42501",
            "SELECT count(*) FROM audit_parts.events_2020_01",
        );
        refused(&mut creator, "42501", "DROP SCHEMA audit CASCADE");
    }
}

#[test]
fn a_key_that_was_made_without_the_guard_locks_no_superuser_out_and_migrate_names_it() {
    let postgres = migrated();
    postgres.psql(
        "CREATE ROLE mallory LOGIN; CREATE SCHEMA mallory AUTHORIZATION mallory;
         CREATE TYPE public.trap AS ENUM ('x'); CREATE FUNCTION public.spring(public.trap) RETURNS uuid LANGUAGE sql RETURN NULL::uuid;
         CREATE CAST (public.trap AS uuid) WITH FUNCTION public.spring(public.trap) AS IMPLICIT",
    );
    let key = "CREATE TABLE public.feedback (run public.trap REFERENCES audit.query_runs (id))";
    assert!(postgres.try_psql(key).unwrap_err().contains("foreign key"));
    postgres.psql(&format!(
        "ALTER EVENT TRIGGER audit_refuse_ddl DISABLE; {key}; ALTER EVENT TRIGGER audit_refuse_ddl ENABLE ALWAYS"
    ));
    let mut mallory = postgres.session("mallory");
    refused(&mut mallory, "42501", "CREATE TABLE mallory.t ()");
    postgres.psql("CREATE TABLE public.other ()");
    let error = tracing_audit::migrate(&postgres.url()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("feedback_run_fkey"), "{error}");
    postgres.psql("ALTER TABLE public.feedback DROP CONSTRAINT feedback_run_fkey");
    tracing_audit::migrate(&postgres.url()).unwrap();
    allowed(&mut mallory, "CREATE TABLE mallory.t ()");
}
