//! What is kept with an open span.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use tracing::Metadata;
use tracing::span::Record;
use uuid::Uuid;

use super::callsite::Plan;
use super::host::{self, Host};
use super::visitor::Visitor;
use crate::clock::Moment;
use crate::limits::Limits;
use crate::record::buffers::Buffers;
use crate::record::decode::Frame;
use crate::record::encode::{End, Evidence, Header, Key};
use crate::record::trace::Place;
use crate::record::{id, row};
use crate::vocabulary::Kind;

/// What one audit layer keeps with a span.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that was seen of the span"
)]
pub(crate) struct SpanState {
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
    /// The callsite; `None`: it has none.
    pub(crate) metadata: Option<&'static Metadata<'static>>,
    /// What the fields of its callsite are; `None`: it has none.
    pub(crate) plan: Option<Cow<'static, Plan>>,
    pub(crate) host: Host,
    /// The spool was told that the run has begun.
    pub(crate) is_begun: bool,
    evidence: Evidence,
    /// A status was recorded after the span began.
    pub(crate) has_said_status: bool,
    /// The spool was told how the run ended, though its span is open.
    is_end_told: bool,
    /// Streams and bodies that are parts of the run and not over.
    open_parts: u32,
    /// The thread was unwinding when the span was entered, until it is left: that panic is none of its
    /// own.
    pub(crate) entered_amid_panic: bool,
    /// The thread was unwinding when the span began, or was left that had been entered so: the panic
    /// that it is closed by may be the same.
    met_panic: bool,
    /// [`LATE_CONTEXT`] when the span began.
    late_context: u64,
}

/// How often an inherited field was recorded on a span that was already open. A record whose
/// span saw none need not look at its enclosing spans again.
static LATE_CONTEXT: AtomicU64 = AtomicU64::new(0);

/// States kept for each thread: more than the spans that a thread has open at once.
const POOLED_PER_THREAD: usize = 16;

/// States kept for threads that open spans which other threads close.
const POOLED_BETWEEN_THREADS: usize = 256;

/// Buffers that grew beyond this are given back to the allocator.
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
            late_context: 0,
        }
    }

    /// Takes one from the pool whose buffers are empty, and of which nothing else counts.
    pub(crate) fn scratch(limits: Limits) -> Box<Self> {
        POOL.try_with(|pool| pool.try_borrow_mut().ok().and_then(|mut pool| pool.pop()))
            .ok()
            .flatten()
            .or_else(|| SHARED_POOL.pop())
            .unwrap_or_else(|| Box::new(Self::empty(limits)))
    }

    /// Gives it back to the pool.
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

    /// Begins to keep a span, while the host's span `active` is. `None`: it is no record, and
    /// needs neither times nor an id.
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
        state.late_context = LATE_CONTEXT.load(Ordering::Relaxed);
        state
    }

    /// Whether it is of a span of this callsite, rather than of an earlier one of the same number.
    pub(crate) fn is_of(&self, metadata: Option<&'static Metadata<'static>>) -> bool {
        let (Some(own), Some(metadata)) = (self.metadata, metadata) else {
            return false;
        };
        std::ptr::eq(own, metadata)
    }

    /// Takes over what the nearest enclosing span that is kept has for those inside.
    pub(crate) fn inherit(&mut self, from: &Self, active: host::Active) {
        self.buffers.inherit(&from.buffers, from.kind.is_some());
        self.buffers.bound(&self.limits);
        // A span that is no record stands for the record that encloses it.
        self.parent = match from.kind {
            Some(_) => from.id,
            None => from.parent,
        };
        if !from.root.is_nil() {
            self.root = from.root;
        }
        self.host = match self.kind {
            Some(_) => Host::begin(active, Some(&from.host)),
            // What the enclosing record knows, for those inside.
            None => from.host,
        };
    }

    /// Appends fields that are recorded after the span began, except for those whose values are
    /// formatted by the host's code or are long. Returns whether there are such.
    pub(crate) fn record_plain(&mut self, values: &Record<'_>) -> bool {
        let Some(plan) = &self.plan else { return false };
        let context = self.buffers.context.len();
        // What is over the limits gives way afterwards, so that what no longer counts goes first.
        let limits = Limits {
            record_bytes: self.limits.record_bytes.saturating_add(self.buffers.len()),
            ..self.limits
        };
        let mut visitor = Visitor::plain(plan, &limits, &mut self.buffers);
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

    /// Appends text that was gathered, `whole_len` bytes that begin with `text`.
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

    fn saw_fields(&mut self, some_are_inherited: bool, saw_result: bool) {
        if some_are_inherited {
            LATE_CONTEXT.fetch_add(1, Ordering::Relaxed);
        }
        if saw_result {
            self.saw(Evidence::ResultField);
        }
    }

    /// Takes evidence of the outcome into account, if it is the strongest so far.
    pub(crate) fn saw(&mut self, evidence: Evidence) {
        let evidence = match evidence {
            Evidence::Ok if self.open_parts > 0 => Evidence::Nested,
            evidence => evidence,
        };
        self.evidence = self.evidence.or_stronger(evidence);
    }

    /// A stream or a body begins that is a part of the run.
    pub(crate) fn begin_part(&mut self) {
        self.open_parts = self.open_parts.saturating_add(1);
    }

    /// What it shows of its end is taken into account afterwards.
    pub(crate) fn end_part(&mut self) {
        self.open_parts = self.open_parts.saturating_sub(1);
    }

    /// The span is left while the thread is unwinding.
    pub(crate) fn leave_by_panic(&mut self) {
        let is_of_another = std::mem::take(&mut self.entered_amid_panic);
        self.met_panic |= is_of_another;
        self.saw_panic(is_of_another);
    }

    /// The span is closed while the thread is unwinding.
    pub(crate) fn close_by_panic(&mut self) {
        // A panic inside the span was seen when it was left; one that only drops it later says
        // nothing of a run whose result was seen.
        if !self.has_result() {
            self.saw_panic(self.met_panic);
        }
    }

    fn saw_panic(&mut self, is_of_another: bool) {
        self.saw(if is_of_another {
            // Whether it ended as it was to, or because of the panic, cannot be told.
            Evidence::Nested
        } else {
            Evidence::Panic
        });
    }

    /// Whether an `Ok` or an `Err` was seen.
    fn has_result(&self) -> bool {
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

    /// What is known of the run's end, if that is to be told: once, and `None` for a run that goes on
    /// as far as is known.
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
    pub(crate) fn mark_instant(&mut self) {
        self.duration_us = Some(0);
    }

    /// Begins the record when the host says, rather than now.
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
