//! When partitions are made ahead.
//!
//! Nobody waits for them. Attaching a partition locks the default partition against everybody for a
//! moment, so a transaction that reads for hours (`pg_dump`) would hold up the records, and the
//! wait for it all other readers. After half a second the batches go on, and it is tried again
//! later. A batch whose month has no partition does wait: its rows in the default partition would
//! keep the whole month there.

use std::time::{Duration, Instant};

use crate::sink::backoff::Backoff;

/// How often partitions are made ahead.
const AHEAD_EVERY_US: i64 = 3_600_000_000;

/// The pause after partitions could not be made ahead, which doubles with each time.
const FIRST_AHEAD_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause before partitions are made ahead again.
const LONGEST_AHEAD_PAUSE: Duration = Duration::from_mins(1);

/// When partitions are made ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    /// By the clock then; `None`: not yet.
    made_us: Option<i64>,
    /// Not before this, since it failed.
    pub(super) not_before: Option<Instant>,
    backoff: Backoff,
}

impl Ahead {
    pub(super) const NEVER: Self = Self {
        made_us: None,
        not_before: None,
        backoff: Backoff::new(FIRST_AHEAD_PAUSE, LONGEST_AHEAD_PAUSE),
    };

    /// They were made at this time of the clock.
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

    /// Puts it off after a failure. Returns whether it is the first one.
    pub(super) fn put_off(&mut self) -> bool {
        let is_first = self.not_before.is_none();
        self.not_before = Some(Instant::now() + self.backoff.next_pause());
        is_first
    }
}
