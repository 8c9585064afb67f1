//! The worker: wires the stages, owns the threads.
//!
//! Two threads, so that a slow database never holds up the local log: one moves records from
//! the queue to the spool, one drains the spools into Postgres on a runtime of its own. What
//! they must know of each other is in [`Progress`]. A third exports, if that is set up, and holds
//! up neither; what is known of it is in [`Export`].

pub(crate) mod canary;
mod export;
pub(crate) mod gap;
mod in_flight;
mod progress;
mod required;
mod spooler;
mod supervise;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tracing::Span;
use uuid::Uuid;

use self::canary::Canary;
pub(crate) use self::export::Export;
pub(crate) use self::progress::Progress;
pub(crate) use self::required::{CommitReply, Fate, Required};
use self::spooler::Spooler;
use self::supervise::supervise;
use crate::capture::host;
use crate::capture::open::{self, Open};
use crate::capture::span::SpanState;
use crate::clock::Moment;
use crate::config::{Config, Durability};
use crate::error::{BuildError, CommitError, FlushError, RecordError};
use crate::fork::Process;
use crate::limits::Limits;
use crate::own_threads::{is_worker_thread, mark_worker_thread};
use crate::queue::{Queue, Refused};
use crate::record::encode::{self, Evidence};
use crate::record::{NewRecord, id};
use crate::report;
#[cfg(feature = "otlp")]
use crate::sink::otlp;
use crate::sink::postgres::drain::Drain;
use crate::spool::root::Root;
use crate::spool::{Positions, Sink, Spool};
#[cfg(feature = "otlp")]
use crate::stats::Stats;
use crate::stats::{Counters, DropCause, Health};
use crate::vocabulary::Kind;

/// How long a thread that was told to stop may take before it is left to itself.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What is called with the outcome of a flush.
pub(crate) type FlushReply = Box<dyn FnOnce(Result<(), FlushError>) + Send>;

/// What is called when the pipeline has stopped.
pub(crate) type StopReply = Box<dyn FnOnce(()) + Send>;

/// What the application's threads share with the worker.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Tells this handle's layers from those of another.
    pub(crate) owner: u32,
    pub(crate) limits: Limits,
    pub(crate) queue: Queue,
    pub(crate) counters: Arc<Counters>,
    /// What the layers keep with the spans that are open.
    open: Mutex<Vec<Weak<Open>>>,
    is_tracked: [bool; Kind::ALL.len()],
    refused_ends: Mutex<RefusedEnds>,
    durability: [Durability; Kind::ALL.len()],
    pub(crate) required: Arc<Required>,
    pub(crate) canary: Canary,
    wait: Duration,
    /// Where the worker is.
    process: Process,
    commands: Mutex<Commands>,
}

/// What becomes of runs that the worker knows to go on and whose own record is refused.
#[derive(Debug, Default)]
struct RefusedEnds {
    /// Those whose record was dropped: they are in flight no more.
    abandoned: Vec<Uuid>,
    /// Those that the worker has ended at the shutdown, by a record that says so.
    have_records: HashSet<Uuid>,
}

#[derive(Default)]
struct Commands {
    flushes: Vec<(Instant, Duration, FlushReply)>,
    stops: Vec<(Instant, StopReply)>,
    /// Somebody waits for a record.
    hurry: bool,
    /// The thread to wake; `None` once it has ended.
    worker: Option<Thread>,
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

impl Shared {
    fn new(config: &Config, counters: Arc<Counters>, process: Process) -> Self {
        static OWNERS: AtomicU32 = AtomicU32::new(0);
        Self {
            owner: OWNERS.fetch_add(1, Ordering::Relaxed),
            limits: config.limits,
            queue: Queue::new(config.queue_records, config.queue_bytes),
            counters,
            open: Mutex::default(),
            is_tracked: config.runs_in_flight,
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
        if is_begun && self.has_record_or_is_abandoned(header.id) {
            // Open at the shutdown, which is told and counted; only its end came too late.
            return Err(error);
        }
        self.counters
            .count_drop(cause, kind, Moment::now().wall_us());
        if is_required {
            self.required.settle([(header.id, Fate::Dropped)]);
        }
        Err(error)
    }

    /// Whether the worker has made a record of this run, whose own was refused; if not, it makes
    /// none from now on.
    fn has_record_or_is_abandoned(&self, id: Uuid) -> bool {
        let Some(mut ends) = self.process.lock(&self.refused_ends) else {
            return false;
        };
        let has_record = ends.have_records.remove(&id);
        if !has_record {
            // There are no more of these than spans that were open when the worker last looked.
            ends.abandoned.push(id);
        }
        has_record
    }

    fn refused_ends(&self) -> MutexGuard<'_, RefusedEnds> {
        self.refused_ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the table of a layer's open spans.
    pub(crate) fn open(&self) -> Arc<Open> {
        let required = Arc::clone(&self.required);
        let unseen = move |kind, id| {
            if required.has(kind) {
                required.settle([(id, Fate::Dropped)]);
            }
        };
        let counters = Arc::clone(&self.counters);
        let open = Open::new(self.owner, self.is_tracked, counters, Box::new(unseen));
        // Otherwise nobody looks at it anyway.
        if let Some(mut all) = self.process.lock(&self.open) {
            all.retain(|table| table.strong_count() > 0);
            all.push(Arc::downgrade(&open));
        }
        open
    }

    /// The runs that go on since the last look, or all (`every`) that go on, each once, with the
    /// frames that say so; and whether there are some that began since the last look.
    fn look_for_runs(&self, every: bool) -> (Vec<(Uuid, Vec<u8>)>, bool) {
        let all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let tables: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        drop(all);
        let (mut begun, mut are_young) = (Vec::new(), false);
        for table in tables {
            are_young |= table.look(every, &mut begun);
        }
        (begun, are_young)
    }

    /// Records without a span of its own.
    pub(crate) fn record(&self, record: &NewRecord) -> Result<Uuid, RecordError> {
        let kind = record.kind();
        let active = host::active();
        let mut state = SpanState::begin(self.limits, Some(kind), active);
        Span::current().with_subscriber(|(id, dispatch)| {
            open::with_nearest(dispatch, id, self.owner, |enclosing| {
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

    fn commands(&self) -> MutexGuard<'_, Commands> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replies when what was accepted before the call is committed, or the time is over.
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

    /// Replies when a record is committed or cannot be, or the time is over.
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

    /// The worker has ended: nothing is taken any more, and who waits is told.
    fn end(&self) {
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

    /// Flushes, stops, and replies.
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

/// How long a thread waits that waits until the worker says that the time is over: a disk that
/// hangs holds up the worker, but not who waits for it.
pub(crate) fn patience(timeout: Duration) -> Duration {
    timeout.saturating_add(STOP_GRACE + Duration::from_secs(1))
}

/// A moment so far ahead; a time-out without end is a year.
fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(Duration::from_hours(8760))
}

/// A running pipeline; dropping it flushes and stops.
#[derive(Debug)]
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    drop_timeout: Duration,
}

impl Pipeline {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn shutdown_blocking(&self, timeout: Duration) {
        if is_worker_thread() {
            // It would wait for itself.
            return;
        }
        let (reply, replied) = std::sync::mpsc::sync_channel(1);
        self.shared.shutdown(
            timeout,
            Box::new(move |()| {
                let _ = reply.try_send(());
            }),
        );
        // An error means that the worker has ended, or that its disk answers no more.
        let _ = replied.recv_timeout(patience(timeout));
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.shutdown_blocking(self.drop_timeout);
    }
}

/// Ends the pipeline when the worker's thread ends, in whichever way.
struct EndsPipeline(Arc<Shared>);

impl Drop for EndsPipeline {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Starts the threads.
pub(crate) fn start(config: Config) -> Result<Pipeline, BuildError> {
    // This process may be one of several that were forked from one.
    id::seed_again();
    supervise::note_panics();
    // What is set for the export is checked before anything is made.
    #[cfg(feature = "otlp")]
    let exporter = exporter(&config)?;
    let positions = match config.export_quota_bytes {
        Some(_) => Positions::BEGINNING.with(Sink::Otlp, 1),
        None => Positions::BEGINNING,
    };
    let cannot_open = |folder: PathBuf, source| BuildError::Spool { folder, source };
    let database = config.postgres.first();
    let root = Root::choose(config.spool_folder.clone(), &config.service_name, database)
        .map_err(|error| cannot_open(std::env::temp_dir(), Box::new(error)))?;
    if let Some(note) = root.note {
        report::say_at_start(move || {
            tracing::warn!(target: "tracing_audit", "audit trail: {note}");
        });
    }
    let root = root.path;
    let spool = Spool::create(&root, &config.service_name, positions)
        .map_err(|error| cannot_open(root.clone(), Box::new(error)))?;
    let counters = Arc::new(Counters::new(config.batch.age));
    let shared = Arc::new(Shared::new(
        &config,
        Arc::clone(&counters),
        Process::current(),
    ));
    let drop_timeout = config.drop_timeout;
    let config = Arc::new(config);
    let progress = Arc::new(Progress::new(Arc::clone(&counters)));
    let export = config
        .export_quota_bytes
        .map(|_| Arc::new(Export::new(Arc::clone(&counters))));
    let spool = Arc::new(spool);
    let sink = start_postgres(&config, &root, &progress, &spool, export.as_ref(), &shared)?;
    #[cfg(feature = "otlp")]
    let sinks = match (exporter, &export) {
        (Some(exporter), Some(export)) => {
            let observe = observe(&shared, &progress);
            let started = start_export(exporter, root, export, &counters, &spool, observe);
            vec![sink, started.inspect_err(|_| progress.stop())?]
        }
        _ => vec![sink],
    };
    #[cfg(not(feature = "otlp"))]
    let sinks = vec![sink];
    let stop = {
        let (progress, export) = (Arc::clone(&progress), export.clone());
        move || {
            progress.stop();
            if let Some(export) = export {
                export.stop();
            }
        }
    };
    let spooler = Spooler::new(Arc::clone(&shared), config, progress, export, spool);
    // Held until the thread is known, so that no command comes before it.
    let mut commands = shared.commands();
    let ending = Arc::clone(&shared);
    let worker = spawn("tracing-audit-spool", move || {
        // Made on the thread: one that cannot be started ends nothing.
        let _ending = EndsPipeline(ending);
        spooler.run(&sinks);
    })
    .inspect_err(|_| stop())?;
    commands.worker = Some(worker.thread().clone());
    drop(commands);
    Ok(Pipeline {
        shared,
        drop_timeout,
    })
}

/// Starts the thread that drains the spools into Postgres.
fn start_postgres(
    config: &Arc<Config>,
    root: &Path,
    progress: &Arc<Progress>,
    spool: &Arc<Spool>,
    export: Option<&Arc<Export>>,
    shared: &Arc<Shared>,
) -> Result<JoinHandle<()>, BuildError> {
    let runtime = runtime().map_err(BuildError::Thread)?;
    let (config, progress, spool) = (Arc::clone(config), Arc::clone(progress), Arc::clone(spool));
    let (root, export, shared) = (root.to_owned(), export.cloned(), Arc::clone(shared));
    let (counters, stopping) = (Arc::clone(&shared.counters), Arc::clone(&progress));
    let run = move |runtime: &Runtime| {
        let telling = Arc::clone(&shared);
        let drain = Drain::new(
            Arc::clone(&config),
            root.clone(),
            Arc::clone(&progress),
            Arc::clone(&shared.counters),
            Arc::clone(&spool),
            export.clone(),
            Arc::clone(&shared.required),
            Box::new(move |record, told| {
                // A full queue is counted.
                if telling.record(&record).is_ok()
                    && let Some(told) = told
                {
                    let reply: FlushReply = Box::new(move |flushed| {
                        if flushed.is_ok() {
                            told();
                        }
                    });
                    telling.flush(TELL_TIMEOUT, reply);
                }
            }),
        );
        // A server that answers no more has its time; that is over when the sink is to stop.
        runtime.block_on(either(drain.run(), progress.wait_for_end()));
    };
    spawn("tracing-audit-postgres", move || {
        supervise(
            &counters,
            || stopping.should_stop(),
            |fault| counters.sink_panicked(fault),
            || run(&runtime),
        );
        // A name that is being looked up holds nobody up.
        runtime.shutdown_background();
    })
}

/// Does the one until it or the other is done.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|context| {
        if one.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        other.as_mut().poll(context)
    })
    .await;
}

/// How long it may take until what the trail is told of itself is in it; if it takes longer, the next
/// process tells it once more.
const TELL_TIMEOUT: Duration = Duration::from_hours(24);

/// The runtime of a sink's thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    has_handles_for_a_runtime()?;
    // It panics where it finds none for its signals, which is the host's thread here.
    std::panic::catch_unwind(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    })
    .unwrap_or_else(|_| Err(io::Error::other("tokio could not make a runtime")))
}

/// Whether the process may open as many files as a runtime does: so that it need not panic, which the host's
/// hook would tell of, and which ends a program that is built so.
#[cfg(unix)]
fn has_handles_for_a_runtime() -> io::Result<()> {
    // The selector twice, what wakes it, and three for signals.
    let pair = || std::os::unix::net::UnixStream::pair();
    let _held = [pair()?, pair()?, pair()?];
    Ok(())
}

#[cfg(not(unix))]
fn has_handles_for_a_runtime() -> io::Result<()> {
    Ok(())
}

/// An export, and the runtime that it will run on.
#[cfg(feature = "otlp")]
type ReadyExporter = (otlp::Exporter, Runtime);

/// What is set for the export, checked.
#[cfg(feature = "otlp")]
fn exporter(config: &Config) -> Result<Option<ReadyExporter>, BuildError> {
    let Some(settings) = config.otlp.clone() else {
        return Ok(None);
    };
    let runtime = runtime().map_err(BuildError::Thread)?;
    let exporter = {
        let _entered = runtime.enter();
        otlp::Exporter::new(settings)?
    };
    Ok(Some((exporter, runtime)))
}

#[cfg(feature = "otlp")]
fn observe(shared: &Arc<Shared>, progress: &Arc<Progress>) -> otlp::Observe {
    let (shared, progress) = (Arc::clone(shared), Arc::clone(progress));
    Arc::new(move || otlp::Observed {
        stats: Stats::take(&shared.counters, &shared.queue),
        oldest_pending: progress.oldest_pending(),
    })
}

#[cfg(feature = "otlp")]
fn start_export(
    (exporter, runtime): ReadyExporter,
    root: PathBuf,
    export: &Arc<Export>,
    counters: &Arc<Counters>,
    spool: &Arc<Spool>,
    observe: otlp::Observe,
) -> Result<JoinHandle<()>, BuildError> {
    counters.export.turn_on();
    let (export, counters, spool) = (Arc::clone(export), Arc::clone(counters), Arc::clone(spool));
    spawn("tracing-audit-otlp", move || {
        // Kept over a panic: what it has exported, and what it was to tell, is known to it alone.
        let mut drain: Option<otlp::Drain> = None;
        let run = || {
            let _entered = runtime.enter();
            if let Some(drain) = &drain {
                drain.renew();
            }
            let drain = drain.get_or_insert_with(|| {
                exporter.start(root.clone(), &export, &counters, &spool, &observe)
            });
            runtime.block_on(drain.run());
        };
        let panicked = |_: &str| {
            export.fails();
            counters.export.set_failing(true);
        };
        supervise(&counters, || export.should_stop(), panicked, run);
        // A name that is being looked up holds nobody up.
        runtime.shutdown_background();
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BuildError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            mark_worker_thread();
            run();
        })
        .map_err(BuildError::Thread)
}

#[cfg(test)]
mod tests;
