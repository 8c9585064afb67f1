//! `tracing-audit migrate --reset`: the built program against a real Postgres.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use testkit::Postgres;
use testkit::trail::{Folder, PATIENCE, count, pipeline};
use tracing_audit::{Event, QueryRun};

/// Starts a server with a trail that has two records.
fn with_records() -> Postgres {
    let postgres = Postgres::start();
    write(&postgres);
    postgres
}

fn write(postgres: &Postgres) {
    let spool = Folder::new();
    let audit = pipeline(postgres, &spool, |builder| builder);
    audit.record(QueryRun::new("SELECT 1")).unwrap();
    audit.record(Event::new("login")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
}

/// Runs the program with this answer to its question.
fn reset(url: &str, answer: &str) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .args(["migrate", "--reset", "--url", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it reads.
    let _ = program.stdin.take().unwrap().write_all(answer.as_bytes());
    program.wait_with_output().unwrap()
}

/// Fails unless the program says why, and nothing is removed.
#[track_caller]
fn refused(postgres: &Postgres, output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("was not removed"), "{said}");
    assert!(said.contains(why), "{said}");
    assert_eq!(count(postgres, "query_runs"), 1);
    let guards = "SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'audit_refuse%'";
    assert_eq!(postgres.psql(guards), "2");
}

#[test]
fn reset_creates_a_missing_trail_and_recreates_an_existing_one() {
    let postgres = Postgres::start();
    postgres.psql("CREATE DATABASE \"My App\"");
    for _ in 0..2 {
        let done = reset(&postgres.url_of("My%20App"), "My App\r\n");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{said}");
        assert!(String::from_utf8_lossy(&done.stdout).contains("is ready: version"));
    }
}

#[test]
fn reset_keeps_the_trail_without_the_right_confirmation() {
    let postgres = with_records();
    for answer in ["", "\n", "y\n", "yes\n", "AUDIT\n", " audit\n"] {
        let output = reset(&postgres.url(), answer);
        refused(
            &postgres,
            &output,
            "the answer was not the name of the database",
        );
    }
    let asked = reset(&postgres.url(), "audit");
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(said.contains("with its 2 records"), "{said}");
    assert_eq!(asked.status.code(), Some(0), "{said}");
    assert_eq!(count(&postgres, "query_runs"), 0);
    // As after any migration.
    write(&postgres);
    assert_eq!(count(&postgres, "events"), 1);
    let doctor = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .args(["doctor", "--strict", "--url", &postgres.url()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(0), "{said}");
}

#[test]
fn reset_refuses_a_trail_with_a_hold_or_more_than_a_day_of_records() {
    let postgres = with_records();
    let hold = postgres.psql("SELECT audit.place_hold('case')");
    refused(
        &postgres,
        &reset(&postgres.url(), "audit\n"),
        "a legal hold is in force",
    );
    postgres.psql(&format!("SELECT audit.lift_hold('{hold}', 'settled')"));
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version, committed_at)
         VALUES (gen_random_uuid(), 1, 1, '{\"events\": 1}', 0, '', now() - interval '25 hours')",
    );
    refused(
        &postgres,
        &reset(&postgres.url(), "audit\n"),
        "records older than a day",
    );
}

#[test]
fn reset_refuses_and_names_host_objects_that_depend_on_the_trail() {
    let postgres = with_records();
    postgres.psql("CREATE TABLE feedback (run_id uuid REFERENCES audit.query_runs (id))");
    refused(
        &postgres,
        &reset(&postgres.url(), "audit\n"),
        "constraint feedback_run_id_fkey on table",
    );
    postgres.psql("DROP TABLE feedback; CREATE VIEW seen AS SELECT what FROM audit.trail");
    refused(
        &postgres,
        &reset(&postgres.url(), "audit\n"),
        "view public.seen depends on",
    );
    postgres.psql("DROP VIEW seen; CREATE TABLE tenants (key text, id uuid GENERATED ALWAYS AS (audit.tenant_uuid(key)) STORED)");
    refused(
        &postgres,
        &reset(&postgres.url(), "audit\n"),
        "table public.tenants depends on",
    );
    postgres.psql("DROP TABLE tenants; CREATE TABLE audit.mine ()");
    // A superuser's own, in our schema, goes with it; anybody else's is looked at first.
    postgres.psql("CREATE ROLE mallory; ALTER TABLE audit.mine OWNER TO mallory");
    let output = reset(&postgres.url(), "audit\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("audit.mine belongs to mallory"), "{said}");
    assert_eq!(count(&postgres, "query_runs"), 1);
}

#[test]
fn reset_requires_a_superuser() {
    let postgres = with_records();
    postgres.psql("CREATE ROLE aud LOGIN; GRANT audit_auditor TO aud");
    refused(
        &postgres,
        &reset(&postgres.url_as("aud"), "audit\n"),
        "only a superuser",
    );
    postgres.psql("CREATE ROLE nobody LOGIN");
    let output = reset(&postgres.url_as("nobody"), "audit\n");
    refused(&postgres, &output, "only a superuser");
}
