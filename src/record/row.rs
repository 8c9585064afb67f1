//! Converts a frame to the values of a row, each with its column's type.
//!
//! A bad value never costs the row: a value that does not fit its column's type is stored as well
//! as possible, and `problems` says what happened.

mod family;
mod loss;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use uuid::Uuid;

use self::loss::Lost;
use super::coerce::{
    Tenant, as_text, int, is_none, json, json_without_nul, keeps_numbers, key, tenant, tenant_uuid,
    unwrapped, without_nul,
};
use super::decode::{DecodeError, EntryKey, Frame, Value};
use super::encode::{Evidence, UNKNOWN_DURATION};
use super::families::derived::Derived;
use super::id;
use super::id::parse_uuid;
use super::jsonb;
use super::trace::{self, Place};
use crate::vocabulary::{Field, FieldType, Kind, PARAMETERS, Status};

/// The greatest number of entries in `problems`; one more entry stands for all others.
const MAX_PROBLEMS: usize = 100;

/// What an adopted model call has in `metadata` only once the model has answered.
const ANSWERED: [&str; 4] = [
    "gen_ai.output.tool_calls",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.id",
    // Of an agent's run.
    "gen_ai.usage.output_tokens",
];

/// A row of one of the three tables, without what the spool and the writer add.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) kind: Kind,
    pub(crate) id: Uuid,
    pub(crate) parent_id: Option<Uuid>,
    pub(crate) place: Place,
    pub(crate) status: Status,
    /// Microseconds since 1970, in the range that a partition can hold.
    pub(crate) started_us: i64,
    /// `None` if the end is unknown.
    pub(crate) duration_us: Option<i64>,
    /// The JSON object of `metadata`, as text.
    pub(crate) metadata: String,
    pub(crate) problems: Vec<String>,
    /// What was redacted.
    pub(crate) redactions: Vec<String>,
    values: [Cell<'a>; Field::SLOTS],
}

/// The value of a column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Cell<'a> {
    #[default]
    Null,
    Text(Cow<'a, str>),
    Int(i32),
    Uuid(Uuid),
}

impl<'a> Row<'a> {
    /// Returns the value of the field's column.
    pub(crate) fn cell(&self, field: Field) -> &Cell<'a> {
        &self.values[usize::from(field.code())]
    }

    /// Returns the text in the field's column, if there is one.
    pub(crate) fn text(&self, field: Field) -> Option<&str> {
        match self.cell(field) {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the row with values of its own.
    #[cfg(feature = "testing")]
    pub(crate) fn into_owned(self) -> Row<'static> {
        Row {
            values: self.values.map(|value| match value {
                Cell::Null => Cell::Null,
                Cell::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
                Cell::Int(int) => Cell::Int(int),
                Cell::Uuid(id) => Cell::Uuid(id),
            }),
            kind: self.kind,
            id: self.id,
            parent_id: self.parent_id,
            place: self.place,
            status: self.status,
            started_us: self.started_us,
            duration_us: self.duration_us,
            metadata: self.metadata,
            problems: self.problems,
            redactions: self.redactions,
        }
    }

    /// Returns when the record ended, in microseconds since 1970, if known.
    pub(crate) fn finished_us(&self) -> Option<i64> {
        let duration_us = self.duration_us?;
        Some(id::clamp_us(self.started_us.saturating_add(duration_us)))
    }

    pub(crate) fn new(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let mut said = LastValues::read(frame)?;
        let header = &frame.header;
        let kind = header.kind;
        let mut values = [const { Cell::Null }; Field::SLOTS];
        for &field in Field::ALL {
            if let Some(value) = said.values[usize::from(field.code())]
                && field.belongs_to(kind)
            {
                values[usize::from(field.code())] = said.cell(field, value);
            }
        }
        let derived = match &values[usize::from(Field::ActionType.code())] {
            Cell::Text(action_type) => Derived::of(action_type),
            _ => None,
        };
        let (status, implied_code) = said.status(kind, header.evidence, &values, derived);
        let error_code = usize::from(Field::ErrorCode.code());
        if values[error_code] == Cell::Null {
            let seen = said.values[usize::from(Field::SeenCode.code())];
            if let Some(code) = implied_code {
                values[error_code] = Cell::Text(Cow::Borrowed(code));
            } else if let Some(seen) = seen {
                values[error_code] = said.text(Field::ErrorCode, seen);
            }
        }
        if values[usize::from(Field::ErrorMessage.code())] == Cell::Null
            && let Some(seen) = said.values[usize::from(Field::SeenError.code())]
        {
            values[usize::from(Field::ErrorMessage.code())] = said.text(Field::ErrorMessage, seen);
        }
        let started_us = id::clamp_us(header.started_us);
        if started_us != header.started_us {
            said.problem("started_at", "the clock was out of range");
        }
        if let Some(malformed) = said.trace.malformed_traceparent() {
            said.keep(Field::Traceparent, malformed, "not a traceparent");
        }
        said.metadata_field();
        if kind == Kind::QueryRun {
            said.json_text(PARAMETERS);
        }
        if let Some(derived) = derived {
            said.derive(derived, &values[error_code]);
        }
        Ok(Self {
            kind,
            id: header.id,
            parent_id: (!header.parent.is_nil()).then_some(header.parent),
            place: said.trace.place(header),
            status,
            started_us,
            duration_us: (header.duration_us != UNKNOWN_DURATION)
                .then(|| i64::try_from(header.duration_us).unwrap_or(i64::MAX)),
            metadata: said.metadata(),
            redactions: said.redactions(),
            problems: said.problems,
            values,
        })
    }
}

/// Returns the place of a frame's span in its trace.
pub(crate) fn place(frame: &Frame<'_>) -> Result<Place, DecodeError> {
    Ok(LastValues::read(frame)?.trace.place(&frame.header))
}

/// The last value of each field in a frame.
struct LastValues<'a> {
    values: [Option<Value<'a>>; Field::SLOTS],
    /// Fields without a column, and values that do not fit their column.
    extras: BTreeMap<Cow<'a, str>, Extra<'a>>,
    problems: Vec<String>,
    /// How much of each field's last value is lost.
    lost: [Lost; Field::SLOTS],
    trace: trace::TraceFields<'a>,
}

/// A value in `metadata`.
enum Extra<'a> {
    Value(Value<'a>),
    Json(serde_json::Value),
}

impl<'a> LastValues<'a> {
    fn read(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let mut said = Self {
            values: [None; Field::SLOTS],
            extras: BTreeMap::new(),
            problems: Vec::new(),
            lost: [Lost::Nothing; Field::SLOTS],
            trace: trace::TraceFields::default(),
        };
        // What happened to each field's last value; dropped when a later value follows.
        let mut happened: Vec<(EntryKey<'a>, Value<'a>)> = Vec::new();
        let mut inherited_tenant = None;
        for entry in frame.entries() {
            let entry = entry?;
            if !entry.value.is_said() {
                happened.push((entry.key, entry.value));
                if let EntryKey::Field(field) = entry.key {
                    let lost = &mut said.lost[usize::from(field.code())];
                    *lost = (*lost).max(Lost::of(entry.value));
                    if entry.value == Value::Dropped {
                        said.forget(field);
                        if field == Field::TenantId && entry.inherited {
                            inherited_tenant = None;
                        }
                    }
                }
                continue;
            }
            if !happened.is_empty() {
                happened.retain(|(key, _)| *key != entry.key);
            }
            match entry.key {
                // A `None` does not override: a span without a value of its own keeps the inherited
                // one, and a recorded status is not retracted.
                EntryKey::Field(field)
                    if (field.is_inherited() || field == Field::Status)
                        && is_none(field, entry.value) => {}
                EntryKey::Field(field) => {
                    said.lost[usize::from(field.code())] = Lost::Nothing;
                    said.trace.see(field, entry.value);
                    if field == Field::TenantId && entry.inherited {
                        inherited_tenant = Some(entry.value);
                    }
                    said.values[usize::from(field.code())] = Some(entry.value);
                }
                EntryKey::Extra(name) => {
                    said.extras
                        .insert(Cow::Borrowed(name), Extra::Value(entry.value));
                }
            }
        }
        for (key, value) in happened {
            let name = match key {
                EntryKey::Field(Field::SeenError) => Field::ErrorMessage.name(),
                EntryKey::Field(Field::SeenCode) => Field::ErrorCode.name(),
                EntryKey::Field(field) => field.name(),
                EntryKey::Extra(name) => name,
            };
            said.happened(name, value);
        }
        if let (Some(inherited), Some(own)) = (
            inherited_tenant,
            said.values[usize::from(Field::TenantId.code())],
        ) && tenant(inherited).id() != tenant(own).id()
        {
            said.problem(Field::TenantId.name(), "differs from the enclosing span's");
        }
        Ok(said)
    }

    /// Returns what was redacted, an entry for each line that the redactor wrote.
    fn redactions(&self) -> Vec<String> {
        match self.value(Field::Redactions) {
            Some(Value::Text(lines)) => lines
                .lines()
                .map(|line| without_nul(line).into_owned())
                .collect(),
            _ => Vec::new(),
        }
    }

    fn value(&self, field: Field) -> Option<Value<'a>> {
        self.values[usize::from(field.code())]
    }

    fn lost(&self, field: Field) -> Lost {
        self.lost[usize::from(field.code())]
    }

    /// Returns whether any part of the last value is lost.
    fn is_lost(&self, field: Field) -> bool {
        self.lost(field) != Lost::Nothing
    }

    /// Forgets the earlier value of a field whose last value had no room: it would be an enclosing
    /// span's.
    fn forget(&mut self, field: Field) {
        if field.is_inherited() {
            self.values[usize::from(field.code())] = None;
            self.trace.forget(field);
        }
    }

    fn problem(&mut self, name: &str, what: &str) {
        match self.problems.len().cmp(&MAX_PROBLEMS) {
            std::cmp::Ordering::Less => {
                self.problems.push(format!("{}: {what}", without_nul(name)));
            }
            std::cmp::Ordering::Equal => self
                .problems
                .push(String::from("…: more problems than are listed")),
            std::cmp::Ordering::Greater => {}
        }
    }

    fn happened(&mut self, name: &str, value: Value<'_>) {
        let what = match value {
            Value::Cut { whole_len, sha256 } => {
                let mut what = format!("truncated from {whole_len} bytes, sha256 ");
                for byte in sha256 {
                    let _ = write!(what, "{byte:02x}");
                }
                what
            }
            Value::FormatFailed => String::from("its formatting failed"),
            Value::Dropped => String::from("dropped, the record is over its limit"),
            Value::Stopped { seen } => {
                format!("truncated, formatting was stopped after {seen} bytes")
            }
            _ => return,
        };
        self.problem(name, &what);
    }

    /// Keeps a value that does not fit its column in `metadata`.
    fn keep(&mut self, field: Field, value: Value<'a>, what: &str) -> Cell<'a> {
        self.problem(field.name(), what);
        self.extras
            .entry(Cow::Borrowed(field.name()))
            .or_insert(Extra::Value(value));
        Cell::Null
    }

    fn cell(&mut self, field: Field, value: Value<'a>) -> Cell<'a> {
        match field.field_type() {
            FieldType::Special => Cell::Null,
            FieldType::Text => self.text(field, value),
            FieldType::Key if is_none(field, value) => Cell::Null,
            FieldType::Key => match value {
                Value::Text(_) | Value::Debug(_) if field.names_something() => {
                    let (key, doubt) = key(field, value);
                    if let Some(doubt) = doubt {
                        self.problem(field.name(), doubt);
                    }
                    self.storable(field, key)
                }
                Value::Debug(_) => {
                    let text = unwrapped(value).unwrap_or_else(|| as_text(value));
                    self.storable(field, text)
                }
                said => self.text(field, said),
            },
            FieldType::Int => match int(field, value) {
                Ok(Some(int)) => Cell::Int(int),
                Ok(None) => Cell::Null,
                Err(what) => self.keep(field, value, what),
            },
            FieldType::Uuid if field == Field::TenantId => self.tenant(value),
            FieldType::Uuid => match value {
                Value::Uuid(id) => Cell::Uuid(id),
                _ if is_none(field, value) => Cell::Null,
                _ => match parse_uuid(key(field, value).0.trim()) {
                    Some(id) => Cell::Uuid(id),
                    None => self.keep(field, value, "not a UUID"),
                },
            },
        }
    }

    fn tenant(&mut self, value: Value<'a>) -> Cell<'a> {
        let name = Field::TenantId.name();
        let (id, key) = match tenant(value) {
            // Two keys with the same beginning are two tenants. The loss is reported already.
            Tenant::Key(key, _) | Tenant::NoKey(key, _) if self.is_lost(Field::TenantId) => {
                (None, key)
            }
            Tenant::None => return Cell::Null,
            Tenant::Uuid(id) => return Cell::Uuid(id),
            Tenant::Key(key, doubt) => {
                if let Some(doubt) = doubt {
                    self.problem(name, doubt);
                }
                (Some(tenant_uuid(&key)), key)
            }
            Tenant::NoKey(key, why) => {
                self.problem(name, why);
                (None, key)
            }
        };
        if !key.is_empty() {
            let key = serde_json::Value::from(without_nul(&key));
            self.extras
                .insert(Cow::Borrowed("tenant_key"), Extra::Json(key));
        }
        id.map_or(Cell::Null, Cell::Uuid)
    }

    fn text(&mut self, field: Field, value: Value<'a>) -> Cell<'a> {
        let text: Cow<'a, str> = match value {
            Value::Bytes(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                if matches!(text, Cow::Owned(_)) {
                    self.problem(field.name(), "not UTF-8");
                }
                text
            }
            _ => as_text(value),
        };
        self.storable(field, text)
    }

    /// Returns the text in a form that Postgres can store.
    fn storable(&mut self, field: Field, text: Cow<'a, str>) -> Cell<'a> {
        Cell::Text(match without_nul(&text) {
            Cow::Owned(replaced) => {
                self.problem(field.name(), "NUL replaced");
                Cow::Owned(replaced)
            }
            Cow::Borrowed(_) => text,
        })
    }

    /// Returns the status by the strongest evidence, and the error code that it implies.
    fn status(
        &mut self,
        kind: Kind,
        evidence: Evidence,
        values: &[Cell<'a>],
        derived: Option<&Derived>,
    ) -> (Status, Option<&'static str>) {
        const FIELD: Field = Field::Status;
        let said = self.value(FIELD).filter(|said| !is_none(FIELD, *said));
        if let Some(said) = said {
            let word = unwrapped(said).unwrap_or_else(|| as_text(said));
            return match Status::of_word(&word) {
                Some(known) if !self.is_lost(FIELD) => known,
                _ => {
                    self.extras
                        .insert(Cow::Borrowed(FIELD.name()), Extra::Value(said));
                    (Status::Unknown, None)
                }
            };
        }
        // A status was recorded, and is stronger than the evidence.
        if self.is_lost(FIELD) {
            return (Status::Unknown, None);
        }
        if let Some(outcome) = self.outcome(derived) {
            return outcome;
        }
        match evidence {
            Evidence::Err => (Status::Failed, None),
            Evidence::Panic => (Status::Failed, Some("panic")),
            Evidence::Cancelled => (Status::Cancelled, None),
            // A result beside an error is what there was before the error.
            Evidence::ResultField if self.has_error() => (Status::Failed, None),
            Evidence::ResultField if !self.has_result(kind, values) => (Status::Unknown, None),
            Evidence::Ok | Evidence::ResultField => (Status::Succeeded, None),
            Evidence::Nested | Evidence::None => (Status::Unknown, None),
        }
    }

    /// Returns whether the span itself recorded an error.
    fn has_error(&self) -> bool {
        [Field::ErrorCode, Field::ErrorMessage]
            .into_iter()
            .any(|field| match self.value(field) {
                Some(said) if !is_none(field, said) => {
                    let text = unwrapped(said).unwrap_or_else(|| as_text(said));
                    let is_success =
                        Status::of_word(&text).is_some_and(|(word, _)| word == Status::Succeeded);
                    // Zeros mean success, such as 0 and SQLSTATE 00000.
                    self.is_lost(field) || !is_success && !text.trim_matches('0').is_empty()
                }
                _ => self.is_lost(field),
            })
    }

    /// Returns whether a result was recorded, and every recorded one is what a successful run may
    /// have.
    fn has_result(&self, kind: Kind, values: &[Cell<'a>]) -> bool {
        let mut has_result = false;
        for &field in Field::ALL {
            if !field.is_result() || !field.belongs_to(kind) {
                continue;
            }
            let is_result = match (self.value(field), &values[usize::from(field.code())]) {
                _ if self.lost(field) == Lost::Whole => false,
                (None, _) => continue,
                (Some(said), _) if is_none(field, said) => continue,
                (Some(Value::Debug(text)), Cell::Text(_)) => {
                    // A value, rather than the reason why there is none.
                    !text.starts_with("Err(") && !text.starts_with("Some(Err(")
                }
                (Some(_), Cell::Text(_)) => true,
                (Some(_), Cell::Int(count)) => *count >= 0,
                _ => false,
            };
            if !is_result {
                return false;
            }
            has_result = true;
        }
        has_result || self.has_answer(values)
    }

    /// Returns whether a library that calls models has said what it knows only once the model has
    /// answered.
    fn has_answer(&self, values: &[Cell<'a>]) -> bool {
        let is_counted = || {
            matches!(
                values[usize::from(Field::InputTokenCount.code())],
                Cell::Int(_)
            )
        };
        ANSWERED.iter().any(|name| self.extras.contains_key(*name))
            || self.extras.contains_key("adopted") && is_counted()
    }

    /// Merges an object that was recorded as the field `metadata` into the metadata; any other
    /// value stays under that name.
    fn metadata_field(&mut self) {
        let Some(said) = self.values[usize::from(Field::Metadata.code())] else {
            return;
        };
        let parsed = match said {
            Value::Text(text) | Value::Debug(text) | Value::Json(text) => {
                serde_json::from_str(text).ok()
            }
            _ => None,
        };
        if let Some(serde_json::Value::Object(object)) = parsed {
            if !keeps_numbers(&as_text(said)) {
                let name = Field::Metadata.name();
                self.problem(name, "a number in it has more digits than are kept");
            }
            for (name, value) in object {
                self.extras
                    .entry(Cow::Owned(name))
                    .or_insert(Extra::Json(value));
            }
        } else {
            self.keep(Field::Metadata, said, "not a JSON object");
        }
    }

    fn metadata(&mut self) -> String {
        if self.extras.is_empty() {
            return String::from("{}");
        }
        let mut problems = Vec::new();
        let mut object = serde_json::Map::new();
        for (name, extra) in std::mem::take(&mut self.extras) {
            let value = match extra {
                Extra::Json(value) => value,
                Extra::Value(value) => json(value).unwrap_or_else(|(instead, what)| {
                    problems.push((name.to_string(), what));
                    instead
                }),
            };
            let (value, replaced) = json_without_nul(value);
            if replaced || name.contains('\0') {
                problems.push((name.to_string(), "NUL replaced"));
            }
            let key = without_nul(&name).into_owned();
            if object.insert(key, value).is_some() {
                problems.push((
                    name.to_string(),
                    "another field has this name, one of them is lost",
                ));
            }
        }
        for (name, what) in problems {
            self.problem(&name, what);
        }
        jsonb::text(&object)
    }
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
