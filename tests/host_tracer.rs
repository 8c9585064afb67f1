//! Beside a host's own tracing-opentelemetry layer, the records join its trace as children of its
//! spans, and nothing is exported twice.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::{BTreeMap, HashMap};

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, Sampler, SdkTracer, SdkTracerProvider, SpanData,
};
use testkit::child::{alone, child, child_processes};
use testkit::collector::{Collector, Exported, Protocol};
use testkit::otlp_to;
use testkit::trail::{PATIENCE, Trail};
use testkit::wait_until;
use tracing::dispatcher::with_default;
use tracing::{Dispatch, Span, info_span};
use tracing_audit::{AuditSpanExt, Event, Kind};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

child_processes!(records_under_a_global_subscriber);

/// A host that exports its own spans.
struct Host {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
}

impl Host {
    fn new() -> Self {
        Self::sampling(Sampler::AlwaysOn)
    }

    fn sampling(sampler: Sampler) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_simple_exporter(exporter.clone())
            .build();
        Self { exporter, provider }
    }

    fn tracer(&self) -> SdkTracer {
        self.provider.tracer("host")
    }

    /// Returns what it exported, by name.
    fn spans(&self) -> BTreeMap<String, SpanData> {
        let spans = self.exporter.get_finished_spans().unwrap();
        let count = spans.len();
        let by_name: BTreeMap<_, _> = spans
            .into_iter()
            .map(|span| (span.name.to_string(), span))
            .collect();
        assert_eq!(by_name.len(), count, "a name comes once");
        by_name
    }
}

fn start() -> (Collector, Trail) {
    start_with(|otlp| otlp)
}

fn start_with(
    configure: impl FnOnce(tracing_audit::Otlp) -> tracing_audit::Otlp,
) -> (Collector, Trail) {
    let collector = Collector::start(Protocol::Grpc);
    let trail = Trail::start_with(|builder| builder.otlp(configure(otlp_to!(collector))));
    (collector, trail)
}

/// A request of the host with two records, one nested in the other, and a span of the host between
/// them.
fn tell() {
    let _request = info_span!("request", request_id = "r-1").entered();
    let _outer = info_span!("outer", audit = true).entered();
    let _record = info_span!(target: "audit.event", "asked", action_type = "asked").entered();
    let _between = info_span!("between").entered();
    info_span!(target: "audit.query_run", "query", sql_text = "SELECT 1").in_scope(|| ());
}

fn rows(trail: &Trail) -> HashMap<String, serde_json::Value> {
    let name = |row: &serde_json::Value| match row["action_type"].as_str() {
        Some(action) => action.to_owned(),
        None => String::from("query"),
    };
    [Kind::Event, Kind::QueryRun]
        .into_iter()
        .flat_map(|kind| trail.rows(kind))
        .map(|row| (name(&row), row))
        .collect()
}

fn exported(spans: &[Exported], name: &str) -> Exported {
    spans
        .iter()
        .find(|span| span.span.name == name)
        .unwrap()
        .clone()
}

/// Waits until the export has processed everything.
fn wait_until_exported(trail: &Trail) {
    trail.audit.flush_blocking(PATIENCE).unwrap();
    wait_until("the export has dealt with all", PATIENCE, || {
        trail.audit.stats().export().unwrap().pending() == 0
    });
}

/// Asserts what must hold when the host itself exports the records' spans.
fn assert_hosts(host: &Host, trail: &Trail, collector: &Collector) {
    wait_until_exported(trail);
    let (rows, spans) = (rows(trail), host.spans());
    for name in ["asked", "query"] {
        let (row, span) = (&rows[name], &spans[name]);
        assert_eq!(row["trace_id"], span.span_context.trace_id().to_string());
        assert_eq!(row["span_id"], span.span_context.span_id().to_string());
    }
    assert_eq!(
        rows["asked"]["trace_id"],
        spans["request"].span_context.trace_id().to_string()
    );
    assert_eq!(rows["query"]["parent_id"], rows["asked"]["id"]);
    assert_eq!(collector.spans().len(), 0, "the host exports them");
    let export = trail.audit.stats().export().unwrap();
    assert_eq!((export.by_host(), export.exported()), (2, 0));
}

#[test]
fn record_exported_by_the_host_has_the_hosts_ids_and_is_exported_once() {
    for ours_is_first in [true, false] {
        let (collector, trail) = start();
        let host = Host::new();
        if ours_is_first {
            let both = tracing_subscriber::registry()
                .with(trail.audit.layer())
                .with(tracing_opentelemetry::layer().with_tracer(host.tracer()));
            tracing::subscriber::with_default(both, tell);
        } else {
            let both = tracing_subscriber::registry()
                .with(tracing_opentelemetry::layer().with_tracer(host.tracer()))
                .with(trail.audit.layer());
            tracing::subscriber::with_default(both, tell);
        }
        assert_hosts(&host, &trail, &collector);
    }
}

#[test]
fn change_within_the_hosts_span_is_in_its_trace_with_and_without_a_record() {
    let (_collector, trail) = start();
    let host = Host::new();
    let both = tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_opentelemetry::layer().with_tracer(host.tracer()));
    let of_change = || {
        let mut settings = tracing_audit::context().settings().into_iter();
        settings.find_map(|(name, value)| (name == "app.trace_id").then_some(value))
    };
    let traces = tracing::subscriber::with_default(both, || {
        let _request = info_span!("request", request_id = "r-1").entered();
        let of_request = of_change();
        let _record = info_span!(target: "audit.event", "asked", action_type = "asked").entered();
        [of_request, of_change()]
    });
    let of_host = host.spans()["request"].span_context.trace_id().to_string();
    assert_eq!(traces, [Some(of_host.clone()), Some(of_host)]);
}

#[test]
fn optional_layer_and_layer_in_a_list_use_the_hosts_ids() {
    for is_list in [false, true] {
        let (collector, trail) = start();
        let host = Host::new();
        let theirs = tracing_opentelemetry::layer().with_tracer(host.tracer());
        let registry = tracing_subscriber::registry().with(theirs);
        if is_list {
            let both = registry.with(vec![trail.audit.layer()]);
            tracing::subscriber::with_default(both, tell);
        } else {
            let both = registry.with(Some(trail.audit.layer()));
            tracing::subscriber::with_default(both, tell);
        }
        assert_hosts(&host, &trail, &collector);
    }
}

#[test]
fn optional_layer_uses_the_hosts_ids_after_a_span_is_entered_under_another_subscriber() {
    let (collector, trail) = start();
    let (host, other) = (Host::new(), Host::new());
    let theirs = tracing_opentelemetry::layer().with_tracer(host.tracer());
    let both = tracing_subscriber::registry()
        .with(theirs)
        .with(Some(trail.audit.layer()));
    let both = Dispatch::new(both);
    let theirs = tracing_opentelemetry::layer().with_tracer(other.tracer());
    let another = Dispatch::new(tracing_subscriber::registry().with(theirs));
    let early = with_default(&both, || info_span!("early", request_id = "r-0"));
    with_default(&another, || {
        let of_another = info_span!("of another");
        assert_eq!(
            of_another.id(),
            early.id(),
            "each is its subscriber's first"
        );
        early.in_scope(|| ());
    });
    with_default(&both, tell);
    assert_hosts(&host, &trail, &collector);
}

#[test]
fn record_made_in_a_thread_local_destructor_is_committed() {
    struct Last(tracing_audit::Audit);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.record(Event::new("last")).unwrap();
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    let (_collector, trail) = start();
    let audit = trail.audit.clone();
    std::thread::spawn(move || {
        LAST.with(|last| *last.borrow_mut() = Some(Last(audit.clone())));
        audit.record(Event::new("first")).unwrap();
    })
    .join()
    .unwrap();
    assert_eq!(trail.rows(Kind::Event).len(), 2);
}

fn records_under_a_global_subscriber() {
    let (collector, trail) = start();
    let host = Host::new();
    tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_opentelemetry::layer().with_tracer(host.tracer()))
        .init();
    let threads: Vec<_> = (0..2)
        .map(|_| std::thread::spawn(|| info_span!("idle").in_scope(|| ())))
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    host.exporter.reset();
    tell();
    assert_hosts(&host, &trail, &collector);
}

#[test]
fn record_has_the_hosts_ids_under_a_global_subscriber() {
    // A process can set one only once.
    let child = alone(child!(records_under_a_global_subscriber))
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

#[test]
fn record_not_exported_by_the_host_is_a_child_of_the_hosts_span() {
    let (collector, trail) = start();
    let host = Host::new();
    let theirs = tracing_opentelemetry::layer()
        .with_tracer(host.tracer())
        .with_filter(filter_fn(|metadata| {
            !metadata.target().starts_with("audit.")
        }));
    let both = tracing_subscriber::registry()
        .with(theirs)
        .with(trail.audit.layer());
    tracing::subscriber::with_default(both, || {
        tell();
        // No host span between, so the record is the nearest parent.
        let _request = info_span!("another request").entered();
        let _record = info_span!(target: "audit.event", "outer", action_type = "outer").entered();
        info_span!(target: "audit.event", "inner", action_type = "inner").in_scope(|| ());
    });
    let spans = collector.wait_for(4);
    let (rows, hosts) = (rows(&trail), host.spans());
    let of_host = |name: &str| hosts[name].span_context.span_id().to_string();
    let (asked, query) = (exported(&spans, "asked"), exported(&spans, "SELECT"));
    let trace = hosts["request"].span_context.trace_id().to_string();
    for (span, name) in [(&asked, "asked"), (&query, "query")] {
        assert_eq!(span.trace_id(), trace);
        assert_eq!(rows[name]["trace_id"], trace);
        assert_eq!(rows[name]["span_id"], span.span_id());
    }
    assert_eq!(asked.parent_span_id(), of_host("outer"));
    assert_eq!(query.parent_span_id(), of_host("between"));
    let (outer, inner) = (exported(&spans, "outer"), exported(&spans, "inner"));
    assert_eq!(outer.parent_span_id(), of_host("another request"));
    assert_eq!(inner.parent_span_id(), outer.span_id());
    assert_eq!(inner.trace_id(), outer.trace_id());
}

#[test]
fn record_not_sampled_by_the_host_is_exported_with_the_hosts_ids() {
    let (collector, trail) = start();
    let host = Host::sampling(Sampler::AlwaysOff);
    let both = tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_opentelemetry::layer().with_tracer(host.tracer()));
    tracing::subscriber::with_default(both, tell);
    let spans = collector.wait_for(2);
    let rows = rows(&trail);
    assert_eq!(host.spans().len(), 0);
    let (asked, query) = (exported(&spans, "asked"), exported(&spans, "SELECT"));
    assert_eq!(asked.trace_id(), query.trace_id());
    assert_eq!(rows["asked"]["span_id"], asked.span_id());
    assert_eq!(rows["query"]["span_id"], query.span_id());
}

#[test]
fn beside_host_exports_the_record_in_addition_to_the_hosts_span() {
    let (collector, trail) = start_with(|otlp| otlp.beside_host(true));
    let host = Host::new();
    let both = tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_opentelemetry::layer().with_tracer(host.tracer()));
    tracing::subscriber::with_default(both, tell);
    assert_eq!(collector.wait_for(2).len(), 2);
    assert!(host.spans().contains_key("query"));
}

#[test]
fn record_joins_the_trace_of_a_remote_parent_set_by_the_host() {
    let (_collector, trail) = start();
    let host = Host::new();
    let both = tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_opentelemetry::layer().with_tracer(host.tracer()));
    let remote = SpanContext::new(
        TraceId::from_bytes([7; 16]),
        SpanId::from_bytes([8; 8]),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    tracing::subscriber::with_default(both, || {
        // On the record's own span, which our layer has seen by now.
        let record = info_span!(target: "audit.event", "asked", action_type = "asked");
        record
            .set_parent(Context::new().with_remote_span_context(remote))
            .unwrap();
        record.in_scope(|| ());
    });
    assert_eq!(rows(&trail)["asked"]["trace_id"], "07".repeat(16));
}

#[test]
fn host_span_created_without_tracing_is_the_parent() {
    let (collector, trail) = start();
    let host = Host::new();
    trail.scoped(|| {
        host.tracer().in_span("request", |context| {
            let request = context.span().span_context().clone();
            info_span!("audit.event", action_type = "asked").in_scope(|| ());
            trail.audit.record(Event::new("recorded")).unwrap();
            let spans = collector.wait_for(2);
            for name in ["asked", "recorded"] {
                let span = exported(&spans, name);
                assert_eq!(span.trace_id(), request.trace_id().to_string());
                assert_eq!(span.parent_span_id(), request.span_id().to_string());
            }
        });
    });
}

#[test]
fn explicit_parent_wins_over_the_active_span() {
    let (_collector, trail) = start();
    let host = Host::new();
    let both = tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_opentelemetry::layer().with_tracer(host.tracer()));
    tracing::subscriber::with_default(both, || {
        let named = info_span!("named");
        let _active = info_span!("active").entered();
        info_span!(target: "audit.event", parent: &named, "asked", action_type = "asked")
            .in_scope(|| ());
        // A span that is never entered, and an instant event.
        drop(info_span!(target: "audit.event", parent: &named, "idle", action_type = "idle"));
        tracing::info!(target: "audit.event", parent: &named, action_type = "instant");
    });
    let (rows, spans) = (rows(&trail), host.spans());
    let named = spans["named"].span_context.trace_id().to_string();
    assert_ne!(named, spans["active"].span_context.trace_id().to_string());
    for name in ["asked", "idle", "instant"] {
        assert_eq!(rows[name]["trace_id"], named, "{name}");
    }
}

#[test]
fn outgoing_traceparent_names_the_hosts_span() {
    let (_collector, trail) = start();
    let host = Host::new();
    let both = tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_opentelemetry::layer().with_tracer(host.tracer()));
    tracing::subscriber::with_default(both, || {
        let request = info_span!("request").entered();
        let traceparent = Span::current().traceparent().unwrap();
        let context = request.context();
        let span = context.span();
        let (trace_id, span_id) = (
            span.span_context().trace_id(),
            span.span_context().span_id(),
        );
        assert_eq!(traceparent, format!("00-{trace_id}-{span_id}-01"));
    });
}
