//! Four systems that keep their audit trail here, and the queries that their people ask: a backend that translates
//! questions to SQL, a platform of agents, a marketplace of agents, and a database assistant.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::time::Duration;

use testkit::trail::{PATIENCE, Trail};
use testkit::{Postgres, Session};
use tracing::info_span;
use tracing_audit::{
    AgentExecution, AgentLog, AgentOutcome, Approval, AuditSpanExt as _, Decision, Escalation,
    Feedback, HttpRequest, LlmCall, LogCategory, Mandate, NewRecord, QueryRun, SecurityEvent,
    Status, SystemError, SystemMetric, ToolInvocation, Transaction, context,
};
use uuid::Uuid;

fn record(trail: &Trail, records: impl IntoIterator<Item = NewRecord>) {
    for record in records {
        trail.audit.record(record).unwrap();
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
}

/// A login that reads the rows of a tenant.
fn reader(postgres: &Postgres, name: &str, tenant: &str) -> Session {
    postgres.psql(&format!("CREATE ROLE {name} LOGIN IN ROLE audit_reader"));
    let mut session = postgres.session(name);
    session.psql(&format!(
        "SELECT set_config('app.current_tenant', audit.tenant_uuid('{tenant}')::text, false)"
    ));
    session
}

#[track_caller]
fn answers(session: &mut Session, sql: &str, expected: &[&str]) {
    let answer = session.psql(sql);
    assert_eq!(answer.lines().collect::<Vec<_>>(), expected, "{sql}");
}

#[test]
fn backend_that_translates_questions_finds_runs_by_request_and_session_and_the_feedback_on_them() {
    let trail = Trail::start();
    let llm_session = Uuid::from_u128(7);
    let run = trail.scoped(|| {
        let request = info_span!("request", request_id = "q-1", llm_session_id = %llm_session);
        request.in_scope(|| {
            context().tenant("acme").user("alice");
            info_span!(
                "audit.prompt_run",
                model_name = "m",
                prompt_template_name = "nl2sql",
                prompt_template_version = 3,
                rendered_prompt = "How many orders?",
                response_text = "SELECT count(*) FROM orders",
                status = "ok"
            );
            let query = info_span!(
                "audit.query_run",
                question_text = "How many orders?",
                sql_text = "SELECT count(*) FROM orders",
                row_count = 1,
                status = "ok"
            );
            query.audit_id().unwrap()
        })
    });
    let of_acme = || {
        Feedback::new()
            .tenant_id("acme")
            .user_id("alice")
            .run_id(run)
    };
    record(
        &trail,
        [
            of_acme().rating(4).comment("right").into(),
            of_acme().favourite(true).into(),
        ],
    );
    let mut session = reader(&trail.postgres, "backend", "acme");
    answers(
        &mut session,
        "SELECT question_text, sql_text, row_count FROM audit.query_runs WHERE request_id = 'q-1'",
        &["How many orders?|SELECT count(*) FROM orders|1"],
    );
    answers(
        &mut session,
        "SELECT prompt_template_name, prompt_template_version, response_text FROM audit.prompt_runs
         WHERE llm_session_id = '00000000-0000-0000-0000-000000000007'",
        &["nl2sql|3|SELECT count(*) FROM orders"],
    );
    answers(
        &mut session,
        "SELECT q.question_text, max(f.rating), bool_or(f.favourite), max(f.comment)
         FROM audit.query_runs q JOIN audit.feedback f ON f.run_id = q.id GROUP BY q.id, q.question_text",
        &["How many orders?|4|t|right"],
    );
}

#[test]
fn agent_platform_finds_calls_and_escalations_that_nobody_can_change_beside_a_knowledge_base_of_its_own()
 {
    let trail = Trail::start();
    let agent = Uuid::from_u128(17);
    trail
        .audit
        .log_llm_call(
            LlmCall::new("m")
                .tenant_id("acme")
                .agent_id(agent)
                .input_summary("Refund order 17?")
                .output_summary("Ask a person")
                .status(Status::Succeeded)
                .latency(Duration::from_millis(812)),
        )
        .unwrap();
    trail
        .audit
        .log_tool_call(
            ToolInvocation::new("search")
                .tenant_id("acme")
                .agent_id(agent)
                .arguments(r#"{"text": "refunds"}"#)
                .output_summary("2 documents")
                .status(Status::Succeeded),
        )
        .unwrap();
    trail
        .audit
        .log_escalation(
            Escalation::new("above the limit")
                .tenant_id("acme")
                .agent_id(agent)
                .escalated_to("billing"),
        )
        .unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    // What agents know is the platform's own, in tables of its own.
    trail.postgres.psql(
        "CREATE TABLE documents (id int PRIMARY KEY, text text NOT NULL); INSERT INTO documents VALUES (1, 'refunds'), (2, 'returns');
         CREATE ROLE platform LOGIN IN ROLE audit_reader, audit_writer; GRANT SELECT ON documents TO platform",
    );
    let mut session = trail.postgres.session("platform");
    session.psql("SELECT set_config('app.current_tenant', audit.tenant_uuid('acme')::text, false)");
    answers(
        &mut session,
        "SELECT model, output_summary, duration_ms, status FROM audit.llm_calls",
        &["m|Ask a person|812|succeeded"],
    );
    answers(
        &mut session,
        "SELECT tool, length(arguments_sha256), output_summary FROM audit.tool_invocations",
        &["search|64|2 documents"],
    );
    answers(
        &mut session,
        "SELECT reason, escalated_to FROM audit.escalations",
        &["above the limit|billing"],
    );
    answers(&mut session, "SELECT count(*) FROM documents", &["2"]);
    for change in [
        "UPDATE audit.events SET status = 'failed'",
        "DELETE FROM audit.events",
        "UPDATE audit.escalations SET reason = 'x'",
    ] {
        let refused = session.run(change).unwrap_err();
        assert!(
            refused.contains("42501") || refused.contains("55000"),
            "{refused}"
        );
    }
    let mut other = reader(&trail.postgres, "other", "globex");
    answers(
        &mut other,
        "SELECT count(*) FROM audit.llm_calls, audit.escalations",
        &["0"],
    );
}

/// Records a day of the marketplace.
fn trade(trail: &Trail) {
    let agent = Uuid::from_u128(17);
    let run = |execution: &str, user: &str, outcome, ms| {
        AgentExecution::new("planner")
            .tenant_id("acme")
            .agent_id(agent)
            .user_id(user)
            .execution_id(execution)
            .outcome(outcome)
            .credits_consumed(2.0)
            .ip_address("198.51.100.7")
            .latency(Duration::from_millis(ms))
    };
    let payment = |state: &str, before: &str| {
        let payment = Transaction::new("t-1")
            .tenant_id("acme")
            .user_id("alice")
            .amount_cents(1_250)
            .currency("EUR")
            .state(state)
            .payment_reference("pi_3N")
            .status(Status::Succeeded);
        if before.is_empty() {
            payment
        } else {
            payment.previous_state(before)
        }
    };
    record(
        trail,
        [
            run("x-1", "alice", AgentOutcome::Success, 100).into(),
            run("x-2", "bob", AgentOutcome::Success, 300).into(),
            run("x-3", "alice", AgentOutcome::Timeout, 30_000).into(),
            AgentLog::new("the search took long")
                .tenant_id("acme")
                .category(LogCategory::Performance)
                .level("warn")
                .execution_id("x-3")
                .into(),
            payment("pending", "").into(),
        ],
    );
    record(trail, [payment("captured", "pending").into()]);
    record(
        trail,
        [
            Mandate::new("m-1")
                .tenant_id("acme")
                .user_id("alice")
                .limit_cents(50_000)
                .currency("EUR")
                .period("month")
                .state("active")
                .into(),
            Feedback::new()
                .tenant_id("acme")
                .user_id("alice")
                .agent_id(agent)
                .rating(5)
                .favourite(true)
                .into(),
            HttpRequest::new("POST", "/agents/17/run")
                .tenant_id("acme")
                .route("/agents/{id}/run")
                .status_code(429)
                .execution_id("x-3")
                .into(),
            SystemError::new("ConnectionReset")
                .tenant_id("acme")
                .component("search")
                .severity("high")
                .into(),
            SystemMetric::new("queue_depth", 17.0)
                .tenant_id("acme")
                .unit("jobs")
                .into(),
            SecurityEvent::new("login")
                .tenant_id("acme")
                .user_id("alice")
                .status(Status::Succeeded)
                .into(),
        ],
    );
}

#[test]
fn marketplace_of_agents_finds_executions_money_and_requests() {
    let trail = Trail::start();
    trade(&trail);
    let mut session = reader(&trail.postgres, "marketplace", "acme");
    answers(
        &mut session,
        "SELECT execution_id, outcome, status, error_code, duration_ms, credits_consumed, ip_address FROM audit.agent_executions WHERE user_id = 'alice' ORDER BY execution_id",
        &[
            "x-1|success|succeeded||100|2|198.51.100.7",
            "x-3|timeout|failed|timeout|30000|2|198.51.100.7",
        ],
    );
    answers(
        &mut session,
        "SELECT total, succeeded, failed, minimum_duration_ms, maximum_duration_ms, p95_duration_ms, unique_users, credits_consumed, error_counts
         FROM audit.agent_metrics_daily WHERE day = date_trunc('day', now(), 'UTC')",
        &["3|2|1|100|30000|30000|2|6|{\"timeout\": 1}"],
    );
    answers(
        &mut session,
        "SELECT user_id, executions, succeeded, rating, favourite FROM audit.user_agent_interactions WHERE user_id = 'alice'",
        &["alice|2|1|5|t"],
    );
    answers(
        &mut session,
        "SELECT category, level, message FROM audit.agent_logs WHERE execution_id = 'x-3'",
        &["performance|warn|the search took long"],
    );
    answers(
        &mut session,
        "SELECT transaction_id, amount_cents, currency, state, payment_reference FROM audit.transactions",
        &["t-1|1250|EUR|captured|pi_3N"],
    );
    answers(
        &mut session,
        "SELECT coalesce(previous_state, '-'), state, actor FROM audit.transaction_events ORDER BY id",
        &["-|pending|alice", "pending|captured|alice"],
    );
    answers(
        &mut session,
        "SELECT mandate_id, limit_cents, period, state FROM audit.mandates",
        &["m-1|50000|month|active"],
    );
    answers(
        &mut session,
        "SELECT method, path, route, status_code, status FROM audit.request_logs WHERE execution_id = 'x-3'",
        &["POST|/agents/17/run|/agents/{id}/run|429|failed"],
    );
    answers(
        &mut session,
        "SELECT component, severity, count(*) FROM audit.system_errors GROUP BY fingerprint, component, severity",
        &["search|high|1"],
    );
    answers(
        &mut session,
        "SELECT metric, value, unit FROM audit.system_metrics",
        &["queue_depth|17|jobs"],
    );
    answers(
        &mut session,
        "SELECT event, user_id, status FROM audit.security_events",
        &["login|alice|succeeded"],
    );
}

#[test]
fn database_assistant_finds_every_write_approved_rejected_or_failed() {
    let trail = Trail::start();
    let write = |sql: &str, status, rows: Option<i64>| {
        let run = QueryRun::new(sql)
            .tenant_id("acme")
            .user_id("alice")
            .sql_summary("orders")
            .status(status);
        let run = match rows {
            Some(rows) => run.rows_affected(rows),
            None => run.error_code("23503"),
        };
        trail.audit.record(run).unwrap()
    };
    let paid = write(
        "UPDATE orders SET paid = true WHERE id = 17",
        Status::Succeeded,
        Some(1),
    );
    let gone = write("DELETE FROM orders", Status::Rejected, Some(0));
    let fails = write("DELETE FROM customers WHERE id = 1", Status::Failed, None);
    let decided = |decision, run, sql: &str| {
        Approval::new(decision)
            .tenant_id("acme")
            .user_id("alice")
            .approved_by("bob")
            .approver_role("dba")
            .sql_text(sql)
            .run_id(run)
    };
    record(
        &trail,
        [
            decided(
                Decision::Approved,
                paid,
                "UPDATE orders SET paid = true WHERE id = 17",
            )
            .rows_affected(1)
            .into(),
            decided(Decision::Rejected, gone, "DELETE FROM orders").into(),
            decided(
                Decision::Approved,
                fails,
                "DELETE FROM customers WHERE id = 1",
            )
            .into(),
        ],
    );
    let mut session = reader(&trail.postgres, "assistant", "acme");
    answers(
        &mut session,
        "SELECT a.decision, a.approved_by, a.approver_role, q.status, q.error_code, q.rows_affected, q.sql_text
         FROM audit.approvals a JOIN audit.query_runs q ON q.id = a.run_id ORDER BY q.id",
        &[
            "approved|bob|dba|succeeded||1|UPDATE orders SET paid = true WHERE id = 17",
            "rejected|bob|dba|rejected||0|DELETE FROM orders",
            "approved|bob|dba|failed|23503||DELETE FROM customers WHERE id = 1",
        ],
    );
    answers(
        &mut session,
        "SELECT user_id, count(*) FILTER (WHERE decision = 'approved'), count(*) FILTER (WHERE decision = 'rejected'), sum(rows_affected)
         FROM audit.approvals WHERE created_at > now() - interval '30 days' GROUP BY user_id",
        &["alice|2|1|1"],
    );
}
