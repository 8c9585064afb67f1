//! A log whose disk fails or loses its power, used as the pipeline uses it.

use std::collections::BTreeMap;

use super::tests::{at, begun, chunk};
use super::*;
use crate::spool::disk::{Disk, Fault, How};

/// Opens what another process left, and makes records of its runs.
fn open(disk: Disk) -> Result<Log, LogError> {
    let log = Log::open_in(Storage::disk(disk))?;
    log.recover("process_lost", 1, |_| ())?;
    Ok(log)
}

const WRITER: Uuid = Uuid::from_u128(7);

/// What a process has of its log, as plain as can be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    /// The records from the seq 1 on.
    frames: Vec<Vec<u8>>,
    /// Runs that have begun.
    open: BTreeMap<Uuid, Vec<u8>>,
    /// The seq before which nothing is needed.
    position: u64,
}

impl Known {
    /// What the next process makes of it.
    fn recovered(mut self) -> Self {
        for frame in std::mem::take(&mut self.open).into_values() {
            self.frames
                .push(encode::lost(&frame, "process_lost").unwrap());
        }
        self
    }

    fn apply(&mut self, chunks: &[Chunk], position: u64, runs: &Runs) {
        let frames = chunks.iter().flat_map(Chunk::frames);
        self.frames.extend(frames.map(<[u8]>::to_vec));
        self.position = position;
        self.open.extend(runs.begun.iter().cloned());
        for id in &runs.ended {
            self.open.remove(id);
        }
    }
}

/// What a log holds must be what is known of it, from its first record on.
fn differs(log: &Log, known: &Known) -> Option<String> {
    let end = known.frames.len() as u64 + 1;
    if log.next_seq() != end {
        return Some(format!("{} instead of {end} records", log.next_seq()));
    }
    if log.position(Sink::Postgres) != known.position {
        return Some(format!(
            "{:?} instead of {}",
            log.positions(),
            known.position
        ));
    }
    if log.first_seq() > known.position {
        return Some(format!("{} is the first", log.first_seq()));
    }
    let mut next = log.first_seq();
    let read = log.read(next, |stored| {
        if known.frames[usize::try_from(stored.seq).unwrap() - 1] != stored.frame {
            return ControlFlow::Break(());
        }
        next = stored.seq + 1;
        ControlFlow::Continue(())
    });
    match read {
        Ok(read) if read == end => None,
        read => Some(format!("{read:?} at {next}")),
    }
}

/// A process that does with its log what the pipeline does.
struct Process {
    disk: Disk,
    log: Log,
    /// What comes from the application.
    queue: Vec<Chunk>,
    begins: Vec<(Uuid, Vec<u8>)>,
    ends: Vec<Uuid>,
    /// Taken from there and not yet in the log.
    chunks: Vec<Chunk>,
    runs: Runs,
    /// What is in the log, on disk or in memory.
    known: Known,
    /// What is durable.
    durable: Known,
    /// Who reads, and what was read.
    position: u64,
    read: Vec<Vec<u8>>,
}

impl Process {
    fn start(disk: &Disk) -> Result<Self, LogError> {
        let log = Log::create_in(Storage::disk(disk.clone()), WRITER, "svc", at(1))?;
        let known = Known {
            position: 1,
            ..Known::default()
        };
        Ok(Self {
            disk: disk.clone(),
            log,
            queue: Vec::new(),
            begins: Vec::new(),
            ends: Vec::new(),
            chunks: Vec::new(),
            runs: Runs::default(),
            durable: known.clone(),
            known,
            position: 1,
            read: Vec::new(),
        })
    }

    /// Whether it has become durable.
    fn store(&mut self) -> bool {
        if self.chunks.is_empty() {
            // Else the same is tried again.
            self.chunks.append(&mut self.queue);
            self.runs.begun.append(&mut self.begins);
            self.runs.ended.append(&mut self.ends);
        }
        let positions = at(self.position);
        let stored = self.log.append(&self.chunks, positions, &self.runs);
        if stored.is_ok() {
            self.known.apply(&self.chunks, self.position, &self.runs);
            // A write that was said to have failed and had not says nothing of newer positions.
            self.known.position = self.log.position(Sink::Postgres);
            self.durable = self.known.clone();
            self.runs = Runs::default();
            self.chunks.clear();
        } else if self.log.keep_in_memory(&self.chunks, 400).unwrap() {
            let none = Runs::default();
            self.known.apply(&self.chunks, self.known.position, &none);
            self.chunks.clear();
        }
        stored.is_ok()
    }

    /// Reads as far as possible, as a sink does.
    fn drain(&mut self) {
        let mut next = self.position;
        loop {
            let read = self.log.read(next, |stored| {
                assert_eq!(stored.seq, self.read.len() as u64 + 1);
                self.read.push(stored.frame.to_vec());
                ControlFlow::Continue(())
            });
            match read {
                Ok(seq) if seq > next => next = seq,
                _ => break,
            }
        }
        self.position = next;
    }
}

/// What a process does, one after the other.
fn steps() -> Vec<Box<dyn Fn(&mut Process)>> {
    fn records(frames: &'static [&'static [u8]]) -> Box<dyn Fn(&mut Process)> {
        Box::new(|process| process.queue.push(chunk(frames)))
    }
    vec![
        records(&[b"a", b"bb"]),
        Box::new(|process| process.begins.extend([begun(1), begun(2)])),
        records(&[&[7; 150], b"d"]),
        Box::new(Process::drain),
        Box::new(|process| {
            process.queue.push(chunk(&[b"e"]));
            process.ends.push(begun(1).0);
        }),
        records(&[&[8; 9_000]]),
        Box::new(Process::drain),
        records(&[b"g", b"h", b"i"]),
        records(&[b"j"]),
    ]
}

/// All that was done to a disk on which nothing failed, with what was stored after how many
/// operations.
fn undisturbed() -> (Disk, Vec<(usize, Known)>) {
    let disk = Disk::remembering();
    let mut process = Process::start(&disk).unwrap();
    let mut stored = vec![(disk.operations(), process.durable.clone())];
    for step in steps() {
        step(&mut process);
        assert!(process.store());
        stored.push((disk.operations(), process.durable.clone()));
    }
    let end = process.durable.clone();
    drop(process);
    stored.push((disk.operations(), end));
    (disk, stored)
}

/// Opens what is left after so many operations: it is what was stored, or what was just being
/// stored. Returns whether there is a log.
fn is_there(operations: usize, disk: &Disk, stored: &[(usize, Known)]) -> bool {
    let done = stored.partition_point(|(after, _)| *after <= operations);
    let log = match open(disk.clone()) {
        Ok(log) => log,
        Err(LogError::NotBegun) if done == 0 => return false,
        Err(error) => panic!("after {operations}: {error:?}"),
    };
    let may_be = &stored[done.saturating_sub(1)..(done + 1).min(stored.len())];
    let differences: Vec<_> = may_be
        .iter()
        .map(|(_, known)| differs(&log, &known.clone().recovered()))
        .collect();
    let is_either = differences.iter().any(Option::is_none);
    assert!(is_either, "after {operations}: {differences:?}");
    // And a loss of power takes nothing of what recovery has stored.
    let seen = log.next_seq();
    let log = open(disk.without_power(7)).unwrap();
    assert_eq!(log.next_seq(), seen, "after {operations}");
    true
}

#[test]
fn what_was_stored_survives_a_loss_of_power_at_any_moment() {
    let (disk, stored) = undisturbed();
    let tries = if Disk::is_thorough() { 200 } else { 4 };
    let mut without_a_log = 0;
    disk.losses_of_power(tries, |operations, bytes| {
        if !is_there(operations, &Disk::holding(bytes), &stored) {
            without_a_log += 1;
        }
    });
    assert!(without_a_log > 0);
}

#[test]
fn what_was_stored_survives_a_kill_at_any_moment() {
    let (disk, stored) = undisturbed();
    let there: Vec<_> = (0..=disk.operations())
        .map(|operations| is_there(operations, &Disk::holding(disk.after(operations)), &stored))
        .collect();
    assert!(!there[0] && there.is_sorted(), "{there:?}");
}

/// Runs it all with a fault; what went wrong.
fn run_with(fault: Fault) -> Result<(), String> {
    let disk = Disk::default();
    disk.set_fault(Some(fault));
    let mut process = match Process::start(&disk) {
        Ok(process) => process,
        Err(_) => {
            disk.set_fault(None);
            // Another process clears it away.
            return match open(disk) {
                Err(LogError::NotBegun) => Ok(()),
                Ok(log) if log.next_seq() == 1 => Ok(()),
                other => Err(format!("what was not made is {other:?}")),
            };
        }
    };
    let mut has_failed = false;
    for (number, step) in (0..).zip(steps()) {
        step(&mut process);
        let stored = process.store();
        has_failed |= !stored;
        if stored && has_failed {
            survives(&process, &process.durable, number)?;
        }
    }
    disk.set_fault(None);
    for _ in 0..2 {
        if !process.store() {
            return Err(String::from("it does not recover"));
        }
    }
    if process.log.in_memory(1) > 0 {
        return Err(String::from("it stays in memory"));
    }
    survives(&process, &process.known, 100)?;
    process.drain();
    if process.read != process.known.frames {
        return Err(format!("{} were read", process.read.len()));
    }
    let known = process.known.recovered();
    drop(process.log);
    let log = open(disk).map_err(|error| format!("{error:?}"))?;
    differs(&log, &known).map_or(Ok(()), Err)
}

/// What was said to be stored is there after a loss of power.
fn survives(process: &Process, known: &Known, seed: u64) -> Result<(), String> {
    for seed in [seed, seed + 1_000] {
        let disk = process.disk.without_power(seed);
        let log = open(disk).map_err(|error| format!("after a loss of power: {error:?}"))?;
        if let Some(difference) = differs(&log, &known.clone().recovered()) {
            return Err(format!("after a loss of power: {difference}"));
        }
    }
    Ok(())
}

#[test]
fn a_disk_that_fails_at_any_operation_costs_no_record_and_none_is_called_durable_that_is_not() {
    let operations = undisturbed().1.last().unwrap().0;
    let mut wrong = Vec::new();
    let counts = [1, 4, usize::MAX];
    let faults = How::ALL.into_iter().flat_map(|how| {
        (0..operations).flat_map(move |from| counts.map(|count| Fault { from, count, how }))
    });
    // Some of them, so that each operation and each way comes about.
    let stride = if Disk::is_thorough() { 1 } else { 7 };
    for fault in faults.step_by(stride) {
        if let Err(what) = run_with(fault) {
            wrong.push((fault, what));
        }
    }
    assert!(wrong.is_empty(), "{}: {wrong:#?}", wrong.len());
}
