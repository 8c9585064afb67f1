//! A log that is drained, and how far its draining has come.

use std::time::Instant;

use uuid::Uuid;

use super::pace::Pace;
use crate::delivery::commit::Progress;
use crate::delivery::required::Fate;
use crate::sink::postgres::batch::{Batch, Draft};
use crate::sink::source::Source;
use crate::spool::{Log, Sink};

/// A log that is drained.
#[derive(Debug)]
pub(super) struct Draining {
    pub(super) source: Source,
    /// The seq of the next record to write; `None`: Postgres must be asked.
    pub(super) position: Option<u64>,
    pub(super) pace: Pace,
    /// The batch that is being written, after those of which it is not known whether they were
    /// committed: a COMMIT goes on after its connection is lost.
    pub(super) attempts: Vec<Attempt>,
    /// The seq of the last record that was committed here, and its batch's mark.
    pub(super) tip: Option<(u64, [u8; 32])>,
    /// The batch after the one that was written last, as far as it was read meanwhile. Of use only if
    /// that one was committed.
    pub(super) ahead: Option<Draft>,
    /// Not before this, since it failed.
    pub(super) not_before: Option<Instant>,
    /// Of a log that was taken over: the seq after the last record that was committed here.
    pub(super) reached: u64,
    /// The trail was told why the log has another writer.
    pub(super) has_told: bool,
    pub(super) standing: Standing,
}

/// Whether Postgres takes a log's writer for the log's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Own,
    /// It says that it is another's: that is looked at when it says where the writer stands.
    Suspected,
    /// It was another's; the log has a new one, which has had no batch yet.
    New,
}

/// A batch that was sent, and what becomes of its records when it is committed.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) mark: [u8; 32],
    pub(super) fates: Vec<(Uuid, Fate)>,
    /// The seqs of its dead letters.
    pub(super) dead: Vec<u64>,
}

impl Attempt {
    pub(super) fn new(batch: &Batch) -> Self {
        Self {
            first_seq: batch.first_seq,
            last_seq: batch.last_seq,
            mark: batch.mark(),
            fates: batch.fates(),
            dead: batch.dead_letters.iter().map(|letter| letter.seq).collect(),
        }
    }
}

impl Draining {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            position: None,
            pace: Pace::Full,
            attempts: Vec::new(),
            tip: None,
            ahead: None,
            not_before: None,
            reached: 1,
            has_told: false,
            standing: Standing::Own,
        }
    }

    /// The seq after the last record that is known to be committed.
    pub(super) fn known(&self, progress: &Progress) -> u64 {
        if self.source.is_adopted() {
            self.log().position(Sink::Postgres).max(self.reached)
        } else {
            progress.position()
        }
    }

    pub(super) fn log(&self) -> &Log {
        self.source.log()
    }
}
