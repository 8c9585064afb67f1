//! A part of the table of open spans, with the runs that the worker has yet to look at.

use std::sync::atomic::{AtomicBool, AtomicU32};

use super::spans::Spans;
use crate::sync::{Ordering, TryLock};

/// A part of the table.
#[derive(Debug)]
pub(super) struct Part {
    /// How many spans have a state, by the last bits of their numbers. Written under the lock and
    /// read without it, so that a span that is not ours costs no lock: most are not.
    states: [AtomicU32; STATES],
    /// Runs are missing among those that the worker is to look at: the list was full, or the worker gave
    /// some up, since a thread held the lock.
    is_overlooked: AtomicBool,
    pub(super) shard: TryLock<Shard>,
}

/// Where [`Part`] counts: a thread's open spans have numbers of which the last bits mostly differ.
const STATES: usize = 64;

impl Default for Part {
    fn default() -> Self {
        Self {
            states: [const { AtomicU32::new(0) }; STATES],
            is_overlooked: AtomicBool::new(false),
            shard: TryLock::default(),
        }
    }
}

impl Part {
    /// Has the worker's next look be at all open spans.
    pub(super) fn overlook(&self) {
        self.is_overlooked.store(true, Ordering::Relaxed);
    }

    /// Returns whether runs were overlooked since the last call.
    pub(super) fn take_overlooked(&self) -> bool {
        self.is_overlooked.swap(false, Ordering::Relaxed)
    }

    pub(super) fn states(&self, number: u64) -> &AtomicU32 {
        &self.states[usize::try_from(number % STATES as u64).unwrap_or(0)]
    }

    /// Notes that a span has a state. For the thread that holds the lock.
    pub(super) fn add(&self, number: u64) {
        let states = self.states(number);
        states.store(
            states.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Notes that a span has no state any more. For the thread that holds the lock.
    pub(super) fn remove(&self, number: u64) {
        let states = self.states(number);
        states.store(
            states.load(Ordering::Relaxed).wrapping_sub(1),
            Ordering::Relaxed,
        );
    }
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) spans: Spans,
    /// Runs of tracked kinds that began since the last scan.
    pub(super) young: Vec<u64>,
    /// Runs that began between the last two scans.
    older: Vec<u64>,
    /// Memory for the next list.
    pub(super) spare: Vec<u64>,
}

/// The most runs that a shard lists as young.
pub(super) const MAX_YOUNG: usize = 8_192;

impl Shard {
    /// Lists a run that has begun, for the next scan. Returns whether there was room.
    pub(super) fn list(&mut self, number: u64) -> bool {
        let has_room = self.young.len() < MAX_YOUNG;
        if has_room {
            self.young.push(number);
        }
        has_room
    }

    /// Returns the runs that began before the last scan, or every span; the next scan gets the
    /// others.
    pub(super) fn grown_old(&mut self, every: bool) -> Vec<u64> {
        let young = std::mem::take(&mut self.spare);
        let young = std::mem::replace(&mut self.young, young);
        let mut old = std::mem::replace(&mut self.older, young);
        if every {
            self.older.clear();
            old.clear();
            old.extend(self.spans.numbers());
        }
        old
    }
}
