//! Where records go from the spool. Each sink reads the spool at a pace of its own and keeps a
//! position of its own.
//!
//! - [`source`]: a log that a sink reads, its own or one that a dead process left
//! - [`backoff`]: pauses that grow while attempts fail

mod backoff;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
pub(crate) mod postgres;
mod source;
