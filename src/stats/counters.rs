//! The counters that the stages of the pipeline share.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

#[cfg(feature = "otlp")]
use super::export::ExportCounters;
use super::health::{DropCause, Health, LAGGING_AFTER};
#[cfg(feature = "redact")]
use crate::redact;
use crate::sync::LOOKS;
use crate::vocabulary::Kind;

/// How long records have been waiting.
#[derive(Debug)]
pub(super) struct Waits {
    /// The start of the times below.
    began: Instant,
    /// The age at which a record is late.
    pub(super) late_after: Duration,
    /// When the oldest uncommitted record in the local log arrived there, in microseconds since
    /// `began`; 0: there is none.
    oldest_us: AtomicU64,
    /// When the queue was last emptied.
    emptied_us: AtomicU64,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            late_after: LAGGING_AFTER,
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

    /// Returns the age of the oldest uncommitted record. A record that is still in the queue
    /// counts from when the queue was last emptied, because its own arrival time is not known.
    pub(super) fn oldest(&self, queued: u64) -> Option<Duration> {
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
    pub(super) waits: Waits,
    /// How often the database disagreed with what was committed.
    pub(super) disagreements: AtomicU64,
    /// Records that are in Postgres, as rows or as dead letters.
    pub(super) taken: AtomicU64,
    pub(super) dead_lettered: AtomicU64,
    pub(super) adopted: AtomicU64,
    /// Orphaned logs, and their bytes.
    pub(super) orphans: [AtomicU64; 2],
    pub(super) in_default: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) batch_us: AtomicU64,
    pub(super) last_batch: AtomicU64,
    pub(super) spool_bytes: AtomicU64,
    /// The most bytes that the local log may hold.
    pub(super) spool_quota_bytes: u64,
    pub(super) dropped: [AtomicU64; DropCause::ALL.len()],
    /// Drops that no row reports yet.
    pub(super) untold: [Untold; DropCause::ALL.len()],
    /// Records that the pipeline itself has made: gaps, and runs whose end was not seen.
    pub(super) made: AtomicU64,
    pub(super) restarts: AtomicU64,
    pub(super) is_hidden: AtomicU8,
    pub(super) sink_health: AtomicU8,
    /// Why Postgres accepts no records.
    pub(super) fault: Mutex<Option<Arc<str>>>,
    pub(super) spool_blocked: AtomicU8,
    /// What the redactor did; `None`: there are no rules.
    #[cfg(feature = "redact")]
    pub(super) redaction: Option<Arc<redact::Counts>>,
    #[cfg(feature = "otlp")]
    pub(crate) export: ExportCounters,
}

/// The drops of one cause that no row reports yet.
#[derive(Debug, Default)]
pub(super) struct Untold {
    kinds: [AtomicU64; Kind::ALL.len()],
    /// Microseconds since 1970; 0: none.
    first_us: AtomicI64,
    last_us: AtomicI64,
}

/// A run of drops, to be reported in a row.
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
    /// Creates the counters. `batch_age` is the age at which a batch is due.
    pub(crate) fn new(batch_age: Duration, spool_quota_bytes: u64) -> Self {
        let late_after = LAGGING_AFTER.saturating_add(batch_age);
        Self {
            waits: Waits {
                late_after,
                ..Waits::default()
            },
            spool_quota_bytes,
            ..Self::default()
        }
    }

    /// Adds what the redactor counts.
    #[cfg(feature = "redact")]
    pub(crate) fn with_redaction(mut self, counts: Option<&Arc<redact::Counts>>) -> Self {
        self.redaction = counts.cloned();
        self
    }

    /// Sets when the oldest record arrived that is in the local log and not in Postgres.
    pub(crate) fn set_oldest(&self, at: Option<Instant>) {
        let us = at.map_or(0, |at| self.waits.us(at));
        self.waits.oldest_us.store(us, Ordering::Relaxed);
    }

    /// Notes that every record of the queue is now in the local log.
    pub(crate) fn queue_was_emptied(&self) {
        let us = self.waits.us(Instant::now());
        self.waits.emptied_us.store(us, Ordering::Relaxed);
    }

    /// Counts one disagreement of the database with what was committed, and the records that it has
    /// lost.
    pub(crate) fn count_disagreement(&self, lost: u64) {
        self.count_drops(DropCause::DatabaseLost, lost);
        self.disagreements.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a dropped record, to be reported in a row as soon as one can be written.
    pub(crate) fn count_drop(&self, cause: DropCause, kind: Kind, now_us: i64) {
        self.count_drops(cause, 1);
        let untold = &self.untold[cause.index()];
        untold.last_us.fetch_max(now_us, Ordering::Relaxed);
        let _ = untold
            .first_us
            .compare_exchange(0, now_us, Ordering::Relaxed, Ordering::Relaxed);
        // ORDERING: Release, pairs with the Acquire in `take_losses`: a thread that sees the record
        // sees a time.
        untold.kinds[kind.index()].fetch_add(1, Ordering::Release);
    }

    /// Returns the number of drops that no row reports yet.
    pub(crate) fn untold(&self) -> u64 {
        self.untold
            .iter()
            .flat_map(|untold| &untold.kinds)
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Takes the drops that no row reports yet, to report them.
    pub(crate) fn take_losses(&self) -> Vec<Loss> {
        DropCause::ALL
            .into_iter()
            .filter_map(|cause| {
                let untold = &self.untold[cause.index()];
                // ORDERING: Acquire, pairs with the Release in `count_drop`.
                let kinds =
                    Kind::ALL.map(|kind| untold.kinds[kind.index()].swap(0, Ordering::Acquire));
                if kinds == [0; Kind::ALL.len()] {
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

    /// Notes that a filter of the whole subscriber hides audit spans.
    pub(crate) fn set_hidden(&self) {
        self.is_hidden.store(1, Ordering::Relaxed);
    }

    /// Counts a worker thread that panicked and was restarted.
    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_drops(&self, cause: DropCause, records: u64) {
        self.dropped[cause.index()].fetch_add(records, Ordering::Relaxed);
    }

    /// Sets this process' position in Postgres; its log begins at 1.
    pub(crate) fn set_position(&self, position: u64) {
        // ORDERING: Release, pairs with the Acquire in `Stats::take`: a thread that sees a record
        // as taken sees it as accepted.
        self.taken.store(position - 1, Ordering::Release);
    }

    /// Counts records of this process that are in `audit.dead_letters`.
    pub(crate) fn count_dead_letters(&self, records: u64) {
        self.dead_lettered.fetch_add(records, Ordering::Relaxed);
    }

    /// Subtracts dead letters that the database has lost.
    pub(crate) fn take_back_dead_letters(&self, records: u64) {
        self.dead_lettered.fetch_sub(records, Ordering::Relaxed);
    }

    pub(crate) fn count_adopted(&self, records: u64) {
        self.adopted.fetch_add(records, Ordering::Relaxed);
    }

    /// Sets the number and the bytes of the orphaned logs.
    pub(crate) fn set_orphans(&self, logs: u64, bytes: u64) {
        self.orphans[0].store(logs, Ordering::Relaxed);
        self.orphans[1].store(bytes, Ordering::Relaxed);
    }

    /// Returns the number and the bytes of the orphaned logs, as the sink last counted them: the
    /// caller does not wait for the disk.
    pub(crate) fn orphans(&self) -> (u64, u64) {
        let [logs, bytes] = &self.orphans;
        (logs.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    }

    /// Returns how many records of orphaned logs were committed.
    pub(crate) fn adopted(&self) -> u64 {
        self.adopted.load(Ordering::Relaxed)
    }

    /// Counts rows that went to a default partition.
    pub(crate) fn count_in_default(&self, rows: u64) {
        self.in_default.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts a committed batch, with its records and the time that it took.
    pub(crate) fn count_batch(&self, records: u64, took: Duration) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.batch_us.fetch_add(us, Ordering::Relaxed);
        self.last_batch.store(records, Ordering::Relaxed);
    }

    pub(crate) fn set_spool_bytes(&self, bytes: u64) {
        self.spool_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Sets the sink's health and returns the previous one.
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

    /// Notes that the Postgres thread panicked and is being restarted.
    pub(crate) fn sink_panicked(&self, fault: &str) {
        self.set_health(Health::Retrying);
        self.set_fault(Some(fault));
    }

    /// Sets why Postgres accepts no records; `None`: it accepts them.
    pub(crate) fn set_fault(&self, fault: Option<&str>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault.map(Arc::from);
    }

    pub(super) fn fault(&self) -> Option<Arc<str>> {
        // Locked for a moment at a time; in a forked process it may stay locked for ever.
        for _ in 0..LOOKS {
            match self.fault.try_lock() {
                Ok(fault) => return fault.clone(),
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner().clone(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }

    /// Sets whether the spool is blocked; returns whether that changed.
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
            // A fault that keeps records from being committed comes first.
            Health::Healthy if self.disagreements.load(Ordering::Relaxed) > 0 => {
                Health::Inconsistent
            }
            _ => sink,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stats;
    use super::*;

    #[test]
    fn current_fault_takes_precedence_over_an_earlier_disagreement_in_health() {
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
    fn sink_that_hangs_at_its_start_is_lagging_once_a_record_waits() {
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
