//! Records that are not kept: what is counted, what waits.

use std::time::{Duration, Instant};

use super::gaps;
use serde_json::json;
use testkit::trail::{Folder, PATIENCE, Trail, assert_law, pipeline};
use testkit::{Postgres, Stop, wait_until};
use tracing::info_span;
use tracing_audit::{
    Audit, Builder, DropCause, Durability, Event, Health, Kind, PromptRun, QueryRun, RecordError,
    WhenFull,
};

#[test]
fn consecutive_drops_have_one_gap_row_with_counts_kinds_and_cause() {
    let trail =
        Trail::start_with(|builder| builder.queue_limits(8, 64 * 1024).when_full(WhenFull::Drop));
    let mut dropped = [0_u64; 3];
    // Faster than the worker takes them.
    while dropped.iter().sum::<u64>() < 100 {
        let results = [
            trail.audit.record(QueryRun::new("SELECT 1")),
            trail.audit.record(PromptRun::new("p")),
            trail.audit.record(Event::new("e")),
        ];
        for (count, result) in dropped.iter_mut().zip(results) {
            *count += u64::from(result == Err(RecordError::QueueFull));
        }
    }
    wait_until("the gap is told", PATIENCE, || {
        trail.audit.flush_blocking(PATIENCE).unwrap();
        !gaps(&trail.postgres).is_empty()
    });
    let gaps = gaps(&trail.postgres);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap = &gaps[0];
    assert_eq!(gap["error_code"], "queue_full");
    assert_eq!(gap["status"], "failed");
    assert_eq!(
        gap["metadata"],
        json!({
            "records": dropped.iter().sum::<u64>(),
            "query_runs": dropped[0], "prompt_runs": dropped[1], "events": dropped[2],
        })
    );
    assert!(gap["latency_ms"].as_u64().is_some());
    let stats = trail.audit.stats();
    assert_eq!(
        stats.dropped_by(DropCause::QueueFull),
        dropped.iter().sum::<u64>()
    );
    assert_eq!(stats.committed() + stats.dropped(), stats.accepted());
    assert_law(&trail.audit);
}

#[test]
fn spans_closed_after_shutdown_are_counted_as_dropped() {
    let trail = Trail::start();
    let span = trail.scoped(|| info_span!("audit.event", action_type = "late"));
    trail.audit.shutdown_blocking(PATIENCE);
    drop(span);
    assert_eq!(
        trail.audit.record(Event::new("later")),
        Err(RecordError::ShutDown)
    );
    let stats = trail.audit.stats();
    assert_eq!(stats.dropped_by(DropCause::ShutDown), 2);
    assert_law(&trail.audit);
}

/// A pipeline whose queue is no longer emptied, with best-effort events.
fn blocked(postgres: &Postgres, spool: &Folder, configure: fn(Builder) -> Builder) -> Audit {
    let audit = pipeline(postgres, spool, |builder| {
        configure(builder)
            .durability(Kind::Event, Durability::BestEffort)
            .spool_quota_bytes(1)
            .queue_limits(8, 64 * 1024)
            .drop_timeout(Duration::ZERO)
    });
    audit.record(Event::new("fills the local log")).unwrap();
    wait_until("nothing is taken any more", PATIENCE, || {
        audit.stats().health() == Health::SpoolBlocked
    });
    audit
}

#[test]
fn best_effort_record_never_waits_for_room_in_the_queue() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    let wait = Duration::from_secs(10);
    let audit = blocked(&postgres, &spool, |builder| {
        builder.when_full(WhenFull::Wait(Duration::from_secs(10)))
    });
    let began = Instant::now();
    let mut refused = 0;
    while refused < 10_000 {
        refused += u32::from(audit.record(Event::new("e")) == Err(RecordError::QueueFull));
    }
    assert!(began.elapsed() < wait, "had one of them waited");
    assert_eq!(
        audit.stats().dropped_by(DropCause::QueueFull),
        u64::from(refused)
    );
    assert_law(&audit);
}

#[test]
fn spooled_and_required_records_wait_briefly_for_room_in_the_queue() {
    let mut postgres = Postgres::start();
    postgres.stop(Stop::Fast);
    let configures: [fn(Builder) -> Builder; 2] = [
        |builder| builder,
        |builder| builder.durability(Kind::QueryRun, Durability::Required),
    ];
    for configure in configures {
        let spool = Folder::new();
        let audit = blocked(&postgres, &spool, configure);
        while audit.record(Event::new("e")).is_ok() {}
        let began = Instant::now();
        let refused = audit.record(QueryRun::new("SELECT 1"));
        let waited = began.elapsed();
        assert_eq!(refused, Err(RecordError::QueueFull));
        // A second by default; a busy machine takes longer.
        assert!(
            (Duration::from_secs(1)..PATIENCE).contains(&waited),
            "{waited:?}"
        );
        assert_eq!(audit.stats().dropped_by(DropCause::QueueFull), 2);
        assert_law(&audit);
    }
}
