//! Escalations: what an agent hands over to a person.

use super::definition::family;

family! {
    /// An agent's call for a person or another team, with `action_type` `escalation`; goes to
    /// `audit.events`.
    ///
    /// ```
    /// use tracing_audit::Escalation;
    ///
    /// let escalation = Escalation::new("the refund exceeds the limit")
    ///     .escalated_to("billing")
    ///     .severity("high")
    ///     .input_summary("Refund order 17, 4,200 EUR");
    /// ```
    Escalation, "escalation";
    /// Sets why.
    reason = text("reason");
    /// Sets to whom: a person, a team or a queue.
    pub escalated_to = text("escalated_to");
    /// Sets the severity, such as `low` or `high`.
    pub severity = text("severity");
    /// Sets a summary of what the agent was asked.
    pub input_summary = summary(InputSummary);
    /// Sets a summary of what came of it.
    pub output_summary = summary(OutputSummary);
    /// Sets the model that the agent used.
    pub model = text("model");
    /// Sets the provider that runs the model.
    pub provider = text("provider");
}

impl Escalation {
    /// Makes a record of an escalation for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self::event().reason(reason)
    }
}
