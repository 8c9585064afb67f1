#![doc = include_str!("../README.md")]

mod audit;
mod capture;
mod config;
mod database;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
#[allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
pub mod fuzzing;
mod home;
mod layer;
pub mod local_log;
mod pipeline;
mod queue;
mod record;
mod report;
mod sink;
mod spool;
mod stats;
mod sync;
mod vocabulary;

#[cfg(feature = "init")]
pub use audit::init;
pub use audit::{Audit, ShutdownReport, from_env};
#[cfg(feature = "http-body")]
pub use capture::{AuditBodyExt, AuditedBody};
pub use capture::{AuditFutureExt, AuditSpanExt, AuditStreamExt, Audited, AuditedStream, Gathered};
pub use config::{Builder, Durability, Limits, WhenFull};
pub use error::{BuildError, CommitError, FlushError, MigrateError, RecordError};
pub use layer::{AuditLayer, Recorder, Tagged};
pub use record::{Event, NewRecord, PromptRun, QueryRun};
#[cfg(feature = "otlp")]
pub use sink::otlp::{Otlp, OtlpProtocol, QueryText};
pub use sink::postgres::{make_roles, migrate};
#[cfg(feature = "otlp")]
pub use stats::ExportStats;
pub use stats::{DropCause, Health, Stats};
pub use vocabulary::{Kind, Status};
