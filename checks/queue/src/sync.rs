//! What the queue is made of, as loom has it.

use std::cell::Cell;
use std::time::Duration;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use loom::sync::{Mutex, MutexGuard};

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

pub(crate) fn lock_and_wake_nobody<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
