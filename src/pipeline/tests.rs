use std::time::Instant;

use super::*;
use crate::delivery::commit::deadline;
use crate::queue::Queue;
use crate::{Audit, Health};

#[test]
fn a_worker_that_panics_is_started_again_and_counted_until_it_is_to_stop() {
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
fn a_sink_that_panics_is_not_as_if_it_was_just_starting() {
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
fn pauses_between_restarts_grow_to_a_minute_and_begin_anew_after_a_long_run() {
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
fn the_place_of_a_workers_panic_is_known_without_its_words() {
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
fn a_panic_on_the_spools_thread_costs_no_record() {
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
fn a_shutdown_that_comes_together_with_a_panic_is_carried_out() {
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
