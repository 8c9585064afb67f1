//! Append, read, and give up what is committed.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition,
};
use uuid::Uuid;

use super::chunk::{self, SALT_BYTES};
use super::tail::Tail;
use crate::queue::Chunk;
use crate::record::encode;

/// The error code of a run whose process died before it ended.
const PROCESS_LOST: &str = "process_lost";

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("records");
const OPEN: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("open");
const POSITIONS: TableDefinition<'static, &str, u64> = TableDefinition::new("positions");

const VERSION: u32 = 1;
/// redb's cache: what was just written is read again by the sink.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why the log could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("the local log failed")]
    Redb(#[source] Box<redb::Error>),
    #[error("the local log has version {0}, this program knows version {VERSION}")]
    Version(u32),
    #[error("the local log is damaged")]
    Damaged,
    /// Its process died before it had written anything.
    #[error("the local log was never begun")]
    NotBegun,
    #[error("the local log was closed after a write that failed")]
    Closed,
    #[error("no random bytes from the system")]
    Random(#[source] getrandom::Error),
}

impl LogError {
    /// Whether the file itself is damaged, so that trying again is of no use.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged => true,
            Self::Redb(error) => match &**error {
                redb::Error::Io(error) => matches!(
                    error.kind(),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
                ),
                redb::Error::Corrupted(_)
                | redb::Error::RepairAborted
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableDoesNotExist(_)
                | redb::Error::TypeDefinitionChanged { .. } => true,
                _ => false,
            },
            _ => false,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for LogError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

/// The local log of one writer.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    /// `None`: a write failed, and it could not be opened again since.
    database: RwLock<Option<Database>>,
    writer: Uuid,
    service: String,
    state: Mutex<State>,
    /// What the disk did not take.
    tail: Mutex<Tail>,
}

/// What is known of the log without reading it.
#[derive(Clone, Copy, Debug)]
struct State {
    /// The seq of the next record that is appended.
    next_seq: u64,
    /// The seq of the first record that is still stored.
    first_seq: u64,
    /// The seq after the first chunk that is still stored.
    first_end: u64,
    bytes: u64,
    positions: Positions,
}

impl State {
    const EMPTY: Self = Self {
        next_seq: 1,
        first_seq: 1,
        first_end: 1,
        bytes: 0,
        positions: Positions::BEGINNING,
    };
}

/// Who reads the log. Its name is part of the format: frozen, version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Postgres,
    Otlp,
}

impl Sink {
    /// Every sink; a record stays until all of them have it.
    pub(crate) const ALL: [Self; 2] = [Self::Postgres, Self::Otlp];

    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Otlp => "otlp",
        }
    }
}

/// The seq of the next record that each sink needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Positions([u64; Sink::ALL.len()]);

impl Positions {
    /// The position of a sink that is not there: it needs no record.
    pub(crate) const NOTHING: u64 = u64::MAX;

    /// Postgres needs every record, and no other sink is there.
    pub(crate) const BEGINNING: Self = Self([1, Self::NOTHING]);

    #[must_use]
    pub(crate) fn with(mut self, sink: Sink, position: u64) -> Self {
        self.0[sink as usize] = position;
        self
    }

    pub(crate) fn of(self, sink: Sink) -> u64 {
        self.0[sink as usize]
    }

    /// Records before this are needed by no sink.
    fn least(self) -> u64 {
        self.0.into_iter().min().unwrap_or(1)
    }
}

/// What is new of runs that began: how the next process knows of those that this one did not
/// end.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Runs that began, with their frames.
    pub(crate) begun: Vec<(Uuid, Vec<u8>)>,
    /// Runs that were stored as begun, and have ended.
    pub(crate) ended: Vec<Uuid>,
}

impl Runs {
    pub(crate) fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.ended.is_empty()
    }
}

/// One record of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) seq: u64,
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) frame: &'a [u8],
}

impl Log {
    /// Makes the log of a new writer, for the sinks that have a position.
    pub(crate) fn create(
        path: &Path,
        writer: Uuid,
        service: &str,
        positions: Positions,
    ) -> Result<Self, LogError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)?;
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert("version", &VERSION.to_le_bytes()[..])?;
            meta.insert("writer", &writer.as_bytes()[..])?;
            meta.insert("service", service.as_bytes())?;
            transaction.open_table(RECORDS)?;
            transaction.open_table(OPEN)?;
            let mut stored = transaction.open_table(POSITIONS)?;
            for sink in Sink::ALL {
                stored.insert(sink.name(), positions.of(sink))?;
            }
        }
        transaction.commit()?;
        Ok(Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            writer,
            service: service.to_owned(),
            state: Mutex::new(State {
                positions,
                ..State::EMPTY
            }),
            tail: Mutex::default(),
        })
    }

    /// Opens a log that another process left. Runs that it began and did not end become records.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) {
            return Err(LogError::NotBegun);
        }
        let database = open_database(path)?;
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
        let writer = meta
            .get("writer")?
            .and_then(|value| value.value().try_into().ok())
            .map(Uuid::from_bytes)
            .ok_or(LogError::Damaged)?;
        let service = meta
            .get("service")?
            .map(|value| String::from_utf8_lossy(value.value()).replace('\0', ""));
        let state = read_state(&transaction)?;
        drop((meta, transaction));
        let log = Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            writer,
            service: service.unwrap_or_default(),
            state: Mutex::new(state),
            tail: Mutex::default(),
        };
        log.recover(PROCESS_LOST, |_| ())?;
        Ok(log)
    }

    /// Makes records of the runs that were begun and not ended; `made` is told how many before
    /// they are there.
    pub(crate) fn recover(&self, error_code: &str, made: impl FnOnce(u64)) -> Result<(), LogError> {
        let mut lost = Runs::default();
        let mut chunk = Chunk::default();
        {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let transaction = database.as_ref().ok_or(LogError::Closed)?.begin_read()?;
            let open = match transaction.open_table(OPEN) {
                Ok(open) => open,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            for entry in open.iter()? {
                let (id, frame) = entry?;
                if let Some(frame) = encode::lost(frame.value(), error_code) {
                    chunk.push(&frame);
                }
                lost.ended.push(Uuid::from_bytes(*id.value()));
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        made(chunk.records);
        let chunks = if chunk.records > 0 {
            vec![chunk]
        } else {
            Vec::new()
        };
        self.append(&chunks, self.positions(), &lost)
    }

    /// Opens the log again after a write that failed: redb refuses everything until then. What
    /// was not durable is not in it.
    fn reopen(&self) -> Result<(), LogError> {
        // Without waiting for who reads: they may have much to read.
        let is_open = self
            .database
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if is_open {
            return Ok(());
        }
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            let reopened = open_database(&self.path)?;
            let mut state = read_state(&reopened.begin_read()?)?;
            let mut tail = self.tail();
            let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // A write that was said to have failed may have reached the disk all the same.
            tail.release(state.next_seq);
            state.next_seq = state.next_seq.max(known.next_seq);
            *known = state;
            drop((known, tail));
            *database = Some(reopened);
        }
        Ok(())
    }

    fn close(&self) {
        *self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn writer(&self) -> Uuid {
        self.writer
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    fn state(&self) -> State {
        *self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps records in memory that the disk did not take, at most so many bytes of them: they can
    /// be read like the others, and go to disk when it takes them. Returns whether there was
    /// room.
    ///
    /// # Durability
    ///
    /// None: what no sink has by the end of the process is lost.
    pub(crate) fn keep_in_memory(
        &self,
        chunks: &[Chunk],
        max_bytes: usize,
    ) -> Result<bool, LogError> {
        let mut tail = self.tail();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        if tail.bytes() + bytes > max_bytes {
            return Ok(false);
        }
        state.next_seq = tail.push(state.next_seq, chunks)?;
        Ok(true)
    }

    /// Records that are in memory alone, from `position` on.
    pub(crate) fn in_memory(&self, position: u64) -> u64 {
        self.tail().records(position)
    }

    /// The seq of the next record that is appended.
    pub(crate) fn next_seq(&self) -> u64 {
        self.state().next_seq
    }

    /// The seq of the first record that is still stored.
    pub(crate) fn first_seq(&self) -> u64 {
        self.state().first_seq
    }

    /// The position of a sink, as far as it was stored.
    pub(crate) fn position(&self, sink: Sink) -> u64 {
        self.state().positions.of(sink)
    }

    /// How many records a sink has not had, as far as its position was stored.
    pub(crate) fn waiting(&self, sink: Sink) -> u64 {
        let state = self.state();
        state.next_seq.saturating_sub(state.positions.of(sink))
    }

    /// The positions of all sinks, as far as they were stored.
    pub(crate) fn positions(&self) -> Positions {
        self.state().positions
    }

    /// Whether there is something to remove when the sinks are at these positions.
    pub(crate) fn is_removable(&self, positions: Positions) -> bool {
        let state = self.state();
        state.first_seq < state.next_seq && state.first_end <= positions.least()
    }

    /// Bytes stored, on disk and in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let in_memory = self.tail().bytes() as u64;
        self.state().bytes + in_memory
    }

    /// Appends the records of `chunks`, stores what is new of `runs` and the sinks' positions, and
    /// removes the chunks that no sink needs any more, in one transaction.
    ///
    /// # Durability
    ///
    /// When it returns `Ok`, the records are on disk. When it fails, call it again with the same
    /// chunks: if the failed write has reached the disk after all, they are not written twice.
    pub(crate) fn append(
        &self,
        chunks: &[Chunk],
        positions: Positions,
        runs: &Runs,
    ) -> Result<(), LogError> {
        self.tail().release(positions.least());
        let before = self.next_seq();
        self.reopen()?;
        if self.next_seq() > before {
            return Ok(());
        }
        let appended = self.try_append(chunks, positions, runs);
        if appended.is_err() {
            self.close();
        }
        appended
    }

    fn try_append(
        &self,
        chunks: &[Chunk],
        positions: Positions,
        runs: &Runs,
    ) -> Result<(), LogError> {
        let mut state = self.state();
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = database.as_ref().ok_or(LogError::Closed)?.begin_write()?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(redb::Error::from)?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for (first, entry) in self.tail().entries() {
                records.insert(first, entry)?;
                state.bytes += entry.len() as u64;
            }
            let mut rest = chunks;
            while !rest.is_empty() {
                let (together, after) = rest.split_at(chunk::entry_len(rest));
                rest = after;
                let count: u64 = together.iter().map(|chunk| chunk.records).sum();
                let entry = chunk::entry(together, count)?;
                records.insert(state.next_seq, entry.as_slice())?;
                state.next_seq += count;
                state.bytes += entry.len() as u64;
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
            for (id, frame) in &runs.begun {
                open.insert(id.as_bytes(), frame.as_slice())?;
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

    /// The seq up to which the oldest chunks would have to go, so that what stays takes at most
    /// `bytes`; no further than to the chunk that holds `until`.
    pub(crate) fn excess(&self, bytes: u64, until: u64) -> Result<u64, LogError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let transaction = database.as_ref().ok_or(LogError::Closed)?.begin_read()?;
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
            left = left.saturating_sub(chunk.value().len() as u64);
        }
        Ok(end)
    }

    /// Calls `each` with the records from `from` on, until it says that it has enough. Returns
    /// the seq after the last one that it took.
    pub(crate) fn read(
        &self,
        from: u64,
        mut each: impl FnMut(Stored<'_>) -> ControlFlow<()>,
    ) -> Result<u64, LogError> {
        let mut reading = Reading { next: from };
        let in_memory = self.tail().first();
        if in_memory.is_none_or(|first| from < first) {
            match self.read_disk(&mut reading, &mut each) {
                Ok(ControlFlow::Continue(())) => {}
                // What could be read is good; the next call begins at what could not.
                Err(_) if reading.next > from => return Ok(reading.next),
                Ok(ControlFlow::Break(())) => return Ok(reading.next),
                Err(error) => return Err(error),
            }
        }
        // What has gone to disk in between is read from there the next time.
        let tail = self.tail();
        for (first, entry) in tail.entries() {
            if first > reading.next || reading.chunk(first, entry, &mut each)?.is_break() {
                break;
            }
        }
        Ok(reading.next)
    }

    fn read_disk(
        &self,
        reading: &mut Reading,
        each: &mut impl FnMut(Stored<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LogError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let transaction = database.as_ref().ok_or(LogError::Closed)?.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        // The chunk that holds `next` begins at or before it.
        let begin = records
            .range(..=reading.next)?
            .next_back()
            .transpose()?
            .map_or(reading.next, |(seq, _)| seq.value());
        for entry in records.range(begin..)? {
            let (first, chunk) = entry?;
            if reading
                .chunk(first.value(), chunk.value(), each)?
                .is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// How far a reader has come.
struct Reading {
    next: u64,
}

impl Reading {
    /// Reads the records of a chunk that come next.
    fn chunk(
        &mut self,
        first: u64,
        chunk: &[u8],
        each: &mut impl FnMut(Stored<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LogError> {
        for (seq, record) in (first..).zip(chunk::records(chunk)?) {
            let (salt, frame) = record?;
            if seq >= self.next {
                if each(Stored { seq, salt, frame }).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.next = seq + 1;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn open_database(path: &Path) -> Result<Database, LogError> {
    Ok(Database::builder().set_cache_size(CACHE_BYTES).open(path)?)
}

/// What a log says of itself.
fn read_state(transaction: &ReadTransaction) -> Result<State, LogError> {
    let mut state = State::EMPTY;
    let positions = transaction.open_table(POSITIONS)?;
    for sink in Sink::ALL {
        let position = positions.get(sink.name())?.map(|position| position.value());
        // A sink that the log's own process did not know needs nothing of it.
        if let Some(position) = position {
            state.positions = state.positions.with(sink, position);
        }
    }
    // A log that was drained says by its positions how far it had come.
    state.next_seq = state.positions.least();
    (state.first_seq, state.first_end) = (state.next_seq, state.next_seq);
    let records = transaction.open_table(RECORDS)?;
    if let Some((seq, end, _)) = first(&records)? {
        (state.first_seq, state.first_end) = (seq, end);
    }
    if let Some((seq, chunk)) = records.last()? {
        state.next_seq = seq.value() + chunk::count(chunk.value())?;
    }
    // Without reading the records: what they take, and the tree around them.
    state.bytes = records.stats()?.stored_bytes();
    Ok(state)
}

/// The first chunk's seq, the seq after it, and its bytes.
fn first(
    records: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Option<(u64, u64, u64)>, LogError> {
    let Some((seq, chunk)) = records.first()? else {
        return Ok(None);
    };
    let count = chunk::count(chunk.value())?;
    Ok(Some((
        seq.value(),
        seq.value() + count,
        chunk.value().len() as u64,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::chunk::tests::chunk;

    fn at(position: u64) -> Positions {
        Positions::BEGINNING.with(Sink::Postgres, position)
    }

    fn all(log: &Log, from: u64) -> Vec<(u64, Vec<u8>)> {
        let mut all = Vec::new();
        log.read(from, |stored| {
            all.push((stored.seq, stored.frame.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        all
    }

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!(
                "tracing-audit-log-{}",
                crate::record::id::new(0).simple()
            ));
            std::fs::create_dir(&folder).unwrap();
            Self(folder)
        }
        fn file(&self) -> std::path::PathBuf {
            self.0.join("spool.redb")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_appended_is_read_after_opening_again() {
        let folder = Folder::new();
        let writer = Uuid::from_u128(7);
        let log = Log::create(&folder.file(), writer, "svc", Positions::BEGINNING).unwrap();
        log.append(
            &[chunk(&[b"a", b"bb"]), chunk(&[b"ccc"])],
            at(1),
            &Runs::default(),
        )
        .unwrap();
        log.append(&[chunk(&[b"d"])], at(1), &Runs::default())
            .unwrap();
        let expected: Vec<(u64, Vec<u8>)> = vec![
            (1, b"a".to_vec()),
            (2, b"bb".to_vec()),
            (3, b"ccc".to_vec()),
            (4, b"d".to_vec()),
        ];
        assert_eq!(all(&log, 1), expected);
        drop(log);
        let log = Log::open(&folder.file()).unwrap();
        assert_eq!((log.writer(), log.service()), (writer, "svc"));
        assert_eq!((log.first_seq(), log.next_seq()), (1, 5));
        assert_eq!(all(&log, 1), expected);
        assert_eq!(all(&log, 3), expected[2..]);
        assert_eq!(all(&log, 9), []);
    }

    #[test]
    fn only_whole_chunks_before_the_position_are_removed() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", Positions::BEGINNING).unwrap();
        log.append(&[chunk(&[b"a", b"b"])], at(1), &Runs::default())
            .unwrap();
        log.append(&[chunk(&[b"c"])], at(2), &Runs::default())
            .unwrap();
        assert_eq!(log.first_seq(), 1);
        log.append(&[], at(3), &Runs::default()).unwrap();
        assert_eq!(log.first_seq(), 3);
        assert_eq!(all(&log, 3), [(3, b"c".to_vec())]);
        log.append(&[], at(4), &Runs::default()).unwrap();
        assert_eq!((log.first_seq(), log.next_seq(), log.bytes()), (4, 4, 0));
        drop(log);
        let log = Log::open(&folder.file()).unwrap();
        assert_eq!((log.first_seq(), log.next_seq(), log.bytes()), (4, 4, 0));
        assert_eq!(log.position(Sink::Postgres), 4);
        log.append(&[chunk(&[b"d"])], at(4), &Runs::default())
            .unwrap();
        assert_eq!(all(&log, 1), [(4, b"d".to_vec())]);
    }

    #[test]
    fn reading_stops_where_the_reader_has_enough() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", Positions::BEGINNING).unwrap();
        log.append(&[chunk(&[b"a", b"b", b"c"])], at(1), &Runs::default())
            .unwrap();
        let mut seen = 0;
        let next = log
            .read(1, |_| {
                seen += 1;
                if seen > 2 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        assert_eq!(next, 3);
    }

    #[test]
    fn after_a_write_that_failed_it_goes_on_and_writes_nothing_twice() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", Positions::BEGINNING).unwrap();
        log.append(&[chunk(&[b"a"])], at(1), &Runs::default())
            .unwrap();
        // As after a write that failed.
        log.close();
        assert!(matches!(
            log.read(1, |_| ControlFlow::Break(())),
            Err(LogError::Closed)
        ));
        log.append(&[chunk(&[b"b"])], at(1), &Runs::default())
            .unwrap();
        // As after one that was said to have failed, and has reached the disk all the same.
        let before = log.state();
        log.append(&[chunk(&[b"c"])], at(1), &Runs::default())
            .unwrap();
        *log.state.lock().unwrap() = before;
        log.close();
        log.append(&[chunk(&[b"c"])], at(1), &Runs::default())
            .unwrap();
        assert_eq!(
            all(&log, 1),
            [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())]
        );
    }

    /// As when the disk fails: closed, and it cannot be opened again.
    fn fail(log: &Log, folder: &Folder) -> PathBuf {
        let aside = folder.file().with_extension("aside");
        log.close();
        std::fs::rename(folder.file(), &aside).unwrap();
        std::fs::create_dir(folder.file()).unwrap();
        aside
    }

    fn heal(folder: &Folder, aside: &Path) {
        std::fs::remove_dir(folder.file()).unwrap();
        std::fs::rename(aside, folder.file()).unwrap();
    }

    #[test]
    fn what_the_disk_does_not_take_is_read_from_memory_and_goes_to_disk_when_it_does() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
        log.append(&[chunk(&[b"a", b"b"])], at(1), &Runs::default())
            .unwrap();
        let aside = fail(&log, &folder);
        for frame in [&b"c"[..], b"d", b"e"] {
            let chunks = [chunk(&[frame])];
            assert!(log.append(&chunks, at(1), &Runs::default()).is_err());
            assert!(log.keep_in_memory(&chunks, 1_000).unwrap());
        }
        assert!(!log.keep_in_memory(&[chunk(&[&[0; 2_000]])], 1_000).unwrap());
        assert_eq!((log.next_seq(), log.in_memory(1)), (6, 3));
        // Those on disk are out of reach, those in memory are not.
        assert!(log.read(1, |_| ControlFlow::Continue(())).is_err());
        let c = (3, b"c".to_vec());
        let (d, e) = ((4, b"d".to_vec()), (5, b"e".to_vec()));
        assert_eq!(all(&log, 3), [c, d.clone(), e.clone()]);
        // What every sink has is let go.
        assert!(log.append(&[], at(4), &Runs::default()).is_err());
        assert_eq!(log.in_memory(1), 2);
        heal(&folder, &aside);
        log.append(&[chunk(&[b"f"])], at(4), &Runs::default())
            .unwrap();
        assert_eq!(log.in_memory(1), 0);
        let f = (6, b"f".to_vec());
        assert_eq!(all(&log, 4), [d.clone(), e.clone(), f.clone()]);
        drop(log);
        let log = Log::open(&folder.file()).unwrap();
        assert_eq!(all(&log, 4), [d, e, f]);
        assert_eq!(log.next_seq(), 7);
    }

    #[test]
    fn a_write_that_was_said_to_have_failed_and_reached_the_disk_is_there_once() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
        log.append(&[chunk(&[b"a"])], at(1), &Runs::default())
            .unwrap();
        let before = log.state();
        log.append(&[chunk(&[b"b"])], at(1), &Runs::default())
            .unwrap();
        *log.state.lock().unwrap() = before;
        log.close();
        assert!(log.keep_in_memory(&[chunk(&[b"b"])], 1_000).unwrap());
        log.append(&[chunk(&[b"c"])], at(1), &Runs::default())
            .unwrap();
        let frames: Vec<_> = all(&log, 1).into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(frames, [b"a", b"b", b"c"]);
    }

    #[test]
    fn a_run_that_was_begun_and_not_ended_is_a_record_of_the_next_process() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
        let begun = |id: u128| {
            let id = Uuid::from_u128(id);
            let header = encode::Header {
                kind: crate::vocabulary::Kind::QueryRun,
                evidence: encode::Evidence::None,
                id,
                parent: Uuid::nil(),
                root: id,
                started_us: 7,
                duration_us: 0,
            };
            let mut frame = Vec::new();
            encode::begun(&mut frame, &header, &[], &[], &[]);
            (id, frame)
        };
        let runs = Runs {
            begun: vec![begun(1), begun(2)],
            ended: Vec::new(),
        };
        log.append(&[chunk(&[b"a"])], at(1), &runs).unwrap();
        let ended = Runs {
            begun: Vec::new(),
            ended: vec![Uuid::from_u128(1)],
        };
        log.append(&[], at(1), &ended).unwrap();
        drop(log);
        for _ in 0..2 {
            let log = Log::open(&folder.file()).unwrap();
            let all = all(&log, 1);
            assert_eq!(all.len(), 2, "once, however often it is opened");
            assert_eq!(all[0], (1, b"a".to_vec()));
            let (_, id) = encode::kind_and_id(&all[1].1).unwrap();
            assert_eq!(id, Uuid::from_u128(2));
        }
    }

    #[test]
    fn a_chunk_stays_until_every_sink_that_is_there_has_it() {
        let folder = Folder::new();
        let both = at(1).with(Sink::Otlp, 1);
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", both).unwrap();
        for frame in [&b"a"[..], b"b", b"c"] {
            log.append(&[chunk(&[frame])], both, &Runs::default())
                .unwrap();
        }
        log.append(&[], at(4).with(Sink::Otlp, 2), &Runs::default())
            .unwrap();
        assert_eq!(all(&log, 1), [(2, b"b".to_vec()), (3, b"c".to_vec())]);
        assert_eq!(
            (log.waiting(Sink::Otlp), log.waiting(Sink::Postgres)),
            (2, 0)
        );
        drop(log);
        // The next process knows how far each had come; one that exports nothing needs nothing.
        let log = Log::open(&folder.file()).unwrap();
        assert_eq!(log.positions(), at(4).with(Sink::Otlp, 2));
        log.append(&[], at(4), &Runs::default()).unwrap();
        assert_eq!(all(&log, 1), []);
        assert_eq!(log.waiting(Sink::Otlp), 0);
        drop(log);
        let log = Log::open(&folder.file()).unwrap();
        assert_eq!((log.next_seq(), log.positions()), (4, at(4)));
    }

    #[test]
    fn a_log_of_a_process_that_knew_no_other_sink_is_needed_by_none() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
        log.append(&[chunk(&[b"a"])], at(1), &Runs::default())
            .unwrap();
        drop(log);
        let database = Database::open(folder.file()).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(POSITIONS)
            .unwrap()
            .remove(Sink::Otlp.name())
            .unwrap();
        transaction.commit().unwrap();
        drop(database);
        let log = Log::open(&folder.file()).unwrap();
        assert_eq!(
            (log.waiting(Sink::Otlp), log.waiting(Sink::Postgres)),
            (0, 1)
        );
    }

    #[test]
    fn the_excess_ends_where_the_rest_fits() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", at(1)).unwrap();
        for _ in 0..10 {
            log.append(
                &[chunk(&[&[0; 1_000], &[1; 1_000]])],
                at(1),
                &Runs::default(),
            )
            .unwrap();
        }
        let whole = log.bytes();
        assert_eq!(log.excess(whole, 21).unwrap(), 0);
        assert_eq!(log.excess(whole - 1, 21).unwrap(), 3);
        assert_eq!(log.excess(whole / 2, 21).unwrap(), 11);
        assert_eq!(log.excess(0, 21).unwrap(), 21);
        assert_eq!(log.excess(0, 5).unwrap(), 5);
    }

    #[test]
    fn salts_differ() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", Positions::BEGINNING).unwrap();
        log.append(&[chunk(&[b"a", b"b"])], at(1), &Runs::default())
            .unwrap();
        let mut salts = Vec::new();
        log.read(1, |stored| {
            salts.push(stored.salt);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_ne!(salts[0], salts[1]);
        assert_ne!(salts[0], [0; 16]);
    }
}
