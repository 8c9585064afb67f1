//! JSON as Postgres writes a `jsonb`, so that what is hashed before it is sent is what is read later.
//!
//! Members are in the order of their names' lengths, then of their bytes; numbers are decimal, with the digits behind the point
//! that they were given with and without an exponent; a blank follows each comma and colon (`jsonb_out`, `numeric_out` and
//! `escape_json` in Postgres 15 to 18).

use serde_json::{Map, Value};

/// Returns an object as `jsonb::text` gives it. No text in it has a NUL.
pub(crate) fn text(object: &Map<String, Value>) -> String {
    let mut out = String::new();
    write_object(&mut out, object);
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(is_true) => out.push_str(if *is_true { "true" } else { "false" }),
        Value::Number(number) => write_number(out, &number.to_string()),
        Value::String(text) => write_text(out, text),
        Value::Array(elements) => {
            out.push('[');
            for (place, element) in elements.iter().enumerate() {
                if place > 0 {
                    out.push_str(", ");
                }
                write_value(out, element);
            }
            out.push(']');
        }
        Value::Object(object) => write_object(out, object),
    }
}

fn write_object(out: &mut String, object: &Map<String, Value>) {
    let mut members: Vec<_> = object.iter().collect();
    members.sort_unstable_by_key(|(name, _)| (name.len(), name.as_bytes()));
    out.push('{');
    for (place, (name, value)) in members.into_iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        write_text(out, name);
        out.push_str(": ");
        write_value(out, value);
    }
    out.push('}');
}

/// The escapes are those of `serde_json`.
fn write_text(out: &mut String, text: &str) {
    if let Ok(quoted) = serde_json::to_string(text) {
        out.push_str(&quoted);
    }
}

/// Writes a number of JSON, such as `-1.5e-7`, as a `numeric`.
fn write_number(out: &mut String, json: &str) {
    if !json.contains(['.', 'e', 'E']) {
        out.push_str(json);
        return;
    }
    let (mantissa, exponent) = json.split_once(['e', 'E']).unwrap_or((json, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    // A numeric has no negative zero.
    if digits.bytes().any(|digit| digit != b'0') {
        out.push_str(sign);
    }
    // Where the point stands among the digits, and how many follow it.
    let point = i64::try_from(whole.len()).unwrap_or(i64::MAX) + exponent;
    let scale = (i64::try_from(fraction.len()).unwrap_or(i64::MAX) - exponent).max(0);
    let digit = |place: i64| match usize::try_from(place) {
        Ok(place) => digits
            .as_bytes()
            .get(place)
            .map_or('0', |digit| char::from(*digit)),
        Err(_) => '0',
    };
    let mut is_leading = true;
    for place in 0..point {
        is_leading &= digit(place) == '0' && place + 1 < point;
        if !is_leading {
            out.push(digit(place));
        }
    }
    if point <= 0 {
        out.push('0');
    }
    if scale > 0 {
        out.push('.');
        out.extend((point..point + scale).map(digit));
    }
}

#[cfg(test)]
#[path = "jsonb_tests.rs"]
mod tests;
