//! What a forked process may do with a pipeline that was started before the fork: it has its
//! memory, and none of its threads.
//!
//! Whoever would wait for one of those threads asks here first. To ask costs a system call, so the
//! way of a span does not, unless it would wait anyway.

use std::sync::{PoisonError, TryLockError};

use crate::sync::{LOOKS, Mutex, MutexGuard};

/// The process that a pipeline was started in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    id: u32,
}

impl Process {
    /// This process.
    pub(crate) fn current() -> Self {
        Self {
            id: std::process::id(),
        }
    }

    /// As a forked process has it: the pipeline's was another one.
    #[cfg(test)]
    #[allow(
        dead_code,
        reason = "a bench has this file without the tests that need it"
    )]
    pub(crate) fn another() -> Self {
        Self {
            id: std::process::id() + 1,
        }
    }

    /// Whether this process was forked from that one, so that nobody works here.
    pub(crate) fn is_forked(self) -> bool {
        std::process::id() != self.id
    }

    /// Locks. `None`: a thread held it during the fork that does not exist here, and would never
    /// let go.
    pub(crate) fn lock<T>(self, mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        for _ in 0..LOOKS {
            // Held for a moment at a time: to wait otherwise would be a system call.
            match mutex.try_lock() {
                Ok(held) => return Some(held),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        match mutex.try_lock() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if self.is_forked() => None,
            Err(TryLockError::WouldBlock) => {
                Some(mutex.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_by_a_thread_that_a_fork_left_behind_is_not_waited_for() {
        let mutex = Mutex::new(());
        let held = mutex.lock().unwrap();
        let process = Process::another();
        assert!(process.is_forked() && process.lock(&mutex).is_none());
        drop(held);
        assert!(process.lock(&mutex).is_some());
        assert!(Process::current().lock(&mutex).is_some());
    }
}
