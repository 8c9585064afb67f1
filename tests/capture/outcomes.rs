//! How a run ended, by the evidence.

use super::block_on;
use serde_json::{Value, json};
use testkit::trail::Trail;
use tracing::field::Empty;
use tracing::info_span;
use tracing_audit::{AuditFutureExt as _, Kind};

#[test]
fn result_field_without_a_value_is_not_evidence_of_success() {
    let trail = Trail::start();
    trail.scoped(|| {
        let span = info_span!("audit.query_run", row_count = Empty);
        span.record("row_count", tracing::field::debug(None::<u32>));
    });
    assert_eq!(trail.row(Kind::QueryRun)["status"], "unknown");
}

#[test]
fn status_is_derived_from_results_errors_panics_and_drops() {
    #[tracing::instrument(name = "audit.query_run", skip_all, fields(sql_text = sql), err, ret)]
    fn run(sql: &str, result: Result<u8, String>) -> Result<u8, String> {
        result
    }
    #[tracing::instrument(
        name = "audit.query_run",
        skip_all,
        fields(sql_text = "async"),
        err(Debug)
    )]
    async fn run_async(result: Result<u8, String>) -> Result<u8, String> {
        std::future::ready(()).await;
        result
    }
    /// Its failure is its own: the enclosing span handles it.
    #[tracing::instrument(skip_all, err)]
    fn callee() -> Result<u8, String> {
        Err("of the callee".to_owned())
    }
    #[tracing::instrument(name = "audit.query_run", skip_all, fields(sql_text = "caller"), err)]
    fn caller() -> Result<u8, String> {
        Ok(callee().unwrap_or(1))
    }

    let trail = Trail::start();
    let ready = |result: Result<u8, String>, sql: &'static str| {
        let span = info_span!("audit.query_run", sql_text = sql);
        block_on(std::future::ready(result).audited(span))
    };
    trail.scoped(|| {
        let _ = run("ok by ret", Ok(1));
        let _ = run("err by err", Err("went wrong".to_owned()));
        let _ = block_on(run_async(Err("quoted".to_owned())));
        let _ = caller();
        let _ = ready(Ok(1), "ok by audited");
        let _ = ready(Err("by audited".to_owned()), "err by audited");
        let mut dropped = Box::pin(
            std::future::pending::<Result<u8, String>>()
                .audited(info_span!("audit.query_run", sql_text = "cancelled")),
        );
        poll_once(&mut dropped);
        drop(dropped);
        let _ = std::panic::catch_unwind(|| {
            let _span = info_span!("audit.query_run", sql_text = "panic").entered();
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        let span = info_span!(
            "audit.query_run",
            sql_text = "result field",
            row_count = Empty
        );
        span.record("row_count", 3);
        drop(span);
        info_span!(
            "audit.query_run",
            sql_text = "result field from the start",
            row_count = 3
        );
        info_span!("audit.query_run", sql_text = "nothing seen");
        let said = info_span!(
            "audit.query_run",
            sql_text = "said is stronger",
            status = "rejected",
            error_message = "its own"
        );
        let _ = block_on(std::future::ready(Err::<u8, _>("seen")).audited(said));
    });
    let outcomes: Vec<_> = trail
        .rows(Kind::QueryRun)
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            [
                text("sql_text"),
                text("status"),
                text("error_code"),
                text("error_message"),
            ]
        })
        .collect();
    let expected = [
        ["ok by ret", "succeeded", "", ""],
        ["err by err", "failed", "", "went wrong"],
        ["async", "failed", "", "\"quoted\""],
        ["caller", "unknown", "", ""],
        ["ok by audited", "succeeded", "", ""],
        ["err by audited", "failed", "", "by audited"],
        ["cancelled", "cancelled", "", ""],
        ["panic", "failed", "panic", ""],
        ["result field", "succeeded", "", ""],
        ["result field from the start", "unknown", "", ""],
        ["nothing seen", "unknown", "", ""],
        ["said is stronger", "rejected", "", "its own"],
    ];
    assert_eq!(outcomes, expected.map(|row| row.map(str::to_owned)));
    assert_eq!(
        trail.audit.stats().accepted(),
        12,
        "the err and ret events are no records"
    );
}

#[test]
fn recorded_status_overrides_the_observed_outcome() {
    let trail = Trail::start();
    trail.scoped(|| {
        for word in ["rejected", "Canceled", "timeout", "ERROR", "on hold"] {
            let span = info_span!("audit.query_run", status = word, row_count = Empty);
            span.record("row_count", 1);
        }
    });
    let rows = trail.rows(Kind::QueryRun);
    let outcomes: Vec<_> = rows
        .iter()
        .map(|row| (&row["status"], &row["error_code"]))
        .collect();
    assert_eq!(
        outcomes,
        [
            (&json!("rejected"), &Value::Null),
            (&json!("cancelled"), &Value::Null),
            (&json!("failed"), &json!("timeout")),
            (&json!("failed"), &Value::Null),
            (&json!("unknown"), &Value::Null),
        ]
    );
    assert_eq!(rows[4]["metadata"], json!({"status": "on hold"}));
}

#[test]
fn panic_fails_an_async_run_but_not_a_span_opened_while_unwinding() {
    struct RunsWhileUnwinding;
    impl Drop for RunsWhileUnwinding {
        fn drop(&mut self) {
            let _span = info_span!("audit.query_run", sql_text = "in a drop").entered();
        }
    }
    let trail = Trail::start();
    trail.scoped(|| {
        let panics = async {
            let _runs = RunsWhileUnwinding;
            std::panic::resume_unwind(Box::new("on purpose"));
            #[allow(unreachable_code)]
            Ok::<(), String>(())
        };
        let span = info_span!("audit.query_run", sql_text = "async");
        let future = panics.audited(span);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let joined = tokio::task::LocalSet::new()
            .block_on(&runtime, async { tokio::task::spawn_local(future).await });
        assert!(joined.unwrap_err().is_panic());
    });
    let mut outcomes: Vec<_> = trail
        .rows(Kind::QueryRun)
        .iter()
        .map(|row| (row["sql_text"].clone(), row["status"].clone()))
        .collect();
    outcomes.sort_by_key(|(sql, _)| sql.to_string());
    assert_eq!(
        outcomes,
        [
            (json!("async"), json!("failed")),
            (json!("in a drop"), json!("unknown"))
        ]
    );
}

fn poll_once<F: Future>(future: &mut std::pin::Pin<Box<F>>) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
}
