//! The key in what a `Debug` implementation wrote: `acme` in `Some(TenantId("acme"))`.
//!
//! `?value` in a span records such text, and `%value` records text that cannot be told from it.
//! Taken as it stands, `TenantId("acme")` would be another tenant than `acme`.

use std::borrow::Cow;

use super::coerce::parse_uuid;

/// Whose parentheses are taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrappers {
    /// `Some(…)` only: what else stands in parentheses may say something of its own, as the
    /// variant of an error does.
    Option,
    /// A struct, a variant or a tuple with one field, however many there are within each other.
    /// A `PhantomData` is no field.
    Any,
}

/// What a text holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// `None`.
    Nothing,
    Key(Cow<'a, str>),
    /// It is written as a struct, a tuple, a list or a map is, and has no key or several.
    Other,
}

/// Structs within each other that are looked into.
const MAX_DEPTH: usize = 8;

/// Finds the key in a text that a `Debug` or a `Display` implementation wrote.
pub(super) fn find(text: &str, wrappers: Wrappers) -> Found<'_> {
    // Most values.
    if !text.contains(['(', '{', '[', '"']) && text != "None" {
        return Found::Key(Cow::Borrowed(text));
    }
    match wrappers {
        Wrappers::Option => {
            let inner = some(text).unwrap_or(text);
            match string(inner) {
                _ if inner == "None" => Found::Nothing,
                Some(key) => Found::Key(key),
                None => Found::Key(Cow::Borrowed(inner)),
            }
        }
        Wrappers::Any => match innermost(text) {
            Some(found) => found,
            None if is_structure(text) => Found::Other,
            None => Found::Key(Cow::Borrowed(text)),
        },
    }
}

/// Whether a text that was said as text is what a `Debug` implementation writes around a key.
pub(super) fn is_wrapped_key(text: &str) -> bool {
    text.ends_with([')', '}'])
        && matches!(innermost(text), Some(Found::Key(key)) if !key.is_empty() && *key != *text)
}

fn some(text: &str) -> Option<&str> {
    text.strip_prefix("Some(")?.strip_suffix(')')
}

/// `None`: it is not written as a value with one field is.
fn innermost(text: &str) -> Option<Found<'_>> {
    let mut text = text.trim();
    let mut is_named_as_types_are = true;
    for depth in 0..MAX_DEPTH {
        if text == "None" {
            return Some(Found::Nothing);
        }
        if text.starts_with('"') {
            return string(text).map(Found::Key);
        }
        let Some((name, fields)) = wrapper(text) else {
            // A number, or the `Display` that a `Debug` forwards to. `ACME(42)` is more likely a
            // key of its own than a type's Debug.
            let is_key = depth > 0
                && (parse_uuid(text).is_some() || is_token(text) && is_named_as_types_are);
            return is_key.then_some(Found::Key(Cow::Borrowed(text)));
        };
        is_named_as_types_are &= name.is_empty() || name.contains(char::is_lowercase);
        let mut fields = fields?.into_iter().filter(|field| !is_phantom(field));
        text = fields.next()?;
        if fields.next().is_some() {
            return None;
        }
    }
    None
}

fn is_phantom(field: &str) -> bool {
    field == "PhantomData" || field.starts_with("PhantomData<")
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@'))
}

/// The name and the fields' values of a struct or a tuple; `Some((_, None))`: written as one, but
/// not in full.
#[allow(clippy::type_complexity, reason = "read where it is made")]
fn wrapper(text: &str) -> Option<(&str, Option<Vec<&str>>)> {
    let name_len = text
        // Also of a type with parameters, as `SecretBox<str>`.
        .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '<' | '>' | ':')))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(name_len);
    if name.starts_with(|c: char| c.is_numeric()) {
        return None;
    }
    if let Some(inner) = rest.strip_prefix('(') {
        return Some((name, inner.strip_suffix(')').and_then(split)));
    }
    let inner = rest.strip_prefix(" {")?;
    // As Debug writes it, in a line or in several.
    if name.is_empty() || !inner.starts_with([' ', '\n']) {
        return None;
    }
    let values = inner.strip_suffix('}').and_then(split).and_then(|fields| {
        fields
            .into_iter()
            .map(|field| field.split_once(':').map(|(_, value)| value.trim()))
            .collect()
    });
    Some((name, values))
}

/// The parts between the commas that stand in no parentheses and no string.
fn split(inner: &str) -> Option<Vec<&str>> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0_u32);
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.checked_sub(1)?,
            '"' => loop {
                match chars.next()?.1 {
                    '\\' => drop(chars.next()?),
                    '"' => break,
                    _ => {}
                }
            },
            ',' if depth == 0 => {
                parts.push(inner[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    let last = inner[from..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    (depth == 0).then_some(parts)
}

/// The text that this is the `Debug` of: `a"b` of `"a\"b"`. `None`: it is of none.
fn string(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains(['\\', '"']) {
        return Some(Cow::Borrowed(inner));
    }
    let mut read = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => read.push(match chars.next()? {
                c @ ('"' | '\'' | '\\') => c,
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let (digits, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
                    chars = rest.chars();
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                _ => return None,
            }),
            c => read.push(c),
        }
    }
    Some(Cow::Owned(read))
}

/// Whether a text is written as a struct, a tuple, a list or a map is.
fn is_structure(text: &str) -> bool {
    let text = text.trim();
    text.ends_with([')', '}', ']']) && (text.starts_with(['[', '{']) || wrapper(text).is_some())
}

#[cfg(test)]
#[path = "debug_text_tests.rs"]
mod tests;
