//! Where the log is read from, when only what was committed since a time is to be verified.
//!
//! The time of a batch is part of its entry. So the database's own answer is not relied on: the tile before the one that it
//! names is read, and has to be what its node in the log's tree says, and older.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tracing_audit::__program::ledger::tree::{self, Hash, Subtree};

use super::binary;
use super::log::{QUERY, entry};

/// How many entries a tile has, and the level of its root.
const TILE: i64 = 256;
const TILE_LEVEL: u8 = 8;

/// The time, in microseconds since 2000, and the first entry of a batch that was committed since.
const FIRST: &str = "
    SELECT (extract(epoch FROM t.since) * 1000000)::bigint - 946684800000000,
        coalesce((SELECT min(l.index) FROM audit.batches b JOIN audit.ledger l ON l.writer_id = b.writer_id AND l.first_seq = b.first_seq WHERE b.committed_at >= t.since),
            (SELECT coalesce(max(index) + 1, 0) FROM audit.ledger))
    FROM (SELECT now() - make_interval(secs => $1) AS since) t";

/// Returns the entry from which on the log is read: the first of a tile, and none behind the smallest of the sizes at which
/// the log is compared. Also returns the time, in microseconds since 2000.
pub(super) async fn first(
    connection: &mut PgConnection,
    since: Duration,
    wanted: &[u64],
) -> Result<(i64, i64), sqlx::Error> {
    let (since_us, first): (i64, i64) = sqlx::query_as(FIRST)
        .bind(since.as_secs_f64())
        .persistent(false)
        .fetch_one(&mut *connection)
        .await?;
    let smallest = wanted
        .iter()
        .filter_map(|size| i64::try_from(*size).ok())
        .min();
    let mut tile = first.min(smallest.unwrap_or(first)) / TILE;
    while tile > 0 && !is_older(connection, tile - 1, since_us).await? {
        tile -= 1;
    }
    Ok((tile * TILE, since_us))
}

/// Whether all batches of a tile are older, by entries that have the hash that the log's tree has.
async fn is_older(
    connection: &mut PgConnection,
    tile: i64,
    since_us: i64,
) -> Result<bool, sqlx::Error> {
    let Ok(index) = u64::try_from(tile) else {
        return Ok(false);
    };
    let (from, to) = (tile * TILE, (tile + 1) * TILE);
    let query = format!("{QUERY} WHERE l.index >= {from} AND l.index < {to} ORDER BY l.index")
        .replace("FULL JOIN", "LEFT JOIN");
    let mut hashes: Vec<Hash> = Vec::new();
    let mut are_older = true;
    binary::read(connection, &query, |mut row| {
        row.images(5)?;
        match entry(row)? {
            Some(entry) => {
                are_older &= entry.batch.committed_us < since_us;
                hashes.push(tree::leaf_hash(&entry.bytes));
            }
            None => are_older = false,
        }
        Ok(())
    })
    .await?;
    let node = Subtree {
        level: TILE_LEVEL,
        index,
    };
    let node = super::nodes::of_log(connection, node).await?;
    Ok(are_older && node == Some(tree::root(&hashes)))
}
