//! A family's event is the same row, whether it comes from a span or from a builder.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::time::Duration;

use serde_json::{Value, json};
use testkit::trail::{PATIENCE, Trail, balanced};
use tracing::field::Empty;
use tracing::info_span;
use tracing_audit::{
    AgentExecution, AgentLog, AgentOutcome, Approval, Decision, Escalation, Event, Feedback,
    HttpRequest, Kind, LlmCall, LogCategory, Mandate, NewRecord, QueryRun, SecurityEvent, Status,
    SystemError, SystemMetric, ToolInvocation, Transaction,
};
use uuid::Uuid;

const RUN: Uuid = Uuid::from_u128(0x0198_f1d3_0000_7000_8000_0000_0000_0017);

/// The columns that say what happened.
const COLUMNS: [&str; 12] = [
    "action_type",
    "target_type",
    "target_id",
    "input_summary",
    "output_summary",
    "status",
    "error_code",
    "error_message",
    "user_id",
    "metadata",
    "problems",
    "redactions",
];

/// Returns the rows of a table in the order in which they were recorded, without times and ids.
fn rows(trail: &Trail, table: &str) -> Vec<Value> {
    let columns = COLUMNS.map(|column| format!("'{column}', {column}"));
    let rows = trail.postgres.psql(&format!(
        "SELECT json_build_object({}) FROM audit.{table} ORDER BY writer_id, seq",
        columns.join(", ")
    ));
    rows.lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

/// Returns the row that a span and a builder leave in a table, which must be the same.
#[track_caller]
fn both(table: &str, record: impl Into<NewRecord>, span: impl FnOnce()) -> Value {
    let trail = Trail::start();
    trail.audit.record(record).unwrap();
    trail.scoped(span);
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let mut rows = rows(&trail, table);
    assert_eq!(rows.len(), 2, "{rows:#?}");
    let of_span = rows.remove(1);
    assert_eq!(rows[0], of_span, "builder, span");
    balanced(&trail.audit, &trail.postgres);
    of_span
}

#[test]
fn llm_call_is_the_same_row_from_a_span_and_a_builder() {
    let row = both(
        "events",
        LlmCall::new("claude-sonnet")
            .provider("anthropic")
            .user_id("alice")
            .input_summary("How many orders are there?")
            .output_summary("42")
            .input_token_count(180)
            .output_token_count(12)
            .prompt_template_name("sql")
            .prompt_template_version(3)
            .latency(Duration::from_millis(812)),
        || {
            // The answer is evidence of success, since it comes later.
            let span = info_span!(
                target: "audit.event",
                "call",
                action_type = "llm_call",
                model = "claude-sonnet",
                provider = "anthropic",
                user_id = "alice",
                input_summary = "How many orders are there?",
                output_summary = Empty,
                input_token_count = 180,
                output_token_count = Empty,
                prompt_template_name = "sql",
                prompt_template_version = 3,
            );
            span.record("output_summary", "42");
            span.record("output_token_count", 12_u64);
        },
    );
    assert_eq!(row["status"], "succeeded");
    assert_eq!(row["input_summary"], "How many orders are there?");
    assert_eq!(
        row["metadata"],
        json!({
            "model": "claude-sonnet",
            "provider": "anthropic",
            "input_token_count": 180,
            "output_token_count": 12,
            "prompt_template_name": "sql",
            "prompt_template_version": 3,
        })
    );
}

#[test]
fn tool_invocation_is_the_same_row_from_a_span_and_a_builder() {
    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let row = both(
        "events",
        ToolInvocation::new("search_orders")
            .arguments("abc")
            .input_summary("one customer's orders")
            .output_summary("3 orders")
            .model("claude-sonnet")
            .status(Status::Succeeded),
        || {
            info_span!(
                "audit.event",
                action_type = "tool_invocation",
                target_type = "tool",
                target_id = "search_orders",
                arguments_sha256 = HASH,
                input_summary = "one customer's orders",
                output_summary = "3 orders",
                model = "claude-sonnet",
                status = "ok",
            );
        },
    );
    assert_eq!(row["target_type"], "tool");
    assert_eq!(row["target_id"], "search_orders");
    assert_eq!(
        row["metadata"],
        json!({ "arguments_sha256": HASH, "model": "claude-sonnet" })
    );
}

#[test]
fn escalation_is_the_same_row_from_a_span_and_a_builder() {
    let row = both(
        "events",
        Escalation::new("the refund exceeds the limit")
            .escalated_to("billing")
            .severity("high")
            .input_summary("Refund order 17"),
        || {
            info_span!(
                "audit.event",
                action_type = "escalation",
                reason = "the refund exceeds the limit",
                escalated_to = "billing",
                severity = "high",
                input_summary = "Refund order 17",
            );
        },
    );
    assert_eq!(row["status"], "unknown");
    assert_eq!(row["metadata"]["escalated_to"], "billing");
}

#[test]
fn approval_is_the_same_row_from_a_span_and_a_builder() {
    const SQL: &str = "UPDATE orders SET paid = true WHERE id = 17";
    let row = both(
        "events",
        Approval::new(Decision::Rejected)
            .sql_text(SQL)
            .input_summary("Mark order 17 as paid")
            .approved_by("alice")
            .approver_role("accountant")
            .rows_affected(0)
            .run_id(RUN)
            .target("table", "orders"),
        || {
            info_span!(
                "audit.event",
                action_type = "approval",
                decision = "rejected",
                sql_text = SQL,
                input_summary = "Mark order 17 as paid",
                approved_by = "alice",
                approver_role = "accountant",
                rows_affected = 0,
                run_id = %RUN,
                target_type = "table",
                target_id = "orders",
            );
        },
    );
    assert_eq!(row["status"], "rejected");
    assert_eq!(
        row["metadata"],
        json!({
            "decision": "rejected",
            "sql_text": SQL,
            "approved_by": "alice",
            "approver_role": "accountant",
            "rows_affected": 0,
            "run_id": RUN,
        })
    );
}

#[test]
fn agent_execution_is_the_same_row_from_a_span_and_a_builder() {
    let row = both(
        "events",
        AgentExecution::new("planner")
            .execution_id("x-17")
            .outcome(AgentOutcome::Timeout)
            .response_time_ms(Duration::from_micros(120_900))
            .processing_time_ms(Duration::from_secs(29))
            .queue_time_ms(Duration::from_millis(40))
            .http_status(504)
            .credits_consumed(1.5)
            .user_agent("curl/8")
            .ip_address("198.51.100.7")
            .error_message("no answer in 30 s"),
        || {
            let queued = Duration::from_millis(40);
            info_span!(
                "audit.event",
                action_type = "agent_execution",
                target_type = "agent",
                target_id = "planner",
                execution_id = "x-17",
                outcome = "timeout",
                response_time_ms = 120,
                processing_time_ms = 29_000_u64,
                queue_time_ms = queued.as_millis(),
                http_status = 504_u16,
                credits_consumed = 1.5,
                user_agent = "curl/8",
                ip_address = "198.51.100.7",
                error_message = "no answer in 30 s",
            );
        },
    );
    assert_eq!(row["status"], "failed");
    assert_eq!(row["error_code"], "timeout");
    assert_eq!(
        row["metadata"],
        json!({
            "execution_id": "x-17",
            "outcome": "timeout",
            "response_time_ms": 120,
            "processing_time_ms": 29_000,
            "queue_time_ms": 40,
            "http_status": 504,
            "credits_consumed": 1.5,
            "user_agent": "curl/8",
            "ip_address": "198.51.100.7",
        })
    );
}

#[test]
fn log_is_the_same_row_from_a_span_and_a_builder() {
    let context = json!({ "index": "orders", "took_ms": 1200, "share": 0.5 });
    let row = both(
        "activities",
        AgentLog::new("the search took long")
            .category(LogCategory::Performance)
            .level("warn")
            .context(context.clone())
            .execution_id("x-17"),
        || {
            info_span!(
                "audit.event",
                action_type = "log",
                message = "the search took long",
                category = "performance",
                level = "warn",
                context = %context,
                execution_id = "x-17",
            );
        },
    );
    assert_eq!(row["metadata"]["context"], context);
    assert_eq!(row["metadata"]["category"], "performance");
}

#[test]
fn log_line_is_the_same_row_from_an_event_and_a_builder() {
    let row = both(
        "activities",
        AgentLog::new("3 orders found").level("info"),
        || {
            let found = 3;
            tracing::info!(name: "audit.event", action_type = "log", level = "info", "{found} orders found");
        },
    );
    assert_eq!(row["metadata"]["message"], "3 orders found");
}

#[test]
fn http_request_is_the_same_row_from_a_span_and_a_builder() {
    let row = both(
        "activities",
        HttpRequest::new("POST", "/orders/7")
            .query("full=1")
            .route("/orders/{id}")
            .status_code(403)
            .user_agent("curl/8")
            .client_address("198.51.100.7")
            .peer_address("10.0.0.1")
            .request_header("Accept", "text/plain")
            .response_header("x-cache", "miss")
            .request_body("{}")
            .response_body("no")
            .execution_id("x-17"),
        || {
            info_span!(
                "audit.event",
                action_type = "http_request",
                target_type = "http.route",
                target_id = "/orders/{id}",
                http.request.method = "POST",
                url.path = "/orders/7",
                url.query = "full=1",
                http.route = "/orders/{id}",
                http.response.status_code = 403,
                user_agent.original = "curl/8",
                client.address = "198.51.100.7",
                network.peer.address = "10.0.0.1",
                http.request.header.accept = "text/plain",
                "http.response.header.x-cache" = "miss",
                http.request.body = "{}",
                http.request.body.size = 2,
                http.response.body = "no",
                http.response.body.size = 2,
                execution_id = "x-17",
                status = "rejected",
                error_code = "403",
            );
        },
    );
    assert_eq!(row["metadata"]["http.response.status_code"], 403);
}

#[test]
fn transaction_is_the_same_row_from_a_span_and_a_builder() {
    let row = both(
        "events",
        Transaction::new("t-17")
            .amount_cents(-4_200_000_000)
            .currency("EUR")
            .previous_state("captured")
            .state("refunded")
            .payment_reference("pi_3N")
            .actor("billing")
            .status(Status::Succeeded),
        || {
            info_span!(
                "audit.event",
                action_type = "transaction",
                target_type = "transaction",
                target_id = "t-17",
                amount_cents = -4_200_000_000_i64,
                currency = "EUR",
                previous_state = "captured",
                state = "refunded",
                payment_reference = "pi_3N",
                actor = "billing",
                status = "success",
            );
        },
    );
    assert_eq!(row["target_id"], "t-17");
    assert_eq!(row["metadata"]["amount_cents"], -4_200_000_000_i64);
}

#[test]
fn mandate_is_the_same_row_from_a_span_and_a_builder() {
    let row = both(
        "events",
        Mandate::new("m-3")
            .limit_cents(50_000)
            .currency("EUR")
            .period("month")
            .state("active"),
        || {
            info_span!(
                "audit.event",
                action_type = "mandate",
                target_type = "mandate",
                target_id = "m-3",
                limit_cents = 50_000,
                currency = "EUR",
                period = "month",
                state = "active",
            );
        },
    );
    assert_eq!(row["metadata"]["limit_cents"], 50_000);
}

#[test]
fn feedback_is_the_same_row_from_a_span_and_a_builder() {
    let row = both(
        "events",
        Feedback::new()
            .run_id(RUN)
            .rating(5)
            .comment("just what I asked for")
            .favourite(true),
        || {
            info_span!(
                "audit.event",
                action_type = "feedback",
                run_id = %RUN,
                rating = 5,
                comment = "just what I asked for",
                favourite = true,
            );
        },
    );
    assert_eq!(
        row["metadata"],
        json!({ "run_id": RUN, "rating": 5, "comment": "just what I asked for", "favourite": true })
    );
}

#[test]
fn system_error_is_the_same_row_from_a_span_and_a_builder() {
    let details = json!({ "attempt": 3 });
    let row = both(
        "events",
        SystemError::new("ConnectionReset")
            .component("orders-db")
            .severity("critical")
            .error_code("08006")
            .error_message("connection reset by peer")
            .details(details.clone())
            .status(Status::Failed),
        || {
            info_span!(
                "audit.event",
                action_type = "system_error",
                error_type = "ConnectionReset",
                component = "orders-db",
                severity = "critical",
                error_code = "08006",
                error_message = "connection reset by peer",
                details = %details,
                status = "failed",
            );
        },
    );
    assert_eq!(row["metadata"]["details"], details);
    assert_eq!(
        row["metadata"]["fingerprint"].as_str().map(str::len),
        Some(64)
    );
}

/// A view may compute it for rows of another origin.
#[test]
fn postgres_computes_the_same_fingerprint() {
    let trail = Trail::start();
    let error = SystemError::new("ConnectionReset").error_code("08006");
    trail.audit.record(error).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let is_equal = trail.postgres.psql(
        r"SELECT metadata->>'fingerprint' = encode(sha256(convert_to(coalesce(metadata->>'component', '') || E'\x1f'
            || coalesce(metadata->>'error_type', '') || E'\x1f' || coalesce(error_code, ''), 'UTF8')), 'hex') FROM audit.events",
    );
    assert_eq!(is_equal.trim(), "t");
}

#[test]
fn system_metric_is_the_same_row_from_a_span_and_a_builder() {
    let row = both(
        "activities",
        SystemMetric::new("queue_depth", 17.0)
            .unit("records")
            .component("worker"),
        || {
            info_span!(
                "audit.event",
                action_type = "system_metric",
                metric = "queue_depth",
                value = 17.0,
                unit = "records",
                component = "worker",
            );
        },
    );
    assert!(row["metadata"]["value"].is_number(), "{row}");
}

#[test]
fn security_event_is_the_same_row_from_a_span_and_a_builder() {
    let row = both(
        "events",
        SecurityEvent::new("data_exported")
            .source("reports")
            .client_address("198.51.100.7")
            .target("report", "2026-10")
            .user_id("alice")
            .status(Status::Rejected),
        || {
            info_span!(
                "audit.event",
                action_type = "security",
                event = "data_exported",
                source = "reports",
                client.address = "198.51.100.7",
                target_type = "report",
                target_id = "2026-10",
                user_id = "alice",
                status = "rejected",
            );
        },
    );
    assert_eq!(row["status"], "rejected");
    assert_eq!(row["metadata"]["event"], "data_exported");
}

#[test]
fn rejected_write_has_a_row_although_nothing_ran() {
    let trail = Trail::start();
    let run = QueryRun::new("DELETE FROM orders").status(Status::Rejected);
    let id = trail.audit.record(run).unwrap();
    let row = trail.row(Kind::QueryRun);
    assert_eq!(row["id"], json!(id));
    assert_eq!(row["status"], "rejected");
    assert_eq!(row["sql_text"], "DELETE FROM orders");
    assert_eq!(row["rows_affected"], Value::Null);
}

#[test]
fn one_call_records_what_the_builder_says() {
    let trail = Trail::start();
    let latency = Duration::from_millis(812);
    let ids = [
        trail.audit.log_llm_call(LlmCall::new("m").latency(latency)),
        trail
            .audit
            .log_tool_call(ToolInvocation::new("t").latency(latency)),
        trail.audit.log_escalation(Escalation::new("r")),
        trail.audit.record(Event::new("other").latency(latency)),
    ];
    let rows = trail.rows(Kind::Event);
    let said = rows.iter().map(|row| {
        json!([
            row["id"],
            row["action_type"],
            row["latency_ms"].as_f64().unwrap()
        ])
    });
    let ids = ids.map(Result::unwrap);
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            json!([ids[0], "llm_call", 812.0]),
            json!([ids[1], "tool_invocation", 812.0]),
            json!([ids[2], "escalation", 0.0]),
            json!([ids[3], "other", 812.0]),
        ]
    );
}
