//! The batches that the trail has, and what was seen of each one's rows.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use sqlx::types::Uuid;
use tracing_audit::__program::ledger::leaf::{FINGERPRINT_BYTES, Leaf, digest};
use tracing_audit::__program::ledger::tree::{self, Hash, Part};

use super::finding::{Finding, Kind};
use super::recorded::Removed;

/// The tables whose rows a batch has, in the order of its tree.
pub(crate) const TABLES: [&str; 5] = [
    "query_runs",
    "prompt_runs",
    "events",
    "activities",
    DEAD_LETTERS,
];

pub(crate) const DEAD_LETTERS: &str = "dead_letters";

/// A row of a batch, as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) place: Place,
    pub(crate) id: Option<Uuid>,
    pub(crate) leaf: Leaf,
    /// Whether it has no salt, as after an erasure.
    pub(crate) is_blank: bool,
}

/// Where a row stands in the tree of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The index of its table in [`TABLES`].
    pub(crate) table: u8,
    pub(crate) day: u32,
    pub(crate) seq: i64,
}

/// A batch, by its row in `audit.batches` and its entry in the log.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) writer: Uuid,
    pub(crate) first_seq: i64,
    pub(crate) last_seq: i64,
    /// Its place in the log; `None`: it is not sealed yet.
    pub(crate) index: Option<i64>,
    /// The root that its entry has; `None` if its rows were not all there when it was sealed, or it
    /// is not sealed.
    pub(crate) root: Option<Hash>,
    /// The hash of the fingerprints that are stored with it.
    pub(crate) prints: Option<Hash>,
    pub(crate) first_id: Option<Uuid>,
    pub(crate) last_id: Option<Uuid>,
    pub(crate) committed_us: i64,
    /// The ranges of its tree whose rows were removed.
    pub(crate) removed: Vec<Removed>,
    is_chosen: bool,
    rows: Mutex<Rows>,
}

#[derive(Debug)]
enum Rows {
    Seen(Vec<Seen>),
    /// All rows were there, and as they were.
    Proven,
    /// The same, and its fingerprints are not theirs: they would name other rows.
    Misprinted,
}

/// What became of a row that was handed to its batch.
pub(super) enum Taken {
    Yes,
    /// The batch was complete without it.
    TooMany,
}

impl Batch {
    pub(crate) fn new(writer: Uuid, first_seq: i64, last_seq: i64) -> Self {
        Self {
            writer,
            first_seq,
            last_seq,
            index: None,
            root: None,
            prints: None,
            first_id: None,
            last_id: None,
            committed_us: 0,
            removed: Vec::new(),
            is_chosen: false,
            rows: Mutex::new(Rows::Seen(Vec::new())),
        }
    }

    pub(crate) fn count(&self) -> usize {
        let count = self
            .last_seq
            .saturating_sub(self.first_seq)
            .saturating_add(1);
        usize::try_from(count).unwrap_or(0)
    }

    /// Returns how many of its rows were not removed.
    fn left(&self) -> usize {
        let removed = self
            .removed
            .iter()
            .fold(0, |sum: u64, range| sum.saturating_add(range.rows));
        self.count()
            .saturating_sub(usize::try_from(removed).unwrap_or(usize::MAX))
    }

    /// Takes a row; if it is the last, compares the root.
    pub(super) fn take(&self, row: Seen) -> Taken {
        let mut rows = self
            .rows
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match &mut *rows {
            Rows::Proven | Rows::Misprinted => Taken::TooMany,
            Rows::Seen(seen) => {
                if seen.is_empty() {
                    seen.reserve_exact(self.left().min(1 << 16));
                }
                seen.push(row);
                if seen.len() == self.left() && self.has_root_of(seen) {
                    *rows = if self.has_prints_of(seen) {
                        Rows::Proven
                    } else {
                        Rows::Misprinted
                    };
                }
                Taken::Yes
            }
        }
    }

    /// Whether these rows, each once, and what stands for those that were removed have its root.
    pub(crate) fn has_root_of(&self, seen: &mut [Seen]) -> bool {
        seen.sort_unstable_by_key(|row| row.place);
        if !self.are_removals_in_place(seen) {
            return false;
        }
        let mut rows = seen.iter().map(|row| Part::Leaf(row.leaf.hash));
        let mut parts = Vec::with_capacity(seen.len() + self.removed.len());
        let mut at = 0;
        for range in &self.removed {
            let before = range.from_leaf.saturating_sub(at);
            parts.extend(
                rows.by_ref()
                    .take(usize::try_from(before).unwrap_or(usize::MAX)),
            );
            parts.push(Part::Covered {
                leaves: range.rows,
                hashes: &range.hashes,
            });
            at = range.from_leaf.saturating_add(range.rows);
        }
        parts.extend(rows);
        tree::root_with(self.count() as u64, parts).ok() == self.root
    }

    /// Whether what was removed can have stood where `audit.removals` says: between rows of earlier and
    /// of later days, or of other tables, and as much of each table as the batch had. All rows that are
    /// left are given, in the order of the tree.
    fn are_removals_in_place(&self, seen: &[Seen]) -> bool {
        let mut rows = seen
            .iter()
            .map(|row| (row.place.table, row.place.day))
            .peekable();
        let (mut before, mut at) = (None, 0);
        self.removed.iter().all(|range| {
            let (Some(table), Some(days)) = (range.table, &range.days) else {
                return false;
            };
            let left = range.from_leaf.saturating_sub(at);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            before = rows.by_ref().take(left).last().or(before);
            let is_behind = before < Some((table, *days.start()));
            before = Some((table, *days.end()));
            at = range.from_leaf.saturating_add(range.rows);
            let is_ahead = rows.peek().is_none_or(|next| Some(*next) > before);
            let left = seen.iter().filter(|row| row.place.table == table).count() as u64;
            let removed = self
                .removed
                .iter()
                .filter(|other| other.table == Some(table));
            let all = removed.fold(left, |sum, other| sum.saturating_add(other.rows));
            is_behind && is_ahead && all == range.of_table
        })
    }

    /// Whether the fingerprints, if it has any, are those of its rows. Those of rows that were removed are not known.
    fn has_prints_of(&self, seen: &[Seen]) -> bool {
        let Some(prints) = self.prints.filter(|_| self.removed.is_empty()) else {
            return true;
        };
        let of_rows: Vec<_> = seen.iter().map(|row| row.leaf.fingerprint()).collect();
        digest(of_rows.as_flattened()) == prints
    }

    /// Whether its rows are proven, and its fingerprints are of others.
    pub(super) fn is_misprinted(&mut self) -> bool {
        let rows = self.rows.get_mut();
        let rows = rows.unwrap_or_else(std::sync::PoisonError::into_inner);
        matches!(rows, Rows::Misprinted)
    }

    /// Returns the rows that were seen, unless they are proven.
    /// A batch all of whose rows were removed has none to prove.
    pub(super) fn unproven(&mut self) -> Option<Vec<Seen>> {
        let is_gone = self.left() == 0 && self.has_root_of(&mut []);
        let rows = self
            .rows
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match rows {
            Rows::Proven | Rows::Misprinted => None,
            Rows::Seen(seen) if seen.is_empty() && is_gone => None,
            Rows::Seen(seen) => Some(std::mem::take(seen)),
        }
    }
}

/// The batches, found by writer and seq.
#[derive(Debug, Default)]
pub(super) struct Batches {
    pub(super) all: Vec<Batch>,
    /// Those of each writer by their first seq, once [`sort`](Self::sort) was called.
    of_writer: HashMap<Uuid, Vec<(i64, usize)>>,
    /// Whether only some are to be verified.
    are_chosen: bool,
}

impl Batches {
    pub(super) fn add(&mut self, batch: Batch) {
        let of_writer = self.of_writer.entry(batch.writer).or_default();
        of_writer.push((batch.first_seq, self.all.len()));
        self.all.push(batch);
    }

    pub(super) fn sort(&mut self) {
        for batches in self.of_writer.values_mut() {
            batches.sort_unstable();
        }
    }

    /// Notes which rows of the batches were removed.
    pub(super) fn note_removals(
        &mut self,
        removed: &mut HashMap<(Uuid, i64), Vec<Removed>>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        if removed.is_empty() {
            return findings;
        }
        for batch in &mut self.all {
            let Some(ranges) = removed.remove(&(batch.writer, batch.first_seq)) else {
                continue;
            };
            let ids = batch.first_id.zip(batch.last_id);
            if !ranges.iter().all(|range| range.can_be_of(ids)) {
                let detail = "audit.removals tells of rows of a time of which the batch has none";
                let finding = Finding::new(Kind::RemovalUnrecorded, detail);
                findings.push(finding.of_batch(batch.writer, batch.first_seq, batch.index));
            }
            batch.removed = ranges;
        }
        findings
    }

    /// Returns the batch that has this seq of a writer.
    pub(super) fn find(&self, writer: &Uuid, seq: i64) -> Option<usize> {
        let batches = self.of_writer.get(writer)?;
        let after = batches.partition_point(|(first_seq, _)| *first_seq <= seq);
        let (_, at) = *batches.get(after.checked_sub(1)?)?;
        (self.all[at].last_seq >= seq).then_some(at)
    }

    /// Notes which of them are to be verified: those with a row of a tenant.
    pub(super) fn choose(&mut self, rows: &[(Uuid, i64)]) {
        self.are_chosen = true;
        for (writer, seq) in rows {
            if let Some(at) = self.find(writer, *seq) {
                self.all[at].is_chosen = true;
            }
        }
    }

    /// Leaves out those that were committed before a time, in microseconds since 2000. It is part of their entries, which are
    /// compared in any case.
    pub(super) fn leave_out_before(&mut self, since_us: i64) {
        for batch in &mut self.all {
            let is_chosen = !self.are_chosen || batch.is_chosen;
            batch.is_chosen = is_chosen && batch.committed_us >= since_us;
        }
        self.are_chosen = true;
    }

    /// Whether a batch's rows are verified.
    pub(super) fn is_chosen(&self, batch: &Batch) -> bool {
        !self.are_chosen || batch.is_chosen
    }

    /// Whether rows of a batch that is verified were removed.
    pub(super) fn has_removals(&self) -> bool {
        self.all
            .iter()
            .any(|batch| self.is_chosen(batch) && !batch.removed.is_empty())
    }

    pub(super) fn has_writer(&self, writer: &Uuid) -> bool {
        self.of_writer.contains_key(writer)
    }
}

/// Says which rows of a batch that was sealed without a root are not there. Nothing proves the others.
pub(crate) fn missing_rows(batch: &Batch, seen: &[Seen]) -> Vec<Finding> {
    missing_and_doubled(batch, seen, &HashSet::new())
}

/// Says which rows of a batch are not what they were.
///
/// `fingerprints` are those that were stored with the batch. They prove nothing: if they do not
/// explain what differs, the batch as a whole is named.
pub(crate) fn differences(batch: &Batch, mut seen: Vec<Seen>, fingerprints: &[u8]) -> Vec<Finding> {
    seen.sort_unstable_by_key(|row| row.place);
    let prints: Vec<&[u8]> = fingerprints.chunks_exact(FINGERPRINT_BYTES).collect();
    let rows: HashSet<&[u8]> = prints.iter().copied().collect();
    let mut findings = missing_and_doubled(batch, &seen, &rows);
    if findings.is_empty() && !batch.are_removals_in_place(&seen) {
        let detail = "audit.removals tells of rows where the batch had others";
        let finding = Finding::new(Kind::RemovalUnrecorded, detail);
        return vec![finding.of_batch(batch.writer, batch.first_seq, batch.index)];
    }
    let of_row = |kind, row: &Seen, detail: &str| {
        Finding::new(kind, detail).of_row(
            TABLES[usize::from(row.place.table)],
            row.id,
            batch.writer,
            row.place.seq,
        )
    };
    if prints.len() == batch.count() {
        let contents: HashSet<&[u8]> = prints.iter().map(|print| &print[4..]).collect();
        for row in &seen {
            let print = row.leaf.fingerprint();
            if !rows.contains(&print[..]) {
                if row.is_blank {
                    findings.push(of_row(Kind::ErasureUnrecorded, row, ""));
                    continue;
                }
                let part = if contents.contains(&print[4..]) {
                    CORE
                } else {
                    CONTENT
                };
                findings.push(of_row(Kind::RowEdited, row, part));
            }
        }
        // Where rows were removed, the others stand elsewhere.
        if findings.is_empty() && batch.removed.is_empty() {
            let places = seen.iter().zip(&prints);
            let moved = places.filter(|(row, print)| row.leaf.fingerprint() != **print);
            findings.extend(moved.map(|(row, _)| of_row(Kind::RowsReordered, row, "")));
        }
    }
    if findings.is_empty() {
        findings.push(
            Finding::new(
                Kind::BatchDiffers,
                "a row of it is not what it was, and its fingerprints do not tell which",
            )
            .of_batch(batch.writer, batch.first_seq, batch.index),
        );
    }
    findings
}

const CORE: &str = "in a column that says when, where or how (id, tenant_id, request_id, status, times, counts and the like)";
const CONTENT: &str =
    "in its content (salt, user, texts, metadata, problems or redactions), or in all of it";

/// Names the seqs of which there is no row, or more than one: of these the one that is not `known` by its fingerprint.
fn missing_and_doubled(batch: &Batch, seen: &[Seen], known: &HashSet<&[u8]>) -> Vec<Finding> {
    let mut by_seq: Vec<&Seen> = seen.iter().collect();
    by_seq.sort_by_cached_key(|row| (row.place.seq, !known.contains(&row.leaf.fingerprint()[..])));
    let mut findings = Vec::new();
    let mut expected = batch.first_seq;
    let mut rows = by_seq.iter().peekable();
    while let Some(row) = rows.next() {
        if batch.removed.is_empty() {
            missing(batch, expected, row.place.seq, &mut findings);
        }
        expected = row.place.seq.saturating_add(1);
        while let Some(double) = rows.next_if(|next| next.place.seq == row.place.seq) {
            findings.push(
                Finding::new(Kind::RowInserted, "there is another row with its seq").of_row(
                    TABLES[usize::from(double.place.table)],
                    double.id,
                    batch.writer,
                    double.place.seq,
                ),
            );
        }
    }
    if batch.removed.is_empty() {
        missing(
            batch,
            expected,
            batch.last_seq.saturating_add(1),
            &mut findings,
        );
    } else if seen.len() < batch.left() {
        let detail = format!(
            "{} of its rows, beside those that were removed",
            batch.left() - seen.len()
        );
        findings.push(Finding::new(Kind::RowMissing, detail).of_batch(
            batch.writer,
            batch.first_seq,
            batch.index,
        ));
    }
    findings
}

fn missing(batch: &Batch, from: i64, to: i64, findings: &mut Vec<Finding>) {
    if from < to {
        let detail = match to - from {
            1 => String::new(),
            count => format!("{count} rows, up to seq {}", to - 1),
        };
        findings.push(Finding::new(Kind::RowMissing, detail).of_batch(
            batch.writer,
            from,
            batch.index,
        ));
    }
}
