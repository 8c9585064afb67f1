//! Where the log is published, for those who read it.

use std::io;
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;
use tracing_audit::__program::seal::{Bucket, BucketUrl};

use crate::error::Error;

/// The name of the checkpoint beside the tiles.
const CHECKPOINT: &str = "checkpoint";

/// A folder or a bucket of tiles.
pub(super) enum Source {
    Folder(PathBuf),
    Bucket(Box<Reader>),
}

/// Reads a bucket.
pub(super) struct Reader {
    bucket: Bucket,
    name: String,
    /// Of its own: what reads tiles waits for them, within another. Always there.
    runtime: Option<Runtime>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // To wait for what it runs is not allowed within another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Reader {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(runtime) = &self.runtime else {
            return Ok(None);
        };
        // On a thread of its own: a runtime does not wait within another.
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| runtime.block_on(self.bucket.get(name)));
            match reading.join() {
                Ok(read) => read.map_err(Error::Published),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Source {
    /// Returns the folder or bucket that is named; `None`: it is a file.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, Error> {
        match path.to_str().filter(|text| BucketUrl::is_meant(text)) {
            Some(text) => {
                let url = BucketUrl::parse(text).map_err(Error::BucketUrl)?;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(Error::Runtime)?;
                Ok(Some(Self::Bucket(Box::new(Reader {
                    name: url.to_string(),
                    bucket: Bucket::new(url),
                    runtime: Some(runtime),
                }))))
            }
            None if path.is_dir() => Ok(Some(Self::Folder(path.to_owned()))),
            None => Ok(None),
        }
    }

    /// Whether partial tiles stay when there are fuller ones.
    pub(super) fn keeps_all(&self) -> bool {
        matches!(self, Self::Bucket(_))
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
            Self::Bucket(reader) => Error::NotPublished(reader.name.clone()),
        })
    }
}
