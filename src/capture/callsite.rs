//! What a callsite means, decided once.
//!
//! A callsite is a `'static` place in the source, so its address names it. What it means is
//! kept in a table of fixed size that is read without a lock; a program with more callsites than
//! the table holds works the same, deciding those each time.

use std::borrow::Cow;
use std::sync::OnceLock;

use tracing::Metadata;

use crate::vocabulary::{Field, Kind};

/// What a callsite means to the audit layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallsiteRole {
    /// A span that becomes a record.
    Audited(Kind),
    /// A span that is no record, but has fields that records inherit.
    Context,
    /// A `tracing` event that becomes a record.
    Event,
    /// Perhaps the event in which an instrumented function says its `Err` or `Ok`.
    Outcome(Outcome),
}

/// What the events of `#[instrument(err)]` and `#[instrument(ret)]` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Err,
    Ok,
}

/// What to do with one field of a callsite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Field(Field),
    /// Into `metadata`, under its name.
    Extra,
    /// Nothing: a field of a span that is only context.
    Ignore,
}

/// What a callsite means, and each of its fields by index.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) role: CallsiteRole,
    slots: Box<[Slot]>,
}

impl Plan {
    /// Decides what a callsite means; `None`: nothing to the audit layer.
    fn new(metadata: &Metadata<'_>) -> Option<Self> {
        Some(Self::of(metadata, role(metadata)?))
    }

    fn of(metadata: &Metadata<'_>, role: CallsiteRole) -> Self {
        let kind = match role {
            CallsiteRole::Audited(kind) => Some(kind),
            CallsiteRole::Event => Some(Kind::Event),
            CallsiteRole::Context | CallsiteRole::Outcome(_) => None,
        };
        let slots = metadata
            .fields()
            .iter()
            .map(|field| match Field::of_name(field.name(), kind) {
                _ if matches!(role, CallsiteRole::Outcome(_)) => Slot::Field(Field::SeenError),
                Some(field) => Slot::Field(field),
                None if kind.is_some() => Slot::Extra,
                None => Slot::Ignore,
            })
            .collect();
        Self { role, slots }
    }

    pub(crate) fn slot(&self, index: usize) -> Slot {
        self.slots.get(index).copied().unwrap_or(Slot::Ignore)
    }
}

fn role(metadata: &Metadata<'_>) -> Option<CallsiteRole> {
    let kind = || Kind::of_tag(metadata.name()).or_else(|| Kind::of_tag(metadata.target()));
    if metadata.is_span() {
        if let Some(kind) = kind() {
            return Some(CallsiteRole::Audited(kind));
        }
        let is_context = metadata
            .fields()
            .iter()
            .any(|field| Field::of_name(field.name(), None).is_some());
        return is_context.then_some(CallsiteRole::Context);
    }
    let mut fields = metadata.fields().iter().map(|field| field.name());
    match (fields.next(), fields.next()) {
        (Some("error"), None) => return Some(CallsiteRole::Outcome(Outcome::Err)),
        (Some("return"), None) => return Some(CallsiteRole::Outcome(Outcome::Ok)),
        _ => {}
    }
    (kind() == Some(Kind::Event)).then_some(CallsiteRole::Event)
}

/// What the fields of a tagged event mean when it is no evidence of an outcome.
pub(crate) fn event_plan(metadata: &Metadata<'_>) -> Option<Cow<'static, Plan>> {
    let plan = plan(metadata)?;
    Some(if plan.role == CallsiteRole::Event {
        plan
    } else {
        Cow::Owned(Plan::of(metadata, CallsiteRole::Event))
    })
}

/// Whether an event of this callsite is a record when it is no evidence of an outcome.
pub(crate) fn is_tagged_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
        && (Kind::of_tag(metadata.name()) == Some(Kind::Event)
            || Kind::of_tag(metadata.target()) == Some(Kind::Event))
}

/// More callsites than a large program has of spans and events that are enabled.
const TABLE_SLOTS: usize = 8_192;

/// How many neighbours of its place a callsite may be found in.
const PROBES: usize = 16;

struct Entry {
    address: usize,
    /// `None`: it means nothing to the audit layer.
    plan: Option<Plan>,
}

static TABLE: [OnceLock<Entry>; TABLE_SLOTS] = [const { OnceLock::new() }; TABLE_SLOTS];

/// The plan of a callsite; `None`: it means nothing to the audit layer.
pub(crate) fn plan(metadata: &Metadata<'_>) -> Option<Cow<'static, Plan>> {
    let address = std::ptr::from_ref(metadata).addr();
    let place = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE_SLOTS.ilog2());
    let place = usize::try_from(place).unwrap_or(0);
    for probe in 0..PROBES {
        let entry = TABLE[(place + probe) % TABLE_SLOTS].get_or_init(|| Entry {
            address,
            plan: Plan::new(metadata),
        });
        if entry.address == address {
            return entry.plan.as_ref().map(Cow::Borrowed);
        }
    }
    Plan::new(metadata).map(Cow::Owned)
}

/// Whether the audit layer wants to see spans or events of this callsite.
pub(crate) fn is_of_interest(metadata: &Metadata<'_>) -> bool {
    role(metadata).is_some()
}
