use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::PathBuf;

use uuid::Uuid;

use super::*;
use crate::config::Builder;
use crate::fork::Process;
use crate::record::Event;
use crate::stats::Counters;

const MINUTE: Duration = Duration::from_mins(1);

thread_local! {
    /// How many of the next attempts to take records from the queue panic.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Panics if a test has asked for it: nothing else panics while records are on their way.
pub(super) fn panic_if_asked() {
    let left = PANICS.get();
    if left > 0 {
        PANICS.set(left - 1);
        panic!("as if something had gone wrong");
    }
}

/// Returns a spooler with a log of its own, and the folder of the log.
fn spooler() -> (Spooler, PathBuf) {
    let root = std::env::temp_dir().join(format!("tracing-audit-spooler-{}", id::new(0)));
    let builder = Builder::default().postgres("postgres://nobody@127.0.0.1:1/nowhere");
    let config = builder.spool(&root).config().unwrap();
    let counters = Arc::new(Counters::default());
    let intake = Intake::new(&config.intake, Arc::clone(&counters), Process::current());
    let spool = Spool::create(&root, "test", Positions::BEGINNING).unwrap();
    let progress = Progress::new(counters);
    let spooler = Spooler::new(
        Arc::new(intake),
        Arc::new(config),
        Arc::new(progress),
        None,
        Arc::new(spool),
    );
    (spooler, root)
}

/// Records events; returns their ids.
fn record(spooler: &Spooler, count: usize) -> Vec<Uuid> {
    (0..count)
        .map(|_| spooler.intake.record(&Event::new("kept").into()).unwrap())
        .collect()
}

/// Returns the ids of the log's records.
fn stored(spooler: &Spooler) -> Vec<Uuid> {
    let mut ids = Vec::new();
    let each = |stored: crate::spool::Stored<'_>| {
        ids.extend(encode::kind_and_id(stored.frame).map(|(_, id)| id));
        ControlFlow::Continue(())
    };
    spooler.spool.log().read(1, each).unwrap();
    ids
}

#[test]
fn records_are_stored_once_after_a_panic_between_the_queue_and_the_log() {
    let (mut spooler, root) = spooler();
    let mut ids = record(&spooler, 3);
    PANICS.set(2);
    assert!(spooler.safe_step().is_empty());
    assert_eq!(PANICS.get(), 1, "it panicked");
    assert_eq!(spooler.intake.queue.size().0, 0, "they left the queue");
    assert_eq!(stored(&spooler), Vec::<Uuid>::new());
    // These are taken once the first ones are stored, and the second panic comes then.
    ids.extend(record(&spooler, 2));
    let until = Instant::now() + MINUTE;
    while stored(&spooler).len() < ids.len() {
        assert!(Instant::now() < until, "{:?}", stored(&spooler));
        spooler.safe_step();
        std::thread::park_timeout(BUSY_POLL);
    }
    spooler.safe_step();
    assert_eq!(stored(&spooler), ids);
    let stats = Stats::take(&spooler.intake.counters, &spooler.intake.queue);
    assert_eq!((stats.accepted(), stats.restarts()), (5, 2));
    assert_eq!(stats.dropped(), 0);
    drop(spooler);
    std::fs::remove_dir_all(root).unwrap();
}
