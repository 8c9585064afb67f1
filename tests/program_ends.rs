//! However a program ends, its spans' records are in the trail once: committed by the program
//! itself if it had time to, else by the next process. And it does end.
//!
//! Ends that need a `main` of their own are in `program_returns.rs`, SIGKILL is in `kills.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use fork::{Fork, Signal, fork, signal_process};
use serde_json::{Value, json};
use testkit::child::{
    ChildProcess, child, child_processes, command, kill, say, say_ready_and_wait_to_be_killed,
    start_until_ready, wait_for_parent, wait_for_word, wait_to_be_killed,
};
use testkit::trail::{Folder, PATIENCE, Trail, assert_law, count, once_each, pipeline, rows};
use testkit::{Postgres, wait_until};
use tracing::{Instrument as _, info_span};
use tracing_audit::{
    Audit, AuditFutureExt as _, AuditSpanExt as _, Builder, CommitError, Event, FlushError, Kind,
    PromptRun, RecordError,
};
use tracing_subscriber::prelude::*;

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
    uses_its_handle_in_a_fork,
    forks_and_waits_to_be_killed,
    starts_a_program_and_waits_to_be_killed,
    starts_pipelines_in_forks,
    closes_spans_as_threads_end_or_never,
    #[cfg(target_os = "linux")]
    closes_spans_in_5_000_threads,
    #[cfg(feature = "otlp")]
    makes_its_workers_panic,
    #[cfg(feature = "otlp")]
    logs_everything_at_trace,
);

/// Records that are in the child's local log but not in Postgres when it ends.
const IN_LOG: usize = 200;

/// Longer than a program that waits for nothing takes to end, on a busy machine; shorter than any
/// wait for the worker.
const AT_ONCE: Duration = Duration::from_secs(4);

const ABORTED: i32 = 6;
const TERMINATED: i32 = 15;

// The child -----------------------------------------------------------------------

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
    for n in 0..IN_LOG {
        info_span!("audit.event", action_type = "in the log", n);
    }
    wait_until("the log holds all", PATIENCE, || {
        let stats = audit.stats();
        stats.queue_size().0 == 0 && stats.spool_bytes() > IN_LOG as u64 * 90
    });
    open
}

// The parent -----------------------------------------------------------------------

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

// Exit -----------------------------------------------------------------------------

fn exits_with_a_handle() -> ! {
    let audit = start();
    let _open = work(&audit);
    std::process::exit(3)
}

#[test]
fn what_is_in_the_log_at_an_exit_with_a_handle_is_committed_by_the_next() {
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
fn what_is_in_the_log_at_an_exit_with_a_handle_in_a_static_is_committed_by_the_next() {
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
fn all_is_committed_at_an_exit_after_the_last_handle_was_dropped() {
    assert_committed_by_itself(
        child!(exits_after_dropping_the_last_handle),
        |status| status.code() == Some(4),
        (
            json!({"committed": 3, "in the log": IN_LOG}),
            json!({"open": "unknown shut_down"}),
        ),
    );
}

// Panics and aborts -------------------------------------------------------------------

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
fn a_panic_in_a_thread_fails_its_run_alone_and_the_program_goes_on() {
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
fn a_panic_in_a_task_fails_its_run_alone_and_the_program_goes_on() {
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
fn what_is_in_the_log_when_a_panic_aborts_is_committed_by_the_next() {
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
fn what_is_in_the_log_at_a_panic_within_a_panic_is_committed_by_the_next() {
    assert_left_to_the_next(child!(panics_within_a_panic), |status| {
        status.signal() == Some(ABORTED)
    });
}

// Signals ----------------------------------------------------------------------------

fn terminate(child: &Child) {
    signal_process(child.id().cast_signed().try_into().unwrap(), Signal::TERM).unwrap();
}

fn handles_no_signal() -> ! {
    let audit = start();
    let _open = work(&audit);
    say_ready_and_wait_to_be_killed()
}

#[test]
fn what_is_in_the_log_at_a_sigterm_that_nobody_handles_is_committed_by_the_next() {
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
fn all_is_committed_by_a_shutdown_on_sigterm() {
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

// Forks and programs that are started ---------------------------------------------------

/// Everything a forked process may try with the handle from its parent. Every thread but its own is
/// gone.
fn use_what_was_forked(audit: Audit) {
    let id = audit.record(Event::new("forked")).unwrap();
    // More than the queue holds, and nothing empties it.
    for n in 0..2_000 {
        info_span!("audit.event", action_type = "forked", n);
        info_span!("audit.query_run", sql_text = "forked", n);
    }
    assert_eq!(
        audit.record(Event::new("forked")),
        Err(RecordError::ShutDown)
    );
    assert_eq!(audit.flush_blocking(PATIENCE), Err(FlushError::ShutDown));
    let late = audit.committed_blocking(id, PATIENCE);
    assert_eq!(late, Err(CommitError::ShutDown));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        assert_eq!(audit.flush(PATIENCE).await, Err(FlushError::ShutDown));
        let late = audit.committed(id, PATIENCE).await;
        assert_eq!(late, Err(CommitError::ShutDown));
        audit.shutdown(PATIENCE).await;
    });
    audit.shutdown_blocking(PATIENCE);
    drop(audit);
}

/// Forks; the forked process runs the closure and exits, with 0 only if it did not panic.
fn in_a_fork(run: impl FnOnce()) -> i32 {
    match fork().unwrap() {
        Fork::Parent(forked) => forked,
        Fork::Child => {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            std::process::exit(i32::from(ran.is_err()));
        }
    }
}

fn assert_succeeds(forked: i32) {
    assert_eq!(fork::waitpid(forked).unwrap(), 0, "what was forked");
}

fn uses_its_handle_in_a_fork() -> ! {
    let audit = start_with(|builder| builder.queue_limits(1_000, 1 << 20));
    let open = work(&audit);
    let began = Instant::now();
    // Only taken in the forked process's memory, where it is the last handle.
    let mut audit = Some(audit);
    assert_succeeds(in_a_fork(|| use_what_was_forked(audit.take().unwrap())));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    for n in 0..100 {
        info_span!("audit.event", action_type = "after the fork", n);
    }
    drop(open);
    drop(audit);
    std::process::exit(0)
}

#[test]
fn a_forked_process_neither_hangs_nor_doubles_what_its_parent_records() {
    assert_committed_by_itself(
        child!(uses_its_handle_in_a_fork),
        |status| status.success(),
        (
            json!({"committed": 3, "in the log": IN_LOG, "after the fork": 100}),
            json!({"open": "unknown "}),
        ),
    );
}

fn forks_and_waits_to_be_killed() -> ! {
    let audit = start();
    let _open = work(&audit);
    in_a_fork(wait_for_parent);
    wait_to_be_killed()
}

#[test]
fn while_a_forked_process_lives_the_log_of_its_killed_parent_waits_and_is_then_drained_once() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut command = command(child!(forks_and_waits_to_be_killed), &postgres, &spool);
    let mut child = start_until_ready(command.stdin(Stdio::piped()));
    let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
    kill(child);
    let next = pipeline(&postgres, &spool, |builder| builder);
    next.record(PromptRun::new("next")).unwrap();
    next.flush_blocking(PATIENCE).unwrap();
    drop(next);
    assert_eq!(count(&postgres, "prompt_runs"), 1);
    assert_eq!(
        spool.names().len(),
        1,
        "the lock is the forked process' too"
    );
    assert_eq!(trail(&postgres), (json!({"committed": 3}), json!({})));
    // It ends when its input does; no other process holds its output.
    drop(stdin);
    std::io::Read::read_to_end(&mut stdout, &mut Vec::new()).unwrap();
    drain_what_is_left(&postgres, &spool);
}

fn starts_a_program_and_waits_to_be_killed() -> ! {
    let audit = start();
    let _open = work(&audit);
    #[allow(clippy::zombie_processes, reason = "this process ends first")]
    let started = Command::new("sleep").arg("120").spawn().unwrap();
    say(&format!("{} ready", started.id()));
    wait_to_be_killed()
}

#[test]
fn a_program_that_a_killed_one_started_does_not_hold_its_log() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = command(
        child!(starts_a_program_and_waits_to_be_killed),
        &postgres,
        &spool,
    )
    .spawn()
    .unwrap();
    let said = wait_for_word(&mut child, "ready");
    let started: i32 = said.split(' ').nth_back(1).unwrap().parse().unwrap();
    kill(child);
    drain_what_is_left(&postgres, &spool);
    // Fails if it is no longer alive.
    signal_process(started.try_into().unwrap(), Signal::TERM).unwrap();
}

fn starts_pipelines_in_forks() -> ! {
    let audit = start();
    // This thread has made ids.
    info_span!("audit.event", action_type = "before the fork");
    let forked: Vec<_> = (0..4)
        .map(|_| {
            in_a_fork(|| {
                let own = tracing_audit::from_env().unwrap();
                for _ in 0..100 {
                    own.record(Event::new("forked")).unwrap();
                }
                own.flush_blocking(PATIENCE).unwrap();
            })
        })
        .collect();
    forked.into_iter().for_each(assert_succeeds);
    drop(audit);
    std::process::exit(0)
}

#[test]
fn processes_forked_from_one_that_start_pipelines_of_their_own_make_no_id_twice() {
    let postgres = assert_committed_by_itself(
        child!(starts_pipelines_in_forks),
        |status| status.success(),
        (json!({"before the fork": 1, "forked": 400}), json!({})),
    );
    // The random part of the ids, whatever their time.
    let random = postgres.psql("SELECT count(DISTINCT right(id::text, 12)) FROM audit.events");
    assert_eq!(random.trim(), "401");
}

// Where a shutdown is called ----------------------------------------------------------

/// Shuts down when it is dropped.
struct ShutsDown(Audit);

impl Drop for ShutsDown {
    fn drop(&mut self) {
        self.0.shutdown_blocking(PATIENCE);
    }
}

/// Builds a runtime of one thread, which is also its only worker if it has workers.
fn runtime(mut of: tokio::runtime::Builder) -> tokio::runtime::Runtime {
    of.worker_threads(1).build().unwrap()
}

/// A place to shut down at, by name, and the code that does it.
type Way = (&'static str, fn(Audit));

/// Passes the only handle to each way in turn, with a record in flight.
fn assert_each_commits_all(ways: [Way; 4]) {
    let postgres = Postgres::start();
    for (n, (way, shut_down)) in (1..).zip(ways) {
        let spool = Folder::new();
        let audit = pipeline(&postgres, &spool, |builder| builder.drop_timeout(PATIENCE));
        audit.record(Event::new(way)).unwrap();
        let began = Instant::now();
        shut_down(audit);
        // None of them waited for the timeout.
        assert!(began.elapsed() < PATIENCE, "{way}");
        assert_eq!(spool.names(), Vec::<String>::new(), "{way}");
        assert_eq!(count(&postgres, "events"), n, "{way}");
    }
    once_each(&postgres);
}

#[test]
fn a_shutdown_within_whichever_runtime_returns_and_has_committed_all() {
    use tokio::runtime::{Builder, Handle};
    assert_each_commits_all([
        ("a task of a LocalSet", |audit| {
            let runtime = runtime(Builder::new_current_thread());
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let shutdown = async move { audit.shutdown(PATIENCE).await };
                tokio::task::spawn_local(shutdown).await.unwrap();
            });
        }),
        ("a task of the only worker, blocking", |audit| {
            let runtime = runtime(Builder::new_multi_thread());
            let shutdown = async move { audit.shutdown_blocking(PATIENCE) };
            runtime.block_on(runtime.spawn(shutdown)).unwrap();
        }),
        ("a block_on within block_in_place", |audit| {
            let runtime = runtime(Builder::new_multi_thread());
            let shutdown = async move {
                tokio::task::block_in_place(|| Handle::current().block_on(audit.shutdown(PATIENCE)))
            };
            runtime.block_on(runtime.spawn(shutdown)).unwrap();
        }),
        ("a block_on on a thread for blocking", |audit| {
            runtime(Builder::new_current_thread()).block_on(async {
                let handle = Handle::current();
                let shutdown = move || handle.block_on(audit.shutdown(PATIENCE));
                tokio::task::spawn_blocking(shutdown).await.unwrap();
            });
        }),
    ]);
}

#[test]
fn a_shutdown_in_whichever_destructor_returns_and_has_committed_all() {
    use tokio::runtime::Builder;
    tokio::task_local! {
        static OF_TASK: ShutsDown;
    }
    thread_local! {
        static OF_THREAD: RefCell<Option<ShutsDown>> = const { RefCell::new(None) };
    }
    assert_each_commits_all([
        ("of a task's local", |audit| {
            let task = OF_TASK.scope(ShutsDown(audit), tokio::task::yield_now());
            let runtime = runtime(Builder::new_current_thread());
            runtime.block_on(async { tokio::spawn(task).await.unwrap() });
        }),
        ("of a task that is aborted", |audit| {
            runtime(Builder::new_current_thread()).block_on(async {
                let held = ShutsDown(audit);
                let task = tokio::spawn(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                });
                tokio::task::yield_now().await;
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
            });
        }),
        ("of a runtime, whose task has the last handle", |audit| {
            let runtime = runtime(Builder::new_multi_thread());
            runtime.spawn(async move {
                let _audit = audit;
                std::future::pending::<()>().await;
            });
            drop(runtime);
        }),
        ("of a thread's local", |audit| {
            let ends = move || OF_THREAD.set(Some(ShutsDown(audit)));
            std::thread::spawn(ends).join().unwrap();
        }),
    ]);
}

#[test]
fn a_shutdown_within_a_span_of_its_own_trail_returns_and_the_span_has_a_row() {
    let trail = Trail::start();
    trail.scoped(|| {
        let _open = info_span!("audit.query_run", sql_text = "open").entered();
        let report = trail.audit.shutdown_blocking(PATIENCE);
        assert_eq!((report.committed, report.spooled), (1, 0));
    });
    assert_eq!(
        rows(&trail.postgres, Kind::QueryRun)[0]["error_code"],
        "shut_down"
    );
    assert_law(&trail.audit);
}

// Where a span is closed ----------------------------------------------------------------

/// Closes a span, and records without one, when it is dropped. Not a new span: the Registry itself
/// may abort a program that opens one so late.
struct Last(Option<tracing::Span>, Audit);

impl Drop for Last {
    fn drop(&mut self) {
        self.0 = None;
        self.1
            .record(Event::new("record as the thread ends"))
            .unwrap();
    }
}

fn closes_spans_as_threads_end_or_never() -> ! {
    thread_local! {
        static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    }
    let audit = start();
    let keep = |audit: Audit| {
        let span = info_span!("audit.event", action_type = "closed as the thread ends");
        LAST.set(Some(Last(Some(span), audit)));
    };
    for is_first in [true, false] {
        let audit = audit.clone();
        let thread = std::thread::spawn(move || {
            if is_first {
                // Destroyed after whatever the thread's first span creates.
                LAST.set(None);
            }
            info_span!("audit.event", action_type = "in a thread");
            keep(audit);
        });
        thread.join().unwrap();
    }
    let make = || info_span!("audit.query_run", sql_text = "sent", row_count = 1_u64);
    let sent = std::thread::spawn(make).join().unwrap();
    std::thread::spawn(move || drop(sent)).join().unwrap();
    // Neither is ever closed; only runs are recorded when they begin.
    std::mem::forget(info_span!("audit.query_run", sql_text = "forgotten"));
    std::mem::forget(info_span!("audit.event", action_type = "forgotten"));
    let entered = info_span!("audit.query_run", sql_text = "forgotten, entered").entered();
    std::mem::forget(entered);
    let report = audit.shutdown_blocking(PATIENCE);
    assert_eq!((report.spooled, report.dropped), (0, 0), "{report:?}");
    assert_law(&audit);
    std::process::exit(0)
}

#[test]
fn spans_that_are_closed_as_their_thread_ends_or_after_its_end_or_never_cost_nothing_else() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    assert!(
        run(
            child!(closes_spans_as_threads_end_or_never),
            &postgres,
            &spool
        )
        .success()
    );
    assert_eq!(
        trail(&postgres),
        (
            json!({"in a thread": 2, "closed as the thread ends": 2, "record as the thread ends": 2}),
            json!({
                "sent": "unknown ", "forgotten": "unknown shut_down",
                "forgotten, entered": "unknown shut_down",
            })
        )
    );
    assert_eq!(spool.names(), Vec::<String>::new(), "nothing is left");
}

/// Returns the peak memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

/// Threads at the same time: the Registry supports at most 4,096.
#[cfg(target_os = "linux")]
const THREADS: usize = 1_000;

#[cfg(target_os = "linux")]
fn closes_spans_in_5_000_threads() -> ! {
    let audit = start();
    let mut after_first = None;
    for wave in 0..5 {
        let all_are_there = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                let all_are_there = Arc::clone(&all_are_there);
                std::thread::Builder::new()
                    .stack_size(128 * 1024)
                    .spawn(move || {
                        let span = info_span!("audit.event", action_type = "thread", n, wave);
                        all_are_there.wait();
                        drop(span);
                    })
                    .unwrap()
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        audit.flush_blocking(PATIENCE).unwrap();
        let before = *after_first.get_or_insert_with(most_memory);
        let grown = most_memory() - before;
        assert!(grown < 24 << 20, "{grown} bytes more than {before}");
    }
    let report = audit.shutdown_blocking(PATIENCE);
    assert_eq!((report.committed, report.dropped), (5_000, 0), "{report:?}");
    std::process::exit(0)
}

#[cfg(target_os = "linux")]
#[test]
fn the_spans_of_5_000_threads_are_there_once_and_memory_does_not_grow_with_their_number() {
    let postgres = assert_committed_by_itself(
        child!(closes_spans_in_5_000_threads),
        |status| status.success(),
        (json!({"thread": 5_000}), json!({})),
    );
    let different = postgres.psql(
        "SELECT count(DISTINCT (metadata->>'wave', metadata->>'n')), count(DISTINCT id) FROM audit.events",
    );
    assert_eq!(different.trim(), "5000|5000");
}

// Workers that panic -------------------------------------------------------------------

/// A host's layer that panics at certain events, once at each, on the pipeline's own threads: our
/// libraries log there, and a host's code runs.
#[cfg(feature = "otlp")]
struct Panics(Arc<std::sync::Mutex<Vec<String>>>);

#[cfg(feature = "otlp")]
impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Panics {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let target = event.metadata().target();
        let thread = std::thread::current();
        let is_worker = thread
            .name()
            .is_some_and(|name| matches!(name, "tracing-audit-postgres" | "tracing-audit-otlp"));
        let mut targets = self.0.lock().unwrap();
        if is_worker && let Some(at) = targets.iter().position(|of| target.starts_with(of)) {
            targets.swap_remove(at);
            drop(targets);
            panic!("of the host's layer, on purpose");
        }
    }
}

#[cfg(feature = "otlp")]
fn makes_its_workers_panic() -> ! {
    let targets = std::env::var("PANIC_AT").unwrap();
    let left = Arc::new(std::sync::Mutex::new(
        targets.split(' ').map(String::from).collect(),
    ));
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(Panics(Arc::clone(&left)))
        .init();
    for n in 0..20 {
        info_span!("audit.event", action_type = "recorded", n);
        audit.flush_blocking(PATIENCE).unwrap();
    }
    wait_until("all is exported", PATIENCE, || {
        audit.stats().export().unwrap().pending() == 0
    });
    let export = audit.stats().export().unwrap();
    assert_eq!((export.exported(), export.refused()), (20, 0), "{export:?}");
    assert_eq!(*left.lock().unwrap(), Vec::<String>::new());
    // The other panics were in tasks.
    assert!(audit.stats().restarts() >= 2, "{:?}", audit.stats());
    let report = audit.shutdown_blocking(PATIENCE);
    assert_eq!((report.committed, report.spooled), (20, 0), "{report:?}");
    std::process::exit(0)
}

#[cfg(feature = "otlp")]
#[test]
fn workers_that_panic_are_started_again_and_cost_no_record_and_no_span() {
    use testkit::collector::{Collector, Protocol};
    for (protocol, name, targets) in [
        (
            Protocol::Grpc,
            "grpc",
            "tower::buffer::service tower::buffer::worker tonic::transport h2::proto",
        ),
        (
            Protocol::Http,
            "http/protobuf",
            "hyper_util::client::legacy::pool hyper_util::client::legacy::connect",
        ),
    ] {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let collector = Collector::start(protocol);
        tracing_audit::migrate(&postgres.url()).unwrap();
        postgres.psql(
            "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE WARNING 'said by a trigger of the host'; RETURN NEW; END $$;
             CREATE TRIGGER warn BEFORE INSERT ON audit.batches FOR EACH ROW EXECUTE FUNCTION warn()",
        );
        let mut child = command(child!(makes_its_workers_panic), &postgres, &spool)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", name)
            // Milliseconds: the export waits for an answer that was lost with its connection.
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
            .env("PANIC_AT", format!("sqlx::postgres::notice {targets}"))
            .spawn()
            .unwrap();
        assert!(end_of(&mut child, 2 * PATIENCE).success());
        assert_eq!(trail(&postgres), (json!({"recorded": 20}), json!({})));
        assert_eq!(collector.different(), 20);
        assert_eq!(spool.names(), Vec::<String>::new(), "nothing is left");
    }
}

// What the libraries say -------------------------------------------------------------------

#[cfg(feature = "otlp")]
fn logs_everything_at_trace() -> ! {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LINES: AtomicU64 = AtomicU64::new(0);
    struct Counts;
    impl std::io::Write for Counts {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let lines = bytes.split(|byte| *byte == b'\n').skip(1).count();
            LINES.fetch_add(lines as u64, Ordering::Relaxed);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let audit = tracing_audit::from_env().unwrap();
    let log = tracing_subscriber::fmt::layer()
        .with_writer(|| Counts)
        .with_filter(tracing_subscriber::EnvFilter::from_default_env());
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(log)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use sqlx::{Connection as _, Executor as _};
        let url = std::env::var("AUDIT_DATABASE_URL").unwrap();
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        for _ in 0..20 {
            let span = info_span!("audit.query_run", sql_text = "SELECT 1");
            connection.execute("SELECT 1").audited(span).await.unwrap();
            audit.flush(PATIENCE).await.unwrap();
        }
    });
    wait_until("all is exported", PATIENCE, || {
        audit.stats().export().unwrap().pending() == 0
    });
    // If logging about a record were recorded again, this would never end.
    let mut last = (0, Instant::now());
    wait_until("nothing more is said", PATIENCE, || {
        let lines = LINES.load(Ordering::Relaxed);
        if lines != last.0 {
            last = (lines, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(500)
    });
    assert!((100..20 * 1_000).contains(&last.0), "{} lines", last.0);
    assert_eq!(audit.stats().accepted(), 20);
    drop(audit);
    std::process::exit(0)
}

#[cfg(feature = "otlp")]
#[test]
fn with_everything_at_trace_the_log_is_finite_and_none_of_it_is_in_the_trail() {
    use testkit::collector::{Collector, Protocol};
    for (protocol, name) in [(Protocol::Grpc, "grpc"), (Protocol::Http, "http/protobuf")] {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let collector = Collector::start(protocol);
        let mut child = command(child!(logs_everything_at_trace), &postgres, &spool)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", name)
            .env("RUST_LOG", "trace")
            .spawn()
            .unwrap();
        assert!(end_of(&mut child, PATIENCE).success());
        assert_eq!(
            trail(&postgres),
            (json!({}), json!({"SELECT 1": "succeeded "}))
        );
        assert_eq!(count(&postgres, "query_runs"), 20);
        assert_eq!(spool.names(), Vec::<String>::new(), "nothing is left");
    }
}

// Where the layer is --------------------------------------------------------------------------

#[test]
fn a_layer_that_is_boxed_optional_in_a_list_or_can_be_reloaded_records_as_well() {
    use tracing_subscriber::{Layer as _, Registry, reload};
    let trail = Trail::start();
    let layer = || trail.audit.layer::<Registry>();
    let tell = |action_type: &str| {
        let span = info_span!("audit.event", action_type);
        assert!(
            span.audit_id().is_some() || action_type == "none" || action_type.contains("without")
        );
    };
    let registry = tracing_subscriber::registry;
    let boxed = registry().with(layer().boxed());
    tracing::subscriber::with_default(boxed, || tell("boxed"));
    let optional = registry().with(Some(layer()));
    tracing::subscriber::with_default(optional, || tell("optional"));
    let none = registry().with(None::<tracing_audit::AuditLayer<Registry>>);
    tracing::subscriber::with_default(none, || tell("none"));
    let listed = registry().with(vec![layer().boxed()]);
    tracing::subscriber::with_default(listed, || tell("listed"));
    let (reloadable, handle) = reload::Layer::new(Some(layer()));
    tracing::subscriber::with_default(registry().with(reloadable), || {
        tell("before the reload");
        let open = info_span!("audit.event", action_type = "closed without the layer");
        handle.reload(None).unwrap();
        tell("without the layer");
        drop(open);
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        trail_of(&trail),
        json!({"boxed": 1, "optional": 1, "listed": 1, "before the reload": 1})
    );
}

/// Returns the actions in the trail, with their counts.
fn trail_of(of: &Trail) -> Value {
    trail(&of.postgres).0
}
