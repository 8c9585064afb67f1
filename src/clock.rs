//! Wall-clock times from the monotonic clock.
//!
//! A record needs its start on the wall clock and a duration that a clock set back cannot
//! bend. Asking two clocks at both ends costs four calls of some 25 ns; instead the monotonic
//! clock is asked twice, and its offset to the wall clock is looked up by the worker, at least
//! once a second. A wall clock that was set shows in records that begin after that.
//!
//! Both looks use `Instant`, some 24 ns each. The processor's own counter (as fastrace reads it)
//! takes a third of that, but nothing tells a running program when it has become wrong, as after a
//! move to another machine.

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
    /// Microseconds from 1970 to `base` by the wall clock.
    offset_us: AtomicI64,
}

impl Clock {
    fn mono_us(&self) -> i64 {
        let passed = self.base.elapsed();
        // Within 64 bits for half a million years.
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

/// A moment: microseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    /// For what needs no time.
    pub(crate) const UNKNOWN: Self = Self(0);

    pub(crate) fn now() -> Self {
        Self(CLOCK.mono_us())
    }

    /// Microseconds since 1970.
    pub(crate) fn wall_us(self) -> i64 {
        self.0
            .saturating_add(CLOCK.offset_us.load(Ordering::Relaxed))
    }

    /// Microseconds since an earlier moment.
    pub(crate) fn since_us(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

/// Looks up the wall clock again. Called by the worker.
pub(crate) fn synchronize() {
    CLOCK.synchronize();
}

/// Microseconds since 1970, negative before.
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
        // The two clocks are read one after the other; a preempted thread is seen as a
        // difference, never one of more than its pause.
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
