//! `tracing-audit show`, and rows that are hard to print.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::thread;

use super::{
    PATIENCE, STORY, Tail, WRITER_A, WRITER_B, command, end_of, migrated, run, stderr, stdout,
};
use serde_json::Value;
use testkit::wait_until;

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

#[test]
fn story_names_what_was_redacted() {
    let postgres = migrated();
    postgres.psql(
        "INSERT INTO audit.query_runs (id, request_id, sql_text, status, started_at, redactions, writer_id, seq, salt)
        VALUES (audit.id_at(now()), 'req-9', 'SELECT [email]', 'succeeded', now(), ARRAY['sql_text: email x2', 'note: jwt x1'],
            gen_random_uuid(), 1, '')",
    );
    let told = stdout(&run(&postgres, &["show", "req-9"]));
    assert!(told.contains("redacted     sql_text: email x2"), "{told}");
    let trail = postgres.psql("SELECT redactions FROM audit.request_trail('req-9')");
    assert_eq!(trail.trim(), r#"{"sql_text: email x2","note: jwt x1"}"#);
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
fn show_marks_a_user_who_became_known_after_the_record_had_ended() {
    let postgres = migrated();
    postgres.psql(
        "SELECT audit.ensure_partition('events', '2026-05-04 09:30Z');
        INSERT INTO audit.events
            (id, request_id, tenant_id, parent_id, user_id, action_type, target_type, target_id, status, created_at, writer_id, seq, salt)
        SELECT test_id(n, at), 'login', audit.tenant_uuid('acme'), CASE WHEN n > 1 THEN test_id(1, at) END, who, what,
            CASE WHEN n = 1 THEN 'http.route' END, CASE WHEN n = 1 THEN '/login' END, 'succeeded', at, gen_random_uuid(), n, ''
        FROM (VALUES (1, E'al\\u202eice', 'request'), (2, NULL, 'login'), (3, E'al\\u202eice', 'answer')) AS v (n, who, what),
            (SELECT '2026-05-04 09:30Z'::timestamptz AS at) AS t",
    );
    let shown = run(&postgres, &["show", "login"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let told = r"Request login
  tenant       cef41eed-96b2-8b03-b04f-8adef1c9def6
  user         al\u{202e}ice
  began        2026-05-04 09:30:00.000 UTC
  took         0 ms
  records      3 events; 3 succeeded

└─ event request → http.route /login  succeeded  +0 ms
   │  user         al\u{202e}ice
   ├─ event login  succeeded  +0 ms
   │     user         al\u{202e}ice (learned later)
   └─ event answer  succeeded  +0 ms
         user         al\u{202e}ice
";
    assert_eq!(stdout(&shown), told);
    let of_tenant = run(&postgres, &["show", "login", "--tenant", "acme"]);
    assert_eq!(stdout(&of_tenant), stdout(&shown));
    let json = run(&postgres, &["show", "login", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&stdout(&json)).unwrap();
    let learned: Vec<_> = rows
        .iter()
        .map(|row| (&row["user_id"], &row["learned_user_id"]))
        .collect();
    let user = Value::from("al\u{202e}ice");
    assert_eq!(
        learned,
        [
            (&user, &Value::Null),
            (&Value::Null, &user),
            (&user, &Value::Null)
        ]
    );
    assert!(!stdout(&json).contains('\u{202e}'));
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
fn row_with_extreme_values_does_not_hide_other_rows() {
    let postgres = migrated();
    // Only a superuser can write them.
    postgres.psql(
        "ALTER TABLE audit.query_runs DROP CONSTRAINT query_runs_started_at_check, DROP CONSTRAINT query_runs_finished_at_check;
        ALTER TABLE audit.events DROP CONSTRAINT events_created_at_check;
        ALTER TABLE audit_parts.query_runs_default DROP CONSTRAINT query_runs_default_time;
        ALTER TABLE audit_parts.events_default DROP CONSTRAINT events_default_time",
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

/// Inserts events of request `families`: each with its `action_type`, status, target, columns and metadata.
fn with_events(events: &[(&str, &str, &str, &str)]) -> testkit::Postgres {
    let postgres = migrated();
    postgres.psql("SELECT audit.ensure_partition('events', '2026-05-04 09:30Z')");
    for (number, (action_type, target, summary, metadata)) in events.iter().enumerate() {
        postgres.psql(&format!(
            "INSERT INTO audit.events (id, request_id, action_type, target_type, target_id, input_summary, status, created_at,
                metadata, writer_id, seq, salt)
            SELECT test_id({number}, at), 'families', '{action_type}', nullif(split_part('{target}', ' ', 1), ''),
                nullif(split_part('{target}', ' ', 2), ''), nullif('{summary}', ''), 'succeeded', at, {metadata}, '{WRITER_A}', {number}, ''
            FROM (SELECT '2026-05-04 09:30Z'::timestamptz AS at) AS t"
        ));
    }
    postgres
}

/// Returns what `show` prints below the heading.
fn records_of(postgres: &testkit::Postgres, columns: Option<&str>) -> String {
    let mut command = command(postgres, &["show", "families"]);
    if let Some(columns) = columns {
        command.env("COLUMNS", columns);
    }
    let shown = command.output().unwrap();
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let text = stdout(&shown);
    assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'));
    text.split_once("\n\n").unwrap().1.to_owned()
}

#[test]
fn event_of_a_family_is_shown_in_words_of_its_own() {
    let postgres = with_events(&[
        (
            "llm_call",
            "",
            "How many?",
            r#"'{"model": "sonnet", "provider": "anthropic", "input_token_count": 12, "output_token_count": 3}'"#,
        ),
        (
            "tool_invocation",
            "tool run_sql",
            "",
            r#"'{"arguments_sha256": "ab"}'"#,
        ),
        (
            "escalation",
            "",
            "",
            r#"'{"reason": "over the limit", "escalated_to": "on-call", "severity": "high"}'"#,
        ),
        (
            "approval",
            "query q-1",
            "Drop a table",
            r#"'{"decision": "rejected", "approved_by": "bob", "approver_role": "dba", "sql_text": "DROP\n  TABLE t", "rows_affected": 1, "ticket": 7}'"#,
        ),
        (
            "agent_execution",
            "agent planner",
            "",
            r#"'{"outcome": "timeout", "credits_consumed": 1.50, "http_status": 504}'"#,
        ),
        (
            "log",
            "",
            "",
            r#"'{"level": "warn", "message": "slow", "context": {"a": 1}}'"#,
        ),
        (
            "http_request",
            "http.route /login",
            "",
            r#"'{"http.request.method": "POST", "url.path": "/login", "http.route": "/login", "http.response.status_code": 401, "client.address": "10.0.0.7"}'"#,
        ),
        (
            "http_request",
            "http.route /orders/{id}",
            "",
            r#"'{"http.request.method": "GET", "url.path": "/orders/7", "http.route": "/orders/{id}"}'"#,
        ),
        (
            "transaction",
            "transaction t-17",
            "",
            r#"'{"amount_cents": 1250, "currency": "EUR", "state": "captured", "previous_state": "authorized", "payment_reference": "pi_3N"}'"#,
        ),
        (
            "transaction",
            "transaction t-18",
            "",
            r#"'{"amount_cents": -5, "currency": "EUR", "state": "refunded", "actor": "billing"}'"#,
        ),
        (
            "mandate",
            "mandate m-1",
            "",
            r#"'{"limit_cents": 50000, "currency": "EUR", "period": "month", "state": "active"}'"#,
        ),
        (
            "feedback",
            "",
            "",
            r#"'{"rating": 4, "comment": "good", "run_id": "00000000-0000-7000-8000-0000000000ff"}'"#,
        ),
        ("feedback", "", "", r#"'{"favourite": true}'"#),
        (
            "system_error",
            "",
            "",
            r#"'{"error_type": "ConnectionReset", "component": "orders-db", "severity": "critical", "fingerprint": "f00"}'"#,
        ),
        (
            "system_metric",
            "",
            "",
            r#"'{"metric": "queue_depth", "value": 17, "unit": "jobs", "component": "worker"}'"#,
        ),
        (
            "security",
            "http.route /ask",
            "",
            r#"'{"event": "access_denied", "client.address": "10.0.0.7", "http.route": "/ask"}'"#,
        ),
    ]);
    assert_eq!(records_of(&postgres, None), FAMILIES);
}

#[test]
fn change_of_a_tracked_table_is_shown_with_old_and_new_value_and_its_login() {
    let postgres = with_events(&[
        (
            "change",
            "public.mandates 7",
            "",
            r#"'{"operation": "update", "changes": {"limit": {"old": 1.0, "new": 1.00}, "name": {"masked": true}, "state": {"old": null, "new": "a\nb"}}, "login": "shop"}'"#,
        ),
        (
            "change",
            "public.mandates 8",
            "",
            r#"'{"operation": "insert", "changes": {"limit": {"new": 2}}, "client_address": "10.0.0.7", "application_name": "psql"}'"#,
        ),
        (
            "change",
            "public.mandates 9",
            "",
            r#"'{"operation": "delete", "changes": {"limit": {"old": 2}}}'"#,
        ),
        (
            "change",
            "public.mandates ",
            "",
            r#"'{"operation": "truncate", "changes": {}, "rows": 12}'"#,
        ),
    ]);
    assert_eq!(
        records_of(&postgres, None),
        r#"├─ event updated public.mandates 7: limit from 1.0 to 1.00, name (masked), state from null to "a\nb"  succeeded  +0 ms
│     login        shop
├─ event inserted into public.mandates 8: limit 2  succeeded  +0 ms
│     application  psql
│     client       10.0.0.7
├─ event deleted from public.mandates 9: limit was 2  succeeded  +0 ms
└─ event truncated public.mandates, 12 rows  succeeded  +0 ms
"#
    );
}

#[test]
fn change_whose_values_have_no_room_in_words_keeps_them_in_metadata() {
    let long = format!(
        r#"'{{"operation": "update", "changes": {{"note": {{"old": "{}", "new": ""}}}}}}'"#,
        "x".repeat(100)
    );
    let postgres = with_events(&[
        ("change", "public.mandates 7", "", &long),
        (
            "change",
            "public.mandates 8",
            "",
            r#"'{"operation": "update", "changes": {"terms": {"old": {"a": 1}, "new": null}}}'"#,
        ),
    ]);
    let shown = records_of(&postgres, None);
    for line in [
        "├─ event updated public.mandates 7: note  succeeded",
        "│     metadata     changes = {\"note\": {\"new\": \"\", \"old\": \"xxx",
        "└─ event updated public.mandates 8: terms  succeeded",
        "      metadata     changes = {\"terms\": {\"new\": null, \"old\": {\"a\": 1}}}\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
}

#[test]
fn key_of_another_tenant_is_shown_as_any_field() {
    let postgres = with_events(&[("login", "", "", r#"'{"tenant_key": "globex"}'"#)]);
    // As a program does that merges what a user sends into the metadata.
    postgres.psql(&format!(
        "INSERT INTO audit.events (id, request_id, tenant_id, action_type, status, created_at, metadata, writer_id, seq, salt)
        SELECT test_id(7, at), 'other', audit.tenant_uuid('acme'), 'login', 'succeeded', at, '{{\"tenant_key\": \"globex\"}}', '{WRITER_A}', 7, ''
        FROM (SELECT '2026-05-04 09:30Z'::timestamptz AS at) AS t"
    ));
    let shown = stdout(&run(&postgres, &["show", "other"]));
    assert!(
        shown.contains("  tenant       cef41eed-96b2-8b03-b04f-8adef1c9def6\n"),
        "{shown}"
    );
    assert!(
        shown.contains("metadata     tenant_key = \"globex\""),
        "{shown}"
    );
    let found = stdout(&run(
        &postgres,
        &["find", "--since", "2026-05-01", "--json"],
    ));
    let found: Value = serde_json::from_str(&found).unwrap();
    let keys = found.as_array().unwrap().iter();
    let keys: Vec<_> = keys
        .map(|request| (&request["request_id"], &request["tenant_key"]))
        .collect();
    assert!(keys.contains(&(&"other".into(), &Value::Null)), "{keys:?}");
}

/// What `show` prints of an event of each family.
const FAMILIES: &str = r#"├─ event call of sonnet (anthropic)  succeeded  +0 ms
│     input        How many?
│     tokens in    12
│     tokens out   3
├─ event tool run_sql  succeeded  +0 ms
│     metadata     arguments_sha256 = "ab"
├─ event escalated to on-call: over the limit  succeeded  +0 ms
│     severity     high
├─ event write rejected by bob (dba)  succeeded  +0 ms
│     summary      Drop a table
│     target       query/q-1
│     sql          DROP
│                    TABLE t
│     result       1 row affected
│     metadata     ticket = 7
├─ event agent planner: timeout, 1.50 credits  succeeded  +0 ms
│     http status  504
├─ event [warn] slow  succeeded  +0 ms
│     metadata     context = {"a": 1}
├─ event POST /login 401  succeeded  +0 ms
│     client       10.0.0.7
├─ event GET /orders/7  succeeded  +0 ms
│     route        /orders/{id}
├─ event 12.50 EUR captured (was authorized)  succeeded  +0 ms
│     target       transaction/t-17
│     payment      pi_3N
├─ event -0.05 EUR refunded  succeeded  +0 ms
│     target       transaction/t-18
│     actor        billing
├─ event mandate of 500.00 EUR per month: active  succeeded  +0 ms
│     target       mandate/m-1
├─ event rated 4: good  succeeded  +0 ms
│     run          00000000-0000-7000-8000-0000000000ff
├─ event a favourite  succeeded  +0 ms
├─ event error ConnectionReset in orders-db (critical)  succeeded  +0 ms
│     fingerprint  f00
├─ event queue_depth = 17 jobs  succeeded  +0 ms
│     component    worker
└─ event access_denied from 10.0.0.7  succeeded  +0 ms
      route        /ask
"#;

#[test]
fn missing_and_hostile_values_of_a_family_are_shown_as_those_of_any_event() {
    let postgres = with_events(&[
        ("approval", "query q-1", "", "'{}'"),
        (
            "approval",
            "",
            "",
            r#"'{"decision": "Rejected by bob", "approved_by": null}'"#,
        ),
        (
            "approval",
            "",
            "",
            r#"'{"decision": "approved", "approved_by": ["bob"], "approver_role": "a\nb", "sql_text": 7, "rows_affected": "many", "run_id": " "}'"#,
        ),
        (
            "transaction",
            "",
            "",
            r#"'{"amount_cents": 1e400, "currency": "EUR", "state": "captured", "previous_state": "a b"}'"#,
        ),
        (
            "transaction",
            "",
            "",
            r#"'{"amount_cents": -9223372036854775808, "currency": "\u202e\u001b[31m"}'"#,
        ),
        (
            "log",
            "",
            "",
            r"jsonb_build_object('level', 'info', 'message', E'one\ntwo \x1b[31m')",
        ),
        (
            "log",
            "",
            "",
            "jsonb_build_object('message', repeat('x', 7000))",
        ),
        ("log", "", "", r#"'"no object"'"#),
        (
            "system_metric",
            "",
            "",
            r#"'{"metric": "a b", "value": 1}'"#,
        ),
        (
            "system_metric",
            "",
            "",
            r#"'{"metric": "a", "value": "1"}'"#,
        ),
        (
            "http_request",
            "",
            "",
            r#"'{"http.request.method": "GET", "http.response.status_code": 200}'"#,
        ),
        (
            "security",
            "source",
            "",
            r#"'{"event": "login", "source": 5}'"#,
        ),
        (
            "escalation",
            "reason x",
            "",
            r#"(SELECT jsonb_object_agg('n' || n, n) || '{"reason": "x"}' FROM generate_series(1, 70) AS n)"#,
        ),
    ]);
    let shown = records_of(&postgres, None);
    let (shown, many) = shown.split_once("└─").unwrap();
    let large = format!("1{}", "0".repeat(400));
    let shown = shown
        .replace(&"x".repeat(5989), "LONG")
        .replace(&large, "LARGE");
    assert_eq!(shown, HOSTILE);
    assert!(
        many.starts_with(" event escalation → reason/x  succeeded"),
        "{many}"
    );
    assert!(many.contains("more fields (--full)"), "{many}");
}

/// What `show` prints of events whose fields are not as their families have them.
const HOSTILE: &str = r#"├─ event approval → query/q-1  succeeded  +0 ms
├─ event approval  succeeded  +0 ms
│     metadata     approved_by = null
│                  decision = "Rejected by bob"
├─ event write approved  succeeded  +0 ms
│     in the role  a
│                  b
│     metadata     approved_by = ["bob"]
│                  rows_affected = "many"
│                  run_id = " "
│                  sql_text = 7
├─ event transaction captured  succeeded  +0 ms
│     metadata     amount_cents = LARGE
│                  currency = "EUR"
│                  previous_state = "a b"
├─ event -92233720368547758.08 \u{202e}\x1b[31m  succeeded  +0 ms
├─ event [info]  succeeded  +0 ms
│     message      one
│                  two \x1b[31m
├─ event log  succeeded  +0 ms
│     metadata     message = "LONG
│                  … 111 more characters (--full)
├─ event log  succeeded  +0 ms
│     metadata     metadata = "no object"
├─ event system_metric  succeeded  +0 ms
│     metadata     metric = "a b"
│                  value = 1
├─ event system_metric  succeeded  +0 ms
│     metadata     metric = "a"
│                  value = "1"
├─ event http_request  succeeded  +0 ms
│     metadata     http.request.method = "GET"
│                  http.response.status_code = 200
├─ event login  succeeded  +0 ms
│     target       source
│     metadata     source = 5
"#;

#[test]
fn words_that_are_cut_on_a_narrow_terminal_are_shown_below() {
    let postgres = with_events(&[
        (
            "escalation",
            "",
            "",
            r#"'{"reason": "over the limit", "escalated_to": "on-call"}'"#,
        ),
        (
            "system_metric",
            "",
            "",
            r#"'{"metric": "queue_depth_of_all", "value": 17}'"#,
        ),
    ]);
    assert_eq!(records_of(&postgres, Some("44")), NARROW);
}

/// What `show` prints on 44 columns.
const NARROW: &str = r#"├─ event escalated to …  succeeded  +0 ms
│     escalated to on-call
│     reason       over the limit
└─ event queue_depth_o…  succeeded  +0 ms
      metadata     metric =
                   "queue_depth_of_all"
                   value = 17
"#;
