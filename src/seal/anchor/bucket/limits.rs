//! How long a bucket has to answer, and what is told when it does not.

use std::error::Error as StdError;
use std::time::Duration;

use object_store::client::HttpErrorKind;
use object_store::{BackoffConfig, Error, RetryConfig};

use crate::seal::error::BucketFault;

/// How many times a request is sent again that a server could not answer for now.
pub(super) const RETRIES: usize = 2;

/// How many bytes go over the slowest network in a second.
pub(super) const SLOWEST: u64 = 256 * 1024;

/// How long reading or writing an object may take, with all attempts; a large one has [longer](patience).
pub(super) const PATIENCE: Duration = Duration::from_secs(45);

/// Returns how long reading or writing an object of so many bytes may take.
pub(super) fn patience(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / SLOWEST)
}

/// Returns how `object_store` sends a request again.
pub(super) fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.,
        },
        max_retries: RETRIES,
        retry_timeout: PATIENCE,
    }
}

/// Sends a request that `object_store` does not know, again when it was not answered for now: so it must be one that may come
/// twice.
pub(super) async fn retried<T, F>(mut send: impl FnMut() -> F) -> Result<T, BucketFault>
where
    F: Future<Output = Result<T, (HttpErrorKind, BucketFault)>>,
{
    let mut pause = Duration::from_millis(100);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (kind, fault) = match send().await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        let is_passing = matches!(
            kind,
            HttpErrorKind::Connect
                | HttpErrorKind::Request
                | HttpErrorKind::Timeout
                | HttpErrorKind::Interrupted
        );
        if attempts > RETRIES || !is_passing {
            return Err(fault);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Returns what our connection said.
pub(super) fn fault_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a BucketFault> {
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
pub(super) fn fault_of(error: &Error) -> BucketFault {
    fault_in(error).cloned().unwrap_or(BucketFault::Unreadable)
}
