//! What the real libraries emit, as rows of a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on ends"
)]

mod http;
mod rig;
mod spans;
mod sqlx;
mod stacks;

use serde_json::Value;
use testkit::Postgres;
use testkit::trail::{PATIENCE, Trail};

/// Returns what the rows say that `columns` selects, in the order in which the records began.
fn select(postgres: &Postgres, columns: &str, table: &str) -> Vec<Value> {
    let rows = postgres.psql(&format!(
        "SELECT to_jsonb(t) FROM (SELECT {columns} FROM audit.{table} ORDER BY id) t"
    ));
    rows.lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

/// Waits until all is written, and selects.
fn rows(trail: &Trail, columns: &str, table: &str) -> Vec<Value> {
    trail
        .audit
        .flush_blocking(PATIENCE)
        .expect("all is committed");
    select(&trail.postgres, columns, table)
}

/// Runs a future with our layer alone as the thread's subscriber.
fn scoped<T>(trail: &Trail, future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    trail.scoped(|| runtime.block_on(future))
}
