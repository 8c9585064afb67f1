//! Determines which trace a record belongs to, and its parent span there.
//!
//! The trace is that of the host's active OpenTelemetry span; without one, that of a `traceparent`;
//! else the `request_id` itself if it is a UUID; else the first 16 bytes of
//! `sha256("request:" || request_id)`; else that of the outermost record. So all processes that
//! record the same `request_id` write into the same trace.
//!
//! A mark in the inherited entries (`Field::Boundary`) shows what the enclosing record had. So a
//! record can determine whether it belongs to the same trace as the enclosing one, without hashing
//! on the application's thread.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::coerce::{as_text, first_16, is_none, key, traceparent, unwrapped, without_nul};
use super::decode::{self, EntryKey, Value};
use super::encode::Header;
use super::id::parse_uuid;
use crate::vocabulary::Field;

/// The id of a trace, as defined by W3C Trace Context.
pub(crate) type TraceId = [u8; 16];

/// The id of a span, as defined by W3C Trace Context.
pub(crate) type SpanId = [u8; 8];

/// The place of a record's span in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    /// `None`: the trace begins here, as far as is known.
    pub(crate) parent_span_id: Option<SpanId>,
    /// The span of the enclosing record, if that belongs to another trace.
    pub(crate) enclosing: Option<(TraceId, SpanId)>,
    /// Whether the host has a span of its own for the record, and exports it.
    pub(crate) is_exported_by_host: bool,
}

impl Place {
    /// Returns the W3C `traceparent` header that makes a called service's span a child of this one.
    pub(crate) fn traceparent(&self) -> String {
        format_traceparent(self.trace_id, self.span_id, true)
    }
}

fn format_traceparent(trace_id: TraceId, span_id: SpanId, is_sampled: bool) -> String {
    format!(
        "00-{:032x}-{:016x}-{:02x}",
        u128::from_be_bytes(trace_id),
        u64::from_be_bytes(span_id),
        u8::from(is_sampled)
    )
}

/// A span of the host's own OpenTelemetry tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostSpan {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    /// Whether the host exports it.
    pub(crate) is_sampled: bool,
    /// Whether the host's span is nearer than the enclosing record's.
    pub(crate) is_nearest: bool,
}

impl HostSpan {
    /// Returns the value of an entry. Frozen, version 1: trace id [16], span id [8], flags (1:
    /// sampled, 2: nearest).
    #[cfg(any(test, feature = "tracing-opentelemetry"))]
    pub(crate) fn to_bytes(self) -> [u8; 25] {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.span_id);
        bytes[24] = u8::from(self.is_sampled) | u8::from(self.is_nearest) << 1;
        bytes
    }

    #[cfg(feature = "tracing-opentelemetry")]
    pub(crate) fn traceparent(self) -> String {
        format_traceparent(self.trace_id, self.span_id, self.is_sampled)
    }

    fn from_value(value: Value<'_>) -> Option<Self> {
        let Value::Bytes(bytes) = value else {
            return None;
        };
        let (trace_id, rest) = bytes.split_first_chunk()?;
        let (span_id, rest) = rest.split_first_chunk()?;
        let flags = *rest.first()?;
        Some(Self {
            trace_id: *trace_id,
            span_id: *span_id,
            is_sampled: flags & 1 != 0,
            is_nearest: flags & 2 != 0,
        })
    }
}

/// The fields of a frame that determine its trace, collected while its entries are read.
#[derive(Debug, Default)]
pub(super) struct TraceFields<'a> {
    /// The last recorded keys.
    last: Keys<'a>,
    /// The keys of the enclosing record.
    enclosing: Option<Keys<'a>>,
    /// A `traceparent` that is not valid.
    malformed: Option<Value<'a>>,
    /// Whether a `traceparent` was recorded since the enclosing record.
    has_nearer_traceparent: bool,
    /// The host's span that was active when the record began.
    active: Option<HostSpan>,
    /// The host's span for the record itself.
    own: Option<HostSpan>,
}

/// The fields that determine a trace.
#[derive(Clone, Copy, Debug, Default)]
struct Keys<'a> {
    traceparent: Option<(TraceId, SpanId)>,
    request_id: Option<Value<'a>>,
}

impl Keys<'_> {
    /// Returns the trace, and the span in it that a `traceparent` names.
    fn trace(&self, root: Uuid) -> (TraceId, Option<SpanId>) {
        if let Some((trace_id, span_id)) = self.traceparent {
            return (trace_id, Some(span_id));
        }
        let trace_id = match self.request_id.map(request_key) {
            Some(request) if !request.is_empty() => match parse_uuid(&request) {
                Some(uuid) if !uuid.is_nil() => uuid.into_bytes(),
                _ => first_16(
                    &Sha256::new()
                        .chain_update("request:")
                        .chain_update(request.as_bytes())
                        .finalize(),
                ),
            },
            _ => root.into_bytes(),
        };
        (trace_id, None)
    }
}

/// Returns the request id as its column stores it.
fn request_key(said: Value<'_>) -> Cow<'_, str> {
    let (text, _) = key(Field::RequestId, said);
    match without_nul(&text) {
        Cow::Owned(text) => Cow::Owned(text),
        Cow::Borrowed(_) => text,
    }
}

/// Returns the trace of a record that inherits these entries and whose outermost record is `root`;
/// `None` if nothing determines it.
pub(crate) fn trace_of(inherited: &[u8], root: Uuid) -> Option<TraceId> {
    let mut fields = TraceFields::default();
    for entry in decode::entries(inherited).map_while(Result::ok) {
        match entry.key {
            EntryKey::Field(field) if entry.value == Value::Dropped => fields.forget(field),
            EntryKey::Field(field) if entry.value.is_said() && !is_none(field, entry.value) => {
                fields.see(field, entry.value);
            }
            _ => {}
        }
    }
    let known = fields.active.map(|host| host.trace_id);
    let trace_id = known.unwrap_or_else(|| fields.last.trace(root).0);
    (trace_id != TraceId::default()).then_some(trace_id)
}

impl<'a> TraceFields<'a> {
    /// Takes an entry into account.
    pub(super) fn see(&mut self, field: Field, value: Value<'a>) {
        match field {
            Field::RequestId => self.last.request_id = Some(value),
            Field::Traceparent => match traceparent(&unwrapped(value).unwrap_or_default()) {
                Some(said) => {
                    self.last.traceparent = Some(said);
                    self.has_nearer_traceparent = true;
                    self.malformed = None;
                }
                // An empty value leaves the one that was recorded before.
                None if as_text(value).is_empty() => {}
                None => self.malformed = Some(value),
            },
            Field::Boundary => {
                self.enclosing = Some(self.last);
                self.has_nearer_traceparent = false;
            }
            Field::HostContext => self.active = HostSpan::from_value(value),
            Field::HostSpan => self.own = HostSpan::from_value(value),
            _ => {}
        }
    }

    /// Forgets the earlier value of a field whose last value is lost.
    pub(super) fn forget(&mut self, field: Field) {
        match field {
            Field::RequestId => self.last.request_id = None,
            Field::Traceparent => {
                self.last.traceparent = None;
                self.has_nearer_traceparent = false;
            }
            _ => {}
        }
    }

    /// Returns the last `traceparent`, if it is not valid.
    pub(super) fn malformed_traceparent(&self) -> Option<Value<'a>> {
        self.malformed
    }

    pub(super) fn place(&self, header: &Header) -> Place {
        let (trace_id, remote) = self.last.trace(header.root);
        let mut place = Place {
            trace_id,
            span_id: span_id(header.id),
            parent_span_id: remote,
            enclosing: None,
            is_exported_by_host: false,
        };
        let parent = (!header.parent.is_nil()).then(|| span_id(header.parent));
        if let Some(active) = self.active {
            place.trace_id = active.trace_id;
            place.parent_span_id = parent
                .filter(|_| !active.is_nearest)
                .or(Some(active.span_id));
        } else if let Some(parent) = parent {
            let (enclosing, _) = self.enclosing.unwrap_or(self.last).trace(header.root);
            let is_told = self.has_nearer_traceparent && remote.is_some();
            if enclosing != trace_id {
                place.enclosing = Some((enclosing, parent));
            }
            if !is_told {
                place.parent_span_id = Some(parent).filter(|_| enclosing == trace_id);
            }
        }
        if let Some(own) = self.own {
            place.trace_id = own.trace_id;
            place.span_id = own.span_id;
            place.is_exported_by_host = own.is_sampled;
        }
        place
    }
}

/// Returns the span id of a record for which the host has no span.
fn span_id(record: Uuid) -> SpanId {
    let mut id = [0; 8];
    id.copy_from_slice(&record.as_bytes()[8..]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::encode::Evidence;
    use crate::vocabulary::Kind;

    const ROOT: Uuid = Uuid::from_u128(1);
    const PARENT: Uuid = Uuid::from_u128(2);
    const ID: Uuid = Uuid::from_u128(3);
    const REMOTE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn place(parent: Uuid, said: &[(Field, Value<'_>)]) -> Place {
        let mut all = TraceFields::default();
        for (field, value) in said {
            all.see(*field, *value);
        }
        all.place(&Header {
            kind: Kind::Event,
            evidence: Evidence::None,
            id: ID,
            parent,
            root: ROOT,
            started_us: 0,
            duration_us: 0,
        })
    }

    const BOUNDARY: (Field, Value<'static>) = (Field::Boundary, Value::Bool(true));

    fn request(id: &str) -> (Field, Value<'_>) {
        (Field::RequestId, Value::Text(id))
    }

    fn traceparent(text: &str) -> (Field, Value<'_>) {
        (Field::Traceparent, Value::Text(text))
    }

    #[test]
    fn child_of_the_same_request_has_the_enclosing_record_as_parent() {
        for said in [
            &[BOUNDARY][..],
            &[request("r"), BOUNDARY],
            &[request("r"), BOUNDARY, request("r")],
            &[traceparent(REMOTE), BOUNDARY],
        ] {
            let place = place(PARENT, said);
            assert_eq!(place.parent_span_id, Some(span_id(PARENT)), "{said:?}");
            assert_eq!(place.enclosing, None);
            assert_eq!(place.span_id, span_id(ID));
        }
    }

    #[test]
    fn child_of_another_request_starts_a_new_trace_linked_to_the_enclosing_record() {
        let child = place(PARENT, &[request("a"), BOUNDARY, request("b")]);
        let parent = place(Uuid::nil(), &[request("a")]);
        assert_eq!(child.parent_span_id, None);
        assert_eq!(child.enclosing, Some((parent.trace_id, span_id(PARENT))));
        assert_eq!(child.trace_id, place(Uuid::nil(), &[request("b")]).trace_id);
    }

    #[test]
    fn parent_is_the_nearer_of_traceparent_and_enclosing_record() {
        let remote = 0xb7ad_6b71_6920_3331_u64.to_be_bytes();
        assert_eq!(
            place(Uuid::nil(), &[traceparent(REMOTE)]).parent_span_id,
            Some(remote)
        );
        let nearer = place(PARENT, &[BOUNDARY, traceparent(REMOTE)]);
        assert_eq!(nearer.parent_span_id, Some(remote));
        assert_eq!(nearer.enclosing, Some((ROOT.into_bytes(), span_id(PARENT))));
        let same = place(
            PARENT,
            &[traceparent(REMOTE), BOUNDARY, traceparent(REMOTE)],
        );
        assert_eq!((same.parent_span_id, same.enclosing), (Some(remote), None));
    }

    #[test]
    fn invalid_traceparent_does_not_replace_an_earlier_one() {
        let debug = format!("Some({REMOTE:?})");
        let outer = place(Uuid::nil(), &[traceparent(REMOTE)]);
        for said in [
            [traceparent(REMOTE), traceparent("")],
            [traceparent(REMOTE), traceparent("not one")],
            [traceparent(""), (Field::Traceparent, Value::Debug(&debug))],
        ] {
            assert_eq!(place(Uuid::nil(), &said), outer, "{said:?}");
        }
    }

    #[test]
    fn empty_request_id_is_ignored() {
        assert_eq!(
            place(Uuid::nil(), &[request("")]).trace_id,
            ROOT.into_bytes()
        );
    }

    #[test]
    fn host_span_determines_the_trace_and_is_the_parent_only_if_nearest() {
        let host = |is_nearest| HostSpan {
            trace_id: [7; 16],
            span_id: [8; 8],
            is_sampled: true,
            is_nearest,
        };
        for (is_nearest, parent) in [(true, [8; 8]), (false, span_id(PARENT))] {
            let bytes = host(is_nearest).to_bytes();
            let said = [
                request("r"),
                traceparent(REMOTE),
                BOUNDARY,
                (Field::HostContext, Value::Bytes(&bytes)),
            ];
            let place = place(PARENT, &said);
            assert_eq!(place.trace_id, [7; 16]);
            assert_eq!(place.parent_span_id, Some(parent));
            assert!(!place.is_exported_by_host);
        }
        let bytes = host(true).to_bytes();
        let own = place(PARENT, &[(Field::HostSpan, Value::Bytes(&bytes))]);
        assert_eq!((own.trace_id, own.span_id), ([7; 16], [8; 8]));
        assert!(own.is_exported_by_host);
    }

    #[test]
    fn traceparent_header_names_the_span_of_the_record() {
        let text = place(Uuid::nil(), &[traceparent(REMOTE)]).traceparent();
        assert_eq!(
            text,
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000003-01"
        );
    }
}
