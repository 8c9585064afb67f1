//! The end of a log, kept in memory because the disk did not accept it: it has its seqs and salts,
//! and is read like the rest.
//!
//! So a full disk does not concern the sinks, and `seq` has no gap when the disk accepts records
//! again. Meanwhile, what is on disk is read by a second database over the same file whose writes
//! stay in memory ([`super::overlay`]), because redb writes when it opens one.

use std::collections::VecDeque;

use super::chunk;
use super::error::LogError;
use crate::redact::Passed;

/// Chunks in memory, in the order of their seqs.
#[derive(Default)]
pub(super) struct Tail {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

struct Chunk {
    first: u64,
    /// The seq after the chunk's last record.
    end: u64,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("chunks", &self.chunks.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}

impl Tail {
    /// Appends records from `next_seq` on; returns the seq after them.
    pub(super) fn push(&mut self, mut next_seq: u64, buffers: &[Passed]) -> Result<u64, LogError> {
        for buffer in buffers {
            let one = std::slice::from_ref(buffer);
            let bytes = chunk::encode(next_seq, false, one, buffer.records)?;
            self.bytes += bytes.len();
            self.chunks.push_back(Chunk {
                first: next_seq,
                end: next_seq + buffer.records,
                bytes,
            });
            next_seq += buffer.records;
        }
        Ok(next_seq)
    }

    /// Releases the chunks that end at or before `position`.
    pub(super) fn release(&mut self, position: u64) {
        while let Some(chunk) = self.chunks.pop_front_if(|chunk| chunk.end <= position) {
            self.bytes -= chunk.bytes.len();
        }
    }

    /// Returns each chunk with the seq of its first record.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.chunks.iter().map(|chunk| (chunk.first, &*chunk.bytes))
    }

    /// Returns the seq of the first record.
    pub(super) fn first(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| chunk.first)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of records from `position` on.
    pub(super) fn records(&self, position: u64) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| chunk.end.saturating_sub(chunk.first.max(position)))
            .sum()
    }
}
