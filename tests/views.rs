//! What a builder records comes out of its family's view, to its tenant and to auditors; figures against known answers.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testkit::trail::{PATIENCE, Trail};
use testkit::{Postgres, Session};
use tracing::info_span;
use tracing_audit::{
    AgentExecution, AgentLog, AgentOutcome, Approval, Decision, Escalation, Event, Feedback,
    HttpRequest, LlmCall, LogCategory, Mandate, NewRecord, PromptRun, SecurityEvent, Status,
    SystemError, SystemMetric, ToolInvocation, Transaction,
};
use uuid::Uuid;

const RUN: Uuid = Uuid::from_u128(0x0198_f1d3_0000_7000_8000_0000_0000_0017);
const AGENT: Uuid = Uuid::from_u128(0x0198_f1d3_0000_7000_8000_0000_0000_0042);

/// The views of a family, and what each has besides the columns that all share.
const FAMILIES: [(&str, &str); 13] = [
    (
        "llm_calls",
        "model text, provider text, prompt_template_name text, prompt_template_version bigint, input_summary text, \
         output_summary text, input_token_count bigint, output_token_count bigint",
    ),
    (
        "tool_invocations",
        "tool text, input_summary text, output_summary text, arguments_sha256 text",
    ),
    (
        "escalations",
        "reason text, severity text, escalated_to text, input_summary text, output_summary text",
    ),
    (
        "approvals",
        "decision text, approved_by text, approver_role text, sql_text text, summary text, rows_affected bigint, run_id uuid",
    ),
    (
        "agent_executions",
        "execution_id text, agent_name text, outcome text, response_time_ms bigint, processing_time_ms bigint, \
         queue_time_ms bigint, http_status bigint, credits_consumed double precision, user_agent text, ip_address text, \
         input_summary text, output_summary text",
    ),
    (
        "agent_logs",
        "category text, level text, message text, context jsonb, execution_id text",
    ),
    (
        "request_logs",
        "method text, path text, route text, status_code bigint, grpc_status_code bigint, client_address text, \
         user_agent text, request_body text, response_body text, execution_id text",
    ),
    (
        "transaction_events",
        "transaction_id text, amount_cents bigint, currency text, state text, previous_state text, \
         payment_reference text, actor text",
    ),
    (
        "mandates",
        "mandate_id text, limit_cents bigint, currency text, period text, state text",
    ),
    (
        "feedback",
        "run_id uuid, rating bigint, comment text, favourite boolean",
    ),
    (
        "system_errors",
        "fingerprint text, error_type text, severity text, component text, details jsonb",
    ),
    (
        "system_metrics",
        "metric text, value double precision, unit text, component text",
    ),
    (
        "security_events",
        "event text, source text, input_summary text, output_summary text",
    ),
];

/// The columns that the views of all families begin with.
const COMMON: &str = "id uuid, tenant_id uuid, user_id text, user_role text, agent_id uuid, request_id text, \
    llm_session_id uuid, conversation_id text, parent_id uuid, trace_id text, service_name text, \
    created_at timestamp with time zone, duration_ms bigint, target_type text, target_id text, status audit.run_status, \
    error_code text, error_message text";

/// Views of figures, each a `SELECT`.
const FIGURES: [&str; 5] = [
    "audit.agent_metrics_hourly",
    "audit.agent_metrics_daily",
    "audit.model_usage",
    "audit.user_agent_interactions",
    "audit.transactions",
];

/// Logins: a reader of the tenant `acme`, one of the tenant `other`, and an auditor.
struct Logins {
    acme: Session,
    other: Session,
    auditor: Session,
}

impl Logins {
    fn of(postgres: &Postgres) -> Self {
        let login = |name: &str, role: &str| {
            postgres.psql(&format!("CREATE ROLE {name} LOGIN IN ROLE {role}"));
            postgres.session(name)
        };
        let reader = |tenant: &str| {
            let mut session = login(&format!("reads_{tenant}"), "audit_reader");
            session.psql(&format!(
                "SELECT set_config('app.current_tenant', audit.tenant_uuid('{tenant}')::text, false)"
            ));
            session
        };
        Self {
            acme: reader("acme"),
            other: reader("other"),
            auditor: login("audits", "audit_auditor"),
        }
    }
}

/// Starts a server with the trail's tables and no program that writes to it.
fn migrated() -> Postgres {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres
}

/// Returns what a query returns, each row as JSON.
#[track_caller]
fn rows(session: &mut Session, query: &str) -> Vec<Value> {
    session
        .psql(&format!("SELECT to_jsonb(q) FROM ({query}) AS q"))
        .lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

/// Returns the only row that a query returns.
#[track_caller]
fn row(session: &mut Session, query: &str) -> Value {
    let mut rows = rows(session, query);
    assert_eq!(rows.len(), 1, "{query}: {rows:#?}");
    rows.remove(0)
}

#[track_caller]
fn record(trail: &Trail, record: impl Into<NewRecord>) {
    trail.audit.record(record).unwrap();
}

/// Makes a row of a family for the tenants `acme` and `other`, through its builder, and says what comes out.
macro_rules! family {
    ($trail:ident, $expected:ident, $view:literal, $record:expr, $columns:tt) => {
        for tenant in ["acme", "other"] {
            record($trail, $record.tenant_id(tenant).user_id("alice"));
        }
        $expected.push(($view, json!($columns)));
    };
}

/// The families of what agents do, in the order of [`FAMILIES`].
fn of_agents(trail: &Trail) -> Vec<(&'static str, Value)> {
    let mut expected = Vec::new();
    family!(
        trail, expected,
        "llm_calls",
        LlmCall::new("claude-sonnet")
            .provider("anthropic")
            .prompt_template_name("sql")
            .prompt_template_version(3)
            .input_summary("How many?")
            .output_summary("42")
            .input_token_count(180)
            .output_token_count(12)
            .latency(Duration::from_millis(812)),
        { "model": "claude-sonnet", "provider": "anthropic", "prompt_template_name": "sql", "prompt_template_version": 3,
          "input_summary": "How many?", "output_summary": "42", "input_token_count": 180, "output_token_count": 12,
          "duration_ms": 812 }
    );
    family!(
        trail, expected,
        "tool_invocations",
        ToolInvocation::new("search").arguments_sha256("ba78").input_summary("in").output_summary("out"),
        { "tool": "search", "input_summary": "in", "output_summary": "out", "arguments_sha256": "ba78", "target_type": "tool" }
    );
    family!(
        trail, expected,
        "escalations",
        Escalation::new("too large").severity("high").escalated_to("billing").input_summary("in").output_summary("out"),
        { "reason": "too large", "severity": "high", "escalated_to": "billing", "input_summary": "in", "output_summary": "out" }
    );
    family!(
        trail, expected,
        "approvals",
        Approval::new(Decision::Cancelled)
            .approved_by("bob")
            .approver_role("accountant")
            .sql_text("DELETE FROM orders")
            .input_summary("all orders")
            .rows_affected(0)
            .run_id(RUN),
        { "decision": "cancelled", "approved_by": "bob", "approver_role": "accountant", "sql_text": "DELETE FROM orders",
          "summary": "all orders", "rows_affected": 0, "run_id": RUN, "status": "cancelled" }
    );
    family!(
        trail, expected,
        "agent_executions",
        AgentExecution::new("planner")
            .execution_id("x-17")
            .outcome(AgentOutcome::Timeout)
            .response_time_ms(Duration::from_millis(120))
            .processing_time_ms(Duration::from_secs(29))
            .queue_time_ms(Duration::from_millis(40))
            .http_status(504)
            .credits_consumed(1.5)
            .user_agent("curl/8")
            .ip_address("198.51.100.7")
            .input_summary("in")
            .output_summary("out"),
        { "execution_id": "x-17", "agent_name": "planner", "outcome": "timeout", "response_time_ms": 120,
          "processing_time_ms": 29_000, "queue_time_ms": 40, "http_status": 504, "credits_consumed": 1.5,
          "user_agent": "curl/8", "ip_address": "198.51.100.7", "input_summary": "in", "output_summary": "out",
          "status": "failed", "error_code": "timeout" }
    );
    family!(
        trail, expected,
        "agent_logs",
        AgentLog::new("slow")
            .category(LogCategory::Performance)
            .level("warn")
            .context(json!({ "share": 0.5 }))
            .execution_id("x-17"),
        { "category": "performance", "level": "warn", "message": "slow", "context": { "share": 0.5 }, "execution_id": "x-17" }
    );
    expected
}

/// The other families, in the order of [`FAMILIES`].
fn of_systems(trail: &Trail) -> Vec<(&'static str, Value)> {
    let mut expected = Vec::new();
    family!(
        trail, expected,
        "request_logs",
        HttpRequest::new("POST", "/orders/7")
            .route("/orders/{id}")
            .status_code(403)
            .client_address("198.51.100.7")
            .user_agent("curl/8")
            .request_body("{}")
            .response_body("no")
            .execution_id("x-17"),
        { "method": "POST", "path": "/orders/7", "route": "/orders/{id}", "status_code": 403, "grpc_status_code": null,
          "client_address": "198.51.100.7", "user_agent": "curl/8", "request_body": "{}", "response_body": "no",
          "execution_id": "x-17", "status": "rejected", "error_code": "403" }
    );
    family!(
        trail, expected,
        "transaction_events",
        Transaction::new("t-17")
            .amount_cents(-4_200_000_000)
            .currency("EUR")
            .state("refunded")
            .previous_state("captured")
            .payment_reference("pi_3N"),
        { "transaction_id": "t-17", "amount_cents": -4_200_000_000_i64, "currency": "EUR", "state": "refunded",
          "previous_state": "captured", "payment_reference": "pi_3N", "actor": "alice" }
    );
    family!(
        trail, expected,
        "mandates",
        Mandate::new("m-3").limit_cents(50_000).currency("EUR").period("month").state("active"),
        { "mandate_id": "m-3", "limit_cents": 50_000, "currency": "EUR", "period": "month", "state": "active" }
    );
    family!(
        trail, expected,
        "feedback",
        Feedback::new().run_id(RUN).rating(5).comment("good").favourite(true),
        { "run_id": RUN, "rating": 5, "comment": "good", "favourite": true }
    );
    family!(
        trail, expected,
        "system_errors",
        SystemError::new("Reset")
            .severity("critical")
            .component("orders-db")
            .details(json!({ "attempt": 3 }))
            .metadata("fingerprint", "f-1"),
        { "fingerprint": "f-1", "error_type": "Reset", "severity": "critical", "component": "orders-db", "details": { "attempt": 3 } }
    );
    family!(
        trail, expected,
        "system_metrics",
        SystemMetric::new("queue_depth", 17.25).unit("records").component("worker"),
        { "metric": "queue_depth", "value": 17.25, "unit": "records", "component": "worker" }
    );
    family!(
        trail, expected,
        "security_events",
        SecurityEvent::new("access_denied")
            .client_address("198.51.100.7")
            .target("report", "2026-10")
            .status(Status::Rejected),
        { "event": "access_denied", "source": "198.51.100.7", "input_summary": null, "output_summary": null,
          "target_id": "2026-10", "status": "rejected" }
    );
    expected
}

/// Fails unless a row has these values. Postgres prints a number without a fraction as an integer.
#[track_caller]
fn has(row: &Value, expected: &Value) {
    for (column, value) in expected.as_object().unwrap() {
        let found = row.get(column);
        let is_equal = match (found.and_then(Value::as_f64), value.as_f64()) {
            (Some(found), Some(value)) if !row[column].is_i64() || value.fract() == 0.0 => {
                (found - value).abs() < 1e-9
            }
            _ => found == Some(value),
        };
        assert!(is_equal, "{column} is not {value}: {row:#}");
    }
}

#[test]
fn what_a_builder_records_comes_out_of_its_view_for_its_tenant_and_auditors() {
    let trail = Trail::start();
    let mut expected = of_agents(&trail);
    expected.extend(of_systems(&trail));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(expected.len(), FAMILIES.len());
    let mut logins = Logins::of(&trail.postgres);
    let mut nobody = trail.postgres.session("reads_acme");
    for ((view, expected), (listed, columns)) in expected.iter().zip(FAMILIES) {
        assert_eq!(*view, listed);
        let types = logins.auditor.psql(&format!(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, NULL), ', ' ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = 'audit.{view}'::regclass AND attnum > 0"
        ));
        assert_eq!(types, format!("{COMMON}, {columns}, metadata jsonb"));

        let query = format!("SELECT * FROM audit.{view}");
        for column in columns.split(", ") {
            let name = column.split(' ').next().unwrap();
            assert!(expected.get(name).is_some(), "{view}.{name} is not tested");
        }
        let ours = row(&mut logins.acme, &query);
        has(&ours, expected);
        assert_eq!(ours["user_id"], "alice");
        let theirs = row(&mut logins.other, &query);
        has(&theirs, expected);
        assert_ne!(ours["tenant_id"], theirs["tenant_id"], "{view}");
        assert_eq!(rows(&mut logins.auditor, &query).len(), 2, "{view}");
        assert_eq!(
            rows(&mut nobody, &query).len(),
            0,
            "{view}: no tenant is set"
        );
    }
    for figures in FIGURES {
        // Feedback that names no agent is of no agent, and the run names one.
        let query =
            format!("SELECT * FROM {figures} AS f WHERE (to_jsonb(f) ->> 'rating') IS NULL");
        assert_eq!(rows(&mut logins.acme, &query).len(), 1, "{figures}");
        assert_eq!(rows(&mut logins.auditor, &query).len(), 2, "{figures}");
        assert_eq!(rows(&mut nobody, &query).len(), 0, "{figures}");
    }
}

#[test]
fn family_that_is_routed_to_activities_is_in_the_same_view() {
    let trail = Trail::start_with(|builder| builder.activities(["agent_execution", "transaction"]));
    record(
        &trail,
        AgentExecution::new("planner")
            .outcome(AgentOutcome::Success)
            .credits_consumed(2.0)
            .tenant_id("acme")
            .user_id("alice"),
    );
    let captured = Transaction::new("t-1").state("captured").tenant_id("acme");
    record(&trail, captured);
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let kept = trail.postgres.psql(
        "SELECT (SELECT count(*) FROM audit.events), (SELECT count(*) FROM audit.activities)",
    );
    assert_eq!(kept, "0|2");
    let reader = &mut Logins::of(&trail.postgres).acme;
    has(
        &row(reader, "SELECT * FROM audit.agent_executions"),
        &json!({ "agent_name": "planner", "outcome": "success", "credits_consumed": 2.0 }),
    );
    has(
        &row(reader, "SELECT * FROM audit.agent_metrics_hourly"),
        &json!({ "total": 1, "succeeded": 1, "credits_consumed": 2.0 }),
    );
    has(
        &row(reader, "SELECT * FROM audit.user_agent_interactions"),
        &json!({ "user_id": "alice", "executions": 1 }),
    );
    has(
        &row(reader, "SELECT * FROM audit.transactions"),
        &json!({ "transaction_id": "t-1", "state": "captured" }),
    );
}

#[test]
fn family_of_a_host_needs_no_migration() {
    let trail = Trail::start_with(|builder| builder.activities(["page_view"]));
    record(
        &trail,
        Event::new("shipment")
            .target("parcel", "p-1")
            .metadata("weight_g", 1200)
            .tenant_id("acme"),
    );
    record(
        &trail,
        Event::new("page_view")
            .metadata("path", "/orders")
            .tenant_id("acme"),
    );
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let mut logins = Logins::of(&trail.postgres);
    let query = "SELECT target_id, audit.integer_of(metadata -> 'weight_g') AS weight_g FROM audit.trail WHERE what = 'shipment'";
    let expected = json!({ "target_id": "p-1", "weight_g": 1200 });
    assert_eq!(row(&mut logins.acme, query), expected);
    assert_eq!(row(&mut logins.auditor, query), expected);
    let viewed = "SELECT metadata ->> 'path' AS path FROM audit.trail WHERE what = 'page_view'";
    assert_eq!(row(&mut logins.acme, viewed), json!({ "path": "/orders" }));
    assert_eq!(rows(&mut logins.other, viewed).len(), 0);
}

#[test]
fn value_that_is_no_number_is_null() {
    let postgres = migrated();
    for (value, integer, number) in [
        ("17", "17", "17"),
        ("-1.5", "-2", "-1.5"),
        ("\"17\"", "17", "17"),
        ("\"1.25\"", "", "1.25"),
        (
            "9223372036854775807",
            "9223372036854775807",
            "9.223372036854776e+18",
        ),
        ("9223372036854775808", "", "9.223372036854776e+18"),
        ("1e300", "", ""),
        ("1e400", "", ""),
        ("1e-400", "0", "0"),
        ("1e-300", "0", "1e-300"),
        ("1.23456789e-15", "0", "1.23456789e-15"),
        ("1147.2813284467645", "1147", "1147.2813284467645"),
        ("\"1x5\"", "", ""),
        ("\"NaN\"", "", ""),
        ("\"1e400\"", "", ""),
        ("\"many\"", "", ""),
        ("\"\"", "", ""),
        ("\"99999999999999999999\"", "", ""),
        ("[1]", "", ""),
        ("{}", "", ""),
        ("true", "", ""),
        ("null", "", ""),
    ] {
        let found = postgres.psql(&format!(
            "SELECT audit.integer_of('{value}'), audit.number_of('{value}')"
        ));
        assert_eq!(found, format!("{integer}|{number}"), "{value}");
    }
    assert_eq!(
        postgres.psql(
            "SELECT audit.integer_of(NULL), audit.number_of(NULL), audit.boolean_of('\"true\"'), audit.boolean_of('1'), \
             audit.uuid_of('\"0198f1d3\"'), audit.uuid_of('[]'), audit.counts_of(NULL), audit.counts_of('{b,a,b}'), \
             audit.tokens_of('-1'), audit.tokens_of('1000000000000'), audit.tokens_of('1000000000001'), \
             audit.time_of(audit.id_at('2026-11-05 01:02:03.004+00')) = '2026-11-05 01:02:03.004+00'"
        ),
        "||t||||{}|{\"a\": 1, \"b\": 2}||1000000000000||t"
    );
}

/// Rows of each family in both tables, with each of the hostile values under each name that a view reads, and with
/// metadata that is no object.
const HOSTILE: &str = r#"
    CREATE TABLE hostile AS
        WITH numbers (value) AS (VALUES
            ('"many"'::jsonb), ('1e400'), (repeat('9', 200)::jsonb), (repeat('9', 400)::jsonb), ('-1e131000'), ('1e-16000'), ('[1]'), ('{"a": 1}'), ('null'), ('"NaN"'), ('""')),
        keys (key) AS (SELECT unnest(string_to_array('model provider prompt_template_name prompt_template_version input_token_count output_token_count
            arguments_sha256 reason severity escalated_to decision approved_by approver_role sql_text rows_affected run_id execution_id outcome
            response_time_ms processing_time_ms queue_time_ms http_status credits_consumed user_agent ip_address category level message context
            http.request.method url.path url http.route http.response.status_code rpc.grpc.status_code client.address user_agent.original
            http.request.body http.response.body amount_cents currency state previous_state payment_reference actor limit_cents period
            rating comment favourite fingerprint error_type component details metric value unit event source',
            ' ')) AS key)
        SELECT row_number() OVER () AS n, metadata FROM (
            SELECT jsonb_object_agg(btrim(key, E' \n'), value) AS metadata FROM numbers, keys WHERE btrim(key, E' \n') <> '' GROUP BY value
            UNION ALL SELECT unnest('{5,"\"text\"","[1]","null","{}"}'::jsonb[])) AS m;
    INSERT INTO audit.events (id, tenant_id, user_id, agent_id, request_id, action_type, status, error_code, created_at, latency_ms, metadata, writer_id, seq, salt)
        SELECT overlay(audit.id_at(now())::text PLACING lpad((n * 100 + f)::text, 12, '0') FROM 25)::uuid, audit.tenant_uuid('acme'), 'u', audit.tenant_uuid('a'),
            'hostile', family, 'failed', repeat('é', 300), now(), 1, metadata, audit.tenant_uuid('writer'), n * 100 + f, ''
        FROM hostile, unnest('{llm_call,tool_invocation,escalation,approval,agent_execution,log,http_request,transaction,mandate,feedback,system_error,
            system_metric,security}'::text[]) WITH ORDINALITY AS f (family, f);
    INSERT INTO audit.activities SELECT * FROM audit.events"#;

#[test]
fn hostile_metadata_gives_null_and_no_error_in_any_view() {
    let postgres = migrated();
    postgres.psql(
        "SELECT audit.ensure_partition(parent, now()) FROM unnest(audit.record_tables()) AS parent",
    );
    postgres.psql(HOSTILE);
    let mut logins = Logins::of(&postgres);
    for session in [&mut logins.acme, &mut logins.auditor] {
        for (view, columns) in FAMILIES {
            // The numbers in it are too large for the test.
            let json = "to_jsonb(v) - '{metadata,context,details}'::text[]";
            let found: Vec<Value> = session
                .psql(&format!("SELECT {json} FROM audit.{view} AS v"))
                .lines()
                .map(|row| serde_json::from_str(row).unwrap())
                .collect();
            assert_eq!(found.len(), 32, "{view}");
            for column in columns.split(", ") {
                let (name, of) = column.split_once(' ').unwrap();
                for row in &found {
                    let value = &row[name];
                    // What is close to zero is a number, and so is what has 200 digits, though no integer.
                    let is_kept = match of {
                        "text" | "jsonb" => true,
                        "double precision" => *value == 0 || value.as_f64() == Some(1e200),
                        _ => *value == 0,
                    };
                    assert!(is_kept || value.is_null(), "{view}.{name}: {row:#}");
                }
            }
        }
        for figures in FIGURES {
            rows(session, &format!("SELECT * FROM {figures}"));
        }
        let executions = row(session, "SELECT * FROM audit.agent_metrics_daily");
        has(
            &executions,
            &json!({ "total": 32, "failed": 32, "credits_consumed": 2e200, "error_counts": { "é".repeat(100): 32 } }),
        );
        let calls = rows(session, "SELECT sum(calls) AS calls FROM audit.model_usage");
        assert_eq!(calls, [json!({ "calls": 32 })]);
        let told = "SELECT count(metadata::text) AS n FROM audit.request_story('hostile')";
        assert_eq!(row(session, told), json!({ "n": 32 * FAMILIES.len() }));
    }
}

#[test]
fn tokens_that_no_call_can_have_are_left_out_of_the_sum() {
    let trail = Trail::start();
    for tokens in [i64::MAX, -5, 1, 4] {
        let call = LlmCall::new("m")
            .input_token_count(tokens)
            .tenant_id("acme");
        record(&trail, call.output_token_count(7));
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    has(
        &row(
            &mut Logins::of(&trail.postgres).acme,
            "SELECT * FROM audit.model_usage",
        ),
        &json!({ "calls": 4, "input_token_count": 5, "output_token_count": 28 }),
    );
}

/// Returns a moment of yesterday, in UTC.
fn yesterday(hour: u64) -> SystemTime {
    const DAY: u64 = 86_400;
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    UNIX_EPOCH + Duration::from_secs((now / DAY - 1) * DAY + hour * 3600)
}

/// An execution that began at a moment and took some milliseconds.
fn execution(at: SystemTime, millis: u64, user: &str) -> AgentExecution {
    AgentExecution::new("planner")
        .tenant_id("acme")
        .user_id(user)
        .agent_id(AGENT)
        .started_at(at)
        .latency(Duration::from_millis(millis))
}

#[test]
fn figures_of_agents_are_those_of_their_hour_and_day() {
    let trail = Trail::start();
    // A hundred in the hour from 10 on, of which 7 fail and 3 time out.
    for n in 1..=100_u64 {
        let at = yesterday(10) + Duration::from_secs(n * 35);
        let one = execution(at, n, &format!("u{}", n % 5)).credits_consumed(0.5);
        record(
            &trail,
            match n {
                1..=90 => one.outcome(AgentOutcome::Success),
                91..=97 => one.outcome(AgentOutcome::Error).error_code("E1"),
                _ => one.outcome(AgentOutcome::Timeout),
            },
        );
    }
    // At the last moment of that hour, and at the first of the next one.
    let last = yesterday(11) - Duration::from_millis(1);
    record(&trail, execution(last, 40, "u0").status(Status::Unknown));
    record(
        &trail,
        execution(yesterday(11), 1000, "u9").status(Status::Cancelled),
    );
    // Another agent, another tenant.
    record(
        &trail,
        execution(yesterday(10), 5, "u0").agent_id(Uuid::max()),
    );
    record(&trail, execution(yesterday(10), 7, "u0").tenant_id("other"));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let mut logins = Logins::of(&trail.postgres);
    let reader = &mut logins.acme;
    // Hours and days are those of UTC, whatever the reader's time zone.
    reader.psql("SET TimeZone = 'Asia/Kolkata'");
    let hourly = format!(
        "SELECT extract(hour FROM hour AT TIME ZONE 'UTC')::int AS hour_of_day, * FROM audit.agent_metrics_hourly
         WHERE agent_id = '{AGENT}' ORDER BY hour"
    );
    let of_ten = json!({
        "hour_of_day": 10, "total": 101, "succeeded": 90, "failed": 10,
        "average_duration_ms": 50.0 + 40.0 / 101.0, "minimum_duration_ms": 1, "maximum_duration_ms": 100,
        "p95_duration_ms": 95, "p99_duration_ms": 99, "unique_users": 5, "credits_consumed": 50.0,
        "error_counts": { "E1": 7, "timeout": 3 },
    });
    let of_eleven = json!({
        "hour_of_day": 11, "total": 1, "succeeded": 0, "failed": 1,
        "average_duration_ms": 1000.0, "minimum_duration_ms": 1000, "maximum_duration_ms": 1000,
        "p95_duration_ms": 1000, "p99_duration_ms": 1000, "unique_users": 1, "credits_consumed": null, "error_counts": {},
    });
    let found = rows(reader, &hourly);
    assert_eq!(found.len(), 2, "{found:#?}");
    has(&found[0], &of_ten);
    has(&found[1], &of_eleven);

    // A row that arrives late is counted in its hour and its day.
    let daily = format!("SELECT * FROM audit.agent_metrics_daily WHERE agent_id = '{AGENT}'");
    has(
        &row(reader, &daily),
        &json!({
            "total": 102, "succeeded": 90, "failed": 11, "minimum_duration_ms": 1, "maximum_duration_ms": 1000,
            "p95_duration_ms": 96, "p99_duration_ms": 100, "unique_users": 6, "error_counts": { "E1": 7, "timeout": 3 },
        }),
    );
    let late = execution(yesterday(10), 2000, "late").outcome(AgentOutcome::Success);
    record(&trail, late);
    trail.audit.flush_blocking(PATIENCE).unwrap();
    has(
        &rows(reader, &hourly)[0],
        &json!({ "total": 102, "succeeded": 91, "maximum_duration_ms": 2000, "unique_users": 6 }),
    );
    has(
        &row(reader, &daily),
        &json!({ "total": 103, "succeeded": 91, "maximum_duration_ms": 2000, "unique_users": 7 }),
    );
    // One that is older than all before, too.
    let oldest = yesterday(3) - Duration::from_hours(48);
    record(&trail, execution(oldest, 3, "u0"));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let hours = rows(reader, &hourly);
    assert_eq!(hours.len(), 3);
    has(&hours[0], &json!({ "hour_of_day": 3, "total": 1 }));
    // Rows whose ids are the first and the last of all, and whose times are at the other end of the month, hide no hour.
    for (id, at) in [
        ("start", "stop - interval '1 second'"),
        ("stop - interval '1 second'", "start"),
    ] {
        trail.postgres.psql(&format!(
            "INSERT INTO audit.events (id, status, created_at, writer_id, seq, salt)
             SELECT audit.id_at({id}), 'succeeded', {at}, gen_random_uuid(), 1, '' FROM (
                SELECT date_trunc('month', created_at, 'UTC'), date_trunc('month', created_at, 'UTC') + interval '1 month'
                FROM audit.events ORDER BY id LIMIT 1) AS month (start, stop)"
        ));
        assert_eq!(rows(reader, &hourly).len(), 3);
    }
    // Others see theirs.
    let all = "SELECT * FROM audit.agent_metrics_daily";
    let theirs = row(&mut logins.other, all);
    has(&theirs, &json!({ "total": 1, "maximum_duration_ms": 7 }));
    assert_eq!(rows(&mut logins.auditor, all).len(), 4);
}

#[test]
fn usage_of_models_counts_prompt_runs_and_calls() {
    let trail = Trail::start();
    let at = yesterday(10);
    for (version, status, input, millis) in [
        (3, Status::Succeeded, 100, 10),
        (3, Status::Failed, 50, 30),
        (4, Status::Succeeded, 7, 5),
    ] {
        let run = PromptRun::new("p")
            .model_name("m")
            .provider("anthropic")
            .prompt_template_name("sql")
            .prompt_template_version(version)
            .input_token_count(input)
            .output_token_count(1)
            .status(status)
            .tenant_id("acme")
            .started_at(at)
            .finished_at(at + Duration::from_millis(millis));
        record(&trail, run);
    }
    let call = LlmCall::new("m")
        .provider("anthropic")
        .prompt_template_name("sql")
        .prompt_template_version(3)
        .input_token_count(1000)
        .started_at(at)
        .latency(Duration::from_millis(80));
    record(&trail, call.clone().tenant_id("acme"));
    record(&trail, call.tenant_id("other"));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let mut logins = Logins::of(&trail.postgres);
    let query = "SELECT * FROM audit.model_usage ORDER BY prompt_template_version";
    let found = rows(&mut logins.acme, query);
    assert_eq!(found.len(), 2, "{found:#?}");
    has(
        &found[0],
        &json!({
            "model_name": "m", "provider": "anthropic", "prompt_template_name": "sql", "prompt_template_version": 3,
            "calls": 3, "failed": 1, "input_token_count": 1150, "output_token_count": 2,
            "average_duration_ms": 40.0, "p95_duration_ms": 80,
        }),
    );
    has(
        &found[1],
        &json!({ "prompt_template_version": 4, "calls": 1, "failed": 0, "input_token_count": 7, "output_token_count": 1 }),
    );
    has(
        &row(&mut logins.other, query),
        &json!({ "calls": 1, "input_token_count": 1000 }),
    );
    assert_eq!(rows(&mut logins.auditor, query).len(), 3);
}

#[test]
fn interactions_say_how_a_user_works_with_an_agent() {
    let trail = Trail::start();
    let day = Duration::from_hours(24);
    for (at, outcome) in [
        (yesterday(9) - day, AgentOutcome::Success),
        (yesterday(9), AgentOutcome::Success),
        (yesterday(9), AgentOutcome::Failed),
        (yesterday(14), AgentOutcome::Success),
    ] {
        record(&trail, execution(at, 1, "alice").outcome(outcome));
    }
    for (rating, favourite, hours) in [(5, true, 15), (2, false, 16)] {
        let feedback = Feedback::new().rating(rating).favourite(favourite);
        let feedback = feedback.tenant_id("acme").user_id("alice").agent_id(AGENT);
        record(&trail, feedback.started_at(yesterday(hours)));
    }
    // Without a user, and with feedback alone.
    record(&trail, AgentExecution::new("planner").tenant_id("acme"));
    let liked = Feedback::new().favourite(true).tenant_id("acme");
    record(&trail, liked.user_id("bob").agent_id(AGENT));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let mut logins = Logins::of(&trail.postgres);
    let query = "SELECT * FROM audit.user_agent_interactions ORDER BY user_id";
    let found = rows(&mut logins.acme, query);
    assert_eq!(found.len(), 2, "{found:#?}");
    has(
        &found[0],
        &json!({
            "user_id": "alice", "agent_id": AGENT, "executions": 4, "succeeded": 3, "executions_per_day": 2.0,
            "preferred_hour": 9, "rating": 3.5, "favourite": false,
        }),
    );
    has(
        &found[1],
        &json!({
            "user_id": "bob", "executions": 0, "executions_per_day": null, "preferred_hour": null, "first_at": null,
            "rating": null, "favourite": true,
        }),
    );
    assert_eq!(rows(&mut logins.other, query).len(), 0);
}

#[test]
fn transaction_is_as_its_latest_event_left_it() {
    let trail = Trail::start();
    let event = |tenant: &str, id: &str, state: &str, hour: u64| {
        let event = Transaction::new(id).state(state).amount_cents(4_200);
        event.tenant_id(tenant).started_at(yesterday(hour))
    };
    // What is recorded last is not what came last.
    record(&trail, event("acme", "t-1", "authorized", 8));
    record(
        &trail,
        event("acme", "t-1", "refunded", 12).actor("billing"),
    );
    record(&trail, event("acme", "t-1", "captured", 9));
    record(
        &trail,
        event("acme", "t-2", "authorized", 8).user_id("alice"),
    );
    record(&trail, event("other", "t-1", "captured", 13));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let mut logins = Logins::of(&trail.postgres);
    let query = "SELECT transaction_id, state, amount_cents, actor FROM audit.transactions ORDER BY transaction_id, state";
    let ours = [
        json!({ "transaction_id": "t-1", "state": "refunded", "amount_cents": 4200, "actor": "billing" }),
        json!({ "transaction_id": "t-2", "state": "authorized", "amount_cents": 4200, "actor": "alice" }),
    ];
    assert_eq!(rows(&mut logins.acme, query), ours);
    let theirs = row(&mut logins.other, query);
    has(&theirs, &json!({ "state": "captured", "actor": null }));
    assert_eq!(rows(&mut logins.auditor, query).len(), 3);
}

/// Returns the places of a request's records: depth and type.
fn story(session: &mut Session, request: &str) -> String {
    session
        .psql(&format!(
            "SELECT depth || ' ' || what FROM audit.request_story('{request}') ORDER BY place"
        ))
        .replace('\n', ", ")
}

#[test]
fn story_of_a_request_is_a_tree() {
    let trail = Trail::start();
    let span = |action_type: &str| info_span!("audit.event", action_type);
    trail.scoped(|| {
        let request = info_span!("request", request_id = "r-1", tenant_id = "acme");
        let _request = request.enter();
        {
            let _first = span("first").entered();
            {
                let _inner = span("first.inner").entered();
                drop(span("first.inner.innermost").entered());
            }
            let question_text = "second inner";
            drop(info_span!("audit.query_run", question_text).entered());
        }
        let _last = span("last").entered();
        drop(span("last.inner").entered());
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let mut logins = Logins::of(&trail.postgres);
    let expected =
        "0 first, 1 first.inner, 2 first.inner.innermost, 1 second inner, 0 last, 1 last.inner";
    assert_eq!(story(&mut logins.acme, "r-1"), expected);
    assert_eq!(story(&mut logins.auditor, "r-1"), expected);
    assert_eq!(story(&mut logins.other, "r-1"), "");
}

/// Makes the function with which forged records are made: a number, its parent's, a request.
const FORGE: &str = "
    SELECT audit.ensure_partition(parent, now()) FROM unnest(audit.record_tables()) AS parent;
    CREATE FUNCTION forged_id(n int, request text) RETURNS uuid LANGUAGE sql AS $$
        SELECT overlay(overlay(audit.id_at(date_trunc('month', now()))::text PLACING lpad(n::text, 12, '0') FROM 25)
            PLACING left(md5(request), 4) FROM 20)::uuid $$;
    CREATE FUNCTION forge(into_table text, n int, parent int, request text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE format('INSERT INTO audit.%I (id, parent_id, request_id, tenant_id, action_type, status, created_at, writer_id, seq, salt)
            VALUES ($1, $2, $3, audit.tenant_uuid(''acme''), $4, ''succeeded'', date_trunc(''month'', now()), gen_random_uuid(), $5, '''')', into_table)
            USING forged_id(n, request), forged_id(parent, request), request, 'n' || n, n;
    END $$";

#[test]
fn circle_of_parents_is_told_last_and_each_record_once() {
    let postgres = migrated();
    postgres.psql(FORGE);
    // 1 and 2 are each other's parent, 3 is below them, 4 is its own parent; 6 is below 5.
    postgres.psql(
        "SELECT forge('events', n, parent, 'circle')
         FROM (VALUES (1, 2), (2, 1), (3, 2), (4, 4), (5, NULL), (6, 5)) AS r (n, parent)",
    );
    let reader = &mut Logins::of(&postgres).acme;
    assert_eq!(
        story(reader, "circle"),
        "0 n5, 1 n6, 0 n1, 0 n2, 0 n3, 0 n4"
    );
}

#[test]
fn record_without_a_parent_stays_the_root_whatever_is_forged_with_its_id() {
    let postgres = migrated();
    postgres.psql(FORGE);
    // 2 is in 1, and 3 in 2. With the id of 1 there is another row, which says that it is in 3.
    postgres.psql(
        "SELECT forge(kept, n, parent, 'root')
         FROM (VALUES ('events', 1, NULL), ('events', 2, 1), ('events', 3, 2), ('activities', 1, 3)) AS r (kept, n, parent)",
    );
    let reader = &mut Logins::of(&postgres).acme;
    assert_eq!(story(reader, "root"), "0 n1, 0 n1, 1 n2, 2 n3");
}

#[test]
fn record_that_is_there_twice_is_told_twice_however_deep() {
    let postgres = migrated();
    postgres.psql(FORGE);
    postgres.psql(
        "SELECT forge(kept, n, parent, 'twice') FROM (VALUES (1, NULL), (2, 1), (3, 1)) AS r (n, parent), (VALUES ('events'), ('activities')) AS t (kept)",
    );
    let mut logins = Logins::of(&postgres);
    assert_eq!(
        story(&mut logins.acme, "twice"),
        "0 n1, 0 n1, 1 n2, 1 n2, 1 n3, 1 n3"
    );
    // Two ways to each record's parent make no more than two of each record.
    postgres.psql(
        "SELECT forge(kept, n, n - 1, 'deep') FROM generate_series(1, 1000) AS n, (VALUES ('events'), ('activities')) AS t (kept)",
    );
    // What is deeper than any program nests is told, at the end.
    let deep = "SELECT count(*) AS n, max(depth) AS depth FROM audit.request_story('deep')";
    let reader = &mut logins.acme;
    reader.psql("SET statement_timeout = '30s'");
    assert_eq!(row(reader, deep), json!({ "n": 2000, "depth": 200 }));
}

#[test]
fn definition_of_a_view_is_what_postgres_prints() {
    let postgres = migrated();
    let changed = postgres.psql(
        "CREATE TEMP TABLE before AS SELECT oid, oid::regclass::text AS name, pg_get_viewdef(oid) AS definition
             FROM pg_class WHERE relnamespace = 'audit'::regnamespace AND relkind = 'v';
         DO $$ DECLARE v record; BEGIN FOR v IN SELECT * FROM before LOOP
             EXECUTE format('CREATE OR REPLACE VIEW %s WITH (security_invoker = true) AS %s', v.name, v.definition);
         END LOOP; END $$;
         SELECT count(*), string_agg(name, ', ') FILTER (WHERE definition <> pg_get_viewdef(oid)) FROM before",
    );
    // Besides them audit.trail, audit.changes and audit.tracked.
    assert_eq!(changed, format!("{}|", FAMILIES.len() + FIGURES.len() + 3));
}
