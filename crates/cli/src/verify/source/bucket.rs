//! A bucket in which the log is published.

use tokio::runtime::Runtime;
use tracing_audit::__program::seal::{Bucket, BucketUrl};

use crate::error::Error;

/// Reads a bucket.
pub(in crate::verify) struct Reader {
    bucket: Bucket,
    pub(in crate::verify) name: String,
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
    /// Returns the bucket that is named; `None`: it is none.
    pub(in crate::verify) fn of(text: &str) -> Result<Option<Self>, Error> {
        if !BucketUrl::is_meant(text) {
            return Ok(None);
        }
        let url = BucketUrl::parse(text).map_err(Error::BucketUrl)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        Ok(Some(Self {
            name: url.to_string(),
            bucket: Bucket::new(url),
            runtime: Some(runtime),
        }))
    }

    pub(in crate::verify) fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(runtime) = &self.runtime else {
            return Ok(None);
        };
        // On a thread of its own: a runtime does not wait within another.
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| runtime.block_on(self.bucket.get(name)));
            match reading.join() {
                Ok(read) => read.map_err(Error::Bucket),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}
