//! No literal of a query's SQL is in Postgres, and the row says how many there were.

use testkit::Postgres;
use testkit::trail::{Folder, PATIENCE, pipeline, rows};
use tracing::info_span;
use tracing_audit::redact::{Action, Redaction};
use tracing_audit::{Approval, Decision, Kind, QueryRun};
use tracing_subscriber::prelude::*;

/// What each text below has in its literals and comments, and nowhere else.
const SECRET: &str = "Lovelace";

/// A system, SQL for it, what is stored of that, and what the row says.
const QUERIES: &[(&str, &str, &str, &str)] = &[
    (
        "postgresql",
        r#"SELECT "Name" FROM t WHERE a = 'Lovelace''s' AND b > 1815 AND c = $1"#,
        r#"SELECT "Name" FROM t WHERE a = '[sql-literal]' AND b > '[sql-literal]' AND c = $1"#,
        "sql_text: sql-literal ×2",
    ),
    (
        "postgresql",
        r"SELECT E'Love\'Lovelace', $q$Lovelace$q$, U&'Lovelace' /* Lovelace */",
        "SELECT '[sql-literal]', '[sql-literal]', '[sql-literal]' /* [sql-comment] */",
        "sql_text: sql-literal ×3, sql-comment ×1",
    ),
    (
        "mysql",
        "SELECT `a` FROM t WHERE b = \"Lovelace\" LIMIT ? # Lovelace",
        "SELECT `a` FROM t WHERE b = '[sql-literal]' LIMIT ? '[sql-literal]'",
        "sql_text: sql-literal ×2",
    ),
    (
        "",
        "Ada Lovelace has no orders",
        "'[sql-literal]'",
        "sql_text: sql-literal ×1",
    ),
];

#[test]
fn no_literal_of_sql_is_stored_and_the_row_says_how_many_there_were() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let rules = Redaction::default()
        .secrets()
        .personal()
        .sql_literals(Action::Mask);
    let audit = pipeline(&postgres, &spool, |builder| builder.redact(rules));
    for (system, sql, ..) in QUERIES {
        let query = QueryRun::new(*sql).metadata("db.system.name", *system);
        audit.record(query).unwrap();
    }
    let write = Approval::new(Decision::Approved).sql_text("UPDATE t SET a = 'Lovelace'");
    audit.record(write).unwrap();
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    tracing::subscriber::with_default(subscriber, || {
        // As `Debug` writes it.
        info_span!("audit.query_run", sql_text = ?"DELETE FROM t WHERE \"a\" = 'Lovelace'", db.system.name = "postgresql");
    });
    audit.flush_blocking(PATIENCE).unwrap();
    let queries = rows(&postgres, Kind::QueryRun);
    for (_, sql, stored, said) in QUERIES {
        let is_of = |row: &&serde_json::Value| row["sql_text"] == *stored;
        let row = queries
            .iter()
            .find(is_of)
            .unwrap_or_else(|| panic!("{sql}: {queries:#?}"));
        assert_eq!(row["redactions"], serde_json::json!([said]), "{sql}");
    }
    let of_span = r#""DELETE FROM t WHERE \"a\" = '[sql-literal]'""#;
    assert!(
        queries.iter().any(|row| row["sql_text"] == of_span),
        "{queries:#?}"
    );
    let events = rows(&postgres, Kind::Event);
    assert_eq!(
        events[0]["metadata"]["sql_text"],
        "UPDATE t SET a = '[sql-literal]'"
    );
    assert_eq!(
        events[0]["redactions"],
        serde_json::json!(["sql_text: sql-literal ×1"])
    );
    let all = postgres.psql("SELECT t FROM audit.query_runs t")
        + &postgres.psql("SELECT t FROM audit.events t");
    assert!(!all.contains(SECRET), "{all}");
}
