//! Exports the trail as OTLP spans and metrics: a second reader of the spool, at its own pace.
//!
//! - [`conventions`]: the names, in one table
//! - [`span`]: turns a row into a span, with [`attributes`], [`message`], [`sql`] and, for
//!   what receivers read beside the conventions, [`receivers`]; pure
//! - [`payload`]: puts records into a request
//! - [`transport`], [`tls`], [`fault`]: send a request and classify its answer
//! - [`destination`]: what the spans are sent to; or, instead of a collector, the host's own exporter
//!   ([`host_exporter`]), which gets the same spans as the SDK has them ([`span_data`])
//! - [`drain`]: the loop over all logs
//! - [`metrics`]: counters, durations, token usage
//!
//! **Nothing waits for the export.** Its position is stored with the log; a sink that is not
//! configured needs nothing there, so without an export chunks are removed as soon as Postgres has
//! them. The spool thread, which removes chunks, discards records that exceed the export's quota,
//! so a request that hangs cannot fill the disk.

mod attributes;
mod conventions;
mod destination;
mod drain;
mod exporter;
mod fault;
mod host_exporter;
mod message;
mod metrics;
mod payload;
mod receivers;
mod span;
mod span_data;
mod tls;
mod transport;

pub(crate) use self::drain::Drain;
pub(crate) use self::exporter::Exporter;
pub(crate) use self::metrics::{Observe, Observed};
