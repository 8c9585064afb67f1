//! Turns records into a batch: the bytes of one COPY for each table and day.

use std::ops::ControlFlow;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::copy::{self, Encoder, Provenance};
use super::partitions::Day;
use crate::config::Batching;
use crate::delivery::required::{Fate, Required};
use crate::ledger::layout::Columns;
use crate::ledger::leaf::{self, Leaf as RowHashes, TablePrefix};
use crate::ledger::tree;
use crate::record::decode;
use crate::record::row::Row;
use crate::spool::{Identity, Log, LogError, SALT_BYTES, Stored};
use crate::vocabulary::{Activities, Field, Kind, Table};

/// The most leaf partitions that one transaction writes to; each takes some locks.
const MAX_LEAVES: usize = 64;

/// How much of a dead letter's reason is stored.
const MAX_REASON_CHARS: usize = 16_384;

/// The rows of one leaf partition.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) table: Table,
    pub(crate) day: Day,
    /// The data of a COPY.
    pub(crate) data: Vec<u8>,
    /// The seq of each row.
    pub(crate) seqs: Vec<u64>,
    /// The hashes of each row, if rows are hashed.
    hashes: Vec<RowHashes>,
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

/// The records `first_seq` to `last_seq` of one log, by the log's own numbers.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// The smallest and the largest id of its rows.
    pub(crate) ids: Option<(Uuid, Uuid)>,
    /// The ids and seqs of its rows whose kind is required.
    pub(crate) required: Vec<(Uuid, u64)>,
    /// The salt of its last record.
    salt: [u8; SALT_BYTES],
    is_hashed: bool,
}

/// The Merkle tree of a batch's rows (docs/ledger-format.md).
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: tree::Hash,
    /// The fingerprint of each row, in the order of the tree.
    pub(crate) fingerprints: Vec<u8>,
}

/// Returns the mark by which a log recognizes its own batch: no two logs have the same salt for a
/// record, unless one is a copy of the other and has the record from it.
pub(crate) fn mark(salt: &[u8; SALT_BYTES]) -> [u8; 32] {
    Sha256::digest(salt).into()
}

/// A batch that is still being read.
#[derive(Debug)]
pub(crate) struct Draft {
    batch: Batch,
    /// The seq of the first record that was asked for.
    from: u64,
    /// The seq of the next record to read.
    next: u64,
    rows: usize,
    bytes: usize,
    is_full: bool,
}

impl Draft {
    /// Creates an empty batch of the records from a seq on.
    pub(crate) fn new(from: u64) -> Self {
        Self {
            batch: Batch {
                first_seq: from,
                last_seq: 0,
                leaves: Vec::new(),
                dead_letters: Vec::new(),
                ids: None,
                required: Vec::new(),
                salt: [0; SALT_BYTES],
                is_hashed: false,
            },
            from,
            next: from,
            rows: 0,
            bytes: 0,
            is_full: false,
        }
    }

    /// Returns the seq that the batch was begun with.
    pub(crate) fn from(&self) -> u64 {
        self.from
    }

    /// Returns whether the batch holds no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Ends the batch. Returns `None` if it holds no record.
    pub(crate) fn end(self) -> Option<Batch> {
        let Draft {
            mut batch,
            next,
            rows,
            ..
        } = self;
        if rows == 0 {
            return None;
        }
        batch.last_seq = next - 1;
        // After a gap in the log, the batch begins where the gap ends.
        batch.first_seq = batch.last_seq + 1 - rows as u64;
        for leaf in &mut batch.leaves {
            Encoder::end(&mut leaf.data);
        }
        Some(batch)
    }
}

/// Turns records into batches; reuses the memory of earlier ones.
#[derive(Debug)]
pub(crate) struct Batcher {
    encoders: [Encoder; Table::ALL.len()],
    activities: Activities,
    spare: Vec<Vec<u8>>,
    required: Arc<Required>,
    is_hashing: bool,
}

impl Batcher {
    pub(crate) fn new(required: Arc<Required>, activities: Activities, is_hashing: bool) -> Self {
        Self {
            encoders: Table::ALL.map(Encoder::new),
            activities,
            spare: Vec::new(),
            required,
            is_hashing,
        }
    }

    /// Reads more of a batch from the log: until it holds `max_rows` records or as many bytes as a
    /// batch may have, or this call has read `slice_bytes`. Returns whether there may be more to
    /// read.
    pub(crate) fn read(
        &mut self,
        draft: &mut Draft,
        log: &Log,
        max_rows: usize,
        slice_bytes: usize,
        limits: &Batching,
    ) -> Result<bool, LogError> {
        if draft.is_full {
            return Ok(false);
        }
        let Draft {
            batch,
            rows,
            bytes,
            is_full,
            ..
        } = draft;
        let slice_end = bytes.saturating_add(slice_bytes);
        let mut is_cut = false;
        draft.next = log.read(draft.next, |stored| {
            // A record over the limit makes a batch of its own.
            let is_large = *rows > 0 && *bytes + stored.frame.len() > limits.bytes;
            if *rows == max_rows || is_large || batch.leaves.len() == MAX_LEAVES {
                *is_full = true;
                return ControlFlow::Break(());
            }
            if *bytes >= slice_end {
                is_cut = true;
                return ControlFlow::Break(());
            }
            *rows += 1;
            *bytes += stored.frame.len();
            self.add(batch, log, &stored);
            ControlFlow::Continue(())
        })?;
        Ok(is_cut)
    }

    /// Discards what was read, and keeps its memory.
    pub(crate) fn discard(&mut self, draft: Draft) {
        self.recycle(draft.batch);
    }

    fn add(&mut self, batch: &mut Batch, log: &Log, stored: &Stored<'_>) {
        batch.salt = stored.salt;
        batch.is_hashed = self.is_hashing;
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
            batch.required.push((row.id, stored.seq));
        }
        let table = self.activities.table(row.kind, row.text(Field::ActionType));
        let day = Day::of_us(row.started_us);
        let at = batch
            .leaves
            .iter()
            .position(|leaf| leaf.table == table && leaf.day == day);
        let at = at.unwrap_or_else(|| {
            let mut data = self.spare.pop().unwrap_or_default();
            Encoder::begin(&mut data);
            batch.leaves.push(Leaf {
                table,
                day,
                data,
                seqs: Vec::new(),
                hashes: Vec::new(),
            });
            batch.leaves.len() - 1
        });
        let leaf = &mut batch.leaves[at];
        let identity = log.identity();
        let provenance = Provenance {
            writer: identity.writer,
            service: log.service(),
            seq: identity.seq(stored.seq),
            salt: stored.salt,
        };
        let encoder = &self.encoders[table.index()];
        if self.is_hashing {
            let hashes = encoder.hashed_row(&mut leaf.data, &row, &provenance);
            leaf.hashes.push(hashes);
        } else {
            encoder.row(&mut leaf.data, &row, &provenance);
        }
        leaf.seqs.push(stored.seq);
    }

    /// Takes back a batch's memory for reuse.
    pub(crate) fn recycle(&mut self, batch: Batch) {
        for mut leaf in batch.leaves {
            if self.spare.len() < 3 {
                leaf.data.clear();
                self.spare.push(leaf.data);
            }
        }
    }
}

impl DeadLetter {
    /// Returns the name of its kind, as it is stored.
    pub(crate) fn kind_name(&self) -> &'static str {
        self.kind.map_or("unknown", Kind::span_name)
    }

    /// Returns the reason, as it is stored.
    pub(crate) fn stored_reason(&self) -> String {
        let reason = self.reason.chars().take(MAX_REASON_CHARS);
        reason
            .map(|c| if c == '\0' { '\u{fffd}' } else { c })
            .collect()
    }

    /// Returns what is hashed of it: core and content.
    fn images(&self, identity: &Identity) -> (Vec<u8>, Vec<u8>) {
        let (mut core, mut content) = (Vec::new(), Vec::new());
        copy::bytes(&mut core, identity.writer.as_bytes());
        copy::bytes(&mut core, &identity.seq(self.seq).to_be_bytes());
        match &self.record_id {
            Some(id) => copy::bytes(&mut core, id.as_bytes()),
            None => copy::null(&mut core),
        }
        copy::bytes(&mut core, self.kind_name().as_bytes());
        match &self.sqlstate {
            Some(sqlstate) => copy::bytes(&mut core, sqlstate.as_bytes()),
            None => copy::null(&mut core),
        }
        copy::bytes(&mut content, &self.salt);
        copy::bytes(&mut content, self.stored_reason().as_bytes());
        copy::bytes(&mut content, &self.frame);
        (core, content)
    }
}

impl Batch {
    /// Returns the number of rows of each table that it has any of, as the JSON object of the
    /// column `audit.batches.records`.
    pub(crate) fn records_by_table(&self) -> String {
        let mut counts = serde_json::Map::new();
        for table in Table::ALL {
            let leaves = self.leaves.iter().filter(|leaf| leaf.table == table);
            let rows: usize = leaves.map(|leaf| leaf.seqs.len()).sum();
            if rows > 0 {
                counts.insert(table.name().to_owned(), rows.into());
            }
        }
        serde_json::Value::Object(counts).to_string()
    }

    /// Returns the tree of its rows, if rows are hashed.
    pub(crate) fn tree(&self, identity: &Identity) -> Option<Tree> {
        if !self.is_hashed {
            return None;
        }
        let mut leaves: Vec<_> = self.leaves.iter().collect();
        leaves.sort_by_key(|leaf| (leaf.table, leaf.day));
        let mut hashes: Vec<_> = leaves
            .iter()
            .flat_map(|leaf| &leaf.hashes)
            .copied()
            .collect();
        let table = TablePrefix::new(Columns::of_dead_letters().table);
        hashes.extend(self.dead_letters.iter().map(|letter| {
            let (core, content) = letter.images(identity);
            leaf::leaf(&table, &core, &content)
        }));
        let of_leaves: Vec<_> = hashes.iter().map(|leaf| leaf.hash).collect();
        Some(Tree {
            root: tree::root(&of_leaves),
            fingerprints: hashes.iter().flat_map(RowHashes::fingerprint).collect(),
        })
    }

    /// Returns the fates of its records after a commit, for those that a caller may wait for.
    pub(crate) fn fates(&self) -> Vec<(Uuid, Fate)> {
        let rows = self
            .required
            .iter()
            .map(|(id, seq)| (*id, Fate::Committed(*seq)));
        let letters = self
            .dead_letters
            .iter()
            .filter_map(|letter| Some((letter.record_id?, Fate::DeadLettered(letter.seq))));
        rows.chain(letters).collect()
    }

    /// Returns the mark by which its log recognizes it.
    pub(crate) fn mark(&self) -> [u8; 32] {
        mark(&self.salt)
    }

    pub(crate) fn records(&self) -> u64 {
        self.last_seq - self.first_seq + 1
    }

    /// Turns the batch's only record into a dead letter.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::record::{Event, NewRecord, PromptRun};
    use crate::redact::Passed;
    use crate::spool::{Admitted, Positions, Runs};

    /// A log of its own, in a folder that is removed with it.
    struct Source {
        log: Option<Log>,
        folder: std::path::PathBuf,
    }

    impl Source {
        fn new(records: &[NewRecord]) -> Self {
            let writer = Uuid::new_v4();
            let folder = std::env::temp_dir().join(format!("tracing-audit-batch-{writer}"));
            std::fs::create_dir(&folder).unwrap();
            let positions = Positions::BEGINNING;
            let log = Log::create(&folder.join("log"), writer, "test", positions).unwrap();
            let limits = Limits::default();
            let mut admitted = Admitted::default();
            for record in records {
                admitted.admit(Passed::stored(record.encode(&limits)));
            }
            log.store(&admitted, || positions, &Runs::default())
                .unwrap();
            let log = Some(log);
            Self { log, folder }
        }

        /// Reads a batch from the beginning in slices, and runs a step after each.
        fn read(
            &self,
            slice_bytes: usize,
            limits: &Batching,
            mut each: impl FnMut(&Draft),
        ) -> Option<Batch> {
            let mut batcher = Batcher::new(
                Arc::new(Required::new([true; Kind::ALL.len()])),
                Activities::default(),
                true,
            );
            let mut draft = Draft::new(1);
            let log = self.log.as_ref().unwrap();
            while batcher
                .read(&mut draft, log, limits.rows, slice_bytes, limits)
                .unwrap()
            {
                each(&draft);
            }
            // What does not fit into a full batch goes into the next.
            assert!(
                !batcher
                    .read(&mut draft, log, limits.rows, usize::MAX, limits)
                    .unwrap()
            );
            draft.end()
        }
    }

    impl Drop for Source {
        fn drop(&mut self) {
            self.log = None;
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    /// Returns records of two kinds and several sizes.
    fn records(count: usize) -> Vec<NewRecord> {
        (0..count)
            .map(|n| match n % 3 {
                0 => PromptRun::new("x".repeat(n % 700)).into(),
                _ => Event::new("e".repeat(n % 50 + 1)).into(),
            })
            .collect()
    }

    fn limits(rows: usize, bytes: usize) -> Batching {
        Batching {
            rows,
            bytes,
            ..Batching::default()
        }
    }

    #[test]
    fn batch_read_in_slices_equals_the_batch_read_at_once() {
        let source = Source::new(&records(500));
        for limits in [
            limits(1_000, 1 << 20),
            limits(123, 1 << 20),
            limits(1_000, 9_999),
        ] {
            let whole = source.read(usize::MAX, &limits, |_| ()).unwrap();
            for slice_bytes in [1, 300, 5_000] {
                let mut count = 0;
                let sliced = source.read(slice_bytes, &limits, |_| count += 1);
                assert!(count > 0);
                assert_eq!(format!("{sliced:?}"), format!("{:?}", Some(&whole)));
            }
        }
    }

    #[test]
    fn read_ahead_stays_within_the_batch_limits() {
        let source = Source::new(&records(500));
        let limits = limits(200, 10_000);
        let batch = source.read(300, &limits, |draft| {
            assert!(draft.rows <= limits.rows && draft.bytes <= limits.bytes);
        });
        let rows = batch.unwrap().records();
        assert!(rows > 0 && rows < 200, "{rows}");
    }

    #[test]
    fn memory_of_a_discarded_draft_is_reused() {
        let source = Source::new(&records(500));
        let mut batcher = Batcher::new(
            Arc::new(Required::new([false; Kind::ALL.len()])),
            Activities::default(),
            true,
        );
        let limits = limits(500, 1 << 20);
        for _ in 0..3 {
            let mut draft = Draft::new(1);
            let log = source.log.as_ref().unwrap();
            let more = batcher.read(&mut draft, log, limits.rows, 3_000, &limits);
            assert!(more.unwrap() && !draft.is_empty());
            batcher.discard(draft);
            assert_eq!(batcher.spare.len(), 2, "one for each kind");
        }
    }
}
