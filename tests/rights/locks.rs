//! No login can hold a lock that the trail waits for, and nobody queues behind a lock that the
//! trail waits with.

use super::{allowed, login, migrated, refused, sqlstate};
use testkit::Postgres;

const ROLES: [(&str, Option<&str>); 5] = [
    ("nobody", None),
    ("wri", Some("audit_writer")),
    ("rea", Some("audit_reader")),
    ("aud", Some("audit_auditor")),
    ("ops", Some("audit_operator")),
];

#[test]
fn no_login_can_take_the_partition_creation_lock() {
    let postgres = migrated();
    for (name, role) in ROLES {
        let mut session = login(&postgres, name, role);
        for mode in [
            "ACCESS SHARE",
            "ROW SHARE",
            "ROW EXCLUSIVE",
            "SHARE UPDATE EXCLUSIVE",
            "SHARE",
            "SHARE ROW EXCLUSIVE",
            "EXCLUSIVE",
            "ACCESS EXCLUSIVE",
        ] {
            for table in ["partition_lock", "events", "settings", "legal_holds"] {
                // Reading takes the weakest lock, which does not prevent creating a partition.
                if mode == "ACCESS SHARE" && table != "partition_lock" {
                    continue;
                }
                let lock = format!("BEGIN; LOCK TABLE ONLY audit.{table} IN {mode} MODE");
                refused(&mut session, "42501", &lock);
                allowed(&mut session, "ROLLBACK");
            }
        }
        refused(
            &mut session,
            "42501",
            "SELECT FROM audit.partition_lock FOR UPDATE",
        );
    }
    // Anybody may take an advisory lock; the trail does not wait for one.
    let mut nobody = postgres.session("nobody");
    allowed(
        &mut nobody,
        "SELECT pg_advisory_lock(hashtextextended('tracing-audit partition', 0))",
    );
    let mut writer = postgres.session("wri");
    allowed(&mut writer, "SET lock_timeout = '5s'");
    let made = allowed(
        &mut writer,
        "SELECT audit.ensure_partition('events', now() - interval '2 months')",
    );
    assert_ne!(made, "events_default");
}

#[test]
fn transaction_with_partition_locks_cannot_be_prepared() {
    let postgres = Postgres::start_with(&["max_prepared_transactions=4"]);
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql(
        "SELECT audit.ensure_partition('events', '2020-01-15Z');
         INSERT INTO audit_parts.events_default (id, status, created_at, writer_id, seq, salt)
             VALUES (audit.id_at('2019-01-15Z'), 'succeeded', '2019-01-15Z', gen_random_uuid(), 1, ''),
                 (audit.id_at(now() - interval '3 months'), 'succeeded', now() - interval '3 months', gen_random_uuid(), 1, '')",
    );
    let mut writer = login(&postgres, "wri", Some("audit_writer"));
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    // A transaction without such locks can be prepared, so the server does support it.
    allowed(&mut writer, "BEGIN");
    allowed(
        &mut writer,
        "SELECT audit.ensure_partition('events', '1971-01-01Z')",
    );
    allowed(&mut writer, "PREPARE TRANSACTION 'harmless'");
    allowed(&mut writer, "ROLLBACK PREPARED 'harmless'");
    for (by_operator, work) in [
        (
            false,
            "SELECT audit.ensure_partition('events', now() - interval '2 months')",
        ),
        // It creates no partition, but takes the lock for doing so.
        (
            false,
            "SELECT audit.ensure_partition('events', now() - interval '3 months')",
        ),
        (
            true,
            "SELECT audit.settle_partition('events', '2019-01-15Z')",
        ),
        (
            true,
            "SELECT audit.remove_partition('events_2020_01', '1 year')",
        ),
        // It would keep partitions from being removed.
        (true, "SELECT audit.place_hold('case')"),
    ] {
        let session = if by_operator {
            &mut operator
        } else {
            &mut writer
        };
        allowed(session, "BEGIN");
        allowed(session, work);
        refused(session, "0A000", "PREPARE TRANSACTION 'kept'");
        allowed(session, "ROLLBACK");
        // It can still commit.
        allowed(session, work);
    }
}

#[test]
fn partition_work_that_waits_for_a_reader_blocks_no_other_session() {
    let postgres = migrated();
    postgres.psql(
        "SELECT audit.ensure_partition('events', at) FROM unnest(ARRAY['2020-01-15Z', now()]::timestamptz[]) at;
         INSERT INTO audit_parts.events_default (id, status, created_at, writer_id, seq, salt)
             VALUES (audit.id_at('2019-01-15Z'), 'succeeded', '2019-01-15Z', gen_random_uuid(), 1, '')",
    );
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    let mut idle = login(&postgres, "idle", Some("audit_reader"));
    let mut reader = login(&postgres, "rea", Some("audit_reader"));
    // Not in the time in which one of the waits could end by chance: four of them.
    allowed(&mut reader, "SET statement_timeout = '3s'");
    for work in [
        "SELECT audit.remove_partition('events_2020_01', '1 year')",
        "SELECT audit.settle_partition('events', '2019-01-15Z')",
    ] {
        allowed(&mut idle, "BEGIN; SELECT count(*) FROM audit.events");
        operator.send(work);
        let is_over =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ops' AND state = 'active'";
        let mut read = 0;
        loop {
            allowed(&mut reader, "SELECT count(*) FROM audit.events");
            read += 1;
            if postgres.psql(is_over) == "0" {
                break;
            }
        }
        assert!(read > 1, "it waits for the reader that is idle");
        let error = operator.receive().unwrap_err();
        assert_eq!(sqlstate(&error), "55P03", "{error}");
        allowed(&mut idle, "COMMIT");
        allowed(&mut operator, work);
    }
}

#[test]
fn only_an_operator_creates_partitions_of_long_ago() {
    let postgres = migrated();
    let mut writer = login(&postgres, "wri", Some("audit_writer"));
    let mut operator = login(&postgres, "ops", Some("audit_operator"));
    let count = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit.events'::regclass";
    let before = postgres.psql(count);
    assert_eq!(
        allowed(
            &mut writer,
            "SELECT DISTINCT audit.ensure_partition('events', '1970-01-01Z'::timestamptz + m * interval '1 month') FROM generate_series(0, 600) m"
        ),
        "events_default"
    );
    assert_eq!(postgres.psql(count), before);
    // As far back as the records of a program that was down for long.
    let made = allowed(
        &mut writer,
        "SELECT audit.ensure_partition('events', now() - interval '11 months')",
    );
    assert_ne!(made, "events_default");
    // SET ROLE does not change which login is asking.
    postgres.psql("GRANT audit_reader TO wri");
    for who in ["audit_writer", "NONE"] {
        allowed(&mut writer, &format!("SET ROLE {who}"));
        let made = allowed(
            &mut writer,
            "SELECT audit.ensure_partition('events', '2001-01-01Z')",
        );
        assert_eq!(made, "events_default");
    }
    let made = allowed(
        &mut operator,
        "SELECT audit.ensure_partition('events', '2001-01-01Z')",
    );
    assert_eq!(made, "events_2001_01");
    // Once it exists, the writer may use it too.
    let made = allowed(
        &mut writer,
        "SELECT audit.ensure_partition('events', '2001-01-31Z')",
    );
    assert_eq!(made, "events_2001_01");
}

#[test]
fn blank_or_too_long_text_arguments_are_refused() {
    let postgres = migrated();
    let mut reader = login(&postgres, "rea", Some("audit_reader"));
    let mut auditor = login(&postgres, "aud", Some("audit_auditor"));
    let hold = allowed(&mut auditor, "SELECT audit.place_hold('case')");
    let blank = [
        "NULL",
        "''",
        "'   '",
        "E'\\t\\r\\n'",
        "E'\\u00a0'",
        "E' \\u200b\\u2003\\ufeff'",
        "E'\\u3000'",
        "E'\\u00ad\\u2028\\u2060'",
        "E'\\u180b\\u17b4\\ufffb'",
        "E'\\U000E0020\\U000E0041\\U000E0100'",
        "E'\\U0001D173\\U0001BCA0'",
    ];
    let calls = |text: &str| {
        [
            format!("SELECT audit.place_hold({text})"),
            format!("SELECT audit.lift_hold('{hold}', {text})"),
            format!("SELECT audit.set_least_age('1 year', {text})"),
            format!("SELECT audit.record_reading({text})"),
        ]
    };
    for text in blank.into_iter().chain([
        "repeat('x', 4097)",
        "repeat('ü', 2049)",
        "repeat('x', 1000000)",
    ]) {
        for call in calls(text) {
            refused(&mut auditor, "22023", &call);
        }
        refused(
            &mut reader,
            "22023",
            &format!("SELECT audit.record_reading({text})"),
        );
    }
    refused(
        &mut reader,
        "22023",
        "SELECT audit.record_reading('because', repeat('x', 4097))",
    );
    allowed(&mut auditor, "BEGIN");
    for text in [
        "'–'",
        "'案'",
        "E'\\u180a'",
        "E'\\U000E0041x'",
        "repeat('x', 4096)",
        "repeat(' ', 4095) || 'x'",
    ] {
        for call in calls(text) {
            allowed(&mut auditor, &format!("SAVEPOINT s; {call}; ROLLBACK TO s"));
        }
    }
}

#[test]
fn recording_a_reading_fails_instead_of_waiting_for_an_idle_writer() {
    let postgres = migrated();
    let mut writer = login(&postgres, "idle", Some("audit_writer"));
    // Until this commits, the month does not exist for anybody else.
    allowed(
        &mut writer,
        "BEGIN; SELECT audit.ensure_partition('events', now())",
    );
    let mut auditor = login(&postgres, "aud", Some("audit_auditor"));
    allowed(&mut auditor, "SET statement_timeout = '20s'");
    for call in [
        "SELECT audit.record_reading('case')",
        "SELECT audit.place_hold('case')",
    ] {
        refused(&mut auditor, "55P03", call);
    }
    allowed(&mut writer, "COMMIT");
    allowed(&mut auditor, "SELECT audit.record_reading('case')");
}

#[test]
fn a_reading_or_a_hold_that_is_idle_holds_up_nobody() {
    let postgres = migrated();
    // There are months, but not this one, as when no program has run for long.
    postgres.psql("SELECT audit.ensure_partition('events', now() - interval '3 months')");
    let mut auditor = login(&postgres, "aud", Some("audit_auditor"));
    let mut writer = login(&postgres, "wri", Some("audit_writer"));
    allowed(&mut auditor, "SET statement_timeout = '5s'");
    allowed(&mut writer, "SET statement_timeout = '5s'");
    let mut reader = login(&postgres, "rea", Some("audit_reader"));
    allowed(&mut reader, "BEGIN; SELECT audit.record_reading('idle')");
    allowed(&mut auditor, "SELECT count(*) FROM audit.events");
    allowed(&mut auditor, "SELECT audit.record_reading('another')");
    allowed(
        &mut writer,
        "SELECT audit.ensure_partition('query_runs', now())",
    );
    allowed(&mut reader, "COMMIT");
    assert_eq!(
        postgres.psql("SELECT input_summary FROM audit_parts.events_default ORDER BY 1"),
        "another\nidle"
    );
}

#[test]
fn a_message_repeats_no_text_of_many_bytes_and_a_text_is_measured_first() {
    let postgres = migrated();
    let mut writer = login(&postgres, "wri", Some("audit_writer"));
    let mut reader = login(&postgres, "rea", Some("audit_reader"));
    let error = refused(
        &mut writer,
        "42P01",
        "SELECT audit.ensure_partition(repeat('x', 100000000), now())",
    );
    assert!(error.len() < 1_000, "{} bytes", error.len());
    let error = refused(
        &mut reader,
        "22023",
        "SELECT audit.record_reading(repeat('x', 300000000))",
    );
    assert!(error.contains("longer than 4096 bytes"), "{error}");
    // The reason of a dead letter is cut, and its record is as large as the library makes one.
    let letter = |reason: &str, frame: &str| {
        format!(
            "BEGIN; SELECT audit.add_batch('00000000-0000-4000-8000-000000000007', sha256(''), 1, 1, '{{}}', 1, NULL, NULL, 'x', 'x');
             SELECT audit.add_dead_letter('00000000-0000-4000-8000-000000000007', sha256(''), 1, NULL, 'x', NULL, {reason}, {frame}, '')"
        )
    };
    refused(
        &mut writer,
        "23514",
        &letter("''", "decode(repeat('00', 300000000), 'hex')"),
    );
    allowed(&mut writer, "ROLLBACK");
    allowed(&mut writer, &letter("repeat('ü', 70000)", "'\\x00'"));
    allowed(&mut writer, "COMMIT");
    assert_eq!(
        postgres.psql("SELECT octet_length(reason) FROM audit.dead_letters"),
        "32768"
    );
}

#[test]
fn the_id_of_a_moment_that_no_id_has_is_the_least_or_the_greatest() {
    let postgres = migrated();
    let ids = postgres.psql(
        "SELECT audit.id_at(at::timestamptz) FROM unnest(ARRAY['-infinity', '4713-01-01 BC', '1900-01-01Z', '1970-01-01Z',
             '2026-01-01Z', '11000-01-01Z', '294276-01-01Z', 'infinity']) WITH ORDINALITY AS a (at, n) ORDER BY n",
    );
    let ids: Vec<&str> = ids.lines().collect();
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(ids[0], "00000000-0000-0000-0000-000000000000");
    assert_eq!(ids[3], ids[0]);
    assert_eq!(ids[5..], ["ffffffff-ffff-0000-0000-000000000000"; 3]);
}
