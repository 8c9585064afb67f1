//! Merkle trees as RFC 6962 defines them: hashes, roots, and the full subtrees that a range of leaves consists of.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash: of a leaf, of a node, or of a whole tree.
pub type Hash = [u8; 32];

/// Returns the hash of a leaf with this data.
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(data)
        .finalize()
        .into()
}

/// Returns the hash of the node above two others.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// Returns the root of the tree of these leaves, given by their hashes. That of the empty tree is the SHA-256 of nothing.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.append(*leaf);
    }
    frontier.root()
}

/// A full subtree: the 2^`level` leaves from `index` · 2^`level` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtree {
    /// The binary logarithm of the number of its leaves.
    pub level: u8,
    /// Its place among the subtrees of its level, from 0 on the left.
    pub index: u64,
}

impl Subtree {
    /// Returns the range of leaves, or `None` if it ends beyond the greatest number of leaves.
    pub fn leaves(self) -> Option<(u64, u64)> {
        let width = 1_u64.checked_shl(self.level.into())?;
        let from = self.index.checked_mul(width)?;
        Some((from, from.checked_add(width)?))
    }
}

/// Returns the largest full subtrees that together are the leaves `from` to `to` (exclusive), left to right. There are at
/// most 126.
///
/// Every one of them is a node of any tree with at least `to` leaves.
pub fn cover(from: u64, to: u64) -> Vec<Subtree> {
    let mut subtrees = Vec::new();
    let mut at = from;
    while at < to {
        let longest = (to - at).ilog2();
        let level = at.trailing_zeros().min(longest);
        subtrees.push(Subtree {
            level: u8::try_from(level).unwrap_or(u8::MAX),
            index: at >> level,
        });
        at += 1 << level;
    }
    subtrees
}

/// Returns the hashes of [`cover`] for the range that begins at leaf `from` and has these leaves: what is kept of a range
/// whose rows are removed.
pub fn cover_hashes(from: u64, leaves: &[Hash]) -> Vec<Hash> {
    let mut rest = leaves;
    cover(from, from.saturating_add(leaves.len() as u64))
        .into_iter()
        .map(|subtree| {
            let width = 1_usize.checked_shl(subtree.level.into());
            let (its, others) = rest.split_at(width.unwrap_or(usize::MAX).min(rest.len()));
            rest = others;
            root(its)
        })
        .collect()
}

/// A part of a tree's leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// One leaf.
    Leaf(Hash),
    /// A range of leaves of which the subtrees alone are known.
    Covered {
        /// The number of leaves in the range.
        leaves: u64,
        /// The hash of each subtree that [`cover`] names for the range.
        hashes: &'a [Hash],
    },
}

/// Why parts are not a tree's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartsError {
    /// The parts are not as many leaves as the tree has.
    #[error("the parts have {found} leaves, but the tree has {size}")]
    Size {
        /// The number of leaves that the tree has.
        size: u64,
        /// The number of leaves in the parts that were read.
        found: u64,
    },
    /// A range has another number of hashes than it has subtrees.
    #[error("the range from leaf {from} to {to} has {expected} subtrees, but {found} hashes")]
    Hashes {
        /// The first leaf of the range.
        from: u64,
        /// The leaf after the range.
        to: u64,
        /// The number of subtrees.
        expected: usize,
        /// The number of hashes.
        found: usize,
    },
}

/// Returns the root of a tree of `size` leaves, of which some ranges are known by their subtrees alone.
///
/// # Errors
/// If the parts are not `size` leaves, or a range has the wrong number of hashes.
pub fn root_with<'a>(
    size: u64,
    parts: impl IntoIterator<Item = Part<'a>>,
) -> Result<Hash, PartsError> {
    let mut frontier = Frontier::default();
    for part in parts {
        let from = frontier.size;
        let leaves = match part {
            Part::Leaf(_) => 1,
            Part::Covered { leaves, .. } => leaves,
        };
        let to = from.saturating_add(leaves);
        if to > size {
            return Err(PartsError::Size { size, found: to });
        }
        match part {
            Part::Leaf(hash) => frontier.append(hash),
            Part::Covered { hashes, .. } => {
                let subtrees = cover(from, to);
                if subtrees.len() != hashes.len() {
                    return Err(PartsError::Hashes {
                        from,
                        to,
                        expected: subtrees.len(),
                        found: hashes.len(),
                    });
                }
                for (subtree, hash) in subtrees.iter().zip(hashes) {
                    frontier.append_subtree(subtree.level, *hash);
                }
            }
        }
    }
    if frontier.size != size {
        let found = frontier.size;
        return Err(PartsError::Size { size, found });
    }
    Ok(frontier.root())
}

/// A tree that grows on its right, of which only the roots of the largest full subtrees are kept: at most 64 hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One for each bit that is set in the size, the largest subtree first.
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Continues a tree of `size` leaves, given the hashes of `cover(0, size)`. Returns `None` if they are not as many.
    pub fn resume(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (subtrees.len() == size.count_ones() as usize).then_some(Self { size, subtrees })
    }

    /// Adds a leaf by its hash.
    pub fn append(&mut self, leaf: Hash) {
        self.append_subtree(0, leaf);
    }

    /// Adds a full subtree. Its level is no greater than the size allows: the size is a multiple of its leaves.
    fn append_subtree(&mut self, level: u8, mut hash: Hash) {
        let mut carry = self.size >> level;
        while carry & 1 == 1 {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
            carry >>= 1;
        }
        self.subtrees.push(hash);
        self.size += 1 << level;
    }

    /// Returns the number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the hashes of `cover(0, size)`, with which [`resume`](Self::resume) continues.
    pub fn subtrees(&self) -> &[Hash] {
        &self.subtrees
    }

    /// Returns the root.
    pub fn root(&self) -> Hash {
        root_of_subtrees(&self.subtrees)
    }
}

/// Returns the root of the tree that consists of these full subtrees, the largest first.
pub(super) fn root_of_subtrees(subtrees: &[Hash]) -> Hash {
    match subtrees.split_last() {
        Some((last, others)) => others
            .iter()
            .rfold(*last, |right, left| node_hash(left, &right)),
        None => Sha256::digest([]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::vectors::{self, hex};
    use proptest::prelude::*;

    /// The definition of RFC 6962, section 2.1, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                node_hash(&naive(&leaves[..half]), &naive(&leaves[half..]))
            }
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|at| leaf_hash(&at.to_be_bytes())).collect()
    }

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let leaves = vectors::leaves();
        for (size, expected) in vectors::ROOTS.iter().enumerate() {
            assert_eq!(root(&leaves[..size]), hex(expected), "{size} leaves");
        }
    }

    #[test]
    fn cover_of_a_range_has_the_largest_full_subtrees() {
        let subtree = |level, index| Subtree { level, index };
        assert_eq!(cover(0, 0), []);
        assert_eq!(cover(5, 5), []);
        assert_eq!(cover(0, 8), [subtree(3, 0)]);
        assert_eq!(cover(0, 7), [subtree(2, 0), subtree(1, 2), subtree(0, 6)]);
        assert_eq!(
            cover(1, 7),
            [subtree(0, 1), subtree(1, 1), subtree(1, 2), subtree(0, 6)]
        );
        assert_eq!(cover(0, u64::MAX).len(), 64);
        assert_eq!(cover(1, u64::MAX).len(), 126);
    }

    #[test]
    fn parts_that_are_not_the_tree_are_refused() {
        let leaves = leaves(6);
        let hashes = cover_hashes(1, &leaves[1..5]);
        let parts = [
            Part::Leaf(leaves[0]),
            Part::Covered {
                leaves: 4,
                hashes: &hashes,
            },
            Part::Leaf(leaves[5]),
        ];
        assert_eq!(root_with(6, parts), Ok(root(&leaves)));
        assert_eq!(
            root_with(7, parts),
            Err(PartsError::Size { size: 7, found: 6 })
        );
        assert_eq!(
            root_with(5, parts),
            Err(PartsError::Size { size: 5, found: 6 })
        );
        let short = Part::Covered {
            leaves: 4,
            hashes: &hashes[1..],
        };
        assert!(matches!(
            root_with(6, [parts[0], short, parts[2]]),
            Err(PartsError::Hashes {
                expected: 3,
                found: 2,
                ..
            })
        ));
        let endless = Part::Covered {
            leaves: u64::MAX,
            hashes: &[],
        };
        assert!(root_with(u64::MAX, [parts[0], endless]).is_err());
    }

    proptest! {
        #[test]
        fn root_and_frontier_agree_with_the_definition(count in 0_usize..600) {
            let leaves = leaves(count);
            prop_assert_eq!(root(&leaves), naive(&leaves));
            let mut frontier = Frontier::default();
            for leaf in &leaves { frontier.append(*leaf); }
            prop_assert_eq!(frontier.size(), count as u64);
            prop_assert_eq!(frontier.subtrees(), cover_hashes(0, &leaves));
            let resumed = Frontier::resume(frontier.size(), frontier.subtrees().to_vec());
            prop_assert_eq!(resumed, Some(frontier));
        }

        #[test]
        fn root_is_computed_with_any_ranges_removed(count in 1_usize..200, cuts in prop::collection::vec((any::<bool>(), 1_usize..40), 1..20)) {
            let leaves = leaves(count);
            let mut covers = Vec::new();
            let mut at = 0;
            for (is_removed, length) in cuts {
                let to = (at + length).min(count);
                covers.push((is_removed, at, to, cover_hashes(at as u64, &leaves[at..to])));
                at = to;
            }
            covers.push((false, at, count, Vec::new()));
            let mut parts = Vec::new();
            for (is_removed, from, to, hashes) in &covers {
                if *is_removed {
                    parts.push(Part::Covered { leaves: (to - from) as u64, hashes });
                } else {
                    parts.extend(leaves[*from..*to].iter().map(|leaf| Part::Leaf(*leaf)));
                }
            }
            prop_assert_eq!(root_with(count as u64, parts), Ok(root(&leaves)));
        }

        #[test]
        fn cover_is_contiguous_and_aligned(from in any::<u64>(), to in any::<u64>()) {
            let mut at = from;
            for subtree in cover(from, to) {
                let (begin, end) = subtree.leaves().unwrap();
                prop_assert_eq!(begin, at);
                at = end;
            }
            prop_assert_eq!(at, from.max(to));
        }
    }
}
