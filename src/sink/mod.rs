//! The sinks, which read records from the spool and deliver them. Each sink reads at its own pace
//! and keeps its own position.
//!
//! - [`source`]: a log that a sink reads: this process's own, or an orphaned one
//! - [`backoff`]: pauses that grow while attempts fail

pub(crate) mod backoff;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
pub(crate) mod postgres;
mod source;
