//! What `committed()` answers about a record that is not required.

use std::time::Instant;

use super::run;
use testkit::trail::{PATIENCE, Trail};
use tracing_audit::{AuditSpanExt as _, CommitError, Durability, Event, Kind, QueryRun};

#[test]
fn committed_returns_not_required_without_waiting() {
    let trail = Trail::start_with(|builder| builder.durability(Kind::Event, Durability::Required));
    let at_once = |id, expected: CommitError| {
        let begun = Instant::now();
        let answer = trail.audit.committed_blocking(id, PATIENCE);
        assert_eq!(answer, Err(expected));
        // It did not wait.
        assert!(begun.elapsed() < PATIENCE / 2);
    };
    trail.scoped(|| {
        let span = run("open");
        let id = span.audit_id().unwrap();
        at_once(id, CommitError::NotRequired);
        drop(span);
        at_once(id, CommitError::NotRequired);
        trail.audit.flush_blocking(PATIENCE).unwrap();
        at_once(id, CommitError::NotRequired);
    });
    let then = std::time::SystemTime::now();
    let dated = QueryRun::new("dated").started_at(then);
    at_once(trail.audit.record(dated).unwrap(), CommitError::NotRequired);
    at_once(uuid::Uuid::nil(), CommitError::NoRecord);
    at_once(uuid::Uuid::new_v4(), CommitError::NoRecord);
    let required = trail.audit.record(Event::new("e")).unwrap();
    trail.audit.committed_blocking(required, PATIENCE).unwrap();
    trail.audit.shutdown_blocking(PATIENCE);
    at_once(
        uuid::Uuid::from_u128(required.as_u128() & !0xf | 1),
        CommitError::NotRequired,
    );
}

#[test]
fn committed_distinguishes_an_unknown_id_from_a_record_not_required() {
    let trail = Trail::start();
    let committed = |id| trail.audit.committed_blocking(id, PATIENCE);
    assert_eq!(committed(uuid::Uuid::nil()), Err(CommitError::NoRecord));
    assert_eq!(committed(uuid::Uuid::new_v4()), Err(CommitError::NoRecord));
    let id = trail.audit.record(Event::new("e")).unwrap();
    assert_eq!(committed(id), Err(CommitError::NotRequired));
}
