//! A folder as an anchor: files as C2SP's tlog-tiles names them, and `checkpoint`.
//!
//! **Whoever reads a checkpoint finds all that it is of**: tiles and entries are synced, and the folders that name them,
//! before the checkpoint takes the place of the last one. A file gets its name when its content is whole and synced. So a
//! crash at any moment leaves the last checkpoint with all that belongs to it, and some files of the next.
//!
//! **No file is ever written again**: what is there already must be the same. A partial tile is removed once the full one
//! is published; a reader that looks for it finds the full one in its place, as the specification has it.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::seal::error::AnchorError;

/// The file that one process at a time has locked.
const LOCK: &str = ".lock";

/// The file in which content is written until it is whole.
const TEMPORARY: &str = ".new";

const CHECKPOINT: &str = "checkpoint";

/// How long to wait for another process that publishes.
const PATIENCE: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A file to be published: its path below the folder, and its content.
pub(in crate::seal) type Content = (String, Vec<u8>);

/// Reads the checkpoint that is there, without the lock.
pub(super) fn checkpoint(root: &Path) -> Result<Option<Vec<u8>>, AnchorError> {
    let path = root.join(CHECKPOINT);
    // In a folder that is away, nobody knows whether there is a checkpoint. One that will be made has none.
    if let Err(error) = fs::metadata(root) {
        return match root.parent() {
            Some(above) if fs::metadata(above).is_ok() => Ok(None),
            _ => Err(at(root)(error)),
        };
    }
    read(&path)
}

/// A folder that this process alone writes to.
#[derive(Debug)]
pub(in crate::seal) struct Folder {
    root: PathBuf,
    /// Held until this is dropped.
    _lock: File,
    /// Folders in which a name may not be durable yet.
    unsynced: BTreeSet<PathBuf>,
    /// Folders of partial tiles that have become full.
    outgrown: Vec<PathBuf>,
}

impl Folder {
    /// Locks the folder, which is made if the one above it is there.
    pub(super) fn open(root: &Path) -> Result<Self, AnchorError> {
        match fs::create_dir(root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(at(root)(error));
            }
            _ => {}
        }
        let path = root.join(LOCK);
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(at(&path))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() > until => {
                    return Err(AnchorError::Busy {
                        seconds: PATIENCE.as_secs(),
                    });
                }
                // It is never the thread of the runtime that waits here.
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_EVERY),
            }
        }
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
            unsynced: BTreeSet::new(),
            outgrown: Vec::new(),
        })
    }

    pub(super) fn checkpoint(&self) -> Result<Option<Vec<u8>>, AnchorError> {
        read(&self.root.join(CHECKPOINT))
    }

    /// Writes files that are not there yet.
    pub(super) fn put(&mut self, contents: &[Content]) -> Result<(), AnchorError> {
        for (name, content) in contents {
            let path = self.root.join(name);
            let folder = path.parent().unwrap_or(&self.root);
            match read(&path)? {
                Some(found) if found == *content => {}
                Some(_) => {
                    return Err(AnchorError::Differs {
                        path: path.display().to_string(),
                    });
                }
                None => {
                    self.make_folders(folder)?;
                    self.write_whole(&path, content)?;
                }
            }
            // Also of what is there: whoever wrote it may not have come to that.
            let above = folder.ancestors().take_while(|path| *path != self.root);
            self.unsynced.extend(above.map(Path::to_owned));
            if !name.contains(".p/") {
                let mut partial = path.into_os_string();
                partial.push(".p");
                self.outgrown.push(PathBuf::from(partial));
            }
        }
        Ok(())
    }

    /// Publishes a checkpoint: what was put before is durable when it is there.
    pub(super) fn publish(&mut self, note: &str) -> Result<(), AnchorError> {
        for folder in std::mem::take(&mut self.unsynced) {
            sync_folder(&folder)?;
        }
        sync_folder(&self.root)?;
        self.write_whole(&self.root.join(CHECKPOINT), note.as_bytes())?;
        sync_folder(&self.root)?;
        for folder in self.outgrown.drain(..) {
            // Most are not there. What stays takes room, and is right.
            let _ = fs::remove_dir_all(folder);
        }
        Ok(())
    }

    /// Makes the folders between the root and a file. Not the root itself: where that is gone, its disk was taken away, and what
    /// is made would be on another.
    fn make_folders(&self, folder: &Path) -> Result<(), AnchorError> {
        if folder.is_dir() {
            return Ok(());
        }
        let mut paths: Vec<_> = folder
            .ancestors()
            .take_while(|path| *path != self.root)
            .collect();
        while let Some(path) = paths.pop() {
            match fs::create_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(at(path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives a file its name when its content is durable.
    fn write_whole(&self, path: &Path, content: &[u8]) -> Result<(), AnchorError> {
        let temporary = self.root.join(TEMPORARY);
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(at(&temporary))?;
        fs::rename(&temporary, path).map_err(at(path))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, AnchorError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<(), AnchorError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(at(path))
}

/// Windows makes names durable by itself, and opens no folder for that.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), AnchorError> {
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> AnchorError {
    let path = path.to_owned();
    move |source| AnchorError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!(
            "tracing-audit-anchor-{name}-{}",
            std::process::id()
        ));
        let _ = fs::remove_dir_all(&root);
        root
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let root = folder("differs");
        let mut anchor = Folder::open(&root).unwrap();
        let tile = |content: &[u8]| [(String::from("tile/0/000.p/3"), content.to_vec())];
        anchor.put(&tile(b"one")).unwrap();
        anchor.put(&tile(b"one")).unwrap();
        let error = anchor.put(&tile(b"two")).unwrap_err();
        assert!(error.to_string().contains("tile/0/000.p/3"), "{error}");
        assert_eq!(fs::read(root.join("tile/0/000.p/3")).unwrap(), b"one");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn folder_that_is_taken_away_meanwhile_is_not_made_anew() {
        let root = folder("away");
        let mut anchor = Folder::open(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let tile = [(String::from("tile/0/000"), vec![1])];
        assert!(anchor.put(&tile).is_err());
        assert!(anchor.publish("note").is_err());
        assert!(!root.exists());
    }

    #[test]
    fn partial_tile_goes_when_the_full_one_is_published() {
        let root = folder("partial");
        let mut anchor = Folder::open(&root).unwrap();
        anchor
            .put(&[(String::from("tile/0/000.p/3"), vec![1])])
            .unwrap();
        anchor
            .put(&[(String::from("tile/0/000"), vec![2])])
            .unwrap();
        assert!(root.join("tile/0/000.p/3").exists());
        anchor.publish("note").unwrap();
        assert!(!root.join("tile/0/000.p").exists());
        assert_eq!(anchor.checkpoint().unwrap().unwrap(), b"note");
        assert_eq!(checkpoint(&root).unwrap().unwrap(), b"note");
        fs::remove_dir_all(&root).unwrap();
        assert!(checkpoint(&root).unwrap().is_none());
        assert!(checkpoint(&root.join("below")).is_err());
    }
}
