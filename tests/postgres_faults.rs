//! Whatever happens to the connection and the server, every record is in Postgres once, and no
//! manual step is needed except to undo the fault itself.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::HashSet;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use testkit::child::{alone, child, child_processes};
use testkit::heard::hear;
use testkit::proxy::{Proxy, Way};
use testkit::trail::{Folder, PATIENCE, Trail, balanced, count, pipeline, rows};
use testkit::{ADMINISTRATOR, Postgres, Stop, wait_until};
use tracing::info_span;
use tracing_audit::{Audit, AuditSpanExt, Builder, Event, Health, Kind, PromptRun, QueryRun};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

child_processes!(
    logs_a_fault_that_an_administrator_must_mend,
    sets_its_subscriber_after_a_fault,
    closes_a_span_whose_id_is_taken,
);

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
const READ_ALL: &str = "BEGIN; LOCK TABLE audit.query_runs, audit.prompt_runs, audit.events, audit.activities IN ACCESS SHARE MODE";

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

// Connections that are cut --------------------------------------------------------

/// A pipeline behind a proxy, whose exchanges with the server all have the same length.
struct Cut {
    audit: Audit,
    proxy: Proxy,
    postgres: Postgres,
    _spool: Folder,
}

impl Cut {
    fn start() -> Self {
        Self::start_with(by_flush)
    }

    fn start_with(configure: impl FnOnce(Builder) -> Builder) -> Self {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let proxy = Proxy::start(postgres.port());
        let audit = pipeline(&postgres, &spool, |builder| {
            configure(builder).postgres(proxy.url())
        });
        // From here on, and for long, every seq has the same number of digits.
        for _ in 0..9_999 {
            audit.record(Event::new("first")).unwrap();
        }
        flush(&audit);
        Self {
            audit,
            proxy,
            postgres,
            _spool: spool,
        }
    }

    /// Cuts the connection at byte after byte of what `exchange` sends in either direction, each
    /// time followed by a flush that must succeed; returns how often. By default it cuts at the
    /// bytes around the end of each message and at some between.
    fn at_every_byte(&self, stride: usize, exchange: impl Fn(&str)) -> u64 {
        self.proxy.watch();
        exchange("uncut");
        flush(&self.audit);
        let seen = self.proxy.seen();
        let mut cuts = 0;
        for way in [Way::ToServer, Way::ToClient] {
            for at in positions(&seen[way as usize], stride) {
                let name = format!("{way:?} {at:05}");
                self.proxy.cut_after(way, at);
                exchange(&name[3..]);
                let flushed = self.audit.flush_blocking(PATIENCE);
                assert_eq!(flushed, Ok(()), "cut {name}");
                // An error contains the refused row, whose times vary in their number of digits.
                assert!(
                    !self.proxy.is_to_cut() || at + 40 > seen[way as usize].len(),
                    "there is a byte {name}"
                );
                cuts += 1;
            }
        }
        cuts
    }
}

/// Returns the bytes at which to cut a stream of messages.
fn positions(stream: &[u8], stride: usize) -> Vec<usize> {
    let stride = match std::env::var_os("TRACING_AUDIT_EVERY_BYTE") {
        Some(_) => 1,
        None => stride,
    };
    let mut ends = vec![0];
    let mut at = 0;
    // A letter, and a length that includes itself.
    while let Some(length) = stream.get(at + 1..at + 5) {
        at += 1 + usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap();
        ends.push(at);
    }
    (0..=stream.len())
        .filter(|at| {
            // The stream ends with the COMMIT, or the answer to it.
            let is_in_commit = stream.len() - at <= 20;
            is_in_commit || at % stride == 0 || ends.iter().any(|end| end.abs_diff(*at) <= 1)
        })
        .collect()
}

#[test]
fn batch_is_committed_once_when_its_commit_is_cut_at_any_byte() {
    let trail = Cut::start();
    let audit = &trail.audit;
    let cuts = trail.at_every_byte(19, |name| {
        audit
            .record(QueryRun::new("SELECT 1").request_id(name))
            .unwrap();
        audit.record(PromptRun::new("hi").request_id(name)).unwrap();
        audit.record(Event::new("e").request_id(name)).unwrap();
    });
    assert!(cuts > 100, "{cuts}");
    let wrong = trail.postgres.psql(
        "SELECT request_id, count(*) FROM (
             SELECT request_id FROM audit.query_runs UNION ALL SELECT request_id FROM audit.prompt_runs
             UNION ALL SELECT request_id FROM audit.events) r
         WHERE request_id IS NOT NULL GROUP BY 1 HAVING count(*) <> 3",
    );
    assert_eq!(wrong, "");
    for kind in [Kind::QueryRun, Kind::PromptRun] {
        assert_eq!(count(&trail.postgres, kind.table_name()), cuts + 1);
    }
    assert_eq!(audit.stats().dead_lettered(), 0);
    assert_eq!(audit.stats().health(), Health::Healthy);
    balanced(audit, &trail.postgres);
}

#[test]
fn batches_read_ahead_are_committed_once_when_the_batch_before_is_cut_at_any_byte() {
    let trail = Cut::start_with(|builder| builder.batch(10, Duration::from_hours(1)));
    let cuts = trail.at_every_byte(997, |name| {
        for _ in 0..30 {
            trail
                .audit
                .record(Event::new("e").request_id(name))
                .unwrap();
        }
    });
    assert!(cuts > 100, "{cuts}");
    assert_eq!(count(&trail.postgres, "events"), 9_999 + 30 * (cuts + 1));
    assert_eq!(trail.audit.stats().dead_lettered(), 0);
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn batches_read_ahead_are_committed_once_when_earlier_rows_are_refused() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.batch(50, Duration::from_hours(1))
    });
    audit.record(Event::new("first")).unwrap();
    flush(&audit);
    refuse_poison(&postgres);
    for n in 0..2_000 {
        let is_refused = n % 190 == 7;
        audit
            .record(Event::new(if is_refused { "poison" } else { "e" }))
            .unwrap();
    }
    flush(&audit);
    assert_eq!(audit.stats().dead_lettered(), 11);
    assert_eq!(count(&postgres, "events"), 2_001 - 11);
    balanced(&audit, &postgres);
}

#[test]
fn connection_cut_at_any_byte_of_its_setup_loses_no_record() {
    let trail = Cut::start();
    let cuts = trail.at_every_byte(149, |_| {
        // So that the exchange begins with a new connection.
        trail.proxy.cut();
        trail.audit.record(QueryRun::new("SELECT 1")).unwrap();
    });
    assert!(cuts > 40, "{cuts}");
    assert_eq!(count(&trail.postgres, "query_runs"), cuts + 1);
    assert_eq!(trail.audit.stats().dead_lettered(), 0);
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn dead_letter_is_stored_and_counted_once_when_cut_at_any_byte() {
    let trail = Cut::start();
    refuse_poison(&trail.postgres);
    let cuts = trail.at_every_byte(97, |_| {
        trail.audit.record(Event::new("before")).unwrap();
        trail.audit.record(Event::new("poison")).unwrap();
        trail.audit.record(Event::new("after")).unwrap();
    });
    assert!(cuts > 100, "{cuts}");
    assert_eq!(count(&trail.postgres, "dead_letters"), cuts + 1);
    assert_eq!(trail.audit.stats().dead_lettered(), cuts + 1);
    balanced(&trail.audit, &trail.postgres);
}

// Rows that are refused -----------------------------------------------------------

/// The size of a batch.
const ROWS: usize = 5_000;

/// Records this many events, of which those at `poisoned` will be refused; checks the tables and
/// returns how many statements it took.
fn refuse_at(trail: &Trail, records: usize, poisoned: &HashSet<usize>) -> usize {
    let said = trail.postgres.log().len();
    let before = trail.audit.stats().committed();
    let known = "SELECT coalesce(max(seq), 0) FROM audit.dead_letters";
    let known = trail.postgres.psql(known);
    let mut refused: Vec<_> = (0..records)
        .filter_map(|at| {
            let is_poison = poisoned.contains(&at);
            let action = if is_poison {
                format!("poison {at} SECRET")
            } else {
                String::from("fine")
            };
            let id = trail.audit.record(Event::new(action)).unwrap();
            is_poison.then(|| format!("{id}|poison {at} SECRET"))
        })
        .collect();
    flush(&trail.audit);
    let committed = trail.audit.stats().committed() - before;
    assert_eq!(committed, (records - poisoned.len()) as u64);
    let letters = trail.postgres.psql(&format!(
        "SELECT record_id, substring(encode(frame, 'escape') FROM 'poison [0-9]+ SECRET') FROM audit.dead_letters
         WHERE seq > {known} AND kind = 'audit.event' AND sqlstate = '23514' AND reason LIKE '%host_rule%' AND octet_length(salt) = 16",
    ));
    let mut letters: Vec<_> = letters.lines().map(String::from).collect();
    letters.sort_unstable();
    refused.sort_unstable();
    assert_eq!(letters, refused);
    trail.postgres.log()[said..]
        .lines()
        .filter(|line| {
            line.contains("tracing-audit LOG:  statement: ")
                || line.contains("tracing-audit LOG:  execute ")
        })
        .count()
}

/// Starts a server that logs every statement, and a pipeline that has written to it.
fn start_refusing() -> Trail {
    let (postgres, spool) = (
        Postgres::start_with(&[SAY_SQLSTATES, "log_statement=all"]),
        Folder::new(),
    );
    let audit = pipeline(&postgres, &spool, |builder| {
        builder
            .postgres(postgres.socket_url())
            .batch(5_000, Duration::from_hours(1))
    });
    let trail = Trail {
        audit,
        postgres,
        spool,
    };
    trail.audit.record(Event::new("first")).unwrap();
    flush(&trail.audit);
    refuse_poison(&trail.postgres);
    trail
}

/// The statements of a transaction: BEGIN, the batch, a COPY or a dead letter, COMMIT.
const TRANSACTION: usize = 4;

#[test]
fn refused_row_costs_few_statements_at_any_place_in_the_batch() {
    let trail = start_refusing();
    assert_eq!(refuse_at(&trail, ROWS, &HashSet::new()), TRANSACTION);
    for poisoned in [
        vec![0],
        vec![2_500],
        vec![4_999],
        vec![2_500, 2_501],
        vec![17, 4_000],
        vec![0, 4_999],
    ] {
        let statements = refuse_at(&trail, ROWS, &poisoned.iter().copied().collect());
        // The batch that fails, those before it, the record alone, its dead letter; and then
        // batches that double from 64 to 5,000.
        let most = (1 + 4 * poisoned.len() + 8 * poisoned.len()) * TRANSACTION;
        assert!(statements <= most, "{poisoned:?}: {statements}");
    }
}

#[test]
fn read_ahead_pauses_while_a_refused_row_is_isolated_and_batches_grow_again() {
    let trail = start_refusing();
    refuse_at(&trail, ROWS, &HashSet::from([2_500]));
    let sizes = trail.postgres.psql(
        "SELECT string_agg((last_seq - first_seq + 1)::text, ' ' ORDER BY first_seq) FROM audit.batches",
    );
    // The first record, those before the refused one, that one and the next alone, then the rest.
    assert_eq!(sizes.trim(), "1 2500 1 1 64 128 256 512 1024 514");
}

#[test]
fn each_row_costs_two_transactions_when_every_row_is_refused() {
    // Few enough for a slow disk: each transaction waits for it.
    const REFUSED: usize = 1_000;
    let trail = start_refusing();
    let statements = refuse_at(&trail, REFUSED, &(0..REFUSED).collect());
    assert!(
        statements <= (2 * REFUSED + 1) * TRANSACTION,
        "{statements}"
    );
    // Valid records after that are not written one by one.
    let statements = refuse_at(&trail, ROWS, &HashSet::new());
    assert!(statements <= 9 * TRANSACTION, "{statements}");
}

// Statements that are ended --------------------------------------------------------

/// Makes each statement of a batch wait, ends it by `function`, and lets the next attempt proceed.
fn end_each_statement(function: &str) {
    let trail = start_with(&[]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    let mut times = 1;
    let connect = "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE application_name = 'tracing-audit'";
    let mut places = vec![
        (
            String::from("audit.schema_migrations IN ACCESS EXCLUSIVE"),
            "SELECT",
            connect,
        ),
        (
            String::from("audit.batches IN ACCESS EXCLUSIVE"),
            "SELECT audit.writer_position",
            connect,
        ),
        (
            String::from("audit.batches IN SHARE"),
            "SELECT audit.add_batch",
            "",
        ),
    ];
    places.extend(Kind::ALL.map(|kind| (format!("{} IN SHARE", leaf(postgres, kind)), "COPY", "")));
    for (lock, statement, before) in places {
        let mut other = postgres.session(ADMINISTRATOR);
        postgres.psql(before);
        other.psql(&format!("BEGIN; LOCK TABLE {lock} MODE"));
        record_three(audit);
        times += 1;
        audit.flush_blocking(Duration::ZERO).unwrap_err();
        let end = format!(
            "SELECT count({function}(pid)) FROM pg_stat_activity
             WHERE application_name = 'tracing-audit' AND wait_event_type = 'Lock' AND query LIKE '{statement}%'"
        );
        wait_until(&format!("{statement} waits for {lock}"), PATIENCE, || {
            postgres.psql(&end) == "1"
        });
        wait_for_health(audit, Health::Retrying);
        other.psql("ROLLBACK");
        flush(audit);
        assert_three_times(times, audit, postgres);
    }

    // During COMMIT, which is complete locally and waits for a standby that does not exist.
    set(postgres, "synchronous_standby_names = 'nobody'");
    record_three(audit);
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    let end = format!(
        "SELECT count({function}(pid)) FROM pg_stat_activity
         WHERE application_name = 'tracing-audit' AND wait_event = 'SyncRep' AND query = 'COMMIT'"
    );
    wait_until("COMMIT waits", PATIENCE, || postgres.psql(&end) == "1");
    flush(audit);
    assert_three_times(times + 1, audit, postgres);
}

#[test]
fn connection_terminated_in_any_statement_loses_no_record() {
    end_each_statement("pg_terminate_backend");
}

#[test]
fn cancelled_statement_is_retried_and_loses_no_record() {
    end_each_statement("pg_cancel_backend");
}

// Locks, deadlocks, serialization -----------------------------------------------------

#[test]
fn batch_is_retried_while_a_lock_outlasts_the_lock_timeout() {
    let trail = start_with(&[SAY_SQLSTATES]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    let mut other = postgres.session(ADMINISTRATOR);
    other.psql(&format!(
        "BEGIN; LOCK TABLE {} IN SHARE MODE",
        leaf(postgres, Kind::Event)
    ));
    record_three(audit);
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_until("the lock timeout is over", PATIENCE, || {
        postgres.log().contains("55P03 tracing-audit ERROR")
    });
    wait_for_health(audit, Health::Retrying);
    other.psql("ROLLBACK");
    flush(audit);
    assert_three_times(2, audit, postgres);
}

#[test]
fn records_are_committed_and_future_partitions_deferred_during_a_long_read() {
    let (postgres, spool) = (Postgres::start_with(&[SAY_SQLSTATES]), Folder::new());
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql("SELECT audit.ensure_partition(t, now()) FROM unnest(audit.record_tables()) t");
    let mut reader = postgres.session(ADMINISTRATOR);
    reader.psql(READ_ALL);
    let audit = pipeline(&postgres, &spool, by_flush);
    // Before and after an attempt to create partitions, or both after it.
    for times in 1..=2 {
        record_three(&audit);
        flush(&audit);
        assert_three_times(times, &audit, &postgres);
        wait_until("the making of partitions has given up", PATIENCE, || {
            let log = postgres.log();
            log.matches("55P03 tracing-audit ERROR").count() as u64 >= times
        });
    }
    assert_eq!(made_ahead(&postgres), "0");
    assert_eq!(audit.stats().in_default_partition(), 0);
    reader.psql("ROLLBACK");
    wait_until("partitions are made ahead", PATIENCE, || {
        made_ahead(&postgres) == "3"
    });
}

#[test]
fn creating_a_missing_partition_waits_for_a_reader_and_blocks_others_only_briefly() {
    let (postgres, spool) = (Postgres::start_with(&[SAY_SQLSTATES]), Folder::new());
    tracing_audit::migrate(&postgres.url()).unwrap();
    let mut reader = postgres.session(ADMINISTRATOR);
    reader.psql(READ_ALL);
    let audit = pipeline(&postgres, &spool, by_flush);
    record_three(&audit);
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_for_health(&audit, Health::Retrying);
    let mut another = postgres.session(ADMINISTRATOR);
    another.psql("SET statement_timeout = '8s'; SELECT count(*) FROM audit.trail");
    reader.psql("ROLLBACK");
    flush(&audit);
    assert_three_times(1, &audit, &postgres);
    // Rows there would have kept the whole month in the default partition.
    assert_eq!(audit.stats().in_default_partition(), 0);
}

#[test]
fn deadlock_with_another_session_is_retried() {
    let trail = start_with(&[SAY_SQLSTATES, "deadlock_timeout=2s"]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    let mut other = postgres.session(ADMINISTRATOR);
    // Whoever detects a deadlock becomes its victim: the other session does not check.
    other.psql(&format!(
        "SET deadlock_timeout = '1h'; BEGIN; LOCK TABLE {} IN SHARE MODE",
        leaf(postgres, Kind::Event)
    ));
    record_three(audit);
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_until("the batch waits", PATIENCE, || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event_type = 'Lock'";
        postgres.psql(waiting) == "1"
    });
    // A lock that the batch already holds.
    other.psql("LOCK TABLE audit.batches IN SHARE MODE");
    wait_for_health(audit, Health::Retrying);
    assert!(postgres.log().contains("40P01 tracing-audit ERROR"));
    other.psql("ROLLBACK");
    flush(audit);
    assert_three_times(2, audit, postgres);
}

#[test]
fn serialization_failure_is_retried() {
    let trail = start_with(&[
        SAY_SQLSTATES,
        "default_transaction_isolation=repeatable read",
    ]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    // A host that counts events.
    postgres.psql(
        "CREATE TABLE counter AS SELECT 0 AS events;
         CREATE FUNCTION count_event() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN UPDATE public.counter SET events = events + 1; RETURN NEW; END $$;
         CREATE TRIGGER count_event BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION count_event()",
    );
    let mut other = postgres.session(ADMINISTRATOR);
    other.psql("BEGIN; UPDATE counter SET events = events + 1");
    // Alone in its batch, so there is nothing to bisect.
    audit.record(Event::new("e")).unwrap();
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_until("the batch waits for the counter", PATIENCE, || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event_type = 'Lock'";
        postgres.psql(waiting) == "1"
    });
    other.psql("COMMIT");
    flush(audit);
    assert!(postgres.log().contains("40001 tracing-audit ERROR"));
    assert_eq!(postgres.psql("SELECT events FROM counter"), "2");
    assert_eq!(count(postgres, "events"), 2);
    assert_eq!(audit.stats().dead_lettered(), 0);
    balanced(audit, postgres);
}

// Servers that take nothing ------------------------------------------------------------

/// Returns text that Postgres cannot compress.
fn noise(len: usize, seed: u64) -> String {
    let mut state = seed | 1;
    let mut next = || {
        // Xorshift; G. Marsaglia, "Xorshift RNGs".
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(33 + (state % 94) as u8)
    };
    (0..len).map(|_| next()).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn records_wait_while_the_servers_disk_is_full_and_are_then_committed() {
    let (postgres, spool) = (Postgres::start_with(&[SAY_SQLSTATES]), Folder::new());
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.when_full(tracing_audit::WhenFull::Wait(Duration::from_secs(10)))
    });
    audit.record(QueryRun::new("first")).unwrap();
    flush(&audit);
    // More than a segment of the write-ahead log, 16 MiB, and not a whole number of blocks:
    // Postgres takes a short write for a full disk (53100). From 16 on it allocates the space
    // before it writes, and treats the failure as an internal error (XX000).
    postgres.limit_file_size("17000001");
    postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tracing-audit'");
    for seed in 1..=24 {
        audit.record(QueryRun::new(noise(1 << 20, seed))).unwrap();
    }
    wait_until("the disk is full", PATIENCE, || {
        postgres
            .log()
            .contains(" tracing-audit ERROR:  could not extend file")
    });
    wait_for_health(&audit, Health::Retrying);
    assert!(audit.stats().pending() > 0);
    assert_eq!(count(&postgres, "dead_letters"), 0);
    postgres.limit_file_size("unlimited");
    wait_until("all is written", PATIENCE, || audit.stats().pending() == 0);
    assert_eq!(count(&postgres, "query_runs"), 25);
    let whole = "SELECT count(*) FROM audit.query_runs WHERE length(sql_text) = 1048576";
    assert_eq!(postgres.psql(whole), "24");
    assert_eq!(audit.stats().dead_lettered(), 0);
    balanced(&audit, &postgres);
}

#[test]
fn records_wait_on_open_connections_while_the_server_is_read_only() {
    let trail = start_with(&[SAY_SQLSTATES]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    for times in 2..5 {
        set(postgres, "default_transaction_read_only = on");
        record_three(audit);
        audit.flush_blocking(Duration::ZERO).unwrap_err();
        wait_for_health(audit, Health::Retrying);
        assert!(postgres.log().contains("25006 tracing-audit ERROR"));
        set(postgres, "default_transaction_read_only = off");
        flush(audit);
        assert_three_times(times, audit, postgres);
    }
}

#[test]
fn records_wait_while_all_connections_are_in_use() {
    let trail = start_with(&[SAY_SQLSTATES, "max_connections=8"]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    postgres.psql("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'tracing-audit'");
    let mut others = Vec::new();
    let refused = loop {
        match postgres.try_session(ADMINISTRATOR) {
            Ok(session) => others.push(session),
            Err(refused) => break refused,
        }
    };
    assert!(refused.contains("53300"), "{refused}");
    record_three(audit);
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    // The first refusal is the test's own; when the pipeline's second is logged, it has handled its
    // first.
    wait_until("it has tried twice", PATIENCE, || {
        postgres.log().matches("53300 ").count() >= 3
    });
    assert_eq!(audit.stats().health(), Health::Retrying);
    drop(others);
    flush(audit);
    assert_three_times(2, audit, postgres);
}

#[test]
fn records_are_held_from_the_revocation_of_rights_until_they_are_granted_again() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql("CREATE ROLE app LOGIN IN ROLE audit_writer");
    let url = postgres.url().replace("postgres@", "app@");
    let audit = pipeline(&postgres, &spool, |builder| builder.postgres(url));
    record_three(&audit);
    flush(&audit);
    let of_leaf = format!("INSERT ON {}", leaf(&postgres, Kind::Event));
    for (times, right) in (2..).zip([
        &*of_leaf,
        "EXECUTE ON FUNCTION audit.add_batch",
        "EXECUTE ON FUNCTION audit.ensure_partition",
        "EXECUTE ON FUNCTION audit.writer_position",
    ]) {
        postgres.psql(&format!("REVOKE {right} FROM audit_writer"));
        // So that it has to ask for its position.
        postgres.psql(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'app'",
        );
        record_three(&audit);
        wait_for_health(&audit, Health::Holding);
        assert_eq!(audit.stats().pending(), 3, "{right}");
        postgres.psql(&format!("GRANT {right} TO audit_writer"));
        wait_for_health(&audit, Health::Healthy);
        flush(&audit);
        assert_three_times(times, &audit, &postgres);
    }
}

fn logs_a_fault_that_an_administrator_must_mend() {
    let trail = start_with(&[SAY_SQLSTATES]);
    let (writer, heard) = hear();
    let log = tracing_subscriber::fmt::layer().with_writer(writer);
    tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(log.with_filter(LevelFilter::INFO))
        .init();
    record_three(&trail.audit);
    flush(&trail.audit);
    let leaf = leaf(&trail.postgres, Kind::Event);
    let add = format!(
        "ALTER TABLE audit.events ADD COLUMN theirs text NOT NULL DEFAULT ''; ALTER TABLE {leaf} ALTER COLUMN theirs DROP DEFAULT"
    );
    trail.postgres.psql(&add);
    record_three(&trail.audit);
    trail.audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_until("it is tried again and again", PATIENCE, || {
        let log = trail.postgres.log();
        log.matches("23502 tracing-audit ERROR").count() >= 5
    });
    trail.postgres.psql(&format!(
        "ALTER TABLE {leaf} ALTER COLUMN theirs SET DEFAULT ''"
    ));
    flush(&trail.audit);
    let said: Vec<_> = std::iter::from_fn(|| heard.recv_timeout(PATIENCE).ok())
        .take_while(|said| !said.contains("takes records again"))
        .filter(|said| said.contains("does not take records"))
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn rows_that_a_trigger_leaves_out_hold_the_batch_and_are_never_called_committed() {
    let trail = start_with(&[]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    postgres.psql(
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER leave_out BEFORE INSERT ON audit.events FOR EACH ROW
         WHEN (NEW.action_type = 'e') EXECUTE FUNCTION leave_out()",
    );
    record_three(audit);
    audit.record(Event::new("other")).unwrap();
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_for_health(audit, Health::Holding);
    let stats = audit.stats();
    assert_eq!((stats.committed(), stats.pending()), (3, 4));
    let fault = stats.fault().unwrap();
    assert!(
        fault.contains("1 of 2 rows of a batch for audit.events") && fault.contains("doctor"),
        "{fault}"
    );
    assert_eq!(count(postgres, "query_runs"), 1, "nothing of the batch");
    postgres.psql("DROP TRIGGER leave_out ON audit.events");
    audit.record(Event::new("another")).unwrap();
    flush(audit);
    assert_eq!(count(postgres, "events"), 4);
    assert_eq!(audit.stats().health(), Health::Healthy);
    balanced(audit, postgres);
}

#[test]
fn fault_that_needs_an_administrator_is_logged_once_despite_retries() {
    let child = alone(child!(logs_a_fault_that_an_administrator_must_mend))
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

fn sets_its_subscriber_after_a_fault() {
    let spool = Folder::new();
    let audit = Audit::builder()
        .postgres("postgres://nobody@127.0.0.1:1/nowhere")
        .spool(&spool.0)
        .drop_timeout(Duration::ZERO)
        .start()
        .unwrap();
    wait_until("Postgres is not reached", PATIENCE, || {
        audit.stats().fault().is_some()
    });
    let (writer, heard) = hear();
    let log = tracing_subscriber::fmt::layer().with_writer(writer);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(log.with_filter(LevelFilter::INFO))
        .init();
    let said: Vec<_> = std::iter::from_fn(|| heard.recv_timeout(PATIENCE).ok())
        .take(2)
        .collect();
    let start = format!(
        "writing to Postgres at 127.0.0.1:1/nowhere as nobody, local log in {}, tracing-audit {}",
        spool.0.display(),
        env!("CARGO_PKG_VERSION")
    );
    let is_said = |words: &str| said.iter().any(|line| line.contains(words));
    assert!(is_said(&start), "{start} in {said:?}");
    assert!(
        is_said("cannot reach Postgres at 127.0.0.1:1/nowhere"),
        "{said:?}"
    );
}

#[test]
fn destination_and_fault_are_logged_when_the_subscriber_is_installed_after_start() {
    let child = alone(child!(sets_its_subscriber_after_a_fault))
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

// Servers that die ----------------------------------------------------------------------

#[test]
fn batch_is_committed_once_when_the_server_crashes_during_its_commit() {
    let mut trail = start_with(&[]);
    record_three(&trail.audit);
    flush(&trail.audit);
    for times in 2..5 {
        // COMMIT is complete locally, and waits for a standby that does not exist.
        set(&trail.postgres, "synchronous_standby_names = 'nobody'");
        record_three(&trail.audit);
        trail.audit.flush_blocking(Duration::ZERO).unwrap_err();
        let waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event = 'SyncRep'";
        wait_until("COMMIT waits", PATIENCE, || {
            !trail.postgres.psql(waiting).is_empty()
        });
        trail
            .postgres
            .psql("ALTER SYSTEM RESET synchronous_standby_names");
        if times == 2 {
            // The server restarts itself if one of its processes is killed.
            let pid = trail.postgres.psql(waiting);
            let killed = Command::new("kill").args(["-KILL", &pid]).status();
            assert!(killed.unwrap().success());
            wait_until("the server is there again", PATIENCE, || {
                trail.postgres.try_psql("SELECT 1").is_ok()
            });
        } else {
            trail.postgres.stop(Stop::Immediate);
            trail.postgres.start_again();
        }
        flush(&trail.audit);
        assert_three_times(times, &trail.audit, &trail.postgres);
    }
}

#[test]
fn batch_is_committed_once_when_its_commit_outlives_the_connection() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let proxy = Proxy::start(postgres.port());
    let audit = pipeline(&postgres, &spool, |builder| {
        by_flush(builder).postgres(proxy.url())
    });
    record_three(&audit);
    flush(&audit);
    for times in 2..4 {
        // COMMIT is complete locally, and waits for a standby that does not exist.
        set(&postgres, "synchronous_standby_names = 'nobody'");
        record_three(&audit);
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
        // The server does not check the connection while it waits.
        proxy.cut();
        wait_until("the next attempt waits for that", PATIENCE, || {
            waiting("wait_event_type = 'Lock' AND query LIKE 'SELECT audit.add_batch%'")
        });
        postgres.psql("ALTER SYSTEM RESET synchronous_standby_names");
        postgres.psql("SELECT pg_reload_conf()");
        flush(&audit);
        assert_three_times(times, &audit, &postgres);
    }
}

#[test]
fn a_failover_to_a_standby_loses_nothing_and_raises_no_alarm() {
    let (mut primary, spool) = (Postgres::start_with(&["log_connections=on"]), Folder::new());
    let proxy = Proxy::start(primary.port());
    let audit = pipeline(&primary, &spool, |builder| {
        builder
            .postgres(proxy.url())
            .batch(20, Duration::from_millis(1))
    });
    record_three(&audit);
    flush(&audit);
    let standby = primary.start_standby();
    set(&primary, "synchronous_standby_names = '*'");
    wait_until("the standby follows", PATIENCE, || {
        primary.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
    });
    let (stop, stopped) = channel::<()>();
    let recorded = std::thread::scope(|scope| {
        // A batch is in flight at all times.
        let recording = scope.spawn(|| {
            let stopped = stopped;
            let mut recorded = 0;
            while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                record_three(&audit);
                recorded += 1;
            }
            recorded
        });
        let before = audit.stats().batches();
        wait_until("batches are being written", PATIENCE, || {
            audit.stats().batches() > before + 5
        });
        // From here on the standby shows less than it has.
        standby.psql("SELECT pg_wal_replay_pause()");
        let before = audit.stats().batches();
        wait_until("batches are being written", PATIENCE, || {
            audit.stats().batches() > before + 5
        });
        let committed = audit.stats().committed();
        proxy.point_to(standby.port());
        proxy.cut();
        wait_for_health(&audit, Health::Retrying);
        wait_until("the standby was asked again and again", PATIENCE, || {
            let now = audit.stats().committed();
            assert!(now >= committed, "{committed} were committed, now {now}");
            standby
                .log()
                .matches("application_name=tracing-audit")
                .count()
                >= 4
        });
        primary.stop(Stop::Immediate);
        standby.psql("SELECT pg_promote(true, 60)");
        wait_for_health(&audit, Health::Healthy);
        drop(stop);
        recording.join().unwrap()
    });
    flush(&audit);
    assert_three_times(1 + recorded, &audit, &standby);
}

// Ids -------------------------------------------------------------------------------------

fn closes_a_span_whose_id_is_taken() {
    let trail = Trail::start();
    let (writer, heard) = hear();
    tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_subscriber::fmt::layer().with_writer(writer))
        .init();
    info_span!("audit.event", action_type = "before").in_scope(|| ());
    flush(&trail.audit);
    let span = info_span!("audit.event", action_type = "ours SECRET");
    let id = span.audit_id().unwrap();
    trail.postgres.psql(&format!(
        "INSERT INTO audit.events (id, action_type, status, created_at, writer_id, seq, salt)
         VALUES ('{id}', 'theirs', 'unknown', now(), gen_random_uuid(), 1, '')"
    ));
    drop(span);
    info_span!("audit.event", action_type = "after").in_scope(|| ());
    flush(&trail.audit);
    let theirs = format!("SELECT action_type FROM audit.events WHERE id = '{id}'");
    assert_eq!(trail.postgres.psql(&theirs), "theirs");
    let letters = "SELECT record_id, sqlstate, position('ours SECRET'::bytea IN frame) > 0 FROM audit.dead_letters";
    assert_eq!(trail.postgres.psql(letters), format!("{id}|23505|t"));
    assert_eq!(rows(&trail.postgres, Kind::Event).len(), 3);
    assert_eq!(trail.audit.stats().dead_lettered(), 1);
    let said = std::iter::from_fn(|| heard.recv_timeout(PATIENCE).ok())
        .find(|said| said.contains("ERROR"))
        .unwrap();
    assert!(
        said.contains("audit.dead_letters") && !said.contains("SECRET"),
        "{said}"
    );
}

#[test]
fn record_whose_id_already_exists_becomes_a_dead_letter_and_keeps_the_existing_row() {
    let child = alone(child!(closes_a_span_whose_id_is_taken))
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}
