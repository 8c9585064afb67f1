//! What a run reports, and how it exits.

use std::collections::BTreeSet;

use super::{
    advice, command, count_events, doctor, findings, found, stdout, url_as, with_partitions,
};

#[test]
fn failed_check_becomes_a_finding_and_the_other_checks_run() {
    let postgres = with_partitions();
    postgres.psql(
        "ALTER TABLE audit.dead_letters DROP CONSTRAINT dead_letters_sqlstate_check, ALTER COLUMN sqlstate TYPE integer USING 0;
        CREATE POLICY leak ON audit.events USING (true)",
    );
    let looked = doctor(&postgres.url());
    let found = found(&looked);
    for expected in [
        "problem failed audit.dead_letters",
        "problem columns audit.dead_letters.sqlstate",
        "problem policies audit.events",
    ] {
        assert!(found.contains(&expected.to_owned()), "{found:?}");
    }
    assert!(stdout(&looked).contains("SQLSTATE 22P02"));
    // The checks after it still ran.
    assert!(
        findings(&looked)
            .iter()
            .any(|finding| finding["check"] == "newest_batch")
    );
    assert_eq!(looked.status.code(), Some(1));
}

#[test]
fn default_partition_finding_shows_only_months_and_services() {
    let postgres = with_partitions();
    postgres.psql(
        "INSERT INTO audit_parts.events_default (id, created_at, status, service_name, user_id, writer_id, seq, salt)
        SELECT audit.id_at('2100-01-05Z'), '2100-01-05Z', 'succeeded', 'billing', 'alice', '00000000-0000-7000-8000-00000000000a', 1, ''",
    );
    count_events(&postgres, 1);
    let looked = doctor(&postgres.url());
    assert_eq!(
        found(&looked),
        ["problem default_partition audit_parts.events_default"]
    );
    assert!(stdout(&looked).contains("1 row of 2100-01, of service billing"));
    assert!(!stdout(&looked).contains("alice"), "{}", stdout(&looked));

    // A login that may not read the rows is told that there are some.
    postgres.psql("CREATE ROLE auditor LOGIN IN ROLE audit_auditor");
    let looked = doctor(&url_as(&postgres, "auditor"));
    assert_eq!(looked.status.code(), Some(0));
    assert_eq!(
        found(&looked),
        ["warning default_partition audit_parts.events_default"]
    );
}

#[test]
fn dead_letters_and_gaps_are_reported_as_counts_without_reasons_or_values() {
    let postgres = with_partitions();
    let batch = |writer: &str, first: i64, last: i64| {
        postgres.psql(&format!(
            "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
            VALUES ('{writer}', {first}, {last}, '{{\"events\": {}}}', 0, audit.id_at(now()), audit.id_at(now() + interval '1 hour'), 'test');
            INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
            SELECT overlay(audit.id_at(now())::text PLACING right(gen_random_uuid()::text, 12) FROM 25)::uuid, now(), 'succeeded', '{writer}', n, ''
            FROM generate_series({first}, {last}) n",
            last - first + 1
        ));
    };
    let (whole, broken) = (
        "00000000-0000-7000-8000-00000000000a",
        "00000000-0000-7000-8000-00000000000b",
    );
    for (first, last) in [(1, 3), (4, 4), (5, 9)] {
        batch(whole, first, last);
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);

    batch(broken, 2, 3);
    batch(broken, 5, 6);
    for n in 1..=2 {
        postgres.psql(&format!(
            "INSERT INTO audit.dead_letters (writer_id, seq, kind, sqlstate, reason, frame, salt)
            VALUES ('{broken}', {n}, 'audit.event', '22021', 'alice said so', 'alice', '')"
        ));
    }
    let looked = doctor(&postgres.url());
    assert_eq!(
        found(&looked),
        [
            "warning batches audit.batches",
            "warning dead_letters audit.dead_letters"
        ]
    );
    assert_eq!(looked.status.code(), Some(0), "warnings are no problem");
    let text = stdout(&looked);
    assert!(text.contains("2 refused with SQLSTATE 22021"), "{text}");
    assert!(text.contains("2 of the newest 5"), "{text}");
    assert!(text.contains(broken), "{text}");
    assert!(!text.contains("alice"), "{text}");
}

#[test]
fn finding_shows_actual_and_expected_state_and_a_statement_to_copy() {
    let postgres = with_partitions();
    postgres.psql(
        "ALTER TABLE audit.events NO FORCE ROW LEVEL SECURITY;
        ALTER FUNCTION audit.take_partition(text, interval, jsonb) RESET datestyle",
    );
    let looked = command(&postgres.url(), &["doctor"])
        .env("COLUMNS", "60")
        .output()
        .unwrap();
    assert_eq!(looked.status.code(), Some(1));
    let text = stdout(&looked);
    let told = "
  problem  audit.events: row-level security is not forced:
           its owner sees all rows
           should be   enabled and forced
           to mend it  ALTER TABLE audit.events FORCE ROW
                         LEVEL SECURITY;
";
    assert!(text.contains(told), "{text}");
    // The text cuts a long statement; JSON has all of it.
    assert!(text.contains("more lines (--json)\n"), "{text}");
    assert!(text.ends_with("\n2 problems.\n"), "{text}");
    for advice in advice(&doctor(&postgres.url())) {
        postgres.psql(&advice);
    }
    assert_eq!(found(&doctor(&postgres.url())), [""; 0]);
}

#[test]
fn added_status_value_is_a_warning_without_advice() {
    let postgres = with_partitions();
    postgres.psql("ALTER TYPE audit.run_status ADD VALUE 'odd' AFTER 'failed'");
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), ["warning columns audit.run_status"]);
    assert!(advice(&looked).is_empty());
}

#[test]
fn doctor_can_run_a_single_check() {
    let postgres = with_partitions();
    postgres.psql("DROP POLICY tenant ON audit.events; DROP TRIGGER append_only ON audit.batches");
    let looked = |words: &[&str]| {
        let words = [&["doctor", "--json"], words].concat();
        command(&postgres.url(), &words).output().unwrap()
    };
    assert_eq!(
        found(&looked(&["--check", "policies"])),
        ["problem policies audit.events"]
    );
    let others = looked(&["--check", "owners", "--check", "rules"]);
    assert_eq!(found(&others), [""; 0]);
    assert_eq!(findings(&others).len(), 2);
    assert_eq!(others.status.code(), Some(0));
    // Every finding's check has a name.
    let all = findings(&looked(&[]));
    let names: BTreeSet<&str> = all
        .iter()
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    let words: Vec<&str> = names
        .into_iter()
        .flat_map(|name| ["--check", name])
        .collect();
    assert_eq!(findings(&looked(&words)).len(), all.len());
    // If nothing could be compared, every check reports that.
    postgres.psql("ALTER SCHEMA audit RENAME TO other");
    assert_eq!(
        found(&looked(&["--check", "rules"])),
        ["problem tables audit"]
    );
    let unknown = looked(&["--check", "polices"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("policies"));
}

#[test]
fn finding_accepted_with_a_reason_does_not_fail_the_run() {
    let postgres = with_partitions();
    postgres.psql("DROP POLICY tenant ON audit.events; DROP TRIGGER append_only ON audit.batches");
    let folder = testkit::trail::Folder::new();
    std::fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("accepted.json");
    let accept = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let words = [
            "doctor",
            "--json",
            "--strict",
            "--accept",
            file.to_str().unwrap(),
        ];
        command(&postgres.url(), &words).output().unwrap()
    };
    // One as printed, with a reason; another accepted however it is found.
    let mut printed = findings(&doctor(&postgres.url()));
    printed.retain(|finding| finding["check"] == "policies" && finding["severity"] == "problem");
    printed[0]["reason"] = "one tenant".into();
    let other = r#"{"check": "triggers", "object": "audit.batches", "reason": "until Monday"}"#;
    let accepted = accept(&format!("[{}, {other}]", printed[0]));
    assert_eq!(
        found(&accepted),
        [
            "accepted policies audit.events",
            "accepted triggers audit.batches"
        ]
    );
    assert_eq!(accepted.status.code(), Some(0), "{}", stdout(&accepted));

    // Found differently, it is not accepted; and an accepted finding that does not occur is
    // reported.
    postgres.psql("CREATE POLICY tenant ON audit.events USING (true)");
    let accepted = accept(&format!("[{}, {other}]", printed[0]));
    assert_eq!(
        found(&accepted),
        [
            "accepted triggers audit.batches",
            "problem policies audit.events",
            "warning accepted audit.events"
        ]
    );
    assert_eq!(accepted.status.code(), Some(1));

    for (text, said) in [
        (
            r#"[{"check": "triggers", "object": "audit.batches"}]"#,
            "entry 1 has no reason",
        ),
        (r#"{"check": "triggers"}"#, "array"),
    ] {
        let refused = accept(text);
        assert_eq!(refused.status.code(), Some(2));
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn max_age_finds_a_trail_without_recent_batches() {
    let postgres = with_partitions();
    let within = |age: &str| {
        let words = ["doctor", "--json", "--max-age", age];
        command(&postgres.url(), &words).output().unwrap()
    };
    let silent = "problem newest_batch newest batch";
    assert_eq!(found(&within("1h")), [silent]);
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, committed_at)
        VALUES ('00000000-0000-7000-8000-00000000000a', 1, 1, '{\"events\": 1}', 0, audit.id_at(now()), audit.id_at(now()), 'test', now() - interval '2 hours');
        INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
        VALUES (audit.id_at(now()), now(), 'succeeded', '00000000-0000-7000-8000-00000000000a', 1, '')",
    );
    assert_eq!(found(&within("1h")), [silent]);
    assert_eq!(found(&within("3h")), [""; 0]);
    assert_eq!(within("soon").status.code(), Some(2));
}

#[test]
fn doctor_exits_with_2_when_the_server_is_unreachable() {
    // Nothing listens on port 1.
    let looked = doctor("postgres://u:hunter2@127.0.0.1:1/d");
    assert_eq!(looked.status.code(), Some(2));
    assert_eq!(stdout(&looked), "");
    assert!(!String::from_utf8_lossy(&looked.stderr).contains("hunter2"));
}

#[test]
fn doctor_never_reads_or_runs_objects_that_shadow_the_catalog() {
    let postgres = with_partitions();
    // As the owner of a database may do to whoever checks it.
    postgres.psql(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE TABLE evil.pg_policy AS SELECT * FROM pg_policy; CREATE TABLE evil.pg_trigger AS SELECT * FROM pg_trigger;
        ALTER DATABASE audit SET search_path = evil, pg_catalog",
    );
    let path = "problem role_settings database audit";
    assert_eq!(found(&doctor(&postgres.url())), [path]);
    postgres.psql("DROP POLICY tenant ON audit.events; DROP TRIGGER append_only ON audit.batches");
    assert_eq!(
        found(&doctor(&postgres.url())),
        [
            "problem policies audit.events",
            path,
            "problem triggers audit.batches"
        ]
    );
}

#[test]
fn control_characters_in_names_are_not_printed() {
    let postgres = with_partitions();
    postgres.psql("CREATE TABLE audit.\"x\x1b[31m\u{202e}\" ()");
    for words in [&["doctor"][..], &["doctor", "--json"]] {
        let looked = command(&postgres.url(), words).output().unwrap();
        assert_eq!(looked.status.code(), Some(1));
        let text = stdout(&looked);
        assert!(
            !text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{text}"
        );
    }
}
