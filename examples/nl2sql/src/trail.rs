//! Holds the trail in Postgres against what the program saw: row by row, field by field.

use std::{collections::HashMap, time::SystemTime};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::{Result, seen::Seen};

/// What the library alone decides; checked for being there, not for what it is.
const ITS_OWN: [&str; 5] = ["writer_id", "seq", "salt", "span_id", "service_name"];
const TIMES: [&str; 5] = [
    "started_at",
    "created_at",
    "finished_at",
    "duration_ms",
    "latency_ms",
];

/// Slack for the rounding of times; the clock is the same.
const ROUNDING_MS: f64 = 1.5;

struct Row {
    table: &'static str,
    columns: Value,
    /// Milliseconds since 1970, which JSON has no type for.
    began: f64,
    ended: Option<f64>,
}

/// Returns every difference, by id and field name. No content: a trail may hold secrets.
pub(crate) async fn differences(url: &str, seen: &[Seen]) -> Result<Vec<String>> {
    let mut rows = read(url, seen).await?;
    let mut differences = Vec::new();
    for seen in seen {
        let of_request = rows.entry(seen.request).or_default();
        // Without an id, the request's one row of that table is meant.
        let found = of_request.iter().position(|row| {
            row.table == seen.table && seen.id.is_none_or(|id| row.columns["id"] == id.to_string())
        });
        match found {
            Some(index) => compare(seen, &of_request.swap_remove(index), &mut differences),
            None => differences.push(format!(
                "audit.{} {}: not in the trail",
                seen.table,
                name(seen)
            )),
        }
    }
    for row in rows.into_values().flatten() {
        differences.push(format!(
            "audit.{} {}: not seen by the program",
            row.table, row.columns["id"]
        ));
    }
    Ok(differences)
}

/// Reads all rows of the requests that were seen, by request.
async fn read(url: &str, seen: &[Seen]) -> Result<HashMap<Uuid, Vec<Row>>> {
    let requests: Vec<String> = seen.iter().map(|seen| seen.request.to_string()).collect();
    let mut connection = PgConnection::connect(url).await?;
    let mut rows: HashMap<Uuid, Vec<Row>> = HashMap::new();
    for (table, began, ended) in [
        ("query_runs", "started_at", "finished_at"),
        ("prompt_runs", "created_at", "finished_at"),
        (
            "events",
            "created_at",
            "created_at + latency_ms * interval '1 ms'",
        ),
    ] {
        let select = format!(
            "SELECT to_jsonb(r), extract(epoch FROM {began})::float8 * 1000,
                    extract(epoch FROM {ended})::float8 * 1000
             FROM audit.{table} r WHERE request_id = ANY($1)"
        );
        let found: Vec<(Value, f64, Option<f64>)> = sqlx::query_as(AssertSqlSafe(select))
            .bind(&requests)
            .fetch_all(&mut connection)
            .await?;
        for (columns, began, ended) in found {
            let request = columns["request_id"].as_str().unwrap_or_default().parse()?;
            rows.entry(request).or_default().push(Row {
                table,
                columns,
                began,
                ended,
            });
        }
    }
    connection.close().await?;
    Ok(rows)
}

fn compare(seen: &Seen, row: &Row, differences: &mut Vec<String>) {
    let name = name(seen);
    let mut differs = |column: &str, how: &str| {
        differences.push(format!("audit.{} {name}: {column} {how}", seen.table));
    };
    let Some(columns) = row.columns.as_object() else {
        return differs("row", "is not an object");
    };
    for (column, value) in columns {
        let column = column.as_str();
        if ITS_OWN.contains(&column) {
            if value.is_null() {
                differs(column, "is empty");
            }
        } else if column != "id" && !TIMES.contains(&column) {
            // A column that the program said nothing about must be empty.
            match (seen.columns.get(column).unwrap_or(&Value::Null), value) {
                (expected, found) if expected == found => {}
                (Value::Null, _) => differs(column, "should be empty"),
                (_, Value::Null) => differs(column, "is empty"),
                _ => differs(column, "is not what the program saw"),
            }
        }
    }
    for column in seen
        .columns
        .keys()
        .filter(|column| !columns.contains_key(*column))
    {
        differs(column, "is not a column");
    }
    if row.began < ms(seen.began) - ROUNDING_MS || row.began > ms(seen.ended) + ROUNDING_MS {
        differs(
            "start",
            "is outside of the time in which the program ran it",
        );
    }
    match row.ended {
        Some(ended) if ended < row.began || ended > ms(seen.ended) + ROUNDING_MS => {
            differs("end", "is outside of the time in which the program ran it");
        }
        Some(_) => {}
        None if seen.id.is_none() => {}
        None => differs("end", "is empty"),
    }
}

fn name(seen: &Seen) -> String {
    match seen.id {
        Some(id) => id.to_string(),
        None => format!("of request {}", seen.request),
    }
}

fn ms(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
        * 1000.0
}
