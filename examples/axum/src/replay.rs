//! Stands in for a model, so that the example runs without a key: it speaks the protocol of chat
//! completions, and asks for the statements that a question is known to need.

use std::{error::Error, future, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

/// What is asked, and the statements that the model wants to run, one after the other. Where
/// `answers` is false, the answer never comes.
struct Known {
    question: &'static str,
    statements: &'static [&'static str],
    answers: bool,
}

const KNOWN: [Known; 3] = [
    Known {
        question: "How large is this database?",
        statements: &["SELECT pg_database_size(current_database())::text"],
        answers: true,
    },
    Known {
        question: "Remove the old orders.",
        statements: &["DROP TABLE orders"],
        answers: true,
    },
    Known {
        question: "Remove the old tables, then tell me everything.",
        statements: &[
            "DROP TABLE orders",
            "SELECT relname::text FROM pg_class LIMIT 5",
            "SELECT (1 / (oid::int - oid::int))::text FROM pg_type",
        ],
        answers: false,
    },
];

/// Serves on a port of its own. Returns the URL, and what tells that somebody waits for an answer
/// that does not come.
pub(crate) async fn serve() -> Result<(String, Arc<Notify>), Box<dyn Error>> {
    let left_waiting = Arc::new(Notify::new());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new()
        .route("/chat/completions", post(complete))
        .with_state(Arc::clone(&left_waiting));
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok((url, left_waiting))
}

async fn complete(State(left_waiting): State<Arc<Notify>>, Json(request): Json<Value>) -> Response {
    let Some(messages) = request["messages"].as_array() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let text = |message: &Value| message["content"].to_string();
    let of_user = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user");
    let question = of_user.map(text).unwrap_or_default();
    let Some(known) = KNOWN.iter().find(|known| question.contains(known.question)) else {
        // As a provider that is asked too much.
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    };
    let results: Vec<_> = messages
        .iter()
        .filter(|message| message["role"] == "tool")
        .collect();
    let message = match known.statements.get(results.len()) {
        Some(sql) => {
            let arguments = json!({"sql": sql}).to_string();
            let call = json!({"id": format!("call-{}", results.len()), "type": "function",
                "function": {"name": "run_sql", "arguments": arguments}});
            json!({"role": "assistant", "content": null, "tool_calls": [call]})
        }
        None if known.answers => {
            let seen = results
                .last()
                .map(|result| text(result))
                .unwrap_or_default();
            json!({"role": "assistant", "content": format!("The database says {seen}.")})
        }
        None => {
            left_waiting.notify_one();
            future::pending().await
        }
    };
    Json(json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "replay",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
    }))
    .into_response()
}
