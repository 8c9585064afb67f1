//! Every field that an application sets in spans is in Postgres as it was set.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod columns;
mod context;
mod filters;
mod outcomes;
mod subscribers;
mod values;

use serde_json::Value;

const TENANT: &str = "6f3b8a52-7c1d-4e9a-9b0e-2f4d5c6b7a81";
const AGENT: &str = "0b7d8a52-7c1d-4e9a-9b0e-2f4d5c6b7a82";
const SESSION: &str = "1c7d8a52-7c1d-4e9a-9b0e-2f4d5c6b7a83";

/// Returns the fields of a row that the test compares.
fn of(row: &Value, names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), row[*name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
