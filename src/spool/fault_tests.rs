//! Tests of a log whose disk fails or loses power, used as the pipeline uses it.

#[path = "fault_known.rs"]
mod known;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use self::known::Known;
use super::super::identity::Disagreement;
use super::tests::{at, begun, buffer};
use super::*;
use crate::redact::PassedRun;
use crate::spool::Cause;
use crate::spool::disk::{Disk, Fault, How};

/// Opens an orphaned log and recovers its runs; Postgres expects the record `stands` next.
fn open(disk: Disk, stands: u64) -> Result<Log, LogError> {
    let log = Log::open_in(Storage::disk(disk))?;
    log.recover("process_lost", stands, |_| ())?;
    Ok(log)
}

const WRITER: Uuid = Uuid::from_u128(7);

/// The most bytes that are kept in memory.
const MAX_BYTES: usize = 400;

/// A process that uses its log as the pipeline does.
struct Process {
    disk: Disk,
    log: Log,
    /// Records from the application.
    queue: Vec<Passed>,
    begins: Vec<(Uuid, PassedRun)>,
    ends: Vec<Uuid>,
    /// Taken from the queue and not yet in the log.
    buffers: Vec<Passed>,
    runs: Runs,
    /// The log's contents, on disk or in memory.
    known: Known,
    /// What is durable, and what may be durable instead: writes that were reported as failed.
    durable: Known,
    may_be: Vec<Known>,
    /// The sinks' positions, and what they have read.
    positions: Positions,
    read: [Vec<(u64, Vec<u8>)>; Sink::ALL.len()],
}

impl Process {
    fn start(disk: &Disk) -> Result<Self, LogError> {
        let positions = at(1).with(Sink::Otlp, 1);
        let log = Log::create_in(Storage::disk(disk.clone()), WRITER, "svc", positions)?;
        let known = Known {
            frames: Vec::new(),
            open: BTreeMap::new(),
            positions,
        };
        Ok(Self::with(disk, log, known, <[_; _]>::default()))
    }

    fn with(disk: &Disk, log: Log, known: Known, read: [Vec<(u64, Vec<u8>)>; 2]) -> Self {
        let positions = log.positions();
        Self {
            disk: disk.clone(),
            log,
            queue: Vec::new(),
            begins: Vec::new(),
            ends: Vec::new(),
            buffers: Vec::new(),
            runs: Runs::default(),
            durable: known.clone(),
            known,
            may_be: Vec::new(),
            positions,
            read,
        }
    }

    /// Stores what there is, or keeps it in memory; returns whether it is durable.
    fn store(&mut self) -> bool {
        if self.buffers.is_empty() {
            // Otherwise the same write is retried.
            self.buffers.append(&mut self.queue);
            self.runs.begun.append(&mut self.begins);
            self.runs.ended.append(&mut self.ends);
        }
        let mut tried = self.known.clone();
        tried.apply(&self.buffers, self.positions, &self.runs);
        let stored = self.log.append(&self.buffers, self.positions, &self.runs);
        if stored.is_ok() {
            self.known = tried;
            // A write that was reported as failed but had succeeded stored older positions.
            self.known.positions = self.log.positions();
            self.durable = self.known.clone();
            self.may_be.clear();
            self.runs = Runs::default();
            self.buffers.clear();
            return true;
        }
        self.may_be.push(tried);
        if self.log.keep(&self.buffers, MAX_BYTES).unwrap() {
            let none = Runs::default();
            self.known.apply(&self.buffers, self.known.positions, &none);
            self.buffers.clear();
        }
        false
    }

    /// Reads as far as possible, like a sink.
    fn drain(&mut self, sink: Sink) {
        let mut next = self.positions.of(sink);
        let read = &mut self.read[sink as usize];
        loop {
            let seen = self.log.read(next, |stored| {
                let index = usize::try_from(stored.seq - 1).unwrap();
                assert_eq!(self.known.frames[index].as_deref(), Some(stored.frame));
                read.push((stored.seq, stored.frame.to_vec()));
                ControlFlow::Continue(())
            });
            match seen {
                Ok(seq) if seq > next => next = seq,
                _ => break,
            }
        }
        // The disk can be read, whether or not it accepts writes.
        let end = self.known.next_seq();
        assert!(next >= end, "{next}: what comes before {end} can be read");
        self.positions = self.positions.with(sink, next);
    }

    /// Starts the next process on the disk that this one leaves.
    fn succeed(self, disk: &Disk) -> Result<Self, String> {
        // Postgres knows its own position.
        let stands = self.positions.of(Sink::Postgres);
        let log = open(disk.clone(), stands).map_err(|error| format!("{error:?}"))?;
        let mut differences = Vec::new();
        for left in [&self.durable].into_iter().chain(&self.may_be) {
            let known = left.clone().recovered(stands);
            match known.differs(&log) {
                None => {
                    let mut next = Self::with(disk, log, known, self.read);
                    let position = stands.max(next.log.first_seq());
                    next.positions = next.positions.with(Sink::Postgres, position);
                    return Ok(next);
                }
                Some(difference) => differences.push(difference),
            }
        }
        Err(format!("it is none of what may be: {differences:?}"))
    }
}

type Step = Box<dyn Fn(&mut Process)>;

/// Returns what a process does, step by step.
fn steps() -> Vec<Step> {
    fn records(frames: &'static [&'static [u8]]) -> Step {
        Box::new(|process| process.queue.push(buffer(frames)))
    }
    vec![
        records(&[b"a", b"bb"]),
        Box::new(|process| process.begins.extend([begun(1), begun(2)])),
        records(&[&[7; 150], b"d"]),
        Box::new(|process| process.drain(Sink::Postgres)),
        Box::new(|process| {
            process.queue.push(buffer(&[b"e"]));
            process.ends.push(begun(1).0);
        }),
        records(&[&[8; 9_000]]),
        Box::new(|process| {
            process.drain(Sink::Postgres);
            process.drain(Sink::Otlp);
        }),
        records(&[b"g", b"h", b"i"]),
        records(&[b"j"]),
    ]
}

/// Returns all operations on a disk without faults, and what was stored after how many of them.
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

/// Opens the log that is left after `operations` operations, and checks that it is what was stored,
/// or what was just being stored. Returns whether there is a log.
fn is_there(operations: usize, disk: &Disk, stored: &[(usize, Known)]) -> bool {
    let done = stored.partition_point(|(after, _)| *after <= operations);
    let log = match open(disk.clone(), 1) {
        Ok(log) => log,
        Err(LogError::NotBegun) if done == 0 => return false,
        Err(error) => panic!("after {operations}: {error:?}"),
    };
    let may_be = &stored[done.saturating_sub(1)..(done + 1).min(stored.len())];
    let differences: Vec<_> = may_be
        .iter()
        .map(|(_, known)| known.clone().recovered(1).differs(&log))
        .collect();
    let is_either = differences.iter().any(Option::is_none);
    assert!(is_either, "after {operations}: {differences:?}");
    // A power loss takes nothing of what recovery has stored.
    let seen = log.next_seq();
    let log = open(disk.without_power(7), 1).unwrap();
    assert_eq!(log.next_seq(), seen, "after {operations}");
    true
}

#[test]
fn stored_records_survive_a_power_loss_at_any_operation() {
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
fn stored_records_survive_a_kill_at_any_operation() {
    let (disk, stored) = undisturbed();
    let there: Vec<_> = (0..=disk.operations())
        .map(|operations| is_there(operations, &Disk::holding(disk.after(operations)), &stored))
        .collect();
    assert!(!there[0] && there.is_sorted(), "{there:?}");
}

/// Returns whether a log has its new writer, with the reason and the position; checks that it has
/// all or none of them.
fn is_rebased(disk: Disk, old: Identity, why: Disagreement) -> bool {
    let log = Log::open_in(Storage::disk(disk)).unwrap();
    let (identity, position) = (log.identity(), log.position(Sink::Postgres));
    assert_eq!((log.first_seq(), log.next_seq()), (1, 5));
    match log.past().untold().next() {
        None => {
            assert_eq!((identity.writer, identity.secret), (old.writer, old.secret));
            assert_eq!((identity.base, position), (0, 4));
            false
        }
        told => {
            assert_eq!(told, Some(why));
            assert_ne!(identity.secret, old.secret);
            assert_eq!((identity.base, position), (1, 2));
            true
        }
    }
}

#[test]
fn change_of_writer_is_atomic_under_a_kill_at_any_operation() {
    let disk = Disk::remembering();
    let positions = at(4).with(Sink::Otlp, 1);
    let log = Log::create_in(Storage::disk(disk.clone()), WRITER, "svc", positions).unwrap();
    log.append(
        &[buffer(&[b"a", b"b", b"c", b"d"])],
        positions,
        &Runs::default(),
    )
    .unwrap();
    let (before, old) = (disk.operations(), log.identity());
    let why = Disagreement {
        writer: WRITER,
        cause: Cause::DatabaseLostRecords,
        first_seq: 2,
        last_seq: 3,
        lost: 0,
    };
    let left = crate::spool::Former {
        writer: WRITER,
        base: 0,
        end: 2,
    };
    log.rebase(&log.hold(), Uuid::from_u128(9), 2, |past| {
        past.leave(left, &[why], Some(2));
    })
    .unwrap();
    let after = disk.operations();
    let there: Vec<_> = (before..=after)
        .map(|operations| is_rebased(Disk::holding(disk.after(operations)), old, why))
        .collect();
    assert!(
        there.is_sorted() && !there[0] && there[there.len() - 1],
        "{there:?}"
    );
    // A rebase that returned `Ok` survives a power loss.
    for seed in 0..50 {
        assert!(is_rebased(disk.without_power(seed), old, why));
    }
}

/// Runs all steps with a fault; returns what went wrong.
fn run_with(fault: Fault) -> Result<(), String> {
    let disk = Disk::default();
    disk.set_fault(Some(fault));
    let Ok(mut process) = Process::start(&disk) else {
        disk.set_fault(None);
        // Another process removes it.
        return match open(disk, 1) {
            Err(LogError::NotBegun) => Ok(()),
            Ok(log) if log.next_seq() == 1 => Ok(()),
            other => Err(format!("what was not made is {other:?}")),
        };
    };
    let mut has_failed = false;
    for (number, step) in (0..).zip(steps()) {
        step(&mut process);
        let stored = process.store();
        has_failed |= !stored;
        if stored && has_failed {
            survives(&process, number)?;
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
    survives(&process, 100)?;
    process.drain(Sink::Postgres);
    all_was_read(&process)?;
    let disk = process.disk.clone();
    process.succeed(&disk).map(drop)
}

/// Checks that Postgres got every record once.
fn all_was_read(process: &Process) -> Result<(), String> {
    let read = &process.read[Sink::Postgres as usize];
    let seqs = read.iter().map(|(seq, _)| *seq);
    let is_each_once = seqs.eq(1..=read.len() as u64);
    // Postgres may have more records than the disk.
    if is_each_once && process.known.next_seq() <= read.len() as u64 + 1 {
        Ok(())
    } else {
        let seqs: Vec<_> = read.iter().map(|(seq, _)| seq).collect();
        Err(format!("Postgres has {seqs:?}"))
    }
}

/// Checks that what was reported as stored survives a power loss.
fn survives(process: &Process, seed: u64) -> Result<(), String> {
    for seed in [seed, seed + 1_000] {
        let log = open(process.disk.without_power(seed), 1)
            .map_err(|error| format!("after a loss of power: {error:?}"))?;
        let known = process.durable.clone().recovered(1);
        if let Some(difference) = known.differs(&log) {
            return Err(format!("after a loss of power: {difference}"));
        }
    }
    Ok(())
}

#[test]
fn disk_fault_at_any_operation_loses_no_record_and_only_durable_ones_are_acknowledged() {
    let operations = undisturbed().1.last().unwrap().0;
    let mut wrong = Vec::new();
    let counts = [1, 4, usize::MAX];
    let faults = How::ALL.into_iter().flat_map(|how| {
        (0..operations).flat_map(move |from| counts.map(|count| Fault { from, count, how }))
    });
    // A selection in which each operation and each way to fail occurs.
    let stride = if Disk::is_thorough() { 1 } else { 7 };
    for fault in faults.step_by(stride) {
        if let Err(what) = run_with(fault) {
            wrong.push((fault, what));
        }
    }
    assert!(wrong.is_empty(), "{}: {wrong:#?}", wrong.len());
}

/// An event in the life of a process and its log.
#[derive(Clone, Debug)]
enum Action {
    /// Records of these lengths arrive, in one buffer.
    Records(Vec<usize>),
    Begin,
    /// One of the runs ends.
    End(usize),
    Store,
    Drain(Sink),
    Fail {
        after: usize,
        count: usize,
        how: How,
    },
    Heal,
    Kill,
    PowerLoss(u64),
    /// The process ends before it is drained.
    Close,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let len = prop_oneof![8 => 0..40_usize, 2 => 40..300_usize, 1 => 300..20_000_usize];
    let how = (0..How::ALL.len()).prop_map(|index| How::ALL[index]);
    let action = prop_oneof![
        6 => proptest::collection::vec(len, 1..5).prop_map(Action::Records),
        3 => Just(Action::Begin),
        3 => (0..8_usize).prop_map(Action::End),
        10 => Just(Action::Store),
        4 => Just(Action::Drain(Sink::Postgres)),
        2 => Just(Action::Drain(Sink::Otlp)),
        2 => (0..20_usize, prop_oneof![1..20_usize, Just(usize::MAX)], how)
            .prop_map(|(after, count, how)| Action::Fail { after, count, how }),
        2 => Just(Action::Heal),
        1 => Just(Action::Kill),
        1 => any::<u64>().prop_map(Action::PowerLoss),
        1 => Just(Action::Close),
    ];
    proptest::collection::vec(action, 1..40)
}

/// Plays all actions; returns what went wrong.
fn play(actions: &[Action]) -> Result<(), String> {
    let mut process = Process::start(&Disk::default()).unwrap();
    let mut is_adopted = false;
    let mut made = 0_u8;
    let mut runs = Vec::new();
    for action in actions {
        if is_adopted && matches!(action, Action::Records(_) | Action::Begin) {
            // New records go to a log of their own.
            finish(process)?;
            process = Process::start(&Disk::default()).unwrap();
            is_adopted = false;
        }
        made = made.wrapping_add(1);
        match action {
            Action::Records(lens) => {
                let mut records = Frames::default();
                for (n, len) in (0..).zip(lens) {
                    records.push(&vec![made ^ n; *len]);
                }
                process.queue.push(Passed::stored(records));
            }
            Action::Begin => {
                let run = begun(u128::from(made));
                runs.push(run.0);
                process.begins.push(run);
            }
            Action::End(index) if !runs.is_empty() => {
                process.ends.push(runs.swap_remove(index % runs.len()));
            }
            Action::End(_) => {}
            Action::Store => {
                process.store();
            }
            Action::Drain(sink) => process.drain(*sink),
            Action::Fail { after, count, how } => {
                let from = process.disk.operations() + after;
                process.disk.set_fault(Some(Fault {
                    from,
                    count: *count,
                    how: *how,
                }));
            }
            Action::Heal => process.disk.set_fault(None),
            Action::Kill | Action::PowerLoss(_) | Action::Close => {
                let disk = match action {
                    Action::Kill => Disk::holding(process.disk.bytes()),
                    Action::PowerLoss(seed) => process.disk.without_power(*seed),
                    _ => {
                        process.disk.set_fault(None);
                        process.log.close();
                        // The next process cannot know what a sync has lost if this one died before
                        // it wrote that again: no power loss on top of that here.
                        if process.may_be.is_empty() {
                            process.disk.clone()
                        } else {
                            Disk::holding(process.disk.bytes())
                        }
                    }
                };
                runs.clear();
                process = process.succeed(&disk)?;
                is_adopted = true;
            }
        }
    }
    finish(process)
}

/// Repairs the disk and checks that everything arrives where it should.
fn finish(mut process: Process) -> Result<(), String> {
    process.disk.set_fault(None);
    // First the failed write, then what came since.
    for _ in 0..2 {
        if !process.store() {
            return Err(String::from("it does not recover"));
        }
    }
    if let Some(difference) = process.known.differs(&process.log) {
        return Err(difference);
    }
    process.drain(Sink::Postgres);
    process.drain(Sink::Otlp);
    all_was_read(&process)?;
    process.store();
    let log = &process.log;
    if process.known.open.is_empty() && (log.bytes(), log.first_seq()) != (0, log.next_seq()) {
        return Err(format!("{} bytes stay", log.bytes()));
    }
    let disk = process.disk.clone();
    process.log.close();
    let mut process = process.succeed(&disk)?;
    process.drain(Sink::Postgres);
    all_was_read(&process)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        // The same seed each time, so that a result depends on the change under test; random when
        // everything is tried.
        rng_seed: if Disk::is_thorough() { RngSeed::Random } else { RngSeed::Fixed(1) },
        ..ProptestConfig::with_cases(if Disk::is_thorough() { 20_000 } else { 60 })
    })]

    #[test]
    fn log_matches_a_plain_model_under_random_actions(actions in actions()) {
        play(&actions).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn discarded_log_is_closed_without_a_write_and_read_as_after_a_kill() {
    let disk = Disk::default();
    let positions = Positions::BEGINNING;
    let log = Log::create_in(Storage::disk(disk.clone()), WRITER, "svc", positions).unwrap();
    log.append(&[buffer(&[b"a", b"b"])], positions, &Runs::default())
        .unwrap();
    let operations = disk.operations();
    log.storage.discard();
    drop(log);
    assert_eq!(disk.operations(), operations);
    // The folder may not have been removed after all.
    let log = Log::open_in(Storage::disk(disk)).unwrap();
    let mut frames = Vec::new();
    log.read(1, |stored| {
        frames.push(stored.frame.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(frames, [b"a", b"b"]);
}
