//! `accepted = committed + pending + dead_lettered + dropped` holds whatever happens, and the
//! tables agree.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use testkit::trail::{Folder, PATIENCE, assert_law, pipeline};
use testkit::{Postgres, Stop};
use tracing::info_span;
use tracing_audit::{DropCause, Durability, Event, Kind, PromptRun, QueryRun, Stats, WhenFull};
use tracing_subscriber::prelude::*;

/// One step of a random sequence.
#[derive(Clone, Copy, Debug)]
enum Step {
    Records(u16),
    Spans(u16),
    /// Records that Postgres will refuse.
    Poison(u8),
    /// Spans that are still open at the end.
    Leave(u8),
    Large(u8),
    Flush,
    StopServer(bool),
    StartServer,
    Terminate,
    ReadOnly(bool),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..2_000_u16).prop_map(Step::Records),
        4 => (1..500_u16).prop_map(Step::Spans),
        2 => (1..5_u8).prop_map(Step::Poison),
        1 => (1..5_u8).prop_map(Step::Leave),
        1 => (1..5_u8).prop_map(Step::Large),
        2 => Just(Step::Flush),
        2 => any::<bool>().prop_map(Step::StopServer),
        3 => Just(Step::StartServer),
        2 => Just(Step::Terminate),
        2 => any::<bool>().prop_map(Step::ReadOnly),
        2 => Just(Step::Look),
    ]
}

/// Runs the steps on a new pipeline, and compares its counts with the tables.
#[allow(clippy::too_many_lines, reason = "one arm for each step")]
fn run(postgres: &mut Postgres, is_running: &mut bool, steps: &[Step]) {
    let spool = Folder::new();
    let audit = pipeline(postgres, &spool, |builder| {
        builder
            .batch(300, Duration::from_millis(10))
            .queue_limits(400, 256 * 1024)
            .when_full(WhenFull::Drop)
            .durability(Kind::PromptRun, Durability::BestEffort)
    });
    let (mut refused, mut made) = (0_u64, 0_u64);
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    tracing::subscriber::with_default(subscriber, || {
        let mut open = Vec::new();
        let mut is_read_only = false;
        for step in steps {
            match *step {
                Step::Records(count) => {
                    for n in 0..count {
                        let record = match n % 3 {
                            0 => audit.record(QueryRun::new("SELECT 1")),
                            1 => audit.record(PromptRun::new("p")),
                            _ => audit.record(Event::new("e")),
                        };
                        made += 1;
                        refused += u64::from(record.is_err());
                    }
                }
                Step::Spans(count) => {
                    for n in 0..count {
                        let before = audit.stats().dropped();
                        drop(info_span!("audit.query_run", sql_text = "SELECT 1", n));
                        made += 1;
                        refused += audit.stats().dropped() - before;
                    }
                }
                Step::Poison(count) => {
                    for _ in 0..count {
                        made += 1;
                        refused += u64::from(audit.record(Event::new("poison")).is_err());
                    }
                }
                Step::Leave(count) => {
                    for _ in 0..count {
                        open.push(info_span!("audit.prompt_run", rendered_prompt = "open"));
                    }
                }
                Step::Large(count) => {
                    for _ in 0..count {
                        made += 1;
                        let record = QueryRun::new("x".repeat(300_000));
                        refused += u64::from(audit.record(record).is_err());
                    }
                }
                Step::Flush => {
                    let patience = if *is_running && !is_read_only {
                        PATIENCE
                    } else {
                        Duration::from_millis(20)
                    };
                    let _ = audit.flush_blocking(patience);
                }
                Step::StopServer(cleanly) => {
                    if std::mem::take(is_running) {
                        postgres.stop(if cleanly { Stop::Fast } else { Stop::Immediate });
                    }
                }
                Step::StartServer => {
                    if !std::mem::replace(is_running, true) {
                        postgres.start_again();
                    }
                }
                Step::Terminate if *is_running => {
                    postgres.psql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tracing-audit'",
                    );
                }
                Step::ReadOnly(is_on) if *is_running => {
                    is_read_only = is_on;
                    postgres.psql(&format!(
                        "ALTER SYSTEM SET default_transaction_read_only = {is_on}"
                    ));
                    postgres.psql("SELECT pg_reload_conf()");
                }
                Step::Terminate | Step::ReadOnly(_) => {}
                Step::Look => assert_law(&audit),
            }
        }
        if !std::mem::replace(is_running, true) {
            postgres.start_again();
        }
        postgres.psql("ALTER SYSTEM SET default_transaction_read_only = off");
        postgres.psql("SELECT pg_reload_conf()");
        audit.flush_blocking(PATIENCE).unwrap();
        assert_law(&audit);
        let report = audit.shutdown_blocking(PATIENCE);
        assert_eq!(report.spooled, 0, "{report:?}");
        // They close too late: each has its row already, or is counted.
        drop(open);
    });
    assert_law(&audit);
    assert_eq!(spool.names(), Vec::<String>::new());
    assert_tables(postgres, &audit.stats(), made, refused);
}

/// Compares the counts of a pipeline that has ended, the last one to write, with the tables.
fn assert_tables(postgres: &Postgres, stats: &Stats, made: u64, refused: u64) {
    let counts = postgres.psql(
        "WITH rows AS (
             SELECT writer_id, false AS made FROM audit.query_runs WHERE error_code IS DISTINCT FROM 'shut_down'
             UNION ALL SELECT writer_id, error_code = 'shut_down' FROM audit.prompt_runs
             UNION ALL SELECT writer_id, action_type = 'audit.gap' FROM audit.events),
         last AS (SELECT writer_id FROM audit.batches ORDER BY committed_at DESC, first_seq DESC LIMIT 1)
         SELECT (SELECT count(*) FROM rows JOIN last USING (writer_id)),
                (SELECT count(*) FROM rows JOIN last USING (writer_id) WHERE made IS TRUE),
                (SELECT count(*) FROM audit.dead_letters JOIN last USING (writer_id)),
                (SELECT coalesce(sum((metadata->>'records')::bigint), 0) FROM audit.events JOIN last USING (writer_id) WHERE action_type = 'audit.gap')",
    );
    let counts: Vec<u64> = counts
        .trim()
        .split('|')
        .map(|count| count.parse().unwrap())
        .collect();
    let [rows, of_its_own, letters, told] = counts[..] else {
        panic!("{counts:?}");
    };
    if stats.accepted() == 0 || stats.committed() + stats.dead_lettered() == 0 {
        return;
    }
    assert_eq!(
        (rows, letters),
        (stats.committed(), stats.dead_lettered()),
        "{stats:?}"
    );
    let late = stats.dropped_by(DropCause::ShutDown);
    assert_eq!(stats.dropped(), refused + late, "{stats:?}");
    assert_eq!(told, refused, "every drop is told in a row");
    assert_eq!(stats.accepted(), made + of_its_own + late, "{stats:?}");
}

#[test]
fn every_record_is_committed_once_or_counted_under_random_faults() {
    let postgres = Postgres::start();
    let first = pipeline(&postgres, &Folder::new(), |builder| builder);
    first.record(Event::new("makes the tables")).unwrap();
    first.shutdown_blocking(PATIENCE);
    postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%')",
    );
    let mut is_running = true;
    let config = Config {
        cases: std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(12),
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        // Each step takes a while.
        max_shrink_iters: 30,
        ..Config::default()
    };
    let postgres = std::cell::RefCell::new((postgres, &mut is_running));
    TestRunner::new(config)
        .run(&proptest::collection::vec(step(), 3..25), |steps| {
            let mut held = postgres.borrow_mut();
            let (postgres, is_running) = &mut *held;
            run(postgres, is_running, &steps);
            Ok(())
        })
        .unwrap();
}
