//! Where checkpoints are published.

#[cfg(feature = "seal-bucket")]
pub(super) mod bucket;
mod folder;
mod stdout;

use std::path::PathBuf;
#[cfg(feature = "seal-bucket")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "seal-bucket")]
use self::bucket::{Bucket, Publishing};
use self::folder::{Content, Folder};
use super::error::AnchorError;
use crate::config::seal::Place;
use crate::ledger::checkpoint::{self, CheckpointError, Verified};
use crate::ledger::key::Vkey;
use crate::ledger::note::Note;

/// A place where checkpoints are published.
#[derive(Clone, Debug)]
pub(super) enum Anchor {
    #[cfg(feature = "seal-bucket")]
    Bucket(Arc<Bucket>),
    Folder(PathBuf),
    Stdout,
}

impl Anchor {
    pub(super) fn new(place: Place) -> Self {
        match place {
            #[cfg(feature = "seal-bucket")]
            Place::Bucket(url) => Self::Bucket(Arc::new(Bucket::new(url))),
            Place::Folder(path) => Self::Folder(path),
            Place::Stdout => Self::Stdout,
        }
    }

    /// Returns where it is.
    pub(super) fn name(&self) -> String {
        match self {
            #[cfg(feature = "seal-bucket")]
            Self::Bucket(bucket) => bucket.name(),
            Self::Folder(path) => path.display().to_string(),
            Self::Stdout => String::from("standard output"),
        }
    }

    /// Returns how long to wait after a checkpoint of another size, and of the same.
    pub(super) fn pauses(&self) -> (Duration, Duration) {
        match self {
            #[cfg(feature = "seal-bucket")]
            Self::Bucket(_) => bucket::PAUSES,
            Self::Folder(_) => (Duration::ZERO, Duration::ZERO),
            Self::Stdout => (Duration::ZERO, Duration::from_mins(1)),
        }
    }

    /// Returns the newest checkpoint that is there, if one of the log's keys has signed it.
    pub(super) async fn newest(&self, log: &[Vkey]) -> Result<Option<Verified>, AnchorError> {
        let found = match self {
            #[cfg(feature = "seal-bucket")]
            Self::Bucket(bucket) => bucket.checkpoint().await?,
            Self::Folder(path) => {
                let path = path.clone();
                on_disk(move || folder::checkpoint(&path)).await?
            }
            Self::Stdout => None,
        };
        self.verify(found, log)
    }

    /// Begins to publish: no other process does until the end, or one of them is [overtaken](AnchorError::Overtaken).
    /// Returns the bytes of the newest checkpoint as well.
    pub(super) async fn open(&self) -> Result<(Session, Option<Vec<u8>>), AnchorError> {
        match self {
            #[cfg(feature = "seal-bucket")]
            Self::Bucket(bucket) => {
                let (publishing, found) = Publishing::open(Arc::clone(bucket)).await?;
                Ok((Session::Bucket(publishing), found))
            }
            Self::Folder(path) => {
                let path = path.clone();
                let (folder, found) = on_disk(move || {
                    let folder = Folder::open(&path)?;
                    let found = folder.checkpoint()?;
                    Ok((folder, found))
                })
                .await?;
                Ok((Session::Folder(folder), found))
            }
            Self::Stdout => Ok((Session::Stdout, None)),
        }
    }

    /// Verifies what was found as the checkpoint.
    pub(super) fn verify(
        &self,
        found: Option<Vec<u8>>,
        log: &[Vkey],
    ) -> Result<Option<Verified>, AnchorError> {
        let verify = |note: Vec<u8>| {
            let note = Note::parse(&note).map_err(CheckpointError::from);
            let verified = note.and_then(|note| checkpoint::verify_note(&note, log, &[]));
            verified.map_err(|source| AnchorError::Checkpoint {
                path: format!("{}/checkpoint", self.name()),
                source,
            })
        };
        found.map(verify).transpose()
    }
}

/// An anchor that this process is publishing at.
#[derive(Debug)]
pub(super) enum Session {
    #[cfg(feature = "seal-bucket")]
    Bucket(Publishing),
    Folder(Folder),
    Stdout,
}

impl Session {
    /// Whether tiles and entries are published here.
    pub(super) fn takes_tiles(&self) -> bool {
        !matches!(self, Self::Stdout)
    }

    /// Publishes tiles and entries. What is there already must be the same.
    pub(super) async fn put(self, contents: Vec<Content>) -> Result<Self, AnchorError> {
        match self {
            #[cfg(feature = "seal-bucket")]
            Self::Bucket(publishing) => Ok(Self::Bucket(publishing.put(contents).await?)),
            Self::Folder(mut folder) => {
                on_disk(move || {
                    folder.put(&contents)?;
                    Ok(Self::Folder(folder))
                })
                .await
            }
            Self::Stdout => Ok(self),
        }
    }

    /// Publishes a checkpoint, after what it is of.
    pub(super) async fn publish(self, note: String) -> Result<(), AnchorError> {
        match self {
            #[cfg(feature = "seal-bucket")]
            Self::Bucket(publishing) => publishing.publish(note).await,
            Self::Folder(mut folder) => on_disk(move || folder.publish(&note)).await,
            Self::Stdout => on_disk(move || stdout::write(&note)).await,
        }
    }
}

/// Runs what may block on a thread of its own.
async fn on_disk<T: Send + 'static>(
    doing: impl FnOnce() -> Result<T, AnchorError> + Send + 'static,
) -> Result<T, AnchorError> {
    match tokio::task::spawn_blocking(doing).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(AnchorError::Stopped),
        },
    }
}
