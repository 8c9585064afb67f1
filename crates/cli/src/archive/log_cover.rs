//! What stands for the entries of the log that are not of a set.

use std::collections::{BTreeSet, HashMap};

use sqlx::postgres::PgConnection;
use tracing_audit::__program::ledger::tree::{self, Hash, Subtree};

use crate::verify::{binary, nodes};

/// How many entries the smallest subtree has that the database keeps.
const TILE: u64 = 256;

/// Returns the hashes of the subtrees that cover these ranges of the log; `None` if the log has not as many entries.
pub(super) async fn hashes(
    connection: &mut PgConnection,
    ranges: Vec<(u64, u64)>,
) -> Result<Option<Vec<Hash>>, sqlx::Error> {
    let nodes: Vec<Subtree> = ranges
        .into_iter()
        .flat_map(|(from, to)| tree::cover(from, to))
        .collect();
    let entries = entries(connection, &nodes).await?;
    let mut hashes = Vec::with_capacity(nodes.len());
    for node in nodes {
        let hash = match small(node) {
            Some((from, to)) => {
                let leaves: Option<Vec<Hash>> = (from..to)
                    .map(|index| entries.get(&index).copied())
                    .collect();
                leaves.map(|leaves| tree::root(&leaves))
            }
            None => nodes::of_log(connection, node).await?,
        };
        let Some(hash) = hash else { return Ok(None) };
        hashes.push(hash);
    }
    Ok(Some(hashes))
}

/// Returns the entries of a subtree that is smaller than those that the database keeps.
fn small(node: Subtree) -> Option<(u64, u64)> {
    node.leaves().filter(|(from, to)| to - from < TILE)
}

/// Reads the hashes of all entries of small subtrees: by whole tiles, since most of what is between two batches of a day is
/// in a few of them.
async fn entries(
    connection: &mut PgConnection,
    nodes: &[Subtree],
) -> Result<HashMap<u64, Hash>, sqlx::Error> {
    let small = nodes.iter().filter_map(|node| small(*node));
    let tiles: BTreeSet<u64> = small.map(|(from, _)| from / TILE).collect();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for tile in tiles {
        match runs.last_mut() {
            Some((_, end)) if *end == tile => *end += 1,
            _ => runs.push((tile, tile + 1)),
        }
    }
    let mut entries = HashMap::new();
    for (from, to) in runs {
        let query = format!(
            "SELECT index, entry_hash FROM audit.ledger WHERE index >= {} AND index < {}",
            from * TILE,
            to * TILE
        );
        binary::read(connection, &query, |mut row| {
            let (index, hash) = (row.i64()?, row.fixed()?);
            let index = index.and_then(|index| u64::try_from(index).ok());
            entries.extend(index.zip(hash));
            Ok(())
        })
        .await?;
    }
    Ok(entries)
}
