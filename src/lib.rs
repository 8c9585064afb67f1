#![doc = include_str!("../README.md")]

mod audit;
mod capture;
mod clock;
mod config;
mod database;
mod delivery;
mod error;
mod fork;
#[cfg(fuzzing)]
#[doc(hidden)]
#[allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
pub mod fuzzing;
mod intake;
mod layer;
mod limits;
pub mod local_log;
mod own_threads;
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
#[cfg(feature = "otlp")]
pub use config::otlp::{Otlp, OtlpProtocol, QueryText};
pub use config::{Builder, Durability, WhenFull};
pub use error::{BuildError, CommitError, FlushError, MigrateError, RecordError};
pub use layer::{AuditLayer, Recorder, Tagged};
pub use limits::Limits;
pub use record::{Event, NewRecord, PromptRun, QueryRun};
pub use sink::postgres::{make_roles, migrate, migration_script};
#[cfg(feature = "otlp")]
pub use stats::ExportStats;
pub use stats::{DropCause, Health, Stats};
pub use vocabulary::{Kind, Status};
