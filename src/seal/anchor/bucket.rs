//! A bucket as an anchor: S3, and what speaks its protocol.
//!
//! Objects are named as the files of a folder, and written only if they are not there (`If-None-Match: *`), so that a
//! bucket that lets nobody overwrite or delete (Object Lock) takes them as well. Each checkpoint is an object of its own
//! besides, `checkpoints/SIZE-TIME`, for such a bucket and for one without versions. `checkpoint` is replaced only by one
//! that its writer has seen (`If-Match`).

use std::sync::{Arc, OnceLock};

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig,
    UpdateVersion,
};

use super::folder::Content;
use crate::ledger::checkpoint::UnixSeconds;
use crate::seal::error::AnchorError;

/// How long one exchange is tried, with the pauses between attempts.
const RETRY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// A bucket, and the prefix of the log in it.
#[derive(Clone, Debug)]
pub(in crate::seal) struct Bucket {
    url: String,
    store: Arc<OnceLock<Arc<dyn ObjectStore>>>,
}

/// A checkpoint that was read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) note: Vec<u8>,
    version: UpdateVersion,
}

impl Bucket {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            store: Arc::default(),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn store(&self) -> Result<&Arc<dyn ObjectStore>, AnchorError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(AnchorError::NoProvider);
        }
        let retry = RetryConfig {
            max_retries: 3,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let store = AmazonS3Builder::from_env()
            .with_url(&self.url)
            .with_retry(retry)
            .build()
            .map_err(|source| self.error("", source))?;
        Ok(self.store.get_or_init(|| Arc::new(store)))
    }

    /// Returns where an object is in the bucket.
    fn path(&self, name: &str) -> Path {
        let (_, place) = self.url.split_once("://").unwrap_or_default();
        let (_, prefix) = place.split_once('/').unwrap_or_default();
        Path::from(format!("{prefix}/{name}"))
    }

    fn error(&self, name: &str, source: Error) -> AnchorError {
        AnchorError::Bucket {
            path: format!("{}/{name}", self.url.trim_end_matches('/')),
            source,
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Found>, AnchorError> {
        let read = async {
            let found = self.store()?.get(&self.path(name)).await;
            let found = match found {
                Err(Error::NotFound { .. }) => return Ok(None),
                found => found.map_err(|source| self.error(name, source))?,
            };
            let version = UpdateVersion {
                e_tag: found.meta.e_tag.clone(),
                version: found.meta.version.clone(),
            };
            let note = found
                .bytes()
                .await
                .map_err(|source| self.error(name, source))?;
            let note = note.to_vec();
            Ok(Some(Found { note, version }))
        };
        read.await
    }

    pub(super) async fn checkpoint(&self) -> Result<Option<Found>, AnchorError> {
        self.read(CHECKPOINT).await
    }

    /// Writes an object that is not there, or is the same.
    async fn create(&self, name: &str, content: Vec<u8>) -> Result<(), AnchorError> {
        let path = self.path(name);
        let payload = PutPayload::from(content.clone());
        let put = self
            .store()?
            .put_opts(&path, payload, PutOptions::from(PutMode::Create));
        match put.await {
            Err(Error::AlreadyExists { .. }) => {
                let found = self.read(name).await?;
                if found.is_some_and(|found| found.note == content) {
                    Ok(())
                } else {
                    let path = format!("{}/{name}", self.url.trim_end_matches('/'));
                    Err(AnchorError::Differs { path })
                }
            }
            put => put.map(drop).map_err(|source| self.error(name, source)),
        }
    }
}

const CHECKPOINT: &str = "checkpoint";

/// A bucket whose checkpoint was read.
#[derive(Debug)]
pub(in crate::seal) struct Session {
    bucket: Bucket,
    found: Option<Found>,
}

impl Session {
    pub(super) fn new(bucket: Bucket, found: Option<Found>) -> Self {
        Self { bucket, found }
    }

    pub(super) async fn put(&self, contents: Vec<Content>) -> Result<(), AnchorError> {
        for (name, content) in contents {
            self.bucket.create(&name, content).await?;
        }
        Ok(())
    }

    pub(super) async fn publish(
        self,
        size: u64,
        signed_at: UnixSeconds,
        note: String,
    ) -> Result<(), AnchorError> {
        let bucket = self.bucket;
        let own = format!("checkpoints/{size:020}-{signed_at}");
        bucket.create(&own, note.clone().into_bytes()).await?;
        let mode = match self.found {
            Some(found) => PutMode::Update(found.version),
            None => PutMode::Create,
        };
        let path = bucket.path(CHECKPOINT);
        let put = bucket
            .store()?
            .put_opts(&path, PutPayload::from(note), PutOptions::from(mode));
        match put.await {
            // Another sealer was faster; the next look tells whether its checkpoint is newer.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Err(AnchorError::Busy { seconds: 0 })
            }
            put => put
                .map(drop)
                .map_err(|source| bucket.error(CHECKPOINT, source)),
        }
    }
}
