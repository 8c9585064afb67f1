//! A read-only view of a file: writes to it stay in memory.
//!
//! redb writes when it opens a database, and more after a crash. If the disk accepts no writes, or
//! the file must not change, redb writes to this overlay, and reads back what it would read from
//! the file.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// The size of the blocks that are kept, in bytes.
const BLOCK: usize = 4096;

/// A file, and the writes that did not go to it.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Box<dyn StorageBackend>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    len: u64,
    /// The file's own bytes count up to here: to its end, or to where it was truncated.
    file_len: u64,
    /// Written blocks, by their numbers.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn over(file: Box<dyn StorageBackend>) -> io::Result<Self> {
        let len = file.len()?;
        let kept = Mutex::new(Kept {
            len,
            file_len: len,
            blocks: BTreeMap::new(),
        });
        Ok(Self { file, kept })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file's own bytes from `offset` on, with zeros behind its end.
    fn read_file(&self, kept: &Kept, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = kept.file_len.saturating_sub(offset).min(out.len() as u64);
        let (read, beyond) = out.split_at_mut(usize::try_from(there).unwrap_or_default());
        beyond.fill(0);
        if read.is_empty() {
            return Ok(());
        }
        self.file.read(offset, read)
    }
}

/// Splits a range of bytes into its blocks: returns each block's number, the offset in the block,
/// and the part of the range that lies in it.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let begin = usize::try_from(at % BLOCK as u64).unwrap_or_default();
        let range = done..len.min(done + BLOCK - begin);
        done = range.end;
        Some((at / BLOCK as u64, begin, range))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.kept().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let kept = self.kept();
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > kept.len) {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.read_file(&kept, offset, out)?;
        if kept.blocks.is_empty() {
            return Ok(());
        }
        for (number, begin, range) in parts(offset, out.len()) {
            if let Some(block) = kept.blocks.get(&number) {
                let len = range.len();
                out[range].copy_from_slice(&block[begin..begin + len]);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut kept = self.kept();
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > kept.len) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        for (number, begin, range) in parts(offset, data.len()) {
            if !kept.blocks.contains_key(&number) {
                let mut block = vec![0; BLOCK];
                self.read_file(&kept, number * BLOCK as u64, &mut block)?;
                kept.blocks.insert(number, block);
            }
            if let Some(block) = kept.blocks.get_mut(&number) {
                block[begin..begin + range.len()].copy_from_slice(&data[range]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut kept = self.kept();
        // Bytes that are cut off are zero when the file grows again.
        kept.file_len = kept.file_len.min(len);
        let (last, end) = (len / BLOCK as u64, len % BLOCK as u64);
        kept.blocks.split_off(&(last + 1));
        if let Some(block) = kept.blocks.get_mut(&last) {
            block[usize::try_from(end).unwrap_or_default()..].fill(0);
        }
        kept.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    // Locks do nothing: nobody else can access this memory, and the file does not change.

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spool::disk::Disk;

    #[derive(Clone, Debug)]
    enum Change {
        Write(usize, Vec<u8>),
        SetLen(usize),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            3 => (0..20_000_usize, proptest::collection::vec(any::<u8>(), 1..9_000))
                .prop_map(|(at, data)| Change::Write(at, data)),
            1 => (0..20_000_usize).prop_map(Change::SetLen),
        ];
        proptest::collection::vec(change, 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn overlay_reads_like_the_written_file_and_leaves_the_file_unchanged(
            held in proptest::collection::vec(any::<u8>(), 0..10_000),
            changes in changes(),
        ) {
            let file = Disk::holding(held.clone());
            let overlay = Overlay::over(Box::new(file.clone())).unwrap();
            let mut plain = held.clone();
            for change in changes {
                match change {
                    Change::Write(at, data) if at + data.len() > plain.len() => {
                        assert!(overlay.write(at as u64, &data).is_err());
                    }
                    Change::Write(at, data) => {
                        overlay.write(at as u64, &data).unwrap();
                        plain[at..at + data.len()].copy_from_slice(&data);
                    }
                    Change::SetLen(len) => {
                        overlay.set_len(len as u64).unwrap();
                        plain.resize(len, 0);
                    }
                }
                assert_eq!(overlay.len().unwrap(), plain.len() as u64);
                let mut read = vec![1; plain.len()];
                overlay.read(0, &mut read).unwrap();
                assert!(read == plain);
                let from = plain.len() / 3;
                let mut read = vec![1; plain.len() - from];
                overlay.read(from as u64, &mut read).unwrap();
                assert!(read == plain[from..]);
                assert!(overlay.read(1, &mut vec![0; plain.len()]).is_err());
            }
            assert!(file.bytes() == held);
        }
    }
}
