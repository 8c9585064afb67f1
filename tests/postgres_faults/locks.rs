//! Locks, deadlocks, serialization.

use std::time::Duration;

use super::{
    READ_ALL, SAY_SQLSTATES, assert_three_times, by_flush, flush, leaf, made_ahead, record_three,
    start_with, wait_for_health,
};
use testkit::trail::{Folder, PATIENCE, balanced, count, pipeline};
use testkit::{ADMINISTRATOR, Postgres, wait_until};
use tracing_audit::{Event, Health, Kind};

#[test]
fn batch_is_retried_while_a_lock_outlasts_the_lock_timeout() {
    let trail = start_with(&[SAY_SQLSTATES]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    let mut other = postgres.session(ADMINISTRATOR);
    other.psql(&format!(
        "BEGIN; LOCK TABLE {} IN SHARE MODE",
        leaf(postgres, Kind::Event)
    ));
    record_three(audit);
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_until("the lock timeout is over", PATIENCE, || {
        postgres.log().contains("55P03 tracing-audit ERROR")
    });
    wait_for_health(audit, Health::Retrying);
    other.psql("ROLLBACK");
    flush(audit);
    assert_three_times(2, audit, postgres);
}

#[test]
fn records_are_committed_and_future_partitions_deferred_during_a_long_read() {
    let (postgres, spool) = (Postgres::start_with(&[SAY_SQLSTATES]), Folder::new());
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql("SELECT audit.ensure_partition(t, now()) FROM unnest(audit.record_tables()) t");
    let mut reader = postgres.session(ADMINISTRATOR);
    reader.psql(READ_ALL);
    let audit = pipeline(&postgres, &spool, by_flush);
    // Before and after an attempt to create partitions, or both after it.
    for times in 1..=2 {
        record_three(&audit);
        flush(&audit);
        assert_three_times(times, &audit, &postgres);
        wait_until("the making of partitions has given up", PATIENCE, || {
            let log = postgres.log();
            log.matches("55P03 tracing-audit ERROR").count() as u64 >= times
        });
    }
    assert_eq!(made_ahead(&postgres), "0");
    assert_eq!(audit.stats().in_default_partition(), 0);
    reader.psql("ROLLBACK");
    wait_until("partitions are made ahead", PATIENCE, || {
        made_ahead(&postgres) == "3"
    });
}

#[test]
fn creating_a_missing_partition_waits_for_a_reader_and_blocks_others_only_briefly() {
    let (postgres, spool) = (Postgres::start_with(&[SAY_SQLSTATES]), Folder::new());
    tracing_audit::migrate(&postgres.url()).unwrap();
    let mut reader = postgres.session(ADMINISTRATOR);
    reader.psql(READ_ALL);
    let audit = pipeline(&postgres, &spool, by_flush);
    record_three(&audit);
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_for_health(&audit, Health::Retrying);
    let mut another = postgres.session(ADMINISTRATOR);
    another.psql("SET statement_timeout = '8s'; SELECT count(*) FROM audit.trail");
    reader.psql("ROLLBACK");
    flush(&audit);
    assert_three_times(1, &audit, &postgres);
    // Rows there would have kept the whole month in the default partition.
    assert_eq!(audit.stats().in_default_partition(), 0);
}

#[test]
fn deadlock_with_another_session_is_retried() {
    let trail = start_with(&[SAY_SQLSTATES, "deadlock_timeout=2s"]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    let mut other = postgres.session(ADMINISTRATOR);
    // Whoever detects a deadlock becomes its victim: the other session does not check.
    other.psql(&format!(
        "SET deadlock_timeout = '1h'; BEGIN; LOCK TABLE {} IN SHARE MODE",
        leaf(postgres, Kind::Event)
    ));
    record_three(audit);
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_until("the batch waits", PATIENCE, || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event_type = 'Lock'";
        postgres.psql(waiting) == "1"
    });
    // A lock that the batch already holds.
    other.psql("LOCK TABLE audit.batches IN SHARE MODE");
    wait_for_health(audit, Health::Retrying);
    assert!(postgres.log().contains("40P01 tracing-audit ERROR"));
    other.psql("ROLLBACK");
    flush(audit);
    assert_three_times(2, audit, postgres);
}

#[test]
fn serialization_failure_is_retried() {
    let trail = start_with(&[
        SAY_SQLSTATES,
        "default_transaction_isolation=repeatable read",
    ]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    // A host that counts events.
    postgres.psql(
        "CREATE TABLE counter AS SELECT 0 AS events;
         CREATE FUNCTION count_event() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN UPDATE public.counter SET events = events + 1; RETURN NEW; END $$;
         CREATE TRIGGER count_event BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION count_event()",
    );
    let mut other = postgres.session(ADMINISTRATOR);
    other.psql("BEGIN; UPDATE counter SET events = events + 1");
    // Alone in its batch, so there is nothing to bisect.
    audit.record(Event::new("e")).unwrap();
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_until("the batch waits for the counter", PATIENCE, || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event_type = 'Lock'";
        postgres.psql(waiting) == "1"
    });
    other.psql("COMMIT");
    flush(audit);
    assert!(postgres.log().contains("40001 tracing-audit ERROR"));
    assert_eq!(postgres.psql("SELECT events FROM counter"), "2");
    assert_eq!(count(postgres, "events"), 2);
    assert_eq!(audit.stats().dead_lettered(), 0);
    balanced(audit, postgres);
}
