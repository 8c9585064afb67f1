//! What happened to a value that could not be kept whole.

use crate::record::decode::Value;

/// How much of a value is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    Nothing,
    /// The end of the value.
    Part,
    /// All of the value, or the rest is meaningless.
    Whole,
}

impl Lost {
    pub(super) fn of(happened: Value<'_>) -> Self {
        match happened {
            Value::Cut { .. } | Value::Stopped { .. } => Self::Part,
            Value::FormatFailed | Value::Dropped => Self::Whole,
            _ => Self::Nothing,
        }
    }
}
