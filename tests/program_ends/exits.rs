//! Exits, panics, aborts and signals.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::sync::OnceLock;

use super::{
    AT_ONCE, IN_LOG, assert_committed_by_itself, drain_what_is_left, end_of, run, start, trail,
    work,
};
use fork::{Signal, signal_process};
use serde_json::json;
use testkit::Postgres;
use testkit::child::{
    ChildProcess, child, child_processes, command, say, say_ready_and_wait_to_be_killed,
    start_until_ready,
};
use testkit::trail::{Folder, PATIENCE};
use tracing::{Instrument as _, info_span};
use tracing_audit::{Audit, AuditFutureExt as _};

child_processes!(
    exits_with_a_handle,
    exits_with_a_handle_in_a_static,
    exits_after_dropping_the_last_handle,
    panics_in_a_thread,
    panics_in_tasks,
    aborts_on_a_panic,
    panics_within_a_panic,
    handles_no_signal,
    shuts_down_on_sigterm,
);

const ABORTED: i32 = 6;
const TERMINATED: i32 = 15;

/// Runs the test's child, which ends with records in its log and a run in flight, and then the next
/// process.
#[track_caller]
fn assert_left_to_the_next(process: ChildProcess, is_expected: impl Fn(ExitStatus) -> bool) {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let status = run(process, &postgres, &spool);
    assert!(is_expected(status), "{status:?}");
    assert_eq!(spool.names().len(), 1, "the log is left");
    assert_eq!(
        trail(&postgres),
        (json!({"committed": 3}), json!({})),
        "the program had no time to commit more"
    );
    drain_what_is_left(&postgres, &spool);
}

fn exits_with_a_handle() -> ! {
    let audit = start();
    let _open = work(&audit);
    std::process::exit(3)
}

#[test]
fn log_left_by_an_exit_with_a_live_handle_is_committed_by_the_next_process() {
    assert_left_to_the_next(child!(exits_with_a_handle), |status| {
        status.code() == Some(3)
    });
}

fn exits_with_a_handle_in_a_static() -> ! {
    static AUDIT: OnceLock<Audit> = OnceLock::new();
    let open = work(AUDIT.get_or_init(start));
    std::mem::forget(open);
    std::process::exit(0)
}

#[test]
fn log_left_by_an_exit_with_a_static_handle_is_committed_by_the_next_process() {
    assert_left_to_the_next(child!(exits_with_a_handle_in_a_static), |status| {
        status.success()
    });
}

fn exits_after_dropping_the_last_handle() -> ! {
    let audit = start();
    let _open = work(&audit);
    drop(audit);
    // The subscriber still exists, but its pipeline does not.
    info_span!("audit.event", action_type = "too late");
    std::process::exit(4)
}

#[test]
fn dropping_the_last_handle_before_exit_commits_every_record() {
    assert_committed_by_itself(
        child!(exits_after_dropping_the_last_handle),
        |status| status.code() == Some(4),
        (
            json!({"committed": 3, "in the log": IN_LOG}),
            json!({"open": "unknown shut_down"}),
        ),
    );
}

fn panics_in_a_thread() -> ! {
    let audit = start();
    let panicked = std::thread::spawn(|| {
        let _run = info_span!("audit.query_run", sql_text = "panics").entered();
        let _inner = info_span!("audit.event", action_type = "inside").entered();
        panic!("on purpose");
    })
    .join();
    assert!(panicked.is_err());
    info_span!("audit.query_run", sql_text = "goes on", status = "ok");
    drop(audit);
    std::process::exit(0)
}

#[test]
fn panic_in_a_thread_fails_only_its_run_and_the_program_continues() {
    assert_committed_by_itself(
        child!(panics_in_a_thread),
        |status| status.success(),
        (
            json!({"inside": 1}),
            json!({"panics": "failed panic", "goes on": "succeeded "}),
        ),
    );
}

fn panics_in_tasks() -> ! {
    let audit = start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let panics = |how: &'static str| async move {
            tokio::task::yield_now().await;
            assert_eq!(how, "", "on purpose");
            Ok::<_, String>(())
        };
        let span = info_span!("audit.query_run", sql_text = "audited");
        let audited = tokio::spawn(panics("audited").audited(span));
        let span = info_span!("audit.query_run", sql_text = "instrumented");
        let instrumented = tokio::spawn(panics("instrumented").instrument(span));
        assert!(audited.await.unwrap_err().is_panic());
        assert!(instrumented.await.unwrap_err().is_panic());
        let span = info_span!("audit.query_run", sql_text = "aborted");
        let aborted = tokio::spawn(std::future::pending::<Result<(), String>>().audited(span));
        tokio::task::yield_now().await;
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        let span = info_span!("audit.query_run", sql_text = "goes on");
        panics("").audited(span).await.unwrap();
    });
    drop((runtime, audit));
    std::process::exit(0)
}

#[test]
fn panic_in_a_task_fails_only_its_run_and_the_program_continues() {
    assert_committed_by_itself(
        child!(panics_in_tasks),
        |status| status.success(),
        (
            json!({}),
            json!({
                "audited": "failed panic", "instrumented": "failed panic", "aborted": "cancelled ",
                "goes on": "succeeded ",
            }),
        ),
    );
}

/// Simulates a program compiled with `panic = "abort"`: the hook runs, and nothing after it.
fn aborts_on_a_panic() {
    let audit = start();
    let open = work(&audit);
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    let _entered = open.enter();
    panic!("on purpose");
}

#[test]
fn log_left_by_an_aborting_panic_is_committed_by_the_next_process() {
    assert_left_to_the_next(child!(aborts_on_a_panic), |status| {
        status.signal() == Some(ABORTED)
    });
}

fn panics_within_a_panic() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("while unwinding, on purpose");
        }
    }
    let audit = start();
    let open = work(&audit);
    let _entered = open.enter();
    let _panics = Panics;
    panic!("on purpose");
}

#[test]
fn log_left_by_a_double_panic_is_committed_by_the_next_process() {
    assert_left_to_the_next(child!(panics_within_a_panic), |status| {
        status.signal() == Some(ABORTED)
    });
}

fn terminate(child: &Child) {
    signal_process(child.id().cast_signed().try_into().unwrap(), Signal::TERM).unwrap();
}

fn handles_no_signal() -> ! {
    let audit = start();
    let _open = work(&audit);
    say_ready_and_wait_to_be_killed()
}

#[test]
fn log_left_by_an_unhandled_sigterm_is_committed_by_the_next_process() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = start_until_ready(&mut command(child!(handles_no_signal), &postgres, &spool));
    terminate(&child);
    assert_eq!(end_of(&mut child, AT_ONCE).signal(), Some(TERMINATED));
    assert_eq!(spool.names().len(), 1, "the log is left");
    drain_what_is_left(&postgres, &spool);
}

fn shuts_down_on_sigterm() -> ! {
    let audit = start();
    let _open = work(&audit);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        say("ready");
        terminate.recv().await.unwrap();
        let report = audit.shutdown(PATIENCE).await;
        assert_eq!((report.spooled, report.dropped), (0, 0), "{report:?}");
    });
    std::process::exit(0)
}

#[test]
fn shutdown_on_sigterm_commits_every_record() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = start_until_ready(&mut command(
        child!(shuts_down_on_sigterm),
        &postgres,
        &spool,
    ));
    terminate(&child);
    assert!(end_of(&mut child, PATIENCE).success());
    assert_eq!(
        trail(&postgres),
        (
            json!({"committed": 3, "in the log": IN_LOG}),
            json!({"open": "unknown shut_down"})
        )
    );
    assert_eq!(spool.names(), Vec::<String>::new(), "nothing is left");
}
