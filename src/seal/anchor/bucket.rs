//! An S3-compatible bucket as an anchor: the objects are named as C2SP's tlog-tiles names files, and `checkpoint`.
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

mod http;
mod sha256;

use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};
use tokio::task::JoinSet;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;

use self::http::Connections;
use self::sha256::Sha256Provider;
use super::folder::Content;
use crate::config::seal::bucket::BucketUrl;
use crate::seal::error::{AnchorError, BucketFault};

const CHECKPOINT: &str = "checkpoint";

/// How long to wait after a checkpoint of another size, and of the same: every request costs, and what is published with
/// each checkpoint (itself, partial tiles and a bundle) is kept as long as the bucket locks it.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(1));

/// How long reading or writing an object may take, with all attempts.
const PATIENCE: Duration = Duration::from_secs(45);

/// How many times a request is sent again that a server could not answer for now.
const RETRIES: usize = 2;

/// How many objects are written at once.
const AT_ONCE: usize = 8;

/// The largest object that is read: a bundle of entries that are as large as they may be.
const MOST_BYTES: u64 = 256 * (64 * 1024 + 2);

/// A bucket.
pub struct Bucket {
    url: BucketUrl,
    /// Made when it is needed first: by then there is a runtime.
    store: OnceLock<AmazonS3>,
    /// Whether the server was seen to refuse to create what is there.
    is_conditional: AtomicBool,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the client, which has the credentials.
        f.debug_struct("Bucket")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An object, and its version for `If-Match`.
#[derive(Debug)]
struct Object {
    content: Vec<u8>,
    version: Option<String>,
}

impl Bucket {
    /// Takes the address. Credentials and endpoint are those of the `AWS_*` environment variables when it is first used.
    pub fn new(url: BucketUrl) -> Self {
        Self {
            url,
            store: OnceLock::new(),
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
        let found = self.within(name, self.read(name)).await?;
        Ok(found.map(|object| object.content))
    }

    async fn read(&self, name: &str) -> Result<Option<Object>, BucketFault> {
        let found = match self.store()?.get(&self.path(name)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(fault_of(&error)),
        };
        if found.meta.size > MOST_BYTES {
            return Err(BucketFault::Unreadable);
        }
        let version = found.meta.e_tag.clone();
        let content = found.bytes().await.map_err(|error| fault_of(&error))?;
        Ok(Some(Object {
            content: content.to_vec(),
            version,
        }))
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
        let put = async {
            let options = PutOptions::from(mode);
            match self
                .store()?
                .put_opts(&self.path(name), payload, options)
                .await
            {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(fault_of(&error)),
            }
        };
        self.within(name, put).await
    }

    async fn within<T>(
        &self,
        name: &str,
        doing: impl Future<Output = Result<T, BucketFault>>,
    ) -> Result<T, AnchorError> {
        // The publisher says what does not work; object_store would say each attempt in the host's log.
        let doing = doing.with_subscriber(Dispatch::none());
        let done = tokio::time::timeout(PATIENCE, doing).await;
        done.unwrap_or_else(|_| {
            Err(BucketFault::NoAnswer {
                host: String::from("the bucket"),
                seconds: PATIENCE.as_secs(),
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
        format!("{}/{name}", self.url)
    }

    fn path(&self, name: &str) -> Path {
        Path::from(self.url.key(name))
    }

    fn store(&self) -> Result<&AmazonS3, BucketFault> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = store(&self.url)?;
        Ok(self.store.get_or_init(|| store))
    }
}

/// Makes the client of a bucket, from the `AWS_*` environment variables.
fn store(url: &BucketUrl) -> Result<AmazonS3, BucketFault> {
    let builder = AmazonS3Builder::from_env()
        .with_bucket_name(&url.bucket)
        // Not to be switched off from outside: nothing is overwritten. And Object Lock asks for a checksum.
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_crypto_provider(Arc::new(Sha256Provider))
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.,
            },
            max_retries: RETRIES,
            retry_timeout: PATIENCE,
        });
    let settings = |why: &str| BucketFault::Settings {
        why: why.to_owned(),
    };
    let endpoint = builder
        .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let is_plain = endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let is_url = |endpoint: &String| {
        let uri = endpoint.parse::<::http::Uri>();
        let authority = uri.as_ref().ok().and_then(|uri| uri.authority());
        (is_plain || endpoint.starts_with("https://"))
            && authority.is_some_and(|authority| !authority.as_str().contains('@'))
    };
    if !endpoint.as_ref().is_none_or(is_url) {
        return Err(settings("AWS_ENDPOINT_URL is not the URL of a server"));
    }
    let id = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId);
    let secret = builder.get_config_value(&AmazonS3ConfigKey::SecretAccessKey);
    if id.is_some() != secret.is_some() {
        return Err(settings(
            "one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set without the other",
        ));
    }
    builder
        .with_http_connector(Connections { is_plain })
        .build()
        .map_err(|error| match fault_in(&error) {
            Some(fault) => fault.clone(),
            // Its text may repeat a variable.
            None => settings("object_store refuses one of them"),
        })
}

/// Returns what our connection said.
fn fault_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a BucketFault> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref() {
            return Some(fault);
        }
        cause = error.source();
    }
    None
}

/// Returns why something was not done, without what a server said.
fn fault_of(error: &Error) -> BucketFault {
    fault_in(error).cloned().unwrap_or(BucketFault::Unreadable)
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
        let found = bucket.within(CHECKPOINT, bucket.read(CHECKPOINT)).await?;
        let (content, version) = match found {
            Some(Object { version: None, .. }) => {
                return Err(bucket.error(CHECKPOINT, BucketFault::Unconditional));
            }
            Some(Object { content, version }) => (Some(content), version),
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
