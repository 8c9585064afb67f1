//! Wall-clock times from the monotonic clock.
//!
//! A record needs its start on the wall clock and a duration that setting the clock back does not
//! change. Reading two clocks at both ends costs four calls of some 25 ns. Instead, the monotonic
//! clock is read twice, and the worker reads its offset to the wall clock at least once a second.
//! When the wall clock is set, records that begin after the next such reading show it.
//!
//! Both readings use `Instant`, some 24 ns each. The processor's own counter (as fastrace reads it)
//! takes a third of that, but a running program cannot tell when the counter has become wrong, as
//! after a move to another machine.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static CLOCK: LazyLock<Clock> = LazyLock::new(|| {
    let clock = Clock {
        base: Instant::now(),
        offset_us: AtomicI64::new(0),
    };
    clock.synchronize();
    clock
});

struct Clock {
    base: Instant,
    /// Microseconds from 1970 to `base` on the wall clock.
    offset_us: AtomicI64,
}

impl Clock {
    fn mono_us(&self) -> i64 {
        let passed = self.base.elapsed();
        // Fits into 64 bits for half a million years.
        let us = passed.as_secs().saturating_mul(1_000_000) + u64::from(passed.subsec_micros());
        us.cast_signed()
    }

    fn synchronize(&self) {
        self.offset_us.store(
            system_us(SystemTime::now()).saturating_sub(self.mono_us()),
            Ordering::Relaxed,
        );
    }
}

/// A time, in microseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    /// For a state that needs no time.
    pub(crate) const UNKNOWN: Self = Self(0);

    pub(crate) fn now() -> Self {
        Self(CLOCK.mono_us())
    }

    /// Returns the microseconds since 1970.
    pub(crate) fn wall_us(self) -> i64 {
        self.0
            .saturating_add(CLOCK.offset_us.load(Ordering::Relaxed))
    }

    /// Returns the microseconds since an earlier time.
    pub(crate) fn since_us(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

/// Reads the offset to the wall clock again. Called by the worker.
pub(crate) fn synchronize() {
    CLOCK.synchronize();
}

/// Converts a time to microseconds since 1970, negative before.
pub(crate) fn system_us(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn wall_time_agrees_with_the_system_clock() {
        let before = system_us(SystemTime::now());
        synchronize();
        let now = Moment::now().wall_us();
        let after = system_us(SystemTime::now());
        // The two clocks are read one after the other; if the thread is preempted in between, they
        // differ by at most its pause.
        assert!(
            now >= before - 1_000_000 && now <= after + 1_000_000,
            "{before} {now} {after}"
        );
    }

    #[test]
    fn durations_are_never_negative() {
        let earlier = Moment::now();
        let later = Moment(earlier.0 + 5);
        assert_eq!(later.since_us(earlier), 5);
        assert_eq!(earlier.since_us(later), 0);
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(system_us(UNIX_EPOCH - Duration::from_micros(7)), -7);
    }
}
