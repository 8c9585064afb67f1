//! Witnesses: others that cosign what this log has signed, if it is consistent with what they have cosigned before
//! (<https://c2sp.org/tlog-witness>).
//!
//! - [`client`]: one request and what its answer means
//! - [`proofs`]: consistency proofs from the database's ledger
//! - [`asker`]: the task of one witness
//! - [`gatherer`]: cosignatures come together in the note that is published
//! - [`merge`]: what several sealers have had cosigned
//! - [`error`]: why there is no cosignature
//!
//! **A cosignature is over one tree.** While the log grows, one that arrives late is over a tree that is not the newest any
//! more, and cannot be moved to the next checkpoint. So what is published goes through rounds: the newest signed checkpoint is
//! shown to all witnesses at once, and published when they have answered, at the latest after two seconds (`GRACE`); what was signed
//! meanwhile is the next round. An anchor thus has what witnesses have cosigned, and is at most so much behind.
//!
//! **A witness that is slow or away delays nothing more.** Each has a task of its own. One that did not answer within
//! that time, or failed, is asked again (after growing pauses, if it failed), but no round waits for it until it has answered
//! in time once. What it answers late is added to the checkpoint if that is still the newest, and that is published once more:
//! so an idle log has the cosignatures of slow witnesses too. Signing waits for nobody.
//!
//! **The same tree is shown again once a minute** (`SHOW_EVERY`), though it is signed every two seconds: a cosignature says
//! when the witness looked. Those that are there are kept meanwhile, as they are over the same text.
//!
//! **The database has what is published**, with the cosignatures: `audit.checkpoint` is written when a round ends. A checkpoint
//! without them would take the place of one that has them.
//!
//! **What a witness says stops nothing.** That it knows a larger log than the database has, or another one of this size, or that
//! the proof does not hold, means that the log was restored or forked, or that the witness is wrong; nobody can tell which from
//! its answer, which is not signed. It is told as loudly as can be, every time the reason changes, and the cosignature is
//! lacking where it is asked for. A size that another sealer of the same database has had cosigned meanwhile is no such case:
//! the ledger has that many entries.

mod asker;
mod client;
mod error;
mod gatherer;
mod merge;
mod proofs;

pub use self::error::WitnessError;
pub(super) use self::gatherer::{Gatherer, ask_all};
pub(super) use self::merge::keep_cosignatures;
