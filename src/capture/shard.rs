//! A part of the table of open spans, with the runs that the worker has yet to look at.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::span::SpanState;

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) spans: HashMap<u64, Box<SpanState>, BuildHasherDefault<ByNumber>>,
    /// Runs of tracked kinds that began since the last scan.
    pub(super) young: Vec<u64>,
    /// Runs that began between the last two scans.
    older: Vec<u64>,
    /// Memory for the next list.
    pub(super) spare: Vec<u64>,
    /// The lists overflowed before the worker scanned them, so that some runs are missing.
    is_overlooked: bool,
}

/// The most runs that a shard lists as young.
pub(super) const MAX_YOUNG: usize = 8_192;

/// The capacity, in spans, up to which a shard is not shrunk.
pub(super) const KEPT_CAPACITY: usize = 1_024;

impl Shard {
    /// Lists a run that has begun, for the next scan.
    pub(super) fn list(&mut self, number: u64) {
        if self.young.len() < MAX_YOUNG {
            self.young.push(number);
        } else {
            self.is_overlooked = true;
        }
    }

    /// Removes a span's state.
    pub(super) fn take(&mut self, number: u64) -> Option<Box<SpanState>> {
        let state = self.spans.remove(&number);
        if self.spans.is_empty() && self.spans.capacity() > KEPT_CAPACITY {
            self.spans.shrink_to(KEPT_CAPACITY / 2);
        }
        state
    }

    /// Returns the runs that began before the last scan, or every span; the next scan gets the
    /// others.
    pub(super) fn grown_old(&mut self, every: bool) -> Vec<u64> {
        let young = std::mem::take(&mut self.spare);
        let young = std::mem::replace(&mut self.young, young);
        let mut old = std::mem::replace(&mut self.older, young);
        if std::mem::take(&mut self.is_overlooked) || every {
            self.older.clear();
            old.clear();
            old.extend(self.spans.keys());
        }
        old
    }
}

/// Hashes the number of a span.
#[derive(Debug, Default)]
pub(super) struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
