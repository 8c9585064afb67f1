//! The command line as a user runs it: the built program against a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testkit::{Postgres, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// Functions of the tests: a record's id, and a batch of query runs, each of a request
/// `<name>-<number>`.
const TEST_FUNCTIONS: &str = "
    CREATE FUNCTION test_id(n int, at timestamptz) RETURNS uuid LANGUAGE sql AS $$
        SELECT overlay(audit.id_at(at)::text PLACING '7000-8000-' || lpad(n::text, 12, '0') FROM 15)::uuid
    $$;
    CREATE FUNCTION test_batch(writer uuid, first bigint, n int, name text, tenant text DEFAULT 'acme') RETURNS void
    LANGUAGE plpgsql AS $$
    DECLARE
        at constant timestamptz := clock_timestamp();
        least constant int := (random() * 100000000)::int;
    BEGIN
        PERFORM audit.ensure_partition('query_runs', at);
        INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters,
            first_id, last_id, library_version)
        VALUES (writer, first, first + n - 1, jsonb_build_object('query_runs', n), 0,
            test_id(least, at), test_id(least + n - 1, at), 'test');
        INSERT INTO audit.query_runs
            (id, tenant_id, request_id, sql_text, status, started_at, metadata, writer_id, seq, salt)
        SELECT test_id(least + i, at), audit.tenant_uuid(tenant), name || '-' || i, 'SELECT ' || i, 'succeeded', at,
            jsonb_build_object('tenant_key', tenant), writer, first + i, ''
        FROM generate_series(0, n - 1) AS i;
    END $$;";

/// A request with an event, a prompt below it, two queries below that (one of which failed and was
/// retried), and a query whose parent is missing; inserted out of order.
const STORY: &str = r#"
    SELECT audit.ensure_partition(t, '2026-05-04 09:30Z')
        FROM unnest(audit.record_tables()) AS t;
    INSERT INTO audit.query_runs (id, tenant_id, user_id, user_role, request_id, parent_id,
        service_name, question_text, sql_text, row_count, status, error_code, error_message,
        started_at, finished_at, duration_ms, metadata, problems, writer_id, seq, salt)
    SELECT test_id(n, started), audit.tenant_uuid('acme'), 'alice', 'analyst', 'req-1',
        parent, 'nl2sql', question, sql, count, status::audit.run_status, code, message,
        started, finished, extract(epoch FROM finished - started) * 1000, metadata::jsonb || '{"tenant_key": "acme"}', problems, writer, n, ''
    FROM (VALUES
        (4, test_id(2, '2026-05-04 09:30:00.003Z'), 'How many orders?', E'SELECT count(*)\n  FROM orders -- \x1b[31mred\x07 \u202e\u009b',
            1, 'succeeded', NULL, NULL, '2026-05-04 09:30:01Z'::timestamptz, '2026-05-04 09:30:01.012Z'::timestamptz, '{"attempt": 2, "note": "ok"}', '{}'::text[]),
        (3, test_id(2, '2026-05-04 09:30:00.003Z'), 'How many orders?', 'SELECT count(*) FROM order',
            NULL, 'failed', '42601', 'syntax error', '2026-05-04 09:30:00.9Z', '2026-05-04 09:30:00.90042Z', '{}', '{row_count: not an integer}'),
        (5, '00000000-0000-7000-8000-0000000000ff', NULL, 'SELECT 1',
            NULL, 'unknown', NULL, NULL, '2026-05-04 09:30:02Z', NULL, '{}', '{}')
    ) AS v (n, parent, question, sql, count, status, code, message, started, finished, metadata, problems),
    (SELECT '00000000-0000-7000-8000-00000000000a'::uuid AS writer) AS w;
    INSERT INTO audit.prompt_runs (id, tenant_id, user_id, user_role, request_id, parent_id,
        service_name, model_name, provider, prompt_template_name, prompt_template_version,
        rendered_prompt, response_text, input_token_count, output_token_count, status,
        created_at, finished_at, metadata, writer_id, seq, salt)
    VALUES (test_id(2, '2026-05-04 09:30:00.003Z'), audit.tenant_uuid('acme'), 'alice', 'analyst',
        'req-1', test_id(1, '2026-05-04 09:30Z'), 'nl2sql', 'replay-1', 'replay', 'nl2sql', 3,
        repeat('All work and no play. ', 100), 'SELECT', 812, 14, 'succeeded', '2026-05-04 09:30:00.003Z',
        '2026-05-04 09:30:00.833Z', '{"tenant_key": "acme"}', '00000000-0000-7000-8000-00000000000a', 2, '');
    INSERT INTO audit.events (id, tenant_id, user_id, user_role, request_id, service_name,
        action_type, target_type, target_id, output_summary, status, created_at, latency_ms,
        metadata, writer_id, seq, salt)
    VALUES (test_id(1, '2026-05-04 09:30Z'), audit.tenant_uuid('acme'), 'alice', 'analyst', 'req-1',
        'nl2sql', 'answer', 'question', '42', 'One row.', 'succeeded', '2026-05-04 09:30Z', 1204,
        '{"tenant_key": "acme"}', '00000000-0000-7000-8000-00000000000a', 1, '');"#;

/// What `show req-1` prints about it without a terminal.
const TOLD: &str = r#"Request req-1
  tenant       acme (cef41eed-96b2-8b03-b04f-8adef1c9def6)
  user         alice
  user role    analyst
  service      nl2sql
  began        2026-05-04 09:30:00.000 UTC
  took         2.00 s or more: the end of a run is not known
  records      3 query runs, 1 prompt run, 1 event; 1 failed, 3 succeeded, 1 unknown

├─ event answer → question/42  succeeded  +0 ms  1.20 s
│  │  output       One row.
│  └─ prompt run nl2sql v3  succeeded  +3.00 ms  830 ms
│     │  model        replay-1 (replay)  tokens: 812 in, 14 out
│     │  prompt       PROMPT
│     │               … 1600 more characters (--full)
│     │  response     SELECT
│     ├─ query run  failed  +900 ms  0.42 ms
│     │     question     How many orders?
│     │     sql          SELECT count(*) FROM order
│     │     error        42601: syntax error
│     │     problems     row_count: not an integer
│     └─ query run  succeeded  +1.00 s  12 ms
│           question     How many orders?
│           sql          SELECT count(*)
│                          FROM orders -- \x1b[31mred\x07 \u{202e}\u{9b}
│           result       1 row returned
│           metadata     attempt = 2
│                        note = "ok"
└─ query run  unknown  +2.00 s  end not known
      parent       00000000-0000-7000-8000-0000000000ff (not among these records)
      sql          SELECT 1
"#;

const WRITER_A: &str = "00000000-0000-7000-8000-00000000000a";
const WRITER_B: &str = "00000000-0000-7000-8000-00000000000b";

#[test]
fn migrate_creates_the_tables_and_lists_what_exists() {
    let postgres = Postgres::start();
    let first = run(&postgres, &["migrate"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).contains("is ready"), "{}", stdout(&first));
    let second = run(&postgres, &["migrate"]);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    let said = stdout(&second);
    assert!(
        said.contains("up to date already: version 2, rights"),
        "{said}"
    );
    for table in ["query_runs", "prompt_runs", "events"] {
        assert!(said.contains(&format!("audit.{table}")), "{said}");
    }
}

#[test]
fn migrate_prints_sql_that_creates_the_same_schema() {
    // Without a database.
    let printed = bare().args(["migrate", "--print"]).output().unwrap();
    assert!(printed.status.success(), "{}", stderr(&printed));
    let script = stdout(&printed);
    assert_eq!(script, tracing_audit::migration_script());
    let postgres = Postgres::start();
    postgres.psql(&format!("BEGIN; {script} COMMIT;"));
    let doctor = run(&postgres, &["doctor"]);
    assert!(doctor.status.success(), "{}", stdout(&doctor));
    let second = run(&postgres, &["migrate"]);
    assert!(
        stdout(&second).contains("up to date already"),
        "{}",
        stdout(&second)
    );
}

#[test]
fn show_prints_the_request_as_a_tree_ordered_by_start_time() {
    let postgres = migrated();
    postgres.psql(STORY);
    let shown = run(&postgres, &["show", "req-1"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let prompt = &"All work and no play. ".repeat(100)[..600];
    assert_eq!(stdout(&shown), TOLD.replace("PROMPT", prompt.trim_end()));

    // Whatever the rows contain, only plain text reaches the terminal.
    assert!(!stdout(&shown).contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'));

    let full = run(&postgres, &["show", "--full", "req-1"]);
    assert!(stdout(&full).contains(&"All work and no play. ".repeat(99)));

    let narrow = command(&postgres, &["show", "req-1"])
        .env("COLUMNS", "60")
        .output()
        .unwrap();
    let widest = stdout(&narrow)
        .lines()
        .map(|line| line.chars().count())
        .max();
    assert!(
        widest.is_some_and(|widest| widest <= 60),
        "{}",
        stdout(&narrow)
    );
}

#[test]
fn show_prints_complete_rows_as_json() {
    let postgres = migrated();
    postgres.psql(STORY);
    let shown = run(&postgres, &["show", "--json", "req-1"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    assert!(!stdout(&shown).contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'));
    let rows: Vec<Value> = serde_json::from_str(&stdout(&shown)).unwrap();
    let kinds: Vec<&str> = rows
        .iter()
        .map(|row| row["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["event", "prompt_run", "query_run", "query_run", "query_run"]
    );
    assert_eq!(
        rows[3]["sql_text"],
        "SELECT count(*)\n  FROM orders -- \u{1b}[31mred\u{7} \u{202e}\u{9b}"
    );
    assert_eq!(rows[3]["metadata"]["attempt"], 2);
}

#[test]
fn show_reads_only_the_given_tenant() {
    let postgres = migrated();
    postgres.psql(STORY);
    let own = run(&postgres, &["show", "req-1", "--tenant", "acme"]);
    assert_eq!(own.status.code(), Some(0), "{}", stderr(&own));
    let other = run(&postgres, &["show", "req-1", "--tenant", "globex"]);
    assert_eq!(other.status.code(), Some(1));
    assert_eq!(stdout(&other), "");
}

#[test]
fn show_terminates_when_parent_ids_form_a_cycle() {
    let postgres = migrated();
    postgres.psql(
        "SELECT audit.ensure_partition('query_runs', '2026-05-04 09:30Z');
        INSERT INTO audit.query_runs
            (id, request_id, parent_id, sql_text, status, started_at, writer_id, seq, salt)
        SELECT test_id(n, at), 'loop', test_id(parent, at), 'SELECT ' || n, 'succeeded', at,
            gen_random_uuid(), 1, ''
        FROM (VALUES (1, 2), (2, 3), (3, 1), (4, 4), (5, 3)) AS v (n, parent),
            (SELECT '2026-05-04 09:30Z'::timestamptz AS at) AS t",
    );
    let shown = run(&postgres, &["show", "loop"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    for n in 1..=5 {
        let lines = stdout(&shown)
            .lines()
            .filter(|l| l.ends_with(&format!("SELECT {n}")))
            .count();
        assert_eq!(lines, 1, "{}", stdout(&shown));
    }
}

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
fn password_is_never_printed() {
    // Nothing listens on port 1.
    for url in [
        "postgres://u:hunter2@127.0.0.1:1/d",
        "mysql://u:hunter2@h/d",
        "postgres://u:hunter2@h:x/d",
    ] {
        for words in [
            &["show", "req-1"][..],
            &["tail"],
            &["migrate"],
            &["doctor"],
            &["retain", "--keep", "7 years"],
            &["hold", "--list"],
            &["release", WRITER_A, "--reason", "closed"],
            &["--help"],
        ] {
            let said = bare()
                .args(words)
                .env("AUDIT_DATABASE_URL", url)
                .output()
                .unwrap();
            assert!(!stdout(&said).contains("hunter2"), "{}", stdout(&said));
            assert!(!stderr(&said).contains("hunter2"), "{}", stderr(&said));
        }
    }
}

#[test]
fn argument_that_may_hold_a_password_is_not_echoed() {
    let url = "postgres://u:hunter2@127.0.0.1:1/d";
    for words in [
        &["doctor", url][..],
        &[url],
        &["show", url],
        &["release", url, "--reason", "closed"],
        &["spool", "list", url],
        &["spool", "drain", url],
        &["doctor", "--max-age", url],
        &["doctor", "--json=postgres://u:hunter2@127.0.0.1:1/d"],
        &["doctor", "--accept", url],
        &["find", "--since", url],
        &["hold", "--tenant", url],
        &["migrate", "--writer-login", url],
        &["--postgres://u:hunter2@h/d"],
        &["doctor", "u:hunter2@h/d"],
        &["doctor", "host=h password=hunter2"],
        &["--url", "postgres://u:p@h/d?password=a&hunter2", "doctor"],
        &["--url", "postgres://u:p?hunter2", "doctor"],
        &["--url", "postgres://u:12?hunter2=x", "doctor"],
    ] {
        let said = bare().args(words).output().unwrap();
        assert_eq!(said.status.code(), Some(2), "{words:?}: {}", stderr(&said));
        assert!(!stdout(&said).contains("hunter2"), "{}", stdout(&said));
        assert!(!stderr(&said).contains("hunter2"), "{}", stderr(&said));
        assert!(!stderr(&said).is_empty());
    }
    let said = bare().args(["doctor", url]).output().unwrap();
    assert!(stderr(&said).contains("--url"), "{}", stderr(&said));
    let usual = bare().arg("doctr").output().unwrap();
    assert!(stderr(&usual).contains("'doctor'"), "{}", stderr(&usual));
}

#[test]
fn command_names_an_invalid_libpq_variable_in_its_error() {
    for (name, value) in [("PGSSLMODE", "verify-fll"), ("PGCHANNELBINDING", "require")] {
        let said = bare()
            .args(["--url", "postgres://u@127.0.0.1:1/d", "doctor"])
            .env(name, value)
            .output()
            .unwrap();
        assert_eq!(said.status.code(), Some(2));
        let said = stderr(&said);
        assert!(
            said.contains(&format!("environment variable {name}:")),
            "{said}"
        );
    }
}

#[test]
fn tail_prints_each_row_once_even_if_its_batch_commits_late() {
    let postgres = migrated();
    let url = postgres.url();
    tail_prints_each_row_once(postgres, &url);
}

#[test]
fn tail_shows_a_reader_only_rows_of_its_tenant_each_once() {
    let postgres = migrated();
    let url = url_as(&postgres, "reader");
    let unnamed = as_login(&postgres, "reader", &["tail"]);
    assert_eq!(unnamed.status.code(), Some(2));
    assert!(
        stderr(&unnamed).contains("--tenant"),
        "{}",
        stderr(&unnamed)
    );
    postgres.psql(&format!(
        "SELECT test_batch('{WRITER_A}', 1, 2, 'mine'), test_batch('{WRITER_B}', 1, 2, 'theirs', 'globex')"
    ));
    // Not even the number of other tenants' records is visible.
    let told = |tenant: &str| {
        postgres.psql(&format!(
            "SET SESSION AUTHORIZATION reader; SET app.current_tenant = '{tenant}';
            SELECT writer_id, first_seq, last_seq, first_id = last_id, tables FROM audit.tenant_batches('-infinity', '{{}}', '{{}}')"
        ))
    };
    let (acme, nobody) = (
        postgres.psql("SELECT audit.tenant_uuid('acme')"),
        postgres.psql("SELECT audit.tenant_uuid('nobody')"),
    );
    assert_eq!(told(&acme), format!("{WRITER_A}|1|2|f|{{query_runs}}"));
    assert_eq!(told(&nobody), "");
    assert_eq!(told(""), "");
    let newest = Tail::start_at(&url, &["--tenant", "acme", "--last", "1"]);
    newest.wait_for("mine-1");
    let (_, text) = newest.interrupt();
    assert!(
        !text.contains("mine-0") && !text.contains("theirs"),
        "{text}"
    );
    drop(postgres);

    let postgres = migrated();
    let url = url_as(&postgres, "reader");
    tail_prints_each_row_once(postgres, &url);
}

/// Follows one tenant as the URL's login, while another tenant's rows are added as well.
fn tail_prints_each_row_once(mut postgres: Postgres, url: &str) {
    const WRITER_C: &str = "00000000-0000-7000-8000-00000000000c";
    let other = |postgres: &Postgres, first: u32| {
        postgres.psql(&format!(
            "SELECT test_batch('{WRITER_C}', {first}, 1, 'other', 'globex')"
        ))
    };
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 1, 1, 'before')"));
    other(&postgres, 1);
    let tail = Tail::start_at(url, &["--last", "1", "--json", "--tenant", "acme"]);
    // By the time it prints the existing rows, it has its position in the trail.
    tail.wait_for("before-0");

    // A batch that is written first and committed last, by a new writer.
    postgres.psql("CREATE TABLE released ()");
    thread::scope(|scope| {
        let held = scope.spawn(|| {
            postgres.psql(&format!(
                "BEGIN; SELECT test_batch('{WRITER_B}', 1, 2, 'held'); CREATE TABLE written ();
                DO $$ BEGIN
                    WHILE NOT EXISTS (SELECT FROM pg_attribute
                        WHERE attrelid = 'released'::regclass AND attname = 'now') LOOP
                        PERFORM pg_sleep(0.01);
                    END LOOP;
                END $$;
                COMMIT"
            ))
        });
        wait_until("the held batch is written", PATIENCE, || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            postgres.psql(waiting) == "1"
        });
        other(&postgres, 2);
        postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 2, 3, 'early')"));
        tail.wait_for("early-2");
        assert!(!tail.text().contains("held"));
        postgres.psql("ALTER TABLE released ADD COLUMN now int");
        held.join().unwrap();
    });
    tail.wait_for("held-1");

    // Rows committed while the connection was down.
    postgres.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tracing-audit'",
    );
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 5, 2, 'cut')"));
    tail.wait_for("cut-1");
    other(&postgres, 3);
    postgres.restart();
    postgres.psql(&format!(
        "SELECT test_batch('{WRITER_B}', 3, 1, 'restarted')"
    ));
    tail.wait_for("restarted-0");

    let (status, text) = tail.interrupt();
    assert_eq!(status.code(), Some(0), "Ctrl-C ends it cleanly");
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let requests: Vec<&str> = rows
        .iter()
        .map(|row| row["request_id"].as_str().unwrap())
        .collect();
    assert_eq!(
        requests,
        [
            "before-0",
            "early-0",
            "early-1",
            "early-2",
            "held-0",
            "held-1",
            "cut-0",
            "cut-1",
            "restarted-0"
        ]
    );
}

#[test]
fn tail_starts_with_the_newest_rows_one_per_line() {
    let postgres = migrated();
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 1, 3, 'older')"));
    postgres.psql(&format!("SELECT test_batch('{WRITER_B}', 1, 2, 'newer')"));
    let tail = Tail::start(&postgres, &["--last", "3"]);
    tail.wait_for("newer-1");
    let (_, text) = tail.interrupt();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().skip(2).collect())
        .collect();
    assert_eq!(
        lines,
        [
            [
                "query_run",
                "succeeded",
                "-",
                "acme",
                "-",
                "older-2",
                "SELECT",
                "2"
            ],
            [
                "query_run",
                "succeeded",
                "-",
                "acme",
                "-",
                "newer-0",
                "SELECT",
                "0"
            ],
            [
                "query_run",
                "succeeded",
                "-",
                "acme",
                "-",
                "newer-1",
                "SELECT",
                "1"
            ],
        ]
    );
}

#[test]
fn tail_goes_on_after_a_batch_that_takes_too_long_to_read() {
    let postgres = migrated();
    postgres.psql(&format!(
        "SELECT audit.ensure_partition('query_runs', '2020-01-15Z'); SELECT test_batch('{WRITER_A}', 1, 1, 'before')"
    ));
    let tail = Tail::start_at(&postgres.url(), &["--last", "1"]);
    tail.wait_for("before-0");
    // Whoever writes may say of a batch that its rows are anywhere.
    let mut slow = postgres.session("postgres");
    slow.run("BEGIN; LOCK TABLE audit_parts.query_runs_2020_01 IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    postgres.psql(&format!(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
         VALUES ('{WRITER_B}', 1, 1, '{{\"query_runs\": 1}}', 0, audit.id_at('2020-01-02Z'), audit.id_at('2020-01-03Z'), 'test')"
    ));
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 2, 1, 'after')"));
    tail.wait_for("after-0");
    // And so does the beginning.
    let again = Tail::start_at(&postgres.url(), &["--last", "3"]);
    again.wait_for("after-0");
    assert!(again.text().contains("before-0"), "{}", again.text());
}

#[test]
fn tail_exits_when_its_output_pipe_is_closed() {
    let postgres = migrated();
    postgres.psql(&format!("SELECT test_batch('{WRITER_A}', 1, 2, 'row')"));
    let mut child = command(&postgres, &["tail"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // Like `head -1`: reads a line and closes the pipe, and no row comes after that.
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("row-0"), "{line}");
    assert_eq!(end_of(&mut child).code(), Some(0));
}

#[test]
fn retain_without_yes_prints_its_plan_and_changes_nothing() {
    let postgres = with_old_partitions();
    let before = postgres.psql(EVERYTHING);
    let planned = run(&postgres, &["retain", "--keep", "7 years"]);
    assert_eq!(planned.status.code(), Some(0), "{}", stderr(&planned));
    let lines: Vec<Vec<String>> = words_of_lines(&stdout(&planned));
    assert_eq!(
        lines[0][..6],
        [
            "events_2012_05",
            "2012-05-01",
            "to",
            "2012-06-01",
            "3",
            "rows"
        ]
    );
    assert_eq!(lines[0][8..], ["would", "be", "removed"]);
    assert_eq!(lines[1][0], "query_runs_2012_05");
    assert_eq!(lines[2][0], "events_2013_01");
    assert!(
        stdout(&planned).ends_with("3 would be removed, 0 would stay. Nothing was changed: run this again with --yes to remove what can be.\n"),
        "{}",
        stdout(&planned)
    );
    assert_eq!(postgres.psql(EVERYTHING), before);

    let of_kind = run(
        &postgres,
        &[
            "retain",
            "--keep",
            "7 years",
            "--kind",
            "query_runs",
            "--json",
        ],
    );
    let planned: Vec<Value> = serde_json::from_str(&stdout(&of_kind)).unwrap();
    assert_eq!(planned.len(), 1, "{planned:?}");
    assert_eq!(planned[0]["partition"], "query_runs_2012_05");
    assert_eq!(planned[0]["kind"], "query_runs");
    assert_eq!(planned[0]["from"], "2012-05-01T00:00:00Z");
    assert_eq!(planned[0]["rows"], 0);
    assert_eq!(planned[0]["removed"], false);
    assert_eq!(planned[0]["event"], Value::Null);
    assert_eq!(planned[0]["obstacles"], serde_json::json!([]));
    assert_eq!(postgres.psql(EVERYTHING), before);

    let nothing = run(&postgres, &["retain", "--keep", "80 years", "--yes"]);
    assert_eq!(nothing.status.code(), Some(0));
    assert!(
        stdout(&nothing).contains("Nothing was changed"),
        "{}",
        stdout(&nothing)
    );
}

#[test]
fn retain_removes_eligible_partitions_and_names_the_obstacles_of_the_others() {
    let postgres = with_old_partitions();
    let answer = run(
        &postgres,
        &[
            "hold",
            "--reason",
            "case 17",
            "--from",
            "2013-01-15",
            "--to",
            "2013-01-16",
            "--kind",
            "events",
            "--json",
        ],
    );
    assert_eq!(answer.status.code(), Some(0), "{}", stderr(&answer));
    let hold: Value = serde_json::from_str(&stdout(&answer)).unwrap();
    let hold = hold["id"].as_str().unwrap();

    let planned = run(&postgres, &["retain", "--keep", "7 years"]);
    assert_eq!(planned.status.code(), Some(0), "a plan is no failure");
    assert!(
        stdout(&planned).contains("2 would be removed, 1 would stay"),
        "{}",
        stdout(&planned)
    );
    assert!(stdout(&planned).contains(&format!("held by the legal hold {hold}")));

    let operator = as_login(
        &postgres,
        "operator",
        &["retain", "--keep", "7 years", "--yes", "--json"],
    );
    assert_eq!(operator.status.code(), Some(1), "{}", stderr(&operator));
    let removed: Vec<Value> = serde_json::from_str(&stdout(&operator)).unwrap();
    let summary: Vec<(&str, bool)> = removed
        .iter()
        .map(|partition| {
            (
                partition["partition"].as_str().unwrap(),
                partition["removed"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        summary,
        [
            ("events_2012_05", true),
            ("query_runs_2012_05", true),
            ("events_2013_01", false)
        ]
    );
    assert_eq!(postgres.psql(OLD_PARTITIONS), "events_2013_01");
    // The removal is in the trail, with who did it.
    let told = postgres.psql(&format!(
        "SELECT user_id, action_type, target_id FROM audit.events WHERE id = '{}'",
        removed[0]["event"].as_str().unwrap()
    ));
    assert_eq!(told, "operator|audit.partition_removed|events_2012_05");
    assert_eq!(postgres.psql("SELECT sum(rows) FROM audit.removals"), "3");

    // Once the hold is lifted, it is removed too.
    let not_operator = as_login(
        &postgres,
        "operator",
        &["release", hold, "--reason", "closed"],
    );
    assert_eq!(
        not_operator.status.code(),
        Some(2),
        "who removes lifts no hold"
    );
    assert!(
        stderr(&not_operator).contains("audit_auditor"),
        "{}",
        stderr(&not_operator)
    );
    let released = as_login(
        &postgres,
        "auditor",
        &["release", hold, "--reason", "closed"],
    );
    assert_eq!(released.status.code(), Some(0), "{}", stderr(&released));
    let removed = run(&postgres, &["retain", "--keep", "7 years", "--yes"]);
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    assert!(
        stdout(&removed).ends_with("\n1 removed, 0 not removed.\n"),
        "{}",
        stdout(&removed)
    );
    assert_eq!(postgres.psql(OLD_PARTITIONS), "");
}

#[test]
fn retain_continues_after_the_removal_of_one_partition_is_refused() {
    let postgres = with_old_partitions();
    // The plan cannot see this: a host's event trigger refuses the removal.
    postgres.psql(
        "CREATE FUNCTION public.keep() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_name = 'events_2012_05') THEN
                RAISE EXCEPTION 'this one stays' USING ERRCODE = 'dependent_objects_still_exist';
            END IF; END $$;
         CREATE EVENT TRIGGER keep ON sql_drop EXECUTE FUNCTION public.keep()",
    );
    let removed = run(&postgres, &["retain", "--keep", "7 years", "--yes"]);
    assert_eq!(removed.status.code(), Some(1), "{}", stderr(&removed));
    let said = stdout(&removed);
    assert!(said.contains("this one stays"), "{said}");
    assert!(said.ends_with("2 removed, 1 not removed.\n"), "{said}");
    assert_eq!(postgres.psql(OLD_PARTITIONS), "events_2012_05");
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.removals WHERE partition = 'events_2012_05'"),
        "0"
    );
}

#[test]
fn whatever_postgres_says_of_one_month_concerns_that_month_alone() {
    let postgres = with_old_partitions();
    postgres.psql(
        "SELECT audit.ensure_partition('events', now());
         INSERT INTO audit_parts.events_default (id, status, created_at, writer_id, seq, salt)
             SELECT audit.id_at(at), 'succeeded', at, gen_random_uuid(), 1, '' FROM unnest(ARRAY['1990-01-15Z', '1991-01-15Z']::timestamptz[]) at",
    );
    let month = postgres.psql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')");
    for code in ["54000", "42P01", "22P02", "XX000", "53200", "55P03"] {
        // The event that tells of the change is what fails.
        postgres.psql(&format!(
            "CREATE OR REPLACE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.target_id IN ('events_1990_01', 'events_2012_05') THEN
                     RAISE EXCEPTION 'that one fails' USING ERRCODE = '{code}';
                 END IF;
                 IF NEW.action_type IN ('audit.partition_removed', 'audit.partition_settled') THEN
                     RAISE EXCEPTION 'the others would not' USING ERRCODE = '55006';
                 END IF;
                 RETURN NEW; END $$;
             DROP TRIGGER IF EXISTS fail ON audit_parts.events_{month};
             CREATE TRIGGER fail BEFORE INSERT ON audit_parts.events_{month} FOR EACH ROW EXECUTE FUNCTION public.fail()"
        ));
        for (words, others) in [
            (&["retain", "--keep", "7 years", "--yes"][..], 2),
            (&["settle", "--yes"], 1),
        ] {
            let done = run(&postgres, words);
            assert_eq!(done.status.code(), Some(1), "{code}: {}", stderr(&done));
            let said = stdout(&done);
            // What a value may stand in is not repeated.
            let (named, repeated) = (said.contains(code), said.contains("that one fails"));
            assert_eq!(
                (named, repeated),
                (code != "55P03", code != "22P02"),
                "{code}: {said}"
            );
            assert_eq!(
                said.matches("the others would not").count(),
                others,
                "{said}"
            );
        }
    }
    // What concerns all of them ends the run.
    postgres.psql(
        "REVOKE EXECUTE ON FUNCTION audit.remove_partition(text, interval) FROM audit_operator",
    );
    let done = as_login(
        &postgres,
        "operator",
        &["retain", "--keep", "7 years", "--yes"],
    );
    assert_eq!(done.status.code(), Some(2), "{}", stdout(&done));
}

#[test]
fn retain_refuses_an_invalid_or_too_short_retention_period() {
    let postgres = migrated();
    for (keep, said) in [
        ("7 yeers", "invalid input syntax"),
        ("1 hour", "kept for 30 days at least"),
    ] {
        let refused = run(&postgres, &["retain", "--keep", keep, "--yes"]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(said), "{}", stderr(&refused));
    }
    let without = run(&postgres, &["retain", "--yes"]);
    assert_eq!(without.status.code(), Some(2));
    let reader = as_login(&postgres, "auditor", &["retain", "--keep", "7 years"]);
    assert_eq!(reader.status.code(), Some(2));
    assert!(
        stderr(&reader).contains("audit_operator"),
        "{}",
        stderr(&reader)
    );
}

#[test]
fn only_permitted_logins_place_list_and_lift_holds() {
    let postgres = migrated();
    let none = as_login(&postgres, "auditor", &["hold", "--list"]);
    assert_eq!(stdout(&none), "There is no legal hold.\n");
    let unknown = as_login(
        &postgres,
        "operator",
        &["hold", "--reason", "case 17", "--tenant", "acme"],
    );
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        stderr(&unknown).contains("no record is of this tenant"),
        "{}",
        stderr(&unknown)
    );
    let answer = as_login(
        &postgres,
        "operator",
        &[
            "hold",
            "--reason",
            "case 17",
            "--tenant",
            "acme",
            "--even-if-unknown",
            "--from",
            "2026-01-01",
            "--kind",
            "events",
            "--kind",
            "query_runs",
        ],
    );
    assert_eq!(answer.status.code(), Some(0), "{}", stderr(&answer));
    let listed = as_login(&postgres, "auditor", &["hold", "--list", "--json"]);
    let found: Vec<Value> = serde_json::from_str(&stdout(&listed)).unwrap();
    let hold = &found[0];
    let id = hold["id"].as_str().unwrap();
    assert!(
        stdout(&answer).contains(&format!("tracing-audit release {id}")),
        "{}",
        stdout(&answer)
    );
    assert!(
        stdout(&answer).contains("It covers 0 records in 0 partitions now."),
        "{}",
        stdout(&answer)
    );
    assert_eq!(hold["records"], 0);
    assert_eq!(hold["tenant_key"], Value::Null);
    assert_eq!(hold["in_force"], true);
    assert_eq!(hold["reason"], "case 17");
    assert_eq!(hold["tenant_id"], "cef41eed-96b2-8b03-b04f-8adef1c9def6");
    assert_eq!(hold["kinds"], serde_json::json!(["events", "query_runs"]));
    assert_eq!(hold["from"], "2026-01-01T00:00:00Z");
    assert_eq!(hold["to"], Value::Null);
    assert_eq!(hold["placed_by"], "operator");

    let released = as_login(
        &postgres,
        "auditor",
        &["release", id, "--reason", "settled"],
    );
    assert_eq!(released.status.code(), Some(0), "{}", stderr(&released));
    let again = as_login(
        &postgres,
        "auditor",
        &["release", id, "--reason", "settled"],
    );
    assert_eq!(again.status.code(), Some(2));
    assert!(
        stderr(&again).contains("lifted before"),
        "{}",
        stderr(&again)
    );
    let unknown = as_login(
        &postgres,
        "auditor",
        &["release", WRITER_A, "--reason", "settled"],
    );
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        stderr(&unknown).contains("no legal hold"),
        "{}",
        stderr(&unknown)
    );

    let listed = stdout(&as_login(&postgres, "auditor", &["hold", "--list"]));
    assert!(
        listed.contains(&format!("{id}  lifted\n  reason   case 17\n")),
        "{listed}"
    );
    assert!(
        listed.contains("records  events, query_runs, from 2026-01-01T00:00:00Z on\n"),
        "{listed}"
    );
    assert!(listed.contains("by auditor: settled"), "{listed}");
    // Each step is in the trail.
    assert_eq!(
        postgres.psql("SELECT user_id, action_type FROM audit.events ORDER BY created_at"),
        "operator|audit.hold_placed\nauditor|audit.hold_lifted"
    );

    let without_reason = run(&postgres, &["hold"]);
    assert_eq!(without_reason.status.code(), Some(2));
}

#[test]
fn settle_moves_rows_out_of_the_default_partition_only_when_confirmed() {
    let postgres = migrated();
    postgres.psql(
        "INSERT INTO audit_parts.events_default (id, tenant_id, status, created_at, metadata, writer_id, seq, salt)
         SELECT audit.id_at(at), audit.tenant_uuid('acme'), 'succeeded', at, '{\"tenant_key\": \"acme\"}', gen_random_uuid(), 1, ''
         FROM unnest(ARRAY['2012-05-04Z', '2013-01-15Z', now() + interval '9 years']::timestamptz[]) at",
    );
    let in_default = "SELECT count(*) FROM audit_parts.events_default";
    let planned = as_login(&postgres, "operator", &["settle"]);
    assert_eq!(planned.status.code(), Some(0), "{}", stderr(&planned));
    let said = stdout(&planned);
    assert!(said.starts_with("events_2012_05 "), "{said}");
    assert!(said.contains("more than two months ahead"), "{said}");
    assert!(
        said.contains("2 would be settled, 1 would stay. Nothing was changed"),
        "{said}"
    );
    assert_eq!(postgres.psql(in_default), "3");

    let later = as_login(
        &postgres,
        "operator",
        &[
            "settle",
            "--from",
            "2013-01-01",
            "--kind",
            "events",
            "--yes",
        ],
    );
    assert_eq!(later.status.code(), Some(1), "one stays");
    assert!(
        stdout(&later).ends_with("1 settled, 1 not settled.\n"),
        "{}",
        stdout(&later)
    );
    assert_eq!(postgres.psql(OLD_PARTITIONS), "events_2013_01");
    let rest = as_login(&postgres, "operator", &["settle", "--yes", "--json"]);
    let settled: Vec<Value> = serde_json::from_str(&stdout(&rest)).unwrap();
    assert_eq!(settled[0]["partition"], "events_2012_05");
    assert_eq!(settled[0]["settled"], true);
    assert_eq!(settled[1]["settled"], false);
    assert_eq!(postgres.psql(in_default), "1");
    let no_operator = as_login(&postgres, "auditor", &["settle"]);
    assert_eq!(no_operator.status.code(), Some(2));
    assert!(
        stderr(&no_operator).contains("audit_operator"),
        "{}",
        stderr(&no_operator)
    );

    // The output says what a hold covers, and its tenant's key.
    let placed = as_login(
        &postgres,
        "operator",
        &[
            "hold",
            "--reason",
            "x",
            "--tenant",
            "acme",
            "--to",
            "2020-01-01",
        ],
    );
    let said = stdout(&placed);
    // The default partition also has a row of the tenant, from another time.
    assert!(
        said.contains("It covers 2 records in 3 partitions now."),
        "{said}"
    );
    let listed = stdout(&as_login(&postgres, "auditor", &["hold", "--list"]));
    assert!(
        listed.contains("tenant   acme (cef41eed-96b2-8b03-b04f-8adef1c9def6)\n"),
        "{listed}"
    );
    assert!(
        listed.contains("covers   2 records in 3 partitions\n"),
        "{listed}"
    );
}

#[test]
fn purpose_is_recorded_before_any_row_is_read() {
    let postgres = migrated();
    postgres.psql(STORY);
    let told = "SELECT user_id, target_type, target_id, input_summary, tenant_id IS NOT NULL FROM audit.events
        WHERE action_type = 'audit.read' ORDER BY created_at";
    let shown = as_login(
        &postgres,
        "auditor",
        &["show", "req-1", "--purpose", "ticket 4711"],
    );
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    // Searches that found nothing are recorded too.
    let nothing = as_login(
        &postgres,
        "reader",
        &[
            "show",
            "req-2",
            "--tenant",
            "acme",
            "--purpose",
            "ticket 4712",
        ],
    );
    assert_eq!(nothing.status.code(), Some(1), "{}", stderr(&nothing));
    let readings = "auditor|request|req-1|ticket 4711|f\nreader|request|req-2|ticket 4712|t";
    assert_eq!(postgres.psql(told), readings);

    let url = url_as(&postgres, "auditor");
    let tail = Tail::start_at(&url, &["--purpose", "watching"]);
    tail.wait_for("ticket 4712");
    assert_eq!(
        postgres.psql(told),
        format!("{readings}\nauditor|trail||watching|f")
    );
    drop(tail);

    // A login that may not record the reading reads nothing.
    let refused = as_login(
        &postgres,
        "operator",
        &["show", "req-1", "--purpose", "curious"],
    );
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(stdout(&refused), "");
    assert!(
        stderr(&refused).contains("nothing was read"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn commands_never_run_functions_that_shadow_those_of_postgres() {
    let postgres = with_old_partitions();
    postgres.psql(STORY);
    // As the owner of a database may do to a login with more rights.
    postgres.psql(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.to_char(timestamptz, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.row_to_json(record) RETURNS json LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.isfinite(timestamptz) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        ALTER DATABASE audit SET search_path = evil, pg_catalog",
    );
    for words in [
        &["show", "req-1", "--tenant", "acme", "--purpose", "x"][..],
        &["retain", "--keep", "7 years"],
        &["hold", "--reason", "x", "--tenant", "acme"],
        &["hold", "--list"],
        &[
            "retain",
            "--keep",
            "7 years",
            "--yes",
            "--kind",
            "query_runs",
        ],
    ] {
        let done = run(&postgres, words);
        let code = done.status.code();
        // The hold prevents the last.
        assert!(
            code == Some(0) || code == Some(1) && words.contains(&"--yes"),
            "{words:?}: {}",
            stderr(&done)
        );
    }
    let tail = Tail::start(&postgres, &["--json"]);
    tail.wait_for("audit.hold_placed");
    postgres.psql(&format!(
        "SET search_path = public; SELECT test_batch('{WRITER_B}', 1, 1, 'new')"
    ));
    tail.wait_for("new-0");
}

#[test]
fn row_that_postgres_cannot_print_does_not_hide_other_rows() {
    let postgres = migrated();
    postgres.psql(STORY);
    // Only a superuser can add them: a control character takes six bytes in JSON, and a number of a
    // few bytes 131,072.
    postgres.psql(&format!(
        "ALTER TABLE audit.query_runs DROP CONSTRAINT query_runs_size; SELECT audit.ensure_partition('query_runs', now());
        INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters,
            first_id, last_id, library_version)
        VALUES ('{WRITER_B}', 1, 4, '{{\"query_runs\": 4}}', 0, test_id(21, now()), test_id(24, now()), 'test');
        INSERT INTO audit.query_runs (id, request_id, question_text, sql_text, status, started_at, metadata, writer_id, seq, salt)
        SELECT test_id(20 + n, now()), CASE n WHEN 2 THEN 'req-2' ELSE 'req-1' END, question, sql, 'succeeded', now(), jsonb_build_object('x', metadata::jsonb), '{WRITER_B}', n, ''
        FROM (VALUES (1, 'one', repeat(E'\\x01', 180000000), '{{}}'),
            (2, 'two', NULL, '[' || repeat('1e131071,', 9000) || '0]'),
            (3, 'three', repeat('x', 270000000), '{{}}'),
            (4, 'four', NULL, '{{}}')) AS v (n, question, sql, metadata)",
    ));
    let shown = run(&postgres, &["show", "req-1"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let text = stdout(&shown);
    assert!(text.contains("6 query runs, 1 prompt run, 1 event"));
    for part in [
        "One row.",
        "one",
        "three",
        "four",
        "… 179994000 more characters (--full)",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(text.len() < 1_000_000);
    let full = run(&postgres, &["show", "req-1", "--full"]);
    assert_eq!(full.status.code(), Some(0), "{}", stderr(&full));
    assert!(stdout(&full).contains("more characters (the row is too large)"));

    let shown = run(&postgres, &["show", "req-1", "--json"]);
    assert_eq!(shown.status.code(), Some(2));
    assert!(
        stderr(&shown).contains("2 of the records could not be read whole"),
        "{}",
        stderr(&shown)
    );
    let rows: Vec<Value> = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!(rows.len(), 8);
    let unread: Vec<_> = rows
        .iter()
        .filter(|row| row["unread"].is_string())
        .collect();
    assert_eq!(unread.len(), 2);
    for row in unread {
        assert_eq!(
            (&row["kind"], &row["request_id"]),
            (&Value::from("query_run"), &Value::from("req-1"))
        );
        assert!(
            row["id"].is_string() && row.get("sql_text").is_none(),
            "{row}"
        );
    }
    assert!(rows.iter().any(|row| row["question_text"] == "four"));

    // A row whose size Postgres cannot even determine.
    let shown = stdout(&run(&postgres, &["show", "req-2"]));
    for part in ["question     two", "incomplete   Postgres cannot read it"] {
        assert!(shown.contains(part), "{shown}");
    }
    let shown = run(&postgres, &["show", "req-2", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&stdout(&shown)).unwrap();
    let why = rows[0]["unread"].as_str().unwrap();
    assert!(why.contains("SQLSTATE"), "{why}");

    let tail = Tail::start(&postgres, &["--last", "4"]);
    tail.wait_for("four");
    let (_, text) = tail.interrupt();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].ends_with("req-1  one"), "{text}");

    for words in [
        &["find"][..],
        &["find", "--json"],
        &["find", "--text", "THREE"],
    ] {
        let found = run(&postgres, words);
        assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
        assert!(stdout(&found).contains("req-1"));
    }
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
fn a_story_is_printed_before_all_of_it_is_read() {
    let postgres = migrated();
    postgres.psql(
        "SELECT audit.ensure_partition('query_runs', now());
        INSERT INTO audit.query_runs (id, request_id, sql_text, status, started_at, writer_id, seq, salt)
        SELECT test_id(n, now()), 'req-many', 'SELECT ' || n, 'succeeded', now(), '00000000-0000-7000-8000-00000000000a', n, ''
        FROM generate_series(1, 3000) AS n",
    );
    for words in [&["show", "req-many"][..], &["show", "req-many", "--json"]] {
        let mut child = command(&postgres, words)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("SELECT 1") {
            assert_ne!(out.read_line(&mut text).unwrap(), 0, "{text}");
        }
        // It has more output than a pipe holds, and holds nothing in Postgres while it waits for
        // its reader.
        let mut locker = postgres.session("postgres");
        locker.psql("BEGIN; LOCK TABLE audit.query_runs IN ACCESS EXCLUSIVE MODE");
        let rest = thread::spawn(move || {
            let mut rest = String::new();
            out.read_to_string(&mut rest).unwrap();
            rest
        });
        wait_until("the next page waits for the lock", PATIENCE, || {
            postgres.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                == "1"
        });
        locker.psql("COMMIT");
        assert!(rest.join().unwrap().contains("SELECT 3000"));
        assert_eq!(end_of(&mut child).code(), Some(0));
    }
}

#[test]
fn missing_table_is_named_and_not_reported_as_a_missing_trail() {
    let postgres = migrated();
    postgres.psql(
        "ALTER EVENT TRIGGER audit_refuse_drop DISABLE; ALTER EVENT TRIGGER audit_refuse_ddl DISABLE;
        ALTER TABLE audit.legal_hold_lifts RENAME TO gone",
    );
    let listed = run(&postgres, &["hold", "--list"]);
    assert_eq!(listed.status.code(), Some(2));
    let said = stderr(&listed);
    assert!(
        said.contains("legal_hold_lifts\" does not exist")
            && !said.contains("there is no audit trail"),
        "{said}"
    );

    let empty = Postgres::start();
    empty.psql("CREATE SCHEMA audit");
    let listed = run(&empty, &["hold", "--list"]);
    assert_eq!(listed.status.code(), Some(2));
    assert!(
        stderr(&listed).contains("there is no audit trail"),
        "{}",
        stderr(&listed)
    );
}

#[test]
fn migrate_checks_that_the_logins_exist_before_it_creates_anything() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE app LOGIN");
    let refused = run(
        &postgres,
        &[
            "migrate",
            "--writer-login",
            "app",
            "--reader-login",
            "nobody",
        ],
    );
    assert_eq!(refused.status.code(), Some(2), "{}", stdout(&refused));
    assert!(
        stderr(&refused).contains("there is no login nobody"),
        "{}",
        stderr(&refused)
    );
    let made = "SELECT to_regnamespace('audit'), (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'audit%')";
    assert_eq!(postgres.psql(made), "|0");
    let done = run(&postgres, &["migrate", "--writer-login", "app"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
}

#[test]
fn hold_list_shows_exact_time_bounds() {
    let postgres = migrated();
    for times in [
        &["--from", "4713-01-01 BC"][..],
        &[
            "--from",
            "2026-01-01 00:00:00.25Z",
            "--to",
            "2026-01-01 00:00:00.750001Z",
        ],
    ] {
        let held = run(&postgres, &[&["hold", "--reason", "case"], times].concat());
        assert_eq!(held.status.code(), Some(0), "{}", stderr(&held));
    }
    let listed = stdout(&run(&postgres, &["hold", "--list"]));
    for span in [
        "from 4713-01-01T00:00:00Z BC on",
        "from 2026-01-01T00:00:00.25Z to 2026-01-01T00:00:00.750001Z",
    ] {
        assert!(listed.contains(span), "{span}: {listed}");
    }
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

/// Everything that retention could change.
const EVERYTHING: &str = "SELECT (SELECT string_agg(c.oid::text, ',' ORDER BY c.oid) FROM pg_class c WHERE c.relnamespace = 'audit_parts'::regnamespace),
    (SELECT count(*) FROM audit.events), (SELECT count(*) FROM audit.removals), (SELECT count(*) FROM audit.batches)";

/// The old partitions.
const OLD_PARTITIONS: &str =
    "SELECT relname FROM pg_class WHERE relnamespace = 'audit_parts'::regnamespace
    AND relkind = 'r' AND relname ~ '_201[0-9]_' ORDER BY 1";

#[test]
fn commands_refuse_to_read_an_audit_schema_of_another_owner() {
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE ROLE mallory LOGIN; CREATE TABLE public.ran (who text); GRANT INSERT ON public.ran TO PUBLIC;
        GRANT CREATE ON DATABASE audit TO mallory; SET SESSION AUTHORIZATION mallory;
        CREATE SCHEMA audit;
        CREATE FUNCTION audit.note(word text) RETURNS text LANGUAGE plpgsql AS
            'BEGIN RAISE WARNING ''it ran as %'', current_user; RETURN word; END';
        CREATE FUNCTION audit.tenant_uuid(key text) RETURNS uuid LANGUAGE plpgsql AS
            'BEGIN RAISE WARNING ''it ran as %'', current_user; RETURN gen_random_uuid(); END';
        CREATE VIEW audit.schema_migrations AS SELECT 2::bigint AS version, audit.note('x') AS description, audit.note('x') = 'x' AS success,
            ''::bytea AS checksum;
        CREATE VIEW audit.query_runs AS SELECT audit.note('x') AS request_id, audit.note('x') AS id;
        CREATE VIEW audit.legal_holds AS SELECT audit.note('x') AS reason;
        CREATE VIEW audit.batches AS SELECT audit.note('x') AS writer_id, 1::bigint AS first_seq, 1::bigint AS last_seq;
        CREATE VIEW audit.dead_letters AS SELECT audit.note('x') AS sqlstate;",
    );
    for words in [
        &["show", "req-1", "--tenant", "acme"][..],
        &["tail", "--purpose", "p"],
        &["hold", "--list"],
        &["hold", "--reason", "case"],
        &["retain", "--keep", "7 years"],
        &["settle"],
        &["release", WRITER_A, "--reason", "closed"],
    ] {
        let said = run(&postgres, words);
        assert_eq!(said.status.code(), Some(2), "{words:?}");
        let why = stderr(&said);
        assert!(
            why.contains("was not read") && why.contains("mallory"),
            "{words:?}: {why}"
        );
    }
    // It reads the catalog, and reports the owner.
    let looked = run(&postgres, &["doctor"]);
    assert!(!looked.status.success(), "{}", stdout(&looked));
    let log = postgres.log();
    assert!(!log.contains("it ran as"), "{log}");
}

#[test]
fn row_with_extreme_values_does_not_hide_other_rows() {
    let postgres = migrated();
    // Only a superuser can write them.
    postgres.psql(
        "ALTER TABLE audit.query_runs DROP CONSTRAINT query_runs_started_at_check, DROP CONSTRAINT query_runs_finished_at_check;
        ALTER TABLE audit.events DROP CONSTRAINT events_created_at_check;
        ALTER TABLE audit_parts.query_runs_default DROP CONSTRAINT query_runs_default_month;
        ALTER TABLE audit_parts.events_default DROP CONSTRAINT events_default_month",
    );
    for (number, (column, value)) in [
        ("started_at", "'infinity'"),
        ("started_at", "'-infinity'"),
        ("started_at", "'294276-12-31 23:59:59.999999Z'"),
        ("started_at", "'4713-01-01 00:00:00Z BC'"),
        ("finished_at", "'infinity'"),
        ("finished_at", "'294276-12-31 23:59:59.999999Z'"),
        ("duration_ms", "9223372036854775807"),
        ("duration_ms", "-9223372036854775808"),
        (
            "metadata",
            "(repeat('{\"a\":', 500) || '1' || repeat('}', 500))::jsonb",
        ),
        (
            "metadata",
            "(repeat('[', 5000) || repeat(']', 5000))::jsonb",
        ),
        (
            "metadata",
            "'{\"x\": 1e400, \"y\": 123456789012345678901234567890}'",
        ),
        ("metadata", "'1e400'"),
        ("metadata", "'null'"),
        ("problems", "ARRAY[NULL, 'p']"),
        ("problems", "ARRAY[['p', 'q'], ['r', 's']]"),
        ("seq", "-9223372036854775808"),
        ("row_count", "-2147483648"),
        ("parent_id", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
        ("sql_text", "repeat(E'\\u2028\\u202e\\x1b[31m', 10000)"),
        ("salt", "''"),
    ]
    .into_iter()
    .enumerate()
    {
        let usual = [
            ("started_at", "'2026-05-04 09:30Z'"),
            ("finished_at", "'2026-05-04 09:30:01Z'"),
            ("duration_ms", "1000"),
            ("metadata", "'{}'"),
            ("problems", "'{}'"),
            ("seq", "1"),
            ("salt", "'x'"),
        ];
        let others = usual.iter().filter(|(name, _)| *name != column);
        let (names, values): (Vec<_>, Vec<_>) = others.copied().unzip();
        // In the partition that accepts any id.
        postgres.psql(&format!(
            "INSERT INTO audit_parts.query_runs_default (id, request_id, tenant_id, status, writer_id, {column}, {})
            SELECT audit.id_at('2100-01-05Z'::timestamptz + interval '1 ms' * {number}), 'odd', audit.tenant_uuid('acme'), 'succeeded', '{WRITER_A}',
                {value}, {}",
            names.join(", "),
            values.join(", "),
        ));
    }
    postgres.psql(&format!(
        "INSERT INTO audit_parts.events_default (id, request_id, status, created_at, writer_id, seq, salt, action_type)
        VALUES (audit.id_at('2100-01-06Z'), 'odd', 'succeeded', 'infinity', '{WRITER_A}', 30, '', 'last')"
    ));
    for words in [&["show", "odd"][..], &["show", "odd", "--full"]] {
        let shown = run(&postgres, words);
        assert!(shown.status.success(), "{}", stderr(&shown));
        let text = stdout(&shown);
        assert!(text.contains("20 query runs, 1 event"), "{text}");
        assert!(!text.contains('\u{202e}') && !text.contains('\x1b'));
    }
    let shown = run(&postgres, &["show", "odd", "--json"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    assert_eq!(stdout(&shown).matches("\"kind\":").count(), 21);
    // Every digit of a number that no float can hold.
    assert!(stdout(&shown).contains(&"0".repeat(400)));
    assert_eq!(run(&postgres, &["doctor"]).status.code(), Some(1));
}

/// Starts a server with old partitions, one of them with rows.
fn with_old_partitions() -> Postgres {
    let postgres = migrated();
    postgres.psql(
        "SELECT audit.ensure_partition(parent, at::timestamptz)
            FROM (VALUES ('events', '2012-05-04Z'), ('query_runs', '2012-05-04Z'), ('events', '2013-01-04Z')) v (parent, at);
        INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version)
            VALUES ('00000000-0000-7000-8000-00000000000a', 1, 3, '{\"events\": 3}', 0, 'test');
        INSERT INTO audit.events (id, action_type, status, created_at, writer_id, seq, salt)
            SELECT test_id(n, at), 'old', 'succeeded', at, '00000000-0000-7000-8000-00000000000a', n, ''
            FROM generate_series(1, 3) n, (SELECT '2012-05-04Z'::timestamptz AS at) t",
    );
    postgres
}

fn words_of_lines(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// Runs the program as a login that is a member of `audit_<login>`.
fn as_login(postgres: &Postgres, login: &str, words: &[&str]) -> Output {
    let url = url_as(postgres, login);
    bare()
        .args(words)
        .env("DATABASE_URL", url)
        .output()
        .unwrap()
}

/// Returns the URL of a login that is a member of `audit_<login>`, creating it if needed.
fn url_as(postgres: &Postgres, login: &str) -> String {
    postgres.psql(&format!(
        "DO $$ BEGIN IF to_regrole('{login}') IS NULL THEN CREATE ROLE {login} LOGIN IN ROLE audit_{login}; END IF; END $$"
    ));
    postgres.url().replace("postgres@", &format!("{login}@"))
}

/// Starts a server with the audit tables and the tests' functions.
fn migrated() -> Postgres {
    let postgres = Postgres::start();
    migrate(&postgres);
    postgres.psql(TEST_FUNCTIONS);
    postgres
}

fn migrate(postgres: &Postgres) {
    let output = run(postgres, &["migrate"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn run(postgres: &Postgres, words: &[&str]) -> Output {
    command(postgres, words).output().unwrap()
}

fn command(postgres: &Postgres, words: &[&str]) -> Command {
    let mut command = bare();
    command.args(words).env("DATABASE_URL", postgres.url());
    command
}

/// The program, without the environment variables that change its behaviour.
fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    for name in ["AUDIT_DATABASE_URL", "DATABASE_URL", "COLUMNS"] {
        command.env_remove(name);
    }
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn end_of(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("the program ends", PATIENCE, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// A running `tail`, and its output so far.
struct Tail {
    child: Child,
    text: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Tail {
    fn start(postgres: &Postgres, words: &[&str]) -> Self {
        Self::start_at(&postgres.url(), words)
    }

    fn start_at(url: &str, words: &[&str]) -> Self {
        let mut command = bare();
        command.arg("tail").args(words).env("DATABASE_URL", url);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let text = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().unwrap();
        let reader = thread::spawn({
            let text = Arc::clone(&text);
            move || collect(stdout, &text)
        });
        Self {
            child,
            text,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, word: &str) {
        wait_until(word, PATIENCE, || self.text().contains(word));
    }

    /// Sends the signal of Ctrl-C; returns how the program ended, and all its output.
    fn interrupt(mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        // Uses the shell's built-in kill: not every system has such a program.
        Command::new("sh")
            .args(["-c", "kill -s INT \"$0\"", &pid])
            .status()
            .unwrap();
        let status = end_of(&mut self.child);
        self.reader.take().unwrap().join().unwrap();
        (status, self.text())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stdout: ChildStdout, text: &Mutex<String>) {
    for line in BufReader::new(stdout).lines() {
        let mut text = text.lock().unwrap();
        text.push_str(&line.unwrap());
        text.push('\n');
    }
}

#[test]
fn what_is_no_hold_and_what_is_no_span_are_said_to_be_none() {
    let postgres = migrated();
    let released = run(&postgres, &["release", "nonsense", "--reason", "over"]);
    assert_eq!(released.status.code(), Some(1), "{}", stderr(&released));
    assert!(
        stderr(&released).contains("there is no legal hold nonsense"),
        "{}",
        stderr(&released)
    );
    let kept = run(&postgres, &["retain", "--keep", "178000000 years"]);
    assert_eq!(kept.status.code(), Some(2), "{}", stdout(&kept));
    assert!(
        stderr(&kept).contains("records are kept for") && !stderr(&kept).contains("22008"),
        "{}",
        stderr(&kept)
    );
}

#[test]
fn migrate_says_of_a_login_that_does_not_inherit_what_it_lacks() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE app LOGIN; CREATE ROLE ni LOGIN NOINHERIT");
    let done = run(
        &postgres,
        &["migrate", "--writer-login", "app", "--writer-login", "ni"],
    );
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let said = stdout(&done);
    let inherits = postgres.psql("SELECT pg_has_role('ni', 'audit_writer', 'USAGE')") == "t";
    assert!(said.contains("  app is audit_writer\n"), "{said}");
    assert_eq!(said.contains("  ni is audit_writer\n"), inherits, "{said}");
    assert_eq!(said.contains("ALTER ROLE ni INHERIT"), !inherits, "{said}");
}
