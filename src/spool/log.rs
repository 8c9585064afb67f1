//! The local log itself: append, read, and remove what is committed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Database, Durability, ReadableDatabase, ReadableTable};
use uuid::Uuid;

use super::chunk;
use super::door::{Admitted, Runs};
use super::error::{LogError, VERSION};
use super::identity::{Identity, Past};
use super::positions::{Positions, Sink};
use super::storage::Storage;
use super::tables::{
    LogSummary, META, OPEN, POSITIONS, RECORDS, first, read_summary, stored_bytes,
};
use super::tail::Tail;
use crate::record::frames::Frames;
use crate::record::lost;
use crate::redact::Passed;

/// The local log of one writer.
#[derive(Debug)]
pub(crate) struct Log {
    pub(super) storage: Storage,
    /// Whether the log has ever been on disk.
    is_made: AtomicBool,
    file: RwLock<Opened>,
    identity: Mutex<Identity>,
    past: Mutex<Past>,
    /// Held while `identity` or `past` changes: a change starts from their current values.
    pub(super) changing: Mutex<()>,
    /// See [`hold`](Self::hold).
    pub(super) holding: Mutex<()>,
    service: String,
    pub(super) state: Mutex<LogSummary>,
    /// Records that the disk did not accept.
    tail: Mutex<Tail>,
}

/// How a log's file is open.
#[derive(Debug)]
pub(super) enum Opened {
    /// The log was never made, or a write failed and no one has read the log since.
    Not,
    /// A write failed, and the log cannot be written at all; it can be read.
    ToRead(Database),
    Whole(Database),
}

impl Opened {
    pub(super) fn to_write(&self) -> Result<&Database, LogError> {
        match self {
            Self::Whole(database) => Ok(database),
            Self::Not | Self::ToRead(_) => Err(LogError::Closed),
        }
    }

    pub(super) fn to_read(&self) -> Option<&Database> {
        match self {
            Self::Whole(database) | Self::ToRead(database) => Some(database),
            Self::Not => None,
        }
    }
}

impl Log {
    /// Makes the log of a new writer, for the sinks that have a position.
    #[cfg(test)]
    pub(crate) fn create(
        path: &Path,
        writer: Uuid,
        service: &str,
        positions: Positions,
    ) -> Result<Self, LogError> {
        Self::create_in(Storage::file(path.to_owned()), writer, service, positions)
    }

    #[cfg(any(test, fuzzing))]
    fn create_in(
        storage: Storage,
        writer: Uuid,
        service: &str,
        positions: Positions,
    ) -> Result<Self, LogError> {
        let log = Self::not_made(storage, Identity::new(writer, 0)?, service, positions);
        log.reopen()?;
        Ok(log)
    }

    /// Returns a log that is not on disk: until it is made, records can only be kept in memory.
    pub(super) fn not_made(
        storage: Storage,
        identity: Identity,
        service: &str,
        positions: Positions,
    ) -> Self {
        Self {
            storage,
            is_made: AtomicBool::new(false),
            file: RwLock::new(Opened::Not),
            identity: Mutex::new(identity),
            past: Mutex::default(),
            changing: Mutex::default(),
            holding: Mutex::default(),
            service: service.to_owned(),
            state: Mutex::new(LogSummary {
                positions,
                ..LogSummary::EMPTY
            }),
            tail: Mutex::default(),
        }
    }

    /// Makes the log, without a record in it.
    fn make(&self) -> Result<Database, LogError> {
        let positions = self.positions();
        let database = self.storage.create()?;
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert("version", &VERSION.to_le_bytes()[..])?;
            self.identity().store(&mut meta)?;
            self.past().store(&mut meta)?;
            meta.insert("service", self.service.as_bytes())?;
            transaction.open_table(RECORDS)?;
            transaction.open_table(OPEN)?;
            let mut stored = transaction.open_table(POSITIONS)?;
            for sink in Sink::ALL {
                stored.insert(sink.name(), positions.of(sink))?;
            }
        }
        transaction.commit()?;
        // ORDERING: Relaxed; the thread that makes the log holds `file`, and the one that removes
        // it has the log to itself.
        self.is_made.store(true, Ordering::Relaxed);
        Ok(database)
    }

    /// Returns whether the log exists on disk.
    pub(super) fn is_made(&self) -> bool {
        self.is_made.load(Ordering::Relaxed)
    }

    /// Opens a log that another process orphaned.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        Self::open_in(Storage::file(path.to_owned()))
    }

    /// Opens an orphaned log for reading; the file stays as it is.
    pub(crate) fn open_to_read(path: &Path) -> Result<Self, LogError> {
        Self::open_as(Storage::file(path.to_owned()), |storage| {
            storage.open_to_read().map(Opened::ToRead)
        })
    }

    fn open_in(storage: Storage) -> Result<Self, LogError> {
        Self::open_as(storage, |storage| storage.open().map(Opened::Whole))
    }

    fn open_as(
        storage: Storage,
        open: impl FnOnce(&Storage) -> Result<Opened, LogError>,
    ) -> Result<Self, LogError> {
        if !storage.is_begun()? {
            return Err(LogError::NotBegun);
        }
        let file = open(&storage)?;
        let database = file.to_read().ok_or(LogError::Closed)?;
        let transaction = database.begin_read()?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Err(LogError::NotBegun),
            Err(error) => return Err(error.into()),
        };
        let version = meta
            .get("version")?
            .and_then(|value| value.value().try_into().ok())
            .map(u32::from_le_bytes);
        match version {
            Some(VERSION) => {}
            Some(other) => return Err(LogError::Version(other)),
            None => return Err(LogError::Damaged),
        }
        let identity = Identity::load(&meta)?;
        let past = Past::load(&meta)?;
        let service = meta
            .get("service")?
            .map(|value| String::from_utf8_lossy(value.value()).replace('\0', ""));
        let state = read_summary(&transaction)?;
        drop((meta, transaction));
        Ok(Self {
            storage,
            is_made: AtomicBool::new(true),
            file: RwLock::new(file),
            identity: Mutex::new(identity),
            past: Mutex::new(past),
            changing: Mutex::default(),
            holding: Mutex::default(),
            service: service.unwrap_or_default(),
            state: Mutex::new(state),
            tail: Mutex::default(),
        })
    }

    /// Makes records of the runs that began and did not end; calls `made` with their number before
    /// they are appended. The records get no seq before `from`: Postgres may have more records of
    /// the process than its disk.
    pub(crate) fn recover(
        &self,
        error_code: &str,
        from: u64,
        made: impl FnOnce(u64),
    ) -> Result<(), LogError> {
        if !self.is_made() {
            return Ok(());
        }
        let mut lost = Runs::default();
        let mut frames = Frames::default();
        {
            let file = self.file();
            let transaction = file.to_write()?.begin_read()?;
            let open = match transaction.open_table(OPEN) {
                Ok(open) => open,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            for entry in open.iter()? {
                let (id, frame) = entry?;
                if let Some(frame) = lost::lost(frame.value(), error_code) {
                    frames.push(&frame);
                }
                lost.end(Uuid::from_bytes(*id.value()));
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        made(frames.records);
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.next_seq = state.next_seq.max(from);
        }
        let mut admitted = Admitted::default();
        if frames.records > 0 {
            admitted.admit(Passed::stored(frames));
        }
        self.store(&admitted, || self.positions(), &lost)
    }

    pub(super) fn file(&self) -> RwLockReadGuard<'_, Opened> {
        self.file.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_file(&self) -> RwLockWriteGuard<'_, Opened> {
        self.file.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reopens the log after a failed write: redb refuses every operation until then. What was not
    /// durable is not in it.
    pub(super) fn reopen(&self) -> Result<(), LogError> {
        // First without the write lock, which waits for readers: they may have much to read.
        if self.file().to_write().is_ok() {
            return Ok(());
        }
        let mut file = self.change_file();
        if file.to_write().is_err() {
            let reopened = if self.is_made() {
                // It changes no byte. While it fails, readers need not reopen the file each time.
                self.storage.write_again()?;
                // Readers must not keep a stale view of what changes now.
                *file = Opened::Not;
                self.storage.open()?
            } else {
                self.make()?
            };
            let reading = reopened.begin_read()?;
            let mut state = read_summary(&reading)?;
            // As with a record: a change that was reported as failed may have been written.
            let (identity, past) = {
                let meta = reading.open_table(META)?;
                (Identity::load(&meta)?, Past::load(&meta)?)
            };
            self.set_identity(identity, past);
            drop(reading);
            let mut tail = self.tail();
            let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // A write that was reported as failed may have reached the disk all the same.
            tail.release(state.next_seq);
            state.next_seq = state.next_seq.max(known.next_seq);
            *known = state;
            drop((known, tail));
            *file = Opened::Whole(reopened);
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        *self.change_file() = Opened::Not;
    }

    /// Reads what is on disk, whether or not the disk accepts writes.
    pub(super) fn on_disk<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        loop {
            if let Some(database) = self.file().to_read() {
                return read(database);
            }
            if !self.is_made() {
                return Err(LogError::Closed);
            }
            let mut file = self.change_file();
            if file.to_read().is_none() {
                *file = Opened::ToRead(self.storage.open_to_read()?);
            }
        }
    }

    /// Returns the writer under which the log's records are committed.
    pub(crate) fn identity(&self) -> Identity {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn writer(&self) -> Uuid {
        self.identity().writer
    }

    /// Returns the log's former writers and disagreements.
    pub(crate) fn past(&self) -> Past {
        self.past
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns whether the trail lacks the report of a disagreement.
    pub(crate) fn is_disputed(&self) -> bool {
        self.past().untold().next().is_some()
    }

    pub(super) fn set_identity(&self, identity: Identity, past: Past) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        *self.past.lock().unwrap_or_else(PoisonError::into_inner) = past;
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(super) fn state(&self) -> LogSummary {
        *self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps records in memory that the disk did not accept, up to `max_bytes` in total: they can
    /// be read like the others, and are stored when the disk accepts writes again. Returns whether
    /// there was room.
    ///
    /// # Durability
    ///
    /// None: records that no sink has read by the end of the process are lost.
    pub(crate) fn keep_in_memory(
        &self,
        admitted: &Admitted,
        max_bytes: usize,
    ) -> Result<bool, LogError> {
        self.keep(admitted.frames(), max_bytes)
    }

    pub(super) fn keep(&self, buffers: &[Passed], max_bytes: usize) -> Result<bool, LogError> {
        let mut tail = self.tail();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = buffers.iter().map(|buffer| buffer.bytes.len()).sum();
        if tail.bytes() + bytes > max_bytes {
            return Ok(false);
        }
        state.next_seq = tail.push(state.next_seq, buffers)?;
        Ok(true)
    }

    /// Returns the number of records from `position` on that are only in memory.
    pub(crate) fn in_memory(&self, position: u64) -> u64 {
        self.tail().records(position)
    }

    /// Returns the seq of the next record to append.
    pub(crate) fn next_seq(&self) -> u64 {
        self.state().next_seq
    }

    /// Returns the seq of the first stored record.
    pub(crate) fn first_seq(&self) -> u64 {
        self.state().first_seq
    }

    /// Returns the stored position of a sink.
    pub(crate) fn position(&self, sink: Sink) -> u64 {
        self.state().positions.of(sink)
    }

    /// Returns how many records a sink still needs, by its stored position.
    pub(crate) fn waiting(&self, sink: Sink) -> u64 {
        let state = self.state();
        state.next_seq.saturating_sub(state.positions.of(sink))
    }

    /// Returns the stored positions of all sinks.
    pub(crate) fn positions(&self) -> Positions {
        self.state().positions
    }

    /// Returns whether chunks can be removed when the sinks are at these positions.
    pub(crate) fn is_removable(&self, positions: Positions) -> bool {
        let state = self.state();
        state.first_seq < state.next_seq && state.first_end <= positions.least()
    }

    /// Returns the bytes stored, on disk and in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let in_memory = self.tail().bytes() as u64;
        self.state().bytes + in_memory
    }

    /// Stores what was admitted, the changes of `runs` and the sinks' positions; see
    /// [`append`](Self::append). The positions are read when none of them can move back any more.
    pub(crate) fn store(
        &self,
        admitted: &Admitted,
        positions: impl FnOnce() -> Positions,
        runs: &Runs,
    ) -> Result<(), LogError> {
        let _held = self.hold();
        self.append(admitted.frames(), positions(), runs)
    }

    /// Stores the sinks' positions, and removes what no sink needs any more.
    pub(crate) fn set_positions(
        &self,
        positions: impl FnOnce() -> Positions,
    ) -> Result<(), LogError> {
        self.store(&Admitted::default(), positions, &Runs::default())
    }

    /// Appends the records of `buffers`, stores the changes in `runs` and the sinks' positions, and
    /// removes the chunks that no sink needs any more, in one transaction.
    ///
    /// # Durability
    ///
    /// When it returns `Ok`, the records are on disk. When it fails, call it again with the same
    /// buffers: if the failed write has reached the disk after all, they are not written twice.
    pub(super) fn append(
        &self,
        buffers: &[Passed],
        positions: Positions,
        runs: &Runs,
    ) -> Result<(), LogError> {
        self.release(positions.least());
        let before = self.next_seq();
        self.reopen()?;
        if self.next_seq() > before {
            return Ok(());
        }
        let appended = self.try_append(buffers, positions, runs);
        if appended.is_err() {
            self.close();
        }
        appended
    }

    /// Releases the records in memory before `position`.
    fn release(&self, position: u64) {
        let mut tail = self.tail();
        tail.release(position);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.first_seq == state.first_end {
            // No record is on disk.
            let first = tail.first().unwrap_or(state.next_seq);
            (state.first_seq, state.first_end) = (first, first);
        }
    }

    fn try_append(
        &self,
        buffers: &[Passed],
        positions: Positions,
        runs: &Runs,
    ) -> Result<(), LogError> {
        let mut state = self.state();
        let file = self.file();
        let mut transaction = file.to_write()?.begin_write()?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(redb::Error::from)?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for (first, chunk) in self.tail().chunks() {
                records.insert(first, chunk)?;
                state.bytes += stored_bytes(chunk);
            }
            let mut disk_end = match records.last()? {
                Some((first, chunk)) => first.value() + chunk::count(chunk.value())?,
                None => state.next_seq,
            };
            let mut rest = buffers;
            while !rest.is_empty() {
                let (together, after) = rest.split_at(chunk::fitting(rest));
                rest = after;
                let count: u64 = together.iter().map(|buffer| buffer.records).sum();
                let is_after_gap = state.next_seq != disk_end;
                let chunk = chunk::encode(state.next_seq, is_after_gap, together, count)?;
                records.insert(state.next_seq, chunk.as_slice())?;
                state.next_seq += count;
                disk_end = state.next_seq;
                state.bytes += stored_bytes(&chunk);
            }
            loop {
                let Some((seq, end, bytes)) = first(&records)? else {
                    (state.first_seq, state.first_end) = (state.next_seq, state.next_seq);
                    break;
                };
                (state.first_seq, state.first_end) = (seq, end);
                if end > positions.least() {
                    break;
                }
                records.remove(seq)?;
                state.bytes = state.bytes.saturating_sub(bytes);
            }
        }
        if !runs.is_empty() {
            let mut open = transaction.open_table(OPEN)?;
            for (id, run) in &runs.begun {
                open.insert(id.as_bytes(), run.frame())?;
            }
            for id in &runs.ended {
                open.remove(id.as_bytes())?;
            }
        }
        if state.positions != positions {
            let mut stored = transaction.open_table(POSITIONS)?;
            for sink in Sink::ALL {
                stored.insert(sink.name(), positions.of(sink))?;
            }
            state.positions = positions;
        }
        transaction.commit()?;
        let mut tail = self.tail();
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        tail.release(state.next_seq);
        Ok(())
    }

    /// Returns the seq up to which the oldest chunks must be removed so that the rest takes at most
    /// `bytes`; goes no further than the chunk that holds `until`.
    pub(crate) fn excess(&self, bytes: u64, until: u64) -> Result<u64, LogError> {
        let file = self.file();
        let transaction = file.to_write()?.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let mut left = self.state().bytes;
        let mut end = 0;
        for entry in records.iter()? {
            if left <= bytes {
                break;
            }
            let (first, chunk) = entry?;
            if first.value() >= until {
                break;
            }
            end = first.value() + chunk::count(chunk.value())?;
            left = left.saturating_sub(stored_bytes(chunk.value()));
        }
        Ok(end)
    }
}

#[cfg(fuzzing)]
#[path = "log_fuzzing.rs"]
pub(super) mod fuzzing;

#[cfg(test)]
#[path = "log_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "damage_tests.rs"]
mod damage_tests;

#[cfg(test)]
#[path = "fault_tests.rs"]
mod fault_tests;
