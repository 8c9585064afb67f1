//! `tracing-audit spool`: lists, shows and drains a log that its program left behind.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::child::{
    child, child_processes, command, kill, say_ready_and_wait_to_be_killed, start_until_ready,
};
use testkit::trail::{Folder, PATIENCE, pipeline, record_and_wait_until_stored};
use testkit::{Postgres, Stop};
use tracing::info_span;
use tracing_audit::{Audit, Event};
use tracing_subscriber::prelude::*;

child_processes!(leaves_records_in_its_log);

const RECORDS: u64 = 300;
const SECRET: &str = "sesame";

/// Leaves records in the local log that have not reached Postgres.
fn leaves_records_in_its_log() -> ! {
    let audit = Audit::builder()
        .postgres(std::env::var("AUDIT_DATABASE_URL").unwrap())
        .spool(std::env::var_os("AUDIT_SPOOL_DIR").unwrap())
        .service_name("child\nof two lines")
        .batch(100_000, Duration::from_mins(1))
        .start()
        .unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    for _ in 1..RECORDS {
        info_span!("audit.event", action_type = SECRET);
    }
    record_and_wait_until_stored(&audit, SECRET);
    say_ready_and_wait_to_be_killed()
}

fn spool(arguments: &[&str], folder: &Folder, url: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .arg("spool")
        .args(arguments)
        .arg(&folder.0)
        .env("AUDIT_DATABASE_URL", url)
        .output()
        .unwrap()
}

fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn orphaned_log_is_listed_and_drained_once_and_a_log_in_use_is_left_alone() {
    let postgres = Postgres::start();
    let url = postgres.url();
    tracing_audit::migrate(&url).unwrap();
    let folder = Folder::new();
    let child = start_until_ready(&mut command(
        child!(leaves_records_in_its_log),
        &postgres,
        &folder,
    ));

    let listed = spool(&["list", "--json"], &folder, "");
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    let logs = parsed(&listed);
    assert_eq!(logs[0]["state"], "in_use");
    if cfg!(target_os = "linux") {
        assert_eq!(logs[0]["pid"], child.id());
    }
    let drained = spool(&["drain", "--json"], &folder, &url);
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    assert_eq!(parsed(&drained)[0]["outcome"], "in_use");
    kill(child);

    for arguments in [&["list", "--json"][..], &["list"]] {
        let listed = spool(arguments, &folder, "");
        assert_eq!(listed.status.code(), Some(0), "{listed:?}");
        let said = String::from_utf8_lossy(&listed.stdout);
        assert!(!said.contains(SECRET));
        // A line for each log, whatever its program is called.
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let names = folder.names();
    let log = &parsed(&spool(&["list", "--json"], &folder, ""))[0];
    assert_eq!(log["state"], "free");
    assert_eq!(log["for_postgres"], RECORDS);
    assert_eq!(log["records"]["events"], RECORDS);
    assert_eq!(log["service_name"], "child\nof two lines");
    assert!(log["oldest"].is_string(), "{log}");
    assert_eq!(names, folder.names(), "looking changes nothing");

    // Nothing listens there: the command reports it, and keeps all records.
    let closed = "postgres://nobody@127.0.0.1:1/none";
    let drained = spool(&["drain", "--json"], &folder, closed);
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    let why = parsed(&drained)[0]["why"].to_string();
    assert!(
        why.contains("127.0.0.1:1") && why.contains("refused"),
        "{why}"
    );
    assert_eq!(names, folder.names());

    let drained = spool(&["drain", "--json"], &folder, &url);
    assert_eq!(drained.status.code(), Some(0), "{drained:?}");
    let outcome = &parsed(&drained)[0];
    assert_eq!(outcome["outcome"], "removed");
    assert_eq!(outcome["records"], RECORDS);
    assert_eq!(folder.names(), [""; 0], "no folder of its own is left");
    assert_eq!(
        postgres
            .psql("SELECT count(*), count(DISTINCT id) FROM audit.events")
            .trim(),
        format!("{RECORDS}|{RECORDS}")
    );
    for arguments in [&["list"][..], &["show"], &["drain"], &["drain", "--json"]] {
        let nothing = spool(arguments, &folder, &url);
        assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
        let said = String::from_utf8_lossy(&nothing.stderr);
        assert!(said.contains("no local log is in"), "{said}");
    }
}

/// Leaves a log with one record in it.
fn leave_one(folder: &Folder) -> PathBuf {
    let audit = Audit::builder()
        .postgres("postgres://nobody@127.0.0.1:1/none")
        .spool(&folder.0)
        .service_name("left")
        .start()
        .unwrap();
    audit.record(Event::new("left")).unwrap();
    audit.shutdown_blocking(Duration::ZERO);
    folder.0.join(folder.names().pop().unwrap())
}

fn run(command: &mut Command, url: &str) -> Output {
    command.env("AUDIT_DATABASE_URL", url).output().unwrap()
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.arg("spool");
    command
}

#[test]
fn parent_folder_of_log_folders_is_an_error_that_names_them() {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    let above = Folder::new();
    let folder = Folder(above.0.join("svc-0123"));
    let log = leave_one(&folder);
    for arguments in [&["list"][..], &["drain"]] {
        let said = spool(arguments, &above, &postgres.url());
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        let said = String::from_utf8_lossy(&said.stderr);
        assert!(
            said.contains("there are some in") && said.contains("svc-0123"),
            "{said}"
        );
    }
    assert!(log.exists());
}

#[test]
fn log_is_found_by_a_relative_path_and_drained() {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    let folder = Folder::new();
    let log = leave_one(&folder);
    let at = |arguments: &[&str], path: &Path| {
        run(program().args(arguments).current_dir(path), &postgres.url())
    };
    let listed = at(&["list", "."], &log);
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    let said = String::from_utf8_lossy(&listed.stdout);
    assert!(said.contains("at most 1 record for Postgres"), "{said}");
    let shown = at(&["show", "."], &log);
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("left"),
        "{shown:?}"
    );
    let name = log.file_name().unwrap().to_str().unwrap();
    let drained = at(&["drain", name], &folder.0);
    assert_eq!(drained.status.code(), Some(0), "{drained:?}");
    assert!(
        String::from_utf8_lossy(&drained.stdout).contains("1 record written"),
        "{drained:?}"
    );
    assert_eq!(folder.names(), [""; 0]);
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.events").trim(),
        "1"
    );
}

#[test]
fn log_copied_without_its_lock_file_is_listed_and_drained() {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    let folder = Folder::new();
    let log = leave_one(&folder);
    std::fs::remove_file(log.join("lock")).unwrap();
    let listed = &parsed(&spool(&["list", "--json"], &folder, ""))[0];
    assert_eq!(
        (&listed["state"], &listed["for_postgres"]),
        (&json!("free"), &json!(1))
    );
    assert!(!log.join("lock").exists(), "looking changes nothing");
    let drained = spool(&["drain"], &folder, &postgres.url());
    assert_eq!(drained.status.code(), Some(0), "{drained:?}");
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.events").trim(),
        "1"
    );
}

#[test]
fn missing_folder_and_damaged_log_are_reported() {
    let folder = Folder::new();
    let missing = spool(&["list"], &folder, "");
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    let name = "0190a5a5-0000-7000-8000-000000000000";
    let log = folder.0.join(name);
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(log.join("lock"), "").unwrap();
    std::fs::write(log.join("spool.redb"), "this is no log").unwrap();
    let listed = parsed(&spool(&["list", "--json"], &folder, ""));
    assert_eq!(listed[0]["is_damaged"], true, "{listed}");
    assert_eq!(listed[0]["writer_id"], name);
    let drained = spool(
        &["drain", "--json"],
        &folder,
        "postgres://nobody@127.0.0.1:1/none",
    );
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    assert!(log.exists(), "what cannot be read stays");
}

#[test]
fn a_log_whose_records_are_in_another_database_is_left_as_it_is() {
    let mut postgres = Postgres::start();
    postgres.psql("CREATE DATABASE other");
    let (url, other) = (postgres.url(), postgres.url_of("other"));
    tracing_audit::migrate(&url).unwrap();
    tracing_audit::migrate(&other).unwrap();
    let folder = Folder::new();
    let audit = pipeline(&postgres, &folder, |builder| builder);
    audit.record(Event::new("committed")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    postgres.stop(Stop::Fast);
    audit.record(Event::new("waits")).unwrap();
    audit.shutdown_blocking(Duration::ZERO);
    drop(audit);
    postgres.start_again();

    let wrong = spool(&["drain", "--json"], &folder, &other);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    let told = &parsed(&wrong)[0];
    assert_eq!(
        (&told["outcome"], &told["records"]),
        (&json!("left"), &json!(0))
    );
    let why = told["why"].to_string();
    assert!(
        why.contains("/other has never had a record of this log")
            && why.contains("--after-restore"),
        "{why}"
    );
    let mut there = postgres.session_in("other", "postgres");
    assert_eq!(there.psql("SELECT count(*) FROM audit.trail").trim(), "0");

    // The log was not changed: its own database takes the rest, and misses nothing.
    let right = spool(&["drain", "--json"], &folder, &url);
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    assert_eq!(parsed(&right)[0]["records"], 1);
    let rows = "SELECT string_agg(action_type, ' ' ORDER BY seq) FROM audit.events";
    assert_eq!(postgres.psql(rows).trim(), "committed waits");
}

#[test]
fn a_log_goes_into_an_older_database_if_that_is_said() {
    let mut postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql("CREATE DATABASE restored TEMPLATE audit");
    let folder = Folder::new();
    let audit = pipeline(&postgres, &folder, |builder| builder);
    audit.record(Event::new("committed")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    postgres.stop(Stop::Fast);
    audit.record(Event::new("waits")).unwrap();
    audit.shutdown_blocking(Duration::ZERO);
    drop(audit);
    postgres.start_again();

    let restored = postgres.url_of("restored");
    let drained = spool(&["drain", "--json", "--after-restore"], &folder, &restored);
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    let why = parsed(&drained)[0]["why"].to_string();
    assert!(why.contains("audit.gap"), "{why}");
    let mut there = postgres.session_in("restored", "postgres");
    let rows = "SELECT action_type FROM audit.events WHERE action_type = 'waits'";
    assert_eq!(there.psql(rows).trim(), "waits");
}

#[test]
fn records_that_postgres_refuses_are_said_by_the_drain() {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.action_type = 'left' THEN RAISE SQLSTATE '22000'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION public.refuse()",
    );
    for arguments in [&["drain", "--json"][..], &["drain"]] {
        let folder = Folder::new();
        leave_one(&folder);
        let drained = spool(arguments, &folder, &postgres.url());
        assert_eq!(drained.status.code(), Some(0), "{drained:?}");
        if arguments.len() > 1 {
            let told = &parsed(&drained)[0];
            assert_eq!(
                (&told["records"], &told["dead_lettered"]),
                (&json!(0), &json!(1))
            );
        }
        let said = String::from_utf8_lossy(&drained.stdout);
        assert!(
            said.contains("kept in audit.dead_letters with the reason: 1 record"),
            "{said}"
        );
    }
    let letters = "SELECT count(*) FROM audit.dead_letters";
    assert_eq!(postgres.psql(letters).trim(), "2");
}

#[test]
fn a_database_without_a_trail_is_named_with_what_to_do() {
    let postgres = Postgres::start();
    let folder = Folder::new();
    let log = leave_one(&folder);
    let drained = spool(&["drain", "--json"], &folder, &postgres.url());
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    let why = parsed(&drained)[0]["why"].to_string();
    let place = format!("127.0.0.1:{}/audit: ", postgres.port());
    assert!(
        why.contains(&place) && why.contains("run `tracing-audit migrate`"),
        "{why}"
    );
    assert!(log.exists());
}

#[cfg(feature = "otlp")]
#[test]
fn drain_exports_a_log_and_keeps_it_while_the_collector_is_away() {
    use testkit::collector::{Collector, Protocol};

    for protocol in [Protocol::Grpc, Protocol::Http] {
        let postgres = Postgres::start();
        let url = postgres.url();
        tracing_audit::migrate(&url).unwrap();
        let folder = Folder::new();
        // The program that left it had no export.
        let log = leave_one(&folder);
        let mut collector = Collector::absent(protocol);
        let drain = |collector: &Collector| {
            program()
                .args(["drain", "--otlp", "--json"])
                .arg(&folder.0)
                .env("AUDIT_DATABASE_URL", &url)
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
                .env(
                    "OTEL_EXPORTER_OTLP_PROTOCOL",
                    match protocol {
                        Protocol::Grpc => "grpc",
                        Protocol::Http => "http/protobuf",
                    },
                )
                .output()
                .unwrap()
        };
        let count = || postgres.psql("SELECT count(*) FROM audit.events");

        let failed = drain(&collector);
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        let told = &parsed(&failed)[0];
        assert_eq!(
            (&told["outcome"], &told["records"], &told["exported"]),
            (&json!("left"), &json!(1), &json!(0))
        );
        let why = told["why"].to_string();
        assert!(why.contains("the collector does not accept"), "{why}");
        assert!(log.exists());
        assert_eq!(count().trim(), "1");

        collector.start_again();
        let drained = drain(&collector);
        assert_eq!(drained.status.code(), Some(0), "{drained:?}");
        let told = &parsed(&drained)[0];
        assert_eq!(
            (&told["outcome"], &told["records"], &told["exported"]),
            (&json!("removed"), &json!(0), &json!(1))
        );
        assert!(!log.exists());
        assert_eq!(count().trim(), "1", "no row is written twice");
        let row = postgres.psql("SELECT span_id FROM audit.events");
        let spans = collector.spans();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].span_id(), row.trim());
        assert_eq!(spans[0].resource["service.name"], "left");
    }
}

#[cfg(feature = "otlp")]
#[test]
fn drain_to_a_collector_that_nobody_names_changes_nothing() {
    let folder = Folder::new();
    let log = leave_one(&folder);
    let drained = program()
        .args(["drain", "--otlp"])
        .arg(&folder.0)
        .env("AUDIT_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .output()
        .unwrap();
    assert_eq!(drained.status.code(), Some(2), "{drained:?}");
    let said = String::from_utf8(drained.stderr).unwrap();
    assert!(said.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{said}");
    assert!(log.exists());
}
