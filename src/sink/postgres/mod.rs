//! From the spool to Postgres: in batches, once each.
//!
//! A batch is one row in `audit.batches`, unique on `(writer_id, first_seq)`, and one binary
//! COPY for each table and month, in one transaction. So the position lies in Postgres, in the
//! transaction that writes the rows: after any error that leaves a doubt, the sink asks where
//! the trail stands and goes on from there. Two writers with the same log cannot both write a
//! batch.
//!
//! - [`batch`]: records into the bytes of a COPY
//! - [`copy`]: the binary COPY format
//! - [`schema`]: what is there
//! - [`migrate`]: the doors to the migrations; [`migrations`]: what stands in their way, and how they are
//!   applied; [`embedded`]: their text
//! - [`partitions`]: monthly leaf partitions, ahead of their time
//! - [`fault`]: what an error means: try again, hold, or give up one record
//! - [`login`]: why a login may not write, and what to do
//! - [`writer`]: one connection, and a batch's transaction
//! - [`drain`]: the loop over all logs
//!
//! There is no `ON CONFLICT` and no second position to go by. The spool keeps a copy of the
//! position, one for each sink, to remove what none of them needs and to notice a database that has
//! lost what it had committed.
//!
//! **Nothing outlives its transaction on the server**, and nothing is prepared outside one: behind
//! a transaction pooler the session belongs to somebody else a moment later. So settings are `SET
//! LOCAL`, and a migration is one transaction, its lock included.
//!
//! **Every error ends the connection**, except a refused row, which is rolled back.

pub(crate) mod batch;
pub(crate) mod copy;
pub(crate) mod drain;
mod embedded;
mod fault;
mod login;
mod migrate;
mod migrations;
mod partitions;
mod schema;
mod script;
mod writer;

pub use migrate::{make_roles, migrate};
pub use script::migration_script;
