//! Detects a forked process, which has the memory of a pipeline that was started before the fork,
//! and none of its threads.
//!
//! Code that would wait for one of those threads checks here first. The check costs a system call,
//! so the path of a span makes it only where it would wait anyway.

use std::sync::{PoisonError, TryLockError};

use crate::sync::{LOOKS, Locked, Mutex, MutexGuard, PAUSE, TryLock, sleep};

/// The process in which a pipeline was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    id: u32,
}

impl Process {
    /// Returns this process.
    pub(crate) fn current() -> Self {
        Self {
            id: std::process::id(),
        }
    }

    /// Returns another process than this one, as a forked process sees the pipeline's.
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

    /// Returns whether this process was forked from that one, so that no worker runs here.
    pub(crate) fn is_forked(self) -> bool {
        std::process::id() != self.id
    }

    /// Takes a lock that is held for a moment at a time. `None`: a thread that does not exist in this process held it
    /// during the fork.
    #[inline]
    pub(crate) fn hold<T>(self, lock: &TryLock<T>) -> Option<Locked<'_, T>> {
        // The usual case.
        lock.try_lock().or_else(|| self.hold_contended(lock))
    }

    #[cold]
    fn hold_contended<T>(self, lock: &TryLock<T>) -> Option<Locked<'_, T>> {
        for _ in 0..LOOKS {
            std::hint::spin_loop();
            if let Some(held) = lock.try_lock() {
                return Some(held);
            }
        }
        // The thread that holds it was interrupted.
        while !self.is_forked() {
            sleep(PAUSE);
            if let Some(held) = lock.try_lock() {
                return Some(held);
            }
        }
        None
    }

    /// Locks a mutex. `None`: a thread that does not exist in this process held it during the fork,
    /// and would never unlock it.
    #[inline]
    pub(crate) fn lock<T>(self, mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        // The usual case.
        if let Ok(held) = mutex.try_lock() {
            return Some(held);
        }
        self.lock_contended(mutex)
    }

    #[cold]
    fn lock_contended<T>(self, mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        for _ in 0..LOOKS {
            // Held for a moment at a time; blocking would cost a system call.
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
    fn forked_process_does_not_wait_for_a_lock_held_at_the_fork() {
        let mutex = Mutex::new(());
        let held = mutex.lock().unwrap();
        let process = Process::another();
        assert!(process.is_forked() && process.lock(&mutex).is_none());
        drop(held);
        assert!(process.lock(&mutex).is_some());
        assert!(Process::current().lock(&mutex).is_some());
        let lock = TryLock::<()>::default();
        let held = lock.try_lock().unwrap();
        assert!(process.hold(&lock).is_none());
        drop(held);
        assert!(process.hold(&lock).is_some());
    }

    #[test]
    fn threads_of_the_process_wait_for_one_another() {
        const EACH: u64 = 100_000;
        let (process, count) = (Process::current(), TryLock::<u64>::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        *process.hold(&count).unwrap() += 1;
                    }
                });
            }
        });
        assert_eq!(*count.try_lock().unwrap(), 4 * EACH);
    }
}
