//! The ledger: what is hashed of the trail, and the trees over these hashes (docs/ledger-format.md).

pub mod layout;
pub mod leaf;
pub mod tree;
