//! Proofs about a tree: that a leaf is in it, and that a smaller tree is its beginning.

use ct_merkle::{ConsistencyProof, RootHash};
use sha2::Sha256;

use super::tree::{self, Hash, Subtree};

/// The greatest number of hashes in a path: one for each level of the largest tree.
pub const MAX_PATH_HASHES: usize = 64;

/// Why there is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError<E> {
    /// The tree has no such leaf, or no such beginning.
    #[error("{at} is beyond the tree's size of {size}")]
    OutOfRange {
        /// The index of the leaf, or the size of the smaller tree.
        at: u64,
        /// The size of the tree.
        size: u64,
    },
    /// A node's hash is not to be had.
    #[error(transparent)]
    Node(#[from] E),
}

/// Returns the path that proves that the leaf at `index` is in the tree of `size` leaves, from the leaf's sibling up.
///
/// `node` returns the hash of a full subtree.
///
/// # Errors
/// If there is no such leaf, or if `node` fails.
pub fn inclusion_path<E>(
    index: u64,
    size: u64,
    mut node: impl FnMut(Subtree) -> Result<Hash, E>,
) -> Result<Vec<Hash>, PathError<E>> {
    if index >= size {
        return Err(PathError::OutOfRange { at: index, size });
    }
    let mut siblings = Vec::new();
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let middle = middle(from, to);
        if index < middle {
            siblings.push((middle, to));
            to = middle;
        } else {
            siblings.push((from, middle));
            from = middle;
        }
    }
    hashes(siblings, &mut node)
}

/// Returns the path that proves that the tree of `old_size` leaves is the beginning of the tree of `new_size` leaves.
///
/// # Errors
/// If the old tree is larger, or if `node` fails.
pub fn consistency_path<E>(
    old_size: u64,
    new_size: u64,
    mut node: impl FnMut(Subtree) -> Result<Hash, E>,
) -> Result<Vec<Hash>, PathError<E>> {
    if old_size > new_size {
        return Err(PathError::OutOfRange {
            at: old_size,
            size: new_size,
        });
    }
    if old_size == 0 {
        return Ok(Vec::new());
    }
    let mut ranges = Vec::new();
    let (mut from, mut to) = (0, new_size);
    while to != old_size {
        let middle = middle(from, to);
        if old_size <= middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
        }
    }
    // Whoever verifies knows the root of the old tree itself.
    if from > 0 {
        ranges.push((from, to));
    }
    hashes(ranges, &mut node)
}

/// Returns the root of the tree of `size` leaves.
///
/// # Errors
/// If `node` fails.
pub fn root_from<E>(
    size: u64,
    mut node: impl FnMut(Subtree) -> Result<Hash, E>,
) -> Result<Hash, E> {
    range_root(0, size, &mut node)
}

/// Returns where RFC 6962 divides the node above the leaves `from` to `to`: they are at least two.
fn middle(from: u64, to: u64) -> u64 {
    from + (1 << (to - from - 1).ilog2())
}

/// Returns the hashes of ranges that are listed from the root down, from the leaf up.
fn hashes<E>(
    ranges: Vec<(u64, u64)>,
    node: &mut impl FnMut(Subtree) -> Result<Hash, E>,
) -> Result<Vec<Hash>, PathError<E>> {
    let hashes = ranges.into_iter().rev();
    Ok(hashes
        .map(|(from, to)| range_root(from, to, node))
        .collect::<Result<_, E>>()?)
}

/// Returns the hash of the node above a range of leaves that one node is above.
fn range_root<E>(
    from: u64,
    to: u64,
    node: &mut impl FnMut(Subtree) -> Result<Hash, E>,
) -> Result<Hash, E> {
    let subtrees: Vec<Hash> = tree::cover(from, to)
        .into_iter()
        .map(node)
        .collect::<Result<_, E>>()?;
    Ok(tree::root_of_subtrees(&subtrees))
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The tree has no such leaf.
    #[error("leaf {index} is beyond the tree's size of {size}")]
    NoSuchLeaf {
        /// The index of the leaf.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The path has the wrong length for the tree's size.
    #[error("the path has {found} hashes, which is the wrong number for the tree's size")]
    Length {
        /// The number of hashes in the path.
        found: usize,
    },
    /// The path leads to another root.
    #[error("the path leads to another root")]
    Root,
    /// The tree that should be the later one is smaller.
    #[error("the tree has shrunk from {old_size} to {new_size} leaves")]
    Shrunk {
        /// The size of the earlier tree.
        old_size: u64,
        /// The size of the later tree.
        new_size: u64,
    },
    /// The one tree is not the beginning of the other.
    #[error("the tree of {old_size} leaves is not the beginning of the tree of {new_size} leaves")]
    Inconsistent {
        /// The size of the earlier tree.
        old_size: u64,
        /// The size of the later tree.
        new_size: u64,
    },
    /// A tree without leaves has a root that is not the empty tree's.
    #[error("the empty tree has the wrong root")]
    EmptyRoot,
    /// A tree has more leaves than can be verified.
    #[error("a tree of {size} leaves is too large")]
    TooLarge {
        /// The size of the tree.
        size: u64,
    },
}

/// Returns the root that a leaf and its path lead to: the algorithm of RFC 9162, section 2.1.3.2.
///
/// # Errors
/// If there is no such leaf, or if the path has the wrong length.
pub fn root_of_path(size: u64, index: u64, leaf: Hash, path: &[Hash]) -> Result<Hash, VerifyError> {
    if index >= size {
        return Err(VerifyError::NoSuchLeaf { index, size });
    }
    let length = VerifyError::Length { found: path.len() };
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            hash = tree::node_hash(sibling, &hash);
            // The last node of a level may have no sibling there: it goes up as it is.
            let levels = at.trailing_zeros();
            at = at.checked_shr(levels).unwrap_or(0);
            last = last.checked_shr(levels).unwrap_or(0);
        } else {
            hash = tree::node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(hash) } else { Err(length) }
}

/// Verifies that a leaf is in the tree with this root and size, at this index.
///
/// # Errors
/// If it is not proven.
pub fn verify_inclusion(
    root: &Hash,
    size: u64,
    index: u64,
    leaf: Hash,
    path: &[Hash],
) -> Result<(), VerifyError> {
    if root_of_path(size, index, leaf, path)? == *root {
        Ok(())
    } else {
        Err(VerifyError::Root)
    }
}

/// A tree, as a checkpoint states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of leaves.
    pub size: u64,
    /// The root.
    pub root: Hash,
}

/// Verifies that the old tree is the beginning of the new one.
///
/// # Errors
/// If it is not proven.
pub fn verify_consistency(old: Head, new: Head, path: &[Hash]) -> Result<(), VerifyError> {
    const LARGEST: u64 = 1 << 63;

    let (old_size, new_size) = (old.size, new.size);
    if old_size > new_size {
        return Err(VerifyError::Shrunk { old_size, new_size });
    }
    if new_size > LARGEST {
        return Err(VerifyError::TooLarge { size: new_size });
    }
    let length = VerifyError::Length { found: path.len() };
    if path.len() > MAX_PATH_HASHES {
        return Err(length);
    }
    if [old, new]
        .iter()
        .any(|head| head.size == 0 && head.root != tree::root(&[]))
    {
        return Err(VerifyError::EmptyRoot);
    }
    if old_size == 0 {
        return if path.is_empty() { Ok(()) } else { Err(length) };
    }
    let root_hash = |head: Head| RootHash::<Sha256>::new(head.root.into(), head.size);
    let proof = ConsistencyProof::try_from_bytes(path.concat()).map_err(|_| length)?;
    root_hash(new)
        .verify_consistency(&root_hash(old), &proof)
        .map_err(|error| match error {
            ct_merkle::ConsistencyVerifError::MalformedProof => length,
            _ => VerifyError::Inconsistent { old_size, new_size },
        })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::ledger::tree::{leaf_hash, node_hash, root};
    use crate::ledger::vectors::{self, hex};
    use proptest::prelude::*;

    const INCLUSION: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            3,
            &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
        ),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];

    const CONSISTENCY: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            8,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
    ];

    fn hexes(digits: &[&str]) -> Vec<Hash> {
        digits.iter().map(|digits| hex(digits)).collect()
    }

    fn data(count: u64) -> Vec<[u8; 8]> {
        (0..count).map(u64::to_be_bytes).collect()
    }

    fn leaves(count: u64) -> Vec<Hash> {
        data(count).iter().map(|data| leaf_hash(data)).collect()
    }

    fn at(index: u64) -> usize {
        usize::try_from(index).unwrap()
    }

    fn of(leaves: &[Hash]) -> impl FnMut(Subtree) -> Result<Hash, Infallible> + '_ {
        |subtree| {
            let (from, to) = subtree.leaves().unwrap();
            Ok(root(&leaves[at(from)..at(to)]))
        }
    }

    fn head(leaves: &[Hash], size: u64) -> Head {
        let root = root(&leaves[..at(size)]);
        Head { size, root }
    }

    /// PATH of RFC 6962, section 2.1.1, word for word.
    fn naive_inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        if index < left.len() {
            [naive_inclusion(index, left), vec![root(right)]].concat()
        } else {
            [naive_inclusion(index - left.len(), right), vec![root(left)]].concat()
        }
    }

    /// SUBPROOF of RFC 6962, section 2.1.2, word for word.
    fn naive_consistency(size: usize, leaves: &[Hash], is_whole: bool) -> Vec<Hash> {
        if size == leaves.len() {
            return if is_whole {
                Vec::new()
            } else {
                vec![root(leaves)]
            };
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        if size <= left.len() {
            [naive_consistency(size, left, is_whole), vec![root(right)]].concat()
        } else {
            let size = size - left.len();
            [naive_consistency(size, right, false), vec![root(left)]].concat()
        }
    }

    #[test]
    fn paths_are_those_of_certificate_transparency() {
        let leaves = vectors::leaves();
        for (index, size, path) in INCLUSION {
            let path = hexes(path);
            assert_eq!(
                inclusion_path(index, size, of(&leaves)),
                Ok(path.clone()),
                "{index} of {size}"
            );
            let root = hex(vectors::ROOTS[at(size)]);
            verify_inclusion(&root, size, index, leaves[at(index)], &path).unwrap();
        }
        for (old, new, path) in CONSISTENCY {
            let path = hexes(path);
            assert_eq!(
                consistency_path(old, new, of(&leaves)),
                Ok(path.clone()),
                "{old} in {new}"
            );
            verify_consistency(head(&leaves, old), head(&leaves, new), &path).unwrap();
        }
    }

    #[test]
    fn path_beyond_the_tree_is_refused() {
        let leaves = leaves(4);
        for (index, size) in [(0, 0), (4, 4), (u64::MAX, 4)] {
            assert!(inclusion_path(index, size, of(&leaves)).is_err());
            let path = verify_inclusion(&root(&leaves), size, index, leaves[0], &[]);
            assert_eq!(path, Err(VerifyError::NoSuchLeaf { index, size }));
        }
        assert!(consistency_path(5, 4, of(&leaves)).is_err());
    }

    #[test]
    fn empty_tree_is_the_beginning_of_every_tree() {
        let leaves = leaves(3);
        let empty = head(&leaves, 0);
        assert_eq!(verify_consistency(empty, head(&leaves, 3), &[]), Ok(()));
        assert_eq!(verify_consistency(empty, empty, &[]), Ok(()));
        let extended = verify_consistency(empty, head(&leaves, 3), &leaves[..1]);
        assert_eq!(extended, Err(VerifyError::Length { found: 1 }));
        let forged = Head {
            root: leaves[0],
            ..empty
        };
        assert_eq!(
            verify_consistency(forged, head(&leaves, 3), &[]),
            Err(VerifyError::EmptyRoot)
        );
        assert_eq!(
            verify_consistency(empty, forged, &[]),
            Err(VerifyError::EmptyRoot)
        );
    }

    #[test]
    fn node_is_no_leaf() {
        let leaves = leaves(4);
        let node = node_hash(&leaves[0], &leaves[1]);
        let sibling = node_hash(&leaves[2], &leaves[3]);
        // It is one in a tree of two leaves, which is why the size is signed with the root.
        assert!(verify_inclusion(&root(&leaves), 2, 0, node, &[sibling]).is_ok());
        assert!(verify_inclusion(&root(&leaves), 4, 0, node, &[sibling]).is_err());
    }

    /// Returns what a forger may make of a path.
    fn forged(path: &[Hash], other: Hash) -> Vec<Vec<Hash>> {
        let mut forged = vec![[path, &[other]].concat(), [&[other], path].concat()];
        for at in 0..path.len() {
            let mut one = path.to_vec();
            one[at][31] ^= 1;
            forged.push(one);
            let mut one = path.to_vec();
            one.remove(at);
            forged.push(one);
            if at > 0 {
                let mut one = path.to_vec();
                one.swap(at - 1, at);
                forged.push(one);
            }
        }
        forged
    }

    proptest! {
        #[test]
        fn inclusion_is_proven_for_the_right_leaf_only((size, index) in (1_u64..300).prop_flat_map(|size| (Just(size), 0..size)), other in any::<Hash>()) {
            let leaves = leaves(size);
            let root = root(&leaves);
            let path = inclusion_path(index, size, of(&leaves)).unwrap();
            prop_assert_eq!(&path, &naive_inclusion(at(index), &leaves));
            let leaf = leaves[at(index)];
            prop_assert_eq!(verify_inclusion(&root, size, index, leaf, &path), Ok(()));
            for path in forged(&path, other) {
                prop_assert!(verify_inclusion(&root, size, index, leaf, &path).is_err());
            }
            for wrong in (0..size + 2).filter(|wrong| *wrong != index) {
                prop_assert!(verify_inclusion(&root, size, wrong, leaf, &path).is_err());
            }
            prop_assert!(verify_inclusion(&other, size, index, leaf, &path).is_err());
            prop_assert!(verify_inclusion(&root, size, index, other, &path).is_err());
        }

        #[test]
        fn inclusion_is_verified_as_by_ct_merkle(size in 1_u64..70, index in 0_u64..70, claimed in 0_u64..70, cut in 0_usize..8) {
            let leaves = leaves(size);
            let index = index % size;
            let mut path = inclusion_path(index, size, of(&leaves)).unwrap();
            if cut < path.len() { path.truncate(cut); }
            let theirs = RootHash::<Sha256>::new(root(&leaves).into(), claimed).verify_inclusion(
                &data(size)[at(index)], index, &ct_merkle::InclusionProof::from_bytes(path.concat()));
            let ours = verify_inclusion(&root(&leaves), claimed, index, leaves[at(index)], &path);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        }

        #[test]
        fn consistency_is_proven_for_the_right_trees_only((new, old) in (1_u64..200).prop_flat_map(|new| (Just(new), 1..=new)), other in any::<Hash>()) {
            let leaves = leaves(new);
            let path = consistency_path(old, new, of(&leaves)).unwrap();
            prop_assert_eq!(&path, &naive_consistency(at(old), &leaves, true));
            let (old, new) = (head(&leaves, old), head(&leaves, new));
            prop_assert_eq!(verify_consistency(old, new, &path), Ok(()));
            for path in forged(&path, other) {
                prop_assert!(verify_consistency(old, new, &path).is_err());
            }
            let foreign = Head { root: other, ..old };
            prop_assert!(verify_consistency(foreign, new, &path).is_err());
            let foreign = Head { root: other, ..new };
            prop_assert!(verify_consistency(old, foreign, &path).is_err());
            if old != new {
                prop_assert!(verify_consistency(new, old, &path).is_err());
            }
        }

        #[test]
        fn root_is_computed_from_stored_subtrees(size in 0_u64..300) {
            let leaves = leaves(size);
            prop_assert_eq!(root_from(size, of(&leaves)), Ok(root(&leaves)));
        }

        #[test]
        fn no_proof_panics(old in any::<u64>(), new in any::<u64>(), path in prop::collection::vec(any::<Hash>(), 0..70)) {
            let head = |size| Head { size, root: [7; 32] };
            let _ = verify_consistency(head(old), head(new), &path);
            let _ = verify_inclusion(&[7; 32], new, old, [7; 32], &path);
            let _ = consistency_path(old, new, |_| Ok::<_, Infallible>([7; 32]));
            let _ = inclusion_path(old, new, |_| Ok::<_, Infallible>([7; 32]));
        }
    }
}
