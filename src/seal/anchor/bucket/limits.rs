//! How long a bucket has to answer, and what is told when it does not.

use std::error::Error as StdError;
use std::time::Duration;

use object_store::Error;

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
