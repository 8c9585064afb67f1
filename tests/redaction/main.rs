//! Redaction: secrets and personal values are found, and what looks like them is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod corpus;
mod environment;
mod everywhere;
mod harmless;
mod sql_literals;

use tracing_audit::redact::{Checker, Redaction};

fn presets() -> Checker {
    Redaction::default().secrets().personal().checker().unwrap()
}

#[test]
fn every_value_of_the_corpus_is_redacted() {
    let redaction = presets();
    let all: Vec<_> = corpus::secrets()
        .into_iter()
        .chain(corpus::persons())
        .collect();
    assert!(all.len() >= 300, "{}", all.len());
    let leaking: Vec<_> = all
        .iter()
        .filter(|secret| {
            let checked = redaction.check(&secret.text);
            secret
                .value
                .split('\n')
                .any(|part| checked.text().contains(part))
        })
        .map(|secret| &secret.text)
        .collect();
    assert!(
        leaking.is_empty(),
        "{} of {}: {leaking:#?}",
        leaking.len(),
        all.len()
    );
}

#[test]
fn look_alikes_are_left_as_they_are() {
    let redaction = presets();
    let all = harmless::texts();
    let alarms: Vec<_> = all
        .iter()
        .filter_map(|text| {
            let checked = redaction.check(text);
            (checked.text() != *text).then(|| (text, checked.text().to_owned()))
        })
        .collect();
    // 0.2 %.
    assert!(
        alarms.len() * 500 <= all.len(),
        "{} of {}: {alarms:#?}",
        alarms.len(),
        all.len()
    );
}

#[test]
fn captured_trail_is_redacted_as_the_rows_are() {
    let rules = Redaction::default().personal();
    let trail = tracing_audit::Audit::builder().redact(rules).capture();
    let _guard = trail.set_default();
    tracing::info_span!("audit.query_run", sql_text = "SELECT 'ada@example.com'");
    let query = trail.query_runs().one();
    assert_eq!(query.sql_text(), Some("SELECT '[email]'"));
    assert_eq!(query.redactions(), ["sql_text: email ×1"]);
}
