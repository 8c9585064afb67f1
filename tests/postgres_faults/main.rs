//! Whatever happens to the connection and the server, every record is in Postgres once, and no
//! manual step is needed except to undo the fault itself.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod connections;
mod crashes;
mod locks;
mod refused;
mod servers;

use std::time::Duration;

use testkit::trail::{Folder, PATIENCE, Trail, balanced, count, pipeline};
use testkit::{Postgres, wait_until};
use tracing_audit::{Audit, Builder, Event, Health, Kind, PromptRun, QueryRun};

/// Makes the server's log contain each error's SQLSTATE, and the client.
const SAY_SQLSTATES: &str = "log_line_prefix=%e %a ";

/// Makes the server refuse events of this action, by a host's constraint.
fn refuse_poison(postgres: &Postgres) {
    postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%')",
    );
}

/// Starts a server with these settings, and a pipeline whose batches only a flush completes.
fn start_with(settings: &[&str]) -> Trail {
    let (postgres, spool) = (Postgres::start_with(settings), Folder::new());
    let audit = pipeline(&postgres, &spool, by_flush);
    Trail {
        audit,
        postgres,
        spool,
    }
}

fn by_flush(builder: Builder) -> Builder {
    builder.batch(10_000, Duration::from_hours(1))
}

fn flush(audit: &Audit) {
    audit.flush_blocking(PATIENCE).unwrap();
}

/// Records one of each kind.
fn record_three(audit: &Audit) {
    audit.record(QueryRun::new("SELECT 1")).unwrap();
    audit.record(PromptRun::new("hi")).unwrap();
    audit.record(Event::new("e")).unwrap();
}

/// Returns the only partition of a table that has rows.
fn leaf(postgres: &Postgres, kind: Kind) -> String {
    postgres.psql(&format!(
        "SELECT DISTINCT tableoid::regclass FROM audit.{}",
        kind.table_name()
    ))
}

/// Returns how many partitions of the next month there are.
fn made_ahead(postgres: &Postgres) -> String {
    postgres.psql(
        "SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
         WHERE relname LIKE '%' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM') AND relkind = 'r'",
    )
}

/// Locks the whole trail for reading in a transaction that stays open, as `pg_dump` does.
const READ_ALL: &str = "BEGIN; DO $$
    DECLARE
        name text;
    BEGIN
        FOREACH name IN ARRAY audit.record_tables() LOOP
            EXECUTE format('LOCK TABLE audit.%I IN ACCESS SHARE MODE', name);
        END LOOP;
    END $$";

fn set(postgres: &Postgres, setting: &str) {
    postgres.psql(&format!("ALTER SYSTEM SET {setting}"));
    postgres.psql("SELECT pg_reload_conf()");
}

#[track_caller]
fn wait_for_health(audit: &Audit, health: Health) {
    wait_until(&format!("it is {health:?}"), PATIENCE, || {
        audit.stats().health() == health
    });
}

/// Fails unless this many records of each kind are there, once each, and none was discarded.
#[track_caller]
fn assert_three_times(times: u64, audit: &Audit, postgres: &Postgres) {
    for kind in Kind::ALL {
        assert_eq!(count(postgres, kind.table_name()), times);
    }
    assert_eq!(audit.stats().dead_lettered(), 0);
    assert_eq!(audit.stats().health(), Health::Healthy);
    balanced(audit, postgres);
}
