//! The batches of a set: what proves its rows without the database. Frozen, version 1 (docs/archive.md).
//!
//! For each batch its entry of the log and what stands for the leaves that are not of the set; and what stands for the
//! entries of the log that are not of the set. With the leaves of the set's rows the root of the log is computed, which
//! the checkpoint has.

use std::ops::Range;

use tracing_audit::__program::ledger::entry::{Entry, entry_hash};
use tracing_audit::__program::ledger::note::MAX_NOTE_BYTES;
use tracing_audit::__program::ledger::tree::{self, Hash, Part};

/// What the bytes begin with; the last one is the version.
const MAGIC: &[u8; 16] = b"audit.batches\0\0\x01";

/// The greatest size that is read.
pub(crate) const MOST_BYTES: u64 = 1 << 30;

/// The batches of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchList {
    /// The entries of the log whose rows of the day the set has.
    pub(crate) entries: Range<u64>,
    /// The signed checkpoint.
    pub(crate) note: Vec<u8>,
    /// The batches with rows of the set, in the order of the log.
    pub(crate) batches: Vec<Listed>,
    /// What stands for the other entries of the log.
    pub(crate) hashes: Vec<Hash>,
}

/// A batch with rows of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its place in the log.
    pub(crate) index: u64,
    /// Its entry, as it is hashed.
    pub(crate) entry: Vec<u8>,
    /// Where rows of the set stand in its tree: the first leaf, and how many. Ascending, and apart from each other. If the
    /// entry has no root, only how many there are is known, and the range begins at 0.
    pub(crate) ranges: Vec<(u64, u64)>,
    /// What stands for its other leaves.
    pub(crate) hashes: Vec<Hash>,
}

/// The ranges of a tree that are not given, in order.
fn gaps(ranges: impl Iterator<Item = (u64, u64)>, size: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = 0;
    let ends = ranges.map(Some).chain([None]);
    ends.filter_map(move |range| {
        let (from, count) = range.unwrap_or((size, 0));
        let gap = (at, from);
        at = from.saturating_add(count);
        (gap.0 < gap.1).then_some(gap)
    })
}

impl Listed {
    /// Returns the number of its rows in the set.
    pub(crate) fn rows(&self) -> u64 {
        self.ranges
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Returns the ranges of its tree of so many leaves that are not of the set.
    pub(crate) fn gaps(&self, leaves: u64) -> impl Iterator<Item = (u64, u64)> {
        gaps(self.ranges.iter().copied(), leaves)
    }

    /// Returns the root of its tree of so many leaves, with those of the set; `None` if they are not as many as it says.
    pub(crate) fn root(&self, size: u64, leaves: &[Hash]) -> Option<Hash> {
        if self.rows() != leaves.len() as u64 {
            return None;
        }
        let (mut at, mut hashes, mut leaves) = (0, &self.hashes[..], leaves.iter());
        let mut parts = Vec::with_capacity(leaves.len() + 2 * self.ranges.len() + 1);
        let mut ranges = self.ranges.iter().copied().peekable();
        for (from, to) in self.gaps(size).chain([(size, size)]) {
            while let Some((_, count)) = ranges.next_if(|range| range.0 < from || from == to) {
                at += count;
                let taken = usize::try_from(count).ok()?;
                parts.extend(leaves.by_ref().take(taken).map(|leaf| Part::Leaf(*leaf)));
            }
            if from == to {
                break;
            }
            let (its, rest) = hashes.split_at_checked(tree::cover(from, to).len())?;
            hashes = rest;
            parts.push(Part::Covered {
                leaves: to - from,
                hashes: its,
            });
            at = to;
        }
        if at != size || !hashes.is_empty() {
            return None;
        }
        tree::root_with(size, parts).ok()
    }
}

impl BatchList {
    /// Returns the ranges of a log of so many entries that are not of the set.
    pub(crate) fn gaps(&self, size: u64) -> impl Iterator<Item = (u64, u64)> {
        gaps(self.batches.iter().map(|batch| (batch.index, 1)), size)
    }

    /// Returns the root of the log of so many entries; `None` if the list is of no such log.
    pub(crate) fn root(&self, size: u64) -> Option<Hash> {
        let ranges = self.batches.iter().map(|batch| (batch.index, 1));
        let log = Listed {
            index: 0,
            entry: Vec::new(),
            ranges: ranges.collect(),
            hashes: self.hashes.clone(),
        };
        let entries: Vec<Hash> = self
            .batches
            .iter()
            .map(|batch| entry_hash(&batch.entry))
            .collect();
        log.root(size, &entries)
    }

    /// Writes the list.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        push_u64(&mut out, self.entries.start);
        push_u64(&mut out, self.entries.end);
        push_bytes(&mut out, &self.note);
        push_length(&mut out, self.batches.len());
        for batch in &self.batches {
            push_u64(&mut out, batch.index);
            push_bytes(&mut out, &batch.entry);
            push_length(&mut out, batch.ranges.len());
            for (from, count) in &batch.ranges {
                push_u64(&mut out, *from);
                push_u64(&mut out, *count);
            }
            push_length(&mut out, batch.hashes.len());
            out.extend_from_slice(batch.hashes.as_flattened());
        }
        push_length(&mut out, self.hashes.len());
        out.extend_from_slice(self.hashes.as_flattened());
        out
    }

    /// Reads a list. Whether it is of a log, and of a set's rows, is for whoever reads it to see.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut rest = Rest(
            bytes
                .strip_prefix(MAGIC)
                .ok_or("it is of no known version")?,
        );
        let list = rest
            .list()
            .ok_or("it is cut off, or has a length that cannot be")?;
        if !rest.0.is_empty() {
            return Err("there are bytes behind its end");
        }
        let indexes = list.batches.iter().map(|batch| (batch.index, 1));
        let is_within = |batch: &Listed| list.entries.contains(&batch.index);
        if !is_ascending(indexes, false) || !list.batches.iter().all(is_within) {
            return Err("its batches are not in the order of the log");
        }
        let mut ranges = list.batches.iter().map(|batch| &batch.ranges);
        if !ranges.all(|ranges| !ranges.is_empty() && is_ascending(ranges.iter().copied(), true)) {
            return Err("the ranges of a batch are not in order");
        }
        Ok(list)
    }
}

/// Whether ranges follow each other: apart, if those that touch would be one.
fn is_ascending(ranges: impl Iterator<Item = (u64, u64)>, are_apart: bool) -> bool {
    let mut least = Some(0);
    let mut ranges = ranges;
    ranges.all(|(from, count)| {
        let is_behind = least.is_some_and(|least| from >= least);
        least = from
            .checked_add(count)
            .and_then(|end| end.checked_add(u64::from(are_apart)));
        is_behind && count > 0
    })
}

/// Reads the entry of a batch, and the number of leaves of its tree.
pub(crate) fn entry_of(batch: &Listed) -> Option<(Entry, u64)> {
    let entry = Entry::decode(&batch.entry).ok()?;
    let last = entry.last_seq.checked_sub(entry.first_seq)?;
    let leaves = u64::try_from(last).ok()?.checked_add(1)?;
    Some((entry, leaves))
}

fn push_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn list(&mut self) -> Option<BatchList> {
        let entries = self.u64()?..self.u64()?;
        let note = self.bytes(MAX_NOTE_BYTES)?;
        let mut batches = Vec::new();
        for _ in 0..self.length()? {
            let index = self.u64()?;
            let entry = self.bytes(usize::from(u16::MAX))?;
            let mut ranges = Vec::new();
            for _ in 0..self.length()? {
                ranges.push((self.u64()?, self.u64()?));
            }
            batches.push(Listed {
                index,
                entry,
                ranges,
                hashes: self.hashes()?,
            });
        }
        Some(BatchList {
            entries,
            note,
            batches,
            hashes: self.hashes()?,
        })
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn length(&mut self) -> Option<usize> {
        let length = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        usize::try_from(length).ok()
    }

    fn bytes(&mut self, most: usize) -> Option<Vec<u8>> {
        let length = self.length().filter(|length| *length <= most)?;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn hashes(&mut self) -> Option<Vec<Hash>> {
        let bytes = self.length()?.checked_mul(size_of::<Hash>())?;
        Some(self.take(bytes)?.as_chunks().0.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count)
            .map(|at| tree::leaf_hash(&at.to_be_bytes()))
            .collect()
    }

    /// Returns what is listed of a tree of which some leaves are of the set.
    fn listed(leaves: &[Hash], is_own: impl Fn(usize) -> bool) -> (Listed, Vec<Hash>) {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let own: Vec<usize> = (0..leaves.len()).filter(|at| is_own(*at)).collect();
        for at in &own {
            match ranges.last_mut() {
                Some((from, count)) if *from + *count == *at as u64 => *count += 1,
                _ => ranges.push((*at as u64, 1)),
            }
        }
        let mut batch = Listed {
            index: 0,
            entry: vec![1, 2],
            ranges,
            hashes: Vec::new(),
        };
        batch.hashes = batch
            .gaps(leaves.len() as u64)
            .flat_map(|(from, to)| {
                let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
                tree::cover_hashes(from, &leaves[range])
            })
            .collect();
        (batch, own.into_iter().map(|at| leaves[at]).collect())
    }

    fn example() -> BatchList {
        let (batch, _) = listed(&leaves(5), |at| at == 1 || at == 3);
        BatchList {
            entries: 0..9,
            note: b"note".to_vec(),
            batches: vec![
                Listed {
                    index: 3,
                    ..batch.clone()
                },
                Listed { index: 8, ..batch },
            ],
            hashes: vec![[9; 32]],
        }
    }

    /// Frozen, version 1.
    #[test]
    fn bytes_are_golden() {
        let bytes = example().encode();
        assert_eq!(&bytes[..MAGIC.len()], b"audit.batches\0\0\x01");
        let sha256 = tracing_audit::__program::ledger::leaf::digest(&bytes);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&sha256),
            "ed073cb6d3c1499ab090c50b7a22bdd66876e71ed812cfa0819087ff8049dec2"
        );
        assert_eq!(BatchList::decode(&bytes), Ok(example()));
    }

    #[test]
    fn lists_out_of_order_are_refused() {
        let mut changed = Vec::new();
        let mut add = |change: fn(&mut BatchList)| {
            let mut list = example();
            change(&mut list);
            changed.push(list);
        };
        add(|list| list.batches.reverse());
        add(|list| list.batches[1].index = 3);
        add(|list| list.batches[1].index = 9);
        add(|list| list.entries = 4..9);
        add(|list| list.batches[0].ranges.reverse());
        add(|list| list.batches[0].ranges.clear());
        add(|list| list.batches[0].ranges = vec![(1, 0)]);
        add(|list| list.batches[0].ranges = vec![(1, 1), (2, 1)]);
        add(|list| list.batches[0].ranges = vec![(u64::MAX, 1)]);
        for list in changed {
            let refused = BatchList::decode(&list.encode());
            // A range up to the greatest number is in order, and of no tree.
            assert!(
                refused.is_err() || list.batches[0].root(5, &[[0; 32]]).is_none(),
                "{list:?}"
            );
        }
        let bytes = example().encode();
        for length in 0..bytes.len() {
            assert!(BatchList::decode(&bytes[..length]).is_err());
        }
        assert!(BatchList::decode(&[&bytes[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn root_is_that_of_all_leaves(count in 1_usize..200, own in prop::collection::vec(any::<bool>(), 200)) {
            let leaves = leaves(count);
            let (batch, its) = listed(&leaves, |at| own[at]);
            prop_assert_eq!(batch.root(count as u64, &its), Some(tree::root(&leaves)));
            if let Some((_, fewer)) = its.split_last() {
                prop_assert_eq!(batch.root(count as u64, fewer), None);
            }
        }

        #[test]
        fn what_is_read_is_written_as_it_was(at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut bytes = example().encode();
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(list) = BatchList::decode(&bytes) {
                prop_assert_eq!(list.encode(), bytes);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in any::<u64>()) {
            let bytes = [&MAGIC[..], &bytes].concat();
            if let Ok(list) = BatchList::decode(&bytes) {
                let _ = list.root(size);
                for batch in &list.batches {
                    let _ = (batch.root(size, &[]), entry_of(batch));
                }
            }
        }
    }
}
