//! A log whose file is cut or changed: never a record that was not written, and no panic.

use super::tests::{at, begun, buffer};
use std::ops::ControlFlow;
use std::panic;

use super::super::chunk::SALT_BYTES;
use super::*;
use crate::redact::PassedRun;
use crate::spool::disk::Disk;

/// What a reader may see of a log after one of its transactions.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    positions: Positions,
    /// Each record with its seq. The salts of records that recovery makes are not known in advance.
    records: Vec<(u64, Option<[u8; SALT_BYTES]>, Vec<u8>)>,
}

struct Sample {
    bytes: Vec<u8>,
    /// After the last transaction, and after the one before it: a power loss may undo the last.
    seen: [Seen; 2],
}

/// Opens an orphaned log and recovers its runs.
fn open(disk: Disk) -> Result<Log, LogError> {
    let log = Log::open_in(Storage::disk(disk))?;
    log.recover("process_lost", 1, |_| ())?;
    Ok(log)
}

const WRITER: Uuid = Uuid::from_u128(7);

fn read(log: &Log) -> Seen {
    let mut records = Vec::new();
    log.read(1, |stored| {
        records.push((stored.seq, Some(stored.salt), stored.frame.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    Seen {
        positions: log.positions(),
        records,
    }
}

/// Returns what is seen of the log once it has been reopened.
fn seen_next(log: &Log, open: &[(Uuid, PassedRun)]) -> Seen {
    let mut seen = read(log);
    for (seq, (_, run)) in (log.next_seq()..).zip(open) {
        seen.records.push((
            seq,
            None,
            crate::record::lost::lost(run.frame(), "process_lost").unwrap(),
        ));
    }
    seen
}

/// Returns a small log with everything in it: chunks on one page and on many, some of them removed,
/// positions, runs.
fn sample(is_closed: bool) -> Sample {
    let disk = Disk::default();
    let positions = at(1).with(Sink::Otlp, 1);
    let log = Log::create_in(Storage::disk(disk.clone()), WRITER, "svc", positions).unwrap();
    let runs = [begun(1), begun(2), begun(3)];
    let news = Runs {
        begun: runs.to_vec(),
        ended: Vec::new(),
    };
    log.append(&[buffer(&[b"gone", b"gone too"])], positions, &news)
        .unwrap();
    let large: Vec<u8> = (0..9_000_u32).map(|n| (n % 251) as u8).collect();
    log.append(
        &[buffer(&[b"a", b"bb", &large]), buffer(&[b"ccc"])],
        positions,
        &Runs::default(),
    )
    .unwrap();
    let positions = at(4).with(Sink::Otlp, 3);
    log.append(&[buffer(&[b"dddd"])], positions, &Runs::default())
        .unwrap();
    let before = seen_next(&log, &runs);
    let ended = Runs {
        begun: Vec::new(),
        ended: vec![runs[1].0],
    };
    log.append(&[buffer(&[b"e", b"f"])], positions, &ended)
        .unwrap();
    let last = seen_next(&log, &[runs[0].clone(), runs[2].clone()]);
    assert_eq!(last.records.first().unwrap().0, 3, "the first is removed");
    assert_eq!(last.records.len(), 9);
    let bytes = disk.bytes();
    drop(log);
    Sample {
        bytes: if is_closed { disk.bytes() } else { bytes },
        seen: [last, before],
    }
}

/// Opens a file and reads it like a sink, as far as possible.
fn open_and_read(bytes: Vec<u8>) -> (Option<Seen>, Result<(), LogError>) {
    let log = match open(Disk::holding(bytes)) {
        Ok(log) => log,
        Err(error) => return (None, Err(error)),
    };
    assert_eq!((log.writer(), log.service()), (WRITER, "svc"));
    let mut records = Vec::new();
    let mut next = log.first_seq();
    let read = loop {
        let read = log.read(next, |stored| {
            records.push((stored.seq, Some(stored.salt), stored.frame.to_vec()));
            ControlFlow::Continue(())
        });
        match read {
            Ok(seq) if seq > next => next = seq,
            Ok(seq) => {
                assert_eq!(seq, log.next_seq());
                break Ok(());
            }
            Err(error) => break Err(error),
        }
    };
    let positions = log.positions();
    (Some(Seen { positions, records }), read)
}

#[derive(Debug, Default)]
struct Tally {
    whole: usize,
    before_the_last: usize,
    begun_to_read: usize,
    damaged: usize,
    not_begun: usize,
    wrong: Vec<String>,
}

/// Returns whether what was seen is a prefix of what was written.
fn is_prefix(seen: &Seen, of: &Seen) -> bool {
    seen.positions == of.positions
        && seen.records.len() <= of.records.len()
        && seen.records.iter().zip(&of.records).all(|(seen, of)| {
            (seen.0, &seen.2) == (of.0, &of.2) && of.1.is_none_or(|salt| Some(salt) == seen.1)
        })
}

fn judge(sample: &Sample, what: &str, bytes: Vec<u8>, tally: &mut Tally) {
    let result = panic::catch_unwind(|| open_and_read(bytes));
    let Ok((seen, result)) = result else {
        tally.wrong.push(format!("{what}: panicked"));
        return;
    };
    if let Some(seen) = &seen
        && !sample.seen.iter().any(|of| is_prefix(seen, of))
    {
        let records = seen.records.iter();
        let seen: Vec<_> = records.map(|(seq, _, frame)| (seq, frame.len())).collect();
        tally
            .wrong
            .push(format!("{what}: not what was written {seen:?}"));
        return;
    }
    match (seen, result) {
        (Some(seen), Ok(())) if seen.records.len() == sample.seen[0].records.len() => {
            tally.whole += 1;
        }
        (Some(seen), Ok(())) if seen.records.len() == sample.seen[1].records.len() => {
            tally.before_the_last += 1;
        }
        (Some(_), Err(error)) if error.is_damage() => tally.begun_to_read += 1,
        (None, Err(error)) if error.is_damage() => tally.damaged += 1,
        (None, Err(LogError::NotBegun)) => tally.not_begun += 1,
        (seen, result) => tally.wrong.push(format!(
            "{what}: {result:?} after {:?}",
            seen.map(|seen| seen.records.len())
        )),
    }
}

fn assert_none_wrong(tally: &Tally) {
    let of_interest: Vec<_> = tally.wrong.iter().take(20).collect();
    assert!(
        tally.wrong.is_empty(),
        "{} wrong, such as {of_interest:#?}",
        tally.wrong.len()
    );
}

/// Returns the offsets to test: every byte, or a selection with more where there is data and most
/// in redb's header.
fn bytes_of_interest(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let is_empty: Vec<_> = bytes
        .chunks(256)
        .map(|chunk| chunk.iter().all(|byte| *byte == 0))
        .collect();
    (0..bytes.len()).filter(move |at| {
        let stride = match at {
            0..16 => 1,
            16..320 => 4,
            _ if is_empty[at / 256] => 4_001,
            _ => 397,
        };
        at % stride == 0 || Disk::is_thorough()
    })
}

#[test]
fn truncated_log_is_reported_as_damaged_or_read_correctly() {
    for is_closed in [true, false] {
        let sample = sample(is_closed);
        let mut tally = Tally::default();
        for len in bytes_of_interest(&sample.bytes) {
            let bytes = sample.bytes[..len].to_vec();
            judge(&sample, &format!("cut at {len}"), bytes, &mut tally);
        }
        assert_none_wrong(&tally);
        assert!(tally.damaged > 20, "{tally:?}");
    }
}

#[test]
fn log_with_a_changed_byte_is_reported_as_damaged_or_read_correctly() {
    for is_closed in [true, false] {
        let sample = sample(is_closed);
        let mut tally = Tally::default();
        for at in bytes_of_interest(&sample.bytes) {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            judge(&sample, &format!("changed at {at}"), bytes, &mut tally);
        }
        assert_none_wrong(&tally);
        assert!(tally.damaged > 20 && tally.whole > 20, "{tally:?}");
    }
}

/// Reads a log with the records 1 and 2, 3, 4 and 5 in three chunks, after `change` was applied to
/// them while its process had it open.
fn changed_while_open(
    change: impl FnOnce(&mut redb::Table<'_, u64, &'static [u8]>),
) -> (Vec<u64>, Result<u64, LogError>) {
    let storage = Storage::disk(Disk::default());
    let log = Log::create_in(storage, WRITER, "svc", at(1)).unwrap();
    for frames in [&[&b"a"[..], b"b"][..], &[b"c"], &[b"d", b"e"]] {
        log.append(&[buffer(frames)], at(1), &Runs::default())
            .unwrap();
    }
    {
        let file = log.file();
        let transaction = file.to_write().unwrap().begin_write().unwrap();
        change(&mut transaction.open_table(RECORDS).unwrap());
        transaction.commit().unwrap();
    }
    let mut seqs = Vec::new();
    let mut next = 1;
    let end = loop {
        let read = log.read(next, |stored| {
            seqs.push(stored.seq);
            ControlFlow::Continue(())
        });
        match read {
            Ok(seq) if seq > next => next = seq,
            end => break end,
        }
    };
    (seqs, end)
}

#[test]
fn chunk_changed_on_disk_is_detected_when_it_is_read() {
    let (seqs, end) = changed_while_open(|_| ());
    assert!(matches!(end, Ok(6)) && seqs == [1, 2, 3, 4, 5]);
    let (seqs, end) = changed_while_open(|records| {
        let mut bytes = records.get(3).unwrap().unwrap().value().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        records.insert(3, bytes.as_slice()).unwrap();
    });
    assert!(matches!(end, Err(LogError::Damaged)) && seqs == [1, 2]);
    let (seqs, end) = changed_while_open(|records| {
        let bytes = records.remove(3).unwrap().unwrap().value().to_vec();
        records.insert(2, bytes.as_slice()).unwrap();
    });
    assert!(matches!(end, Err(LogError::Damaged)) && seqs == [1, 2]);
}

#[test]
fn missing_chunk_is_detected_when_its_neighbors_are_read() {
    let (seqs, end) = changed_while_open(|records| drop(records.remove(3).unwrap()));
    assert!(matches!(end, Err(LogError::Damaged)) && seqs == [1, 2]);
    let (seqs, end) = changed_while_open(|records| drop(records.remove(4).unwrap()));
    assert!(matches!(end, Err(LogError::Damaged)) && seqs == [1, 2, 3]);
    // The oldest chunks are removed when no sink needs them.
    let (seqs, end) = changed_while_open(|records| drop(records.remove(1).unwrap()));
    assert!(
        matches!(end, Ok(6)) && seqs == [3, 4, 5],
        "{seqs:?} {end:?}"
    );
}
