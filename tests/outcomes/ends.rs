//! How a run ended: a drop, a result, a panic, the shutdown.

use std::convert::Infallible;
use std::future::{Future, pending};

use super::{SHORT, assert_outcomes, goes_on, run, runtime};
use serde_json::{Value, json};
use testkit::trail::{PATIENCE, Trail};
use tracing::{Instrument as _, Span, instrument};
use tracing_audit::{AuditFutureExt as _, AuditSpanExt as _, Durability, Event, Kind, QueryRun};

type Run = std::pin::Pin<Box<dyn Future<Output = Result<(), String>>>>;

fn poll(run: &mut Run) -> std::task::Poll<Result<(), String>> {
    let waker = std::task::Waker::noop();
    run.as_mut()
        .poll(&mut std::task::Context::from_waker(waker))
}

/// Records the number of rows when it is dropped, after the drop was noticed.
struct SaysWhatThereIs;

impl Drop for SaysWhatThereIs {
    fn drop(&mut self) {
        Span::current().record("row_count", 3);
    }
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(sql_text = "g failed", row_count),
    err
)]
async fn fails() -> Result<(), String> {
    Span::current().record("row_count", 3);
    tokio::task::yield_now().await;
    Err("went wrong".to_owned())
}

#[test]
fn run_dropped_after_a_partial_result_is_cancelled() {
    let trail = Trail::start();
    trail.scoped(|| {
        runtime().block_on(async {
            let _ = tokio::time::timeout(SHORT, goes_on().audited(run("a timeout"))).await;
            tokio::select! {
                _ = goes_on().audited(run("b select")) => {}
                () = tokio::time::sleep(SHORT) => {}
            }
        });
        let runtime = runtime();
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async {
            let aborted = tokio::task::spawn_local(goes_on().audited(run("c abort")));
            tokio::task::spawn_local(goes_on().audited(run("d shutdown of the runtime")));
            tokio::time::sleep(SHORT).await;
            aborted.abort();
            assert!(aborted.await.unwrap_err().is_cancelled());
        });
        drop(tasks);
        drop(runtime);
        let says = async {
            let _says = SaysWhatThereIs;
            pending::<Result<(), String>>().await
        };
        self::runtime().block_on(async {
            let _ = tokio::time::timeout(SHORT, says.audited(run("e in a destructor"))).await;
        });
    });
    assert_outcomes(
        &trail,
        &[
            ("a timeout", "cancelled"),
            ("b select", "cancelled"),
            ("c abort", "cancelled"),
            ("d shutdown of the runtime", "cancelled"),
            ("e in a destructor", "cancelled"),
        ],
    );
    assert_eq!(trail.rows(Kind::QueryRun)[0]["row_count"], 3);
}

#[test]
fn recorded_status_or_panic_outranks_a_drop_and_a_result_field_does_not() {
    let trail = Trail::start();
    trail.scoped(|| {
        let status = async |word: &'static str| {
            Span::current().record("status", word);
            goes_on().await
        };
        for (sql, word) in [("a said failed", "failed"), ("b said ok", "ok")] {
            let mut said: Run = Box::pin(status(word).audited(run(sql)));
            assert!(poll(&mut said).is_pending());
        }
        // One attempt inside times out; the run itself ends.
        let retries = async {
            let attempt = goes_on().audited(run("c attempt"));
            let _ = tokio::time::timeout(SHORT, attempt).await;
            Ok::<_, Infallible>(())
        };
        runtime()
            .block_on(retries.audited(run("d retries")))
            .unwrap();
        let panics = async {
            Span::current().record("row_count", 3);
            tokio::task::yield_now().await;
            std::panic::resume_unwind(Box::new("on purpose"));
            #[allow(unreachable_code)]
            Ok::<(), String>(())
        };
        let joined = tokio::task::LocalSet::new().block_on(&runtime(), async {
            tokio::task::spawn_local(panics.audited(run("e panic"))).await
        });
        assert!(joined.unwrap_err().is_panic());
        // Dropped because another future panics.
        let beside = async {
            let mut dropped: Run = Box::pin(goes_on().audited(run("f beside a panic")));
            assert!(poll(&mut dropped).is_pending());
            std::panic::resume_unwind(Box::new("on purpose"));
        };
        let joined = tokio::task::LocalSet::new()
            .block_on(&runtime(), async { tokio::task::spawn_local(beside).await });
        assert!(joined.is_err());
        runtime().block_on(fails()).unwrap_err();
        let span = run("h ok, then dropped");
        runtime()
            .block_on(std::future::ready(Ok::<_, String>(())).audited(span.clone()))
            .unwrap();
        drop(goes_on().audited(span));
    });
    assert_outcomes(
        &trail,
        &[
            ("a said failed", "failed"),
            ("b said ok", "succeeded"),
            ("c attempt", "cancelled"),
            ("d retries", "succeeded"),
            ("e panic", "failed"),
            ("f beside a panic", "cancelled"),
            ("g failed", "failed"),
            ("h ok, then dropped", "succeeded"),
        ],
    );
}

#[test]
fn run_with_a_result_and_an_error_is_not_a_success() {
    let trail = Trail::start();
    trail.scoped(|| {
        let partial = |sql, field, value: &str| {
            let span = run(sql);
            span.record("row_count", 3);
            span.record(field, value);
        };
        partial("a code", "error_code", "57014");
        partial("b message", "error_message", "canceling statement");
        partial("c success", "error_code", "00000");
        partial("d empty", "error_message", "");
        let span = run("e none");
        span.record("row_count", 3);
        span.record("error_code", tracing::field::debug(None::<&str>));
        drop(span);
        let dropped = goes_on().audited(run("f dropped")).instrument(Span::none());
        runtime().block_on(async {
            let _ = tokio::time::timeout(SHORT, dropped).await;
        });
    });
    let partial = QueryRun::new("g without a span").row_count(3);
    trail.audit.record(partial.error_message("broke")).unwrap();
    assert_outcomes(
        &trail,
        &[
            ("a code", "failed"),
            ("b message", "failed"),
            ("c success", "succeeded"),
            ("d empty", "succeeded"),
            ("e none", "succeeded"),
            ("f dropped", "cancelled"),
            ("g without a span", "failed"),
        ],
    );
}

/// Runs a closure while the thread is unwinding.
struct AmidPanic<F: FnMut()>(F);

impl<F: FnMut()> Drop for AmidPanic<F> {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        (self.0)();
    }
}

fn amid_panic(run: impl FnMut()) {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _amid = AmidPanic(run);
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(caught.is_err());
}

#[test]
fn panic_fails_its_run_after_another_panic_and_a_result_amid_a_panic_is_no_success() {
    let trail = Trail::start();
    trail.scoped(|| {
        let panics = || {
            let caught = std::panic::catch_unwind(|| {
                Span::current().record("row_count", 2);
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            assert!(caught.is_err());
        };
        let instrumented = |span: Span| {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                span.in_scope(|| std::panic::resume_unwind(Box::new("on purpose")));
            }));
            assert!(caught.is_err());
        };
        let span = run("a entered before");
        amid_panic(|| span.in_scope(|| ()));
        span.record("row_count", 2);
        instrumented(span);
        amid_panic(|| {
            run("b within a destructor").in_scope(|| {
                Span::current().record("row_count", 2);
            });
        });
        let mut span = Some(run("c dropped beside"));
        amid_panic(|| {
            let span = span.take().unwrap();
            span.in_scope(|| {
                Span::current().record("row_count", 2);
            });
        });
        amid_panic(|| run("d caught in a destructor").in_scope(panics));
        amid_panic(|| {
            let span = run("e said in a destructor");
            span.record("status", "ok");
        });
        run("f caught inside").in_scope(panics);
    });
    assert_outcomes(
        &trail,
        &[
            ("a entered before", "failed"),
            ("b within a destructor", "unknown"),
            ("c dropped beside", "unknown"),
            ("d caught in a destructor", "unknown"),
            ("e said in a destructor", "succeeded"),
            ("f caught inside", "succeeded"),
        ],
    );
}

#[test]
fn run_open_at_shutdown_keeps_its_known_outcome() {
    let trail =
        Trail::start_with(|builder| builder.durability(Kind::QueryRun, Durability::Required));
    let ids = trail.scoped(|| {
        let held: Vec<_> = [
            "a err",
            "b ok",
            "c dropped",
            "d said",
            "e partial",
            "f said at the beginning",
            "g stored",
            "h code",
        ]
        .map(run)
        .into();
        held[5].record("sql_text", "f goes on");
        // So that the local log already has them.
        for _ in 0..3 {
            trail.audit.record(Event::new("after")).unwrap();
            trail.audit.flush_blocking(PATIENCE).unwrap();
        }
        let ended = |at: usize, result: Result<(), String>| {
            let _ = runtime().block_on(std::future::ready(result).audited(held[at].clone()));
        };
        ended(0, Err("boom".to_owned()));
        ended(1, Ok(()));
        drop(goes_on().audited(held[2].clone()));
        held[3].record("status", "failed");
        held[4].record("row_count", 3);
        held[6].record("status", tracing::field::display("rejected"));
        held[7].record("error_code", "57014");
        ended(7, Err("canceled".to_owned()));
        let ids: Vec<_> = held.iter().map(|span| span.audit_id().unwrap()).collect();
        trail.audit.shutdown_blocking(PATIENCE);
        ids
    });
    let rows = testkit::trail::rows(&trail.postgres, Kind::QueryRun);
    let mut said: Vec<_> = rows
        .iter()
        .map(|row| {
            json!([
                row["sql_text"],
                row["status"],
                row["error_code"],
                row["error_message"]
            ])
        })
        .collect();
    said.sort_by_key(Value::to_string);
    assert_eq!(
        said,
        [
            json!(["a err", "failed", "shut_down", "boom"]),
            json!(["b ok", "succeeded", "shut_down", null]),
            json!(["c dropped", "cancelled", "shut_down", null]),
            json!(["d said", "failed", "shut_down", null]),
            json!(["e partial", "unknown", "shut_down", null]),
            json!(["f goes on", "unknown", "shut_down", null]),
            json!(["g stored", "rejected", "shut_down", null]),
            json!(["h code", "failed", "57014", "canceled"]),
        ]
    );
    // They are there when asked for later.
    for id in ids {
        trail.audit.committed_blocking(id, PATIENCE).unwrap();
    }
}
