//! A message in the format of the GenAI conventions.

use serde_json::{Map, Value as Json, json};

use super::attributes::{Attributes, cut};

/// Adds a list of one message, unless it is empty: valid JSON, whatever was cut.
///
/// An answer has a `finish_reason`. The conventions require one, and Phoenix discards an answer
/// without it.
pub(super) fn add(
    attributes: &mut Attributes,
    name: &str,
    role: &str,
    whole: &str,
    finish_reason: Option<&str>,
) {
    if whole.is_empty() {
        return;
    }
    let form = |text: &str| {
        let mut message = Map::new();
        message.insert(String::from("role"), role.into());
        let part = json!({ "type": "text", "content": text });
        message.insert(String::from("parts"), Json::Array(vec![part]));
        if let Some(reason) = finish_reason {
            message.insert(String::from("finish_reason"), reason.into());
        }
        Json::Array(vec![Json::Object(message)]).to_string()
    };
    let limit = attributes.text_bytes();
    let room = limit.saturating_sub(form("").len());
    let mut kept = cut(whole, limit);
    let mut message = form(kept);
    while message.len() > limit && !kept.is_empty() {
        // Escaping makes a text up to six times as long.
        let escaped = (message.len() + room).saturating_sub(limit).max(1);
        let fitting = kept.len() * room / escaped;
        kept = cut(kept, fitting.min(kept.len() - 1));
        message = form(kept);
    }
    attributes.text(name, &message, whole);
    if kept.len() < whole.len() {
        attributes.was_cut(name, whole);
    }
}
