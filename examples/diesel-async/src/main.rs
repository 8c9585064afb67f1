//! diesel-async with an audit trail: a query whose feedback refers to its record by a foreign key,
//! and a transaction that Postgres refuses.
//!
//! `DATABASE_URL=postgres://postgres@localhost/postgres cargo run -p example-diesel-async`
#![allow(clippy::print_stdout, reason = "an example is a program")]
#![allow(missing_docs, reason = "`table!` makes modules without")]

use std::{env, time::Duration};

use diesel::{debug_query, dsl::sql, pg::Pg, prelude::*, sql_types};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tracing::{Instrument, Span, field::Empty, info_span, instrument};
use tracing_audit::{Audit, AuditFutureExt, AuditSpanExt, Durability, Kind};
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};
use uuid::Uuid;

diesel::table! { customer (id) { id -> Integer, name -> Text, city -> Text, } }
diesel::table! { example_feedback (run_id) { run_id -> Uuid, stars -> Integer, } }

/// Returns the names, and the id of this query's record.
#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(question_text = "Who are our customers there?", sql_text = Empty, row_count = Empty),
    err
)]
async fn customers_of(
    conn: &mut AsyncPgConnection,
    city: &str,
) -> QueryResult<(Vec<String>, Option<Uuid>)> {
    let span = Span::current();
    let query = customer::table
        .filter(customer::city.eq(city))
        .select(customer::name);
    // The text has the bound values in a comment at its end.
    span.record("sql_text", debug_query::<Pg, _>(&query).to_string());
    let names: Vec<String> = query.load(conn).audited(span.clone()).await?;
    span.record("row_count", names.len());
    Ok((names, span.audit_id()))
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(sql_text = Empty, rows_affected = Empty),
    err
)]
async fn add_customer(
    conn: &mut AsyncPgConnection,
    id: i32,
    name: &str,
    city: &str,
) -> QueryResult<()> {
    let row = (
        customer::id.eq(id),
        customer::name.eq(name),
        customer::city.eq(city),
    );
    let insert = diesel::insert_into(customer::table).values(row);
    Span::current().record("sql_text", debug_query::<Pg, _>(&insert).to_string());
    let rows = insert.execute(conn).audited(Span::current()).await?;
    Span::current().record("rows_affected", rows);
    Ok(())
}

/// Adds two customers, or none. The record is that of the transaction as a whole.
#[instrument(name = "audit.event", skip_all, fields(action_type = "customers.imported", status = Empty), err)]
async fn import(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    // After a rollback, the record of the first statement still says `succeeded`; this one says `failed`.
    conn.transaction(async |conn| {
        add_customer(conn, 3, "Edsger", "Austin").await?;
        add_customer(conn, 1, "Barbara", "Boston").await
    })
    .await?;
    Span::current().record("status", "succeeded");
    Ok(())
}

async fn serve(
    audit: &Audit,
    conn: &mut AsyncPgConnection,
) -> Result<(), Box<dyn std::error::Error>> {
    let (names, run) = customers_of(conn, "London").await?;
    println!("customers in London: {names:?}");
    let run = run.ok_or("the query has no record")?;

    // The user gives it five stars. The record has to be in Postgres before a row can refer to it.
    audit.committed(run, Duration::from_secs(10)).await?;
    let feedback = (
        example_feedback::run_id.eq(run),
        example_feedback::stars.eq(5),
    );
    diesel::insert_into(example_feedback::table)
        .values(feedback)
        .execute(conn)
        .await?;

    if let Err(error) = import(conn).await {
        println!("nothing is imported: {error}");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("DATABASE_URL")?;
    let trail = env::var("AUDIT_DATABASE_URL").unwrap_or_else(|_| url.clone());
    // `start` makes the tables in the background; the foreign key below needs them now.
    tracing_audit::migrate(&url)?;
    // `committed` waits for records of a kind that is required.
    let audit = Audit::builder()
        .postgres(trail)
        .durability(Kind::QueryRun, Durability::Required)
        .start()?;
    let terminal = fmt::layer().with_filter(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(terminal)
        .init();

    let mut conn = AsyncPgConnection::establish(&url).await?;
    conn.batch_execute(
        "CREATE TEMP TABLE customer (id int PRIMARY KEY, name text, city text);
        INSERT INTO customer VALUES (1, 'Ada', 'London'), (2, 'Grace', 'New York');
        DROP TABLE IF EXISTS example_feedback;
        CREATE TABLE example_feedback (run_id uuid PRIMARY KEY REFERENCES audit.query_runs (id), stars int)",
    )
    .await?;

    let request_id = Uuid::new_v4().to_string();
    let request = info_span!("request", request_id, tenant_id = "acme", user_id = "ada");
    serve(&audit, &mut conn).instrument(request).await?;
    audit.flush(Duration::from_secs(10)).await?;

    // The story of the request, as a superuser or a member of `audit_auditor` reads it.
    let story: Vec<String> = sql::<sql_types::Text>(
        "SELECT concat_ws(' ', kind, status, error_code, user_id, what) FROM audit.request_trail(",
    )
    .bind::<sql_types::Text, _>(&request_id)
    .sql(")")
    .load(&mut conn)
    .await?;
    println!("request {request_id}:\n  {}", story.join("\n  "));
    let insert = r#"INSERT INTO "customer" ("id", "name", "city") VALUES ($1, $2, $3) -- binds:"#;
    assert_eq!(
        story,
        [
            "audit.query_run succeeded ada Who are our customers there?",
            "audit.event failed ada customers.imported",
            &format!(r#"audit.query_run succeeded ada {insert} [3, "Edsger", "Austin"]"#),
            &format!(r#"audit.query_run failed 23505 ada {insert} [1, "Barbara", "Boston"]"#),
        ]
    );
    // As long as it exists, no query run is removed: a foreign key protects all partitions.
    conn.batch_execute("DROP TABLE example_feedback").await?;
    Ok(())
}
