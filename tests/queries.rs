//! Each query of the cookbook, docs/queries.md, on rows with known answers, as an auditor and as a reader of one tenant.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use testkit::page::sql_blocks;
use testkit::trail::{PATIENCE, Trail};
use testkit::{Postgres, Session};
use tracing::info_span;
use tracing_audit::{
    Approval, Decision, LlmCall, NewRecord, QueryRun, SecurityEvent, Status, SystemError,
    Transaction,
};

const PAGE: &str = include_str!("../docs/queries.md");
/// Days after which something is too long ago for each query; more than a month beyond the longest of them.
const LONG: u64 = 130;
const AGENT: &str = "0198f1d3-0000-7000-8000-000000000042";

/// Sets the reader's tenant for a transaction.
const AS_ACME: &str =
    "SELECT set_config('app.current_tenant', audit.tenant_uuid('acme')::text, true)";

fn ago(days: u64) -> SystemTime {
    SystemTime::now() - Duration::from_hours(24 * days)
}

/// What a request does: a prompt, a question, and a write that is approved.
fn request(trail: &Trail) {
    trail.scoped(|| {
        let request = info_span!(
            "request",
            request_id = "request-17",
            tenant_id = "acme",
            user_id = "alice",
            agent_id = AGENT
        );
        let _request = request.enter();
        let succeeded = "succeeded";
        let _question =
            info_span!("audit.event", action_type = "question", status = succeeded).entered();
        info_span!(
            "audit.prompt_run",
            rendered_prompt = "Answer by SQL: how many orders are unpaid?",
            model_name = "claude-sonnet",
            provider = "anthropic",
            prompt_template_name = "sql",
            prompt_template_version = 3,
            input_token_count = 1_000_000,
            output_token_count = 100_000,
            status = succeeded,
        )
        .in_scope(|| ());
        info_span!(
            "audit.query_run",
            question_text = "How many orders are unpaid?",
            sql_text = "SELECT count(*) FROM orders WHERE NOT paid",
            row_count = 1,
            status = succeeded,
        )
        .in_scope(|| ());
        info_span!(
            "audit.event",
            action_type = "approval",
            decision = "approved",
            approved_by = "bob",
        )
        .in_scope(|| {
            let sql_text = "UPDATE orders SET paid = true WHERE id = 17";
            info_span!(
                "audit.query_run",
                sql_text,
                rows_affected = 1,
                status = succeeded
            )
            .in_scope(|| ());
        });
    });
}

/// Records queries and approvals of other requests, of both tenants, and what is too long ago.
fn queries_of_others(trail: &Trail) {
    let record = |record: NewRecord| trail.audit.record(record).unwrap();
    for (tenant, user, at, sql, status) in [
        (
            "acme",
            "alice",
            ago(3),
            "UPDATE orders SET paid = 'x' WHERE id = 18",
            Status::Failed,
        ),
        (
            "acme",
            "alice",
            ago(8),
            "DELETE FROM orders",
            Status::Rejected,
        ),
        (
            "acme",
            "alice",
            ago(LONG),
            "UPDATE orders SET paid = false WHERE id = 17",
            Status::Failed,
        ),
        (
            "other",
            "eve",
            ago(2),
            "UPDATE \"public\".\"orders\" SET \"paid\" = TRUE WHERE \"orders\".\"id\" = 17",
            Status::Cancelled,
        ),
        ("other", "alice", ago(2), "SELECT 1", Status::Succeeded),
    ] {
        let run = QueryRun::new(sql).tenant_id(tenant).user_id(user);
        record(run.started_at(at).status(status).into());
    }
    let slow = QueryRun::new("SELECT name FROM customers WHERE gone")
        .question_text("Which customers left?")
        .row_count(3)
        .tenant_id("acme")
        .user_id("bob")
        .started_at(ago(2))
        .finished_at(ago(2) + Duration::from_secs(30));
    record(slow.clone().into());
    record(
        slow.tenant_id("other")
            .user_id("eve")
            .finished_at(ago(1))
            .into(),
    );
    for at in [ago(3), ago(LONG)] {
        let cancelled = Approval::new(Decision::Cancelled).tenant_id("acme");
        record(cancelled.user_id("alice").started_at(at).into());
    }
}

/// Records security events, calls of models, transactions and errors of both tenants.
fn events_of_others(trail: &Trail) {
    let record = |record: NewRecord| trail.audit.record(record).unwrap();
    for (tenant, user, at) in [
        ("acme", "alice", ago(2)),
        ("acme", "alice", ago(LONG)),
        ("other", "eve", ago(3)),
    ] {
        let export = SecurityEvent::new("data_exported")
            .target("report", "2026-10")
            .source("reports")
            .metadata("rows", 1200)
            .status(Status::Succeeded);
        record(export.tenant_id(tenant).user_id(user).started_at(at).into());
    }
    for (tenant, address, source) in [
        ("acme", "198.51.100.7", ""),
        ("acme", "198.51.100.7", ""),
        ("acme", "203.0.113.9", "gateway"),
        ("other", "198.51.100.7", ""),
    ] {
        let denied = SecurityEvent::new("access_denied").client_address(address);
        let denied = denied.tenant_id(tenant).status(Status::Rejected);
        let denied = if source.is_empty() {
            denied
        } else {
            denied.source(source)
        };
        record(denied.started_at(ago(1)).into());
    }
    let call = LlmCall::new("claude-sonnet").provider("anthropic");
    record(call.input_token_count(500_000).tenant_id("other").into());
    record(LlmCall::new("of-our-own").tenant_id("acme").into());
    for (id, user, before, state, days) in [
        ("t-1", "alice", None, "authorized", 4),
        ("t-1", "billing", Some("authorized"), "captured", 3),
        ("t-2", "bob", None, "authorized", 3),
        ("t-3", "alice", None, "authorized", LONG),
    ] {
        let change = Transaction::new(id)
            .amount_cents(4_200)
            .currency("EUR")
            .state(state);
        let change = before.into_iter().fold(change, Transaction::previous_state);
        let change = change.tenant_id("acme").user_id(user).started_at(ago(days));
        record(change.status(Status::Succeeded).into());
    }
    // Of a program without tenants.
    let change = Transaction::new("t-0").state("refused").user_id("alice");
    record(change.started_at(ago(3)).status(Status::Failed).into());
    for (error, tenant, at) in [
        ("Reset", "acme", ago(1)),
        ("Reset", "acme", ago(2)),
        ("Timeout", "acme", ago(2)),
        ("Timeout", "acme", ago(8)),
        ("Timeout", "other", ago(2)),
        ("Timeout", "other", ago(2)),
    ] {
        let error = SystemError::new(error)
            .component("orders-db")
            .metadata("fingerprint", error);
        record(error.tenant_id(tenant).started_at(at).into());
    }
}

/// What the reader of `acme` is told, and what an auditor is told, without times and durations.
fn answers(heading: &str, acme: &str, other: &str) -> Vec<[Value; 2]> {
    let same = |rows: Value| vec![[rows.clone(), rows]];
    let update = json!({ "user_id": "alice", "request_id": "request-17", "rows_affected": 1, "status": "succeeded",
        "sql_text": "UPDATE orders SET paid = true WHERE id = 17" });
    let of_eve = "UPDATE \"public\".\"orders\" SET \"paid\" = TRUE WHERE \"orders\".\"id\" = 17";
    match heading {
        "What did the assistant do today?" => {
            let row = |kind: &str, what: &str| {
                json!({ "user_id": "alice", "kind": kind, "what": what, "target_id": null, "status": "succeeded",
                    "error_code": null, "request_id": "request-17" })
            };
            same(json!([
                row("audit.event", "question"),
                row("audit.prompt_run", "sql"),
                row("audit.query_run", "How many orders are unpaid?"),
                row("audit.event", "approval"),
                row(
                    "audit.query_run",
                    "UPDATE orders SET paid = true WHERE id = 17"
                ),
            ]))
        }
        "What did each user do in the last 30 days?" => {
            let row = |tenant: &str,
                       user: &str,
                       queries: i64,
                       approved: i64,
                       cancelled: i64,
                       rows: i64| json!({ "tenant_id": tenant, "user_id": user, "queries": queries, "approved": approved, "cancelled": cancelled, "rows_changed": rows });
            let ours = [row(acme, "alice", 3, 0, 1, 1), row(acme, "bob", 1, 1, 0, 0)];
            let theirs = [
                row(other, "alice", 1, 0, 0, 0),
                row(other, "eve", 2, 0, 0, 0),
            ];
            let both = if acme < other {
                [&ours[..], &theirs[..]]
            } else {
                [&theirs[..], &ours[..]]
            };
            vec![[json!(ours), json!(both.concat())]]
        }
        "Who ran this UPDATE?" => {
            let theirs = json!({ "user_id": "eve", "request_id": null, "rows_affected": null, "status": "cancelled", "sql_text": of_eve });
            vec![[json!([update]), json!([update, theirs])]]
        }
        "Which writes failed in the last 7 days?" => {
            let row = |user: &str, sql: &str, status: &str| json!({ "user_id": user, "sql_text": sql, "status": status, "error_code": null, "error_message": null });
            let ours = row(
                "alice",
                "UPDATE orders SET paid = 'x' WHERE id = 18",
                "failed",
            );
            vec![[
                json!([ours]),
                json!([row("eve", of_eve, "cancelled"), ours]),
            ]]
        }
        "Which prompt and model were behind this query?" => {
            let row = |sql: &str| {
                json!({ "sql_text": sql, "model_name": "claude-sonnet", "provider": "anthropic", "prompt_template_name": "sql",
                    "prompt_template_version": 3, "rendered_prompt": "Answer by SQL: how many orders are unpaid?" })
            };
            same(json!([
                row("SELECT count(*) FROM orders WHERE NOT paid"),
                row("UPDATE orders SET paid = true WHERE id = 17"),
            ]))
        }
        "Who exported what?" => {
            let row = |user: &str| {
                json!({ "user_id": user, "target_type": "report", "target_id": "2026-10", "source": "reports",
                    "status": "succeeded", "rows": 1200 })
            };
            vec![[json!([row("alice")]), json!([row("alice"), row("eve")])]]
        }
        "Which questions were the slowest?" => {
            let slow = |user: &str| {
                json!({ "user_id": user, "question_text": "Which customers left?", "row_count": 3, "status": "succeeded",
                    "sql_text": "SELECT name FROM customers WHERE gone" })
            };
            let quick = json!({ "user_id": "alice", "question_text": "How many orders are unpaid?", "row_count": 1,
                "status": "succeeded", "sql_text": "SELECT count(*) FROM orders WHERE NOT paid" });
            vec![[
                json!([slow("bob"), quick]),
                json!([slow("eve"), slow("bob"), quick]),
            ]]
        }
        _ => answers_of_events(heading, acme, other),
    }
}

/// The same of the queries that read events.
fn answers_of_events(heading: &str, acme: &str, other: &str) -> Vec<[Value; 2]> {
    let same = |rows: Value| vec![[rows.clone(), rows]];
    match heading {
        "What did each tenant cost?" => {
            let ours =
                json!({ "tenant_id": acme, "calls": 2, "cost": 4.5, "calls_without_price": 1 });
            let theirs =
                json!({ "tenant_id": other, "calls": 1, "cost": 1.5, "calls_without_price": 0 });
            vec![[json!([ours]), json!([ours, theirs])]]
        }
        "Where does denied access come from?" => {
            let row = |source: &str, denied: i64| json!({ "source": source, "denied": denied, "users": 0 });
            let gateway = row("gateway", 1);
            vec![[
                json!([row("198.51.100.7", 2), gateway]),
                json!([row("198.51.100.7", 3), gateway]),
            ]]
        }
        "Which transactions does a user have?" => {
            let change = |before: Value, state: &str, actor: &str| json!({ "tenant_id": acme, "previous_state": before, "state": state, "amount_cents": 4200, "currency": "EUR", "actor": actor, "status": "succeeded" });
            let latest = json!([{ "tenant_id": acme, "transaction_id": "t-1", "state": "captured", "amount_cents": 4200, "currency": "EUR" }]);
            let history = json!([
                change(Value::Null, "authorized", "alice"),
                change(json!("authorized"), "captured", "billing")
            ]);
            let of_nobody = json!({ "tenant_id": null, "transaction_id": "t-0", "state": "refused", "amount_cents": null, "currency": null });
            let all = json!([latest[0], of_nobody]);
            vec![[latest, all], [history.clone(), history]]
        }
        "Which errors does the system have?" => {
            let row = |error: &str, times: i64| json!({ "fingerprint": error, "error_type": error, "component": "orders-db", "times": times });
            vec![[
                json!([row("Reset", 2), row("Timeout", 1)]),
                json!([row("Timeout", 3), row("Reset", 2)]),
            ]]
        }
        "What happened in this request?" => {
            let row =
                |what: &str| json!({ "what": what, "status": "succeeded", "user_id": "alice" });
            same(json!([
                row("question"),
                row("  sql"),
                row("  How many orders are unpaid?"),
                row("  approval"),
                row("    UPDATE orders SET paid = true WHERE id = 17"),
            ]))
        }
        _ => panic!("no answer is known to: {heading}"),
    }
}

/// Runs a query in a transaction, and returns its rows without times and durations.
#[track_caller]
fn ask(session: &mut Session, query: &str) -> Value {
    let query = query.trim_end().trim_end_matches(';');
    session.psql(&format!("BEGIN; {AS_ACME}"));
    let rows = session.psql(&format!(
        "SELECT to_jsonb(q) - '{{began_at,created_at,started_at,changed_at,first_at,last_at,duration_ms}}'::text[] FROM ({query}) AS q"
    ));
    session.psql("COMMIT");
    rows.lines()
        .map(|row| serde_json::from_str::<Value>(row).unwrap())
        .collect()
}

/// Fails if a query reads the partitions of the month of what is too long ago.
#[track_caller]
fn reads_only_months_that_it_needs(postgres: &Postgres, session: &mut Session, query: &str) {
    let month = format!("(now() - interval '{LONG} days') AT TIME ZONE 'UTC'");
    let month = postgres.psql(&format!("SELECT to_char({month}, '_YYYY_MM')"));
    let plan = session.psql(&format!("EXPLAIN {query}"));
    assert!(!plan.contains(&month), "{plan}");
}

#[test]
fn cookbook_queries_answer_what_is_known() {
    let trail = Trail::start();
    request(&trail);
    queries_of_others(&trail);
    events_of_others(&trail);
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let postgres = &trail.postgres;
    let [acme, other] = ["acme", "other"]
        .map(|tenant| postgres.psql(&format!("SELECT audit.tenant_uuid('{tenant}')")));
    let [mut reader, mut auditor] = [("dashboard", "audit_reader"), ("alice", "audit_auditor")]
        .map(|(name, role)| {
            postgres.psql(&format!("CREATE ROLE {name} LOGIN IN ROLE {role}"));
            postgres.session(name)
        });
    let mut asked = 0;
    let mut of_heading = ("", Vec::new().into_iter());
    for (heading, block) in sql_blocks(PAGE) {
        if block.starts_with("BEGIN") {
            // How a reader sets its tenant.
            assert_eq!(reader.psql(block), acme);
            continue;
        }
        if block.starts_with("CREATE TABLE") {
            postgres.psql(block);
            // The price was raised, and is as high again.
            postgres.psql("INSERT INTO public.model_prices SELECT provider, model_name, '2000-01-01', input_price, output_price FROM public.model_prices");
            continue;
        }
        if of_heading.0 != heading {
            assert_eq!(of_heading.1.len(), 0, "not asked: {}", of_heading.0);
            of_heading = (heading, answers(heading, &acme, &other).into_iter());
        }
        let [to_reader, to_auditor] = of_heading.1.next().unwrap();
        assert_eq!(ask(&mut reader, block), to_reader, "reader: {heading}");
        assert_eq!(ask(&mut auditor, block), to_auditor, "auditor: {heading}");
        // The figures find their rows by the key, month by month, and a function's plan is its own.
        if !block.contains("audit.model_usage") && !block.contains("audit.request_story") {
            assert!(block.contains("id >= audit.id_at("), "{heading}");
            reads_only_months_that_it_needs(postgres, &mut auditor, block);
        }
        // Without a tenant a reader is told nothing.
        let query = block.trim_end().trim_end_matches(';');
        let told = reader.psql(&format!("SELECT count(*) FROM ({query}) AS q"));
        assert_eq!(told, "0", "{heading}");
        asked += 1;
    }
    assert_eq!(asked, 13);
}

#[test]
fn constant_time_skips_months_and_a_computed_one_does_not() {
    let trail = Trail::start();
    queries_of_others(&trail);
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let postgres = &trail.postgres;
    let month = format!("(now() - interval '{LONG} days') AT TIME ZONE 'UTC'");
    let month = postgres.psql(&format!("SELECT to_char({month}, '_YYYY_MM')"));
    let recent = postgres.psql("SELECT now() - interval '90 days'");
    for (condition, is_read) in [
        (format!("started_at >= '{recent}'"), false),
        (format!("id >= audit.id_at('{recent}')"), false),
        (
            String::from("id >= audit.id_at(now() - interval '90 days')"),
            false,
        ),
        (
            String::from("started_at >= now() - interval '90 days'"),
            true,
        ),
    ] {
        let plan = postgres.psql(&format!(
            "EXPLAIN SELECT * FROM audit.query_runs WHERE {condition}"
        ));
        assert_eq!(plan.contains(&month), is_read, "{condition}\n{plan}");
    }
}
