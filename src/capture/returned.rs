//! What an instrumented function returned, as far as it tells of the outcome.

use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::field::{Field, Visit};

use crate::record::encode::Evidence;

/// The evidence in the value that an instrumented function returned. `ret` alone reports an `Err`
/// in the same event as any other value, so that only the text tells them apart: it begins with
/// `Err(`, or has it where an inner value begins, as `Some(Err(…))` does. No more of the value is
/// formatted than is checked.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    seen: usize,
    /// How many bytes of `Err(` were matched last.
    matched: usize,
    last: u8,
    is_in_string: bool,
    is_escaped: bool,
    /// The position where it was found first.
    err_at: Option<usize>,
}

/// How many bytes of a returned value are checked.
const RETURNED_BYTES: usize = 1024;

impl Returned {
    pub(crate) fn evidence(&self) -> Evidence {
        match self.err_at {
            Some(0) => Evidence::Err,
            Some(_) => Evidence::Nested,
            None => Evidence::Ok,
        }
    }

    fn see(&mut self, byte: u8) {
        const ERR: &[u8] = b"Err(";
        if self.is_in_string {
            let is_quote = byte == b'"' && !self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            self.is_in_string = !is_quote;
        } else if byte == b'"' && self.last != b'\'' {
            self.is_in_string = true;
            self.matched = 0;
        } else if byte == ERR[self.matched] && (self.matched > 0 || !is_of_name(self.last)) {
            self.matched += 1;
            if self.matched == ERR.len() {
                self.err_at.get_or_insert(self.seen + 1 - ERR.len());
                self.matched = 0;
            }
        } else {
            self.matched = 0;
        }
        self.last = byte;
        self.seen += 1;
    }
}

/// Returns whether a byte may be part of a name.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

impl fmt::Write for Returned {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // An error stops the formatting.
            if self.seen == RETURNED_BYTES || self.err_at.is_some() {
                return Err(fmt::Error);
            }
            self.see(byte);
        }
        Ok(())
    }
}

impl Visit for Returned {
    fn record_str(&mut self, _: &Field, _: &str) {}

    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        // The host's code may fail or panic; what it wrote until then counts.
        let _ = catch_unwind(AssertUnwindSafe(|| write!(self, "{value:?}")));
    }
}
