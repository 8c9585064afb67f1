//! What an archive costs: rows a second written and verified, and bytes a row. See docs/archive.md.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::trail::Folder;
use testkit::{Postgres, benches};

/// Rows as programs write them, of one day and 50 tenants, in batches of 500 of which each has two kinds.
const FILL: &str = "
    SELECT audit.ensure_partition(t, '2026-03-14 12:00+00') FROM unnest(audit.record_tables()) AS t;
    CREATE UNLOGGED TABLE filled AS
        SELECT n, '2026-03-14 00:00+00'::timestamptz + n * interval '86 s' / ($1 / 1000) AS at, ('00000000-0000-7000-8000-' || lpad(to_hex(n / 500), 12, '0'))::uuid AS writer, 1 + n % 500 AS seq,
            overlay(gen_random_uuid()::text PLACING left(audit.id_at('2026-03-14 00:00+00'::timestamptz + n * interval '86 s' / ($1 / 1000))::text, 13) FROM 1)::uuid AS id,
            audit.tenant_uuid('tenant ' || (random() * random() * 50)::int) AS tenant, uuid_send(gen_random_uuid()) AS salt, md5((n / 7)::text) AS trace, left(md5(n::text), 16) AS span
        FROM generate_series(0, $1 - 1) AS n;
    INSERT INTO audit.query_runs (id, writer_id, seq, tenant_id, request_id, trace_id, span_id, service_name, status, started_at, finished_at, duration_ms, row_count, salt, user_id, question_text, sql_text, metadata)
        SELECT id, writer, seq, tenant, 'req-' || md5((n / 7)::text), trace, span, 'assistant', 'succeeded', at, at + interval '12 ms', 12 + n % 90, n % 1000, salt, 'user-' || n % 5000,
            'How many orders did customer ' || n % 10000 || ' place in the month ' || n % 12 || '?',
            'SELECT count(*) FROM orders JOIN customers USING (customer_id) WHERE customer_id = ' || n % 10000 || ' AND placed_at >= ''2026-01-01'' AND placed_at < ''2026-02-01'' GROUP BY month', '{\"prompt.version\": 3}'
        FROM filled WHERE n % 2 = 0;
    INSERT INTO audit.events (id, writer_id, seq, tenant_id, request_id, trace_id, span_id, service_name, status, created_at, latency_ms, action_type, target_type, target_id, salt, user_id, metadata)
        SELECT id, writer, seq, tenant, 'req-' || md5((n / 7)::text), trace, span, 'assistant', 'succeeded', at, n % 90, 'tool_invocation', 'tool', 'search', salt, 'user-' || n % 5000, jsonb_build_object('rank', n % 10, 'cost', n % 1000 / 7.0)
        FROM filled WHERE n % 2 = 1;
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, service_name)
        SELECT writer, 1, 500, '{\"query_runs\": 250, \"events\": 250}', 0, min(id::text)::uuid, max(id::text)::uuid, 'bench', 'assistant' FROM filled GROUP BY writer;
    DROP TABLE filled;
    ANALYZE";

fn main() {
    let rows: u64 = if benches::is_short() {
        20_000
    } else {
        1_200_000
    };
    let postgres = Postgres::start();
    let scratch = Folder::new();
    let program = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
        command
            .env("AUDIT_DATABASE_URL", postgres.url())
            .args(words);
        command
    };
    std::fs::create_dir_all(&scratch.0).expect("the folder is made");
    let key = scratch.0.join("key");
    let key = key.to_str().expect("the path is UTF-8");
    run(&mut program(&["migrate"]));
    let made = program(&["key", "new", "--name", "example.com/bench", key]).output();
    let vkey = String::from_utf8(made.expect("the key is made").stdout).expect("it is UTF-8");
    for statement in FILL.split(";\n") {
        postgres.psql(&statement.replace("$1", &rows.to_string()));
    }
    run(&mut program(&["seal", "--once", "--key", key]));
    let rounds = if benches::is_short() { 1 } else { 3 };
    let (mut written, mut verified, mut folder) = (Vec::new(), Vec::new(), PathBuf::new());
    for round in 0..rounds {
        folder = scratch.0.join(format!("archive-{round}"));
        let place = folder.to_str().expect("the path is UTF-8");
        let words = ["archive", "--copy", "--key", key, "--to", place];
        written.push(rows as f64 / run(&mut program(&words)).as_secs_f64());
        let words = ["archive", "verify", "--key", vkey.trim(), place];
        verified.push(rows as f64 / run(&mut program(&words)).as_secs_f64());
    }
    let bytes = postgres.psql("SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'audit_parts' AND c.relkind = 'r'");
    let bytes: f64 = bytes.trim().parse().expect("it is a number");
    let kinds = [
        ("parquet", ".parquet"),
        ("batches", ".batches"),
        ("manifests", ".manifest"),
    ];
    println!("\n{rows} rows of one day, rows a second, {rounds} rounds");
    println!("written  {written:.0?}");
    println!("verified {verified:.0?}, 2 jobs");
    println!(
        "bytes a row in Postgres with indexes {:.0}",
        bytes / rows as f64
    );
    for (name, ending) in kinds {
        let bytes = size(&folder, ending);
        println!("bytes a row in {name} {:.1}", bytes as f64 / rows as f64);
    }
    let archived = size(&folder, "");
    println!("Postgres / archive {:.1}", bytes / archived as f64);
}

/// Runs a command that must succeed, and returns how long it took.
fn run(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let status = command.status().expect("the program starts");
    assert!(status.success(), "{command:?}");
    begun.elapsed()
}

/// Returns the bytes of all files below a folder whose names end so.
fn size(folder: &std::path::Path, ending: &str) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    entries
        .map(|entry| {
            let path = entry.expect("the folder is read").path();
            if path.is_dir() {
                return size(&path, ending);
            }
            let is_meant = path.to_str().is_some_and(|path| path.ends_with(ending));
            if is_meant {
                path.metadata().expect("the file is there").len()
            } else {
                0
            }
        })
        .sum()
}
