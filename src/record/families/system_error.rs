//! Errors of the system itself.

use super::definition::family;

family! {
    /// An error of the system itself, with `action_type` `system_error`; goes to `audit.events`.
    ///
    /// The fingerprint groups the same error. Unless it is set, it is the SHA-256 of component,
    /// error type and error code, as hexadecimal digits: of their texts with the character U+001F
    /// between them, where one that is not set is empty. Without any of the three there is none.
    ///
    /// ```
    /// use serde_json::json;
    /// use tracing_audit::{Status, SystemError};
    ///
    /// let error = SystemError::new("ConnectionReset")
    ///     .component("orders-db")
    ///     .severity("critical")
    ///     .error_code("08006")
    ///     .error_message("connection reset by peer")
    ///     .details(json!({ "attempt": 3 }))
    ///     .status(Status::Failed);
    /// ```
    SystemError, "system_error";
    /// Sets the type of the error.
    error_type = text("error_type");
    /// Sets the severity, such as `warning` or `critical`.
    pub severity = text("severity");
    /// Sets the part of the system that it happened in.
    pub component = text("component");
    /// Sets what else is known, as JSON.
    pub details = json("details");
    /// Sets what groups the same error. Default: a hash, see [`SystemError`].
    pub fingerprint = text("fingerprint");
    pub target = any_target();
}

impl SystemError {
    /// Makes a record of an error of this type.
    pub fn new(error_type: impl Into<String>) -> Self {
        Self::event().error_type(error_type)
    }
}
