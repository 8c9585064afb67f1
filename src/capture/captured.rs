//! What one layer knows of a span's context, kept for spans elsewhere.

use uuid::Uuid;

use super::host::{self, Host};
use super::span::SpanState;
use crate::record::coerce;
use crate::record::decode::{self, EntryKey};
use crate::record::trace;
use crate::vocabulary::Field;

/// What one layer knew.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    /// The number of the layer's table.
    pub(super) table: u64,
    inherited: Vec<u8>,
    parent: Uuid,
    root: Uuid,
    host: Host,
}

impl Captured {
    /// Captures what a span inside `from` would inherit.
    pub(super) fn of(table: u64, from: &SpanState) -> Self {
        let mut inner = SpanState::begin(from.limits, None, host::Active::default());
        inner.inherit(from, host::Active::default());
        let captured = Self {
            table,
            inherited: inner.buffers.inherited.clone(),
            parent: inner.parent,
            root: inner.root,
            host: inner.host,
        };
        inner.recycle();
        captured
    }

    /// Returns what a record there would have in a field.
    pub(super) fn text(&self, field: Field) -> Option<String> {
        let entries = decode::entries(&self.inherited).map_while(Result::ok);
        let values =
            entries.filter(|entry| entry.key == EntryKey::Field(field) && entry.value.is_said());
        let (text, _) = coerce::key(field, values.last()?.value);
        let text = coerce::without_nul(&text);
        (!text.is_empty()).then(|| text.into_owned())
    }

    /// Returns the trace that a record there would have, in hexadecimal.
    pub(super) fn trace_id(&self) -> Option<String> {
        let mut entries = self.inherited.clone();
        Host::begin(host::active(), Some(&self.host)).write(&mut entries);
        let trace_id = trace::trace_of(&entries, self.root)?;
        Some(format!("{:032x}", u128::from_be_bytes(trace_id)))
    }

    /// Returns the record that it lies in.
    pub(super) fn parent(&self) -> Option<Uuid> {
        (!self.parent.is_nil()).then_some(self.parent)
    }

    /// Gives it to a span that has just begun.
    pub(super) fn give_to(&self, state: &mut SpanState) {
        // As if the span itself said so: it stands for the request from here on.
        state
            .buffers
            .context
            .splice(0..0, self.inherited.iter().copied());
        state.parent = self.parent;
        state.root = self.root;
        state.host = self.host;
    }
}
