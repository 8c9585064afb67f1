//! Removes partitions that are in the archive, each only after its rows were read there and compared.
//!
//! **What is removed was read back**: all files of the partition's days, whose signatures and hashes hold, and whose rows are those that
//! the ledger has. A hash over these rows goes to `audit.remove_archived_partition`, which compares it with one over the
//! partition's rows, behind the lock under which it removes them. A record that came in between is not removed.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::tree::Hash;

use super::manifest;
use super::names::{DayOf, Object, Part, day_of_date};
use super::place::Place;
use super::set_reader::{Keep, SetReader};
use crate::database::{Database, begin_change};
use crate::error::Error;
use crate::retain::{self, Partition, refusal};

const REMOVE: &str =
    "SELECT audit.remove_archived_partition($1, $2::text::interval, $3, $4, $5)::text";

/// How many files are read at once.
const JOBS: usize = 2;

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
    /// each is handed to `told` as soon as it is dealt with.
    pub(super) async fn run(
        &self,
        connection: &mut PgConnection,
        told: impl Fn(&Partition) -> Result<(), Error>,
    ) -> Result<Vec<Partition>, Error> {
        let mut partitions = retain::plan(connection, self.keep, self.kinds)
            .await
            .map_err(|source| self.failed("plan what is to be removed", source))?;
        for partition in &mut partitions {
            if self.is_meant && partition.obstacles.is_empty() {
                match self.remove(connection, partition).await? {
                    Ok(event) => partition.removed = Some(event),
                    Err(reason) => partition.obstacles.push(reason),
                }
            }
            told(partition)?;
        }
        Ok(partitions)
    }

    /// Removes a partition. Returns the id of the event that records it, or why it stays.
    async fn remove(
        &self,
        connection: &mut PgConnection,
        partition: &Partition,
    ) -> Result<Result<String, String>, Error> {
        let read = match read(self.place, self.keys, partition).await? {
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

/// Reads all that the archive has of a partition. `Err` says why it does not count.
async fn read(
    place: &Place,
    keys: &[Vkey],
    partition: &Partition,
) -> Result<Result<Read, String>, Error> {
    let day = |time: &str| day_of_date(time.get(..10).unwrap_or_default());
    let span = Table::of_name(&partition.parent)
        .zip(day(&partition.begins))
        .zip(day(&partition.ends));
    let Some(((table, from), to)) = span else {
        return Ok(Err(String::from("its days cannot be read")));
    };
    let reader = SetReader::new(place, keys, JOBS);
    let (mut batches, mut rows, mut manifests) = (Batches::default(), 0, Vec::new());
    for day in from..to {
        let of = DayOf { table, day };
        let mut of_day: Vec<OfBatch> = Vec::new();
        for (name, _) in place.list(&of.folder()).await? {
            let Some(object) = Object::parse(&name).filter(|object| object.part == Part::Manifest)
            else {
                continue;
            };
            let Some(bytes) = place.get(&name, manifest::MOST_BYTES as u64).await? else {
                continue;
            };
            let set = reader.read_set(object, Keep::Rows).await?;
            if let Some(finding) = set.findings.first() {
                return Ok(Err(format!("the archive is not whole: {finding}")));
            }
            manifests.push(Sha256::digest(&bytes).to_vec());
            for row in &set.rows {
                let Some(batch) = set.batch_of(row) else {
                    return Ok(Err(format!("{name} has a row of no batch")));
                };
                of_day.push(((row.writer, batch), (row.seq, row.id), row.leaf));
            }
        }
        rows += of_day.len() as u64;
        of_day.sort_unstable();
        batches.add(&of_day);
    }
    if i64::try_from(rows) != Ok(partition.rows) {
        return Ok(Err(format!(
            "the archive has {rows} of its {} rows; what is not sealed yet, or younger than a day, is not archived",
            partition.rows
        )));
    }
    Ok(Ok(Read {
        hashes: batches.hash(),
        manifests,
    }))
}

/// A row: its batch, by writer and first seq; its place in the batch's tree, among those of its day; and its hash.
type OfBatch = ((Uuid, i64), (i64, Uuid), Hash);

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
