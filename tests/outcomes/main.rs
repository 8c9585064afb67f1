//! Tests what the trail claims about a run's end and about what a record names: without evidence,
//! nothing counts as a success or as another tenant's.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod committed;
mod ends;
mod errors;
mod full_records;
mod keys;
mod returned;

use std::future::pending;
use std::time::Duration;

use serde_json::Value;
use testkit::trail::Trail;
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_audit::Kind;

/// A host's timeout. Nothing here ends by itself, so it may be as short as possible.
const SHORT: Duration = Duration::from_millis(1);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

fn run(sql: &'static str) -> Span {
    info_span!(
        "audit.query_run",
        sql_text = sql,
        row_count = Empty,
        status = Empty,
        error_code = Empty,
        error_message = Empty
    )
}

/// Returns what the trail says of each run, by its SQL.
fn outcomes(trail: &Trail) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut outcomes: Vec<_> = trail
        .rows(Kind::QueryRun)
        .iter()
        .map(|row| (text(&row["sql_text"]), text(&row["status"])))
        .collect();
    outcomes.sort();
    outcomes
}

#[track_caller]
fn assert_outcomes(trail: &Trail, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(sql, status)| ((*sql).to_owned(), (*status).to_owned()))
        .collect();
    assert_eq!(outcomes(trail), expected);
}

/// Records the number of rows so far, and never ends.
async fn goes_on() -> Result<(), String> {
    Span::current().record("row_count", 3);
    pending().await
}
