//! Logs the worker's own messages, on threads that no other thread waits for.
//!
//! A host's layer may panic, or block on a lock held by a thread that waits for a flush: neither
//! may delay or end the worker. The worker logs little, and each thing once, so a thread for each
//! message costs nothing that matters.

use std::time::{Duration, Instant};

/// How long a message waits for a subscriber: a pipeline is started before the program has one.
const SUBSCRIBER_WITHIN: Duration = Duration::from_mins(1);

/// Calls `event`, which makes one `tracing` event, on a thread of its own and as soon as the
/// program has a subscriber.
pub(crate) fn say(event: impl FnOnce() + Send + 'static) {
    let saying = std::thread::Builder::new()
        .name(String::from("tracing-audit-log"))
        .spawn(move || {
            crate::own_threads::mark_worker_thread();
            let until = Instant::now() + SUBSCRIBER_WITHIN;
            while !tracing::dispatcher::has_been_set() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
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
