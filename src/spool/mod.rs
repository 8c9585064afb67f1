//! The durable local log: what reached it is in Postgres once, whatever happens in between.
//!
//! One `redb` database for each process, in a folder of its own ([`directory`]). Data and
//! positions change in one transaction, so they cannot disagree. Records are stored in chunks
//! of up to 64 KiB: a B-tree entry for each record cost about 4 µs each, one for a chunk costs
//! nothing that matters.
//!
//! Each sink has a position of its own here; a chunk stays until no sink needs it. A sink that is
//! not there needs nothing: its position is the greatest number. That of Postgres is a copy, for what Postgres itself says is what counts: it is there to notice a
//! database that has forgotten what it had committed.
//!
//! **Frozen, version 1.**
//!
//! ```text
//! table "meta": "version" → u32 | "writer" → UUID [16] | "service" → text
//! table "positions": name of a sink → seq of the next record that it needs u64
//! table "records": seq of the first record u64 → chunk
//! table "open": id of a run that has begun [16] → its frame
//! chunk            version u8 = 1 | zero [3] | checksum u32 | count u32 | salts [16] × count
//!                  then each record's frame behind its length u32
//! checksum         CRC-32 (as in gzip) of the seq that the chunk is stored under u64, and of all of
//!                  the chunk but the checksum
//! ```
//!
//! A later version that can still be opened with redb has another "version"; any other kind of file
//! has another name than `spool.redb`. Either is left alone.
//!
//! All numbers in a chunk are little-endian. `seq` counts from 1, without a gap.
//!
//! redb has a checksum for each page, and looks at them when a file is opened after a crash or, as
//! [`Log::open`] asks for, at any time; not when a page is read. A log may lie on the disk for a
//! day and be read by the process that wrote it: so chunks have a checksum of their own.

mod chunk;
pub(crate) mod directory;
#[cfg(test)]
mod disk;
mod log;
mod storage;
mod tail;

use std::io;
use std::path::{Path, PathBuf};

use self::directory::{Directory, DirectoryError};
pub(crate) use log::{Log, LogError, Positions, Runs, Sink, Stored};

/// A log in a folder that is held for it, as long as anybody uses the log.
#[derive(Debug)]
pub(crate) struct Spool {
    // Closed before the folder is let go.
    log: Log,
    directory: Directory,
}

impl Spool {
    /// Makes a folder for this process, with the log of a new writer in it.
    pub(crate) fn create(
        root: &Path,
        service: &str,
        positions: Positions,
    ) -> Result<Self, DirectoryError> {
        let (directory, log) = Directory::create(root, service, positions)?;
        Ok(Self { log, directory })
    }

    /// Takes over a folder whose process is dead. `None`: its process lives, or it is just being
    /// removed.
    pub(crate) fn take_over(path: &Path, root: &Path) -> Result<Option<Self>, DirectoryError> {
        let taken = Directory::take_over(path, root)?;
        Ok(taken.map(|(directory, log)| Self { log, directory }))
    }

    /// Gives a folder whose log is damaged another name, under which nobody takes it over: whole,
    /// for whoever may read more out of it.
    pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
        Directory::set_aside(path)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Removes the log and its folder.
    pub(crate) fn remove(self) -> io::Result<()> {
        drop(self.log);
        self.directory.remove()
    }
}

/// The folders in `root` that other processes made, by the time that they were made.
pub(crate) fn others(root: &Path, own: &Spool) -> Vec<PathBuf> {
    directory::all(root)
        .into_iter()
        .filter(|path| path != own.path())
        .collect()
}
