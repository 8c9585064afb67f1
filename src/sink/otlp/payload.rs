//! Puts records of a log into one request.

use std::ops::ControlFlow;
use std::panic::catch_unwind;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::attributes::Attributes;
use super::conventions as names;
use super::span::{self, Facts};
use crate::config::otlp::Otlp;
use crate::record::decode;
use crate::record::id;
use crate::record::row::Row;
use crate::spool::{Log, LogError, Stored};

/// The most records that are read for one request.
pub(super) const MAX_RECORDS: u64 = 2_000;

/// Bytes reserved for what surrounds the spans in a request.
const AROUND_BYTES: usize = 4 * 1024;

/// Bytes that surround one span in its request.
const AROUND_SPAN_BYTES: usize = 8;

/// The records of one request.
#[derive(Debug, Default)]
pub(super) struct Payload {
    pub(super) spans: Vec<Scoped>,
    /// The seq of its first record: later than asked for if those before it were discarded.
    pub(super) begin: u64,
    /// The seq after its last record.
    pub(super) end: u64,
    /// Records that are not to be exported.
    pub(super) by_host: u64,
    /// Records that cannot be read.
    pub(super) unreadable: u64,
    bytes: usize,
}

/// A span, and which conventions it follows.
#[derive(Clone, Debug)]
pub(super) struct Scoped {
    pub(super) span: Span,
    is_gen_ai: bool,
}

/// Records that were given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub(super) records: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    /// When that was noticed first and last, in microseconds since 1970.
    pub(super) first_us: i64,
    pub(super) last_us: i64,
}

impl Scoped {
    /// Returns the version of the conventions that the span follows; empty: one without a version.
    pub(super) fn schema_url(&self) -> &'static str {
        schema_url(self.is_gen_ai)
    }
}

/// The GenAI conventions have no version yet.
fn schema_url(is_gen_ai: bool) -> &'static str {
    if is_gen_ai { "" } else { names::SCHEMA_URL }
}

impl Payload {
    /// Reads the next records of a log from `from` on, as many as one request holds; passes each
    /// one that can be read to `seen`.
    pub(super) fn read(
        log: &Log,
        from: u64,
        max_records: u64,
        settings: &Otlp,
        mut seen: impl FnMut(u64, &Row<'_>, &Facts),
    ) -> Result<Self, LogError> {
        let mut payload = Self {
            begin: from,
            ..Self::default()
        };
        let mut records = 0;
        let limit = settings.payload_bytes.saturating_sub(AROUND_BYTES);
        let end = log.read(from, |stored| {
            // At least one span, however little a request may hold.
            let is_full = !payload.spans.is_empty() && payload.bytes >= limit;
            if records == max_records || is_full {
                return ControlFlow::Break(());
            }
            if records == 0 {
                payload.begin = stored.seq;
            }
            let taken = payload.add(&stored, settings, limit, &mut seen);
            records += 1;
            taken
        })?;
        payload.end = end;
        Ok(payload)
    }

    fn add(
        &mut self,
        stored: &Stored<'_>,
        settings: &Otlp,
        limit: usize,
        seen: &mut impl FnMut(u64, &Row<'_>, &Facts),
    ) -> ControlFlow<()> {
        let Ok(row) = decode::frame(stored.frame).and_then(|frame| Row::new(&frame)) else {
            self.unreadable += 1;
            return ControlFlow::Continue(());
        };
        // If a value makes the SQL parser panic, that costs only its own span.
        let made = catch_unwind(|| span::span(&row, stored.seq, &settings.content));
        let Ok((span, facts)) = made else {
            self.unreadable += 1;
            return ControlFlow::Continue(());
        };
        let is_exported =
            settings.traces && (settings.beside_host || !row.place.is_exported_by_host);
        if is_exported {
            let bytes = span.encoded_len() + AROUND_SPAN_BYTES;
            if !self.spans.is_empty() && self.bytes + bytes > limit {
                // It becomes the first of the next request.
                return ControlFlow::Break(());
            }
            self.bytes += bytes;
            self.spans.push(Scoped {
                span,
                is_gen_ai: facts.is_gen_ai(),
            });
        } else {
            self.by_host += 1;
        }
        seen(stored.seq, &row, &facts);
        ControlFlow::Continue(())
    }
}

/// Returns a request with these spans, all of one log.
pub(super) fn request(resource: &Resource, spans: &[Scoped]) -> ExportTraceServiceRequest {
    let scope = |is_gen_ai: bool| {
        let spans: Vec<_> = spans
            .iter()
            .filter(|scoped| scoped.is_gen_ai == is_gen_ai)
            .map(|scoped| scoped.span.clone())
            .collect();
        (!spans.is_empty()).then(|| ScopeSpans {
            scope: Some(InstrumentationScope {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            }),
            spans,
            schema_url: schema_url(is_gen_ai).to_owned(),
        })
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: [scope(false), scope(true)].into_iter().flatten().collect(),
            ..ResourceSpans::default()
        }],
    }
}

/// Returns the resource that the spans of a log belong to.
pub(super) fn resource(log: &Log, settings: &Otlp) -> Resource {
    Resource {
        attributes: resource_attributes(log, settings)
            .into_iter()
            .map(|(key, value)| KeyValue {
                key,
                value: Some(AnyValue {
                    value: Some(any_value::Value::StringValue(value)),
                }),
                ..KeyValue::default()
            })
            .collect(),
        ..Resource::default()
    }
}

/// Returns the attributes of a resource, by name.
pub(super) fn resource_attributes(log: &Log, settings: &Otlp) -> Vec<(String, String)> {
    let mut attributes = settings.resource.clone();
    attributes.insert(String::from("service.name"), log.service().to_owned());
    // The column `writer_id`, unless the host has named the process itself.
    attributes
        .entry(String::from("service.instance.id"))
        .or_insert_with(|| log.writer().to_string());
    // `opentelemetry` is reserved for its own SDKs.
    for (name, value) in [
        ("telemetry.sdk.name", env!("CARGO_PKG_NAME")),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ] {
        attributes.insert(name.to_owned(), value.to_owned());
    }
    attributes.into_iter().collect()
}

impl Gap {
    /// Returns the span that stands for the records that were given up.
    pub(super) fn span(&self, settings: &Otlp) -> Scoped {
        let mut attributes = Attributes::new(settings.content.text_bytes);
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        attributes.int(names::GAP_RECORDS, count(self.records));
        attributes.int(names::GAP_FIRST_SEQ, count(self.first_seq));
        attributes.int(names::GAP_LAST_SEQ, count(self.last_seq));
        attributes.word(names::GAP_CAUSE, "quota");
        let (attributes, _) = attributes.finish();
        let id = id::new(self.first_us);
        let nanos = |us: i64| u64::try_from(us).unwrap_or(0).saturating_mul(1_000);
        Scoped {
            span: Span {
                trace_id: id.as_bytes().to_vec(),
                span_id: id.as_bytes()[8..].to_vec(),
                name: String::from("audit.gap"),
                kind: SpanKind::Internal.into(),
                start_time_unix_nano: nanos(self.first_us),
                end_time_unix_nano: nanos(self.last_us),
                attributes,
                flags: 1,
                ..Span::default()
            },
            is_gen_ai: false,
        }
    }
}
