//! A snapshot of the counters and the health.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::counters::Counters;
#[cfg(feature = "otlp")]
use super::export::ExportStats;
use super::health::{DropCause, Health, LAGGING_AFTER};
use crate::clock;
use crate::queue::Queue;
#[cfg(feature = "redact")]
use crate::redact::RedactionStats;

/// A snapshot of the counters and the health, made by [`Audit::stats`](crate::Audit::stats).
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
    spool_quota_bytes: u64,
    restarts: u64,
    is_counter_left: bool,
    is_hidden: bool,
    oldest_pending: Option<Duration>,
    disagreements: u64,
    health: Health,
    fault: Option<Arc<str>>,
    #[cfg(feature = "redact")]
    redaction: Option<RedactionStats>,
    #[cfg(feature = "otlp")]
    export: Option<ExportStats>,
}

/// The fault when records wait and no other cause is known.
const LAGGING: &str = "records wait for longer than they should: a worker hangs, the database or the disk does not answer, \
     or there is more than they can take";

impl Stats {
    /// How long a record may wait beyond the age at which a batch is due
    /// ([`Builder::batch`](crate::Builder::batch)), before the health is [`Health::Lagging`].
    pub const LAGGING_AFTER: Duration = LAGGING_AFTER;

    /// Takes a snapshot.
    pub(crate) fn take(counters: &Counters, queue: &Queue) -> Self {
        // Outcomes are read before the accepted records, so that no record is counted as taken that
        // is not yet counted as accepted.
        // ORDERING: Acquire, pairs with the Release in `Counters::set_position`.
        let taken = counters.taken.load(Ordering::Acquire);
        let mut dropped = [0; DropCause::ALL.len()];
        for cause in DropCause::ALL {
            dropped[cause.index()] = counters.dropped[cause.index()].load(Ordering::Relaxed);
        }
        // Records that the database has lost had been taken, and are no longer committed.
        let taken = taken.saturating_sub(dropped[DropCause::DatabaseLost.index()]);
        let dead_lettered = counters.dead_lettered.load(Ordering::Relaxed).min(taken);
        // Records that the local log could not take, or the database has lost, had been accepted by
        // the queue.
        let refused = dropped.iter().sum::<u64>()
            - dropped[DropCause::LocalLog.index()]
            - dropped[DropCause::DatabaseLost.index()];
        let accepted = queue.accepted() + refused + counters.made.load(Ordering::Relaxed);
        let (queue_records, queue_bytes) = queue.size();
        let oldest_pending = counters.waits.oldest(queue_records);
        let is_late = oldest_pending.is_some_and(|age| age > counters.waits.late_after);
        let health = match counters.health() {
            // A worker that hangs reports nothing, whether it has reached the database or not.
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
            spool_quota_bytes: counters.spool_quota_bytes,
            restarts: counters.restarts.load(Ordering::Relaxed),
            is_counter_left: clock::is_left(),
            is_hidden: counters.is_hidden.load(Ordering::Relaxed) != 0,
            oldest_pending,
            disagreements: counters.disagreements.load(Ordering::Relaxed),
            health,
            fault,
            #[cfg(feature = "redact")]
            redaction: counters.redaction.as_ref().map(|counts| counts.take()),
            #[cfg(feature = "otlp")]
            export: counters.export.stats(),
        }
    }

    /// Returns how many records were made: by this handle's layer, by
    /// [`record`](crate::Audit::record), and by the pipeline itself for gaps and for runs whose end
    /// was not seen.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Returns how many records are committed in Postgres.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Returns how many records are pending: in the queue, in the spool, or in a batch in flight.
    pub fn pending(&self) -> u64 {
        self.accepted
            .saturating_sub(self.committed + self.dead_lettered + self.dropped())
    }

    /// Returns how many records Postgres refused; they are in `audit.dead_letters` with the reason.
    pub fn dead_lettered(&self) -> u64 {
        self.dead_lettered
    }

    /// Returns how many records were dropped, for any cause.
    pub fn dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Returns how many records were dropped for one cause.
    pub fn dropped_by(&self, cause: DropCause) -> u64 {
        self.dropped[cause.index()]
    }

    /// Returns how many records from orphaned logs of earlier processes this one committed. Not
    /// part of [`accepted`](Self::accepted): their own process accepted them.
    pub fn adopted(&self) -> u64 {
        self.adopted
    }

    /// Returns how many rows went to a default partition because their time is more than two months
    /// ahead of the server's, or more than a year before it: is a clock wrong? They are part of the
    /// trail like the others; `tracing-audit settle` moves them to partitions of their own.
    pub fn in_default_partition(&self) -> u64 {
        self.in_default
    }

    /// Returns how many batches were committed.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Returns the total time of all committed batches, from the first byte sent.
    pub fn batch_time(&self) -> Duration {
        self.batch_time
    }

    /// Returns how many records the last committed batch had.
    pub fn last_batch(&self) -> u64 {
        self.last_batch
    }

    /// Returns how many records wait in the queue, and their bytes.
    pub fn queue_size(&self) -> (u64, u64) {
        (self.queue_records, self.queue_bytes)
    }

    /// Returns the bytes that the local log holds; committed records are removed a moment later.
    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes
    }

    /// Returns how many bytes the local log may hold
    /// ([`Builder::spool_quota_bytes`](crate::Builder::spool_quota_bytes)); 0 where there is none, as
    /// in a test.
    pub fn spool_quota_bytes(&self) -> u64 {
        self.spool_quota_bytes
    }

    /// Returns how often one of the worker's threads panicked and was restarted: a bug in this
    /// library, by which no record is lost. Please report it.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Returns whether a filter of the whole subscriber hides audit spans, so that they make no
    /// records: noticed a second after the subscriber was made, and logged. Put the filter on the
    /// layer that it is meant for, with `Layer::with_filter`.
    pub fn is_hidden(&self) -> bool {
        self.is_hidden
    }

    /// Returns whether the processor's counter, from which times are read where the system's clock is
    /// computed from it, was off by more than 1 ms: logged once, and the system's clock is read since,
    /// at some 30 ns more for each span. It is that of all pipelines of the process.
    pub fn is_counter_left(&self) -> bool {
        self.is_counter_left
    }

    /// Returns how long the oldest pending record has been waiting; `None`: none is pending.
    pub fn oldest_pending(&self) -> Option<Duration> {
        self.oldest_pending
    }

    /// Returns how often the database disagreed with what this program had committed
    /// ([`Health::Inconsistent`]); for each time the trail has a row `audit.gap` for each writer
    /// concerned, with the records and the cause.
    pub fn inconsistencies(&self) -> u64 {
        self.disagreements
    }

    /// Returns the health of the pipeline.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Returns why Postgres accepts no records, as in the host's log: which server, what happened,
    /// and what to do, without a secret or a value. `None` while it accepts them, and before the
    /// first attempt.
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

    /// Returns what redaction did; `None`: there are no rules. Needs feature `redact`.
    #[cfg(feature = "redact")]
    pub fn redaction(&self) -> Option<&RedactionStats> {
        self.redaction.as_ref()
    }

    /// Returns the outcome of the records on their way to OpenTelemetry; `None`: no export is set
    /// up. Needs feature `otlp`.
    #[cfg(feature = "otlp")]
    pub fn export(&self) -> Option<ExportStats> {
        self.export
    }
}
