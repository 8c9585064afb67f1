//! Searches an archive: all records of a filter, in the order of their ids, in as much memory as some records take.
//!
//! Files are in the order of tenants, and what is handed over is in that of ids. So a *slice* of ids is read at once, out of all files that may
//! have some: of a day, of more days where little is found, and of halves of what has more than fits.
//!
//! The signature of each manifest is verified. With `--verify`, each set that may have a record is proven by the log, and records are taken out of
//! files whose bytes are those of its manifest.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hyper::body::Bytes;
use sqlx::types::Uuid;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::day_of;
use tracing_audit::__program::ledger::images::Images;
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::tree::Hash;

use super::content::{self, Closed, Encrypted, Keys};
use super::failure::ArchiveError;
use super::finder::{AT_ONCE, manifests, signed};
use super::manifest::{File, Manifest};
use super::matching::{Among, Matcher};
use super::names::Object;
use super::place::Place;
use super::ranges::Ranges;
use super::rows::RowsError;
use super::set_reader::{Keep, SetReader, expect, joined};
use super::sift::{Wanted, all_columns, sift};
use crate::error::Error;
use crate::export::columns::{COLUMN_COUNT, COLUMNS, ID};
use crate::export::values::Record;
use crate::row::RecordId;

/// How many files are read whole at once.
const JOBS: usize = 2;

/// How many days are searched at once at most.
const MOST_DAYS: usize = 64;

/// How many bytes of records are read at once.
pub(crate) const MOST_BYTES: usize = 32 << 20;

/// How many bytes one record may have: some more than a whole file.
const MOST_OF_ONE: usize = 1 << 30;

/// An archive, and what is believed of it.
#[derive(Clone, Debug)]
pub(crate) struct OpenArchive {
    place: Arc<Place>,
    keys: Arc<[Vkey]>,
    is_verified: bool,
    /// The sets that are proven.
    proven: Arc<Mutex<HashSet<String>>>,
}

/// The order in which records are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

/// A search.
#[derive(Debug)]
pub(crate) struct Scan {
    archive: OpenArchive,
    matcher: Arc<Matcher>,
    columns: Arc<[usize]>,
    order: Order,
    most_bytes: usize,
    until: Option<Instant>,
    /// The days that are left, each with its manifests.
    days: VecDeque<(u32, Vec<Object>)>,
    /// How many of them are searched next.
    width: usize,
    /// The files of the days that are searched.
    files: Arc<[(Object, File)]>,
    /// The slices of those days that are left; the next one is the last.
    slices: Vec<(Uuid, Option<Uuid>)>,
}

/// What is between two ids.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) from: Uuid,
    /// The one before which it ends.
    pub(crate) to: Option<Uuid>,
    /// The records that were found, in order.
    pub(crate) hits: Vec<Hit>,
}

/// A record that was found.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) record: RecordId,
    /// The manifest of its set.
    pub(crate) manifest: Object,
    /// The images of the columns that were asked for and its table has; of all of them, if its content is encrypted.
    images: Vec<u8>,
    encrypted: Option<Box<(Encrypted, Hash)>>,
    /// The images of its content, if it was encrypted: of one that cannot be read, what an erasure leaves.
    content: Option<Vec<u8>>,
    /// Why its content is not there.
    pub(crate) closed: Option<Closed>,
}

impl Hit {
    /// Returns how many bytes its columns have.
    pub(crate) fn size(&self) -> usize {
        let content = self.content.as_ref().map_or(0, Vec::len);
        self.images.len() + content
    }

    /// Returns why its content cannot be read, unless it was erased.
    pub(crate) fn unread(&self) -> Option<String> {
        let closed = self.closed.filter(|why| *why != Closed::Destroyed);
        closed.map(|why| why.to_string())
    }

    /// Returns its columns, which were asked for.
    pub(crate) fn record(&self, columns: &[usize]) -> Record<'_> {
        let table = self.record.table;
        let mut record = Record {
            table,
            fields: [None; COLUMN_COUNT],
            unread: None,
        };
        let mut images = Images::new(&self.images);
        let mut next = || images.next().and_then(Result::ok).flatten();
        if self.encrypted.is_some() {
            all_columns(table).for_each(|at| record.fields[at] = next());
        } else {
            let columns = columns.iter().filter(|at| is_of(table, **at));
            columns.for_each(|at| record.fields[*at] = next());
        }
        if let Some(content) = &self.content {
            for (place, value) in content::fields(table, content) {
                record.fields[place] = value;
            }
        }
        record
    }

    /// Decrypts its content, if that is encrypted.
    fn open(&mut self, keys: &Keys) {
        let Some(content) = &self.encrypted else {
            return;
        };
        let (encrypted, hash) = &**content;
        let RecordId { table, id } = self.record;
        let (content, closed) = keys.open(table, encrypted, id, hash);
        (self.content, self.closed) = (Some(content), closed);
    }
}

impl Slice {
    /// Returns the keys with which contents are encrypted.
    pub(super) fn keys(&self) -> Vec<Uuid> {
        let encrypted = self.hits.iter().filter_map(|hit| hit.encrypted.as_ref());
        let keys: HashSet<Uuid> = encrypted.map(|content| content.0.key).collect();
        keys.into_iter().collect()
    }
}

fn is_of(table: Table, column: usize) -> bool {
    COLUMNS[column].is_of(table)
}

impl OpenArchive {
    /// Takes a place, of which one of these keys must have signed what is there. Reaches for nothing.
    pub(super) fn new(place: Place, keys: Vec<Vkey>, is_verified: bool) -> Self {
        Self {
            place: Arc::new(place),
            keys: keys.into(),
            is_verified,
            proven: Arc::default(),
        }
    }

    /// Returns where it is, as it is told.
    pub(crate) fn name(&self) -> String {
        self.place.name()
    }

    /// Whether what comes from it is proven.
    pub(crate) fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// Says of a record where it is.
    pub(crate) fn said(&self, manifest: Object) -> String {
        let said = if self.is_verified {
            "proven by the log's signed checkpoint"
        } else {
            "whose manifest is signed; --verify proves it"
        };
        format!("{}/{}, {said}", self.place.name(), manifest.name())
    }

    /// Begins a search. These columns are read of what is found.
    pub(crate) async fn scan(
        &self,
        matcher: Matcher,
        columns: &[usize],
        order: Order,
    ) -> Result<Scan, Error> {
        self.place.expect()?;
        let bounds = matcher.bounds;
        let from = bounds.from.map_or(0, |id| day_of(id.as_u128()));
        let to = bounds.to.map(|to| to.as_u128().saturating_sub(1));
        let days = from..=to.map_or(u32::MAX, day_of);
        let mut by_day: BTreeMap<u32, Vec<Object>> = BTreeMap::new();
        for manifest in manifests(&self.place, &matcher.tables(), &days).await? {
            by_day.entry(manifest.of.day).or_default().push(manifest);
        }
        if let Among::Records(records) = &matcher.among {
            let days: HashSet<u32> = records.iter().map(|of| day_of(of.id.as_u128())).collect();
            by_day.retain(|day, _| days.contains(day));
        }
        let mut days: VecDeque<_> = by_day.into_iter().collect();
        if order == Order::NewestFirst {
            days.make_contiguous().reverse();
        }
        let rest = columns.iter().copied().filter(|at| *at != ID);
        Ok(Scan {
            archive: self.clone(),
            matcher: Arc::new(matcher),
            columns: std::iter::once(ID).chain(rest).collect(),
            order,
            most_bytes: MOST_BYTES,
            until: None,
            days,
            width: 1,
            files: Arc::default(),
            slices: Vec::new(),
        })
    }

    /// Proves a set by the log: its manifest must be this one.
    async fn prove(&self, object: Object, manifest: Manifest) -> Result<(), Error> {
        let name = object.name();
        let mut proven = self.proven.lock().await;
        if proven.contains(&name) {
            return Ok(());
        }
        let (place, keys) = (Arc::clone(&self.place), Arc::clone(&self.keys));
        let runtime = Handle::current();
        let reading = spawn_blocking(move || {
            let reader = SetReader::new(&place, &keys, JOBS);
            runtime.block_on(reader.read_set(object, Keep::Nothing))
        });
        let set = joined(reading.await)?;
        let finding = set.findings.first().map(ToString::to_string);
        let is_same = set.manifest == Some(manifest);
        let other = (!is_same).then(|| format!("{name}: it was another a moment before"));
        if let Some(finding) = finding.or(other) {
            return Err(ArchiveError::NotProven { finding }.into());
        }
        proven.insert(name);
        Ok(())
    }

    /// Reads a manifest that one of the keys has signed.
    async fn signed(self, object: Object) -> Result<(Object, Option<Manifest>), Error> {
        signed(&self.place, &self.keys, object).await
    }

    /// Looks through a file.
    async fn file(self, manifest: Object, file: File, wanted: Wanted) -> Result<Vec<Hit>, Broken> {
        let name = manifest.of.name(manifest.set, file.part());
        let (table, rows, content) = (manifest.of.table, file.rows, file.content);
        let found = if self.is_verified {
            let bytes = self.place.get(&name, content.bytes).await;
            let gone = || ArchiveError::Gone {
                place: self.place.name(),
                object: name.clone(),
            };
            let bytes = bytes?.ok_or_else(|| Error::from(gone()))?;
            let sifting = spawn_blocking({
                let name = name.clone();
                move || {
                    let bytes = expect(name, bytes, content).map_err(|found| {
                        let finding = found.to_string();
                        Error::from(ArchiveError::NotProven { finding })
                    })?;
                    Ok::<_, Error>(sift(table, Bytes::from(bytes), &wanted, rows))
                }
            });
            joined(sifting.await)?
        } else {
            let ranges = Ranges::new(&self.place, name.clone(), content.bytes);
            joined(spawn_blocking(move || sift(table, ranges, &wanted, rows)).await)
        };
        let found = found.map_err(|why| Broken::Rows(name.clone(), why))?;
        let hits = found.into_iter().map(|sifted| {
            let images = sifted.images;
            // The first column that is read.
            let id = images.get(4..20).and_then(|id| Uuid::from_slice(id).ok());
            let id = id.ok_or_else(|| Broken::Rows(name.clone(), RowsError::Value("id")))?;
            Ok(Hit {
                record: RecordId { table, id },
                manifest,
                images,
                encrypted: sifted.encrypted,
                content: None,
                closed: None,
            })
        });
        hits.collect()
    }
}

impl Scan {
    /// Reads no more bytes of records at once.
    pub(crate) fn with_most_bytes(mut self, bytes: usize) -> Self {
        self.most_bytes = bytes;
        self
    }

    /// Ends with an error when this time has come.
    pub(crate) fn until(mut self, until: Instant) -> Self {
        self.until = Some(until);
        self
    }

    /// Returns the columns that are read of what is found.
    pub(crate) fn columns(&self) -> Arc<[usize]> {
        Arc::clone(&self.columns)
    }

    /// Decrypts what is encrypted in a slice, and leaves what matches then. **No slice is complete before.**
    pub(super) fn open(&self, slice: &mut Slice, keys: &Keys) {
        slice.hits.retain_mut(|hit| {
            if hit.encrypted.is_none() {
                return true;
            }
            hit.open(keys);
            let record = hit.record(&self.columns);
            self.matcher.may_match(&record) && self.matcher.matches(&record)
        });
    }

    /// Like [`open`](Self::open), where there is no database: what is encrypted stays so.
    pub(crate) fn open_without_keys(&self, slice: &mut Slice) {
        self.open(slice, &Keys::default());
    }

    /// Returns what is in the next slice, which may be nothing; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Slice>, Error> {
        loop {
            if self.slices.is_empty() && self.days.is_empty() {
                return Ok(None);
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return Err(ArchiveError::TooLong.into());
            }
            let Some((from, to)) = self.slices.pop() else {
                self.open_days().await?;
                continue;
            };
            let last = to.map_or(u128::MAX, |to| to.as_u128().saturating_sub(1));
            let is_one = last == from.as_u128();
            let most = if is_one { MOST_OF_ONE } else { self.most_bytes };
            if let Some(hits) = self.slice(from, to, most).await? {
                return Ok(Some(Slice { from, to, hits }));
            }
            // More than fits: first the one half, then the other.
            self.width = 1;
            let middle = from.as_u128() + (last - from.as_u128()) / 2 + 1;
            let middle = Uuid::from_u128(middle);
            let mut halves = [(from, Some(middle)), (middle, to)];
            if self.order == Order::OldestFirst {
                halves.reverse();
            }
            self.slices.extend(halves);
        }
    }

    /// Reads the manifests of the next days.
    async fn open_days(&mut self) -> Result<(), Error> {
        let some = self.days.len().min(self.width);
        self.width = (self.width * 2).min(MOST_DAYS);
        let days: Vec<_> = self.days.drain(..some).collect();
        let numbers = days.iter().map(|(day, _)| *day);
        let (Some(first), Some(last)) = (numbers.clone().min(), numbers.max()) else {
            return Ok(());
        };
        let archive = self.archive.clone();
        let objects = days.into_iter().flat_map(|(_, manifests)| manifests);
        let mut sets = stream::iter(objects)
            .map(|object| archive.clone().signed(object))
            .buffered(AT_ONCE);
        let mut files = Vec::new();
        while let Some((object, manifest)) = sets.try_next().await? {
            let Some(manifest) = manifest else { continue };
            let wanted = manifest.files.iter().filter(|file| self.may_have(file));
            let before = files.len();
            files.extend(wanted.map(|file| (object, file.clone())));
            if archive.is_verified && files.len() > before {
                archive.prove(object, manifest).await?;
            }
        }
        drop(sets);
        // Also where there are none: who searches is told how far the search has come.
        self.files = files.into();
        let to = last.checked_add(1).map(least_id);
        self.slices.push((least_id(first), to));
        Ok(())
    }

    /// Whether a file may have such records, by its manifest.
    fn may_have(&self, file: &File) -> bool {
        let Matcher { bounds, tenant, .. } = &*self.matcher;
        let (least, greatest) = file.ids;
        bounds.from.is_none_or(|from| greatest >= from)
            && bounds.to.is_none_or(|to| least < to)
            // In their order: rows without one are the first.
            && tenant.is_none_or(|tenant| {
                let (from, to) = file.tenants;
                from <= Some(tenant) && to >= Some(tenant)
            })
    }

    /// Reads what is in a slice; `None` if that is more than so many bytes.
    async fn slice(
        &self,
        from: Uuid,
        to: Option<Uuid>,
        most: usize,
    ) -> Result<Option<Vec<Hit>>, Error> {
        let wanted = Wanted {
            matcher: Arc::clone(&self.matcher),
            from,
            to,
            columns: Arc::clone(&self.columns),
            left: Arc::new(AtomicUsize::new(most)),
            until: self.until,
        };
        let files = self.files.iter().filter(|(_, file)| {
            let (least, greatest) = file.ids;
            greatest >= from && to.is_none_or(|to| least < to)
        });
        let jobs = if self.archive.is_verified {
            JOBS
        } else {
            AT_ONCE
        };
        let files: Vec<_> = files.cloned().collect();
        let mut reading = stream::iter(files)
            .map(|(manifest, file)| self.archive.clone().file(manifest, file, wanted.clone()))
            .buffered(jobs);
        let mut hits = Vec::new();
        let mut failed = None;
        // To its end, whatever is found: nothing reads on behind what follows.
        while let Some(sifted) = reading.next().await {
            match sifted {
                Ok(of_file) => hits.extend(of_file),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(Broken::Rows(_, RowsError::TooMuch)) if most < MOST_OF_ONE => return Ok(None),
            Some(Broken::Rows(_, RowsError::TooLong)) => return Err(ArchiveError::TooLong.into()),
            Some(Broken::Rows(object, why)) => {
                let why = why.to_string();
                return Err(ArchiveError::Broken { object, why }.into());
            }
            Some(Broken::Place(error)) => return Err(error),
            None => {}
        }
        hits.sort_by_key(|hit| (hit.record.id, hit.record.table));
        hits.dedup_by_key(|hit| hit.record);
        if self.order == Order::NewestFirst {
            hits.reverse();
        }
        Ok(Some(hits))
    }
}

/// Why a file was not looked through.
enum Broken {
    /// What is in it.
    Rows(String, RowsError),
    /// The place where it is.
    Place(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Place(error)
    }
}

/// Returns the least id of a day.
pub(super) fn least_id(day: u32) -> Uuid {
    const DAY_MS: u128 = 86_400_000;
    const MOST_MS: u128 = (1 << 48) - 1;
    Uuid::from_u128((u128::from(day) * DAY_MS).min(MOST_MS) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_id_of_a_day_is_of_that_day() {
        for day in [0, 1, 20_526, 2_932_896] {
            let id = least_id(day).as_u128();
            assert_eq!(day_of(id), day);
            assert_eq!(id.checked_sub(1).map(day_of), day.checked_sub(1));
        }
    }
}
