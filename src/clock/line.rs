//! The line between two clocks: where the one is, computed from the other.
//!
//! The worker compares the clocks at each of its looks and draws the line on from where it is, with a slope that meets
//! the system's clock a second later. It reads where that is when no reader can take the old line any more, so a
//! reader's time never steps back from one line to the next. While it is drawn there is no line, and the reader takes the
//! system's clock. A line that nobody has looked at for a while gives no time.
//!
//! **A counter that is wrong once is left for good**: one that stands still, runs back, jumps or changes its rate, as
//! after a move to another machine. Until the next look, 5 to 100 ms later, its times may be wrong by as much as it
//! jumped, up to [`LONGEST_NS`].

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};

/// How far from the system's clock the line may be.
const TOLERATED_NS: i64 = 1_000_000;

/// How long a line holds after the last look.
const LONGEST_NS: i64 = 1_000_000_000;

/// How long ago a look may be that another is compared with: the line holds for longer, by any rate that is tolerated.
const COMPARED_NS: i64 = LONGEST_NS / 10 * 9;

/// The least time between two looks from which a rate is computed: reading both clocks takes up to 10 µs.
const LEAST_NS: i64 = 50_000_000;

/// How far the rates of the first looks may differ. The system's clock is slewed by up to 0.05 %.
const SAME_RATE: f64 = 0.001;

/// The slope's fixed point: in 32 bits after it, as a second of 5 GHz has some.
const SHIFT: u32 = 32;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) ticks: u64,
    /// Of the system's monotonic clock.
    pub(super) ns: i64,
}

/// A line that the worker draws anew while other threads read it.
#[derive(Debug)]
pub(super) struct Line {
    /// Odd while the rest is being written.
    version: AtomicU64,
    ticks: AtomicU64,
    ns: AtomicI64,
    /// Nanoseconds for each tick, times 2^[`SHIFT`].
    slope: AtomicU64,
    /// The ticks for which it holds; 0: there is none.
    length: AtomicU64,
}

impl Line {
    pub(super) const fn none() -> Self {
        Self {
            version: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            ns: AtomicI64::new(0),
            slope: AtomicU64::new(0),
            length: AtomicU64::new(0),
        }
    }

    /// Returns the nanoseconds of the system's clock. `None`: there is no line here, or it is just being drawn.
    #[inline]
    pub(super) fn at(&self, ticks: u64) -> Option<i64> {
        let version = self.version.load(Ordering::Acquire);
        let begin = self.ticks.load(Ordering::Relaxed);
        let ns = self.ns.load(Ordering::Relaxed);
        let slope = self.slope.load(Ordering::Relaxed);
        let length = self.length.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        // What ran back has run on very far.
        let passed = ticks.wrapping_sub(begin);
        if passed >= length || version % 2 == 1 || self.version.load(Ordering::Relaxed) != version {
            return None;
        }
        Some(ns + product(passed, slope))
    }

    /// Returns whether there is a line, be it long ago.
    pub(super) fn is_drawn(&self) -> bool {
        self.length.load(Ordering::Relaxed) > 0
    }

    /// Draws the line on, with `rate` nanoseconds for each tick: from where it is at the ticks that `ticks` returns, or
    /// from `first` if there is none. For one thread at a time.
    fn draw(&self, first: Reading, ticks: impl FnOnce() -> u64, rate: f64) {
        let length = to_f64(LONGEST_NS) / rate;
        let slope = rate * 2_f64.powi(SHIFT.cast_signed());
        // The product of both fits into 64 bits, whatever the rate.
        self.write(to_u64(slope), to_u64(length), |line| {
            let now = ticks();
            line.value(now)
                .map_or(first, |ns| Reading { ticks: now, ns })
        });
    }

    /// From here on there is no line.
    fn erase(&self) {
        self.write(0, 0, |_| Reading { ticks: 0, ns: 0 });
    }

    /// `from` is asked when readers have no line any more: one that was suspended before would draw from a time that
    /// others have already passed.
    fn write(&self, slope: u64, length: u64, from: impl FnOnce(&Self) -> Reading) {
        let version = self.version.load(Ordering::Relaxed);
        // Before the counter is read, and before the rest is written.
        self.version.store(version | 1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let from = from(self);
        self.ticks.store(from.ticks, Ordering::Relaxed);
        self.ns.store(from.ns, Ordering::Relaxed);
        self.slope.store(slope, Ordering::Relaxed);
        self.length.store(length, Ordering::Relaxed);
        self.version.store((version | 1) + 1, Ordering::Release);
    }

    /// Returns where the line is, to the thread that draws it.
    fn value(&self, ticks: u64) -> Option<i64> {
        let passed = ticks.wrapping_sub(self.ticks.load(Ordering::Relaxed));
        if passed >= self.length.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.ns.load(Ordering::Relaxed) + product(passed, self.slope.load(Ordering::Relaxed)))
    }
}

/// Returns the nanoseconds of `ticks`.
#[inline]
fn product(ticks: u64, slope: u64) -> i64 {
    (ticks.wrapping_mul(slope) >> SHIFT).cast_signed()
}

/// A rate is positive and finite here.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates"
)]
fn to_u64(number: f64) -> u64 {
    number as u64
}

/// What the worker's looks have found.
#[derive(Debug, Default)]
pub(super) enum Trust {
    /// Nothing yet.
    #[default]
    Unknown,
    /// The clocks at the last look.
    Seen { last: Reading, rate: Option<f64> },
    /// The counter was wrong.
    Left,
}

/// The counter was wrong, and is not read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left;

impl Trust {
    /// Compares both clocks, which were `now` at the same time, and draws the line anew from what `ticks` returns.
    /// Returns [`Left`] once, when the counter is wrong.
    pub(super) fn look(
        &mut self,
        line: &Line,
        now: Reading,
        ticks: impl FnOnce() -> u64,
    ) -> Option<Left> {
        let (last, rate) = match self {
            Self::Unknown => {
                *self = Self::first(now);
                return None;
            }
            Self::Seen { last, rate } => (*last, *rate),
            Self::Left => return None,
        };
        let passed_ns = now.ns - last.ns;
        if passed_ns > COMPARED_NS {
            // The line has ended, or will; whatever the counter did meanwhile, it begins anew.
            *self = Self::first(now);
            line.erase();
            return None;
        }
        let at = line.is_drawn().then(|| line.at(now.ticks));
        let error_ns = match at {
            None => 0,
            Some(Some(ns)) => now.ns - ns,
            Some(None) => return Some(self.leave(line)),
        };
        if error_ns.abs() > TOLERATED_NS {
            return Some(self.leave(line));
        }
        if passed_ns < LEAST_NS {
            return None;
        }
        let passed = now.ticks.wrapping_sub(last.ticks);
        let new_rate = to_f64(passed_ns) / to_f64(passed.cast_signed());
        let is_steady = rate.is_none_or(|rate| (new_rate / rate - 1.0).abs() < SAME_RATE);
        // A rate of at most 8 ns a tick: as far as the arithmetic holds.
        if !(new_rate > 0.01 && new_rate < 8.0) || !line.is_drawn() && !is_steady {
            return Some(self.leave(line));
        }
        if rate.is_some() {
            let slope = new_rate * (1.0 + to_f64(error_ns) / 1e9);
            line.draw(now, ticks, slope);
        }
        *self = Self::Seen {
            last: now,
            rate: Some(new_rate),
        };
        None
    }

    fn first(now: Reading) -> Self {
        Self::Seen {
            last: now,
            rate: None,
        }
    }

    fn leave(&mut self, line: &Line) -> Left {
        line.erase();
        *self = Self::Left;
        Left
    }
}

#[allow(clippy::cast_precision_loss, reason = "of numbers far below 2^53")]
fn to_f64(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Both clocks, of which the counter does as it is told.
    struct Clocks {
        line: Line,
        trust: Trust,
        now: Reading,
        /// Ticks for each nanosecond.
        rate: f64,
    }

    impl Clocks {
        fn new() -> Self {
            Self {
                line: Line::none(),
                trust: Trust::default(),
                now: Reading {
                    ticks: 7_000_000_000_000,
                    ns: 12_345,
                },
                rate: 2.45,
            }
        }

        fn pass(&mut self, ns: i64) {
            self.now.ns += ns;
            self.now.ticks += to_u64(to_f64(ns) * self.rate);
        }

        fn look(&mut self) -> Option<Left> {
            let ticks = self.now.ticks;
            self.trust.look(&self.line, self.now, || ticks)
        }

        /// Looks `times` times, a tenth of a second apart.
        #[track_caller]
        fn run(&mut self, times: u32) {
            for _ in 0..times {
                self.pass(SECOND / 10);
                assert_eq!(self.look(), None);
            }
        }

        /// How far the line is ahead, if there is one.
        fn error(&self) -> Option<i64> {
            Some(self.line.at(self.now.ticks)? - self.now.ns)
        }
    }

    #[test]
    fn steady_counter_is_read_after_three_looks_and_keeps_time() {
        let mut clocks = Clocks::new();
        clocks.run(2);
        assert_eq!(clocks.error(), None);
        clocks.run(1);
        for _ in 0..100 {
            clocks.pass(SECOND / 10);
            let error = clocks.error().unwrap();
            assert!(error.abs() < 1_000, "{error}");
            assert_eq!(clocks.look(), None);
        }
    }

    #[test]
    fn counter_of_which_the_system_s_clock_is_slewed_away_is_followed() {
        let mut clocks = Clocks::new();
        clocks.run(10);
        clocks.rate *= 1.0005;
        for _ in 0..1_000 {
            clocks.pass(SECOND / 10);
            let error = clocks.error().unwrap();
            assert!(error.abs() < 100_000, "{error}");
            assert_eq!(clocks.look(), None);
        }
        assert!(clocks.error().unwrap().abs() < 1_000);
    }

    #[test]
    fn counter_that_stops_jumps_or_runs_fast_is_left_for_good_and_told_once() {
        let stop: fn(&mut Clocks) = |clocks| clocks.rate = 0.0;
        let fast: fn(&mut Clocks) = |clocks| clocks.rate *= 1.05;
        let slow: fn(&mut Clocks) = |clocks| clocks.rate *= 0.95;
        let ahead: fn(&mut Clocks) = |clocks| clocks.now.ticks += 10_000_000;
        let far_ahead: fn(&mut Clocks) = |clocks| clocks.now.ticks += u64::MAX / 2;
        let back: fn(&mut Clocks) = |clocks| clocks.now.ticks -= 10_000_000;
        let to_zero: fn(&mut Clocks) = |clocks| clocks.now.ticks = 0;
        for (number, disturb) in [stop, fast, slow, ahead, far_ahead, back, to_zero]
            .into_iter()
            .enumerate()
        {
            // Also while the first looks are being compared.
            for looks in [1, 2, 3, 4, 50] {
                let is_steady_from_here_on = looks == 1 && (number == 1 || number == 2);
                if is_steady_from_here_on {
                    continue;
                }
                let mut clocks = Clocks::new();
                clocks.run(looks);
                disturb(&mut clocks);
                let mut left = 0;
                for _ in 0..5 {
                    clocks.pass(SECOND / 10);
                    let had_time = clocks.error();
                    left += u32::from(clocks.look() == Some(Left));
                    // Until the look it may be wrong by what it jumped, but by no more than a second.
                    assert!(
                        had_time.is_none_or(|error| error.abs() <= SECOND),
                        "{number}"
                    );
                    assert!(!clocks.line.is_drawn(), "{number} {looks}");
                }
                assert_eq!(left, 1, "{number} {looks}");
                clocks.rate = 2.45;
                assert_eq!(clocks.look(), None);
            }
        }
    }

    #[test]
    fn line_that_nobody_looked_at_gives_no_time_and_begins_anew() {
        let mut clocks = Clocks::new();
        clocks.run(5);
        assert!(clocks.error().is_some());
        clocks.pass(SECOND / 100 * 101);
        assert_eq!(clocks.error(), None);
        // The counter may have done anything meanwhile, as while a program is suspended.
        clocks.now.ticks -= 1_000_000_000;
        assert_eq!(clocks.look(), None);
        assert_eq!(clocks.error(), None);
        clocks.run(3);
        assert!(clocks.error().unwrap().abs() < 1_000);
    }

    /// Else one could have passed the time from which the new line goes on, while the worker was suspended.
    #[test]
    fn reader_has_no_line_when_the_worker_reads_where_the_new_one_begins() {
        let mut clocks = Clocks::new();
        clocks.run(5);
        let (line, now) = (&clocks.line, clocks.now);
        let before = line.at(now.ticks);
        assert!(before.is_some());
        let later = now.ticks + 1_000_000;
        let at_later = line.at(later);
        let ticks = || {
            assert_eq!(line.at(now.ticks), None);
            later
        };
        line.draw(now, ticks, 0.3);
        assert_eq!(line.at(later), at_later);
        assert_eq!(line.at(now.ticks), None);
    }

    #[test]
    fn readers_beside_the_worker_never_go_back() {
        let mut clocks = Clocks::new();
        clocks.run(3);
        let (line, is_over) = (&clocks.line, &AtomicBool::new(false));
        let began = Instant::now();
        // One tick for each nanosecond that has really passed.
        let base = clocks.now;
        let now = move || {
            let passed = u64::try_from(began.elapsed().as_nanos()).unwrap();
            (base.ticks + passed * 245 / 100, passed)
        };
        let counts = [const { AtomicU64::new(0) }; 2];
        std::thread::scope(|scope| {
            for count in &counts {
                scope.spawn(move || {
                    let mut last = i64::MIN;
                    while !is_over.load(Ordering::Relaxed) {
                        if let Some(ns) = line.at(now().0) {
                            assert!(ns >= last, "{last} {ns}");
                            last = ns;
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            // Until each reader has had its turn.
            let has_read = || {
                counts
                    .iter()
                    .all(|count| count.load(Ordering::Relaxed) > 1_000)
            };
            for number in 0_u32.. {
                let wobble = i64::from(number % 7) - 3;
                let rate = (1.0 + to_f64(wobble) / 1_000.0) / 2.45;
                let (ticks, passed) = now();
                // Ahead of all lines, should the last one have ended.
                let first = Reading {
                    ticks,
                    ns: base.ns + passed.cast_signed() * 2,
                };
                line.draw(first, || now().0, rate);
                let is_enough = number >= 100_000 && has_read();
                if is_enough || passed > 60 * LONGEST_NS.cast_unsigned() {
                    break;
                }
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(has_read());
        });
    }

    proptest! {
        #[test]
        fn line_is_within_a_millisecond_or_left(
            steps in proptest::collection::vec((1_000_000..950_000_000_i64, -600..600_i64), 1..200),
        ) {
            let mut clocks = Clocks::new();
            let mut last = i64::MIN;
            for (ns, millionths) in steps {
                clocks.rate = 2.45 * (1.0 + to_f64(millionths) / 1e6);
                clocks.pass(ns);
                if clocks.look() == Some(Left) {
                    prop_assert!(!clocks.line.is_drawn());
                }
                if let Some(error) = clocks.error() {
                    prop_assert!(error.abs() <= TOLERATED_NS, "{}", error);
                    prop_assert!(clocks.now.ns + error >= last);
                    last = clocks.now.ns + error;
                }
            }
        }
    }
}
