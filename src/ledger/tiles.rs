//! Tiles: how a log's tree and entries are published as files (<https://c2sp.org/tlog-tiles>).

use std::fmt;
use std::ops::Range;

use super::tree::{self, Hash, Subtree};

/// How many hashes, or entries, a full tile has.
pub const TILE_WIDTH: u16 = 256;

/// The levels of the tree that are within one tile.
const TILE_HEIGHT: u8 = 8;

/// Of how many levels of tiles the largest tree consists.
const LEVELS: u8 = 8;

/// The greatest size of an entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;

/// Why bytes are no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// It has another size than that many hashes.
    #[error("the tile has {bytes} bytes, which are not {width} hashes")]
    Size {
        /// Its size.
        bytes: usize,
        /// The number of hashes that it should have.
        width: u16,
    },
    /// It has another number of entries.
    #[error("the bundle does not consist of {width} entries")]
    Entries {
        /// The number of entries that it should have.
        width: u16,
    },
    /// An entry is too large for a bundle.
    #[error("an entry has {bytes} bytes, more than {MAX_ENTRY_BYTES}")]
    EntryTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// There are no, or too many, hashes or entries for one tile.
    #[error("a tile has from 1 to {TILE_WIDTH} hashes or entries, not {found}")]
    Width {
        /// Their number.
        found: usize,
    },
}

/// A tile of the tree: consecutive hashes of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// The level: each hash is that of 256^`level` entries.
    pub level: u8,
    /// Its place among the tiles of its level.
    pub index: u64,
    /// How many hashes it has: [`TILE_WIDTH`] if it is full.
    pub width: u16,
}

impl Tile {
    /// Returns the tile at a place, as it is in the tree of `size` entries; `None` if it is empty there.
    pub fn of_size(level: u8, index: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT))?;
        let width = hashes.saturating_sub(index.checked_mul(TILE_WIDTH.into())?);
        let width = u16::try_from(width.min(TILE_WIDTH.into())).ok()?;
        (width > 0).then_some(Self {
            level,
            index,
            width,
        })
    }
}

impl fmt::Display for Tile {
    /// Writes its path below the log's prefix: `tile/0/x001/x234/067.p/8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        write_place(f, self.index, self.width)
    }
}

/// A bundle of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bundle {
    /// Its place among the bundles.
    pub index: u64,
    /// How many entries it has: [`TILE_WIDTH`] if it is full.
    pub width: u16,
}

impl Bundle {
    /// Returns the bundle at a place, as it is in the log of `size` entries; `None` if it is empty there.
    pub fn of_size(index: u64, size: u64) -> Option<Self> {
        Tile::of_size(0, index, size).map(Self::of_tile)
    }

    fn of_tile(tile: Tile) -> Self {
        let Tile { index, width, .. } = tile;
        Self { index, width }
    }

    /// Returns the index of its first entry.
    pub fn first_entry(self) -> u64 {
        self.index.saturating_mul(TILE_WIDTH.into())
    }
}

impl fmt::Display for Bundle {
    /// Writes its path below the log's prefix: `tile/entries/x001/x234/067.p/8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tile/entries/")?;
        write_place(f, self.index, self.width)
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, index: u64, width: u16) -> fmt::Result {
    fn write_above(f: &mut fmt::Formatter<'_>, index: u64) -> fmt::Result {
        if index > 0 {
            write_above(f, index / 1000)?;
            write!(f, "x{:03}/", index % 1000)?;
        }
        Ok(())
    }
    write_above(f, index / 1000)?;
    write!(f, "{:03}", index % 1000)?;
    if width < TILE_WIDTH {
        write!(f, ".p/{width}")?;
    }
    Ok(())
}

/// Returns the tiles that a log writes when it grows from `old_size` to `new_size` entries: the full ones, and the partial
/// one at the right edge of each level.
///
/// A tile that it had before is among them when it has become wider: the path tells the width, so no file is written twice.
pub fn tiles_between(old_size: u64, new_size: u64) -> impl Iterator<Item = Tile> {
    (0..LEVELS).flat_map(move |level| {
        let shift = u32::from(level) * u32::from(TILE_HEIGHT);
        let (old, new) = (old_size >> shift, new_size >> shift);
        let width = u64::from(TILE_WIDTH);
        // Nothing on this level if it has no more hashes than before.
        let end = if new > old { new.div_ceil(width) } else { 0 };
        (old / width..end).filter_map(move |index| Tile::of_size(level, index, new_size))
    })
}

/// Returns the bundles that a log writes when it grows from `old_size` to `new_size` entries.
pub fn bundles_between(old_size: u64, new_size: u64) -> impl Iterator<Item = Bundle> {
    tiles_between(old_size, new_size)
        .take_while(|tile| tile.level == 0)
        .map(Bundle::of_tile)
}

/// Where a node's hash is in the tiles: that of some of a tile's hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeInTile {
    /// The level of the tile.
    pub level: u8,
    /// The place of the tile among those of its level.
    pub index: u64,
    /// The first of the hashes that are below the node.
    first: u16,
    /// The number of these hashes.
    count: u16,
}

impl NodeInTile {
    /// Returns where a node is, or `None` if no tree has it.
    pub fn of(node: Subtree) -> Option<Self> {
        node.leaves()?;
        let below = u32::from(node.level % TILE_HEIGHT);
        let first = node.index.checked_shl(below)?;
        let width = u64::from(TILE_WIDTH);
        Some(Self {
            level: node.level / TILE_HEIGHT,
            index: first / width,
            first: u16::try_from(first % width).ok()?,
            count: 1 << below,
        })
    }

    /// Returns which hashes of the tile's level are below the node, counted from the first tile on: the node is the root
    /// above them.
    pub fn hashes(self) -> Range<u64> {
        let first = self.index * u64::from(TILE_WIDTH) + u64::from(self.first);
        first..first + u64::from(self.count)
    }

    /// Returns the node's hash, given the tile's; `None` if the tile is not wide enough.
    pub fn hash(self, tile: &[Hash]) -> Option<Hash> {
        let first = usize::from(self.first);
        tile.get(first..first + usize::from(self.count))
            .map(tree::root)
    }
}

/// Writes a tile.
///
/// # Errors
/// If the hashes are none, or more than a tile has.
pub fn encode_tile(hashes: &[Hash]) -> Result<Vec<u8>, TileError> {
    check_width(hashes.len())?;
    Ok(hashes.concat())
}

/// Reads a tile of a known width.
///
/// # Errors
/// If it has another size.
pub fn decode_tile(bytes: &[u8], width: u16) -> Result<Vec<Hash>, TileError> {
    check_width(width.into())?;
    let (hashes, rest) = bytes.as_chunks();
    if hashes.len() == usize::from(width) && rest.is_empty() {
        Ok(hashes.to_vec())
    } else {
        let bytes = bytes.len();
        Err(TileError::Size { bytes, width })
    }
}

/// Writes a bundle of entries.
///
/// # Errors
/// If there are no entries, more than a bundle has, or one that is too large.
pub fn encode_bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, TileError> {
    check_width(entries.len())?;
    let mut bytes = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let too_large = TileError::EntryTooLarge { bytes: entry.len() };
        let length = u16::try_from(entry.len()).map_err(|_| too_large)?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    Ok(bytes)
}

/// Reads a bundle with a known number of entries.
///
/// # Errors
/// If it has another number of them, or is cut off.
pub fn decode_bundle(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, TileError> {
    check_width(width.into())?;
    let wrong = TileError::Entries { width };
    let mut rest = bytes;
    let mut entries = Vec::new();
    for _ in 0..width {
        let (length, after) = rest.split_first_chunk().ok_or(wrong)?;
        let length = u16::from_be_bytes(*length).into();
        let (entry, after) = after.split_at_checked(length).ok_or(wrong)?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() {
        Ok(entries)
    } else {
        Err(wrong)
    }
}

fn check_width(found: usize) -> Result<(), TileError> {
    if (1..=usize::from(TILE_WIDTH)).contains(&found) {
        Ok(())
    } else {
        Err(TileError::Width { found })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::ledger::paths;
    use proptest::prelude::*;

    fn tile(level: u8, index: u64, width: u16) -> Tile {
        Tile {
            level,
            index,
            width,
        }
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        for (tile, path) in [
            (tile(0, 0, 256), "tile/0/000"),
            (tile(1, 999, 256), "tile/1/999"),
            (tile(2, 1000, 17), "tile/2/x001/000.p/17"),
            (tile(0, 1_234_067, 256), "tile/0/x001/x234/067"),
            (tile(7, 1_000_000, 1), "tile/7/x001/x000/000.p/1"),
        ] {
            assert_eq!(tile.to_string(), path);
        }
        let bundle = Bundle {
            index: 1_234_067,
            width: 8,
        };
        assert_eq!(bundle.to_string(), "tile/entries/x001/x234/067.p/8");
        assert_eq!(bundle.first_entry(), 1_234_067 * 256);
    }

    #[test]
    fn tiles_of_a_tree_are_those_of_the_specification() {
        let tiles: Vec<_> = tiles_between(0, 70_000).collect();
        let expected: Vec<_> = (0..273)
            .map(|index| tile(0, index, 256))
            .chain([tile(0, 273, 112), tile(1, 0, 256)])
            .chain([tile(1, 1, 17), tile(2, 0, 1)])
            .collect();
        assert_eq!(tiles, expected);
        let tiles: Vec<_> = tiles_between(0, 256).collect();
        assert_eq!(tiles, [tile(0, 0, 256), tile(1, 0, 1)]);
        assert_eq!(bundles_between(0, 70_000).count(), 274);
    }

    #[test]
    fn node_is_above_hashes_of_one_tile() {
        let node = NodeInTile::of(Subtree {
            level: 10,
            index: 65,
        });
        let node = node.unwrap();
        assert_eq!((node.level, node.index), (1, 1));
        assert_eq!(node.hashes(), 260..264);
        let full = NodeInTile::of(Subtree { level: 8, index: 5 }).unwrap();
        assert_eq!((full.level, full.hashes()), (1, 5..6));
        assert_eq!(
            NodeInTile::of(Subtree {
                level: 64,
                index: 0
            }),
            None
        );
    }

    #[test]
    fn growth_writes_what_became_wider() {
        let between = |old, new| tiles_between(old, new).collect::<Vec<_>>();
        assert_eq!(between(0, 0), []);
        assert_eq!(between(7, 7), []);
        assert_eq!(between(8, 7), []);
        assert_eq!(between(7, 8), [tile(0, 0, 8)]);
        assert_eq!(between(255, 256), [tile(0, 0, 256), tile(1, 0, 1)]);
        assert_eq!(between(256, 257), [tile(0, 1, 1)]);
        assert_eq!(
            between(250, 600),
            [
                tile(0, 0, 256),
                tile(0, 1, 256),
                tile(0, 2, 88),
                tile(1, 0, 2)
            ]
        );
        assert_eq!(bundles_between(256, 257).count(), 1);
        let last = tiles_between(u64::MAX - 1, u64::MAX).next().unwrap();
        assert_eq!(last, tile(0, (1 << 56) - 1, 255));
    }

    #[test]
    fn bytes_that_are_no_tile_are_refused() {
        let hashes = [[1; 32], [2; 32]];
        let bytes = encode_tile(&hashes).unwrap();
        assert_eq!(decode_tile(&bytes, 2).unwrap(), hashes);
        let size = |bytes, width| Err(TileError::Size { bytes, width });
        assert_eq!(decode_tile(&bytes, 3), size(64, 3));
        assert_eq!(decode_tile(&bytes, 1), size(64, 1));
        assert_eq!(decode_tile(&bytes[1..], 2), size(63, 2));
        assert_eq!(decode_tile(&bytes, 0), Err(TileError::Width { found: 0 }));
        assert_eq!(encode_tile(&[]), Err(TileError::Width { found: 0 }));
        let many = encode_tile(&[[0; 32]; 257]);
        assert_eq!(many, Err(TileError::Width { found: 257 }));

        let bytes = encode_bundle(&[&b"first"[..], b"", b"third"]).unwrap();
        assert_eq!(bytes, b"\0\x05first\0\0\0\x05third");
        assert_eq!(
            decode_bundle(&bytes, 3).unwrap(),
            [&b"first"[..], b"", b"third"]
        );
        for (bytes, width) in [
            (&bytes[..], 2),
            (&bytes, 4),
            (&bytes[..bytes.len() - 1], 3),
            (&[0], 1),
            (&[], 1),
        ] {
            assert_eq!(
                decode_bundle(bytes, width),
                Err(TileError::Entries { width })
            );
        }
        let large = vec![0; MAX_ENTRY_BYTES + 1];
        assert!(encode_bundle(&[&large[1..]]).is_ok());
        assert_eq!(
            encode_bundle(&[&large]),
            Err(TileError::EntryTooLarge { bytes: 65_536 })
        );
        assert!(encode_bundle::<&[u8]>(&[]).is_err());
    }

    /// Writes what a log of `size` entries has, when it grew in these steps.
    fn published(steps: &[u64]) -> (BTreeMap<String, Vec<Hash>>, Vec<Hash>) {
        let size = steps.iter().sum::<u64>();
        let leaves: Vec<Hash> = (0..size)
            .map(|at| tree::leaf_hash(&at.to_be_bytes()))
            .collect();
        let mut files = BTreeMap::new();
        let mut at = 0;
        for step in steps {
            for tile in tiles_between(at, at + step) {
                let hash = |place: u64| {
                    let width = 1_usize << (8 * tile.level);
                    let from = usize::try_from(place).unwrap() * width;
                    tree::root(&leaves[from..from + width])
                };
                let first = tile.index * 256;
                let hashes: Vec<_> = (first..first + u64::from(tile.width)).map(hash).collect();
                let before = files.insert(tile.to_string(), hashes);
                assert_eq!(before, None, "{tile} is written twice");
            }
            at += step;
        }
        (files, leaves)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn published_tiles_prove_every_entry_and_every_growth(steps in prop::collection::vec(0_u64..700, 1..6), entry in any::<prop::sample::Index>()) {
            let (files, leaves) = published(&steps);
            let size = leaves.len() as u64;
            let node = |node: Subtree| {
                let place = NodeInTile::of(node).unwrap();
                let tile = Tile::of_size(place.level, place.index, size).unwrap();
                place.hash(&files[&tile.to_string()]).ok_or(())
            };
            let root = paths::root_from(size, node).unwrap();
            prop_assert_eq!(root, tree::root(&leaves));
            if size > 0 {
                let index = entry.index(leaves.len());
                let path = paths::inclusion_path(index as u64, size, node).unwrap();
                prop_assert!(paths::verify_inclusion(&root, size, index as u64, leaves[index], &path).is_ok());
            }
            let mut old_size = 0;
            for step in &steps {
                old_size += step;
                let old = paths::Head { size: old_size, root: paths::root_from(old_size, node).unwrap() };
                let path = paths::consistency_path(old_size, size, node).unwrap();
                let new = paths::Head { size, root };
                prop_assert!(paths::verify_consistency(old, new, &path).is_ok());
            }
        }

        #[test]
        fn growing_in_steps_publishes_the_tiles_of_the_whole(old in 0_u64..200_000, growth in 0_u64..200_000) {
            let before: BTreeSet<_> = tiles_between(0, old).collect();
            let grown: BTreeSet<_> = tiles_between(old, old + growth).collect();
            prop_assert!(before.is_disjoint(&grown));
            let whole: BTreeSet<_> = tiles_between(0, old + growth).collect();
            let kept: BTreeSet<_> = before.union(&grown).copied().filter(|tile| Tile::of_size(tile.level, tile.index, old + growth) == Some(*tile)).collect();
            prop_assert_eq!(kept, whole);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), width in any::<u16>(), level in any::<u8>(), index in any::<u64>()) {
            let _ = decode_tile(&bytes, width);
            let _ = decode_bundle(&bytes, width);
            let _ = Tile::of_size(level, index, u64::MAX);
            let _ = NodeInTile::of(Subtree { level, index });
        }

        #[test]
        fn bundle_is_read_as_it_was_written(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..=256)) {
            let bytes = encode_bundle(&entries).unwrap();
            let read = decode_bundle(&bytes, u16::try_from(entries.len()).unwrap()).unwrap();
            prop_assert_eq!(read, entries);
        }
    }
}
