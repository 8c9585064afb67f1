//! One folder for each process, held by a lock; the folders of dead processes are taken over.
//!
//! ```text
//! <root>/<writer id>/lock         held as long as the process lives
//! <root>/<writer id>/spool.redb   the log
//! <root>/.<id>                    a folder that is being made, a file that is of no use soon
//! <root>/damaged-<writer id>      a folder that was set aside
//! ```

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

/// How long a folder that is only looked at is waited for.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// What a process leaves that is killed as it makes its folder is of no use to anybody when it is
/// as old as this: that takes milliseconds.
const LEFTOVER_AGE: Duration = Duration::from_hours(1);

/// The log's file in the folder of its process.
pub(crate) const LOG_FILE: &str = "spool.redb";

/// A log and the folder that is held for it.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    // Held until the process ends or this is dropped, whichever way.
    _lock: File,
}

/// Why a folder could not be had.
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
    /// Whether the log itself is damaged.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Log(error) if error.is_damage())
    }

    /// What the system said, where it said something.
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
        // Under another name until it is held, so that no other process takes it for a dead
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
        // The folder's own entry must survive a loss of power as the log does.
        files::sync_dir(root)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where the log is.
    pub(super) fn log_file(&self) -> PathBuf {
        self.path.join(LOG_FILE)
    }

    /// Makes the entries of its files durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        files::sync_dir(&self.path)
    }

    /// Takes over a folder whose process is dead. `None`: its process lives, or it is just being
    /// removed.
    pub(super) fn take_over(
        path: &Path,
        root: &Path,
    ) -> Result<Option<(Self, Log)>, DirectoryError> {
        // What is in it goes into the trail: where others may put folders, theirs is not ours.
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
            // Its process died before the log was there, or while the folder was removed.
            directory.remove()?;
            return Ok(None);
        }
        check_plain(&file)?;
        match Log::open(&file) {
            Ok(log) => Ok(Some((directory, log))),
            // Somebody has removed the file that its process has locked.
            Err(error) if error.is_in_use() => Ok(None),
            // Its process died as it made the log.
            Err(LogError::NotBegun) => {
                directory.remove()?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The file that is locked. A folder that was copied may have come without it, since it is empty: it gets
    /// a new one. `None`: there is nothing in the folder, which is gone now.
    fn open_lock(path: &Path) -> Result<Option<File>, DirectoryError> {
        let file = path.join("lock");
        match open_plain(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            lock => return Ok(Some(lock?)),
        }
        if !has_log(path)? {
            // Its process is just removing it, or died as it did: then it is empty.
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

    /// Gives a folder whose log is damaged another name, under which nobody takes it over.
    pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!("damaged-{name}"));
        files::rename(path, &aside)?;
        Ok(aside)
    }

    /// Removes the folder; its log is closed and has nothing left that is not committed.
    pub(crate) fn remove(self) -> io::Result<()> {
        // The lock goes last: who finds it free finds no log.
        for name in [LOG_FILE, "lock"] {
            match files::remove_file(&self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match files::remove_dir(&self.path) {
            // Its process removed it while the lock was waited for.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// Takes the lock of a folder. `false`: a process owns the folder. Those that only look at it hold a
/// shared lock, for microseconds or as long as it takes to read a log: they are waited for, since a
/// folder that is passed by stays until the next process starts.
fn lock_unless_owned(lock: &File, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match lock.try_lock_shared() {
            Ok(()) => lock.unlock()?,
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether there is a log in a folder, or anything with its name.
fn has_log(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path.join(LOG_FILE)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens what a process locks that has this log: the log itself where the file for it is missing.
pub(crate) fn open_lock_to_look(path: &Path) -> io::Result<File> {
    match open_plain(&path.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => open_plain(&path.join(LOG_FILE)),
        lock => lock,
    }
}

fn holds_only_its_lock(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        if entry?.file_name() != "lock" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The folders of all processes in `root`, by the time that they were made.
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

/// Counts the logs that no process has, and their bytes; no log is opened.
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

/// Removes what processes have left that were killed as they made their folder.
pub(super) fn sweep(root: &Path) {
    sweep_older_than(root, LEFTOVER_AGE);
}

fn sweep_older_than(root: &Path, age: Duration) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix('.'));
        if id.is_some_and(|id| Uuid::try_parse(id).is_ok()) {
            // What cannot be removed now can be another time.
            let _ = sweep_one(&entry.path(), root, age);
        }
    }
}

fn sweep_one(path: &Path, root: &Path, age: Duration) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() && !is_ours(path, root)? {
        return Ok(());
    }
    // An error: it was changed after now.
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

/// Whether a folder is one, of our user, that nobody but its group can write: what is in it is our own then. A link
/// is none.
#[cfg(unix)]
fn is_ours(path: &Path, root: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let us = root::our_uid(root)?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_dir() && found.uid() == us && found.mode() & 0o002 == 0),
        // Just removed by its process.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_ours(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Opens a file that a process made. A pipe would hold up who opens it, and a link leads elsewhere.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    check_plain(path)?;
    File::open(path)
}

/// Whether this is a file with this name alone, and nothing else.
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
mod tests {
    use super::super::chunk::tests::chunk;
    use super::super::log::Runs;
    use super::super::log::tests::set_version;
    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("tracing-audit-root-{}", id::new(0).simple())))
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn adopt(root: &Root) -> Vec<(Directory, Log)> {
        all(&root.0)
            .iter()
            .filter_map(|path| Directory::take_over(path, &root.0).unwrap())
            .collect()
    }

    #[test]
    fn a_folder_that_is_held_is_left_alone_and_a_dead_one_is_taken_over_once() {
        let root = Root::new();
        let held = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
        let dead = Directory::create(&root.0, "b", Positions::BEGINNING).unwrap();
        let writer = dead.1.writer();
        drop(dead);
        let adopted = adopt(&root);
        assert_eq!(
            adopted
                .iter()
                .map(|(_, log)| log.writer())
                .collect::<Vec<_>>(),
            [writer]
        );
        assert_eq!(adopt(&root).len(), 0);
        drop(held);
    }

    #[test]
    fn a_folder_that_is_looked_at_is_taken_over_all_the_same() {
        let root = Root::new();
        drop(Directory::create(&root.0, "a", Positions::BEGINNING).unwrap());
        let path = all(&root.0).remove(0);
        let reader = open_lock_to_look(&path).unwrap();
        reader.lock_shared().unwrap();
        let lock = open_plain(&path.join("lock")).unwrap();
        assert!(
            !lock_unless_owned(&lock, Duration::ZERO).unwrap(),
            "it is looked at for too long"
        );
        let taken = std::thread::scope(|scope| {
            let taking = scope.spawn(|| Directory::take_over(&path, &root.0).unwrap());
            // One after the other looks at it, and none of them for long.
            for _ in 0..20 {
                let next = open_lock_to_look(&path).unwrap();
                let _ = next.try_lock_shared();
                std::thread::yield_now();
            }
            drop(reader);
            taking.join().unwrap()
        });
        assert!(taken.is_some());
        assert_eq!(orphans(&root.0, Path::new("")).0, 0, "it is owned");
    }

    #[test]
    fn a_folder_without_a_log_is_cleared_away() {
        let root = Root::new();
        let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
        drop(log);
        fs::remove_file(directory.path.join("spool.redb")).unwrap();
        drop(directory);
        // As after a process that died while it removed its folder.
        fs::create_dir(root.0.join(id::new(0).to_string())).unwrap();
        assert_eq!(adopt(&root).len(), 0);
        assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
    }

    #[test]
    fn a_log_that_was_copied_without_its_lock_is_counted_and_taken_over_once() {
        let root = Root::new();
        let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
        let path = directory.path.clone();
        fs::remove_file(path.join("lock")).unwrap();
        assert_eq!(orphans(&root.0, Path::new("")).0, 0, "its process has it");
        assert!(
            Directory::take_over(&path, &root.0).unwrap().is_none(),
            "its process has it, without the file"
        );
        fs::remove_file(path.join("lock")).unwrap();
        drop((directory, log));
        assert_eq!(orphans(&root.0, Path::new("")).0, 1);
        let taken = adopt(&root);
        assert_eq!(taken.len(), 1);
        assert_eq!(adopt(&root).len(), 0, "it is held");
    }

    #[test]
    fn a_folder_without_a_lock_that_holds_something_else_is_refused_and_left() {
        let root = Root::new();
        let path = root.0.join(id::new(0).to_string());
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("spool.v2"), "of a later version").unwrap();
        let refused = Directory::take_over(&path, &root.0).unwrap_err();
        assert!(matches!(refused, DirectoryError::NotKnown), "{refused:?}");
        assert!(path.join("spool.v2").exists());
    }

    #[test]
    fn a_damaged_log_is_told_and_left_where_it_is() {
        let root = Root::new();
        let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
        drop(log);
        let file = directory.path.join("spool.redb");
        fs::write(&file, b"this is no log").unwrap();
        drop(directory);
        let path = &all(&root.0)[0];
        let refused = Directory::take_over(path, &root.0);
        assert!(
            matches!(refused, Err(DirectoryError::Log(_))),
            "{refused:?}"
        );
        assert_eq!(fs::read(&file).unwrap(), b"this is no log");
    }

    /// The next process, long after: what is left in the root.
    fn left_for_ever(root: &Root) -> Vec<String> {
        for (directory, log) in adopt(root) {
            assert_eq!(log.next_seq(), 1);
            drop(log);
            directory.remove().unwrap();
        }
        sweep_older_than(&root.0, Duration::ZERO);
        fs::read_dir(&root.0)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Does this as a process that is killed after each operation, in turn; `next` is what the next
    /// process does. Returns after how many it is done.
    fn kill_at_each<T>(mut run: impl FnMut(&Root) -> T, mut next: impl FnMut(&Root)) -> usize {
        (0..1_000)
            .find(|operations| {
                let root = Root::new();
                let done = files::tests::killed_after(*operations, || run(&root)).is_some();
                next(&root);
                done
            })
            .unwrap()
    }

    #[test]
    fn a_process_killed_as_it_makes_its_folder_leaves_nothing_for_ever() {
        let operations = kill_at_each(
            |root| drop(Directory::create(&root.0, "a", Positions::BEGINNING).unwrap()),
            |root| assert_eq!(left_for_ever(root), [""; 0]),
        );
        assert!(operations >= 6, "{operations}");
    }

    #[test]
    fn a_process_killed_as_it_removes_or_takes_over_a_folder_leaves_nothing_for_ever() {
        let operations = kill_at_each(
            |root| {
                drop(Directory::create(&root.0, "a", Positions::BEGINNING).unwrap());
                for (directory, log) in adopt(root) {
                    drop(log);
                    directory.remove().unwrap();
                }
            },
            |root| assert_eq!(left_for_ever(root), [""; 0]),
        );
        assert!(operations >= 11, "{operations}");
    }

    #[test]
    fn a_process_killed_as_it_sets_a_folder_aside_loses_nothing_of_it() {
        let operations = kill_at_each(
            |root| {
                let (directory, log) =
                    Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
                drop(log);
                let path = directory.path.clone();
                drop(directory);
                fs::write(path.join("spool.redb"), b"this is no log").unwrap();
                Directory::set_aside(&path).unwrap();
            },
            |root| {
                let folders = fs::read_dir(&root.0).into_iter().flatten().flatten();
                for folder in folders {
                    let log = folder.path().join("spool.redb");
                    let bytes = fs::read(log).unwrap_or_default();
                    let is_damaged = bytes.starts_with(b"this");
                    let name = folder.file_name().into_string().unwrap();
                    assert!(is_damaged || !name.starts_with("damaged"), "{name}");
                }
            },
        );
        assert!(operations >= 7, "{operations}");
    }

    #[test]
    fn what_may_still_be_made_or_is_not_known_is_not_swept() {
        let root = Root::new();
        fs::create_dir(&root.0).unwrap();
        let new = |name: &str| {
            let path = root.0.join(name);
            fs::create_dir(&path).unwrap();
            File::create_new(path.join("lock")).unwrap()
        };
        let young = format!(".{}", id::new(0));
        drop(new(&young));
        File::create_new(root.0.join(format!(".{}", id::new(1)))).unwrap();
        sweep(&root.0);
        assert_eq!(fs::read_dir(&root.0).unwrap().count(), 2);
        sweep_older_than(&root.0, Duration::ZERO);
        assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
        // Its process lives.
        let held = new(&young);
        held.lock().unwrap();
        // These are no business of ours.
        drop(new(".config"));
        drop(new(&format!("damaged-{}", id::new(0))));
        let full = root.0.join(format!(".{}", id::new(2)));
        fs::create_dir(&full).unwrap();
        fs::write(full.join("precious"), b"x").unwrap();
        sweep_older_than(&root.0, Duration::ZERO);
        assert_eq!(fs::read_dir(&root.0).unwrap().count(), 4);
        assert!(root.0.join(&young).join("lock").exists());
        assert!(full.join("precious").exists());
    }

    /// What is in the folder of a dead process.
    fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
        let mut contents: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect();
        contents.sort();
        contents
    }

    #[test]
    fn a_log_of_a_newer_version_is_refused_and_left_whole() {
        let root = Root::new();
        let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
        let frames: [&[u8]; 2] = [b"a", b"b"];
        log.append(&[chunk(&frames)], Positions::BEGINNING, &Runs::default())
            .unwrap();
        drop(log);
        let path = directory.path.clone();
        let file = path.join("spool.redb");
        set_version(&file, 2);
        drop(directory);
        for _ in 0..2 {
            let refused = Directory::take_over(&path, &root.0).unwrap_err();
            assert!(
                matches!(refused, DirectoryError::Log(LogError::Version(2))),
                "{refused:?}"
            );
            assert!(!refused.is_damage());
        }
        // Nothing is lost for who can read it.
        set_version(&file, 1);
        let (_, log) = Directory::take_over(&path, &root.0).unwrap().unwrap();
        assert_eq!((log.first_seq(), log.next_seq()), (1, 3));
    }

    #[test]
    fn a_folder_with_another_kind_of_log_is_refused_and_left_whole() {
        let root = Root::new();
        let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
        drop(log);
        let path = directory.path.clone();
        fs::rename(path.join("spool.redb"), path.join("spool.v2")).unwrap();
        drop(directory);
        let before = contents(&path);
        let refused = Directory::take_over(&path, &root.0).unwrap_err();
        assert!(matches!(refused, DirectoryError::NotKnown), "{refused:?}");
        assert!(!refused.is_damage());
        assert_eq!(contents(&path), before);
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_is_for_its_owner_alone_and_that_of_another_user_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let root = Root::new();
        let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
        drop(log);
        for path in [&root.0, &directory.path] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o700
            );
        }
        let path = directory.path.clone();
        drop(directory);
        // Only root can give a folder away; for others the kernel keeps this from happening.
        if chown(&path, Some(65_534), None).is_ok() {
            let refused = Directory::take_over(&path, &root.0);
            assert!(matches!(refused, Err(DirectoryError::Owner)), "{refused:?}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_link_a_pipe_or_an_open_folder_in_the_place_of_a_log_is_refused_and_holds_nobody_up() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let pipe = |path: &Path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        };
        let root = Root::new();
        let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
        let path = directory.path.clone();
        drop((log, directory));
        for name in ["lock", LOG_FILE] {
            let (file, kept) = (path.join(name), path.join("kept"));
            fs::rename(&file, &kept).unwrap();
            for plant in [&pipe as &dyn Fn(&Path), &|file: &Path| {
                symlink(&kept, file).unwrap();
            }] {
                plant(&file);
                let refused = Directory::take_over(&path, &root.0);
                assert!(matches!(refused, Err(DirectoryError::Io(_))), "{refused:?}");
                fs::remove_file(&file).unwrap();
            }
            fs::hard_link(&kept, &file).unwrap();
            let refused = Directory::take_over(&path, &root.0);
            assert!(matches!(refused, Err(DirectoryError::Io(_))), "{refused:?}");
            fs::remove_file(&file).unwrap();
            fs::rename(&kept, &file).unwrap();
        }
        let link = root.0.join(id::new(0).to_string());
        symlink(&path, &link).unwrap();
        let refused = Directory::take_over(&link, &root.0);
        assert!(matches!(refused, Err(DirectoryError::Owner)), "{refused:?}");
        fs::remove_file(&link).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Directory::take_over(&path, &root.0);
        assert!(matches!(refused, Err(DirectoryError::Owner)), "{refused:?}");
        // As Kubernetes leaves it, which gives a volume to a group.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2770)).unwrap();
        assert!(Directory::take_over(&path, &root.0).unwrap().is_some());
        // A folder that was being made.
        let making = root.0.join(format!(".{}", id::new(1)));
        fs::create_dir(&making).unwrap();
        pipe(&making.join("lock"));
        sweep_older_than(&root.0, Duration::ZERO);
        assert!(making.exists());
    }

    #[test]
    fn removing_leaves_nothing() {
        let root = Root::new();
        let (directory, log) = Directory::create(&root.0, "a", Positions::BEGINNING).unwrap();
        drop(log);
        directory.remove().unwrap();
        assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
    }
}
