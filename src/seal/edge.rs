//! The right edge of the log's tree.

use crate::ledger::paths::Head;
use crate::ledger::tiles::{TILE_WIDTH, Tile};
use crate::ledger::tree::{self, Frontier, Hash};

/// The levels of tiles of which the largest log consists.
pub(super) const LEVELS: usize = 7;

/// For each level of tiles, the hashes of the tile that is not full: all that is needed to let the tree grow, to compute its
/// root, and to write its partial tiles.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

/// Returns which hashes of a level the edge of a tree has: from, to.
pub(super) fn range(size: u64, level: usize) -> (u64, u64) {
    let hashes = size >> (8 * level);
    (hashes & !0xff, hashes)
}

impl Edge {
    /// Makes the edge of a tree of `size` leaves. `None` if the hashes are not as many as it has.
    pub(super) fn of(size: u64, mut levels: Vec<Vec<Hash>>) -> Option<Self> {
        levels.resize_with(LEVELS.max(levels.len()), Vec::new);
        let is_whole = levels.iter().enumerate().all(|(level, hashes)| {
            let (from, to) = range(size, level);
            hashes.len() as u64 == to - from
        });
        is_whole.then_some(Self { size, levels })
    }

    /// Adds a leaf. Calls `full` with each tile that it completes.
    pub(super) fn append(&mut self, leaf: Hash, mut full: impl FnMut(Tile, &[Hash])) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[level];
            hashes.push(hash);
            if hashes.len() < usize::from(TILE_WIDTH) {
                return;
            }
            let tile = Tile {
                level: u8::try_from(level).unwrap_or(u8::MAX),
                index: (self.size >> (8 * (level + 1))) - 1,
                width: TILE_WIDTH,
            };
            full(tile, hashes);
            hash = tree::root(hashes);
            hashes.clear();
        }
    }

    /// Returns the hashes of a level's tile that is not full.
    pub(super) fn hashes(&self, level: u8) -> &[Hash] {
        self.levels
            .get(usize::from(level))
            .map_or(&[], Vec::as_slice)
    }

    /// Returns the number of leaves.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns the size and the root.
    pub(super) fn head(&self) -> Head {
        let mut subtrees = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = hashes.as_slice();
            while let Some(largest) = rest.len().checked_ilog2() {
                let (subtree, others) = rest.split_at(1 << largest);
                subtrees.push(tree::root(subtree));
                rest = others;
            }
        }
        let frontier = Frontier::resume(self.size, subtrees).unwrap_or_default();
        Head {
            size: self.size,
            root: frontier.root(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tiles::tiles_between;

    #[test]
    fn edge_has_the_roots_and_the_full_tiles_of_the_tree() {
        let mut edge = Edge::default();
        let mut frontier = Frontier::default();
        let mut tiles = Vec::new();
        for at in 0..70_000_u64 {
            let leaf = tree::leaf_hash(&at.to_be_bytes());
            edge.append(leaf, |tile, hashes| {
                assert_eq!(hashes.len(), 256);
                tiles.push(tile);
            });
            frontier.append(leaf);
            if at % 997 == 0 || at == 255 || at == 65_535 {
                assert_eq!(edge.head().root, frontier.root(), "{at}");
            }
        }
        let mut expected: Vec<_> = tiles_between(0, 70_000)
            .filter(|tile| tile.width == TILE_WIDTH)
            .collect();
        tiles.sort();
        expected.sort();
        assert_eq!(tiles, expected);
        let levels = (0..3).map(|level| edge.hashes(level).to_vec()).collect();
        let again = Edge::of(70_000, levels).unwrap();
        assert_eq!(again.head(), edge.head());
        assert!(Edge::of(70_001, vec![Vec::new()]).is_none());
    }
}
