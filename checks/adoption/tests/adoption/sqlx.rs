//! sqlx's reports of statements.

use serde_json::{Value, json};
use testkit::trail::Trail;
use tracing::{Instrument as _, info_span};
use tracing_audit::{Adopt, AuditFutureExt as _};

use super::{rows, scoped};

/// Runs statements by one version of sqlx, each in a query run of its own that says no SQL.
macro_rules! statements {
    ($sqlx:ident, $function:ident) => {
        pub(crate) async fn $function(database: &str) {
            use $sqlx::{Connection as _, Executor as _};

            let mut session = $sqlx::PgConnection::connect(database).await.unwrap();
            session
                .execute("CREATE TABLE customers (id int, name text)")
                .await
                .unwrap();
            let run = |sql: &'static str| (sql, info_span!("audit.query_run", question_text = sql));
            for (sql, span) in [
                run("INSERT INTO customers SELECT i, 'name ' || i FROM generate_series(1, 3) AS i"),
                run("SELECT name FROM customers WHERE id > 1"),
                run("UPDATE customers SET name = 'Ada' WHERE id = 1 RETURNING id, name"),
                run("WITH gone AS (DELETE FROM customers RETURNING *) SELECT * FROM gone"),
                run("TABLE customers"),
                run("SELECT 1 / 0 FROM generate_series(1, 2)"),
            ] {
                let ran = session.fetch_all(sql).audited(span).await;
                assert_eq!(ran.is_err(), sql.contains("1 / 0"), "{ran:?}");
            }

            let several = info_span!("audit.query_run", question_text = "several");
            let both = async {
                let mut transaction = session.begin().await.unwrap();
                transaction
                    .execute("INSERT INTO customers VALUES (7, 'Grace')")
                    .await?;
                transaction.execute("SELECT name FROM customers").await?;
                transaction.commit().await
            };
            both.audited(several).await.unwrap();

            let said = info_span!(
                "audit.query_run",
                question_text = "said",
                sql_text = "SELECT of my own",
                row_count = 9
            );
            session.execute("SELECT 1").instrument(said).await.unwrap();
            session.execute("SELECT 'outside'").await.unwrap();
            session.begin().await.unwrap().commit().await.unwrap();
        }
    };
}

statements!(sqlx, current);
statements!(sqlx_0_8, previous);

fn assert_rows(trail: &Trail) {
    let found = rows(
        trail,
        "sql_text, row_count, rows_affected, status, metadata->'statement_count' AS statements, metadata->>'adopted' AS adopted",
        "query_runs",
    );
    let row = |sql: &str, rows: Option<u64>, affected: Option<u64>, status: &str| {
        json!({"sql_text": sql, "row_count": rows, "rows_affected": affected, "status": status,
            "statements": null, "adopted": null})
    };
    let ok = "succeeded";
    let several = {
        let mut row = row(
            "INSERT INTO customers VALUES (7, 'Grace')",
            None,
            Some(1),
            ok,
        );
        row["statements"] = json!(2);
        row
    };
    let insert = "INSERT INTO customers SELECT i, 'name ' || i FROM generate_series(1, 3) AS i";
    let update = "UPDATE customers SET name = 'Ada' WHERE id = 1 RETURNING id, name";
    let delete = "WITH gone AS (DELETE FROM customers RETURNING *) SELECT * FROM gone";
    assert_eq!(
        found,
        [
            row(insert, None, Some(3), ok),
            row("SELECT name FROM customers WHERE id > 1", Some(2), None, ok),
            row(update, Some(1), Some(1), ok),
            row(delete, Some(3), Some(3), ok),
            row("TABLE customers", Some(0), None, ok),
            row(
                "SELECT 1 / 0 FROM generate_series(1, 2)",
                Some(0),
                None,
                "failed"
            ),
            several,
            row("SELECT of my own", Some(9), None, "unknown"),
        ]
    );
    let listed = rows(
        trail,
        "metadata->'statements' AS listed",
        "query_runs WHERE metadata ? 'statements'",
    );
    let texts: Vec<&Value> = listed[0]["listed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["sql_text"])
        .collect();
    assert_eq!(
        texts,
        [
            "INSERT INTO customers VALUES (7, 'Grace')",
            "SELECT name FROM customers"
        ]
    );
}

#[test]
fn statement_fills_the_query_run_around_it() {
    let trail = Trail::start_with(|builder| builder.adopt(Adopt::sqlx()));
    scoped(&trail, current(&trail.postgres.url()));
    assert_rows(&trail);
}

#[test]
fn the_same_of_the_previous_version() {
    let trail = Trail::start_with(|builder| builder.adopt(Adopt::sqlx()));
    scoped(&trail, previous(&trail.postgres.url()));
    assert_rows(&trail);
}

#[test]
fn every_statement_outside_of_a_run_is_one_and_none_of_ours_is() {
    let trail = Trail::start_with(|builder| builder.adopt(Adopt::sqlx().every_statement()));
    scoped(&trail, current(&trail.postgres.url()));
    let found = rows(
        &trail,
        "sql_text, row_count, status, duration_ms >= 0 AS took, metadata->>'adopted' AS adopted",
        "query_runs WHERE metadata ? 'adopted'",
    );
    let row = |sql: &str, rows: Option<u64>| json!({"sql_text": sql, "row_count": rows, "status": "unknown", "took": true, "adopted": "sqlx"});
    assert_eq!(
        found,
        [
            row("CREATE TABLE customers (id int, name text)", None),
            row("SELECT 'outside'", Some(1))
        ]
    );
}
