//! What the pipeline counts. Nothing is dropped without being counted by its cause.
//!
//! - [`health`]: why records are dropped, and how the way to Postgres is
//! - [`counters`]: the counters that the stages share
//! - `export`: what the export counts
//! - [`snapshot`]: what became of the records, at one moment

mod counters;
#[cfg(feature = "otlp")]
mod export;
mod health;
mod snapshot;

pub(crate) use counters::Counters;
#[cfg(feature = "otlp")]
pub use export::ExportStats;
pub use health::{DropCause, Health};
pub use snapshot::Stats;
