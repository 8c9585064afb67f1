//! Random changes of every column of every table whose rows are proven, by a superuser with all triggers off.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use testkit::trail::{PATIENCE, TRIGGERS_OFF, Trail};
use testkit::{Chance, Postgres};
use tracing_audit::{Event, HttpRequest, NewRecord, PromptRun, QueryRun};
use uuid::Uuid;

use super::program;

const RECORD_TABLES: [&str; 4] = ["query_runs", "prompt_runs", "events", "activities"];

/// Makes another value of each type.
const MUTATIONS: &str = include_str!("mutations.sql");

fn record(n: u32) -> NewRecord {
    let of = Uuid::from_u128(u128::from(n) << 64);
    match n % 4 {
        0 => PromptRun::new(format!("Übersetze {n}"))
            .model_name("m-1")
            .response_text("SELECT 1")
            .tenant_id("acme")
            .metadata("cost", f64::from(n) / 7.0)
            .into(),
        1 => QueryRun::new(format!("SELECT {n}"))
            .question_text("How many?")
            .user_id("alice")
            .request_id(format!("r-{n}"))
            .metadata("rows", json!([n, null, {"a": -0.0}]))
            .into(),
        2 => Event::new("order_viewed")
            .target("order", n.to_string())
            .error_message("")
            .agent_id(of)
            .into(),
        _ => HttpRequest::new("GET", "/orders").request_id("").into(),
    }
}

/// Returns a trail of so many records in batches of so many, all sealed, with some that Postgres has refused.
fn sealed(records: u32, of_batch: u32) -> Trail {
    let trail = Trail::start();
    let flush = || trail.audit.flush_blocking(PATIENCE).unwrap();
    trail.audit.record(Event::new("first")).unwrap();
    flush();
    trail.postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%') NOT VALID",
    );
    for n in 0..records {
        trail.audit.record(record(n)).unwrap();
        if n % 250 == 0 {
            trail.audit.record(Event::new("poison")).unwrap();
        }
        if n % of_batch == of_batch - 1 {
            flush();
        }
    }
    flush();
    trail.postgres.psql(
        "DO $$ BEGIN SET synchronous_commit = off; FOR n IN 1 .. 100 LOOP PERFORM audit.record_reading('look ' || n); COMMIT; END LOOP; END $$",
    );
    while trail.postgres.psql("SELECT sealed FROM audit.seal()") != "0" {}
    assert!(findings(&trail.postgres).is_empty());
    trail
        .postgres
        .psql("ALTER TABLE audit.events DROP CONSTRAINT host_rule");
    trail.postgres.psql(TRIGGERS_OFF);
    trail.postgres.psql(MUTATIONS);
    trail
}

fn findings(postgres: &Postgres) -> Vec<Value> {
    let output = program(&postgres.url())
        .args(["verify", "--json"])
        .output()
        .unwrap();
    let all: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    all["findings"].as_array().unwrap().clone()
}

/// Changes rows, after the numbers that chance draws.
fn change(postgres: &Postgres, calls: &str) {
    let seed = Chance::new().below(1_000_000);
    postgres.psql(&format!(
        "SELECT setseed({seed}::float8 / 1000000); {calls}"
    ));
}

/// Returns what was changed: table, id, writer, seq, column, and the values.
fn changed(postgres: &Postgres) -> Vec<Value> {
    let rows = postgres.psql("SELECT to_jsonb(c) FROM public.changed c");
    rows.lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

/// Fails unless each column of a table was changed in some row, but for one that cannot be.
#[track_caller]
fn assert_each_column(postgres: &Postgres, table: &str, changed: &[Value], but: &str) {
    let columns = postgres.psql(&format!(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'audit.{table}'::regclass AND attnum > 0 AND attname <> '{but}'"
    ));
    let of_table = changed
        .iter()
        .filter(|change| change["table_name"] == table);
    let names: BTreeSet<&str> = of_table
        .map(|change| change["column_name"].as_str().unwrap())
        .collect();
    assert_eq!(names, columns.lines().collect(), "{table}");
}

#[test]
fn ten_thousand_random_changes_of_all_columns_are_found_with_their_rows() {
    let trail = sealed(10_000, 100);
    let postgres = &trail.postgres;
    let of_tables =
        RECORD_TABLES.map(|table| format!("CALL public.change('{table}', 'id', 'true', 2500);"));
    change(
        postgres,
        &format!(
            "{} CALL public.change('dead_letters', 'seq', 'true', 100)",
            of_tables.concat()
        ),
    );
    let changed = changed(postgres);
    assert!(changed.len() >= 10_000, "{}", changed.len());
    for table in RECORD_TABLES {
        assert_each_column(postgres, table, &changed, "");
    }
    let mut found: BTreeMap<(&str, String), BTreeSet<&str>> = BTreeMap::new();
    let findings = findings(postgres);
    for finding in &findings {
        let (Some(table), kind) = (finding["table"].as_str(), finding["kind"].as_str().unwrap())
        else {
            continue;
        };
        // A dead letter has no id of its own.
        let id = finding["id"]
            .as_str()
            .map_or_else(|| finding["seq"].to_string(), str::to_owned);
        found.entry((table, id)).or_default().insert(kind);
    }
    let mut unnamed = Vec::new();
    for change in &changed {
        let (table, id) = (&change["table_name"], &change["id"]);
        let kinds = found.get(&(table.as_str().unwrap(), id.as_str().unwrap().to_owned()));
        let is_right = match change["column_name"].as_str().unwrap() {
            // It is not a row of its batch any more.
            "writer_id" | "seq" => kinds.is_some_and(|kinds| {
                kinds.contains("row_inserted") || kinds.contains("row_edited")
            }),
            "salt" => kinds.is_some_and(|kinds| {
                kinds.contains("row_edited") || kinds.contains("erasure_unrecorded")
            }),
            // Another may have been moved to its place.
            _ => kinds.is_some_and(|kinds| {
                kinds.contains("row_edited")
                    && kinds.is_subset(&BTreeSet::from(["row_edited", "row_inserted"]))
            }),
        };
        if !is_right {
            unnamed.push(format!("{change}: {kinds:?}"));
        }
    }
    assert_eq!(
        unnamed,
        Vec::<String>::new(),
        "{} of {}",
        unnamed.len(),
        changed.len()
    );
}

#[test]
fn random_changes_of_all_columns_of_batches_and_entries_are_found_with_their_place() {
    let trail = sealed(800, 2);
    let postgres = &trail.postgres;
    postgres.psql(
        "ALTER TABLE audit.batches DROP CONSTRAINT batches_records, DROP CONSTRAINT batches_check, DROP CONSTRAINT batches_check1",
    );
    // With others between them, since one that is missing is told by the next.
    change(
        postgres,
        "CALL public.change('batches', 'writer_id', 'first_seq % 8 = 1', 200); CALL public.change('ledger', 'index', 'first_seq % 8 = 5', 200)",
    );
    let changed = changed(postgres);
    assert!(changed.len() >= 200, "{}", changed.len());
    assert_each_column(postgres, "batches", &changed, "");
    // Another is there already.
    assert_each_column(postgres, "ledger", &changed, "index");
    let findings = findings(postgres);
    let mut unnamed = Vec::new();
    for change in &changed {
        let is_named = findings.iter().any(|finding| {
            if change["table_name"] == "ledger" {
                // Two that became one writer's are one that is missing.
                change["column_name"] == "writer_id" && finding["writer"] == change["became"]
                    || change["id"].as_str()
                        == finding["index"]
                            .as_i64()
                            .map(|index| index.to_string())
                            .as_deref()
            } else {
                finding["writer"] == change["writer_id"] && finding["seq"] == change["seq"]
            }
        });
        if !is_named {
            unnamed.push(change.to_string());
        }
    }
    assert_eq!(unnamed, Vec::<String>::new(), "{findings:?}");
}

#[test]
fn copy_of_a_row_is_named_and_not_the_row_that_it_copies() {
    let trail = sealed(400, 50);
    let postgres = &trail.postgres;
    for table in RECORD_TABLES {
        postgres.psql(&format!(
            "INSERT INTO audit.{table} SELECT (jsonb_populate_record(r, jsonb_build_object('id', public.other('uuid', r.id::text)))).*
             FROM audit.{table} r WHERE r.id IN (SELECT id FROM audit.{table} ORDER BY id LIMIT 20)"
        ));
    }
    let copies = postgres.psql(
        &RECORD_TABLES
            .map(|table| format!("SELECT max(xmin::text), string_agg(id::text, ' ') FROM audit.{table} GROUP BY xmin HAVING count(*) = 20"))
            .join(" UNION ALL "),
    );
    let expected: BTreeSet<&str> = copies
        .lines()
        .flat_map(|line| line.split_once('|').unwrap().1.split(' '))
        .collect();
    assert_eq!(expected.len(), 80);
    let findings = findings(postgres);
    let named: BTreeSet<&str> = findings
        .iter()
        .filter_map(|finding| finding["id"].as_str())
        .collect();
    assert_eq!(named, expected, "{findings:?}");
    assert!(
        findings
            .iter()
            .any(|finding| finding["kind"] == "row_inserted")
    );
}
