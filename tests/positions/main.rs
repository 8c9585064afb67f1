//! A writer's position in Postgres is compared with what was committed, and never trusted beyond
//! that.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod copies;
mod killed;
mod restores;

use std::process::Command;
use std::time::Duration;

use testkit::proxy::Proxy;
use testkit::trail::{
    Folder, PATIENCE, Trail, assert_law, count, pipeline, record_and_wait_until_stored,
};
use testkit::{ADMINISTRATOR, Postgres, Session, wait_until};
use tracing_audit::{Audit, Builder, Durability, Event, Health, Kind, Stats};
use uuid::Uuid;

/// Records events and waits until they are committed.
fn commit(audit: &Audit, actions: impl IntoIterator<Item = String>) {
    for action in actions {
        audit.record(Event::new(action)).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
}

/// Like [`commit`]; returns the ids.
fn commit_with_ids(audit: &Audit, prefix: &str, count: u32) -> Vec<Uuid> {
    let ids = named(prefix, count)
        .into_iter()
        .map(|action| audit.record(Event::new(action)).unwrap())
        .collect();
    audit.flush_blocking(PATIENCE).unwrap();
    ids
}

fn required(builder: Builder) -> Builder {
    builder.durability(Kind::Event, Durability::Required)
}

/// Waits until the local log has discarded what is committed, which happens a moment later.
fn empty_log(audit: &Audit) {
    wait_until("the local log is empty", PATIENCE, || {
        audit.stats().spool_bytes() == 0
    });
}

fn named(prefix: &str, count: u32) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

/// Returns the writer of the last committed batch.
fn writer(postgres: &Postgres) -> String {
    postgres.psql("SELECT writer_id FROM audit.batches ORDER BY committed_at DESC LIMIT 1")
}

/// Returns the rows that report missing records, without their time.
fn gaps(postgres: &Postgres) -> String {
    postgres.psql(
        "SELECT error_code, metadata->>'writer_id', metadata->>'first_seq', metadata->>'last_seq', metadata->>'records_lost'
         FROM audit.events WHERE action_type = 'audit.gap' ORDER BY created_at, id",
    )
}

/// Returns the events of a name that do not exist exactly once.
fn not_once(postgres: &Postgres, prefix: &str, expected: u32) -> String {
    postgres.psql(&format!(
        "SELECT n, count(e.id) FROM generate_series(0, {expected} - 1) n LEFT JOIN audit.events e ON e.action_type = '{prefix}' || n
         GROUP BY n HAVING count(e.id) <> 1 ORDER BY n"
    ))
}

/// Fails unless the records that the stats count as committed are there, and only those.
#[track_caller]
fn agrees(audit: &Audit, postgres: &Postgres) {
    assert_law(audit);
    let stats = audit.stats();
    assert_eq!(stats.committed(), count(postgres, "events"), "{stats:?}");
    assert_eq!(stats.pending(), 0, "{stats:?}");
}

#[test]
fn position_beyond_the_sent_records_raises_an_alarm_and_confirms_no_record() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    // An administrator can do this: no function prevents it.
    postgres.psql(&format!(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version)
         SELECT '{old}', audit.writer_position('{old}'), audit.writer_position('{old}') + 999998, '{{\"query_runs\": 999999}}', 0, ''"
    ));
    commit(audit, named("after", 30));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        gaps(postgres),
        format!("position_not_ours|{old}|6|1000004|0")
    );
    assert_eq!(not_once(postgres, "before", 5), "");
    assert_eq!(not_once(postgres, "after", 30), "");
    agrees(audit, postgres);
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    assert_eq!(audit.stats().inconsistencies(), 1);
    // The state stays, and new records are committed as usual.
    commit(audit, named("later", 3));
    assert_ne!(writer(postgres), old);
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    agrees(audit, postgres);
}

#[test]
fn writer_with_a_foreign_secret_in_the_database_is_replaced_by_a_new_writer() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    postgres.psql(
        "ALTER TABLE audit.writers DISABLE TRIGGER USER; UPDATE audit.writers SET secret_sha256 = sha256('')",
    );
    commit(audit, named("after", 30));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(gaps(postgres), format!("writer_not_ours|{old}|6|5|0"));
    assert_eq!(not_once(postgres, "before", 5), "");
    assert_eq!(not_once(postgres, "after", 30), "");
    agrees(audit, postgres);
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    assert_ne!(writer(postgres), old);
    // It works each time this happens.
    postgres.psql("UPDATE audit.writers SET secret_sha256 = sha256('')");
    commit(audit, named("later", 5));
    wait_until("the trail says so", PATIENCE, || {
        gaps(postgres).lines().count() == 2
    });
    agrees(audit, postgres);
}

/// A database that is replaced by an earlier copy, as by a restore and two renames.
struct Earlier(Session);

impl Earlier {
    fn take(postgres: &Postgres) -> Self {
        let mut earlier = Self(postgres.session_in("postgres", ADMINISTRATOR));
        earlier.keep("earlier");
        earlier
    }

    /// Copies the database as it is now.
    fn keep(&mut self, name: &str) {
        self.alone();
        self.run(&format!("CREATE DATABASE {name} TEMPLATE audit"));
        self.run("ALTER DATABASE audit ALLOW_CONNECTIONS true");
    }

    #[track_caller]
    fn run(&mut self, sql: &str) {
        self.0.run(sql).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Closes every connection to the database, and refuses new ones.
    fn alone(&mut self) {
        self.run("ALTER DATABASE audit ALLOW_CONNECTIONS false");
        wait_until("nobody is connected", PATIENCE, || {
            let ended = self.0.run(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'audit'",
            );
            ended.unwrap() == "0"
        });
    }

    fn restore(&mut self) {
        self.restore_from("earlier");
    }

    fn restore_from(&mut self, name: &str) {
        self.alone();
        self.run(&format!("ALTER DATABASE audit RENAME TO after_{name}"));
        self.run(&format!("ALTER DATABASE {name} RENAME TO audit"));
    }
}

#[test]
fn commit_that_completes_after_its_connection_is_lost_is_recognized_as_own() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let proxy = Proxy::start(postgres.port());
    let audit = pipeline(&postgres, &spool, |builder| {
        required(builder).postgres(proxy.url())
    });
    commit(&audit, named("before", 3));
    // A synchronous replica that is down.
    postgres.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    postgres.psql("SELECT pg_reload_conf()");
    let sent: Vec<_> = named("sent", 5)
        .into_iter()
        .map(|action| audit.record(Event::new(action)).unwrap())
        .collect();
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    let waiting = |event: &str| {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND {event}"
        );
        postgres.psql(&count) == "1"
    };
    wait_until("COMMIT waits", PATIENCE, || {
        waiting("wait_event = 'SyncRep'")
    });
    // The next attempt has a longer batch.
    for action in named("after", 3) {
        audit.record(Event::new(action)).unwrap();
    }
    record_and_wait_until_stored(&audit, "after3");
    proxy.cut();
    wait_until("the next attempt waits for that", PATIENCE, || {
        waiting("wait_event_type = 'Lock' AND query LIKE 'SELECT audit.add_batch%'")
    });
    postgres.psql("ALTER SYSTEM RESET synchronous_standby_names");
    postgres.psql("SELECT pg_reload_conf()");
    audit.flush_blocking(PATIENCE).unwrap();
    for (prefix, count) in [("before", 3), ("sent", 5), ("after", 4)] {
        assert_eq!(not_once(&postgres, prefix, count), "");
    }
    assert_eq!(gaps(&postgres), "");
    for id in sent {
        audit.committed_blocking(id, PATIENCE).unwrap();
    }
    assert_eq!(audit.stats().committed(), 12);
    assert_eq!(audit.stats().dead_lettered(), 0);
    assert_eq!(audit.stats().health(), Health::Healthy);
    agrees(&audit, &postgres);
}

#[test]
fn foreign_batch_at_the_maximum_position_does_not_stop_the_pipeline() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    postgres.psql(&format!(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version)
         VALUES ('{old}', 9223372034707292161, 9223372036854775807, '{{\"events\": 2147483647}}', 0, '')"
    ));
    commit(audit, named("after", 30));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert!(
        gaps(postgres).starts_with(&format!("position_not_ours|{old}|")),
        "{}",
        gaps(postgres)
    );
    assert_eq!(not_once(postgres, "before", 5), "");
    assert_eq!(not_once(postgres, "after", 30), "");
    agrees(audit, postgres);
}

#[test]
fn health_is_lagging_while_the_oldest_record_waits_too_long() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    assert_eq!(audit.stats().oldest_pending(), None);
    // Like a connection that is black-holed: what is sent is never answered, and no error is
    // reported.
    let signal = |name: &str| {
        let backends = postgres.psql(
            "SELECT pid FROM pg_stat_activity WHERE datname = 'audit' AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        );
        for backend in backends.lines() {
            assert!(
                Command::new("kill")
                    .args([name, backend])
                    .status()
                    .unwrap()
                    .success()
            );
        }
    };
    signal("-STOP");
    audit.record(Event::new("waits")).unwrap();
    // Well before the exchange times out.
    wait_until("it is said", Duration::from_secs(40), || {
        let health = audit.stats().health();
        assert!(
            matches!(health, Health::Healthy | Health::Lagging),
            "{health:?}"
        );
        health == Health::Lagging
    });
    let age = audit.stats().oldest_pending().unwrap();
    assert!(age > Stats::LAGGING_AFTER, "{age:?}");
    signal("-CONT");
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().health(), Health::Healthy);
    assert_eq!(audit.stats().oldest_pending(), None);
}
