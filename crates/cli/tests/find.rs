//! `tracing-audit find`: the built program against a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Postgres, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A request of three records, requests of one, and a record without a request; `ago` is in days.
const RECORDS: &str = r"
    CREATE FUNCTION test_id(n int, at timestamptz) RETURNS uuid LANGUAGE sql AS $$
        SELECT overlay(audit.id_at(at)::text PLACING '7000-8000-' || lpad(n::text, 12, '0') FROM 15)::uuid
    $$;
    CREATE FUNCTION test_query(n int, ago int, tenant text, who text, request text, question text, outcome text) RETURNS void
    LANGUAGE plpgsql AS $$
    DECLARE at constant timestamptz := now() - make_interval(days => ago) + make_interval(secs => n);
    BEGIN
        PERFORM audit.ensure_partition('query_runs', at);
        INSERT INTO audit.query_runs (id, tenant_id, user_id, request_id, question_text, sql_text, status, started_at,
            metadata, writer_id, seq, salt)
        VALUES (test_id(n, at), audit.tenant_uuid(tenant), who, request, question, 'SELECT 1', outcome::audit.run_status, at,
            jsonb_build_object('tenant_key', tenant), '00000000-0000-7000-8000-00000000000a', n, '');
    END $$;
    SELECT test_query(1, 3, 'acme', 'alice', 'req-old', 'Growth of 100% this year?', 'failed'),
        test_query(3, 2, 'acme', 'alice', 'req-mid', 'Growth of 100 this year?', 'succeeded'),
        test_query(4, 2, 'acme', 'alice', 'req-mid', 'Column a_b', 'failed'),
        test_query(5, 1, 'globex', 'bob', 'req-new', 'Column aXb', 'rejected'),
        test_query(6, 1, 'globex', 'bob', NULL, 'No request of its own', 'unknown'),
        test_query(7, 30, 'acme', 'alice', 'req-month', 'Long ago', 'succeeded');
    SELECT audit.ensure_partition('events', now() - interval '2 days');
    INSERT INTO audit.events (id, tenant_id, user_id, request_id, action_type, status, created_at, writer_id, seq, salt)
    SELECT test_id(2, at), audit.tenant_uuid('acme'), 'alice', 'req-mid', E'answer \x1b[31m', 'succeeded', at,
        '00000000-0000-7000-8000-00000000000a', 2, ''
    FROM (SELECT now() - interval '2 days' AS at) AS t;";

#[test]
fn find_lists_requests_newest_first_one_per_line() {
    let postgres = prepared();
    let found = run(&postgres, &["find"]);
    assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
    let text = stdout(&found);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains("7 days, as no --since is given"),
        "{text}"
    );
    assert_eq!(lines.len(), 5, "{text}");
    let lone = postgres.psql("SELECT id FROM audit.query_runs WHERE request_id IS NULL");
    assert!(lines[1].ends_with(&format!("  - {lone}")), "{text}");
    assert!(lines[2].ends_with("  req-new"), "{text}");
    let mid = lines[3];
    for part in [
        "Z  acme",
        "alice",
        "answer \\x1b[31m",
        "2 succeeded, 1 failed",
        "3 records  req-mid",
    ] {
        // The first record has no tenant key, so the id is shown.
        let id = postgres.psql("SELECT audit.tenant_uuid('acme')");
        let part = part.replace("acme", &id);
        assert!(mid.contains(&part), "{part}: {text}");
    }
    assert!(
        lines[4].contains("Z  acme") && lines[4].ends_with("  req-old"),
        "{text}"
    );
    assert!(!text.contains('\x1b'));
}

#[test]
fn text_is_found_where_families_of_events_have_theirs() {
    let postgres = prepared();
    postgres.psql(
        r#"INSERT INTO audit.events (id, request_id, action_type, target_id, status, created_at, metadata, writer_id, seq, salt)
        SELECT test_id(20 + n, at), 'req-' || n, action, target, 'succeeded', at, metadata::jsonb, '00000000-0000-7000-8000-00000000000a', 20 + n, ''
        FROM (SELECT now() - interval '2 days' AS at) AS t, (VALUES
            (1, 'approval', NULL, '{"sql_text": "DROP TABLE invoices"}'),
            (2, 'escalation', NULL, '{"reason": "over the limit"}'),
            (3, 'feedback', NULL, '{"comment": "Just right"}'),
            (4, 'log', NULL, '{"message": "the search took long"}'),
            (5, 'agent_execution', 'planner', '{"message": ["no text"]}'),
            (6, 'log', NULL, '"no object"')) AS v (n, action, target, metadata)"#,
    );
    for (text, request) in [
        ("table invoices", "req-1"),
        ("OVER THE LIMIT", "req-2"),
        ("just right", "req-3"),
        ("took long", "req-4"),
        ("planner", "req-5"),
    ] {
        let found = stdout(&run(&postgres, &["find", "--text", text, "--json"]));
        let found: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{text}: {found}");
        assert_eq!(found[0]["request_id"], request, "{text}");
    }
}

#[test]
fn find_returns_only_records_that_match_each_condition() {
    let postgres = prepared();
    let none: [&str; 0] = [];
    for (words, expected) in [
        (&["--user", "bob"][..], &["-", "req-new"][..]),
        (&["--user", "bo"], &none),
        (&["--tenant", "acme"], &["req-mid", "req-old"]),
        (&["--tenant", "nobody"], &none),
        (&["--status", "failed"], &["req-mid", "req-old"]),
        (
            &["--status", "rejected", "--status", "unknown"],
            &["-", "req-new"],
        ),
        (&["--kind", "events"], &["req-mid"]),
        (&["--kind", "prompt_runs"], &none),
        (&["--text", "100%"], &["req-old"]),
        (&["--text", "A_B"], &["req-mid"]),
        (&["--text", "COLUMN A"], &["req-new", "req-mid"]),
        (&["--text", "\\"], &none),
        (&["--text", "ANSWER"], &["req-mid"]),
        (&["--text", "' OR true --"], &none),
        (&["--limit", "1"], &["-"]),
        (&["--user", "alice", "--limit", "1"], &["req-mid"]),
        (
            &[
                "--user",
                "alice",
                "--status",
                "succeeded",
                "--since",
                "1970-01-01",
            ],
            &["req-mid", "req-month"],
        ),
    ] {
        assert_eq!(requests(&postgres, words), expected, "{words:?}");
    }
    let limited = run(&postgres, &["find", "--limit", "1"]);
    assert!(stderr(&limited).contains("more than these 1"));
    let all = run(&postgres, &["find", "--limit", "4"]);
    assert_eq!(stderr(&all), "");
}

#[test]
fn since_and_until_bound_the_search() {
    let postgres = prepared();
    let day = |ago: &str| {
        postgres.psql(&format!(
        "SET TimeZone = 'UTC'; SELECT to_char(now() - interval '{ago}', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    ))
    };
    let (since, until) = (day("60 hours"), day("36 hours"));
    assert_eq!(
        requests(&postgres, &["--since", &since, "--until", &until]),
        ["req-mid"]
    );
    assert_eq!(requests(&postgres, &["--since", &until]), ["-", "req-new"]);
    // Without --since, the 7 days before --until.
    assert_eq!(
        requests(&postgres, &["--until", &day("29 days")]),
        ["req-month"]
    );
    // The least id of a time belongs to that time; --until excludes it.
    let at = postgres.psql("SET TimeZone = 'UTC'; SELECT date_trunc('milliseconds', started_at) FROM audit.query_runs WHERE request_id = 'req-old'");
    assert_eq!(
        requests(&postgres, &["--since", &at, "--until", &since]),
        ["req-old"]
    );
    assert!(
        requests(&postgres, &["--since", "1970-01-01", "--until", &at])
            .iter()
            .all(|id| id != "req-old")
    );

    for time in [
        "infinity",
        "-infinity",
        "1969-12-31",
        "10000-01-01",
        "soon",
        "2026-02-30",
        "",
        "2026-01-01 Nowhere/Land",
        "0044-03-15 BC",
    ] {
        for option in ["--since", "--until"] {
            let refused = run(&postgres, &["find", &format!("{option}={time}")]);
            assert_eq!(
                refused.status.code(),
                Some(2),
                "{option} {time}: {}",
                stdout(&refused)
            );
            assert!(
                stderr(&refused).contains(&format!("{option} is no time between 1970 and 9999")),
                "{}",
                stderr(&refused)
            );
        }
    }
    let empty = run(&postgres, &["find", "--since", &until, "--until", &since]);
    assert_eq!(empty.status.code(), Some(2));
    assert!(stderr(&empty).contains("--until is not after --since"));
    let unknown = run(&postgres, &["find", "--status", "lost"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("succeeded"));
}

#[test]
fn find_reports_an_empty_result_and_exits_with_1() {
    let postgres = prepared();
    let nothing = run(&postgres, &["find", "--user", "nobody"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert_eq!(stdout(&nothing), "");
    assert!(
        stderr(&nothing).contains("look further back with --since"),
        "{}",
        stderr(&nothing)
    );
    let nothing = run(&postgres, &["find", "--user", "nobody", "--json"]);
    assert_eq!(
        (nothing.status.code(), stdout(&nothing).as_str()),
        (Some(1), "[]\n")
    );
}

#[test]
fn find_prints_each_request_with_its_outcomes_as_json() {
    let postgres = prepared();
    let found = run(&postgres, &["find", "--json", "--status", "failed"]);
    assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
    let found: Value = serde_json::from_str(&stdout(&found)).unwrap();
    let mid = &found[0];
    assert_eq!(mid["request_id"], "req-mid");
    assert_eq!(mid["kind"], "query_run");
    assert_eq!(mid["tenant_key"], "acme");
    assert_eq!(mid["user_id"], "alice");
    assert_eq!(mid["about"], "Column a_b");
    // Counts all records of the request, matching or not.
    assert_eq!(mid["records"], 3);
    assert_eq!(
        mid["outcomes"],
        serde_json::json!({"succeeded": 2, "failed": 1})
    );
    assert_eq!(found[1]["request_id"], "req-old");
}

#[test]
fn reader_finds_only_requests_of_the_given_tenant() {
    let postgres = prepared();
    postgres.psql("CREATE ROLE looker LOGIN");
    let granted = run(&postgres, &["migrate", "--reader-login", "looker"]);
    assert!(granted.status.success(), "{}", stderr(&granted));
    // The same request id of another tenant is another request, and is not counted.
    postgres.psql("SELECT test_query(8, 1, 'globex', 'bob', 'req-mid', 'Of globex', 'failed')");
    let as_looker = |words: &[&str]| {
        let mut command = command(&postgres, words);
        command.env("DATABASE_URL", postgres.url_as("looker"));
        command.output().unwrap()
    };
    let unbound = as_looker(&["find"]);
    assert_eq!(unbound.status.code(), Some(1), "{}", stdout(&unbound));
    for words in [&["find"][..], &["show", "req-mid"]] {
        let unbound = as_looker(words);
        assert_eq!(unbound.status.code(), Some(1), "{}", stdout(&unbound));
        let said = stderr(&unbound);
        assert!(
            said.contains("name it with --tenant") && !said.contains("--since"),
            "{said}"
        );
    }
    let nothing = stderr(&as_looker(&["find", "--tenant", "nobody"]));
    assert!(
        nothing.contains("--since") && !nothing.contains("--tenant"),
        "{nothing}"
    );
    let found = as_looker(&["find", "--tenant", "acme", "--json"]);
    assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
    let found: Value = serde_json::from_str(&stdout(&found)).unwrap();
    assert_eq!(ids(&found), ["req-mid", "req-old"]);
    assert_eq!(found[0]["records"], 3);
    let foreign = as_looker(&["find", "--tenant", "acme", "--user", "bob"]);
    assert_eq!(foreign.status.code(), Some(1), "{}", stdout(&foreign));

    // A login that may read all tenants finds both, separately.
    let all = run(&postgres, &["find", "--json", "--text", "of globex"]);
    let all: Value = serde_json::from_str(&stdout(&all)).unwrap();
    assert_eq!(
        (ids(&all), &all[0]["records"]),
        (vec!["req-mid".to_owned()], &Value::from(1))
    );
}

#[test]
fn find_records_its_purpose() {
    let postgres = prepared();
    let found = run(
        &postgres,
        &["find", "--user", "alice", "--purpose", "ticket 4711"],
    );
    assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
    let recorded = postgres.psql("SELECT count(*) FROM audit.events WHERE action_type = 'audit.read' AND to_jsonb(events)::text LIKE '%ticket 4711%'");
    assert_eq!(recorded, "1");
    // A search does not find itself, only earlier ones.
    let search = ["find", "--json", "--user", "postgres", "--purpose", "x"];
    let nothing = run(&postgres, &search[..]);
    let found: Value = serde_json::from_str(&stdout(&nothing)).unwrap();
    assert_eq!(found[0]["records"], 1, "{found}");
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
}

#[test]
fn a_lower_time_limit_of_the_role_stays() {
    let postgres = prepared();
    postgres.psql("ALTER ROLE postgres SET statement_timeout = '3s'");
    let mut locker = postgres.session("postgres");
    locker.psql("BEGIN; LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE");
    let began = Instant::now();
    let stopped = run(&postgres, &["find"]);
    let said = stderr(&stopped);
    assert!(said.contains("was stopped"), "{said}");
    // The command's own limit.
    assert!(began.elapsed() < Duration::from_secs(15), "{said}");
}

#[test]
fn find_handles_values_that_only_a_superuser_can_insert() {
    let postgres = prepared();
    // Only a superuser can write them, into the partition that accepts any id.
    postgres.psql(
        "ALTER TABLE audit.query_runs DROP CONSTRAINT query_runs_started_at_check, DROP CONSTRAINT query_runs_finished_at_check;
        ALTER TABLE audit_parts.query_runs_default DROP CONSTRAINT query_runs_default_time",
    );
    let nested = "(repeat('[', 5000) || repeat(']', 5000))";
    let odd = [
        ("infinity", "'[1]'"),
        ("-infinity", "'null'"),
        ("294276-12-31", "'1e400'"),
        ("4713-01-01 BC", "'{\"tenant_key\": {\"a\": [1e400]}}'"),
        ("0044-03-15 BC", nested),
    ];
    for (n, (time, metadata)) in odd.iter().enumerate() {
        postgres.psql(&format!(
            "INSERT INTO audit_parts.query_runs_default (id, request_id, question_text, status, started_at, finished_at,
                metadata, problems, writer_id, seq, salt)
            VALUES (test_id({n} + 100, '2100-01-05'), 'odd-{n}', E'odd \\x1b[2J', 'unknown', '{time}', '{time}',
                {metadata}::jsonb, ARRAY[NULL, 'p'], '00000000-0000-7000-8000-00000000000a', {n} + 100, '')"
        ));
    }
    for words in [
        &["find", "--text", "ODD"][..],
        &["find", "--text", "odd", "--json"],
    ] {
        let found = run(&postgres, words);
        assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
        let text = stdout(&found);
        for n in 0..odd.len() {
            assert!(text.contains(&format!("odd-{n}")), "{text}");
        }
        assert!(!text.contains('\x1b'), "{text}");
    }
}

#[test]
fn cancelled_search_advises_a_narrower_time() {
    let postgres = prepared();
    let mut locker = postgres.session("postgres");
    locker.psql("BEGIN; LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE");
    let child = command(&postgres, &["find"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Like the command's own timeout.
    wait_until("the search waits and is cancelled", PATIENCE, || {
        postgres.psql("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == "1"
    });
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(2), "{}", stdout(&stopped));
    assert!(
        stderr(&stopped).contains("name a narrower time"),
        "{}",
        stderr(&stopped)
    );
}

#[test]
fn very_long_id_is_shortened_and_other_requests_are_listed() {
    let postgres = prepared();
    // The index compresses them; escaped, the second is eight times as wide.
    postgres.psql(
        "SELECT test_query(20, 1, 'acme', 'alice', repeat('r', 200000), 'Wide', 'failed'),
            test_query(21, 1, 'acme', 'alice', repeat(E'\\u202e', 9000), 'Escaped', 'failed'),
            test_query(22, 1, 'acme', 'm' || repeat(E'\\u0301', 2000000), 'req-accents', 'Accents', 'failed'),
            test_query(23, 1, repeat('t', 70000), 'alice', 'req-tenant', repeat('q', 200000), 'failed')",
    );
    for columns in [None, Some("80"), Some("100000")] {
        for words in [&["find"][..], &["find", "--full"]] {
            let mut command = command(&postgres, words);
            if let Some(columns) = columns {
                command.env("COLUMNS", columns);
            }
            let found = command.output().unwrap();
            assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
            let text = stdout(&found);
            for id in ["req-accents", "req-tenant", "req-mid", "req-old"] {
                assert!(text.contains(id), "{id}");
            }
            assert!(text.contains("rrr") && text.contains("\\u{202e}"));
            assert!(text.len() < 1_000_000, "{}", text.len());
        }
    }
}

#[test]
fn lines_fit_the_terminal_unless_full_is_given() {
    let postgres = prepared();
    postgres.psql("SELECT test_query(9, 1, 'a-tenant-of-a-long-name', 'somebody@example.org', gen_random_uuid()::text, repeat('What is it? ', 20), 'failed')");
    let of_width = |columns: &str, words: &[&str]| {
        let found = command(&postgres, words)
            .env("COLUMNS", columns)
            .output()
            .unwrap();
        assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
        stdout(&found)
    };
    for columns in [20, 40, 60, 80, 100, 120, 200] {
        let text = of_width(&columns.to_string(), &["find"]);
        for line in text.lines() {
            assert!(line.chars().count() <= columns, "{columns}: {line}");
        }
        assert!(columns < 80 || text.contains("req-mid"), "{text}");
    }
    let id = postgres
        .psql("SELECT request_id FROM audit.query_runs WHERE user_id = 'somebody@example.org'");
    for text in [
        of_width("40", &["find", "--full"]),
        stdout(&run(&postgres, &["find"])),
    ] {
        let line = text.lines().find(|line| line.contains("somebody")).unwrap();
        for part in [
            "a-tenant-of-a-long-name",
            "somebody@example.org",
            "1 failed",
            "1 record",
            &id,
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

#[test]
fn large_rows_are_read_within_200_mb_of_memory() {
    let postgres = prepared();
    postgres.psql(
        "SELECT audit.ensure_partition('prompt_runs', now());
        INSERT INTO audit.prompt_runs (id, request_id, rendered_prompt, response_text, status, created_at, writer_id, seq, salt)
        SELECT test_id(n, now()), 'large-' || n % 100, repeat('p', 2000000), repeat('r', 2000000), 'succeeded', now(),
            '00000000-0000-7000-8000-00000000000a', n, '' FROM generate_series(1, 200) AS n",
    );
    // 800 MB of text.
    for words in [
        &["find", "--kind", "prompt_runs", "--limit", "200"][..],
        &["find", "--kind", "prompt_runs", "--limit", "200", "--json"],
        &["show", "large-7"],
        &["show", "large-7", "--full"],
        &["show", "large-7", "--json"],
    ] {
        let mut limited = Command::new("prlimit");
        limited
            .args(["--as=200000000", env!("CARGO_BIN_EXE_tracing-audit")])
            .args(words)
            .env_remove("AUDIT_DATABASE_URL")
            .env_remove("COLUMNS")
            .env("DATABASE_URL", postgres.url());
        let found = limited.output().unwrap();
        assert_eq!(
            found.status.code(),
            Some(0),
            "{words:?}: {}",
            stderr(&found)
        );
        assert!(stdout(&found).contains("large-7"), "{words:?}");
    }
}

#[test]
fn record_without_a_request_is_shown_by_its_id() {
    let postgres = prepared();
    let found = stdout(&run(&postgres, &["find", "--status", "unknown"]));
    let id = found.trim().rsplit(' ').next().unwrap();
    let shown = run(&postgres, &["show", id]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let text = stdout(&shown);
    assert!(text.starts_with(&format!("Record {id}\n")), "{text}");
    assert!(text.contains("No request of its own"), "{text}");
    let shown = run(&postgres, &["show", id, "--json", "--tenant", "globex"]);
    let shown: Value = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!(shown[0]["id"], *id);
    let of_another = run(&postgres, &["show", id, "--tenant", "acme"]);
    assert_eq!(of_another.status.code(), Some(1));
    let none = run(&postgres, &["show", "00000000-0000-7000-8000-0000000000ff"]);
    assert_eq!(none.status.code(), Some(1), "{}", stdout(&none));
}

#[test]
fn find_accepts_kinds_as_they_are_printed() {
    let postgres = prepared();
    for (said, expected) in [
        ("query_run", vec!["-", "req-new", "req-mid", "req-old"]),
        ("query_runs", vec!["-", "req-new", "req-mid", "req-old"]),
        ("event", vec!["req-mid"]),
    ] {
        assert_eq!(requests(&postgres, &["--kind", said]), expected, "{said}");
    }
    for words in [
        &["retain", "--keep", "7 years", "--kind", "prompt_run"][..],
        &["settle", "--kind", "event"],
        &["hold", "--reason", "case", "--kind", "query_run"],
    ] {
        let done = run(&postgres, words);
        assert_eq!(done.status.code(), Some(0), "{words:?}: {}", stderr(&done));
    }
    let kinds = postgres.psql("SELECT kinds FROM audit.legal_holds");
    assert_eq!(kinds, "{query_runs}");
    let unknown = run(&postgres, &["find", "--kind", "query"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        stderr(&unknown).contains("query_runs, prompt_runs, events, activities"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn find_prints_times_in_the_format_of_show() {
    let postgres = prepared();
    let json = |words: &[&str]| -> Value {
        serde_json::from_str(&stdout(&run(&postgres, words))).unwrap()
    };
    let found = json(&["find", "--json", "--user", "alice"]);
    let shown = json(&["show", "--json", "req-old"]);
    assert_eq!(found[1]["request_id"], "req-old");
    assert_eq!(found[1]["began"], shown[0]["started_at"]);
}

/// Returns the ids of the requests found; `-` for a record without one.
fn requests(postgres: &Postgres, conditions: &[&str]) -> Vec<String> {
    let words = [&["find", "--json"], conditions].concat();
    let found = run(postgres, &words);
    let requests = ids(
        &serde_json::from_str(&stdout(&found)).unwrap_or_else(|_| panic!("{}", stderr(&found)))
    );
    let code = i32::from(requests.is_empty());
    assert_eq!(found.status.code(), Some(code), "{}", stderr(&found));
    requests
}

fn ids(found: &Value) -> Vec<String> {
    let id = |request: &Value| request["request_id"].as_str().unwrap_or("-").to_owned();
    found.as_array().unwrap().iter().map(id).collect()
}

fn prepared() -> Postgres {
    let postgres = Postgres::start();
    let migrated = run(&postgres, &["migrate"]);
    assert!(migrated.status.success(), "{}", stderr(&migrated));
    postgres.psql(RECORDS);
    postgres
}

fn run(postgres: &Postgres, words: &[&str]) -> Output {
    command(postgres, words).output().unwrap()
}

/// The program, without the environment variables that change its behaviour.
fn command(postgres: &Postgres, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    for name in ["AUDIT_DATABASE_URL", "COLUMNS"] {
        command.env_remove(name);
    }
    command.args(words).env("DATABASE_URL", postgres.url());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
