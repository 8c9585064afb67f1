//! The runs in flight, as the spool thread sees them.
//!
//! Most runs end between two polls of the open spans, and leave no trace here. A run that lasts
//! longer is stored, so that the next process knows of it if this one dies.
//!
//! Only a run that was open at two polls, some milliseconds apart, is stored. Runs and records
//! change in one transaction, so that no run is both ended and lost.

use std::collections::HashSet;

use uuid::Uuid;

use crate::redact::PassedRun;
use crate::spool::Runs;

/// The runs in flight.
#[derive(Debug, Default)]
pub(super) struct InFlightRuns {
    /// Runs that are stored in the spool, or are to be stored.
    known: HashSet<Uuid>,
    /// Changes that the spool has not stored yet.
    unstored: Runs,
    is_over: bool,
}

impl InFlightRuns {
    /// Adds runs that are in flight, or replaces the frames of known ones with newer ones.
    pub(super) fn begin(&mut self, begun: impl IntoIterator<Item = (Uuid, PassedRun)>) {
        for (id, run) in begun {
            if !self.known.insert(id) {
                self.unstored.forget(id);
            }
            self.unstored.begin(id, run);
        }
    }

    /// Ends a run, known or not.
    pub(super) fn end(&mut self, id: Uuid) {
        if self.known.remove(&id) {
            // Its beginning need not be stored any more, but a write that was reported as failed
            // may have stored it.
            self.unstored.forget(id);
            self.unstored.end(id);
        }
    }

    /// Returns whether no run is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns the changes that the spool has not stored yet.
    pub(super) fn unstored(&self) -> &Runs {
        &self.unstored
    }

    /// Marks all changes as stored.
    pub(super) fn mark_stored(&mut self) {
        self.unstored = Runs::default();
    }

    /// Returns whether runs are no longer polled: those in flight have been [ended](Self::end_all).
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Forgets all runs for good; returns the ids of those in flight, and the frames of those that
    /// the spool has not stored.
    pub(super) fn end_all(&mut self) -> (HashSet<Uuid>, Vec<PassedRun>) {
        self.is_over = true;
        let ended = std::mem::take(&mut self.known);
        (ended, self.unstored.end_begun())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(ids: &[u128]) -> Vec<(Uuid, PassedRun)> {
        ids.iter()
            .map(|id| (Uuid::from_u128(*id), PassedRun::stored(vec![1])))
            .collect()
    }

    fn told(runs: &mut InFlightRuns) -> (usize, Vec<u128>) {
        let (begun, ended) = runs.unstored().counts();
        let told = (begun, ended.iter().map(Uuid::as_u128).collect());
        runs.mark_stored();
        told
    }

    #[test]
    fn run_is_stored_as_begun_and_later_as_ended() {
        let mut runs = InFlightRuns::default();
        runs.begin(begun(&[1, 2]));
        assert_eq!(told(&mut runs), (2, vec![]));
        runs.end(Uuid::from_u128(1));
        // It was never seen in flight.
        runs.end(Uuid::from_u128(3));
        assert_eq!(told(&mut runs), (0, vec![1]));
        assert!(!runs.is_empty());
    }

    #[test]
    fn latest_frame_of_a_run_in_flight_replaces_earlier_ones() {
        let mut runs = InFlightRuns::default();
        runs.begin(begun(&[1, 2]));
        runs.begin([(Uuid::from_u128(1), PassedRun::stored(vec![2]))]);
        let (ended, mut unsaved) = runs.end_all();
        unsaved.sort();
        assert_eq!(
            (ended.len(), unsaved),
            (2, [1, 2].map(|n| PassedRun::stored(vec![n])).to_vec())
        );
    }

    #[test]
    fn unstored_changes_are_kept_without_frames_of_ended_runs() {
        let mut runs = InFlightRuns::default();
        runs.begin(begun(&[1]));
        runs.end(Uuid::from_u128(1));
        runs.begin(begun(&[2]));
        // Nor is the frame of an ended run kept.
        assert_eq!(told(&mut runs), (1, vec![1]));
        assert!(runs.end_all().1.is_empty());
    }

    #[test]
    fn end_all_ends_every_run_and_returns_the_unstored_frames() {
        let mut runs = InFlightRuns::default();
        runs.begin(begun(&[1]));
        told(&mut runs);
        runs.begin(begun(&[2, 3]));
        // This run has a record.
        runs.end(Uuid::from_u128(3));
        let (ended, unsaved) = runs.end_all();
        assert_eq!(ended, [1, 2].map(Uuid::from_u128).into());
        assert_eq!(unsaved, [PassedRun::stored(vec![1])]);
        assert!(runs.is_empty());
        assert_eq!(told(&mut runs), (0, vec![3, 2]));
        assert!(runs.is_over());
    }
}
