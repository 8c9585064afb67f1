//! What the pipeline counts. Nothing is dropped without being counted by its cause.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::sync::LOOKS;
use crate::vocabulary::Kind;

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropCause {
    /// The queue had no room within the time to wait.
    QueueFull,
    /// The record was made after the shutdown. The end of a run that was open then is none: the run
    /// has a record, with the error code `shut_down`.
    ShutDown,
    /// The local log could not be written, and Postgres not be reached, until the end.
    LocalLog,
    /// Another layer panicked when the span was closed, so that nobody told of its end: noticed
    /// when the Registry gives its number to another span. A run that the local log knew of by
    /// then has its row instead ([`Builder::runs_in_flight`](crate::Builder::runs_in_flight)).
    EndUnseen,
    /// The record was committed, the database has lost it since, and the local log no longer has it:
    /// the database was restored to an earlier state, or a replica took over that had not received
    /// it. The trail says so in a row `audit.gap`.
    DatabaseLost,
}

impl DropCause {
    /// Every cause.
    pub const ALL: [Self; 5] = [
        Self::QueueFull,
        Self::ShutDown,
        Self::LocalLog,
        Self::EndUnseen,
        Self::DatabaseLost,
    ];

    /// Returns the cause as a word, as it stands in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ShutDown => "shut_down",
            Self::LocalLog => "local_log",
            Self::EndUnseen => "end_unseen",
            Self::DatabaseLost => "database_lost",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::QueueFull => 0,
            Self::ShutDown => 1,
            Self::LocalLog => 2,
            Self::EndUnseen => 3,
            Self::DatabaseLost => 4,
        }
    }
}

/// How the way to Postgres is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// The database was not reached yet.
    Starting,
    /// Batches are being committed as they come.
    Healthy,
    /// The database cannot be reached or is busy, or the thread that writes into it has panicked; it is tried again, and
    /// everything is kept.
    Retrying,
    /// The database refuses what only an administrator can mend (tables, rights, a partition);
    /// everything is kept, and it goes on by itself when that is mended.
    Holding,
    /// The spool cannot be written, or has reached its quota, or its thread has panicked; records wait in the queue.
    SpoolBlocked,
    /// A record has been waiting for longer than [`Stats::LAGGING_AFTER`] and the age of a batch: the
    /// database or the disk does not answer, a worker hangs, or there is more than it can take.
    Lagging,
    /// The database did not agree with what this program has committed: it has lost records, or has
    /// records of this program's that were never sent. The trail has a row `audit.gap` for each time,
    /// what the local log still has is written again, and new records are committed as always. It is
    /// so instead of [`Healthy`](Self::Healthy) until the program is started again, for somebody should
    /// look; what keeps records from being committed is said first ([`Stats::inconsistencies`] says
    /// this also then).
    Inconsistent,
    /// The pipeline has ended.
    Stopped,
}

impl Health {
    const ALL: [Self; 8] = [
        Self::Starting,
        Self::Healthy,
        Self::Retrying,
        Self::Holding,
        Self::SpoolBlocked,
        Self::Lagging,
        Self::Inconsistent,
        Self::Stopped,
    ];
}

/// Since when records wait.
#[derive(Debug)]
struct Waits {
    /// Where the moments below are counted from.
    began: Instant,
    /// The age of a record at which it is late.
    late_after: Duration,
    /// When the oldest record in the local log that is not committed came there, in microseconds
    /// since then; 0: there is none.
    oldest_us: AtomicU64,
    /// When the queue was emptied last.
    emptied_us: AtomicU64,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            late_after: Stats::LAGGING_AFTER,
            oldest_us: AtomicU64::new(0),
            emptied_us: AtomicU64::new(0),
        }
    }
}

impl Waits {
    fn us(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }

    /// The age of the oldest record that is not committed. When one came that is still in the queue is
    /// not known, but that the queue was empty before.
    fn oldest(&self, queued: u64) -> Option<Duration> {
        let in_log = Some(self.oldest_us.load(Ordering::Relaxed)).filter(|us| *us > 0);
        let in_queue = (queued > 0).then(|| self.emptied_us.load(Ordering::Relaxed));
        let oldest_us = in_log.into_iter().chain(in_queue).min()?;
        let now_us = self.us(Instant::now());
        Some(Duration::from_micros(now_us.saturating_sub(oldest_us)))
    }
}

/// The counters that the stages share.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    waits: Waits,
    /// How often the database did not agree with what was committed.
    disagreements: AtomicU64,
    /// Records that Postgres has taken, as rows or as dead letters.
    taken: AtomicU64,
    dead_lettered: AtomicU64,
    adopted: AtomicU64,
    /// Logs of dead processes, and their bytes.
    orphans: [AtomicU64; 2],
    in_default: AtomicU64,
    batches: AtomicU64,
    batch_us: AtomicU64,
    last_batch: AtomicU64,
    spool_bytes: AtomicU64,
    dropped: [AtomicU64; DropCause::ALL.len()],
    /// Drops that no row tells of yet.
    untold: [Untold; DropCause::ALL.len()],
    /// Records that the pipeline itself has made: gaps, and runs whose end nobody saw.
    made: AtomicU64,
    restarts: AtomicU64,
    is_hidden: AtomicU8,
    sink_health: AtomicU8,
    /// Why Postgres takes no records.
    fault: Mutex<Option<Arc<str>>>,
    spool_blocked: AtomicU8,
    #[cfg(feature = "otlp")]
    pub(crate) export: ExportCounters,
}

/// A run of drops, as it grows.
#[derive(Debug, Default)]
struct Untold {
    kinds: [AtomicU64; Kind::ALL.len()],
    /// Microseconds since 1970; 0: none.
    first_us: AtomicI64,
    last_us: AtomicI64,
}

/// A run of drops that is to be told in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) cause: DropCause,
    /// Records of each kind.
    pub(crate) kinds: [u64; Kind::ALL.len()],
    /// Microseconds since 1970.
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
}

impl Counters {
    /// `batch_age`: the age at which a record is written at the latest.
    pub(crate) fn new(batch_age: Duration) -> Self {
        let late_after = Stats::LAGGING_AFTER.saturating_add(batch_age);
        Self {
            waits: Waits {
                late_after,
                ..Waits::default()
            },
            ..Self::default()
        }
    }

    /// Sets when the oldest record came that is in the local log and not in Postgres.
    pub(crate) fn set_oldest(&self, at: Option<Instant>) {
        let us = at.map_or(0, |at| self.waits.us(at));
        self.waits.oldest_us.store(us, Ordering::Relaxed);
    }

    /// All that was in the queue is in the local log.
    pub(crate) fn queue_was_emptied(&self) {
        let us = self.waits.us(Instant::now());
        self.waits.emptied_us.store(us, Ordering::Relaxed);
    }

    /// Counts a time that the database did not agree with what was committed, and the records that
    /// are lost by it.
    pub(crate) fn count_disagreement(&self, lost: u64) {
        self.count_drops(DropCause::DatabaseLost, lost);
        self.disagreements.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a record that is dropped, to be told in a row as soon as one can be written.
    pub(crate) fn count_drop(&self, cause: DropCause, kind: Kind, now_us: i64) {
        self.count_drops(cause, 1);
        let untold = &self.untold[cause.index()];
        untold.last_us.fetch_max(now_us, Ordering::Relaxed);
        let _ = untold
            .first_us
            .compare_exchange(0, now_us, Ordering::Relaxed, Ordering::Relaxed);
        // ORDERING: Release, pairs with the Acquire in `losses`: who sees the record sees a time.
        untold.kinds[kind.index()].fetch_add(1, Ordering::Release);
    }

    /// Drops that no row tells of yet.
    pub(crate) fn untold(&self) -> u64 {
        self.untold
            .iter()
            .flat_map(|untold| &untold.kinds)
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Takes the drops that no row tells of yet, to tell them.
    pub(crate) fn take_losses(&self) -> Vec<Loss> {
        DropCause::ALL
            .into_iter()
            .filter_map(|cause| {
                let untold = &self.untold[cause.index()];
                // ORDERING: Acquire, pairs with the Release in `count_drop`.
                let kinds = [0, 1, 2].map(|kind| untold.kinds[kind].swap(0, Ordering::Acquire));
                if kinds == [0; 3] {
                    return None;
                }
                let last_us = untold.last_us.swap(0, Ordering::Relaxed);
                let first_us = untold.first_us.swap(0, Ordering::Relaxed);
                Some(Loss {
                    cause,
                    kinds,
                    first_us: if first_us == 0 { last_us } else { first_us },
                    last_us: last_us.max(first_us),
                })
            })
            .collect()
    }

    /// Counts records that the pipeline itself makes, before they are written.
    pub(crate) fn count_made(&self, records: u64) {
        self.made.fetch_add(records, Ordering::Relaxed);
    }

    /// A filter of the whole subscriber hides audit spans.
    pub(crate) fn set_hidden(&self) {
        self.is_hidden.store(1, Ordering::Relaxed);
    }

    /// Counts a worker that panicked and was started again.
    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_drops(&self, cause: DropCause, records: u64) {
        self.dropped[cause.index()].fetch_add(records, Ordering::Relaxed);
    }

    /// Sets the position in Postgres of this process' log, whose first record is 1.
    pub(crate) fn set_position(&self, position: u64) {
        // ORDERING: Release, pairs with the Acquire in `Stats::take`: who sees a record as
        // taken sees it as accepted.
        self.taken.store(position - 1, Ordering::Release);
    }

    /// Counts records of this process that are in `audit.dead_letters`.
    pub(crate) fn count_dead_letters(&self, records: u64) {
        self.dead_lettered.fetch_add(records, Ordering::Relaxed);
    }

    /// The same of records whose dead letters the database has lost.
    pub(crate) fn take_back_dead_letters(&self, records: u64) {
        self.dead_lettered.fetch_sub(records, Ordering::Relaxed);
    }

    pub(crate) fn count_adopted(&self, records: u64) {
        self.adopted.fetch_add(records, Ordering::Relaxed);
    }

    /// Sets how many logs of dead processes wait, and their bytes.
    pub(crate) fn set_orphans(&self, logs: u64, bytes: u64) {
        self.orphans[0].store(logs, Ordering::Relaxed);
        self.orphans[1].store(bytes, Ordering::Relaxed);
    }

    /// As the sink has counted them: whoever asks waits for no disk.
    pub(crate) fn orphans(&self) -> (u64, u64) {
        let [logs, bytes] = &self.orphans;
        (logs.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    }

    /// Records of dead processes that were committed.
    pub(crate) fn adopted(&self) -> u64 {
        self.adopted.load(Ordering::Relaxed)
    }

    /// Counts rows that went to a default partition.
    pub(crate) fn count_in_default(&self, rows: u64) {
        self.in_default.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts a committed batch of so many records, which took so long.
    pub(crate) fn count_batch(&self, records: u64, took: Duration) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.batch_us.fetch_add(us, Ordering::Relaxed);
        self.last_batch.store(records, Ordering::Relaxed);
    }

    pub(crate) fn set_spool_bytes(&self, bytes: u64) {
        self.spool_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Sets the sink's health; returns what it was.
    pub(crate) fn set_health(&self, health: Health) -> Health {
        let code = Health::ALL
            .iter()
            .position(|known| *known == health)
            .unwrap_or(0);
        let before = self
            .sink_health
            .swap(u8::try_from(code).unwrap_or(0), Ordering::Relaxed);
        Health::ALL[usize::from(before) % Health::ALL.len()]
    }

    /// The thread that writes into Postgres panicked, and is started again.
    pub(crate) fn sink_panicked(&self, fault: &str) {
        self.set_health(Health::Retrying);
        self.set_fault(Some(fault));
    }

    /// Says why Postgres takes no records; `None`: it does.
    pub(crate) fn set_fault(&self, fault: Option<&str>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault.map(Arc::from);
    }

    fn fault(&self) -> Option<Arc<str>> {
        // Held for a moment at a time; a forked process may have it locked for ever.
        for _ in 0..LOOKS {
            match self.fault.try_lock() {
                Ok(fault) => return fault.clone(),
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner().clone(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }

    /// Says whether the spool can take records; returns whether that changed.
    pub(crate) fn set_spool_blocked(&self, blocked: bool) -> bool {
        self.spool_blocked
            .swap(u8::from(blocked), Ordering::Relaxed)
            != u8::from(blocked)
    }

    pub(crate) fn health(&self) -> Health {
        let sink =
            Health::ALL[usize::from(self.sink_health.load(Ordering::Relaxed)) % Health::ALL.len()];
        match sink {
            Health::Stopped => sink,
            _ if self.spool_blocked.load(Ordering::Relaxed) != 0 => Health::SpoolBlocked,
            // What keeps records from being committed comes first.
            Health::Healthy if self.disagreements.load(Ordering::Relaxed) > 0 => {
                Health::Inconsistent
            }
            _ => sink,
        }
    }
}

/// What the export counts.
#[cfg(feature = "otlp")]
#[derive(Debug, Default)]
pub(crate) struct ExportCounters {
    is_on: AtomicU8,
    is_failing: AtomicU8,
    /// Records that are durable in this process' log, and those of others' that were dealt with.
    records: AtomicU64,
    exported: AtomicU64,
    by_host: AtomicU64,
    refused: AtomicU64,
    given_up: AtomicU64,
}

#[cfg(feature = "otlp")]
impl ExportCounters {
    pub(crate) fn turn_on(&self) {
        self.is_on.store(1, Ordering::Relaxed);
    }

    pub(crate) fn set_failing(&self, is_failing: bool) {
        self.is_failing
            .store(u8::from(is_failing), Ordering::Relaxed);
    }

    /// Counts records that become one of the others; to be called before they do.
    pub(crate) fn count_records(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn count_exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Release);
    }

    pub(crate) fn count_by_host(&self, records: u64) {
        self.by_host.fetch_add(records, Ordering::Release);
    }

    pub(crate) fn count_refused(&self, spans: u64) {
        self.refused.fetch_add(spans, Ordering::Release);
    }

    pub(crate) fn count_given_up(&self, records: u64) {
        self.given_up.fetch_add(records, Ordering::Release);
    }

    fn stats(&self) -> Option<ExportStats> {
        if self.is_on.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // ORDERING: Acquire, pairs with the Release where they are counted: the records that
        // they became of are seen below, and what is not yet counted among them is pending.
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (exported, by_host) = (read(&self.exported), read(&self.by_host));
        let (refused, given_up) = (read(&self.refused), read(&self.given_up));
        let records = self.records.load(Ordering::Relaxed);
        Some(ExportStats {
            exported,
            by_host,
            refused,
            given_up,
            pending: records.saturating_sub(exported + by_host + refused + given_up),
            is_failing: self.is_failing.load(Ordering::Relaxed) != 0,
        })
    }
}

/// What became of the records on their way to OpenTelemetry; part of [`Stats`]. Needs feature
/// `otlp`.
///
/// A record that reached the local log is in one of `exported`, `by_host`, `refused`, `given_up`
/// and `pending`. Records that dead processes left are counted as they are dealt with.
///
/// ```
/// # fn show(audit: &tracing_audit::Audit) {
/// if let Some(export) = audit.stats().export() {
///     println!("{} exported, {} pending", export.exported(), export.pending());
/// }
/// # }
/// ```
#[cfg(feature = "otlp")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportStats {
    exported: u64,
    by_host: u64,
    refused: u64,
    given_up: u64,
    pending: u64,
    is_failing: bool,
}

#[cfg(feature = "otlp")]
impl ExportStats {
    /// Records whose span the collector has taken, at least once.
    pub fn exported(&self) -> u64 {
        self.exported
    }

    /// Records that the host's own tracer exports, or that are not to be exported.
    pub fn by_host(&self) -> u64 {
        self.by_host
    }

    /// Records whose span the collector has refused for what it holds or for its size; they are
    /// in Postgres.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Records that were given up since they took too much of the local log
    /// ([`Otlp::quota_bytes`](crate::Otlp::quota_bytes)); they are in Postgres.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Records in this process' local log that are still to be exported.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Whether the last request failed, so that the export is waiting to try again.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }
}

/// A snapshot of what became of the records, made by [`Audit::stats`](crate::Audit::stats).
///
/// `accepted = committed + pending + dead_lettered + dropped`, always.
///
/// ```
/// # fn show(audit: &tracing_audit::Audit) {
/// let stats = audit.stats();
/// assert_eq!(
///     stats.accepted(),
///     stats.committed() + stats.pending() + stats.dead_lettered() + stats.dropped()
/// );
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Stats {
    accepted: u64,
    committed: u64,
    dead_lettered: u64,
    adopted: u64,
    in_default: u64,
    batches: u64,
    batch_time: Duration,
    last_batch: u64,
    dropped: [u64; DropCause::ALL.len()],
    queue_records: u64,
    queue_bytes: u64,
    spool_bytes: u64,
    restarts: u64,
    is_hidden: bool,
    oldest_pending: Option<Duration>,
    disagreements: u64,
    health: Health,
    fault: Option<Arc<str>>,
    #[cfg(feature = "otlp")]
    export: Option<ExportStats>,
}

/// What is wrong when records wait and no other cause is known.
const LAGGING: &str = "records wait for longer than they should: a worker hangs, the database or the disk does not answer, \
     or there is more than they can take";

impl Stats {
    /// How long a record may wait, beyond the age at which a batch is written
    /// ([`Builder::batch`](crate::Builder::batch)), before the health is [`Health::Lagging`].
    pub const LAGGING_AFTER: Duration = Duration::from_secs(15);

    /// Takes a snapshot.
    pub(crate) fn take(counters: &Counters, queue: &crate::queue::Queue) -> Self {
        // What a record becomes is read before what was accepted, so that no record is counted
        // as taken that is not yet counted as accepted.
        // ORDERING: Acquire, pairs with the Release in `Counters::set_position`.
        let taken = counters.taken.load(Ordering::Acquire);
        let mut dropped = [0; DropCause::ALL.len()];
        for cause in DropCause::ALL {
            dropped[cause.index()] = counters.dropped[cause.index()].load(Ordering::Relaxed);
        }
        // What the database has lost was taken by it, and is not committed any more.
        let taken = taken.saturating_sub(dropped[DropCause::DatabaseLost.index()]);
        let dead_lettered = counters.dead_lettered.load(Ordering::Relaxed).min(taken);
        // Those that the local log could not take, or the database has lost, had been accepted by the
        // queue.
        let refused = dropped.iter().sum::<u64>()
            - dropped[DropCause::LocalLog.index()]
            - dropped[DropCause::DatabaseLost.index()];
        let accepted = queue.accepted() + refused + counters.made.load(Ordering::Relaxed);
        let (queue_records, queue_bytes) = queue.size();
        let oldest_pending = counters.waits.oldest(queue_records);
        let is_late = oldest_pending.is_some_and(|age| age > counters.waits.late_after);
        let health = match counters.health() {
            // A worker that hangs says nothing, whether it has come to the database or not.
            Health::Starting | Health::Healthy | Health::Inconsistent if is_late => Health::Lagging,
            health => health,
        };
        let fault = counters
            .fault()
            .or_else(|| (health == Health::Lagging).then(|| Arc::from(LAGGING)));
        Self {
            accepted,
            committed: taken - dead_lettered,
            dead_lettered,
            adopted: counters.adopted.load(Ordering::Relaxed),
            in_default: counters.in_default.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            batch_time: Duration::from_micros(counters.batch_us.load(Ordering::Relaxed)),
            last_batch: counters.last_batch.load(Ordering::Relaxed),
            dropped,
            queue_records,
            queue_bytes,
            spool_bytes: counters.spool_bytes.load(Ordering::Relaxed),
            restarts: counters.restarts.load(Ordering::Relaxed),
            is_hidden: counters.is_hidden.load(Ordering::Relaxed) != 0,
            oldest_pending,
            disagreements: counters.disagreements.load(Ordering::Relaxed),
            health,
            fault,
            #[cfg(feature = "otlp")]
            export: counters.export.stats(),
        }
    }

    /// Records that this handle's layer and [`record`](crate::Audit::record) were given, and
    /// those that the trail makes of itself: gaps, and runs that nobody ended.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Records that are committed in Postgres.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Records on their way: in the queue, in the spool, or in a batch that is being written.
    pub fn pending(&self) -> u64 {
        self.accepted
            .saturating_sub(self.committed + self.dead_lettered + self.dropped())
    }

    /// Records that Postgres refused; they are in `audit.dead_letters` with the reason.
    pub fn dead_lettered(&self) -> u64 {
        self.dead_lettered
    }

    /// Records that were given up, whatever the cause.
    pub fn dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Records that were given up for one cause.
    pub fn dropped_by(&self, cause: DropCause) -> u64 {
        self.dropped[cause.index()]
    }

    /// Records of earlier processes, left in their spools, that this one committed. Not part of
    /// [`accepted`](Self::accepted): their own process accepted them.
    pub fn adopted(&self) -> u64 {
        self.adopted
    }

    /// Rows that went to a default partition, since their time is more than two months ahead of
    /// the server's, or more than a year before it: is a clock wrong? They are part of the trail
    /// like the others; `tracing-audit settle` moves them to their months.
    pub fn in_default_partition(&self) -> u64 {
        self.in_default
    }

    /// Batches committed.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// The time that all committed batches took together, from the first byte sent.
    pub fn batch_time(&self) -> Duration {
        self.batch_time
    }

    /// Records in the batch that was committed last.
    pub fn last_batch(&self) -> u64 {
        self.last_batch
    }

    /// Records waiting for the worker, and their bytes.
    pub fn queue_size(&self) -> (u64, u64) {
        (self.queue_records, self.queue_bytes)
    }

    /// Bytes that the local log holds; what is committed is removed a moment later.
    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes
    }

    /// How often one of the worker's threads panicked and was started again: a fault of this
    /// library, by which nothing is lost. Please report it.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Whether a filter of the whole subscriber hides audit spans, so that no record is made of
    /// them: noticed a second after the subscriber was made, and said in the log. The filter
    /// belongs on the layer that it is meant for, with `Layer::with_filter`.
    pub fn is_hidden(&self) -> bool {
        self.is_hidden
    }

    /// How long the oldest record has been waiting that is accepted and not committed; `None`: none
    /// is waiting.
    pub fn oldest_pending(&self) -> Option<Duration> {
        self.oldest_pending
    }

    /// How often the database did not agree with what this program had committed
    /// ([`Health::Inconsistent`]); each time has a row `audit.gap` in the trail for each writer that is
    /// concerned, with the records and the cause.
    pub fn inconsistencies(&self) -> u64 {
        self.disagreements
    }

    /// How the way to Postgres is.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Why Postgres takes no records, as it stands in the host's log: which server, what happened, and what to do,
    /// without a secret or a value. `None` while it takes them, and before it was first tried.
    ///
    /// ```
    /// # fn show(audit: &tracing_audit::Audit) {
    /// if let Some(fault) = audit.stats().fault() {
    ///     println!("{fault}"); // cannot reach Postgres at db.internal:5432/app: connection refused: …
    /// }
    /// # }
    /// ```
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// What became of the records on their way to OpenTelemetry; `None`: none is set up. Needs
    /// feature `otlp`.
    #[cfg(feature = "otlp")]
    pub fn export(&self) -> Option<ExportStats> {
        self.export
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_records_from_being_committed_is_said_before_an_earlier_disagreement() {
        let counters = Counters::default();
        counters.count_disagreement(0);
        for (sink, said) in [
            (Health::Healthy, Health::Inconsistent),
            (Health::Retrying, Health::Retrying),
            (Health::Holding, Health::Holding),
            (Health::Stopped, Health::Stopped),
        ] {
            counters.set_health(sink);
            assert_eq!(counters.health(), said);
        }
        counters.set_health(Health::Healthy);
        counters.set_spool_blocked(true);
        assert_eq!(counters.health(), Health::SpoolBlocked);
        counters.set_spool_blocked(false);
        assert_eq!(counters.health(), Health::Inconsistent);
    }

    #[test]
    fn a_record_that_waits_for_a_sink_that_hangs_as_it_starts_is_told() {
        let minutes_ago = Instant::now()
            .checked_sub(Duration::from_mins(2))
            .unwrap_or_else(Instant::now);
        let counters = Counters {
            waits: Waits {
                began: minutes_ago,
                ..Waits::default()
            },
            ..Counters::default()
        };
        let stats = || Stats::take(&counters, &crate::queue::Queue::new(1, 1));
        assert_eq!(
            (stats().health(), stats().fault()),
            (Health::Starting, None)
        );
        counters.set_oldest(Some(minutes_ago));
        assert_eq!(stats().health(), Health::Lagging);
        assert!(stats().fault().is_some_and(|fault| fault.contains("hangs")));
    }
}
