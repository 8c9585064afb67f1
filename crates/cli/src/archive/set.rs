//! Writes a set: first the list of its batches, then its files, and its manifest last.
//!
//! A set without a manifest does not count yet. What is to be in it follows from the list of its batches alone, so
//! whoever goes on with it writes the same bytes, or says that they differ.

use std::io;
use std::ops::Range;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::key::{Signer, Vkey};
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::__program::ledger::paths::Head;
use tracing_audit::__program::ledger::tree::Hash;

use super::batch_list::BatchList;
use super::chunk::{Chunk, ids_of};
use super::content::{Encrypted, Encryption};
use super::failure::ArchiveError;
use super::log_cover;
use super::manifest::{self, Content, File, MOST_TENANTS, Manifest};
use super::names::{DayOf, Part, Within};
use super::place::{Created, Place};
use super::table_file::{About, Files, Finished};
use crate::database::Database;
use crate::error::Error;
use crate::verify::batches::TABLES;
use crate::verify::binary::{Copy, Fields};
use crate::verify::finding::{Finding, Kind};
use crate::verify::rows::TableReader;

/// The holds in force over a day of a table, when a set is written.
const HOLDS: &str = "
    SELECT h.id FROM audit.legal_holds h
    WHERE h.from_time < to_timestamp(($2::bigint + 1) * 86400.0) AND h.to_time > to_timestamp($2::bigint * 86400.0) AND (h.kinds IS NULL OR $1 = ANY (h.kinds))
        AND NOT EXISTS (SELECT FROM audit.legal_hold_lifts l WHERE l.hold_id = h.id)
    ORDER BY h.id";

/// A checkpoint whose signature holds.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) note: Vec<u8>,
    pub(super) head: Head,
}

/// What became of a set.
pub(super) enum Outcome {
    Written(Box<Manifest>),
    /// There are no rows for it.
    Empty,
    /// Rows are not what the log has.
    Differs(Vec<Finding>),
}

/// Writes sets.
pub(super) struct Writer<'a> {
    pub(super) database: &'a Database,
    pub(super) place: &'a Place,
    pub(super) signer: &'a dyn Signer,
    pub(super) keys: &'a [Vkey],
    /// If the content is encrypted: how that of the day is.
    pub(super) encryption: Option<Encryption>,
}

/// Which set is written, and of which entries of the log.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) of: DayOf,
    pub(super) set: u32,
    pub(super) entries: Range<u64>,
    /// Whether each file is of one tenant.
    pub(super) is_by_tenant: bool,
}

impl Writer<'_> {
    /// Writes the set of these rows, of which the chunk has all batches.
    pub(super) async fn write(
        &mut self,
        connection: &mut PgConnection,
        chunk: &Chunk,
        wanted: &Wanted,
        signed: &Signed,
    ) -> Result<Outcome, Error> {
        let Wanted {
            of, set, entries, ..
        } = wanted;
        let failed = |source| self.database.read_error(source);
        let mut list = BatchList {
            entries: entries.clone(),
            note: signed.note.clone(),
            batches: chunk.listed(*of, entries.start),
            hashes: Vec::new(),
        };
        let rows = list.batches.iter().fold(0, |sum, batch| sum + batch.rows());
        if rows == 0 {
            return Ok(Outcome::Empty);
        }
        let size = signed.head.size;
        let gaps = list.gaps(size).collect();
        let hashes = log_cover::hashes(connection, gaps).await.map_err(failed)?;
        list.hashes = hashes.ok_or(ArchiveError::OtherLog)?;
        if list.root(size) != Some(signed.head.root) {
            return Err(ArchiveError::OtherLog.into());
        }
        if wanted.is_by_tenant {
            self.expect_few_tenants(connection, chunk, *of).await?;
        }
        let batches = self
            .put(of.name(*set, Part::Batches), &list.encode())
            .await?;
        drop(list);
        let encryption = self.encryption.take();
        let copying = Copying::new(chunk, wanted, encryption);
        let mut copying = copying.map_err(encoding(*of))?;
        self.copy(connection, &mut copying).await?;
        let Copying {
            files,
            findings,
            encryption,
            ..
        } = copying;
        self.encryption = encryption;
        if !findings.is_empty() {
            return Ok(Outcome::Differs(findings));
        }
        let written: u64 = files.iter().map(|file| file.rows).sum();
        if written != rows {
            let detail = format!("{rows} rows of {of} are in batches, and {written} were read");
            return Ok(Outcome::Differs(vec![Finding::new(
                Kind::RowMissing,
                detail,
            )]));
        }
        let holds: Vec<Uuid> = sqlx::query_scalar(HOLDS)
            .bind(of.table.name())
            .bind(i64::from(of.day))
            .persistent(false)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        let ids = files
            .iter()
            .map(|file| file.ids)
            .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
            .unwrap_or_default();
        let manifest = Manifest {
            log: self.signer.vkey().name().to_owned(),
            of: *of,
            set: *set,
            rows,
            ids,
            entries: entries.clone(),
            checkpoint: signed.head,
            batches,
            files,
            holds,
            written_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        };
        self.put_manifest(&manifest).await?;
        Ok(Outcome::Written(Box::new(manifest)))
    }

    /// Fails where a manifest cannot have a file for each tenant: before anything is written that cannot be removed.
    async fn expect_few_tenants(
        &self,
        connection: &mut PgConnection,
        chunk: &Chunk,
        of: DayOf,
    ) -> Result<(), Error> {
        let most = i64::from(MOST_TENANTS);
        let tenants = format!(
            "SELECT count(*) FROM (SELECT DISTINCT tenant_id FROM {} LIMIT {most} + 1) t",
            rows_of(chunk, of)
        );
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(tenants))
            .persistent(false)
            .fetch_one(connection)
            .await
            .map_err(|source| self.database.read_error(source))?;
        if count > most {
            return Err(ArchiveError::TooManyTenants {
                of: of.to_string(),
                most: MOST_TENANTS,
            }
            .into());
        }
        Ok(())
    }

    /// Copies the rows into files, and writes each once it is full.
    async fn copy(
        &self,
        connection: &mut PgConnection,
        copying: &mut Copying<'_>,
    ) -> Result<(), Error> {
        let failed = |source| self.database.read_error(source);
        let query = copying.query();
        let mut copy = Copy::start(connection, &query).await.map_err(failed)?;
        loop {
            let mut encoded = Ok(());
            let is_more = copy
                .next(|row| {
                    if encoded.is_ok() {
                        encoded = copying.row(row)?;
                    }
                    Ok(())
                })
                .await
                .map_err(failed)?;
            encoded.map_err(encoding(copying.wanted.of))?;
            if let Some(finished) = copying.finished.take() {
                self.put_file(copying, finished).await?;
            }
            if !is_more {
                break;
            }
        }
        let last = copying.encoder.finish();
        if let Some(finished) = last.map_err(encoding(copying.wanted.of))? {
            self.put_file(copying, finished).await?;
        }
        Ok(())
    }

    async fn put_file(&self, copying: &mut Copying<'_>, finished: Finished) -> Result<(), Error> {
        if !copying.findings.is_empty() {
            return Ok(());
        }
        let number = u32::try_from(copying.files.len()).unwrap_or(u32::MAX);
        let About { rows, ids, tenants } = finished.about;
        let Wanted { of, set, .. } = copying.wanted;
        let within = if copying.wanted.is_by_tenant {
            Within::Tenant(tenants.0)
        } else {
            Within::Day
        };
        let name = of.name(*set, Part::File(within, number));
        let content = self.put(name, &finished.bytes).await?;
        copying.files.push(File {
            within,
            number,
            content,
            rows,
            ids,
            tenants,
        });
        Ok(())
    }

    /// Creates an object, or finds it there with the same bytes. Reads it back in any case.
    async fn put(&self, name: String, bytes: &[u8]) -> Result<Content, Error> {
        let created = self.place.create(&name, bytes).await?;
        let place = self.place.name();
        let Some(read) = self.place.get(&name, bytes.len() as u64).await? else {
            return Err(ArchiveError::Gone {
                place,
                object: name,
            }
            .into());
        };
        let is_same = read == bytes;
        match (is_same, created) {
            (true, _) => Ok(Content {
                sha256: Sha256::digest(bytes).into(),
                bytes: bytes.len() as u64,
            }),
            (false, Created::Yes) => Err(ArchiveError::ReadBack {
                place,
                object: name,
            }
            .into()),
            (false, Created::IsThere) => Err(ArchiveError::Differs {
                place,
                object: name,
                advice: "another run may be writing the same set, a row may have been erased since it was begun, or another version of this program has begun it",
            }
            .into()),
        }
    }

    /// Creates the manifest, or finds one there that says the same.
    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), Error> {
        let name = manifest.of.name(manifest.set, Part::Manifest);
        let signed = manifest.sign(self.signer)?;
        let created = self.place.create(&name, &signed).await?;
        let most = manifest::MOST_BYTES as u64;
        let read = self.place.get(&name, most).await?.unwrap_or_default();
        let is_same = match created {
            Created::Yes => read == signed,
            Created::IsThere => Manifest::verify(&read, self.keys).is_ok_and(|mut there| {
                there.written_at.clone_from(&manifest.written_at);
                there.holds.clone_from(&manifest.holds);
                there == *manifest
            }),
        };
        let place = self.place.name();
        match (is_same, created) {
            (true, _) => Ok(()),
            (false, Created::Yes) => Err(ArchiveError::ReadBack {
                place,
                object: name,
            }
            .into()),
            (false, Created::IsThere) => Err(ArchiveError::Differs {
                place,
                object: name,
                advice: "another run has written the same set otherwise",
            }
            .into()),
        }
    }
}

fn encoding(of: DayOf) -> impl Fn(io::Error) -> Error {
    move |source| {
        ArchiveError::Encode {
            of: of.to_string(),
            source,
        }
        .into()
    }
}

/// Returns the table with the condition on the rows of a day that a chunk may have.
fn rows_of(chunk: &Chunk, of: DayOf) -> String {
    let (first, last) = chunk.ids(of.day);
    let (from, to) = ids_of(of.day);
    format!(
        "audit.{} WHERE id BETWEEN '{}' AND '{}'",
        of.table.name(),
        first.max(from),
        last.min(to)
    )
}

/// The rows of a set on their way into files.
struct Copying<'a> {
    chunk: &'a Chunk,
    wanted: &'a Wanted,
    reader: TableReader<'a>,
    encryption: Option<Encryption>,
    encoder: Files,
    finished: Option<Finished>,
    files: Vec<File>,
    findings: Vec<Finding>,
}

impl<'a> Copying<'a> {
    fn new(
        chunk: &'a Chunk,
        wanted: &'a Wanted,
        encryption: Option<Encryption>,
    ) -> io::Result<Self> {
        let table = wanted.of.table;
        let number = TABLES.iter().position(|name| *name == table.name());
        let number = number.and_then(|number| u8::try_from(number).ok());
        Ok(Self {
            chunk,
            wanted,
            reader: TableReader::new(number.unwrap_or_default(), &chunk.recorded.erased, false),
            encryption,
            encoder: Files::new(table, wanted.is_by_tenant)?,
            finished: None,
            files: Vec::new(),
            findings: Vec::new(),
        })
    }

    fn query(&self) -> String {
        let columns: Vec<&str> = self.reader.columns.all().collect();
        format!(
            "SELECT {} FROM {} ORDER BY tenant_id NULLS FIRST, id, writer_id, seq",
            columns.join(", "),
            rows_of(self.chunk, self.wanted.of)
        )
    }

    fn row(&mut self, row: Fields<'_>) -> Result<io::Result<()>, sqlx::Error> {
        let read = self.reader.read(row)?;
        let (writer, seen) = (read.writer.unwrap_or_default(), read.seen);
        let from = self.wanted.entries.start;
        match self.chunk.has(from, &writer, seen.place, &seen.leaf.hash) {
            // Of another set.
            None => return Ok(Ok(())),
            Some(true) => {}
            Some(false) => {
                let finding = Finding::new(Kind::RowEdited, "it is not what was read before");
                let name = self.wanted.of.table.name();
                self.findings
                    .push(finding.of_row(name, seen.id, writer, seen.place.seq));
                return Ok(Ok(()));
            }
        }
        let hash = &seen.leaf.content;
        // Of what was erased whole there is nothing to be encrypted.
        let is_empty = read.is_erased && seen.is_blank;
        let encryption = self.encryption.as_mut().filter(|_| !is_empty);
        let encrypted = match encryption.zip(seen.id) {
            None => None,
            Some((encryption, id)) => {
                match encrypt(
                    encryption,
                    self.reader.columns,
                    (self.wanted.of.table, id),
                    row,
                    hash,
                    read.is_erased,
                )? {
                    Ok(encrypted) => Some(encrypted),
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        let hash = (read.is_erased || encrypted.is_some()).then_some(hash);
        let pushed = self.encoder.push(row, hash, encrypted.as_ref());
        Ok(pushed.map(|finished| self.finished = finished.or(self.finished.take())))
    }
}

/// Encrypts the content of a row, as Postgres sends it in the order of the ledger.
fn encrypt(
    encryption: &mut Encryption,
    columns: &Columns,
    of: (Table, Uuid),
    row: Fields<'_>,
    hash: &Hash,
    is_left: bool,
) -> Result<io::Result<Encrypted>, sqlx::Error> {
    let mut content = row;
    content.images(columns.core.len())?;
    let at = |name: &str| columns.all().position(|column| column == name);
    let field = |name: &str| {
        let mut fields = row;
        fields.images(at(name).unwrap_or_default())?;
        fields.field()
    };
    let subject = (field("tenant_id")?, field("user_id")?);
    Ok(encryption.encrypt(of, subject, hash, content.bytes(), is_left))
}
