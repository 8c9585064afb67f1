//! Sends a trail with every kind of step to a receiver that `scripts/receivers` runs, and leaves the
//! rows for it to compare with what the receiver says it got.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::io::Write as _;

use testkit::trail::{PATIENCE, Trail};
use testkit::wait_until;
use tracing::{Span, field::Empty, info_span};
use tracing_audit::{Kind, Otlp};
use uuid::Uuid;

/// An agent that asks a model twice, calls a tool with a query of its own, and is refused a table.
fn agent_run() {
    let _request = info_span!(
        "request",
        request_id = %Uuid::new_v4(),
        tenant_id = "acme",
        user_id = "ada",
        conversation_id = "conversation-1"
    )
    .entered();
    let _agent = info_span!(
        "audit.event",
        action_type = "agent.run",
        target_type = "agent",
        target_id = "planner",
        input_summary = "Who has the most songs?",
        output_summary = "Ann has 3 songs.",
        status = "ok",
        otel.attr.feature_flag.key = "new-planner"
    )
    .entered();
    info_span!(
        "audit.prompt_run",
        model_name = "gpt-4o-mini",
        provider = "openai",
        prompt_template_name = "plan",
        prompt_template_version = 2,
        rendered_prompt = "Who has the most \"songs\"?\nTables: songs(id, owner)",
        response_text = "{\"tool\":\"sql\"}",
        input_token_count = 17,
        output_token_count = 5,
        status = "ok"
    )
    .in_scope(|| ());
    {
        let _tool = info_span!(
            "audit.event",
            action_type = "tool.call",
            target_type = "tool",
            target_id = "sql",
            input_summary = "{\"owner\":\"Ann\"}",
            output_summary = "3",
            status = "ok"
        )
        .entered();
        let query = info_span!(
            "audit.query_run",
            sql_text = "SELECT owner, count(*) FROM songs WHERE owner <> 'nobody' GROUP BY owner",
            question_text = "Who has the most songs?",
            row_count = Empty
        );
        query.in_scope(|| {
            Span::current().record("row_count", 3);
        });
    }
    info_span!(
        "audit.query_run",
        sql_text = "SELECT * FROM salaries",
        status = "failed",
        error_code = "42501",
        error_message = "permission denied for table salaries"
    )
    .in_scope(|| ());
    info_span!(
        "audit.prompt_run",
        model_name = "gpt-4o-mini",
        provider = "openai",
        rendered_prompt = "Answer in one sentence.",
        response_text = "Ann has",
        input_token_count = 4,
        output_token_count = 2,
        status = "cancelled"
    )
    .in_scope(|| ());
}

/// A question outside of a conversation: a query that writes, one without its text, a refusal.
fn others() {
    let _request = info_span!(
        "request",
        request_id = %Uuid::new_v4(),
        tenant_id = "globex",
        user_id = "grace",
        llm_session_id = "4ef4b6a9-592c-4368-8022-78417aea3d3f"
    )
    .entered();
    let _answer = info_span!(
        "audit.event",
        action_type = "question.answered",
        input_summary = "Forget Ann.",
        output_summary = "Done.",
        status = "ok"
    )
    .entered();
    info_span!(
        "audit.query_run",
        sql_text = "DELETE FROM songs WHERE owner = 'Ann'",
        rows_affected = 3,
        status = "ok"
    )
    .in_scope(|| ());
    info_span!("audit.query_run", row_count = 1, status = "ok").in_scope(|| ());
    info_span!(
        "audit.event",
        action_type = "export.denied",
        target_type = "table",
        target_id = "salaries",
        status = "rejected",
        error_code = "not_allowed"
    )
    .in_scope(|| ());
}

#[test]
#[ignore = "needs a receiver: run by scripts/receivers"]
fn every_kind_of_step_is_sent_to_a_receiver() {
    let otlp = Otlp::from_env()
        .unwrap()
        .expect("OTEL_EXPORTER_OTLP_ENDPOINT names the receiver");
    let rows = std::env::var("RECEIVERS_ROWS").expect("RECEIVERS_ROWS names the file for the rows");
    let trail = Trail::start_with(|builder| builder.otlp(otlp));
    trail.scoped(agent_run);
    trail.scoped(others);
    let mut file = std::fs::File::create(rows).unwrap();
    let mut told = 0;
    for kind in Kind::ALL {
        for mut row in trail.rows(kind) {
            row["table"] = kind.table_name().into();
            writeln!(file, "{row}").unwrap();
            told += 1;
        }
    }
    assert_eq!(told, 10);
    wait_until("the receiver has taken all", PATIENCE, || {
        trail.audit.stats().export().unwrap().exported() == told
    });
}
