//! Reads a set by its manifest, and compares it with the log: what `archive verify` does with each set, and whoever
//! relies on one before something else is done.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::tree::Hash;

use super::batch_list::BatchList;
use super::check::{Check, Found, FoundKind};
use super::content::Keys;
use super::look::{Wanted, look};
use super::manifest::{self, Content, Manifest, ManifestError};
use super::names::{Object, Part};
use super::place::Place;
use super::rows::{self, Picked, ReadRow, RowsError};
use crate::database::Database;
use crate::error::Error;

/// What is kept of a set besides what is found to be wrong with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep<'a> {
    Nothing,
    /// What its rows are.
    Rows,
    /// These records, whole.
    Records(&'a Wanted),
}

/// A set that was read.
#[derive(Debug)]
pub(crate) struct ReadSet {
    /// `None`: none of the keys has signed what is there.
    pub(crate) manifest: Option<Manifest>,
    /// The SHA-256 of the manifest's bytes, if there is one.
    pub(super) sha256: Hash,
    /// The rows, by tenant and id, if they were asked for.
    pub(crate) rows: Vec<ReadRow>,
    /// The records, if some were asked for.
    pub(crate) records: Vec<Picked>,
    /// The batches of the rows: the writer of each, its first and its last seq.
    batches: Vec<(Uuid, i64, i64)>,
    /// How many rows are of batches that were sealed without a root: the manifest alone proves them.
    pub(crate) without_root: u64,
    /// What is not as it has to be. Of what was found something the rest counts for nothing.
    pub(crate) findings: Vec<Found>,
    /// The sizes of the objects of the day.
    sizes: HashMap<String, u64>,
}

impl ReadSet {
    /// Returns the first seq of the batch of a row.
    pub(super) fn batch_of(&self, row: &ReadRow) -> Option<i64> {
        let after = self.batches.partition_point(|(writer, first_seq, _)| {
            (*writer, *first_seq) <= (row.writer, row.seq)
        });
        let (writer, first_seq, last_seq) = *self.batches.get(after.checked_sub(1)?)?;
        (writer == row.writer && row.seq <= last_seq).then_some(first_seq)
    }
}

/// The rows of a file, and records of it.
type OfFile = (Vec<ReadRow>, Vec<Picked>);

/// How sets are read.
pub(crate) struct SetReader<'a> {
    place: &'a Place,
    keys: &'a [Vkey],
    /// How many files are decoded at once.
    jobs: usize,
    turns: Arc<Semaphore>,
    /// Has the keys of what is encrypted, if that is verified as well.
    database: Option<(&'a Database, Mutex<PgConnection>)>,
}

impl<'a> SetReader<'a> {
    /// Reads sets of a place, which one of these keys must have signed.
    pub(crate) fn new(place: &'a Place, keys: &'a [Vkey], jobs: usize) -> Self {
        Self {
            place,
            keys,
            jobs,
            turns: Arc::new(Semaphore::new(jobs)),
            database: None,
        }
    }

    /// Fails where what is encrypted cannot be decrypted with the keys that the database has. What was erased is no fault.
    pub(super) fn opening(self, database: &'a Database, connection: PgConnection) -> Self {
        Self {
            database: Some((database, Mutex::new(connection))),
            ..self
        }
    }

    /// Reads the set of a manifest, all of its files, and compares it with the log. Needs no database.
    pub(crate) async fn read_set(
        &self,
        manifest: Object,
        keep: Keep<'_>,
    ) -> Result<ReadSet, Error> {
        let name = manifest.name();
        let sizes = self.place.list(&manifest.of.folder()).await?;
        let mut set = ReadSet {
            manifest: None,
            sha256: Hash::default(),
            rows: Vec::new(),
            records: Vec::new(),
            batches: Vec::new(),
            without_root: 0,
            findings: Vec::new(),
            sizes: sizes.into_iter().collect(),
        };
        let mut invalid = |detail: String| {
            let found = Found::new(FoundKind::ManifestInvalid, name.clone(), detail);
            set.findings.push(found);
        };
        let most = manifest::MOST_BYTES as u64;
        let bytes = match set.sizes.get(&name) {
            Some(size) if *size > most => {
                invalid(format!("it has {size} bytes, more than {most}"));
                return Ok(set);
            }
            Some(_) => self.place.get(&name, most).await?,
            None => None,
        };
        let Some(bytes) = bytes else {
            let found = Found::new(FoundKind::ObjectMissing, name, "");
            set.findings.push(found);
            return Ok(set);
        };
        set.sha256 = Sha256::digest(&bytes).into();
        match Manifest::verify(&bytes, self.keys) {
            Ok(read) if (read.of, read.set) == (manifest.of, manifest.set) => {
                set.manifest = Some(read.clone());
                self.contents(&read, keep, &mut set).await?;
            }
            Ok(_) => invalid(ManifestError::Elsewhere.to_string()),
            Err(error) => invalid(error.to_string()),
        }
        Ok(set)
    }

    async fn contents(
        &self,
        manifest: &Manifest,
        keep: Keep<'_>,
        set: &mut ReadSet,
    ) -> Result<(), Error> {
        let name = manifest.of.name(manifest.set, Part::Batches);
        let list = match self.get(&set.sizes, &name, manifest.batches).await? {
            Err(found) => Err(found),
            Ok(bytes) => BatchList::decode(&bytes)
                .map_err(|why| Found::new(FoundKind::BatchesBroken, name, why)),
        };
        let mut check = match list {
            Ok(list) => Some(Check::new(manifest.clone(), list, self.keys)),
            Err(found) => {
                set.findings.push(found);
                None
            }
        };
        set.batches = check.as_ref().map(Check::spans).unwrap_or_default();
        let sizes = std::mem::take(&mut set.sizes);
        let mut files = stream::iter(&manifest.files)
            .map(|file| self.file(&sizes, manifest, file, keep))
            .buffered(self.jobs);
        while let Some(read) = files.next().await {
            let (number, read) = read?;
            match (read, &mut check) {
                (Ok((rows, records)), Some(check)) => {
                    check.file(number, &rows);
                    set.records.extend(records);
                    if matches!(keep, Keep::Rows) {
                        set.rows.extend(rows);
                    }
                }
                (Ok(_), None) => {}
                (Err(found), _) => set.findings.push(found),
            }
        }
        // A file that is not there is one finding; each of its batches would be another.
        if let Some(mut check) = check {
            if set.findings.is_empty() {
                let _turn = self.turns.acquire().await;
                let ended = spawn_blocking(move || {
                    let without_root = check.end();
                    (without_root, check.findings)
                });
                let (without_root, findings) = joined(ended.await);
                set.without_root = without_root;
                set.findings = findings;
            } else {
                set.findings.append(&mut check.findings);
            }
        }
        Ok(())
    }

    /// Reads a file, and decodes it. Records are taken out of the bytes that were verified.
    async fn file(
        &self,
        sizes: &HashMap<String, u64>,
        manifest: &Manifest,
        file: &manifest::File,
        keep: Keep<'_>,
    ) -> Result<(u32, Result<OfFile, Found>), Error> {
        let name = manifest.object(file);
        let table = manifest.of.table;
        let _turn = self.turns.acquire().await;
        let bytes = match self.read(sizes, &name, file.content).await? {
            Ok(bytes) => bytes,
            Err(found) => return Ok((file.number, Err(found))),
        };
        let (content, count) = (file.content, file.rows);
        let wanted = match keep {
            Keep::Records(wanted) => Some(wanted.clone()),
            Keep::Nothing | Keep::Rows => None,
        };
        let broken = |name: String, error: &RowsError| {
            Found::new(FoundKind::FileBroken, name, error.to_string())
        };
        let (object, expects_keys) = (name.clone(), self.database.is_some());
        let verified = spawn_blocking(move || {
            let bytes = Bytes::from(expect(object.clone(), bytes, content)?);
            let keys = expects_keys.then(|| rows::keys_of(table, bytes.clone()));
            let keys = keys.transpose().map_err(|error| broken(object, &error))?;
            Ok((bytes, keys))
        });
        let (bytes, ids) = match joined(verified.await) {
            Ok(verified) => verified,
            Err(found) => return Ok((file.number, Err(found))),
        };
        let keys = match (&self.database, ids) {
            (Some((database, connection)), Some(ids)) => {
                let mut connection = connection.lock().await;
                let keys = Keys::read(&mut connection, None, &ids).await;
                Some(keys.map_err(|source| database.read_error(source))?)
            }
            _ => None,
        };
        let decoded = spawn_blocking(move || {
            let records = wanted.map(|wanted| look(table, bytes.clone(), &wanted, count));
            let read = rows::read(table, bytes, keys.as_ref())
                .and_then(|rows| Ok((rows, records.transpose()?.unwrap_or_default())));
            read.map_err(|error| broken(name, &error))
        });
        Ok((file.number, joined(decoded.await)))
    }

    /// Reads an object that has to have these bytes.
    async fn get(
        &self,
        sizes: &HashMap<String, u64>,
        name: &str,
        content: Content,
    ) -> Result<Result<Vec<u8>, Found>, Error> {
        let bytes = self.read(sizes, name, content).await?;
        Ok(bytes.and_then(|bytes| expect(name.to_owned(), bytes, content)))
    }

    /// Reads an object that has to be as long as this: one of another length is not read.
    async fn read(
        &self,
        sizes: &HashMap<String, u64>,
        name: &str,
        content: Content,
    ) -> Result<Result<Vec<u8>, Found>, Error> {
        let bytes = match sizes.get(name) {
            Some(size) if *size != content.bytes => {
                let detail = format!("it has {size} bytes, and not {}", content.bytes);
                return Ok(Err(Found::new(FoundKind::ObjectChanged, name, detail)));
            }
            Some(_) => self.place.get(name, content.bytes).await?,
            None => None,
        };
        Ok(bytes.ok_or_else(|| Found::new(FoundKind::ObjectMissing, name, "")))
    }
}

/// Returns the bytes if they are those that a manifest has.
pub(super) fn expect(name: String, bytes: Vec<u8>, content: Content) -> Result<Vec<u8>, Found> {
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    if sha256 == content.sha256 {
        return Ok(bytes);
    }
    let detail = "its SHA-256 is not that of the manifest";
    Err(Found::new(FoundKind::ObjectChanged, name, detail))
}

/// Returns what a blocking task returned. One that panics ends the program.
pub(super) fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nobody cancels it.
            Err(_) => std::process::abort(),
        },
    }
}
