//! How batches are cut, and how long the connection that writes them is kept.

use std::time::Duration;

use super::Builder;

const DEFAULT_BATCH_ROWS: usize = 5_000;
const MAX_BATCH_ROWS: usize = 100_000;
const DEFAULT_BATCH_AGE: Duration = Duration::from_millis(100);
const MAX_BATCH_AGE: Duration = Duration::from_mins(1);

/// The bytes of records at which a batch is cut as well.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

const DEFAULT_KEPT: Duration = Duration::from_secs(30);

/// The longest time that an idle connection is kept: a firewall may have forgotten an older one. A
/// new connection costs milliseconds, finding that out costs a minute.
const LONGEST_KEPT: Duration = Duration::from_mins(2);

/// The limits at which a batch is cut, and what becomes of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batching {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
    pub(crate) hash: bool,
    /// How long the connection stays open after a batch.
    pub(crate) kept: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            rows: DEFAULT_BATCH_ROWS,
            bytes: BATCH_BYTES,
            age: DEFAULT_BATCH_AGE,
            hash: true,
            kept: DEFAULT_KEPT,
        }
    }
}

impl Builder {
    /// Sets when a batch is written: at this many rows (default 5,000, range 1 to 100,000), or this
    /// long after its first record (default 100 ms, at most 60 s), whichever comes first.
    ///
    /// A batch is also cut at 4 MiB of records. Larger batches cost Postgres less per row; younger
    /// ones are visible sooner.
    pub fn batch(mut self, max_rows: usize, max_age: Duration) -> Self {
        self.batch.rows = max_rows.clamp(1, MAX_BATCH_ROWS);
        self.batch.age = max_age.min(MAX_BATCH_AGE);
        self
    }

    /// Sets whether rows are hashed as they are written; else the ledger proves none of them. Default: yes.
    pub fn hash_batches(mut self, hash: bool) -> Self {
        self.batch.hash = hash;
        self
    }

    /// Sets how long the connection to Postgres stays open when there is nothing to write (default
    /// 30 s, at most 2 min). With zero it is closed as soon as all records are written, and opened
    /// for the next batch.
    ///
    /// A process has at most one connection. Where many processes share a server and each records
    /// now and then, a short time leaves the server with few connections. Opening one costs the
    /// server some milliseconds of CPU, so with a short time the batches should be
    /// [older](Self::batch), such as one second. A pooler such as pgbouncer costs less.
    pub fn keep_connection(mut self, idle: Duration) -> Self {
        self.batch.kept = idle.min(LONGEST_KEPT);
        self
    }
}
