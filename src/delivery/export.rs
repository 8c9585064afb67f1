//! The progress of the export: state that the spool's thread and that of a second sink share. No
//! caller waits for an export, so it is simpler than [`super::commit::Progress`].

#![cfg_attr(not(feature = "otlp"), allow(dead_code))]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::stats::Counters;

/// How often an orphaned folder that another process holds is tried again.
pub(crate) const LEFT_EVERY: Duration = Duration::from_secs(1);

/// How far the export of this process' records has come.
#[derive(Debug)]
pub(crate) struct Export {
    state: Mutex<ExportState>,
    counters: Arc<Counters>,
    /// There are more records, or another reason to check the state.
    changed: Notify,
    /// No more records come: end a pause.
    hurry: Notify,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct ExportState {
    /// The seq after the last record that is durable in the spool.
    durable: u64,
    /// The seq of the next record to export.
    position: u64,
    /// Records before this are given up, because they took too much room.
    floor: u64,
    /// Orphaned folders whose records are in Postgres and not yet exported.
    left: VecDeque<PathBuf>,
    /// Those of them that another process held when they were tried.
    held: VecDeque<PathBuf>,
    /// An orphaned log is being exported.
    is_adopting: bool,
    receiver: Receiver,
    /// No more records come.
    is_ending: bool,
}

/// Whether the receiver accepts records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    Working,
    /// It fails on an orphaned log. Records of this process have not failed since it last worked.
    FailingOnLeft,
    Failing,
}

impl Export {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self {
            state: Mutex::new(ExportState {
                durable: 1,
                position: 1,
                floor: 1,
                left: VecDeque::new(),
                held: VecDeque::new(),
                is_adopting: false,
                receiver: Receiver::Working,
                is_ending: false,
            }),
            counters,
            changed: Notify::new(),
            hurry: Notify::new(),
            stop: watch::Sender::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, ExportState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the records before `next_seq` are durable in the spool.
    pub(crate) fn appended(&self, next_seq: u64) {
        let mut state = self.state();
        if next_seq > state.durable {
            #[cfg(feature = "otlp")]
            self.counters.export.count_records(next_seq - state.durable);
            state.durable = next_seq;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Returns the seq of the next record that the spool must keep for the export.
    pub(crate) fn position(&self) -> u64 {
        let state = self.state();
        state.position.max(state.floor)
    }

    /// Gives up the records before `floor`.
    pub(crate) fn give_up_to(&self, floor: u64) {
        let mut state = self.state();
        state.floor = state.floor.max(floor);
        drop(state);
        self.changed.notify_one();
    }

    /// Notes that no more records come: those that are there are exported without delay.
    pub(crate) fn end(&self) {
        self.state().is_ending = true;
        self.changed.notify_one();
        self.hurry.notify_one();
    }

    /// Returns whether no more records come.
    pub(crate) fn is_ending(&self) -> bool {
        self.state().is_ending
    }

    /// Returns whether the export has records left, of this process or of an orphaned log, and is
    /// not failing, so that it may still finish. A log that another process holds is not waited for.
    pub(crate) fn is_worth_waiting_for(&self) -> bool {
        let state = self.state();
        let has_own = state.position < state.durable && state.receiver != Receiver::Failing;
        let has_left =
            (state.is_adopting || !state.left.is_empty()) && state.receiver == Receiver::Working;
        has_own || has_left
    }

    /// Returns whether all records before `next_seq` were exported or given up.
    pub(crate) fn is_done(&self, next_seq: u64) -> bool {
        self.position() >= next_seq
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Returns whether the export was told to stop.
    pub(crate) fn should_stop(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the export is told to stop.
    pub(crate) async fn wait_for_stop(&self) {
        // An error means that the sender is gone.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Queues an orphaned folder whose records are in Postgres and not yet exported.
    pub(crate) fn leave(&self, folder: PathBuf) {
        self.state().left.push_back(folder);
        self.changed.notify_one();
    }

    /// Takes the next of the folders that were [queued](Self::leave); if `with_held`, also one that
    /// was [put back](Self::put_back). Until [`set_adopting`](Self::set_adopting) is called, it
    /// counts as being exported.
    pub(crate) fn take_left(&self, with_held: bool) -> Option<PathBuf> {
        let mut state = self.state();
        let mut folder = state.left.pop_front();
        if folder.is_none() && with_held {
            folder = state.held.pop_front();
        }
        state.is_adopting |= folder.is_some();
        folder
    }

    /// Puts a folder back that another process holds at the moment; it may be orphaned again.
    pub(crate) fn put_back(&self, folder: PathBuf) {
        self.state().held.push_back(folder);
    }

    /// Sets whether an orphaned log is being exported.
    pub(crate) fn set_adopting(&self, is_adopting: bool) {
        self.state().is_adopting = is_adopting;
    }

    /// Returns the seq before which records were given up.
    pub(crate) fn floor(&self) -> u64 {
        self.state().floor
    }

    /// Returns how many durable records there are from `position` on.
    pub(crate) fn waiting(&self, position: u64) -> u64 {
        self.state().durable.saturating_sub(position)
    }

    /// Sets the position: the records before it were exported, or are not to be.
    pub(crate) fn advance(&self, position: u64) {
        self.state().position = position;
    }

    /// Notes that the receiver accepts records; returns whether it was failing.
    pub(crate) fn mark_working(&self) -> bool {
        let before = std::mem::replace(&mut self.state().receiver, Receiver::Working);
        before != Receiver::Working
    }

    /// Notes that the receiver accepts no records, of an orphaned log if `is_adopted`; returns
    /// whether it was working.
    pub(crate) fn mark_failing(&self, is_adopted: bool) -> bool {
        let mut state = self.state();
        let before = state.receiver;
        state.receiver = if is_adopted && before != Receiver::Failing {
            Receiver::FailingOnLeft
        } else {
            Receiver::Failing
        };
        before == Receiver::Working
    }

    /// Waits until there may be something to export; with a folder in the queue, for at most
    /// [`LEFT_EVERY`].
    pub(crate) async fn changed(&self) {
        let has_left = {
            let state = self.state();
            !state.left.is_empty() || !state.held.is_empty()
        };
        let changed = self.changed.notified();
        if has_left {
            let _ = tokio::time::timeout(LEFT_EVERY, changed).await;
        } else {
            changed.await;
        }
    }

    /// Waits for `pause`, or until the export is to end.
    pub(crate) async fn pause(&self, pause: Duration) {
        if self.state().is_ending {
            // Records that are not exported by now stay for the next process.
            self.wait_for_stop().await;
        }
        let until = Instant::now() + pause;
        let _ = tokio::time::timeout_at(until.into(), self.hurry.notified()).await;
    }

    /// Waits up to `delay` for more records, unless no more come.
    pub(crate) async fn gather(&self, delay: Duration) {
        if !self.state().is_ending {
            let until = Instant::now() + delay;
            let _ = tokio::time::timeout_at(until.into(), self.hurry.notified()).await;
        }
    }
}
