//! Calls of tools.

use sha2::{Digest as _, Sha256};

use super::definition::family;
use crate::record::coerce::hex;

family! {
    /// A call of a tool, with `action_type` `tool_invocation`; goes to `audit.events`.
    ///
    /// The target is the tool, as for adopted spans of tools. The arguments are not kept, only their hash.
    ///
    /// ```
    /// use tracing_audit::{Status, ToolInvocation};
    ///
    /// let call = ToolInvocation::new("search_orders")
    ///     .arguments(r#"{"customer": "Ada", "year": 2026}"#)
    ///     .input_summary("the orders of one customer")
    ///     .output_summary("3 orders")
    ///     .status(Status::Succeeded);
    /// ```
    ToolInvocation, "tool_invocation";
    tool = target_of("tool");
    pub arguments = by_hand("arguments_sha256", "text");
    /// Sets the SHA-256 of the arguments, as 64 lower-case hexadecimal digits. Default: none;
    /// [`arguments`](Self::arguments) computes it.
    pub arguments_sha256 = text("arguments_sha256");
    /// Sets a summary of the arguments.
    pub input_summary = summary(InputSummary);
    /// Sets a summary of the result.
    pub output_summary = summary(OutputSummary);
    /// Sets the model that asked for the call.
    pub model = text("model");
    /// Sets the provider that runs the model.
    pub provider = text("provider");
}

impl ToolInvocation {
    /// Makes a record of a call of the tool of this name.
    pub fn new(tool: impl Into<String>) -> Self {
        Self::event().tool(tool)
    }

    /// Sets the SHA-256 of the arguments, computed from their text; the arguments are not kept.
    ///
    /// Equal hashes show that a tool was called twice with the same text. Arguments of which there
    /// are few, such as `yes` and `no`, can be found from the hash by trying each.
    ///
    /// ```
    /// use tracing_audit::ToolInvocation;
    ///
    /// let call = ToolInvocation::new("refund").arguments(r#"{"order": 17}"#);
    /// ```
    pub fn arguments(self, arguments: &str) -> Self {
        self.arguments_sha256(hex(&Sha256::digest(arguments.as_bytes())))
    }
}
