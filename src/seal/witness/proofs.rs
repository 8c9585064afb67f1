//! Consistency proofs from the database's ledger.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::error::WitnessError;
use crate::database::Servers;
use crate::ledger::checkpoint::UnixSeconds;
use crate::ledger::paths;
use crate::ledger::tiles::NodeInTile;
use crate::ledger::tree::{Hash, Subtree};
use crate::seal::error::SealError;
use crate::seal::ledger::Ledger;

/// The connection from which proofs for all witnesses are made.
#[derive(Debug)]
pub(super) struct Proofs {
    servers: Servers,
    ledger: Option<Ledger>,
    /// The last proof: several witnesses often need the same.
    last: Option<((u64, u64), Vec<Hash>)>,
}

impl Proofs {
    pub(super) fn new(servers: Servers) -> Self {
        Self {
            servers,
            ledger: None,
            last: None,
        }
    }

    /// Returns the proof that the tree of the old size is the beginning of that of the new one.
    pub(super) async fn path(&mut self, old: u64, new: u64) -> Result<Vec<Hash>, WitnessError> {
        if let Some((sizes, path)) = &self.last
            && *sizes == (old, new)
        {
            return Ok(path.clone());
        }
        let mut nodes = Vec::new();
        let noted: Result<_, paths::PathError<Infallible>> =
            paths::consistency_path(old, new, |node| {
                nodes.push(node);
                Ok(Hash::default())
            });
        if nodes.is_empty() || noted.is_err() {
            return Ok(Vec::new());
        }
        let mut ledger = self.connected().await?;
        let hashes = read(&mut ledger, &nodes, new).await?;
        self.ledger = Some(ledger);
        let path = paths::consistency_path(old, new, |node| {
            hashes.get(&(node.level, node.index)).copied().ok_or(())
        });
        let path = path.unwrap_or_default();
        self.last = Some(((old, new), path.clone()));
        Ok(path)
    }

    /// Returns how many entries the ledger has.
    pub(super) async fn size(&mut self) -> Result<u64, SealError> {
        let mut ledger = self.connected().await?;
        let size = ledger.size().await?;
        self.ledger = Some(ledger);
        Ok(size)
    }

    /// Keeps a checkpoint beside the log.
    pub(super) async fn note_checkpoint(
        &mut self,
        origin: &str,
        size: u64,
        note: &str,
        signed_at: UnixSeconds,
    ) -> Result<(), SealError> {
        let mut ledger = self.connected().await?;
        ledger
            .note_checkpoint(origin, size, note, signed_at)
            .await?;
        self.ledger = Some(ledger);
        Ok(())
    }

    /// Takes the connection: after an error it is not used again.
    async fn connected(&mut self) -> Result<Ledger, SealError> {
        match self.ledger.take() {
            Some(ledger) => Ok(ledger),
            None => Ledger::connect(&self.servers).await,
        }
    }
}

/// Reads the hashes of nodes of the tree, which its tiles tell.
async fn read(
    ledger: &mut Ledger,
    nodes: &[Subtree],
    size: u64,
) -> Result<BTreeMap<(u8, u64), Hash>, SealError> {
    let places: Vec<_> = nodes
        .iter()
        .filter_map(|node| NodeInTile::of(*node))
        .collect();
    let ranges: Vec<_> = places
        .iter()
        .map(|place| (place.level, place.hashes()))
        .collect();
    let found = ledger.hashes_of_levels(&ranges, size).await?;
    let hashes = nodes.iter().zip(found);
    Ok(hashes
        .map(|(node, hashes)| ((node.level, node.index), crate::ledger::tree::root(&hashes)))
        .collect())
}
