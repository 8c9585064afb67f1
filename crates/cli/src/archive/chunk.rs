//! Batches of the log with rows of a day, and the leaves of all of their rows: what the sets of the day are proven with.
//!
//! As many batches as fit into memory: a day with more rows becomes several sets. A batch is never cut, so the largest one
//! has to fit.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::Range;

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::entry::Entry;
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::__program::ledger::tree::{self, Hash, Subtree};

use super::batch_list::Listed;
use super::names::DayOf;
use crate::prove::ENTRY;
use crate::verify::batches::{Batch, DEAD_LETTERS, Place, Seen, TABLES, differences, missing_rows};
use crate::verify::binary::{self, Fields};
use crate::verify::finding::{Finding, Kind};
use crate::verify::fingerprints;
use crate::verify::log::{ENTRY_COLUMNS, entry_bytes};
use crate::verify::recorded::{Erased, Recorded, RowKey};
use crate::verify::rows::{TableReader, WITHOUT_BATCH};

/// With how many rows a chunk is full: some 100 MB of leaves.
const MOST_ROWS: u64 = 1 << 20;

/// How many batches a chunk has at most.
const MOST_BATCHES: u64 = 1 << 16;

/// Within how many days of a day a batch of it is *near*: its rows are read with those of the day. A batch that reaches further, of a program that was
/// cut off for weeks, or began before its clock was set, is looked into on the days alone of which it has rows, and read by itself.
const NEAR_DAYS: u32 = 2;

/// How many rows that are of no batch of a chunk are looked into.
const MOST_STRANGERS: usize = 10_000;

/// A batch of the log, and its rows.
struct Sealed {
    index: u64,
    entry: Vec<u8>,
    batch: Batch,
    /// In the order of its tree, once they are checked.
    seen: Vec<Seen>,
    /// Which of them has a seq, counted from the first; made when they are checked. Rows are written in another order, and a binary
    /// search for each missed the cache some nine times: a tenth of all that an archive costs.
    by_seq: Vec<u32>,
}

/// Batches of a range of the log, and their rows.
pub(super) struct Chunk {
    /// The least and the greatest id of batches that are near.
    near: (Uuid, Uuid),
    pub(super) entries: Range<u64>,
    batches: Vec<Sealed>,
    /// Those of each writer by their first seq.
    of_writer: HashMap<Uuid, Vec<(i64, usize)>>,
    /// The tables with rows of them.
    tables: BTreeSet<u8>,
    pub(super) recorded: Recorded,
    /// Whether a row is proven by what it was before an erasure.
    has_erased: bool,
}

/// A row that no batch of a chunk has.
type Stranger = (Uuid, i64, Finding);

impl Chunk {
    /// Lists the batches with rows of a day in a range of the log, outside of `within` none of which has any. All of
    /// them, or as many as fit: then the range is shorter.
    pub(super) async fn list(
        connection: &mut PgConnection,
        day: u32,
        entries: Range<u64>,
        within: (u64, u64),
        is_cut: bool,
    ) -> Result<Self, sqlx::Error> {
        let (from, to) = ids_of(day);
        let near = (
            ids_of(day.saturating_sub(NEAR_DAYS)).0,
            ids_of(day.saturating_add(NEAR_DAYS)).1,
        );
        let has_rows = Table::ALL.map(|table| {
            format!(
                "EXISTS (SELECT FROM audit.{} r WHERE r.id BETWEEN '{from}' AND '{to}' AND r.writer_id = b.writer_id AND r.seq BETWEEN b.first_seq AND b.last_seq)",
                table.name()
            )
        });
        let mut query = format!(
            "{ENTRY} WHERE l.index >= {} AND l.index < {} AND b.first_id <= '{to}' AND b.last_id >= '{from}'
                AND (b.first_id >= '{}' AND b.last_id <= '{}' OR {}) ORDER BY l.index",
            entries.start.max(within.0),
            entries.end.min(within.1),
            near.0,
            near.1,
            has_rows.join(" OR ")
        );
        if is_cut {
            // Writing to a String does not fail.
            let _ = write!(query, " LIMIT {MOST_BATCHES}");
        }
        let mut chunk = Self {
            near,
            entries,
            batches: Vec::new(),
            of_writer: HashMap::new(),
            tables: BTreeSet::new(),
            recorded: Recorded::default(),
            has_erased: false,
        };
        let (mut rows, mut is_full) = (0_u64, false);
        binary::read(connection, &query, |row| {
            let Some(sealed) = sealed(row, &mut chunk.tables)? else {
                return Ok(());
            };
            let count = sealed.batch.count() as u64;
            is_full |= is_cut && rows > 0 && rows.saturating_add(count) > MOST_ROWS;
            if is_full {
                chunk.entries.end = chunk.entries.end.min(sealed.index);
                return Ok(());
            }
            rows = rows.saturating_add(count);
            let of_writer = chunk.of_writer.entry(sealed.batch.writer).or_default();
            of_writer.push((sealed.batch.first_seq, chunk.batches.len()));
            chunk.batches.push(sealed);
            Ok(())
        })
        .await?;
        let last = chunk.batches.last().map(|sealed| sealed.index);
        if is_cut && !is_full && chunk.batches.len() as u64 == MOST_BATCHES {
            chunk.entries.end = last.map_or(chunk.entries.end, |last| last + 1);
        }
        for batches in chunk.of_writer.values_mut() {
            batches.sort_unstable();
        }
        Ok(chunk)
    }

    /// Whether its rows are proven with what is recorded of removals and erasures.
    pub(super) fn relies_on_recorded(&self) -> bool {
        let mut batches = self.batches.iter();
        self.has_erased || batches.any(|sealed| !sealed.batch.removed.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the least and the greatest id of the rows of its batches that are of a day.
    pub(super) fn ids(&self, day: u32) -> (Uuid, Uuid) {
        let (first, last) = ids_of(day);
        let ids = |end: fn(&Batch) -> Option<Uuid>| {
            self.batches
                .iter()
                .filter_map(move |sealed| end(&sealed.batch))
        };
        (
            ids(|batch| batch.first_id)
                .min()
                .map_or(first, |id| id.max(first)),
            ids(|batch| batch.last_id)
                .max()
                .map_or(last, |id| id.min(last)),
        )
    }

    /// Reads all rows of the batches, and compares them with the ledger. Returns what differs.
    pub(super) async fn read_rows(
        &mut self,
        connection: &mut PgConnection,
        day: u32,
    ) -> Result<Vec<Finding>, sqlx::Error> {
        let (ranges, far) = (self.id_ranges(), self.far());
        let writers: Vec<String> = self.of_writer.keys().map(|id| format!("'{id}'")).collect();
        let near: Vec<String> = ranges
            .iter()
            .map(|(from, to)| format!("id BETWEEN '{from}' AND '{to}'"))
            .collect();
        let ids: Vec<&str> = near.iter().chain(&far).map(String::as_str).collect();
        self.recorded = Recorded::read_some(
            connection,
            &format!("r.writer_id IN ({})", writers.join(", ")),
            &ids.join(" OR "),
        )
        .await?;
        let mut findings = self.note_removals();
        let mut strangers = Vec::new();
        let erased = std::mem::take(&mut self.recorded.erased);
        for table in self.tables.clone() {
            let reader = TableReader::new(table, &erased, false);
            let name = TABLES[usize::from(table)];
            let columns: Vec<&str> = reader.columns.all().collect();
            let select = format!("SELECT {} FROM audit.{name} WHERE", columns.join(", "));
            let near = near.iter().map(|rows| (rows, true));
            for (rows, are_near) in near.chain(far.iter().map(|rows| (rows, false))) {
                let query = format!("{select} {rows}");
                self.take_rows(
                    connection,
                    &query,
                    &reader,
                    (day, are_near),
                    &mut findings,
                    &mut strangers,
                )
                .await?;
            }
        }
        self.read_dead_letters(connection, &erased, &mut findings)
            .await?;
        self.recorded.erased = erased;
        findings.extend(without_batch(connection, strangers).await?);
        findings.extend(self.check(connection).await?);
        Ok(findings)
    }

    fn is_far(&self, batch: &Batch) -> bool {
        let ids = batch.first_id.zip(batch.last_id);
        ids.is_some_and(|(first, last)| first < self.near.0 || last > self.near.1)
    }

    /// Returns the conditions on the rows of the batches that are not near.
    fn far(&self) -> Vec<String> {
        let batches = self.batches.iter().map(|sealed| &sealed.batch);
        let batches = batches.filter(|batch| self.is_far(batch));
        batches
            .filter_map(|batch| {
                let (first, last) = batch.first_id.zip(batch.last_id)?;
                Some(format!(
                    "id BETWEEN '{first}' AND '{last}' AND writer_id = '{}' AND seq BETWEEN {} AND {}",
                    batch.writer, batch.first_seq, batch.last_seq
                ))
            })
            .collect()
    }

    /// Returns the ranges of ids in which the rows of the batches are that are near.
    fn id_ranges(&self) -> Vec<(Uuid, Uuid)> {
        let ids = self.batches.iter();
        let ids = ids.filter(|sealed| !self.is_far(&sealed.batch));
        let mut ids: Vec<(Uuid, Uuid)> = ids
            .filter_map(|sealed| sealed.batch.first_id.zip(sealed.batch.last_id))
            .collect();
        ids.sort_unstable();
        let mut ranges: Vec<(Uuid, Uuid)> = Vec::new();
        for (first, last) in ids {
            match ranges.last_mut() {
                Some((_, before)) if first <= *before => *before = last.max(*before),
                _ => ranges.push((first, last)),
            }
        }
        // Between two of many there is little to read.
        if ranges.len() > 64
            && let (Some(first), Some(last)) = (ranges.first().copied(), ranges.last().copied())
        {
            return vec![(first.0, last.1)];
        }
        ranges
    }

    fn note_removals(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for sealed in &mut self.batches {
            let batch = &mut sealed.batch;
            let removed = self
                .recorded
                .removed
                .remove(&(batch.writer, batch.first_seq));
            batch.removed = removed.unwrap_or_default();
            let ids = batch.first_id.zip(batch.last_id);
            if !batch.removed.iter().all(|range| range.can_be_of(ids)) {
                let detail = "audit.removals tells of rows of a time of which the batch has none";
                let finding = Finding::new(Kind::RemovalUnrecorded, detail);
                findings.push(finding.of_batch(batch.writer, batch.first_seq, batch.index));
            }
        }
        findings
    }

    async fn take_rows(
        &mut self,
        connection: &mut PgConnection,
        query: &str,
        reader: &TableReader<'_>,
        (day, are_near): (u32, bool),
        findings: &mut Vec<Finding>,
        strangers: &mut Vec<Stranger>,
    ) -> Result<(), sqlx::Error> {
        binary::read(connection, query, |row| {
            let read = reader.read(row)?;
            let (writer, place) = (read.writer.unwrap_or_default(), read.seen.place);
            let name = TABLES[usize::from(place.table)];
            let Some(at) = self.find(&writer, place.seq) else {
                if place.day == day && strangers.len() <= MOST_STRANGERS {
                    let finding = Finding::new(Kind::RowInserted, "no batch has it");
                    let finding = finding.of_row(name, read.seen.id, writer, place.seq);
                    strangers.push((writer, place.seq, finding));
                }
                return Ok(());
            };
            // What is not near is read by itself.
            if are_near && self.is_far(&self.batches[at].batch) {
                return Ok(());
            }
            if read.is_edited {
                let detail = "its content is not what an erasure left of it";
                let finding = Finding::new(Kind::RowEdited, detail);
                findings.push(finding.of_row(name, read.seen.id, writer, place.seq));
            }
            self.has_erased |= read.is_erased;
            self.batches[at].seen.push(read.seen);
            Ok(())
        })
        .await
    }

    async fn read_dead_letters(
        &mut self,
        connection: &mut PgConnection,
        erased: &HashMap<RowKey, Erased>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), sqlx::Error> {
        let number = u8::try_from(Table::ALL.len()).unwrap_or(u8::MAX);
        let reader = TableReader::new(number, erased, false);
        let columns: Vec<&str> = Columns::of_dead_letters().all().collect();
        let with_some = self.batches.iter().filter(|sealed| {
            Entry::decode(&sealed.entry).is_ok_and(|entry| entry.dead_letters != 0)
        });
        let queries: Vec<String> = with_some
            .map(|Sealed { batch, .. }| {
                format!(
                    "SELECT {}, created_at FROM audit.{DEAD_LETTERS} WHERE writer_id = '{}' AND seq BETWEEN {} AND {}",
                    columns.join(", "),
                    batch.writer,
                    batch.first_seq,
                    batch.last_seq
                )
            })
            .collect();
        for query in queries {
            self.take_rows(
                connection,
                &query,
                &reader,
                (u32::MAX, false),
                findings,
                &mut Vec::new(),
            )
            .await?;
        }
        Ok(())
    }

    /// Compares the roots of the batches with those of their entries.
    async fn check(&mut self, connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
        let mut findings = Vec::new();
        for sealed in &mut self.batches {
            let Sealed { batch, seen, .. } = sealed;
            if batch.root.is_none() {
                seen.sort_unstable_by_key(|row| row.place);
                findings.extend(
                    missing_rows(batch, seen)
                        .into_iter()
                        .filter(|finding| finding.kind != Kind::RowMissing),
                );
            } else if !batch.has_root_of(seen) {
                let prints = fingerprints(connection, batch).await?;
                findings.extend(differences(batch, seen.clone(), &prints));
            }
            sealed.note_seqs();
        }
        Ok(findings)
    }

    fn find(&self, writer: &Uuid, seq: i64) -> Option<usize> {
        let batches = self.of_writer.get(writer)?;
        let after = batches.partition_point(|(first_seq, _)| *first_seq <= seq);
        let (_, at) = *batches.get(after.checked_sub(1)?)?;
        (self.batches[at].batch.last_seq >= seq).then_some(at)
    }

    /// Whether a row of the batches from an index on has this place and hash.
    pub(super) fn has(&self, from: u64, writer: &Uuid, place: Place, leaf: &Hash) -> Option<bool> {
        let sealed = &self.batches[self.find(writer, place.seq)?];
        if sealed.index < from {
            return None;
        }
        let seen = sealed.seen_at(place);
        Some(seen.is_some_and(|row| row.leaf.hash == *leaf))
    }

    /// Lists the batches from an index on that have rows of a day of a table.
    pub(super) fn listed(&self, of: DayOf, from: u64) -> Vec<Listed> {
        let table = TABLES.iter().position(|name| *name == of.table.name());
        let is_own =
            |row: &Seen| Some(usize::from(row.place.table)) == table && row.place.day == of.day;
        let batches = self.batches.iter().filter(|sealed| sealed.index >= from);
        batches
            .filter(|sealed| sealed.seen.iter().any(is_own))
            .map(|sealed| sealed.listed(is_own))
            .collect()
    }
}

impl Sealed {
    fn note_seqs(&mut self) {
        let count = self.batch.count();
        if count as u64 > MOST_ROWS {
            return;
        }
        self.by_seq = vec![u32::MAX; count];
        for (at, row) in (0..).zip(&self.seen) {
            let behind = self.behind_first(row.place);
            if let Some(by_seq) = behind.and_then(|seq| self.by_seq.get_mut(seq)) {
                *by_seq = at;
            }
        }
    }

    /// Returns how far behind its first row a place of the batch is.
    fn behind_first(&self, place: Place) -> Option<usize> {
        let behind = place.seq.checked_sub(self.batch.first_seq)?;
        usize::try_from(behind).ok()
    }

    fn seen_at(&self, place: Place) -> Option<&Seen> {
        let at = self.by_seq.get(self.behind_first(place)?);
        let row = at.and_then(|at| self.seen.get(usize::try_from(*at).ok()?));
        row.filter(|row| row.place == place).or_else(|| {
            let at = self.seen.binary_search_by_key(&place, |row| row.place);
            self.seen.get(at.ok()?)
        })
    }

    fn listed(&self, is_own: impl Fn(&Seen) -> bool) -> Listed {
        let mut listed = Listed {
            index: self.index,
            entry: self.entry.clone(),
            ranges: Vec::new(),
            hashes: Vec::new(),
        };
        if self.batch.root.is_none() {
            let own = self.seen.iter().filter(|row| is_own(row)).count();
            listed.ranges.push((0, own as u64));
            return listed;
        }
        let mut leaves: Vec<Option<Hash>> = Vec::with_capacity(self.batch.count());
        let mut subtrees = HashMap::new();
        let mut removed = self.batch.removed.iter().peekable();
        for row in self.seen.iter().map(Some).chain([None]) {
            while let Some(range) = removed.next_if(|range| range.from_leaf == leaves.len() as u64)
            {
                let end = range.from_leaf.saturating_add(range.rows);
                let cover = tree::cover(range.from_leaf, end);
                subtrees.extend(cover.into_iter().zip(range.hashes.iter().copied()));
                leaves.resize(usize::try_from(end).unwrap_or(leaves.len()), None);
            }
            let Some(row) = row else { break };
            let at = leaves.len() as u64;
            leaves.push(Some(row.leaf.hash));
            if is_own(row) {
                match listed.ranges.last_mut() {
                    Some((from, count)) if *from + *count == at => *count += 1,
                    _ => listed.ranges.push((at, 1)),
                }
            }
        }
        let gaps = listed.gaps(leaves.len() as u64);
        let cover = gaps.flat_map(|(from, to)| tree::cover(from, to));
        // Its root was computed of these leaves and subtrees, so each node is there.
        listed.hashes = cover
            .map(|node| hash_of(node, &leaves, &subtrees).unwrap_or_default())
            .collect();
        listed
    }
}

/// Returns the hash of a node above leaves, of which some are known by the subtrees that they make up.
fn hash_of(
    node: Subtree,
    leaves: &[Option<Hash>],
    subtrees: &HashMap<Subtree, Hash>,
) -> Option<Hash> {
    if let Some(hash) = subtrees.get(&node) {
        return Some(*hash);
    }
    let Some(level) = node.level.checked_sub(1) else {
        return *leaves.get(usize::try_from(node.index).ok()?)?;
    };
    let child = |index| hash_of(Subtree { level, index }, leaves, subtrees);
    Some(tree::node_hash(
        &child(node.index * 2)?,
        &child(node.index * 2 + 1)?,
    ))
}

/// Reads a batch of a row of [`ENTRY`], and notes the tables that it has rows of.
fn sealed(row: Fields<'_>, tables: &mut BTreeSet<u8>) -> Result<Option<Sealed>, sqlx::Error> {
    let mut row = row;
    let index = row.i64()?;
    let bytes = entry_bytes(row.images(ENTRY_COLUMNS)?, row)?;
    let (Some(index), Ok(entry)) = (index, Entry::decode(&bytes)) else {
        return Ok(None);
    };
    let mut batch = Batch::new(entry.writer_id, entry.first_seq, entry.last_seq);
    batch.index = Some(index);
    batch.root = entry.root;
    (batch.first_id, batch.last_id) = (entry.first_id, entry.last_id);
    for (number, table) in (0..).zip(&TABLES[..Table::ALL.len()]) {
        if entry.records.contains(&format!("\"{table}\"")) {
            tables.insert(number);
        }
    }
    Ok(Some(Sealed {
        index: u64::try_from(index).unwrap_or(u64::MAX),
        entry: bytes,
        batch,
        seen: Vec::new(),
        by_seq: Vec::new(),
    }))
}

/// Of rows that no batch of a chunk has, names those that no batch at all has.
async fn without_batch(
    connection: &mut PgConnection,
    strangers: Vec<Stranger>,
) -> Result<Vec<Finding>, sqlx::Error> {
    if strangers.is_empty() {
        return Ok(Vec::new());
    }
    let (writers, seqs): (Vec<Uuid>, Vec<i64>) = strangers
        .iter()
        .map(|(writer, seq, _)| (*writer, *seq))
        .unzip();
    let without: HashSet<(Uuid, i64)> = sqlx::query_as(WITHOUT_BATCH)
        .bind(writers)
        .bind(seqs)
        .persistent(false)
        .fetch_all(connection)
        .await?
        .into_iter()
        .collect();
    let found = strangers
        .into_iter()
        .filter(|(writer, seq, _)| without.contains(&(*writer, *seq)));
    Ok(found.map(|(.., finding)| finding).collect())
}

/// Returns the least and the greatest id of a day.
pub(super) fn ids_of(day: u32) -> (Uuid, Uuid) {
    let at = |day: u32| (u128::from(day) * 86_400_000) << 80;
    (
        Uuid::from_u128(at(day)),
        Uuid::from_u128(at(day + 1).wrapping_sub(1)),
    )
}
