//! What follows from the fields of an event of a family, the same for a span and for a builder.

use sha2::{Digest as _, Sha256};

use crate::record::coerce::hex;
use crate::vocabulary::Status;

/// What follows from the fields of a family's events.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::record) struct Derived {
    action_type: &'static str,
    /// The key of `metadata` whose word says the outcome, if the field `status` does not.
    pub(in crate::record) outcome: Option<&'static str>,
    /// The key of `metadata` of which the text of a JSON array or object becomes JSON.
    pub(in crate::record) json: Option<&'static str>,
    /// Whether it has a fingerprint.
    pub(in crate::record) has_fingerprint: bool,
}

const DERIVED: [Derived; 4] = [
    Derived {
        outcome: Some("outcome"),
        ..Derived::nothing("agent_execution")
    },
    Derived {
        outcome: Some("decision"),
        ..Derived::nothing("approval")
    },
    Derived {
        json: Some("context"),
        ..Derived::nothing("log")
    },
    Derived {
        json: Some("details"),
        has_fingerprint: true,
        ..Derived::nothing("system_error")
    },
];

impl Derived {
    const fn nothing(action_type: &'static str) -> Self {
        Self {
            action_type,
            outcome: None,
            json: None,
            has_fingerprint: false,
        }
    }

    /// Returns what follows from the fields of an event of this type, if anything does.
    pub(in crate::record) fn of(action_type: &str) -> Option<&'static Self> {
        DERIVED
            .iter()
            .find(|derived| derived.action_type == action_type)
    }
}

/// Returns the status that a word of an outcome stands for, and the error code that it implies.
pub(in crate::record) fn status_of(word: &str) -> Option<(Status, Option<&'static str>)> {
    if word.trim().eq_ignore_ascii_case("approved") {
        return Some((Status::Succeeded, None));
    }
    Status::of_word(word)
}

/// Returns what groups the same error; `None` without anything to tell it by. Frozen: rows that are
/// there have it.
pub(in crate::record) fn fingerprint(
    component: &str,
    error_type: &str,
    error_code: &str,
) -> Option<String> {
    if [component, error_type, error_code]
        .iter()
        .all(|part| part.is_empty())
    {
        return None;
    }
    let hash = Sha256::new()
        .chain_update(component)
        .chain_update("\u{1f}")
        .chain_update(error_type)
        .chain_update("\u{1f}")
        .chain_update(error_code)
        .finalize();
    Some(hex(&hash))
}
