//! Reading: records out of the chunks on the disk and in memory.

use std::ops::ControlFlow;

use redb::{Database, ReadableDatabase};

use super::chunk::{self, SALT_BYTES};
use super::error::{LogError, guarded};
use super::tables::RECORDS;

/// One record of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) seq: u64,
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) frame: &'a [u8],
}

/// Reads what comes next of the records before `disk_end`. Behind it there may be what a write has
/// left that failed: that is in memory, or still to be written.
pub(super) fn read_disk(
    file: &Database,
    reading: &mut Reading,
    disk_end: u64,
    each: &mut impl FnMut(Stored<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, LogError> {
    let mut chunks = guarded(|| {
        let records = file.begin_read()?.open_table(RECORDS)?;
        // The chunk that holds `next` begins at or before it.
        let begin = records
            .range(..=reading.next)?
            .next_back()
            .transpose()?
            .map_or(reading.next, |(seq, _)| seq.value());
        Ok(records.range(begin..disk_end.max(begin))?)
    })?;
    while let Some((first, chunk)) = guarded(|| Ok(chunks.next().transpose()?))? {
        let first = first.value();
        // The oldest go first, so that there is none missing between two.
        let follows = reading.chunk_end.is_none_or(|end| first == end);
        if !follows && !chunk::is_after_gap(chunk.value()) {
            return Err(LogError::Damaged);
        }
        if reading.chunk(first, chunk.value(), each)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    match reading.chunk_end {
        Some(end) if end < disk_end => Err(LogError::Damaged),
        _ => Ok(ControlFlow::Continue(())),
    }
}

/// How far a reader has come.
pub(super) struct Reading {
    pub(super) next: u64,
    /// The seq after the last chunk that was read.
    pub(super) chunk_end: Option<u64>,
}

impl Reading {
    /// Reads the records of a chunk that come next.
    pub(super) fn chunk(
        &mut self,
        first: u64,
        chunk: &[u8],
        each: &mut impl FnMut(Stored<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LogError> {
        let mut seq = first;
        for record in chunk::records(first, chunk)? {
            let (salt, frame) = record?;
            if seq >= self.next {
                if each(Stored { seq, salt, frame }).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.next = seq + 1;
            }
            seq += 1;
        }
        self.chunk_end = Some(seq);
        Ok(ControlFlow::Continue(()))
    }
}
