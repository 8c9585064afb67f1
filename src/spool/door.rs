//! The one door into the log.
//!
//! Whatever is stored, on the disk or in memory while the disk refuses it, is [`Admitted`] or
//! [`Runs`], and both take only what has passed the redactor: nothing is written anywhere that has
//! not. A run that its process did not end passes when it begins; the record that is made of it does
//! not pass again.

use uuid::Uuid;

use crate::record::frames::Frames;
use crate::redact::{Passed, PassedRun};

/// Records that may be stored, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Admitted(Vec<Passed>);

impl Admitted {
    /// Admits records that end.
    pub(crate) fn admit(&mut self, passed: Passed) {
        self.0.push(passed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of records.
    pub(crate) fn records(&self) -> u64 {
        self.0.iter().map(|frames| frames.records).sum()
    }

    /// Returns how many buffers of records there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the records from a buffer on.
    pub(crate) fn since(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        self.0.iter().skip(first).flat_map(|passed| passed.iter())
    }

    /// Takes out all records: they are stored, or given up.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Frames> {
        self.0.drain(..).map(Passed::into_frames)
    }

    pub(super) fn frames(&self) -> &[Passed] {
        &self.0
    }
}

/// Changes to the runs in flight: they tell the next process which runs this one did not end.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Runs that began, with their frames.
    pub(super) begun: Vec<(Uuid, PassedRun)>,
    /// Runs that were stored as begun and have ended.
    pub(super) ended: Vec<Uuid>,
}

impl Runs {
    /// Admits the frame of a run that began.
    pub(crate) fn begin(&mut self, id: Uuid, run: PassedRun) {
        self.begun.push((id, run));
    }

    /// Forgets the frame of a run that began, if there is one.
    pub(crate) fn forget(&mut self, id: Uuid) {
        if let Some(at) = self.begun.iter().position(|(begun, _)| *begun == id) {
            self.begun.swap_remove(at);
        }
    }

    /// Adds a run that ended.
    pub(crate) fn end(&mut self, id: Uuid) {
        self.ended.push(id);
    }

    /// Ends the runs that began, and returns their frames: a write that was reported as failed may have
    /// stored them.
    pub(crate) fn end_begun(&mut self) -> Vec<PassedRun> {
        let begun = std::mem::take(&mut self.begun);
        self.ended.extend(begun.iter().map(|(id, _)| *id));
        begun.into_iter().map(|(_, run)| run).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.ended.is_empty()
    }

    /// Returns how many runs began, and which ended.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, &[Uuid]) {
        (self.begun.len(), &self.ended)
    }
}
