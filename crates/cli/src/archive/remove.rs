//! Removes partitions that are in the archive, each only after its rows were read there and compared.
//!
//! **What is removed was read back**: all files of the partition's days, whose signatures and hashes hold, and whose rows are those that
//! the ledger has. A hash over these rows goes to `audit.remove_archived_partition`, which compares it with one over the
//! partition's rows, behind the lock under which it removes them. A record that came in between is not removed.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::tree::Hash;

use super::names::{DayOf, Object, Part, day_of_date};
use super::place::Place;
use super::set_reader::{Keep, SetReader};
use crate::database::{Database, begin, begin_change};
use crate::error::Error;
use crate::retain::{self, Partition, refusal};

const REMOVE: &str =
    "SELECT audit.remove_archived_partition($1, $2::text::interval, $3, $4, $5)::text";

/// Of which of these batches rows of a table were removed, with the partition that they were in.
const REMOVED: &str = "
    SELECT r.writer_id, r.batch, r.partition FROM unnest($2::uuid[], $3::bigint[]) AS u (writer_id, batch)
    JOIN audit.removals r ON r.writer_id = u.writer_id AND r.batch = u.batch WHERE r.parent = $1";

/// How many of these records were not erased whole.
const NOT_ERASED: &str = "
    SELECT count(*) FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS u (id, writer_id, seq)
    WHERE NOT EXISTS (SELECT FROM audit.erasures e WHERE e.table_name = $1 AND e.id = u.id AND e.writer_id = u.writer_id AND e.seq = u.seq AND e.fields = '{}')";

/// How many files are read at once.
const JOBS: usize = 2;

/// Of how many rows is asked at once whether they were erased.
const AT_ONCE: usize = 10_000;

/// Of how many batches there is one hash.
const PART: usize = 1_000_000;

/// What was read of a partition in the archive.
struct Read {
    hashes: Hash,
    /// The hashes of the manifests.
    manifests: Vec<Vec<u8>>,
}

/// Which partitions are removed.
pub(super) struct Removal<'a> {
    pub(super) database: &'a Database,
    pub(super) place: &'a Place,
    pub(super) keys: &'a [Vkey],
    /// How old all records of a partition have to be, as Postgres reads a span of time.
    pub(super) keep: &'a str,
    /// The tables; empty: all.
    pub(super) kinds: &'a [String],
    /// Whether they are removed, or only named.
    pub(super) is_meant: bool,
}

impl Removal<'_> {
    /// Removes the partitions that are old enough, as far as they are in the archive and nothing stands against it. Returns all of them;
    /// each is handed to `told` as soon as it is dealt with, with the width of the widest name.
    pub(super) async fn run(
        &self,
        connection: &mut PgConnection,
        told: impl Fn(&Partition, usize) -> Result<(), Error>,
    ) -> Result<Vec<Partition>, Error> {
        let mut partitions = retain::plan(connection, self.keep, self.kinds)
            .await
            .map_err(|source| self.failed("plan what is to be removed", source))?;
        let widest = retain::widest(&partitions);
        for partition in &mut partitions {
            if self.is_meant && partition.obstacles.is_empty() {
                match self.remove(connection, partition).await? {
                    Ok(event) => partition.removed = Some(event),
                    Err(reason) => partition.obstacles.push(reason),
                }
            }
            told(partition, widest)?;
        }
        Ok(partitions)
    }

    /// Removes a partition. Returns the id of the event that records it, or why it stays.
    async fn remove(
        &self,
        connection: &mut PgConnection,
        partition: &Partition,
    ) -> Result<Result<String, String>, Error> {
        let read = match self.read(connection, partition).await? {
            Ok(read) => read,
            Err(reason) => return Ok(Err(reason)),
        };
        match take(connection, partition, self.keep, self.place, &read).await {
            Ok(event) => Ok(Ok(event)),
            Err(error) => match refusal(&error) {
                Some(reason) => Ok(Err(reason)),
                None => Err(self.failed("remove a partition", error)),
            },
        }
    }

    /// Reads all that the archive has of a partition, but for what was removed before: records that came later are in a new
    /// partition of the same days. `Err` says why it does not count.
    async fn read(
        &self,
        connection: &mut PgConnection,
        partition: &Partition,
    ) -> Result<Result<Read, String>, Error> {
        let (place, keys) = (self.place, self.keys);
        let day = |time: &str| day_of_date(time.get(..10).unwrap_or_default());
        let span = Table::of_name(&partition.parent)
            .zip(day(&partition.begins))
            .zip(day(&partition.ends));
        let Some(((table, from), to)) = span else {
            return Ok(Err(String::from("its days cannot be read")));
        };
        // What is encrypted goes from the database for good: so it has to be readable with the keys.
        let reader = SetReader::new(place, keys, JOBS)
            .opening(self.database, self.database.connect_to_trail().await?);
        let (mut batches, mut rows, mut manifests) = (Batches::default(), 0, Vec::new());
        let mut unread = 0;
        for day in from..to {
            let of = DayOf { table, day };
            let mut of_day: Vec<OfBatch> = Vec::new();
            let mut destroyed: Vec<Destroyed> = Vec::new();
            for (name, _) in place.list(&of.folder()).await? {
                let Some(object) =
                    Object::parse(&name).filter(|object| object.part == Part::Manifest)
                else {
                    continue;
                };
                let set = reader.read_set(object, Keep::Rows).await?;
                if let Some(finding) = set.findings.first() {
                    return Ok(Err(format!("the archive is not whole: {finding}")));
                }
                manifests.push(set.sha256.to_vec());
                for row in &set.rows {
                    let Some(batch) = set.batch_of(row) else {
                        return Ok(Err(format!("{name} has a row of no batch")));
                    };
                    of_day.push(((row.writer, batch), (row.seq, row.id), row.leaf));
                    if row.is_destroyed {
                        destroyed.push(((row.writer, batch), (row.seq, row.id)));
                    }
                }
            }
            of_day.sort_unstable();
            let removed = removed(connection, partition, day, &of_day).await;
            let removed = removed.map_err(|source| self.database.read_error(source))?;
            of_day.retain(|(batch, ..)| !removed.contains(batch));
            destroyed.retain(|(batch, _)| !removed.contains(batch));
            let not_erased = not_erased(connection, partition, &destroyed).await;
            unread += not_erased.map_err(|source| self.database.read_error(source))?;
            rows += of_day.len() as u64;
            batches.add(&of_day);
        }
        if unread > 0 {
            return Ok(Err(format!(
                "the content of {unread} of its rows is in the database alone: an erasure has destroyed the keys of the archive, and left the rows as they are"
            )));
        }
        let expected = u64::try_from(partition.rows).unwrap_or_default();
        if rows < expected {
            return Ok(Err(format!(
                "the archive has {rows} of its {expected} rows; what is not sealed yet, or younger than a day, is not archived"
            )));
        }
        if rows > expected {
            return Ok(Err(format!(
                "it has {expected} rows, and the archive has {rows} of its days: some are missing in the database, and no removal is recorded; `tracing-audit verify` says more"
            )));
        }
        Ok(Ok(Read {
            hashes: batches.hash(),
            manifests,
        }))
    }

    fn failed(&self, what: &'static str, source: sqlx::Error) -> Error {
        self.database.change_error(what, source)
    }
}

/// Removes a partition, in its own transaction, and returns the id of the event that records it.
async fn take(
    connection: &mut PgConnection,
    partition: &Partition,
    keep: &str,
    place: &Place,
    read: &Read,
) -> Result<String, sqlx::Error> {
    let mut transaction = begin_change(connection).await?;
    let event = sqlx::query_scalar(REMOVE)
        .bind(&partition.name)
        .bind(keep)
        .bind(place.name())
        .bind(&read.manifests)
        .bind(&read.hashes[..])
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(event)
}

/// Returns of which batches the rows of a day were removed; of these rows of that day, by batch.
async fn removed(
    connection: &mut PgConnection,
    partition: &Partition,
    day: u32,
    rows: &[OfBatch],
) -> Result<HashSet<(Uuid, i64)>, sqlx::Error> {
    let mut batches: Vec<(Uuid, i64)> = rows.iter().map(|(batch, ..)| *batch).collect();
    batches.dedup();
    let (writers, first_seqs): (Vec<Uuid>, Vec<i64>) = batches.into_iter().unzip();
    let (mut transaction, _) = begin(connection, None).await?;
    let removed: Vec<(Uuid, i64, String)> = sqlx::query_as(REMOVED)
        .bind(&partition.parent)
        .bind(writers)
        .bind(first_seqs)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    let of_day = removed.into_iter().filter(|(.., name)| {
        days_of(&partition.parent, name).is_some_and(|days| days.contains(&day))
    });
    Ok(of_day
        .map(|(writer, first_seq, _)| (writer, first_seq))
        .collect())
}

/// Counts the rows that have their content in the database, of those whose key was destroyed.
async fn not_erased(
    connection: &mut PgConnection,
    partition: &Partition,
    destroyed: &[Destroyed],
) -> Result<i64, sqlx::Error> {
    let mut count = 0;
    for some in destroyed.chunks(AT_ONCE) {
        let ids: Vec<Uuid> = some.iter().map(|(_, (_, id))| *id).collect();
        let writers: Vec<Uuid> = some.iter().map(|((writer, _), _)| *writer).collect();
        let seqs: Vec<i64> = some.iter().map(|(_, (seq, _))| *seq).collect();
        let (mut transaction, _) = begin(connection, None).await?;
        let counted: i64 = sqlx::query_scalar(NOT_ERASED)
            .bind(&partition.parent)
            .bind(ids)
            .bind(writers)
            .bind(seqs)
            .persistent(false)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.rollback().await?;
        count += counted;
    }
    Ok(count)
}

/// Returns the days of a partition, by its name: those of a month, one, or those from one to another.
fn days_of(parent: &str, name: &str) -> Option<Range<u32>> {
    let span = name.strip_prefix(parent)?.strip_prefix('_')?;
    let day = |text: &str| day_of_date(&text.replace('_', "-"));
    if let Some((first, last)) = span.split_once("_to_") {
        return Some(day(first)?..day(last)? + 1);
    }
    if let Some(day) = day(span) {
        return Some(day..day + 1);
    }
    let first = day(&format!("{span}_01"))?;
    let last = (28..=31)
        .filter_map(|last| day(&format!("{span}_{last}")))
        .next_back()?;
    Some(first..last + 1)
}

/// A row: its batch, by writer and first seq; its place in the batch's tree, among those of its day; and its hash.
type OfBatch = ((Uuid, i64), (i64, Uuid), Hash);

/// A row whose key was destroyed: its batch, and its seq and id.
type Destroyed = ((Uuid, i64), (i64, Uuid));

/// The rows of a partition by their batches, each hashed in the order of its tree.
#[derive(Default)]
struct Batches(BTreeMap<(Uuid, i64), (Sha256, u64)>);

impl Batches {
    /// Adds the rows of the next day, by batch and seq.
    fn add(&mut self, rows: &[OfBatch]) {
        for (batch, _, leaf) in rows {
            let (hash, count) = self.0.entry(*batch).or_default();
            hash.update(leaf);
            *count += 1;
        }
    }

    /// Returns what stands for all of them (docs/archive.md).
    fn hash(self) -> Hash {
        let mut whole = Sha256::new();
        let mut batches = self.0.into_iter().peekable();
        while batches.peek().is_some() {
            let mut part = Sha256::new();
            for ((writer, first_seq), (hash, count)) in batches.by_ref().take(PART) {
                part.update(writer.as_bytes());
                part.update(first_seq.to_be_bytes());
                part.update(count.to_be_bytes());
                part.update(hash.finalize());
            }
            whole.update(part.finalize());
        }
        whole.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_that_the_name_of_a_partition_says() {
        let day = |text: &str| day_of_date(text).unwrap();
        for (name, first, end) in [
            ("events_2028_02", "2028-02-01", "2028-03-01"),
            ("events_2026_12", "2026-12-01", "2027-01-01"),
            ("events_2026_12_31", "2026-12-31", "2027-01-01"),
            (
                "events_2026_12_28_to_2027_01_03",
                "2026-12-28",
                "2027-01-04",
            ),
        ] {
            assert_eq!(
                days_of("events", name),
                Some(day(first)..day(end)),
                "{name}"
            );
        }
        for name in [
            "events_default",
            "events",
            "query_runs_2026_12",
            "events_2026_13",
        ] {
            assert_eq!(days_of("events", name), None, "{name}");
        }
    }
}
