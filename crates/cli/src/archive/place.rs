//! Where an archive is: a folder, or a bucket.
//!
//! **Nothing is ever overwritten**: an object is created whole, on the condition that none has its name.

mod bucket;
mod folder;
mod lock;

use std::ops::Range;

use tracing_audit::__program::seal;
use tracing_audit::__program::seal::lock::{DefaultRetention, Mode};

use self::bucket::Bucket;
use self::folder::Folder;
pub(crate) use self::lock::{Lock, LockError, end, expect_ahead};
use crate::error::Error;

/// A folder or a bucket.
#[derive(Debug)]
pub(crate) enum Place {
    Bucket(Box<Bucket>),
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
    /// Takes a folder, or `s3://BUCKET/PREFIX`. Reaches for nothing.
    pub(crate) fn of(text: &str) -> Result<Self, Error> {
        if let Some(bucket) = Bucket::of(text)? {
            return Ok(Self::Bucket(Box::new(bucket)));
        }
        Ok(Self::Folder(Folder::new(text)))
    }

    /// Returns where it is, as it is told.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Bucket(bucket) => bucket.name(),
            Self::Folder(folder) => folder.name(),
        }
    }

    /// Fails where the place itself is away: that is something else than to have no objects. A bucket says it to whoever lists it.
    pub(crate) fn expect(&self) -> Result<(), Error> {
        match self {
            Self::Bucket(_) => Ok(()),
            Self::Folder(folder) => folder.expect(),
        }
    }

    /// Creates an object that is not there yet; it is durable when this returns.
    pub(crate) async fn create(&self, name: &str, content: &[u8]) -> Result<Created, Error> {
        match self {
            Self::Bucket(bucket) => bucket.create(name, content).await,
            Self::Folder(folder) => folder.create(name, content),
        }
    }

    /// Reads an object of up to `most` bytes; `None`: it is not there.
    pub(crate) async fn get(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Bucket(bucket) => bucket.get(name, most).await,
            Self::Folder(folder) => folder.get(name, most),
        }
    }

    /// Reads bytes of an object that is there.
    pub(crate) async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, Error> {
        match self {
            Self::Bucket(bucket) => bucket.get_range(name, range).await,
            Self::Folder(folder) => folder.get_range(name, range),
        }
    }

    /// Returns the names and sizes of all objects whose names begin with `prefix`, a whole number of folders as `kind=events/`, or empty;
    /// sorted.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        match self {
            Self::Bucket(bucket) => bucket.list(prefix).await,
            Self::Folder(folder) => folder.list(prefix),
        }
    }

    /// Returns the bucket, and the mode in which its objects are retained; an error if they cannot be.
    pub(crate) async fn lockable(&self) -> Result<(&seal::Bucket, Mode), Error> {
        let place = self.name();
        let Self::Bucket(bucket) = self else {
            return Err(LockError::Folder { place }.into());
        };
        match self.lock().await? {
            Lock::Bucket(DefaultRetention::Lasts { mode, .. }) => Ok((&bucket.bucket, mode)),
            Lock::Bucket(DefaultRetention::NoLock) => {
                let why = "has no Object Lock";
                Err(LockError::Lockless { place, why }.into())
            }
            _ => Ok((&bucket.bucket, Mode::Compliance)),
        }
    }

    /// Returns whether an object that is overwritten is kept; `None`: the place does not say it.
    pub(crate) async fn is_versioned(&self) -> Result<Option<bool>, Error> {
        match self {
            Self::Bucket(bucket) => bucket.bucket.is_versioned().await.map_err(Error::Bucket),
            Self::Folder(_) => Ok(Some(false)),
        }
    }
}
