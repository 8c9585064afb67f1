//! An HTTP service by axum with a login, where a model answers questions about a database. Each
//! request is one story in the trail: who asked, what the model was told and said, which tool it
//! called, which SQL ran, what was refused and by whom, what it cost, and whether the client waited
//! for the answer. A request that changes a spending mandate has the change in its story, with the
//! old and the new limit, as Postgres itself records it.
//!
//! `AuditRequestLayer` opens the request's span and records the request. The prompts and the calls of
//! the tool are rig's own spans, and the SQL is what sqlx reports: `adopt` takes them as they are. An
//! extractor records the user once the login is checked. The login, the decision on a write, the
//! call for a person and the price of an answer are events of families, by `Audit::record`. The
//! table of the mandates is tracked, and `context().apply` tells Postgres whose change it is.
//!
//! ```text
//! export DATABASE_URL=postgres://postgres@localhost/postgres
//! cargo run -p example-axum                        # asks itself, and checks what the trail has
//! BIND=127.0.0.1:3000 cargo run -p example-axum    # serves until Ctrl-C
//! curl -i localhost:3000/ask -H 'authorization: Bearer ada-7' --json '"How large is this database?"'
//! curl -i -X PUT localhost:3000/mandates/7 -H 'authorization: Bearer ada-7' --json 60000
//! ```
//!
//! The response has the request id in the header `x-request-id`, for `tracing-audit show`. With
//! `OPENAI_API_KEY`, a real model answers.
#![allow(clippy::print_stdout, reason = "an example is a program")]

mod check;
mod mandates;
mod replay;

use std::{error::Error, net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    extract::{FromRequestParts, State},
    http::{StatusCode, header::AUTHORIZATION, request::Parts},
    routing::{post, put},
};
use rig::{
    prelude::*,
    providers::openai::{OpenAI, OpenAIConfig},
    tool::ToolExecutionError,
};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::net::TcpListener;
use tracing::{Span, field::Empty, info_span, warn};
use tracing_audit::{
    Adopt, Approval, Audit, AuditFutureExt, AuditRequestLayer, AuditSpanExt, Decision, Escalation,
    NewRecord, SecurityEvent, Status, Transaction,
};
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};

/// The sessions: token, tenant and user. A real service has them in its database.
const SESSIONS: [(&str, &str, &str); 2] =
    [("ada-7", "acme", "ada"), ("grace-9", "globex", "grace")];

/// A user who is logged in. A handler with this argument is called for nobody else.
struct User {
    tenant: &'static str,
}

impl FromRequestParts<App> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, StatusCode> {
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let session = SESSIONS.iter().find(|(known, ..)| Some(*known) == token);
        let Some((_, tenant, user)) = session else {
            return Err(StatusCode::UNAUTHORIZED);
        };
        tracing_audit::context().tenant(tenant).user(user);
        let login = SecurityEvent::new("login").source("bearer token");
        app.record(login.status(Status::Succeeded));
        Ok(Self { tenant })
    }
}

#[derive(Clone)]
struct App {
    audit: Audit,
    pool: PgPool,
    openai: OpenAI,
}

impl App {
    /// Adds an event to the story of the request. One that is dropped is counted.
    fn record(&self, event: impl Into<NewRecord>) {
        if let Err(error) = self.audit.record(event) {
            warn!(%error, "an event is not in the trail");
        }
    }
}

/// Answers a question, for two cents. If there is no answer, the trail says why, under the request
/// id.
async fn ask(
    _: User,
    State(app): State<App>,
    Json(question): Json<String>,
) -> Result<String, StatusCode> {
    let agent = AgentBuilder::new(app.openai.chat("gpt-5.2"))
        .preamble("You answer questions about a Postgres database, by SQL.")
        .record_content_telemetry(true)
        .tool(RunSql { app: app.clone() })
        .build();
    let answer = agent.prompt(question).max_turns(5).await;
    let answer = answer.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let request = tracing_audit::context().request_id().unwrap_or_default();
    let charge = Transaction::new(request).amount_cents(2).currency("EUR");
    app.record(charge.state("captured").status(Status::Succeeded));
    Ok(answer.output().clone())
}

/// The tool by which the model reads the database.
struct RunSql {
    app: App,
}

impl RunSql {
    /// Records that a person rejects a write. A real service asks one and waits for the answer.
    fn reject(&self, sql: String, run: &Span) {
        let mut approval = Approval::new(Decision::Rejected)
            .sql_text(sql)
            .approved_by("bob")
            .approver_role("dba");
        if let Some(run) = run.audit_id() {
            approval = approval.run_id(run);
        }
        self.app.record(approval);
        let escalation = Escalation::new("the user wants a write").escalated_to("on-call");
        self.app.record(escalation.status(Status::Succeeded));
    }
}

#[derive(serde::Deserialize)]
struct Statement {
    sql: String,
}

impl Tool for RunSql {
    const NAME: &'static str = "run_sql";
    type Args = Statement;
    type Output = Vec<String>;
    type Error = ToolExecutionError;

    fn description(&self) -> String {
        String::from("Runs a SELECT with one column of text and returns its rows.")
    }

    fn parameters(&self) -> serde_json::Value {
        serde_json::json!({"type": "object", "properties": {"sql": {"type": "string"}}})
    }

    async fn call(
        &self,
        _: &mut ToolContext,
        Statement { sql }: Statement,
    ) -> Result<Vec<String>, ToolExecutionError> {
        let run = info_span!("audit.query_run", sql_text = sql, status = Empty);
        if !sql.trim_start().to_uppercase().starts_with("SELECT") {
            // A refused statement has its row, although nothing ran.
            run.record("status", "rejected");
            self.reject(sql, &run);
            return Err(ToolExecutionError::refused("The write was rejected."));
        }
        // A real service has a login here that may only read. How many rows there were is known from sqlx.
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&self.app.pool)
            .audited(run)
            .await
            .map_err(ToolExecutionError::from_error)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL")?;
    let pool = PgPool::connect(&url).await?;
    mandates::set_up(&url, &pool).await?;
    let audit = Audit::builder()
        .postgres(&url)
        .adopt(Adopt::gen_ai())
        .adopt(Adopt::sqlx())
        .start()?;
    // A filter on the terminal's layer hides nothing from the trail.
    let terminal = fmt::layer().with_filter(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(terminal)
        .init();

    let (replay, left_waiting) = replay::serve().await?;
    let openai = match OpenAI::from_env() {
        Ok(openai) => openai,
        Err(_) => OpenAIConfig::new("no key").with_base_url(replay).client(),
    };
    let app = App {
        audit: audit.clone(),
        pool: pool.clone(),
        openai,
    };
    let app = Router::new()
        .route("/ask", post(ask))
        .route("/mandates/{id}", put(mandates::set_limit))
        .layer(AuditRequestLayer::axum())
        .with_state(app)
        .into_make_service_with_connect_info::<SocketAddr>();
    let bind = std::env::var("BIND");
    let listener = TcpListener::bind(bind.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let url = format!("http://{}", listener.local_addr()?);
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
    check::check(&audit, &pool, &url, &left_waiting).await
}
