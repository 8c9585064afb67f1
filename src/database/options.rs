//! The session settings in the parameter `options`.

use super::error::{UrlError, refused};

/// Returns a setting as a part of `options`.
pub(super) fn setting_option(setting: &str, value: &str) -> String {
    let mut option = format!("-c {setting}=");
    for c in value.chars() {
        if c == '\\' || c.is_whitespace() {
            option.push('\\');
        }
        option.push(c);
    }
    option
}

/// Returns the settings in `options`: `-c name=value`, `-cname=value` and `--name=value`, with a
/// backslash before a blank that is part of a value.
pub(super) fn settings(said: &str) -> Result<Vec<(String, String)>, UrlError> {
    let not_settings = || {
        refused(
            "options",
            "may hold settings alone: -c name=value or --name=value",
        )
    };
    let mut settings = Vec::new();
    let mut words = words(said).into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            let setting = word.strip_prefix("--").or_else(|| word.strip_prefix("-c"));
            setting.map(String::from)
        };
        let setting = setting.ok_or_else(not_settings)?;
        let (name, value) = setting.split_once('=').ok_or_else(not_settings)?;
        settings.push((String::from(name), String::from(value)));
    }
    Ok(settings)
}

fn words(said: &str) -> Vec<String> {
    let (mut words, mut word, mut chars) = (Vec::new(), None::<String>, said.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
