//! What a witness knows, on disk: of each log one file with the size and the root of the tree that it has cosigned last, and
//! nothing else.
//!
//! **A file is replaced whole, and durable before anything is answered**: it is written under another name and synced,
//! takes the place of the last one, and the folder is synced. After a crash at any moment it is the last one or the new one;
//! the new one is consistent with the last, and whoever was not answered asks again.
//!
//! **The folder is locked**: two witnesses with one key that know different things would cosign different things.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing_audit::__program::ledger::cosigner::{decode_state, encode_state, state_file};
use tracing_audit::__program::ledger::paths::Head;

/// The file that one process at a time has locked.
const LOCK: &str = ".lock";

/// More than any state has.
const MOST_BYTES: u64 = 4096;

/// A folder that this process alone writes to.
#[derive(Debug)]
pub(super) struct State {
    folder: PathBuf,
    /// Held until this is dropped.
    _lock: File,
}

impl State {
    /// Locks the folder, which is made if the one above it is there.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut options = File::options();
        let lock = options.create(true).append(true).open(folder.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                folder: folder.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => Err(io::Error::other("another witness is using it")),
        }
    }

    /// Reads what is known of a log; `None` if nothing was ever cosigned.
    pub(super) fn read(&self, origin: &str) -> io::Result<Option<Head>> {
        let path = self.folder.join(state_file(origin));
        let named = |error: &dyn std::fmt::Display| {
            io::Error::other(format!(
                "{}, about {origin}: {error}. Without it this witness would cosign a log that contradicts what it has cosigned. \
                 Make a new key for it, with a new folder",
                path.display()
            ))
        };
        let about = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(&error)),
            Ok(about) => about,
        };
        if about.len() > MOST_BYTES {
            return Err(named(&"it is damaged"));
        }
        let bytes = fs::read(&path).map_err(|error| named(&error))?;
        let known = decode_state(&bytes, origin).map_err(|error| named(&error))?;
        Ok(Some(known))
    }

    /// Keeps what is known of a log. It is durable when this returns.
    pub(super) fn write(&self, origin: &str, known: Head) -> io::Result<()> {
        let path = self.folder.join(state_file(origin));
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(encode_state(origin, known).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_folder(&self.folder)
    }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Windows makes names durable by itself, and opens no folder for that.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
