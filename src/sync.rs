//! The synchronization primitives of the queue; `checks/queue` replaces them with those of a model
//! checker.
//!
//! No thread blocks on a lock that a span's thread holds: unlocking a contended lock costs a
//! wake-up system call. The worker tries again some microseconds later.

use std::cell::Cell;
use std::sync::TryLockError;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
pub(crate) use std::thread::sleep;

/// Locks a mutex that the application's threads hold for a moment at a time, such as a memcpy. For
/// the worker: unlocking a mutex that another thread waits for costs a wake-up system call. `None`:
/// the thread that holds the lock is suspended, and the worker has others to serve.
pub(crate) fn lock_within_a_moment<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..LOOKS {
        match mutex.try_lock() {
            Ok(held) => return Some(held),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => sleep(PAUSE),
        }
    }
    None
}

/// How long a thread sleeps before it looks again at a lock that another holds.
pub(crate) const PAUSE: Duration = Duration::from_micros(20);

/// How often a lock is tried before a thread gives it up, or blocks on it.
pub(crate) const LOOKS: u32 = 100;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Returns the calling thread's number, in the order in which threads first call this.
pub(crate) fn thread_number() -> usize {
    NUMBER
        .try_with(|number| {
            if number.get() == usize::MAX {
                number.set(THREADS.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1));
            }
            number.get()
        })
        .unwrap_or(0)
}
