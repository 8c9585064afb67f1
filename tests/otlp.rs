//! The trail also arrives at a collector: complete, with the ids of the rows, and under the names
//! of the semantic conventions. Misbehaving collectors are tested in `otlp_faults/`.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use fake_opentelemetry_collector::FakeCollectorServer;
use serde_json::Value;
use testkit::collector::{Collector, Exported, Protocol};
use testkit::otlp_to;
use testkit::trail::{PATIENCE, Trail};
use testkit::wait_until;
use tracing::{Span, info_span};
use tracing_audit::{AuditSpanExt, Event, Kind, Otlp, OtlpProtocol, PromptRun, QueryRun};

/// Records each kind: a request with a question, its prompt, its query, a tool call, and a failure.
fn tell(trail: &Trail, request: &str) {
    trail.scoped(|| {
        let _request = info_span!(
            "request",
            request_id = request,
            tenant_id = "acme",
            user_id = "u-1",
            conversation_id = "c-1"
        )
        .entered();
        let _answer = info_span!("audit.event", action_type = "question.answered").entered();
        info_span!(
            "audit.prompt_run",
            model_name = "m-1",
            provider = "openai",
            rendered_prompt = "secret",
            input_token_count = 7,
            output_token_count = 2,
            status = "ok"
        )
        .in_scope(|| ());
        info_span!(
            "audit.query_run",
            sql_text = "SELECT * FROM songs WHERE id = 7",
            row_count = 1,
            status = "ok"
        )
        .in_scope(|| ());
        info_span!(
            "audit.event",
            action_type = "tool.call",
            target_type = "tool",
            target_id = "search"
        )
        .in_scope(|| ());
        info_span!(
            "audit.query_run",
            sql_text = "SELECT * FROM none",
            status = "failed",
            error_code = "42P01"
        )
        .in_scope(|| ());
    });
}

const RECORDS: usize = 5;

fn all_rows(trail: &Trail) -> HashMap<String, Value> {
    Kind::ALL
        .into_iter()
        .flat_map(|kind| trail.rows(kind))
        .map(|row| (row["span_id"].as_str().unwrap().to_owned(), row))
        .collect()
}

/// Fails unless there is exactly one span for each row, with its ids.
fn assert_complete(rows: &HashMap<String, Value>, spans: &[Exported]) {
    let by_id: BTreeMap<_, _> = spans.iter().map(|span| (span.span_id(), span)).collect();
    assert_eq!(by_id.len(), rows.len());
    for (span_id, row) in rows {
        let span = by_id[span_id];
        assert_eq!(span.trace_id(), row["trace_id"]);
        assert_eq!(span.attribute("audit.record.id"), row["id"]);
        assert_eq!(span.attribute("audit.record.seq"), row["seq"].to_string());
        assert_eq!(span.attribute("audit.status"), row["status"]);
        for (attribute, column) in [
            ("audit.request.id", "request_id"),
            ("audit.tenant.id", "tenant_id"),
            ("user.id", "user_id"),
            ("gen_ai.conversation.id", "conversation_id"),
        ] {
            let value = row[column].as_str().unwrap_or_default();
            assert_eq!(span.attribute(attribute), value);
        }
        assert_eq!(span.resource["service.name"], row["service_name"]);
        assert_eq!(span.resource["service.instance.id"], row["writer_id"]);
        // The parent is the enclosing record, by its span id.
        let parent = row["parent_id"]
            .as_str()
            .map_or(String::new(), |id| id.replace('-', "")[16..].to_owned());
        assert_eq!(span.parent_span_id(), parent);
        assert!(parent.is_empty() || rows.contains_key(&parent));
    }
}

fn names(spans: &[Exported]) -> Vec<&str> {
    let mut names: Vec<_> = spans.iter().map(|span| &*span.span.name).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_row_is_exported_as_a_span_over_grpc_and_http_plain_and_compressed() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        for gzip in [false, true] {
            let collector = Collector::start(protocol);
            let trail = Trail::start_with(|builder| builder.otlp(otlp_to!(collector).gzip(gzip)));
            tell(&trail, "r-1");
            let rows = all_rows(&trail);
            let spans = collector.wait_for(RECORDS);
            assert_eq!(spans.len(), RECORDS, "nothing comes twice");
            assert_complete(&rows, &spans);
            assert_eq!(
                names(&spans),
                [
                    "SELECT none",
                    "SELECT songs",
                    "chat m-1",
                    "execute_tool search",
                    "question.answered"
                ]
            );
            assert!(!format!("{spans:?}").contains("secret"));
            let export = trail.audit.stats().export().unwrap();
            wait_until("it is counted", PATIENCE, || {
                trail.audit.stats().export().unwrap().exported() == RECORDS as u64
            });
            assert!(!export.is_failing());
        }
    }
}

#[test]
fn every_row_is_exported_as_a_span_to_a_third_party_collector() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut collector = runtime.block_on(FakeCollectorServer::start()).unwrap();
    let otlp = Otlp::new(collector.endpoint())
        .with_protocol(OtlpProtocol::Grpc)
        .delay(Duration::from_millis(20));
    let trail = Trail::start_with(|builder| builder.otlp(otlp));
    tell(&trail, "r-1");
    let rows = all_rows(&trail);
    let spans = runtime.block_on(collector.exported_spans(RECORDS, PATIENCE));
    assert_eq!(spans.len(), RECORDS);
    for span in &spans {
        let row = &rows[&span.span_id];
        assert_eq!(span.trace_id, row["trace_id"]);
        assert!(span.attributes["audit.record.id"].contains(row["id"].as_str().unwrap()));
    }
    let query = spans
        .iter()
        .find(|span| span.name == "SELECT songs")
        .unwrap();
    assert_eq!(query.kind, "SPAN_KIND_CLIENT");
    assert!(query.attributes["db.query.text"].contains("SELECT * FROM songs WHERE id = ?"));
    let failed = spans
        .iter()
        .find(|span| span.name == "SELECT none")
        .unwrap();
    assert_eq!(failed.status.as_ref().unwrap().code, "STATUS_CODE_ERROR");
}

#[test]
fn a_large_trail_arrives_complete_in_payloads_below_the_limit() {
    let collector = Collector::start(Protocol::Grpc);
    let trail =
        Trail::start_with(|builder| builder.otlp(otlp_to!(collector).payload_bytes(64 * 1024)));
    for n in 0..1_000 {
        let query = QueryRun::new(format!("SELECT {n} FROM t /* {} */", "x".repeat(200)));
        trail.audit.record(query.request_id("r")).unwrap();
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = all_rows(&trail);
    let spans = collector.wait_for(1_000);
    assert_complete(&rows, &spans);
    assert!(collector.largest() <= 64 * 1024, "{}", collector.largest());
    assert!(collector.requests() > 5);
}

#[test]
fn shutdown_exports_pending_records_and_removes_the_log_folder() {
    let collector = Collector::start(Protocol::Http);
    let trail = Trail::start_with(|builder| {
        // Longer than the test: only the shutdown sends it.
        builder.otlp(otlp_to!(collector).delay(Duration::from_mins(1)))
    });
    tell(&trail, "r-1");
    trail.audit.shutdown_blocking(PATIENCE);
    assert_eq!(collector.spans().len(), RECORDS);
    assert_eq!(trail.spool.names(), Vec::<String>::new());
}

#[test]
fn prompts_questions_and_full_queries_are_exported_only_when_enabled() {
    let collector = Collector::start(Protocol::Grpc);
    let trail = Trail::start_with(|builder| {
        builder.otlp(
            otlp_to!(collector)
                .capture_messages(true)
                .query_text(tracing_audit::QueryText::Full),
        )
    });
    let prompt = PromptRun::new("what is it?").model_name("m");
    trail.audit.record(prompt).unwrap();
    trail.audit.record(QueryRun::new("SELECT 'it'")).unwrap();
    let spans = collector.wait_for(2);
    let prompt = spans
        .iter()
        .find(|span| span.span.name == "chat m")
        .unwrap();
    assert!(
        prompt
            .attribute("gen_ai.input.messages")
            .contains("what is it?")
    );
    let query = spans
        .iter()
        .find(|span| span.span.name == "SELECT")
        .unwrap();
    assert_eq!(query.attribute("db.query.text"), "SELECT 'it'");
}

/// Two processes as far as the trail is concerned: two writers, two logs, two subscribers.
#[test]
fn two_processes_with_one_request_write_one_trace_with_the_right_tree() {
    let collector = Collector::start(Protocol::Grpc);
    let front =
        Trail::start_with(|builder| builder.otlp(otlp_to!(collector)).service_name("front"));
    let back = Trail::start_with(|builder| builder.otlp(otlp_to!(collector)).service_name("back"));
    for (request, carries_traceparent) in [("r-1", true), ("r-2", false)] {
        let traceparent = front.scoped(|| {
            let _request = info_span!("request", request_id = request).entered();
            // No audit span encloses it yet.
            assert_eq!(Span::current().traceparent(), None);
            let _asked = info_span!("audit.event", action_type = "asked").entered();
            // A span of the application in between does no harm.
            let _between = info_span!("between").entered();
            Span::current().traceparent().unwrap()
        });
        back.scoped(|| {
            let traceparent = carries_traceparent.then_some(&*traceparent);
            let _request = info_span!("request", request_id = request, traceparent).entered();
            let _outer = info_span!("audit.event", action_type = "answered").entered();
            info_span!("audit.query_run", sql_text = "SELECT 1").in_scope(|| ());
        });
    }
    let spans = collector.wait_for(6);
    for (request, carries_traceparent) in [("r-1", true), ("r-2", false)] {
        let of = |name: &str| {
            spans
                .iter()
                .find(|span| {
                    span.span.name == name && span.attribute("audit.request.id") == request
                })
                .unwrap()
        };
        let (asked, answered, query) = (of("asked"), of("answered"), of("SELECT"));
        assert_eq!(asked.trace_id(), answered.trace_id());
        assert_eq!(asked.trace_id(), query.trace_id());
        assert_eq!(asked.parent_span_id(), "");
        assert_eq!(query.parent_span_id(), answered.span_id());
        assert_eq!(asked.resource["service.name"], "front");
        assert_eq!(query.resource["service.name"], "back");
        let expected = if carries_traceparent {
            asked.span_id()
        } else {
            String::new()
        };
        assert_eq!(answered.parent_span_id(), expected);
    }
    assert_complete(
        &all_rows(&front)
            .into_iter()
            .chain(all_rows(&back))
            .collect(),
        // The record whose parent is in the other process has no parent record in its own.
        &spans
            .into_iter()
            .map(|mut span| {
                if span.span.name == "answered" {
                    span.span.parent_span_id.clear();
                }
                span
            })
            .collect::<Vec<_>>(),
    );
}

#[test]
fn nested_record_of_another_request_starts_its_own_linked_trace() {
    let collector = Collector::start(Protocol::Grpc);
    let trail = Trail::start_with(|builder| builder.otlp(otlp_to!(collector)));
    trail.scoped(|| {
        let _outer = info_span!("audit.event", action_type = "outer", request_id = "a").entered();
        info_span!("audit.event", action_type = "inner", request_id = "b").in_scope(|| ());
    });
    let spans = collector.wait_for(2);
    let of = |name: &str| spans.iter().find(|span| span.span.name == name).unwrap();
    let (outer, inner) = (of("outer"), of("inner"));
    assert_ne!(outer.trace_id(), inner.trace_id());
    assert_eq!(inner.parent_span_id(), "");
    assert_eq!(inner.span.links[0].trace_id, outer.span.trace_id);
    assert_eq!(inner.span.links[0].span_id, outer.span.span_id);
}

#[test]
fn metrics_cover_the_pipeline_models_and_databases() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let collector = Collector::start(protocol);
        let trail = Trail::start_with(|builder| {
            builder.otlp(
                otlp_to!(collector)
                    .metrics(true)
                    .metrics_every(Duration::from_millis(100)),
            )
        });
        tell(&trail, "r-1");
        trail.audit.flush_blocking(PATIENCE).unwrap();
        collector.wait_for(RECORDS);
        let value = |name: &str| metric(&collector, name);
        wait_until("the metrics are there", PATIENCE, || {
            value("audit.records.committed") == Some(RECORDS.to_string())
                && value("audit.export.exported") == Some(RECORDS.to_string())
                && value("gen_ai.client.token.usage").is_some()
        });
        assert_eq!(value("audit.records.accepted"), Some(RECORDS.to_string()));
        assert_eq!(value("audit.records.pending"), Some(String::from("0")));
        assert_eq!(
            value("audit.records.dropped"),
            Some(String::from("0 0 0 0 0")),
            "one for each cause"
        );
        for name in [
            "audit.queue.records",
            "audit.queue.size",
            "audit.spool.size",
            "audit.batches",
            "audit.batch.records",
            "audit.batch.duration",
            "audit.pending.age",
            "audit.records.dead_lettered",
            "audit.export.pending",
        ] {
            assert!(value(name).is_some(), "{name}");
        }
        // Two queries, one of which failed; one prompt with 7 and 2 tokens.
        assert_eq!(value("db.client.operation.duration"), Some("1 1".into()));
        assert_eq!(value("gen_ai.client.operation.duration"), Some("1".into()));
        let usage = metric_points(&collector, "gen_ai.client.token.usage");
        assert_eq!(usage["input"], "7");
        assert_eq!(usage["output"], "2");
    }
}

/// Returns the last values of a metric: numbers, or each histogram's count.
fn metric(collector: &Collector, name: &str) -> Option<String> {
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
    let metrics = collector.metrics();
    let metric = metrics.iter().rev().find(|metric| metric.name == name)?;
    let number = |value: &Option<Value>| match value {
        Some(Value::AsInt(int)) => int.to_string(),
        Some(Value::AsDouble(double)) => double.to_string(),
        None => String::new(),
    };
    let values: Vec<_> = match metric.data.as_ref()? {
        Data::Gauge(gauge) => gauge.data_points.iter().map(|p| number(&p.value)).collect(),
        Data::Sum(sum) => sum.data_points.iter().map(|p| number(&p.value)).collect(),
        Data::Histogram(histogram) => histogram
            .data_points
            .iter()
            .map(|p| p.count.to_string())
            .collect(),
        _ => return None,
    };
    Some(values.join(" "))
}

/// Returns the sums of a histogram, by `gen_ai.token.type`.
fn metric_points(collector: &Collector, name: &str) -> HashMap<String, String> {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let metrics = collector.metrics();
    let metric = metrics.iter().rev().find(|metric| metric.name == name);
    let Some(Data::Histogram(histogram)) = metric.and_then(|metric| metric.data.as_ref()) else {
        return HashMap::new();
    };
    histogram
        .data_points
        .iter()
        .map(|point| {
            let mut attributes = testkit::collector::attributes(&point.attributes);
            let kind = attributes.remove("gen_ai.token.type").unwrap_or_default();
            (kind, point.sum.unwrap_or_default().to_string())
        })
        .collect()
}

#[test]
fn records_without_a_span_are_exported_like_the_others() {
    let collector = Collector::start(Protocol::Grpc);
    let trail = Trail::start_with(|builder| builder.otlp(otlp_to!(collector)));
    let id = trail.audit.record(Event::new("exported")).unwrap();
    let spans = collector.wait_for(1);
    assert_eq!(spans[0].attribute("audit.record.id"), id.to_string());
}
