//! Where an archive is: a folder, a bucket of S3, or a container of Azure.
//!
//! **Nothing is ever overwritten**: an object is created whole, on the condition that none has its name.

mod bucket;
mod folder;
mod lock;

use std::ops::Range;

use tracing_audit::__program::seal;
use tracing_audit::__program::seal::azure::Azure;
use tracing_audit::__program::seal::lock::DefaultRetention;

use self::bucket::Bucket;
use self::folder::Folder;
pub(crate) use self::lock::{Lock, LockError, end, expect_ahead, mode_beside};
use crate::error::Error;

/// A folder, or where objects are kept.
#[derive(Debug)]
pub(crate) enum Place {
    Bucket(Box<Bucket>),
    Azure(Box<Bucket<Azure>>),
    Folder(Folder),
}

/// What became of an object that was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    Yes,
    /// Another has its name already, whatever is in it.
    IsThere,
}

impl Place {
    /// Takes a folder, `s3://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`. Reaches for nothing.
    pub(crate) fn of(text: &str) -> Result<Self, Error> {
        if let Some(bucket) = Bucket::of(text)? {
            return Ok(Self::Bucket(Box::new(bucket)));
        }
        if let Some(container) = Bucket::in_azure(text)? {
            return Ok(Self::Azure(Box::new(container)));
        }
        // Without a word, another service's archive would become a folder of this machine.
        if text.contains("://") {
            let why =
                "an archive is in a folder, in s3://BUCKET/PREFIX or in az://CONTAINER/PREFIX";
            return Err(Error::BucketUrl(why));
        }
        Ok(Self::Folder(Folder::new(text)))
    }

    /// Returns where it is, as it is told.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Bucket(bucket) => bucket.name(),
            Self::Azure(container) => container.name(),
            Self::Folder(folder) => folder.name(),
        }
    }

    /// Fails where the place itself is away: that is something else than to have no objects. A bucket says it to whoever lists it.
    pub(crate) fn expect(&self) -> Result<(), Error> {
        match self {
            Self::Bucket(_) | Self::Azure(_) => Ok(()),
            Self::Folder(folder) => folder.expect(),
        }
    }

    /// Creates an object that is not there yet; it is durable when this returns.
    pub(crate) async fn create(&self, name: &str, content: &[u8]) -> Result<Created, Error> {
        match self {
            Self::Bucket(bucket) => bucket.create(name, content).await,
            Self::Azure(container) => container.create(name, content).await,
            Self::Folder(folder) => folder.create(name, content),
        }
    }

    /// Reads an object of up to `most` bytes; `None`: it is not there.
    pub(crate) async fn get(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Bucket(bucket) => bucket.get(name, most).await,
            Self::Azure(container) => container.get(name, most).await,
            Self::Folder(folder) => folder.get(name, most),
        }
    }

    /// Reads bytes of an object that is there.
    pub(crate) async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, Error> {
        match self {
            Self::Bucket(bucket) => bucket.get_range(name, range).await,
            Self::Azure(container) => container.get_range(name, range).await,
            Self::Folder(folder) => folder.get_range(name, range),
        }
    }

    /// Returns the names and sizes of all objects whose names begin with `prefix`, a whole number of folders as `kind=events/`, or empty;
    /// sorted.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        match self {
            Self::Bucket(bucket) => bucket.list(prefix).await,
            Self::Azure(container) => container.list(prefix).await,
            Self::Folder(folder) => folder.list(prefix),
        }
    }

    /// Returns the bucket, and how long it retains what is created; an error if objects in it cannot be retained.
    pub(crate) async fn lockable(&self) -> Result<(&seal::Bucket, DefaultRetention), Error> {
        let place = self.name();
        let bucket = match self {
            Self::Bucket(bucket) => bucket,
            Self::Azure(_) => return Err(LockError::Azure { place }.into()),
            Self::Folder(_) => return Err(LockError::Folder { place }.into()),
        };
        let default = bucket.bucket.default_retention().await;
        match default.map_err(Error::Bucket)? {
            DefaultRetention::NoLock => {
                let why = "has no Object Lock";
                Err(LockError::Lockless { place, why }.into())
            }
            default => Ok((&bucket.bucket, default)),
        }
    }

    /// Returns whether an object that is overwritten is kept; `None`: the place does not say it.
    pub(crate) async fn is_versioned(&self) -> Result<Option<bool>, Error> {
        match self {
            Self::Bucket(bucket) => bucket.bucket.is_versioned().await.map_err(Error::Bucket),
            // A policy keeps what is there, whether or not there are versions.
            Self::Azure(_) => Ok(None),
            Self::Folder(_) => Ok(Some(false)),
        }
    }
}
