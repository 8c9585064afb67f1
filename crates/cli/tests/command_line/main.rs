//! The command line as a user runs it: the built program against a real Postgres.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod migrate;
mod output;
#[cfg(feature = "redact")]
mod redact;
mod retain;
mod safety;
mod show;
mod tail;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

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

const WRITER_A: &str = "00000000-0000-7000-8000-00000000000a";

const WRITER_B: &str = "00000000-0000-7000-8000-00000000000b";

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
