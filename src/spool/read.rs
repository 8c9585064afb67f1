//! Reads records out of the chunks on disk and in memory.

use std::ops::ControlFlow;

use redb::{Database, ReadableDatabase};

use super::chunk::{self, SALT_BYTES};
use super::error::{LogError, guarded};
use super::log::Log;
use super::tables::RECORDS;

/// One record of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) seq: u64,
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) frame: &'a [u8],
}

impl Log {
    /// Calls `each` with each record from `from` on, until it breaks. Returns the seq after the
    /// last record that `each` accepted.
    pub(crate) fn read(
        &self,
        from: u64,
        mut each: impl FnMut(Stored<'_>) -> ControlFlow<()>,
    ) -> Result<u64, LogError> {
        if from >= self.next_seq() {
            // Does not touch a disk that may fail.
            return Ok(from);
        }
        let mut reading = Reading {
            next: from,
            chunk_end: None,
        };
        let (in_memory, disk_end) = {
            let tail = self.tail();
            (tail.first(), tail.first().unwrap_or(self.next_seq()))
        };
        if in_memory.is_none_or(|first| from < first) {
            match self.on_disk(|file| read_disk(file, &mut reading, disk_end, &mut each)) {
                Ok(ControlFlow::Continue(())) => {}
                // The records read so far are good; the next call starts at the one that failed.
                Err(_) if reading.next > from => return Ok(reading.next),
                Ok(ControlFlow::Break(())) => return Ok(reading.next),
                Err(error) => return Err(error),
            }
        }
        // Chunks that were stored meanwhile are read from disk the next time.
        let tail = self.tail();
        for (first, chunk) in tail.chunks() {
            if first > reading.next || reading.chunk(first, chunk, &mut each)?.is_break() {
                break;
            }
        }
        Ok(reading.next)
    }
}

/// Reads the next records before `disk_end`. Behind it there may be remains of a failed write,
/// whose records are in memory or still to be written.
fn read_disk(
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
        // The oldest chunks are removed first, so none is missing between two others.
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

/// The progress of a reader.
struct Reading {
    next: u64,
    /// The seq after the last chunk read.
    chunk_end: Option<u64>,
}

impl Reading {
    /// Reads the next records of a chunk.
    fn chunk(
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
