//! `tracing-audit export`: the built program against a real Postgres and real files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod files;
mod filters;
mod formats;
mod ledger;
mod ocsf;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use testkit::Postgres;
use testkit::trail::Folder;

const PATIENCE: Duration = Duration::from_mins(1);

/// Records of every table and of two tenants; the texts are what attackers and accidents leave.
const RECORDS: &str = r#"
    CREATE FUNCTION test_id(n int, at timestamptz) RETURNS uuid LANGUAGE sql AS $$
        SELECT overlay(audit.id_at(at)::text PLACING '7000-8000-' || lpad(n::text, 12, '0') FROM 15)::uuid
    $$;
    SELECT audit.ensure_partition(t, now()) FROM unnest(audit.record_tables()) AS t;
    INSERT INTO audit.query_runs (id, tenant_id, user_id, request_id, question_text, sql_text, row_count, status,
        started_at, finished_at, duration_ms, metadata, problems, writer_id, seq, salt)
    SELECT test_id(n, now()), audit.tenant_uuid(CASE n % 2 WHEN 0 THEN 'acme' ELSE 'globex' END), 'ana', 'req-' || n / 4,
        question, sql, -n, CASE n % 3 WHEN 0 THEN 'failed' ELSE 'succeeded' END::audit.run_status, now(), now() + interval '12.345 ms', 12,
        metadata::jsonb, problems, '00000000-0000-7000-8000-00000000000a', n, '\x00ff'
    FROM (VALUES
        (1, '=HYPERLINK("http://evil.example")', '+1', '{"a": 1.00}', ARRAY['=1', NULL, 'a"b']),
        (2, '-2+3', '@SUM(A1)', '{"n": 1e400, "deep": {"x": [1, null, "é"]}}', '{}'),
        (3, E'\t=1', E'\r\n=1', '{"\u202e": "\u0007\ud83d\ude00"}', '{}'),
        (4, '＝1', '＋1', '"no object"', '{}'),
        (5, '－1', '＠A', '[1, 2]', '{}'),
        (6, E'line one\nline "two", three\r\nfour', '''=1', '{}', '{}'),
        (7, U&'\202Eevil\200B\FFFD<script>alert(1)</script>', '</style><img src=x onerror=alert(1)>', '{}', '{}'),
        (8, repeat('0123456789', 100000), '', '{}', '{}'),
        (9, NULL, NULL, '{}', '{}'),
        (10, 'many fields', 'SELECT 1', (SELECT json_object_agg('field ' || i, i)::text FROM generate_series(1, 10000) AS i), '{}'),
        (11, E'\u2028\u0085\x7f\x1b[31m', 'SELECT 2', '{}', '{}')
    ) AS v (n, question, sql, metadata, problems);
    INSERT INTO audit.prompt_runs (id, tenant_id, user_id, request_id, model_name, provider, rendered_prompt, response_text, role,
        input_token_count, output_token_count, status, created_at, parent_id, writer_id, seq, salt)
    SELECT test_id(20, now()), audit.tenant_uuid('acme'), 'bo', 'req-1', 'claude', 'anthropic', 'Say "hi"', '=cmd', 'user', 7, 1,
        'succeeded', now(), test_id(4, now()), '00000000-0000-7000-8000-00000000000a', 20, '';
    INSERT INTO audit.events (id, tenant_id, user_id, service_name, action_type, target_type, target_id, input_summary, status, created_at, latency_ms, metadata, writer_id, seq, salt)
    SELECT test_id(30 + n, now()), audit.tenant_uuid('globex'), 'bo', 'shop', action, 'thing', target, NULL, 'succeeded', now(), 5,
        metadata::jsonb, '00000000-0000-7000-8000-00000000000a', 30 + n, ''
    FROM (VALUES
        (1, 'security', 'ana', '{"event": "login", "client.address": "192.0.2.1"}'),
        (2, 'security', NULL, '{"event": "access_denied"}'),
        (3, 'change', '7', '{"operation": "update", "changes": {"limit": {"old": 1, "new": 2}}}'),
        (4, 'llm_call', NULL, '{"model": "claude", "input_token_count": 3}'),
        (5, 'tool_invocation', 'search', '{}'),
        (6, 'approval', NULL, '{"decision": "approved"}'),
        (7, 'system_error', NULL, '{"error_type": "io"}'),
        (8, 'agent_execution', 'planner', '{}'),
        (9, NULL, NULL, '"no object"')
    ) AS v (n, action, target, metadata);
    INSERT INTO audit.activities (id, user_id, service_name, action_type, status, created_at, metadata, writer_id, seq, salt)
    SELECT test_id(50 + n, now()), 'bo', 'shop', action, 'succeeded', now(), metadata::jsonb, '00000000-0000-7000-8000-00000000000a', 50 + n, ''
    FROM (VALUES
        (1, 'http_request', '{"http.request.method": "GET", "url.path": "/a", "http.response.status_code": 200}'),
        (2, 'http_request', '{"http.request.method": "BREW"}'),
        (3, 'log', '{"message": "a line"}'),
        (4, 'system_metric', '{"metric": "depth", "value": 17}')
    ) AS v (n, action, metadata);
    CREATE VIEW records AS SELECT 'query_runs' AS source, id, tenant_id, user_id, request_id, NULL AS action_type FROM audit.query_runs
        UNION ALL SELECT 'prompt_runs', id, tenant_id, user_id, request_id, NULL FROM audit.prompt_runs
        UNION ALL SELECT 'events', id, tenant_id, user_id, request_id, action_type FROM audit.events
        UNION ALL SELECT 'activities', id, tenant_id, user_id, request_id, action_type FROM audit.activities;"#;

/// A server with those records, and a folder for files.
struct Setting {
    postgres: Postgres,
    folder: Folder,
}

impl Setting {
    fn start() -> Self {
        let setting = Self::empty();
        setting.postgres.psql(RECORDS);
        setting
    }

    fn empty() -> Self {
        let postgres = Postgres::start();
        let folder = Folder::new();
        fs::create_dir_all(&folder.0).unwrap();
        let setting = Self { postgres, folder };
        setting.succeed(&["migrate"]);
        setting
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        command(&self.postgres.url(), words)
    }

    #[track_caller]
    fn succeed(&self, words: &[&str]) -> Output {
        let output = self.command(words).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{words:?}: {}",
            stderr(&output)
        );
        output
    }

    /// Exports to a file of this name, and returns what it has.
    #[track_caller]
    fn export(&self, format: &str, name: &str, words: &[&str]) -> Vec<u8> {
        let path = self.path(name);
        let path = path.to_str().unwrap();
        let all = [
            &[
                "export",
                "--format",
                format,
                "--output",
                path,
                "--purpose",
                "a test",
            ][..],
            words,
        ];
        self.succeed(&all.concat());
        fs::read(path).unwrap()
    }

    /// Returns the manifest of that file.
    #[track_caller]
    fn manifest(&self, name: &str) -> Value {
        let path = self.path(&format!("{name}.manifest.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Returns the details of the events that tell of exports, in their order.
    fn recorded(&self) -> Vec<Value> {
        let events = self.postgres.psql(
            "SELECT metadata FROM audit.events WHERE action_type = 'audit.read' AND metadata ->> 'page' = 'export' ORDER BY id",
        );
        events
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn names(&self) -> Vec<String> {
        names(&self.folder.0)
    }
}

fn command(url: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.env_remove("AUDIT_DATABASE_URL");
    command.args(words).env("DATABASE_URL", url);
    command
}

/// Returns the names of the files in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the objects of JSON lines.
fn lines(bytes: &[u8]) -> Vec<Value> {
    std::str::from_utf8(bytes)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:.300}"))
        })
        .collect()
}
