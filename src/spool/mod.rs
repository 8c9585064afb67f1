//! The durable local log: what reached it is in Postgres once, whatever happens in between.
//!
//! One `redb` database for each process, in a folder of its own ([`directory`]). Data and
//! positions change in one transaction, so they cannot disagree. Records are stored in chunks
//! of up to 64 KiB: a B-tree entry for each record cost about 4 µs each, one for a chunk costs
//! nothing that matters.
//!
//! Each sink has a position of its own here; a chunk stays until no sink needs it. That of
//! Postgres is a copy, for what Postgres itself says is what counts: it is there to notice a
//! database that has forgotten what it had committed.
//!
//! **Frozen, version 1.**
//!
//! ```text
//! table "meta": "version" → u32 | "writer" → UUID [16] | "service" → text
//! table "positions": name of a sink → seq of the next record that it needs u64
//! table "records": seq of the first record u64 → chunk
//! chunk            version u8 = 1 | zero [3] | count u32 | salts [16] × count
//!                  then each record's frame behind its length u32
//! ```
//!
//! All numbers in a chunk are little-endian. `seq` counts from 1, without a gap.

pub(crate) mod directory;
mod log;

pub(crate) use log::{Log, LogError, Positions, Sink, Stored};
