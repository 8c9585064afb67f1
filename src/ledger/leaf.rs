//! The hash of a row, and of the rows of a batch as they are added. Frozen: format 1.

use sha2::{Digest as _, Sha256};

use super::tree::Hash;

/// Returns the SHA-256 of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// The hashes of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// Of all of it: the leaf in the tree of its batch.
    pub hash: Hash,
    /// Of its content with the salt.
    pub content: Hash,
}

/// Returns the hashes of a row, of whose table begins with this; `core` and `content` are the
/// values of its columns as COPY (FORMAT binary) has them: the length in four bytes, -1 for NULL,
/// and the bytes.
#[must_use]
pub fn leaf(table: &TablePrefix, core: &[u8], content: &[u8]) -> Leaf {
    let content = digest(content);
    Leaf {
        hash: leaf_of(table, core, &content),
        content,
    }
}

/// Returns the hash of a row whose content is known by its hash.
#[must_use]
pub fn leaf_of(table: &TablePrefix, core: &[u8], content: &Hash) -> Hash {
    let mut hash = table.0.clone();
    hash.update(core);
    hash.update(content);
    hash.finalize().into()
}

/// What the hash of each row of a table begins with.
#[derive(Clone, Debug)]
pub struct TablePrefix(Sha256);

impl TablePrefix {
    /// Returns that of a table of the schema `audit`.
    #[must_use]
    pub fn new(table: &str) -> Self {
        let mut hash = Sha256::new();
        // That it is a leaf, by RFC 6962, and the version of the format.
        hash.update([0, 1]);
        hash.update(u32::try_from(table.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(table);
        Self(hash)
    }
}

/// How many bytes of fingerprint a row has.
pub const FINGERPRINT_BYTES: usize = 8;

impl Leaf {
    /// Returns the bytes by which a row that differs is found in its batch, and which part of it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; FINGERPRINT_BYTES] {
        let mut print = [0; FINGERPRINT_BYTES];
        print[..4].copy_from_slice(&self.hash[..4]);
        print[4..].copy_from_slice(&self.content[..4]);
        print
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tree;
    use crate::ledger::vectors::hex;

    /// Frozen, format 1.
    #[test]
    fn leaf_of_a_row_is_golden() {
        let content = digest(b"\0\0\0\x01s");
        let leaf = leaf_of(
            &TablePrefix::new("events"),
            b"\0\0\0\x01c\xff\xff\xff\xff",
            &content,
        );
        let data = [
            &b"\x01\0\0\0\x06events\0\0\0\x01c\xff\xff\xff\xff"[..],
            &content,
        ];
        assert_eq!(leaf, tree::leaf_hash(&data.concat()));
        let golden = "9898ef0cae7283d048222d2d0ad43d58f7a367e353c492b0f375c49e45a8eca2";
        assert_eq!(leaf, hex(golden));
    }
}
