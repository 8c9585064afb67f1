//! Beside other layers, filters and handles, on any thread.

use super::{block_on, of};
use serde_json::{Value, json};
use testkit::Postgres;
use testkit::trail::{Folder, Trail, pipeline, rows};
use tracing::field::Empty;
use tracing::instrument::WithSubscriber as _;
use tracing::{Dispatch, Instrument as _, Span, error_span, info_span};
use tracing_audit::{AuditFutureExt as _, AuditSpanExt as _, Event, Kind};
use tracing_subscriber::prelude::*;

#[test]
fn each_of_100_layers_finds_its_own_spans() {
    let trail = Trail::start();
    let subscriber = || tracing_subscriber::registry().with(trail.audit.layer());
    let subscribers: Vec<Dispatch> = (0..100).map(|_| subscriber().into()).collect();
    for subscriber in &subscribers {
        tracing::dispatcher::with_default(subscriber, || {
            let outer = info_span!("audit.query_run").entered();
            assert!(outer.audit_id().is_some() && outer.traceparent().is_some());
            info_span!("audit.prompt_run");
            trail.audit.record(Event::new("inside")).unwrap();
        });
    }
    let has_parent = |row: &Value| row["parent_id"].is_string();
    for kind in [Kind::PromptRun, Kind::Event] {
        let rows = trail.rows(kind);
        assert_eq!(rows.len(), 100);
        assert!(rows.iter().all(has_parent));
    }
}

#[test]
fn a_span_that_moves_between_threads_and_tasks_is_one_record() {
    let trail = Trail::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    let subscriber = tracing_subscriber::registry().with(trail.audit.layer());
    let dispatch = tracing::Dispatch::new(subscriber);
    tracing::dispatcher::with_default(&dispatch, || {
        let span = info_span!("audit.query_run", sql_text = "moved", row_count = Empty);
        let moved = span.clone();
        let thread_dispatch = dispatch.clone();
        std::thread::spawn(move || {
            tracing::dispatcher::with_default(&thread_dispatch, || {
                let _entered = moved.enter();
                Span::current().record("row_count", 4);
            });
        })
        .join()
        .unwrap();
        let task = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            info_span!("audit.event", action_type = "inside");
        };
        runtime
            .block_on(runtime.spawn(task.instrument(span).with_subscriber(dispatch.clone())))
            .unwrap();
        // They close after the runtime is gone.
        let late = info_span!("audit.query_run", sql_text = "closed after the runtime");
        drop(runtime);
        drop(late);
    });
    let mut rows = trail.rows(Kind::QueryRun);
    assert_eq!(rows.len(), 2);
    // Two threads closed them, and order is only kept within a thread.
    rows.sort_by_key(|row| row["sql_text"] == "moved");
    assert_eq!(rows[0]["sql_text"], "closed after the runtime");
    assert_eq!(
        (&rows[1]["sql_text"], &rows[1]["row_count"]),
        (&json!("moved"), &json!(4))
    );
    assert_eq!(trail.row(Kind::Event)["parent_id"], rows[1]["id"]);
}

#[test]
fn two_layers_in_one_subscriber_each_write_the_span_to_their_own_database() {
    let (first, second) = (Trail::start(), Trail::start());
    let subscriber = tracing_subscriber::registry()
        .with(first.audit.layer())
        .with(second.audit.layer());
    tracing::subscriber::with_default(subscriber, || {
        let _request = info_span!("request", request_id = "both").entered();
        let outer = info_span!("audit.query_run", sql_text = "a", row_count = Empty).entered();
        outer.record("row_count", 1);
        info_span!("audit.event", action_type = "inner");
    });
    for trail in [&first, &second] {
        let row = trail.row(Kind::QueryRun);
        assert_eq!(
            of(&row, &["request_id", "row_count", "status"]),
            json!({
                "request_id": "both", "row_count": 1, "status": "succeeded",
            })
        );
        assert_eq!(trail.row(Kind::Event)["parent_id"], row["id"]);
    }
    assert_ne!(
        first.row(Kind::QueryRun)["id"],
        second.row(Kind::QueryRun)["id"]
    );
}

#[test]
fn filters_on_other_layers_neither_hide_nor_enable_spans() {
    use std::sync::{Arc, Mutex};
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let trail = Trail::start();
    let written = Written::default();
    let log = written.clone();
    let subscriber = tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(move || log.clone())
                .with_ansi(false)
                .with_filter(tracing_subscriber::EnvFilter::new("warn")),
        )
        .with(trail.audit.layer());
    tracing::subscriber::with_default(subscriber, || {
        assert!(
            !tracing::enabled!(tracing::Level::INFO),
            "what nobody wants stays disabled"
        );
        let _request = tracing::debug_span!("request", request_id = "r").entered();
        let quiet = tracing::trace_span!("neither audited nor context");
        assert!(quiet.is_disabled());
        let _query = tracing::trace_span!("audit.query_run", sql_text = "quiet").entered();
        tracing::warn!("loud");
        tracing::info!("quiet");
    });
    let row = trail.row(Kind::QueryRun);
    assert_eq!(
        (&row["sql_text"], &row["request_id"]),
        (&json!("quiet"), &json!("r"))
    );
    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("loud") && !log.contains("quiet") && !log.contains("audit.query_run"),
        "{log}"
    );
}

/// tracing-subscriber keeps its filters' answers to a question that nothing followed (its issue
/// 2519); sqlx asks one after each query, through `log_enabled!`.
#[test]
fn span_is_recorded_after_an_enabled_check_without_a_span() {
    let trail = Trail::start();
    let ask_in_vain = || {
        let nobodys = tracing::trace_span!("nobody wants this");
        let metadata = nobodys.metadata().unwrap();
        tracing::dispatcher::get_default(|dispatch| dispatch.enabled(metadata));
    };
    let say = || {
        ask_in_vain();
        let span = info_span!("audit.query_run", request_id = Empty).entered();
        ask_in_vain();
        tracing::info!(target: "audit.event", action_type = "said");
        drop(span);
    };
    trail.scoped(say);
    let filtered = tracing_subscriber::fmt::layer()
        .with_writer(std::io::sink)
        .with_filter(tracing_subscriber::filter::LevelFilter::INFO);
    let subscriber = tracing_subscriber::registry()
        .with(filtered)
        .with(trail.audit.layer());
    tracing::subscriber::with_default(subscriber, say);
    assert_eq!(trail.rows(Kind::QueryRun).len(), 2);
    assert_eq!(trail.rows(Kind::Event).len(), 2);
}

#[test]
fn global_subscriber_records_a_run_whose_debug_opens_a_span() {
    struct Logs;
    impl std::fmt::Debug for Logs {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            // This reaches the layer again only under a global subscriber.
            info_span!("audit.event", action_type = "from a Debug");
            f.write_str("logged")
        }
    }
    let trail = Trail::start();
    // The only test of this program that sets it; the others use their own.
    tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::sink))
        .init();
    let mine = info_span!("request", request_id = "global");
    let _entered = mine.enter();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let span =
                error_span!(parent: &mine, "audit.query_run", sql_text = ?Logs, row_count = Empty);
            span.record("row_count", 2);
            let result = block_on(std::future::ready(Err::<u8, _>("failed")).audited(span));
            assert!(result.is_err());
        });
    });
    let row = trail.row(Kind::QueryRun);
    assert_eq!(
        of(
            &row,
            &[
                "request_id",
                "sql_text",
                "row_count",
                "status",
                "error_message"
            ]
        ),
        json!({
            "request_id": "global", "sql_text": "logged", "row_count": 2, "status": "failed", "error_message": "failed",
        })
    );
    // Once for each layer that formats the value.
    assert_eq!(trail.rows(Kind::Event).len(), 2);
    // Nothing that the worker and its libraries log, at any level, is recorded.
    assert_eq!(trail.audit.stats().accepted(), 3);
}

#[test]
fn two_pipelines_on_one_server_number_their_records_independently() {
    let postgres = Postgres::start();
    let folders = [Folder::new(), Folder::new()];
    let audits = folders
        .each_ref()
        .map(|folder| pipeline(&postgres, folder, |builder| builder));
    for audit in &audits {
        for _ in 0..100 {
            audit.record(Event::new("x")).unwrap();
        }
    }
    for audit in &audits {
        audit.flush_blocking(testkit::trail::PATIENCE).unwrap();
        assert_eq!(audit.stats().committed(), 100);
    }
    assert_eq!(rows(&postgres, Kind::Event).len(), 200);
    let gaps = postgres.psql(
        "SELECT count(*) FROM (SELECT writer_id FROM audit.events GROUP BY 1 \
         HAVING count(*) <> max(seq) OR min(seq) <> 1 OR count(DISTINCT seq) <> count(*)) t",
    );
    assert_eq!(gaps.trim(), "0");
}
