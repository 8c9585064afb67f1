//! What the worker has to say for itself, said on a thread that nobody waits for.
//!
//! A host's layer may block, on a lock that a thread holds which waits for a flush, or panic:
//! neither may hold up or end the worker. The worker says little, and each thing once, so a
//! thread for each costs nothing that matters.

use std::time::{Duration, Instant};

/// Calls `event`, which makes one `tracing` event, soon and elsewhere.
pub(crate) fn say(event: impl FnOnce() + Send + 'static) {
    let saying = std::thread::Builder::new()
        .name(String::from("tracing-audit-log"))
        .spawn(move || {
            crate::own_threads::mark_worker_thread();
            event();
        });
    // Without a thread it stays unsaid; the counters and the health say it too.
    drop(saying);
}

/// How long what is said at the start waits for somebody who hears it.
const START: Duration = Duration::from_mins(1);

/// Calls `event` as [`say`] does, once the program has a subscriber: a pipeline is started before.
pub(crate) fn say_at_start(event: impl FnOnce() + Send + 'static) {
    say(move || {
        let until = Instant::now() + START;
        while !tracing::dispatcher::has_been_set() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        event();
    });
}

/// A number of records, in words.
pub(crate) fn records(number: u64) -> String {
    match number {
        1 => String::from("1 record"),
        _ => format!("{number} records"),
    }
}
