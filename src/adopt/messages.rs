//! The text in the messages of a model call, as OpenTelemetry's conventions write them.

use serde_json::Value;

/// The longest JSON that is read.
const READ_BYTES: usize = 4 << 20;

/// What was said to a model, or by it.
pub(super) enum Said {
    Messages(Vec<Value>),
    /// Messages by their beginning, and too long to be read. Rather nothing of them than a beginning,
    /// which is somebody else's.
    Unread,
    /// Text, which may be JSON as well.
    Text,
}

impl Said {
    pub(super) fn of(text: &str) -> Self {
        if text.len() > READ_BYTES {
            return if text.starts_with(['[', '{']) {
                Self::Unread
            } else {
                Self::Text
            };
        }
        let messages = match serde_json::from_str(text) {
            Ok(Value::Array(messages)) => messages,
            Ok(message @ Value::Object(_)) => vec![message],
            _ => return Self::Text,
        };
        if messages.iter().all(|message| message["role"].is_string()) {
            Self::Messages(messages)
        } else {
            Self::Text
        }
    }
}

/// Returns the text of the user's last message, or of the last message of all if the user said
/// nothing.
pub(super) fn prompt(messages: &[Value]) -> Option<String> {
    let texts = || {
        let newest_first = messages.iter().rev();
        newest_first.map(|message| (role(message), text(message)))
    };
    let of_user = texts().find(|(role, text)| *role == "user" && !text.is_empty());
    let of_anyone = || texts().find(|(_, text)| !text.is_empty());
    of_user.or_else(of_anyone).map(|(_, text)| text)
}

/// Returns the text of the answer.
pub(super) fn answer(messages: &[Value]) -> Option<String> {
    let texts = messages.iter().map(text);
    let texts: Vec<_> = texts.filter(|text| !text.is_empty()).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// Returns the names of the tools that the model asks for, as a JSON list; `None`: it asks for none.
pub(super) fn calls(messages: &[Value]) -> Option<String> {
    let parts = messages
        .iter()
        .filter_map(|message| message["parts"].as_array());
    let calls = parts.flatten().filter(|part| part["type"] == "tool_call");
    let names: Vec<_> = calls.map(|call| call["name"].clone()).collect();
    (!names.is_empty()).then(|| Value::Array(names).to_string())
}

/// Returns whether the text is JSON.
pub(super) fn is_json(text: &str) -> bool {
    text.len() <= READ_BYTES && serde_json::from_str::<Value>(text).is_ok()
}

fn role(message: &Value) -> &str {
    message["role"].as_str().unwrap_or_default()
}

/// Returns the text of a message: of its `parts`, or of its `content` in the older way.
fn text(message: &Value) -> String {
    let parts = [&message["parts"], &message["content"]];
    let texts = parts.into_iter().flat_map(|parts| match parts {
        Value::String(text) => vec![text.as_str()],
        Value::Array(parts) => parts.iter().filter_map(text_of_part).collect(),
        _ => Vec::new(),
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn text_of_part(part: &Value) -> Option<&str> {
    match part["type"].as_str() {
        Some("text") => part["content"].as_str().or_else(|| part["text"].as_str()),
        Some(_) => None,
        None => part.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(json: &str) -> Vec<Value> {
        match Said::of(json) {
            Said::Messages(messages) => messages,
            _ => panic!("no messages: {json}"),
        }
    }

    #[test]
    fn prompt_is_the_text_of_the_users_last_message() {
        let json = r#"[
            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
            {"role": "user", "parts": [{"type": "text", "content": "How many?"}, {"type": "text", "content": "Of all."}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "name": "run", "arguments": {}}]},
            {"role": "user", "parts": [{"type": "tool_call_response", "response": "3"}]}
        ]"#;
        assert_eq!(
            prompt(&messages(json)).as_deref(),
            Some("How many?\nOf all.")
        );
        let older = r#"[{"role": "user", "content": "Hello"}]"#;
        assert_eq!(prompt(&messages(older)).as_deref(), Some("Hello"));
        let parts = r#"[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]"#;
        assert_eq!(prompt(&messages(parts)).as_deref(), Some("Hi"));
        let without_user = r#"{"role": "system", "parts": [{"type": "text", "content": "Go."}]}"#;
        assert_eq!(prompt(&messages(without_user)).as_deref(), Some("Go."));
        for text in ["How many?", "3", r#"{"total": 3}"#, r#"[{"content": "x"}]"#] {
            assert!(matches!(Said::of(text), Said::Text), "{text}");
        }
        let long = format!("[\"{}\"]", "x".repeat(READ_BYTES));
        assert!(matches!(Said::of(&long), Said::Unread));
    }

    #[test]
    fn answer_is_the_text_of_all_messages_without_calls_of_tools() {
        let json = r#"[{"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "Three."}], "finish_reason": "stop"}]"#;
        assert_eq!(answer(&messages(json)).as_deref(), Some("Three."));
        let call = r#"[{"role": "assistant", "parts": [{"type": "tool_call", "name": "run"}]}]"#;
        assert_eq!(answer(&messages(call)), None);
        assert_eq!(calls(&messages(call)).as_deref(), Some(r#"["run"]"#));
        assert_eq!(calls(&messages(json)), None);
    }
}
