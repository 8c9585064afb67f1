//! CSV by RFC 4180, which a spreadsheet opens without running anything.
//!
//! A field that begins like a formula gets an apostrophe before it, which a spreadsheet takes for
//! "this is text". NULL is an empty field, and an empty text is `""`.

use std::io;

use super::columns::{COLUMNS, Type};
use super::encoder::Encoder;
use super::values::{Record, json, push_hex, push_number, push_texts, push_time, push_uuid};
use crate::row::word;

/// With what a spreadsheet begins a formula, or skips before one. The last four are `＝＋－＠`.
const FORMULAS: [&[u8]; 11] = [
    b"=",
    b"+",
    b"-",
    b"@",
    b"\t",
    b"\r",
    b"\n",
    "\u{ff1d}".as_bytes(),
    "\u{ff0b}".as_bytes(),
    "\u{ff0d}".as_bytes(),
    "\u{ff20}".as_bytes(),
];

/// Writes CSV.
#[derive(Debug)]
pub(crate) struct Csv {
    /// Whether fields are written as they are, formulas too.
    is_raw: bool,
    /// The array of texts that is being written.
    scratch: Vec<u8>,
}

impl Csv {
    pub(crate) fn new(is_raw: bool) -> Self {
        Self {
            is_raw,
            scratch: Vec::new(),
        }
    }

    /// Appends a text as a field.
    fn push_text(&self, out: &mut Vec<u8>, text: &[u8]) {
        push_field(out, text, !self.is_raw && is_formula(text));
    }
}

/// Whether a spreadsheet may run this.
fn is_formula(text: &[u8]) -> bool {
    FORMULAS.iter().any(|begin| text.starts_with(begin))
}

fn push_field(out: &mut Vec<u8>, text: &[u8], is_guarded: bool) {
    let is_special = |byte: &u8| matches!(byte, b'"' | b',' | b'\n' | b'\r');
    let guard: &[u8] = if is_guarded { b"'" } else { b"" };
    if !text.is_empty() && !text.iter().any(is_special) {
        out.extend_from_slice(guard);
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    out.extend_from_slice(guard);
    for (at, part) in text.split(|byte| *byte == b'"').enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part);
    }
    out.push(b'"');
}

impl Encoder for Csv {
    fn begin(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(b"kind");
        for column in &COLUMNS {
            out.push(b',');
            out.extend_from_slice(column.name.as_bytes());
        }
        out.extend_from_slice(b",unread\r\n");
        Ok(())
    }

    fn record(&mut self, out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
        out.extend_from_slice(word(record.table.kind()).as_bytes());
        for (column, field) in COLUMNS.iter().zip(record.fields) {
            out.push(b',');
            let Some(bytes) = field else { continue };
            match column.ty {
                Type::Text => self.push_text(out, bytes),
                Type::Json => self.push_text(out, json(bytes)),
                Type::Int4 | Type::Int8 => push_number(out, bytes),
                Type::Uuid => push_uuid(out, bytes),
                Type::Time => push_time(out, bytes, "Z"),
                Type::Texts => {
                    let mut scratch = std::mem::take(&mut self.scratch);
                    scratch.clear();
                    push_texts(&mut scratch, bytes);
                    self.push_text(out, &scratch);
                    self.scratch = scratch;
                }
                Type::Bytes => {
                    out.extend_from_slice(b"\\x");
                    push_hex(out, bytes);
                }
            }
        }
        out.push(b',');
        if let Some(why) = record.unread {
            self.push_text(out, why.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn end(&mut self, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(text: &str, is_raw: bool) -> String {
        let mut out = Vec::new();
        Csv::new(is_raw).push_text(&mut out, text.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn field_that_begins_like_a_formula_is_a_text() {
        for text in ["=1", "+1", "-1", "@A1", "\t=1", "＝1", "＋1", "－1", "＠A"] {
            assert_eq!(field(text, false), format!("'{text}"));
            assert_eq!(field(text, true), text);
        }
        assert_eq!(field("\r=1,\"", false), "\"'\r=1,\"\"\"");
        assert_eq!(field("a=1", false), "a=1");
    }

    #[test]
    fn field_is_quoted_where_rfc_4180_says() {
        assert_eq!(field("", false), "\"\"");
        assert_eq!(field("a \"b\", c\n", false), "\"a \"\"b\"\", c\n\"");
        assert_eq!(field("plain; text\u{202e}", false), "plain; text\u{202e}");
    }
}
