//! Asks the service, and compares what the trail has of each request.

use std::{error::Error, time::Duration};

use reqwest::{Client, StatusCode};
use sqlx::PgPool;
use tracing_audit::Audit;

pub(crate) async fn check(audit: &Audit, pool: &PgPool, url: &str) -> Result<(), Box<dyn Error>> {
    let answered = ask(url, "ada-7", "pg_catalog", StatusCode::OK).await?;
    let failed = ask(url, "grace-9", "nowhere", StatusCode::BAD_GATEWAY).await?;
    let refused = ask(url, "ada-8", "pg_catalog", StatusCode::UNAUTHORIZED).await?;
    audit.flush(Duration::from_secs(10)).await?;

    assert_eq!(
        story(pool, &answered, Some("acme")).await?,
        [
            "audit.event succeeded ada http_request",
            "audit.event succeeded ada login",
            "audit.query_run succeeded ada tables of pg_catalog"
        ]
    );
    assert_eq!(
        story(pool, &failed, Some("globex")).await?,
        [
            "audit.event failed 502 grace http_request",
            "audit.event succeeded grace login",
            "audit.query_run failed 3F000 grace tables of nowhere"
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
    schema: &str,
    expected: StatusCode,
) -> Result<String, Box<dyn Error>> {
    let request = Client::new()
        .get(format!("{url}/{schema}"))
        .bearer_auth(token);
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
        "SELECT concat_ws(' ', kind, status, error_code, user_id, what)
        FROM audit.request_trail($1) WHERE tenant_id IS NOT DISTINCT FROM audit.tenant_uuid($2)",
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
