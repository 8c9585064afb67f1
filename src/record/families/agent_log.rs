//! What agents log.

use super::definition::{family, words};

words! {
    /// What a line of an agent's log is about.
    ///
    /// ```
    /// use tracing_audit::LogCategory;
    /// assert_eq!(LogCategory::UserAction.as_str(), "user_action");
    /// ```
    LogCategory {
        /// What the agent does.
        Execution = "execution";
        /// An error.
        Error = "error";
        /// How long something took, or how much it used.
        Performance = "performance";
        /// What the user did.
        UserAction = "user_action";
    }
}

family! {
    /// A line of an agent's log, with `action_type` `log`; goes to `audit.activities`.
    ///
    /// ```
    /// use serde_json::json;
    /// use tracing_audit::{AgentLog, LogCategory};
    ///
    /// let log = AgentLog::new("the search took long")
    ///     .category(LogCategory::Performance)
    ///     .level("warn")
    ///     .context(json!({ "index": "orders", "took_ms": 1200 }))
    ///     .execution_id("x-17");
    /// ```
    AgentLog, "log";
    /// Sets the message.
    message = text("message");
    /// Sets what it is about.
    pub category = word("category", LogCategory);
    /// Sets the level, such as `info` or `error`.
    pub level = text("level");
    /// Sets what belongs to the message, as JSON.
    pub context = json("context");
    /// Sets the execution of the agent that it belongs to, by its id.
    pub execution_id = text("execution_id");
}

impl AgentLog {
    /// Makes a record of this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::event().message(message)
    }
}
