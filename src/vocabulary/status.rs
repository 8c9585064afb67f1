//! The outcome of a run, and the customary words for it.

use std::fmt;

/// The outcome of a run, as stored in the enum `audit.run_status`.
///
/// ```
/// use tracing_audit::Status;
/// assert_eq!(Status::Succeeded.as_str(), "succeeded");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// There is evidence that the run did what it was asked to do.
    Succeeded,
    /// There is evidence that it failed.
    Failed,
    /// It was abandoned before it ended.
    Cancelled,
    /// It was refused before it began, by a policy or a person.
    Rejected,
    /// There is no evidence of its outcome.
    Unknown,
}

impl Status {
    /// Returns the label in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }

    /// Parses a common word for an outcome, in any case; the second part is the error code that the
    /// word implies. `None`: the word stands for no outcome.
    pub(crate) fn of_word(word: &str) -> Option<(Self, Option<&'static str>)> {
        const WORDS: &[(&str, Status, Option<&str>)] = &[
            ("succeeded", Status::Succeeded, None),
            ("success", Status::Succeeded, None),
            ("successful", Status::Succeeded, None),
            ("ok", Status::Succeeded, None),
            ("failed", Status::Failed, None),
            ("failure", Status::Failed, None),
            ("error", Status::Failed, None),
            ("timeout", Status::Failed, Some("timeout")),
            ("timed_out", Status::Failed, Some("timeout")),
            ("timed out", Status::Failed, Some("timeout")),
            // As in `std::io::ErrorKind`.
            ("timedout", Status::Failed, Some("timeout")),
            ("cancelled", Status::Cancelled, None),
            ("canceled", Status::Cancelled, None),
            ("rejected", Status::Rejected, None),
            ("unknown", Status::Unknown, None),
        ];
        let word = word.trim();
        WORDS
            .iter()
            .find(|(known, _, _)| word.eq_ignore_ascii_case(known))
            .map(|&(_, status, code)| (status, code))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_status_words_are_recognized_in_any_case() {
        assert_eq!(Status::of_word(" OK "), Some((Status::Succeeded, None)));
        assert_eq!(
            Status::of_word("Timeout"),
            Some((Status::Failed, Some("timeout")))
        );
        let kind = format!("{:?}", std::io::ErrorKind::TimedOut);
        for word in [&*kind, "timed out", "timed_out"] {
            let known = Some((Status::Failed, Some("timeout")));
            assert_eq!(Status::of_word(word), known, "{word}");
        }
        assert_eq!(Status::of_word("done-ish"), None);
    }
}
