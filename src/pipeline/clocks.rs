//! The worker's looks at the clocks.

use std::time::{Duration, Instant};

use crate::clock;
use crate::report;

/// How often the wall clock is read.
const SYNCHRONIZE_EVERY: Duration = Duration::from_secs(1);

/// When the clocks were looked at.
#[derive(Debug)]
pub(super) struct Clocks {
    synchronized: Instant,
}

impl Clocks {
    pub(super) fn new(now: Instant) -> Self {
        Self { synchronized: now }
    }

    /// Checks the processor's counter, and reads the wall clock if it is due. Returns whether it was.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        if let Some(clock::Left) = clock::look() {
            report::say(|| {
                tracing::warn!(
                    target: "tracing_audit",
                    "audit trail: the processor's counter was off by more than 1 ms, as after a move to another machine; \
                     times are read from the system's clock from here on. Nothing is to be done"
                );
            });
        }
        let is_due = now.duration_since(self.synchronized) >= SYNCHRONIZE_EVERY;
        if is_due {
            clock::synchronize();
            self.synchronized = now;
        }
        is_due
    }
}
