//! The attributes of a span, within limits.
//!
//! Texts that receivers read under names of their own ([`Attributes::excerpt`]) get the room that the
//! other attributes leave: the longest are cut until all fit, so that a long prompt does not displace
//! the answer.

use std::collections::HashSet;

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use sha2::{Digest, Sha256};

use super::conventions as names;

/// The most attributes of one span, as collectors usually accept.
const MAX_ATTRIBUTES: usize = 128;

/// The most bytes of all attributes of one span: well below the smallest useful payload.
const MAX_BYTES: usize = 1024 * 1024;

/// The attributes of a span while they are put together.
#[derive(Debug)]
pub(super) struct Attributes {
    all: Vec<KeyValue>,
    names: HashSet<String>,
    /// The bytes of all attributes but the texts of `excerpts`.
    bytes: usize,
    excerpts: Vec<Excerpt>,
    text_bytes: usize,
    dropped: u32,
}

/// A text that gets the room that other attributes leave.
#[derive(Debug)]
struct Excerpt {
    name: String,
    /// The name of the attribute with the text's type, if it has one.
    mime: Option<&'static str>,
}

/// The type of a text that is no JSON.
const PLAIN: &str = "text/plain";

impl Attributes {
    /// Starts with no attributes; of each text, at most `text_bytes` are kept.
    pub(super) fn new(text_bytes: usize) -> Self {
        Self {
            all: Vec::with_capacity(24),
            names: HashSet::new(),
            bytes: 0,
            excerpts: Vec::new(),
            text_bytes,
            dropped: 0,
        }
    }

    /// Returns the attributes, and how many were dropped.
    pub(super) fn finish(mut self) -> (Vec<KeyValue>, u32) {
        self.fit_excerpts();
        (self.all, self.dropped)
    }

    /// Cuts the longest excerpts until all attributes fit.
    fn fit_excerpts(&mut self) {
        let excerpts = std::mem::take(&mut self.excerpts);
        let mut lens: Vec<_> = excerpts
            .iter()
            .map(|excerpt| self.string(&excerpt.name).map_or(0, |text| text.len()))
            .collect();
        lens.sort_unstable();
        let mut room = MAX_BYTES.saturating_sub(self.bytes);
        let mut longest = usize::MAX;
        for (index, len) in lens.iter().enumerate() {
            let share = room / (lens.len() - index);
            if *len > share {
                longest = share;
                break;
            }
            room -= len;
        }
        for excerpt in excerpts {
            let Some(text) = self.string(&excerpt.name) else {
                continue;
            };
            let kept = cut(text, longest).len();
            if kept == text.len() {
                continue;
            }
            if kept == 0 {
                self.remove(&[&excerpt.name, excerpt.mime.unwrap_or_default()]);
                self.dropped += 1;
                continue;
            }
            text.truncate(kept);
            // A part of a JSON text is none.
            if let Some(mime) = excerpt.mime.and_then(|name| self.string(name)) {
                PLAIN.clone_into(mime);
            }
        }
    }

    fn string(&mut self, name: &str) -> Option<&mut String> {
        let known = self.all.iter_mut().find(|known| known.key == name)?;
        match known.value.as_mut()?.value.as_mut()? {
            any_value::Value::StringValue(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    fn push(&mut self, name: &str, value: any_value::Value, bytes: usize) {
        if self.names.contains(name) {
            return;
        }
        if self.all.len() == MAX_ATTRIBUTES || self.bytes + name.len() + bytes > MAX_BYTES {
            self.dropped += 1;
            return;
        }
        self.bytes += name.len() + bytes;
        self.names.insert(name.to_owned());
        self.all.push(KeyValue {
            key: name.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }

    /// Adds an identifier or a text of few words, unless it is empty.
    pub(super) fn word(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.text(name, value, value);
        }
    }

    pub(super) fn int(&mut self, name: &str, value: i64) {
        self.push(name, any_value::Value::IntValue(value), 8);
    }

    pub(super) fn words(&mut self, name: &str, values: &[String]) {
        let bytes = values.iter().map(String::len).sum();
        let values = values
            .iter()
            .map(|value| AnyValue {
                value: Some(any_value::Value::StringValue(value.clone())),
            })
            .collect();
        self.push(
            name,
            any_value::Value::ArrayValue(ArrayValue { values }),
            bytes,
        );
    }

    /// Adds a text, cut to the limit; if it was cut, also adds the length and the sha256 of
    /// `whole`, which is what Postgres has.
    pub(super) fn text(&mut self, name: &str, text: &str, whole: &str) {
        let kept = cut(text, self.text_bytes);
        self.push(
            name,
            any_value::Value::StringValue(kept.to_owned()),
            kept.len(),
        );
        if kept.len() < text.len() {
            self.was_cut(name, whole);
        }
    }

    /// Adds a text that another attribute has as well, cut to the limit, unless it is empty; with
    /// `mime`, also its type under that name.
    pub(super) fn excerpt(&mut self, name: &str, text: &str, mime: Option<&'static str>) {
        let kept = cut(text, self.text_bytes);
        if kept.is_empty() || self.names.contains(name) {
            return;
        }
        // Its own bytes count in the end.
        self.push(name, any_value::Value::StringValue(kept.to_owned()), 0);
        if !self.names.contains(name) {
            return;
        }
        self.excerpts.push(Excerpt {
            name: name.to_owned(),
            mime,
        });
        if let Some(mime) = mime {
            let is_json = kept.starts_with(['{', '['])
                && serde_json::from_str::<serde_json::Value>(kept).is_ok();
            self.word(mime, if is_json { "application/json" } else { PLAIN });
        }
    }

    /// Removes the attributes with these names; excerpts get their room.
    pub(super) fn remove(&mut self, names: &[&str]) {
        let bytes = &mut self.bytes;
        self.all.retain(|known| {
            let is_kept = !names.contains(&&*known.key);
            if !is_kept {
                *bytes = bytes.saturating_sub(text_bytes_of(known));
            }
            is_kept
        });
    }

    /// Adds the whole length and the sha256 of a text that was cut.
    pub(super) fn was_cut(&mut self, name: &str, whole: &str) {
        let name = if name.starts_with("audit.") {
            name.to_owned()
        } else {
            format!("audit.{name}")
        };
        let bytes = i64::try_from(whole.len()).unwrap_or(i64::MAX);
        self.int(&format!("{name}{}", names::CUT_BYTES), bytes);
        let sha256 = hex(&Sha256::digest(whole));
        self.word(&format!("{name}{}", names::CUT_SHA256), &sha256);
    }

    /// Copies each attribute that has the first name of a pair to the second name.
    pub(super) fn also(&mut self, pairs: &[(&str, &str)]) {
        for (name, also) in pairs {
            let value = self.all.iter().find(|known| known.key == *name);
            if let Some(value) = value.and_then(|known| known.value.clone()?.value) {
                self.push(also, value, 0);
            }
        }
    }

    /// Adds the value of a field without a column, with its type.
    pub(super) fn json(&mut self, name: &str, value: &serde_json::Value) {
        use serde_json::Value as Json;
        match value {
            Json::Null => {}
            Json::Bool(value) => self.push(name, any_value::Value::BoolValue(*value), 1),
            Json::Number(number) => {
                if let Some(value) = number.as_i64() {
                    self.int(name, value);
                } else if let Some(value) = number.as_f64().filter(|_| !number.is_u64()) {
                    self.push(name, any_value::Value::DoubleValue(value), 8);
                } else {
                    self.word(name, &number.to_string());
                }
            }
            Json::String(text) => self.text(name, text, text),
            Json::Array(values) if values.iter().all(Json::is_string) => {
                let words: Vec<_> = values
                    .iter()
                    .filter_map(Json::as_str)
                    .map(|text| cut(text, self.text_bytes).to_owned())
                    .collect();
                self.words(name, &words);
            }
            // Few receivers understand attributes that are maps.
            Json::Array(_) | Json::Object(_) => {
                let text = value.to_string();
                self.text(name, &text, &text);
            }
        }
    }
}

/// Returns the bytes of a text and its name.
fn text_bytes_of(attribute: &KeyValue) -> usize {
    let value = attribute.value.as_ref().and_then(|any| any.value.as_ref());
    match value {
        Some(any_value::Value::StringValue(text)) => attribute.key.len() + text.len(),
        _ => attribute.key.len(),
    }
}

/// Returns the beginning of a text, at most `bytes`, cut between two characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(attributes: &Attributes, name: &str) -> Option<String> {
        attributes.all.iter().find(|a| a.key == name).map(|a| {
            match a.value.as_ref().unwrap().value.as_ref().unwrap() {
                any_value::Value::StringValue(text) => text.clone(),
                any_value::Value::IntValue(int) => int.to_string(),
                other => format!("{other:?}"),
            }
        })
    }

    #[test]
    fn truncated_attribute_comes_with_the_length_and_sha256_of_the_text() {
        let mut attributes = Attributes::new(64);
        let whole = "é".repeat(50);
        attributes.text("db.query.text", &whole, &whole);
        assert_eq!(
            text_of(&attributes, "db.query.text").unwrap(),
            "é".repeat(32)
        );
        assert_eq!(
            text_of(&attributes, "audit.db.query.text.bytes").unwrap(),
            "100"
        );
        assert_eq!(
            text_of(&attributes, "audit.db.query.text.sha256").unwrap(),
            hex(&Sha256::digest(&whole))
        );
    }

    #[test]
    fn attribute_names_are_unique_and_excess_attributes_are_counted() {
        let mut attributes = Attributes::new(64);
        attributes.word("a", "first");
        attributes.word("a", "second");
        assert_eq!(text_of(&attributes, "a").unwrap(), "first");
        for n in 0..200 {
            attributes.int(&format!("n{n}"), n);
        }
        let (all, dropped) = attributes.finish();
        assert_eq!((all.len(), dropped), (MAX_ATTRIBUTES, 73));
    }

    #[test]
    fn json_attributes_keep_their_types() {
        let mut attributes = Attributes::new(64);
        for (name, json) in [
            ("bool", "true"),
            ("int", "-7"),
            ("large", "18446744073709551615"),
            ("double", "0.5"),
            ("words", r#"["a","b"]"#),
            ("object", r#"{"a":1}"#),
            ("null", "null"),
        ] {
            attributes.json(name, &serde_json::from_str(json).unwrap());
        }
        assert_eq!(text_of(&attributes, "bool").unwrap(), "BoolValue(true)");
        assert_eq!(text_of(&attributes, "int").unwrap(), "-7");
        assert_eq!(
            text_of(&attributes, "large").unwrap(),
            "18446744073709551615"
        );
        assert_eq!(text_of(&attributes, "double").unwrap(), "DoubleValue(0.5)");
        assert_eq!(text_of(&attributes, "object").unwrap(), r#"{"a":1}"#);
        assert!(attributes.names.contains("words") && !attributes.names.contains("null"));
    }
}
