//! Rows as spans of the OpenTelemetry SDK, to exporters that the host brings.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData, SpanExporter};
use testkit::collector::{Collector, Exported, Protocol};
use testkit::trail::{PATIENCE, Trail, pipeline};
use testkit::{otlp_to, wait_until};
use tracing::info_span;
use tracing_audit::local_log::{self, DrainError, Drained, LogState};
use tracing_audit::{Audit, BuildError, Event, ExportStats, Otlp};

/// Records each kind, a failure, and what is not a text.
fn tell(trail: &Trail) {
    trail.scoped(|| {
        let _request = info_span!(
            "request",
            request_id = "r-1",
            tenant_id = "acme",
            user_role = "analyst"
        )
        .entered();
        let _answer = info_span!("audit.event", action_type = "question.answered").entered();
        info_span!(
            "audit.prompt_run",
            model_name = "m-1",
            provider = "openai",
            rendered_prompt = "Which songs?",
            response_text = "These.",
            input_token_count = 7,
            gen_ai.request.temperature = 0.5,
            gen_ai.request.stream = true,
            status = "ok"
        )
        .in_scope(|| ());
        info_span!(
            "audit.query_run",
            sql_text = "SELECT * FROM none WHERE id = 7",
            status = "failed",
            error_code = "42P01",
            error_message = "no such table"
        )
        .in_scope(|| ());
    });
}

const RECORDS: u64 = 3;

/// Everything is exported.
fn settings(otlp: Otlp) -> Otlp {
    otlp.capture_messages(true)
        .resource_attribute("deployment.environment.name", "test")
        .delay(Duration::from_millis(20))
}

fn export(audit: &Audit) -> ExportStats {
    audit.stats().export().unwrap()
}

fn wait_until_exported(audit: &Audit, records: u64) {
    wait_until("all is exported", PATIENCE, || {
        export(audit).exported() == records
    });
    assert_eq!(export(audit).pending(), 0);
}

/// Returns the trace, span and parent ids of the rows.
fn ids_of_rows(trail: &Trail) -> BTreeSet<(String, String)> {
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let ids = trail.postgres.psql(
        "SELECT trace_id, span_id FROM audit.events UNION ALL SELECT trace_id, span_id FROM audit.query_runs \
         UNION ALL SELECT trace_id, span_id FROM audit.prompt_runs",
    );
    ids.lines()
        .map(|line| {
            let (trace, span) = line.split_once('|').unwrap();
            (trace.to_owned(), span.to_owned())
        })
        .collect()
}

/// Names of attributes whose values differ from one run to the next.
const OF_THE_RUN: [&str; 4] = [
    "audit.record.id",
    "audit.record.parent_id",
    "audit.record.seq",
    "service.instance.id",
];

/// Returns what a span says, but for what differs from one run to the next.
fn said(exported: &Exported) -> String {
    let span = &exported.span;
    let named = |attributes: BTreeMap<String, String>| {
        let mut attributes = attributes;
        attributes.retain(|name, _| !OF_THE_RUN.contains(&&**name));
        attributes
    };
    format!(
        "{} {:?} {:?} parent: {} links: {} {:?} {:?}",
        span.name,
        span.kind(),
        span.status.clone().unwrap_or_default(),
        !span.parent_span_id.is_empty(),
        span.links.len(),
        named(exported.attributes()),
        named(exported.resource.clone())
    )
}

/// An exporter of `opentelemetry-otlp`, and the runtime that it needs.
fn exporter_to(
    collector: &Collector,
) -> (
    opentelemetry_otlp::SpanExporter,
    Option<tokio::runtime::Runtime>,
) {
    let builder = opentelemetry_otlp::SpanExporter::builder();
    match collector.protocol() {
        Protocol::Grpc => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let exporter = {
                let _entered = runtime.enter();
                let exporter = builder.with_tonic().with_endpoint(collector.url());
                exporter.build().unwrap()
            };
            (exporter, Some(runtime))
        }
        // With its blocking client, which panics within a runtime.
        Protocol::Http => {
            let url = format!("{}/v1/traces", collector.url());
            let exporter = builder.with_http().with_endpoint(url);
            (exporter.build().unwrap(), None)
        }
    }
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

#[test]
fn exporters_of_opentelemetry_otlp_send_what_the_built_in_transport_sends() {
    for protocol in PROTOCOLS {
        let ours = Collector::start(protocol);
        let built_in = Trail::start_with(|builder| builder.otlp(settings(otlp_to!(ours))));
        tell(&built_in);
        wait_until_exported(&built_in.audit, RECORDS);

        let theirs = Collector::start(protocol);
        let (exporter, _runtime) = exporter_to(&theirs);
        let trail = Trail::start_with(|builder| builder.otlp(settings(Otlp::exporter(exporter))));
        tell(&trail);
        wait_until_exported(&trail.audit, RECORDS);

        let spans = theirs.spans();
        assert_eq!(spans.len() as u64, RECORDS);
        let ids: BTreeSet<_> = spans
            .iter()
            .map(|span| (span.trace_id(), span.span_id()))
            .collect();
        assert_eq!(ids, ids_of_rows(&trail));
        let all = |spans: &[Exported]| spans.iter().map(said).collect::<BTreeSet<_>>();
        assert_eq!(all(&spans), all(&ours.spans()));
        for span in &spans {
            assert!(span.span.start_time_unix_nano > 0);
            assert!(span.span.end_time_unix_nano >= span.span.start_time_unix_nano);
        }
    }
}

#[test]
fn batch_that_an_exporter_of_opentelemetry_otlp_could_not_send_is_exported_again() {
    for protocol in PROTOCOLS {
        let mut collector = Collector::absent(protocol);
        let (exporter, _runtime) = exporter_to(&collector);
        let trail = Trail::start_with(|builder| builder.otlp(settings(Otlp::exporter(exporter))));
        tell(&trail);
        wait_until("the export is failing", PATIENCE, || {
            export(&trail.audit).is_failing()
        });
        assert_eq!(export(&trail.audit).pending(), RECORDS);
        collector.start_again();
        wait_until_exported(&trail.audit, RECORDS);
        assert_eq!(collector.spans().len() as u64, RECORDS);
    }
}

#[test]
fn in_memory_exporter_of_the_sdk_gets_spans_and_resource() {
    let exporter = InMemorySpanExporter::default();
    let trail =
        Trail::start_with(|builder| builder.otlp(settings(Otlp::exporter(exporter.clone()))));
    tell(&trail);
    wait_until_exported(&trail.audit, RECORDS);
    let spans = exporter.get_finished_spans().unwrap();
    let ids: BTreeSet<_> = spans
        .iter()
        .map(|span| {
            (
                span.span_context.trace_id().to_string(),
                span.span_context.span_id().to_string(),
            )
        })
        .collect();
    assert_eq!(ids, ids_of_rows(&trail));
    assert_eq!(exporter.get_finished_spans().unwrap().len(), spans.len());
    assert!(!exporter.is_shutdown_called());
    trail.audit.shutdown_blocking(PATIENCE);
    assert!(exporter.is_shutdown_called());
}

#[test]
fn exporter_of_spans_with_metrics_is_an_error_of_the_settings() {
    let otlp = Otlp::exporter(InMemorySpanExporter::default()).metrics(true);
    let built = Audit::builder()
        .postgres("postgres://nobody@127.0.0.1:1/none")
        .otlp(otlp)
        .start();
    assert!(
        matches!(&built, Err(BuildError::Otlp { setting, .. }) if setting == "metrics"),
        "{built:?}"
    );
}

/// Fails as often as it is told, and then takes all.
#[derive(Debug)]
struct Failing {
    calls: Arc<AtomicUsize>,
    failures: usize,
    panics: bool,
    taken: InMemorySpanExporter,
}

impl SpanExporter for Failing {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call < self.failures {
            assert!(!self.panics, "as it was told");
            return Err(OTelSdkError::InternalFailure(String::from("sesame")));
        }
        self.taken.export(batch).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.taken.set_resource(resource);
    }
}

#[test]
fn batch_that_an_exporter_fails_or_panics_on_twice_is_exported_once() {
    for panics in [false, true] {
        let (calls, taken) = (
            Arc::new(AtomicUsize::new(0)),
            InMemorySpanExporter::default(),
        );
        let exporter = Failing {
            calls: Arc::clone(&calls),
            failures: 2,
            panics,
            taken: taken.clone(),
        };
        let trail = Trail::start_with(|builder| builder.otlp(settings(Otlp::exporter(exporter))));
        tell(&trail);
        wait_until_exported(&trail.audit, RECORDS);
        assert!(calls.load(Ordering::Relaxed) >= 3);
        assert!(!export(&trail.audit).is_failing());
        let spans = taken.get_finished_spans().unwrap();
        assert_eq!(spans.len() as u64, RECORDS, "each is taken once");
    }
}

/// Fails each batch with an event `poison`, or everything while it is down.
#[derive(Clone, Debug, Default)]
struct Picky {
    is_down: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Picky {
    fn down() -> Self {
        let picky = Self::default();
        picky.is_down.store(true, Ordering::Relaxed);
        picky
    }

    /// Returns the actions of the events that it took, sorted.
    fn taken(&self) -> Vec<String> {
        let mut taken = self.taken.lock().unwrap().clone();
        taken.sort();
        taken
    }
}

impl SpanExporter for Picky {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let actions: Vec<_> = batch
            .iter()
            .flat_map(|span| &span.attributes)
            .filter(|attribute| attribute.key.as_str() == "audit.action.type")
            .map(|attribute| attribute.value.to_string())
            .collect();
        assert_eq!(actions.len(), batch.len());
        if self.is_down.load(Ordering::Relaxed) || actions.iter().any(|action| action == "poison") {
            return Err(OTelSdkError::InternalFailure(String::from("sesame")));
        }
        self.taken.lock().unwrap().extend(actions);
        Ok(())
    }
}

fn record(audit: &Audit, actions: &[&str]) {
    for action in actions {
        audit
            .record(Event::new(*action).target("question", "1"))
            .unwrap();
    }
}

/// Returns a trail whose process has ended and left these events to export.
fn left(actions: &[&str]) -> Trail {
    let trail = Trail::start_with(|builder| builder.otlp(settings(Otlp::exporter(Picky::down()))));
    record(&trail.audit, actions);
    wait_until("the export is failing", PATIENCE, || {
        export(&trail.audit).is_failing()
    });
    trail.audit.shutdown_blocking(PATIENCE);
    assert_eq!(trail.spool.names().len(), 1, "the log stays");
    trail
}

#[test]
fn span_that_an_exporter_always_fails_on_is_refused_and_the_rest_of_a_left_log_exported() {
    let trail = left(&["first", "poison", "second", "third"]);
    let exporter = Picky::default();
    let otlp = settings(Otlp::exporter(exporter.clone()));
    let audit = pipeline(&trail.postgres, &trail.spool, |builder| builder.otlp(otlp));
    wait_until("one is refused", PATIENCE, || export(&audit).refused() == 1);
    wait_until("the left log is removed", PATIENCE, || {
        trail.spool.names().len() == 1
    });
    wait_until_exported(&audit, 3);
    assert_eq!(exporter.taken(), ["first", "second", "third"], "each once");
    record(&audit, &["own"]);
    wait_until_exported(&audit, 4);
    assert!(!export(&audit).is_failing());
}

#[test]
fn span_that_an_exporter_always_fails_on_holds_up_no_others_of_its_process() {
    let exporter = Picky::default();
    let otlp = settings(Otlp::exporter(exporter.clone()));
    let trail = Trail::start_with(|builder| builder.otlp(otlp));
    record(&trail.audit, &["poison"]);
    wait_until("the export is failing", PATIENCE, || {
        export(&trail.audit).is_failing()
    });
    record(&trail.audit, &["first", "second"]);
    wait_until_exported(&trail.audit, 2);
    assert_eq!(export(&trail.audit).refused(), 1);
    assert_eq!(exporter.taken(), ["first", "second"], "each once");
}

#[test]
fn shutdown_exports_own_records_while_the_exporter_fails_on_a_left_log() {
    let trail = left(&["poison"]);
    let exporter = Picky::default();
    // The record is still waited with when the shutdown begins.
    let otlp = settings(Otlp::exporter(exporter.clone())).delay(PATIENCE);
    let audit = pipeline(&trail.postgres, &trail.spool, |builder| builder.otlp(otlp));
    wait_until("the left log fails", PATIENCE, || {
        export(&audit).is_failing()
    });
    record(&audit, &["own"]);
    audit.shutdown_blocking(PATIENCE);
    assert_eq!(exporter.taken(), ["own"]);
    assert_eq!(trail.spool.names().len(), 1, "the left log stays");
}

/// Counts its shutdowns and, before it answers, empties a file if it has one.
#[derive(Clone, Debug, Default)]
struct Draining {
    is_down: bool,
    empties: Option<PathBuf>,
    shutdowns: Arc<AtomicUsize>,
}

impl SpanExporter for Draining {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        if let Some(path) = &self.empties {
            std::fs::write(path, "").unwrap();
        }
        if self.is_down {
            return Err(OTelSdkError::InternalFailure(String::from("sesame")));
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        self.shutdowns.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Drains the only log of a trail to Postgres and to an exporter.
fn drain(trail: &Trail, url: &str, exporter: Draining) -> Result<Drained, DrainError> {
    let log = trail.spool.0.join(&trail.spool.names()[0]);
    wait_until("the log is free", PATIENCE, || {
        let listed = local_log::list(&log).unwrap();
        matches!(listed[0].state, LogState::Free(_))
    });
    local_log::drain_and_export(&log, url, false, Otlp::exporter(exporter), |_| ())
}

#[test]
fn drain_shuts_the_exporter_down_whatever_the_outcome() {
    let trail = left(&["asked"]);
    let url = trail.postgres.url();
    let exporter = Draining {
        is_down: true,
        ..Draining::default()
    };
    let shutdowns = || exporter.shutdowns.load(Ordering::Relaxed);
    let nowhere = "postgres://nobody@127.0.0.1:1/none";
    let failed = drain(&trail, nowhere, exporter.clone());
    assert!(
        matches!(failed, Err(DrainError::Postgres { .. })),
        "{failed:?}"
    );
    assert_eq!(shutdowns(), 1);
    let failed = drain(&trail, &url, exporter.clone());
    assert!(
        matches!(&failed, Err(DrainError::Export { why, exported: 0, .. })
            if why == "the collector does not accept the spans: the exporter reports a failure"),
        "{failed:?}"
    );
    assert_eq!(shutdowns(), 2);
    let working = Draining {
        is_down: false,
        ..exporter.clone()
    };
    let drained = drain(&trail, &url, working);
    assert!(
        matches!(drained, Ok(Drained::Removed { exported: 1, .. })),
        "{drained:?}"
    );
    assert_eq!(shutdowns(), 3);
}

#[test]
fn drain_says_that_a_log_which_breaks_during_the_export_is_not_exported() {
    let trail = left(&["asked"]);
    let exporter = Draining {
        empties: Some(
            trail
                .spool
                .0
                .join(&trail.spool.names()[0])
                .join("spool.redb"),
        ),
        ..Draining::default()
    };
    let failed = drain(&trail, &trail.postgres.url(), exporter);
    assert!(
        matches!(&failed, Err(DrainError::Export { why, .. })
            if why.starts_with("the local log cannot be read or changed")),
        "{failed:?}"
    );
    assert_eq!(trail.spool.names().len(), 1, "the log stays");
}

/// Blocks its thread until it is let go.
#[derive(Clone, Debug, Default)]
struct Blocking {
    is_free: Arc<(Mutex<bool>, Condvar)>,
    calls: Arc<AtomicUsize>,
    taken: InMemorySpanExporter,
}

impl Blocking {
    fn let_go(&self) {
        *self.is_free.0.lock().unwrap() = true;
        self.is_free.1.notify_all();
    }
}

impl SpanExporter for Blocking {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.calls.fetch_add(1, Ordering::Relaxed);
        {
            let is_free = self.is_free.0.lock().unwrap();
            drop(self.is_free.1.wait_while(is_free, |is_free| !*is_free));
        }
        self.taken.export(batch).await
    }
}

#[test]
fn exporter_that_does_not_return_holds_up_neither_the_trail_nor_a_shutdown() {
    let exporter = Blocking::default();
    let otlp = settings(Otlp::exporter(exporter.clone())).timeout(Duration::from_millis(100));
    let trail = Trail::start_with(|builder| builder.otlp(otlp));
    tell(&trail);
    wait_until("the export is failing", PATIENCE, || {
        export(&trail.audit).is_failing()
    });
    assert_eq!(ids_of_rows(&trail).len() as u64, RECORDS);
    let began = Instant::now();
    let report = trail.audit.shutdown_blocking(PATIENCE * 10);
    assert!(began.elapsed() < PATIENCE);
    assert_eq!((report.committed, report.dropped), (RECORDS, 0));
    assert_eq!(exporter.calls.load(Ordering::Relaxed), 1, "one at a time");
    assert_eq!(trail.spool.names().len(), 1, "the log stays");

    // The next process exports it.
    let next = InMemorySpanExporter::default();
    let otlp = settings(Otlp::exporter(next.clone()));
    let audit = pipeline(&trail.postgres, &trail.spool, |builder| builder.otlp(otlp));
    wait_until_exported(&audit, RECORDS);
    assert_eq!(next.get_finished_spans().unwrap().len() as u64, RECORDS);
    exporter.let_go();
}

#[test]
fn batch_that_is_taken_after_the_timeout_is_not_exported_again() {
    let exporter = Blocking::default();
    let otlp = settings(Otlp::exporter(exporter.clone())).timeout(Duration::from_millis(100));
    let trail = Trail::start_with(|builder| builder.otlp(otlp));
    let event = Event::new("asked").target("question", "1");
    trail.audit.record(event).unwrap();
    wait_until("it counts as failed", PATIENCE, || {
        export(&trail.audit).is_failing()
    });
    exporter.let_go();
    wait_until_exported(&trail.audit, 1);
    assert_eq!(exporter.calls.load(Ordering::Relaxed), 1);
    assert_eq!(exporter.taken.get_finished_spans().unwrap().len(), 1);
}
