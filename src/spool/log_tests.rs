use std::path::PathBuf;

use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;

use super::super::identity::Disagreement;
use super::*;
use crate::record::encode;
use crate::redact::PassedRun;
pub(super) use crate::spool::chunk::tests::buffer;

pub(super) fn at(position: u64) -> Positions {
    Positions::BEGINNING.with(Sink::Postgres, position)
}

fn all(log: &Log, from: u64) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    log.read(from, |stored| {
        all.push((stored.seq, stored.frame.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!(
            "tracing-audit-log-{}",
            crate::record::id::new(0).simple()
        ));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
    fn file(&self) -> std::path::PathBuf {
        self.0.join("spool.redb")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn appended_records_are_read_after_a_reopen() {
    let folder = Folder::new();
    let writer = Uuid::from_u128(7);
    let log = Log::create(&folder.file(), writer, "svc", Positions::BEGINNING).unwrap();
    log.append(
        &[buffer(&[b"a", b"bb"]), buffer(&[b"ccc"])],
        at(1),
        &Runs::default(),
    )
    .unwrap();
    log.append(&[buffer(&[b"d"])], at(1), &Runs::default())
        .unwrap();
    let expected: Vec<(u64, Vec<u8>)> = vec![
        (1, b"a".to_vec()),
        (2, b"bb".to_vec()),
        (3, b"ccc".to_vec()),
        (4, b"d".to_vec()),
    ];
    assert_eq!(all(&log, 1), expected);
    drop(log);
    let log = Log::open(&folder.file()).unwrap();
    assert_eq!((log.writer(), log.service()), (writer, "svc"));
    assert_eq!((log.first_seq(), log.next_seq()), (1, 5));
    assert_eq!(all(&log, 1), expected);
    assert_eq!(all(&log, 3), expected[2..]);
    assert_eq!(all(&log, 9), []);
}

#[test]
fn only_whole_chunks_before_the_position_are_removed() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", Positions::BEGINNING).unwrap();
    log.append(&[buffer(&[b"a", b"b"])], at(1), &Runs::default())
        .unwrap();
    log.append(&[buffer(&[b"c"])], at(2), &Runs::default())
        .unwrap();
    assert_eq!(log.first_seq(), 1);
    log.append(&[], at(3), &Runs::default()).unwrap();
    assert_eq!(log.first_seq(), 3);
    assert_eq!(all(&log, 3), [(3, b"c".to_vec())]);
    log.append(&[], at(4), &Runs::default()).unwrap();
    assert_eq!((log.first_seq(), log.next_seq(), log.bytes()), (4, 4, 0));
    drop(log);
    let log = Log::open(&folder.file()).unwrap();
    assert_eq!((log.first_seq(), log.next_seq(), log.bytes()), (4, 4, 0));
    assert_eq!(log.position(Sink::Postgres), 4);
    log.append(&[buffer(&[b"d"])], at(4), &Runs::default())
        .unwrap();
    assert_eq!(all(&log, 1), [(4, b"d".to_vec())]);
}

#[test]
fn read_stops_at_the_record_that_the_reader_refuses() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", Positions::BEGINNING).unwrap();
    log.append(&[buffer(&[b"a", b"b", b"c"])], at(1), &Runs::default())
        .unwrap();
    let mut seen = 0;
    let next = log
        .read(1, |_| {
            seen += 1;
            if seen > 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(next, 3);
}

#[test]
fn append_after_a_failed_write_stores_each_record_once() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", Positions::BEGINNING).unwrap();
    log.append(&[buffer(&[b"a"])], at(1), &Runs::default())
        .unwrap();
    // As after a failed write.
    log.close();
    assert_eq!(all(&log, 1), [(1, b"a".to_vec())]);
    log.append(&[buffer(&[b"b"])], at(1), &Runs::default())
        .unwrap();
    // As after a write that was reported as failed but reached the disk.
    let before = log.state();
    log.append(&[buffer(&[b"c"])], at(1), &Runs::default())
        .unwrap();
    *log.state.lock().unwrap() = before;
    log.close();
    log.append(&[buffer(&[b"c"])], at(1), &Runs::default())
        .unwrap();
    assert_eq!(
        all(&log, 1),
        [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())]
    );
}

/// As when the disk fails: closed, and it cannot be reopened.
fn fail(log: &Log, folder: &Folder) -> PathBuf {
    let aside = folder.file().with_extension("aside");
    log.close();
    std::fs::rename(folder.file(), &aside).unwrap();
    std::fs::create_dir(folder.file()).unwrap();
    aside
}

fn heal(folder: &Folder, aside: &Path) {
    std::fs::remove_dir(folder.file()).unwrap();
    std::fs::rename(aside, folder.file()).unwrap();
}

#[test]
fn read_only_log_is_read_and_its_file_stays_unchanged() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
    log.append(&[buffer(&[b"a", b"b"])], at(1), &Runs::default())
        .unwrap();
    // As after a kill: redb has much to write when it opens this.
    let killed = folder.file().with_extension("killed");
    std::fs::copy(folder.file(), &killed).unwrap();
    drop(log);
    for file in [folder.file(), killed] {
        let mut rights = std::fs::metadata(&file).unwrap().permissions();
        rights.set_readonly(true);
        std::fs::set_permissions(&file, rights).unwrap();
        let before = std::fs::read(&file).unwrap();
        let log = Log::open_to_read(&file).unwrap();
        assert_eq!(log.service(), "svc");
        assert_eq!(all(&log, 1), [(1, b"a".to_vec()), (2, b"b".to_vec())]);
        drop(log);
        assert!(std::fs::read(&file).unwrap() == before);
    }
}

#[test]
fn refused_records_are_read_from_memory_and_stored_once_the_disk_accepts_writes() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
    log.append(&[buffer(&[b"a", b"b"])], at(1), &Runs::default())
        .unwrap();
    let aside = fail(&log, &folder);
    for frame in [&b"c"[..], b"d", b"e"] {
        let buffers = [buffer(&[frame])];
        assert!(log.append(&buffers, at(1), &Runs::default()).is_err());
        assert!(log.keep(&buffers, 1_000).unwrap());
    }
    assert!(!log.keep(&[buffer(&[&[0; 2_000]])], 1_000).unwrap());
    assert_eq!((log.next_seq(), log.in_memory(1)), (6, 3));
    // Records on disk are out of reach, those in memory are not.
    assert!(log.read(1, |_| ControlFlow::Continue(())).is_err());
    let c = (3, b"c".to_vec());
    let (d, e) = ((4, b"d".to_vec()), (5, b"e".to_vec()));
    assert_eq!(all(&log, 3), [c, d.clone(), e.clone()]);
    // Records that no sink needs are released.
    assert!(log.append(&[], at(4), &Runs::default()).is_err());
    assert_eq!(log.in_memory(1), 2);
    heal(&folder, &aside);
    log.append(&[buffer(&[b"f"])], at(4), &Runs::default())
        .unwrap();
    assert_eq!(log.in_memory(1), 0);
    let f = (6, b"f".to_vec());
    assert_eq!(all(&log, 4), [d.clone(), e.clone(), f.clone()]);
    drop(log);
    let log = Log::open(&folder.file()).unwrap();
    assert_eq!(all(&log, 4), [d, e, f]);
    assert_eq!(log.next_seq(), 7);
}

#[test]
fn write_that_reached_the_disk_though_reported_as_failed_is_stored_once() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
    log.append(&[buffer(&[b"a"])], at(1), &Runs::default())
        .unwrap();
    let before = log.state();
    log.append(&[buffer(&[b"b"])], at(1), &Runs::default())
        .unwrap();
    *log.state.lock().unwrap() = before;
    log.close();
    assert!(log.keep(&[buffer(&[b"b"])], 1_000).unwrap());
    log.append(&[buffer(&[b"c"])], at(1), &Runs::default())
        .unwrap();
    let frames: Vec<_> = all(&log, 1).into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(frames, [b"a", b"b", b"c"]);
}

/// Sets the version of a log.
pub(in crate::spool) fn set_version(file: &Path, version: u32) {
    let database = Database::open(file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert("version", &version.to_le_bytes()[..])
        .unwrap();
    transaction.commit().unwrap();
}

/// Returns a run that has begun.
pub(super) fn begun(id: u128) -> (Uuid, PassedRun) {
    let id = Uuid::from_u128(id);
    let header = encode::Header {
        kind: crate::vocabulary::Kind::QueryRun,
        evidence: encode::Evidence::None,
        id,
        parent: Uuid::nil(),
        root: id,
        started_us: 7,
        duration_us: 0,
    };
    let mut frame = Vec::new();
    encode::begun(&mut frame, &header, None, &[], &[], &[]);
    (id, PassedRun::stored(frame))
}

#[test]
fn run_in_flight_at_a_crash_is_recovered_as_one_record() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
    let runs = Runs {
        begun: vec![begun(1), begun(2)],
        ended: Vec::new(),
    };
    log.append(&[buffer(&[b"a"])], at(1), &runs).unwrap();
    let ended = Runs {
        begun: Vec::new(),
        ended: vec![Uuid::from_u128(1)],
    };
    log.append(&[], at(1), &ended).unwrap();
    drop(log);
    for _ in 0..2 {
        let log = Log::open(&folder.file()).unwrap();
        log.recover("process_lost", 1, |_| ()).unwrap();
        let all = all(&log, 1);
        assert_eq!(all.len(), 2, "once, however often it is opened");
        assert_eq!(all[0], (1, b"a".to_vec()));
        let (_, id) = encode::kind_and_id(&all[1].1).unwrap();
        assert_eq!(id, Uuid::from_u128(2));
    }
}

#[test]
fn recovered_run_gets_a_seq_after_records_committed_from_memory() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
    let runs = Runs {
        begun: vec![begun(1)],
        ended: Vec::new(),
    };
    log.append(&[buffer(&[b"a", b"b"])], at(1), &runs).unwrap();
    drop(log);
    for _ in 0..2 {
        let log = Log::open(&folder.file()).unwrap();
        // Postgres has 3 to 6 as well.
        log.recover("process_lost", 7, |_| ()).unwrap();
        let seqs: Vec<_> = all(&log, 1).into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(seqs, [1, 2, 7]);
        assert_eq!(all(&log, 7).len(), 1);
        assert_eq!(log.next_seq(), 8);
    }
    let log = Log::open(&folder.file()).unwrap();
    log.append(&[buffer(&[b"c"])], at(7), &Runs::default())
        .unwrap();
    let seqs: Vec<_> = all(&log, 7).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!((seqs, log.first_seq()), (vec![7, 8], 7));
}

#[test]
fn chunk_is_kept_until_every_configured_sink_has_read_past_it() {
    let folder = Folder::new();
    let both = at(1).with(Sink::Otlp, 1);
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", both).unwrap();
    for frame in [&b"a"[..], b"b", b"c"] {
        log.append(&[buffer(&[frame])], both, &Runs::default())
            .unwrap();
    }
    log.append(&[], at(4).with(Sink::Otlp, 2), &Runs::default())
        .unwrap();
    assert_eq!(all(&log, 1), [(2, b"b".to_vec()), (3, b"c".to_vec())]);
    assert_eq!(
        (log.waiting(Sink::Otlp), log.waiting(Sink::Postgres)),
        (2, 0)
    );
    drop(log);
    // The next process knows every position; a sink that is not set up needs nothing.
    let log = Log::open(&folder.file()).unwrap();
    assert_eq!(log.positions(), at(4).with(Sink::Otlp, 2));
    log.append(&[], at(4), &Runs::default()).unwrap();
    assert_eq!(all(&log, 1), []);
    assert_eq!(log.waiting(Sink::Otlp), 0);
    drop(log);
    let log = Log::open(&folder.file()).unwrap();
    assert_eq!((log.next_seq(), log.positions()), (4, at(4)));
}

#[test]
fn sink_without_a_position_in_the_log_needs_none_of_its_records() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
    log.append(&[buffer(&[b"a"])], at(1), &Runs::default())
        .unwrap();
    drop(log);
    let database = Database::open(folder.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(POSITIONS)
        .unwrap()
        .remove(Sink::Otlp.name())
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let log = Log::open(&folder.file()).unwrap();
    assert_eq!(
        (log.waiting(Sink::Otlp), log.waiting(Sink::Postgres)),
        (0, 1)
    );
}

#[test]
fn excess_covers_the_fewest_chunks_whose_removal_makes_the_rest_fit() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
    for _ in 0..10 {
        log.append(
            &[buffer(&[&[0; 1_000], &[1; 1_000]])],
            at(1),
            &Runs::default(),
        )
        .unwrap();
    }
    let whole = log.bytes();
    assert_eq!(log.excess(whole, 21).unwrap(), 0);
    assert_eq!(log.excess(whole - 1, 21).unwrap(), 3);
    assert_eq!(log.excess(whole / 2, 21).unwrap(), 11);
    assert_eq!(log.excess(0, 21).unwrap(), 21);
    assert_eq!(log.excess(0, 5).unwrap(), 5);
}

#[test]
fn salts_differ() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::nil(), "svc", Positions::BEGINNING).unwrap();
    log.append(&[buffer(&[b"a", b"b"])], at(1), &Runs::default())
        .unwrap();
    let mut salts = Vec::new();
    log.read(1, |stored| {
        salts.push(stored.salt);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_ne!(salts[0], salts[1]);
    assert_ne!(salts[0], [0; 16]);
}

#[test]
fn new_writer_and_its_reason_survive_a_reopen() {
    let folder = Folder::new();
    let first = Uuid::from_u128(1);
    let log = Log::create(&folder.file(), first, "svc", at(1)).unwrap();
    let old = log.identity();
    assert_eq!((old.writer, old.base, log.is_disputed()), (first, 0, false));
    log.append(
        &[buffer(&[b"a", b"b", b"c", b"d"])],
        at(4),
        &Runs::default(),
    )
    .unwrap();
    drop(log);
    // The secret stays the same.
    let log = Log::open(&folder.file()).unwrap();
    assert_eq!(log.identity().secret, old.secret);
    let why = Disagreement {
        writer: first,
        cause: crate::spool::Cause::DatabaseLostRecords,
        first_seq: 2,
        last_seq: 3,
        lost: 0,
    };
    let second = Uuid::from_u128(2);
    let left = crate::spool::Former {
        writer: first,
        base: 0,
        end: 2,
    };
    log.rebase(&log.hold(), second, 2, |past| {
        past.leave(left, &[why], Some(2));
    })
    .unwrap();
    let is_new = |log: &Log| {
        let new = log.identity();
        assert_eq!((new.writer, new.base), (second, 1));
        assert_ne!(new.secret, old.secret);
        assert_eq!((new.seq(2), new.seq_in_log(1)), (1, 2));
        assert_eq!(log.position(Sink::Postgres), 2);
        assert_eq!(log.past().untold().collect::<Vec<_>>(), [why]);
        assert_eq!(log.past().formers, [left]);
    };
    is_new(&log);
    drop(log);
    let log = Log::open(&folder.file()).unwrap();
    is_new(&log);
    assert_eq!(log.next_seq(), 5, "the records are as they were");
    log.told(&why, 5).unwrap();
    let told = log.past();
    drop(log);
    let log = Log::open(&folder.file()).unwrap();
    assert_eq!((log.writer(), log.is_disputed()), (second, false));
    assert_eq!(log.past(), told);
}

#[test]
fn no_position_is_read_that_a_new_writer_moves_back_meanwhile() {
    let folder = Folder::new();
    let log = Log::create(&folder.file(), Uuid::from_u128(1), "svc", at(1)).unwrap();
    for frame in [b"a", b"b", b"c", b"d"] {
        log.append(&[buffer(&[frame])], at(1), &Runs::default())
            .unwrap();
    }
    log.set_positions(|| {
        assert!(log.holding.try_lock().is_err(), "no writer comes meanwhile");
        at(2)
    })
    .unwrap();
    // Postgres had all, and then has the first one alone.
    let position = AtomicU64::new(5);
    std::thread::scope(|scope| {
        let held = log.hold();
        let storing = scope.spawn(|| log.set_positions(|| at(position.load(Ordering::Relaxed))));
        log.rebase(&held, Uuid::from_u128(2), 2, |_| ()).unwrap();
        position.store(2, Ordering::Relaxed);
        drop(held);
        storing.join().unwrap().unwrap();
    });
    assert_eq!((log.first_seq(), log.next_seq()), (2, 5));
    assert_eq!(log.position(Sink::Postgres), 2);
}

#[test]
fn log_that_was_never_on_disk_begins_with_its_first_record_in_memory() {
    let log = Log::not_made(
        Storage::file("/nowhere/log".into()),
        Identity::new(Uuid::from_u128(1), 0).unwrap(),
        "svc",
        at(1),
    );
    for frames in [[&b"a"[..], b"b"], [b"c", b"d"]] {
        assert!(log.keep(&[buffer(&frames)], 1_000).unwrap());
    }
    assert_eq!((log.first_seq(), log.next_seq()), (1, 5));
    for (position, first) in [(2, 1), (3, 3), (5, 5)] {
        log.append(&[], at(position), &Runs::default()).unwrap_err();
        assert_eq!((log.first_seq(), log.next_seq()), (first, 5));
    }
    assert!(log.keep(&[buffer(&[b"e"])], 1_000).unwrap());
    assert_eq!((log.first_seq(), log.next_seq()), (5, 6));
}
