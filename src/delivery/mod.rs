//! The progress of records and the callers that wait for it: state that the spool's thread shares
//! with the threads of the sinks.
//!
//! - [`commit`]: how far this process' records are committed in Postgres, and the flushes that wait
//!   for it
//! - [`required`]: the fates of single records, for the kinds that are `Required`
//! - [`export`]: how far the export is; no caller waits for it

pub(crate) mod commit;
pub(crate) mod export;
pub(crate) mod required;
