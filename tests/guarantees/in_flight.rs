//! Runs in flight when their process is killed or shuts down.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::child::{
    child, child_processes, command, kill, say, say_ready_and_wait_to_be_killed, start_until_ready,
    wait_for_word, wait_to_be_killed,
};
use testkit::trail::{Folder, PATIENCE, Trail, assert_law, pipeline, rows};
use testkit::{Postgres, Stop, wait_until};
use tracing::info_span;
use tracing_audit::{AuditSpanExt as _, DropCause, Durability, Event, Kind};
use tracing_subscriber::prelude::*;

child_processes!(
    keeps_two_runs_in_flight_until_killed,
    records_once_after_being_idle,
);

fn keeps_two_runs_in_flight_until_killed() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let _request = info_span!("request", request_id = "r-1", tenant_id = "acme").entered();
    let query = info_span!("audit.query_run", sql_text = "SELECT 1", row_count = 7_u64);
    let _prompt = info_span!("audit.prompt_run", rendered_prompt = "p", status = "ok");
    // An event is not tracked by default, and this query has ended.
    let _event = info_span!("audit.event", action_type = "open");
    drop(info_span!("audit.query_run", sql_text = "ended"));
    drop(query.clone());
    // Both are stored by the time that a later record is committed.
    for _ in 0..3 {
        audit.record(Event::new("after")).unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
    }
    say(&format!("{} ready", query.audit_id().unwrap()));
    wait_to_be_killed()
}

#[test]
fn run_in_flight_when_its_process_is_killed_gets_a_row() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = command(
        child!(keeps_two_runs_in_flight_until_killed),
        &postgres,
        &spool,
    )
    .spawn()
    .unwrap();
    let said = wait_for_word(&mut child, "ready");
    let id = said.split(' ').nth_back(1).unwrap();
    kill(child);
    assert_eq!(rows(&postgres, Kind::PromptRun).len(), 0);
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("what was left is there", PATIENCE, || {
        spool.names().len() == 1
    });
    let queries = rows(&postgres, Kind::QueryRun);
    let prompts = rows(&postgres, Kind::PromptRun);
    assert_eq!((queries.len(), prompts.len()), (2, 1));
    let lost = queries
        .iter()
        .find(|row| row["sql_text"] == "SELECT 1")
        .unwrap();
    assert_eq!(lost["id"], id);
    assert_eq!(lost["request_id"], "r-1");
    assert_eq!(lost["row_count"], 7);
    assert_eq!(lost["service_name"], "child");
    for row in [lost, &prompts[0]] {
        assert_eq!(row["status"], "unknown");
        assert_eq!(row["error_code"], "process_lost");
        assert_eq!(row["finished_at"], Value::Null);
        assert_eq!(row["duration_ms"], Value::Null);
        assert_ne!(row["tenant_id"], Value::Null);
    }
    let ended = queries
        .iter()
        .find(|row| row["sql_text"] == "ended")
        .unwrap();
    assert_eq!(ended["error_code"], Value::Null);
    assert_eq!(
        rows(&postgres, Kind::Event)
            .iter()
            .filter(|row| row["action_type"] == "open")
            .count(),
        0
    );
    drop(audit);
}

#[test]
fn runs_open_at_shutdown_get_rows() {
    let trail = Trail::start();
    trail.scoped(|| {
        let _stored = info_span!("audit.query_run", sql_text = "stored");
        for _ in 0..3 {
            trail.audit.record(Event::new("after")).unwrap();
            trail.audit.flush_blocking(PATIENCE).unwrap();
        }
        let _young = info_span!("audit.query_run", sql_text = "young");
        let report = trail.audit.shutdown_blocking(PATIENCE);
        assert_eq!((report.spooled, report.dropped), (0, 0), "{report:?}");
    });
    let queries = rows(&trail.postgres, Kind::QueryRun);
    assert_eq!(queries.len(), 2);
    for row in queries {
        assert_eq!(
            (&row["status"], &row["error_code"]),
            (&json!("unknown"), &json!("shut_down"))
        );
    }
    assert_law(&trail.audit);
    assert_eq!(trail.spool.names(), Vec::<String>::new());
}

#[test]
fn run_that_ends_after_shutdown_is_counted_once_as_committed_or_dropped() {
    let trail = Trail::start_with(|builder| {
        builder
            .runs_in_flight(Kind::PromptRun, false)
            .durability(Kind::QueryRun, Durability::Required)
    });
    trail.scoped(|| {
        let stored = info_span!("audit.query_run", sql_text = "stored");
        for _ in 0..3 {
            trail.audit.record(Event::new("after")).unwrap();
            trail.audit.flush_blocking(PATIENCE).unwrap();
        }
        let young = info_span!("audit.query_run", sql_text = "young");
        let id = young.audit_id().unwrap();
        // Nobody asks for it: the only row about it is its own.
        let unseen = info_span!("audit.prompt_run", rendered_prompt = "unseen");
        let report = trail.audit.shutdown_blocking(PATIENCE);
        assert_eq!((report.committed, report.dropped), (5, 0), "{report:?}");
        drop((stored, young));
        assert_eq!(trail.audit.stats().dropped(), 0, "both have their rows");
        // A caller that asks is told so.
        assert_eq!(trail.audit.committed_blocking(id, PATIENCE), Ok(()));
        drop(unseen);
    });
    let stats = trail.audit.stats();
    assert_eq!((stats.accepted(), stats.committed()), (6, 5), "{stats:?}");
    assert_eq!(stats.dropped_by(DropCause::ShutDown), 1, "{stats:?}");
    assert_law(&trail.audit);
    assert_eq!(rows(&trail.postgres, Kind::QueryRun).len(), 2);
    assert_eq!(rows(&trail.postgres, Kind::PromptRun).len(), 0);
}

#[test]
fn tracked_kinds_are_configurable() {
    let trail = Trail::start_with(|builder| {
        builder
            .runs_in_flight(Kind::QueryRun, false)
            .runs_in_flight(Kind::Event, true)
    });
    trail.scoped(|| {
        let _query = info_span!("audit.query_run", sql_text = "not tracked");
        let _event = info_span!("audit.event", action_type = "tracked");
        trail.audit.shutdown_blocking(PATIENCE);
    });
    assert_eq!(rows(&trail.postgres, Kind::QueryRun).len(), 0);
    assert_eq!(rows(&trail.postgres, Kind::Event).len(), 1);
}

#[test]
fn finished_run_is_never_reported_as_lost() {
    let trail = Trail::start();
    trail.scoped(|| {
        for n in 0..200_u64 {
            let span = info_span!("audit.query_run", sql_text = "SELECT 1", n);
            if n % 20 == 0 {
                trail.audit.flush_blocking(PATIENCE).unwrap();
            }
            drop(span);
        }
    });
    trail.audit.shutdown_blocking(PATIENCE);
    let lost = trail
        .postgres
        .psql("SELECT count(*), count(error_code), count(DISTINCT id) FROM audit.query_runs");
    assert_eq!(lost.trim(), "200|0|200");
}

fn records_once_after_being_idle() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    // Longer than the worker takes to become idle.
    std::thread::sleep(Duration::from_secs(2));
    audit.record(Event::new("after a while")).unwrap();
    // 100 ms by default; a busy machine may delay the worker.
    std::thread::sleep(Duration::from_secs(1));
    say_ready_and_wait_to_be_killed()
}

#[test]
fn record_of_an_idle_program_reaches_the_local_log_within_a_second() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    kill(start_until_ready(&mut command(
        child!(records_once_after_being_idle),
        &postgres,
        &spool,
    )));
    postgres.start_again();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("what was left is drained", PATIENCE, || {
        spool.names().len() == 1
    });
    assert_eq!(rows(&postgres, Kind::Event).len(), 1);
    drop(audit);
}
