use super::*;
use crate::config::Builder;
use crate::record::{Event, id};
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
        admitted.admit(NewRecord::from(Event::new(*action)).encode(&config.limits));
    }
    spool
        .append(&admitted, Positions::BEGINNING, &Runs::default())
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
fn what_was_read_ahead_is_written_only_where_it_begins() {
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
