//! What is kept with an open span, in the Registry's extensions.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Dispatch;
use tracing::span::Id;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{Extensions, ExtensionsMut, LookupSpan, SpanRef};
use uuid::Uuid;

use super::buffers::Buffers;
use super::clock::Moment;
use super::host::{self, Host};
use crate::config::Limits;
use crate::record::decode::Frame;
use crate::record::encode::{Evidence, Header};
use crate::record::trace::Place;
use crate::record::{id, row};
use crate::vocabulary::Kind;

/// The part of a span that one audit layer keeps.
#[derive(Debug)]
pub(crate) struct SpanState {
    /// The layer this belongs to: several may look at the same span.
    owner: u32,
    /// `None`: the span is no record, its fields are inherited.
    pub(crate) kind: Option<Kind>,
    pub(crate) id: Uuid,
    parent: Uuid,
    root: Uuid,
    began: Moment,
    started_us: i64,
    /// `None`: from its beginning until it is closed.
    pub(crate) duration_us: Option<u64>,
    pub(crate) buffers: Buffers,
    pub(crate) limits: Limits,
    pub(crate) host: Host,
    /// The worker was told that the run has begun.
    pub(crate) is_begun: bool,
    evidence: Evidence,
    /// The thread was unwinding when the span began or was entered: a panic that the span
    /// did not see begin is none of its own.
    pub(crate) amid_panic: bool,
    /// [`LATE_CONTEXT`] when the span began.
    late_context: u64,
}

/// How often an inherited field was recorded on a span that was already open. A record whose
/// span saw none need not look at its enclosing spans again.
static LATE_CONTEXT: AtomicU64 = AtomicU64::new(0);

/// What all audit layers keep with one span. The Registry's extensions hold one value of a
/// type.
#[derive(Debug)]
pub(crate) struct Captured {
    first: SpanState,
    others: Vec<SpanState>,
}

impl Captured {
    fn of(&self, owner: u32) -> Option<&SpanState> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .find(|state| state.owner == owner)
    }

    fn of_mut(&mut self, owner: u32) -> Option<&mut SpanState> {
        self.states_mut().find(|state| state.owner == owner)
    }

    fn states_mut(&mut self) -> impl Iterator<Item = &mut SpanState> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }
}

impl SpanState {
    /// Begins to keep a span whose nearest kept ancestor is `parent`, while the host's span
    /// `active` is.
    pub(crate) fn begin(
        owner: u32,
        limits: Limits,
        kind: Option<Kind>,
        parent: Option<&SpanState>,
        active: host::Active,
    ) -> Self {
        let mut buffers = Buffers::take();
        if let Some(parent) = parent {
            buffers.inherit(&parent.buffers, parent.kind.is_some());
        }
        // A span that is no record stands for the record that encloses it.
        let (parent_id, root) = parent.map_or((Uuid::nil(), Uuid::nil()), |parent| {
            (
                if parent.kind.is_some() {
                    parent.id
                } else {
                    parent.parent
                },
                parent.root,
            )
        });
        // A span that is no record needs neither times nor an id.
        let (began, started_us, id) = if kind.is_some() {
            let began = Moment::now();
            let started_us = began.wall_us();
            (began, started_us, id::new(started_us))
        } else {
            (Moment::UNKNOWN, 0, Uuid::nil())
        };
        Self {
            owner,
            kind,
            id,
            parent: parent_id,
            root: if root.is_nil() { id } else { root },
            began,
            started_us,
            duration_us: None,
            buffers,
            limits,
            host: match (kind, parent) {
                (Some(_), _) => Host::begin(active, parent.map(|parent| &parent.host)),
                // What the enclosing record knows, for those inside.
                (None, Some(parent)) => parent.host,
                (None, None) => Host::default(),
            },
            is_begun: false,
            evidence: Evidence::None,
            amid_panic: std::thread::panicking(),
            late_context: LATE_CONTEXT.load(Ordering::Relaxed),
        }
    }

    /// Appends fields that were recorded after the span began.
    pub(crate) fn record(&mut self, later: &Buffers, saw_result: bool) {
        if !later.context.is_empty() {
            LATE_CONTEXT.fetch_add(1, Ordering::Relaxed);
        }
        self.buffers.append(later, &self.limits);
        if saw_result {
            self.saw(Evidence::ResultField);
        }
    }

    /// Takes evidence of the outcome into account, if it is the strongest so far.
    pub(crate) fn saw(&mut self, evidence: Evidence) {
        self.evidence = self.evidence.max(evidence);
    }

    /// Whether an `Ok` or an `Err` was seen.
    pub(crate) fn has_result(&self) -> bool {
        matches!(self.evidence, Evidence::Ok | Evidence::Err)
    }

    /// Whether a field may have been recorded on an enclosing span since this one began.
    pub(crate) fn may_miss_context(&self) -> bool {
        self.late_context != LATE_CONTEXT.load(Ordering::Relaxed)
    }

    /// What the frame of a run that begins says before its entries.
    pub(crate) fn header_of_beginning(&self, kind: Kind) -> Header {
        Header {
            kind,
            evidence: Evidence::None,
            id: self.id,
            parent: self.parent,
            root: self.root,
            started_us: self.started_us,
            duration_us: 0,
        }
    }

    /// What the record's frame says before its entries.
    pub(crate) fn header(&self, kind: Kind) -> Header {
        Header {
            evidence: self.evidence,
            duration_us: self
                .duration_us
                .unwrap_or_else(|| Moment::now().since_us(self.began)),
            ..self.header_of_beginning(kind)
        }
    }

    /// Where the record's span is among those of its trace, as far as is known by now.
    pub(crate) fn place(&self, kind: Kind) -> Option<Place> {
        let mut own = [&*self.buffers.context, &*self.buffers.body].concat();
        self.host.write(&mut own);
        let frame = Frame::of_parts(self.header(kind), &self.buffers.inherited, &own);
        row::place(&frame).ok()
    }

    /// Ends the record at the moment that it began.
    pub(crate) fn is_instant(&mut self) {
        self.duration_us = Some(0);
    }

    /// Begins the record when the host says, rather than now.
    pub(crate) fn set_start(&mut self, started_us: i64) {
        let is_root = self.root == self.id;
        self.started_us = started_us;
        self.id = id::new(started_us);
        if is_root {
            self.root = self.id;
        }
    }
}

/// Keeps `state` with the span.
pub(crate) fn keep(mut extensions: ExtensionsMut<'_>, state: SpanState) {
    if let Some(captured) = extensions.get_mut::<Captured>() {
        captured.others.push(state);
    } else {
        extensions.insert(Captured {
            first: state,
            others: Vec::new(),
        });
    }
}

/// What the layer `owner` keeps with the span.
pub(crate) fn kept<'a>(extensions: &'a Extensions<'_>, owner: u32) -> Option<&'a SpanState> {
    extensions.get::<Captured>()?.of(owner)
}

/// The same, to change it.
pub(crate) fn kept_mut<'a>(
    extensions: &'a mut ExtensionsMut<'_>,
    owner: u32,
) -> Option<&'a mut SpanState> {
    extensions.get_mut::<Captured>()?.of_mut(owner)
}

/// Takes what the layer `owner` keeps with the span, which is closing.
pub(crate) fn take(extensions: &mut ExtensionsMut<'_>, owner: u32) -> Option<SpanState> {
    let captured = extensions.get_mut::<Captured>()?;
    if let Some(at) = captured
        .others
        .iter()
        .position(|state| state.owner == owner)
    {
        return Some(captured.others.swap_remove(at));
    }
    if captured.first.owner != owner {
        return None;
    }
    if let Some(other) = captured.others.pop() {
        return Some(std::mem::replace(&mut captured.first, other));
    }
    extensions
        .remove::<Captured>()
        .map(|captured| captured.first)
}

/// Calls `with` with what is kept for the nearest of `span` and its ancestors that has it.
pub(crate) fn with_nearest<'a, S, T>(
    span: Option<SpanRef<'a, S>>,
    owner: u32,
    with: impl FnOnce(Option<&SpanState>) -> T,
) -> T
where
    S: LookupSpan<'a>,
{
    let mut nearest = span;
    while let Some(span) = nearest {
        let extensions = span.extensions();
        if let Some(state) = kept(&extensions, owner) {
            return with(Some(state));
        }
        drop(extensions);
        nearest = span.parent();
    }
    with(None)
}

/// Calls `change` with what each audit layer keeps with a span that is open.
///
/// Reaches the span through the Registry, whatever layers are stacked on it; does nothing for
/// a subscriber that is not built on the Registry.
pub(crate) fn change_all(dispatch: &Dispatch, id: &Id, mut change: impl FnMut(&mut SpanState)) {
    if let Some(registry) = dispatch.downcast_ref::<Registry>()
        && let Some(span) = registry.span(id)
        && let Some(captured) = span.extensions_mut().get_mut::<Captured>()
    {
        captured.states_mut().for_each(&mut change);
    }
}

/// Where the span of the nearest record is, of this span and those that enclose it.
pub(crate) fn nearest_record(dispatch: &Dispatch, id: &Id) -> Option<Place> {
    let mut nearest = dispatch.downcast_ref::<Registry>()?.span(id);
    while let Some(span) = nearest {
        if let Some(captured) = span.extensions().get::<Captured>()
            && let Some(place) = std::iter::once(&captured.first)
                .chain(&captured.others)
                .find_map(|state| state.place(state.kind?))
        {
            return Some(place);
        }
        nearest = span.parent();
    }
    None
}
