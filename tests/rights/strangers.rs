//! Objects of others that exist before the trail: none is read, run, adopted or altered.

use super::{allowed, login, migrated, refused};
use testkit::trail::{Folder, PATIENCE, count, pipeline};
use testkit::{Postgres, wait_until};
use tracing_audit::{Event, Health};

/// Starts a server on which `mallory` may only create schemas, and has run these statements.
fn after(mallory_runs: &str) -> Postgres {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE audit TO mallory");
    let mut mallory = postgres.session("mallory");
    allowed(&mut mallory, mallory_runs);
    postgres
}

/// Returns whether mallory has become a superuser.
fn is_superuser(postgres: &Postgres) -> String {
    postgres.psql("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'")
}

/// Migrates as a superuser; fails unless that is refused, naming these objects, with nothing
/// changed.
#[track_caller]
fn migrate_is_refused(postgres: &Postgres, names: &[&str]) {
    let owned = "SELECT md5(string_agg(concat_ws(' ', classid, objid, refobjid), ',' ORDER BY classid, objid, refobjid)) FROM pg_shdepend
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'audit')";
    let before = postgres.psql(owned);
    let error = tracing_audit::migrate(&postgres.url()).unwrap_err();
    let error = error.to_string();
    for name in names {
        assert!(error.contains(name), "{name} is not in: {error}");
    }
    assert_eq!(postgres.psql(owned), before, "nothing changes its owner");
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_event_trigger"), "0");
}

/// The columns of the migrations table, as the library creates it.
const NOTES: &str = "version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamptz NOT NULL DEFAULT now(),
    success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL";

/// A function that makes mallory a superuser if a superuser runs it.
const HELP: &str = "CREATE SCHEMA mallory; CREATE FUNCTION mallory.help() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE mallory SUPERUSER; END IF; RETURN true; END $$;";

#[test]
fn migrations_table_with_a_strangers_trigger_is_not_written() {
    let postgres = after(&format!(
        "CREATE SCHEMA audit; CREATE TABLE audit.schema_migrations ({NOTES});
         CREATE FUNCTION audit.help() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE mallory SUPERUSER; RETURN NEW; END $$;
         CREATE TRIGGER help BEFORE INSERT ON audit.schema_migrations FOR EACH ROW EXECUTE FUNCTION audit.help()"
    ));
    migrate_is_refused(
        &postgres,
        &["schema audit", "mallory", "table audit.schema_migrations"],
    );
    assert_eq!(is_superuser(&postgres), "f");
    // Nor by a program's first start, which keeps its records.
    let spool = Folder::new();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    audit.record(Event::new("kept")).unwrap();
    wait_until("it says that it waits", PATIENCE, || {
        audit.stats().health() == Health::Holding
    });
    assert_eq!(is_superuser(&postgres), "f");
    // How to resolve it.
    postgres.psql("DROP SCHEMA audit CASCADE");
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&postgres, "events"), 1);
}

#[test]
fn view_in_place_of_the_migrations_table_is_not_read() {
    let postgres = after(&format!(
        "{HELP} CREATE SCHEMA audit; GRANT USAGE ON SCHEMA audit, mallory TO PUBLIC;
         CREATE VIEW audit.schema_migrations AS SELECT 1::bigint AS version, 'x'::text AS description, mallory.help() AS success;
         GRANT SELECT ON audit.schema_migrations TO PUBLIC"
    ));
    migrate_is_refused(&postgres, &["view audit.schema_migrations", "mallory"]);
    assert_eq!(is_superuser(&postgres), "f");
}

#[test]
fn index_function_of_a_strangers_migrations_table_is_never_run() {
    let postgres = after(&format!(
        "CREATE SCHEMA audit; CREATE TABLE audit.schema_migrations ({NOTES});
         CREATE FUNCTION audit.fold(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE mallory SUPERUSER; END IF; RETURN true; END $$;
         CREATE INDEX ON audit.schema_migrations (version) WHERE audit.fold(1)"
    ));
    migrate_is_refused(&postgres, &["table audit.schema_migrations"]);
    assert_eq!(is_superuser(&postgres), "f");
}

#[test]
fn migrate_names_strangers_objects_of_every_kind_in_the_schemas() {
    for (makes, named) in [
        (
            "CREATE SCHEMA audit; CREATE FUNCTION audit.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN NEW; END $$",
            "function audit.f()",
        ),
        (
            "CREATE SCHEMA audit; CREATE FUNCTION audit.id_at(timestamp) RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
            "function audit.id_at(timestamp without time zone)",
        ),
        (
            "CREATE SCHEMA audit; CREATE DOMAIN audit.run_status AS text",
            "type audit.run_status",
        ),
        (
            "CREATE SCHEMA audit; CREATE SEQUENCE audit.s",
            "sequence audit.s",
        ),
        (
            "CREATE SCHEMA audit; CREATE OPERATOR audit.== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
            "operator audit.==",
        ),
        (
            "CREATE SCHEMA audit; CREATE COLLATION audit.c FROM \"C\"",
            "collation audit.c",
        ),
        (
            "CREATE SCHEMA audit; CREATE TEXT SEARCH CONFIGURATION audit.t (COPY = simple)",
            "text search configuration audit.t",
        ),
        (
            "CREATE SCHEMA audit_parts; CREATE TABLE audit_parts.query_runs_default (id uuid)",
            "table audit_parts.query_runs_default",
        ),
        ("CREATE SCHEMA audit_guard", "schema audit_guard"),
        ("CREATE SCHEMA audit", "schema audit (of mallory)"),
    ] {
        let postgres = after(makes);
        migrate_is_refused(&postgres, &[named, "mallory"]);
    }
}

#[test]
fn migrate_does_not_adopt_existing_objects_in_a_superusers_schema() {
    // The schema belongs to a superuser, who lets others create objects in it.
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE ROLE mallory LOGIN; CREATE SCHEMA audit; GRANT ALL ON SCHEMA audit TO mallory",
    );
    let mut mallory = postgres.session("mallory");
    allowed(&mut mallory, "CREATE TABLE audit.mine (id int)");
    migrate_is_refused(&postgres, &["table audit.mine (of mallory)"]);
    // And a superuser's own table, of another audit tool, keeps working.
    postgres.psql("DROP TABLE audit.mine; CREATE TABLE audit.logged_actions (id int)");
    migrate_is_refused(&postgres, &["table audit.logged_actions"]);
    postgres.psql("INSERT INTO audit.logged_actions VALUES (1); ALTER TABLE audit.logged_actions ADD x int; DROP TABLE audit.logged_actions");
    // An empty schema is recreated: the rights that others had in it are gone.
    tracing_audit::migrate(&postgres.url()).unwrap();
    refused(&mut mallory, "42501", "CREATE TABLE audit.mine (id int)");
    // In an existing trail, a stranger's objects are named.
    postgres
        .psql("GRANT ALL ON SCHEMA audit TO mallory; ALTER EVENT TRIGGER audit_refuse_ddl DISABLE");
    allowed(
        &mut mallory,
        "CREATE FUNCTION audit.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    let error = tracing_audit::migrate(&postgres.url()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("function audit.f() (of mallory)"),
        "{error}"
    );
}

#[test]
fn migrate_refuses_and_names_trail_roles_with_foreign_rights_or_members() {
    for (makes, named) in [
        (
            "CREATE ROLE audit_owner LOGIN",
            "role audit_owner, which can do more",
        ),
        (
            "CREATE ROLE audit_reader BYPASSRLS",
            "role audit_reader, which can do more",
        ),
        (
            "CREATE ROLE audit_owner ROLE mallory",
            "role audit_owner, of which mallory is a member",
        ),
        (
            "CREATE ROLE audit_maintainer ROLE mallory",
            "role audit_maintainer, of which mallory is a member",
        ),
        // The first trail of a server finds nobody in its roles.
        (
            "CREATE ROLE audit_auditor ROLE mallory",
            "role audit_auditor, of which mallory is a member",
        ),
        (
            "CREATE ROLE audit_operator ADMIN mallory",
            "role audit_operator, of which mallory is a member",
        ),
        (
            "CREATE ROLE audit_writer IN ROLE pg_read_all_data",
            "role audit_writer, which is a member of pg_read_all_data",
        ),
        (
            "CREATE ROLE audit_maintainer; ALTER DEFAULT PRIVILEGES FOR ROLE audit_maintainer GRANT SELECT ON TABLES TO mallory",
            "default privileges of the role audit_maintainer",
        ),
    ] {
        let postgres = Postgres::start();
        postgres.psql(&format!("CREATE ROLE mallory LOGIN; {makes}"));
        migrate_is_refused(&postgres, &[named]);
    }
}

#[test]
fn default_privileges_grant_nothing_on_the_trail() {
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE ROLE bi LOGIN;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO bi; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO bi;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO bi; ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO bi;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO bi",
    );
    tracing_audit::migrate(&postgres.url()).unwrap();
    // And what a superuser sets later does not affect future months.
    postgres.psql(
        "ALTER DEFAULT PRIVILEGES FOR ROLE audit_maintainer GRANT ALL ON TABLES TO bi;
         ALTER DEFAULT PRIVILEGES FOR ROLE audit_owner GRANT ALL ON TABLES TO bi;
         SELECT audit.ensure_partition('events', '2020-01-15Z')",
    );
    let granted = "SELECT string_agg(what, ', ') FROM (
        SELECT nspname::text AS what, nspacl AS acl FROM pg_namespace WHERE nspname LIKE 'audit%'
        UNION ALL SELECT relname, relacl FROM pg_class WHERE relnamespace::regnamespace::text LIKE 'audit%'
        UNION ALL SELECT proname, proacl FROM pg_proc WHERE pronamespace::regnamespace::text LIKE 'audit%'
        UNION ALL SELECT typname, typacl FROM pg_type WHERE typnamespace::regnamespace::text LIKE 'audit%') objects,
        aclexplode(acl) a WHERE a.grantee = 'bi'::regrole";
    assert_eq!(postgres.psql(granted), "");
    let mut bi = postgres.session("bi");
    refused(&mut bi, "42501", "SELECT * FROM audit.events");
    // A right to read alone shows no tenant's rows.
    postgres.psql(
        "GRANT USAGE ON SCHEMA audit TO bi; GRANT SELECT ON ALL TABLES IN SCHEMA audit TO bi",
    );
    let tenant = "00000000-0000-0000-0000-000000000001";
    postgres.psql(&format!(
        "INSERT INTO audit.events (id, tenant_id, status, created_at, writer_id, seq, salt)
         VALUES (audit.id_at('2020-01-15Z'), '{tenant}', 'succeeded', '2020-01-15Z', gen_random_uuid(), 1, '')"
    ));
    let as_tenant =
        format!("SET app.current_tenant = '{tenant}'; SELECT count(*) FROM audit.events");
    assert_eq!(allowed(&mut bi, &as_tenant), "0");
    let mut reader = login(&postgres, "reader", Some("audit_reader"));
    assert_eq!(allowed(&mut reader, &as_tenant), "1");
}

#[test]
fn strangers_cannot_add_objects_to_the_schemas_after_the_migration() {
    let postgres = migrated();
    postgres.psql(
        "CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE audit TO mallory;
         GRANT CREATE, USAGE ON SCHEMA audit, audit_parts, audit_guard TO mallory",
    );
    let mut mallory = postgres.session("mallory");
    allowed(
        &mut mallory,
        "CREATE SCHEMA mallory; CREATE TABLE mallory.t (a int, b int)",
    );
    // Trusted extensions, which need no right to the schema.
    for extension in ["citext", "hstore", "pg_trgm"] {
        if postgres.psql(&format!(
            "SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'"
        )) == "1"
        {
            let make = format!("CREATE EXTENSION {extension} SCHEMA");
            refused(&mut mallory, "42501", &format!("{make} audit"));
            allowed(&mut mallory, &format!("{make} mallory"));
            refused(
                &mut mallory,
                "42501",
                &format!("ALTER EXTENSION {extension} SET SCHEMA audit_parts"),
            );
        }
    }
    for sql in [
        "CREATE TABLE audit.t (id int)",
        "CREATE FUNCTION audit.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE DOMAIN audit.d AS text",
        "CREATE TYPE audit.e AS ENUM ('a')",
        "CREATE SEQUENCE audit_parts.s",
        "CREATE OPERATOR audit.== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
        "CREATE OPERATOR FAMILY audit.o USING btree",
        "CREATE AGGREGATE audit.a (int) (SFUNC = int4pl, STYPE = int)",
        "CREATE COLLATION audit_guard.c FROM \"C\"",
        "CREATE CONVERSION audit.c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
        "CREATE TEXT SEARCH CONFIGURATION audit.t (COPY = simple)",
        "CREATE TEXT SEARCH DICTIONARY audit.t (TEMPLATE = simple)",
        "CREATE STATISTICS audit.s ON a, b FROM mallory.t",
        "ALTER TABLE mallory.t SET SCHEMA audit",
    ] {
        refused(&mut mallory, "42501", sql);
    }
}

#[test]
fn trail_restored_without_its_roles_is_reported_and_only_roles_creates_them() {
    let postgres = Postgres::start();
    postgres.psql(&format!(
        "CREATE SCHEMA audit; CREATE TABLE audit.schema_migrations ({NOTES});
         CREATE TABLE audit.batches (); CREATE TABLE audit.query_runs ()"
    ));
    let one_by_one = "move it to another schema or drop it";
    migrate_is_refused(
        &postgres,
        &["whose roles are not on this server", "--only-roles"],
    );
    let why = tracing_audit::migrate(&postgres.url()).unwrap_err();
    assert!(!why.to_string().contains(one_by_one), "{why}");
    tracing_audit::make_roles(&postgres.url()).unwrap();
    tracing_audit::make_roles(&postgres.url()).unwrap();
    migrate_is_refused(
        &postgres,
        &["no table belongs to its roles", "restore again"],
    );
    let why = tracing_audit::migrate(&postgres.url()).unwrap_err();
    assert!(!why.to_string().contains(one_by_one), "{why}");
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'audit\\_%' AND NOT rolcanlogin";
    assert_eq!(postgres.psql(roles), "7");
    postgres.psql("DROP SCHEMA audit CASCADE");
    tracing_audit::migrate(&postgres.url()).unwrap();
}

#[test]
fn roles_created_while_a_migration_waits_are_checked() {
    let postgres = Postgres::start();
    postgres
        .psql("CREATE ROLE mallory LOGIN CREATEROLE; GRANT CREATE ON DATABASE audit TO mallory");
    let (mut first, mut second) = (postgres.session("mallory"), postgres.session("mallory"));
    // The check does not see it yet, and creating the schema waits for it.
    allowed(&mut first, "BEGIN");
    allowed(&mut first, "CREATE SCHEMA audit");
    std::thread::scope(|scope| {
        let migrated = scope.spawn(|| tracing_audit::migrate(&postgres.url()));
        wait_until("the migration waits", PATIENCE, || {
            postgres.psql(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'postgres' AND wait_event_type = 'Lock'",
            ) == "1"
        });
        allowed(
            &mut second,
            "CREATE ROLE audit_owner; CREATE ROLE audit_maintainer; GRANT audit_maintainer TO mallory",
        );
        allowed(&mut first, "ROLLBACK");
        let error = migrated.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("of which mallory is a member"), "{error}");
    });
    assert_eq!(
        postgres.psql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'audit%'"),
        "0"
    );
}

#[test]
fn strangers_guard_schema_prevents_only_the_event_triggers() {
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE ROLE app LOGIN CREATEROLE; CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE audit TO app, mallory",
    );
    let app = postgres.url_as("app");
    tracing_audit::migrate(&app).unwrap();
    let mut mallory = postgres.session("mallory");
    allowed(&mut mallory, "CREATE SCHEMA audit_guard");
    tracing_audit::migrate(&app).unwrap();
    let error = tracing_audit::migrate(&postgres.url()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("schema audit_guard (of mallory)"), "{error}");
    // How to resolve it.
    postgres.psql("ALTER SCHEMA audit_guard OWNER TO postgres");
    tracing_audit::migrate(&postgres.url()).unwrap();
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_event_trigger"), "2");
}

#[test]
fn object_that_only_mentions_a_trail_schema_does_not_block_the_migration() {
    let postgres = migrated();
    let mut mallory = login(&postgres, "mallory", None);
    allowed(
        &mut mallory,
        "CREATE FUNCTION pg_temp.named() RETURNS oid LANGUAGE sql BEGIN ATOMIC SELECT 'audit'::regnamespace::oid; END",
    );
    postgres.psql("CREATE VIEW public.monitor AS SELECT count(*) FROM pg_class WHERE relnamespace = 'audit'::regnamespace");
    tracing_audit::migrate(&postgres.url()).unwrap();
}

#[test]
fn control_characters_in_a_strangers_name_do_not_reach_the_error_message() {
    let postgres =
        after("CREATE SCHEMA audit; CREATE TABLE audit.\"a\nall is well: run this\r\u{1b}[2K\" ()");
    let error = tracing_audit::migrate(&postgres.url()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("all is well"), "{error}");
    assert!(!error.contains(char::is_control), "{error:?}");
}

#[test]
fn advice_on_roles_of_another_administrator_runs_as_printed() {
    let postgres = Postgres::start();
    let version: u32 = postgres.psql("SHOW server_version_num").parse().unwrap();
    postgres.psql("CREATE DATABASE second");
    postgres.psql("CREATE ROLE admin LOGIN CREATEROLE; GRANT CREATE ON DATABASE audit TO admin");
    let first = postgres.url_as("admin");
    tracing_audit::migrate(&first).unwrap();
    if version < 160_000 {
        // Before 16, any role that may create roles administers all of them without being a member.
        return tracing_audit::migrate(&postgres.url_of("second")).unwrap();
    }
    let way_out = |error: String| -> Vec<String> {
        error
            .split("(of the server): ")
            .skip(1)
            .map(|part| part.split("; role").next().unwrap_or_default().to_owned())
            .collect()
    };
    let error = tracing_audit::migrate(&postgres.url_of("second")).unwrap_err();
    let statements = way_out(error.to_string());
    assert_eq!(statements.len(), 2, "{error}");
    for statement in statements {
        postgres.psql(&statement);
    }
    tracing_audit::migrate(&postgres.url_of("second")).unwrap();
    // The functions of both still have the owner's rights.
    let spool = Folder::new();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    audit.record(Event::new("first")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
}

#[test]
fn migrate_names_the_rights_that_the_login_lacks() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE app LOGIN; CREATE ROLE creator LOGIN CREATEROLE");
    for (login, words) in [
        ("app", "CREATEROLE"),
        ("creator", "GRANT CREATE ON DATABASE audit TO creator"),
    ] {
        let error = tracing_audit::migrate(&postgres.url_as(login)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn row_security_off_for_a_login_loses_no_record() {
    let postgres = migrated();
    postgres.psql(
        "CREATE ROLE app LOGIN IN ROLE audit_writer; ALTER ROLE app SET row_security = off; ALTER DATABASE audit SET row_security = off",
    );
    let spool = Folder::new();
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.postgres(postgres.url_as("app"))
    });
    audit.record(Event::new("kept")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&postgres, "events"), 1);
    let mut auditor = login(&postgres, "auditor", Some("audit_auditor"));
    allowed(
        &mut auditor,
        "SELECT audit.record_reading('because'), audit.place_hold('case')",
    );
}

#[test]
fn roles_that_are_made_while_a_migration_makes_them_are_looked_at_as_well() {
    // Those that can do everything, and those that are looked at where there was no trail alone.
    for (makes, named) in [
        (
            "CREATE ROLE audit_owner; CREATE ROLE audit_maintainer ROLE mallory",
            "audit_maintainer, of which mallory is a member",
        ),
        (
            "CREATE ROLE audit_auditor ROLE mallory",
            "audit_auditor, of which mallory is a member",
        ),
    ] {
        let postgres = Postgres::start();
        postgres.psql("CREATE ROLE mallory LOGIN CREATEROLE");
        let mut mallory = postgres.session("mallory");
        allowed(&mut mallory, &format!("BEGIN; {makes}"));
        std::thread::scope(|scope| {
            // Whatever the database's isolation is, the second look sees what was made meanwhile.
            postgres.psql("ALTER DATABASE audit SET default_transaction_isolation = 'repeatable read'; ALTER DATABASE audit SET default_transaction_read_only = on");
            for only_roles in [false, true] {
                let url = postgres.url();
                let migrated = scope.spawn(move || {
                    if only_roles {
                        tracing_audit::make_roles(&url)
                    } else {
                        tracing_audit::migrate(&url)
                    }
                });
                wait_until("the migration waits", PATIENCE, || {
                    postgres.psql(
                        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'postgres' AND wait_event_type = 'Lock'",
                    ) == "1"
                });
                allowed(&mut mallory, "COMMIT");
                let error = migrated.join().unwrap().unwrap_err().to_string();
                assert!(error.contains(named), "{error}");
                postgres.psql("BEGIN READ WRITE; DROP ROLE IF EXISTS audit_owner, audit_maintainer, audit_auditor; COMMIT");
                allowed(&mut mallory, &format!("BEGIN; {makes}"));
            }
            allowed(&mut mallory, "ROLLBACK");
        });
    }
}

#[test]
fn a_second_trail_of_a_server_takes_the_members_that_its_roles_have() {
    let postgres = migrated();
    postgres.psql("CREATE DATABASE second");
    postgres.psql(
        "CREATE ROLE app LOGIN IN ROLE audit_writer; CREATE ROLE alice LOGIN IN ROLE audit_auditor",
    );
    tracing_audit::migrate(&postgres.url_of("second")).unwrap();
    tracing_audit::make_roles(&postgres.url_of("second")).unwrap();
}

#[test]
fn a_transaction_that_began_before_the_trail_changes_nothing_whatever_it_saw() {
    // It saw a schema of that name, which is not the trail's.
    let postgres = after("CREATE SCHEMA audit; CREATE SCHEMA audit_parts; CREATE SCHEMA mallory");
    let mut old = postgres.session("mallory");
    allowed(
        &mut old,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_namespace",
    );
    postgres.psql("DROP SCHEMA audit, audit_parts");
    tracing_audit::migrate(&postgres.url()).unwrap();
    refused(&mut old, "55000", "CREATE TABLE mallory.t (id int)");
    allowed(&mut old, "ROLLBACK");
    allowed(&mut old, "CREATE TABLE mallory.t (id int)");
}

#[test]
fn a_function_that_names_the_schema_of_the_guard_does_not_pass_for_the_guard() {
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE ROLE app LOGIN CREATEROLE; CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE audit TO app, mallory",
    );
    tracing_audit::migrate(&postgres.url_as("app")).unwrap();
    let mut mallory = postgres.session("mallory");
    allowed(
        &mut mallory,
        "CREATE SCHEMA audit_guard; CREATE FUNCTION pg_temp.named() RETURNS oid LANGUAGE sql BEGIN ATOMIC SELECT 'audit_guard'::regnamespace::oid; END",
    );
    postgres.psql("ALTER SCHEMA audit_guard OWNER TO postgres");
    let error = tracing_audit::migrate(&postgres.url()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("named(), which names schema audit_guard (of mallory)"),
        "{error}"
    );
    // How to resolve it: the temporary function goes with its session.
    drop(mallory);
    wait_until("the session is over", PATIENCE, || {
        tracing_audit::migrate(&postgres.url()).is_ok()
    });
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_event_trigger"), "2");
}

#[test]
fn what_names_an_empty_schema_that_is_to_be_made_anew_is_named() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE mallory LOGIN; CREATE SCHEMA audit");
    let mut mallory = postgres.session("mallory");
    allowed(
        &mut mallory,
        "CREATE FUNCTION pg_temp.named() RETURNS oid LANGUAGE sql BEGIN ATOMIC SELECT 'audit'::regnamespace::oid; END",
    );
    postgres.psql("CREATE VIEW public.monitor AS SELECT count(*) FROM pg_class WHERE relnamespace = 'audit'::regnamespace");
    migrate_is_refused(
        &postgres,
        &[
            "named(), which names schema audit (of mallory)",
            "view public.monitor",
        ],
    );
    tracing_audit::make_roles(&postgres.url()).unwrap();
    drop(mallory);
    postgres.psql("DROP VIEW public.monitor");
    wait_until("the session is over", PATIENCE, || {
        tracing_audit::migrate(&postgres.url()).is_ok()
    });
}

#[test]
fn a_publication_of_the_schema_stands_in_nobodys_way() {
    let postgres = Postgres::start_with(&["wal_level=logical"]);
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql("CREATE PUBLICATION cdc FOR TABLES IN SCHEMA audit");
    tracing_audit::migrate(&postgres.url()).unwrap();
}

#[test]
fn settings_of_a_database_that_make_plpgsql_stricter_break_no_function() {
    let postgres = Postgres::start();
    postgres.psql(
        "ALTER DATABASE audit SET plpgsql.extra_errors = 'all'; ALTER DATABASE audit SET plpgsql.extra_warnings = 'all'",
    );
    tracing_audit::migrate(&postgres.url()).unwrap();
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    allowed(
        &mut operator,
        "SELECT audit.ensure_partition('events', '2012-05-04Z'), audit.place_hold('case', from_time => '2020-01-01Z')",
    );
    allowed(
        &mut operator,
        "SELECT audit.remove_partition('events_2012_05', '7 years')",
    );
}

#[test]
fn a_schema_that_a_stranger_makes_while_a_migration_waits_is_named() {
    let postgres = after("BEGIN; CREATE SCHEMA audit; ROLLBACK");
    let mut mallory = postgres.session("mallory");
    allowed(&mut mallory, "BEGIN; CREATE SCHEMA audit");
    std::thread::scope(|scope| {
        let migrated = scope.spawn(|| tracing_audit::migrate(&postgres.url()));
        wait_until("the migration waits", PATIENCE, || {
            postgres.psql(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'postgres' AND wait_event_type = 'Lock'",
            ) == "1"
        });
        allowed(&mut mallory, "COMMIT");
        let error = migrated.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("schema audit (of mallory)"), "{error}");
    });
    assert_eq!(
        postgres.psql("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'audit'"),
        "mallory"
    );
}
