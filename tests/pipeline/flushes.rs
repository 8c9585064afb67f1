//! Flush, shutdown and the logs of other programs.

use std::time::{Duration, Instant};

use testkit::child::{
    child, child_processes, command, kill, say_ready_and_wait_to_be_killed, start_until_ready,
};
use testkit::trail::{
    Folder, PATIENCE, Trail, balanced, count, once_each, pipeline, record_and_wait_until_stored,
};
use testkit::{Postgres, Stop, wait_until};
use tracing::info_span;
use tracing_audit::{DropCause, Event, FlushError, Health, QueryRun, RecordError, WhenFull};
use tracing_subscriber::prelude::*;

child_processes!(flushes_500_events_and_waits, stores_7_000_events_and_waits);

#[test]
fn flush_and_shutdown_work_outside_and_inside_every_kind_of_runtime() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    let check = |expected| {
        assert_eq!(count(postgres, "events"), expected);
        balanced(audit, postgres);
    };
    audit.record(Event::new("none")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    check(1);
    let current = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    current().block_on(async {
        audit
            .record(Event::new("current thread, no timers"))
            .unwrap();
        audit.flush(PATIENCE).await.unwrap();
        check(2);
        audit
            .record(Event::new("blocking within a runtime"))
            .unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
        check(3);
    });
    let multi = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    multi.block_on(async {
        let audit = audit.clone();
        tokio::spawn(async move {
            audit.record(Event::new("one worker")).unwrap();
            audit.flush(PATIENCE).await.unwrap();
        })
        .await
        .unwrap();
        check(4);
    });
    let local = current();
    tokio::task::LocalSet::new().block_on(&local, async {
        audit.record(Event::new("last")).unwrap();
        let report = audit.shutdown(PATIENCE).await;
        assert_eq!(
            (
                report.committed,
                report.spooled,
                report.dead_lettered,
                report.dropped
            ),
            (5, 0, 0, 0)
        );
        assert_eq!(
            audit.shutdown_blocking(PATIENCE),
            report,
            "a second shutdown reports the same"
        );
    });
    check(5);
    assert_eq!(audit.flush_blocking(PATIENCE), Err(FlushError::ShutDown));
    assert_eq!(
        audit.record(Event::new("too late")),
        Err(RecordError::ShutDown)
    );
    assert_eq!(audit.stats().dropped_by(DropCause::ShutDown), 1);
    assert_eq!(audit.stats().health(), Health::Stopped);
    assert_eq!(
        trail.spool.names(),
        Vec::<String>::new(),
        "nothing is left when all is committed"
    );
}

#[test]
fn dropping_the_last_handle_flushes_also_inside_a_runtime() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let audit = pipeline(&postgres, &spool, |builder| builder.drop_timeout(PATIENCE));
        let subscriber = tracing_subscriber::registry().with(audit.layer());
        tracing::subscriber::with_default(subscriber, || {
            info_span!("audit.query_run");
        });
        drop(audit.clone());
        info_span!("audit.query_run");
        drop(audit);
    });
    assert_eq!(count(&postgres, "query_runs"), 1);
}

#[test]
fn records_are_kept_while_postgres_is_away_and_drained_when_it_is_back() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    let audit = pipeline(&postgres, &spool, |builder| builder);
    for _ in 0..3_000 {
        audit.record(QueryRun::new("SELECT 1")).unwrap();
    }
    let timeout = Duration::from_millis(200);
    let flushed = audit.flush_blocking(timeout);
    let error = flushed.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("3000 records are still pending; cannot reach Postgres"),
        "{error}"
    );
    let FlushError::Timeout {
        waited,
        pending,
        orphaned_logs,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((waited, pending, orphaned_logs), (timeout, 3_000, 0));
    assert_eq!(
        (audit.stats().pending(), audit.stats().health()),
        (3_000, Health::Retrying)
    );
    postgres.start_again();
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&postgres, "query_runs"), 3_000);
    assert_eq!(audit.stats().health(), Health::Healthy);
    balanced(&audit, &postgres);
}

#[test]
fn flush_and_shutdown_report_orphaned_logs() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    // Both belong to this process: a log stays when its pipeline is shut down.
    for _ in 0..2 {
        let earlier = pipeline(&postgres, &spool, |builder| builder);
        earlier.record(Event::new("left")).unwrap();
        earlier.shutdown_blocking(Duration::ZERO);
    }
    let living = pipeline(&postgres, &spool, |builder| builder);
    let audit = pipeline(&postgres, &spool, |builder| builder);
    living.record(Event::new("of a living one")).unwrap();
    audit.record(Event::new("own")).unwrap();
    let mut late = FlushError::ShutDown;
    wait_until("the logs are counted", PATIENCE, || {
        late = audit
            .flush_blocking(Duration::from_millis(100))
            .unwrap_err();
        matches!(
            &late,
            FlushError::Timeout {
                orphaned_logs: 2,
                cause: Some(_),
                ..
            }
        )
    });
    assert!(
        matches!(
            late,
            FlushError::Timeout {
                pending: 1,
                orphaned_logs: 2,
                cause: Some(_),
                ..
            }
        ),
        "{late:?}"
    );
    let sentence =
        "1 record is still pending, beside 2 logs of earlier processes; cannot reach Postgres";
    assert!(late.to_string().contains(sentence), "{late}");
    let report = audit.shutdown_blocking(Duration::ZERO);
    assert_eq!((report.spooled, report.orphaned_logs), (1, 2));
    assert!(report.orphaned_bytes > 0);
    postgres.start_again();
    drop(living);
    let next = pipeline(&postgres, &spool, |builder| builder);
    wait_until("all logs are drained", PATIENCE, || {
        spool.names().len() == 1
    });
    let report = next.shutdown_blocking(PATIENCE);
    assert_eq!((report.orphaned_logs, report.orphaned_bytes), (0, 0));
    assert_eq!(count(&postgres, "events"), 4);
}

fn flushes_500_events_and_waits() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    for _ in 0..500 {
        audit.record(Event::new("x")).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    say_ready_and_wait_to_be_killed()
}

#[test]
fn kill_after_a_flush_loses_no_record() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    kill(start_until_ready(&mut command(
        child!(flushes_500_events_and_waits),
        &postgres,
        &spool,
    )));
    assert_eq!(count(&postgres, "events"), 500);
    // The next process finds the folder of the dead one, which holds nothing new.
    let audit = pipeline(&postgres, &spool, |builder| builder);
    audit.record(Event::new("next")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    wait_until("the drained folder is removed", PATIENCE, || {
        spool.names().len() == 1
    });
    assert_eq!(
        (count(&postgres, "events"), audit.stats().adopted()),
        (501, 0)
    );
    once_each(&postgres);
}

fn stores_7_000_events_and_waits() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    for _ in 1..7_000 {
        audit.record(Event::new("x")).unwrap();
    }
    record_and_wait_until_stored(&audit, "x");
    say_ready_and_wait_to_be_killed()
}

#[test]
fn orphaned_log_of_a_killed_process_is_drained_once_by_the_next() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    kill(start_until_ready(&mut command(
        child!(stores_7_000_events_and_waits),
        &postgres,
        &spool,
    )));
    kill(start_until_ready(&mut command(
        child!(stores_7_000_events_and_waits),
        &postgres,
        &spool,
    )));
    assert_eq!(spool.names().len(), 2);
    postgres.start_again();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("both folders are drained and removed", PATIENCE, || {
        spool.names().len() == 1
    });
    assert_eq!(
        (count(&postgres, "events"), audit.stats().adopted()),
        (14_000, 14_000)
    );
    assert_eq!(audit.stats().accepted(), 0, "another process accepted them");
    assert_eq!(
        postgres
            .psql("SELECT DISTINCT service_name FROM audit.events")
            .trim(),
        "child"
    );
    once_each(&postgres);
}

#[test]
fn waiting_for_room_leaves_a_threads_unpark_token_alone() {
    let trail = Trail::start_with(|builder| {
        builder
            .spool_quota_bytes(0)
            .queue_limits(8, 1 << 20)
            .when_full(WhenFull::Wait(Duration::from_millis(20)))
    });
    while trail.audit.record(Event::new("x")).is_ok() {}
    std::thread::current().unpark();
    let _ = trail.audit.record(Event::new("waits in vain"));
    let began = Instant::now();
    std::thread::park_timeout(PATIENCE);
    assert!(began.elapsed() < PATIENCE, "the token was there");
}
