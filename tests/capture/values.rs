//! Values that are bad, too long, or whose `Debug` misbehaves.

use std::collections::BTreeSet;

use super::of;
use serde_json::json;
use testkit::trail::Trail;
use tracing::field::Empty;
use tracing::info_span;
use tracing_audit::{Kind, Limits};

#[test]
fn row_is_kept_when_a_value_is_invalid() {
    let trail = Trail::start();
    trail.scoped(|| {
        let span = info_span!(
            "audit.query_run",
            agent_id = "no uuid",
            row_count = "many",
            rows_affected = i64::MAX,
            sql_text = "a\0b",
            huge = u128::MAX,
            nan = f64::NAN,
            nul = "x\0y",
        );
        // The value recorded last counts, and it has no problem.
        span.record("sql_text", "fine");
        drop(span);
        info_span!("audit.query_run", row_count = "12", rows_affected = ?Some(3), sql_text = "c\0d");
        info_span!("audit.query_run", row_count = 2.0, rows_affected = ?None::<u8>, agent_id = ?None::<u8>);
    });
    let rows = trail.rows(Kind::QueryRun);
    assert_eq!(
        of(
            &rows[0],
            &["agent_id", "row_count", "rows_affected", "sql_text"]
        ),
        json!({
            "agent_id": null, "row_count": null, "rows_affected": null, "sql_text": "fine",
        })
    );
    assert_eq!(
        rows[0]["metadata"],
        json!({
            "agent_id": "no uuid", "row_count": "many", "rows_affected": i64::MAX, "huge": u128::MAX.to_string(),
            "nan": "NaN", "nul": "x\u{fffd}y",
        })
    );
    let problems: BTreeSet<_> = rows[0]["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    assert_eq!(
        problems,
        BTreeSet::from([
            "agent_id: not a UUID",
            "row_count: not an integer",
            "rows_affected: out of range for an integer",
            "huge: a number of 128 bits, kept as text",
            "nan: not a finite number, kept as text",
            "nul: NUL replaced",
        ])
    );
    assert_eq!(
        of(
            &rows[1],
            &["row_count", "rows_affected", "sql_text", "problems"]
        ),
        json!({
            "row_count": 12, "rows_affected": 3, "sql_text": "c\u{fffd}d", "problems": ["sql_text: NUL replaced"],
        })
    );
    assert_eq!(
        of(
            &rows[2],
            &[
                "row_count",
                "rows_affected",
                "agent_id",
                "problems",
                "metadata"
            ]
        ),
        json!({
            "row_count": 2, "rows_affected": null, "agent_id": null, "problems": [], "metadata": {},
        })
    );
}

#[test]
fn text_over_its_limit_is_truncated_with_its_length_and_sha256() {
    let limits = Limits::default()
        .with_field_bytes(1_000)
        .with_record_bytes(2_500);
    let trail = Trail::start_with(|builder| builder.limits(limits));
    // 999 bytes and a two-byte character: the cut is before it.
    let text = format!("{}ä and more", "x".repeat(999));
    trail.scoped(|| {
        info_span!("audit.query_run", sql_text = text, question_text = %text, request_id = "k".repeat(2_000));
        let span = info_span!("audit.query_run", sql_text = Empty, question_text = Empty, sql_summary = Empty, extra = Empty, row_count = Empty);
        for field in ["sql_text", "question_text", "sql_summary", "extra"] {
            span.record(field, "y".repeat(900));
        }
        span.record("row_count", 5);
    });
    let hash = |text: &str| {
        trail.postgres.psql(&format!(
            "SELECT encode(sha256('{text}'::text::bytea), 'hex')"
        ))
    };
    let rows = trail.rows(Kind::QueryRun);
    assert_eq!(rows[0]["sql_text"], "x".repeat(999));
    assert_eq!(rows[0]["question_text"], "x".repeat(999));
    let problems: BTreeSet<_> = rows[0]["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    let (whole, key) = (hash(&text), hash(&"k".repeat(2_000)));
    for expected in [
        format!(
            "sql_text: truncated from {} bytes, sha256 {}",
            text.len(),
            whole.trim()
        ),
        format!(
            "question_text: truncated from {} bytes, sha256 {}",
            text.len(),
            whole.trim()
        ),
    ] {
        assert!(problems.contains(&*expected), "{expected} in {problems:?}");
    }
    // An identifier is cut at 1 KiB, or at the record's limit.
    let cut = problems
        .iter()
        .find(|problem| problem.starts_with("request_id: "))
        .unwrap();
    assert_eq!(
        *cut,
        format!(
            "request_id: truncated from 2000 bytes, sha256 {}",
            key.trim()
        )
    );
    // Fields that no longer fit into the record are named; the others are there.
    assert_eq!(rows[1]["sql_text"], "y".repeat(900));
    assert_eq!(rows[1]["question_text"], "y".repeat(900));
    assert!(
        rows[1]["problems"]
            .to_string()
            .contains("dropped, the record is over its limit"),
        "{}",
        rows[1]
    );
}

#[test]
fn debug_that_panics_logs_opens_spans_or_never_ends_affects_only_its_own_value() {
    struct Panics;
    impl std::fmt::Debug for Panics {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("half")?;
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
    struct Logs;
    impl std::fmt::Debug for Logs {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let span =
                info_span!("audit.event", target_id = "from a Debug", late = Empty).entered();
            span.record("late", 1);
            tracing::info!(target: "audit.event", target_id = "event from a Debug");
            f.write_str("logged")
        }
    }
    struct Endless;
    impl std::fmt::Debug for Endless {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            loop {
                f.write_str("0123456789")?;
            }
        }
    }
    // With a single subscriber, `tracing` treats a callsite first reached inside that subscriber as
    // disabled; with two it asks both. Other tests of this process may have a subscriber, so this
    // one always makes a second.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let trail = Trail::start();
    trail.scoped(|| {
        let span =
            info_span!("audit.query_run", sql_text = "kept", a = ?Panics, b = ?Logs, c = Empty);
        // The event is emitted inside the span itself.
        span.in_scope(|| span.record("c", tracing::field::debug(Logs)));
        drop(span);
        info_span!("audit.query_run", sql_text = "kept too", endless = ?Endless);
    });
    let rows = trail.rows(Kind::QueryRun);
    assert_eq!(
        rows[0]["metadata"],
        json!({"a": "half", "b": "logged", "c": "logged"})
    );
    assert_eq!(rows[0]["problems"], json!(["a: its formatting failed"]));
    assert_eq!(
        rows[1]["metadata"]["endless"].as_str().unwrap().len(),
        1024 * 1024
    );
    let problem = rows[1]["problems"][0].as_str().unwrap();
    assert!(
        problem.starts_with("endless: truncated, formatting was stopped after 16777"),
        "{problem}"
    );
    // A scoped subscriber misses events emitted while it handles a new span, but not those emitted
    // while it handles a value recorded later: here the span and the event of `c`. A global one
    // gets all of them, see below.
    assert_eq!(trail.rows(Kind::Event).len(), 2);
}
