//! The state that an audit layer keeps for an open span.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tracing::Metadata;
use tracing::span::Record;
use uuid::Uuid;

use super::callsite::{Adopted, PlanRef};
use super::host::{self, Host};
use super::late::Late;
use super::statements::{Statement, Statements};
use super::visitor::Visitor;
use crate::clock::Moment;
use crate::limits::Limits;
use crate::record::buffers::Buffers;
use crate::record::decode::Frame;
use crate::record::encode::{End, Evidence, Header, Key, ty};
use crate::record::trace::Place;
use crate::record::{id, row};
use crate::vocabulary::{Field, Kind};

/// The state that one audit layer keeps for a span.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that was seen of the span"
)]
pub(crate) struct SpanState {
    /// `None`: the span does not become a record; its fields are inherited.
    pub(crate) kind: Option<Kind>,
    pub(crate) id: Uuid,
    pub(super) parent: Uuid,
    pub(super) root: Uuid,
    began: Moment,
    started_us: i64,
    /// `None`: measured from the beginning to the close.
    pub(crate) duration_us: Option<u64>,
    pub(crate) buffers: Buffers,
    pub(crate) limits: Limits,
    /// The callsite, if there is one.
    pub(crate) metadata: Option<&'static Metadata<'static>>,
    /// The plan of the callsite, if there is one.
    pub(crate) plan: Option<PlanRef>,
    pub(crate) host: Host,
    /// The spool knows that the run has begun.
    pub(crate) is_begun: bool,
    evidence: Evidence,
    /// A status was recorded after the span began.
    pub(crate) has_said_status: bool,
    /// The spool knows how the run ended, though its span is still open.
    is_end_told: bool,
    /// Streams and bodies that are parts of the run and not over yet.
    open_parts: u32,
    /// The thread was unwinding when the span was entered; reset when it is left. That panic is not
    /// the span's own.
    pub(crate) entered_amid_panic: bool,
    /// The thread was unwinding when the span began, or when it was left after such an entry: the
    /// panic that closes the span may be the same one.
    met_panic: bool,
    /// Another span with a state encloses it.
    is_enclosed: bool,
    /// How many late values there were when the span inherited from the spans around it.
    pub(crate) late: Late,
    /// What a library reports of the SQL that ran inside the span.
    pub(super) statements: Option<Box<Statements>>,
}

/// What an open span itself adds to what its children inherit.
#[derive(Debug)]
pub(crate) struct Around {
    is_record: bool,
    context: Vec<u8>,
}

/// The length of an error's text up to which another's is searched for in it, under a lock.
const MAX_COMPARED_BYTES: usize = 16 * 1024;

/// States pooled for each thread: more than the spans that a thread has open at once.
const POOLED_PER_THREAD: usize = 16;

/// States pooled for threads that open spans which other threads close.
const POOLED_BETWEEN_THREADS: usize = 256;

/// States whose buffers grew beyond this are freed.
const POOLED_BYTES: usize = 16 * 1024;

thread_local! {
    #[allow(clippy::vec_box, reason = "they move between the pool and the table as they are")]
    static POOL: RefCell<Vec<Box<SpanState>>> = const { RefCell::new(Vec::new()) };
}

static SHARED_POOL: LazyLock<ArrayQueue<Box<SpanState>>> =
    LazyLock::new(|| ArrayQueue::new(POOLED_BETWEEN_THREADS));

impl SpanState {
    fn empty(limits: Limits) -> Self {
        Self {
            kind: None,
            id: Uuid::nil(),
            parent: Uuid::nil(),
            root: Uuid::nil(),
            began: Moment::UNKNOWN,
            started_us: 0,
            duration_us: None,
            buffers: Buffers::default(),
            limits,
            metadata: None,
            plan: None,
            host: Host::default(),
            is_begun: false,
            evidence: Evidence::None,
            has_said_status: false,
            is_end_told: false,
            open_parts: 0,
            entered_amid_panic: false,
            met_panic: false,
            is_enclosed: false,
            late: Late::default(),
            statements: None,
        }
    }

    /// Takes a state from the pool, or makes one. Its buffers are empty; its other fields are
    /// arbitrary.
    pub(crate) fn scratch(limits: Limits) -> Box<Self> {
        POOL.try_with(|pool| pool.try_borrow_mut().ok().and_then(|mut pool| pool.pop()))
            .ok()
            .flatten()
            .or_else(|| SHARED_POOL.pop())
            .unwrap_or_else(|| Box::new(Self::empty(limits)))
    }

    /// Returns the state to the pool.
    pub(crate) fn recycle(mut self: Box<Self>) {
        if self.buffers.capacity() > POOLED_BYTES {
            return;
        }
        self.buffers.clear();
        let mut this = Some(self);
        let _ = POOL.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut()
                && pool.len() < POOLED_PER_THREAD
            {
                pool.extend(this.take());
            }
        });
        if let Some(this) = this {
            // A full pool means that the memory is not needed.
            let _ = SHARED_POOL.push(this);
        }
    }

    /// Begins the state of a span, while `active` is the host's active span. With `kind` `None`,
    /// the span does not become a record, and needs neither times nor an id.
    pub(crate) fn begin(limits: Limits, kind: Option<Kind>, active: host::Active) -> Box<Self> {
        let mut state = Self::scratch(limits);
        (state.began, state.started_us, state.id) = if let Some(kind) = kind {
            let began = Moment::now();
            let started_us = began.wall_us();
            (began, started_us, id::of_record(kind, started_us))
        } else {
            (Moment::UNKNOWN, 0, Uuid::nil())
        };
        state.kind = kind;
        state.parent = Uuid::nil();
        state.root = state.id;
        state.duration_us = None;
        state.limits = limits;
        state.metadata = None;
        state.plan = None;
        state.host = match kind {
            Some(_) => Host::begin(active, None),
            None => Host::default(),
        };
        state.is_begun = false;
        state.evidence = Evidence::None;
        state.has_said_status = false;
        state.is_end_told = false;
        state.open_parts = 0;
        state.entered_amid_panic = false;
        state.met_panic = std::thread::panicking();
        state.is_enclosed = false;
        state.late = Late::default();
        state.statements = None;
        state
    }

    /// Returns whether the span is a run although records of its kind have mostly happened when they
    /// are recorded: a request, a call of a tool.
    pub(crate) fn is_run(&self) -> bool {
        let is_run = |plan: &PlanRef| plan.adopted.is_some() || plan.is_request;
        self.plan.as_ref().is_some_and(is_run)
    }

    /// Returns whether the span was adopted as such.
    pub(crate) fn is(&self, adopted: Adopted) -> bool {
        self.plan
            .as_ref()
            .is_some_and(|plan| plan.adopted == Some(adopted))
    }

    /// Gives a request the id of its row, unless it has or inherits one.
    pub(super) fn name_request(&mut self) {
        if !self.buffers.has_inherited(Field::RequestId) {
            let id = self.id.to_string();
            let key = Key::Field(Field::RequestId);
            self.buffers
                .text(key, ty::TEXT, id.as_bytes(), &self.limits);
        }
    }

    /// Returns whether the state belongs to a span of this callsite, rather than to an earlier span
    /// with the same number.
    pub(crate) fn is_of(&self, metadata: Option<&'static Metadata<'static>>) -> bool {
        let (Some(own), Some(metadata)) = (self.metadata, metadata) else {
            return false;
        };
        std::ptr::eq(own, metadata)
    }

    /// Inherits from the nearest enclosing span that has a state.
    pub(crate) fn inherit(&mut self, from: &Self, active: host::Active) {
        self.is_enclosed = true;
        // Not those of now: the enclosing span itself may not know of all.
        self.late = from.late;
        let entries = [&*from.buffers.inherited, &from.buffers.context];
        self.buffers.inherit(entries, from.kind.is_some());
        self.buffers.bound(&self.limits);
        // A span without a record stands for the record that encloses it.
        self.parent = match from.kind {
            Some(_) => from.id,
            None => from.parent,
        };
        if !from.root.is_nil() {
            self.root = from.root;
        }
        self.host = match self.kind {
            Some(_) => Host::begin(active, Some(&from.host)),
            // Passed on to the spans inside.
            None => from.host,
        };
    }

    /// Appends fields recorded after the span began, except for values that are long or that host
    /// code formats. Returns whether there are such values.
    pub(crate) fn record_plain(&mut self, values: &Record<'_>) -> bool {
        let Some(plan) = &self.plan else { return false };
        let context = self.buffers.context.len();
        let mut visitor = Visitor::plain(plan, &self.limits, &mut self.buffers);
        values.record(&mut visitor);
        let (saw_result, has_left) = (visitor.saw_result, visitor.has_left);
        let saw_status = visitor.saw_status;
        let some_are_inherited = self.buffers.context.len() != context;
        self.buffers.bound(&self.limits);
        self.saw_fields(some_are_inherited, saw_result);
        self.has_said_status |= saw_status;
        has_left
    }

    /// Appends fields that were recorded after the span began.
    pub(crate) fn record(&mut self, later: &Buffers, saw_result: bool) {
        self.buffers.append(later, &self.limits);
        self.saw_fields(!later.context.is_empty(), saw_result);
    }

    /// Appends the error that an event reports, unless its text is a part of the error that
    /// `audited()` saw: that is the same error with its causes.
    pub(crate) fn record_reported(&mut self, reported: &Buffers) {
        let is_part = match (self.buffers.seen_error(), reported.seen_error()) {
            (Some(seen), Some(reported)) => {
                seen.len() <= MAX_COMPARED_BYTES && seen.contains(reported)
            }
            _ => false,
        };
        if !is_part {
            self.record(reported, false);
        }
    }

    /// Appends gathered text: `whole_len` bytes, of which `text` is the beginning.
    pub(crate) fn record_gathered(
        &mut self,
        key: Key<'_>,
        text: &[u8],
        whole_len: u64,
        sha256: Option<[u8; 32]>,
    ) {
        let context = self.buffers.context.len();
        let limits = self.limits;
        self.buffers.gathered(key, text, whole_len, sha256, &limits);
        let some_are_inherited = self.buffers.context.len() != context;
        self.buffers.bound(&limits);
        self.saw_fields(some_are_inherited, false);
    }

    /// Records a value that records inside the span inherit, given its entries.
    pub(crate) fn set_context(&mut self, name: &str, entries: &[u8]) {
        let limits = self.limits;
        self.buffers.add_context(name, entries, &limits);
        self.buffers.bound(&limits);
        self.saw_fields(true, false);
    }

    /// Notes a statement that a library ran inside the run: the first fills the fields that have no
    /// value, more than one are listed when the run [ends](Self::list_statements). It is no evidence
    /// of success.
    pub(crate) fn ran(&mut self, statement: &Statement) {
        let statements = self.statements.get_or_insert_default();
        if statements.add(statement) {
            let limits = self.limits;
            statement.write(&mut self.buffers, &limits);
            self.buffers.bound(&limits);
        }
    }

    /// Writes the list of the statements, if there were more than one.
    pub(crate) fn list_statements(&mut self) {
        if let Some(statements) = self.statements.take() {
            let limits = self.limits;
            statements.write(&mut self.buffers, &limits);
            self.buffers.bound(&limits);
        }
    }

    fn saw_fields(&mut self, some_are_inherited: bool, saw_result: bool) {
        if some_are_inherited {
            self.late.note();
        }
        if saw_result {
            self.saw(Evidence::ResultField);
        }
    }

    /// Adds evidence of the outcome; the strongest evidence counts.
    pub(crate) fn saw(&mut self, evidence: Evidence) {
        let evidence = match evidence {
            Evidence::Ok if self.open_parts > 0 => Evidence::Nested,
            evidence => evidence,
        };
        self.evidence = self.evidence.or_stronger(evidence);
    }

    /// Begins a stream or a body that is a part of the run.
    pub(crate) fn begin_part(&mut self) {
        self.open_parts = self.open_parts.saturating_add(1);
    }

    /// Ends such a part, before evidence of its outcome is added.
    pub(crate) fn end_part(&mut self) {
        self.open_parts = self.open_parts.saturating_sub(1);
    }

    /// Notes that the span is left while the thread is unwinding.
    pub(crate) fn leave_by_panic(&mut self) {
        let is_of_another = std::mem::take(&mut self.entered_amid_panic);
        self.met_panic |= is_of_another;
        self.saw_panic(is_of_another);
    }

    /// Notes that the span is closed while the thread is unwinding.
    pub(crate) fn close_by_panic(&mut self) {
        // A panic inside the span was noted when the span was left; one that only drops the span
        // later says nothing about a run whose result was seen.
        if !self.has_result() {
            self.saw_panic(self.met_panic);
        }
    }

    fn saw_panic(&mut self, is_of_another: bool) {
        self.saw(if is_of_another {
            // The run may have ended normally or because of the panic.
            Evidence::Nested
        } else {
            Evidence::Panic
        });
    }

    /// Returns whether an `Ok` or an `Err` was seen.
    fn has_result(&self) -> bool {
        matches!(self.evidence, Evidence::Ok | Evidence::Err)
    }

    /// Returns whether it has inherited from an enclosing span.
    pub(super) fn is_enclosed(&self) -> bool {
        self.is_enclosed
    }

    /// Returns whether a field may have been recorded on an enclosing span since this one inherited
    /// from it.
    pub(crate) fn may_miss_context(&self) -> bool {
        self.is_enclosed && self.late.is_behind()
    }

    /// Returns what this span adds to what its children inherit.
    pub(crate) fn around(&self) -> Around {
        Around {
            is_record: self.kind.is_some(),
            context: self.buffers.context.clone(),
        }
    }

    /// Inherits what was recorded on the enclosing spans, from the outermost on, since this one
    /// inherited from them, at the time `now`. A record
    /// keeps the values that it has; a span that is only context has those of now.
    pub(super) fn catch_up(&mut self, around: &[Around], now: Late) {
        if self.kind.is_some() {
            self.inherit_late(around, now);
        } else {
            self.inherit_anew(around, now);
        }
    }

    /// Inherits values for the fields that have none, in the same way.
    pub(crate) fn inherit_late(&mut self, around: &[Around], now: Late) {
        let mut has_record = false;
        for enclosing in around.iter().rev() {
            has_record |= enclosing.is_record;
            self.buffers.inherit_missing(&enclosing.context, has_record);
        }
        self.late = now;
    }

    /// Inherits all values of now, in the same way.
    pub(super) fn inherit_anew(&mut self, around: &[Around], now: Late) {
        self.buffers.inherited.clear();
        for enclosing in around {
            let entries = [&[], &*enclosing.context];
            self.buffers.inherit(entries, enclosing.is_record);
        }
        self.late = now;
    }

    /// Returns the header of the frame that reports a run as begun.
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

    /// Returns the run's end, once, if it is known; `None` for a run that is in flight as far as is
    /// known.
    pub(crate) fn end_to_tell(&mut self) -> Option<End> {
        let end = if self.has_said_status {
            End::Said
        } else if self.evidence.is_of_end() {
            End::Seen(self.evidence)
        } else {
            return None;
        };
        (!std::mem::replace(&mut self.is_end_told, true)).then_some(end)
    }

    /// Returns the header of the record's frame.
    pub(crate) fn header(&self, kind: Kind) -> Header {
        Header {
            evidence: self.evidence,
            duration_us: self
                .duration_us
                .unwrap_or_else(|| Moment::now().since_us(self.began)),
            ..self.header_of_beginning(kind)
        }
    }

    /// Returns the place of the record's span in its trace, as far as it is known by now.
    pub(crate) fn place(&self, kind: Kind) -> Option<Place> {
        let mut own = [&*self.buffers.context, &*self.buffers.body].concat();
        self.host.write(&mut own);
        let frame = Frame::of_parts(self.header(kind), &self.buffers.inherited, &own);
        row::place(&frame).ok()
    }

    /// Sets the end of the record to its beginning.
    pub(crate) fn mark_instant(&mut self) {
        self.duration_us = Some(0);
    }

    /// Sets the end of the record to now, and its beginning to that long ago.
    pub(crate) fn mark_ended_after(&mut self, elapsed: Duration) {
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let started_us = self.started_us.saturating_sub_unsigned(elapsed_us);
        self.set_start(started_us);
        self.duration_us = Some(elapsed_us);
    }

    /// Sets the end of the record to now, though its span may stay open.
    #[cfg(any(feature = "tower", feature = "actix-web"))]
    pub(super) fn mark_end(&mut self) {
        self.duration_us = Some(Moment::now().since_us(self.began));
    }

    /// Records a field of the span itself, unless it has been recorded.
    #[cfg(any(feature = "tower", feature = "actix-web"))]
    pub(super) fn set_if_unset(&mut self, field: Field, text: &str) {
        if self.buffers.has_own(field) {
            return;
        }
        let limits = self.limits;
        self.buffers
            .text(Key::Field(field), ty::TEXT, text.as_bytes(), &limits);
        self.has_said_status |= field == Field::Status;
    }

    /// Sets the beginning of the record to a time that the host gives.
    pub(crate) fn set_start(&mut self, started_us: i64) {
        let Some(kind) = self.kind else { return };
        let is_root = self.root == self.id;
        self.started_us = started_us;
        self.id = id::of_record(kind, started_us);
        if is_root {
            self.root = self.id;
        }
    }
}
