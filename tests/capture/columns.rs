//! Which column each field fills, and what a record without a span holds.

use std::time::Duration;

use super::{AGENT, SESSION, TENANT, of};
use serde_json::json;
use testkit::trail::Trail;
use tracing::field::Empty;
use tracing::info_span;
use tracing_audit::{Event, Kind, PromptRun, QueryRun, Status};

const DATASOURCE: &str = "2d7d8a52-7c1d-4e9a-9b0e-2f4d5c6b7a84";

#[test]
fn query_run_columns_match_the_span_fields() {
    let trail = Trail::start();
    trail.scoped(|| {
        let span = info_span!(
            "audit.query_run",
            tenant_id = TENANT,
            user_id = "ann",
            user_role = "analyst",
            agent_id = AGENT,
            request_id = "r-1",
            llm_session_id = SESSION,
            conversation_id = "c-1",
            datasource_id = DATASOURCE,
            question_text = "How many?",
            sql_text = "SELECT count(*) FROM t",
            sql_summary = "SELECT t",
            row_count = Empty,
            rows_affected = Empty,
            status = "success",
            error_code = "E1",
            error_message = "none",
        );
        span.record("row_count", 1_u64);
        span.record("rows_affected", 2_i64);
    });
    let row = trail.row(Kind::QueryRun);
    let expected = json!({
        "tenant_id": TENANT, "user_id": "ann", "user_role": "analyst", "agent_id": AGENT, "request_id": "r-1",
        "llm_session_id": SESSION, "conversation_id": "c-1", "datasource_id": DATASOURCE,
        "question_text": "How many?", "sql_text": "SELECT count(*) FROM t", "sql_summary": "SELECT t",
        "row_count": 1, "rows_affected": 2, "status": "succeeded", "error_code": "E1", "error_message": "none",
        "metadata": {}, "problems": [], "service_name": "test", "seq": 1, "parent_id": null,
    });
    let names: Vec<_> = expected
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(of(&row, &names), expected);
    let sha256_of_the_request = trail
        .postgres
        .psql("SELECT left(encode(sha256('request:r-1'), 'hex'), 32)");
    assert_eq!(row["trace_id"], sha256_of_the_request.trim());
    assert_eq!(row["span_id"].as_str().unwrap().len(), 16);
    // The id carries the start, in milliseconds.
    let same = trail.postgres.psql(
        "SELECT audit.id_at(started_at) <= id AND id < audit.id_at(started_at + interval '1 ms') \
         AND finished_at >= started_at AND duration_ms >= 0 AND octet_length(salt) = 16 FROM audit.query_runs",
    );
    assert_eq!(same.trim(), "t");
}

#[test]
fn prompt_run_and_event_columns_match_the_span_fields() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!(
            "audit.prompt_run",
            model_name = "m",
            provider = "replay",
            prompt_template_name = "t",
            prompt_template_version = 3,
            rendered_prompt = "say hello",
            response_text = "hello",
            role = "user",
            input_token_count = 2,
            output_token_count = 1,
        );
        info_span!(
            "audit.event",
            action_type = "export",
            target_type = "report",
            target_id = "2026",
            input_summary = "in",
            output_summary = "out",
        );
    });
    let expected = json!({
        "model_name": "m", "provider": "replay", "prompt_template_name": "t", "prompt_template_version": 3,
        "rendered_prompt": "say hello", "response_text": "hello", "role": "user", "input_token_count": 2,
        "output_token_count": 1, "metadata": {}, "problems": [], "status": "unknown",
    });
    let names: Vec<_> = expected
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(of(&trail.row(Kind::PromptRun), &names), expected);
    let expected = json!({
        "action_type": "export", "target_type": "report", "target_id": "2026", "input_summary": "in",
        "output_summary": "out", "metadata": {}, "problems": [], "status": "unknown", "latency_ms": 0,
    });
    let names: Vec<_> = expected
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(of(&trail.row(Kind::Event), &names), expected);
}

#[test]
fn only_spans_and_events_tagged_by_name_or_target_are_recorded() {
    #[tracing::instrument(target = "audit.query_run", skip_all, fields(sql_text = "by target"))]
    fn by_target() {}
    #[tracing::instrument(name = "audit.query_run", skip_all, fields(sql_text = "by name"))]
    fn by_name() {}
    #[tracing::instrument(skip_all, fields(sql_text = "not tagged", request_id = "r"))]
    fn not_tagged() {}

    let trail = Trail::start();
    trail.scoped(|| {
        by_target();
        by_name();
        not_tagged();
        info_span!("audit.query_runs", sql_text = "nearly");
        tracing::info!(target: "audit.query_run", sql_text = "an event is no run");
        tracing::info!(name: "audit.event", target_id = "by name");
        tracing::info!(target: "audit.event", target_id = "by target", "and a message");
        tracing::info!(target_id = "not tagged");
        tracing::trace_span!("audit.event", target_id = "span, whatever its level");
    });
    let said: Vec<_> = trail
        .rows(Kind::QueryRun)
        .iter()
        .map(|row| row["sql_text"].clone())
        .collect();
    assert_eq!(said, ["by target", "by name"]);
    let events = trail.rows(Kind::Event);
    let said: Vec<_> = events.iter().map(|row| row["target_id"].clone()).collect();
    assert_eq!(said, ["by name", "by target", "span, whatever its level"]);
    assert_eq!(events[1]["metadata"], json!({"message": "and a message"}));
    assert_eq!(trail.audit.stats().accepted(), 5);
}

#[test]
fn debug_wrapping_is_stripped_from_identifiers_but_not_from_text() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!("audit.query_run", request_id = ?Some("r"), user_id = ?"ann", user_role = ?None::<u8>, sql_text = ?"quoted");
    });
    let row = trail.row(Kind::QueryRun);
    assert_eq!(
        of(
            &row,
            &["request_id", "user_id", "user_role", "sql_text", "problems"]
        ),
        json!({
            "request_id": "r", "user_id": "ann", "user_role": null, "sql_text": "\"quoted\"", "problems": [],
        })
    );
}

#[test]
fn unknown_field_goes_into_metadata_with_its_type() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!(
            "audit.event",
            text = "x",
            int = -7,
            big = u64::MAX,
            float = 1.5,
            yes = true,
            debugged = ?vec![1, 2],
            displayed = %"shown",
            nothing = Empty,
            sql_text = "of another kind",
            metadata = r#"{"nested": {"a": [1, "two"]}, "text": "the field wins"}"#,
        );
        info_span!("audit.event", metadata = "no object");
    });
    let rows = trail.rows(Kind::Event);
    assert_eq!(
        rows[0]["metadata"],
        json!({
            "text": "x", "int": -7, "big": u64::MAX, "float": 1.5, "yes": true, "debugged": "[1, 2]",
            "displayed": "shown", "sql_text": "of another kind", "nested": {"a": [1, "two"]},
        })
    );
    assert_eq!(rows[1]["metadata"], json!({"metadata": "no object"}));
}

#[test]
fn record_without_a_span_has_all_columns_and_inherits_context() {
    let trail = Trail::start();
    let began = std::time::UNIX_EPOCH + Duration::from_millis(1_750_000_000_123);
    let (query, prompt, event) = trail.scoped(|| {
        let _request = info_span!("request", request_id = "r-1", tenant_id = TENANT).entered();
        let outer = info_span!("audit.event", action_type = "outer").entered();
        let query = QueryRun::new("SELECT 1")
            .question_text("one?")
            .row_count(1)
            .user_id("ann")
            .metadata("plan", json!({"cost": 1.5}))
            .started_at(began)
            .finished_at(began + Duration::from_millis(250));
        let query = trail.audit.record(query).unwrap();
        drop(outer);
        let prompt = trail
            .audit
            .record(
                PromptRun::new("hi")
                    .status(Status::Rejected)
                    .request_id("r-2"),
            )
            .unwrap();
        (query, prompt, None::<()>)
    });
    assert_eq!(event, None);
    let outside = trail
        .audit
        .record(Event::new("login").target("user", "u1").error_code("E"))
        .unwrap();
    let row = trail.row(Kind::QueryRun);
    let outer = trail
        .rows(Kind::Event)
        .into_iter()
        .find(|row| row["action_type"] == "outer")
        .unwrap();
    assert_eq!(
        of(
            &row,
            &[
                "id",
                "request_id",
                "tenant_id",
                "row_count",
                "status",
                "duration_ms",
                "user_id",
                "parent_id",
                "metadata"
            ]
        ),
        json!({
            "id": query.to_string(), "request_id": "r-1", "tenant_id": TENANT, "row_count": 1, "status": "succeeded",
            "duration_ms": 250, "user_id": "ann", "parent_id": outer["id"], "metadata": {"plan": {"cost": 1.5}},
        })
    );
    assert_eq!(
        trail
            .postgres
            .psql("SELECT extract(epoch FROM started_at)::text FROM audit.query_runs")
            .trim(),
        "1750000000.123000"
    );
    let row = trail.row(Kind::PromptRun);
    assert_eq!(
        of(&row, &["id", "request_id", "status", "rendered_prompt"]),
        json!({
            "id": prompt.to_string(), "request_id": "r-2", "status": "rejected", "rendered_prompt": "hi",
        })
    );
    let row = trail
        .rows(Kind::Event)
        .into_iter()
        .find(|row| row["id"] == outside.to_string())
        .unwrap();
    assert_eq!(
        of(
            &row,
            &[
                "action_type",
                "target_type",
                "target_id",
                "error_code",
                "request_id",
                "status"
            ]
        ),
        json!({
            "action_type": "login", "target_type": "user", "target_id": "u1", "error_code": "E", "request_id": null,
            "status": "unknown",
        })
    );
}
