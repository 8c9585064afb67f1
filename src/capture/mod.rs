//! Turns a span's fields into a record, on the application's threads.
//!
//! This code runs inside the host's spans: no system call, no blocking, no panic, and no allocation
//! in steady state. Values are written down as recorded; what they mean for a column is decided
//! later, off the hot path ([`crate::record::row`]).
//!
//! - [`callsite`]: whether a callsite is audited and what its fields are, decided once
//! - [`visitor`]: writes field values as entries, within limits; [`translate`]: those of which it
//!   makes other fields
//! - [`span`]: the pooled state of an open span; inheritance, evidence of its outcome
//! - [`open`]: the table of open spans, in [`shard`]s; [`lookup`]: a span's states in all layers
//! - [`context`]: what is recorded on the span of the whole request, and carried to a task, a thread
//!   or a queue ([`captured`]), or to a transaction (`settings`)
//! - [`late`]: whether a span has to look at those around it again
//! - [`future`]: `audited()`, `audit_id()` and `traceparent()`; [`stream`] and `body`: `audited()`
//!   for those
//! - [`failure`]: what is recorded of an error; [`sqlstate`](mod@sqlstate): its code
//! - [`gather`]: text that comes in parts; `conclude`: the end of a request, as its layer saw it
//! - [`host`]: the spans of the host's own OpenTelemetry tracer
//!
//! **Values are copied here and interpreted later.** Parsing a UUID or replacing a NUL byte costs
//! the application's thread more than copying does, so the sink does it. Text over a limit is the
//! exception: it is cut and hashed here, because it must not be copied whole.
//!
//! **No lock is held while host code runs.** A `Debug` implementation may log, open spans or panic.
//! Such values are formatted into a buffer of our own and appended afterwards. Numbers, booleans
//! and short text are copied at once: `tracing`'s `Value` is sealed, so they run no host code.
//!
//! **An `err` event counts for a span only if both come from one place in the source**, as
//! `#[instrument]` makes them. Otherwise a failure that the caller handled would fail the caller.

#[cfg(feature = "http-body")]
mod body;
pub(crate) mod callsite;
mod captured;
#[cfg(any(feature = "tower", feature = "actix-web"))]
pub(crate) mod conclude;
mod context;
mod failure;
mod future;
mod gather;
pub(crate) mod host;
mod late;
pub(crate) mod lookup;
pub(crate) mod open;
pub(crate) mod returned;
mod settings;
mod shard;
pub(crate) mod span;
mod spans;
mod sqlstate;
pub(crate) mod statements;
mod stream;
pub(crate) mod tracked;
pub(crate) mod translate;
pub(crate) mod visitor;

#[cfg(feature = "http-body")]
pub use body::{AuditBodyExt, AuditedBody};
pub use context::{AuditContext, Context, context};
pub use future::{AuditFutureExt, AuditSpanExt, Audited};
pub use gather::Gathered;
pub use sqlstate::sqlstate;
pub use stream::{AuditStreamExt, AuditedStream};
