//! Who creates the tables, who writes to them, and what holds while they are being created.

use std::time::SystemTime;

use super::{allowed, login, migrated, refused};
use testkit::child::{child, child_processes, command, kill, say, wait_for_word};
use testkit::trail::{Folder, PATIENCE, balanced, count, once_each, pipeline};
use testkit::{ADMINISTRATOR, Postgres, wait_until};
use tracing_audit::{Audit, Event, Health, PromptRun, QueryRun};

child_processes!(writes_one_record, writes_and_logs);

/// The versions of the migrations.
const MIGRATIONS: &str = "1 2 3 4 5 6";

fn applied(postgres: &Postgres) -> String {
    postgres.psql(
        "SELECT string_agg(version::text, ' ' ORDER BY version) FROM audit.schema_migrations WHERE success",
    )
}

/// Records one of each kind, and waits for the commit.
fn write_all_kinds(audit: &Audit) {
    audit.record(QueryRun::new("SELECT 1")).unwrap();
    audit.record(PromptRun::new("p")).unwrap();
    audit.record(Event::new("e")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
}

fn holds(audit: &Audit) {
    wait_until("it says that it waits", PATIENCE, || {
        audit.stats().health() == Health::Holding
    });
}

/// Writes one record by `from_env()`, and prints so.
fn writes_one_record() {
    let audit = tracing_audit::from_env().unwrap();
    audit.record(Event::new("x")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    say("written");
}

#[test]
fn sixteen_concurrent_processes_migrate_an_empty_database_once() {
    let postgres = Postgres::start();
    let folders: Vec<_> = (0..16).map(|_| Folder::new()).collect();
    let mut children: Vec<_> = folders
        .iter()
        .map(|folder| {
            command(child!(writes_one_record), &postgres, folder)
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut children {
        wait_for_word(child, "written");
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(applied(&postgres), MIGRATIONS);
    assert_eq!(count(&postgres, "events"), 16);
    // On a busy machine, creating a partition may wait for others longer than the lock timeout of
    // half a second; it is then retried.
    let log = postgres.log();
    let errors = log
        .lines()
        .filter(|line| line.contains("ERROR:") && !line.contains("due to lock timeout"))
        .count();
    assert_eq!(errors, 0, "{log}");
    once_each(&postgres);
}

#[test]
fn migration_interrupted_by_a_kill_is_finished_by_the_next_process() {
    let postgres = Postgres::start();
    let folder = Folder::new();
    // In the middle of the second migration, another session is about to create one of its roles.
    let mut holder = postgres.session(ADMINISTRATOR);
    allowed(&mut holder, "BEGIN; CREATE ROLE audit_auditor NOLOGIN");
    let migrates = "SELECT coalesce(string_agg(pid::text, ','), '') FROM pg_stat_activity
        WHERE application_name = 'tracing-audit' AND wait_event_type = 'Lock' AND query LIKE '%The roles of the trail%'";
    let waits = |not: &str| {
        let mut pid = String::new();
        wait_until("the migration waits for the lock", PATIENCE, || {
            pid = postgres.psql(migrates);
            !pid.is_empty() && pid != not
        });
        pid
    };
    let mut child = command(child!(writes_one_record), &postgres, &folder)
        .spawn()
        .unwrap();
    let pid = waits("");
    // Its connection is closed; it reconnects by itself, and is killed.
    postgres.psql(&format!("SELECT pg_terminate_backend({pid})"));
    waits(&pid);
    kill(child);
    // All of it is one transaction.
    assert_eq!(
        postgres.psql("SELECT to_regnamespace('audit') IS NULL"),
        "t"
    );
    // The server continues a statement whose client is dead, until it has to answer.
    allowed(&mut holder, "ROLLBACK");
    child = command(child!(writes_one_record), &postgres, &folder)
        .spawn()
        .unwrap();
    wait_for_word(&mut child, "written");
    assert!(child.wait().unwrap().success());
    assert_eq!(applied(&postgres), MIGRATIONS);
    assert_eq!(
        postgres.psql("SELECT count(*) > 0 FROM pg_event_trigger"),
        "t"
    );
    // The record of the killed process was in its log.
    assert_eq!(count(&postgres, "events"), 2);
    once_each(&postgres);
}

#[test]
fn a_login_that_may_create_roles_and_schemas_migrates_and_writes() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE app LOGIN CREATEROLE; GRANT CREATE ON DATABASE audit TO app");
    let spool = Folder::new();
    let start = || {
        pipeline(&postgres, &spool, |builder| {
            builder.postgres(postgres.url_as("app"))
        })
    };
    let audit = start();
    write_all_kinds(&audit);
    balanced(&audit, &postgres);
    drop(audit);
    // Once more, with nothing to migrate.
    let audit = start();
    write_all_kinds(&audit);
    balanced(&audit, &postgres);
    assert_eq!(count(&postgres, "events"), 2);
    // Without event triggers, which require a superuser; the rest holds for the login that created
    // it.
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_event_trigger"), "0");
    let owners = "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class
        WHERE relnamespace IN ('audit'::regnamespace, 'audit_parts'::regnamespace) AND relkind IN ('r', 'p', 'v')";
    assert_eq!(postgres.psql(owners), "audit_owner");
    let mut app = postgres.session("app");
    for sql in [
        "UPDATE audit.events SET user_id = 'x'",
        "DELETE FROM audit.batches",
        "TRUNCATE audit.dead_letters",
        "SELECT count(*) FROM audit.events",
        "SELECT count(*) FROM audit_parts.events_default",
        "ALTER TABLE audit.events DISABLE TRIGGER append_only",
        "ALTER TABLE audit.events NO FORCE ROW LEVEL SECURITY",
        "DROP TABLE audit.batches",
        "DROP SCHEMA audit CASCADE",
        "CREATE FUNCTION audit.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SET ROLE audit_owner",
        "SET ROLE audit_maintainer",
        "SELECT audit.append_event('x', NULL, NULL, NULL, NULL, NULL, NULL)",
    ] {
        refused(&mut app, "42501", sql);
    }
}

#[test]
fn superuser_adds_the_event_triggers_to_a_trail_migrated_by_another_role() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE app LOGIN CREATEROLE; ALTER DATABASE audit OWNER TO app");
    tracing_audit::migrate(&postgres.url_as("app")).unwrap();
    let triggers = "SELECT string_agg(concat_ws(' ', evtname, evtevent, evtenabled, evtowner::regrole), ', ' ORDER BY 1) FROM pg_event_trigger";
    assert_eq!(postgres.psql(triggers), "");
    let mut app = postgres.session("app");
    allowed(&mut app, "GRANT audit_owner TO app");
    allowed(&mut app, "BEGIN; DROP SCHEMA audit_parts CASCADE; ROLLBACK");
    // All at once, including a login that can create none.
    let urls = ["app", ADMINISTRATOR, ADMINISTRATOR, ADMINISTRATOR].map(|who| postgres.url_as(who));
    std::thread::scope(|scope| {
        for url in &urls {
            scope.spawn(move || tracing_audit::migrate(url).unwrap());
        }
    });
    let expected =
        "audit_refuse_ddl ddl_command_end A postgres, audit_refuse_drop sql_drop A postgres";
    assert_eq!(postgres.psql(triggers), expected);
    assert_eq!(applied(&postgres), MIGRATIONS);
    refused(&mut app, "42501", "DROP SCHEMA audit_parts CASCADE");
    // What a superuser has partly removed is not silently restored.
    postgres.psql("DROP EVENT TRIGGER audit_refuse_ddl; DROP EVENT TRIGGER audit_refuse_drop");
    tracing_audit::migrate(&postgres.url()).unwrap();
    assert_eq!(postgres.psql(triggers), "");
}

#[test]
fn second_database_on_a_server_reuses_the_existing_roles() {
    let postgres = migrated();
    postgres.psql("CREATE DATABASE second");
    tracing_audit::migrate(&postgres.url_of("second")).unwrap();
    postgres.psql("CREATE ROLE app LOGIN IN ROLE audit_writer");
    for database in ["audit", "second"] {
        let spool = Folder::new();
        let url = postgres.url_of(database).replace("postgres@", "app@");
        let audit = pipeline(&postgres, &spool, |builder| builder.postgres(url));
        write_all_kinds(&audit);
        let mut session = postgres.session_in(database, ADMINISTRATOR);
        assert_eq!(
            allowed(&mut session, "SELECT count(*) FROM audit.trail"),
            "3"
        );
    }
    // A login that may create roles but is no superuser: as far as this server lets it use the
    // existing roles.
    postgres.psql("CREATE DATABASE third");
    postgres
        .psql("CREATE ROLE creator LOGIN CREATEROLE; GRANT CREATE ON DATABASE third TO creator");
    let version: u32 = postgres.psql("SHOW server_version_num").parse().unwrap();
    let url = postgres.url_of("third").replace("postgres@", "creator@");
    let spool = Folder::new();
    let audit = pipeline(&postgres, &spool, |builder| builder.postgres(&url));
    audit.record(Event::new("kept")).unwrap();
    if version >= 160_000 {
        holds(&audit);
        tracing_audit::migrate(&postgres.url_of("third")).unwrap();
        postgres.psql("GRANT audit_writer TO creator");
    }
    audit.flush_blocking(PATIENCE).unwrap();
    let mut session = postgres.session_in("third", ADMINISTRATOR);
    assert_eq!(
        allowed(&mut session, "SELECT count(*) FROM audit.trail"),
        "1"
    );
}

/// Writes records, and prints what it logs.
fn writes_and_logs() {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stdout)
        .init();
    let audit = tracing_audit::from_env().unwrap();
    audit.record(QueryRun::new("SELECT 1")).unwrap();
    audit.record(Event::new("kept")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().committed(), 2);
    say("written");
}

#[test]
fn login_without_rights_gets_the_command_to_run_and_resumes_once_it_has_run() {
    let postgres = Postgres::start();
    let folders = [Folder::new(), Folder::new()];
    postgres.psql("CREATE ROLE app LOGIN; CREATE ROLE late LOGIN");
    let start = |login: &str, folder: &Folder| {
        let mut command = command(child!(writes_and_logs), &postgres, folder);
        let mut child = command
            .env("AUDIT_DATABASE_URL", postgres.url_as(login))
            .spawn()
            .unwrap();
        let said = wait_for_word(&mut child, "records are kept in the local log");
        assert!(said.contains("WARN"), "{said}");
        let told =
            format!("run `tracing-audit migrate --writer-login {login}` as an administrator");
        assert!(said.contains(&told), "{said}");
        (child, said)
    };
    let (first, said) = start("app", &folders[0]);
    assert!(said.contains("missing or old"), "{said}");
    tracing_audit::migrate(&postgres.url()).unwrap();
    let (second, said) = start("late", &folders[1]);
    assert!(said.contains("may not write"), "{said}");
    assert_eq!(count(&postgres, "events"), 0);
    postgres.psql("GRANT audit_writer TO app; GRANT audit_writer TO late");
    for mut child in [first, second] {
        wait_for_word(&mut child, "written");
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(
        (count(&postgres, "events"), count(&postgres, "query_runs")),
        (2, 2)
    );
    once_each(&postgres);
}

/// Returns the statement in a message.
fn advised(said: &str) -> &str {
    let (_, advice) = said
        .split_once(": run ")
        .unwrap_or_else(|| panic!("{said}"));
    advice.split(". Or ").next().unwrap_or(advice)
}

#[test]
fn member_of_audit_writer_without_its_rights_gets_the_statement_that_lets_it_write() {
    let postgres = migrated();
    postgres.psql(
        "CREATE ROLE other; CREATE ROLE roled LOGIN; GRANT other, audit_writer TO roled; ALTER ROLE roled SET role = other;
         CREATE ROLE \"Here Only\" LOGIN; GRANT other, audit_writer TO \"Here Only\"; ALTER ROLE \"Here Only\" IN DATABASE audit SET role = other;
         CREATE ROLE own LOGIN NOINHERIT; GRANT audit_writer TO own;
         CREATE ROLE between NOINHERIT; GRANT audit_writer TO between; CREATE ROLE chained LOGIN; GRANT between TO chained;
         CREATE ROLE options LOGIN; GRANT other, audit_writer TO options",
    );
    let fault = |audit: &Audit| {
        audit.record(Event::new("waits")).unwrap();
        wait_until("a fault is known", PATIENCE, || {
            audit.stats().fault().is_some()
        });
        String::from(audit.stats().fault().unwrap())
    };
    let start = |url: String, folder: &Folder| {
        let builder = Audit::builder().postgres(url).spool(&folder.0);
        builder.start().unwrap()
    };
    for (login, words) in [
        (
            "roled",
            &[
                "the login roled (session_user)",
                "other (current_user)",
                "ALTER ROLE roled RESET role",
            ][..],
        ),
        (
            "Here%20Only",
            &["ALTER ROLE \"Here Only\" IN DATABASE audit RESET role"],
        ),
        (
            "own",
            &["own is a member of audit_writer", "does not inherit"],
        ),
        (
            "chained",
            &["does not inherit", "GRANT audit_writer TO chained"],
        ),
    ] {
        let folder = Folder::new();
        let audit = start(postgres.url_as(login), &folder);
        let said = fault(&audit);
        for word in words {
            assert!(said.contains(word), "{login}: {said}");
        }
        assert!(!said.contains("--writer-login roled"), "{said}");
        postgres.psql(advised(&said));
        audit.flush_blocking(PATIENCE).unwrap();
    }
    let folder = Folder::new();
    let url = format!("{}?options=-c%20role%3Dother", postgres.url_as("options"));
    let said = fault(&start(url, &folder));
    assert!(
        said.contains("take the setting role out of options"),
        "{said}"
    );
    // If several things are in the way, all are reported.
    postgres.psql(
        "CREATE ROLE stranger LOGIN; GRANT other TO stranger; ALTER ROLE stranger SET role = other",
    );
    let folder = Folder::new();
    let said = fault(&start(postgres.url_as("stranger"), &folder));
    assert!(
        said.contains("RESET role, and then run `tracing-audit migrate --writer-login stranger`"),
        "{said}"
    );
    // The group lacks a right, which no membership supplies.
    postgres.psql("REVOKE USAGE ON SCHEMA audit FROM audit_writer; CREATE ROLE member LOGIN; GRANT audit_writer TO member");
    let folder = Folder::new();
    let said = fault(&start(postgres.url_as("member"), &folder));
    assert!(
        said.contains("tracing-audit doctor") && !said.contains("GRANT"),
        "{said}"
    );
}

#[test]
fn membership_in_audit_writer_alone_suffices_for_a_pipeline() {
    let postgres = migrated();
    let mut app = login(&postgres, "app", Some("audit_writer"));
    let spool = Folder::new();
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.postgres(postgres.url_as("app"))
    });
    write_all_kinds(&audit);
    // A month without a partition yet, and a record that Postgres refuses.
    let january = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_579_000_000);
    audit
        .record(QueryRun::new("SELECT 2").started_at(january))
        .unwrap();
    postgres
        .psql("ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type <> 'poison')");
    audit.record(Event::new("poison")).unwrap();
    audit.record(Event::new("fine")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        (audit.stats().committed(), audit.stats().dead_lettered()),
        (5, 1)
    );
    assert_eq!(count(&postgres, "query_runs"), 2);
    balanced(&audit, &postgres);
    refused(&mut app, "42501", "SELECT count(*) FROM audit.dead_letters");
}

#[test]
fn second_administrator_migrates_its_own_database_as_documented() {
    let postgres = migrated();
    postgres.psql("CREATE ROLE adm2 LOGIN CREATEROLE; CREATE ROLE app LOGIN");
    for database in ["second", "third"] {
        postgres.psql(&format!("CREATE DATABASE {database}"));
        postgres.psql(&format!("GRANT CREATE ON DATABASE {database} TO adm2"));
    }
    let url = |login: &str, database: &str| {
        let url = postgres.url_of(database);
        url.replace(&format!("//{ADMINISTRATOR}@"), &format!("//{login}@"))
    };
    let is_16 = postgres.psql("SELECT current_setting('server_version_num')::int >= 160000") == "t";
    let docs = include_str!("../../docs/operations.md");
    let statement = |begin: &str| {
        let (_, rest) = docs.split_once(begin).unwrap();
        format!("{begin}{}", rest.split(';').next().unwrap())
    };
    if is_16 {
        // Who administers one of the roles is not named for all of them.
        postgres.psql(
            "CREATE ROLE half; GRANT audit_writer TO half WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
        );
        let refused = tracing_audit::migrate(&url("adm2", "second")).unwrap_err();
        assert!(
            refused.to_string().contains("a superuser must run GRANT"),
            "{refused}"
        );
        assert!(
            refused.to_string().contains("does not administer"),
            "{refused}"
        );
        postgres.psql(&statement("GRANT audit_owner, audit_maintainer,"));
    }
    tracing_audit::migrate(&url("adm2", "second")).unwrap();
    if is_16 {
        postgres.psql(&statement("REVOKE audit_owner, audit_maintainer"));
    }
    tracing_audit::migrate(&url(ADMINISTRATOR, "third")).unwrap();
    tracing_audit::migrate(&url(ADMINISTRATOR, "second")).unwrap();
    let with = if is_16 { " WITH INHERIT TRUE" } else { "" };
    let mut administrator = postgres.session("adm2");
    allowed(
        &mut administrator,
        &format!("GRANT audit_reader TO app{with}"),
    );
    let is_reader = "SELECT pg_has_role('app', 'audit_reader', 'USAGE'), pg_has_role('adm2', 'audit_owner', 'MEMBER')";
    assert_eq!(postgres.psql(is_reader), "t|f");
}

#[test]
fn printed_script_creates_the_schema_of_migrate_once_and_restores_the_session() {
    let script = tracing_audit::migration_script();
    let postgres = Postgres::start();
    // Another program keeps what it applied, in the same transaction and by its own search path.
    let as_a_tool = format!(
        "BEGIN; SET LOCAL search_path = public; {script} CREATE TABLE applied (version int); COMMIT;"
    );
    postgres.psql(&as_a_tool);
    assert_eq!(
        postgres.psql("SELECT to_regclass('public.applied')"),
        "applied"
    );
    assert_eq!(applied(&postgres), MIGRATIONS);
    let triggers = "SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'audit\\_%'";
    assert_eq!(postgres.psql(triggers), "2");
    // Outside a transaction as well.
    let again = postgres.try_psql(&script);
    assert!(again.unwrap_err().contains("the tables are there already"));
    login(&postgres, "app", Some("audit_writer"));
    let folder = Folder::new();
    let audit = Audit::builder()
        .postgres(postgres.url_as("app"))
        .spool(&folder.0)
        .migrate(false)
        .start()
        .unwrap();
    write_all_kinds(&audit);
}

#[test]
fn printed_script_refuses_conflicting_objects_and_a_login_that_lacks_a_right() {
    let script = tracing_audit::migration_script();
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE mallory; CREATE SCHEMA audit AUTHORIZATION mallory; CREATE TABLE audit.\"a\nline\" (id int)");
    let refused = postgres.try_psql(&script).unwrap_err();
    assert!(
        refused.contains("this is in the way")
            && refused.contains("mallory")
            && refused.contains("a?line"),
        "{refused}"
    );
    postgres.psql("DROP SCHEMA audit CASCADE; CREATE ROLE weak");
    let refused = postgres
        .try_psql(&format!("BEGIN; SET LOCAL ROLE weak; {script} COMMIT;"))
        .unwrap_err();
    assert!(refused.contains("may not create roles"), "{refused}");
    postgres.psql("CREATE ROLE deployer CREATEROLE; GRANT CREATE ON DATABASE audit TO deployer");
    let refused = postgres
        .try_psql(&format!("SET ROLE deployer; {script}"))
        .unwrap_err();
    assert!(refused.contains("SET ROLE is in effect"), "{refused}");
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'audit\\_%'";
    assert_eq!(postgres.psql(roles), "0", "nothing was changed");
    let mut administrator = login(&postgres, "administrator", None);
    postgres.psql(
        "ALTER ROLE administrator CREATEROLE; GRANT CREATE ON DATABASE audit TO administrator",
    );
    allowed(&mut administrator, &script);
    assert_eq!(applied(&postgres), MIGRATIONS);
    let members = "SELECT count(*) FROM pg_auth_members a WHERE a.member = 'administrator'::regrole \
         AND a.roleid IN ('audit_owner'::regrole, 'audit_maintainer'::regrole) AND (to_jsonb(a)->>'inherit_option') IS DISTINCT FROM 'false'";
    assert_eq!(postgres.psql(members), "0");
}
