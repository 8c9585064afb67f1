use std::time::Instant;

use super::*;
use crate::delivery::commit::deadline;
use crate::queue::Queue;
use crate::{Audit, Health};

#[test]
fn panicked_worker_is_restarted_and_counted_until_shutdown() {
    let counters = Counters::default();
    let queue = Queue::new(1, 1);
    let mut runs = 0;
    let work = || {
        runs += 1;
        assert!(runs > 2, "as if something had gone wrong");
    };
    supervise(&counters, || false, |_| (), work);
    assert_eq!(runs, 3);
    assert_eq!(crate::Stats::take(&counters, &queue).restarts(), 2);
    supervise(&counters, || true, |_| (), || panic!("as if at the end"));
    assert_eq!(crate::Stats::take(&counters, &queue).restarts(), 3);
}

#[test]
fn panicked_sink_reports_retrying_instead_of_starting() {
    let counters = Counters::default();
    let panicked = |fault: &str| counters.sink_panicked(fault);
    supervise(
        &counters,
        || true,
        panicked,
        || panic!("a value of the host's"),
    );
    let stats = crate::Stats::take(&counters, &Queue::new(1, 1));
    assert_eq!(stats.health(), Health::Retrying);
    let fault = stats.fault().unwrap();
    assert!(
        fault.contains("panicked at") && !fault.contains("host's"),
        "{fault}"
    );
}

#[test]
fn restart_backoff_grows_to_a_minute_and_resets_after_a_long_run() {
    let mut pause = threads::Pause::FIRST;
    let pauses: Vec<_> = std::iter::repeat_with(|| pause.after(Duration::ZERO))
        .take(15)
        .collect();
    let first: Vec<_> = pauses.iter().take(4).map(Duration::as_millis).collect();
    assert_eq!(first, [100, 200, 400, 800]);
    assert_eq!(pauses.last(), Some(&MINUTE));
    assert_eq!(pause.after(MINUTE * 2), Duration::from_millis(100));
}

#[test]
fn worker_panic_is_reported_by_location_without_its_message() {
    threads::note_panics();
    let said = threads::tests::place_of(|| panic!("a value of the host's"));
    assert!(said.contains("tests.rs:"), "{said}");
    assert!(!said.contains("value"), "{said}");
}

const MINUTE: Duration = Duration::from_mins(1);

/// Starts a pipeline whose Postgres does not exist; returns it with its folder.
fn start() -> (Audit, std::path::PathBuf) {
    let folder = std::env::temp_dir().join(format!("tracing-audit-{}", id::new(0).simple()));
    let builder = Audit::builder().postgres("postgres://nobody@127.0.0.1:1/nowhere");
    (builder.spool(&folder).start().unwrap(), folder)
}

/// Returns a reply that panics. With nothing to wait for, it is called on the spool thread.
fn panics() -> FlushReply {
    Box::new(|_| panic!("as if something had gone wrong"))
}

#[test]
fn panic_on_the_spool_thread_loses_no_record() {
    let (audit, folder) = start();
    audit.intake().flush(MINUTE, panics());
    let until = Instant::now() + MINUTE;
    while audit.stats().restarts() == 0 {
        assert!(Instant::now() < until, "the panic was noticed");
        std::thread::sleep(Duration::from_millis(1));
    }
    audit.record(crate::Event::new("kept")).unwrap();
    let report = audit.shutdown_blocking(Duration::ZERO);
    assert_eq!((report.spooled, report.dropped), (1, 0));
    drop(audit);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn shutdown_completes_when_the_spool_thread_panics_at_the_same_time() {
    let (audit, folder) = start();
    let (reply, replied) = std::sync::mpsc::sync_channel(1);
    let mut commands = audit.intake().commands();
    commands.flushes.push((deadline(MINUTE), MINUTE, panics()));
    let stopped = Box::new(move |()| reply.send(()).unwrap_or_default());
    commands.stops.push((deadline(MINUTE), stopped));
    drop(commands);
    replied.recv_timeout(MINUTE).unwrap();
    assert_eq!(audit.stats().restarts(), 1);
    drop(audit);
    // Empty: the shutdown removed the process' own folder.
    std::fs::remove_dir(folder).unwrap();
}

#[test]
fn worker_sees_to_it_that_times_are_read_from_the_counter() {
    let (audit, folder) = start();
    let until = Instant::now() + MINUTE;
    while crate::clock::is_counted() == Some(false) {
        assert!(Instant::now() < until, "nobody compares the clocks");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!audit.stats().is_counter_left());
    audit.shutdown_blocking(Duration::ZERO);
    drop(audit);
    // Empty: the shutdown removed the process' own folder.
    std::fs::remove_dir(folder).unwrap();
}
