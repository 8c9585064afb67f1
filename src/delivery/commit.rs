//! The progress of records into Postgres and the flushes that wait for it: state that the spool's
//! thread, the Postgres thread and the handle share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::Batching;
use crate::error::FlushError;
use crate::stats::Counters;

/// Called with the outcome of a flush.
pub(crate) type FlushReply = Box<dyn FnOnce(Result<(), FlushError>) + Send>;

/// Returns the time at which `timeout` ends; at most a year from now.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(Duration::from_hours(8760))
}

/// How far this process' records are committed, and the flushes that wait for it.
#[derive(Debug)]
pub(crate) struct Progress {
    state: Mutex<ProgressState>,
    counters: Arc<Counters>,
    /// There are more records, or another reason to check the state.
    changed: Notify,
    /// A caller waits, or the sink is to stop: end a pause.
    hurry: Notify,
    /// The sink is to stop.
    stopping: Notify,
}

#[derive(Default)]
struct ProgressState {
    /// The seq after the last record that is durable in the spool.
    durable: u64,
    /// The seq after the last record that is committed in Postgres.
    position: u64,
    /// The seqs of records that are dead letters.
    dead: Ranges,
    /// When records became durable: the seq of the first of them, and the time.
    arrivals: VecDeque<(u64, Instant)>,
    /// Batches with records before this seq are due at once.
    urgent_to: u64,
    waiting: Vec<Waiting>,
    /// A caller waits, and no pause was cut short for it yet.
    hurry: bool,
    /// Whether Postgres must be asked if it still has what is committed.
    is_unchecked: bool,
    stop: bool,
}

impl std::fmt::Debug for ProgressState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProgressState")
            .field("durable", &self.durable)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Increasing numbers; consecutive ones are stored as one range.
#[derive(Default)]
struct Ranges(VecDeque<(u64, u64)>);

impl Ranges {
    /// The most ranges that are kept; the first are forgotten.
    const MOST: usize = 65_536;

    fn push(&mut self, number: u64) {
        match self.0.back_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => self.0.push_back((number, number)),
        }
        if self.0.len() > Self::MOST {
            self.0.pop_front();
        }
    }

    /// Removes the numbers from `from` on; returns how many.
    fn cut(&mut self, from: u64) -> u64 {
        let mut removed = 0;
        while let Some((first, last)) = self.0.back_mut()
            && *last >= from
        {
            if *first < from {
                removed += *last + 1 - from;
                *last = from - 1;
                break;
            }
            removed += *last + 1 - *first;
            self.0.pop_back();
        }
        removed
    }
}

/// A pause lasts at least this long, even when a caller waits.
const HURRIED_PAUSE: Duration = Duration::from_secs(1);

/// How long a sink that is to stop may take to finish an exchange in flight.
const LAST_MOMENT: Duration = Duration::from_millis(250);

/// A flush that waits for a seq to be committed.
struct Waiting {
    target: u64,
    deadline: Instant,
    waited: Duration,
    reply: FlushReply,
}

/// How many arrival times are kept; in a longer backlog, the age of its end does not matter.
const ARRIVALS: usize = 1_024;

impl Progress {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        let state = ProgressState {
            durable: 1,
            position: 1,
            ..ProgressState::default()
        };
        Self {
            state: Mutex::new(state),
            counters,
            changed: Notify::new(),
            hurry: Notify::new(),
            stopping: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the records before `next_seq` are durable in the spool.
    pub(crate) fn appended(&self, next_seq: u64) {
        let mut state = self.state();
        if next_seq > state.durable {
            // The sink may already have committed them.
            if state.arrivals.len() < ARRIVALS && next_seq > state.position {
                let (first, now) = (state.durable, Instant::now());
                state.arrivals.push_back((first, now));
                self.counters
                    .set_oldest(state.arrivals.front().map(|(_, at)| *at));
            }
            state.durable = next_seq;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Returns how long the oldest record that is not yet in Postgres has been in the spool.
    #[cfg(feature = "otlp")]
    pub(crate) fn oldest_pending(&self) -> Duration {
        let state = self.state();
        let oldest = state.arrivals.front();
        oldest.map_or(Duration::ZERO, |(_, at)| at.elapsed())
    }

    /// Returns the seq after the last record that is committed in Postgres.
    pub(crate) fn position(&self) -> u64 {
        self.state().position
    }

    /// Notes that the records with these seqs, in ascending order, are dead letters in Postgres.
    pub(crate) fn dead_lettered(&self, seqs: &[u64]) {
        let mut state = self.state();
        for seq in seqs {
            state.dead.push(*seq);
        }
        self.counters.count_dead_letters(seqs.len() as u64);
    }

    /// Moves the position back to `from`: the database has lost the records from the seq
    /// `lost_from` on, and those from `from` on are to be written again.
    pub(crate) fn go_back(&self, lost_from: u64, from: u64) {
        let lost = self.state().dead.cut(lost_from);
        self.counters.take_back_dead_letters(lost);
        self.commit_to(from);
    }

    /// Sets the position: the records before it are committed in Postgres. It moves back when the
    /// database has lost committed records.
    pub(crate) fn commit_to(&self, position: u64) {
        let mut state = self.state();
        state.position = position;
        self.counters.set_position(position);
        while state.arrivals.len() > 1 && state.arrivals[1].0 <= position {
            state.arrivals.pop_front();
        }
        if position >= state.durable {
            state.arrivals.clear();
        } else if state.arrivals.is_empty() {
            // Committed records are to be written again.
            let durable = Instant::now();
            state.arrivals.push_back((position, durable));
        }
        self.counters
            .set_oldest(state.arrivals.front().map(|(_, at)| *at));
        let (done, waiting) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|waiting: &Waiting| waiting.target <= position);
        state.waiting = waiting;
        drop(state);
        for waiting in done {
            (waiting.reply)(Ok(()));
        }
    }

    /// Calls `reply` when all records that are durable now are committed, or at the deadline.
    pub(crate) fn wait_for_all(&self, deadline: Instant, waited: Duration, reply: FlushReply) {
        let mut state = self.state();
        if state.position >= state.durable {
            drop(state);
            return reply(Ok(()));
        }
        let target = state.durable;
        state.waiting.push(Waiting {
            target,
            deadline,
            waited,
            reply,
        });
        drop(state);
        self.hurry();
    }

    /// Has all records that are durable now written at once; cuts a pause in progress short, once.
    pub(crate) fn hurry(&self) {
        let mut state = self.state();
        state.urgent_to = state.durable;
        state.hurry = true;
        drop(state);
        self.changed.notify_one();
        self.hurry.notify_one();
    }

    /// Replies to the callers whose deadline has passed; returns whether others still wait.
    pub(crate) fn expire(&self, now: Instant, pending: impl Fn() -> u64) -> bool {
        let mut state = self.state();
        if state.waiting.is_empty() {
            return false;
        }
        let (late, waiting) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|waiting: &Waiting| waiting.deadline <= now);
        state.waiting = waiting;
        let left = !state.waiting.is_empty();
        drop(state);
        for late in late {
            (late.reply)(Err(FlushError::timeout(late.waited, pending())));
        }
        left
    }

    /// Has the sink ask Postgres whether it still has what is committed; blocks the thread until that
    /// is answered, Postgres cannot be reached, or it is `until`.
    pub(crate) fn check_until(&self, until: Instant) {
        self.state().is_unchecked = true;
        self.hurry();
        while self.is_unchecked() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Returns whether Postgres must be asked if it still has what is committed.
    pub(crate) fn is_unchecked(&self) -> bool {
        self.state().is_unchecked
    }

    /// Notes that Postgres was asked, or cannot be.
    pub(crate) fn checked(&self) {
        self.state().is_unchecked = false;
    }

    pub(crate) fn stop(&self) {
        self.state().stop = true;
        self.changed.notify_one();
        self.hurry.notify_one();
        self.stopping.notify_waiters();
    }

    /// Waits until the sink is to stop, and then a moment for an exchange in flight.
    pub(crate) async fn wait_for_end(&self) {
        loop {
            // Made before the look: a stop after it wakes whoever has it.
            let stopped = self.stopping.notified();
            if self.should_stop() {
                break;
            }
            stopped.await;
        }
        tokio::time::sleep(LAST_MOMENT).await;
    }

    /// Returns whether the sink was told to stop.
    pub(crate) fn should_stop(&self) -> bool {
        self.state().stop
    }

    /// Returns whether a batch from `position` on is due.
    pub(crate) fn is_due(&self, position: u64, batching: &Batching) -> bool {
        let state = self.state();
        let waiting = state.durable.saturating_sub(position);
        let is_old = || {
            state
                .arrivals
                .front()
                .is_some_and(|(_, at)| at.elapsed() >= batching.age)
        };
        waiting > 0 && (waiting >= batching.rows as u64 || position < state.urgent_to || is_old())
    }

    /// Waits until a batch may be due, until `retry`, or until there is a reason to check the
    /// state.
    pub(crate) async fn wait_for_work(&self, batching: &Batching, retry: Option<Instant>) {
        let due = self
            .state()
            .arrivals
            .front()
            .map(|(_, at)| *at + batching.age);
        match due.into_iter().chain(retry).min() {
            Some(until) => {
                let _ = tokio::time::timeout_at(until.into(), self.changed.notified()).await;
            }
            None => self.changed.notified().await,
        }
    }

    /// Waits until `until`, or until a caller waits for the records. However many callers wait, and
    /// however often, a server that refuses is not asked more than once in [`HURRIED_PAUSE`] for
    /// them.
    pub(crate) async fn pause_until(&self, until: Instant) {
        let uncut_until = until.min(Instant::now() + HURRIED_PAUSE);
        loop {
            let now = Instant::now();
            let next = {
                let mut state = self.state();
                if state.stop || now >= until {
                    return;
                }
                if now >= uncut_until && std::mem::take(&mut state.hurry) {
                    return;
                }
                if now < uncut_until {
                    uncut_until
                } else {
                    until
                }
            };
            let _ = tokio::time::timeout_at(next.into(), self.hurry.notified()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// Returns how long a pause of a minute takes in real time while `meanwhile` is called.
    fn pause(mut meanwhile: impl FnMut(&Progress)) -> Duration {
        let progress = Progress::new(Arc::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let began = Instant::now();
        runtime.block_on(async {
            tokio::select! {
                () = progress.pause_until(began + MINUTE) => {}
                () = async {
                    loop {
                        meanwhile(&progress);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                } => {}
            }
        });
        began.elapsed()
    }

    #[test]
    fn waiting_caller_shortens_the_backoff_to_a_minimum_pause() {
        let took = pause(Progress::hurry);
        assert!((HURRIED_PAUSE..MINUTE).contains(&took), "{took:?}");
    }

    #[test]
    fn stopping_the_sink_ends_the_backoff_at_once() {
        let took = pause(Progress::stop);
        assert!(took < HURRIED_PAUSE, "{took:?}");
    }

    #[test]
    fn one_flush_shortens_one_backoff_pause() {
        let progress = Progress::new(Arc::default());
        progress.hurry();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let pauses = 2 * HURRIED_PAUSE;
        let began = Instant::now();
        runtime.block_on(async {
            progress.pause_until(Instant::now() + MINUTE).await;
            progress.pause_until(Instant::now() + pauses).await;
        });
        assert!(
            began.elapsed() >= HURRIED_PAUSE + pauses,
            "{:?}",
            began.elapsed()
        );
    }

    #[test]
    fn lost_dead_letters_are_subtracted_from_the_count() {
        let mut dead = Ranges::default();
        for seq in [3, 4, 5, 9, 12, 13] {
            dead.push(seq);
        }
        assert_eq!(dead.0, [(3, 5), (9, 9), (12, 13)]);
        assert_eq!(dead.cut(14), 0);
        assert_eq!(dead.cut(13), 1);
        assert_eq!(dead.cut(4), 4);
        assert_eq!(dead.0, [(3, 3)]);
        dead.push(4);
        assert_eq!(dead.cut(0), 2);
        assert_eq!(dead.cut(0), 0);
    }
}
