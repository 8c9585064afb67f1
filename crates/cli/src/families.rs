//! What the story says of an event of a family, in words and by labels of its own.
//!
//! The fields are in `metadata`, where any program may have put anything. A value is told in the words of the record's own
//! line if it has the type that its family gives it and fits on a line; else by a label, if it has the type; else it stays
//! under `metadata`, as JSON. So no value is told twice, and none is left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::row::Row;

/// How many characters of one value the words have at most.
const MAX_CHARS: usize = 100;

/// The type of a value that has a label.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    Integer,
    Rows,
}

/// A field, its label and its type, in the order in which they are printed.
const LABELS: [(&str, &str, Form); 36] = [
    ("model", "model", Form::Text),
    ("provider", "provider", Form::Text),
    ("prompt_template_name", "template", Form::Text),
    ("prompt_template_version", "version", Form::Integer),
    ("input_token_count", "tokens in", Form::Integer),
    ("output_token_count", "tokens out", Form::Integer),
    ("message", "message", Form::Text),
    ("escalated_to", "escalated to", Form::Text),
    ("reason", "reason", Form::Text),
    ("approved_by", "decided by", Form::Text),
    ("approver_role", "in the role", Form::Text),
    ("sql_text", "sql", Form::Text),
    ("rows_affected", "result", Form::Rows),
    ("comment", "comment", Form::Text),
    ("run_id", "run", Form::Text),
    ("payment_reference", "payment", Form::Text),
    ("actor", "actor", Form::Text),
    ("severity", "severity", Form::Text),
    ("component", "component", Form::Text),
    ("fingerprint", "fingerprint", Form::Text),
    ("category", "category", Form::Text),
    ("source", "source", Form::Text),
    ("http.request.method", "method", Form::Text),
    ("url.path", "path", Form::Text),
    ("url.query", "query", Form::Text),
    ("http.route", "route", Form::Text),
    ("http_status", "http status", Form::Integer),
    ("client.address", "client", Form::Text),
    ("ip_address", "client", Form::Text),
    ("network.peer.address", "proxy", Form::Text),
    ("user_agent", "user agent", Form::Text),
    ("user_agent.original", "user agent", Form::Text),
    ("execution_id", "execution", Form::Text),
    ("login", "login", Form::Text),
    ("application_name", "application", Form::Text),
    ("client_address", "client", Form::Text),
];

/// Returns the words of an event, by its `action_type`; `None` if they would say nothing.
type Words = fn(&mut Fields<'_>) -> Option<String>;

const WORDS: [(&str, Words); 14] = [
    ("llm_call", |fields| {
        let mut words = format!("call of {}", fields.short("model")?);
        append(&mut words, " (", fields.short("provider"), ")");
        Some(words)
    }),
    ("tool_invocation", |fields| {
        Some(format!("tool {}", fields.target("tool")?))
    }),
    ("escalation", |fields| {
        let (to, reason) = (fields.short("escalated_to"), fields.short("reason"));
        if to.is_none() && fields.text("reason").is_none() {
            return None;
        }
        let mut words = String::from("escalated");
        append(&mut words, " to ", to, "");
        append(&mut words, ": ", reason, "");
        Some(words)
    }),
    ("approval", |fields| {
        let decision = fields.word("decision")?;
        if !["approved", "cancelled", "rejected"].contains(&decision.as_str()) {
            return None;
        }
        let mut words = format!("write {decision}");
        if let Some(by) = fields.short("approved_by") {
            append(&mut words, " by ", Some(by), "");
            append(&mut words, " (", fields.short("approver_role"), ")");
        }
        Some(words)
    }),
    ("agent_execution", |fields| {
        let mut words = format!("agent {}", fields.target("agent")?);
        append(&mut words, ": ", fields.word("outcome"), "");
        append(
            &mut words,
            ", ",
            fields.number("credits_consumed"),
            " credits",
        );
        Some(words)
    }),
    ("log", |fields| {
        let (level, message) = (fields.word("level"), fields.short("message"));
        if message.is_none() && fields.text("message").is_none() {
            return None;
        }
        Some(match (level, message) {
            (Some(level), message) => format!("[{level}] {}", message.unwrap_or_default()),
            (None, Some(message)) => format!("log: {message}"),
            (None, None) => String::from("log"),
        })
    }),
    ("http_request", |fields| {
        let mut words = fields.word("http.request.method")?;
        let path = fields.word("url.path");
        // A route without parameters is the path.
        let route = if path.is_none() || path == fields.text("http.route") {
            fields.word("http.route")
        } else {
            None
        };
        append(&mut words, " ", Some(path.or(route)?), "");
        let code = fields.integer("http.response.status_code");
        append(&mut words, " ", code.map(|code| code.to_string()), "");
        Some(words)
    }),
    ("transaction", |fields| {
        let (amount, state) = (fields.amount("amount_cents"), fields.word("state"));
        if amount.is_none() && state.is_none() {
            return None;
        }
        let mut words = amount.unwrap_or_else(|| String::from("transaction"));
        append(&mut words, " ", state, "");
        append(&mut words, " (was ", fields.word("previous_state"), ")");
        Some(words)
    }),
    ("mandate", |fields| {
        let (limit, state) = (fields.amount("limit_cents"), fields.word("state"));
        if limit.is_none() && state.is_none() {
            return None;
        }
        let mut words = String::from("mandate");
        append(&mut words, " of ", limit, "");
        append(&mut words, " per ", fields.word("period"), "");
        append(&mut words, ": ", state, "");
        Some(words)
    }),
    ("feedback", |fields| {
        let rating = fields.integer("rating");
        let rating = rating.map(|rating| format!("rated {rating}"));
        let favourite = fields.boolean("favourite").map(|is_favourite| {
            String::from(if is_favourite {
                "a favourite"
            } else {
                "no favourite"
            })
        });
        let said: Vec<String> = [rating, favourite].into_iter().flatten().collect();
        let mut words = said.join(", ");
        let comment = fields.short("comment");
        if words.is_empty() {
            fields.text("comment")?;
            words.push_str("commented");
        }
        append(&mut words, ": ", comment, "");
        Some(words)
    }),
    ("system_error", |fields| {
        let mut words = format!("error {}", fields.short("error_type")?);
        append(&mut words, " in ", fields.short("component"), "");
        append(&mut words, " (", fields.word("severity"), ")");
        Some(words)
    }),
    ("system_metric", |fields| {
        let mut words = fields.word("metric")?;
        append(&mut words, " = ", Some(fields.number("value")?), "");
        append(&mut words, " ", fields.word("unit"), "");
        Some(words)
    }),
    // What audit.track records.
    ("change", |fields| {
        let done = match fields.word("operation")?.as_str() {
            "insert" => "inserted into",
            "update" => "updated",
            "delete" => "deleted from",
            "truncate" => "truncated",
            _ => return None,
        };
        let table = fields.row.text("target_type").filter(|t| is_short(t))?;
        let mut words = format!("{done} {table}");
        let key = fields.row.text("target_id").filter(|key| is_short(key));
        append(&mut words, " ", key.map(str::to_owned), "");
        let changes = fields.changes().or_else(|| fields.names("changes"));
        append(&mut words, ": ", changes, "");
        append(&mut words, ", ", fields.number("rows"), " rows");
        if key.is_some() || fields.row.text("target_id").is_none() {
            fields.used.insert(None);
        }
        Some(words)
    }),
    ("security", |fields| {
        let mut words = fields.word("event")?;
        let source = fields.short("source");
        let source = source.or_else(|| fields.short("client.address"));
        append(&mut words, " from ", source, "");
        Some(words)
    }),
];

fn append(words: &mut String, before: &str, value: Option<String>, after: &str) {
    if let Some(value) = value {
        words.extend([before, &value, after]);
    }
}

/// What is told of an event.
#[derive(Debug)]
pub(crate) struct Told {
    /// What stands in the record's own line; not escaped.
    pub(crate) words: String,
    /// The fields that the words have; `None` is the target.
    in_words: BTreeSet<Option<&'static str>>,
    /// Field, label and text of what has a label.
    labelled: Vec<(Option<&'static str>, &'static str, String)>,
}

impl Told {
    /// Returns what is told of the row; `None` if it is no event of a family, or lacks what the
    /// family's words need.
    pub(crate) fn of(row: &Row) -> Option<Self> {
        let action_type = row.text("action_type")?;
        let (_, words) = WORDS.iter().find(|(name, _)| *name == action_type)?;
        // A row of very many fields is read in part.
        if row.length("metadata").is_some() {
            return None;
        }
        let mut fields = Fields {
            row,
            used: BTreeSet::new(),
        };
        let words = words(&mut fields)?.trim_end().to_owned();
        let mut labelled = Vec::new();
        // A route that is the target has a label as well.
        let name = row.text("target_type").unwrap_or_default();
        let is_labelled = LABELS.iter().any(|label| label.0 == name)
            && fields
                .text(name)
                .is_some_and(|text| row.text("target_id") == Some(&text));
        if !is_labelled && let Some(target) = row.target() {
            labelled.push((None, "target", target));
        }
        labelled.extend(LABELS.iter().filter_map(|(name, label, form)| {
            Some((Some(*name), *label, fields.labelled(name, *form)?))
        }));
        Some(Self {
            words,
            in_words: fields.used,
            labelled,
        })
    }

    /// The words were cut, so that what they say is to be told otherwise.
    pub(crate) fn cut_words(&mut self) {
        self.in_words.clear();
    }

    /// Returns the label and the text of what the words do not say.
    pub(crate) fn labelled(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let labelled = self.labelled.iter();
        labelled
            .filter(|(name, ..)| !self.in_words.contains(name))
            .map(|(_, label, text)| (*label, text.as_str()))
    }

    /// Whether a field of `metadata` is told.
    pub(crate) fn has(&self, name: &str) -> bool {
        let mut labelled = self.labelled.iter().map(|(name, ..)| name);
        self.in_words.iter().any(|n| *n == Some(name)) || labelled.any(|n| *n == Some(name))
    }
}

/// The fields of a row, each of which may be missing or of another type.
struct Fields<'a> {
    row: &'a Row,
    /// Those that the words have.
    used: BTreeSet<Option<&'static str>>,
}

impl Fields<'_> {
    fn json(&self, name: &str) -> Option<Value> {
        serde_json::from_str(self.row.metadata.get(name)?).ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.json(name)? {
            Value::String(text) if !text.trim().is_empty() => Some(text),
            _ => None,
        }
    }

    fn labelled(&self, name: &str, form: Form) -> Option<String> {
        let integer = || self.json(name)?.as_i64();
        match form {
            Form::Text => self.text(name),
            Form::Integer => integer().map(|n| n.to_string()),
            Form::Rows => {
                integer().map(|n| format!("{n} {} affected", if n == 1 { "row" } else { "rows" }))
            }
        }
    }

    /// Returns a value for the words.
    fn used<T>(&mut self, name: &'static str, value: Option<T>) -> Option<T> {
        if value.is_some() {
            self.used.insert(Some(name));
        }
        value
    }

    /// Returns a text that fits on a line as it is.
    fn short(&mut self, name: &'static str) -> Option<String> {
        let text = self.text(name).filter(|text| is_short(text));
        self.used(name, text)
    }

    /// Returns a text without white space.
    fn word(&mut self, name: &'static str) -> Option<String> {
        let text = self
            .text(name)
            .filter(|text| is_short(text) && !text.contains(' '));
        self.used(name, text)
    }

    fn integer(&mut self, name: &'static str) -> Option<i64> {
        let value = self.json(name).and_then(|value| value.as_i64());
        self.used(name, value)
    }

    fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.json(name).and_then(|value| value.as_bool());
        self.used(name, value)
    }

    /// Returns a number as it is written.
    fn number(&mut self, name: &'static str) -> Option<String> {
        let is_number = self.json(name).is_some_and(|value| value.is_number());
        let value = self
            .row
            .metadata
            .get(name)
            .filter(|text| is_number && is_short(text));
        self.used(name, value.cloned())
    }

    /// Returns the names of an object's fields; its values are told elsewhere.
    fn names(&self, name: &str) -> Option<String> {
        let Value::Object(object) = self.json(name)? else {
            return None;
        };
        let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
        names.sort_unstable();
        Some(names.join(", ")).filter(|names| is_short(names))
    }

    /// Returns the changes of a row, each with its old and new value; `None` if they are too long for
    /// the words, or a value is no scalar.
    fn changes(&mut self) -> Option<String> {
        let changes = self.row.metadata.get("changes")?;
        let changes: BTreeMap<String, Sides> = serde_json::from_str(changes).ok()?;
        let told = changes.iter().map(|(field, sides)| change(field, sides));
        let told = told.collect::<Option<Vec<String>>>()?.join(", ");
        // Of a truncation there are none.
        let is_told = told.is_empty() || is_short(&told);
        self.used("changes", is_told.then_some(told))
            .filter(|told| !told.is_empty())
    }

    /// Returns an amount of hundredths with its currency.
    fn amount(&mut self, name: &'static str) -> Option<String> {
        let cents = self.integer(name)?;
        let (sign, cents) = (if cents < 0 { "-" } else { "" }, cents.unsigned_abs());
        let mut amount = format!("{sign}{}.{:02}", cents / 100, cents % 100);
        append(&mut amount, " ", self.word("currency"), "");
        Some(amount)
    }

    /// Returns the id of the target if it is of this type.
    fn target(&mut self, target_type: &str) -> Option<String> {
        let id = self.row.text("target_id").filter(|id| is_short(id))?;
        (self.row.text("target_type") == Some(target_type)).then(|| {
            self.used.insert(None);
            id.to_owned()
        })
    }
}

/// The old and the new value of a field, as Postgres wrote them: 1.0 and 1.00 are different numerics.
type Sides = BTreeMap<String, Box<RawValue>>;

/// Returns how a field changed; `None` if that is no scalar, or not as `audit.track` records it.
fn change(field: &str, sides: &Sides) -> Option<String> {
    let is_scalar = |value: &RawValue| !value.get().starts_with(['{', '[']);
    if field.contains([' ', ',']) || !sides.values().all(|value| is_scalar(value)) {
        return None;
    }
    let side = |name| sides.get(name).map(|value| value.get());
    Some(match (side("old"), side("new"), side("masked")) {
        (Some(old), Some(new), None) => format!("{field} from {old} to {new}"),
        (Some(old), None, None) => format!("{field} was {old}"),
        (None, Some(new), None) => format!("{field} {new}"),
        (None, None, Some("true")) => format!("{field} (masked)"),
        _ => return None,
    })
}

/// Whether a text is short, and the same on a line.
fn is_short(text: &str) -> bool {
    let has_words = !text.is_empty() && text.split(' ').all(|word| !word.is_empty());
    has_words
        && text.chars().nth(MAX_CHARS).is_none()
        && !text.contains(|c: char| c.is_whitespace() && c != ' ')
}
