//! The rules that the environment names, in a process of its own that dies.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use testkit::child::{
    child, child_processes, command, kill, say_ready_and_wait_to_be_killed, start_until_ready,
};
use testkit::trail::{Folder, PATIENCE, pipeline, rows};
use testkit::{Postgres, wait_until};
use tracing::info_span;
use tracing_audit::{Kind, QueryRun};
use tracing_subscriber::prelude::*;

child_processes!(records_and_leaves_a_run_open);

const SQL: &str = "SELECT 'ada@example.com'";

fn records_and_leaves_a_run_open() {
    let audit = tracing_audit::from_env().unwrap();
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    let _guard = tracing::subscriber::set_default(subscriber);
    let _open = info_span!("audit.query_run", sql_text = SQL).entered();
    audit.record(QueryRun::new(SQL)).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    // A run in flight is stored once two polls have seen it, and each flush takes longer than those.
    for _ in 0..5 {
        audit.record(QueryRun::new("SELECT 1")).unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
    }
    say_ready_and_wait_to_be_killed();
}

#[test]
fn rules_of_the_environment_hold_for_records_and_for_runs_that_never_ended() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut command = command(child!(records_and_leaves_a_run_open), &postgres, &spool);
    kill(start_until_ready(
        command.env("AUDIT_REDACT", "secrets,personal"),
    ));
    let audit = pipeline(&postgres, &spool, |builder| builder);
    let is_lost = |row: &serde_json::Value| row["error_code"] == "process_lost";
    wait_until("the lost run has a row", PATIENCE, || {
        rows(&postgres, Kind::QueryRun).iter().any(is_lost)
    });
    drop(audit);
    let rows = rows(&postgres, Kind::QueryRun);
    let of_sql: Vec<_> = rows
        .iter()
        .filter(|row| row["sql_text"] != "SELECT 1")
        .collect();
    assert_eq!(of_sql.len(), 2);
    for row in of_sql {
        assert_eq!(row["sql_text"], "SELECT '[email]'", "{row}");
        assert_eq!(
            row["redactions"],
            serde_json::json!(["sql_text: email ×1"]),
            "{row}"
        );
    }
}

#[test]
fn unknown_word_in_the_environment_keeps_the_program_from_starting() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let not_unicode = OsStr::from_bytes(b"secrets\xff");
    for rules in [OsStr::new("secrets,all"), OsStr::new(","), not_unicode] {
        let mut command = command(child!(records_and_leaves_a_run_open), &postgres, &spool);
        let output = command.env("AUDIT_REDACT", rules).output().unwrap();
        assert!(!output.status.success(), "{rules:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("AUDIT_REDACT: a word is none"), "{said}");
    }
}
