//! A disk in memory for tests: it tracks what is durable, fails on demand, and can lose power.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use redb::StorageBackend;

/// The number of bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One file on a disk; its clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// What a read returns.
    bytes: Vec<u8>,
    /// What survives a power loss.
    durable: Vec<u8>,
    /// The changes since the last sync, which may or may not be durable.
    unsynced: Vec<Change>,
    /// All operations so far, if they are recorded.
    history: Option<Vec<Step>>,
    /// The number of writes, resizes and syncs.
    operations: usize,
    fault: Option<Fault>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

/// An operation on a disk.
#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    Sync,
}

/// Which operations fail: `count` of them, from `from` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) from: usize,
    pub(super) count: usize,
    pub(super) how: How,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing is done.
    Refused,
    /// A write does half of its work. A sync fails, and what it should have made durable never
    /// becomes so, though it can be read: as on Linux after a failed write-back.
    Half,
    /// The operation is done, but reported as failed.
    Done,
}

impl How {
    pub(super) const ALL: [Self; 3] = [Self::Refused, Self::Half, Self::Done];
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => bytes[*at..at + data.len()].copy_from_slice(data),
            Self::SetLen(len) => bytes.resize(*len, 0),
        }
    }

    /// Applies the picked sectors of a write, as far as there is room.
    fn apply_sectors(&self, bytes: &mut [u8], mut is_picked: impl FnMut() -> bool) {
        let Self::Write(at, data) = self else {
            return;
        };
        let mut begin = *at;
        while begin < at + data.len() {
            let end = ((begin / SECTOR + 1) * SECTOR).min(at + data.len());
            if is_picked() && end <= bytes.len() {
                bytes[begin..end].copy_from_slice(&data[begin - at..end - at]);
            }
            begin = end;
        }
    }
}

/// Returns what a power loss may leave of `durable` and of changes that were not synced.
fn after_power_loss(durable: &[u8], unsynced: &[Change], seed: u64) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(seed);
    let lens = unsynced.iter().filter_map(|change| match change {
        Change::SetLen(len) => Some(*len),
        Change::Write(..) => None,
    });
    let lens: Vec<_> = [durable.len()].into_iter().chain(lens).collect();
    let mut bytes = durable.to_vec();
    bytes.resize(lens[random.random_range(0..lens.len())], 0);
    // None, all, most, half or few of the changes.
    let odds = [0.0, 1.0, 0.9, 0.5, 0.1][random.random_range(0..5)];
    let whole_changes = random.random_bool(0.5);
    for change in unsynced {
        let is_picked = random.random_bool(odds);
        change.apply_sectors(&mut bytes, || {
            if whole_changes {
                is_picked
            } else {
                random.random_bool(odds)
            }
        });
    }
    bytes
}

impl Disk {
    /// Returns a disk that holds these bytes, all of them durable.
    pub(super) fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            durable: bytes.clone(),
            bytes,
            ..Inner::default()
        })))
    }

    /// Returns an empty disk that records all operations.
    pub(super) fn remembering() -> Self {
        let disk = Self::default();
        disk.inner().history = Some(Vec::new());
        disk
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.inner().bytes.clone()
    }

    #[cfg(fuzzing)]
    pub(super) fn set_bytes(&self, bytes: Vec<u8>) {
        self.inner().bytes = bytes;
    }

    pub(super) fn operations(&self) -> usize {
        self.inner().operations
    }

    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        self.inner().fault = fault;
    }

    /// Returns whether tests should try everything, rather than a part that takes a few seconds.
    pub(super) fn is_thorough() -> bool {
        std::env::var_os("TRACING_AUDIT_EVERY_BYTE").is_some()
    }

    /// Returns the disk as a power loss now may leave it.
    pub(super) fn without_power(&self, seed: u64) -> Self {
        let inner = self.inner();
        Self::holding(after_power_loss(&inner.durable, &inner.unsynced, seed))
    }

    /// Returns what is read when only the first `operations` were done, as after the death of the
    /// process.
    pub(super) fn after(&self, operations: usize) -> Vec<u8> {
        let inner = self.inner();
        let mut bytes = Vec::new();
        for step in &inner.history.as_ref().unwrap()[..operations] {
            if let Step::Change(change) = step {
                change.apply(&mut bytes);
            }
        }
        bytes
    }

    /// Calls `each` with the number of operations so far and with what a power loss after them may
    /// leave, for every operation; `tries` possibilities each.
    pub(super) fn losses_of_power(&self, tries: u64, mut each: impl FnMut(usize, Vec<u8>)) {
        let history = self.inner().history.clone().unwrap();
        let (mut bytes, mut durable) = (Vec::new(), Vec::new());
        let mut unsynced = Vec::new();
        for (done, step) in (1..).zip(history) {
            match step {
                Step::Change(change) => {
                    change.apply(&mut bytes);
                    unsynced.push(change);
                }
                Step::Sync => {
                    durable.clone_from(&bytes);
                    unsynced.clear();
                }
            }
            for seed in 0..tries {
                let seed = seed + tries * done as u64;
                each(done, after_power_loss(&durable, &unsynced, seed));
            }
        }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut inner = self.inner();
        let fault = inner.next_operation(Step::Change(change.clone()));
        let (done, answer) = match (fault, change) {
            (None, change) => (Some(change), Ok(())),
            (Some(How::Done), change) => (Some(change), Err(full())),
            (Some(How::Half), Change::Write(at, mut data)) => {
                data.truncate(data.len() / 2);
                (Some(Change::Write(at, data)), Err(full()))
            }
            (Some(_), _) => (None, Err(full())),
        };
        if let Some(change) = done {
            change.apply(&mut inner.bytes);
            inner.unsynced.push(change);
        }
        answer
    }
}

impl Inner {
    /// Records an operation; returns how it should fail, if it should.
    fn next_operation(&mut self, step: Step) -> Option<How> {
        if let Some(history) = &mut self.history {
            history.push(step);
        }
        let number = self.operations;
        self.operations += 1;
        let fault = self.fault?;
        (fault.from..fault.from.saturating_add(fault.count))
            .contains(&number)
            .then_some(fault.how)
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.inner();
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let begin = usize::try_from(offset).map_err(|_| end())?;
        let read = begin
            .checked_add(out.len())
            .and_then(|to| inner.bytes.get(begin..to))
            .ok_or_else(end)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| full())?;
        self.change(Change::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner();
        match inner.next_operation(Step::Sync) {
            fault @ (None | Some(How::Done)) => {
                let mut durable = std::mem::take(&mut inner.durable);
                for change in inner.unsynced.drain(..) {
                    change.apply(&mut durable);
                }
                inner.durable = durable;
                fault.map_or(Ok(()), |_| Err(full()))
            }
            Some(How::Refused) => Err(full()),
            Some(How::Half) => {
                // A length is kept with the file system's own data.
                let lens: Vec<_> = inner
                    .unsynced
                    .drain(..)
                    .filter(|change| matches!(change, Change::SetLen(_)))
                    .collect();
                let mut durable = std::mem::take(&mut inner.durable);
                for change in lens {
                    change.apply(&mut durable);
                }
                inner.durable = durable;
                Err(full())
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(|_| full())?;
        if at + data.len() > self.inner().bytes.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        self.change(Change::Write(at, data.to_vec()))
    }
}
