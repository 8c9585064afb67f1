use std::fs::File;
use std::path::PathBuf;

use super::*;
use crate::config::Builder;
use crate::record::{Event, id};
use crate::redact::Passed;
use crate::spool::{Admitted, Positions, Runs};
use crate::vocabulary::Kind;

/// Returns a drain of a log that holds these events, and the folder of the log.
fn drain(actions: &[&str]) -> (Drain, PathBuf) {
    let root = std::env::temp_dir().join(format!("tracing-audit-drain-{}", id::new(0)));
    let builder = Builder::default().postgres("postgres://nobody@127.0.0.1:1/nowhere");
    let config = builder.spool(&root).config().unwrap();
    let spool = Spool::create(&root, "test", Positions::BEGINNING).unwrap();
    let mut admitted = Admitted::default();
    for action in actions {
        let record = NewRecord::from(Event::new(*action));
        admitted.admit(Passed::stored(record.encode(&config.intake.limits)));
    }
    spool
        .append(&admitted, || Positions::BEGINNING, &Runs::default())
        .unwrap();
    let counters = Arc::new(Counters::default());
    let drain = Drain::new(
        Arc::new(config),
        Arc::new(Progress::new(Arc::clone(&counters))),
        counters,
        Arc::new(spool),
        None,
        Arc::new(Required::new([false; Kind::ALL.len()])),
        Box::new(|_, _| ()),
    );
    (drain, root)
}

#[test]
fn read_ahead_draft_is_used_only_at_the_seq_where_it_begins() {
    let (mut drain, root) = drain(&["a", "b", "c", "d"]);
    let spool = Arc::clone(drain.sources[0].source.spool());
    // Reads a part of the batch after the first record.
    let ahead = |drain: &mut Drain| {
        let (mut draft, limits) = (Draft::new(2), drain.config.batch);
        let _ = drain.batcher.read(&mut draft, spool.log(), 4, 1, &limits);
        assert!(!draft.is_empty());
        drain.sources[0].ahead = Some(draft);
    };
    for position in [2, 1, 3] {
        ahead(&mut drain);
        let batch = drain.read(0, spool.log(), position).unwrap().unwrap();
        assert_eq!((batch.first_seq, batch.last_seq), (position, 4));
        let seqs: Vec<u64> = (position..=4).collect();
        assert_eq!(batch.leaves[0].seqs, seqs, "each once, none left out");
        assert!(drain.sources[0].ahead.is_none());
    }
    drop((drain, spool));
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn no_batch_waits_for_the_folders_of_living_processes() {
    const LIVING: u32 = 200;
    let (mut drain, root) = drain(&["a"]);
    let lock = |n: u32| {
        let folder = root.join(id::new(i64::from(n)).to_string());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(spool::directory::LOG_FILE), "").unwrap();
        let lock = File::create(folder.join("lock")).unwrap();
        lock.try_lock().unwrap();
        lock
    };
    let living: Vec<_> = (0..LIVING).map(lock).collect();
    // As while a child that its process forked still runs.
    let orphan = Spool::create(&root, "orphan", Positions::BEGINNING).unwrap();
    let path = orphan.path().to_owned();
    drain.others = Others::new(spool::others(drain.sources[0].source.spool()));

    let began = Instant::now();
    drain.adopt();
    assert_eq!(drain.sources.len(), 1);
    // The first batch is next.
    let waited = began.elapsed();
    assert!(waited < spool::OWNED_AFTER * LIVING / 2, "{waited:?}");

    drop(orphan);
    let mut adopted = Vec::new();
    let until = Instant::now() + Duration::from_mins(1);
    while drain.next_adoption().is_some() {
        assert!(Instant::now() < until, "none is tried for ever");
        std::thread::park_timeout(Duration::from_millis(1));
        drain.adopt();
        adopted.extend(drain.sources.drain(1..));
    }
    let adopted: Vec<_> = adopted
        .iter()
        .map(|source| source.source.spool().path())
        .collect();
    assert_eq!(adopted, [path]);
    drop((drain, living));
    std::fs::remove_dir_all(root).unwrap();
}
