//! A program's own spans, as it says what they are.

use serde_json::json;
use testkit::trail::Trail;
use tracing::{info_span, instrument};
use tracing_audit::{Adopt, Kind, SpanMapping};

use super::rows;

#[instrument(err, skip(password), fields(password))]
fn run_sql(statement: &str, datasource: u32, password: &str) -> Result<u64, std::fmt::Error> {
    tracing::Span::current().record("password", password);
    if statement.is_empty() {
        return Err(std::fmt::Error);
    }
    info_span!("audit.event", action_type = "inside");
    Ok(1)
}

fn trail() -> Trail {
    Trail::start_with(|builder| {
        let queries = Adopt::spans(|metadata| {
            let mapping = SpanMapping::new(Kind::QueryRun)
                .field("statement", "sql_text")
                .without("password")
                .value("user_id", "the host");
            (metadata.name() == "run_sql").then_some(mapping)
        });
        let events = Adopt::spans(|metadata| match metadata.name() {
            "panics" => panic!("a mapping of the host's"),
            "asks" => {
                let _again = info_span!("asks");
                None
            }
            "order" => Some(
                SpanMapping::new(Kind::Event)
                    .field("number", "target_id")
                    .without_others(),
            ),
            _ => None,
        });
        builder.adopt(queries).adopt(events)
    })
}

#[test]
fn span_of_the_programs_own_is_what_it_says() {
    let trail = trail();
    trail.scoped(|| {
        info_span!("request", request_id = "r-1").in_scope(|| {
            run_sql("SELECT 1", 7, "secret").unwrap();
            run_sql("", 7, "secret").unwrap_err();
            info_span!("order", number = 12, card = "secret", tenant_id = "acme");
        });
        // It asks itself, and does not wait for itself.
        info_span!("asks");
        info_span!("panics", request_id = "r-2").in_scope(|| info_span!("audit.query_run"));
    });
    let queries = rows(
        &trail,
        "sql_text, status, request_id, user_id, metadata, problems",
        "query_runs WHERE metadata ? 'adopted'",
    );
    let row = |sql: &str, status: &str| {
        json!({"sql_text": sql, "status": status, "request_id": "r-1", "user_id": "the host",
            "metadata": {"adopted": "span", "datasource": 7}, "problems": []})
    };
    assert_eq!(queries, [row("SELECT 1", "unknown"), row("", "failed")]);
    let events = rows(
        &trail,
        "action_type, target_id, user_id, metadata->>'tenant_key' AS tenant, metadata->>'card' AS card",
        "events",
    );
    assert_eq!(
        events,
        [
            json!({"action_type": "inside", "target_id": null, "user_id": "the host", "tenant": null, "card": null}),
            json!({"action_type": "order", "target_id": "12", "user_id": null, "tenant": "acme", "card": null}),
        ]
    );
    // A mapping that panics adopts nothing, and the host's span is as it was.
    let last = rows(
        &trail,
        "request_id",
        "query_runs WHERE NOT metadata ? 'adopted'",
    );
    assert_eq!(last, [json!({"request_id": "r-2"})]);
}

#[test]
fn model_call_has_succeeded_once_the_model_has_answered() {
    use tracing::field::Empty;
    let trail = Trail::start_with(|builder| builder.adopt(Adopt::gen_ai()));
    trail.scoped(|| {
        let call = |operation: Option<&str>, prompt: &str| {
            info_span!(
                "call",
                gen_ai.operation.name = operation,
                gen_ai.input.messages = prompt,
                gen_ai.request.model = "m",
                gen_ai.output.messages = Empty,
                gen_ai.response.id = Empty,
                gen_ai.usage.input_tokens = Empty,
                error.type = Empty,
            )
        };
        drop(call(Some("chat"), "no answer"));
        call(Some("chat"), "an id").record("gen_ai.response.id", "r");
        call(Some("embeddings"), "tokens").record("gen_ai.usage.input_tokens", 3);
        let asked = r#"[{"role": "assistant", "parts": [{"type": "tool_call", "name": "run"}]}]"#;
        call(Some("generate_content"), "a tool").record("gen_ai.output.messages", asked);
        let failed = call(None, "an error");
        failed.record("gen_ai.response.id", "r");
        failed.record("error.type", "timeout");
        drop(call(Some("create_agent"), "none of ours"));
        let json = call(Some("chat"), r#"{"total": 3}"#);
        json.record("gen_ai.output.messages", r#"{"total": 4}"#);
        drop(json);
        let agent = |usage: Option<u64>| {
            let run = info_span!(
                "agent",
                gen_ai.operation.name = "invoke_agent",
                gen_ai.completion = Empty,
                gen_ai.usage.output_tokens = Empty,
            );
            // After a turn that only calls a tool, and after one that says something.
            run.record("gen_ai.completion", "");
            run.record("gen_ai.completion", "on the way");
            if let Some(usage) = usage {
                run.record("gen_ai.usage.output_tokens", usage);
            }
        };
        agent(None);
        agent(Some(5));
        // A tag counts for more.
        info_span!(
            "audit.event",
            action_type = "tagged",
            gen_ai.operation.name = "chat"
        );
    });
    let calls = rows(
        &trail,
        "rendered_prompt, status, error_code, metadata->'gen_ai.output.tool_calls' AS tools",
        "prompt_runs",
    );
    let call = |prompt: &str, status: &str| json!({"rendered_prompt": prompt, "status": status, "error_code": null, "tools": null});
    let mut tool = call("a tool", "succeeded");
    tool["tools"] = json!(["run"]);
    let mut error = call("an error", "failed");
    error["error_code"] = json!("timeout");
    assert_eq!(
        calls,
        [
            call("no answer", "unknown"),
            call("an id", "succeeded"),
            call("tokens", "succeeded"),
            tool,
            error,
            call(r#"{"total": 3}"#, "succeeded"),
        ]
    );
    let events = rows(
        &trail,
        "action_type, status, output_summary, metadata->'adopted' AS adopted",
        "events",
    );
    let run = |status: &str| json!({"action_type": "agent_execution", "status": status, "output_summary": "on the way", "adopted": "gen_ai"});
    let tagged = json!({"action_type": "tagged", "status": "unknown", "output_summary": null, "adopted": null});
    assert_eq!(events, [run("unknown"), run("succeeded"), tagged]);
}
