//! tokio-postgres with an audit trail: statements that succeed, one that Postgres refuses, and a
//! transaction whose row keeps the id of its record.
//!
//! `DATABASE_URL=postgres://postgres@localhost/postgres cargo run -p example-tokio-postgres`
#![allow(clippy::print_stdout, reason = "an example is a program")]

use std::time::Duration;

use tokio_postgres::{Client, Error, GenericClient, NoTls, Row, types::ToSql};
use tracing::{Instrument, Span, field::Empty, info_span};
use tracing_audit::{AuditFutureExt, AuditSpanExt, sqlstate};
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};
use uuid::Uuid;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Runs a statement that returns rows. `client` is a connection or a transaction.
async fn query(
    client: &impl GenericClient,
    sql: &str,
    params: Params<'_>,
) -> Result<Vec<Row>, Error> {
    let span = info_span!("audit.query_run", sql_text = sql, row_count = Empty);
    let rows = client.query(sql, params).audited(span.clone()).await?;
    span.record("row_count", rows.len());
    Ok(rows)
}

/// Runs a statement that changes rows.
async fn execute(client: &impl GenericClient, sql: &str, params: Params<'_>) -> Result<u64, Error> {
    let span = info_span!("audit.query_run", sql_text = sql, rows_affected = Empty);
    let rows = client.execute(sql, params).audited(span.clone()).await?;
    span.record("rows_affected", rows);
    Ok(rows)
}

/// Places an order in a transaction. The statements' records are children of this one, which is a
/// success once the transaction is committed.
///
/// The order's row keeps the id of this record. It has no foreign key: the record is written after
/// its span has closed, so it is not in Postgres yet when this transaction commits.
async fn place_order(client: &mut Client, item: &str) -> Result<i32, Error> {
    let event = info_span!(
        "audit.event",
        action_type = "order.placed",
        target_type = "order",
        target_id = Empty
    );
    let audit_id = event.audit_id();
    let place = async {
        let transaction = client.transaction().await?;
        let take = "UPDATE stock SET amount = amount - 1 WHERE item = $1";
        execute(&transaction, take, &[&item]).await?;
        let add = "INSERT INTO orders (item, audit_id) VALUES ($1, $2) RETURNING id";
        let rows = query(&transaction, add, &[&item, &audit_id]).await?;
        transaction.commit().await?;
        let order: i32 = rows[0].get(0);
        Span::current().record("target_id", order);
        Ok(order)
    };
    place.audited(event).await
}

async fn serve(client: &mut Client) -> Result<i32, Error> {
    query(client, "SELECT item FROM stock WHERE amount > $1", &[&0]).await?;
    let order = place_order(client, "bell").await?;
    // There is no bell left. Postgres refuses the update, and the transaction is rolled back.
    if let Err(error) = place_order(client, "bell").await {
        println!("the second order is refused: {:?}", sqlstate(&error));
    }
    Ok(order)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let audit = tracing_audit::from_env()?;
    let terminal = fmt::layer().with_filter(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(terminal)
        .init();

    let (mut client, connection) =
        tokio_postgres::connect(&std::env::var("DATABASE_URL")?, NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE TEMP TABLE stock (item text PRIMARY KEY, amount int CHECK (amount >= 0));
            CREATE TEMP TABLE orders (id serial PRIMARY KEY, item text, audit_id uuid);
            INSERT INTO stock VALUES ('bell', 1), ('lamp', 5)",
        )
        .await?;

    let request_id = Uuid::new_v4().to_string();
    let request = info_span!("request", request_id, tenant_id = "acme", user_id = "ada");
    let order = serve(&mut client).instrument(request).await?;
    audit.flush(Duration::from_secs(10)).await?;

    // The story of the request, as a superuser or a member of `audit_auditor` reads it.
    let sql = "SELECT concat_ws(' ', kind, status, error_code, user_id, what)
        FROM audit.request_trail($1)";
    let rows = client.query(sql, &[&request_id]).await?;
    let story: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    println!("request {request_id}:\n  {}", story.join("\n  "));
    assert_eq!(
        story,
        [
            "audit.query_run succeeded ada SELECT item FROM stock WHERE amount > $1",
            "audit.event succeeded ada order.placed",
            "audit.query_run succeeded ada UPDATE stock SET amount = amount - 1 WHERE item = $1",
            "audit.query_run succeeded ada INSERT INTO orders (item, audit_id) VALUES ($1, $2) RETURNING id",
            "audit.event failed 23514 ada order.placed",
            "audit.query_run failed 23514 ada UPDATE stock SET amount = amount - 1 WHERE item = $1",
        ]
    );

    // Who placed the order: its row leads to the record.
    let sql = "SELECT user_id FROM orders JOIN audit.events ON events.id = audit_id
        WHERE orders.id = $1 AND events.target_id = $1::text";
    let row = client.query_one(sql, &[&order]).await?;
    println!("order {order} was placed by {}", row.get::<_, &str>(0));
    assert_eq!(row.get::<_, &str>(0), "ada");
    Ok(())
}
