//! Decides how many records the next batch may have.
//!
//! A refused row is singled out by the table and line that Postgres names: first the rows before it
//! are written, then that row alone, then the rest.

use crate::sink::postgres::batch::Batch;

/// How many records the next batch may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Full,
    /// The records before one that Postgres refused; that one alone comes next.
    Before(usize),
    Alone,
    /// After a refused record, of which there may be more, or a batch that took too long: few
    /// records, and twice as many with each batch that is written.
    Growing(usize),
}

impl Pace {
    /// The size from which batches grow again.
    const FEW: usize = 64;

    pub(super) fn limit(self, rows: usize) -> usize {
        match self {
            Self::Full => rows,
            Self::Alone => 1,
            Self::Before(limit) | Self::Growing(limit) => limit.clamp(1, rows),
        }
    }

    /// Returns the next pace. `was_refused`: the batch was the dead letter of a record that stood
    /// alone.
    pub(super) fn after_success(self, rows: usize, was_refused: bool) -> Self {
        match self {
            Self::Before(_) => Self::Alone,
            // Where one is refused, the next often is too: this saves a failed batch for each.
            Self::Alone if was_refused => Self::Alone,
            Self::Alone => Self::Growing(Self::FEW),
            Self::Growing(limit) if limit < rows => Self::Growing(limit * 2),
            Self::Full | Self::Growing(_) => Self::Full,
        }
    }
}

/// Cuts the next batches so that the record that Postgres refused ends up alone: the records before
/// it first, if its place is known, else half of the batch.
pub(super) fn single_out(batch: &Batch, at: Option<(usize, usize)>) -> Pace {
    let refused = at.and_then(|(leaf, line)| {
        let leaf = batch.leaves.get(leaf)?;
        leaf.seqs.get(line.checked_sub(1)?).copied()
    });
    let count = |records: u64| usize::try_from(records).unwrap_or(usize::MAX);
    match refused {
        Some(seq) if seq == batch.first_seq => Pace::Alone,
        Some(seq) => Pace::Before(count(seq - batch.first_seq)),
        None => Pace::Growing(count(batch.records() / 2)),
    }
}
