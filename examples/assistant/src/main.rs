//! A small assistant that answers questions with SQL and has an audit trail. `scripts/demo` runs it.
//!
//! It reads a request from each line of its input: an id, a tenant, a user and a question.
//!
//! ```text
//! export DATABASE_URL=postgres://postgres@localhost/postgres
//! psql "$DATABASE_URL" -f examples/nl2sql/sample/schemas/bikeshare.sql
//! echo 'req-1 acme ada Which bikes are out right now?' | cargo run -p example-assistant
//! tracing-audit show req-1
//! ```
//!
//! Requests are answered side by side. At the end of its input it waits for the last answer and
//! until the trail has every record. The questions are asked of `DATABASE_URL`; the trail goes to
//! `AUDIT_DATABASE_URL`, else there too.
#![allow(clippy::print_stdout, reason = "an example is a program")]

use std::time::Duration;

use sqlx::PgPool;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    task::JoinSet,
};
use tracing::{Instrument, Span, field::Empty, info, info_span, instrument};
use tracing_audit::AuditFutureExt;
use tracing_subscriber::{filter::LevelFilter, prelude::*};

/// What can be asked. A model would write the SQL; here it is fixed, and harmless.
const CATALOGUE: [(&str, &str); 5] = [
    (
        "How many rides started at each station?",
        "SELECT name, count(ride.id) FROM station LEFT JOIN ride ON from_station = station.id GROUP BY name",
    ),
    (
        "Which bikes are out right now?",
        "SELECT id, model FROM bike WHERE station_id IS NULL",
    ),
    (
        "What was the longest ride of the week?",
        "SELECT id, distance_km FROM ride ORDER BY distance_km DESC LIMIT 1",
    ),
    // One of the rides went nowhere.
    (
        "What does a kilometre cost on each ride?",
        "SELECT id, price_cents / distance_km AS cents_per_km FROM ride",
    ),
    // Stands for a query that takes its time.
    (
        "How many bikes will there be in ten minutes?",
        "SELECT count(*) FROM bike, pg_sleep(600)",
    ),
];

/// Opens the request's span, from which every record inherits who asked.
async fn serve(pool: PgPool, line: String) {
    let mut words = line.splitn(4, ' ');
    let (Some(request), Some(tenant), Some(user), Some(question)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        println!("a line is: REQUEST_ID TENANT USER QUESTION");
        return;
    };
    let span = info_span!(
        "request",
        request_id = request,
        tenant_id = tenant,
        user_id = user,
        // One conversation for each user.
        conversation_id = format!("{tenant}-{user}")
    );
    let answer = answer(&pool, question).instrument(span).await;
    println!("{request}: {answer}");
}

async fn answer(pool: &PgPool, question: &str) -> String {
    let Some(sql) = write_sql(question).await else {
        return "there is no such question in the catalogue".to_owned();
    };
    let result = run(pool, question, sql).await;
    // An event in an instant, rather than a span.
    let action_type = match result {
        Ok(_) => "answer.delivered",
        Err(_) => "answer.withheld",
    };
    info!(name: "audit.event", action_type, status = "ok");
    match result {
        Ok(1) => "1 row".to_owned(),
        Ok(rows) => format!("{rows} rows"),
        Err(error) => error,
    }
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
    let known = CATALOGUE.iter().find(|(known, _)| *known == question);
    match known {
        Some((_, sql)) => Span::current().record("response_text", sql),
        None => Span::current().record("status", "rejected"),
    };
    known.map(|(_, sql)| *sql)
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(question_text = question, sql_text = sql, row_count = Empty),
    err
)]
async fn run(pool: &PgPool, question: &str, sql: &'static str) -> Result<usize, String> {
    let query = sqlx::query(sql).fetch_all(pool).audited(Span::current());
    let rows = query
        .await
        .map_err(|error| match error.as_database_error() {
            Some(refusal) => refusal.message().to_owned(),
            None => error.to_string(),
        })?;
    Span::current().record("row_count", rows.len());
    Ok(rows.len())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let audit = tracing_audit::from_env()?;
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(log)
        .init();

    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut requests = JoinSet::new();
    while let Some(line) = lines.next_line().await? {
        requests.spawn(serve(pool.clone(), line));
    }
    requests.join_all().await;

    audit.flush(Duration::from_mins(1)).await?;
    let stats = audit.stats();
    println!(
        "{} records accepted, {} committed",
        stats.accepted(),
        stats.committed()
    );
    Ok(())
}
