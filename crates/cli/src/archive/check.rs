//! What an archive's set has to be, and what is found where it is not.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Value, json};
use sqlx::types::Uuid;
use tracing_audit::__program::ledger::day_of;
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::tree::Hash;

use super::batch_list::{BatchList, entry_of};
use super::manifest::Manifest;
use super::names::Part;
use super::plan;
use super::rows::ReadRow;
use crate::error::causes;

/// How many findings of a set are named one by one.
const MOST_NAMED: usize = 10_000;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundKind {
    /// A manifest is not one that the log has signed, or is that of another set.
    ManifestInvalid,
    /// A set before another is not there.
    SetMissing,
    /// A set has no manifest: nobody says what it consists of.
    SetUnfinished,
    /// The sets of a day do not follow each other in the log.
    SetsOutOfOrder,
    ObjectMissing,
    /// An object is not what its manifest says.
    ObjectChanged,
    /// An object that no manifest has.
    ObjectUnknown,
    /// The list of batches is not in its format, or not of its set.
    BatchesBroken,
    /// The checkpoint is not one that the log has signed.
    CheckpointInvalid,
    /// The batches are not those of the log.
    LogDiffers,
    /// Rows of a batch are not what they were.
    BatchDiffers,
    RowInserted,
    RowMissing,
    RowDoubled,
    RowsReordered,
    /// A file is not what this program writes.
    FileBroken,
}

impl FoundKind {
    /// Returns its name for people; for programs, it has underscores.
    fn words(self) -> &'static str {
        match self {
            Self::ManifestInvalid => "manifest invalid",
            Self::SetMissing => "set missing",
            Self::SetUnfinished => "set unfinished",
            Self::SetsOutOfOrder => "sets out of order",
            Self::ObjectMissing => "object missing",
            Self::ObjectChanged => "object changed",
            Self::ObjectUnknown => "object unknown",
            Self::BatchesBroken => "batches broken",
            Self::CheckpointInvalid => "checkpoint invalid",
            Self::LogDiffers => "log differs",
            Self::BatchDiffers => "batch differs",
            Self::RowInserted => "row inserted",
            Self::RowMissing => "row missing",
            Self::RowDoubled => "row doubled",
            Self::RowsReordered => "rows reordered",
            Self::FileBroken => "file broken",
        }
    }
}

/// What was found, and where.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) kind: FoundKind,
    pub(crate) object: String,
    pub(crate) id: Option<Uuid>,
    /// The writer and the seq of a row, or the first seq of a batch.
    pub(crate) at: Option<(Uuid, i64)>,
    /// The place of a batch in the log.
    pub(crate) index: Option<u64>,
    pub(crate) detail: String,
}

impl Found {
    pub(super) fn new(
        kind: FoundKind,
        object: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            object: object.into(),
            id: None,
            at: None,
            index: None,
            detail: detail.into(),
        }
    }

    fn of_row(mut self, row: &ReadRow) -> Self {
        (self.id, self.at) = (Some(row.id), Some((row.writer, row.seq)));
        self
    }

    /// Returns it as JSON, as `--json` prints it.
    pub(super) fn json(&self) -> Value {
        json!({
            "kind": self.kind.words().replace(' ', "_"),
            "object": self.object,
            "id": self.id.map(|id| id.to_string()),
            "writer": self.at.map(|(writer, _)| writer.to_string()),
            "seq": self.at.map(|(_, seq)| seq),
            "index": self.index,
            "detail": self.detail,
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.words(), self.object)?;
        if let Some(id) = self.id {
            write!(f, ": id {id}")?;
        }
        if let Some(index) = self.index {
            write!(f, ": entry {index}")?;
        }
        if let Some((writer, seq)) = self.at {
            write!(f, ", writer {writer}, seq {seq}")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// A batch of a set, and the leaves of its rows that were read.
struct Batch {
    writer: Uuid,
    first_seq: i64,
    last_seq: i64,
    size: u64,
    root: Option<Hash>,
    leaves: Vec<(i64, Hash)>,
}

/// Takes the rows of a set, file by file, and compares them with the log.
pub(super) struct Check {
    manifest: Manifest,
    list: BatchList,
    batches: Vec<Batch>,
    /// Those of each writer by their first seq.
    of_writer: HashMap<Uuid, Vec<(i64, usize)>>,
    last: Option<(Option<Uuid>, Uuid)>,
    rows: u64,
    pub(super) findings: Vec<Found>,
}

impl Check {
    /// Returns the batches: the writer of each, its first and its last seq; by writer and first seq.
    pub(super) fn spans(&self) -> Vec<(Uuid, i64, i64)> {
        let spans = self.batches.iter();
        let mut spans: Vec<_> = spans
            .map(|batch| (batch.writer, batch.first_seq, batch.last_seq))
            .collect();
        spans.sort_unstable();
        spans
    }

    /// Begins with what the set is proven by.
    pub(super) fn new(manifest: Manifest, list: BatchList, keys: &[Vkey]) -> Self {
        let mut check = Self {
            manifest,
            list,
            batches: Vec::new(),
            of_writer: HashMap::new(),
            last: None,
            rows: 0,
            findings: Vec::new(),
        };
        check.log(keys);
        for (at, listed) in check.list.batches.iter().enumerate() {
            let Some((entry, size)) = entry_of(listed) else {
                let object = check.manifest.of.name(check.manifest.set, Part::Batches);
                let mut found = Found::new(FoundKind::BatchesBroken, object, "an entry is none");
                found.index = Some(listed.index);
                check.findings.push(found);
                return check;
            };
            let of_writer = check.of_writer.entry(entry.writer_id).or_default();
            of_writer.push((entry.first_seq, at));
            check.batches.push(Batch {
                writer: entry.writer_id,
                first_seq: entry.first_seq,
                last_seq: entry.last_seq,
                size,
                root: entry.root,
                leaves: Vec::new(),
            });
        }
        check
            .of_writer
            .values_mut()
            .for_each(|of| of.sort_unstable());
        check
    }

    /// Compares the batches with the checkpoint.
    fn log(&mut self, keys: &[Vkey]) {
        let object = self.manifest.of.name(self.manifest.set, Part::Batches);
        let mut find = |kind, detail: &str| {
            let found = Found::new(kind, object.clone(), detail);
            self.findings.push(found);
        };
        let head = match plan::signed(&object, &self.list.note, keys) {
            Ok(signed) => signed.head,
            Err(error) => {
                find(FoundKind::CheckpointInvalid, &causes(&error));
                return;
            }
        };
        if head != self.manifest.checkpoint || self.list.entries != self.manifest.entries {
            find(
                FoundKind::BatchesBroken,
                "its checkpoint and its entries are not those of the manifest",
            );
        }
        if self.list.root(head.size) != Some(head.root) {
            find(
                FoundKind::LogDiffers,
                "its entries are not in the log of the checkpoint",
            );
        }
    }

    fn find(&mut self, found: Found) {
        if self.findings.len() < MOST_NAMED {
            self.findings.push(found);
        }
    }

    /// Takes the rows of a file. Those of the files before it were taken.
    pub(super) fn file(&mut self, number: u32, rows: &[ReadRow]) {
        let of = self.manifest.of;
        let Some(file) = self.manifest.files.get(number as usize) else {
            return;
        };
        let object = self.manifest.object(file);
        let is_as_said = {
            let ids = rows.iter().map(|row| row.id);
            let ends = rows.first().zip(rows.last());
            file.rows == rows.len() as u64
                && ids.clone().min().zip(ids.max()) == Some(file.ids)
                && ends.map(|(first, last)| (first.tenant, last.tenant)) == Some(file.tenants)
        };
        if !is_as_said {
            let detail =
                "its rows are not as many as the manifest says, or of other ids or tenants";
            self.find(Found::new(FoundKind::FileBroken, object.clone(), detail));
        }
        self.rows += rows.len() as u64;
        for row in rows {
            let key = (row.tenant, row.id);
            if self.last.is_some_and(|last| last > key) {
                let found = Found::new(FoundKind::RowsReordered, object.clone(), "");
                self.find(found.of_row(row));
            }
            self.last = Some(key);
            let at = self.find_batch(&row.writer, row.seq);
            let is_of_day = day_of(row.id.as_u128()) == of.day;
            if let Some(at) = at.filter(|_| is_of_day) {
                self.batches[at].leaves.push((row.seq, row.leaf));
                continue;
            }
            let detail = if is_of_day {
                "no batch of the set has it"
            } else {
                "it is of another day"
            };
            let found = Found::new(FoundKind::RowInserted, object.clone(), detail);
            self.find(found.of_row(row));
        }
    }

    fn find_batch(&self, writer: &Uuid, seq: i64) -> Option<usize> {
        let batches = self.of_writer.get(writer)?;
        let after = batches.partition_point(|(first_seq, _)| *first_seq <= seq);
        let (_, at) = *batches.get(after.checked_sub(1)?)?;
        (self.batches[at].last_seq >= seq).then_some(at)
    }

    /// Compares the roots of the batches, when all rows were taken. Returns how many rows are of batches without a root,
    /// which nothing proves but the manifest.
    pub(super) fn end(&mut self) -> u64 {
        let mut without_root = 0;
        let object = self.manifest.of.name(self.manifest.set, Part::Batches);
        let mut batches = std::mem::take(&mut self.batches);
        for (at, batch) in batches.iter_mut().enumerate() {
            batch.leaves.sort_unstable_by_key(|(seq, _)| *seq);
            let Some(listed) = self.list.batches.get(at) else {
                break;
            };
            let index = listed.index;
            let found = |kind, detail: String| {
                let mut found = Found::new(kind, object.clone(), detail);
                found.index = Some(index);
                found.at = Some((batch.writer, batch.first_seq));
                found
            };
            let (rows, there) = (listed.rows(), batch.leaves.len() as u64);
            let doubled = batch.leaves.windows(2).find(|pair| pair[0].0 == pair[1].0);
            let leaves: Vec<Hash> = batch.leaves.iter().map(|(_, leaf)| *leaf).collect();
            let found = if let Some(pair) = doubled {
                found(
                    FoundKind::RowDoubled,
                    format!("seq {} is there twice", pair[0].0),
                )
            } else if there != rows {
                let detail = format!("{there} of its rows are there, and not {rows}");
                found(FoundKind::RowMissing, detail)
            } else if batch.root.is_none() {
                without_root += there;
                continue;
            } else if listed.root(batch.size, &leaves) != batch.root {
                let detail = String::from("a row of it is not what it was");
                found(FoundKind::BatchDiffers, detail)
            } else {
                continue;
            };
            self.find(found);
        }
        if self.rows != self.manifest.rows {
            let object = self.manifest.of.name(self.manifest.set, Part::Manifest);
            let detail = format!(
                "it says {} rows, and there are {}",
                self.manifest.rows, self.rows
            );
            self.find(Found::new(FoundKind::RowMissing, object, detail));
        }
        without_root
    }
}
