//! A folder as the place of an archive.
//!
//! A file gets its name when its content is whole and synced, by a link: that fails where the name is taken, and a crash
//! leaves a file without a reader.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::Created;
use crate::error::Error;

/// What the names of files begin with that are being written.
const TEMPORARY: &str = ".new-";

/// How many folders an object is in at most: its kind, month, day and tenant.
const MOST_FOLDERS: usize = 4;

/// A folder. It need not be there before something is created.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn new(path: &str) -> Self {
        let root = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        Self {
            // The same folder has one name, wherever the program is started, and with or without a slash at its end.
            root: root.components().collect(),
        }
    }

    /// Fails where there is no such folder.
    pub(super) fn expect(&self) -> Result<(), Error> {
        fs::read_dir(&self.root)
            .map(drop)
            .map_err(reading(&self.root))
    }

    pub(super) fn name(&self) -> String {
        self.root.display().to_string()
    }

    pub(super) fn create(&self, name: &str, content: &[u8]) -> Result<Created, Error> {
        let path = self.root.join(name);
        let folder = path.parent().unwrap_or(&self.root);
        if path.try_exists().map_err(reading(&path))? {
            return Ok(Created::IsThere);
        }
        fs::create_dir_all(folder).map_err(writing(folder))?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| writing(folder)(error.into()))?;
        let temporary = folder.join(format!("{TEMPORARY}{}", HEXLOWER.encode(&random)));
        let linked = write(&temporary, content)
            .map_err(writing(&temporary))
            .and_then(|()| match fs::hard_link(&temporary, &path) {
                Ok(()) => Ok(Created::Yes),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Created::IsThere),
                Err(error) => Err(writing(&path)(error)),
            });
        // It may never have been there.
        let _ = fs::remove_file(&temporary);
        let linked = linked?;
        for above in folder.ancestors() {
            File::open(above)
                .and_then(|folder| folder.sync_all())
                .map_err(writing(above))?;
            if above == self.root {
                break;
            }
        }
        Ok(linked)
    }

    pub(super) fn get(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.root.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(reading(&path)(error)),
        };
        let mut content = Vec::new();
        file.take(most.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(reading(&path))?;
        if content.len() as u64 > most {
            let why = format!("it has more than the {most} bytes that it may have");
            return Err(reading(&path)(io::Error::other(why)));
        }
        Ok(Some(content))
    }

    pub(super) fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let path = self.root.join(name);
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(range.start))?;
            let length = range.end.saturating_sub(range.start);
            let mut content = Vec::new();
            file.take(length).read_to_end(&mut content)?;
            if content.len() as u64 == length {
                Ok(content)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };
        read().map_err(reading(&path))
    }

    /// Follows links: a month may have been moved to another disk. One that leads back ends where no object is.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        let mut found = Vec::new();
        let above = prefix.split_terminator('/').count();
        let mut folders = vec![(self.root.join(prefix), above)];
        while let Some((folder, above)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                // Of the folder itself that is to say that it is away; below it, nothing was archived.
                Err(error) if error.kind() == io::ErrorKind::NotFound && folder != self.root => {
                    continue;
                }
                Err(error) => return Err(reading(&folder)(error)),
            };
            for entry in entries {
                let path = entry.map_err(reading(&folder))?.path();
                let name = self.name_of(&path);
                // One that is being written may be gone by now; the other is in the root of each ext4 file system, for root alone.
                if is_temporary(&name) || name == "lost+found" {
                    continue;
                }
                // Fails of a link whose disk is away.
                let data = fs::metadata(&path).map_err(reading(&path))?;
                if !data.is_dir() {
                    found.push((name, data.len()));
                } else if above < MOST_FOLDERS {
                    folders.push((path, above + 1));
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Returns the name of what is below the folder. One that is not UTF-8 is none of an archive, and can be named still.
    fn name_of(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        below.to_string_lossy().into_owned()
    }
}

fn is_temporary(name: &str) -> bool {
    let file = name.rsplit('/').next();
    file.is_some_and(|file| file.starts_with(TEMPORARY))
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn reading(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::ReadFile {
        path: path.clone(),
        source,
    }
}

fn writing(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::WriteFile {
        path: path.clone(),
        source,
    }
}
