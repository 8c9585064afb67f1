//! Asks the service, and compares what the trail has of each request.

use std::{error::Error, time::Duration};

use reqwest::{Client, RequestBuilder, StatusCode};
use sqlx::PgPool;
use tokio::sync::Notify;
use tracing_audit::Audit;

pub(crate) async fn check(
    audit: &Audit,
    pool: &PgPool,
    url: &str,
    left_waiting: &Notify,
) -> Result<(), Box<dyn Error>> {
    let large = "How large is this database?";
    let everything = "Remove the old tables, then tell me everything.";
    let answered = answer(ask(url, "ada-7", large), StatusCode::OK).await?;
    let remove = "Remove the old orders.";
    let rejected = answer(ask(url, "ada-7", remove), StatusCode::OK).await?;
    let failed = answer(ask(url, "grace-9", "Why?"), StatusCode::BAD_GATEWAY).await?;
    let refused = answer(ask(url, "ada-8", large), StatusCode::UNAUTHORIZED).await?;
    // This client does not wait for the answer.
    let waits = tokio::spawn(ask(url, "ada-7", everything).send());
    left_waiting.notified().await;
    waits.abort();

    assert_eq!(
        story(audit, pool, &answered).await?,
        [
            "audit.event succeeded ada http_request",
            "audit.event succeeded ada security",
            "audit.prompt_run succeeded ada gpt-5.2",
            "audit.event succeeded ada tool_invocation",
            "audit.query_run succeeded ada SELECT pg_database_size(current_database())::text",
            "audit.prompt_run succeeded ada gpt-5.2",
            "audit.event succeeded ada transaction",
        ]
    );
    assert_eq!(
        story(audit, pool, &rejected).await?,
        [
            "audit.event succeeded ada http_request",
            "audit.event succeeded ada security",
            "audit.prompt_run succeeded ada gpt-5.2",
            "audit.event rejected ada tool_invocation",
            "audit.query_run rejected ada DROP TABLE orders",
            "audit.event rejected ada approval",
            "audit.event succeeded ada escalation",
            "audit.prompt_run succeeded ada gpt-5.2",
            "audit.event succeeded ada transaction",
        ]
    );
    // The provider took no more requests; libraries do not tell.
    assert_eq!(
        story(audit, pool, &failed).await?,
        [
            "audit.event failed 502 grace http_request",
            "audit.event succeeded grace security",
            "audit.prompt_run unknown grace gpt-5.2",
        ]
    );
    assert_eq!(
        story(audit, pool, &refused).await?,
        [
            "audit.event rejected 401 http_request",
            "audit.event rejected 401 security",
        ]
    );
    let aborted: String = loop {
        audit.flush(Duration::from_secs(10)).await?;
        let found = sqlx::query_scalar(
            "SELECT request_id FROM audit.activities WHERE status = 'cancelled'",
        );
        // The server notices a moment later that the client is gone.
        if let Some(request) = found.fetch_optional(pool).await? {
            break request;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        story(audit, pool, &aborted).await?,
        [
            "audit.event cancelled ada http_request",
            "audit.event succeeded ada security",
            "audit.prompt_run succeeded ada gpt-5.2",
            "audit.event rejected ada tool_invocation",
            "audit.query_run rejected ada DROP TABLE orders",
            "audit.event rejected ada approval",
            "audit.event succeeded ada escalation",
            "audit.prompt_run succeeded ada gpt-5.2",
            "audit.event succeeded ada tool_invocation",
            "audit.query_run succeeded ada SELECT relname::text FROM pg_class LIMIT 5",
            "audit.prompt_run succeeded ada gpt-5.2",
            "audit.event failed other ada tool_invocation",
            "audit.query_run failed 22012 ada SELECT (1 / (oid::int - oid::int))::text FROM pg_type",
            "audit.prompt_run unknown ada gpt-5.2",
        ]
    );
    Ok(())
}

fn ask(url: &str, token: &str, question: &str) -> RequestBuilder {
    Client::new().post(url).bearer_auth(token).json(question)
}

/// Returns the id of the request.
async fn answer(request: RequestBuilder, expected: StatusCode) -> Result<String, Box<dyn Error>> {
    let response = request.send().await?;
    assert_eq!(response.status(), expected);
    let id = response
        .headers()
        .get("x-request-id")
        .ok_or("the answer has no request id")?;
    let id = id.to_str()?.to_owned();
    // The request's record ends with the body of the answer.
    response.bytes().await?;
    Ok(id)
}

/// Reads the records of a request, as a superuser or a member of `audit_auditor` may.
async fn story(audit: &Audit, pool: &PgPool, request: &str) -> Result<Vec<String>, Box<dyn Error>> {
    audit.flush(Duration::from_secs(10)).await?;
    let story: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', kind, status, error_code, user_id, what) FROM audit.request_trail($1)",
    )
    .bind(request)
    .fetch_all(pool)
    .await?;
    println!("request {request}:\n  {}", story.join("\n  "));
    Ok(story)
}
