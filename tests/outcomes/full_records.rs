//! What has room in a record that is full.

use super::{assert_outcomes, run};
use serde_json::json;
use testkit::trail::Trail;
use tracing::field::Empty;
use tracing::info_span;
use tracing_audit::{AuditSpanExt as _, Kind};

#[test]
fn keys_and_status_are_kept_in_a_full_record() {
    // Room for all of them: a slow disk drops none.
    let trail = Trail::start_with(|builder| builder.queue_limits(65_536, 256 << 20));
    let big = "x".repeat(1 << 20);
    let full = |sql: &'static str| {
        info_span!(
            "audit.query_run",
            sql_text = sql,
            a = &*big,
            b = &*big,
            c = &*big,
            d = &*big,
            row_count = Empty,
            status = Empty,
            error_code = Empty,
            error_message = Empty
        )
    };
    trail.scoped(|| {
        let enclosing = info_span!(
            "request",
            tenant_id = "acme",
            user_id = "ann",
            request_id = "r-acme"
        );
        let _inside = enclosing.enter();
        info_span!(
            "audit.event",
            a = &*big,
            b = &*big,
            c = &*big,
            d = &*big,
            tenant_id = "beta",
            user_id = "bob",
            request_id = "r-beta"
        );
        info_span!(
            "audit.event", a = &*big, b = &*big, c = &*big, d = &*big,
            tenant_id = %"beta", user_id = ?"bob", request_id = %"r-beta"
        );
        tracing::info!(
            target: "audit.event", a = &*big, b = &*big, c = &*big, d = &*big,
            tenant_id = "beta", user_id = "bob", request_id = "r-beta"
        );
        for (sql, status) in [("a", "failed"), ("b", "rejected"), ("c", "cancelled")] {
            let span = full(sql);
            span.record("status", status);
            span.record("row_count", 3);
        }
        full("d")
            .record("row_count", 3)
            .record("error_code", "57014");
        full("e")
            .record("row_count", 3)
            .record("error_message", &*big);
        full("f").record("row_count", 3);
        let span = run("g");
        for name in ["v", "w", "x", "y", "z"] {
            span.gather(name).push(&big);
        }
        span.record("row_count", 3);
        span.record("status", "failed");
    });
    for row in trail.rows(Kind::Event) {
        let keys = ["tenant_key", "user_id", "request_id"].map(|key| {
            let column = &row[key];
            let key = if column.is_null() {
                &row["metadata"][key]
            } else {
                column
            };
            key.as_str().unwrap_or_default().to_owned()
        });
        assert_eq!(keys, ["beta", "bob", "r-beta"]);
    }
    assert_outcomes(
        &trail,
        &[
            ("a", "failed"),
            ("b", "rejected"),
            ("c", "cancelled"),
            ("d", "failed"),
            ("e", "failed"),
            ("f", "succeeded"),
            ("g", "failed"),
        ],
    );
    let message = "SELECT octet_length(error_message) FROM audit.query_runs WHERE sql_text = 'e'";
    assert_eq!(trail.postgres.psql(message).trim(), "1024");
}

#[test]
fn status_is_kept_when_long_text_fills_a_small_record() {
    let limits = tracing_audit::Limits::default()
        .with_field_bytes(65_536)
        .with_record_bytes(65_536);
    let trail = Trail::start_with(|builder| builder.limits(limits));
    let answer = "x".repeat(100_000);
    let ended = |name: &'static str, field, value: &str| {
        let span = info_span!(
            "audit.prompt_run",
            model_name = name,
            output_token_count = Empty,
            status = Empty,
            error_code = Empty
        );
        span.gather("response_text").push(&answer);
        span.record("output_token_count", 20_000);
        span.record(field, value);
    };
    trail.scoped(|| {
        ended("a", "status", "failed");
        ended("b", "status", "cancelled");
        ended("c", "error_code", "content_filter");
    });
    let builder = tracing_audit::PromptRun::new("p").model_name("d");
    let builder = builder.response_text(answer.clone()).output_token_count(1);
    let failed = builder
        .tenant_id("beta")
        .status(tracing_audit::Status::Failed);
    trail.audit.record(failed).unwrap();
    let mut rows = trail.rows(Kind::PromptRun);
    rows.sort_by_key(|row| row["model_name"].to_string());
    let said: Vec<_> = rows
        .iter()
        .map(|row| json!([row["status"], row["output_token_count"]]))
        .collect();
    assert_eq!(
        said,
        [
            json!(["failed", 20_000]),
            json!(["cancelled", 20_000]),
            json!(["failed", 20_000]),
            json!(["failed", 1]),
        ]
    );
    assert_eq!(rows[3]["metadata"]["tenant_key"], "beta");
}
