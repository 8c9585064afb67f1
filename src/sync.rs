//! The synchronization primitives of the queue; `checks/queue` replaces them with those of a model
//! checker.
//!
//! What a span's thread locks is a [`TryLock`], on which no thread can block: there is nobody to wake, so that unlocking
//! is one store, where that of a [`Mutex`] is an atomic exchange. Who finds it locked tries again, the worker some
//! microseconds later.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
pub(crate) use std::thread::sleep;
pub(crate) use try_lock::{Locked, TryLock};

/// Takes a lock that the application's threads hold for a moment at a time, such as a memcpy. For
/// the worker. `None`: the thread that holds the lock is suspended, and the worker has others to
/// serve.
pub(crate) fn lock_within_a_moment<T>(lock: &TryLock<T>) -> Option<Locked<'_, T>> {
    for _ in 0..LOOKS {
        if let Some(held) = lock.try_lock() {
            return Some(held);
        }
        sleep(PAUSE);
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
