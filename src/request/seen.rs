//! What was seen of a body, as a part of the request's record.

use tracing::Span;

use super::body::Beginning;
use crate::capture::AuditSpanExt as _;
use crate::capture::conclude::record_number;

/// What the service has read of a request's body; recorded on drop.
#[derive(Debug)]
pub(crate) struct ReadBody {
    span: Span,
    beginning: Beginning,
}

impl ReadBody {
    /// Keeps at most so many bytes, for the record of the request's span.
    pub(crate) fn new(span: Span, bytes: usize) -> Self {
        Self {
            span,
            beginning: Beginning::new(bytes),
        }
    }

    /// Sees a part of `len` bytes that begins with `data`.
    pub(crate) fn see(&mut self, data: &[u8], len: usize) {
        self.beginning.see(data, len);
    }
}

impl Drop for ReadBody {
    fn drop(&mut self) {
        if self.beginning.seen() > 0 {
            record_body(&self.span, "http.request.body", &self.beginning);
        }
    }
}

/// Records the beginning of a body, if it is text, and how long it was.
pub(super) fn record_body(span: &Span, name: &str, body: &Beginning) {
    if let Some(text) = body.text() {
        span.gather(name).push(text);
    }
    record_number(span, &format!("{name}.size"), body.seen());
}
