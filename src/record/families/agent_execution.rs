//! Runs of agents.

use super::definition::{family, words};

words! {
    /// How the run of an agent ended.
    ///
    /// ```
    /// use tracing_audit::AgentOutcome;
    /// assert_eq!(AgentOutcome::Timeout.as_str(), "timeout");
    /// ```
    AgentOutcome {
        /// It did what it was asked to do; the status is `succeeded`.
        Success = "success";
        /// It did not; the status is `failed`.
        Failed = "failed";
        /// It took too long; the status is `failed`, and the error code `timeout` unless it is set.
        Timeout = "timeout";
        /// It met an error; the status is `failed`.
        Error = "error";
    }
}

family! {
    /// The run of an agent, with `action_type` `agent_execution`; goes to `audit.events`.
    ///
    /// The target is the agent, as for adopted spans of agents. How long it took is its
    /// [`latency`](Self::latency).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tracing_audit::{AgentExecution, AgentOutcome};
    ///
    /// let execution = AgentExecution::new("planner")
    ///     .execution_id("x-17")
    ///     .outcome(AgentOutcome::Timeout)
    ///     .latency(Duration::from_secs(30))
    ///     .queue_time_ms(Duration::from_millis(40))
    ///     .http_status(504)
    ///     .credits_consumed(1.5);
    /// ```
    AgentExecution, "agent_execution";
    agent = target_of("agent");
    /// Sets the id of the execution.
    pub execution_id = text("execution_id");
    /// Sets how it ended. The status follows from it unless it is set.
    pub outcome = word("outcome", AgentOutcome);
    /// Sets the time until the answer began; kept in whole milliseconds.
    pub response_time_ms = milliseconds("response_time_ms");
    /// Sets the time of the agent's own work; kept in whole milliseconds.
    pub processing_time_ms = milliseconds("processing_time_ms");
    /// Sets the time before its work began; kept in whole milliseconds.
    pub queue_time_ms = milliseconds("queue_time_ms");
    /// Sets the HTTP status of the answer, such as 200.
    pub http_status = integer("http_status");
    /// Sets how many credits it cost.
    pub credits_consumed = number("credits_consumed");
    /// Sets the client's program.
    pub user_agent = text("user_agent");
    /// Sets the client's IP address.
    pub ip_address = text("ip_address");
    /// Sets a summary of what was asked.
    pub input_summary = summary(InputSummary);
    /// Sets a summary of the answer.
    pub output_summary = summary(OutputSummary);
}

impl AgentExecution {
    /// Makes a record of a run of the agent of this name.
    pub fn new(agent: impl Into<String>) -> Self {
        Self::event().agent(agent)
    }
}
