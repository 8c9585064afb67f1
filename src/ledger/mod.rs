//! The ledger: what is hashed of the trail, and the trees over these hashes (docs/ledger-format.md).

pub(crate) mod layout;
pub(crate) mod leaf;
pub(crate) mod tree;
