//! A log that is being drained, and how far that has come.

use std::time::Instant;

use uuid::Uuid;

use super::pace::Pace;
use crate::delivery::commit::Progress;
use crate::delivery::required::Fate;
use crate::sink::postgres::batch::{Batch, Draft};
use crate::sink::source::Source;
use crate::spool::{Log, Sink};

/// A log that is being drained.
#[derive(Debug)]
pub(super) struct Draining {
    pub(super) source: Source,
    /// The seq of the next record to write; `None`: Postgres must be asked.
    pub(super) position: Option<u64>,
    pub(super) pace: Pace,
    /// The batch that is being written, after earlier ones that may have been committed: a COMMIT
    /// still runs after its connection is lost.
    pub(super) attempts: Vec<Attempt>,
    /// The seq of the last record that this process committed, and its batch's mark.
    pub(super) tip: Option<(u64, [u8; 32])>,
    /// The batch after the last one written, as far as it was read meanwhile. Valid only if that
    /// one was committed.
    pub(super) ahead: Option<Draft>,
    /// No earlier than this, after a failure.
    pub(super) not_before: Option<Instant>,
    /// The seq after the last record of an adopted log that this process committed.
    pub(super) reached: u64,
    /// Whether this process has recorded in the trail why the log has another writer.
    pub(super) has_told: bool,
    pub(super) standing: Standing,
}

/// Whether Postgres accepts a log's writer as the log's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Own,
    /// Postgres says that it is another's; this is checked when the position is asked for.
    Suspected,
    /// It was another's; the log has a new one, which has no batch yet.
    New,
}

/// A batch that was sent, and the fates of its records once it is committed.
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

    /// Returns the seq after the last record that is known to be committed.
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
