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
    check_mandates(audit, pool, url).await
}

/// Changes a mandate through the service. The change is in the request's story, and who changed what
/// is in `audit.changes`.
async fn check_mandates(audit: &Audit, pool: &PgPool, url: &str) -> Result<(), Box<dyn Error>> {
    answer(set_limit(url, "ada-7", 50_000), StatusCode::OK).await?;
    let changed = answer(set_limit(url, "ada-7", 60_000), StatusCode::OK).await?;
    // The mandate of another tenant.
    let refused = answer(set_limit(url, "grace-9", 1), StatusCode::FORBIDDEN).await?;

    assert_eq!(
        story(audit, pool, &changed).await?,
        [
            "audit.event succeeded ada http_request",
            "audit.event succeeded ada security",
            "audit.event succeeded ada change",
        ]
    );
    assert_eq!(
        changes(pool, &changed).await?,
        ["update example.mandates 7 limit_cents 50000 60000 ada t"]
    );
    assert_eq!(
        story(audit, pool, &refused).await?,
        [
            "audit.event rejected 403 grace http_request",
            "audit.event succeeded grace security",
            "audit.event rejected 403 grace security",
        ]
    );
    assert_eq!(changes(pool, &refused).await?, [""; 0]);
    Ok(())
}

/// Reads what a request changed, by whom, and whether the change lies within the request's record.
async fn changes(pool: &PgPool, request: &str) -> sqlx::Result<Vec<String>> {
    let changes = sqlx::query_scalar(
        "SELECT concat_ws(' ', c.operation, c.table_name, c.key, c.field, c.old, c.new, c.user_id, r.id IS NOT NULL)
        FROM audit.changes c JOIN audit.events e ON e.id = c.event_id
            LEFT JOIN audit.request_logs r ON r.id = e.parent_id
        WHERE c.request_id = $1 ORDER BY c.number, c.field",
    );
    changes.bind(request).fetch_all(pool).await
}

fn set_limit(url: &str, token: &str, cents: i64) -> RequestBuilder {
    let mandate = format!("{url}/mandates/7");
    Client::new().put(mandate).bearer_auth(token).json(&cents)
}

fn ask(url: &str, token: &str, question: &str) -> RequestBuilder {
    let ask = Client::new().post(format!("{url}/ask"));
    ask.bearer_auth(token).json(question)
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
