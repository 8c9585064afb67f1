//! The sink that writes records from the spool to Postgres, in batches, once each.
//!
//! A batch is one row in `audit.batches`, unique on `(writer_id, first_seq)`, and one binary COPY
//! for each table and day, in one transaction. The position is therefore stored in Postgres, in
//! the transaction that writes the rows: after any error that leaves a doubt, the sink asks for the
//! position and continues from there. Two writers with the same log cannot both write a batch.
//!
//! - [`batch`]: turns records into the bytes of a COPY
//! - [`copy`]: the binary COPY format
//! - [`schema`]: the state of the tables in the database
//! - [`migrate`]: the public functions for the migrations; [`migrations`]: checks what stands in
//!   their way, and applies them; [`embedded`]: their text
//! - [`partitions`]: leaf partitions, created ahead of time
//! - [`fault`]: what an error means: retry, hold, or give up one record
//! - [`login`]: why a login may not write, and what to do
//! - [`writer`]: one connection, and a batch's transaction
//! - [`drain`]: the loop over all logs
//!
//! There is no `ON CONFLICT` and no second position to rely on. The spool keeps a copy of the
//! position for each sink, to remove what no sink needs and to notice a database that has lost what
//! it had committed.
//!
//! **Nothing outlives its transaction on the server**, and nothing is prepared outside one: behind
//! a transaction pooler, the session belongs to another client a moment later. Settings are
//! therefore `SET LOCAL`, and a migration is one transaction, its lock included.
//!
//! **Every error ends the connection**, except a refused row, which is rolled back.

pub(crate) mod batch;
pub(crate) mod copy;
pub(crate) mod drain;
pub(crate) mod embedded;
mod fault;
mod login;
mod migrate;
pub(crate) mod migrations;
pub(crate) mod partitions;
mod schema;
mod script;
mod writer;

pub use migrate::{make_roles, migrate};
pub use script::migration_script;
