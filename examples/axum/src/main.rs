//! An HTTP service by axum with a login and an audit trail. `AuditRequestLayer` opens the request's
//! span and records the request, an extractor records the user once the login is checked, and every
//! record made while the request is served inherits both.
//!
//! ```text
//! export DATABASE_URL=postgres://postgres@localhost/postgres
//! cargo run -p example-axum                        # asks itself, and checks what the trail has
//! BIND=127.0.0.1:3000 cargo run -p example-axum    # serves until Ctrl-C
//! curl -i localhost:3000/ask -H 'authorization: Bearer ada-7' --json '"How large is this database?"'
//! ```
//!
//! The response has the request id in the header `x-request-id`.
#![allow(clippy::print_stdout, reason = "an example is a program")]

mod check;

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    extract::{FromRequestParts, State},
    http::{StatusCode, header::AUTHORIZATION, request::Parts},
    routing::post,
};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tracing::{Span, field::Empty, info, instrument};
use tracing_audit::{AuditFutureExt, AuditRequestLayer};
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};

/// The sessions: token, tenant and user. A real service has them in its database.
const SESSIONS: [(&str, &str, &str); 2] =
    [("ada-7", "acme", "ada"), ("grace-9", "globex", "grace")];

/// What can be asked. A model would write the SQL; here it is fixed, and harmless.
const CATALOGUE: [(&str, &str); 2] = [
    (
        "How large is this database?",
        "SELECT pg_database_size(current_database())::text",
    ),
    (
        "What is one divided by nothing?",
        "SELECT (1 / (oid::int - oid::int))::text FROM pg_type",
    ),
];

/// A user who is logged in. A handler with this argument is called for nobody else.
struct User;

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let session = SESSIONS.iter().find(|(known, ..)| Some(*known) == token);
        let Some((_, tenant, user)) = session else {
            // A record of an instant, as a `tracing` event.
            info!(name: "audit.event", action_type = "login", status = "rejected");
            return Err(StatusCode::UNAUTHORIZED);
        };
        tracing_audit::context().tenant(tenant).user(user);
        info!(name: "audit.event", action_type = "login", status = "succeeded");
        Ok(Self)
    }
}

/// Returns the rows. If there are none, the trail says why, under the request id.
async fn ask(
    _: User,
    State(pool): State<PgPool>,
    Json(question): Json<String>,
) -> Result<Json<Vec<String>>, StatusCode> {
    let sql = write_sql(&question).await.ok_or(StatusCode::NOT_FOUND)?;
    let rows = run(&pool, &question, sql)
        .await
        .map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(Json(rows))
}

#[instrument(
    name = "audit.prompt_run",
    skip_all,
    fields(model_name = "catalogue", rendered_prompt = question, response_text = Empty, status = Empty)
)]
async fn write_sql(question: &str) -> Option<&'static str> {
    let Some((_, sql)) = CATALOGUE.iter().find(|(known, _)| *known == question) else {
        Span::current().record("status", "rejected");
        return None;
    };
    Span::current().record("response_text", sql);
    Some(sql)
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(question_text = question, sql_text = sql, row_count = Empty),
    err
)]
async fn run(pool: &PgPool, question: &str, sql: &'static str) -> sqlx::Result<Vec<String>> {
    let query = sqlx::query_scalar(sql).fetch_all(pool);
    let rows = query.audited(Span::current()).await?;
    Span::current().record("row_count", rows.len());
    Ok(rows)
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
    let app = Router::new()
        .route("/ask", post(ask))
        .layer(AuditRequestLayer::axum())
        .with_state(pool.clone())
        .into_make_service_with_connect_info::<SocketAddr>();
    let bind = std::env::var("BIND");
    let listener = TcpListener::bind(bind.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let url = format!("http://{}/ask", listener.local_addr()?);
    println!("serving {url}");
    if bind.is_ok() {
        let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
        axum::serve(listener, app)
            .with_graceful_shutdown(stop)
            .await?;
        // Only now: the last requests are served, so their records are in.
        let report = audit.shutdown(Duration::from_secs(10)).await;
        println!(
            "{} records committed, {} left in the local log",
            report.committed, report.spooled
        );
        return Ok(());
    }

    tokio::spawn(async { axum::serve(listener, app).await });
    check::check(&audit, &pool, &url).await
}
