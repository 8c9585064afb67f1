//! Wall-clock times from the monotonic clock.
//!
//! A record needs its start on the wall clock and a duration that setting the clock back does not
//! change. Reading two clocks at both ends costs four calls of some 25 ns. Instead, the monotonic
//! clock is read twice, and the worker reads its offset to the wall clock at least once a second.
//! When the wall clock is set, records that begin after the next such reading show it.
//!
//! **The processor's counter takes the place of `Instant`** where the system computes its clock from it, since reading
//! it takes less than half the time. At each look of a worker, every 5 to 100 ms, the [`line`] between the two is checked
//! and drawn anew; a counter that is more than 1 ms off is left for good.

mod line;
mod processor;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{LazyLock, Mutex, Once, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub(crate) use line::Left;
use line::{Line, Trust};
use processor::{Counter, nanos_since};

static CLOCK: LazyLock<Clock> = LazyLock::new(|| {
    let clock = Clock {
        base: Instant::now(),
        offset_us: AtomicI64::new(0),
        line: Line::none(),
        counter: OnceLock::new(),
        trust: Mutex::new(Trust::default()),
    };
    clock.synchronize();
    clock
});

static IS_LEFT: AtomicBool = AtomicBool::new(false);

struct Clock {
    base: Instant,
    /// Microseconds from 1970 to `base` on the wall clock.
    offset_us: AtomicI64,
    line: Line,
    /// Set by a thread that a worker starts. `None`: there is none that can be trusted.
    counter: OnceLock<Option<Counter>>,
    trust: Mutex<Trust>,
}

impl Clock {
    #[inline]
    fn mono_us(&self) -> i64 {
        self.counted_ns().unwrap_or_else(|| nanos_since(self.base)) / 1_000
    }

    /// Returns the time by the counter, which is read only while it can be trusted.
    #[inline]
    fn counted_ns(&self) -> Option<i64> {
        if !self.line.is_drawn() {
            return None;
        }
        self.line.at(self.counter.get()?.as_ref()?.ticks())
    }

    fn synchronize(&self) {
        self.offset_us.store(
            system_us(SystemTime::now()).saturating_sub(nanos_since(self.base) / 1_000),
            Ordering::Relaxed,
        );
    }

    fn look(&'static self) -> Option<Left> {
        static SEARCH: Once = Once::new();
        // It takes up to 200 ms of computing, in which the worker would leave the queue alone.
        SEARCH.call_once(|| {
            let searching = std::thread::Builder::new()
                .name(String::from("tracing-audit-clock"))
                .spawn(|| self.counter.get_or_init(Counter::find));
            // If no thread can be started, the system's clock is read.
            drop(searching);
        });
        // Another pipeline's worker looks for us.
        let mut trust = self.trust.try_lock().ok()?;
        let counter = self.counter.get()?.as_ref()?;
        trust.look(&self.line, counter.read(self.base)?, || counter.ticks())
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

/// Checks the processor's counter. Called by the worker, often. Returns [`Left`] to one caller, when the counter is wrong.
pub(crate) fn look() -> Option<Left> {
    let left = CLOCK.look();
    if left.is_some() {
        IS_LEFT.store(true, Ordering::Relaxed);
    }
    left
}

/// Returns whether times are read from the processor's counter, or `None` if it cannot be.
#[cfg(test)]
pub(crate) fn is_counted() -> Option<bool> {
    Counter::find().map(|_| CLOCK.counted_ns().is_some())
}

/// Returns whether the processor's counter was wrong.
pub(crate) fn is_left() -> bool {
    IS_LEFT.load(Ordering::Relaxed)
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
    fn counter_and_system_agree_once_the_counter_is_read() {
        let begun = Instant::now();
        while is_counted() == Some(false) {
            assert!(begun.elapsed() < Duration::from_secs(30));
            assert_eq!(look(), None);
            std::thread::sleep(Duration::from_millis(10));
        }
        let before = nanos_since(CLOCK.base) / 1_000;
        let now = Moment::now().0;
        let after = nanos_since(CLOCK.base) / 1_000;
        assert!(
            before - 1_000 <= now && now <= after + 1_000,
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
