//! The processor's counter (TSC), where the system's own clock is computed from it as well.
//!
//! Linux computes its clock from the counter as long as it finds the counters of all processors to agree, and steady.
//! Elsewhere it is not read. Reading it takes less than half of what `Instant` does.

use std::time::Instant;

use super::line::Reading;

/// The counter.
#[derive(Debug)]
pub(super) struct Counter {
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    clock: quanta::Clock,
}

/// How long reading both clocks may take: longer, and the thread was held up in between.
const READ_WITHIN_NS: i64 = 10_000;

/// How often to read both clocks until it goes that fast.
const TRIES: u32 = 8;

impl Counter {
    /// Returns the counter if the system's clock is computed from it. Reads a file, and takes up to 200 ms: what quanta
    /// takes to calibrate a time that is not used here.
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    pub(super) fn find() -> Option<Self> {
        const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let source = std::fs::read_to_string(SOURCE).ok()?;
        (source.trim() == "tsc").then(|| Self {
            clock: quanta::Clock::new(),
        })
    }

    #[cfg(not(all(target_os = "linux", target_arch = "x86_64", not(miri))))]
    pub(super) fn find() -> Option<Self> {
        None
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    #[inline]
    pub(super) fn ticks(&self) -> u64 {
        self.clock.raw()
    }

    #[cfg(not(all(target_os = "linux", target_arch = "x86_64", not(miri))))]
    #[allow(clippy::unused_self, reason = "as where there is one")]
    pub(super) fn ticks(&self) -> u64 {
        0
    }

    /// Reads both clocks. `None`: the thread is held up again and again.
    pub(super) fn read(&self, base: Instant) -> Option<Reading> {
        (0..TRIES).find_map(|_| {
            let before = nanos_since(base);
            let ticks = self.ticks();
            let took = nanos_since(base) - before;
            (took < READ_WITHIN_NS).then_some(Reading {
                ticks,
                ns: before + took / 2,
            })
        })
    }
}

/// Returns the nanoseconds since `base` by the system's clock.
pub(super) fn nanos_since(base: Instant) -> i64 {
    // Enough for three hundred years.
    i64::try_from(base.elapsed().as_nanos()).unwrap_or(i64::MAX)
}
