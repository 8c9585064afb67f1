//! The pages for whoever runs it and whoever must answer for it, the alert rules and the dashboard: each SQL statement is
//! run, and each metric that is named is one that is emitted.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Setting, metrics, text};

const PAGE: &str = include_str!("../../../../docs/monitoring.md");
const COMPLIANCE: &str = include_str!("../../../../docs/compliance.md");
const ALERTS: &str = include_str!("../../../../docs/monitoring/alerts.yml");
const DASHBOARD: &str = include_str!("../../../../docs/monitoring/grafana.json");

/// The time that the dashboard shows.
const FROM: &str = "now() - interval '1 hour'";
const TO: &str = "now() + interval '1 hour'";
/// The `$__interval` of that time, and its seconds.
const INTERVAL: (&str, u32) = ("5m", 300);

/// A query of the dashboard, with the panel that it is of.
pub(super) struct Query {
    panel: String,
    format: String,
    pub(super) text: String,
}

/// Returns the queries of the dashboard that are in a field of their targets: `expr` or `rawSql`.
pub(super) fn queries(field: &str) -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels
        .flat_map(|panel| {
            let targets = panel["targets"].as_array().into_iter().flatten();
            targets.filter_map(|target| {
                Some(Query {
                    panel: panel["title"].as_str()?.to_owned(),
                    format: target["format"].as_str().unwrap_or_default().to_owned(),
                    text: target[field].as_str()?.to_owned(),
                })
            })
        })
        .collect()
}

/// Replaces the macros of a query as Grafana's data source for Postgres does, between two times.
fn interpolated(sql: &str, from: &str, to: &str) -> String {
    let mut sql = sql.replace("$__interval", INTERVAL.0);
    while let Some(start) = sql.find("$__") {
        let (name, rest) = sql[start + 3..].split_once('(').unwrap();
        let (arguments, rest) = rest.split_once(')').unwrap();
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let text = match (name, arguments.as_slice()) {
            ("timeFrom", [""]) => format!("'{from}'"),
            ("timeTo", [""]) => format!("'{to}'"),
            ("timeFilter", [column]) => format!("{column} BETWEEN '{from}' AND '{to}'"),
            ("timeGroupAlias", [column, interval]) => {
                assert_eq!(*interval, INTERVAL.0);
                let seconds = INTERVAL.1;
                format!("floor(extract(epoch from {column})/{seconds})*{seconds} AS \"time\"")
            }
            other => panic!("no such macro here: {other:?}"),
        };
        sql = format!("{}{text}{rest}", &sql[..start]);
    }
    sql
}

#[test]
fn macros_are_replaced_as_grafana_does() {
    let sql = "SELECT $__timeGroupAlias(at, $__interval) FROM t WHERE $__timeFilter(at) AND id >= audit.id_at($__timeFrom())";
    assert_eq!(
        interpolated(sql, "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"),
        "SELECT floor(extract(epoch from at)/300)*300 AS \"time\" FROM t \
         WHERE at BETWEEN '2026-11-01T00:00:00Z' AND '2026-11-02T00:00:00Z' AND id >= audit.id_at('2026-11-01T00:00:00Z')"
    );
}

#[test]
fn each_sql_query_of_the_dashboard_finds_rows_as_an_auditor() {
    let setting = Setting::start();
    let mut auditor = setting.postgres.session("auditor");
    let mut time = |at: &str| {
        let format = r#"'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"#;
        let time = auditor.psql(&format!(
            "SELECT to_char(({at}) AT TIME ZONE 'UTC', {format})"
        ));
        time.trim().to_owned()
    };
    let (from, to) = (time(FROM), time(TO));
    let queries = queries("rawSql");
    assert!(queries.len() >= 8, "{}", queries.len());
    for Query {
        panel,
        format,
        text,
    } in queries
    {
        let sql = interpolated(&text, &from, &to);
        let rows = auditor.run(&sql);
        let rows = rows.unwrap_or_else(|error| panic!("{panel}: {error}\n{sql}"));
        assert!(!rows.trim().is_empty(), "{panel}: no rows\n{sql}");
        if format == "time_series" {
            for row in rows.trim().lines() {
                let time: f64 = row.split('|').next().unwrap().parse().unwrap();
                assert!(time > 1e9, "{panel}: {row}");
            }
        }
    }
    // Nobody learns from it what was asked.
    for content in [
        "question_text",
        "sql_text",
        "prompt_text",
        "rendered_prompt",
        "response_text",
        "error_message",
        "input_summary",
        "what",
    ] {
        let named = self::queries("rawSql")
            .iter()
            .any(|query| query.text.contains(content));
        assert!(!named, "{content}");
    }
}

/// Returns the names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.len() > "tracing_audit_".len() && word.starts_with("tracing_audit_"))
        .collect()
}

/// Returns the names of the metrics that a text emits.
fn emitted(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap().to_owned())
}

#[test]
fn metrics_that_are_named_are_emitted_and_the_page_has_each() {
    let setting = Setting::start();
    let of_program = setting.audit.stats().prometheus();
    let of_database = text(&metrics(&setting.postgres.url()));
    let unreadable = text(&metrics(&setting.postgres.url_as("nobody")));
    let of_program: BTreeSet<String> = emitted(&of_program).collect();
    let of_database: BTreeSet<String> = emitted(&of_database).chain(emitted(&unreadable)).collect();
    // A name means one thing.
    let both: Vec<_> = of_program.intersection(&of_database).collect();
    assert_eq!(both, [""; 0]);
    let emitted: BTreeSet<&str> = of_program.union(&of_database).map(String::as_str).collect();
    for (file, text) in [("alerts.yml", ALERTS), ("grafana.json", DASHBOARD)] {
        let named = named(text);
        assert!(named.len() > 10, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&emitted).collect();
        assert_eq!(unknown, [&""; 0], "{file}");
    }
    assert_eq!(named(PAGE), emitted);
}

#[test]
fn page_names_each_alert() {
    let alerts: Vec<&str> = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(PAGE.contains(&format!("`{alert}`")), "{alert}");
    }
}

#[test]
fn statements_of_the_page_on_compliance_are_those_of_an_auditor() {
    let setting = Setting::start();
    let mut auditor = setting.postgres.session("auditor");
    let quoted = COMPLIANCE.split('`').skip(1).step_by(2);
    let statements: Vec<&str> = quoted.filter(|text| text.starts_with("SELECT ")).collect();
    assert!(statements.len() >= 4, "{statements:?}");
    for statement in statements {
        let found = auditor.run(statement);
        assert!(found.is_ok(), "{statement}: {found:?}");
    }
}
