//! The bytes of a log, and a repair for those that a failed sync did not make durable.
//!
//! After a failed write, redb requires that the log is reopened, and reads back what it had
//! written: from the memory of the operating system. Linux drops pages that it could not write,
//! and the next `fsync` reports success. So everything written since the last successful sync is
//! written again before the log is opened.
//!
//! While the disk does not accept that, the log is opened for reading, and what redb writes then is
//! kept in memory ([`Overlay`]).

use std::fs::OpenOptions;
use std::io;
use std::ops::{Bound, Range};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, StorageBackend};

#[cfg(any(test, fuzzing))]
use super::disk::Disk;
use super::error::{LogError, guarded};
use super::overlay::Overlay;

/// The size of redb's cache: the sink reads again what was just written.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// The lengths of redb's header, which it writes first, and of the mark that the header is
/// complete, which it writes last.
const HEADER_BYTES: usize = 320;
const MAGIC_BYTES: usize = 9;

/// Bytes to read at a time.
const BLOCK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// A disk in memory that fails on demand.
    #[cfg(any(test, fuzzing))]
    Disk(Disk),
}

/// Access to the bytes of a log.
#[derive(Debug)]
pub(super) struct Storage {
    place: Place,
    unsynced: Unsynced,
    /// Whether the log is to be removed, and its file stays as it is until then.
    is_discarded: Arc<AtomicBool>,
}

/// The ranges written since the last successful sync.
#[derive(Clone, Debug, Default)]
struct Unsynced(Arc<Mutex<Vec<Range<u64>>>>);

impl Unsynced {
    fn ranges(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage {
    pub(super) fn file(path: PathBuf) -> Self {
        Self {
            place: Place::File(path),
            unsynced: Unsynced::default(),
            is_discarded: Arc::default(),
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn disk(disk: Disk) -> Self {
        Self {
            place: Place::Disk(disk),
            unsynced: Unsynced::default(),
            is_discarded: Arc::default(),
        }
    }

    /// Makes an empty log, in place of the remains of an earlier attempt.
    pub(super) fn create(&self) -> Result<Database, LogError> {
        let backend = self.backend(true)?;
        backend.set_len(0)?;
        self.unsynced.ranges().clear();
        Ok(builder().create_with_backend(backend)?)
    }

    /// Opens an existing log. Verifies the checksum of every page: redb trusts a file that was
    /// closed.
    pub(super) fn open(&self) -> Result<Database, LogError> {
        let backend = self.backend(false)?;
        if backend.len()? == 0 {
            // redb would start a new log.
            return Err(LogError::Damaged);
        }
        backend.write_again()?;
        guarded(|| {
            Ok(builder()
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)?)
        })
    }

    /// Opens an existing log for reading, and changes nothing. No process may have it open for
    /// writing.
    pub(super) fn open_to_read(&self) -> Result<Database, LogError> {
        let file = self.place(OpenOptions::new().read(true))?;
        if file.len()? == 0 {
            return Err(LogError::Damaged);
        }
        let overlay = Overlay::over(file)?;
        guarded(|| {
            Ok(builder()
                .set_check_integrity_on_open(true)
                .create_with_backend(overlay)?)
        })
    }

    /// Writes again what a failed sync did not make durable.
    pub(super) fn write_again(&self) -> Result<(), LogError> {
        if self.unsynced.ranges().is_empty() {
            return Ok(());
        }
        Ok(self.backend(false)?.write_again()?)
    }

    /// Returns whether the log's process completed redb's header or wrote anything behind it.
    pub(super) fn is_begun(&self) -> Result<bool, LogError> {
        let backend = self.place(OpenOptions::new().read(true))?;
        let mut left = backend.len()?;
        let mut block = vec![0; BLOCK_BYTES];
        let mut offset = 0;
        while left > 0 {
            let bytes = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
            let block = &mut block[..bytes];
            backend.read(offset, block)?;
            if offset == 0 && bytes > MAGIC_BYTES {
                block[MAGIC_BYTES..bytes.min(HEADER_BYTES)].fill(0);
            }
            if block.iter().any(|byte| *byte != 0) {
                return Ok(true);
            }
            offset += bytes as u64;
            left -= bytes as u64;
        }
        Ok(false)
    }

    fn place(&self, how: &OpenOptions) -> Result<Box<dyn StorageBackend>, LogError> {
        Ok(match &self.place {
            Place::File(path) => Box::new(FileBackend::new(how.open(path)?)?),
            #[cfg(any(test, fuzzing))]
            Place::Disk(disk) => Box::new(disk.clone()),
        })
    }

    fn backend(&self, create: bool) -> Result<Backend, LogError> {
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(create).truncate(false);
        let inner = self.place(&how)?;
        Ok(Backend {
            inner,
            unsynced: self.unsynced.clone(),
            is_discarded: Arc::clone(&self.is_discarded),
        })
    }

    /// Refuses all writes from now on. redb then leaves the file as a killed process does, which the
    /// next one could read.
    pub(super) fn discard(&self) {
        // ORDERING: Relaxed; the thread that closes the file has set it.
        self.is_discarded.store(true, Ordering::Relaxed);
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// A file that tracks what was written to it since the last successful sync.
#[derive(Debug)]
struct Backend {
    inner: Box<dyn StorageBackend>,
    unsynced: Unsynced,
    is_discarded: Arc<AtomicBool>,
}

impl Backend {
    fn check_kept(&self) -> io::Result<()> {
        // ORDERING: Relaxed; the thread that closes the file has set it.
        if self.is_discarded.load(Ordering::Relaxed) {
            return Err(io::Error::other("the log is to be removed"));
        }
        Ok(())
    }

    fn write_again(&self) -> io::Result<()> {
        let unsynced = self.unsynced.ranges().clone();
        if unsynced.is_empty() {
            return Ok(());
        }
        let len = self.inner.len()?;
        for range in unsynced {
            // A write beyond the end has failed, or redb undid it afterwards.
            let end = range.end.min(len);
            let bytes = usize::try_from(end.saturating_sub(range.start)).unwrap_or_default();
            let mut written = vec![0; bytes];
            self.inner.read(range.start, &mut written)?;
            self.inner.write(range.start, &written)?;
        }
        self.sync_data()
    }
}

type Locked<T> = Result<T, BackendError>;

impl StorageBackend for Backend {
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_kept()?;
        let range = offset..offset.saturating_add(data.len() as u64);
        self.unsynced.ranges().push(range);
        self.inner.write(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check_kept()?;
        // A write that arrives meanwhile may or may not be part of this sync.
        let written = self.unsynced.ranges().len();
        self.inner.sync_data()?;
        self.unsynced.ranges().drain(..written);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_kept()?;
        self.inner.set_len(len)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.inner.query_lock_range(start, end)
    }
}
