//! What was accepted is in Postgres exactly once, whatever happens in between.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod flushes;
mod full;
mod tables;

use std::time::Duration;

use serde_json::json;
use testkit::trail::{PATIENCE, Trail, balanced, count};
use testkit::{Stop, wait_until};
use tracing_audit::{Audit, BuildError, Event, Health, PromptRun, QueryRun, WhenFull};

#[test]
fn every_record_is_committed_once_despite_repeated_server_crashes() {
    let mut trail = Trail::start_with(|builder| builder.batch(50, Duration::from_millis(5)));
    let mut sent = 0;
    for _ in 0..5 {
        for _ in 0..1_000 {
            trail.audit.record(Event::new("x")).unwrap();
            sent += 1;
        }
        let before = trail.audit.stats().batches();
        wait_until("batches are being written", PATIENCE, || {
            trail.audit.stats().batches() > before
        });
        trail.postgres.stop(Stop::Immediate);
        trail.postgres.start_again();
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&trail.postgres, "events"), sent);
    assert_eq!(trail.audit.stats().committed(), sent);
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn connections_terminated_at_random_lose_no_record() {
    let trail = Trail::start_with(|builder| builder.batch(20, Duration::from_millis(1)));
    for _ in 0..10 {
        let before = trail.audit.stats().batches();
        for _ in 0..200 {
            trail.audit.record(PromptRun::new("hi")).unwrap();
        }
        wait_until(
            "a connection is terminated amid its batches",
            PATIENCE,
            || {
                let killed = trail.postgres.psql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tracing-audit'",
            );
                killed.trim() == "1"
            },
        );
        wait_until("batches are written again", PATIENCE, || {
            trail.audit.stats().batches() > before
        });
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&trail.postgres, "prompt_runs"), 2_000);
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn an_idle_pipeline_is_healthy() {
    let trail = Trail::start();
    wait_until("it says so", PATIENCE, || {
        trail.audit.stats().health() == Health::Healthy
    });
}

#[test]
fn failed_start_reports_its_cause_without_the_password() {
    let error = Audit::builder().start().unwrap_err();
    assert!(matches!(error, BuildError::NoDatabase), "{error}");
    let error = Audit::builder()
        .postgres("postgres://u:SECRET@h:port/d")
        .start()
        .unwrap_err();
    assert!(matches!(error, BuildError::DatabaseUrl));
    assert!(!format!("{error} {error:?}").contains("SECRET"));
    let builder = Audit::builder()
        .postgres("postgres://u:SECRET@h/d")
        .spool("/proc/no/such/folder");
    assert!(!format!("{builder:?}").contains("SECRET"));
    let error = builder.start().unwrap_err();
    assert!(
        matches!(&error, BuildError::Spool { folder, .. } if folder.ends_with("folder")),
        "{error:?}"
    );
    assert!(error.to_string().contains("AUDIT_SPOOL_DIR"), "{error}");
}

#[test]
fn records_of_all_kinds_and_large_ones_share_batches() {
    // More than the queue holds at once; the machine may be busy.
    let wait = WhenFull::Wait(Duration::from_secs(10));
    let trail = Trail::start_with(|builder| builder.when_full(wait));
    let large = "x".repeat(900 * 1024);
    for _ in 0..20 {
        trail.audit.record(QueryRun::new(large.clone())).unwrap();
        trail
            .audit
            .record(PromptRun::new("p").response_text(large.clone()))
            .unwrap();
        trail
            .audit
            .record(Event::new("e").metadata("large", json!([large])))
            .unwrap();
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let whole = trail.postgres.psql(
        "SELECT (SELECT count(*) FROM audit.query_runs WHERE length(sql_text) = 921600), \
         (SELECT count(*) FROM audit.prompt_runs WHERE length(response_text) = 921600), \
         (SELECT count(*) FROM audit.events WHERE length(metadata->'large'->>0) = 921600)",
    );
    assert_eq!(whole.trim(), "20|20|20");
    balanced(&trail.audit, &trail.postgres);
}
