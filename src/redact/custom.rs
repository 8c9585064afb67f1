//! Redactors that a program brings.

use std::fmt;

/// A redactor of a program's own; given to [`Redaction::custom`](super::Redaction::custom).
///
/// It is called on the worker, for each text of each record, after the rules. If it panics, the
/// text becomes `[redaction failed]` and is counted in [`RedactionStats::failed`](super::RedactionStats::failed).
///
/// ```
/// use tracing_audit::redact::{Redaction, Redactor};
///
/// struct Names;
///
/// impl Redactor for Names {
///     fn name(&self) -> &str {
///         "customer"
///     }
///
///     fn redact(&self, _place: &str, text: &str) -> Option<String> {
///         text.contains("Ada Lovelace").then(|| text.replace("Ada Lovelace", "[customer]"))
///     }
/// }
///
/// let checked = Redaction::default().custom(Names).check("asked by Ada Lovelace")?;
/// assert_eq!(checked.text(), "asked by [customer]");
/// # Ok::<(), tracing_audit::redact::RedactionError>(())
/// ```
pub trait Redactor: Send + Sync + 'static {
    /// Returns the name that `redactions` and the counters show.
    fn name(&self) -> &str;

    /// Returns what becomes of a text; `None`: nothing changes. `place` is its path in lower case and
    /// without `_` and `-`, such as `sqltext` or `metadata.customer.note`; JSON comes whole.
    fn redact(&self, place: &str, text: &str) -> Option<String>;
}

impl fmt::Debug for dyn Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}
