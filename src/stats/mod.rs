//! Counters, health and snapshots of the pipeline. Every dropped record is counted by its cause.
//!
//! - [`health`]: the causes of dropped records, and the health of the pipeline
//! - [`counters`]: the counters that the stages share
//! - `export`: the counters of the export
//! - [`snapshot`]: all of it at one moment

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
