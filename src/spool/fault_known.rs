//! A plain model of what a log must hold.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::super::*;

/// The contents of a log, as plain as possible.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    /// The records from the seq 1 on; `None`: Postgres got the record from memory, and the log
    /// lacks it.
    pub(super) frames: Vec<Option<Vec<u8>>>,
    /// Runs in flight.
    pub(super) open: BTreeMap<Uuid, Vec<u8>>,
    pub(super) positions: Positions,
}

impl Known {
    pub(super) fn next_seq(&self) -> u64 {
        self.frames.len() as u64 + 1
    }

    /// Returns what the next process recovers, if Postgres expects the record `stands` next.
    pub(super) fn recovered(mut self, stands: u64) -> Self {
        let lost = std::mem::take(&mut self.open);
        if !lost.is_empty() {
            let end = usize::try_from(stands - 1).unwrap();
            self.frames.resize(self.frames.len().max(end), None);
        }
        for frame in lost.into_values() {
            self.frames
                .push(crate::record::lost::lost(&frame, "process_lost"));
        }
        self
    }

    pub(super) fn apply(&mut self, buffers: &[Passed], positions: Positions, runs: &Runs) {
        let frames = buffers.iter().flat_map(|buffer| buffer.iter());
        self.frames.extend(frames.map(|frame| Some(frame.to_vec())));
        self.positions = positions;
        let begun = runs.begun.iter();
        self.open
            .extend(begun.map(|(id, run)| (*id, run.frame().to_vec())));
        for id in &runs.ended {
            self.open.remove(id);
        }
    }

    /// Returns how a log differs from this model.
    pub(super) fn differs(&self, log: &Log) -> Option<String> {
        if log.next_seq() != self.next_seq() {
            return Some(format!("it ends before {}", log.next_seq()));
        }
        if log.positions() != self.positions {
            return Some(format!("it has {:?}", log.positions()));
        }
        let first = log.first_seq();
        let needed = (1..first).zip(&self.frames);
        if needed
            .into_iter()
            .any(|(seq, frame)| seq >= self.positions.least() && frame.is_some())
        {
            return Some(format!("it begins with {first}"));
        }
        let mut seen = vec![None; usize::try_from(first - 1).unwrap()];
        let read = log.read(first, |stored| {
            seen.resize(usize::try_from(stored.seq - 1).unwrap(), None);
            seen.push(Some(stored.frame.to_vec()));
            ControlFlow::Continue(())
        });
        let begin = seen.len().min(usize::try_from(first - 1).unwrap());
        match read {
            Ok(_) if seen[begin..] == self.frames[begin..] => None,
            read => Some(format!("{read:?} from {first} on")),
        }
    }
}
