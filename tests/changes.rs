//! Changes of a host's tables: who changed which row, from what to what.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

#[path = "changes/context.rs"]
mod context;
#[path = "changes/events.rs"]
mod events;
#[path = "changes/history.rs"]
mod history;
#[path = "changes/hostile.rs"]
mod hostile;
#[path = "changes/options.rs"]
mod options;
#[path = "changes/plans.rs"]
mod plans;
#[path = "changes/restore.rs"]
mod restore;
#[path = "changes/tables.rs"]
mod tables;
#[path = "changes/transactions.rs"]
mod transactions;
#[path = "changes/types.rs"]
mod types;

use testkit::{Postgres, Session};

/// Starts a server with the trail's tables and no program that writes to it.
fn migrated() -> Postgres {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres
}

/// Starts a server with the trail and with a table `items`, which is tracked.
fn tracked() -> Postgres {
    let postgres = migrated();
    postgres.psql("CREATE TABLE items (id int PRIMARY KEY, name text, size int)");
    postgres.psql("SELECT audit.track('items')");
    postgres
}

/// Creates a login that is a member of a role of the trail, or of none, and connects as it.
fn login(postgres: &Postgres, name: &str, role: Option<&str>) -> Session {
    let member_of = role.map_or_else(String::new, |role| format!("IN ROLE {role}"));
    postgres.psql(&format!("CREATE ROLE {name} LOGIN {member_of}"));
    postgres.session(name)
}

/// Creates a login with a schema `app` of its own, which may track tables.
fn owner(postgres: &Postgres) -> Session {
    let mut session = login(postgres, "app", Some("audit_writer"));
    postgres.psql("CREATE SCHEMA app AUTHORIZATION app");
    session.psql("SET search_path = app");
    session
}

/// Returns the number of the last statement whose changes were recorded.
fn last_number(postgres: &Postgres) -> u64 {
    let number = postgres
        .psql("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM audit.change_numbers");
    number.parse().unwrap()
}

/// Returns the events of changes after a number, a line for each: operation, table, key, changes, and what else it says.
fn changes_after(postgres: &Postgres, number: u64) -> String {
    postgres.psql(&format!(
        "SELECT concat_ws(' ', metadata ->> 'operation', target_type, target_id, metadata -> 'changes',
            '-> ' || (metadata ->> 'moved_to'), '<- ' || (metadata ->> 'moved_from'), 'rows=' || (metadata ->> 'rows'),
            'in ' || (metadata ->> 'partition'))
         FROM audit.events WHERE metadata ? 'changes' AND (metadata ->> 'number')::bigint > {number}
         ORDER BY (metadata ->> 'number')::bigint, seq"
    ))
}

/// Runs statements that must succeed, and returns the changes that they recorded, as [`changes_after`] does.
#[track_caller]
fn changes_by(postgres: &Postgres, session: &mut Session, sql: &str) -> String {
    let before = last_number(postgres);
    session.psql(sql);
    changes_after(postgres, before)
}

/// Like [`changes_by`], for a superuser.
#[track_caller]
fn changes(postgres: &Postgres, sql: &str) -> String {
    let before = last_number(postgres);
    postgres.psql(sql);
    changes_after(postgres, before)
}

/// Fails unless the server refuses the statement with this SQLSTATE; returns the error, with its hint.
#[track_caller]
fn refused(session: &mut Session, state: &str, sql: &str) -> String {
    let error = session
        .run(sql)
        .err()
        .unwrap_or_else(|| panic!("this is not refused: {sql}"));
    assert_eq!(error.split(": ").nth(1), Some(state), "{error}\nin {sql}");
    format!("{error}\n{}", session.told())
}
