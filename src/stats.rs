//! What the pipeline counts. Nothing is dropped without being counted by its cause.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropCause {
    /// The queue had no room within the time to wait.
    QueueFull,
    /// The record was made after the shutdown.
    ShutDown,
    /// The local log could not be written until the end.
    LocalLog,
}

impl DropCause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::ShutDown, Self::LocalLog];

    const fn index(self) -> usize {
        match self {
            Self::QueueFull => 0,
            Self::ShutDown => 1,
            Self::LocalLog => 2,
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
    /// The database cannot be reached or is busy; it is tried again, and everything is kept.
    Retrying,
    /// The database refuses what only an administrator can mend (tables, rights, a partition);
    /// everything is kept, and it goes on by itself when that is mended.
    Holding,
    /// The spool cannot be written, or has reached its quota; records wait in the queue.
    SpoolBlocked,
    /// The pipeline has ended.
    Stopped,
}

impl Health {
    const ALL: [Self; 6] = [
        Self::Starting,
        Self::Healthy,
        Self::Retrying,
        Self::Holding,
        Self::SpoolBlocked,
        Self::Stopped,
    ];
}

/// The counters that the stages share.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Records that Postgres has taken, as rows or as dead letters.
    taken: AtomicU64,
    dead_lettered: AtomicU64,
    adopted: AtomicU64,
    batches: AtomicU64,
    spool_bytes: AtomicU64,
    dropped: [AtomicU64; DropCause::ALL.len()],
    sink_health: AtomicU8,
    spool_blocked: AtomicU8,
}

impl Counters {
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

    pub(crate) fn count_adopted(&self, records: u64) {
        self.adopted.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn count_batch(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
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

    /// Says whether the spool can take records; returns whether that changed.
    pub(crate) fn set_spool_blocked(&self, blocked: bool) -> bool {
        self.spool_blocked
            .swap(u8::from(blocked), Ordering::Relaxed)
            != u8::from(blocked)
    }

    pub(crate) fn health(&self) -> Health {
        let sink =
            Health::ALL[usize::from(self.sink_health.load(Ordering::Relaxed)) % Health::ALL.len()];
        if sink != Health::Stopped && self.spool_blocked.load(Ordering::Relaxed) != 0 {
            return Health::SpoolBlocked;
        }
        sink
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
    batches: u64,
    dropped: [u64; DropCause::ALL.len()],
    queue_records: u64,
    queue_bytes: u64,
    spool_bytes: u64,
    health: Health,
}

impl Stats {
    /// Takes a snapshot.
    pub(crate) fn take(counters: &Counters, queue: &crate::queue::Queue) -> Self {
        // What a record becomes is read before what was accepted, so that no record is counted
        // as taken that is not yet counted as accepted.
        // ORDERING: Acquire, pairs with the Release in `Counters::set_position`.
        let taken = counters.taken.load(Ordering::Acquire);
        let dead_lettered = counters.dead_lettered.load(Ordering::Relaxed).min(taken);
        let mut dropped = [0; DropCause::ALL.len()];
        for cause in DropCause::ALL {
            dropped[cause.index()] = counters.dropped[cause.index()].load(Ordering::Relaxed);
        }
        // Those that the local log could not take had been accepted by the queue.
        let refused = dropped.iter().sum::<u64>() - dropped[DropCause::LocalLog.index()];
        let accepted = queue.accepted() + refused;
        let (queue_records, queue_bytes) = queue.size();
        Self {
            accepted,
            committed: taken - dead_lettered,
            dead_lettered,
            adopted: counters.adopted.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            dropped,
            queue_records,
            queue_bytes,
            spool_bytes: counters.spool_bytes.load(Ordering::Relaxed),
            health: counters.health(),
        }
    }

    /// Records that this handle's layer and [`record`](crate::Audit::record) were given.
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

    /// Batches committed.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Records waiting for the worker, and their bytes.
    pub fn queue_size(&self) -> (u64, u64) {
        (self.queue_records, self.queue_bytes)
    }

    /// Bytes that the local log holds; what is committed is removed a moment later.
    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes
    }

    /// How the way to Postgres is.
    pub fn health(&self) -> Health {
        self.health
    }
}
