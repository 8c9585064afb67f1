//! Exports the trail as OTLP spans and metrics: a second reader of the spool, at its own pace.
//!
//! - [`conventions`]: the names, in one table
//! - [`span`]: turns a row into a span, with [`attributes`], [`message`], [`sql`] and, for
//!   what receivers read beside the conventions, [`receivers`]; pure
//! - [`payload`]: puts records into a request
//! - [`transport`], [`tls`], [`fault`]: send a request and classify its answer
//! - [`drain`]: the loop over all logs
//! - [`metrics`]: counters, durations, token usage
//!
//! **Nothing waits for the export.** Its position is stored with the log; a sink that is not
//! configured needs nothing there, so without an export chunks are removed as soon as Postgres has
//! them. The spool thread, which removes chunks, discards records that exceed the export's quota,
//! so a request that hangs cannot fill the disk.

mod attributes;
mod conventions;
mod drain;
mod exporter;
mod fault;
mod message;
mod metrics;
mod payload;
mod receivers;
mod span;
mod sql;
mod tls;
mod transport;

pub(crate) use self::drain::Drain;
pub(crate) use self::exporter::Exporter;
pub(crate) use self::metrics::{Observe, Observed};
