//! The nodes of the log's tree, by what the database has of them.

use sqlx::postgres::PgConnection;
use tracing_audit::__program::ledger::tiles::NodeInTile;
use tracing_audit::__program::ledger::tree::{self, Hash, Subtree};

use super::binary;

/// Returns the hash of a node; `None` if the log has not so many entries.
pub(crate) async fn of_log(
    connection: &mut PgConnection,
    node: Subtree,
) -> Result<Option<Hash>, sqlx::Error> {
    let Some(place) = NodeInTile::of(node) else {
        return Ok(None);
    };
    let range = place.hashes();
    let query = match place.level {
        0 => format!(
            "SELECT entry_hash FROM audit.ledger WHERE index >= {} AND index < {} ORDER BY index",
            range.start, range.end
        ),
        level => format!(
            "SELECT hash FROM audit.ledger_nodes WHERE level = {level} AND index >= {} AND index < {} ORDER BY index",
            range.start, range.end
        ),
    };
    let mut hashes = Vec::new();
    binary::read(connection, &query, |mut row| {
        hashes.extend(row.fixed()?);
        Ok(())
    })
    .await?;
    Ok((hashes.len() as u64 == range.end - range.start).then(|| tree::root(&hashes)))
}
