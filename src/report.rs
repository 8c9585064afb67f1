//! Logs the worker's own messages, on threads that no other thread waits for.
//!
//! A host's layer may panic, or block on a lock held by a thread that waits for a flush: neither
//! may delay or end the worker. The worker logs little, and each thing once, so a thread for each
//! message costs nothing that matters.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long after the first message the program may get its subscriber: a pipeline is started before.
const SUBSCRIBER_WITHIN: Duration = Duration::from_mins(1);

/// The most messages that wait for it, each on a thread.
const MAX_WAITING: usize = 16;

/// Waits until the program has a subscriber, unless it is not to be expected any more.
fn wait_for_subscriber() {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    let until = *FIRST.get_or_init(Instant::now) + SUBSCRIBER_WITHIN;
    if WAITING.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
        while !tracing::dispatcher::has_been_set() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    WAITING.fetch_sub(1, Ordering::Relaxed);
}

/// Calls `event`, which makes one `tracing` event, on a thread of its own and as soon as the
/// program has a subscriber.
pub(crate) fn say(event: impl FnOnce() + Send + 'static) {
    let saying = std::thread::Builder::new()
        .name(String::from("tracing-audit-log"))
        .spawn(move || {
            crate::own_threads::mark_worker_thread();
            wait_for_subscriber();
            event();
        });
    // If no thread can be started, nothing is logged; the counters and the health also report it.
    drop(saying);
}

/// Formats a number of records in words.
pub(crate) fn records(number: u64) -> String {
    match number {
        1 => String::from("1 record"),
        _ => format!("{number} records"),
    }
}
