//! Applies the rules to one value.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::action::{self, Action};
use super::json::{self, Becomes, Part};
use super::place::{self, RecordOf, squeezed};
use super::ruleset::{FAILED, RuleSet};
use super::scan::{CARD, EMAIL, IBAN, NATIONAL_ID, PHONE};
use super::tally::Tally;
use crate::record::decode::{Entry, EntryKey, Value};
use crate::sql;
use crate::vocabulary::Field;

/// What stands in the place of a value that was cut off by a limit, and may be one to redact.
pub(super) const CUT_OFF: &str = "cut-off";

/// What stands there.
const CUT_OFF_MASK: &str = "[cut-off]";

/// The rule that is named when the name of a field was redacted.
pub(super) const NAME: &str = "name";

/// The rule for literals in SQL, and the one for what a comment there says.
pub(super) const SQL_LITERAL: &str = "sql-literal";
pub(super) const SQL_COMMENT: &str = "sql-comment";

/// How often JSON within a text of JSON is followed.
const NESTED: u32 = 3;

/// What becomes of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum New {
    Same,
    Text(String),
    /// The field is left out.
    Gone,
}

/// The rules, for the values of one record.
pub(super) struct Values<'a, 'r> {
    pub(super) rules: &'a RuleSet,
    pub(super) record: &'r RecordOf<'r>,
}

/// What is known of the text that is redacted.
#[derive(Clone, Copy)]
struct Text<'t> {
    written: &'t str,
    /// The name before the text, which a shape may want to see.
    name: &'t str,
    is_cut: bool,
    /// Whether rules for persons leave it: it says who acted.
    is_of_user: bool,
    /// What becomes of its literals, if it is SQL.
    sql: Option<Action>,
    nested: u32,
}

impl<'a> Values<'a, '_> {
    /// Returns the name of a field with what was redacted in it; `None`: nothing.
    pub(super) fn name(&self, name: &str) -> Option<String> {
        let text = Text {
            written: name,
            name: "",
            is_cut: false,
            is_of_user: false,
            sql: None,
            nested: NESTED,
        };
        match self.of_inner(text, &mut Vec::new(), &mut Tally::default()) {
            New::Text(new) => Some(new),
            New::Same | New::Gone => None,
        }
    }

    /// Returns what becomes of a text that no field holds; it is SQL if it begins as a statement.
    pub(super) fn of_plain(&self, text: &str, tally: &mut Tally<'a>) -> New {
        let is_sql = |_: &Action| sql::is_statement(text);
        let text = Text {
            written: text,
            name: "",
            is_cut: false,
            is_of_user: false,
            sql: self.rules.sql_literals.filter(is_sql),
            nested: NESTED,
        };
        self.of_text(text, &mut Vec::new(), tally)
    }

    /// Returns what becomes of an entry's value.
    pub(super) fn of_entry(&self, entry: &Entry<'_>, is_cut: bool, tally: &mut Tally<'a>) -> New {
        let (mut path, name) = match entry.key {
            EntryKey::Field(Field::Metadata) => (vec![squeezed(Field::Metadata.name())], ""),
            EntryKey::Field(field) => (vec![squeezed(place::column(field))], ""),
            EntryKey::Extra(name) => {
                let mut path = vec![squeezed(Field::Metadata.name())];
                path.extend(name.split('.').map(squeezed));
                (path, name)
            }
        };
        let written: String;
        let text = match entry.value {
            Value::Text(text) | Value::Debug(text) | Value::Json(text) => text,
            Value::Bytes(bytes) => {
                written = String::from_utf8_lossy(bytes).into_owned();
                &written
            }
            Value::I64(_)
            | Value::U64(_)
            | Value::F64(_)
            | Value::I128(_)
            | Value::U128(_)
            | Value::Bool(_)
            | Value::Uuid(_) => {
                return self.of_fixed(entry.value, name, &path, tally);
            }
            Value::Cut { .. } | Value::FormatFailed | Value::Dropped | Value::Stopped { .. } => {
                return New::Same;
            }
        };
        let is_of_user = entry.key == EntryKey::Field(Field::UserId);
        self.of_text(
            Text {
                written: text,
                name,
                is_cut,
                is_of_user,
                sql: self.sql_at(&path),
                nested: NESTED,
            },
            &mut path,
            tally,
        )
    }

    /// Returns what becomes of a value that is no text.
    fn of_fixed(
        &self,
        value: Value<'_>,
        name: &str,
        path: &[String],
        tally: &mut Tally<'a>,
    ) -> New {
        let written = match value {
            Value::I64(n) => n.to_string(),
            Value::U64(n) => n.to_string(),
            Value::F64(n) => n.to_string(),
            Value::I128(n) => n.to_string(),
            Value::U128(n) => n.to_string(),
            Value::Bool(b) => b.to_string(),
            Value::Uuid(id) => id.to_string(),
            _ => return New::Same,
        };
        if let Some(new) = self.by_place(&written, path, tally) {
            return new;
        }
        let text = Text {
            written: &written,
            name,
            is_cut: false,
            is_of_user: false,
            sql: None,
            nested: 0,
        };
        if let Some(action) = self.sql_at(path) {
            let (new, _) = self.of_sql(text, action, tally);
            return new.map_or(New::Same, New::Text);
        }
        if matches!(value, Value::Bool(_) | Value::Uuid(_)) || !self.rules.scanner.wants_numbers() {
            return New::Same;
        }
        self.by_shape(text, tally).map_or(New::Same, New::Text)
    }

    /// Returns what becomes of a text: by its place, by the places in its JSON, by the shapes in it, by
    /// the program's own redactors.
    fn of_text(&self, text: Text<'_>, path: &mut Vec<String>, tally: &mut Tally<'a>) -> New {
        if let Some(new) = self.by_place(text.written, path, tally) {
            return new;
        }
        let mut current = self.by_rules(text, path, tally);
        for custom in &self.rules.customs {
            let so_far = current.as_deref().unwrap_or(text.written);
            let place = path.join(".");
            let new = catch_unwind(AssertUnwindSafe(|| custom.redact(&place, so_far)));
            match new {
                Ok(None) => continue,
                Ok(Some(new)) => current = Some(new),
                Err(_) => {
                    self.rules.counts.count_failed();
                    current = Some(FAILED.to_owned());
                }
            }
            tally.add(custom.name());
        }
        current.map_or(New::Same, New::Text)
    }

    /// Returns what the rules by place make of a value; `None`: none covers it.
    fn by_place(&self, text: &str, path: &[String], tally: &mut Tally<'a>) -> Option<New> {
        let (place, action) = place::covering(&self.rules.places, path, self.record)?;
        if text.is_empty() {
            return None;
        }
        tally.add(place.written());
        Some(match action {
            Action::Drop => New::Gone,
            _ => New::Text(action::replaced(
                *action,
                place.last_name(),
                text.as_bytes(),
                self.rules.key.as_ref(),
            )),
        })
    }

    /// Returns JSON with the values of its members redacted.
    fn of_json(
        &self,
        text: Text<'_>,
        path: &mut Vec<String>,
        tally: &mut Tally<'a>,
    ) -> Option<String> {
        let has_escapes = text.written.contains('\\');
        let mut is_changed = false;
        let new = json::rewrite(text.written, path, &mut |path, part| {
            let sql = self.sql_at(path);
            let new = match part {
                Part::Name(name) => self
                    .by_shape(
                        Text {
                            written: name,
                            name: "",
                            sql: None,
                            nested: 0,
                            ..text
                        },
                        tally,
                    )
                    .map_or(New::Same, New::Text),
                Part::Other("null") => New::Same,
                // The whole text is no member of itself, and was asked about before.
                Part::Other(written) if written.len() == text.written.trim().len() => New::Same,
                // What is no text is no SQL: a value as a whole.
                Part::Text(written) | Part::Number(written) | Part::Other(written)
                    if sql.is_some() && !written.starts_with('[') =>
                {
                    let inner = Text {
                        written,
                        name: "",
                        is_cut: false,
                        sql,
                        nested: text.nested - 1,
                        ..text
                    };
                    self.of_inner(inner, path, tally)
                }
                Part::Other(written) => self.by_place(written, path, tally).unwrap_or(New::Same),
                Part::Number(number) => self.by_place(number, path, tally).unwrap_or_else(|| {
                    let name = path.last().map_or("", String::as_str).to_owned();
                    let number = Text {
                        written: number,
                        name: &name,
                        sql: None,
                        nested: 0,
                        ..text
                    };
                    self.by_shape(number, tally).map_or(New::Same, New::Text)
                }),
                Part::Text(inner) if has_escapes || json::is_like(inner) => {
                    let inner = Text {
                        written: inner,
                        name: "",
                        is_cut: false,
                        sql: None,
                        nested: text.nested - 1,
                        ..text
                    };
                    self.of_inner(inner, path, tally)
                }
                // Shapes are looked for in the whole text afterwards.
                Part::Text(inner) => self.by_place(inner, path, tally).unwrap_or(New::Same),
            };
            is_changed |= new != New::Same;
            match new {
                New::Same => Becomes::Itself,
                New::Text(text) => Becomes::Text(text),
                New::Gone => Becomes::Null,
            }
        });
        new.filter(|_| is_changed)
    }

    /// Returns what becomes of a text within JSON.
    fn of_inner(&self, inner: Text<'_>, path: &mut Vec<String>, tally: &mut Tally<'a>) -> New {
        if let Some(new) = self.by_place(inner.written, path, tally) {
            return new;
        }
        self.by_rules(inner, path, tally)
            .map_or(New::Same, New::Text)
    }

    /// Returns the text without its literals if it is SQL, without the values at the places in its JSON, and
    /// without those that have a shape; `None`: there is none.
    fn by_rules(
        &self,
        text: Text<'_>,
        path: &mut Vec<String>,
        tally: &mut Tally<'a>,
    ) -> Option<String> {
        let (current, is_cut) = match text.sql {
            // As `Debug` writes a text.
            Some(action) if !json::is_text(text.written) => self.of_sql(text, action, tally),
            _ if json::is_like(text.written) && text.nested > 0 => {
                (self.of_json(text, path, tally), text.is_cut)
            }
            _ => (None, text.is_cut),
        };
        let so_far = Text {
            written: current.as_deref().unwrap_or(text.written),
            is_cut,
            ..text
        };
        self.by_shape(so_far, tally).or(current)
    }

    /// Returns what becomes of literals at a path, if there is SQL.
    fn sql_at(&self, path: &[String]) -> Option<Action> {
        self.rules.sql_literals.filter(|_| place::holds_sql(path))
    }

    /// Returns SQL without its literals, and whether its end is still as it was cut off.
    fn of_sql(
        &self,
        text: Text<'_>,
        action: Action,
        tally: &mut Tally<'a>,
    ) -> (Option<String>, bool) {
        let literals = sql::literals(text.written, self.record.system);
        let mut new = String::new();
        let mut at = 0;
        for literal in &literals {
            let value = text.written[literal.value.clone()].as_bytes();
            new.push_str(&text.written[at..literal.range.start]);
            // Between quotes, so that what is left can be read as SQL.
            let (rule, quote) = match literal.kind {
                sql::Kind::Literal => (SQL_LITERAL, "'"),
                sql::Kind::Comment => (SQL_COMMENT, ""),
            };
            tally.add(rule);
            new.push_str(quote);
            new.push_str(&action::replaced(
                action,
                rule,
                value,
                self.rules.key.as_ref(),
            ));
            new.push_str(quote);
            at = literal.range.end;
        }
        if literals.is_empty() {
            return (None, text.is_cut);
        }
        new.push_str(&text.written[at..]);
        (Some(new), text.is_cut && at < text.written.len())
    }

    /// Returns the text without the values that have a shape; `None`: there is none.
    fn by_shape(&self, text: Text<'_>, tally: &mut Tally<'a>) -> Option<String> {
        let scanner = &self.rules.scanner;
        // With its name before it, as it would stand in a file.
        let (searched, offset) = if text.name.is_empty() {
            (std::borrow::Cow::Borrowed(text.written), 0)
        } else {
            (
                std::borrow::Cow::Owned(format!("{}={}", text.name, text.written)),
                text.name.len() + 1,
            )
        };
        let mut found = scanner.find(searched.as_bytes());
        found.retain(|one| one.range.end > offset && !(text.is_of_user && is_of_person(one.rule)));
        let mut new = String::new();
        let mut at = 0;
        for one in &found {
            let (start, end) = (
                one.range.start.saturating_sub(offset),
                one.range.end - offset,
            );
            let value = &text.written[start..end];
            tally.add(one.rule);
            new.push_str(&text.written[at..start]);
            new.push_str(&action::replaced(
                one.action,
                one.rule,
                value.as_bytes(),
                self.rules.key.as_ref(),
            ));
            at = end;
        }
        if text.is_cut
            && let Some(range) = scanner.cut_off(&text.written.as_bytes()[at..])
        {
            let start = text.written.floor_char_boundary(at + range.start);
            tally.add(CUT_OFF);
            new.push_str(&text.written[at..start]);
            new.push_str(CUT_OFF_MASK);
            return Some(new);
        }
        if found.is_empty() {
            return None;
        }
        new.push_str(&text.written[at..]);
        Some(new)
    }
}

/// Returns whether a rule is one of the preset of personal values.
fn is_of_person(rule: &str) -> bool {
    matches!(rule, EMAIL | CARD | IBAN | PHONE | NATIONAL_ID)
}
