//! Finds the states of a span, and of those around it, in all audit layers of its subscriber.

use std::sync::Arc;

use tracing::span::Id;
use tracing::{Dispatch, Metadata};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use super::captured::Captured;
use super::open::{Open, of};
use super::span::SpanState;
use crate::record::trace::Place;
use crate::vocabulary::Field;

/// Calls `change` with the state of a span in each audit layer.
pub(super) fn change_span(span: &tracing::Span, mut change: impl FnMut(&mut SpanState)) {
    span.with_subscriber(|(id, dispatch)| change_all(dispatch, id, &mut change));
}

/// Calls `change` with the state of an open span in each audit layer.
///
/// Does nothing for a subscriber that is not built on the Registry.
pub(crate) fn change_all(dispatch: &Dispatch, id: &Id, mut change: impl FnMut(&mut SpanState)) {
    let Some(registry) = dispatch.downcast_ref::<Registry>() else {
        return;
    };
    let Some(span) = registry.span(id) else {
        return;
    };
    for table in of(registry, &span) {
        table.with_of(id, Some(span.metadata()), &mut change);
    }
}

/// Calls `with` with the nearest state in a layer of the pipeline `owner`: that of the span or of
/// one that encloses it.
pub(crate) fn with_nearest<T>(
    dispatch: &Dispatch,
    id: &Id,
    owner: u32,
    with: impl FnOnce(&mut SpanState) -> T,
) -> Option<T> {
    let registry = dispatch.downcast_ref::<Registry>()?;
    let mut nearest = registry.span(id);
    while let Some(span) = nearest {
        let tables = of(registry, &span);
        let own = tables.iter().find(|table| {
            table.owner() == owner
                && table
                    .with_of(&span.id(), Some(span.metadata()), |_| ())
                    .is_some()
        });
        if let Some(table) = own {
            return table.with_nearest(Some(span), with);
        }
        nearest = span.parent();
    }
    None
}

/// Captures, in each audit layer, what a span inside this one would inherit.
pub(super) fn capture(dispatch: &Dispatch, id: &Id) -> Vec<Captured> {
    let Some(registry) = dispatch.downcast_ref::<Registry>() else {
        return Vec::new();
    };
    let Some(span) = registry.span(id) else {
        return Vec::new();
    };
    let tables = of(registry, &span);
    let capture = |table: &Arc<Open>| {
        let span = registry.span(id);
        table.with_nearest(span, |from| Captured::of(table.number(), from))
    };
    tables.iter().filter_map(capture).collect()
}

/// Gives a span that has just begun what was captured in its layer.
pub(super) fn restore(dispatch: &Dispatch, id: &Id, all: &[Captured]) {
    let Some(registry) = dispatch.downcast_ref::<Registry>() else {
        return;
    };
    let Some(span) = registry.span(id) else {
        return;
    };
    for table in of(registry, &span) {
        if let Some(captured) = all.iter().find(|captured| captured.table == table.number()) {
            let give = |state: &mut SpanState| captured.give_to(state);
            table.with_of(id, Some(span.metadata()), give);
        }
    }
}

/// Returns the nearest record's place in its trace: that of the span or of one that encloses it.
pub(crate) fn nearest_record(dispatch: &Dispatch, id: &Id) -> Option<Place> {
    find(dispatch, id, |state| state.place(state.kind?))
}

/// Returns the first result that `with` finds in the states of the span and of those around it.
fn find<T>(
    dispatch: &Dispatch,
    id: &Id,
    mut with: impl FnMut(&SpanState) -> Option<T>,
) -> Option<T> {
    let registry = dispatch.downcast_ref::<Registry>()?;
    let mut nearest = registry.span(id);
    while let Some(span) = nearest {
        let (id, metadata) = (span.id(), Some(span.metadata()));
        let found = of(registry, &span)
            .iter()
            .find_map(|table| table.with_of(&id, metadata, |state| with(state))?);
        if found.is_some() {
            return found;
        }
        nearest = span.parent();
    }
    None
}

/// Returns the id of the request that the span belongs to.
pub(super) fn request_id(dispatch: &Dispatch, id: &Id) -> Option<String> {
    find(dispatch, id, |state| {
        state.buffers.own_key(Field::RequestId)
    })
}

/// Returns whether a value can be recorded on the span of the request.
pub(super) fn has_request(dispatch: &Dispatch, id: &Id) -> bool {
    !ways_to_request(dispatch, id).is_empty()
}

/// Records a value, given its entries, on the span that stands for the whole request around a span,
/// in each audit layer.
///
/// That is the outermost of the spans that have the same request id; without a request id, the
/// nearest span with a state, since one further out may belong to more than one request. The spans
/// on the way there have the value from now on, in place of one of their own, as an instrumented
/// function's argument may be.
pub(super) fn set_on_request(dispatch: &Dispatch, id: &Id, name: &str, entries: &[u8]) {
    let Some(registry) = dispatch.downcast_ref::<Registry>() else {
        return;
    };
    for way in ways_to_request(dispatch, id) {
        let Some(((outermost, metadata), between)) = way.spans.split_last() else {
            continue;
        };
        let set = |state: &mut SpanState| state.set_context(name, entries);
        way.table.with_of(outermost, Some(metadata), set);
        let late = |state: &mut SpanState| state.late.now();
        let late = way.table.with_of(outermost, Some(metadata), late);
        let Some(now) = late else { continue };
        let mut around = way.table.around(registry.span(outermost));
        for (id, metadata) in between.iter().rev() {
            let this = way.table.with_of(id, Some(metadata), |state| {
                state.inherit_anew(&around, now);
                if state.buffers.has_context(name) {
                    state.set_context(name, entries);
                }
                state.around()
            });
            around.extend(this);
        }
    }
}

/// The spans with a state in one layer, from the innermost to the one that stands for the request.
struct Way {
    table: Arc<Open>,
    spans: Vec<SpanOf>,
    /// Spans further out without a request id: they belong to the way if one after them does.
    pending: Vec<SpanOf>,
    request: Option<String>,
    is_over: bool,
}

type SpanOf = (Id, &'static Metadata<'static>);

fn ways_to_request(dispatch: &Dispatch, id: &Id) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    let Some(registry) = dispatch.downcast_ref::<Registry>() else {
        return ways;
    };
    let mut next = registry.span(id);
    while let Some(span) = next {
        for table in of(registry, &span) {
            let (id, metadata) = (span.id(), span.metadata());
            let request = table.with_of(&id, Some(metadata), |state| {
                state.buffers.own_key(Field::RequestId)
            });
            let Some(request) = request else { continue };
            match ways.iter_mut().find(|way| Arc::ptr_eq(&way.table, &table)) {
                None => ways.push(Way {
                    table,
                    spans: vec![(id, metadata)],
                    pending: Vec::new(),
                    request,
                    is_over: false,
                }),
                Some(way) => way.go_on((id, metadata), request),
            }
        }
        next = span.parent();
    }
    ways
}

impl Way {
    fn go_on(&mut self, span: SpanOf, request: Option<String>) {
        if self.is_over {
            return;
        }
        match (&self.request, request) {
            (_, None) => self.pending.push(span),
            (Some(known), Some(own)) if *known != own => self.is_over = true,
            (_, own) => {
                self.request = own;
                self.spans.append(&mut self.pending);
                self.spans.push(span);
            }
        }
    }
}
