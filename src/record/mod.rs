//! What a record is, as bytes and as a row.
//!
//! A record is encoded once, on the thread that closed its span ([`encode`]). The queue carries
//! those bytes and the spool stores them. [`decode`] reads them back, and [`row`] converts them to
//! the typed values of a row: each value by [`coerce`], a key in the output of a `Debug` by
//! [`debug_text`]. `problems` names what could not be stored as it was recorded. [`trace`]
//! determines which trace the record belongs to.

pub(crate) mod buffers;
mod builders;
pub(crate) mod coerce;
pub(crate) mod debug_text;
pub(crate) mod decode;
pub(crate) mod encode;
mod families;
pub(crate) mod frames;
pub(crate) mod gap;
pub(crate) mod id;
mod jsonb;
pub(crate) mod lost;
pub(crate) mod row;
pub(crate) mod trace;

pub use builders::{Event, NewRecord, PromptRun, QueryRun};
pub use families::{
    AgentExecution, AgentLog, AgentOutcome, Approval, Decision, Escalation, Feedback, HttpRequest,
    LlmCall, LogCategory, Mandate, SUMMARY_CHARS, SecurityEvent, SystemError, SystemMetric,
    ToolInvocation, Transaction,
};
