//! Turns spans and events that other libraries make into records, with the fields that a tagged span
//! has.
//!
//! Everything is decided once per callsite: what a span is, and what each of its fields becomes
//! ([`Decisions`]). What the span records is written by `capture`, as for a tagged span. Nothing
//! after it knows the difference.
//!
//! - [`gen_ai`], [`http`]: the tables of attributes, by OpenTelemetry's names
//! - [`sqlx`]: the statements that sqlx reports
//! - [`spans`]: a program's own spans

mod gen_ai;
mod http;
mod messages;
mod spans;
pub(crate) mod sqlx;

use std::fmt;
use std::sync::Arc;

use tracing::field::{Field as TracingField, Visit};
use tracing::span::Attributes;
use tracing::{Event, Metadata};

use crate::capture::callsite::{Adopted, Decisions, Plan, PlanRef, Said, Slot};
use crate::capture::translate::{Given, Translate, Translation};
use crate::config::adopt::{Adopt, AdoptGenAi, AdoptHttp, AdoptSqlx, Source, Spans};
use crate::record::encode::Key;
use crate::vocabulary::{Field, Kind};

/// What one layer adopts.
pub(crate) struct Adoptions {
    gen_ai: Option<AdoptGenAi>,
    sqlx: Option<AdoptSqlx>,
    http: Option<AdoptHttp>,
    spans: Vec<Spans>,
    callsites: Decisions<Option<Callsite>>,
}

impl fmt::Debug for Adoptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adoptions").finish_non_exhaustive()
    }
}

/// What the spans of a callsite may be.
#[derive(Clone, Debug)]
enum Callsite {
    /// It depends on what the span says first.
    GenAi(Arc<gen_ai::Plans>),
    Http(Arc<Plan>),
    Span(Arc<Plan>),
}

/// What one attribute becomes.
#[derive(Clone, Copy)]
enum Becomes {
    Field(Field),
    /// A value of `metadata`, under this name.
    Named(&'static str),
    Made(Translate),
    Nothing,
}

impl Adoptions {
    /// `None`: nothing is adopted.
    pub(crate) fn new(all: &[Adopt]) -> Option<Self> {
        if all.is_empty() {
            return None;
        }
        let mut adoptions = Self {
            gen_ai: None,
            sqlx: None,
            http: None,
            spans: Vec::new(),
            callsites: Decisions::default(),
        };
        for Adopt(source) in all {
            match source {
                Source::GenAi(gen_ai) => {
                    let known = adoptions.gen_ai.get_or_insert_default();
                    known.whole_messages |= gen_ai.whole_messages;
                }
                Source::Sqlx(sqlx) => {
                    let known = adoptions.sqlx.get_or_insert_default();
                    known.every_statement |= sqlx.every_statement;
                }
                Source::Http(http) => {
                    let known = adoptions.http.get_or_insert_default();
                    known.names.extend(&http.names);
                }
                Source::Spans(spans) => adoptions.spans.push(spans.clone()),
            }
        }
        Some(adoptions)
    }

    /// Returns whether spans or events of this callsite may be adopted.
    pub(crate) fn is_of_interest(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() {
            return self.callsite(metadata).is_some();
        }
        // sqlx also asks whether somebody listens, without an event.
        self.sqlx.is_some() && sqlx::is_of(metadata)
            || self.http.is_some() && http::is_report(metadata)
    }

    /// Returns the plan of a new span that is adopted.
    pub(crate) fn plan(&self, attributes: &Attributes<'_>) -> Option<PlanRef> {
        let plan = match self.callsite(attributes.metadata())? {
            Callsite::GenAi(plans) => {
                Arc::clone(plans.of(First::of(attributes, gen_ai::OPERATION).as_deref())?)
            }
            Callsite::Http(plan) => {
                let kind = First::of(attributes, http::SPAN_KIND);
                let is_client = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("client"));
                (!is_client).then_some(plan)?
            }
            Callsite::Span(plan) => plan,
        };
        Some(PlanRef::Shared(plan))
    }

    fn callsite(&self, metadata: &Metadata<'_>) -> Option<Callsite> {
        self.callsites.of(metadata, || self.decide(metadata))
    }

    fn decide(&self, metadata: &Metadata<'_>) -> Option<Callsite> {
        // The program's own word first.
        for spans in &self.spans {
            if let Some(plan) = spans::plan(spans, metadata) {
                return Some(Callsite::Span(Arc::new(plan)));
            }
        }
        if let Some(gen_ai) = &self.gen_ai
            && metadata.fields().field(gen_ai::OPERATION).is_some()
        {
            return Some(Callsite::GenAi(Arc::new(gen_ai::Plans::new(
                metadata, *gen_ai,
            ))));
        }
        if let Some(http) = &self.http
            && http::is_request(metadata, http)
        {
            return Some(Callsite::Http(Arc::new(http::plan(metadata))));
        }
        None
    }

    /// Returns how statements are adopted, if this is an event that reports one.
    pub(crate) fn sqlx(&self, event: &Event<'_>) -> Option<AdoptSqlx> {
        self.sqlx.filter(|_| sqlx::is_of(event.metadata()))
    }

    /// Returns the plan of an event that reports how a request was answered.
    pub(crate) fn report(&self, event: &Event<'_>) -> Option<Arc<Plan>> {
        let metadata = event.metadata();
        if self.http.is_none() || !http::is_report(metadata) {
            return None;
        }
        let decide = || Some(Callsite::Http(Arc::new(http::plan_of_report(metadata))));
        match self.callsites.of(metadata, decide)? {
            Callsite::Http(plan) => Some(plan),
            _ => None,
        }
    }
}

/// Makes the plan of a callsite's spans by a table of attributes. Others have the meaning that they
/// have in a tagged span.
fn plan_by(
    tables: &[&[(&str, Becomes)]],
    metadata: &Metadata<'_>,
    adopted: Adopted,
    kind: Kind,
    said: &[(Field, &str)],
) -> Plan {
    let slots = metadata.fields().iter().map(|field| {
        let found = tables
            .iter()
            .flat_map(|table| table.iter())
            .find(|(name, _)| *name == field.name());
        match found {
            Some((_, Becomes::Field(field))) => Slot::Field(*field),
            Some((_, Becomes::Named(name))) => Slot::Renamed(name),
            Some((_, Becomes::Made(translate))) => Slot::Translated(*translate),
            Some((_, Becomes::Nothing)) => Slot::Ignore,
            None if is_header(field.name()) => Slot::Ignore,
            None => Field::of_name(field.name(), Some(kind)).map_or(Slot::Extra, Slot::Field),
        }
    });
    let mut begins = Said::default();
    begins.put(Key::Extra(ADOPTED), adopted.name());
    for (field, value) in said {
        begins.put(Key::Field(*field), value);
    }
    Plan::of_adopted(adopted, kind, slots, begins)
}

/// Returns whether the attribute is a header, which may hold a secret.
fn is_header(name: &str) -> bool {
    name.starts_with("http.request.header.") || name.starts_with("http.response.header.")
}

/// The value of `metadata` that tells an adopted record from a tagged one.
const ADOPTED: &str = "adopted";

fn otel_status(value: Given<'_>, out: &mut Translation<'_>) {
    let Given::Text(word) = value else { return };
    if word.eq_ignore_ascii_case("error") {
        out.text(Field::Status, "failed");
    } else if word.eq_ignore_ascii_case("ok") {
        out.text(Field::Status, "succeeded");
    }
}

fn error_type(value: Given<'_>, out: &mut Translation<'_>) {
    out.given(Field::ErrorCode, value);
    out.text(Field::Status, "failed");
}

/// The value that a span has for a field when it begins, as text.
struct First<'a> {
    name: &'a str,
    value: Option<String>,
}

impl<'a> First<'a> {
    fn of(attributes: &Attributes<'_>, name: &'a str) -> Option<String> {
        attributes.metadata().fields().field(name)?;
        let mut first = Self { name, value: None };
        attributes.record(&mut first);
        first.value
    }
}

/// The longest value that is looked at.
const FIRST_BYTES: usize = 256;

impl Visit for First<'_> {
    fn record_str(&mut self, field: &TracingField, value: &str) {
        if field.name() == self.name {
            self.value = Some(value[..value.floor_char_boundary(FIRST_BYTES)].to_owned());
        }
    }

    fn record_debug(&mut self, field: &TracingField, value: &dyn fmt::Debug) {
        if field.name() == self.name {
            let format = std::panic::AssertUnwindSafe(|| format!("{value:?}"));
            self.value = std::panic::catch_unwind(format).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each attribute stands in the guide, so that the table there cannot lack one.
    #[test]
    fn guide_names_each_attribute() {
        let guide = include_str!("../../docs/adoption.md");
        for table in gen_ai::TABLES.iter().chain(http::TABLES) {
            for (name, _) in *table {
                assert!(guide.contains(&format!("`{name}`")), "{name}");
            }
        }
    }
}
