//! Spans of a program's own, by what it says of them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::Metadata;

use super::ADOPTED;
use crate::capture::callsite::{Adopted, Plan, Said, Slot};
use crate::config::adopt::{SpanMapping, Spans};
use crate::record::encode::Key;
use crate::vocabulary::{Field, Kind, PARAMETERS};

thread_local! {
    /// A mapping of the host's runs on this thread.
    static IS_ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Returns the plan of a callsite's spans; `None`: they are not adopted.
pub(super) fn plan(spans: &Spans, metadata: &Metadata<'_>) -> Option<Plan> {
    // The host's code. It is called where the host makes a span, and must not end that; nor call
    // itself, by spans of its own.
    if IS_ASKED.replace(true) {
        return None;
    }
    let mapping = catch_unwind(AssertUnwindSafe(|| (spans.0)(metadata)));
    IS_ASKED.set(false);
    let mapping = mapping.ok()??;
    let mut says_action = false;
    let slots: Vec<_> = metadata
        .fields()
        .iter()
        .map(|field| {
            let slot = slot(&mapping, field.name());
            says_action |= matches!(slot, Slot::Field(Field::ActionType));
            slot
        })
        .collect();
    let mut said = Said::default();
    said.put(Key::Extra(ADOPTED), Adopted::Span.name());
    if mapping.kind == Kind::Event && !says_action {
        put(&mut said, mapping.kind, "action_type", metadata.name());
    }
    for (name, value) in &mapping.values {
        put(&mut said, mapping.kind, name, value);
    }
    Some(Plan::of_adopted(Adopted::Span, mapping.kind, slots, said))
}

fn slot(mapping: &SpanMapping, name: &str) -> Slot {
    let column = |name| Field::of_name(name, Some(mapping.kind));
    let are_parameters = |name: &str| mapping.kind == Kind::QueryRun && name == PARAMETERS;
    // If a field is mapped twice, the last counts.
    let mapped = mapping.fields.iter().rev().find(|(from, _)| *from == name);
    match mapped {
        Some((_, Some(to))) if are_parameters(to) => Slot::Parameters,
        Some((_, Some(to))) => column(to).map_or(Slot::Renamed(to), Slot::Field),
        Some((_, None)) => Slot::Ignore,
        None => match column(name) {
            Some(field) if !mapping.leaves_out_others || field.is_inherited() => Slot::Field(field),
            None if mapping.leaves_out_others => Slot::Ignore,
            None if are_parameters(name) => Slot::Parameters,
            None => Slot::Extra,
            _ => Slot::Ignore,
        },
    }
}

fn put(said: &mut Said, kind: Kind, name: &str, value: &str) {
    let key = Field::of_name(name, Some(kind)).map_or(Key::Extra(name), Key::Field);
    said.put(key, value);
}
