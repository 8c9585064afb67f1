//! What the queue is made of, as loom has it.

use std::cell::Cell;
use std::time::Duration;

pub(crate) use loom::sync::MutexGuard as Locked;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// In place of the crate `try-lock`, with the same calls. loom's has a full fence at each end, where that one acquires and
/// releases alone: nothing of the queue may rely on more, as a flag would that is looked at after a lock was released.
#[derive(Default)]
pub(crate) struct TryLock<T>(Mutex<T>);

impl<T> TryLock<T> {
    pub(crate) fn try_lock(&self) -> Option<Locked<'_, T>> {
        self.0.try_lock().ok()
    }
}

loom::thread_local! {
    static NUMBER: Cell<usize> = Cell::new(0);
}

pub(crate) fn set_thread_number(number: usize) {
    NUMBER.with(|cell| cell.set(number));
}

pub(crate) fn thread_number() -> usize {
    NUMBER.with(Cell::get)
}

/// Another thread goes on.
pub(crate) fn sleep(_: Duration) {
    loom::thread::yield_now();
}

/// A thread that waits is modelled as such: it need not look first.
pub(crate) const LOOKS: u32 = 0;

pub(crate) const PAUSE: Duration = Duration::ZERO;

/// Whether one of the model's threads is suspended until the others have ended.
static IS_ONE_SUSPENDED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

pub(crate) fn suspend_one(is_one: bool) {
    IS_ONE_SUSPENDED.store(is_one, std::sync::atomic::Ordering::SeqCst);
}

/// A moment is as long as any thread takes that is not suspended.
pub(crate) fn lock_within_a_moment<T>(lock: &TryLock<T>) -> Option<Locked<'_, T>> {
    if IS_ONE_SUSPENDED.load(std::sync::atomic::Ordering::SeqCst) {
        return lock.try_lock();
    }
    let held = lock.0.lock();
    Some(held.unwrap_or_else(std::sync::PoisonError::into_inner))
}
