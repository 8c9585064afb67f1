//! What the trail reports about records it could not keep, about runs that never ended, and about
//! required records.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod damaged_log;
mod drops;
mod filters;
#[cfg(target_os = "linux")]
mod full_disk;
mod in_flight;
mod required;

use serde_json::Value;
use testkit::Postgres;
use testkit::trail::rows;
use tracing_audit::Kind;

fn gaps(postgres: &Postgres) -> Vec<Value> {
    rows(postgres, Kind::Event)
        .into_iter()
        .filter(|row| row["action_type"] == "audit.gap")
        .collect()
}
