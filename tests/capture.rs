//! Every field that an application sets in spans is in Postgres as it was set.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::Postgres;
use testkit::trail::{Folder, Trail, assert_law, pipeline, rows};
use tracing::field::Empty;
use tracing::instrument::WithSubscriber as _;
use tracing::span::Id;
use tracing::{Dispatch, Instrument as _, Span, Subscriber, error_span, info_span};
use tracing_audit::{
    AuditFutureExt as _, AuditSpanExt as _, DropCause, Event, Kind, Limits, PromptRun, QueryRun,
    Status,
};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

const TENANT: &str = "6f3b8a52-7c1d-4e9a-9b0e-2f4d5c6b7a81";
const AGENT: &str = "0b7d8a52-7c1d-4e9a-9b0e-2f4d5c6b7a82";
const SESSION: &str = "1c7d8a52-7c1d-4e9a-9b0e-2f4d5c6b7a83";
const DATASOURCE: &str = "2d7d8a52-7c1d-4e9a-9b0e-2f4d5c6b7a84";

/// Returns the fields of a row that the test compares.
fn of(row: &Value, names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), row[*name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn every_column_of_a_query_run_is_what_the_span_said() {
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
fn every_column_of_a_prompt_run_and_an_event_is_what_the_span_said() {
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
fn a_span_is_tagged_by_its_name_or_by_its_target_and_nothing_else_is_recorded() {
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
fn context_is_inherited_from_the_nearest_enclosing_span_that_has_it() {
    let trail = Trail::start();
    let ids = trail.scoped(|| {
        let _request = info_span!(
            "request",
            tenant_id = TENANT,
            user_id = "ann",
            user_role = "analyst",
            agent_id = AGENT,
            request_id = "r-1",
            llm_session_id = SESSION,
            conversation_id = "c-1",
            sql_text = "not inherited",
        )
        .entered();
        let _between = info_span!("between", detail = 1).entered();
        let prompt = info_span!("audit.prompt_run", user_id = "bob").entered();
        let _nearer = info_span!("nearer", conversation_id = "c-2").entered();
        let query = info_span!("audit.query_run").entered();
        let event = info_span!("audit.event", request_id = "r-2").entered();
        [prompt.audit_id(), query.audit_id(), event.audit_id()].map(Option::unwrap)
    });
    let (prompt, query, event) = (
        trail.row(Kind::PromptRun),
        trail.row(Kind::QueryRun),
        trail.row(Kind::Event),
    );
    let context = |row: &Value| {
        of(
            row,
            &[
                "tenant_id",
                "user_id",
                "user_role",
                "agent_id",
                "request_id",
                "llm_session_id",
                "conversation_id",
            ],
        )
    };
    let said = |user: &str, request: &str, conversation: &str| {
        json!({
            "tenant_id": TENANT, "user_id": user, "user_role": "analyst", "agent_id": AGENT, "request_id": request,
            "llm_session_id": SESSION, "conversation_id": conversation,
        })
    };
    assert_eq!(context(&prompt), said("bob", "r-1", "c-1"));
    assert_eq!(context(&query), said("bob", "r-1", "c-2"));
    assert_eq!(context(&event), said("bob", "r-2", "c-2"));
    assert_eq!(query["sql_text"], Value::Null);
    // Nested runs know their parents, and audit_id() is the row's id.
    assert_eq!(
        [&prompt["id"], &query["id"], &event["id"]],
        ids.map(|id| json!(id.to_string())).each_ref()
    );
    assert_eq!(
        [
            &prompt["parent_id"],
            &query["parent_id"],
            &event["parent_id"]
        ],
        [&Value::Null, &prompt["id"], &query["id"]]
    );
    assert_eq!(prompt["trace_id"], query["trace_id"]);
}

#[test]
fn context_that_is_recorded_late_is_inherited_too() {
    let trail = Trail::start();
    trail.scoped(|| {
        let request = info_span!("request", request_id = Empty, user_id = "first").entered();
        let query = info_span!("audit.query_run").entered();
        request.record("request_id", "r-late");
        drop(query);
        info_span!("audit.event");
    });
    assert_eq!(trail.row(Kind::QueryRun)["request_id"], "r-late");
    assert_eq!(trail.row(Kind::QueryRun)["user_id"], "first");
    assert_eq!(trail.row(Kind::Event)["request_id"], "r-late");
}

#[test]
fn a_tenant_key_becomes_the_uuid_that_sql_computes_and_another_tenant_is_flagged() {
    let trail = Trail::start();
    trail.scoped(|| {
        let _request = info_span!("request", tenant_id = "acme ä").entered();
        info_span!("audit.query_run", sql_text = "same");
        info_span!("audit.query_run", sql_text = "other", tenant_id = "globex");
        info_span!(
            "audit.query_run",
            sql_text = "said again",
            tenant_id = "acme ä"
        );
        info_span!("audit.query_run", sql_text = "option", tenant_id = ?Some("acme ä"));
        info_span!("audit.query_run", sql_text = "none", tenant_id = ?None::<&str>);
        info_span!(
            "audit.query_run",
            sql_text = "upper",
            tenant_id = TENANT.to_uppercase()
        );
        info_span!("audit.query_run", sql_text = "empty", tenant_id = "");
    });
    let rows = trail.rows(Kind::QueryRun);
    let sql = |key: &str| {
        trail
            .postgres
            .psql(&format!("SELECT audit.tenant_uuid('{key}')"))
            .trim()
            .to_owned()
    };
    let flagged = json!(["tenant_id: differs from the enclosing span's"]);
    let expected = [
        (json!(sql("acme ä")), json!("acme ä"), json!([])),
        (json!(sql("globex")), json!("globex"), flagged.clone()),
        (json!(sql("acme ä")), json!("acme ä"), json!([])),
        (json!(sql("acme ä")), json!("acme ä"), json!([])),
        (json!(sql("acme ä")), json!("acme ä"), json!([])),
        (
            json!(sql(&TENANT.to_uppercase())),
            Value::Null,
            flagged.clone(),
        ),
        (
            Value::Null,
            Value::Null,
            json!([flagged[0], "tenant_id: empty"]),
        ),
    ];
    for (row, (tenant, key, problems)) in rows.iter().zip(expected) {
        assert_eq!(
            (&row["tenant_id"], &row["metadata"]["tenant_key"]),
            (&tenant, &key),
            "{row}"
        );
        assert_eq!(row["problems"], problems, "{row}");
    }
    assert_eq!(rows[0]["tenant_id"].as_str().unwrap().as_bytes()[14], b'8');
}

#[test]
fn a_tenant_key_that_is_cut_is_nobodys() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!("audit.query_run", tenant_id = "k".repeat(2_000));
    });
    let row = trail.row(Kind::QueryRun);
    assert_eq!(row["tenant_id"], Value::Null);
    assert_eq!(row["metadata"]["tenant_key"], "k".repeat(1_024));
    assert!(
        row["problems"][0]
            .as_str()
            .unwrap()
            .starts_with("tenant_id: truncated from 2000")
    );
}

#[test]
fn identifiers_lose_what_debug_puts_around_them_and_text_does_not() {
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
fn a_result_field_without_a_value_is_no_evidence() {
    let trail = Trail::start();
    trail.scoped(|| {
        let span = info_span!("audit.query_run", row_count = Empty);
        span.record("row_count", tracing::field::debug(None::<u32>));
    });
    assert_eq!(trail.row(Kind::QueryRun)["status"], "unknown");
}

#[test]
fn a_field_that_is_not_in_the_vocabulary_goes_into_metadata_with_its_type() {
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
fn a_bad_value_never_costs_the_row() {
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
fn text_over_its_limit_is_cut_and_proven_by_length_and_sha256() {
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
fn outcomes_follow_the_evidence() {
    #[tracing::instrument(name = "audit.query_run", skip_all, fields(sql_text = sql), err, ret)]
    fn run(sql: &str, result: Result<u8, String>) -> Result<u8, String> {
        result
    }
    #[tracing::instrument(
        name = "audit.query_run",
        skip_all,
        fields(sql_text = "async"),
        err(Debug)
    )]
    async fn run_async(result: Result<u8, String>) -> Result<u8, String> {
        std::future::ready(()).await;
        result
    }
    /// Its failure is its own: the enclosing span handles it.
    #[tracing::instrument(skip_all, err)]
    fn callee() -> Result<u8, String> {
        Err("of the callee".to_owned())
    }
    #[tracing::instrument(name = "audit.query_run", skip_all, fields(sql_text = "caller"), err)]
    fn caller() -> Result<u8, String> {
        Ok(callee().unwrap_or(1))
    }

    let trail = Trail::start();
    let ready = |result: Result<u8, String>, sql: &'static str| {
        let span = info_span!("audit.query_run", sql_text = sql);
        block_on(std::future::ready(result).audited(span))
    };
    trail.scoped(|| {
        let _ = run("ok by ret", Ok(1));
        let _ = run("err by err", Err("went wrong".to_owned()));
        let _ = block_on(run_async(Err("quoted".to_owned())));
        let _ = caller();
        let _ = ready(Ok(1), "ok by audited");
        let _ = ready(Err("by audited".to_owned()), "err by audited");
        let mut dropped = Box::pin(
            std::future::pending::<Result<u8, String>>()
                .audited(info_span!("audit.query_run", sql_text = "cancelled")),
        );
        poll_once(&mut dropped);
        drop(dropped);
        let _ = std::panic::catch_unwind(|| {
            let _span = info_span!("audit.query_run", sql_text = "panic").entered();
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        let span = info_span!(
            "audit.query_run",
            sql_text = "result field",
            row_count = Empty
        );
        span.record("row_count", 3);
        drop(span);
        info_span!(
            "audit.query_run",
            sql_text = "result field from the start",
            row_count = 3
        );
        info_span!("audit.query_run", sql_text = "nothing seen");
        let said = info_span!(
            "audit.query_run",
            sql_text = "said is stronger",
            status = "rejected",
            error_message = "its own"
        );
        let _ = block_on(std::future::ready(Err::<u8, _>("seen")).audited(said));
    });
    let outcomes: Vec<_> = trail
        .rows(Kind::QueryRun)
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            [
                text("sql_text"),
                text("status"),
                text("error_code"),
                text("error_message"),
            ]
        })
        .collect();
    let expected = [
        ["ok by ret", "succeeded", "", ""],
        ["err by err", "failed", "", "went wrong"],
        ["async", "failed", "", "\"quoted\""],
        ["caller", "unknown", "", ""],
        ["ok by audited", "succeeded", "", ""],
        ["err by audited", "failed", "", "by audited"],
        ["cancelled", "cancelled", "", ""],
        ["panic", "failed", "panic", ""],
        ["result field", "succeeded", "", ""],
        ["result field from the start", "unknown", "", ""],
        ["nothing seen", "unknown", "", ""],
        ["said is stronger", "rejected", "", "its own"],
    ];
    assert_eq!(outcomes, expected.map(|row| row.map(str::to_owned)));
    assert_eq!(
        trail.audit.stats().accepted(),
        12,
        "the err and ret events are no records"
    );
}

#[test]
fn a_status_that_the_span_says_is_stronger_than_what_was_seen() {
    let trail = Trail::start();
    trail.scoped(|| {
        for word in ["rejected", "Canceled", "timeout", "ERROR", "on hold"] {
            let span = info_span!("audit.query_run", status = word, row_count = Empty);
            span.record("row_count", 1);
        }
    });
    let rows = trail.rows(Kind::QueryRun);
    let outcomes: Vec<_> = rows
        .iter()
        .map(|row| (&row["status"], &row["error_code"]))
        .collect();
    assert_eq!(
        outcomes,
        [
            (&json!("rejected"), &Value::Null),
            (&json!("cancelled"), &Value::Null),
            (&json!("failed"), &json!("timeout")),
            (&json!("failed"), &Value::Null),
            (&json!("unknown"), &Value::Null),
        ]
    );
    assert_eq!(rows[4]["metadata"], json!({"status": "on hold"}));
}

#[test]
fn a_panic_in_an_async_run_is_its_outcome_and_code_that_runs_while_unwinding_is_not_blamed() {
    struct RunsWhileUnwinding;
    impl Drop for RunsWhileUnwinding {
        fn drop(&mut self) {
            let _span = info_span!("audit.query_run", sql_text = "in a drop").entered();
        }
    }
    let trail = Trail::start();
    trail.scoped(|| {
        let panics = async {
            let _runs = RunsWhileUnwinding;
            std::panic::resume_unwind(Box::new("on purpose"));
            #[allow(unreachable_code)]
            Ok::<(), String>(())
        };
        let span = info_span!("audit.query_run", sql_text = "async");
        let future = panics.audited(span);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let joined = tokio::task::LocalSet::new()
            .block_on(&runtime, async { tokio::task::spawn_local(future).await });
        assert!(joined.unwrap_err().is_panic());
    });
    let mut outcomes: Vec<_> = trail
        .rows(Kind::QueryRun)
        .iter()
        .map(|row| (row["sql_text"].clone(), row["status"].clone()))
        .collect();
    outcomes.sort_by_key(|(sql, _)| sql.to_string());
    assert_eq!(
        outcomes,
        [
            (json!("async"), json!("failed")),
            (json!("in a drop"), json!("unknown"))
        ]
    );
}

#[test]
fn however_many_layers_there_are_each_finds_its_spans() {
    let trail = Trail::start();
    let subscriber = || tracing_subscriber::registry().with(trail.audit.layer());
    let subscribers: Vec<Dispatch> = (0..100).map(|_| subscriber().into()).collect();
    for subscriber in &subscribers {
        tracing::dispatcher::with_default(subscriber, || {
            let outer = info_span!("audit.query_run").entered();
            assert!(outer.audit_id().is_some() && outer.traceparent().is_some());
            info_span!("audit.prompt_run");
            trail.audit.record(Event::new("inside")).unwrap();
        });
    }
    let has_parent = |row: &Value| row["parent_id"].is_string();
    for kind in [Kind::PromptRun, Kind::Event] {
        let rows = trail.rows(kind);
        assert_eq!(rows.len(), 100);
        assert!(rows.iter().all(has_parent));
    }
}

/// A host's layer that panics when a span `audit.event` closes.
struct PanicsAtClose;

impl<S> Layer<S> for PanicsAtClose
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        if ctx.metadata(&id).unwrap().name() == "audit.event" {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
}

/// A span of the host's with the id of an audit span whose close the audit layer missed.
fn of_a_number_that_was_not_given_back() -> Span {
    let event = info_span!("audit.event", action_type = "lost", tenant_id = TENANT);
    let number = event.id();
    let closing = std::panic::AssertUnwindSafe(|| drop(event));
    std::panic::catch_unwind(closing).unwrap_err();
    // The Registry reuses an id after thousands of spans.
    (0..100_000)
        .map(|_| info_span!("of_the_hosts_own"))
        .find(|span| span.id() == number)
        .unwrap()
}

#[test]
fn what_another_layer_kept_from_being_closed_is_no_parent_of_what_has_its_number_later() {
    let trail = Trail::start();
    // One combined layer for the Registry, which frees the id of a span even if only one of the two
    // saw its close.
    let layer = PanicsAtClose.and_then(trail.audit.layer());
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let current = of_a_number_that_was_not_given_back().entered();
        info_span!("audit.query_run", sql_text = "within");
        drop(current);
        let named = of_a_number_that_was_not_given_back();
        info_span!(parent: &named, "audit.query_run", sql_text = "child");
        let current = of_a_number_that_was_not_given_back().entered();
        trail.audit.record(QueryRun::new("recorded")).unwrap();
        drop(current);
        assert_eq!(of_a_number_that_was_not_given_back().audit_id(), None);
        assert_eq!(of_a_number_that_was_not_given_back().traceparent(), None);
    });
    let stats = trail.audit.stats();
    assert_eq!(stats.dropped_by(DropCause::EndUnseen), 5);
    assert_law(&trail.audit);
    let rows = trail.rows(Kind::QueryRun);
    let said: Vec<_> = rows
        .iter()
        .map(|row| of(row, &["sql_text", "parent_id", "tenant_id"]))
        .collect();
    let alone = |sql| json!({"sql_text": sql, "parent_id": null, "tenant_id": null});
    assert_eq!(said, ["within", "child", "recorded"].map(alone));
}

#[test]
fn a_debug_that_panics_logs_opens_spans_or_never_ends_costs_only_its_own_value() {
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

#[test]
fn a_record_without_a_span_is_as_complete_and_inherits() {
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

#[test]
fn a_span_that_moves_between_threads_and_tasks_is_one_record() {
    let trail = Trail::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    let subscriber = tracing_subscriber::registry().with(trail.audit.layer());
    let dispatch = tracing::Dispatch::new(subscriber);
    tracing::dispatcher::with_default(&dispatch, || {
        let span = info_span!("audit.query_run", sql_text = "moved", row_count = Empty);
        let moved = span.clone();
        let thread_dispatch = dispatch.clone();
        std::thread::spawn(move || {
            tracing::dispatcher::with_default(&thread_dispatch, || {
                let _entered = moved.enter();
                Span::current().record("row_count", 4);
            });
        })
        .join()
        .unwrap();
        let task = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            info_span!("audit.event", action_type = "inside");
        };
        runtime
            .block_on(runtime.spawn(task.instrument(span).with_subscriber(dispatch.clone())))
            .unwrap();
        // They close after the runtime is gone.
        let late = info_span!("audit.query_run", sql_text = "closed after the runtime");
        drop(runtime);
        drop(late);
    });
    let mut rows = trail.rows(Kind::QueryRun);
    assert_eq!(rows.len(), 2);
    // Two threads closed them, and order is only kept within a thread.
    rows.sort_by_key(|row| row["sql_text"] == "moved");
    assert_eq!(rows[0]["sql_text"], "closed after the runtime");
    assert_eq!(
        (&rows[1]["sql_text"], &rows[1]["row_count"]),
        (&json!("moved"), &json!(4))
    );
    assert_eq!(trail.row(Kind::Event)["parent_id"], rows[1]["id"]);
}

#[test]
fn two_handles_in_one_subscriber_record_a_span_each_to_its_own_database() {
    let (first, second) = (Trail::start(), Trail::start());
    let subscriber = tracing_subscriber::registry()
        .with(first.audit.layer())
        .with(second.audit.layer());
    tracing::subscriber::with_default(subscriber, || {
        let _request = info_span!("request", request_id = "both").entered();
        let outer = info_span!("audit.query_run", sql_text = "a", row_count = Empty).entered();
        outer.record("row_count", 1);
        info_span!("audit.event", action_type = "inner");
    });
    for trail in [&first, &second] {
        let row = trail.row(Kind::QueryRun);
        assert_eq!(
            of(&row, &["request_id", "row_count", "status"]),
            json!({
                "request_id": "both", "row_count": 1, "status": "succeeded",
            })
        );
        assert_eq!(trail.row(Kind::Event)["parent_id"], row["id"]);
    }
    assert_ne!(
        first.row(Kind::QueryRun)["id"],
        second.row(Kind::QueryRun)["id"]
    );
}

#[test]
fn filters_on_other_layers_hide_nothing_and_enable_nothing() {
    use std::sync::{Arc, Mutex};
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let trail = Trail::start();
    let written = Written::default();
    let log = written.clone();
    let subscriber = tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(move || log.clone())
                .with_ansi(false)
                .with_filter(tracing_subscriber::EnvFilter::new("warn")),
        )
        .with(trail.audit.layer());
    tracing::subscriber::with_default(subscriber, || {
        assert!(
            !tracing::enabled!(tracing::Level::INFO),
            "what nobody wants stays disabled"
        );
        let _request = tracing::debug_span!("request", request_id = "r").entered();
        let quiet = tracing::trace_span!("neither audited nor context");
        assert!(quiet.is_disabled());
        let _query = tracing::trace_span!("audit.query_run", sql_text = "quiet").entered();
        tracing::warn!("loud");
        tracing::info!("quiet");
    });
    let row = trail.row(Kind::QueryRun);
    assert_eq!(
        (&row["sql_text"], &row["request_id"]),
        (&json!("quiet"), &json!("r"))
    );
    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("loud") && !log.contains("quiet") && !log.contains("audit.query_run"),
        "{log}"
    );
}

/// tracing-subscriber keeps its filters' answers to a question that nothing followed (its issue
/// 2519); sqlx asks one after each query, through `log_enabled!`.
#[test]
fn a_span_after_a_question_that_nothing_followed_is_recorded() {
    let trail = Trail::start();
    let ask_in_vain = || {
        let nobodys = tracing::trace_span!("nobody wants this");
        let metadata = nobodys.metadata().unwrap();
        tracing::dispatcher::get_default(|dispatch| dispatch.enabled(metadata));
    };
    let say = || {
        ask_in_vain();
        let span = info_span!("audit.query_run", request_id = Empty).entered();
        ask_in_vain();
        tracing::info!(target: "audit.event", action_type = "said");
        drop(span);
    };
    trail.scoped(say);
    let filtered = tracing_subscriber::fmt::layer()
        .with_writer(std::io::sink)
        .with_filter(tracing_subscriber::filter::LevelFilter::INFO);
    let subscriber = tracing_subscriber::registry()
        .with(filtered)
        .with(trail.audit.layer());
    tracing::subscriber::with_default(subscriber, say);
    assert_eq!(trail.rows(Kind::QueryRun).len(), 2);
    assert_eq!(trail.rows(Kind::Event).len(), 2);
}

#[test]
fn under_a_global_subscriber_it_is_the_same_also_from_within_a_debug() {
    struct Logs;
    impl std::fmt::Debug for Logs {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            // This reaches the layer again only under a global subscriber.
            info_span!("audit.event", action_type = "from a Debug");
            f.write_str("logged")
        }
    }
    let trail = Trail::start();
    // The only test of this program that sets it; the others use their own.
    tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::sink))
        .init();
    let mine = info_span!("request", request_id = "global");
    let _entered = mine.enter();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let span =
                error_span!(parent: &mine, "audit.query_run", sql_text = ?Logs, row_count = Empty);
            span.record("row_count", 2);
            let result = block_on(std::future::ready(Err::<u8, _>("failed")).audited(span));
            assert!(result.is_err());
        });
    });
    let row = trail.row(Kind::QueryRun);
    assert_eq!(
        of(
            &row,
            &[
                "request_id",
                "sql_text",
                "row_count",
                "status",
                "error_message"
            ]
        ),
        json!({
            "request_id": "global", "sql_text": "logged", "row_count": 2, "status": "failed", "error_message": "failed",
        })
    );
    // Once for each layer that formats the value.
    assert_eq!(trail.rows(Kind::Event).len(), 2);
    // Nothing that the worker and its libraries log, at any level, is recorded.
    assert_eq!(trail.audit.stats().accepted(), 3);
}

#[test]
fn a_traceparent_wins_and_without_a_request_the_outermost_record_names_the_trace() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!(
            "audit.query_run",
            traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            request_id = "r"
        );
        info_span!("audit.query_run", request_id = TENANT);
        info_span!(
            "audit.query_run",
            traceparent = "garbage",
            request_id = TENANT
        );
        let outer = info_span!("audit.query_run").entered();
        let _plain = info_span!("plain", user_id = "ann").entered();
        let _inner = info_span!("audit.event").entered();
        drop(outer);
    });
    let rows = trail.rows(Kind::QueryRun);
    assert_eq!(rows[0]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(rows[1]["trace_id"], TENANT.replace('-', ""));
    assert_eq!(rows[2]["trace_id"], TENANT.replace('-', ""));
    assert_eq!(
        rows[2]["problems"],
        json!(["traceparent: not a traceparent"])
    );
    assert_eq!(
        rows[3]["trace_id"],
        rows[3]["id"].as_str().unwrap().replace('-', "")
    );
    let event = trail.row(Kind::Event);
    assert_eq!(
        (&event["trace_id"], &event["parent_id"]),
        (&rows[3]["trace_id"], &rows[3]["id"])
    );
}

#[test]
fn what_was_recorded_with_one_handle_stays_apart_from_another_pipeline_on_the_same_server() {
    let postgres = Postgres::start();
    let folders = [Folder::new(), Folder::new()];
    let audits = folders
        .each_ref()
        .map(|folder| pipeline(&postgres, folder, |builder| builder));
    for audit in &audits {
        for _ in 0..100 {
            audit.record(Event::new("x")).unwrap();
        }
    }
    for audit in &audits {
        audit.flush_blocking(testkit::trail::PATIENCE).unwrap();
        assert_eq!(audit.stats().committed(), 100);
    }
    assert_eq!(rows(&postgres, Kind::Event).len(), 200);
    let gaps = postgres.psql(
        "SELECT count(*) FROM (SELECT writer_id FROM audit.events GROUP BY 1 \
         HAVING count(*) <> max(seq) OR min(seq) <> 1 OR count(DISTINCT seq) <> count(*)) t",
    );
    assert_eq!(gaps.trim(), "0");
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn poll_once<F: Future>(future: &mut std::pin::Pin<Box<F>>) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
}
