//! Converts a value to the type of a column, or to the nearest that there is.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::debug_text::{self, Found, Wrappers};
use super::decode::Value;
use super::id::parse_uuid;
use crate::vocabulary::{Field, FieldType};

/// Replaces a NUL, which Postgres can store neither in text nor in jsonb.
pub(super) const NUL_REPLACEMENT: &str = "\u{fffd}";

pub(crate) fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', NUL_REPLACEMENT))
    } else {
        Cow::Borrowed(text)
    }
}

/// Returns whether a text of JSON has the same numbers once it is parsed: one that is no 64-bit
/// integer becomes the nearest one of floating point. Takes as long as the text is, whatever is in it.
pub(super) fn keeps_numbers(json: &str) -> bool {
    let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let mut rest = json;
    while let Some(at) = rest.find(|c: char| matches!(c, '"' | '-') || c.is_ascii_digit()) {
        rest = &rest[at..];
        if let Some(text) = rest.strip_prefix('"') {
            rest = after_text(text);
            continue;
        }
        let end = rest.find(|c| !is_of_number(c)).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if !is_kept(number) {
            return false;
        }
        rest = after;
    }
    true
}

/// Returns what follows a text of JSON, given from behind its first quote.
fn after_text(text: &str) -> &str {
    let mut is_escaped = false;
    let end = text.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    end.map_or("", |end| &text[end + 1..])
}

/// Returns whether a number of JSON is the same once it is parsed.
fn is_kept(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    let parsed = number.parse().ok().and_then(serde_json::Number::from_f64);
    parsed.is_some_and(|parsed| {
        let given = digits(number);
        given.is_some() && given == digits(&parsed.to_string())
    })
}

/// Returns the digits of a number of JSON, without zeros at either end, and the exponent of the last.
fn digits(number: &str) -> Option<(String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole.trim_start_matches('-'), fraction].concat();
    let kept = all.trim_end_matches('0');
    let zeros = i64::try_from(all.len() - kept.len()).ok()?;
    let exponent: i64 = exponent.parse().ok()?;
    let exponent = exponent.checked_add(zeros)?;
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let kept = kept.trim_start_matches('0').to_owned();
    Some(if kept.is_empty() {
        (kept, 0)
    } else {
        (kept, exponent)
    })
}

/// Returns the bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

pub(super) fn json_without_nul(value: serde_json::Value) -> (serde_json::Value, bool) {
    use serde_json::Value as Json;
    match value {
        Json::String(text) if text.contains('\0') => {
            (Json::String(without_nul(&text).into_owned()), true)
        }
        Json::Array(values) => {
            let mut replaced = false;
            let values = values
                .into_iter()
                .map(|value| {
                    let (value, inner) = json_without_nul(value);
                    replaced |= inner;
                    value
                })
                .collect();
            (Json::Array(values), replaced)
        }
        Json::Object(object) => {
            let mut replaced = false;
            let object = object
                .into_iter()
                .map(|(name, value)| {
                    let (value, inner) = json_without_nul(value);
                    replaced |= inner || name.contains('\0');
                    (without_nul(&name).into_owned(), value)
                })
                .collect();
            (Json::Object(object), replaced)
        }
        other => (other, false),
    }
}

/// Returns the value as text, as a person would write it.
pub(super) fn as_text(value: Value<'_>) -> Cow<'_, str> {
    match value {
        Value::Text(text) | Value::Debug(text) | Value::Json(text) => Cow::Borrowed(text),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes),
        Value::I64(n) => n.to_string().into(),
        Value::U64(n) => n.to_string().into(),
        Value::I128(n) => n.to_string().into(),
        Value::U128(n) => n.to_string().into(),
        Value::F64(n) => n.to_string().into(),
        Value::Bool(b) => b.to_string().into(),
        Value::Uuid(id) => id.to_string().into(),
        Value::Cut { .. } | Value::FormatFailed | Value::Dropped | Value::Stopped { .. } => {
            Cow::Borrowed("")
        }
    }
}

/// Returns the value as JSON of the same type, or the nearest value and what was lost.
pub(super) fn json(
    value: Value<'_>,
) -> Result<serde_json::Value, (serde_json::Value, &'static str)> {
    Ok(match value {
        Value::I64(n) => n.into(),
        Value::U64(n) => n.into(),
        Value::Bool(b) => b.into(),
        Value::I128(n) => match i64::try_from(n) {
            Ok(n) => n.into(),
            Err(_) => return Err((n.to_string().into(), "a number of 128 bits, kept as text")),
        },
        Value::U128(n) => match u64::try_from(n) {
            Ok(n) => n.into(),
            Err(_) => return Err((n.to_string().into(), "a number of 128 bits, kept as text")),
        },
        Value::F64(n) => match serde_json::Number::from_f64(n) {
            Some(number) => serde_json::Value::Number(number),
            None => return Err((n.to_string().into(), "not a finite number, kept as text")),
        },
        Value::Json(text) => match serde_json::from_str(text) {
            Ok(value) => value,
            Err(_) => return Err((text.into(), "not JSON, kept as text")),
        },
        Value::Bytes(bytes) => {
            if let Ok(text) = std::str::from_utf8(bytes) {
                text.into()
            } else {
                let hex = format!("\\x{}", hex(bytes));
                return Err((hex.into(), "not UTF-8, kept as hexadecimal digits"));
            }
        }
        other => as_text(other).into(),
    })
}

/// Returns text without the `Some(…)` and the quotes that a `Debug` implementation writes around a
/// value. Only for columns where the meaning is certain: text may well begin and end with a quote.
pub(super) fn unwrapped(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value {
        Value::Debug(text) => match debug_text::find(text, Wrappers::Option) {
            Found::Key(key) => Some(key),
            Found::Nothing | Found::Error | Found::Other => Some(Cow::Borrowed(text)),
        },
        _ => plain(value),
    }
}

/// Returns a value that was recorded as text.
fn plain(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(text) | Value::Json(text) => Some(Cow::Borrowed(text)),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        _ => None,
    }
}

/// The problem of a key that looks like a struct in which no key can be found.
pub(super) const NOT_A_KEY: &str =
    "looks like a Debug text, kept as it is: record the key itself, as text or with %";

/// Returns the wrappers in a `Debug` text that add nothing to the field's value.
fn wrappers(field: Field) -> Wrappers {
    match field.field_type() {
        _ if field.names_something() || field == Field::TenantId => Wrappers::Key(field),
        FieldType::Uuid | FieldType::Int => Wrappers::Any,
        _ => Wrappers::Option,
    }
}

/// Returns the key in a field's value, without what a `Debug` implementation writes around it, and
/// what is doubtful about it.
pub(crate) fn key(field: Field, value: Value<'_>) -> (Cow<'_, str>, Option<&'static str>) {
    match value {
        Value::Debug(text) => match debug_text::find(text, wrappers(field)) {
            Found::Key(key) => {
                let doubt = is_of_no_key(text).then_some(NOT_A_KEY);
                (key, doubt)
            }
            Found::Nothing | Found::Error | Found::Other => (Cow::Borrowed(text), Some(NOT_A_KEY)),
        },
        Value::Text(text) => {
            let doubt = debug_text::is_wrapped_key(text).then_some(NOT_A_KEY);
            (Cow::Borrowed(text), doubt)
        }
        _ => (as_text(value), None),
    }
}

/// Returns whether the text is the `Debug` output of bytes, of a character, or of a hidden header
/// value.
fn is_of_no_key(text: &str) -> bool {
    let is_within = |start, end| text.len() > 2 && text.starts_with(start) && text.ends_with(end);
    is_within("b\"", "\"") || is_within("'", "'") || text == "Sensitive"
}

/// Returns whether this is the `Debug` output of an `Option` without a value, alone or in structs
/// of one field whose names say no more than the field's.
pub(crate) fn is_none(field: Field, value: Value<'_>) -> bool {
    match value {
        Value::Debug(text) => debug_text::find(text, wrappers(field)) == Found::Nothing,
        _ => false,
    }
}

/// Returns whether this is the `Debug` output of a `Result` without a value.
pub(super) fn is_error(field: Field, value: Value<'_>) -> bool {
    match value {
        Value::Debug(text) => debug_text::find(text, wrappers(field)) == Found::Error,
        _ => false,
    }
}

pub(super) fn int(field: Field, value: Value<'_>) -> Result<Option<i32>, &'static str> {
    const RANGE: &str = "out of range for an integer";
    const TYPE: &str = "not an integer";
    match value {
        Value::I64(n) => i32::try_from(n).map(Some).map_err(|_| RANGE),
        Value::U64(n) => i32::try_from(n).map(Some).map_err(|_| RANGE),
        Value::I128(n) => i32::try_from(n).map(Some).map_err(|_| RANGE),
        Value::U128(n) => i32::try_from(n).map(Some).map_err(|_| RANGE),
        Value::F64(n) if n.fract() == 0.0 => {
            let range = f64::from(i32::MIN)..=f64::from(i32::MAX);
            // INVARIANT: a whole number within the range of i32 is an i32.
            #[allow(clippy::cast_possible_truncation)]
            if range.contains(&n) {
                Ok(Some(n as i32))
            } else {
                Err(RANGE)
            }
        }
        _ if is_none(field, value) => Ok(None),
        _ => {
            let text = match value {
                Value::Debug(_) => key(field, value).0,
                _ => plain(value).ok_or(TYPE)?,
            };
            match text.trim().parse::<i128>() {
                Ok(n) => i32::try_from(n).map(Some).map_err(|_| RANGE),
                Err(_) => Err(TYPE),
            }
        }
    }
}

/// The tenant that a value names.
#[derive(Debug)]
pub(super) enum Tenant<'a> {
    /// No tenant.
    None,
    Uuid(Uuid),
    /// The key of a tenant, and what is doubtful about the key.
    Key(Cow<'a, str>, Option<&'static str>),
    /// A text from which no tenant can be derived, and why: others may have the same text.
    NoKey(Cow<'a, str>, &'static str),
}

impl Tenant<'_> {
    pub(super) fn id(&self) -> Option<Uuid> {
        match self {
            Tenant::Uuid(id) => Some(*id),
            Tenant::Key(key, _) => Some(tenant_uuid(key)),
            Tenant::None | Tenant::NoKey(..) => None,
        }
    }
}

/// Returns the tenant that a value names.
pub(super) fn tenant(value: Value<'_>) -> Tenant<'_> {
    const FIELD: Field = Field::TenantId;
    if let Value::Uuid(id) = value {
        return Tenant::Uuid(id);
    }
    if is_none(FIELD, value) {
        return Tenant::None;
    }
    let (key, doubt) = key(FIELD, value);
    if key.is_empty() {
        Tenant::NoKey(key, "empty")
    } else if is_error(FIELD, value) {
        Tenant::NoKey(key, "an error, no tenant")
    } else if matches!(value, Value::Bytes(bytes) if std::str::from_utf8(bytes).is_err()) {
        Tenant::NoKey(key, "not UTF-8, no tenant")
    } else if key.contains('\0') {
        // Postgres cannot receive a NUL to compute the same tenant from.
        Tenant::NoKey(key, "has a NUL, no tenant")
    } else if let Some(id) = parse_uuid(&key) {
        Tenant::Uuid(id)
    } else {
        Tenant::Key(key, doubt)
    }
}

/// Computes the tenant id of a key that is not a UUID: the `UUIDv8` (RFC 9562, section 5.8) of
/// `sha256("tenant:" || key)`. The SQL function `audit.tenant_uuid` computes the same.
pub(crate) fn tenant_uuid(key: &str) -> Uuid {
    let hash = Sha256::new()
        .chain_update("tenant:")
        .chain_update(key.as_bytes())
        .finalize();
    uuid::Builder::from_custom_bytes(first_16(&hash)).into_uuid()
}

pub(super) fn first_16(hash: &[u8]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&hash[..16]);
    first
}

/// Returns the trace and the span that a W3C `traceparent` of version 00 or later names.
pub(crate) fn traceparent(text: &str) -> Option<([u8; 16], [u8; 8])> {
    let mut parts = text.trim().split('-');
    let (version, trace_id, span_id, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, len: usize| {
        part.len() == len
            && part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let valid = hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && hex(trace_id, 32)
        && hex(span_id, 16)
        && hex(flags, 2);
    if !valid {
        return None;
    }
    let trace_id = u128::from_str_radix(trace_id, 16).ok()?;
    let span_id = u64::from_str_radix(span_id, 16).ok()?;
    (trace_id != 0 && span_id != 0).then(|| (trace_id.to_be_bytes(), span_id.to_be_bytes()))
}
