//! What a sealer has signed.

use tokio::task::JoinError;

use crate::ledger::checkpoint::UnixSeconds;
use crate::ledger::paths::Head;

/// A signed checkpoint.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) head: Head,
    pub(super) note: String,
    pub(super) time: UnixSeconds,
}

/// Goes on with the panic of a task, for the thread's supervisor.
pub(super) fn panic_again(ended: JoinError) -> ! {
    match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // INVARIANT: tasks are only cancelled when the sealer is dropped.
        Err(_) => unreachable!("a task was cancelled"),
    }
}
