//! Where a span is closed: as its thread ends, after that, or never.

use std::cell::RefCell;
use std::sync::{Arc, Barrier};

use super::{assert_committed_by_itself, run, start, trail};
use serde_json::json;
use testkit::Postgres;
use testkit::child::{child, child_processes};
use testkit::trail::{Folder, PATIENCE, assert_law};
use tracing::info_span;
use tracing_audit::{Audit, Event};

child_processes!(
    closes_spans_as_threads_end_or_never,
    #[cfg(target_os = "linux")]
    closes_spans_in_5_000_threads,
);

/// Closes a span, and records without one, when it is dropped. Not a new span: the Registry itself
/// may abort a program that opens one so late.
struct Last(Option<tracing::Span>, Audit);

impl Drop for Last {
    fn drop(&mut self) {
        self.0 = None;
        self.1
            .record(Event::new("record as the thread ends"))
            .unwrap();
    }
}

fn closes_spans_as_threads_end_or_never() -> ! {
    thread_local! {
        static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    }
    let audit = start();
    let keep = |audit: Audit| {
        let span = info_span!("audit.event", action_type = "closed as the thread ends");
        LAST.set(Some(Last(Some(span), audit)));
    };
    for is_first in [true, false] {
        let audit = audit.clone();
        let thread = std::thread::spawn(move || {
            if is_first {
                // Destroyed after whatever the thread's first span creates.
                LAST.set(None);
            }
            info_span!("audit.event", action_type = "in a thread");
            keep(audit);
        });
        thread.join().unwrap();
    }
    let make = || info_span!("audit.query_run", sql_text = "sent", row_count = 1_u64);
    let sent = std::thread::spawn(make).join().unwrap();
    std::thread::spawn(move || drop(sent)).join().unwrap();
    // Neither is ever closed; only runs are recorded when they begin.
    std::mem::forget(info_span!("audit.query_run", sql_text = "forgotten"));
    std::mem::forget(info_span!("audit.event", action_type = "forgotten"));
    let entered = info_span!("audit.query_run", sql_text = "forgotten, entered").entered();
    std::mem::forget(entered);
    let report = audit.shutdown_blocking(PATIENCE);
    assert_eq!((report.spooled, report.dropped), (0, 0), "{report:?}");
    assert_law(&audit);
    std::process::exit(0)
}

#[test]
fn spans_closed_at_or_after_thread_exit_or_never_affect_no_other_record() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    assert!(
        run(
            child!(closes_spans_as_threads_end_or_never),
            &postgres,
            &spool
        )
        .success()
    );
    assert_eq!(
        trail(&postgres),
        (
            json!({"in a thread": 2, "closed as the thread ends": 2, "record as the thread ends": 2}),
            json!({
                "sent": "unknown ", "forgotten": "unknown shut_down",
                "forgotten, entered": "unknown shut_down",
            })
        )
    );
    assert_eq!(spool.names(), Vec::<String>::new(), "nothing is left");
}

/// Returns the peak memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

/// Threads at the same time: the Registry supports at most 4,096.
#[cfg(target_os = "linux")]
const THREADS: usize = 1_000;

#[cfg(target_os = "linux")]
fn closes_spans_in_5_000_threads() -> ! {
    let audit = start();
    let mut after_first = None;
    for wave in 0..5 {
        let all_are_there = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                let all_are_there = Arc::clone(&all_are_there);
                std::thread::Builder::new()
                    .stack_size(128 * 1024)
                    .spawn(move || {
                        let span = info_span!("audit.event", action_type = "thread", n, wave);
                        all_are_there.wait();
                        drop(span);
                    })
                    .unwrap()
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        audit.flush_blocking(PATIENCE).unwrap();
        let before = *after_first.get_or_insert_with(most_memory);
        let grown = most_memory() - before;
        assert!(grown < 24 << 20, "{grown} bytes more than {before}");
    }
    let report = audit.shutdown_blocking(PATIENCE);
    assert_eq!((report.committed, report.dropped), (5_000, 0), "{report:?}");
    std::process::exit(0)
}

#[cfg(target_os = "linux")]
#[test]
fn spans_of_5_000_threads_are_committed_once_within_bounded_memory() {
    let postgres = assert_committed_by_itself(
        child!(closes_spans_in_5_000_threads),
        |status| status.success(),
        (json!({"thread": 5_000}), json!({})),
    );
    let different = postgres.psql(
        "SELECT count(DISTINCT (metadata->>'wave', metadata->>'n')), count(DISTINCT id) FROM audit.events",
    );
    assert_eq!(different.trim(), "5000|5000");
}
