//! Records into a batch: the bytes of one COPY for each table and month.

use std::ops::ControlFlow;
use std::sync::Arc;

use uuid::Uuid;

use super::copy::{Encoder, Provenance};
use super::partitions::Month;
use crate::config::Batching;
use crate::pipeline::{Fate, Required};
use crate::record::decode;
use crate::record::row::Row;
use crate::spool::{Log, LogError, Stored};
use crate::vocabulary::Kind;

/// The most partitions that one transaction writes to: each takes some locks.
const MAX_LEAVES: usize = 64;

/// The rows of one leaf partition.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) kind: Kind,
    pub(crate) month: Month,
    /// The data of a COPY.
    pub(crate) data: Vec<u8>,
    /// The seq of each row.
    pub(crate) seqs: Vec<u64>,
}

/// A record that cannot be written as a row.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) seq: u64,
    pub(crate) record_id: Option<Uuid>,
    pub(crate) kind: Option<Kind>,
    pub(crate) sqlstate: Option<String>,
    pub(crate) reason: String,
    pub(crate) frame: Vec<u8>,
    pub(crate) salt: [u8; 16],
}

/// The records `first_seq` to `last_seq` of one log.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// The least and the greatest id of its rows.
    pub(crate) ids: Option<(Uuid, Uuid)>,
    /// The ids of its rows of the kinds that are required.
    pub(crate) required: Vec<Uuid>,
}

/// Turns records into batches; keeps the memory of the last one.
#[derive(Debug)]
pub(crate) struct Batcher {
    encoders: [Encoder; 3],
    spare: Vec<Vec<u8>>,
    required: Arc<Required>,
}

impl Batcher {
    pub(crate) fn new(required: Arc<Required>) -> Self {
        Self {
            encoders: Kind::ALL.map(Encoder::new),
            spare: Vec::new(),
            required,
        }
    }

    pub(crate) fn column_list(&self, kind: Kind) -> String {
        self.encoders[kind.index()].column_list()
    }

    /// Reads the next batch from the log, at most `max_rows` records; `None`: there is nothing.
    pub(crate) fn read(
        &mut self,
        log: &Log,
        from: u64,
        max_rows: usize,
        limits: &Batching,
    ) -> Result<Option<Batch>, LogError> {
        let mut batch = Batch {
            first_seq: from,
            last_seq: 0,
            leaves: Vec::new(),
            dead_letters: Vec::new(),
            ids: None,
            required: Vec::new(),
        };
        let (mut rows, mut bytes) = (0, 0);
        let next = log.read(from, |stored| {
            // A record over the limit makes a batch of its own.
            let is_large = rows > 0 && bytes + stored.frame.len() > limits.bytes;
            if rows == max_rows || is_large || batch.leaves.len() == MAX_LEAVES {
                return ControlFlow::Break(());
            }
            rows += 1;
            bytes += stored.frame.len();
            self.add(&mut batch, log, &stored);
            ControlFlow::Continue(())
        })?;
        if rows == 0 {
            return Ok(None);
        }
        batch.last_seq = next - 1;
        // What the log no longer has was committed by an earlier process and lost by the
        // database since; the batch says where it really begins.
        batch.first_seq = batch.last_seq + 1 - rows as u64;
        for leaf in &mut batch.leaves {
            Encoder::end(&mut leaf.data);
        }
        Ok(Some(batch))
    }

    fn add(&mut self, batch: &mut Batch, log: &Log, stored: &Stored<'_>) {
        let frame = decode::frame(stored.frame);
        let row = match frame.and_then(|frame| Row::new(&frame)) {
            Ok(row) => row,
            Err(error) => {
                let header = frame.ok().map(|frame| frame.header);
                batch.dead_letters.push(DeadLetter {
                    seq: stored.seq,
                    record_id: header.map(|header| header.id),
                    kind: header.map(|header| header.kind),
                    sqlstate: None,
                    reason: error.to_string(),
                    frame: stored.frame.to_vec(),
                    salt: stored.salt,
                });
                return;
            }
        };
        batch.ids = Some(batch.ids.map_or((row.id, row.id), |(least, greatest)| {
            (least.min(row.id), greatest.max(row.id))
        }));
        if self.required.has(row.kind) {
            batch.required.push(row.id);
        }
        let month = Month::of_us(row.started_us);
        let at = batch
            .leaves
            .iter()
            .position(|leaf| leaf.kind == row.kind && leaf.month == month);
        let at = at.unwrap_or_else(|| {
            let mut data = self.spare.pop().unwrap_or_default();
            Encoder::begin(&mut data);
            batch.leaves.push(Leaf {
                kind: row.kind,
                month,
                data,
                seqs: Vec::new(),
            });
            batch.leaves.len() - 1
        });
        let leaf = &mut batch.leaves[at];
        let provenance = Provenance {
            writer: log.writer(),
            service: log.service(),
            seq: stored.seq,
            salt: stored.salt,
        };
        self.encoders[row.kind.index()].row(&mut leaf.data, &row, &provenance);
        leaf.seqs.push(stored.seq);
    }

    /// Gives a batch's memory back.
    pub(crate) fn recycle(&mut self, batch: Batch) {
        for mut leaf in batch.leaves {
            if self.spare.len() < 3 {
                leaf.data.clear();
                self.spare.push(leaf.data);
            }
        }
    }
}

impl Batch {
    pub(crate) fn rows(&self, kind: Kind) -> usize {
        self.leaves
            .iter()
            .filter(|leaf| leaf.kind == kind)
            .map(|leaf| leaf.seqs.len())
            .sum()
    }

    /// What becomes of its records by a commit, as far as anybody waits for them.
    pub(crate) fn fates(&self) -> Vec<(Uuid, Fate)> {
        let rows = self.required.iter().map(|id| (*id, Fate::Committed));
        let letters = self
            .dead_letters
            .iter()
            .filter_map(|letter| Some((letter.record_id?, Fate::DeadLettered)));
        rows.chain(letters).collect()
    }

    pub(crate) fn records(&self) -> u64 {
        self.last_seq - self.first_seq + 1
    }

    /// Makes a dead letter of the batch's only record.
    pub(crate) fn give_up(
        &mut self,
        log: &Log,
        sqlstate: Option<String>,
        reason: String,
    ) -> Result<(), LogError> {
        let mut given_up = None;
        log.read(self.first_seq, |stored| {
            let header = decode::frame(stored.frame).ok().map(|frame| frame.header);
            given_up = Some(DeadLetter {
                seq: stored.seq,
                record_id: header.map(|header| header.id),
                kind: header.map(|header| header.kind),
                sqlstate: None,
                reason: String::new(),
                frame: stored.frame.to_vec(),
                salt: stored.salt,
            });
            ControlFlow::Break(())
        })?;
        self.leaves.clear();
        self.required.clear();
        self.ids = None;
        self.dead_letters = given_up
            .map(|letter| DeadLetter {
                sqlstate,
                reason,
                ..letter
            })
            .into_iter()
            .collect();
        Ok(())
    }
}
