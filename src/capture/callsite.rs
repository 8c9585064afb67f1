//! The meaning of a callsite to the audit layer, decided once.
//!
//! A callsite is a `'static` place in the source, so its address identifies it. Its meaning is kept
//! in a table of fixed size that is read without a lock. A program with more callsites than the
//! table holds works the same, but decides the rest each time.

use std::borrow::Cow;
use std::sync::OnceLock;

use tracing::Metadata;

use crate::vocabulary::{Field, Kind};

/// The role of a callsite for the audit layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallsiteRole {
    /// A span that becomes a record.
    Audited(Kind),
    /// A span that does not become a record, but has fields that records inherit.
    Context,
    /// A `tracing` event that becomes a record.
    Event,
    /// An event in which an instrumented function may report its `Err` or `Ok`.
    Outcome(Outcome),
}

/// The outcome that an event of `#[instrument(err)]` or `#[instrument(ret)]` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Err,
    Ok,
}

/// What to do with one field of a callsite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Field(Field),
    /// Goes into `metadata`, under its name.
    Extra,
    /// Ignored: a field of a span that is only context.
    Ignore,
}

/// The role of a callsite, and the meaning of each of its fields by index.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) role: CallsiteRole,
    slots: Box<[Slot]>,
}

impl Plan {
    /// Decides the role of a callsite; `None`: the audit layer ignores it.
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

/// Returns the plan of a tagged event that does not report an outcome.
pub(crate) fn event_plan(metadata: &Metadata<'_>) -> Option<Cow<'static, Plan>> {
    let plan = plan(metadata)?;
    Some(if plan.role == CallsiteRole::Event {
        plan
    } else {
        Cow::Owned(Plan::of(metadata, CallsiteRole::Event))
    })
}

/// Returns whether an event of this callsite becomes a record if it does not report an outcome.
pub(crate) fn is_tagged_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
        && (Kind::of_tag(metadata.name()) == Some(Kind::Event)
            || Kind::of_tag(metadata.target()) == Some(Kind::Event))
}

/// More than the callsites of all enabled spans and events in a large program.
const TABLE_SLOTS: usize = 8_192;

/// How many neighbouring slots are tried for a callsite.
const PROBES: usize = 16;

struct Entry {
    address: usize,
    /// `None`: the audit layer ignores it.
    plan: Option<Plan>,
}

static TABLE: [OnceLock<Entry>; TABLE_SLOTS] = [const { OnceLock::new() }; TABLE_SLOTS];

/// Returns the plan of a callsite; `None`: the audit layer ignores it.
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

/// Returns whether the audit layer wants the spans or events of this callsite.
pub(crate) fn is_of_interest(metadata: &Metadata<'_>) -> bool {
    role(metadata).is_some()
}
