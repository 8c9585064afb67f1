//! Who asks.

use tracing::Span;

use crate::capture::AuditSpanExt as _;

/// Who a request is by, as a hook knows it from the request's head; see
/// `AuditRequestLayer::identify`.
///
/// What is not set here can be recorded later with [`context`](crate::context).
///
/// ```
/// let identity = tracing_audit::Identity::new().tenant("acme").user("alice").role("admin");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Identity {
    values: Vec<(&'static str, String)>,
}

impl Identity {
    /// Creates an identity of which nothing is known.
    ///
    /// ```
    /// let nobody = tracing_audit::Identity::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    fn set(mut self, name: &'static str, value: String) -> Self {
        self.values.push((name, value));
        self
    }

    /// Sets the tenant, a UUID or any key: `tenant_id`.
    ///
    /// ```
    /// let identity = tracing_audit::Identity::new().tenant("acme");
    /// ```
    #[must_use]
    pub fn tenant(self, tenant_id: impl Into<String>) -> Self {
        self.set("tenant_id", tenant_id.into())
    }

    /// Sets the user: `user_id`.
    ///
    /// ```
    /// let identity = tracing_audit::Identity::new().user("alice");
    /// ```
    #[must_use]
    pub fn user(self, user_id: impl Into<String>) -> Self {
        self.set("user_id", user_id.into())
    }

    /// Sets what the user may do: `user_role`.
    ///
    /// ```
    /// let identity = tracing_audit::Identity::new().user("alice").role("admin");
    /// ```
    #[must_use]
    pub fn role(self, user_role: impl Into<String>) -> Self {
        self.set("user_role", user_role.into())
    }

    /// Sets the agent, a UUID: `agent_id`.
    ///
    /// ```
    /// let identity = tracing_audit::Identity::new().agent("0198f1d3-0000-7000-8000-000000000001");
    /// ```
    #[must_use]
    pub fn agent(self, agent_id: impl Into<String>) -> Self {
        self.set("agent_id", agent_id.into())
    }

    /// Sets the conversation: `conversation_id`.
    ///
    /// ```
    /// let identity = tracing_audit::Identity::new().conversation("c-7");
    /// ```
    #[must_use]
    pub fn conversation(self, conversation_id: impl Into<String>) -> Self {
        self.set("conversation_id", conversation_id.into())
    }

    /// Records the values on the request's span.
    pub(super) fn record(&self, span: &Span) {
        if self.values.is_empty() {
            return;
        }
        let context = span.audit_context();
        for (name, value) in &self.values {
            context.set(name, value);
        }
    }
}
