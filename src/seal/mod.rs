//! Seals the trail: adds its batches to the ledger, signs what the ledger has become, and publishes it outside of the
//! database (docs/ledger-format.md).
//!
//! - [`ledger`]: the connection to the database, which makes the log
//! - [`edge`]: the right edge of the log's tree, of which roots and tiles are made
//! - [`sealer`]: the loop that seals and signs
//! - [`publisher`]: the loop of one anchor
//! - [`anchor`]: where is published: a folder, a bucket, standard output
//! - `witness`: who cosigns what was signed (feature `seal-witness`)
//! - [`key_file`]: the file with the signing key
//!
//! **The database makes the log, one transaction after the other**, so any number of sealers see the same. What they sign
//! and publish follows from the log alone: they need not know of each other.
//!
//! **No two roots are signed for one size.** Before anything is signed over a new connection, the log is compared with the
//! newest checkpoint of each anchor that answers, and with the last one that this process has signed. An anchor that does
//! not answer within an interval (at least half a second) does not keep the others waiting: its checkpoint is compared before anything
//! is published there, and nothing more is signed once they disagree.
//!
//! **An anchor knows its own position**: its `checkpoint`. What is between that and the log is read from the database, so
//! an anchor that was away needs no queue, and one that is away delays no other.

mod anchor;
mod edge;
mod error;
pub mod key_file;
mod ledger;
mod notice;
mod publisher;
mod sealer;
mod signed;
#[cfg(feature = "seal-witness")]
mod witness;

#[cfg(feature = "__azure")]
pub use self::anchor::bucket::azure;
#[cfg(feature = "seal-bucket")]
pub use self::anchor::bucket::{Bucket, S3, Service, lock};
pub use self::error::{AnchorError, SealError};
pub use self::notice::{Notice, Notify};
pub use self::sealer::{Outcome, Sealer};
#[cfg(feature = "seal-witness")]
pub use self::witness::WitnessError;
