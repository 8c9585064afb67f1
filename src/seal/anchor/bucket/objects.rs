//! The objects of an archive in a bucket: larger than what a log publishes, and listed.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use object_store::list::PaginatedListOptions;
use object_store::{Error, GetOptions, ObjectStoreExt as _, PutPayload};

use super::limits::{RETRIES, fault_of};
use super::{Bucket, Service};
use crate::seal::error::{AnchorError, BucketFault};

impl<S: Service> Bucket<S> {
    /// Creates an object that is not there yet, whole or not at all. Returns whether it did; if not, one has its name already.
    ///
    /// That may be its own content: when an answer is lost, it is sent again.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses, or would overwrite.
    pub async fn create_if_absent(
        &self,
        name: &str,
        content: Vec<u8>,
    ) -> Result<bool, AnchorError> {
        let payload = PutPayload::from(Bytes::from(content));
        let mut pause = Duration::from_millis(200);
        let mut attempts = 0;
        loop {
            attempts += 1;
            // object_store sends nothing again that a server may have begun to store: it does not know of the condition.
            match self.put_if_absent(name, payload.clone()).await {
                Err(AnchorError::Bucket {
                    why: BucketFault::Unreachable { .. } | BucketFault::NoAnswer { .. },
                    ..
                }) if attempts <= RETRIES => {}
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
    }

    /// Reads an object of up to `most` bytes; `None` if it is not there.
    ///
    /// # Errors
    /// If it is larger, or the bucket does not answer, or refuses.
    pub async fn get_up_to(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, AnchorError> {
        let found = self.read(name, most).await?;
        Ok(found.map(|object| object.content.into()))
    }

    /// Reads bytes of an object.
    ///
    /// # Errors
    /// If it does not have them, or the bucket does not answer, or refuses.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, AnchorError> {
        let bytes = range.end.saturating_sub(range.start);
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let reading = async {
            let found = self
                .service
                .store(&self.url)?
                .get_range(&self.path(name), range)
                .await;
            let found = found.map_err(|error| fault_of(&error))?;
            if found.len() as u64 == bytes {
                Ok(found.into())
            } else {
                Err(BucketFault::Unreadable)
            }
        };
        self.within(name, bytes, reading).await
    }

    /// Returns how many bytes an object has; `None` if it is not there.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, AnchorError> {
        let asking = async {
            let options = GetOptions {
                head: true,
                ..GetOptions::default()
            };
            match self
                .service
                .store(&self.url)?
                .get_opts(&self.path(name), options)
                .await
            {
                Ok(found) => Ok(Some(found.meta.size)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(fault_of(&error)),
            }
        };
        self.within(name, 0, asking).await
    }

    /// Returns the names and sizes of all objects whose names begin with `prefix`, sorted.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, AnchorError> {
        let whole = self.url.key(prefix);
        let above = self.url.key("").len();
        let mut found = Vec::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                page_token,
                ..PaginatedListOptions::default()
            };
            let asking = async {
                let page = self
                    .service
                    .store(&self.url)?
                    .list_paginated(Some(&whole), options)
                    .await;
                page.map_err(|error| fault_of(&error))
            };
            let page = self.within(prefix, 0, asking).await?;
            for object in page.result.objects {
                if let Some(name) = object.location.as_ref().get(above..) {
                    found.push((name.to_owned(), object.size));
                }
            }
            page_token = page.page_token;
            if page_token.is_none() {
                found.sort_unstable();
                return Ok(found);
            }
        }
    }
}
