//! An S3-compatible bucket as an anchor, whose objects are named as C2SP's tlog-tiles names files, and `checkpoint`; and what a bucket
//! of any service does for an archive.
//!
//! **Nothing is overwritten**: each tile and bundle is created on the condition that it is not there
//! (`If-None-Match: *`); one that is there must be the same. Only `checkpoint` is replaced, on the condition that it is still the one
//! that was read (`If-Match`), so that of two sealers none puts an older checkpoint over a newer one. A server that does
//! not know these conditions is found out by the first object that is created, and refused.
//!
//! **A bucket with Object Lock keeps every version**: what was published once cannot be altered or removed, and a
//! checkpoint that was replaced is still there. So no copies of checkpoints are published under other names: without
//! versions nothing would keep these either.
//!
//! Nothing is removed, also no partial tile: the sealer needs no right to delete.

#[cfg(feature = "__azure")]
pub mod azure;
mod client;
mod http;
mod limits;
pub mod lock;
mod objects;
mod retention;
mod sha256;
mod xml;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use tokio::task::JoinSet;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;

use self::client::{Client, made};
use self::limits::{RETRIES, fault_of, patience};
use self::retention::Retained;
use super::folder::Content;
use crate::config::seal::bucket::BucketUrl;
use crate::seal::error::{AnchorError, BucketFault};

const CHECKPOINT: &str = "checkpoint";

/// How long to wait after a checkpoint of another size, and of the same: every request costs, and what is published with
/// each checkpoint (itself, partial tiles and a bundle) is kept as long as the bucket locks it.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(1));

/// How many objects are written at once.
const AT_ONCE: usize = 8;

/// The largest object that is read: a bundle of entries that are as large as they may be.
const MOST_BYTES: u64 = 256 * (64 * 1024 + 2);

/// A bucket, of S3 unless another service is named.
pub struct Bucket<S = S3> {
    url: BucketUrl,
    service: S,
    /// Whether the server was seen to refuse to create what is there.
    is_conditional: AtomicBool,
}

/// What `object_store` has for the objects of a service.
pub trait Store: ObjectStore + PaginatedListStore {}

impl<T: ObjectStore + PaginatedListStore> Store for T {}

/// How a bucket of some service is reached.
pub trait Service {
    /// Returns what reads and lists.
    ///
    /// # Errors
    /// If the environment variables do not say how.
    fn store(&self, url: &BucketUrl) -> Result<&dyn Store, BucketFault>;

    /// Returns what creates objects.
    ///
    /// # Errors
    /// If the environment variables do not say how.
    fn store_for_writing(&self, url: &BucketUrl) -> Result<&dyn Store, BucketFault> {
        self.store(url)
    }
}

/// How a bucket of S3 is reached.
#[derive(Default)]
pub struct S3 {
    /// Made when it is needed first: by then there is a runtime.
    client: OnceLock<Client>,
    /// How long what is created is retained, if longer than the bucket has it.
    retained: OnceLock<Retained>,
}

impl S3 {
    fn client(&self, url: &BucketUrl) -> Result<&Client, BucketFault> {
        made(&self.client, url, None)
    }
}

impl Service for S3 {
    fn store(&self, url: &BucketUrl) -> Result<&dyn Store, BucketFault> {
        Ok(&self.client(url)?.store)
    }

    fn store_for_writing(&self, url: &BucketUrl) -> Result<&dyn Store, BucketFault> {
        match self
            .retained
            .get()
            .and_then(|retained| retained.client(url))
        {
            Some(client) => Ok(&client?.store),
            None => self.store(url),
        }
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Bucket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the service, whose client has the credentials.
        f.debug_struct("Bucket")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An object, and its version for `If-Match`.
#[derive(Debug)]
struct Object {
    content: Bytes,
    version: Option<String>,
}

impl Bucket {
    /// Takes the address. Credentials and endpoint are those of the `AWS_*` environment variables when it is first used.
    pub fn new(url: BucketUrl) -> Self {
        Self::at(url, S3::default())
    }
}

impl<S: Service> Bucket<S> {
    fn at(url: BucketUrl, service: S) -> Self {
        Self {
            url,
            service,
            is_conditional: AtomicBool::new(false),
        }
    }

    pub(super) fn name(&self) -> String {
        self.url.to_string()
    }

    /// Reads the checkpoint that is there.
    pub(super) async fn checkpoint(&self) -> Result<Option<Vec<u8>>, AnchorError> {
        self.get(CHECKPOINT).await
    }

    /// Reads an object; `None` if it is not there.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, AnchorError> {
        let found = self.read(name, MOST_BYTES).await?;
        Ok(found.map(|object| object.content.into()))
    }

    async fn read(&self, name: &str, most: u64) -> Result<Option<Object>, AnchorError> {
        let finding = async {
            match self.service.store(&self.url)?.get(&self.path(name)).await {
                Ok(found) if found.meta.size > most => Err(BucketFault::TooLarge { most }),
                Ok(found) => Ok(Some(found)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(fault_of(&error)),
            }
        };
        let Some(found) = self.within(name, 0, finding).await? else {
            return Ok(None);
        };
        let version = found.meta.e_tag.clone();
        let bytes = found.meta.size;
        let reading = async { found.bytes().await.map_err(|error| fault_of(&error)) };
        let content = self.within(name, bytes, reading).await?;
        Ok(Some(Object { content, version }))
    }

    /// Creates an object that is not there yet; one that is there must be the same.
    async fn create(&self, name: &str, content: Vec<u8>) -> Result<(), AnchorError> {
        let payload = PutPayload::from(content.clone());
        // One that is there may be gone when it is read: in a bucket without Object Lock, or after a lost conflict.
        for _ in 0..=RETRIES {
            if self.put_if_absent(name, payload.clone()).await? {
                return Ok(());
            }
            match self.get(name).await? {
                Some(found) if found == content => return Ok(()),
                Some(_) => {
                    return Err(AnchorError::Differs {
                        path: self.object(name),
                    });
                }
                None => {}
            }
        }
        Err(self.error(name, BucketFault::Unreadable))
    }

    /// Creates an object. Returns whether it was not there.
    async fn put_if_absent(&self, name: &str, payload: PutPayload) -> Result<bool, AnchorError> {
        let create = || self.put(name, payload.clone(), PutMode::Create);
        if !create().await? {
            // ORDERING: it tells of the server alone.
            self.is_conditional.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        // ORDERING: as above. The same content once more does no harm.
        if !self.is_conditional.load(Ordering::Relaxed) {
            if create().await? {
                return Err(self.error(name, BucketFault::Unconditional));
            }
            self.is_conditional.store(true, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Writes an object on a condition. Returns whether the condition held.
    async fn put(
        &self,
        name: &str,
        payload: PutPayload,
        mode: PutMode,
    ) -> Result<bool, AnchorError> {
        let bytes = payload.content_length() as u64;
        let put = async {
            let options = PutOptions::from(mode);
            let store = self.service.store_for_writing(&self.url)?;
            match store.put_opts(&self.path(name), payload, options).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(fault_of(&error)),
            }
        };
        self.within(name, bytes, put).await
    }

    /// Waits until something is done with an object, of so many bytes, but not for ever.
    async fn within<T>(
        &self,
        name: &str,
        bytes: u64,
        doing: impl Future<Output = Result<T, BucketFault>>,
    ) -> Result<T, AnchorError> {
        let patience = patience(bytes);
        // The publisher says what does not work; object_store would say each attempt in the host's log.
        let doing = doing.with_subscriber(Dispatch::none());
        let done = tokio::time::timeout(patience, doing).await;
        done.unwrap_or_else(|_| {
            Err(BucketFault::NoAnswer {
                cloud: self.url.cloud,
                host: String::from("the bucket"),
                seconds: patience.as_secs(),
            })
        })
        .map_err(|why| self.error(name, why))
    }

    fn error(&self, name: &str, why: BucketFault) -> AnchorError {
        AnchorError::Bucket {
            object: self.object(name),
            why,
        }
    }

    fn object(&self, name: &str) -> String {
        if name.is_empty() {
            self.url.to_string()
        } else {
            format!("{}/{name}", self.url)
        }
    }

    fn path(&self, name: &str) -> Path {
        Path::from(self.url.key(name))
    }
}

/// A bucket that this process is publishing in, perhaps not alone.
#[derive(Debug)]
pub(in crate::seal) struct Publishing {
    bucket: Arc<Bucket>,
    /// The version of the checkpoint that was there; `None`: there was none.
    version: Option<String>,
}

impl Publishing {
    /// Begins, and returns the checkpoint that is there.
    pub(super) async fn open(bucket: Arc<Bucket>) -> Result<(Self, Option<Vec<u8>>), AnchorError> {
        let found = bucket.read(CHECKPOINT, MOST_BYTES).await?;
        let (content, version) = match found {
            Some(Object { version: None, .. }) => {
                return Err(bucket.error(CHECKPOINT, BucketFault::Unconditional));
            }
            Some(Object { content, version }) => (Some(content.into()), version),
            None => (None, None),
        };
        Ok((Self { bucket, version }, content))
    }

    /// Creates objects that are not there yet; all of them are there when it returns.
    pub(super) async fn put(self, contents: Vec<Content>) -> Result<Self, AnchorError> {
        let mut writing = JoinSet::new();
        for (name, content) in contents {
            if writing.len() >= AT_ONCE {
                next(&mut writing).await?;
            }
            let bucket = Arc::clone(&self.bucket);
            writing.spawn(async move { bucket.create(&name, content).await });
        }
        while !writing.is_empty() {
            next(&mut writing).await?;
        }
        Ok(self)
    }

    /// Replaces the checkpoint that was there when this began.
    pub(super) async fn publish(self, note: String) -> Result<(), AnchorError> {
        let mode = match self.version {
            Some(version) => PutMode::Update(UpdateVersion {
                e_tag: Some(version),
                version: None,
            }),
            None => PutMode::Create,
        };
        let bucket = self.bucket;
        if bucket.put(CHECKPOINT, PutPayload::from(note), mode).await? {
            Ok(())
        } else {
            Err(AnchorError::Overtaken)
        }
    }
}

/// Waits for one of the objects that are written.
async fn next(writing: &mut JoinSet<Result<(), AnchorError>>) -> Result<(), AnchorError> {
    match writing.join_next().await {
        Some(Ok(written)) => written,
        None => Ok(()),
        Some(Err(error)) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(AnchorError::Stopped),
        },
    }
}
