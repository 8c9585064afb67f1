//! Counters, health and snapshots of the pipeline. Every dropped record is counted by its cause.
//!
//! - [`health`]: the causes of dropped records, and the health of the pipeline
//! - [`counters`]: the counters that the stages share
//! - `export`: the counters of the export
//! - [`snapshot`]: all of it at one moment
//! - `exposition`, `prometheus`: that as text for Prometheus

mod counters;
#[cfg(feature = "otlp")]
mod export;
#[cfg_attr(
    not(feature = "__program"),
    allow(unreachable_pub, reason = "what `__program` re-exports is public")
)]
mod exposition;
mod health;
mod prometheus;
mod snapshot;

pub(crate) use counters::Counters;
#[cfg(feature = "otlp")]
pub use export::ExportStats;
#[cfg(feature = "__program")]
pub use exposition::{Exposition, MetricType};
pub use health::{DropCause, Health};
pub use snapshot::Stats;
