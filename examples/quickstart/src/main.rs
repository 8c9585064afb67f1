//! The shortest program with an audit trail: one question, asked within a request.
//!
//! `DATABASE_URL=postgres://postgres@localhost/postgres cargo run -p example-quickstart`
#![allow(clippy::print_stdout, reason = "an example is a program")]

use tracing::{Instrument, Span, field::Empty, info_span, instrument};
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[instrument(name = "audit.query_run", skip(pool), fields(row_count = Empty), err)]
async fn run(pool: &sqlx::PgPool, question_text: &str, sql_text: &'static str) -> Result<usize> {
    let rows = sqlx::query(sql_text).fetch_all(pool).await?;
    Span::current().record("row_count", rows.len());
    Ok(rows.len())
}

#[tokio::main]
async fn main() -> Result<()> {
    let audit = tracing_audit::from_env()?;
    let terminal = fmt::layer().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(terminal)
        .init();

    let pool = sqlx::PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    let request = info_span!("request", request_id = "quickstart", tenant_id = "acme");
    let sql = "SELECT nspname FROM pg_namespace";
    let rows = run(&pool, "Which schemas are there?", sql)
        .instrument(request)
        .await?;

    audit.flush(std::time::Duration::from_secs(10)).await?;
    println!("{rows} rows. Who asked, what ran and what came of it is in Postgres:");
    println!("    SELECT * FROM audit.query_runs WHERE request_id = 'quickstart';");
    Ok(())
}
