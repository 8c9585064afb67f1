//! The folders of the logs: each process locks its own, and takes over those of dead processes.
//!
//! ```text
//! <root>/<writer id>/lock         held as long as the process lives
//! <root>/<writer id>/spool.redb   the log
//! <root>/.<id>                    a folder that is being made, a file that is of no use soon
//! <root>/damaged-<writer id>      a folder that was set aside
//! ```
//!
//! **A process is a writer.** Each start makes a folder, a log and a writer id of its own, and
//! drains the orphaned logs of dead processes under their ids. So `seq` has no gap for any writer,
//! and a process that was wrongly thought dead cannot commit a batch twice.
//!
//! The folder's lock is held as long as its log is open. Orphaned logs are drained one at a time,
//! in turn with this process' own, so that a crash loop costs neither file descriptors nor latency.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::error::LogError;
use super::log::Log;
#[cfg(test)]
use super::positions::Positions;
use super::{files, root};
#[cfg(test)]
use crate::clock::Moment;
#[cfg(test)]
use crate::record::id;

/// How long to wait for a folder that another process only reads.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// How long a lock must be held to count as its owner's. A child that this or another process just
/// forked holds each lock of its parent until it runs another program.
pub(crate) const OWNED_AFTER: Duration = Duration::from_millis(10);

/// The age from which an unfinished folder counts as the leftover of a killed process: making one
/// takes milliseconds.
const LEFTOVER_AGE: Duration = Duration::from_hours(1);

/// The name of the log's file in the folder of its process.
pub(crate) const LOG_FILE: &str = "spool.redb";

/// A folder whose lock is held.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    // Held until this is dropped or the process ends, however it ends.
    _lock: File,
}

/// Why a folder could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the folder belongs to another user, can be written by everybody, or is a link")]
    Owner,
    /// A later version may have other files.
    #[error("the folder holds no log that this program knows")]
    NotKnown,
}

impl DirectoryError {
    /// Returns whether the log itself is damaged.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Log(error) if error.is_damage())
    }

    /// Returns the system's error, if there is one.
    pub(crate) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io(error) => Some(error),
            Self::Log(error) => error.io(),
            Self::Owner | Self::NotKnown => None,
        }
    }
}

impl Directory {
    /// Makes a folder for this process, with the log of a new writer in it.
    #[cfg(test)]
    pub(crate) fn create(
        root: &Path,
        service: &str,
        positions: Positions,
    ) -> Result<(Self, Log), DirectoryError> {
        let writer = id::new(Moment::now().wall_us());
        let directory = Self::make(root, writer)?;
        let log = Log::create(&directory.log_file(), writer, service, positions)?;
        directory.sync()?;
        Ok((directory, log))
    }

    /// Makes a folder for this process, without a log.
    pub(super) fn make(root: &Path, writer: Uuid) -> io::Result<Self> {
        files::create_private_dir(root)?;
        // It has another name until it is locked, so that no other process takes it for a dead
        // one's.
        let making = root.join(format!(".{writer}"));
        let path = root.join(writer.to_string());
        let made = Self::make_as(&making, path.clone(), root);
        if made.is_err() {
            // Another attempt may follow.
            let _ = fs::remove_dir_all(making);
            let _ = fs::remove_dir_all(path);
        }
        made
    }

    fn make_as(making: &Path, path: PathBuf, root: &Path) -> io::Result<Self> {
        files::create_one_private_dir(making)?;
        let lock = files::create_new(&making.join("lock"))?;
        lock.try_lock().map_err(io::Error::from)?;
        files::rename(making, &path)?;
        // The folder's directory entry must survive a power loss as the log does.
        files::sync_dir(root)?;
        Ok(Self { path, _lock: lock })
    }

    /// Returns the path of the log.
    pub(super) fn log_file(&self) -> PathBuf {
        self.path.join(LOG_FILE)
    }

    /// Makes the directory entries of its files durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        files::sync_dir(&self.path)
    }

    /// Takes over the folder of a dead process. `None`: its process lives, or the folder is just
    /// being removed.
    pub(super) fn take_over(
        path: &Path,
        root: &Path,
    ) -> Result<Option<(Self, Log)>, DirectoryError> {
        // Its records go into the trail. Where other users can make folders, theirs are not taken
        // over.
        if !is_ours(path, root)? {
            return Err(DirectoryError::Owner);
        }
        let Some(lock) = Self::open_lock(path)? else {
            return Ok(None);
        };
        if !lock_unless_owned(&lock, LOOK_PATIENCE)? {
            return Ok(None);
        }
        let directory = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        let file = directory.log_file();
        if !file.try_exists()? {
            if !holds_only_its_lock(path)? {
                return Err(DirectoryError::NotKnown);
            }
            // The process died before the log existed, or while it removed the folder.
            directory.remove()?;
            return Ok(None);
        }
        check_plain(&file)?;
        match Log::open(&file) {
            Ok(log) => Ok(Some((directory, log))),
            // The lock file was removed, but a process still has the log open.
            Err(error) if error.is_in_use() => Ok(None),
            // The process died while it made the log.
            Err(LogError::NotBegun) => {
                directory.remove()?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the lock file. A copied folder may lack it, since it is empty: the folder gets a new
    /// one. `None`: the folder was empty and is gone now.
    fn open_lock(path: &Path) -> Result<Option<File>, DirectoryError> {
        let file = path.join("lock");
        match open_plain(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            lock => return Ok(Some(lock?)),
        }
        if !has_log(path)? {
            // The process is just removing the folder, or died while it did: then the folder is
            // empty.
            return match files::remove_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    Err(DirectoryError::NotKnown)
                }
                _ => Ok(None),
            };
        }
        match files::create_new(&file) {
            // Another process has just made it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(Some(open_plain(&file)?))
            }
            lock => Ok(Some(lock?)),
        }
    }

    /// Renames a folder whose log is damaged, so that no process takes it over.
    pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!("damaged-{name}"));
        files::rename(path, &aside)?;
        Ok(aside)
    }

    /// Removes the folder. Its log must be closed and hold only committed records.
    pub(crate) fn remove(self) -> io::Result<()> {
        // The lock goes last: a process that gets it finds no log.
        for name in [LOG_FILE, "lock"] {
            match files::remove_file(&self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match files::remove_dir(&self.path) {
            // Its process removed the folder while this one waited for the lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// Takes the lock of a folder. `false`: a process owns the folder. Readers hold a shared lock, for
/// microseconds or as long as it takes to read a log; this waits for them, since a folder that is
/// skipped stays until the next process starts.
fn lock_unless_owned(lock: &File, patience: Duration) -> io::Result<bool> {
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let patience = match lock.try_lock_shared() {
            Ok(()) => {
                lock.unlock()?;
                patience
            }
            Err(TryLockError::WouldBlock) => patience.min(OWNED_AFTER),
            Err(TryLockError::Error(error)) => return Err(error),
        };
        if began.elapsed() >= patience {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns whether a folder contains a log, or anything with its name.
fn has_log(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path.join(LOG_FILE)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens the file that a log's owner has locked, to probe the lock: the log itself if the lock file
/// is missing.
pub(crate) fn open_lock_to_look(path: &Path) -> io::Result<File> {
    match open_plain(&path.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => open_plain(&path.join(LOG_FILE)),
        lock => lock,
    }
}

fn holds_only_its_lock(path: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(path) {
        // Its process has removed it while this one waited for the lock.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries?,
    };
    for entry in entries {
        if entry?.file_name() != "lock" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the folders of all processes in `root`, the oldest first.
pub(super) fn all(root: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.to_owned()))
        .filter(|name| Uuid::try_parse(name).is_ok())
        .collect();
    names.sort();
    names.into_iter().map(|name| root.join(name)).collect()
}

/// Returns whether a process has the folder's lock to itself at the moment, as its owner has. What
/// cannot be told is `false`: taking the folder over tells why.
pub(super) fn is_held(path: &Path, root: &Path) -> bool {
    matches!(is_ours(path, root), Ok(true))
        && open_lock_to_look(path)
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Counts the orphaned logs and their bytes, without opening a log.
pub(super) fn orphans(root: &Path, own: &Path) -> (u64, u64) {
    let bytes_of = |path: PathBuf| {
        if path == own || !is_ours(&path, root).ok()? {
            return None;
        }
        open_lock_to_look(&path).ok()?.try_lock_shared().ok()?;
        Some(fs::metadata(path.join(LOG_FILE)).ok()?.len())
    };
    all(root)
        .into_iter()
        .filter_map(bytes_of)
        .fold((0, 0), |(logs, sum), bytes| (logs + 1, sum + bytes))
}

/// Removes the leftovers of processes that were killed while they made their folder.
pub(super) fn sweep(root: &Path) {
    sweep_older_than(root, LEFTOVER_AGE);
}

fn sweep_older_than(root: &Path, age: Duration) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix('.'));
        if id.is_some_and(|id| Uuid::try_parse(id).is_ok()) {
            // A leftover that cannot be removed now is removed another time.
            let _ = sweep_one(&entry.path(), root, age);
        }
    }
}

fn sweep_one(path: &Path, root: &Path, age: Duration) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() && !is_ours(path, root)? {
        return Ok(());
    }
    // An error means that the modification time is in the future.
    if metadata
        .modified()?
        .elapsed()
        .is_ok_and(|since| since >= age)
    {
        if !metadata.is_dir() {
            return files::remove_file(path);
        }
        let file = path.join("lock");
        match open_plain(&file) {
            Ok(lock) => {
                lock.try_lock().map_err(io::Error::from)?;
                files::remove_file(&file)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        files::remove_dir(path)?;
    }
    Ok(())
}

/// Returns whether `path` is a folder, not a link, of our user that only the user and its group can
/// write: then its contents are ours.
#[cfg(unix)]
fn is_ours(path: &Path, root: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let us = root::our_uid(root)?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_dir() && found.uid() == us && found.mode() & 0o002 == 0),
        // Its process has just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_ours(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Opens a file that a process made. Refuses a pipe, which would block the open, and a link, which
/// leads elsewhere.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    check_plain(path)?;
    File::open(path)
}

/// Checks that the path is a regular file with no other name.
pub(crate) fn check_plain(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    #[cfg(unix)]
    let is_alone = std::os::unix::fs::MetadataExt::nlink(&found) == 1;
    #[cfg(not(unix))]
    let is_alone = true;
    if found.is_file() && is_alone {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "a link, a pipe or another thing that is no plain file is in the folder",
    ))
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
