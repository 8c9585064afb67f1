//! Converts an OTLP span to one of the OpenTelemetry SDK: the same ids, names, values and times.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_proto::tonic::common::v1::{self as proto, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::span as proto_span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::payload::Scoped;

/// Returns the resource as the SDK has it.
pub(super) fn resource(resource: &ProtoResource) -> Resource {
    Resource::builder_empty()
        .with_attributes(resource.attributes.iter().filter_map(attribute))
        .build()
}

/// Returns the span as the SDK has it.
pub(super) fn span(scoped: &Scoped) -> SpanData {
    let span = &scoped.span;
    let attributes: Vec<_> = span.attributes.iter().filter_map(attribute).collect();
    let lost = span.attributes.len() - attributes.len();
    let mut links = SpanLinks::default();
    links.links = span
        .links
        .iter()
        .map(|link| Link::with_context(context(&link.trace_id, &link.span_id)))
        .collect();
    links.dropped_count = span.dropped_links_count;
    SpanData {
        span_context: context(&span.trace_id, &span.span_id),
        parent_span_id: span_id(&span.parent_span_id),
        parent_span_is_remote: false,
        span_kind: match span.kind() {
            proto_span::SpanKind::Client => SpanKind::Client,
            proto_span::SpanKind::Server => SpanKind::Server,
            proto_span::SpanKind::Producer => SpanKind::Producer,
            proto_span::SpanKind::Consumer => SpanKind::Consumer,
            proto_span::SpanKind::Internal | proto_span::SpanKind::Unspecified => {
                SpanKind::Internal
            }
        },
        name: span.name.clone().into(),
        start_time: time(span.start_time_unix_nano),
        end_time: time(span.end_time_unix_nano),
        attributes,
        dropped_attributes_count: span
            .dropped_attributes_count
            .saturating_add(u32::try_from(lost).unwrap_or(u32::MAX)),
        events: SpanEvents::default(),
        links,
        status: match &span.status {
            Some(status) if status.code() == StatusCode::Error => {
                Status::error(status.message.clone())
            }
            Some(status) if status.code() == StatusCode::Ok => Status::Ok,
            _ => Status::Unset,
        },
        instrumentation_scope: scope(scoped.schema_url()),
    }
}

fn scope(schema_url: &'static str) -> InstrumentationScope {
    let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"));
    if schema_url.is_empty() {
        scope.build()
    } else {
        scope.with_schema_url(schema_url).build()
    }
}

fn context(trace_id: &[u8], span: &[u8]) -> SpanContext {
    let trace_id = trace_id
        .try_into()
        .map_or(TraceId::INVALID, TraceId::from_bytes);
    SpanContext::new(
        trace_id,
        span_id(span),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    )
}

/// An empty id is that of no span.
fn span_id(id: &[u8]) -> SpanId {
    id.try_into().map_or(SpanId::INVALID, SpanId::from_bytes)
}

fn time(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// Returns the attribute; `None` if the SDK has no such value. Spans of rows have none of those.
fn attribute(attribute: &proto::KeyValue) -> Option<KeyValue> {
    let value = match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Value::from(text.clone()),
        any_value::Value::BoolValue(value) => Value::from(*value),
        any_value::Value::IntValue(value) => Value::from(*value),
        any_value::Value::DoubleValue(value) => Value::from(*value),
        any_value::Value::ArrayValue(array) => {
            let texts: Option<Vec<_>> = array
                .values
                .iter()
                .map(|value| match &value.value {
                    Some(any_value::Value::StringValue(text)) => {
                        Some(StringValue::from(text.clone()))
                    }
                    _ => None,
                })
                .collect();
            Value::Array(Array::String(texts?))
        }
        _ => return None,
    };
    Some(KeyValue::new(attribute.key.clone(), value))
}
