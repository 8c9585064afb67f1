//! The parts of a log's internals that the fuzz target of whole logs needs.

use std::ops::ControlFlow;

use super::*;
use crate::redact::PassedRun;
use crate::spool::disk::Disk;

/// Returns a log's file, either closed or as it is when its process dies, and the records that the
/// next process finds, from the seq 1 on: all of them, and without the last transaction if that is
/// damaged.
pub(in crate::spool) fn sample(is_closed: bool) -> (Vec<u8>, [Vec<Vec<u8>>; 2]) {
    let disk = Disk::default();
    let positions = Positions::BEGINNING.with(Sink::Otlp, 1);
    let storage = Storage::disk(disk.clone());
    let log = Log::create_in(storage, Uuid::from_u128(7), "svc", positions).unwrap();
    let mut frames = crate::fuzzing::frames();
    frames.push(vec![7; 9_000]);
    let begun = crate::fuzzing::begun_frames();
    for (n, frame) in (0..).zip(&frames) {
        let mut buffer = Frames::default();
        buffer.push(frame);
        buffer.push(&[n]);
        let runs = Runs {
            begun: vec![(
                Uuid::from_u128(u128::from(n)),
                PassedRun::stored(begun[0].clone()),
            )],
            ended: Vec::new(),
        };
        log.append(&[Passed::stored(buffer)], positions, &runs)
            .unwrap();
    }
    let mut all = Vec::new();
    log.read(1, |stored| {
        all.push(stored.frame.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    let lost = crate::record::lost::lost(&begun[0], "process_lost").unwrap();
    let found = [frames.len(), frames.len() - 1].map(|chunks| {
        let records = all[..2 * chunks].iter().cloned();
        records.chain(vec![lost.clone(); chunks]).collect()
    });
    let bytes = disk.bytes();
    drop(log);
    (if is_closed { disk.bytes() } else { bytes }, found)
}

/// A value that replaces a stored one.
pub(in crate::spool) struct Change<'a> {
    pub(in crate::spool) kind: u8,
    pub(in crate::spool) key: u8,
    pub(in crate::spool) at: u32,
    pub(in crate::spool) value: &'a [u8],
}

pub(in crate::spool) fn change(disk: &Disk, change: Change<'_>) {
    let database = Storage::disk(disk.clone()).open().unwrap();
    let transaction = database.begin_write().unwrap();
    let Change {
        kind,
        key,
        at,
        value,
    } = change;
    match kind {
        0 => {
            let mut records = transaction.open_table(RECORDS).unwrap();
            let keys: Vec<_> = records
                .iter()
                .unwrap()
                .map(|entry| entry.unwrap().0.value())
                .collect();
            let first = keys[usize::from(key) % keys.len()];
            let mut chunk = records.get(first).unwrap().unwrap().value().to_vec();
            for (n, byte) in value.iter().enumerate() {
                let len = chunk.len().max(1);
                if let Some(changed) = chunk.get_mut((at as usize + n) % len) {
                    *changed ^= byte;
                }
            }
            let chunk = chunk::sealed(first, chunk);
            records.insert(first, chunk.as_slice()).unwrap();
        }
        1 => {
            let chunk = chunk::sealed(u64::from(at), value.to_vec());
            let mut records = transaction.open_table(RECORDS).unwrap();
            records.insert(u64::from(at), chunk.as_slice()).unwrap();
        }
        2 => {
            let key = ["version", "writer", "service"][usize::from(key % 3)];
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert(key, value).unwrap();
        }
        3 => {
            let position = match key % 3 {
                0 => u64::from(at),
                1 => u64::MAX - u64::from(at),
                _ => u64::from(at) << 32,
            };
            let sink = Sink::ALL[usize::from(key) % 2];
            let mut positions = transaction.open_table(POSITIONS).unwrap();
            positions.insert(sink.name(), position).unwrap();
        }
        _ => {
            let mut open = transaction.open_table(OPEN).unwrap();
            open.insert(&[key; 16], value).unwrap();
        }
    }
    transaction.commit().unwrap();
}

/// Reads the log as the next process does, as far as possible.
pub(in crate::spool) fn open_and_read(disk: &Disk) -> Vec<(u64, Vec<u8>)> {
    let mut read = Vec::new();
    let Ok(log) = Log::open_in(Storage::disk(disk.clone())) else {
        return read;
    };
    if log.recover("process_lost", 1, |_| ()).is_err() {
        return read;
    }
    let mut next = log.first_seq();
    while let Ok(seq) = log.read(next, |stored| {
        read.push((stored.seq, stored.frame.to_vec()));
        ControlFlow::Continue(())
    }) && seq > next
    {
        next = seq;
    }
    let _ = log.excess(0, u64::MAX);
    let _ = log.append(&[], log.positions(), &Runs::default());
    read
}
