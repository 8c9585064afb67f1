//! Schedules the creation of partitions ahead of time.
//!
//! Nothing waits for these partitions. Attaching one locks the default partition against everybody
//! for a moment, so a transaction that reads for hours (`pg_dump`) would hold up the records, and
//! the wait for it would hold up all other readers. After half a second the batches continue, and
//! the attempt is repeated later. A batch whose time has no partition does wait: its rows in the
//! default partition would keep all of that time there.

use std::time::{Duration, Instant};

use crate::sink::backoff::Backoff;

/// How often partitions are created ahead.
const AHEAD_EVERY_US: i64 = 3_600_000_000;

/// The pause after partitions could not be created ahead; it doubles with each failure.
const FIRST_AHEAD_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause before partitions are created ahead again.
const LONGEST_AHEAD_PAUSE: Duration = Duration::from_mins(1);

/// When partitions are created ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The wall-clock time of the last success; `None`: not yet.
    made_us: Option<i64>,
    /// No earlier than this, after a failure.
    pub(super) not_before: Option<Instant>,
    backoff: Backoff,
}

impl Ahead {
    pub(super) const NEVER: Self = Self {
        made_us: None,
        not_before: None,
        backoff: Backoff::new(FIRST_AHEAD_PAUSE, LONGEST_AHEAD_PAUSE),
    };

    /// Returns the schedule after a success at this wall-clock time.
    pub(super) fn made_at(now_us: i64) -> Self {
        Self {
            made_us: Some(now_us),
            ..Self::NEVER
        }
    }

    pub(super) fn is_due(&self, now_us: i64) -> bool {
        let is_old = |made_us| now_us.saturating_sub(made_us) >= AHEAD_EVERY_US || now_us < made_us;
        self.made_us.is_none_or(is_old) && self.not_before.is_none_or(|at| at <= Instant::now())
    }

    /// Postpones it after a failure. Returns whether this is the first one.
    pub(super) fn put_off(&mut self) -> bool {
        let is_first = self.not_before.is_none();
        self.not_before = Some(Instant::now() + self.backoff.next_pause());
        is_first
    }
}
