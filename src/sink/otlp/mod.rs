//! The trail as OTLP spans and metrics: a second reader of the spool, at a pace of its own.
//!
//! - [`conventions`]: the names, in one table
//! - [`span`]: a row as a span, with [`attributes`] and [`sql`]; pure
//! - [`payload`]: records into a request
//! - [`transport`], [`tls`], [`fault`]: a request and what its answer means
//! - [`drain`]: the loop
//! - [`metrics`]: counters, durations, token usage
//!
//! **Nobody waits for it.** Its position is stored with the log; a sink that is not set up needs
//! nothing there, so that without an export chunks go as soon as Postgres has them. The spool
//! thread, which removes chunks, discards records that exceed the export's quota: so a request that
//! hangs cannot fill the disk.

mod attributes;
mod conventions;
mod drain;
mod exporter;
mod fault;
mod metrics;
mod payload;
mod span;
mod sql;
mod tls;
mod transport;

pub(crate) use self::drain::Drain;
pub(crate) use self::exporter::Exporter;
pub(crate) use self::metrics::{Observe, Observed};
