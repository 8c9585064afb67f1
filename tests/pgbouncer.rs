//! Behind a pooler that gives every transaction another connection, the pipeline's records are
//! there once, and its settings affect no other client.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::time::Duration;

use testkit::trail::{Folder, PATIENCE, balanced, count, once_each, pipeline};
use testkit::{Pgbouncer, Postgres, Stop, wait_until};
use tracing_audit::{Audit, Event, Health, Kind, PromptRun, QueryRun};

/// Starts a pipeline that connects through the pooler.
fn through(pooler: &Pgbouncer, postgres: &Postgres, spool: &Folder) -> Audit {
    pipeline(postgres, spool, |builder| {
        builder
            .postgres(pooler.url())
            .batch(150, Duration::from_millis(5))
    })
}

fn record(audit: &Audit, times: u32) {
    for _ in 0..times {
        audit.record(QueryRun::new("SELECT 1")).unwrap();
        audit.record(PromptRun::new("hi")).unwrap();
        audit.record(Event::new("e")).unwrap();
    }
}

#[track_caller]
fn assert_times(times: u64, postgres: &Postgres) {
    for kind in Kind::ALL {
        assert_eq!(count(postgres, kind.table_name()), times);
    }
    once_each(postgres);
}

#[test]
#[ignore = "needs pgbouncer, see .ci/run"]
fn pipelines_that_share_few_pooled_connections_commit_every_record_once() {
    for pool_size in [1, 2] {
        let postgres = Postgres::start();
        let pooler = Pgbouncer::start(&postgres, pool_size);
        let folders: Vec<_> = (0..4).map(|_| Folder::new()).collect();
        // All at once on an empty database, so that the tables are also created through the pooler.
        std::thread::scope(|scope| {
            for spool in &folders {
                scope.spawn(|| {
                    let audit = through(&pooler, &postgres, spool);
                    for _ in 0..5 {
                        record(&audit, 100);
                        audit.flush_blocking(PATIENCE).unwrap();
                    }
                });
            }
        });
        assert_times(4 * 500, &postgres);
    }
}

#[test]
#[ignore = "needs pgbouncer, see .ci/run"]
fn row_refused_behind_a_pooler_becomes_a_dead_letter() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let pooler = Pgbouncer::start(&postgres, 2);
    let audit = through(&pooler, &postgres, &spool);
    record(&audit, 1);
    audit.flush_blocking(PATIENCE).unwrap();
    postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%')",
    );
    for _ in 0..20 {
        record(&audit, 20);
        audit.record(Event::new("poison")).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().dead_lettered(), 20);
    assert_eq!(count(&postgres, "dead_letters"), 20);
    for kind in Kind::ALL {
        assert_eq!(count(&postgres, kind.table_name()), 401);
    }
    balanced(&audit, &postgres);
}

#[test]
#[ignore = "needs pgbouncer, see .ci/run"]
fn pipeline_and_other_pooler_clients_do_not_disturb_each_other() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let pooler = Pgbouncer::start(&postgres, 1);
    let mut other = pooler.session();
    let ask = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),
        current_setting('client_min_messages'), current_setting('TimeZone'), current_setting('search_path'),
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_prepared_statements)";
    let before = other.psql(ask);
    // Names that sqlx uses too, in a program that shares the only connection to the server.
    for name in ["sqlx_s_1", "sqlx_s_2", "sqlx_s_3"] {
        other.psql(&format!("PREPARE {name} AS SELECT 42"));
    }
    let audit = through(&pooler, &postgres, &spool);
    record(&audit, 1);
    audit.flush_blocking(PATIENCE).unwrap();
    record(&audit, 100);
    audit.flush_blocking(PATIENCE).unwrap();
    assert_times(101, &postgres);
    other.psql("DEALLOCATE ALL");
    assert_eq!(other.psql(ask), before);
    // A pipeline that creates no tables leaves others' statements alone.
    other.psql("PREPARE sqlx_s_1 AS SELECT 42");
    drop(audit);
    let audit = through(&pooler, &postgres, &spool);
    record(&audit, 1);
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(other.psql("EXECUTE sqlx_s_1"), "42");
    assert_times(102, &postgres);
}

#[test]
#[ignore = "needs pgbouncer, see .ci/run"]
fn restart_of_the_pooler_or_the_server_loses_no_record() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    let mut pooler = Pgbouncer::start(&postgres, 2);
    let other = Folder::new();
    let audits = [&spool, &other].map(|spool| through(&pooler, &postgres, spool));
    let mut times = 0;
    let mut record_both = |count: u32| {
        for audit in &audits {
            record(audit, count);
            times += u64::from(count);
        }
        times
    };
    record_both(1);
    for audit in &audits {
        audit.flush_blocking(PATIENCE).unwrap();
    }
    for _ in 0..2 {
        let begun = |audit: &Audit| audit.stats().batches();
        let before = audits.each_ref().map(begun);
        record_both(300);
        wait_until("batches are being written", PATIENCE, || {
            audits.each_ref().map(begun) != before
        });
        pooler.kill();
        record_both(10);
        for audit in &audits {
            wait_until("it is noticed", PATIENCE, || {
                audit.stats().health() == Health::Retrying
            });
        }
        pooler.start_again(&postgres);
        record_both(300);
        postgres.stop(Stop::Immediate);
        record_both(10);
        postgres.start_again();
        for audit in &audits {
            audit.flush_blocking(PATIENCE).unwrap();
            assert_eq!(audit.stats().dead_lettered(), 0);
        }
    }
    let times = record_both(0);
    assert_times(times, &postgres);
    for audit in &audits {
        balanced(audit, &postgres);
    }
}

#[test]
#[ignore = "needs pgbouncer, see .ci/run"]
fn tenant_set_by_one_pooler_client_does_not_leak_to_another() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let pooler = Pgbouncer::start(&postgres, 1);
    let audit = through(&pooler, &postgres, &spool);
    for tenant in ["acme", "other"] {
        audit.record(Event::new("e").tenant_id(tenant)).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    postgres.psql("CREATE ROLE dashboard LOGIN IN ROLE audit_reader");
    // Two clients that share a connection to the server.
    let mut clients = [(); 2].map(|()| pooler.session_in("readers", "anybody"));
    let seen = "SELECT coalesce(string_agg(metadata->>'tenant_key', ','), 'nothing'), pg_backend_pid() FROM audit.events";
    let mut ask = |client: usize, sql: &str| clients[client].run(sql);
    let as_acme = format!(
        "BEGIN; SET LOCAL app.current_tenant = '{}'; {seen}",
        postgres.psql("SELECT audit.tenant_uuid('acme')").trim()
    );
    let before = ask(1, seen).unwrap();
    assert!(before.starts_with("nothing|"), "{before}");
    let nothing = before.clone();
    for end in ["COMMIT", "ROLLBACK", "SELECT 1/0; COMMIT"] {
        let acme = ask(0, &as_acme).unwrap();
        assert_eq!(
            acme,
            nothing.replace("nothing", "acme"),
            "on the same connection"
        );
        let _ = ask(0, end);
        let _ = ask(0, "ROLLBACK");
        for client in [1, 0] {
            assert_eq!(ask(client, seen).unwrap(), nothing, "after {end}");
        }
    }
}
