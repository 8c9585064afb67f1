//! The side of the pipeline that the application's threads use: the hand-over of records, the runs
//! in flight, and the commands of the handle.

pub(crate) mod canary;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tracing::Span;
use uuid::Uuid;

use self::canary::Canary;
use crate::capture::host;
use crate::capture::lookup;
use crate::capture::open::Open;
use crate::capture::span::SpanState;
use crate::capture::tracked::Tracked;
use crate::clock::Moment;
use crate::config::adopt::Adopt;
use crate::config::{Durability, IntakeConfig};
use crate::delivery::commit::{FlushReply, deadline};
use crate::delivery::required::{CommitReply, Fate, Required};
use crate::error::{CommitError, FlushError, RecordError};
use crate::fork::Process;
use crate::limits::Limits;
use crate::own_threads::is_worker_thread;
use crate::queue::{Queue, Refused};
use crate::record::NewRecord;
use crate::record::encode::{self, Evidence};
use crate::stats::{Counters, DropCause, Health};
use crate::vocabulary::Kind;

/// Called when the pipeline has stopped.
pub(crate) type StopReply = Box<dyn FnOnce(()) + Send>;

/// The state that the application's threads share with the worker.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Distinguishes this handle's layers from those of other handles.
    pub(crate) owner: u32,
    pub(crate) limits: Limits,
    pub(crate) queue: Queue,
    pub(crate) counters: Arc<Counters>,
    /// The tables of open spans, one for each layer.
    open: Mutex<Vec<Weak<Open>>>,
    pub(crate) is_tracked: Tracked,
    /// What becomes a record although it is not tagged.
    pub(crate) adopt: Arc<[Adopt]>,
    refused_ends: Mutex<RefusedEnds>,
    durability: [Durability; Kind::ALL.len()],
    pub(crate) required: Arc<Required>,
    pub(crate) canary: Canary,
    wait: Duration,
    /// The process that the worker runs in.
    process: Process,
    commands: Mutex<Commands>,
}

/// Runs that the worker knows to be in flight and whose own record was refused.
#[derive(Debug, Default)]
pub(crate) struct RefusedEnds {
    /// Runs whose record was dropped: they are no longer in flight.
    pub(crate) abandoned: Vec<Uuid>,
    /// Runs that the worker has ended at the shutdown, with a record that says so.
    pub(crate) have_records: HashSet<Uuid>,
}

#[derive(Default)]
pub(crate) struct Commands {
    pub(crate) flushes: Vec<(Instant, Duration, FlushReply)>,
    pub(crate) stops: Vec<(Instant, StopReply)>,
    /// A caller waits for a record.
    pub(crate) hurry: bool,
    /// The thread to wake; `None` once it has ended.
    pub(crate) worker: Option<Thread>,
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

impl Intake {
    pub(crate) fn new(config: &IntakeConfig, counters: Arc<Counters>, process: Process) -> Self {
        static OWNERS: AtomicU32 = AtomicU32::new(0);
        Self {
            owner: OWNERS.fetch_add(1, Ordering::Relaxed),
            limits: config.limits,
            queue: Queue::new(config.queue_records, config.queue_bytes),
            counters,
            open: Mutex::default(),
            is_tracked: Tracked {
                kinds: Kind::ALL.map(|kind| {
                    config.runs_in_flight[kind.index()].unwrap_or(kind.is_tracked_in_flight())
                }),
                events_that_are_runs: config.runs_in_flight[Kind::Event.index()].unwrap_or(true),
            },
            adopt: Arc::clone(&config.adopt),
            refused_ends: Mutex::default(),
            durability: config.durability,
            required: Arc::new(Required::new(
                config
                    .durability
                    .map(|durability| durability == Durability::Required),
            )),
            canary: Canary::new(process),
            wait: config.when_full.wait(),
            process,
            commands: Mutex::default(),
        }
    }

    /// Hands a record over to the worker.
    pub(crate) fn hand_over(
        &self,
        kind: Kind,
        mut state: Box<SpanState>,
    ) -> Result<Uuid, RecordError> {
        let header = state.header(kind);
        let is_begun = state.is_begun;
        let host = state.host;
        let buffers = &mut state.buffers;
        host.write(&mut buffers.body);
        let (inherited, context, body) = (&buffers.inherited, &buffers.context, &buffers.body);
        let len = encode::frame_len(inherited, context, body);
        let wait = match self.durability[kind.index()] {
            Durability::BestEffort => Duration::ZERO,
            // The worker cannot wait for itself.
            _ if is_worker_thread() => Duration::ZERO,
            Durability::Spooled | Durability::Required => self.wait,
        };
        let is_required = self.required.has(kind);
        if is_required {
            self.required.accept(header.id);
        }
        let handed = self.queue.push(len, wait, |out| {
            encode::frame(out, &header, inherited, context, body);
        });
        state.recycle();
        let (cause, error) = match handed {
            Ok(()) => return Ok(header.id),
            Err(Refused::Full) => (DropCause::QueueFull, RecordError::QueueFull),
            Err(Refused::Closed) => (DropCause::ShutDown, RecordError::ShutDown),
        };
        if is_begun && self.abandon_unless_recorded(header.id) {
            // The run was open at the shutdown, and was reported and counted then; only its end was
            // late.
            return Err(error);
        }
        self.counters
            .count_drop(cause, kind, Moment::now().wall_us());
        if is_required {
            self.required.settle([(header.id, Fate::Dropped)]);
        }
        Err(error)
    }

    /// Returns whether the worker has already made a record of this run, whose own was refused; if
    /// not, tells it to make none.
    fn abandon_unless_recorded(&self, id: Uuid) -> bool {
        let Some(mut ends) = self.process.lock(&self.refused_ends) else {
            return false;
        };
        let has_record = ends.have_records.remove(&id);
        if !has_record {
            // There are at most as many as spans that were open at the worker's last scan.
            ends.abandoned.push(id);
        }
        has_record
    }

    pub(crate) fn refused_ends(&self) -> MutexGuard<'_, RefusedEnds> {
        self.refused_ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the table of a layer's open spans.
    pub(crate) fn open(&self) -> Arc<Open> {
        let required = Arc::clone(&self.required);
        let unseen = move |kind, id| {
            if required.has(kind) {
                required.settle([(id, Fate::Dropped)]);
            }
        };
        let counters = Arc::clone(&self.counters);
        let open = Open::new(self.owner, self.is_tracked, counters, Box::new(unseen));
        // Fails only in a forked process, where no worker would scan the table anyway.
        if let Some(mut all) = self.process.lock(&self.open) {
            all.retain(|table| table.strong_count() > 0);
            all.push(Arc::downgrade(&open));
        }
        open
    }

    /// Returns how many spans are open whose records come when they close.
    #[cfg(feature = "testing")]
    pub(crate) fn open_records(&self) -> usize {
        let all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter_map(Weak::upgrade)
            .map(|table| table.records())
            .sum()
    }

    /// Returns the runs in flight since the last scan, or all runs in flight (`every`), each once,
    /// with the frames that report them; and whether runs began since the last scan.
    pub(crate) fn look_for_runs(&self, every: bool) -> (Vec<(Uuid, Vec<u8>)>, bool) {
        let all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let tables: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        drop(all);
        let (mut begun, mut are_young) = (Vec::new(), false);
        for table in tables {
            are_young |= table.look(every, &mut begun);
        }
        (begun, are_young)
    }

    /// Records an action without a span of its own.
    pub(crate) fn record(&self, record: &NewRecord) -> Result<Uuid, RecordError> {
        let kind = record.kind();
        let active = host::active();
        let mut state = SpanState::begin(self.limits, Some(kind), active);
        Span::current().with_subscriber(|(id, dispatch)| {
            lookup::with_nearest(dispatch, id, self.owner, |enclosing| {
                state.inherit(enclosing, active);
            });
        });
        if let Some(started_us) = record.started_us() {
            state.set_start(started_us);
        }
        state.duration_us = Some(record.duration_us());
        record.write(&mut state.buffers, &self.limits);
        if record.has_result() {
            state.saw(Evidence::ResultField);
        }
        self.hand_over(kind, state)
    }

    pub(crate) fn commands(&self) -> MutexGuard<'_, Commands> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replies when every record accepted before the call is committed, or after `timeout`.
    pub(crate) fn flush(&self, timeout: Duration, reply: FlushReply) {
        if self.process.is_forked() {
            return reply(Err(FlushError::ShutDown));
        }
        let mut commands = self.commands();
        let Some(worker) = commands.worker.clone() else {
            drop(commands);
            return reply(Err(FlushError::ShutDown));
        };
        let deadline = deadline(timeout);
        commands.flushes.push((deadline, timeout, reply));
        drop(commands);
        worker.unpark();
    }

    /// Replies when the record is committed or cannot be, or after `timeout`.
    pub(crate) fn committed(&self, id: Uuid, timeout: Duration, reply: CommitReply) {
        if self.process.is_forked() {
            return reply(Err(CommitError::ShutDown));
        }
        self.required.wait(id, timeout, reply);
        let mut commands = self.commands();
        if let Some(worker) = commands.worker.clone() {
            commands.hurry = true;
            drop(commands);
            worker.unpark();
        }
    }

    /// Closes the intake after the worker has ended: refuses records and replies to all callers.
    pub(crate) fn end(&self) {
        self.queue.close();
        let mut commands = self.commands();
        commands.worker = None;
        let flushes = std::mem::take(&mut commands.flushes);
        let stops = std::mem::take(&mut commands.stops);
        drop(commands);
        self.counters.set_health(Health::Stopped);
        self.required.end();
        for (_, _, reply) in flushes {
            reply(Err(FlushError::ShutDown));
        }
        for (_, reply) in stops {
            reply(());
        }
    }

    /// Has the worker flush, stop, and reply.
    pub(crate) fn shutdown(&self, timeout: Duration, reply: StopReply) {
        if self.process.is_forked() {
            return reply(());
        }
        let mut commands = self.commands();
        let Some(worker) = commands.worker.clone() else {
            drop(commands);
            return reply(());
        };
        commands.stops.push((deadline(timeout), reply));
        drop(commands);
        worker.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forked_process_registers_a_layer_while_the_list_stays_locked() {
        let builder = crate::Audit::builder().postgres("postgres://nobody@127.0.0.1:1/nowhere");
        let intake = Intake::new(
            &builder.config().unwrap().intake,
            Arc::default(),
            Process::another(),
        );
        let held = intake.open.lock().unwrap();
        intake.open();
        assert!(held.is_empty());
    }
}
