//! `prove`: writes what proves a record without the database.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::path::PathBuf;

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Executor as _};
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::checkpoint::{self, Verified};
use tracing_audit::__program::ledger::day_of;
use tracing_audit::__program::ledger::entry::Entry;
use tracing_audit::__program::ledger::evidence::{Content, Evidence, check_proof};
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::layout::{Columns, TABLES};
use tracing_audit::__program::ledger::leaf::{TablePrefix, digest, leaf_of};
use tracing_audit::__program::ledger::note::Note;
use tracing_audit::__program::ledger::paths;
use tracing_audit::__program::ledger::proof::TlogProof;
use tracing_audit::__program::ledger::tree::{self, Hash, Subtree};

use crate::database::{CATALOG_FIRST, Database, record_reading};
use crate::error::Error;
use crate::verify::log::{ENTRY_COLUMNS, entry_bytes};
use crate::verify::published::{read_checkpoint, read_keys};
use crate::verify::{binary, nodes};

/// Writes what proves a record, or each of a request, to somebody without the database.
///
/// A file by c2sp.org/tlog-proof, which `check-proof` checks: the record, its path to the
/// log, and the signed checkpoint. It holds the record's content: hand it over as such.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Prove {
    /// The id of the record.
    #[arg(required_unless_present = "request")]
    id: Option<sqlx::types::Uuid>,
    /// Proves each record of this request.
    #[arg(long, value_name = "ID", conflicts_with = "id", requires = "out")]
    request: Option<String>,
    /// The log's verifier key, or a file with it; with older keys of the log too, the one that signed is found.
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<String>,
    /// The checkpoint that the proof leads to, or where it is published, as for `verify`; else the newest one that the database has.
    #[arg(long, value_name = "PATH")]
    checkpoint: Option<PathBuf>,
    /// Writes each proof to a file `<id>.tlog-proof` in this folder, instead of printing it.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Records in the trail, before anything is read, that it is read and why.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    purpose: Option<String>,
}

const SET_UP: &str = "SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0";

/// The entries of batches, each with its place in the log.
pub(crate) const ENTRY: &str = "
    SELECT l.index, b.writer_id, b.first_seq, b.last_seq, b.records, b.dead_letters, b.first_id, b.last_id, b.mark, b.service_name, b.library_version, b.committed_at, b.added_by,
        l.root, l.previous, w.writer_id, w.login, w.secret_sha256, w.service_name, w.registered_at
    FROM audit.batches b JOIN audit.ledger l ON l.writer_id = b.writer_id AND l.first_seq = b.first_seq
        LEFT JOIN audit.writers w ON w.writer_id = b.writer_id AND b.first_seq = 1";

/// A record that is to be proven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Provable {
    pub(crate) id: Uuid,
    pub(crate) writer: Uuid,
    pub(crate) seq: i64,
}

/// A row of a batch.
struct Row {
    place: (usize, u32, i64),
    id: Option<Uuid>,
    hash: Hash,
    /// What is proven, of a record that is wanted.
    kept: Option<(&'static Columns, Vec<u8>, Content)>,
}

/// Where a batch is in the log.
struct Sealed {
    index: u64,
    entry: Vec<u8>,
    writer: Uuid,
    first_seq: i64,
    last_seq: i64,
    ids: (Option<Uuid>, Option<Uuid>),
}

/// Writes the proofs of a record or of a request.
pub(crate) async fn run(database: &Database, arguments: &Prove) -> Result<(), Error> {
    let failed = |source| database.read_error(source);
    let keys = read_keys(&arguments.key)?;
    let mut connection = database.connect_to_trail().await?;
    if let Some(purpose) = &arguments.purpose {
        let request = arguments.request.as_deref();
        record_reading(database, &mut connection, purpose, request, None, None).await?;
    }
    let note = match &arguments.checkpoint {
        Some(path) => read_checkpoint(path)?,
        None => sqlx::query_scalar::<_, String>("SELECT note FROM audit.checkpoint")
            .persistent(false)
            .fetch_optional(&mut connection)
            .await
            .map_err(failed)?
            .ok_or(Error::NoCheckpoint)?
            .into_bytes(),
    };
    begin(&mut connection).await.map_err(failed)?;
    let wanted = wanted(&mut connection, arguments).await.map_err(failed)?;
    connection.execute("ROLLBACK").await.map_err(failed)?;
    if wanted.is_empty() {
        return Err(Error::NothingFound(String::from("no such record")));
    }
    let write = |id, proof: &[u8]| write_proof(arguments.out.as_deref(), id, proof);
    let count = prove_each(database, &mut connection, &note, &keys, wanted, write).await?;
    if let Some(folder) = &arguments.out {
        writeln!(io::stdout(), "{count} proofs in {}", folder.display())?;
    }
    Ok(())
}

/// Proves each of these records under a checkpoint, and hands over the proofs. Returns their number.
pub(crate) async fn prove_each(
    database: &Database,
    connection: &mut PgConnection,
    note: &[u8],
    keys: &[Vkey],
    mut left: Vec<Provable>,
    mut write: impl FnMut(Uuid, &[u8]) -> Result<(), Error>,
) -> Result<usize, Error> {
    let failed = |source| database.read_error(source);
    let unsigned = |source| Error::Checkpoint { source };
    let note = Note::parse(note).map_err(|source| unsigned(source.into()))?;
    let verified = checkpoint::verify_note(&note, keys, &[]).map_err(unsigned)?;
    begin(connection).await.map_err(failed)?;
    let mut count = 0;
    while let Some(first) = left.first().copied() {
        let sealed = sealed(connection, first).await.map_err(failed)?;
        let Some(sealed) = sealed.filter(|sealed| sealed.index < verified.checkpoint.head.size)
        else {
            return Err(Error::NothingFound(format!(
                "the record {} is not covered by the checkpoint yet: run `tracing-audit seal`, or try again in a moment",
                first.id
            )));
        };
        let in_batch = |record: &Provable| {
            record.writer == sealed.writer
                && (sealed.first_seq..=sealed.last_seq).contains(&record.seq)
        };
        let ids: HashSet<Uuid> = left
            .iter()
            .filter(|record| in_batch(record))
            .map(|record| record.id)
            .collect();
        let proofs = prove_batch(connection, &sealed, &ids, &verified, &note, keys)
            .await
            .map_err(failed)?;
        if proofs.len() < ids.len() {
            return Err(Error::NotProven);
        }
        for (id, proof) in proofs {
            write(id, proof.as_bytes())?;
            count += 1;
        }
        left.retain(|record| !in_batch(record));
    }
    connection.execute("ROLLBACK").await.map_err(failed)?;
    Ok(count)
}

async fn begin(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    connection.execute(CATALOG_FIRST).await?;
    connection.execute(SET_UP).await?;
    Ok(())
}

/// Finds the records that are to be proven.
async fn wanted(
    connection: &mut PgConnection,
    arguments: &Prove,
) -> Result<Vec<Provable>, sqlx::Error> {
    let mut wanted = Vec::new();
    for table in Table::ALL {
        let condition = match arguments.id {
            Some(id) => format!("id = '{id}'"),
            None => String::from("request_id = $1"),
        };
        let query = format!(
            "SELECT id, writer_id, seq FROM audit.{} WHERE {condition} AND $1::text IS NOT NULL",
            table.name()
        );
        let rows: Vec<(Uuid, Uuid, i64)> = sqlx::query_as(AssertSqlSafe(query))
            .bind(arguments.request.as_deref().unwrap_or_default())
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
        wanted.extend(
            rows.into_iter()
                .map(|(id, writer, seq)| Provable { id, writer, seq }),
        );
    }
    Ok(wanted)
}

async fn sealed(
    connection: &mut PgConnection,
    record: Provable,
) -> Result<Option<Sealed>, sqlx::Error> {
    let query = format!(
        "{ENTRY} WHERE b.writer_id = '{}' AND b.first_seq <= {} ORDER BY b.first_seq DESC LIMIT 1",
        record.writer, record.seq
    );
    let mut sealed = None;
    binary::read(connection, &query, |mut row| {
        let index = row.i64()?;
        let in_entry = row.images(ENTRY_COLUMNS)?;
        let entry = entry_bytes(in_entry, row)?;
        let (Some(index), Ok(decoded)) = (
            index.and_then(|index| index.try_into().ok()),
            Entry::decode(&entry),
        ) else {
            return Ok(());
        };
        sealed = Some(Sealed {
            index,
            entry,
            writer: decoded.writer_id,
            first_seq: decoded.first_seq,
            last_seq: decoded.last_seq,
            ids: (decoded.first_id, decoded.last_id),
        });
        Ok(())
    })
    .await?;
    Ok(sealed)
}

/// Makes the proofs of some records of a batch. One that the batch does not prove has none.
async fn prove_batch(
    connection: &mut PgConnection,
    sealed: &Sealed,
    ids: &HashSet<Uuid>,
    verified: &Verified,
    note: &Note,
    keys: &[Vkey],
) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    let mut rows = rows(connection, sealed, ids).await?;
    rows.sort_unstable_by_key(|row| row.place);
    let tree = BatchTree::new(connection, sealed, &rows).await?;
    let size = verified.checkpoint.head.size;
    let log_path = log_path(connection, sealed.index, size).await?;
    let mut proofs = Vec::new();
    for (row, leaf_index) in rows.into_iter().zip(&tree.indices) {
        let (Some(id), Some((columns, core, content))) = (row.id, row.kept) else {
            continue;
        };
        let Some(path) = tree.path(*leaf_index) else {
            continue;
        };
        let evidence = Evidence {
            entry: sealed.entry.clone(),
            columns,
            core,
            content,
            leaf_index: *leaf_index,
            leaf_count: tree.size,
            path,
        };
        let extra = evidence.encode().ok();
        let proof = TlogProof {
            extra,
            index: sealed.index,
            path: log_path.clone(),
            checkpoint: note.clone(),
        };
        let Ok(proof) = proof.encode() else { continue };
        // What the log does not prove is not handed out as a proof.
        if check_proof(proof.as_bytes(), keys, &[], 0).is_ok() {
            proofs.push((id, proof));
        }
    }
    Ok(proofs)
}

/// Reads the rows of a batch.
async fn rows(
    connection: &mut PgConnection,
    sealed: &Sealed,
    ids: &HashSet<Uuid>,
) -> Result<Vec<Row>, sqlx::Error> {
    let erased: HashMap<Uuid, Hash> = erased(connection, sealed).await?;
    let mut rows = Vec::new();
    for (number, columns) in TABLES.iter().enumerate() {
        let prefix = TablePrefix::new(columns.table);
        let has_id = columns.core.first() == Some(&"id");
        let names: Vec<&str> = columns.all().collect();
        let mut query = format!(
            "SELECT {} FROM audit.{} WHERE writer_id = '{}' AND seq BETWEEN {} AND {}",
            names.join(", "),
            columns.table,
            sealed.writer,
            sealed.first_seq,
            sealed.last_seq
        );
        if has_id {
            let (Some(first), Some(last)) = sealed.ids else {
                continue;
            };
            let _ = write!(query, " AND id BETWEEN '{first}' AND '{last}'");
        }
        binary::read(connection, &query, |row| {
            let (mut images, mut fields) = (row, row);
            let core = images.images(columns.core.len())?;
            let content = images.bytes();
            let id = if has_id { fields.uuid()? } else { None };
            fields.images(1)?;
            let seq = fields.i64()?.unwrap_or_default();
            let first = id.and_then(|id| erased.get(&id)).copied();
            let kept = id.filter(|id| ids.contains(id)).map(|_| {
                let content =
                    first.map_or_else(|| Content::Whole(content.to_vec()), Content::Erased);
                (columns, core.to_vec(), content)
            });
            rows.push(Row {
                place: (number, id.map_or(0, |id| day_of(id.as_u128())), seq),
                id,
                hash: leaf_of(&prefix, core, &first.unwrap_or_else(|| digest(content))),
                kept,
            });
            Ok(())
        })
        .await?;
    }
    Ok(rows)
}

async fn erased(
    connection: &mut PgConnection,
    sealed: &Sealed,
) -> Result<HashMap<Uuid, Hash>, sqlx::Error> {
    let (Some(first), Some(last)) = sealed.ids else {
        return Ok(HashMap::new());
    };
    let query = format!(
        "SELECT id, content_hash FROM audit.erasures WHERE id BETWEEN '{first}' AND '{last}' AND writer_id = '{}' ORDER BY number DESC",
        sealed.writer
    );
    let mut erased = HashMap::new();
    binary::read(connection, &query, |mut row| {
        if let (Some(id), Some(hash)) = (row.uuid()?, row.fixed()?) {
            erased.insert(id, hash);
        }
        Ok(())
    })
    .await?;
    Ok(erased)
}

/// The tree of a batch, as far as it is known.
struct BatchTree {
    size: u64,
    /// The index of each row.
    indices: Vec<u64>,
    leaves: HashMap<u64, Hash>,
    /// What stands for rows that were removed.
    subtrees: HashMap<Subtree, Hash>,
}

impl BatchTree {
    async fn new(
        connection: &mut PgConnection,
        sealed: &Sealed,
        rows: &[Row],
    ) -> Result<Self, sqlx::Error> {
        let query = format!(
            "SELECT from_leaf, rows, hashes FROM audit.removals WHERE writer_id = '{}' AND batch = {} ORDER BY from_leaf",
            sealed.writer, sealed.first_seq
        );
        let mut removed: Vec<(u64, u64)> = Vec::new();
        let mut subtrees = HashMap::new();
        binary::read(connection, &query, |mut row| {
            let number = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
            let (from, rows) = (number(row.i64()?), number(row.i64()?));
            let hashes = row.field()?.unwrap_or_default().as_chunks().0;
            removed.push((from, rows));
            subtrees.extend(
                tree::cover(from, from.saturating_add(rows))
                    .into_iter()
                    .zip(hashes.iter().copied()),
            );
            Ok(())
        })
        .await?;
        let mut indices = Vec::with_capacity(rows.len());
        let mut at = 0;
        let mut ranges = removed.iter().peekable();
        for _ in rows {
            while let Some((_, count)) = ranges.next_if(|(from, _)| *from == at) {
                at += count;
            }
            indices.push(at);
            at += 1;
        }
        let leaves = indices
            .iter()
            .copied()
            .zip(rows.iter().map(|row| row.hash))
            .collect();
        let size = u64::try_from(sealed.last_seq - sealed.first_seq + 1).unwrap_or_default();
        Ok(Self {
            size,
            indices,
            leaves,
            subtrees,
        })
    }

    fn path(&self, index: u64) -> Option<Vec<Hash>> {
        paths::inclusion_path(index, self.size, |node| self.node(node).ok_or(())).ok()
    }

    fn node(&self, node: Subtree) -> Option<Hash> {
        if let Some(hash) = self.subtrees.get(&node) {
            return Some(*hash);
        }
        let Some(level) = node.level.checked_sub(1) else {
            return self.leaves.get(&node.index).copied();
        };
        let child = |index| self.node(Subtree { level, index });
        Some(tree::node_hash(
            &child(node.index * 2)?,
            &child(node.index * 2 + 1)?,
        ))
    }
}

/// Returns the path from an entry to the root of the log.
async fn log_path(
    connection: &mut PgConnection,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, sqlx::Error> {
    let mut needed = Vec::new();
    // Which nodes the path has does not depend on their hashes.
    let _ = paths::inclusion_path(index, size, |node| {
        needed.push(node);
        Ok::<_, Infallible>([0; 32])
    });
    let mut known = HashMap::new();
    for node in needed {
        if let Some(hash) = nodes::of_log(connection, node).await? {
            known.insert(node, hash);
        }
    }
    paths::inclusion_path(index, size, |node| known.get(&node).copied().ok_or(()))
        .map_err(|_| sqlx::Error::RowNotFound)
}

fn write_proof(folder: Option<&Path>, id: Uuid, proof: &[u8]) -> Result<(), Error> {
    let Some(folder) = folder else {
        return Ok(io::stdout().lock().write_all(proof)?);
    };
    let path = folder.join(format!("{id}.tlog-proof"));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, proof));
    written.map_err(|source| Error::WriteFile { path, source })
}
