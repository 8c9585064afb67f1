//! Asks the service, and compares what the trail has of each request.

use std::{error::Error, time::Duration};

use reqwest::{Client, StatusCode};
use sqlx::PgPool;
use tracing_audit::Audit;

pub(crate) async fn check(audit: &Audit, pool: &PgPool, url: &str) -> Result<(), Box<dyn Error>> {
    let answered = ask(url, "ada-7", "How large is this database?", StatusCode::OK).await?;
    let nothing = "What is one divided by nothing?";
    let failed = ask(url, "grace-9", nothing, StatusCode::BAD_GATEWAY).await?;
    let unknown = ask(url, "ada-7", "Why?", StatusCode::NOT_FOUND).await?;
    let refused = ask(url, "ada-8", nothing, StatusCode::UNAUTHORIZED).await?;
    audit.flush(Duration::from_secs(10)).await?;

    assert_eq!(
        story(pool, &answered, Some("acme")).await?,
        [
            "audit.event succeeded ada http_request",
            "audit.event succeeded ada login",
            "audit.prompt_run succeeded ada catalogue",
            "audit.query_run succeeded ada How large is this database?",
        ]
    );
    assert_eq!(
        story(pool, &failed, Some("globex")).await?,
        [
            "audit.event failed 502 grace http_request",
            "audit.event succeeded grace login",
            "audit.prompt_run succeeded grace catalogue",
            "audit.query_run failed 22012 grace What is one divided by nothing?",
        ]
    );
    assert_eq!(
        story(pool, &unknown, Some("acme")).await?,
        [
            "audit.event failed 404 ada http_request",
            "audit.event succeeded ada login",
            "audit.prompt_run rejected ada catalogue"
        ]
    );
    // A refused request has no user and no tenant.
    assert_eq!(
        story(pool, &refused, None).await?,
        [
            "audit.event rejected 401 http_request",
            "audit.event rejected login",
            "audit.event rejected 401 security",
        ]
    );
    Ok(())
}

/// Returns the id of the request.
async fn ask(
    url: &str,
    token: &str,
    question: &str,
    expected: StatusCode,
) -> Result<String, Box<dyn Error>> {
    let request = Client::new().post(url).bearer_auth(token).json(question);
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

/// Reads the records of a request that belong to the tenant, as a superuser or a member of `audit_auditor` may.
async fn story(pool: &PgPool, request: &str, tenant: Option<&str>) -> sqlx::Result<Vec<String>> {
    let story: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', kind, status, error_code, user_id, what) FROM audit.request_trail($1)
        WHERE tenant_id IS NOT DISTINCT FROM audit.tenant_uuid($2)",
    )
    .bind(request)
    .bind(tenant)
    .fetch_all(pool)
    .await?;
    println!(
        "request {request} of {}:\n  {}",
        tenant.unwrap_or("nobody"),
        story.join("\n  ")
    );
    Ok(story)
}
