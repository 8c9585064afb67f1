//! How far records have come, and who waits for that: what the spool's thread and those of the sinks
//! know of each other.
//!
//! - [`commit`]: how far Postgres has this process' records, and the flushes that wait for it
//! - [`required`]: what became of single records, for the kinds that are `Required`
//! - [`export`]: how far the export is; nobody waits for it

pub(crate) mod commit;
pub(crate) mod export;
pub(crate) mod required;
