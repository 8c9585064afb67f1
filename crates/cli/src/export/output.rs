//! Where an export goes: through a format, counted and hashed, to a file, a pipe or a browser.

use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use sqlx::types::Uuid;
use tokio::time::timeout;
use tracing_audit::__program::Table;

use super::columns;
use super::encoder::Encoder;
use super::sealed::Sealed;
use super::values::{Record, hex};
use crate::outline::Outline;
use crate::row::Row;
use crate::text::grouped;

/// How many bytes are sent at once.
const CHUNK: usize = 256 * 1024;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Takes the bytes of an export.
pub(crate) trait Sink: Send {
    /// Takes some bytes; waits while there is no room for them.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes what was taken durable, where that means something.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// How long a chunk waits for its receiver, who takes some kilobytes a second then.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// Bytes for whoever receives them in chunks, such as the body of an HTTP response. Ends with an error
/// once the receiver is gone, or too slow: meanwhile Postgres keeps a snapshot for it.
impl Sink for tokio::sync::mpsc::Sender<Vec<u8>> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match timeout(MAX_WAIT, self.send(bytes.to_vec())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many records were written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) by_table: [u64; Table::ALL.len()],
    /// Of those, the ones whose texts could not be read.
    pub(crate) unread: u64,
    /// Of those, the ones that were read in an archive.
    pub(crate) archived: u64,
}

impl Tally {
    /// Returns the number of all records.
    pub(crate) fn total(&self) -> u64 {
        self.by_table.iter().sum()
    }
}

/// A record that is to be proven, by where it is in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) id: Uuid,
    pub(crate) writer: Uuid,
    pub(crate) seq: i64,
}

/// The way from a record to the sink.
pub(crate) struct Output<'s, S> {
    encoder: Box<dyn Encoder>,
    sink: &'s mut S,
    buffer: Vec<u8>,
    hash: Sha256,
    pub(crate) bytes: u64,
    pub(crate) tally: Tally,
    /// What is known of the ledger.
    pub(crate) sealed: Option<Sealed>,
    /// The records that are to be proven, at most so many and one more.
    pub(crate) places: Option<(usize, Vec<Place>)>,
    progress: Option<Progress>,
}

impl<'s, S: Sink> Output<'s, S> {
    pub(crate) fn new(encoder: Box<dyn Encoder>, sink: &'s mut S, is_shown: bool) -> Self {
        Self {
            encoder,
            sink,
            buffer: Vec::with_capacity(CHUNK + 64 * 1024),
            hash: Sha256::new(),
            bytes: 0,
            tally: Tally::default(),
            sealed: None,
            places: None,
            progress: (is_shown && io::stderr().is_terminal()).then(Progress::new),
        }
    }

    /// Writes what comes before the records.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.encoder.begin(&mut self.buffer)
    }

    /// Writes a record.
    pub(crate) fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.encoder.record(&mut self.buffer, record)?;
        let place = Place {
            id: record.id(),
            writer: record.uuid(columns::WRITER_ID).unwrap_or_default(),
            seq: record.number(columns::SEQ).unwrap_or_default(),
        };
        self.count(record.table, place, record.unread.is_some());
        Ok(())
    }

    /// Counts a record that was written.
    fn count(&mut self, table: Table, place: Place, is_unread: bool) {
        let number = Table::ALL.iter().position(|known| *known == table);
        self.tally.by_table[number.unwrap_or_default()] += 1;
        self.tally.unread += u64::from(is_unread);
        if let Some(sealed) = &mut self.sealed {
            sealed.count(place.id, place.writer, place.seq);
        }
        if let Some((most, places)) = &mut self.places
            && places.len() <= *most
        {
            places.push(place);
        }
    }

    /// Writes what the records of a story share.
    pub(crate) fn outline(&mut self, outline: &Outline) {
        self.encoder.outline(&mut self.buffer, outline);
    }

    /// Writes a record of a story.
    pub(crate) fn row(&mut self, row: &Row, id: Uuid, depth: usize) {
        self.encoder.row(&mut self.buffer, row, depth);
        let writer = row.text("writer_id").and_then(|id| id.parse().ok());
        let place = Place {
            id,
            writer: writer.unwrap_or_default(),
            seq: row.number("seq").unwrap_or_default(),
        };
        self.count(row.table, place, row.unread.is_some());
    }

    /// Hands over what there is if it is enough.
    pub(crate) async fn send_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= CHUNK {
            self.send().await?;
        }
        Ok(())
    }

    /// Hands over what there is.
    async fn send(&mut self) -> io::Result<()> {
        self.hash.update(&self.buffer);
        self.bytes += u64::try_from(self.buffer.len()).unwrap_or_default();
        self.sink.write(&self.buffer).await?;
        self.buffer.clear();
        // That of a large record is not kept.
        self.buffer.shrink_to(CHUNK * 4);
        if let Some(progress) = &mut self.progress {
            progress.show(self.tally.total());
        }
        Ok(())
    }

    /// Writes what comes after the records, and makes all of it durable. Returns its SHA-256.
    pub(crate) async fn end(&mut self) -> io::Result<String> {
        self.encoder.end(&mut self.buffer)?;
        self.send().await?;
        self.sink.finish().await?;
        Ok(hex(&std::mem::take(&mut self.hash).finalize()))
    }
}

/// Shows on a terminal how far an export has come; takes its line away on drop.
#[derive(Debug)]
struct Progress {
    begun: Instant,
    shown: Instant,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            shown: now,
        }
    }

    fn show(&mut self, records: u64) {
        if self.shown.elapsed() < SHOW_EVERY {
            return;
        }
        self.shown = Instant::now();
        let count = |count: u64| grouped(i64::try_from(count).unwrap_or(i64::MAX));
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rate = records.saturating_mul(1_000) / ms.max(1);
        // If there is no terminal any more, nobody looks.
        let _ = write!(
            io::stderr(),
            "\r\x1b[K{} records, {} a second",
            count(records),
            count(rate)
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}
