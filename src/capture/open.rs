//! The table of one audit layer's open spans.
//!
//! It replaces the Registry's extensions: there, each call looks up the span in the Registry's
//! slab, locks its extensions and looks up the type in them, and each span costs an allocation.
//! Here a call locks one shard of the table, which only the span's thread uses as long as its spans
//! stay on that thread. No host code runs while a shard is locked.
//!
//! The worker scans the table for runs in flight ([`Open::look`]), so that a span need not report
//! its beginning.
//!
//! An audited span with ten fields took 9,756 instructions with extensions, and some 7,000 with the
//! table when it was new; the time added fell from 850 to some 400 ns.
//!
//! `audited()` and `audit_id()` find the table by the Registry's address, which a layer learns when
//! it becomes part of a subscriber. Where tracing-subscriber does not pass it on (a layer in an
//! `Option`, a `Vec` or a `reload::Layer`), each span's extensions name its tables.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, RwLock, Weak};

use crossbeam_utils::CachePadded;
use tracing::span::Id;
use tracing::{Dispatch, Metadata};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{LookupSpan, SpanRef};
use uuid::Uuid;

use super::callsite::Adopted;
use super::host;
use super::late::Late;
use super::shard::{Part, Shard};
use super::span::{Around, SpanState};
use super::tracked::Tracked;
use crate::clock::Moment;
use crate::fork::Process;
use crate::record::encode;
use crate::stats::{Counters, DropCause};
use crate::sync::{self, Locked, Ordering};
use crate::vocabulary::Kind;

/// The open spans of one layer.
pub(crate) struct Open {
    /// The pipeline that the layer belongs to.
    owner: u32,
    /// Grows in the order in which tables are created.
    number: u64,
    /// The table's place in the list; [`MAX_LISTED`]: it is not listed.
    place: AtomicUsize,
    shards: Box<[CachePadded<Part>]>,
    is_tracked: Tracked,
    /// Spans' extensions name this table.
    is_kept_by_spans: AtomicBool,
    counters: Arc<Counters>,
    unseen: Unseen,
    process: Process,
}

/// Called with the record of a span whose close was missed.
pub(crate) type Unseen = Box<dyn Fn(Kind, Uuid) + Send + Sync>;

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("owner", &self.owner)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// Shards of a table. Up to this many threads that are alive at once have a shard each.
const SHARDS: usize = 64;

/// The bit of a span's number where the number of the thread that opened it begins, in the slab of
/// tracing-subscriber 0.3. If it were elsewhere, threads would contend for the shards' locks.
const THREAD_BITS: u32 = 38;

/// The tables whose Registry is known, where [`of`] finds those of a subscriber.
///
/// No thread blocks here: in a process that was forked while another thread held one of the locks,
/// it would block for ever, and that process may have pipelines of its own.
static LISTED: [Listed; MAX_LISTED] = [const { Listed::free() }; MAX_LISTED];

/// More layers than a program has at once. Tables beyond that are found by a span's extensions.
const MAX_LISTED: usize = 32;

/// A place in the list of tables.
#[derive(Debug)]
struct Listed {
    /// The address of the table's Registry, [`FREE`] or [`TAKEN`].
    registry: AtomicUsize,
    /// Locked for writing only before any thread looks up the table.
    table: RwLock<Weak<Open>>,
}

/// No table is listed here.
const FREE: usize = 0;

/// A table is being listed here. No Registry has this address, because it is not aligned.
const TAKEN: usize = 1;

/// The number of tables that spans' extensions name. While there is none, no span's extensions are
/// locked: a layer of the host's may hold them, and ask for the context all the same.
static KEPT_BY_SPANS: AtomicUsize = AtomicUsize::new(0);

/// The tables of a span, kept in its extensions if they are not listed.
#[derive(Debug, Default)]
struct KeptBy(Vec<Weak<Open>>);

impl Open {
    /// Creates the table of a layer that belongs to the pipeline `owner`.
    pub(crate) fn new(
        owner: u32,
        is_tracked: Tracked,
        counters: Arc<Counters>,
        unseen: Unseen,
    ) -> Arc<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            owner,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            place: AtomicUsize::new(MAX_LISTED),
            shards: (0..SHARDS).map(|_| CachePadded::default()).collect(),
            is_tracked,
            is_kept_by_spans: AtomicBool::new(false),
            counters,
            unseen,
            process: Process::current(),
        })
    }

    /// Lists the table under the Registry of `subscriber`, which the layer has become part of.
    pub(crate) fn attach_to(self: &Arc<Self>, subscriber: &Dispatch) {
        if !self.is_listed()
            && let Some(registry) = subscriber.downcast_ref::<Registry>()
            && let Some(place) = LISTED
                .iter()
                .position(|listed| listed.list(self, address(registry)))
        {
            self.place.store(place, Ordering::Relaxed);
        }
    }

    /// Returns whether the subscriber has the span and the span's extensions name this table.
    #[cfg(feature = "tracing-opentelemetry")]
    pub(crate) fn is_named_by(&self, id: &Id, subscriber: &Dispatch) -> bool {
        let registry = subscriber.downcast_ref::<Registry>();
        let Some(span) = registry.and_then(|registry| registry.span(id)) else {
            return false;
        };
        let is_self = |table: &Weak<Self>| std::ptr::eq(table.as_ptr(), self);
        let extensions = span.extensions();
        let named = extensions.get::<KeptBy>();
        named.is_some_and(|KeptBy(tables)| tables.iter().any(is_self))
    }

    /// Returns the number of the pipeline that the layer belongs to.
    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    /// Returns the number that no other table has.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn is_listed(&self) -> bool {
        self.place.load(Ordering::Relaxed) < MAX_LISTED
    }

    #[inline]
    fn part(&self, number: u64) -> &Part {
        let thread = usize::try_from((number - 1) >> THREAD_BITS).unwrap_or(0);
        &self.shards[thread % SHARDS]
    }

    /// Locks a span's shard. `None`: this process was forked while another thread held the lock.
    #[inline]
    fn shard(&self, number: u64) -> Option<Locked<'_, Shard>> {
        self.process.hold(&self.part(number).shard)
    }

    /// Returns `false` if the span has no state; takes no lock.
    ///
    /// Whoever has a span's id has got it from the thread that made it, and so sees what that thread
    /// has written here.
    #[inline]
    pub(crate) fn may_have(&self, id: &Id) -> bool {
        let number = id.into_u64();
        self.part(number).states(number).load(Ordering::Relaxed) > 0
    }

    /// Stores `state` for the span until it is [taken](Self::take), after it has inherited from the
    /// nearest enclosing span with a state: `parent` or one that encloses it. A parent without
    /// metadata has no state.
    pub(crate) fn keep<'a, S>(
        self: &Arc<Self>,
        id: &Id,
        mut state: Box<SpanState>,
        parent: Option<(&Id, Option<&'static Metadata<'static>>)>,
        active: host::Active,
        span: impl Fn() -> Option<SpanRef<'a, S>>,
    ) where
        S: LookupSpan<'a> + 'a,
    {
        let Some(mut shard) = self.shard(id.into_u64()) else {
            return;
        };
        if let Some((parent, metadata)) = parent {
            if let Some(parent) = shard.spans.get(parent.into_u64())
                && parent.is_of(metadata)
                && !parent.may_miss_context()
            {
                // The usual case: this thread opened the parent as well as the span.
                state.inherit(parent, active);
            } else {
                drop(shard);
                let parent = self.with_of(parent, metadata, |parent| {
                    let is_complete = !parent.may_miss_context();
                    if is_complete {
                        state.inherit(parent, active);
                    }
                    is_complete
                });
                if parent != Some(true) {
                    self.with_nearest(span().and_then(|span| span.parent()), |from| {
                        state.inherit(from, active);
                    });
                }
                let Some(again) = self.shard(id.into_u64()) else {
                    return;
                };
                shard = again;
            }
        }
        if !state.is_enclosed() {
            state.late = Late::of_outermost(id.into_u64());
        }
        if state.is(Adopted::Http) {
            state.name_request();
        }
        self.insert(shard, id.into_u64(), state);
        if !self.is_listed()
            && let Some(span) = span()
        {
            if !self.is_kept_by_spans.swap(true, Ordering::Relaxed) {
                KEPT_BY_SPANS.fetch_add(1, Ordering::Relaxed);
            }
            let mut extensions = span.extensions_mut();
            if let Some(KeptBy(tables)) = extensions.get_mut() {
                tables.push(Arc::downgrade(self));
            } else {
                extensions.insert(KeptBy(vec![Arc::downgrade(self)]));
            }
        }
    }

    fn insert(&self, mut shard: Locked<'_, Shard>, number: u64, state: Box<SpanState>) {
        if self.is_tracked.has(&state) && !shard.list(number) {
            self.part(number).overlook();
        }
        if shard.spans.insert(number, state).is_none() {
            self.part(number).add(number);
        }
    }

    /// Calls `with` with the span's state, under its shard's lock. `None`: the span has no state.
    /// Only for a span whose beginning the layer saw, whether it has a state or not: an earlier one
    /// was [forgotten](Self::forget_earlier).
    pub(crate) fn with<T>(&self, id: &Id, with: impl FnOnce(&mut SpanState) -> T) -> Option<T> {
        let number = id.into_u64();
        self.shard(number)?.spans.get_mut(number).map(with)
    }

    /// Returns whether the span has a state.
    #[cfg(feature = "tracing-opentelemetry")]
    pub(crate) fn has(&self, id: &Id) -> bool {
        self.with(id, |_| ()).is_some()
    }

    /// Does the same for any span, given its callsite. Removes the state of an earlier span with
    /// the same number whose close was missed.
    pub(super) fn with_of<T>(
        &self,
        id: &Id,
        metadata: Option<&'static Metadata<'static>>,
        with: impl FnOnce(&mut SpanState) -> T,
    ) -> Option<T> {
        let number = id.into_u64();
        let mut shard = self.shard(number)?;
        let state = shard.spans.get_mut(number)?;
        if state.is_of(metadata) {
            return Some(with(state));
        }
        let forgotten = self.remove(&mut shard, number);
        drop(shard);
        if let Some(forgotten) = forgotten {
            self.forget(forgotten);
        }
        None
    }

    /// Removes the state of an earlier span with this number whose close was missed, as when another
    /// layer panicked in it: the span that has begun has no state yet.
    ///
    /// So what the table has under an open span's number is that span's, and the other callbacks
    /// need not ask whose it is.
    #[inline]
    pub(crate) fn forget_earlier(&self, id: &Id) {
        if self.may_have(id)
            && let Some(forgotten) = self.take(id)
        {
            self.forget(forgotten);
        }
    }

    /// Counts the record of a span whose close was missed.
    #[cold]
    fn forget(&self, state: Box<SpanState>) {
        // A run that the spool knows of gets its row at the shutdown.
        if let Some(kind) = state.kind
            && !state.is_begun
        {
            let now_us = Moment::now().wall_us();
            self.counters.count_drop(DropCause::EndUnseen, kind, now_us);
            (self.unseen)(kind, state.id);
        }
        state.recycle();
    }

    /// Calls `with` with the state of the span or, if it has none, of the nearest enclosing span,
    /// after it has caught up with the spans around it.
    pub(crate) fn with_nearest<'a, S, T>(
        &self,
        span: Option<SpanRef<'a, S>>,
        with: impl FnOnce(&mut SpanState) -> T,
    ) -> Option<T>
    where
        S: LookupSpan<'a>,
    {
        let (span, is_behind) = self.nearest(span, |state| Some(state.may_miss_context()))?;
        if is_behind {
            self.catch_up(&span);
        }
        self.with_of(&span.id(), Some(span.metadata()), with)
    }

    /// Calls `with` with the state of the nearest record: that of the span or of one that encloses it.
    pub(crate) fn with_record<'a, S, T>(
        &self,
        span: Option<SpanRef<'a, S>>,
        with: impl FnOnce(&mut SpanState) -> T,
    ) -> Option<T>
    where
        S: LookupSpan<'a>,
    {
        let (span, _) = self.nearest(span, |state| state.kind)?;
        self.with_of(&span.id(), Some(span.metadata()), with)
    }

    /// Returns the nearest span of which `ask` finds something in its state, and what it finds.
    fn nearest<'a, S, T>(
        &self,
        span: Option<SpanRef<'a, S>>,
        ask: impl Fn(&SpanState) -> Option<T>,
    ) -> Option<(SpanRef<'a, S>, T)>
    where
        S: LookupSpan<'a>,
    {
        let mut nearest = span;
        while let Some(span) = nearest {
            let found = self.with_of(&span.id(), Some(span.metadata()), |state| ask(state));
            if let Some(found) = found.flatten() {
                return Some((span, found));
            }
            nearest = span.parent();
        }
        None
    }

    /// Lets a span that is open, and those around it, inherit what was recorded further out since
    /// they began. Otherwise a user that is recorded on the request's span would not reach what
    /// begins later inside a span that was open by then.
    #[cold]
    pub(super) fn catch_up<'a, S>(&self, span: &SpanRef<'a, S>)
    where
        S: LookupSpan<'a>,
    {
        let late = self.with_of(&span.id(), Some(span.metadata()), |state| state.late.now());
        let Some(now) = late else { return };
        let mut spans = vec![(span.id(), span.metadata())];
        let mut next = span.parent();
        while let Some(span) = next {
            spans.push((span.id(), span.metadata()));
            next = span.parent();
        }
        let mut around = Vec::new();
        for (id, metadata) in spans.into_iter().rev() {
            let this = self.with_of(&id, Some(metadata), |state| {
                if state.may_miss_context() {
                    state.catch_up(&around, now);
                }
                state.around()
            });
            around.extend(this);
        }
    }

    /// Returns what the span and each that encloses it add to what their children inherit, from the
    /// outermost on.
    pub(crate) fn around<'a, S>(&self, span: Option<SpanRef<'a, S>>) -> Vec<Around>
    where
        S: LookupSpan<'a>,
    {
        let mut all = Vec::new();
        let mut next = span;
        while let Some(span) = next {
            let metadata = Some(span.metadata());
            all.extend(self.with_of(&span.id(), metadata, |state| state.around()));
            next = span.parent();
        }
        all.reverse();
        all
    }

    /// Removes and returns the state of the span, which is closing.
    pub(crate) fn take(&self, id: &Id) -> Option<Box<SpanState>> {
        let number = id.into_u64();
        let mut shard = self.shard(number)?;
        self.remove(&mut shard, number)
    }

    /// Removes and returns the state of a span, whose shard is locked.
    fn remove(&self, shard: &mut Shard, number: u64) -> Option<Box<SpanState>> {
        let state = shard.spans.remove(number)?;
        self.part(number).remove(number);
        Some(state)
    }

    /// Appends to `begun` the runs that have been in flight since the last call, or at the end all
    /// runs in flight (`every`), with the frames that report them: each run once, and once more
    /// when its end is known. Returns whether runs began since the last call. Called by the worker.
    pub(crate) fn look(&self, every: bool, begun: &mut Vec<(Uuid, Vec<u8>)>) -> bool {
        let mut are_young = false;
        let mut frame = Vec::new();
        for part in self.shards.iter().map(|part| &**part) {
            // A thread that is suspended may hold the lock: then its runs are looked at later.
            let Some(mut held) = sync::lock_within_a_moment(&part.shard) else {
                are_young = true;
                continue;
            };
            are_young |= !held.young.is_empty();
            let mut to_see = held.grown_old(part.take_overlooked() || every);
            drop(held);
            for number in to_see.drain(..) {
                // Locks for one run at a time and allocates nothing meanwhile: a span's thread may
                // wait.
                frame.clear();
                let Some(mut held) = sync::lock_within_a_moment(&part.shard) else {
                    part.overlook();
                    are_young = true;
                    break;
                };
                let seen = self.see(&mut held, number, every, &mut frame);
                drop(held);
                begun.extend(seen.map(|id| (id, frame.clone())));
            }
            if to_see.capacity() > 0
                && let Some(mut held) = sync::lock_within_a_moment(&part.shard)
            {
                held.spare = to_see;
            }
        }
        are_young
    }

    /// Returns how many spans are open whose records come when they close.
    #[cfg(feature = "testing")]
    pub(crate) fn records(&self) -> usize {
        let of_part = |part: &Part| {
            let held = sync::lock_within_a_moment(&part.shard);
            let states = held.iter().flat_map(|held| held.spans.states());
            states.filter(|state| state.kind.is_some()).count()
        };
        self.shards.iter().map(|part| of_part(part)).sum()
    }

    /// Writes the frame that reports a run as begun, if it is in flight and was not reported
    /// before; at the end (`is_last`) also how the run ended, if known, because its span may be
    /// open for ever.
    fn see(
        &self,
        held: &mut Shard,
        number: u64,
        is_last: bool,
        frame: &mut Vec<u8>,
    ) -> Option<Uuid> {
        let state = held.spans.get_mut(number)?;
        let kind = state.kind?;
        if !self.is_tracked.has(state) {
            return None;
        }
        let end = is_last.then(|| state.end_to_tell()).flatten();
        if state.is_begun && end.is_none() {
            return None;
        }
        state.is_begun = true;
        let header = state.header_of_beginning(kind);
        let buffers = &state.buffers;
        let (inherited, context, body) = (&buffers.inherited, &buffers.context, &buffers.body);
        encode::begun(frame, &header, end, inherited, context, body);
        state.host.write(frame);
        Some(state.id)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if *self.is_kept_by_spans.get_mut() {
            KEPT_BY_SPANS.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(listed) = LISTED.get(*self.place.get_mut()) {
            listed.registry.store(FREE, Ordering::Relaxed);
        }
    }
}

impl Listed {
    const fn free() -> Self {
        Self {
            registry: AtomicUsize::new(FREE),
            table: RwLock::new(Weak::new()),
        }
    }

    /// Lists the table here if the place is free. No thread looks it up yet: that takes the
    /// subscriber, which is still being built.
    fn list(&self, table: &Arc<Open>, registry: usize) -> bool {
        let relaxed = Ordering::Relaxed;
        let free = self
            .registry
            .compare_exchange(FREE, TAKEN, relaxed, relaxed);
        if free.is_err() {
            return false;
        }
        let written = self.table.try_write().map(|mut listed| {
            *listed = Arc::downgrade(table);
        });
        // A thread is still reading the table that was listed here before.
        let registry = if written.is_ok() { registry } else { FREE };
        self.registry.store(registry, Ordering::Relaxed);
        written.is_ok()
    }

    /// Returns the table if it belongs to this Registry.
    fn of(&self, registry: usize) -> Option<Arc<Open>> {
        if self.registry.load(Ordering::Relaxed) != registry {
            return None;
        }
        self.table.try_read().ok()?.upgrade()
    }
}

fn address(registry: &Registry) -> usize {
    std::ptr::from_ref(registry).addr()
}

/// Returns the tables of a subscriber's layers, including those that the span's extensions name, in
/// the order of their creation: places in the list are reused.
pub(super) fn of(registry: &Registry, span: &SpanRef<'_, Registry>) -> Vec<Arc<Open>> {
    let address = address(registry);
    let mut found: Vec<_> = LISTED
        .iter()
        .filter_map(|listed| listed.of(address))
        .collect();
    if KEPT_BY_SPANS.load(Ordering::Relaxed) > 0
        && let Some(KeptBy(tables)) = span.extensions().get()
    {
        found.extend(tables.iter().filter_map(Weak::upgrade));
    }
    found.sort_unstable_by_key(|table| table.number);
    found
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
