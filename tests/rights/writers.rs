//! What one program with a writer's login can do in another's name.

use super::{allowed, login, migrated, refused};
use testkit::trail::{Folder, PATIENCE, balanced, pipeline};
use testkit::{ADMINISTRATOR, wait_until};
use tracing_audit::Event;

const GUESS: &str = "'\\x0000000000000000000000000000000000000000000000000000000000000000'";

/// Returns the call that adds a batch of events.
fn add(writer: &str, secret: &str, first: u64, last: u64, dead_letters: u64) -> String {
    let events = last + 1 - first - dead_letters;
    format!(
        "SELECT audit.add_batch({writer}, {secret}, {first}, {last}, jsonb_strip_nulls(jsonb_build_object('events', nullif({events}, 0))), {dead_letters}, NULL, NULL, 'x', 'x')"
    )
}

fn letter(writer: &str, secret: &str, seq: u64) -> String {
    format!("SELECT audit.add_dead_letter({writer}, {secret}, {seq}, NULL, 'x', NULL, 'x', '', '')")
}

#[test]
fn writer_cannot_write_as_another_writer() {
    let postgres = migrated();
    let spool = Folder::new();
    let mut mallory = login(&postgres, "mallory", Some("audit_writer"));
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.postgres(postgres.url_as("mallory"))
    });
    for n in 0..10 {
        audit.record(Event::new(format!("e{n}"))).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    let victim = format!(
        "'{}'",
        postgres.psql("SELECT writer_id FROM audit.batches LIMIT 1")
    );
    // By the tables.
    for sql in [
        format!(
            "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version)
             SELECT {victim}, audit.writer_position({victim}), audit.writer_position({victim}), '{{\"query_runs\": 1}}', 0, ''"
        ),
        format!(
            "INSERT INTO audit.dead_letters (writer_id, seq, kind, reason, frame, salt) VALUES ({victim}, 5, '', '', '', '')"
        ),
        format!(
            "INSERT INTO audit.writers (writer_id, login, secret_sha256) VALUES ({victim}, 'x', sha256({GUESS}))"
        ),
        "SELECT secret_sha256 FROM audit.writers".to_owned(),
        format!("SELECT audit.check_writer({victim}, {GUESS})"),
    ] {
        refused(&mut mallory, "42501", &sql);
    }
    // By the functions, with a secret other than the writer's.
    let next = 11;
    for secret in [GUESS, "NULL", "''", "'\\x00'"] {
        for first in [1, next, next + 5] {
            refused(
                &mut mallory,
                "AT002",
                &add(&victim, secret, first, first + 999_998, 0),
            );
        }
        refused(&mut mallory, "AT002", &letter(&victim, secret, 5));
    }
    refused(&mut mallory, "AT002", &add("NULL", GUESS, 1, 1, 0));
    for n in 0..10 {
        audit.record(Event::new(format!("f{n}"))).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().committed(), 20);
    assert_eq!(audit.stats().inconsistencies(), 0);
    balanced(&audit, &postgres);
}

#[test]
fn batches_of_a_writer_are_contiguous_and_match_their_dead_letters() {
    let postgres = migrated();
    let mut writer = login(&postgres, "as_writer", Some("audit_writer"));
    let own = "'00000000-0000-4000-8000-000000000009'";
    // An unknown writer begins with its first record.
    refused(&mut writer, "AT002", &add(own, GUESS, 2, 2, 0));
    allowed(&mut writer, &add(own, GUESS, 1, 3, 0));
    for (first, last) in [(1, 3), (2, 3), (3, 9), (5, 9), (1_000, 1_001)] {
        refused(&mut writer, "AT001", &add(own, GUESS, first, last, 0));
    }
    allowed(&mut writer, &add(own, GUESS, 4, 4, 0));
    // Counts that do not match its records.
    for counts in [
        r#"'{"query_runs": -1, "events": 2}', 0"#,
        r#"'{"query_runs": 0, "events": 1}', 0"#,
        "'{}', 0",
        r#"'{"query_runs": 1, "prompt_runs": 1}', 0"#,
        r#"'{"batches": 1}', 0"#,
        r#"'{"events": "1"}', 0"#,
        r#"'{"events": 1.0}', 0"#,
        r#"'{"events": [1]}', 0"#,
        "'[1]', 0",
        "'1', 0",
        "'null', 0",
    ] {
        refused(
            &mut writer,
            "23514",
            &format!(
                "SELECT audit.add_batch({own}, {GUESS}, 5, 5, {counts}, NULL, NULL, 'x', 'x')"
            ),
        );
    }
    // A dead letter must belong to a batch of this transaction that has room for it.
    refused(&mut writer, "AT001", &letter(own, GUESS, 4));
    allowed(&mut writer, "BEGIN");
    allowed(&mut writer, &add(own, GUESS, 5, 6, 1));
    allowed(&mut writer, &letter(own, GUESS, 6));
    refused(&mut writer, "AT001", &letter(own, GUESS, 5));
    allowed(&mut writer, "ROLLBACK");
    allowed(&mut writer, "BEGIN");
    allowed(&mut writer, &add(own, GUESS, 5, 6, 1));
    allowed(&mut writer, &letter(own, GUESS, 6));
    allowed(&mut writer, "COMMIT");
    assert_eq!(
        postgres.psql("SELECT string_agg(login, ' ') FROM audit.writers"),
        "as_writer"
    );
    // The events that Postgres makes itself have a writer that nobody can write as.
    allowed(&mut writer, "RESET ROLE");
    postgres.psql("SELECT audit.append_event('x', NULL, NULL, NULL, NULL, NULL, NULL)");
    let sql = format!(
        "'{}'",
        postgres.psql("SELECT writer_id FROM audit.batches WHERE library_version = 'sql'")
    );
    refused(&mut writer, "AT001", &add(&sql, GUESS, 1, 1, 0));
    refused(&mut writer, "AT002", &add(&sql, GUESS, 2, 2, 0));
}

#[test]
fn statement_text_in_pg_stat_activity_reveals_no_secret_or_writer_id() {
    let postgres = migrated();
    let spool = Folder::new();
    let mut mallory = login(&postgres, "mallory", Some("audit_writer"));
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.postgres(postgres.url_as("mallory"))
    });
    audit.record(Event::new("first")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    let writer = postgres.psql("SELECT writer_id FROM audit.batches LIMIT 1");
    let mut locker = postgres.session(ADMINISTRATOR);
    allowed(
        &mut locker,
        "BEGIN; LOCK TABLE audit.batches IN ACCESS EXCLUSIVE MODE",
    );
    audit.record(Event::new("next")).unwrap();
    let mut seen = String::new();
    wait_until("the writer adds a batch", PATIENCE, || {
        seen = allowed(
            &mut mallory,
            "SELECT query FROM pg_stat_activity WHERE usename = 'mallory' AND pid <> pg_backend_pid()",
        );
        seen.contains("audit.batches") || seen.contains("audit.add_batch")
    });
    assert!(!seen.contains(&writer) && !seen.contains("\\x"), "{seen}");
    allowed(&mut locker, "ROLLBACK");
    audit.flush_blocking(PATIENCE).unwrap();
}
