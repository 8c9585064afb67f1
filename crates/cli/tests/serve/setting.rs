//! Records that a test makes up, and the tables of a page as text.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use testkit::Postgres;

/// A record. What is empty is null.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// The table.
    pub(crate) table: &'static str,
    pub(crate) tenant: &'static str,
    pub(crate) status: &'static str,
    /// How long before now it began, in milliseconds.
    pub(crate) ago: u64,
    pub(crate) took: u64,
    /// Its other columns.
    pub(crate) columns: Map<String, Value>,
}

impl Made {
    /// A record that succeeded an hour ago and took 10 ms; `columns` are the others, as an object.
    pub(crate) fn of(table: &'static str, tenant: &'static str, columns: Value) -> Self {
        let Value::Object(columns) = columns else {
            panic!("no object");
        };
        Self {
            table,
            tenant,
            status: "succeeded",
            ago: 3_600_000,
            took: 10,
            columns,
        }
    }

    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        self.columns.get(column)?.as_str()
    }

    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.status, "failed" | "rejected")
    }
}

/// Adds records as a superuser; returns the id of each.
pub(crate) fn add(postgres: &Postgres, records: &[Made]) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut sql = String::from("SET session_replication_role = replica;\n");
    let mut ids = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let at = now.checked_sub(Duration::from_millis(record.ago)).unwrap();
        let ms = format!("{:012x}", at.as_millis());
        let id = format!("{}-{}-7000-8000-{number:012x}", &ms[..8], &ms[8..]);
        let began = humantime::format_rfc3339_millis(UNIX_EPOCH + at).to_string();
        let is_event = matches!(record.table, "events" | "activities");
        let mut row = json!({
            "id": id,
            "status": record.status,
            "metadata": {"tenant_key": record.tenant},
            "problems": [],
            "redactions": [],
            "writer_id": "00000000-0000-7000-8000-00000000000a",
            "seq": number + 1,
            "salt": "\\x00",
        });
        let columns = row.as_object_mut().unwrap();
        let began_column = if record.table == "query_runs" {
            "started_at"
        } else {
            "created_at"
        };
        columns.insert(began_column.to_owned(), json!(began));
        let took_column = if is_event {
            "latency_ms"
        } else {
            "duration_ms"
        };
        columns.insert(took_column.to_owned(), json!(record.took));
        columns.extend(record.columns.clone());
        let row = row.to_string().replace('\'', "''");
        let _ = writeln!(
            sql,
            "INSERT INTO audit.{table} SELECT * FROM jsonb_populate_record(NULL::audit.{table}, '{row}' || jsonb_build_object('tenant_id', audit.tenant_uuid('{}')));",
            record.tenant,
            table = record.table
        );
        ids.push(id);
    }
    postgres.psql(&sql);
    postgres.psql("RESET session_replication_role");
    ids
}

/// Returns the rows of the table with this number on a page, each cell as text.
pub(crate) fn rows(body: &str, table: usize) -> Vec<Vec<String>> {
    let Some(table) = body.split("<tbody").nth(table + 1) else {
        return Vec::new();
    };
    let (table, _) = table.split_once("</tbody>").unwrap();
    let rows = table.split("<tr").skip(1);
    rows.map(|row| row.split("<td").skip(1).map(cell).collect())
        .collect()
}

/// Returns the text of a cell, of which the tag begins it.
fn cell(html: &str) -> String {
    let (_, html) = html.split_once('>').unwrap();
    words(html)
}

/// Returns the text of HTML, without what is drawn.
pub(crate) fn words(html: &str) -> String {
    let mut text = String::new();
    let mut parts = html.split("<svg");
    text.push_str(&without_tags(parts.next().unwrap()));
    for part in parts {
        let (_, after) = part.split_once("</svg>").unwrap();
        text.push_str(&without_tags(after));
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

fn without_tags(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, after)| after));
    }
    text
}

/// Returns the address of the first link after a place in a page.
pub(crate) fn link_after(body: &str, place: &str) -> String {
    let at = body
        .find(place)
        .unwrap_or_else(|| panic!("no {place}: {body}"));
    let (_, link) = body[at..].split_once("href=\"").unwrap();
    link.split_once('"').unwrap().0.replace("&amp;", "&")
}
