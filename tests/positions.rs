//! What Postgres says of where a writer stands is compared with what was committed, and never
//! believed beyond that.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod support;

use std::process::Command;
use std::time::Duration;

use support::child::{command, is_child, kill, say, start_until_ready};
use support::trail::{Folder, PATIENCE, Trail, assert_law, count, pipeline};
use support::{ADMINISTRATOR, Postgres, Session, wait_until};
use tracing_audit::{Audit, DropCause, Event, Health, Stats};

/// Records events and waits until they are committed.
fn commit(audit: &Audit, actions: impl IntoIterator<Item = String>) {
    for action in actions {
        audit.record(Event::new(action)).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
}

fn named(prefix: &str, count: u32) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

/// The writer of the batch that was committed last.
fn writer(postgres: &Postgres) -> String {
    postgres.psql("SELECT writer_id FROM audit.batches ORDER BY committed_at DESC LIMIT 1")
}

/// The rows that say that something is missing, without their time.
fn gaps(postgres: &Postgres) -> String {
    postgres.psql(
        "SELECT error_code, metadata->>'writer_id', metadata->>'first_seq', metadata->>'last_seq', metadata->>'records_lost'
         FROM audit.events WHERE action_type = 'audit.gap' ORDER BY created_at, id",
    )
}

/// Events of a name that are not there exactly once.
fn not_once(postgres: &Postgres, prefix: &str, expected: u32) -> String {
    postgres.psql(&format!(
        "SELECT n, count(e.id) FROM generate_series(0, {expected} - 1) n LEFT JOIN audit.events e ON e.action_type = '{prefix}' || n
         GROUP BY n HAVING count(e.id) <> 1 ORDER BY n"
    ))
}

/// What is committed by the stats is there, and nothing else is said to be.
#[track_caller]
fn agrees(audit: &Audit, postgres: &Postgres) {
    assert_law(audit);
    let stats = audit.stats();
    assert_eq!(stats.committed(), count(postgres, "events"), "{stats:?}");
    assert_eq!(stats.pending(), 0, "{stats:?}");
}

#[test]
fn a_position_beyond_what_was_sent_is_an_alarm_and_never_committed() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    // As an administrator may, whom no function stops.
    postgres.psql(&format!(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, query_runs, prompt_runs, events, dead_letters, library_version)
         SELECT '{old}', audit.writer_position('{old}'), audit.writer_position('{old}') + 999998, 999999, 0, 0, 0, ''"
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
    // It stays so, and new records are committed as always.
    commit(audit, named("later", 3));
    assert_ne!(writer(postgres), old);
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    agrees(audit, postgres);
}

#[test]
fn a_writer_that_is_anothers_in_the_database_is_given_up_for_a_new_one() {
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
    // As often as it happens.
    postgres.psql("UPDATE audit.writers SET secret_sha256 = sha256('')");
    commit(audit, named("later", 5));
    wait_until("the trail says so", PATIENCE, || {
        gaps(postgres).lines().count() == 2
    });
    agrees(audit, postgres);
}

/// A database that is replaced by what it was earlier, as by a restore and two renames.
struct Earlier(Session);

impl Earlier {
    fn take(postgres: &Postgres) -> Self {
        let mut earlier = Self(postgres.session_in("postgres", ADMINISTRATOR));
        earlier.alone();
        earlier.run("CREATE DATABASE earlier TEMPLATE audit");
        earlier.run("ALTER DATABASE audit ALLOW_CONNECTIONS true");
        earlier
    }

    #[track_caller]
    fn run(&mut self, sql: &str) {
        self.0.run(sql).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Ends every connection to the database, and lets none come.
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
        self.alone();
        self.run("ALTER DATABASE audit RENAME TO later");
        self.run("ALTER DATABASE earlier RENAME TO audit");
    }
}

#[test]
fn a_database_that_is_restored_to_an_earlier_state_is_an_alarm_with_what_is_lost() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("gone", 40));
    // What is committed goes from the local log a moment later.
    wait_until("the local log is empty", PATIENCE, || {
        audit.record(Event::new("more")).unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
        audit.stats().spool_bytes() < 500
    });
    let known = audit.stats().committed();
    earlier.restore();
    commit(audit, named("after", 30));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    let lost = audit.stats().dropped_by(DropCause::DatabaseLost);
    assert!(lost >= 40, "{:?}", audit.stats());
    assert_eq!(
        gaps(postgres),
        format!("database_lost_records|{old}|6|{known}|{lost}")
    );
    assert_eq!(not_once(postgres, "before", 5), "");
    assert_eq!(not_once(postgres, "after", 30), "");
    agrees(audit, postgres);
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    assert_ne!(writer(postgres), old);
}

/// Records until it is killed.
fn record_until_killed() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    for n in 0..20 {
        audit.record(Event::new(format!("before{n}"))).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    say("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    for n in 0..20 {
        audit.record(Event::new(format!("left{n}"))).unwrap();
    }
    // No flush: Postgres is not there.
    wait_until("they are in the local log", PATIENCE, || {
        audit.stats().queue_size().0 == 0
    });
    say("left");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_log_that_is_taken_over_is_written_again_to_a_database_that_has_lost_its_writer() {
    if is_child() {
        record_until_killed();
    }
    let postgres = Postgres::start();
    let spool = Folder::new();
    tracing_audit::migrate(&postgres.url()).unwrap();
    // Before the writer was known at all.
    let mut earlier = Earlier::take(&postgres);
    let mut child = start_until_ready(
        command(
            "a_log_that_is_taken_over_is_written_again_to_a_database_that_has_lost_its_writer",
            &postgres,
            &spool,
        )
        .stdin(std::process::Stdio::piped()),
    );
    let old = writer(&postgres);
    earlier.alone();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    support::child::wait_for_word(&mut child, "left");
    kill(child);
    earlier.restore();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("the log is taken over", PATIENCE, || {
        audit.stats().adopted() >= 20
    });
    wait_until("the trail says so", PATIENCE, || {
        !gaps(&postgres).is_empty()
    });
    assert_eq!(not_once(&postgres, "left", 20), "");
    assert!(
        gaps(&postgres).starts_with(&format!("database_lost_records|{old}|1|20|")),
        "{}",
        gaps(&postgres)
    );
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    wait_until("the log is removed", PATIENCE, || spool.names().len() == 1);
}

#[test]
fn health_is_not_healthy_while_the_oldest_record_waits_for_long() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    assert_eq!(audit.stats().oldest_pending(), None);
    // As over a connection that is black-holed: what is sent is never answered, and nobody says so.
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
    // Well before the exchange is given up.
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
