//! One row of any of the record tables.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::{Row as _, types::Uuid};
use tracing_audit::__program::Table;
use tracing_audit::Kind;

use crate::text::{duration, escape_json, whole_duration};

/// A row, as read from Postgres.
#[derive(Debug)]
pub(crate) struct Row {
    /// The table it is from.
    pub(crate) table: Table,
    /// When it began, as text in UTC.
    pub(crate) began: String,
    /// When it began, in microseconds since 1970.
    pub(crate) began_us: i64,
    /// How long it took, in milliseconds; `None` if unknown.
    took_ms: Option<f64>,
    /// The fields of `metadata`, each as JSON text.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Why its texts could not be read, if so.
    pub(crate) unread: Option<String>,
    /// The user, if that became known after the row was written.
    pub(crate) learned_user: Option<String>,
    /// Where it is in an archive, if it was read there.
    pub(crate) archived: Option<Archived>,
    /// The application's own key for the tenant.
    tenant_key: Option<String>,
    /// The original length in characters of each text that was cut.
    lengths: BTreeMap<String, usize>,
    /// The row as one JSON object, exactly as Postgres wrote it; complete only if requested.
    json: String,
    /// The columns.
    columns: Map<String, Value>,
}

/// Where a row is in an archive.
#[derive(Clone, Debug)]
pub(crate) struct Archived {
    /// The name of the manifest.
    pub(crate) manifest: String,
    /// What is known of it, in words.
    pub(crate) said: String,
    /// Why its content cannot be read: the row is without it.
    pub(crate) closed: Option<String>,
}

/// What an archive has of a request, or of a record.
#[derive(Debug, Default)]
pub(crate) struct ArchivedStory {
    /// Each record with its parent.
    pub(crate) rows: Vec<(Row, Option<Uuid>)>,
    /// Whether it is a request.
    pub(crate) is_request: bool,
}

impl Row {
    /// Returns the row of its JSON, as Postgres writes it, and of its metadata as a JSON text.
    pub(crate) fn of_json(
        table: Table,
        json: String,
        metadata: &str,
        began: (String, i64),
        took_ms: Option<f64>,
    ) -> Self {
        let fields: Result<BTreeMap<String, &RawValue>, _> = serde_json::from_str(metadata);
        let metadata = match fields {
            Ok(fields) => fields
                .into_iter()
                .map(|(name, value)| (name, value.get().to_owned()))
                .collect(),
            Err(_) => BTreeMap::from([(String::from("metadata"), metadata.to_owned())]),
        };
        Self {
            table,
            began: began.0,
            began_us: began.1,
            took_ms,
            metadata,
            unread: None,
            learned_user: None,
            archived: None,
            tenant_key: None,
            lengths: BTreeMap::new(),
            columns: columns(&json),
            json,
        }
    }

    /// Returns the text of a column; `None` if it is null or the table has no such column.
    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        self.columns.get(column)?.as_str()
    }

    /// Returns the number in a column.
    pub(crate) fn number(&self, column: &str) -> Option<i64> {
        self.columns.get(column)?.as_i64()
    }

    /// Returns how long it took, in milliseconds; `None` if unknown.
    pub(crate) fn took_ms(&self) -> Option<f64> {
        self.took_ms
    }

    /// Returns how long it took, as printed; `None` if unknown.
    pub(crate) fn took(&self) -> Option<String> {
        let ms = self.took_ms?;
        // Of an event there are whole milliseconds alone.
        let has_rest = self.table.has_end();
        Some(if has_rest {
            duration(ms)
        } else {
            whole_duration(ms)
        })
    }

    /// Returns how many bytes of it were read.
    pub(crate) fn size(&self) -> usize {
        let fields = self.metadata.iter();
        let metadata: usize = fields.map(|(name, value)| name.len() + value.len()).sum();
        self.json.len() + metadata
    }

    /// Returns the record's id.
    pub(crate) fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    /// Whether this row is that record.
    pub(crate) fn is(&self, record: RecordId) -> bool {
        self.table == record.table && self.id().parse() == Ok(record.id)
    }

    /// Returns the outcome, a label of `audit.run_status`.
    pub(crate) fn status(&self) -> &str {
        self.text("status").unwrap_or("unknown")
    }

    /// Returns the application's own key for the tenant, unless that is a UUID.
    pub(crate) fn tenant_key(&self) -> Option<&str> {
        self.tenant_key.as_deref()
    }

    /// Returns the original length of a column's text in characters if it was cut, else `None`.
    pub(crate) fn length(&self, column: &str) -> Option<usize> {
        self.lengths.get(column).copied()
    }

    /// Returns the problems with values that could not be stored as they were given.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.texts("problems")
    }

    /// Returns what was redacted before the record was stored.
    pub(crate) fn redactions(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.texts("redactions")
    }

    /// Returns the texts of a column that is an array.
    fn texts(&self, column: &str) -> impl Iterator<Item = Cow<'_, str>> {
        let texts = self.columns.get(column).and_then(Value::as_array);
        // An array that was written by hand may hold nulls and lists.
        texts.into_iter().flatten().map(|text| match text {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            other => Cow::Owned(other.to_string()),
        })
    }

    /// Returns what a record of this kind is about in a few words: the prompt's template, or the
    /// action and its target. `None` for a query: its question and its SQL say that.
    pub(crate) fn subject(&self) -> Option<String> {
        match self.table.kind() {
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
                if let Some(target) = self.target() {
                    let _ = write!(subject, " → {target}");
                }
                Some(subject.trim().to_owned())
            }
            _ => None,
        }
        .filter(|subject| !subject.is_empty())
    }

    /// Returns the target of an event.
    pub(crate) fn target(&self) -> Option<String> {
        let target: Vec<&str> = ["target_type", "target_id"]
            .iter()
            .filter_map(|c| self.text(c))
            .collect();
        // A route begins with a slash of its own.
        let is_path = target.last()?.starts_with('/');
        Some(target.join(if is_path { " " } else { "/" }))
    }

    /// Takes the application's own key for the tenant.
    #[cfg(feature = "archive")]
    pub(crate) fn set_tenant_key(&mut self, key: Option<String>) {
        self.tenant_key = key;
    }

    /// Returns the row as one line of JSON: `kind`, `learned_user_id`, `archived_in` and `content_unread` if there are, then the
    /// columns in table order.
    ///
    /// Postgres leaves some characters unescaped that could steer a terminal. They occur only
    /// inside strings, so they can be written as escapes.
    pub(crate) fn json(&self) -> String {
        if let Some(why) = &self.unread {
            let object = json!({
                "kind": word(self.table.kind()),
                "id": self.id(),
                "tenant_id": self.text("tenant_id"),
                "request_id": self.text("request_id"),
                "unread": why,
            });
            return escape_json(&object.to_string());
        }
        let columns = self.json.strip_prefix('{').unwrap_or(&self.json);
        let mut learned = String::new();
        if let Some(user) = &self.learned_user {
            let _ = write!(
                learned,
                "\"learned_user_id\":{},",
                Value::from(user.as_str())
            );
        }
        if let Some(archived) = &self.archived {
            let manifest = Value::from(archived.manifest.as_str());
            let _ = write!(learned, "\"archived_in\":{manifest},");
            if let Some(why) = &archived.closed {
                let _ = write!(learned, "\"content_unread\":{},", Value::from(why.as_str()));
            }
        }
        let kind = word(self.table.kind());
        escape_json(&format!("{{\"kind\":\"{kind}\",{learned}{columns}"))
    }
}

impl FromRow<'_, PgRow> for Row {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let json: String = row.try_get("json")?;
        let metadata: Option<String> = row.try_get("metadata")?;
        let lengths: Option<String> = row.try_get("lengths")?;
        Ok(Self {
            table: table_of(row)?,
            began: row.try_get("began")?,
            began_us: row.try_get("began_us")?,
            took_ms: row.try_get("took_ms")?,
            // Metadata that cannot be parsed is shown as Postgres wrote it; the rest of the row is
            // kept.
            metadata: metadata.map_or_else(BTreeMap::new, |object| {
                serde_json::from_str(&object)
                    .unwrap_or_else(|_| BTreeMap::from([(String::from("metadata"), object)]))
            }),
            unread: None,
            learned_user: None,
            archived: None,
            tenant_key: row.try_get("tenant_key")?,
            lengths: lengths
                .and_then(|object| serde_json::from_str(&object).ok())
                .unwrap_or_default(),
            columns: columns(&json),
            json,
        })
    }
}

/// Identifies a record by its table and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecordId {
    pub(crate) table: Table,
    pub(crate) id: Uuid,
}

impl FromRow<'_, PgRow> for RecordId {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            table: table_of(row)?,
            id: row.try_get("id")?,
        })
    }
}

/// Returns the table of a row from its column `table_name`.
pub(crate) fn table_of(row: &PgRow) -> Result<Table, sqlx::Error> {
    let name: &str = row.try_get("table_name")?;
    Table::of_name(name)
        .ok_or_else(|| sqlx::Error::Decode(format!("audit.{name} is no record table").into()))
}

/// Parses the columns of a row, except its metadata. Each column is parsed on its own: deeply
/// nested JSON or a number out of range is valid in Postgres but cannot be parsed here.
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

/// Returns the kind as one word.
pub(crate) fn word(kind: Kind) -> &'static str {
    let name = kind.span_name();
    name.strip_prefix("audit.").unwrap_or(name)
}
