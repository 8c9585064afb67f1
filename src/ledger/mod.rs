//! The formats of the ledger: its trees, entries, notes, tiles and proofs. Bytes in, bytes out: no database, no network
//! and no clock.
//!
//! What comes from elsewhere is hostile until it is verified: each reader checks the size first, never panics, and
//! allocates no more than a multiple of what it was given. No error repeats what a row holds.

#[cfg(feature = "ledger")]
pub mod checkpoint;
#[cfg(feature = "ledger")]
pub mod cosigner;
#[cfg(feature = "ledger")]
pub mod entry;
#[cfg(feature = "ledger")]
pub mod evidence;
#[cfg(feature = "ledger")]
pub mod images;
#[cfg(feature = "ledger")]
pub mod key;
pub mod layout;
pub mod leaf;
#[cfg(feature = "ledger")]
pub mod note;
#[cfg(feature = "ledger")]
#[cfg(test)]
mod oracle;
#[cfg(feature = "ledger")]
pub mod paths;
#[cfg(feature = "ledger")]
pub mod proof;
#[cfg(all(test, feature = "ledger"))]
mod rotation_tests;
#[cfg(feature = "ledger")]
pub mod tiles;
pub mod tree;
#[cfg(test)]
mod vectors;
#[cfg(feature = "ledger")]
pub mod witness;
