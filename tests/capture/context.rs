//! What a record inherits, whose tenant it is, and which trace.

use super::{AGENT, SESSION, TENANT, of};
use serde_json::{Value, json};
use testkit::trail::{Trail, assert_law};
use tracing::field::Empty;
use tracing::span::Id;
use tracing::{Span, Subscriber, info_span};
use tracing_audit::{AuditSpanExt as _, DropCause, Kind, QueryRun};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

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
fn context_recorded_after_a_child_span_opened_is_inherited() {
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
fn tenant_key_maps_to_the_uuid_from_sql_and_a_differing_tenant_is_flagged() {
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
fn truncated_tenant_key_has_no_tenant_id() {
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

/// A host's layer that panics when a span `audit.event` closes.
pub(crate) struct PanicsAtClose;

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
pub(crate) fn of_a_number_that_was_not_given_back() -> Span {
    let event = info_span!("audit.event", action_type = "lost", tenant_id = TENANT);
    let number = event.id();
    let closing = std::panic::AssertUnwindSafe(|| drop(event));
    std::panic::catch_unwind(closing).unwrap_err();
    // The Registry reuses an id after thousands of spans.
    (0..100_000)
        .map(|_| info_span!("of_the_hosts_own", n = Empty))
        .find(|span| span.id() == number)
        .unwrap()
}

#[test]
fn reused_span_id_does_not_inherit_from_a_span_whose_close_was_missed() {
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
fn trace_id_comes_from_traceparent_then_request_id_then_outermost_record() {
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
