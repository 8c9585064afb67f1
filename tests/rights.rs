//! Who may do what to the trail: every role, every verb, every object, and attempts to get around
//! it.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

#[path = "rights/archives.rs"]
mod archives;
#[path = "rights/attacks.rs"]
mod attacks;
#[path = "rights/holds.rs"]
mod holds;
#[path = "rights/hosts.rs"]
mod hosts;
#[path = "rights/intervals.rs"]
mod intervals;
#[path = "rights/learned.rs"]
mod learned;
#[path = "rights/locks.rs"]
mod locks;
#[path = "rights/matrix/mod.rs"]
mod matrix;
#[path = "rights/migration.rs"]
mod migration;
#[path = "rights/partitions.rs"]
mod partitions;
#[path = "rights/references.rs"]
mod references;
#[path = "rights/retention.rs"]
mod retention;
#[path = "rights/settle.rs"]
mod settle;
#[path = "rights/strangers.rs"]
mod strangers;
#[path = "rights/tenants.rs"]
mod tenants;
#[path = "rights/writers.rs"]
mod writers;

use testkit::{Postgres, Session};

/// The record tables, each with its time column.
const RECORDS: [(&str, &str); 4] = [
    ("query_runs", "started_at"),
    ("prompt_runs", "created_at"),
    ("events", "created_at"),
    ("activities", "created_at"),
];

/// Starts a server with the trail's tables, created by a superuser.
fn migrated() -> Postgres {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres
}

/// Creates a login that is a member of a role of the trail, or of none, and connects as it.
fn login(postgres: &Postgres, name: &str, role: Option<&str>) -> Session {
    let member_of = role.map_or_else(String::new, |role| format!("IN ROLE {role}"));
    postgres.psql(&format!("CREATE ROLE {name} LOGIN {member_of}"));
    postgres.session(name)
}

/// Returns the SQLSTATE of an error that a session returned.
fn sqlstate(error: &str) -> &str {
    error.split(": ").nth(1).unwrap_or_default()
}

/// Fails unless the server refuses the statement with this SQLSTATE.
#[track_caller]
fn refused(session: &mut Session, state: &str, sql: &str) -> String {
    let error = session
        .run(sql)
        .err()
        .unwrap_or_else(|| panic!("this is not refused: {sql}"));
    assert_eq!(sqlstate(&error), state, "{error}\nin {sql}");
    error
}

/// Runs a statement that must succeed, and returns its result.
#[track_caller]
fn allowed(session: &mut Session, sql: &str) -> String {
    session
        .run(sql)
        .unwrap_or_else(|error| panic!("{error}\nin {sql}"))
}
