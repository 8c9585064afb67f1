//! One row of any of the three record tables.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};
use tracing_audit::Kind;

use crate::text::escape_json;

/// A row, as Postgres tells it.
#[derive(Debug)]
pub(crate) struct Row {
    /// Which table it is from.
    pub(crate) kind: Kind,
    /// When it began, as text in UTC.
    pub(crate) began: String,
    /// When it began, in microseconds since 1970.
    pub(crate) began_us: i64,
    /// How long it took, in milliseconds; none when that is not known.
    pub(crate) took_ms: Option<f64>,
    /// The fields of `metadata`, each as the JSON it is.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The whole row as one JSON object, exactly as Postgres wrote it.
    json: String,
    /// The columns.
    columns: Map<String, Value>,
}

impl Row {
    /// The text of a column; none when it is null or the table has no such column.
    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        self.columns.get(column)?.as_str()
    }

    /// The number in a column.
    pub(crate) fn number(&self, column: &str) -> Option<i64> {
        self.columns.get(column)?.as_i64()
    }

    /// The record's id.
    pub(crate) fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    /// The outcome, in the words of `audit.run_status`.
    pub(crate) fn status(&self) -> &str {
        self.text("status").unwrap_or("unknown")
    }

    /// The tenant in the application's own words, if it is not a UUID there.
    pub(crate) fn tenant_key(&self) -> Option<String> {
        let key = self.metadata.get("tenant_key")?;
        Some(serde_json::from_str(key).unwrap_or_else(|_| key.clone()))
    }

    /// What could not be stored as it was said.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let problems = self.columns.get("problems").and_then(Value::as_array);
        // One that only a hand can have written may hold nulls, and lists.
        problems.into_iter().flatten().map(|problem| match problem {
            Value::String(problem) => Cow::Borrowed(problem.as_str()),
            other => Cow::Owned(other.to_string()),
        })
    }

    /// What a record of this kind is about, in a few words: the prompt's template, or
    /// the action and its target. None for a query, which is its question and its SQL.
    pub(crate) fn subject(&self) -> Option<String> {
        match self.kind {
            Kind::PromptRun => {
                let mut subject = self
                    .text("prompt_template_name")
                    .unwrap_or_default()
                    .to_owned();
                if let Some(version) = self.number("prompt_template_version") {
                    let _ = write!(subject, " v{version}");
                }
                Some(subject.trim().to_owned())
            }
            Kind::Event => {
                let mut subject = self.text("action_type").unwrap_or_default().to_owned();
                let target: Vec<&str> = ["target_type", "target_id"]
                    .iter()
                    .filter_map(|c| self.text(c))
                    .collect();
                if !target.is_empty() {
                    let _ = write!(subject, " → {}", target.join("/"));
                }
                Some(subject.trim().to_owned())
            }
            _ => None,
        }
        .filter(|subject| !subject.is_empty())
    }

    /// The row as one line of JSON: its columns in the order of the table, after `kind`.
    ///
    /// Postgres leaves some characters as they are that could steer a terminal. They
    /// stand inside strings only, so they may be written as escapes.
    pub(crate) fn json(&self) -> String {
        let columns = self.json.strip_prefix('{').unwrap_or(&self.json);
        format!(
            "{{\"kind\":\"{}\",{}",
            word(self.kind),
            escape_json(columns)
        )
    }
}

impl FromRow<'_, PgRow> for Row {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let table: String = row.try_get("table_name")?;
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.table_name() == table)
            .ok_or_else(|| decode(format!("audit.{table} is no record table").into()))?;
        let json: String = row.try_get("json")?;
        let metadata: Option<String> = row.try_get("metadata")?;
        Ok(Self {
            kind,
            began: row.try_get("began")?,
            began_us: row.try_get("began_us")?,
            took_ms: row.try_get("took_ms")?,
            // What cannot be read costs itself alone, and is shown as Postgres wrote it.
            metadata: metadata.map_or_else(BTreeMap::new, |object| {
                serde_json::from_str(&object)
                    .unwrap_or_else(|_| BTreeMap::from([(String::from("metadata"), object)]))
            }),
            columns: columns(&json),
            json,
        })
    }
}

/// The columns of a row, but for its metadata. Each is read for itself: JSON that nests deep, or a number out of range, is
/// nothing that Postgres minds and something that cannot be read.
fn columns(json: &str) -> Map<String, Value> {
    let raw: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap_or_default();
    raw.into_iter()
        .filter(|(name, _)| name != "metadata")
        .map(|(name, raw)| {
            let text = raw.get();
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            (name, value)
        })
        .collect()
}

/// A row that is not what the tables promise.
fn decode(source: Box<dyn std::error::Error + Send + Sync>) -> sqlx::Error {
    sqlx::Error::Decode(source)
}

/// The kind as one word.
pub(crate) fn word(kind: Kind) -> &'static str {
    let name = kind.span_name();
    name.strip_prefix("audit.").unwrap_or(name)
}

/// The statement that reads the rows of `kinds` for which `condition` holds, all from
/// one snapshot, in `order`.
///
/// Both are texts of this program, never anything a user said.
pub(crate) fn select(kinds: &[Kind], condition: &str, order: &str) -> AssertSqlSafe<String> {
    let tables: Vec<String> = kinds
        .iter()
        .map(|kind| select_one(*kind, condition))
        .collect();
    AssertSqlSafe(format!("{} ORDER BY {order}", tables.join(" UNION ALL ")))
}

/// The rows of one table.
fn select_one(kind: Kind, condition: &str) -> String {
    let table = kind.table_name();
    let began = match kind {
        Kind::QueryRun => "started_at",
        _ => "created_at",
    };
    // Microseconds where they are known. A time that only a hand can have written, infinite or of a year that cannot be
    // computed with, must not fail the statement.
    let is_usual = |time: &str| format!("{time} BETWEEN '0001-01-01Z' AND '9999-12-31Z'");
    let took = match kind {
        Kind::Event => "latency_ms::float8".to_owned(),
        _ => format!(
            "CASE WHEN {} AND {} \
             THEN extract(epoch FROM finished_at - {began})::float8 * 1000 \
             ELSE duration_ms::float8 END",
            is_usual("finished_at"),
            is_usual(began)
        ),
    };
    let is_usual = is_usual(began);
    // The fields of metadata are asked for as text, because a number of any length is
    // to be shown as it is.
    format!(
        "SELECT '{table}' AS table_name, row_to_json(t)::text AS json,
            (SELECT json_object_agg(key, value::text)::text FROM jsonb_each(
                CASE jsonb_typeof(metadata) WHEN 'object' THEN metadata
                ELSE jsonb_build_object('metadata', metadata) END)) AS metadata,
            CASE WHEN {is_usual} THEN to_char({began}, 'YYYY-MM-DD HH24:MI:SS.MS') ELSE {began}::text END AS began,
            CASE WHEN {is_usual} THEN (extract(epoch FROM {began}) * 1000000)::bigint
                ELSE 0 END AS began_us,
            {took} AS took_ms, id, seq
        FROM audit.{table} AS t WHERE {condition}"
    )
}
