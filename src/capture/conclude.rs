//! The end of a request's run, as the layer around the service saw it.

use std::fmt::Display;

use tracing::Span;

use super::failure::Failure;
use super::future::saw_and;
use super::lookup;
use crate::record::encode::{Evidence, Key, ty};
use crate::vocabulary::{Field, Status};

/// How a run ended. What the host recorded on the span itself takes precedence over all of it.
pub(crate) struct Conclusion<'a> {
    /// What the response says, where that is more than the evidence does.
    pub(crate) status: Option<Status>,
    pub(crate) error_code: Option<&'a str>,
    pub(crate) error_message: Option<&'a str>,
    pub(crate) evidence: Evidence,
    /// The error that was seen, for the column `error_message`.
    pub(crate) error: Option<&'a dyn Display>,
}

impl Conclusion<'_> {
    pub(crate) fn of(evidence: Evidence) -> Self {
        Self {
            status: None,
            error_code: None,
            error_message: None,
            evidence,
            error: None,
        }
    }
}

/// Records how the span's run ended, and that it ended now.
pub(crate) fn conclude(span: &Span, end: &Conclusion<'_>) {
    let failure = end.error.map(Failure::of_text);
    saw_and(span, end.evidence, failure.as_ref(), |state| {
        for (field, text) in [
            (Field::Status, end.status.map(Status::as_str)),
            (Field::ErrorCode, end.error_code),
            (Field::ErrorMessage, end.error_message),
        ] {
            if let Some(text) = text {
                state.set_if_unset(field, text);
            }
        }
        state.mark_end();
    });
}

/// Records a number in the record's `metadata`, by a name that the span need not declare.
pub(crate) fn record_number(span: &Span, name: &str, value: u64) {
    lookup::change_span(span, |state| {
        let limits = state.limits;
        let value = value.to_le_bytes();
        state
            .buffers
            .fixed(Key::Extra(name), ty::U64, value, &limits);
    });
}
