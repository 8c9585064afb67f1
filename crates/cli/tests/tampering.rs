//! Tampering derived from the catalog itself: every part of the trail is removed or altered, one
//! kind after the other, and `tracing-audit doctor` must name each, with statements that restore it
//! and lose no row.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use testkit::Postgres;
use testkit::trail::{count, record_tables};

/// The query `doctor` runs on the catalog, so that no kind it checks is left out here.
const SNAPSHOT: &str = include_str!("../src/doctor/snapshot.sql");

/// The most rounds of checking and repairing: a function cannot be created before those it calls.
const ROUNDS: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    kind: String,
    object: String,
    name: String,
    statement: String,
    change: String,
    undo: String,
}

#[test]
fn revoked_rights_are_found_and_restored() {
    let postgres = with_rows();
    each_kind(&postgres, &["privilege", "policy"], |fact| {
        fact.undo.clone()
    });
}

#[test]
fn removed_guards_are_found_and_restored() {
    let postgres = with_rows();
    each_kind(
        &postgres,
        &["trigger", "event trigger", "constraint", "index"],
        |fact| fact.undo.clone(),
    );
}

#[test]
fn removed_functions_and_views_are_found_and_restored() {
    let postgres = with_rows();
    each_kind(&postgres, &["function", "view"], |fact| fact.undo.clone());
}

#[test]
fn removed_column_attributes_are_found_and_restored() {
    let postgres = with_rows();
    let kinds = ["column default", "column not null", "column identity"];
    each_kind(&postgres, &kinds, |fact| fact.undo.clone());
    each_kind(&postgres, &["column statistics"], |fact| {
        fact.statement.replace("STATISTICS 0", "STATISTICS 50")
    });
}

#[test]
fn altered_objects_are_found_and_restored() {
    let postgres = with_rows();
    each_kind(&postgres, &["owner"], |fact| {
        let (alter, _) = fact.statement.rsplit_once(" OWNER TO ").unwrap();
        format!("{alter} OWNER TO \"Some Body\"")
    });
    each_kind(&postgres, &["trigger"], |fact| {
        fact.change.replace("ENABLE ALWAYS", "DISABLE")
    });
    each_kind(&postgres, &["event trigger"], |fact| {
        fact.change.replace("ENABLE ALWAYS", "ENABLE REPLICA")
    });
    each_kind(&postgres, &["policy"], |fact| {
        format!("ALTER POLICY {} ON {} TO PUBLIC", fact.name, fact.object)
    });
    each_kind(&postgres, &["row security"], |fact| {
        exchange(&fact.statement, " ENABLE ", " DISABLE ")
    });
    each_kind(&postgres, &["forced row security"], |fact| {
        exchange(&fact.statement, " FORCE ", " NO FORCE ")
    });
    each_kind(&postgres, &["logged"], |fact| {
        fact.statement.replace(" LOGGED", " UNLOGGED")
    });
    each_kind(&postgres, &["constraint"], |fact| {
        format!(
            "ALTER TABLE {0} DROP CONSTRAINT {1}, ADD CONSTRAINT {1} CHECK (true)",
            fact.object, fact.name
        )
    });
}

#[test]
fn altered_functions_are_found_and_restored() {
    let postgres = with_rows();
    each_kind(&postgres, &["function"], |fact| {
        format!("ALTER ROUTINE {} COST 7", fact.object)
    });
    each_kind(&postgres, &["function"], |fact| {
        format!("ALTER ROUTINE {} SET search_path = public", fact.object)
    });
    // The case of a word, which may be inside a literal.
    each_kind(&postgres, &["function"], |fact| {
        let body = fact.statement.replace("audit.", "Audit.");
        // A body in SQL is resolved when the function is created.
        format!("SET check_function_bodies = off; {body}")
    });
}

#[test]
fn added_objects_are_found_and_removed() {
    let postgres = with_rows();
    let tables = |statement: fn(&str) -> String| move |fact: &Fact| statement(&fact.object);
    each_kind(
        &postgres,
        &["table"],
        tables(|t| format!("GRANT UPDATE ON {t} TO PUBLIC")),
    );
    each_kind(&postgres, &["function"], |fact| {
        format!("GRANT EXECUTE ON ROUTINE {} TO \"Some Body\"", fact.object)
    });
    each_kind(
        &postgres,
        &["table"],
        tables(|t| format!("CREATE POLICY \"Mine\" ON {t} USING (true)")),
    );
    each_kind(
        &postgres,
        &["table"],
        tables(|t| {
            format!(
                "CREATE TRIGGER \"Mine\" BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION public.swallow()"
            )
        }),
    );
    each_kind(
        &postgres,
        &["table"],
        tables(|t| format!("CREATE RULE \"Mine\" AS ON INSERT TO {t} DO INSTEAD NOTHING")),
    );
    each_kind(
        &postgres,
        &["table"],
        tables(|t| {
            format!("ALTER TABLE {t} ADD CONSTRAINT \"Mine\" CHECK (current_user <> 'mallory')")
        }),
    );
    each_kind(&postgres, &["column"], |fact| {
        format!(
            "CREATE INDEX ON {} (({}::text || 'x'))",
            fact.object, fact.name
        )
    });
}

/// For each kind: tampers with every fact of it that can be, checks that each object is reported,
/// follows the advice, and checks that all is well again, with every row in its place.
#[track_caller]
fn each_kind(postgres: &Postgres, kinds: &[&str], tampering: impl Fn(&Fact) -> String) {
    for kind in kinds {
        let before = facts(postgres);
        let rows = rows_of(postgres);
        let mut objects = BTreeSet::new();
        let of_kind = before.iter().filter(|fact| fact.kind == *kind);
        for fact in of_kind {
            let statement = tampering(fact);
            // Some tampering is impossible: what other objects depend on, what a partition inherits
            // from its table.
            if !statement.is_empty() && postgres.try_psql(&statement).is_ok() {
                objects.insert(fact.object.clone());
            }
        }
        let after = facts(postgres);
        let differing: BTreeSet<&str> = before
            .iter()
            .filter(|fact| !after.contains(fact))
            .chain(after.iter().filter(|fact| !before.contains(fact)))
            .map(|fact| fact.object.as_str())
            .collect();
        objects.retain(|object| differing.contains(object.as_str()));
        assert!(!objects.is_empty(), "nothing was done to any {kind}");

        let told = findings(postgres);
        let text: String = told
            .iter()
            .map(|finding| {
                let text = |name: &str| finding[name].as_str().unwrap_or_default();
                [text("object"), text("found"), text("advice")].join(" ")
            })
            .collect();
        for object in &objects {
            // What a table and its partitions have in common is reported for the table.
            let table = object
                .strip_prefix("audit_parts.")
                .and_then(|leaf| {
                    let mut tables = rows.iter().map(|(table, _)| table);
                    tables.find(|table| leaf.starts_with(table.as_str()))
                })
                .map(|table| format!("audit.{table}"));
            let is_named =
                text.contains(object) || table.is_some_and(|table| text.contains(&table));
            assert!(is_named, "{kind}: {object} is not named in {told:#?}");
        }
        for _ in 0..ROUNDS {
            for finding in findings(postgres) {
                if let Some(advice) = finding["advice"].as_str() {
                    let _ = postgres.try_psql(advice);
                }
            }
            if findings(postgres).is_empty() {
                break;
            }
        }
        assert_eq!(
            findings(postgres),
            Vec::<Value>::new(),
            "{kind}: after what is advised"
        );
        assert_eq!(rows_of(postgres), rows, "{kind}: rows");
    }
}

/// Swaps one word for another, in either direction.
fn exchange(text: &str, one: &str, other: &str) -> String {
    if text.contains(other) {
        text.replace(other, one)
    } else {
        text.replace(one, other)
    }
}

fn facts(postgres: &Postgres) -> Vec<Fact> {
    let json = postgres.psql(&format!(
        "SET search_path = pg_catalog, pg_temp; SET TimeZone = 'UTC'; SELECT json_agg(f) FROM (\n{SNAPSHOT}\n) f"
    ));
    let facts: Vec<Value> = serde_json::from_str(&json).unwrap();
    facts
        .iter()
        .map(|fact| {
            let text = |name: &str| fact[name].as_str().unwrap_or_default().to_owned();
            Fact {
                kind: text("kind"),
                object: text("object"),
                name: text("name"),
                statement: text("statement"),
                change: text("change"),
                undo: text("undo"),
            }
        })
        .collect()
}

/// Returns how many rows each record table shows.
fn rows_of(postgres: &Postgres) -> Vec<(String, u64)> {
    record_tables(postgres)
        .into_iter()
        .map(|table| {
            let rows = count(postgres, &table);
            (table, rows)
        })
        .collect()
}

/// Returns the findings that are not ok.
fn findings(postgres: &Postgres) -> Vec<Value> {
    let output = command(postgres, &["doctor", "--json"]).output().unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    findings
        .into_iter()
        .filter(|finding| finding["severity"] != "ok")
        .collect()
}

/// Starts a server with a trail, this month's partitions, and rows in each.
fn with_rows() -> Postgres {
    let postgres = Postgres::start();
    assert!(command(&postgres, &["migrate"]).status().unwrap().success());
    postgres.psql(
        "SELECT audit.ensure_partition(t, now() + m * interval '1 month')
            FROM unnest(audit.record_tables()) t, generate_series(0, 1) m;
        INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
            SELECT audit.id_at(at), at, 'succeeded', '00000000-0000-7000-8000-00000000000a', n, ''
            FROM generate_series(1, 20) n, LATERAL (SELECT date_trunc('month', now()) + n * interval '1 day') a (at);
        INSERT INTO audit.query_runs (id, started_at, status, writer_id, seq, salt)
            SELECT audit.id_at(at), at, 'succeeded', '00000000-0000-7000-8000-00000000000a', n, ''
            FROM generate_series(21, 30) n, LATERAL (SELECT date_trunc('month', now()) + n * interval '1 hour') a (at);
        INSERT INTO audit.prompt_runs (id, created_at, status, writer_id, seq, salt)
            SELECT audit.id_at(at), at, 'succeeded', '00000000-0000-7000-8000-00000000000a', n, ''
            FROM generate_series(31, 40) n, LATERAL (SELECT date_trunc('month', now()) + n * interval '1 hour') a (at);
        INSERT INTO audit.activities (id, created_at, status, writer_id, seq, salt)
            SELECT audit.id_at(at), at, 'succeeded', '00000000-0000-7000-8000-00000000000a', n, ''
            FROM generate_series(41, 60) n, LATERAL (SELECT date_trunc('month', now()) + (n - 40) * interval '1 day') a (at);
        INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
            VALUES ('00000000-0000-7000-8000-00000000000a', 1, 60, '{\"query_runs\": 10, \"prompt_runs\": 10, \"events\": 20, \"activities\": 20}', 0,
                '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'test');
        CREATE ROLE \"Some Body\";
        CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    );
    assert_eq!(findings(&postgres), Vec::<Value>::new());
    postgres
}

fn command(postgres: &Postgres, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    for name in ["AUDIT_DATABASE_URL", "DATABASE_URL", "COLUMNS"] {
        command.env_remove(name);
    }
    command
        .args(words)
        .env("AUDIT_DATABASE_URL", postgres.url());
    command
}
