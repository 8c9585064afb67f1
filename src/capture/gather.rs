//! Text that comes in parts, gathered into one value of a field.

use std::fmt;

use sha2::{Digest, Sha256};
use tracing::Span;

use super::lookup::change_span;
use super::span::SpanState;
use crate::record::buffers;
use crate::record::encode::Key;
use crate::vocabulary::{Field, Kind, PARAMETERS};

/// Text gathered from parts and recorded as one value of a span's field on drop; made by
/// [`AuditSpanExt::gather`](crate::AuditSpanExt::gather).
///
/// It keeps the span open. It keeps no more text than the field can hold
/// ([`Limits`](crate::Limits)); the length and the sha256 in `problems` cover everything that was
/// pushed.
pub struct Gathered {
    span: Span,
    field: String,
    /// The largest limit of any layer; `None`: no layer records the field.
    limit: Option<usize>,
    text: String,
    seen: u64,
    /// The hash of everything that was pushed, once that exceeds the limit.
    hash: Option<Sha256>,
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered")
            .field("field", &self.field)
            .field("bytes", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Gathered {
    pub(super) fn new(span: Span, field: &str) -> Self {
        let mut limit = None;
        change_span(&span, |state| {
            let own = key(state, field).map(|key| buffers::limit(key, &state.limits));
            limit = limit.max(own);
        });
        Self {
            span,
            field: field.to_owned(),
            limit,
            text: String::new(),
            seen: 0,
            hash: None,
        }
    }

    /// Appends a part.
    ///
    /// ```
    /// use tracing::{field::Empty, info_span};
    /// use tracing_audit::AuditSpanExt;
    ///
    /// let span = info_span!("audit.prompt_run", response_text = Empty);
    /// let mut answer = span.gather("response_text");
    /// for token in ["Forty", "-", "two"] {
    ///     answer.push(token);
    /// }
    /// ```
    pub fn push(&mut self, text: &str) {
        let Some(limit) = self.limit else { return };
        self.seen += text.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(text);
            return;
        }
        let room = limit - self.text.len();
        if text.len() <= room {
            self.text.push_str(text);
            return;
        }
        let hash = Sha256::new().chain_update(&self.text).chain_update(text);
        self.hash = Some(hash);
        self.text.push_str(&text[..text.floor_char_boundary(room)]);
    }
}

impl fmt::Write for Gathered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if self.seen == 0 {
            return;
        }
        // Layers may have different limits or room. No lock is held while the text is hashed.
        let text = self.text.as_bytes();
        let mut is_cut = self.hash.is_some();
        change_span(&self.span, |state| {
            let fits = key(state, &self.field)
                .is_none_or(|key| state.buffers.gathered_limit(key, &state.limits) >= text.len());
            is_cut |= !fits;
        });
        let sha256 = is_cut.then(|| {
            let hash = self.hash.take();
            hash.unwrap_or_else(|| Sha256::new().chain_update(text))
                .finalize()
                .into()
        });
        change_span(&self.span, |state| {
            if let Some(key) = key(state, &self.field) {
                state.record_gathered(key, text, self.seen, sha256);
            }
        });
    }
}

/// Returns what the name means on a span; `None`: the span has no record, or the field is not
/// recorded.
fn key<'a>(state: &SpanState, name: &'a str) -> Option<Key<'a>> {
    let kind = state.kind?;
    if kind == Kind::QueryRun && name == PARAMETERS && !state.limits.parameters {
        return None;
    }
    Some(Field::of_name(name, Some(kind)).map_or(Key::Extra(name), Key::Field))
}
