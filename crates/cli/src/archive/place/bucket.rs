//! A bucket, of S3 or Azure, as the place of an archive.

use std::ops::Range;

use tracing_audit::__program::seal::azure::Azure;
use tracing_audit::__program::seal::{self, BucketUrl, S3, Service};

use super::Created;
use crate::error::Error;

/// A bucket, reached as the environment variables of its service say.
#[derive(Debug)]
pub(crate) struct Bucket<S = S3> {
    name: String,
    pub(super) bucket: seal::Bucket<S>,
}

impl Bucket {
    /// Takes the address of a bucket of S3; `None`: it is none.
    pub(super) fn of(text: &str) -> Result<Option<Self>, Error> {
        if !BucketUrl::is_meant(text) {
            return Ok(None);
        }
        let url = BucketUrl::parse(text).map_err(Error::BucketUrl)?;
        Ok(Some(Self {
            name: url.to_string(),
            bucket: seal::Bucket::new(url),
        }))
    }
}

impl Bucket<Azure> {
    /// Takes the address of a container of Azure; `None`: it is none.
    pub(super) fn in_azure(text: &str) -> Result<Option<Self>, Error> {
        if !BucketUrl::is_meant_in_azure(text) {
            return Ok(None);
        }
        let url = BucketUrl::parse_in_azure(text).map_err(Error::BucketUrl)?;
        Ok(Some(Self {
            name: url.to_string(),
            bucket: seal::Bucket::in_azure(url),
        }))
    }
}

impl<S: Service> Bucket<S> {
    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    pub(super) async fn create(&self, name: &str, content: &[u8]) -> Result<Created, Error> {
        let created = self.bucket.create_if_absent(name, content.to_vec()).await;
        Ok(if created.map_err(Error::Bucket)? {
            Created::Yes
        } else {
            Created::IsThere
        })
    }

    pub(super) async fn get(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let found = self.bucket.get_up_to(name, most).await;
        found.map_err(Error::Bucket)
    }

    pub(super) async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let read = self.bucket.get_range(name, range).await;
        read.map_err(Error::Bucket)
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        self.bucket.list(prefix).await.map_err(Error::Bucket)
    }
}
