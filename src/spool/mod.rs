//! The durable local log: every record that reaches it is committed to Postgres once, whatever
//! happens in between.
//!
//! Each process has one `redb` database, in a folder of its own ([`directory`]). Data and positions
//! change in one transaction, so they cannot disagree. Records are stored in chunks of up to 64
//! KiB: a B-tree entry for each record cost about 4 µs each, an entry for a chunk costs nothing
//! that matters.
//!
//! Each sink has a position of its own here; a chunk stays until no sink needs it. A sink that is
//! not set up needs nothing: its position is the greatest number. The position of Postgres is a
//! copy, since the one that Postgres stores is authoritative: the copy serves to notice a database
//! that has forgotten what it had committed.
//!
//! **Frozen, version 1.**
//!
//! ```text
//! table "meta": "version" → u32 | "service" → text | "writer" → UUID [16] | "secret" → [32]
//!               "base" → u64, the seq before the writer's number 1
//!               "formers" → for each earlier writer: UUID [16] | base u64 | end u64, the seq after its last record
//!               "disagreements" → for each: writer UUID [16] | its first seq, last seq u64 | lost u64 | cause u8 |
//!               the seq before which the trail says it u64, 0: it does not
//! table "positions": name of a sink → seq of the next record that it needs u64
//! table "records": seq of the first record u64 → chunk
//! table "open": id of a run that has begun [16] → its frame
//! chunk            version u8 = 1 | after a gap u8: 1 yes, 0 no | zero [2] | checksum u32
//!                  count u32 | salts [16] × count | each record's frame behind its length u32
//! checksum         CRC-32 (as in gzip) of the seq that the chunk is stored under u64, and of all of
//!                  the chunk but the checksum
//! ```
//!
//! A later version that redb can still open has another "version"; any other kind of file has
//! another name than `spool.redb`. Both are left alone.
//!
//! All numbers in a chunk are little-endian. `seq` counts from 1, without a gap. The exception: if
//! a disk fails, Postgres can get records from memory that are never stored here. If the process
//! then dies, the next process appends its records after a gap.
//!
//! redb has a checksum for each page. It verifies them when it opens a file after a crash, or at
//! every open if asked to, as [`Log::open`] does; it does not verify them when it reads a page. A
//! log may lie on the disk for a day and be read by the process that wrote it, so chunks have a
//! checksum of their own.

mod chunk;
pub(crate) mod directory;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used)]
#[cfg_attr(fuzzing, allow(dead_code))]
mod disk;
mod door;
mod error;
mod files;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod identity;
mod log;
mod overlay;
mod positions;
mod read;
pub(crate) mod root;
mod storage;
mod tables;
mod tail;
mod writers;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use self::directory::Directory;
pub(crate) use self::directory::{DirectoryError, OWNED_AFTER};
use self::storage::Storage;
use crate::clock::Moment;
use crate::record::id;
pub(crate) use chunk::SALT_BYTES;
pub(crate) use door::{Admitted, Runs};
pub(crate) use error::LogError;
pub(crate) use identity::{Cause, Disagreement, Former, Identity};
pub(crate) use log::Log;
pub(crate) use positions::{Positions, Sink};
pub(crate) use read::Stored;
pub(crate) use writers::Held;

/// A log and its folder, which stays locked as long as the log is in use.
#[derive(Debug)]
pub(crate) struct Spool {
    // Dropped first, so that the log closes before the folder is unlocked.
    log: Log,
    root: PathBuf,
    path: PathBuf,
    /// The id that the folder is named for: the log's first writer.
    id: Uuid,
    /// Whether the folder and the log exist and are durable.
    is_made: AtomicBool,
    /// `None`: the folder could not be made yet.
    directory: Mutex<Option<Directory>>,
}

impl Spool {
    /// Makes a folder for this process, with the log of a new writer in it. A disk that refuses the
    /// write is no error: [`append`](Self::append) tries again. A wrong setting is one.
    pub(crate) fn create(
        root: &Path,
        service: &str,
        positions: Positions,
    ) -> Result<Self, LogError> {
        let writer = id::new(Moment::now().wall_us());
        let path = root.join(writer.to_string());
        let storage = Storage::file(path.join(directory::LOG_FILE));
        let spool = Self {
            log: Log::not_made(storage, Identity::new(writer, 0)?, service, positions),
            root: root.to_owned(),
            path,
            id: writer,
            is_made: AtomicBool::new(false),
            directory: Mutex::new(None),
        };
        match spool.make(|| positions) {
            Err(error) if !error.may_heal() => Err(error),
            _ => Ok(spool),
        }
    }

    /// Appends like [`Log::append`]; makes the folder and the log first if that failed before.
    pub(crate) fn append(
        &self,
        admitted: &Admitted,
        positions: impl Fn() -> Positions,
        runs: &Runs,
    ) -> Result<(), LogError> {
        if !self.is_made() {
            self.make(&positions)?;
        }
        self.log.store(admitted, positions, runs)
    }

    /// Makes the folder and the log.
    fn make(&self, positions: impl FnOnce() -> Positions) -> Result<(), LogError> {
        let mut held = self
            .directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let directory = match held.take() {
            Some(directory) => directory,
            None => Directory::make(&self.root, self.id)?,
        };
        let directory = held.insert(directory);
        self.log.set_positions(positions)?;
        // The log's directory entry must survive a power loss as the log does.
        directory.sync()?;
        // ORDERING: Relaxed; only the thread that appends reads it.
        self.is_made.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether the log exists on disk.
    pub(crate) fn is_made(&self) -> bool {
        self.is_made.load(Ordering::Relaxed)
    }

    /// Takes over the folder of a dead process. `None`: its process lives, or the folder is just
    /// being removed.
    pub(crate) fn take_over(path: &Path) -> Result<Option<Self>, DirectoryError> {
        let root = root_of(path);
        let taken = Directory::take_over(path, root)?;
        Ok(taken.map(|(directory, log)| Self {
            id: log.writer(),
            log,
            root: root.to_owned(),
            path: path.to_owned(),
            is_made: AtomicBool::new(true),
            directory: Mutex::new(Some(directory)),
        }))
    }

    /// Renames a folder whose log is damaged, so that no process takes it over. Its contents stay
    /// complete, for anyone who can read more out of it.
    pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
        Directory::set_aside(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the size of the log's file.
    pub(crate) fn stored_bytes(&self) -> u64 {
        std::fs::metadata(self.path.join(directory::LOG_FILE)).map_or(0, |file| file.len())
    }

    /// Removes the log and its folder.
    pub(crate) fn remove(self) -> io::Result<()> {
        // Closing it would sync it several times.
        self.log.storage.discard();
        drop(self.log);
        let held = self.directory.into_inner();
        held.unwrap_or_else(PoisonError::into_inner)
            .map_or(Ok(()), Directory::remove)
    }
}

/// Returns the folder that contains the folder of a log.
fn root_of(path: &Path) -> &Path {
    match path.parent() {
        Some(root) if root != Path::new("") => root,
        _ => Path::new("."),
    }
}

/// Returns whether a process has the folder of a log to itself at the moment, without a wait. Only
/// a living owner has it for longer than [`OWNED_AFTER`].
pub(crate) fn is_held(path: &Path) -> bool {
    directory::is_held(path, root_of(path))
}

/// Counts the orphaned logs beside that of `own`, and their bytes.
pub(crate) fn orphans(own: &Path) -> (u64, u64) {
    own.parent()
        .map_or((0, 0), |root| directory::orphans(root, own))
}

/// Returns the folders of other processes beside that of `own`, the oldest first. Removes old
/// folders that were never finished.
pub(crate) fn others(own: &Spool) -> Vec<PathBuf> {
    directory::sweep(&own.root);
    directory::all(&own.root)
        .into_iter()
        .filter(|path| path != own.path())
        .collect()
}
