//! A file of an archive, read by ranges, as the reader of Parquet asks for them.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hyper::body::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Handle;

use super::place::Place;

/// How much of the end is read at once: the footer of most files.
const END_BYTES: u64 = 128 * 1024;

/// How much is read at once where the reader does not say how much it needs.
const BLOCK_BYTES: u64 = 64 * 1024;

/// What is no further apart is read in one piece.
const GAP_BYTES: u64 = 16 * 1024;

/// How many pieces are read at once.
const AT_ONCE: usize = 8;

/// An object, which is read on a thread that may block.
#[derive(Clone)]
pub(super) struct Ranges(Arc<Object>);

struct Object {
    place: Arc<Place>,
    name: String,
    length: u64,
    end: OnceLock<Bytes>,
    /// Pieces that were read ahead, by where they begin.
    held: Mutex<BTreeMap<u64, Bytes>>,
    runtime: Handle,
}

impl Ranges {
    /// Takes an object of this length. To be called within a runtime.
    pub(super) fn new(place: &Arc<Place>, name: String, length: u64) -> Self {
        Self(Arc::new(Object {
            place: Arc::clone(place),
            name,
            length,
            end: OnceLock::new(),
            held: Mutex::default(),
            runtime: Handle::current(),
        }))
    }
}

/// Reads ahead what is needed next.
pub(super) trait ReadAhead: ChunkReader {
    /// Reads these ranges, several at once, and keeps them until they are let go.
    fn hold(&self, wanted: Vec<Range<u64>>) -> Result<()>;

    /// Forgets what was read ahead.
    fn let_go(&self);
}

impl ReadAhead for Ranges {
    fn hold(&self, wanted: Vec<Range<u64>>) -> Result<()> {
        let object = &*self.0;
        let end = object.length.saturating_sub(END_BYTES);
        let pieces = stream::iter(pieces(wanted, end))
            .map(|piece| async move {
                let bytes = object.fetch(piece.start, piece.end).await?;
                Ok::<_, ParquetError>((piece.start, bytes))
            })
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>();
        let pieces = object.runtime.block_on(pieces)?;
        object.held().extend(pieces);
        Ok(())
    }

    fn let_go(&self) {
        self.0.held().clear();
    }
}

// All of it is there.
impl ReadAhead for Bytes {
    fn hold(&self, _: Vec<Range<u64>>) -> Result<()> {
        Ok(())
    }

    fn let_go(&self) {}
}

/// Returns these ranges in order, as far as they are before the end that is read at once, those that are close as one.
fn pieces(mut wanted: Vec<Range<u64>>, end: u64) -> Vec<Range<u64>> {
    wanted.retain(|range| range.start < range.end && range.start < end);
    wanted.sort_unstable_by_key(|range| range.start);
    let mut pieces: Vec<Range<u64>> = Vec::new();
    for range in wanted {
        match pieces.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(GAP_BYTES) => {
                last.end = last.end.max(range.end);
            }
            _ => pieces.push(range),
        }
    }
    pieces
}

impl Object {
    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Bytes>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, from: u64, to: u64) -> Result<Bytes> {
        self.expect(from, to)?;
        let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
        if let Some((start, piece)) = self.held().range(..=from).next_back()
            && to - start <= piece.len() as u64
        {
            return Ok(piece.slice(at(from - start)..at(to - start)));
        }
        let end = self.length.saturating_sub(END_BYTES);
        if from < end {
            return self.runtime.block_on(self.fetch(from, to));
        }
        let bytes = if let Some(bytes) = self.end.get() {
            bytes
        } else {
            let bytes = self.runtime.block_on(self.fetch(end, self.length))?;
            self.end.get_or_init(|| bytes)
        };
        Ok(bytes.slice(at(from - end)..at(to - end)))
    }

    fn expect(&self, from: u64, to: u64) -> Result<()> {
        if from > to || to > self.length {
            return Err(ParquetError::EOF(String::from(
                "it is shorter than its footer says",
            )));
        }
        Ok(())
    }

    async fn fetch(&self, from: u64, to: u64) -> Result<Bytes> {
        self.expect(from, to)?;
        let bytes = self
            .place
            .get_range(&self.name, from..to)
            .await
            .map_err(|error| ParquetError::External(Box::new(error)))?;
        if bytes.len() as u64 != to - from {
            return Err(ParquetError::EOF(String::from("it is shorter than it was")));
        }
        Ok(Bytes::from(bytes))
    }
}

impl Length for Ranges {
    fn len(&self) -> u64 {
        self.0.length
    }
}

impl ChunkReader for Ranges {
    type T = Blocks;

    fn get_read(&self, start: u64) -> Result<Blocks> {
        Ok(Blocks {
            object: Arc::clone(&self.0),
            at: start,
            block: Bytes::new(),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get(start, start.saturating_add(length as u64))
    }
}

/// Reads on from a place, block by block.
pub(super) struct Blocks {
    object: Arc<Object>,
    at: u64,
    block: Bytes,
}

impl Read for Blocks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() {
            let to = self.at.saturating_add(BLOCK_BYTES).min(self.object.length);
            if self.at >= to {
                return Ok(0);
            }
            self.block = self.object.get(self.at, to).map_err(io::Error::other)?;
            self.at = to;
        }
        let count = out.len().min(self.block.len());
        out[..count].copy_from_slice(&self.block.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_is_read_in_one_piece_and_nothing_of_the_end() {
        let far = 2 * GAP_BYTES;
        let wanted = vec![
            far + 50..far + 90,
            10..20,
            5..12,
            7..7,
            20..30,
            far + 60..far + 70,
            10 * far..10 * far + 1,
        ];
        assert_eq!(pieces(wanted, 10 * far), [5..30, far + 50..far + 90]);
    }
}
