//! Identifies the library's own threads: spans on them are never recorded, and none of them waits
//! for another.

use std::cell::Cell;

thread_local! {
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as the library's own.
pub(crate) fn mark_worker_thread() {
    let _ = IS_OWN.try_with(|is_own| is_own.set(true));
}

/// Returns whether the calling thread is the library's own.
pub(crate) fn is_worker_thread() -> bool {
    IS_OWN.try_with(Cell::get).unwrap_or(false)
}
