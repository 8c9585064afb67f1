//! The connection to the database, which makes the log.
//!
//! As everywhere in this library, a connection is never used again after an error or a missed deadline, and no setting
//! outlives its transaction. The `search_path` is set in each, so that no operator of somebody else's is called.

use std::ops::Range;
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Executor as _, Row as _};

use super::edge::{self, Edge};
use super::error::SealError;
use crate::database::Servers;
use crate::ledger::checkpoint::UnixSeconds;
use crate::ledger::paths::Head;
use crate::ledger::tree::Hash;

/// How long connecting to one server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one transaction may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_mins(1);

/// How many batches are sealed in one transaction.
pub(super) const MOST_BATCHES: i32 = 2000;

/// With `synchronous_commit` off, a batch would be signed that a crash of the server could still undo.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = pg_catalog, pg_temp; \
     SET LOCAL statement_timeout = '55s'; SET LOCAL lock_timeout = '30s'; \
     SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";

/// A connection to the database of the trail.
#[derive(Debug)]
pub(super) struct Ledger {
    connection: PgConnection,
    place: String,
}

/// What was sealed in one transaction.
#[derive(Debug)]
pub(super) struct Sealed {
    /// The size of the log.
    pub(super) size: u64,
    pub(super) batches: u64,
    /// Since which transaction to ask next.
    pub(super) next: String,
}

/// An entry as it is published: `None` if its batch is not there any more.
pub(super) type Entry = (Option<Vec<u8>>, Hash);

impl Ledger {
    pub(super) async fn connect(servers: &Servers) -> Result<Self, SealError> {
        let place = servers.place();
        match servers.connect(CONNECT_TIMEOUT).await {
            Ok((connection, _)) => Ok(Self { connection, place }),
            Err(why) => Err(SealError::Unreachable { place, why }),
        }
    }

    /// Returns where the database is.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Seals what is not sealed yet, of transactions since one; at most [`MOST_BATCHES`].
    pub(super) async fn seal(&mut self, since: &str) -> Result<Sealed, SealError> {
        let query = sqlx::query("SELECT size, sealed, next::text FROM audit.seal($1::xid8, $2)")
            .bind(since)
            .bind(MOST_BATCHES);
        let rows = self.run(query).await?;
        let sealed = rows.first().map(|row| {
            Ok(Sealed {
                size: row.try_get::<i64, _>(0)?.cast_unsigned(),
                batches: row.try_get::<i64, _>(1)?.cast_unsigned(),
                next: row.try_get(2)?,
            })
        });
        sealed
            .unwrap_or(Err(sqlx::Error::RowNotFound))
            .map_err(|error| self.error(error))
    }

    /// Returns the edge of the tree of the log's first entries.
    async fn edge(&mut self, size: u64) -> Result<Edge, SealError> {
        let ranges: Vec<_> = (0..edge::LEVELS)
            .map(|level| {
                let (from, to) = edge::range(size, level);
                // There are fewer than ten.
                (u8::try_from(level).unwrap_or(u8::MAX), from..to)
            })
            .collect();
        let levels = self.hashes_of_levels(&ranges, size).await?;
        Edge::of(size, levels).ok_or_else(|| self.damaged(size))
    }

    /// Returns the hashes of ranges of levels of tiles, all of them below the tree of the log's first entries.
    pub(super) async fn hashes_of_levels(
        &mut self,
        ranges: &[(u8, Range<u64>)],
        size: u64,
    ) -> Result<Vec<Vec<Hash>>, SealError> {
        let levels: Vec<_> = ranges.iter().map(|(level, _)| i16::from(*level)).collect();
        let (from, to): (Vec<_>, Vec<_>) = ranges
            .iter()
            .map(|(_, range)| (range.start.cast_signed(), range.end.cast_signed()))
            .unzip();
        let query = sqlx::query(
            "SELECT r.number, n.hash FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS r (level, first, last, number), LATERAL (
                SELECT l.index, l.entry_hash AS hash FROM audit.ledger l WHERE r.level = 0 AND l.index >= r.first AND l.index < r.last
                UNION ALL
                SELECT m.index, m.hash FROM audit.ledger_nodes m WHERE m.level = r.level AND m.index >= r.first AND m.index < r.last) n
             ORDER BY r.number, n.index",
        )
        .bind(levels)
        .bind(from)
        .bind(to);
        let rows = self.run(query).await?;
        let mut found = vec![Vec::new(); ranges.len()];
        for row in rows {
            let (number, hash) = numbered_hash(&row).map_err(|error| self.error(error))?;
            if let Some(hashes) = found.get_mut(number) {
                hashes.push(hash);
            }
        }
        let is_whole = ranges
            .iter()
            .zip(&found)
            .all(|((_, range), hashes)| hashes.len() as u64 == range.end - range.start);
        if is_whole {
            Ok(found)
        } else {
            Err(self.damaged(size))
        }
    }

    /// Returns the size of the log.
    pub(super) async fn size(&mut self) -> Result<u64, SealError> {
        let query = sqlx::query("SELECT coalesce(max(index) + 1, 0) FROM audit.ledger");
        let rows = self.run(query).await?;
        let size = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0));
        Ok(size.map_err(|error| self.error(error))?.cast_unsigned())
    }

    /// Returns the edge of the tree that a signed checkpoint is of.
    pub(super) async fn edge_at(
        &mut self,
        signed: Head,
        signed_by: &str,
    ) -> Result<Edge, SealError> {
        let size = self.size().await?;
        if signed.size > size {
            return Err(SealError::Behind {
                place: self.place.clone(),
                size,
                signed_by: signed_by.to_owned(),
                signed: signed.size,
            });
        }
        let edge = self.edge(signed.size).await?;
        if edge.head() == signed {
            Ok(edge)
        } else {
            Err(SealError::Fork {
                place: self.place.clone(),
                size: signed.size,
                signed_by: signed_by.to_owned(),
            })
        }
    }

    /// Returns the edge of the tree as it is now.
    pub(super) async fn newest_edge(&mut self) -> Result<Edge, SealError> {
        let size = self.size().await?;
        self.edge(size).await
    }

    /// Returns hashes of entries, from one on, at most so many.
    pub(super) async fn hashes(&mut self, from: u64, to: u64) -> Result<Vec<Hash>, SealError> {
        let query = sqlx::query(
            "SELECT index, entry_hash FROM audit.ledger WHERE index >= $1 AND index < $2 ORDER BY index",
        )
        .bind(from.cast_signed())
        .bind(to.cast_signed());
        let rows = self.run(query).await?;
        let read = |row: &PgRow| Ok((row.try_get(0)?, hash(row, 1)?));
        let numbered = rows.iter().map(read).collect::<Result<_, _>>();
        let numbered = numbered.map_err(|error| self.error(error))?;
        self.contiguous(from, to, numbered)
    }

    /// Returns entries as they are published, from one on.
    pub(super) async fn entries(&mut self, from: u64, to: u64) -> Result<Vec<Entry>, SealError> {
        let most = i32::try_from(to - from).unwrap_or(i32::MAX);
        let query =
            sqlx::query("SELECT index, entry, entry_hash FROM audit.ledger_entries($1, $2)")
                .bind(from.cast_signed())
                .bind(most);
        let rows = self.run(query).await?;
        let read = |row: &PgRow| Ok((row.try_get(0)?, (row.try_get(1)?, hash(row, 2)?)));
        let numbered = rows.iter().map(read).collect::<Result<_, _>>();
        let numbered = numbered.map_err(|error| self.error(error))?;
        self.contiguous(from, to, numbered)
    }

    /// Returns what is numbered, if no number is missing.
    fn contiguous<T>(
        &self,
        from: u64,
        to: u64,
        numbered: Vec<(i64, T)>,
    ) -> Result<Vec<T>, SealError> {
        let mut expected = from..to;
        let is_whole = numbered
            .iter()
            .all(|(index, _)| expected.next() == Some(index.cast_unsigned()));
        if is_whole && expected.next().is_none() {
            Ok(numbered.into_iter().map(|(_, value)| value).collect())
        } else {
            Err(self.damaged(to))
        }
    }

    fn damaged(&self, size: u64) -> SealError {
        SealError::Damaged {
            place: self.place.clone(),
            size,
        }
    }

    /// Keeps a checkpoint beside the log.
    pub(super) async fn note_checkpoint(
        &mut self,
        origin: &str,
        size: u64,
        note: &str,
        signed_at: UnixSeconds,
    ) -> Result<(), SealError> {
        let query =
            sqlx::query("SELECT audit.note_checkpoint($1, $2, $3, to_timestamp($4::bigint))")
                .bind(origin)
                .bind(size.cast_signed())
                .bind(note)
                .bind(signed_at.cast_signed());
        self.run(query).await.map(drop)
    }

    /// Runs a query in a transaction of its own.
    async fn run(
        &mut self,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<PgRow>, SealError> {
        let connection = &mut self.connection;
        let running = async {
            connection.execute(BEGIN).await?;
            let rows = query.persistent(false).fetch_all(&mut *connection).await?;
            connection.execute("COMMIT").await?;
            Ok(rows)
        };
        match tokio::time::timeout(EXCHANGE_TIMEOUT, running).await {
            Ok(done) => done.map_err(|error| self.error(error)),
            Err(_) => Err(SealError::NoAnswer {
                place: self.place.clone(),
                seconds: EXCHANGE_TIMEOUT.as_secs(),
            }),
        }
    }

    fn error(&self, source: sqlx::Error) -> SealError {
        let code = match &source {
            sqlx::Error::Database(error) => error.code().unwrap_or_default(),
            _ => std::borrow::Cow::Borrowed(""),
        };
        let advice = match &*code {
            "42501" => {
                "; this login may not seal: run `tracing-audit migrate --sealer-login LOGIN` as an administrator"
            }
            "3F000" | "42P01" | "42883" | "42703" => {
                "; the audit tables are missing or old: run `tracing-audit migrate`"
            }
            "25006" => "; the server is read-only: name the primary",
            _ => "",
        };
        SealError::Database {
            place: self.place.clone(),
            source,
            advice,
        }
    }
}

fn hash(row: &PgRow, column: usize) -> Result<Hash, sqlx::Error> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes
        .try_into()
        .map_err(|_| sqlx::Error::Decode("a hash has another length".into()))
}

/// Reads which of the ranges a hash is of, and the hash.
fn numbered_hash(row: &PgRow) -> Result<(usize, Hash), sqlx::Error> {
    let number: i64 = row.try_get(0)?;
    Ok((
        usize::try_from(number - 1).unwrap_or(usize::MAX),
        hash(row, 1)?,
    ))
}
