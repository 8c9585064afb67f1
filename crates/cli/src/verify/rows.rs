//! The rows: each is hashed and handed to its batch, several parts of the trail at once.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Executor as _};
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::__program::ledger::leaf::{TablePrefix, leaf, leaf_of};
use tracing_audit::__program::{Table, ledger};

use super::batches::{Batches, DEAD_LETTERS, Place, Seen, TABLES, Taken};
use super::binary::{self, Fields};
use super::finding::{Finding, Kind, MOST_NAMED};
use super::recorded::{Erased, RowKey};
use super::shape::Leaves;

/// Which of these rows no batch has.
pub(crate) const WITHOUT_BATCH: &str = "
    SELECT u.writer_id, u.seq FROM unnest($1::uuid[], $2::bigint[]) u (writer_id, seq)
    WHERE coalesce((SELECT b.last_seq FROM audit.batches b WHERE b.writer_id = u.writer_id AND b.first_seq <= u.seq ORDER BY b.first_seq DESC LIMIT 1), 0) < u.seq";

/// How many rows of a table are read at once.
const SLICE_ROWS: u64 = 500_000;

/// A part of a table: the rows with ids from one up to before another.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    /// The index of the table in [`TABLES`].
    table: u8,
    from: Option<Uuid>,
    to: Option<Uuid>,
}

/// The rows that are read, and what is known of them so far.
pub(super) struct Rows<'a> {
    batches: &'a Batches,
    erased: &'a HashMap<RowKey, Erased>,
    /// The partitions; `None`: a table is none that has any.
    leaves: Option<&'a Leaves>,
    slices: Vec<Slice>,
    next: AtomicUsize,
    pub(super) count: AtomicU64,
    pub(super) bytes: AtomicU64,
    findings: Mutex<Vec<Finding>>,
    /// Whether a row was proven by what an erasure left.
    pub(super) has_erased: AtomicBool,
    /// Whether only some batches are verified: rows of others are met, and are no finding.
    is_partial: bool,
    /// Rows whose batch was not read.
    strangers: Mutex<Vec<(Uuid, i64, Finding)>>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        batches: &'a Batches,
        erased: &'a HashMap<RowKey, Erased>,
        leaves: Option<&'a Leaves>,
        is_partial: bool,
    ) -> Self {
        Self {
            batches,
            erased,
            leaves,
            slices: if is_partial {
                parts(batches)
            } else {
                slices(batches)
            },
            is_partial,
            strangers: Mutex::new(Vec::new()),
            next: AtomicUsize::new(0),
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            findings: Mutex::new(Vec::new()),
            has_erased: AtomicBool::new(false),
        }
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reads slices for as long as there is one that nobody reads.
    pub(super) async fn read(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        while let Some(slice) = self.slices.get(self.next.fetch_add(1, Relaxed)) {
            let table = TableReader::new(slice.table, self.erased, self.leaves.is_some());
            let query = table.query(slice);
            let (mut rows, mut bytes) = (0, 0);
            binary::read(connection, &query, |row| {
                rows += 1;
                bytes += row.bytes().len() as u64;
                if rows % 4096 == 0 {
                    self.count.fetch_add(4096, Relaxed);
                    self.bytes.fetch_add(std::mem::take(&mut bytes), Relaxed);
                }
                self.row(&table, row)
            })
            .await?;
            self.count.fetch_add(rows % 4096, Relaxed);
            self.bytes.fetch_add(bytes, Relaxed);
        }
        Ok(())
    }

    fn row(&self, table: &TableReader<'_>, row: Fields<'_>) -> Result<(), sqlx::Error> {
        let read = table.read(row)?;
        let writer = read.writer.unwrap_or_default();
        let seq = read.seen.place.seq;
        let Some(at) = self.batches.find(&writer, seq) else {
            if self.is_partial {
                self.note_stranger(&read, writer);
            } else {
                self.find(stranger(&read, "no batch has it"));
            }
            return Ok(());
        };
        let batch = &self.batches.all[at];
        if !self.batches.is_chosen(batch) {
            return Ok(());
        }
        if read.dead_since.is_some_and(|at| at != batch.committed_us) {
            let detail = "created_at is not when its batch was committed";
            self.find(Finding::new(Kind::RowEdited, detail).of_row(
                DEAD_LETTERS,
                None,
                writer,
                seq,
            ));
        }
        if read.is_erased {
            self.has_erased.store(true, Relaxed);
        }
        if read.is_edited {
            let detail = "its content is not what an erasure left of it";
            let table = TABLES[usize::from(read.seen.place.table)];
            self.find(Finding::new(Kind::RowEdited, detail).of_row(
                table,
                read.seen.id,
                writer,
                seq,
            ));
        }
        let id_and_leaf = read.seen.id.zip(read.leaf);
        let is_misplaced = id_and_leaf
            .zip(self.leaves)
            .is_some_and(|((id, leaf), leaves)| leaves.is_misplaced(leaf, id));
        if is_misplaced {
            let detail = "it stands in a partition of another time, where no reader looks for it";
            let table = TABLES[usize::from(read.seen.place.table)];
            self.find(Finding::new(Kind::RowsReordered, detail).of_row(
                table,
                read.seen.id,
                writer,
                seq,
            ));
        }
        if batch.index.is_none() {
            return Ok(());
        }
        let taken = batch.take(read.seen);
        if matches!(taken, Taken::TooMany) {
            self.find(stranger(&read, "its batch is complete without it"));
        }
        Ok(())
    }

    fn note_stranger(&self, read: &Read, writer: Uuid) {
        let mut strangers = self
            .strangers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if strangers.len() < MOST_NAMED {
            let finding = stranger(read, "no batch has it");
            strangers.push((writer, read.seen.place.seq, finding));
        }
    }

    /// Of the rows whose batch was not read, names those that have none.
    pub(super) async fn name_strangers(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let strangers = std::mem::take(
            &mut *self
                .strangers
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        if strangers.is_empty() {
            return Ok(());
        }
        let (writers, seqs): (Vec<Uuid>, Vec<i64>) = strangers
            .iter()
            .map(|(writer, seq, _)| (*writer, *seq))
            .unzip();
        let without: Vec<(Uuid, i64)> = sqlx::query_as(WITHOUT_BATCH)
            .bind(writers)
            .bind(seqs)
            .persistent(false)
            .fetch_all(connection)
            .await?;
        let without: HashSet<(Uuid, i64)> = without.into_iter().collect();
        for (writer, seq, finding) in strangers {
            if without.contains(&(writer, seq)) {
                self.find(finding);
            }
        }
        Ok(())
    }

    /// Counts the rows that no range of ids has reached: those that stand in a partition of another time, and those without an id.
    pub(super) async fn count_unreached(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        // With one slice of each table, there are no ranges.
        if self.is_partial || self.slices.len() <= TABLES.len() {
            return Ok(());
        }
        connection.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off").await?;
        let counts = TABLES.map(|table| format!("(SELECT count(*) FROM audit.{table})"));
        let query = format!("SELECT {}", counts.join(" + "));
        let there: i64 = sqlx::query_scalar(AssertSqlSafe(query))
            .persistent(false)
            .fetch_one(connection)
            .await?;
        let unreached = u64::try_from(there)
            .unwrap_or_default()
            .saturating_sub(self.count.load(Relaxed));
        if unreached > 0 {
            let detail = format!(
                "{unreached} rows that are not found by their ids: they have none, or stand in a partition of another time"
            );
            self.find(Finding::new(Kind::RowInserted, detail));
        }
        Ok(())
    }

    fn find(&self, finding: Finding) {
        let mut findings = self
            .findings
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if findings.len() < MOST_NAMED {
            findings.push(finding);
        }
    }
}

fn stranger(read: &Read, detail: &str) -> Finding {
    let table = TABLES[usize::from(read.seen.place.table)];
    let writer = read.writer.unwrap_or_default();
    Finding::new(Kind::RowInserted, detail).of_row(table, read.seen.id, writer, read.seen.place.seq)
}

/// Cuts the trail into parts: where so many rows have begun, by the ids of the batches.
fn slices(batches: &Batches) -> Vec<Slice> {
    let mut firsts: Vec<(Uuid, u64)> = batches
        .all
        .iter()
        .filter_map(|batch| Some((batch.first_id?, batch.count() as u64)))
        .collect();
    firsts.sort_unstable();
    let mut cuts = vec![None];
    let mut rows = 0;
    for (first_id, count) in firsts {
        if rows >= SLICE_ROWS {
            cuts.push(Some(first_id));
            rows = 0;
        }
        rows += count;
    }
    let mut slices = Vec::new();
    for (at, from) in cuts.iter().enumerate() {
        for table in 0..Table::ALL.len() {
            slices.push(Slice {
                table: u8::try_from(table).unwrap_or(u8::MAX),
                from: *from,
                to: cuts.get(at + 1).copied().flatten(),
            });
        }
    }
    slices.push(Slice {
        table: u8::try_from(Table::ALL.len()).unwrap_or(u8::MAX),
        from: None,
        to: None,
    });
    slices
}

/// Cuts out the parts of the trail that have the rows of the batches that are to be verified.
fn parts(batches: &Batches) -> Vec<Slice> {
    let chosen = batches
        .all
        .iter()
        .filter(|batch| batches.is_chosen(batch) && batch.root.is_some());
    let mut ranges: Vec<(Uuid, Uuid)> = chosen
        .filter_map(|batch| batch.first_id.zip(batch.last_id))
        .collect();
    ranges.sort_unstable();
    let mut merged: Vec<(Uuid, Uuid)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, before)) if first <= *before => *before = last.max(*before),
            _ => merged.push((first, last)),
        }
    }
    let mut slices = Vec::new();
    for (first, last) in merged {
        for table in 0..Table::ALL.len() {
            slices.push(Slice {
                table: u8::try_from(table).unwrap_or(u8::MAX),
                from: Some(first),
                // Up to before the next id.
                to: last.as_u128().checked_add(1).map(Uuid::from_u128),
            });
        }
    }
    slices.push(Slice {
        table: u8::try_from(Table::ALL.len()).unwrap_or(u8::MAX),
        from: None,
        to: None,
    });
    slices
}

/// Reads the rows of a table.
pub(crate) struct TableReader<'a> {
    erased: &'a HashMap<RowKey, Erased>,
    number: u8,
    name: &'static str,
    pub(crate) columns: &'static Columns,
    prefix: TablePrefix,
    is_dead_letters: bool,
    /// Whether the partition of each row is read.
    has_leaf: bool,
    /// What is left of a content that was erased.
    blank: Vec<u8>,
}

/// Returns the content of a row when all of it was erased.
pub(crate) fn blank(columns: &Columns) -> Vec<u8> {
    let images = columns.content.iter().map(|column| match *column {
        "salt" => &b"\0\0\0\0"[..],
        "metadata" => b"\0\0\0\x03\x01{}",
        "problems" | "redactions" => b"\0\0\0\x0c\0\0\0\0\0\0\0\0\0\0\0\x19",
        _ => b"\xff\xff\xff\xff",
    });
    images.collect::<Vec<_>>().concat()
}

/// A row that was read.
pub(crate) struct Read {
    pub(crate) writer: Option<Uuid>,
    pub(crate) seen: Seen,
    /// Whether its content was erased, and is not what the erasure left.
    pub(crate) is_edited: bool,
    /// Whether an erasure tells of it.
    pub(crate) is_erased: bool,
    /// Of a dead letter: its `created_at`.
    dead_since: Option<i64>,
    /// The partition.
    leaf: Option<u32>,
}

impl<'a> TableReader<'a> {
    pub(crate) fn new(number: u8, erased: &'a HashMap<RowKey, Erased>, has_leaves: bool) -> Self {
        let name = TABLES[usize::from(number)];
        let table = Table::of_name(name);
        let columns = Columns::of(name).unwrap_or_else(Columns::of_dead_letters);
        Self {
            erased,
            number,
            name,
            columns,
            prefix: TablePrefix::new(name),
            is_dead_letters: table.is_none(),
            has_leaf: has_leaves && table.is_some(),
            blank: blank(columns),
        }
    }

    fn query(&self, slice: &Slice) -> String {
        let mut columns: Vec<&str> = self.columns.all().collect();
        columns.extend(self.is_dead_letters.then_some("created_at"));
        columns.extend(self.has_leaf.then_some("tableoid"));
        let mut query = format!("SELECT {} FROM audit.{}", columns.join(", "), self.name);
        let conditions: Vec<String> = [(">=", slice.from), ("<", slice.to)]
            .into_iter()
            .filter_map(|(than, id)| Some(format!("id {than} '{}'", id?)))
            .collect();
        if !conditions.is_empty() {
            query.push_str(" WHERE ");
            query.push_str(&conditions.join(" AND "));
        }
        query
    }

    pub(crate) fn read(&self, mut row: Fields<'_>) -> Result<Read, sqlx::Error> {
        let mut fields = row;
        let core = row.images(self.columns.core.len())?;
        let content = row.images(self.columns.content.len())?;
        let id = if self.is_dead_letters {
            None
        } else {
            fields.uuid()?
        };
        let writer = fields.uuid()?;
        let seq = fields.i64()?.unwrap_or_default();
        let mut leaf = leaf(&self.prefix, core, content);
        let mut is_edited = false;
        let erased = id
            .zip(writer)
            .and_then(|(id, writer)| self.erased.get(&(self.number, id, writer, seq)));
        if let Some(erased) = erased {
            // What was erased is proven by the hash that it had; what is left, by the erasure's.
            is_edited = leaf.content != erased.left || erased.is_whole && content != self.blank;
            leaf.content = erased.first;
            leaf.hash = leaf_of(&self.prefix, core, &leaf.content);
        }
        Ok(Read {
            writer,
            seen: Seen {
                place: Place {
                    table: self.number,
                    day: id.map_or(0, |id| ledger::day_of(id.as_u128())),
                    seq,
                },
                id,
                leaf,
                // The salt is the first of the content.
                is_blank: content.starts_with(&[0; 4]),
            },
            is_edited,
            is_erased: erased.is_some(),
            dead_since: if self.is_dead_letters {
                row.i64()?
            } else {
                None
            },
            leaf: if self.has_leaf {
                row.fixed()?.map(u32::from_be_bytes)
            } else {
                None
            },
        })
    }
}
