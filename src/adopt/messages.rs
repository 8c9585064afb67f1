//! The text in the messages of a model call, as OpenTelemetry's conventions write them.

use serde_json::Value;

/// The longest JSON that is read.
const READ_BYTES: usize = 4 << 20;

/// Returns the text of the user's last message, or of the last message of all if the user said
/// nothing.
pub(super) fn prompt(json: &str) -> Option<String> {
    let messages = messages(json)?;
    let texts = || {
        messages
            .iter()
            .rev()
            .map(|message| (role(message), text(message)))
    };
    let of_user = texts().find(|(role, text)| *role == "user" && !text.is_empty());
    let of_anyone = || texts().find(|(_, text)| !text.is_empty());
    of_user.or_else(of_anyone).map(|(_, text)| text)
}

/// Returns the text of the answer.
pub(super) fn answer(json: &str) -> Option<String> {
    let texts: Vec<_> = messages(json)?
        .iter()
        .map(text)
        .filter(|text| !text.is_empty())
        .collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// Returns the names of the tools that the model asks for, as a JSON list; `None`: it asks for none.
pub(super) fn calls(json: &str) -> Option<String> {
    let messages = messages(json)?;
    let parts = messages
        .iter()
        .filter_map(|message| message["parts"].as_array())
        .flatten();
    let calls = parts.filter(|part| part["type"] == "tool_call");
    let names: Vec<_> = calls.map(|call| call["name"].clone()).collect();
    (!names.is_empty()).then(|| Value::Array(names).to_string())
}

/// Returns whether these are messages.
pub(super) fn are(json: &str) -> bool {
    messages(json).is_some()
}

/// Returns whether the text is JSON.
pub(super) fn is_json(text: &str) -> bool {
    text.len() <= READ_BYTES && serde_json::from_str::<Value>(text).is_ok()
}

/// `None`: these are no messages.
fn messages(json: &str) -> Option<Vec<Value>> {
    if json.len() > READ_BYTES {
        // Rather nothing of it than its beginning, which is somebody else's.
        return json.starts_with(['[', '{']).then(Vec::new);
    }
    let messages = match serde_json::from_str(json).ok()? {
        Value::Array(messages) => messages,
        message @ Value::Object(_) => vec![message],
        _ => return None,
    };
    // An answer may be JSON as well.
    let are = messages.iter().all(|message| message["role"].is_string());
    are.then_some(messages)
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

    #[test]
    fn prompt_is_the_text_of_the_users_last_message() {
        let json = r#"[
            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
            {"role": "user", "parts": [{"type": "text", "content": "How many?"}, {"type": "text", "content": "Of all."}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "name": "run", "arguments": {}}]},
            {"role": "user", "parts": [{"type": "tool_call_response", "response": "3"}]}
        ]"#;
        assert_eq!(prompt(json).as_deref(), Some("How many?\nOf all."));
        let older = r#"[{"role": "user", "content": "Hello"}]"#;
        assert_eq!(prompt(older).as_deref(), Some("Hello"));
        let parts = r#"[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]"#;
        assert_eq!(prompt(parts).as_deref(), Some("Hi"));
        let without_user = r#"{"role": "system", "parts": [{"type": "text", "content": "Go."}]}"#;
        assert_eq!(prompt(without_user).as_deref(), Some("Go."));
        assert_eq!(prompt("How many?"), None);
        assert!(!are(r#"{"total": 3}"#) && !are(r#"[{"content": "x"}]"#) && are("[]"));
        assert_eq!(prompt("3"), None);
    }

    #[test]
    fn answer_is_the_text_of_all_messages_without_calls_of_tools() {
        let json = r#"[{"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "Three."}], "finish_reason": "stop"}]"#;
        assert_eq!(answer(json).as_deref(), Some("Three."));
        let call = r#"[{"role": "assistant", "parts": [{"type": "tool_call", "name": "run"}]}]"#;
        assert_eq!(answer(call), None);
        assert_eq!(calls(call).as_deref(), Some(r#"["run"]"#));
        assert_eq!(calls(json), None);
    }
}
