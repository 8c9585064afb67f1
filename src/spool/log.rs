//! Append, read, and give up what is committed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition,
};
use uuid::Uuid;

use super::chunk::{self, SALT_BYTES};
use crate::queue::Chunk;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("records");
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
    #[error("the local log was closed after a write that failed")]
    Closed,
    #[error("no random bytes from the system")]
    Random(#[source] getrandom::Error),
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
        })
    }

    /// Opens a log that another process left.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        let database = open_database(path)?;
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
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
        Ok(Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            writer,
            service: service.unwrap_or_default(),
            state: Mutex::new(state),
        })
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
            let state = read_state(&reopened.begin_read()?)?;
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
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

    /// Bytes stored.
    pub(crate) fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Appends the records of `chunks`, stores the sinks' positions, and removes the chunks that
    /// no sink needs any more, in one transaction.
    ///
    /// # Durability
    ///
    /// When it returns `Ok`, the records are on disk. When it fails, call it again with the same
    /// chunks: if the failed write has reached the disk after all, they are not written twice.
    pub(crate) fn append(&self, chunks: &[Chunk], positions: Positions) -> Result<(), LogError> {
        let before = self.next_seq();
        self.reopen()?;
        if self.next_seq() > before {
            return Ok(());
        }
        let appended = self.try_append(chunks, positions);
        if appended.is_err() {
            self.close();
        }
        appended
    }

    fn try_append(&self, chunks: &[Chunk], positions: Positions) -> Result<(), LogError> {
        let mut state = self.state();
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = database.as_ref().ok_or(LogError::Closed)?.begin_write()?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(redb::Error::from)?;
        {
            let mut records = transaction.open_table(RECORDS)?;
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
        if state.positions != positions {
            let mut stored = transaction.open_table(POSITIONS)?;
            for sink in Sink::ALL {
                stored.insert(sink.name(), positions.of(sink))?;
            }
            state.positions = positions;
        }
        transaction.commit()?;
        *self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = state;
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
        mut each: impl FnMut(Stored<'_>) -> std::ops::ControlFlow<()>,
    ) -> Result<u64, LogError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let transaction = database.as_ref().ok_or(LogError::Closed)?.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        // The chunk that holds `from` begins at or before it.
        let begin = records
            .range(..=from)?
            .next_back()
            .transpose()?
            .map_or(from, |(seq, _)| seq.value());
        let mut next = from;
        for entry in records.range(begin..)? {
            let (first, chunk) = entry?;
            for (seq, record) in (first.value()..).zip(chunk::records(chunk.value())?) {
                let (salt, frame) = record?;
                if seq >= next {
                    if each(Stored { seq, salt, frame }).is_break() {
                        return Ok(next);
                    }
                    next = seq + 1;
                }
            }
        }
        Ok(next)
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
    use std::ops::ControlFlow;

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
        log.append(&[chunk(&[b"a", b"bb"]), chunk(&[b"ccc"])], at(1))
            .unwrap();
        log.append(&[chunk(&[b"d"])], at(1)).unwrap();
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
        log.append(&[chunk(&[b"a", b"b"])], at(1)).unwrap();
        log.append(&[chunk(&[b"c"])], at(2)).unwrap();
        assert_eq!(log.first_seq(), 1);
        log.append(&[], at(3)).unwrap();
        assert_eq!(log.first_seq(), 3);
        assert_eq!(all(&log, 3), [(3, b"c".to_vec())]);
        log.append(&[], at(4)).unwrap();
        assert_eq!((log.first_seq(), log.next_seq(), log.bytes()), (4, 4, 0));
        drop(log);
        let log = Log::open(&folder.file()).unwrap();
        assert_eq!((log.first_seq(), log.next_seq(), log.bytes()), (4, 4, 0));
        assert_eq!(log.position(Sink::Postgres), 4);
        log.append(&[chunk(&[b"d"])], at(4)).unwrap();
        assert_eq!(all(&log, 1), [(4, b"d".to_vec())]);
    }

    #[test]
    fn reading_stops_where_the_reader_has_enough() {
        let folder = Folder::new();
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", Positions::BEGINNING).unwrap();
        log.append(&[chunk(&[b"a", b"b", b"c"])], at(1)).unwrap();
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
        log.append(&[chunk(&[b"a"])], at(1)).unwrap();
        // As after a write that failed.
        log.close();
        assert!(matches!(
            log.read(1, |_| ControlFlow::Break(())),
            Err(LogError::Closed)
        ));
        log.append(&[chunk(&[b"b"])], at(1)).unwrap();
        // As after one that was said to have failed, and has reached the disk all the same.
        let before = log.state();
        log.append(&[chunk(&[b"c"])], at(1)).unwrap();
        *log.state.lock().unwrap() = before;
        log.close();
        log.append(&[chunk(&[b"c"])], at(1)).unwrap();
        assert_eq!(
            all(&log, 1),
            [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())]
        );
    }

    #[test]
    fn a_chunk_stays_until_every_sink_that_is_there_has_it() {
        let folder = Folder::new();
        let both = at(1).with(Sink::Otlp, 1);
        let log = Log::create(&folder.file(), Uuid::nil(), "svc", both).unwrap();
        for frame in [&b"a"[..], b"b", b"c"] {
            log.append(&[chunk(&[frame])], both).unwrap();
        }
        log.append(&[], at(4).with(Sink::Otlp, 2)).unwrap();
        assert_eq!(all(&log, 1), [(2, b"b".to_vec()), (3, b"c".to_vec())]);
        assert_eq!(
            (log.waiting(Sink::Otlp), log.waiting(Sink::Postgres)),
            (2, 0)
        );
        drop(log);
        // The next process knows how far each had come; one that exports nothing needs nothing.
        let log = Log::open(&folder.file()).unwrap();
        assert_eq!(log.positions(), at(4).with(Sink::Otlp, 2));
        log.append(&[], at(4)).unwrap();
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
        log.append(&[chunk(&[b"a"])], at(1)).unwrap();
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
            log.append(&[chunk(&[&[0; 1_000], &[1; 1_000]])], at(1))
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
        log.append(&[chunk(&[b"a", b"b"])], at(1)).unwrap();
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
