//! Connections that are cut, and statements that are ended.

use std::time::Duration;

use super::{
    assert_three_times, by_flush, flush, leaf, record_three, refuse_poison, set, start_with,
    wait_for_health,
};
use testkit::proxy::{Proxy, Way};
use testkit::trail::{Folder, PATIENCE, balanced, count, pipeline};
use testkit::{ADMINISTRATOR, Postgres, wait_until};
use tracing_audit::{Audit, Builder, Event, Health, Kind, PromptRun, QueryRun};

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
