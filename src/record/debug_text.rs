//! Finds the key in the output of a `Debug` implementation: `acme` in `Some(TenantId("acme"))`.
//!
//! `?value` in a span records such text. Taken literally, `TenantId("acme")` would be another
//! tenant than `acme`. `%value` records text that is the key itself, whatever it looks like:
//! `capture` distinguishes the two, and writes an entry of `Debug` text only for the former.
//!
//! A variant's name has a meaning of its own: `Internal("acme")` and `External("acme")` are two
//! tenants. Text does not show whether a name is a variant's or a struct's. So a wrapper is removed
//! only if its name says no more than the field's, as `Tenant` says no more than `tenant_id`, or if
//! it names a key, as `OrgId` does.

use std::borrow::Cow;

use super::id::parse_uuid;
use crate::vocabulary::Field;

/// The wrappers that are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrappers {
    /// `Some(…)` only: any other name may have a meaning of its own, as the variant of an error
    /// does.
    Option,
    /// Tuples, and structs with one field whose name says no more than that of the key's field;
    /// nested ones too. A `PhantomData` does not count as a field.
    Key(Field),
    /// The same with any name: for numbers and UUIDs.
    Any,
}

/// What a text holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// `None`.
    Nothing,
    Key(Cow<'a, str>),
    /// `Err(…)`: there is no key.
    Error,
    /// The text is written like a struct, a variant, a list or a map, and has no key, several, or
    /// one that is not all that it says.
    Other,
}

/// The greatest depth of nested structs that is searched.
const MAX_DEPTH: usize = 8;

/// Finds the key in a text that a `Debug` implementation wrote.
pub(super) fn find(text: &str, wrappers: Wrappers) -> Found<'_> {
    // The case of most values.
    if !may_have_wrappers(text) {
        return Found::Key(Cow::Borrowed(text));
    }
    if wrappers == Wrappers::Option {
        let inner = some(text).unwrap_or(text);
        return match string(inner) {
            _ if inner == "None" => Found::Nothing,
            Some(key) => Found::Key(key),
            None => Found::Key(Cow::Borrowed(inner)),
        };
    }
    let (mut says_no_more, mut is_error) = (true, false);
    let inner = innermost(text, |name| {
        is_error |= name == "Err";
        says_no_more &= match wrappers {
            Wrappers::Key(field) => says_no_more_than(name, field),
            _ => true,
        };
    });
    let key = match inner {
        _ if is_error => return Found::Error,
        Some(Inner { text: "None", .. }) if says_no_more => return Found::Nothing,
        Some(Inner { text, .. }) if text.starts_with('"') => string(text),
        // A number, or the `Display` that a `Debug` forwards to.
        Some(Inner { text, depth: 1.. }) => {
            (is_token(text) || parse_uuid(text).is_some()).then_some(Cow::Borrowed(text))
        }
        _ => None,
    };
    match key {
        Some(key) if says_no_more || parse_uuid(&key).is_some() => Found::Key(key),
        Some(_) => Found::Other,
        None if is_structure(text) => Found::Other,
        None => Found::Key(Cow::Borrowed(text)),
    }
}

fn may_have_wrappers(text: &str) -> bool {
    text.contains(['(', '{', '[', '"']) || text == "None"
}

/// Returns whether a text that was recorded as text looks like a key in the output of a `Debug`
/// implementation.
pub(super) fn is_wrapped_key(text: &str) -> bool {
    if !text.ends_with([')', '}']) {
        return false;
    }
    // `ACME(42)` is more likely itself a key.
    let mut is_named_as_types_are = true;
    let inner = innermost(text, |name| {
        is_named_as_types_are &= name.is_empty() || name.contains(char::is_lowercase);
    });
    match inner {
        Some(Inner { text: "None", .. } | Inner { depth: 0, .. }) | None => false,
        Some(Inner { text, .. }) if text.starts_with('"') => {
            string(text).is_some_and(|key| !key.is_empty())
        }
        Some(Inner { text, .. }) => {
            parse_uuid(text).is_some() || is_token(text) && is_named_as_types_are
        }
    }
}

/// What must be known about a text before anything is removed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing would be removed.
    None,
    /// Whether the text is the `None` of an `Option`.
    IsNone,
    /// Whether the formatting made this many nested structs, and the quote at this position.
    Made {
        structs: usize,
        quote_at: Option<usize>,
    },
}

/// Returns what is in doubt about a text that may be a value's `Debug` or its `Display` output.
pub(crate) fn doubt(text: &str) -> Doubt {
    if !may_have_wrappers(text) {
        return Doubt::None;
    }
    let inner = innermost(text, |_| ()).or_else(|| {
        // A code or a role loses only `Some(…)`, not all wrappers of a key.
        let text = some(text)?;
        Some(Inner { text, depth: 1 })
    });
    let Some(Inner { text: key, depth }) = inner else {
        return Doubt::None;
    };
    let is_quoted = key.starts_with('"');
    match depth {
        0 if key == "None" => Doubt::IsNone,
        0 if !is_quoted => Doubt::None,
        // Any other text is kept as it is.
        _ if is_quoted || is_token(key) || parse_uuid(key).is_some() || some(text).is_some() => {
            Doubt::Made {
                structs: depth,
                quote_at: is_quoted.then(|| key.as_ptr().addr() - text.as_ptr().addr()),
            }
        }
        _ => Doubt::None,
    }
}

fn some(text: &str) -> Option<&str> {
    text.strip_prefix("Some(")?.strip_suffix(')')
}

/// Structs of the standard library that hold one value, and say nothing about it.
const HOLDERS: &[&str] = &[
    "Some",
    "Ok",
    "Cell",
    "RefCell",
    "OnceCell",
    "OnceLock",
    "LazyCell",
    "LazyLock",
    "Reverse",
    "Saturating",
    "Wrapping",
    "ManuallyDrop",
    "AssertUnwindSafe",
];

/// The endings of a struct's name that mark it as the key of something.
const KEYS: &[&str] = &["Id", "ID", "Key", "Uuid", "UUID", "Guid"];

/// Returns whether a struct of this name around a field's value says no more than the field's name.
fn says_no_more_than(name: &str, field: Field) -> bool {
    let of = name.rsplit("::").next().unwrap_or(name);
    let of = of.split('<').next().unwrap_or(of);
    let noun = field.name().trim_end_matches("_id");
    of.is_empty()
        || KEYS.iter().any(|key| of.ends_with(key))
        || of.eq_ignore_ascii_case(noun)
        || HOLDERS.contains(&name)
}

/// A text inside `depth` nested structs of one field.
#[derive(Clone, Copy, Debug)]
struct Inner<'a> {
    text: &'a str,
    depth: usize,
}

/// Unwraps nested structs of one field, and calls `see` with their names. `None`: one of them has
/// no field or several.
fn innermost(text: &str, mut see: impl FnMut(&str)) -> Option<Inner<'_>> {
    let mut text = text.trim();
    for depth in 0..MAX_DEPTH {
        let wrapper = (text != "None" && !text.starts_with('"'))
            .then(|| wrapper(text))
            .flatten();
        let Some((name, field)) = wrapper else {
            return Some(Inner { text, depth });
        };
        see(name);
        text = field?;
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

/// Returns the name and the only field of a struct or a tuple. `Some((_, None))`: it is written
/// like one, but is incomplete, or has no field or several.
fn wrapper(text: &str) -> Option<(&str, Option<&str>)> {
    let name_len = text
        // The name may have type parameters, as in `SecretBox<str>`.
        .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '<' | '>' | ':')))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(name_len);
    if name.starts_with(|c: char| c.is_numeric()) {
        return None;
    }
    if let Some(inner) = rest.strip_prefix('(') {
        return Some((name, inner.strip_suffix(')').and_then(only)));
    }
    let inner = rest.strip_prefix(" {")?;
    // As `Debug` writes it, on one line or on several.
    if name.is_empty() || !inner.starts_with([' ', '\n']) {
        return None;
    }
    let field = inner.strip_suffix('}').and_then(only);
    let value = field.and_then(|field| field.split_once(':'));
    Some((name, value.map(|(_, value)| value.trim())))
}

/// Returns the only part between commas outside of parentheses and strings, apart from
/// `PhantomData`.
fn only(inner: &str) -> Option<&str> {
    /// Returns `None` if it is the second part.
    fn take<'a>(found: &mut Option<&'a str>, part: &'a str) -> Option<()> {
        let part = part.trim();
        let value = part.split_once(": ").map_or(part, |(_, value)| value);
        (is_phantom(value) || found.replace(part).is_none()).then_some(())
    }
    let (mut found, mut from, mut depth, mut angles) = (None, 0, 0_u32, 0_u32);
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.checked_sub(1)?,
            // Opens type parameters only after `PhantomData`; elsewhere it may be anything.
            '<' if angles > 0 || inner[from..at].ends_with("PhantomData") => angles += 1,
            '>' => angles = angles.saturating_sub(1),
            '"' => loop {
                match chars.next()?.1 {
                    '\\' => drop(chars.next()?),
                    '"' => break,
                    _ => {}
                }
            },
            ',' if depth == 0 && angles == 0 => {
                take(&mut found, &inner[from..at])?;
                from = at + 1;
            }
            _ => {}
        }
    }
    if !inner[from..].trim().is_empty() {
        take(&mut found, &inner[from..])?;
    }
    if depth == 0 { found } else { None }
}

/// Returns the text whose `Debug` output this is: `a"b` for `"a\"b"`. `None`: it is not the output
/// of a text.
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

/// Returns whether a text is written like a struct, a tuple, a list or a map.
fn is_structure(text: &str) -> bool {
    let text = text.trim();
    text.ends_with([')', '}', ']']) && (text.starts_with(['[', '{']) || wrapper(text).is_some())
}

#[cfg(test)]
#[path = "debug_text_tests.rs"]
mod tests;
