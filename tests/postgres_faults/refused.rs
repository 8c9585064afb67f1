//! Rows that are refused, and ids that are taken.

use std::collections::HashSet;
use std::time::Duration;

use super::{SAY_SQLSTATES, flush, refuse_poison};
use testkit::Postgres;
use testkit::child::{alone, child, child_processes};
use testkit::heard::hear;
use testkit::trail::{Folder, PATIENCE, Trail, pipeline, rows};
use tracing::info_span;
use tracing_audit::{AuditSpanExt, Event, Kind};
use tracing_subscriber::prelude::*;

child_processes!(closes_a_span_whose_id_is_taken);

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
