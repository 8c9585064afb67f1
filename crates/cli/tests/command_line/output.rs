//! Help, exit codes and lines on a terminal.

use super::{
    STORY, Tail, WRITER_B, bare, command, migrate, migrated, run, stderr, stdout,
    with_old_partitions,
};
use testkit::Postgres;

#[test]
fn empty_results_and_errors_have_distinct_exit_codes() {
    let postgres = Postgres::start();
    let no_tables = run(&postgres, &["show", "req-1"]);
    assert_eq!(no_tables.status.code(), Some(2));
    assert!(
        stderr(&no_tables).contains("tracing-audit migrate"),
        "{}",
        stderr(&no_tables)
    );

    migrate(&postgres);
    let unknown = run(&postgres, &["show", "req-\u{1b}[31m"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(stdout(&unknown), "");
    assert!(
        stderr(&unknown).contains("no record of request"),
        "{}",
        stderr(&unknown)
    );
    assert!(!stderr(&unknown).contains('\u{1b}'));
    let unknown = run(&postgres, &["show", "--json", "req-1"]);
    assert_eq!(
        (unknown.status.code(), stdout(&unknown).trim()),
        (Some(1), "[]")
    );

    let nowhere = bare().args(["show", "req-1"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(
        stderr(&nowhere).contains("AUDIT_DATABASE_URL"),
        "{}",
        stderr(&nowhere)
    );
}

#[test]
fn lines_fit_the_terminal() {
    let postgres = with_old_partitions();
    postgres.psql(STORY);
    // A chain of records, the last of which has long texts.
    postgres.psql(
        "INSERT INTO audit.query_runs (id, request_id, parent_id, question_text, sql_text, error_code, error_message, status,
            started_at, metadata, problems, writer_id, seq, salt)
        SELECT test_id(50 + n, '2026-05-04 09:30Z'), 'req-1', test_id(49 + n, '2026-05-04 09:30Z'),
            repeat('What is it? ', 30), repeat('x', 500), 'a_code', repeat('wrong ', 40), 'failed', '2026-05-04 09:30Z',
            jsonb_build_object('a', repeat('b', 300)), ARRAY[repeat('problem ', 40)],
            '00000000-0000-7000-8000-00000000000a', 50 + n, '' FROM generate_series(1, 14) AS n;
        INSERT INTO audit_parts.events_default (id, tenant_id, status, created_at, writer_id, seq, salt)
        SELECT audit.id_at(at), audit.tenant_uuid('acme'), 'succeeded', at, gen_random_uuid(), 1, ''
        FROM unnest(ARRAY['2014-05-04Z', now() + interval '9 years']::timestamptz[]) at;
        ALTER TABLE audit.events NO FORCE ROW LEVEL SECURITY;
        GRANT SELECT, INSERT, UPDATE, DELETE ON audit.query_runs, audit.prompt_runs, audit.events TO PUBLIC",
    );
    postgres.psql(&format!(
        "SELECT test_batch('{WRITER_B}', 1, 3, gen_random_uuid()::text, 'a-tenant-of-a-long-name')"
    ));
    for reason in [
        "case 17",
        "a case of which there is very much to be said, and all of it has to be on record here",
    ] {
        let held = run(
            &postgres,
            &[
                "hold", "--reason", reason, "--tenant", "acme", "--kind", "events",
            ],
        );
        assert!(held.status.success(), "{}", stderr(&held));
    }
    let url = postgres.url();
    for columns in [40, 80, 120] {
        let fits = |text: &str, words: &[&str]| {
            assert!(!text.is_empty(), "{words:?}");
            for line in text.lines() {
                assert!(
                    line.chars().count() <= columns,
                    "{words:?} at {columns}: {line}\n{text}"
                );
            }
        };
        for words in [
            &["show", "req-1"][..],
            &["show", "req-1", "--full"],
            &["hold", "--list"],
            &["retain", "--keep", "7 years"],
            &["retain", "--keep", "70 years"],
            &["settle"],
            &["doctor"],
        ] {
            let mut command = bare();
            command
                .args(words)
                .env("DATABASE_URL", &url)
                .env("COLUMNS", columns.to_string());
            let told = command.output().unwrap();
            assert_ne!(told.status.code(), Some(2), "{}", stderr(&told));
            fits(&stdout(&told), words);
        }
        let mut tail = command(&postgres, &["tail"]);
        tail.env("COLUMNS", columns.to_string());
        let tail = Tail::spawn(tail);
        tail.wait_for("SELECT 2");
        fits(&tail.interrupt().1, &["tail"]);
    }
    // Removing and moving print more.
    let mut command = bare();
    command
        .args(["settle", "--yes"])
        .env("DATABASE_URL", &url)
        .env("COLUMNS", "40");
    let told = stdout(&command.output().unwrap());
    assert!(told.contains("settled\n  event"), "{told}");
    assert!(
        told.lines().all(|line| line.chars().count() <= 40),
        "{told}"
    );
}

#[test]
fn advice_is_valid_sql_on_a_narrow_terminal() {
    let postgres = migrated();
    postgres.psql("GRANT SELECT, INSERT, UPDATE, DELETE ON audit.query_runs TO PUBLIC; ALTER TABLE audit.events NO FORCE ROW LEVEL SECURITY");
    let mut doctor = bare();
    doctor
        .args(["doctor"])
        .env("DATABASE_URL", postgres.url())
        .env("COLUMNS", "40");
    let told = stdout(&doctor.output().unwrap());
    let mut advice = String::new();
    let mut is_advice = false;
    for line in told.lines() {
        // A label is above its text.
        let begins = |word: &&str| line.starts_with(&format!("  {word}"));
        if line == "  to mend it:" {
            is_advice = true;
        } else if line.is_empty() || ["ok ", "warning ", "problem ", "note:"].iter().any(begins) {
            is_advice = false;
        } else if is_advice {
            advice.push_str(line);
            advice.push('\n');
        }
    }
    assert!(advice.contains("REVOKE"), "{told}");
    postgres.psql(&advice);
    let again = run(&postgres, &["doctor"]);
    assert_eq!(again.status.code(), Some(0), "{}", stdout(&again));
}

#[test]
fn help_describes_the_requested_command() {
    let help = |words: &[&str]| {
        let mut command = bare();
        let output = command
            .args(words)
            .env("AUDIT_DATABASE_URL", "postgres://127.0.0.1:1/none")
            .output()
            .unwrap();
        format!("{}{}", stdout(&output), stderr(&output))
    };
    // Without their required arguments, commands print their usage.
    for words in [
        &["show"][..],
        &["retain"],
        &["hold"],
        &["release"],
        &["spool", "drain"],
    ] {
        let usage = help(words);
        assert!(
            usage.contains("Usage:") && !usage.contains("--url"),
            "{usage}"
        );
    }
    for (command, json) in [
        ("show", "an array of the records"),
        ("find", "an array of the requests"),
        ("tail", "a line of JSON"),
    ] {
        let help = help(&[command, "-h"]);
        let line = help.lines().find(|line| line.contains("--json")).unwrap();
        assert!(line.contains(json), "{help}");
    }
}
