//! The families of events: each is an `action_type` with fields of its own, as a typed builder and under the same names
//! on a span.
//!
//! A family's file has one list of its fields ([`definition`]). What follows from the fields of an event, however it was
//! recorded, is [`derived`] when its row is made. The page docs/families.md has the lists as tables.

mod agent_execution;
mod agent_log;
mod approval;
mod definition;
pub(super) mod derived;
mod escalation;
mod feedback;
mod http_request;
mod llm_call;
mod mandate;
mod security_event;
mod system_error;
mod system_metric;
mod tool_invocation;
mod transaction;

pub use agent_execution::{AgentExecution, AgentOutcome};
pub use agent_log::{AgentLog, LogCategory};
pub use approval::{Approval, Decision};
pub use definition::SUMMARY_CHARS;
pub use escalation::Escalation;
pub use feedback::Feedback;
pub use http_request::HttpRequest;
pub use llm_call::LlmCall;
pub use mandate::Mandate;
pub use security_event::SecurityEvent;
pub use system_error::SystemError;
pub use system_metric::SystemMetric;
pub use tool_invocation::ToolInvocation;
pub use transaction::Transaction;

#[cfg(test)]
mod tests;
