//! A gRPC service by tonic with an audit trail, and a client that has one as well. The id of the
//! client's request is sent along with the call, so the trail has one story of both sides.
//!
//! `DATABASE_URL=postgres://postgres@localhost/postgres cargo run -p example-tonic`
#![allow(clippy::print_stdout, reason = "an example is a program")]

mod client;
mod server;

use std::time::Duration;

use sqlx::PgPool;
use tonic::transport::{Channel, Server, server::TcpIncoming};
use tracing::{Instrument, info_span};
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};
use uuid::Uuid;

use api::answers_server::AnswersServer;

/// The client and the server that build.rs makes.
#[allow(warnings, clippy::pedantic, reason = "generated")]
mod api {
    tonic::include_proto!("example.Answers");
}

#[derive(Clone, PartialEq, prost::Message)]
struct Question {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(string, repeated, tag = "1")]
    rows: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let audit = tracing_audit::from_env()?;
    // A filter on the terminal's layer hides nothing from the trail.
    let terminal = fmt::layer().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(terminal)
        .init();

    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let url = format!("http://{}", incoming.local_addr()?);
    let service = AnswersServer::with_interceptor(server::Service(pool.clone()), server::login);
    let serving = Server::builder()
        .layer(server::request_layer())
        .add_service(service)
        .serve_with_incoming(incoming);
    tokio::spawn(serving);
    let channel = Channel::from_shared(url)?.connect().await?;

    let large = "How large is this database?";
    let nothing = "What is one divided by nothing?";
    let answered = ask(&channel, ("acme", "ada"), "ada-7", large).await;
    let failed = ask(&channel, ("globex", "grace"), "grace-9", nothing).await;
    let refused = ask(&channel, ("acme", "alan"), "alan-8", nothing).await;
    audit.flush(Duration::from_secs(10)).await?;

    let expected = [
        "audit.event succeeded ada question.asked",
        "audit.event succeeded ada http_request",
        "audit.query_run succeeded ada How large is this database?",
    ];
    assert_eq!(story(&pool, &answered).await?, expected);
    let expected = [
        "audit.event failed Internal grace question.asked",
        "audit.event failed INTERNAL grace http_request",
        "audit.query_run failed 22012 grace What is one divided by nothing?",
    ];
    assert_eq!(story(&pool, &failed).await?, expected);
    // The service does not know the user.
    let expected = [
        "audit.event failed Unauthenticated alan question.asked",
        "audit.event rejected UNAUTHENTICATED http_request",
        "audit.event rejected login",
        "audit.event rejected UNAUTHENTICATED security",
    ];
    assert_eq!(story(&pool, &refused).await?, expected);
    Ok(())
}

/// Makes a request of the client's own, and returns its id.
async fn ask(
    channel: &Channel,
    (tenant, user): (&str, &str),
    token: &str,
    question: &str,
) -> String {
    let id = Uuid::new_v4().to_string();
    let span = info_span!(
        "request",
        request_id = id,
        tenant_id = tenant,
        user_id = user
    );
    let answer = client::ask(channel.clone(), &id, token, question)
        .instrument(span)
        .await;
    println!(
        "{user} asks: {question} {:?}",
        answer.map_err(|status| status.code())
    );
    id
}

/// Reads the story of a request, as a superuser or a member of `audit_auditor` may: both sides of
/// it, which are in one trace.
async fn story(pool: &PgPool, request: &str) -> sqlx::Result<Vec<String>> {
    let story: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', kind, status, error_code, user_id, what) FROM audit.request_trail($1)
        WHERE trace_id = replace($1, '-', '')",
    )
    .bind(request)
    .fetch_all(pool)
    .await?;
    println!("request {request}:\n  {}", story.join("\n  "));
    Ok(story)
}
