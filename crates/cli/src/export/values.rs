//! The values of a record as Postgres sends them, and their text.

use std::fmt::Write as _;

use sqlx::types::Uuid;
use tracing_audit::__program::Table;

use super::columns::{self, COLUMN_COUNT, COLUMNS, Column, Type};

/// 2000-01-01, in microseconds since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;

/// The microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// A record: each column as Postgres sent it, `None` for NULL.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) table: Table,
    pub(crate) fields: [Option<&'a [u8]>; COLUMN_COUNT],
    /// Why its texts could not be read, if so.
    pub(crate) unread: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// Returns its id.
    pub(crate) fn id(&self) -> Uuid {
        self.uuid(columns::ID).unwrap_or_default()
    }

    /// Returns the value of a column.
    pub(crate) fn field(&self, column: usize) -> Option<&'a [u8]> {
        self.fields.get(column).copied().flatten()
    }

    /// Returns a column with a text.
    pub(crate) fn text(&self, column: usize) -> Option<&'a str> {
        std::str::from_utf8(self.field(column)?).ok()
    }

    /// Returns a column with a whole number.
    pub(crate) fn number(&self, column: usize) -> Option<i64> {
        number(self.field(column)?)
    }

    /// Returns a column with a UUID.
    pub(crate) fn uuid(&self, column: usize) -> Option<Uuid> {
        Uuid::from_slice(self.field(column)?).ok()
    }

    /// Returns a column with a time, in microseconds since 1970.
    pub(crate) fn time_us(&self, column: usize) -> Option<i64> {
        self.number(column)?.checked_add(EPOCH_US)
    }

    /// Returns when it began, in microseconds since 1970.
    pub(crate) fn began_us(&self) -> Option<i64> {
        self.time_us(columns::STARTED_AT)
            .or_else(|| self.time_us(columns::CREATED_AT))
    }

    /// Returns the JSON text of its metadata.
    pub(crate) fn metadata(&self) -> &'a str {
        self.field(columns::METADATA)
            .and_then(|image| std::str::from_utf8(json(image)).ok())
            .unwrap_or("{}")
    }

    /// Returns its columns, those of its table alone, in the table's order.
    pub(crate) fn own(&self) -> impl Iterator<Item = (&'static Column, Option<&'a [u8]>)> {
        COLUMNS
            .iter()
            .zip(self.fields)
            .filter(|(column, _)| column.is_of(self.table))
    }
}

/// Reads a whole number of four or eight bytes.
pub(crate) fn number(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        4 => bytes.try_into().ok().map(i32::from_be_bytes).map(i64::from),
        8 => bytes.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    }
}

/// Returns the text of a value of type `jsonb`, behind the version of its binary format.
pub(crate) fn json(image: &[u8]) -> &[u8] {
    image.get(1..).unwrap_or_default()
}

/// Appends a number.
pub(crate) fn push_number(out: &mut Vec<u8>, bytes: &[u8]) {
    push(out, format_args!("{}", number(bytes).unwrap_or_default()));
}

/// Appends what is formatted.
pub(crate) fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    // Writing to memory does not fail.
    let _ = out.write_fmt(text);
}

/// Appends bytes as hexadecimal digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend([
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]);
    }
}

/// Appends a UUID.
pub(crate) fn push_uuid(out: &mut Vec<u8>, bytes: &[u8]) {
    match Uuid::from_slice(bytes) {
        Ok(uuid) => {
            let mut text = Uuid::encode_buffer();
            out.extend_from_slice(uuid.hyphenated().encode_lower(&mut text).as_bytes());
        }
        // Postgres sends 16 bytes.
        Err(_) => push_hex(out, bytes),
    }
}

/// Appends a time as `2026-01-31T12:00:00.123456` and a zone; without trailing zeros of the fraction.
pub(crate) fn push_time(out: &mut Vec<u8>, bytes: &[u8], zone: &str) {
    let us = number(bytes).unwrap_or_default().saturating_add(EPOCH_US);
    let (year, month, day) = date(us.div_euclid(DAY_US));
    let of_day = us.rem_euclid(DAY_US);
    let seconds = of_day / 1_000_000;
    let digits = |out: &mut Vec<u8>, number: i64, count: u32| {
        for place in (0..count).rev() {
            let digit = number / 10_i64.pow(place) % 10;
            out.push(b'0' + u8::try_from(digit).unwrap_or_default());
        }
    };
    digits(out, year, if year > 9_999 { 6 } else { 4 });
    for (before, number) in [
        (b'-', month),
        (b'-', day),
        (b'T', seconds / 3_600),
        (b':', seconds / 60 % 60),
        (b':', seconds % 60),
    ] {
        out.push(before);
        digits(out, number, 2);
    }
    let fraction = of_day % 1_000_000;
    if fraction > 0 {
        out.push(b'.');
        digits(out, fraction, 6);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.extend_from_slice(zone.as_bytes());
}

/// Returns the date of a day since 1970 in the Gregorian calendar, by the arithmetic of Howard
/// Hinnant's `civil_from_days`.
pub(crate) fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Appends a text as a JSON string, escaped as Postgres does.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut from = 0;
    for (at, byte) in text.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\x08' => b"\\b",
            b'\x0c' => b"\\f",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            ..=b'\x1f' => b"",
            _ => continue,
        };
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(escape);
        if escape.is_empty() {
            push(out, format_args!("\\u{byte:04x}"));
        }
        from = at + 1;
    }
    out.extend_from_slice(&text[from..]);
    out.push(b'"');
}

/// Appends an array of texts as JSON; one of several dimensions as arrays of arrays.
pub(crate) fn push_texts(out: &mut Vec<u8>, image: &[u8]) {
    let start = out.len();
    if append_texts(out, image).is_none() {
        out.truncate(start);
        out.extend_from_slice(b"[]");
    }
}

fn append_texts(out: &mut Vec<u8>, image: &[u8]) -> Option<()> {
    let mut rest = image;
    let dimensions = usize::try_from(take(&mut rest)?).ok()?;
    // The flags, and the type of the elements.
    take(&mut rest)?;
    take(&mut rest)?;
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(take(&mut rest)?).ok()?);
        // The least index.
        take(&mut rest)?;
    }
    if lengths.is_empty() {
        out.extend_from_slice(b"[]");
        return Some(());
    }
    append_dimension(out, &lengths, &mut rest)
}

fn append_dimension(out: &mut Vec<u8>, lengths: &[usize], rest: &mut &[u8]) -> Option<()> {
    let Some((length, inner)) = lengths.split_first() else {
        let Ok(length) = usize::try_from(take(rest)?) else {
            out.extend_from_slice(b"null");
            return Some(());
        };
        let (text, after) = rest.split_at_checked(length)?;
        push_string(out, text);
        *rest = after;
        return Some(());
    };
    out.push(b'[');
    for at in 0..*length {
        if at > 0 {
            out.push(b',');
        }
        append_dimension(out, inner, rest)?;
    }
    out.push(b']');
    Some(())
}

fn take(rest: &mut &[u8]) -> Option<i32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(i32::from_be_bytes(*bytes))
}

/// Appends a value as JSON, as `row_to_json` of Postgres writes it.
pub(crate) fn push_json(out: &mut Vec<u8>, ty: Type, field: Option<&[u8]>) {
    let Some(bytes) = field else {
        out.extend_from_slice(b"null");
        return;
    };
    match ty {
        Type::Text => push_string(out, bytes),
        Type::Int4 | Type::Int8 => push_number(out, bytes),
        Type::Json => out.extend_from_slice(json(bytes)),
        Type::Texts => push_texts(out, bytes),
        Type::Uuid => {
            out.push(b'"');
            push_uuid(out, bytes);
            out.push(b'"');
        }
        Type::Time => {
            out.push(b'"');
            push_time(out, bytes, "+00:00");
            out.push(b'"');
        }
        Type::Bytes => {
            out.extend_from_slice(b"\"\\\\x");
            push_hex(out, bytes);
            out.push(b'"');
        }
    }
}

/// Returns bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(us_since_1970: i64) -> String {
        let mut out = Vec::new();
        push_time(&mut out, &(us_since_1970 - EPOCH_US).to_be_bytes(), "Z");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_postgres_writes_them_in_json() {
        for (us, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_772_323_199_120_000, "2026-02-28T23:59:59.12Z"),
            (1_772_323_200_000_000, "2026-03-01T00:00:00Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(time(us), text);
        }
    }

    #[test]
    fn arrays_become_json_with_nulls_and_dimensions() {
        let element = |text: Option<&str>| match text {
            None => (-1_i32).to_be_bytes().to_vec(),
            Some(text) => {
                let length = i32::try_from(text.len()).unwrap().to_be_bytes();
                [&length[..], text.as_bytes()].concat()
            }
        };
        let numbers = |numbers: &[i32]| {
            numbers
                .iter()
                .flat_map(|n| n.to_be_bytes())
                .collect::<Vec<_>>()
        };
        let list = [
            numbers(&[1, 1, 25, 2, 1]),
            element(Some("a\"\n")),
            element(None),
        ]
        .concat();
        let nested = [
            numbers(&[2, 0, 25, 2, 1, 1, 1]),
            element(Some("a")),
            element(Some("")),
        ]
        .concat();
        for (image, json) in [
            (list, r#"["a\"\n",null]"#),
            (nested, r#"[["a"],[""]]"#),
            (numbers(&[0, 0, 25]), "[]"),
            (vec![1, 2], "[]"),
        ] {
            let mut out = Vec::new();
            push_texts(&mut out, &image);
            assert_eq!(String::from_utf8(out).unwrap(), json);
        }
    }
}
