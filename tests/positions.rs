//! A writer's position in Postgres is compared with what was committed, and never trusted beyond
//! that.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::process::Command;
use std::time::Duration;

use testkit::child::{child, child_processes, command, kill, say, start_until_ready};
use testkit::proxy::Proxy;
use testkit::trail::{Folder, PATIENCE, Trail, assert_law, count, pipeline};
use testkit::{ADMINISTRATOR, Postgres, Session, wait_until};
use tracing::info_span;
use tracing_audit::local_log::{self, DrainError, LogState};
use tracing_audit::{
    Audit, Builder, CommitError, DropCause, Durability, Event, Health, Kind, RecordError, Stats,
};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

child_processes!(leaves_a_run_and_records, records_until_killed);

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

/// Waits until the local log holds everything while Postgres is down. An empty queue only says that
/// the worker has the records, not that they are on disk; the worker syncs before it starts a
/// flush.
fn wait_for_the_log(audit: &Audit) {
    wait_until("the queue is empty", PATIENCE, || {
        audit.stats().queue_size().0 == 0
    });
    let flushed = audit.flush_blocking(Duration::from_millis(100));
    assert!(flushed.is_err(), "Postgres is there");
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
fn restored_database_raises_an_alarm_that_names_the_lost_records() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("gone", 40));
    // The local log discards what is committed a moment later.
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
    for action in named("after", 4) {
        audit.record(Event::new(action)).unwrap();
    }
    wait_until("they are in the local log", PATIENCE, || {
        audit.stats().queue_size().0 == 0
    });
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

fn copy(folder: &Folder) -> Folder {
    let copy = Folder::new();
    let copied = Command::new("cp")
        .arg("-a")
        .args([&folder.0, &copy.0])
        .status();
    assert!(copied.unwrap().success());
    copy
}

/// Puts an open run into the local log: noticed at one check, and stored at the next.
fn store_open_run(audit: &Audit) -> tracing::Span {
    let run = info_span!("audit.query_run", sql_text = "SELECT 1");
    for n in 0..3 {
        commit(audit, [format!("look{n}")]);
    }
    empty_log(audit);
    run
}

/// Runs a program on a copy of another's log, where it ends the other's run.
fn end_in_copy(trail: &Trail) {
    let spool = copy(&trail.spool);
    let second = pipeline(&trail.postgres, &spool, |builder| builder);
    wait_until("the copy is taken over", PATIENCE, || {
        count(&trail.postgres, "query_runs") == 1
    });
    drop(second);
}

#[test]
fn batch_sent_by_a_copy_of_the_log_is_not_mistaken_for_an_own_batch() {
    let trail = Trail::start_with(required);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    let _default = tracing::subscriber::set_default(subscriber);
    let run = store_open_run(audit);
    end_in_copy(&trail);
    let old = postgres.psql("SELECT writer_id FROM audit.query_runs");
    // As long as the copy's batch.
    let lost = audit.record(Event::new("lost0")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    audit.committed_blocking(lost, PATIENCE).unwrap();
    assert_eq!(not_once(postgres, "lost", 1), "");
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(gaps(postgres), format!("position_not_ours|{old}|4|4|0"));
    agrees(audit, postgres);
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    drop(run);
}

#[test]
fn run_already_ended_by_a_copy_of_the_log_becomes_a_dead_letter() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    let _default = tracing::subscriber::set_default(subscriber);
    let run = store_open_run(audit);
    end_in_copy(&trail);
    // The same number, kind and id as the copy's.
    drop(run);
    audit.flush_blocking(PATIENCE).unwrap();
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        postgres.psql(
            "SELECT r.error_code, d.sqlstate FROM audit.query_runs r JOIN audit.dead_letters d ON d.record_id = r.id"
        ),
        "process_lost|23505"
    );
    assert_eq!(audit.stats().dead_lettered(), 1);
    agrees(audit, postgres);
}

/// Puts an open run into the log, then records while Postgres is down, until it is killed.
fn leaves_a_run_and_records() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let _run = store_open_run(&audit);
    say("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    for action in named("left", 3) {
        audit.record(Event::new(action)).unwrap();
    }
    wait_for_the_log(&audit);
    say("left");
    loop {
        std::thread::park();
    }
}

#[test]
fn records_added_after_a_copy_of_the_log_was_drained_are_committed() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = start_until_ready(
        command(child!(leaves_a_run_and_records), &postgres, &spool)
            .stdin(std::process::Stdio::piped()),
    );
    let old = writer(&postgres);
    let copied = copy(&spool);
    let mut earlier = Earlier(postgres.session_in("postgres", ADMINISTRATOR));
    earlier.alone();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    testkit::child::wait_for_word(&mut child, "left");
    kill(child);
    earlier.run("ALTER DATABASE audit ALLOW_CONNECTIONS true");
    for folder in [&copied, &spool] {
        let next = pipeline(&postgres, folder, |builder| builder);
        wait_until("the log is removed", PATIENCE, || folder.names().len() == 1);
        let _ = next.shutdown_blocking(PATIENCE);
    }
    assert_eq!(not_once(&postgres, "look", 3), "");
    assert_eq!(not_once(&postgres, "left", 3), "");
    assert_eq!(gaps(&postgres), format!("position_not_ours|{old}|4|4|0"));
}

#[test]
fn writer_deleted_while_connected_is_reported_as_lost_records() {
    let trail = Trail::start_with(required);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    let gone = commit_with_ids(audit, "gone", 40);
    empty_log(audit);
    let old = writer(postgres);
    let leaf = postgres.psql("SELECT DISTINCT tableoid::regclass FROM audit.events");
    let tables = ["audit.writers", "audit.batches", &leaf];
    let each = |statement: &str| tables.map(|table| statement.replace('%', table)).join("; ");
    // Like a restore in one transaction, or one behind a pooler.
    postgres.psql(&format!(
        "BEGIN; {}; {}; {}; COMMIT",
        each("ALTER TABLE % DISABLE TRIGGER USER"),
        each("DELETE FROM %"),
        each("ALTER TABLE % ENABLE ALWAYS TRIGGER append_only")
    ));
    commit(audit, named("after", 3));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        gaps(postgres),
        format!("database_lost_records|{old}|1|40|40")
    );
    assert_eq!(audit.stats().dropped_by(DropCause::DatabaseLost), 40);
    for id in gone {
        let committed = audit.committed_blocking(id, PATIENCE);
        assert_eq!(committed, Err(CommitError::Lost));
    }
    assert_eq!(not_once(postgres, "after", 3), "");
    agrees(audit, postgres);
}

#[test]
fn dead_letters_lost_by_the_database_are_no_longer_counted() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%')",
    );
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("poison", 4));
    commit(audit, named("gone", 3));
    assert_eq!(audit.stats().dead_lettered(), 4);
    empty_log(audit);
    earlier.restore();
    commit(audit, named("after", 2));
    commit(audit, named("poison_again", 1));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().dropped_by(DropCause::DatabaseLost), 7);
    assert_eq!(audit.stats().dead_lettered(), 1);
    assert_eq!(count(postgres, "dead_letters"), 1);
    agrees(audit, postgres);
}

#[test]
fn database_restored_twice_reports_the_lost_records_of_each_writer() {
    let trail = Trail::start_with(required);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    let kept = commit_with_ids(audit, "kept", 2);
    let mut earlier = Earlier::take(postgres);
    let gone = commit_with_ids(audit, "gone", 3);
    let first = writer(postgres);
    earlier.keep("later");
    commit(audit, named("lost", 40));
    empty_log(audit);
    earlier.restore_from("later");
    commit(audit, named("between", 30));
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    let told = format!("database_lost_records|{first}|6|45|40");
    assert_eq!(gaps(postgres), told);
    let second = writer(postgres);
    empty_log(audit);
    earlier.restore_from("earlier");
    commit(audit, named("after", 3));
    // A gap that was reported in a lost row is reported again.
    wait_until("the trail says so", PATIENCE, || {
        gaps(postgres).lines().count() >= 3
    });
    audit.flush_blocking(PATIENCE).unwrap();
    let gaps = gaps(postgres);
    let mut gaps: Vec<_> = gaps.lines().collect();
    let mut expected = [
        told,
        format!("database_lost_records|{first}|3|5|3"),
        format!("database_lost_records|{second}|1|31|31"),
    ];
    gaps.sort_unstable();
    expected.sort_unstable();
    assert_eq!(gaps, expected);
    assert_eq!(audit.stats().dropped_by(DropCause::DatabaseLost), 74);
    assert_eq!(not_once(postgres, "kept", 2), "");
    assert_eq!(not_once(postgres, "after", 3), "");
    agrees(audit, postgres);
    for id in kept {
        audit.committed_blocking(id, PATIENCE).unwrap();
    }
    for id in gone {
        let committed = audit.committed_blocking(id, PATIENCE);
        assert_eq!(committed, Err(CommitError::Lost));
    }
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

/// Records until it is killed.
fn records_until_killed() -> ! {
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
    wait_for_the_log(&audit);
    say("left");
    loop {
        std::thread::park();
    }
}

#[test]
fn orphaned_log_is_committed_again_when_the_database_has_lost_its_writer() {
    let postgres = Postgres::start();
    let spool = Folder::new();
    tracing_audit::migrate(&postgres.url()).unwrap();
    // Before the writer was registered at all.
    let mut earlier = Earlier::take(&postgres);
    let mut child = start_until_ready(
        command(child!(records_until_killed), &postgres, &spool)
            .stdin(std::process::Stdio::piped()),
    );
    let old = writer(&postgres);
    earlier.alone();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    testkit::child::wait_for_word(&mut child, "left");
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
fn a_disagreement_that_a_drained_log_reports_is_an_alarm_of_the_program_that_takes_it_over() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("gone", 3));
    empty_log(audit);
    earlier.alone();
    for action in named("left", 3) {
        audit.record(Event::new(action)).unwrap();
    }
    assert_eq!(audit.shutdown_blocking(Duration::ZERO).spooled, 3);
    earlier.restore();
    let folder = trail.spool.0.join(trail.spool.names().pop().unwrap());
    // However often: it cannot tell of the loss itself.
    for records in [3, 0] {
        let drained = local_log::drain(&folder, &postgres.url(), |_| ());
        assert!(
            matches!(&drained, Err(DrainError::Disputed { records: written }) if *written == records),
            "{drained:?}"
        );
        let listed = local_log::list(&folder).unwrap();
        let LogState::Free(contents) = &listed[0].state else {
            panic!("{listed:?}");
        };
        assert_eq!(contents.for_postgres, 0, "all is written");
    }
    assert_eq!(gaps(postgres), "");
    let next = pipeline(postgres, &trail.spool, |builder| builder);
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    wait_until("the log is removed", PATIENCE, || {
        trail.spool.names().len() == 1
    });
    assert_eq!(gaps(postgres), format!("database_lost_records|{old}|6|8|3"));
    assert_eq!(next.stats().inconsistencies(), 1);
    assert_eq!(next.stats().health(), Health::Inconsistent);
    assert_eq!(not_once(postgres, "left", 3), "");
}

#[test]
fn a_loss_that_is_found_during_a_shutdown_is_reported_by_the_next_program() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("gone", 3));
    empty_log(audit);
    earlier.alone();
    audit.record(Event::new("after0")).unwrap();
    wait_for_the_log(audit);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| audit.shutdown_blocking(PATIENCE));
        wait_until("it takes no records any more", PATIENCE, || {
            let refused = audit.record(Event::new("late"));
            refused == Err(RecordError::ShutDown)
        });
        earlier.restore();
        stopping.join().unwrap();
    });
    assert_eq!(not_once(postgres, "after", 1), "");
    let next = pipeline(postgres, &trail.spool, |builder| builder);
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    wait_until("the log is removed", PATIENCE, || {
        trail.spool.names().len() == 1
    });
    assert_eq!(gaps(postgres), format!("database_lost_records|{old}|6|8|3"));
    assert_eq!(next.stats().health(), Health::Inconsistent);
}

#[test]
fn a_program_that_records_nothing_more_notices_a_loss_when_it_is_shut_down() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    commit(audit, named("before", 5));
    let old = writer(postgres);
    let mut earlier = Earlier::take(postgres);
    commit(audit, named("gone", 3));
    empty_log(audit);
    earlier.restore();
    audit.shutdown_blocking(PATIENCE);
    let stats = audit.stats();
    assert_eq!(stats.dropped_by(DropCause::DatabaseLost), 3, "{stats:?}");
    assert_eq!(stats.committed(), 5, "{stats:?}");
    let next = pipeline(postgres, &trail.spool, |builder| builder);
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    assert_eq!(gaps(postgres), format!("database_lost_records|{old}|6|8|3"));
    drop(next);
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
