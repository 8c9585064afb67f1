//! Security events, such as logins.

use super::definition::family;

family! {
    /// A security event, such as a login, with `action_type` `security`; goes to `audit.events`.
    ///
    /// The status says how it ended: a login that was refused is
    /// [`Status::Rejected`](crate::Status::Rejected). The request layers record each denied request
    /// themselves, as `access_denied`.
    ///
    /// ```
    /// use tracing_audit::{SecurityEvent, Status};
    ///
    /// let login = SecurityEvent::new("login")
    ///     .user_id("alice")
    ///     .source("sso")
    ///     .client_address("198.51.100.7")
    ///     .status(Status::Rejected)
    ///     .error_code("wrong_password");
    /// let export = SecurityEvent::new("data_exported").target("report", "2026-10");
    /// ```
    SecurityEvent, "security";
    /// Sets what happened.
    event_name = text("event");
    /// Sets where it came from: an address or a component.
    pub source = text("source");
    /// Sets the client's address.
    pub client_address = text("client.address");
    pub target = any_target();
}

impl SecurityEvent {
    /// Makes a record of what happened: `login`, `access_denied`, `rights_changed`,
    /// `data_exported`, or a word of the program's own.
    pub fn new(event: impl Into<String>) -> Self {
        Self::event().event_name(event)
    }
}
