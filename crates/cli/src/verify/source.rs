//! Where the log is published, for those who read it.

#[cfg(feature = "s3")]
mod bucket;

use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "s3")]
use self::bucket::Reader;
use crate::error::Error;
use crate::lacking;

/// The name of the checkpoint beside the tiles.
const CHECKPOINT: &str = "checkpoint";

/// A folder or a bucket of tiles.
pub(super) enum Source {
    Folder(PathBuf),
    #[cfg(feature = "s3")]
    Bucket(Box<Reader>),
}

impl Source {
    /// Returns the folder or bucket that is named; `None`: it is a file.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, Error> {
        if let Some(text) = path.to_str() {
            lacking::bucket(text)?;
            #[cfg(feature = "s3")]
            if let Some(reader) = Reader::of(text)? {
                return Ok(Some(Self::Bucket(Box::new(reader))));
            }
        }
        Ok(path.is_dir().then(|| Self::Folder(path.to_owned())))
    }

    /// Whether partial tiles stay when there are fuller ones.
    pub(super) fn keeps_all(&self) -> bool {
        !matches!(self, Self::Folder(_))
    }

    /// Reads a tile, a bundle or the checkpoint; `None` if it is not there.
    pub(super) fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                match std::fs::read(&path) {
                    Ok(content) => Ok(Some(content)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(Error::ReadFile { path, source }),
                }
            }
            #[cfg(feature = "s3")]
            Self::Bucket(reader) => reader.get(name),
        }
    }

    /// Reads the checkpoint.
    pub(super) fn checkpoint(&self) -> Result<Vec<u8>, Error> {
        if let Some(note) = self.get(CHECKPOINT)? {
            return Ok(note);
        }
        Err(match self {
            Self::Folder(folder) => Error::ReadFile {
                path: folder.join(CHECKPOINT),
                source: io::ErrorKind::NotFound.into(),
            },
            #[cfg(feature = "s3")]
            Self::Bucket(reader) => Error::NotPublished(reader.name.clone()),
        })
    }
}
