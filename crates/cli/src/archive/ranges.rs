//! A file of an archive, read by ranges, as the reader of Parquet asks for them.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hyper::body::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Handle;

use super::place::Place;

/// How much of the end is read at once: the footer of most files, with their bloom filters and page indexes.
const END_BYTES: u64 = 256 * 1024;

/// How much is read at once where the reader does not say how much it needs.
const BLOCK_BYTES: u64 = 64 * 1024;

/// An object, which is read on a thread that may block.
#[derive(Clone)]
pub(super) struct Ranges(Arc<Object>);

struct Object {
    place: Arc<Place>,
    name: String,
    length: u64,
    end: OnceLock<Bytes>,
    /// Counts the bytes that are read.
    read: Arc<AtomicU64>,
    runtime: Handle,
}

impl Ranges {
    /// Takes an object of this length. To be called within a runtime.
    pub(super) fn new(
        place: &Arc<Place>,
        name: String,
        length: u64,
        read: &Arc<AtomicU64>,
    ) -> Self {
        Self(Arc::new(Object {
            place: Arc::clone(place),
            name,
            length,
            end: OnceLock::new(),
            read: Arc::clone(read),
            runtime: Handle::current(),
        }))
    }
}

impl Object {
    fn get(&self, from: u64, to: u64) -> Result<Bytes> {
        if from > to || to > self.length {
            return Err(ParquetError::EOF(String::from(
                "it is shorter than its footer says",
            )));
        }
        let end = self.length.saturating_sub(END_BYTES);
        if from < end {
            return self.fetch(from, to);
        }
        let bytes = if let Some(bytes) = self.end.get() {
            bytes
        } else {
            let bytes = self.fetch(end, self.length)?;
            self.end.get_or_init(|| bytes)
        };
        let at = |place: u64| usize::try_from(place - end).unwrap_or(usize::MAX);
        Ok(bytes.slice(at(from)..at(to)))
    }

    fn fetch(&self, from: u64, to: u64) -> Result<Bytes> {
        let bytes = self
            .runtime
            .block_on(self.place.get_range(&self.name, from..to))
            .map_err(|error| ParquetError::External(Box::new(error)))?;
        // ORDERING: a count for people.
        self.read.fetch_add(to - from, Ordering::Relaxed);
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
