//! The nodes of the log's tree, by what the database has of them.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use tracing_audit::__program::ledger::tiles::NodeInTile;
use tracing_audit::__program::ledger::tree::{self, Hash, Subtree};

use super::binary;
use super::finding::{Finding, Kind, MOST_NAMED};

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

/// The roots of the full subtrees that `audit.ledger_nodes` has.
#[derive(Default)]
pub(super) struct Nodes {
    /// What is not a full subtree yet, of each level.
    growing: Vec<Vec<Hash>>,
    known: HashMap<(i64, i64), Hash>,
    counts: Vec<i64>,
    /// Whether the first entries were left out: then only those of the first level are known.
    is_partial: bool,
}

impl Nodes {
    /// How many of a level make one of the next.
    const WIDTH: usize = 256;

    pub(super) fn append(&mut self, entry: Hash) {
        let mut hash = entry;
        for level in 0.. {
            if self.growing.len() == level {
                self.growing.push(Vec::new());
                self.counts.push(0);
            }
            self.growing[level].push(hash);
            if self.growing[level].len() < Self::WIDTH {
                return;
            }
            if self.is_partial && level > 0 {
                self.growing[level].clear();
                return;
            }
            hash = tree::root(&std::mem::take(&mut self.growing[level]));
            let place = (
                i64::try_from(level + 1).unwrap_or(i64::MAX),
                self.counts[level],
            );
            self.counts[level] += 1;
            self.known.insert(place, hash);
        }
    }

    /// Begins behind full subtrees of the first level.
    pub(super) fn begin_at(&mut self, first: i64) {
        let mut rest = first;
        while rest > 0 {
            rest /= 256;
            self.growing.push(Vec::new());
            self.counts.push(rest);
        }
        self.is_partial = true;
    }

    /// Compares those of the database with those that its entries have.
    pub(super) async fn compare(
        mut self,
        connection: &mut PgConnection,
    ) -> Result<Vec<Finding>, sqlx::Error> {
        let mut findings = Vec::new();
        let from = if self.is_partial {
            format!(
                " WHERE level = 1 AND index >= {}",
                self.known
                    .keys()
                    .map(|(_, index)| *index)
                    .min()
                    .unwrap_or(i64::MAX)
            )
        } else {
            String::new()
        };
        let query = format!("SELECT level::bigint, index, hash FROM audit.ledger_nodes{from}");
        if self.is_partial {
            self.known.retain(|(level, _), _| *level == 1);
        }
        binary::read(connection, &query, |mut row| {
            let place = (
                row.i64()?.unwrap_or_default(),
                row.i64()?.unwrap_or_default(),
            );
            let hash: Option<Hash> = row.fixed()?;
            if self.known.remove(&place) != hash {
                findings.push(place);
            }
            Ok(())
        })
        .await?;
        findings.extend(self.known.into_keys());
        let named = findings.into_iter().take(MOST_NAMED).map(|(level, index)| {
            let detail = format!("audit.ledger_nodes, level {level}, index {index}: it is not what the entries below it have");
            Finding::new(Kind::LedgerChanged, detail)
        });
        Ok(named.collect())
    }
}
