//! However a program ends, its spans' records are in the trail once: committed by the program
//! itself if it had time to, else by the next process. And it does end.
//!
//! Ends that need a `main` of their own are in the test program `program_returns`, SIGKILL is in
//! `kills`.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod exits;
mod forks;
mod layers;
mod shutdowns;
mod threads;
#[cfg(feature = "otlp")]
mod workers;

use std::process::{Child, ExitStatus};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::child::{ChildProcess, command};
use testkit::trail::{Folder, PATIENCE, once_each, pipeline, record_and_wait_until_stored};
use testkit::{Postgres, wait_until};
use tracing::info_span;
use tracing_audit::{Audit, Builder};
use tracing_subscriber::prelude::*;

/// Records that are in the child's local log but not in Postgres when it ends.
const IN_LOG: usize = 200;

/// Longer than a program that waits for nothing takes to end, on a busy machine; shorter than any
/// wait for the worker.
const AT_ONCE: Duration = Duration::from_secs(4);

/// Starts a pipeline that writes to Postgres only on a flush, and a global subscriber for it.
fn start() -> Audit {
    start_with(|builder| builder)
}

fn start_with(configure: impl FnOnce(Builder) -> Builder) -> Audit {
    let builder = Audit::builder()
        .postgres(std::env::var("AUDIT_DATABASE_URL").unwrap())
        .spool(std::env::var_os("AUDIT_SPOOL_DIR").unwrap())
        .service_name("child")
        .batch(100_000, Duration::from_mins(1));
    let audit = configure(builder).start().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    audit
}

/// Closes spans whose records reach the local log while a run is in flight; returns that run.
fn work(audit: &Audit) -> tracing::Span {
    let open = info_span!("audit.query_run", sql_text = "open");
    // The run is stored by the time that a later record is committed.
    for _ in 0..3 {
        info_span!("audit.event", action_type = "committed");
        audit.flush_blocking(PATIENCE).unwrap();
    }
    for n in 1..IN_LOG {
        info_span!("audit.event", action_type = "in the log", n);
    }
    record_and_wait_until_stored(audit, "in the log");
    open
}

/// Waits until the child has ended.
#[track_caller]
fn end_of(child: &mut Child, limit: Duration) -> ExitStatus {
    let mut status = None;
    wait_until("the child ends", limit, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Runs the test's child to its end.
fn run(process: ChildProcess, postgres: &Postgres, spool: &Folder) -> ExitStatus {
    end_of(
        &mut command(process, postgres, spool).spawn().unwrap(),
        PATIENCE,
    )
}

/// Returns what the child has in Postgres: the actions with their counts, and the outcome of the
/// run.
fn trail(postgres: &Postgres) -> (Value, Value) {
    once_each(postgres);
    let events = postgres.psql(
        "SELECT coalesce(jsonb_object_agg(action_type, n), '{}') FROM \
         (SELECT action_type, count(*) AS n FROM audit.events GROUP BY 1) t",
    );
    let runs = postgres.psql(
        "SELECT coalesce(jsonb_object_agg(sql_text, status || ' ' || coalesce(error_code, '')), '{}') \
         FROM audit.query_runs",
    );
    let parse = |text: &str| serde_json::from_str(text.trim()).unwrap();
    (parse(&events), parse(&runs))
}

/// Starts the next process, and ends it when it has drained the orphaned log.
#[track_caller]
fn drain_what_is_left(postgres: &Postgres, spool: &Folder) {
    let next = pipeline(postgres, spool, |builder| builder);
    wait_until("what was left is drained", PATIENCE, || {
        spool.names().len() == 1
    });
    drop(next);
    assert_eq!(spool.names(), Vec::<String>::new());
    assert_eq!(
        trail(postgres),
        (
            json!({"committed": 3, "in the log": IN_LOG}),
            json!({"open": "unknown process_lost"})
        )
    );
}

/// Runs the test's child, which shuts the pipeline down in some way.
#[track_caller]
fn assert_committed_by_itself(
    process: ChildProcess,
    is_expected: impl Fn(ExitStatus) -> bool,
    (events, runs): (Value, Value),
) -> Postgres {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let status = run(process, &postgres, &spool);
    assert!(is_expected(status), "{status:?}");
    assert_eq!(trail(&postgres), (events, runs));
    assert_eq!(spool.names(), Vec::<String>::new(), "nothing is left");
    postgres
}
