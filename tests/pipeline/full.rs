//! Queues and logs that are full.

use std::time::{Duration, Instant};

use testkit::trail::{Folder, PATIENCE, Trail, balanced, count, once_each, pipeline};
use testkit::{Postgres, Stop, wait_until};
use tracing_audit::{DropCause, Event, FlushError, Health, RecordError, WhenFull};

#[test]
fn records_refused_by_a_full_queue_are_counted_and_the_others_committed() {
    let trail =
        Trail::start_with(|builder| builder.queue_limits(64, 1 << 20).when_full(WhenFull::Drop));
    let mut refused = 0;
    let until = Instant::now() + PATIENCE;
    while refused == 0 {
        assert!(Instant::now() < until, "the queue was never full");
        for _ in 0..1_000 {
            match trail.audit.record(Event::new("x")) {
                Ok(_) => {}
                Err(RecordError::QueueFull) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    // The row that reports the drops is written a moment after the last of them.
    wait_until("the drops are told", PATIENCE, || {
        trail.audit.flush_blocking(PATIENCE).unwrap();
        let told = trail
            .postgres
            .psql("SELECT count(*) > 0 FROM audit.events WHERE action_type = 'audit.gap'");
        told.trim() == "t" && trail.audit.stats().pending() == 0
    });
    let stats = trail.audit.stats();
    assert_eq!(
        (stats.dropped(), stats.dropped_by(DropCause::QueueFull)),
        (refused, refused)
    );
    assert_eq!(stats.committed(), count(&trail.postgres, "events"));
    assert_eq!(stats.pending(), 0);
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn records_over_the_local_log_quota_stay_queued_and_flush_reports_them_pending() {
    let trail = Trail::start_with(|builder| builder.spool_quota_bytes(1));
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    for _ in 0..500 {
        trail.audit.record(Event::new("x")).unwrap();
    }
    match trail.audit.flush_blocking(PATIENCE) {
        Ok(()) => assert_eq!(trail.audit.stats().pending(), 0),
        Err(FlushError::Timeout { pending, .. }) => assert!(pending > 0),
        Err(other) => panic!("{other}"),
    }
    let report = trail.audit.shutdown_blocking(PATIENCE);
    assert_eq!(
        (report.committed, report.spooled, report.dropped),
        (501, 0, 0)
    );
    assert_eq!(count(&trail.postgres, "events"), 501);
}

#[test]
fn local_log_at_its_quota_accepts_no_record_until_shutdown_stores_the_queue() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    let audit = pipeline(&postgres, &spool, |builder| builder.spool_quota_bytes(1));
    audit.record(Event::new("first")).unwrap();
    wait_until("the quota is reached", PATIENCE, || {
        audit.stats().health() == Health::SpoolBlocked
    });
    let full = audit.stats().spool_bytes();
    for _ in 0..500 {
        audit.record(Event::new("x")).unwrap();
    }
    let timeout = Duration::from_millis(200);
    assert!(matches!(
        audit.flush_blocking(timeout),
        Err(FlushError::Timeout { pending: 501, .. })
    ));
    let stats = audit.stats();
    assert_eq!((stats.queue_size().0, stats.spool_bytes()), (500, full));
    let report = audit.shutdown_blocking(Duration::ZERO);
    assert_eq!((report.spooled, report.dropped), (501, 0));
    postgres.start_again();
    let next = pipeline(&postgres, &spool, |builder| builder);
    wait_until("what was left is drained", PATIENCE, || {
        spool.names().len() == 1
    });
    assert_eq!(count(&postgres, "events"), 501);
    once_each(&postgres);
    drop(next);
}
