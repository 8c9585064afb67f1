//! What was accepted is in Postgres exactly once, whatever happens in between.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::json;
use testkit::child::{
    child, child_processes, command, kill, say_ready_and_wait_to_be_killed, start_until_ready,
};
use testkit::trail::{Folder, PATIENCE, Trail, balanced, count, once_each, pipeline, rows};
use testkit::{Postgres, Stop, wait_until};
use tracing::info_span;
use tracing_audit::{
    Audit, BuildError, DropCause, Event, FlushError, Health, Kind, PromptRun, QueryRun,
    RecordError, WhenFull,
};
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
    for _ in 0..7_000 {
        audit.record(Event::new("x")).unwrap();
    }
    // Nothing is committed, but everything is in the local log.
    wait_until("the spool holds all", PATIENCE, || {
        audit.stats().queue_size().0 == 0 && audit.stats().spool_bytes() > 7_000 * 90
    });
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
fn a_row_that_postgres_refuses_becomes_a_dead_letter_and_the_others_are_written() {
    let trail = Trail::start_with(|builder| builder.batch(100_000, Duration::from_secs(5)));
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    // A host's constraint, which no value can be adapted to.
    trail.postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%')",
    );
    for position in 0..1_000 {
        let poisoned = matches!(position, 0 | 1 | 500 | 999);
        let action = if poisoned { "poison SECRET" } else { "fine" };
        trail.audit.record(Event::new(action)).unwrap();
        trail.audit.record(QueryRun::new("SELECT 1")).unwrap();
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let stats = trail.audit.stats();
    assert_eq!(
        (stats.committed(), stats.dead_lettered(), stats.pending()),
        (1 + 1_996, 4, 0)
    );
    assert_eq!(count(&trail.postgres, "query_runs"), 1_000);
    let letters = trail.postgres.psql(
        "SELECT string_agg(DISTINCT kind || ' ' || sqlstate, ','), count(*), count(record_id), \
         bool_and(position('poison SECRET'::bytea IN frame) > 0 AND octet_length(salt) = 16) FROM audit.dead_letters",
    );
    assert_eq!(letters.trim(), "audit.event 23514|4|4|t");
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn a_host_table_can_refer_to_a_run_and_a_query_by_time_reads_one_partition() {
    let trail = Trail::start();
    let mut ids = Vec::new();
    // 2026-01-15, 2026-02-15 and 9000-01-01, UTC: the last from a clock that is wrong.
    for seconds in [1_768_435_200, 1_771_113_600, 221_845_392_000] {
        let run = QueryRun::new("SELECT 1").started_at(UNIX_EPOCH + Duration::from_secs(seconds));
        ids.push(trail.audit.record(run).unwrap());
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let leaves = trail
        .postgres
        .psql("SELECT DISTINCT tableoid::regclass::text FROM audit.query_runs ORDER BY 1");
    assert_eq!(
        leaves.lines().collect::<Vec<_>>(),
        [
            "audit_parts.query_runs_2026_01",
            "audit_parts.query_runs_2026_02",
            "audit_parts.query_runs_default"
        ]
    );
    trail.postgres.psql(
        "CREATE TABLE favorite_queries (run_id uuid NOT NULL REFERENCES audit.query_runs (id))",
    );
    trail.postgres.psql(&format!(
        "INSERT INTO favorite_queries VALUES ('{}')",
        ids[1]
    ));
    let refused = trail
        .postgres
        .try_psql("INSERT INTO favorite_queries VALUES ('00000000-0000-7000-8000-000000000000')")
        .unwrap_err();
    assert!(refused.contains("23503"), "{refused}");
    let plan = trail.postgres.psql(
        "EXPLAIN (COSTS OFF) SELECT * FROM audit.query_runs \
         WHERE started_at >= '2026-02-01 00:00+00' AND started_at < '2026-02-20 00:00+00'",
    );
    assert!(plan.contains("query_runs_2026_02"), "{plan}");
    assert!(!plan.contains("query_runs_2026_01"), "{plan}");
    let made = trail.postgres.psql(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'audit_parts'::regnamespace AND relkind = 'r' AND relname LIKE '%' || to_char(now() AT TIME ZONE 'UTC' + interval '1 month', 'YYYY_MM')",
    );
    assert_eq!(
        made.trim(),
        "4",
        "the next month's partitions are there before they are needed"
    );
}

#[test]
fn pipeline_without_the_right_to_create_tables_waits_until_they_exist() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    postgres.psql("CREATE ROLE app LOGIN");
    let url = postgres.url().replace("postgres@", "app@");
    let audit = pipeline(&postgres, &spool, |builder| builder.postgres(url));
    audit.record(Event::new("kept")).unwrap();
    wait_until("it says that it waits", PATIENCE, || {
        audit.stats().health() == Health::Holding
    });
    assert_eq!(audit.stats().pending(), 1);
    tracing_audit::migrate(&postgres.url()).unwrap();
    tracing_audit::migrate(&postgres.url()).expect("a second time there is nothing to do");
    postgres.psql("GRANT audit_writer TO app");
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(rows(&postgres, Kind::Event)[0]["action_type"], "kept");
    assert_eq!(audit.stats().health(), Health::Healthy);
}

#[test]
fn tables_of_a_newer_version_are_left_alone() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql(
        "INSERT INTO audit.schema_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of the future', true, '', 0)",
    );
    let error = tracing_audit::migrate(&postgres.url()).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.drop_timeout(Duration::ZERO)
    });
    audit.record(Event::new("kept")).unwrap();
    wait_until("it says that it waits", PATIENCE, || {
        audit.stats().health() == Health::Holding
    });
    assert_eq!(
        (audit.stats().pending(), count(&postgres, "events")),
        (1, 0)
    );
}

#[test]
fn concurrent_pipelines_on_an_empty_database_create_the_tables_once() {
    let postgres = Postgres::start();
    let folders: Vec<_> = (0..8).map(|_| Folder::new()).collect();
    std::thread::scope(|scope| {
        for folder in &folders {
            scope.spawn(|| {
                let audit = pipeline(&postgres, folder, |builder| builder);
                audit.record(Event::new("x")).unwrap();
                audit.flush_blocking(PATIENCE).unwrap();
            });
        }
    });
    assert_eq!(count(&postgres, "events"), 8);
    assert_eq!(
        postgres
            .psql("SELECT count(*) FROM audit.schema_migrations")
            .trim(),
        "2"
    );
    assert_eq!(
        postgres
            .psql("SELECT to_regclass('public._sqlx_migrations') IS NULL")
            .trim(),
        "t"
    );
    once_each(&postgres);
}

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

#[test]
fn records_of_a_detached_partition_are_held_until_it_is_attached_again() {
    let trail = Trail::start();
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let leaf = trail
        .postgres
        .psql("SELECT DISTINCT tableoid::regclass FROM audit.events");
    let leaf = leaf.trim();
    let bound = trail.postgres.psql(&format!(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = '{leaf}'::regclass"
    ));
    trail
        .postgres
        .psql(&format!("ALTER TABLE audit.events DETACH PARTITION {leaf}"));
    trail.audit.record(Event::new("second")).unwrap();
    wait_until("it says that it holds", PATIENCE, || {
        trail.audit.stats().health() == Health::Holding
    });
    assert_eq!(trail.audit.stats().committed(), 1);
    trail.postgres.psql(&format!(
        "ALTER TABLE audit.events ATTACH PARTITION {leaf} {}",
        bound.trim()
    ));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&trail.postgres, "events"), 2);
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn records_are_held_while_an_added_column_refuses_them() {
    let trail = Trail::start();
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    trail.postgres.psql("ALTER TABLE audit.events ADD COLUMN theirs text NOT NULL DEFAULT ''; ALTER TABLE audit.events ALTER COLUMN theirs DROP DEFAULT");
    trail.audit.record(Event::new("second")).unwrap();
    wait_until("it says that it holds", PATIENCE, || {
        trail.audit.stats().health() == Health::Holding
    });
    assert_eq!(trail.audit.stats().dead_lettered(), 0);
    trail
        .postgres
        .psql("ALTER TABLE audit.events ALTER COLUMN theirs DROP NOT NULL");
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&trail.postgres, "events"), 2);
}

#[test]
fn an_idle_pipeline_is_healthy() {
    let trail = Trail::start();
    wait_until("it says so", PATIENCE, || {
        trail.audit.stats().health() == Health::Healthy
    });
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
