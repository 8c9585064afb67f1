//! Where a shutdown is called.

use std::cell::RefCell;
use std::time::Instant;

use testkit::Postgres;
use testkit::trail::{Folder, PATIENCE, Trail, assert_law, count, once_each, pipeline, rows};
use tracing::info_span;
use tracing_audit::{Audit, Event, Kind};

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
fn shutdown_inside_any_runtime_returns_and_commits_every_record() {
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
fn shutdown_inside_any_destructor_returns_and_commits_every_record() {
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
fn shutdown_inside_an_audited_span_returns_and_the_span_gets_a_row() {
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
