//! What a check found, worded so that a database administrator can act on it.

use serde_json::{Value, json};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// As it must be.
    Ok,
    /// Worth knowing, or not visible to this login.
    Warning,
    /// The trail does not hold what it promises, or will stop being written.
    Problem,
}

impl Severity {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One checked thing. It holds names and numbers of the catalog, never a record's values.
#[derive(Debug)]
pub(crate) struct Finding {
    /// The check's name. It never changes: scripts rely on it.
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    /// What was checked: a table, a role, a setting.
    pub(crate) object: String,
    /// Its actual state.
    pub(crate) found: String,
    /// Its expected state; empty if it matches.
    pub(crate) expected: String,
    /// The statement that repairs it, which can be run as it stands; empty if there is none.
    pub(crate) advice: String,
    /// What to know before running the statement, or what to do without one; may be empty.
    pub(crate) explanation: String,
    /// The reason why somebody accepted it.
    pub(crate) accepted: Option<String>,
    /// Whether this login may not see it.
    pub(crate) is_unseen: bool,
}

impl Finding {
    pub(crate) fn ok(
        check: &'static str,
        object: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            check,
            severity: Severity::Ok,
            object: object.into(),
            found: found.into(),
            expected: String::new(),
            advice: String::new(),
            explanation: String::new(),
            accepted: None,
            is_unseen: false,
        }
    }

    pub(crate) fn warning(
        check: &'static str,
        object: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::ok(check, object, found)
        }
    }

    pub(crate) fn problem(
        check: &'static str,
        object: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Problem,
            ..Self::ok(check, object, found)
        }
    }

    /// A finding for what this login may not see.
    pub(crate) fn unseen(check: &'static str, object: impl Into<String>) -> Self {
        Self {
            is_unseen: true,
            ..Self::warning(check, object, "not seen: this login may not read it")
        }
        .expected("a login that may")
        .explained("Run this as a superuser, or as a member of audit_auditor.")
    }

    pub(crate) fn expected(self, expected: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            ..self
        }
    }

    pub(crate) fn advice(self, advice: impl Into<String>) -> Self {
        Self {
            advice: advice.into(),
            ..self
        }
    }

    pub(crate) fn explained(self, explanation: impl Into<String>) -> Self {
        Self {
            explanation: explanation.into(),
            ..self
        }
    }

    /// Returns its severity as printed: an accepted finding is neither a problem nor a warning.
    pub(crate) fn word(&self) -> &'static str {
        if self.accepted.is_some() {
            "accepted"
        } else {
            self.severity.word()
        }
    }

    /// Formats the finding as JSON.
    pub(crate) fn json(&self) -> Value {
        let unless_empty = |text: &str| match text {
            "" => Value::Null,
            text => Value::from(text),
        };
        json!({
            "check": self.check,
            "severity": self.word(),
            "object": self.object,
            "found": self.found,
            "expected": unless_empty(&self.expected),
            "advice": unless_empty(&self.advice),
            "explanation": unless_empty(&self.explanation),
            "accepted": self.accepted,
        })
    }
}

/// Returns the findings of a check; if there are none, the line that says all is well.
pub(crate) fn or_ok(
    check: &'static str,
    mut findings: Vec<Finding>,
    object: &str,
    found: impl Into<String>,
) -> Vec<Finding> {
    if findings.is_empty() {
        findings.push(Finding::ok(check, object, found));
    }
    findings
}

/// Returns `items` as a list, or "nobody" if there are none.
pub(crate) fn listed<S: AsRef<str>>(items: &[S]) -> String {
    if items.is_empty() {
        return "nobody".to_owned();
    }
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    items.join(", ")
}

/// Formats a count with its noun.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
