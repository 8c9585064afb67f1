//! A small HTTP service with an audit trail: the middleware opens the request span, and
//! every record made while the request is served inherits who asked from it.
//!
//! ```text
//! DATABASE_URL=postgres://postgres@localhost/postgres cargo run -p example-axum
//! curl -i localhost:3000/ask -H 'x-tenant: acme' -H 'content-type: application/json' \
//!      -d '{"question": "How large is this database?"}'
//! psql "$DATABASE_URL" -c 'SELECT * FROM audit.query_runs ORDER BY id DESC LIMIT 1' -x
//! ```
//!
//! The answer carries the request id in the header `x-request-id`, which the caller may set.
//! Ctrl-C ends the service once what it accepted is in Postgres. `BIND` is the address,
//! 127.0.0.1:3000 unless set.
#![allow(clippy::print_stdout, reason = "an example is a program")]

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    middleware::{self, Next},
    response::Response,
    routing::post,
};
use sqlx::{PgPool, Row, error::DatabaseError};
use tracing::{Instrument, Span, field::Empty, info_span, instrument};
use tracing_subscriber::{filter::LevelFilter, prelude::*};

/// What can be asked. A model would write the SQL; here it is fixed, and harmless.
const CATALOGUE: [(&str, &str); 3] = [
    (
        "How large is this database?",
        "SELECT pg_database_size(current_database())::text",
    ),
    (
        "Since when is the server up?",
        "SELECT pg_postmaster_start_time()::text",
    ),
    (
        "What is one divided by nothing?",
        "SELECT (1 / (oid::int - oid::int))::text FROM pg_type",
    ),
];

type Rows = Vec<String>;

#[derive(serde::Deserialize)]
struct Ask {
    question: String,
}

/// Opens the span that every record of the request inherits its request and tenant from.
async fn request_span(request: Request, next: Next) -> Response {
    let id = header(&request, "x-request-id").unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let span = info_span!("request", request_id = id, tenant_id = Empty);
    // A real service takes the tenant from the session, not from the caller's word.
    if let Some(tenant) = header(&request, "x-tenant") {
        span.record("tenant_id", tenant);
    }
    let mut response = next.run(request).instrument(span).await;
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

fn header(request: &Request, name: &str) -> Option<String> {
    request
        .headers()
        .get(name)?
        .to_str()
        .ok()
        .map(str::to_owned)
}

/// Answers with the rows; why there are none is in the trail, under the request id.
async fn ask(State(pool): State<PgPool>, Json(ask): Json<Ask>) -> Result<Json<Rows>, StatusCode> {
    let sql = write_sql(&ask.question)
        .await
        .ok_or(StatusCode::NOT_FOUND)?;
    let rows = run(&pool, &ask.question, sql)
        .await
        .map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(Json(rows))
}

#[instrument(
    name = "audit.prompt_run",
    skip_all,
    fields(
        model_name = "catalogue",
        provider = "replay",
        rendered_prompt = question,
        response_text = Empty,
        status = Empty,
    )
)]
async fn write_sql(question: &str) -> Option<&'static str> {
    let sql = CATALOGUE
        .iter()
        .find(|(known, _)| *known == question)
        .map(|(_, sql)| *sql);
    match sql {
        Some(sql) => Span::current().record("response_text", sql),
        None => Span::current().record("status", "rejected"),
    };
    sql
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(question_text = question, sql_text = sql, row_count = Empty, error_code = Empty),
    err
)]
async fn run(pool: &PgPool, question: &str, sql: &'static str) -> sqlx::Result<Rows> {
    let rows = sqlx::query(sql)
        .fetch_all(pool)
        .await
        .inspect_err(|error| {
            let sqlstate = error.as_database_error().and_then(DatabaseError::code);
            Span::current().record("error_code", sqlstate.as_deref());
        })?;
    Span::current().record("row_count", rows.len());
    rows.iter().map(|row| row.try_get(0)).collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let audit = tracing_audit::from_env()?;
    // A filter on the terminal's layer hides nothing from the trail.
    let terminal = tracing_subscriber::fmt::layer().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(terminal)
        .init();

    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    let app = Router::new()
        .route("/ask", post(ask))
        .layer(middleware::from_fn(request_span))
        .with_state(pool);
    let bind = std::env::var("BIND").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&bind).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await?;

    // Only now: the last requests are served, so their records are in.
    let report = audit.shutdown(Duration::from_secs(10)).await;
    println!(
        "{} records committed, {} left in the spool",
        report.committed, report.spooled
    );
    Ok(())
}
