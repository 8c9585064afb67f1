//! rig's agent with a tool, against a server of chat completions.

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use testkit::trail::Trail;
use tokio::net::TcpListener;
use tracing::{Instrument as _, info_span};
use tracing_audit::Adopt;

use super::{rows, scoped};

/// Serves one conversation: the model asks for a tool first, and answers once it has the result.
pub(crate) async fn serve() -> String {
    async fn answer(Json(request): Json<Value>) -> axum::response::Response {
        let messages = request["messages"].as_array().unwrap();
        if messages
            .iter()
            .any(|message| message.to_string().contains("too many"))
        {
            let error = json!({"error": {"message": "slow down", "type": "rate_limit"}});
            return (StatusCode::TOO_MANY_REQUESTS, Json(error)).into_response();
        }
        let message = if messages.iter().any(|message| message["role"] == "tool") {
            json!({"role": "assistant", "content": "There are three."})
        } else {
            let call = json!({"id": "call-1", "type": "function",
                "function": {"name": "count_customers", "arguments": "{\"city\":\"Bern\"}"}});
            json!({"role": "assistant", "content": null, "tool_calls": [call]})
        };
        Json(json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "replay-2026",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
        }))
        .into_response()
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/chat/completions", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// An agent of one version of rig.
macro_rules! agent {
    ($rig:ident, $function:ident) => {
        pub(crate) async fn $function(url: &str, database: &str, question: &str) -> Result<String, String> {
            use $rig::prelude::*;
            use $rig::providers::openai::OpenAIConfig;
            use $rig::tool::{ToolErrorKind, ToolExecutionError};

            #[derive(serde::Deserialize)]
            struct Arguments {
                city: String,
            }

            struct CountCustomers {
                pool: sqlx::PgPool,
            }

            impl Tool for CountCustomers {
                const NAME: &'static str = "count_customers";
                type Args = Arguments;
                type Output = i64;
                type Error = ToolExecutionError;

                fn description(&self) -> String {
                    String::from("Counts the customers of a city.")
                }

                fn parameters(&self) -> Value {
                    json!({"type": "object", "properties": {"city": {"type": "string"}}})
                }

                async fn call(
                    &self,
                    _: &mut ToolContext,
                    arguments: Arguments,
                ) -> Result<i64, ToolExecutionError> {
                    sqlx::query_scalar("SELECT length($1)::int8 - 1")
                        .bind(arguments.city)
                        .fetch_one(&self.pool)
                        .await
                        .map_err(|error| {
                            ToolExecutionError::new(ToolErrorKind::Other, error.to_string())
                        })
                }
            }

            let pool = sqlx::PgPool::connect(database).await.unwrap();
            let model = OpenAIConfig::new("key").with_base_url(url).client().chat("replay");
            let agent = AgentBuilder::new(model)
                .preamble("Answer briefly.")
                .record_content_telemetry(true)
                .tool(CountCustomers { pool })
                .build();
            let answer = agent.prompt(question).max_turns(3).await;
            answer
                .map(|answer| answer.output().to_string())
                .map_err(|error| error.to_string())
        }
    };
}

agent!(rig, current);
agent!(rig_0_43, previous);

fn trail() -> Trail {
    Trail::start_with(|builder| {
        builder
            .adopt(Adopt::gen_ai())
            .adopt(Adopt::sqlx().every_statement())
    })
}

/// One question, within a request.
pub(crate) async fn ask(
    agent: impl AsyncFn(&str, &str, &str) -> Result<String, String>,
    database: &str,
) {
    let url = serve().await;
    let request = info_span!("request", request_id = "r-1", user_id = "alice");
    let answer = agent(&url, database, "How many customers are in Bern?");
    assert_eq!(
        answer.instrument(request).await.unwrap(),
        "There are three."
    );
}

/// Fails unless the trail has two prompts, the tool's call, and the tool's own query as its child.
fn assert_story(trail: &Trail) {
    let common = "request_id, user_id, status, metadata->>'adopted' AS adopted";
    let prompts = rows(
        trail,
        &format!("{common}, model_name, provider, rendered_prompt, response_text, input_token_count, output_token_count,
            metadata->>'gen_ai.response.model' AS answered_by, metadata ? 'gen_ai.system_instructions' AS has_instructions, problems"),
        "prompt_runs",
    );
    let prompt = |response: Value| {
        json!({
            "request_id": "r-1", "user_id": "alice", "status": "succeeded", "adopted": "gen_ai",
            "model_name": "replay", "provider": "openai", "rendered_prompt": "How many customers are in Bern?",
            "response_text": response, "input_token_count": 11, "output_token_count": 5,
            "answered_by": "replay-2026", "has_instructions": false, "problems": [],
        })
    };
    assert_eq!(
        prompts,
        [prompt(Value::Null), prompt("There are three.".into())]
    );

    let tools = rows(
        trail,
        &format!(
            "{common}, action_type, target_type, target_id, input_summary, output_summary, metadata->>'gen_ai.tool.call.id' AS call, problems"
        ),
        "events",
    );
    assert_eq!(
        tools,
        [json!({
            "request_id": "r-1", "user_id": "alice", "status": "succeeded", "adopted": "gen_ai",
            "action_type": "tool_invocation", "target_type": "tool", "target_id": "count_customers",
            "input_summary": "{\"city\":\"Bern\"}", "output_summary": "3", "call": "call-1", "problems": [],
        })]
    );

    let query = rows(
        trail,
        &format!(
            "{common}, sql_text, row_count, rows_affected,
            (SELECT target_id FROM audit.events e WHERE e.id = q.parent_id) AS inside, problems"
        ),
        "query_runs q",
    );
    assert_eq!(
        query,
        [json!({
            "request_id": "r-1", "user_id": "alice", "status": "unknown", "adopted": "sqlx",
            "sql_text": "SELECT length($1)::int8 - 1", "row_count": 1, "rows_affected": null,
            "inside": "count_customers", "problems": [],
        })]
    );
}

#[test]
fn prompts_a_tools_call_and_its_query_are_one_story() {
    let trail = trail();
    scoped(&trail, ask(current, &trail.postgres.url()));
    assert_story(&trail);
}

#[test]
fn the_same_of_the_previous_version() {
    let trail = trail();
    scoped(&trail, ask(previous, &trail.postgres.url()));
    assert_story(&trail);
}

#[test]
fn refused_call_of_a_model_is_no_success() {
    let trail = trail();
    scoped(&trail, async {
        let url = serve().await;
        let database = trail.postgres.url();
        let answer = current(&url, &database, "One too many?").await;
        assert!(answer.is_err(), "{answer:?}");
    });
    let prompts = rows(
        &trail,
        "status, rendered_prompt, response_text",
        "prompt_runs",
    );
    assert_eq!(
        prompts,
        [json!({"status": "unknown", "rendered_prompt": "One too many?", "response_text": null})]
    );
    // Outside of every span, rig makes one for the agent's run.
    let runs = rows(&trail, "action_type, status, input_summary", "events");
    assert_eq!(
        runs,
        [
            json!({"action_type": "agent_execution", "status": "unknown", "input_summary": "One too many?"})
        ]
    );
}

#[test]
fn whole_messages_are_kept_when_asked_for() {
    let trail = Trail::start_with(|builder| builder.adopt(Adopt::gen_ai().whole_messages()));
    scoped(&trail, ask(current, &trail.postgres.url()));
    let last = "metadata->'gen_ai.output.messages'->0->'parts'->0->>'content' AS said,
        metadata->'gen_ai.system_instructions'->0->>'content' AS told,
        jsonb_array_length(metadata->'gen_ai.input.messages') AS messages";
    let prompts = rows(&trail, last, "prompt_runs");
    assert_eq!(prompts[1]["said"], "There are three.");
    assert_eq!(prompts[1]["told"], "Answer briefly.");
    assert!(prompts[1]["messages"].as_u64() > prompts[0]["messages"].as_u64());
}
