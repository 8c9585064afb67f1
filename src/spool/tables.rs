//! The tables of a log's file, and a summary of the log that needs no records.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::chunk;
use super::error::LogError;
use super::positions::{Positions, Sink};

pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const RECORDS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("records");
pub(super) const OPEN: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("open");
pub(super) const POSITIONS: TableDefinition<'static, &str, u64> = TableDefinition::new("positions");

/// A summary of a log, without reading its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogSummary {
    /// The seq of the next record to append.
    pub(super) next_seq: u64,
    /// The seq of the first stored record.
    pub(super) first_seq: u64,
    /// The seq after the first stored chunk.
    pub(super) first_end: u64,
    pub(super) bytes: u64,
    pub(super) positions: Positions,
}

impl LogSummary {
    pub(super) const EMPTY: Self = Self {
        next_seq: 1,
        first_seq: 1,
        first_end: 1,
        bytes: 0,
        positions: Positions::BEGINNING,
    };
}

/// Reads the summary of a log.
pub(super) fn read_summary(transaction: &ReadTransaction) -> Result<LogSummary, LogError> {
    let mut state = LogSummary::EMPTY;
    let positions = transaction.open_table(POSITIONS)?;
    for sink in Sink::ALL {
        let position = positions.get(sink.name())?.map(|position| position.value());
        // A sink without a position was unknown to the log's process, and needs no record of it.
        if let Some(position) = position {
            state.positions = state.positions.with(sink, position);
        }
    }
    // The positions of a drained log show how far it had come.
    state.next_seq = state.positions.least();
    (state.first_seq, state.first_end) = (state.next_seq, state.next_seq);
    let records = transaction.open_table(RECORDS)?;
    if let Some((seq, end, _)) = first(&records)? {
        (state.first_seq, state.first_end) = (seq, end);
    }
    if let Some((seq, chunk)) = records.last()? {
        state.next_seq = seq.value() + chunk::count(chunk.value())?;
    }
    // From redb's statistics, without reading the records.
    state.bytes = records.stats()?.stored_bytes();
    Ok(state)
}

/// Returns the bytes that redb counts for a chunk, with its key.
pub(super) fn stored_bytes(chunk: &[u8]) -> u64 {
    size_of::<u64>() as u64 + chunk.len() as u64
}

/// Returns the first chunk's seq, the seq after it, and its bytes.
pub(super) fn first(
    records: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Option<(u64, u64, u64)>, LogError> {
    let Some((seq, chunk)) = records.first()? else {
        return Ok(None);
    };
    let count = chunk::count(chunk.value())?;
    Ok(Some((
        seq.value(),
        seq.value() + count,
        stored_bytes(chunk.value()),
    )))
}
