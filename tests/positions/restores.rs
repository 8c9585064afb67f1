//! Databases that lost what was committed.

use std::time::Duration;

use super::{
    Earlier, agrees, commit, commit_with_ids, empty_log, gaps, named, not_once, required, writer,
};
use testkit::trail::{PATIENCE, Trail, count, pipeline, record_and_wait_until_stored};
use testkit::wait_until;
use tracing_audit::local_log::{self, DrainError, LogState};
use tracing_audit::{CommitError, DropCause, Event, Health, RecordError};

#[test]
fn restored_database_raises_an_alarm_that_names_the_lost_records() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("gone", 40));
    // The local log discards what is committed a moment later.
    wait_until("the local log is empty", PATIENCE, || {
        audit.record(Event::new("more")).unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
        audit.stats().spool_bytes() < 500
    });
    let known = audit.stats().committed();
    earlier.restore();
    commit(audit, named("after", 30));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    let lost = audit.stats().dropped_by(DropCause::DatabaseLost);
    assert!(lost >= 40, "{:?}", audit.stats());
    assert_eq!(
        gaps(postgres),
        format!("database_lost_records|{old}|6|{known}|{lost}")
    );
    assert_eq!(not_once(postgres, "before", 5), "");
    assert_eq!(not_once(postgres, "after", 30), "");
    agrees(audit, postgres);
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    assert_ne!(writer(postgres), old);
}

#[test]
fn writer_deleted_while_connected_is_reported_as_lost_records() {
    let trail = Trail::start_with(required);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    let gone = commit_with_ids(audit, "gone", 40);
    empty_log(audit);
    let old = writer(postgres);
    let leaf = postgres.psql("SELECT DISTINCT tableoid::regclass FROM audit.events");
    let tables = ["audit.writers", "audit.batches", &leaf];
    let each = |statement: &str| tables.map(|table| statement.replace('%', table)).join("; ");
    // Like a restore in one transaction, or one behind a pooler.
    postgres.psql(&format!(
        "BEGIN; {}; {}; {}; COMMIT",
        each("ALTER TABLE % DISABLE TRIGGER USER"),
        each("DELETE FROM %"),
        each("ALTER TABLE % ENABLE ALWAYS TRIGGER append_only")
    ));
    commit(audit, named("after", 3));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        gaps(postgres),
        format!("database_lost_records|{old}|1|40|40")
    );
    assert_eq!(audit.stats().dropped_by(DropCause::DatabaseLost), 40);
    for id in gone {
        let committed = audit.committed_blocking(id, PATIENCE);
        assert_eq!(committed, Err(CommitError::Lost));
    }
    assert_eq!(not_once(postgres, "after", 3), "");
    agrees(audit, postgres);
}

#[test]
fn dead_letters_lost_by_the_database_are_no_longer_counted() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%')",
    );
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("poison", 4));
    commit(audit, named("gone", 3));
    assert_eq!(audit.stats().dead_lettered(), 4);
    empty_log(audit);
    earlier.restore();
    commit(audit, named("after", 2));
    commit(audit, named("poison_again", 1));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().dropped_by(DropCause::DatabaseLost), 7);
    assert_eq!(audit.stats().dead_lettered(), 1);
    assert_eq!(count(postgres, "dead_letters"), 1);
    agrees(audit, postgres);
}

#[test]
fn database_restored_twice_reports_the_lost_records_of_each_writer() {
    let trail = Trail::start_with(required);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    let kept = commit_with_ids(audit, "kept", 2);
    let mut earlier = Earlier::take(postgres);
    let gone = commit_with_ids(audit, "gone", 3);
    let first = writer(postgres);
    earlier.keep("later");
    commit(audit, named("lost", 40));
    empty_log(audit);
    earlier.restore_from("later");
    commit(audit, named("between", 30));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    let told = format!("database_lost_records|{first}|6|45|40");
    assert_eq!(gaps(postgres), told);
    let second = writer(postgres);
    empty_log(audit);
    earlier.restore_from("earlier");
    commit(audit, named("after", 3));
    // A gap that was reported in a lost row is reported again.
    wait_until("the trail says so", PATIENCE, || {
        gaps(postgres).lines().count() >= 3
    });
    audit.flush_blocking(PATIENCE).unwrap();
    let gaps = gaps(postgres);
    let mut gaps: Vec<_> = gaps.lines().collect();
    let mut expected = [
        told,
        format!("database_lost_records|{first}|3|5|3"),
        format!("database_lost_records|{second}|1|31|31"),
    ];
    gaps.sort_unstable();
    expected.sort_unstable();
    assert_eq!(gaps, expected);
    assert_eq!(audit.stats().dropped_by(DropCause::DatabaseLost), 74);
    assert_eq!(not_once(postgres, "kept", 2), "");
    assert_eq!(not_once(postgres, "after", 3), "");
    agrees(audit, postgres);
    for id in kept {
        audit.committed_blocking(id, PATIENCE).unwrap();
    }
    for id in gone {
        let committed = audit.committed_blocking(id, PATIENCE);
        assert_eq!(committed, Err(CommitError::Lost));
    }
}

#[test]
fn a_disagreement_that_a_drained_log_reports_is_an_alarm_of_the_program_that_takes_it_over() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("gone", 3));
    empty_log(audit);
    earlier.alone();
    for action in named("left", 3) {
        audit.record(Event::new(action)).unwrap();
    }
    assert_eq!(audit.shutdown_blocking(Duration::ZERO).spooled, 3);
    earlier.restore();
    let folder = trail.spool.0.join(trail.spool.names().pop().unwrap());
    // A shutdown without time does not wait for the thread that holds it.
    wait_until("nobody holds the log", PATIENCE, || {
        matches!(
            local_log::list(&folder).unwrap()[0].state,
            LogState::Free(_)
        )
    });
    // However often: it cannot tell of the loss itself.
    for records in [3, 0] {
        let drained = local_log::drain(&folder, &postgres.url(), |_| ());
        assert!(
            matches!(&drained, Err(DrainError::Disputed { records: written }) if *written == records),
            "{drained:?}"
        );
        let listed = local_log::list(&folder).unwrap();
        let LogState::Free(contents) = &listed[0].state else {
            panic!("{listed:?}");
        };
        assert_eq!(contents.for_postgres, 0, "all is written");
    }
    assert_eq!(gaps(postgres), "");
    let next = pipeline(postgres, &trail.spool, |builder| builder);
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    wait_until("the log is removed", PATIENCE, || {
        trail.spool.names().len() == 1
    });
    assert_eq!(gaps(postgres), format!("database_lost_records|{old}|6|8|3"));
    assert_eq!(next.stats().inconsistencies(), 1);
    assert_eq!(next.stats().health(), Health::Inconsistent);
    assert_eq!(not_once(postgres, "left", 3), "");
}

#[test]
fn a_loss_that_is_found_during_a_shutdown_is_reported_by_the_next_program() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("gone", 3));
    empty_log(audit);
    earlier.alone();
    record_and_wait_until_stored(audit, "after0");
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| audit.shutdown_blocking(PATIENCE));
        wait_until("it takes no records any more", PATIENCE, || {
            let refused = audit.record(Event::new("late"));
            refused == Err(RecordError::ShutDown)
        });
        earlier.restore();
        stopping.join().unwrap();
    });
    assert_eq!(not_once(postgres, "after", 1), "");
    let next = pipeline(postgres, &trail.spool, |builder| builder);
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    wait_until("the log is removed", PATIENCE, || {
        trail.spool.names().len() == 1
    });
    assert_eq!(gaps(postgres), format!("database_lost_records|{old}|6|8|3"));
    assert_eq!(next.stats().health(), Health::Inconsistent);
}

#[test]
fn a_program_that_records_nothing_more_notices_a_loss_when_it_is_shut_down() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("gone", 3));
    empty_log(audit);
    earlier.restore();
    audit.shutdown_blocking(PATIENCE);
    let stats = audit.stats();
    assert_eq!(stats.dropped_by(DropCause::DatabaseLost), 3, "{stats:?}");
    assert_eq!(stats.committed(), 5, "{stats:?}");
    let next = pipeline(postgres, &trail.spool, |builder| builder);
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    assert_eq!(gaps(postgres), format!("database_lost_records|{old}|6|8|3"));
    drop(next);
}
