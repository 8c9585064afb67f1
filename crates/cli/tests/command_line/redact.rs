//! What redaction makes of a text.

use std::io::Write as _;
use std::process::{Output, Stdio};

use super::{bare, stderr, stdout};

/// Runs `redact` with a text on standard input.
fn redact(arguments: &[&str], rules: Option<&str>, text: &str) -> Output {
    let mut command = bare();
    command
        .env_remove("AUDIT_REDACT")
        .arg("redact")
        .args(arguments);
    if let Some(rules) = rules {
        command.env("AUDIT_REDACT", rules);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn text_is_printed_as_it_would_be_stored_with_the_rules_that_applied() {
    let text = "mail ada@example.com, card 4111 1111 1111 1111\n";
    let redacted = redact(&["--check", "-"], Some("secrets,personal"), text);
    assert_eq!(stdout(&redacted), "mail [email], card [card]\n");
    assert_eq!(stderr(&redacted), "card ×1, email ×1\n");
    assert_eq!(redacted.status.code(), Some(1));
    let clean = redact(&["--presets", "secrets"], None, text);
    assert_eq!(
        (stdout(&clean).as_str(), clean.status.code()),
        (text, Some(0))
    );
    let file = std::env::temp_dir().join(format!("tracing-audit-redact-{}", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let of_file = redact(&["--check", file.to_str().unwrap()], Some("personal"), "");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(stdout(&of_file), stdout(&redacted));
    let sql = redact(&["--check", "-"], Some("sql-literals"), "SELECT 'Ada', $1");
    assert_eq!(stdout(&sql), "SELECT '[sql-literal]', $1");
    assert_eq!(stderr(&sql), "sql-literal ×1\n");
}

#[test]
fn redact_without_rules_or_with_unknown_ones_is_an_error() {
    for (arguments, rules) in [
        (&["--check", "-"][..], None),
        (&["--check", "-"], Some("all")),
        (&["--presets", "all"], None),
        (&["--check", "/nowhere", "--presets", "ip"], None),
    ] {
        let refused = redact(arguments, rules, "ada@example.com");
        assert_eq!(
            (refused.status.code(), stdout(&refused).as_str()),
            (Some(2), "")
        );
        assert!(!stderr(&refused).contains("ada"), "{}", stderr(&refused));
    }
}
