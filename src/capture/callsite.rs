//! The meaning of a callsite to the audit layer, decided once.
//!
//! A callsite is a `'static` place in the source, so its address identifies it. Its meaning is kept
//! in a table of fixed size that is read without a lock. A program with more callsites than the
//! table holds works the same, but decides the rest each time.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use tracing::Metadata;

use super::translate::Translate;
use crate::record::encode::{self, Key, ty};
use crate::vocabulary::{Field, Kind, PARAMETERS};

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
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    Field(Field),
    /// Goes into `metadata`, under its name.
    Extra,
    /// The bind values of a query run, which go into `metadata` if they are recorded at all.
    Parameters,
    /// Goes into `metadata`, under this name.
    Renamed(&'static str),
    /// The function makes other fields of it.
    Translated(Translate),
    /// Left out: a field of a span that is only context, or one that is not wanted.
    Ignore,
}

/// The role of a callsite, and the meaning of each of its fields by index.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) role: CallsiteRole,
    slots: Box<[Slot]>,
    /// What is adopted, if the span is not tagged.
    pub(crate) adopted: Option<Adopted>,
    /// The request layers make its spans.
    pub(crate) is_request: bool,
    /// The entries that each of its spans begins with.
    pub(crate) said: Said,
}

/// The module whose spans of this name are requests.
const REQUESTS: (&str, &str) = ("tracing_audit::request::run", "http_request");

/// Entries of fields that inner spans inherit, and of others.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) context: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Said {
    /// Adds text.
    pub(crate) fn put(&mut self, key: Key<'_>, value: &str) {
        let out = match key {
            Key::Field(field) if field.is_inherited() => &mut self.context,
            _ => &mut self.body,
        };
        encode::whole_text(out, key, ty::TEXT, value.as_bytes());
    }
}

/// What a span that is not tagged was adopted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adopted {
    GenAi,
    Http,
    Span,
}

impl Adopted {
    /// Returns the value of `metadata.adopted`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::GenAi => "gen_ai",
            Self::Http => "http",
            Self::Span => "span",
        }
    }
}

/// A plan that an open span keeps.
#[derive(Clone, Debug)]
pub(crate) enum PlanRef {
    Static(&'static Plan),
    Shared(Arc<Plan>),
}

impl Deref for PlanRef {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        match self {
            Self::Static(plan) => plan,
            Self::Shared(plan) => plan,
        }
    }
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
                None if kind == Some(Kind::QueryRun) && field.name() == PARAMETERS => {
                    Slot::Parameters
                }
                None if kind.is_some() => Slot::Extra,
                None => Slot::Ignore,
            })
            .collect();
        Self {
            role,
            slots,
            adopted: None,
            is_request: metadata.module_path() == Some(REQUESTS.0) && metadata.name() == REQUESTS.1,
            said: Said::default(),
        }
    }

    /// Makes the plan of spans that are not tagged, and become records of `kind` all the same.
    pub(crate) fn of_adopted(
        adopted: Adopted,
        kind: Kind,
        slots: impl IntoIterator<Item = Slot>,
        said: Said,
    ) -> Self {
        Self {
            role: CallsiteRole::Audited(kind),
            slots: slots.into_iter().collect(),
            adopted: Some(adopted),
            is_request: false,
            said,
        }
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
pub(crate) fn event_plan(metadata: &Metadata<'_>) -> Option<PlanRef> {
    let plan = plan(metadata)?;
    Some(if plan.role == CallsiteRole::Event {
        plan
    } else {
        PlanRef::Shared(Arc::new(Plan::of(metadata, CallsiteRole::Event)))
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

/// What was decided for one callsite.
#[derive(Debug)]
struct Entry<T> {
    address: usize,
    decided: T,
}

/// `None`: the audit layer ignores the callsite.
static TABLE: [OnceLock<Entry<Option<Plan>>>; TABLE_SLOTS] =
    [const { OnceLock::new() }; TABLE_SLOTS];

/// Returns what is decided for a callsite, once; `None`: the table has no room for it.
fn find<'a, T>(
    table: &'a [OnceLock<Entry<T>>],
    metadata: &Metadata<'_>,
    decide: impl Fn() -> T,
) -> Option<&'a T> {
    let address = std::ptr::from_ref(metadata).addr();
    let place = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE_SLOTS.ilog2());
    let place = usize::try_from(place).unwrap_or(0);
    for probe in 0..PROBES {
        let place = &table[(place + probe) % TABLE_SLOTS];
        let entry = if let Some(entry) = place.get() {
            entry
        } else {
            // Not while the place is being initialised: a host's mapping may make spans.
            let decided = decide();
            place.get_or_init(|| Entry { address, decided })
        };
        if entry.address == address {
            return Some(&entry.decided);
        }
    }
    None
}

/// Returns the plan of a callsite; `None`: the audit layer ignores it.
pub(crate) fn plan(metadata: &Metadata<'_>) -> Option<PlanRef> {
    match find(&TABLE, metadata, || Plan::new(metadata)) {
        Some(plan) => plan.as_ref().map(PlanRef::Static),
        None => Plan::new(metadata).map(|plan| PlanRef::Shared(Arc::new(plan))),
    }
}

/// What one layer has decided for each callsite.
pub(crate) struct Decisions<T>(Box<[OnceLock<Entry<T>>]>);

impl<T> Default for Decisions<T> {
    fn default() -> Self {
        Self((0..TABLE_SLOTS).map(|_| OnceLock::new()).collect())
    }
}

impl<T: Clone> Decisions<T> {
    /// Returns what is decided for a callsite.
    pub(crate) fn of(&self, metadata: &Metadata<'_>, decide: impl Fn() -> T) -> T {
        find(&self.0, metadata, &decide)
            .cloned()
            .unwrap_or_else(decide)
    }
}

/// Returns whether the audit layer wants the spans or events of this callsite.
pub(crate) fn is_of_interest(metadata: &Metadata<'_>) -> bool {
    role(metadata).is_some()
}
