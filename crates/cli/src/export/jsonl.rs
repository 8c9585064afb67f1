//! A line of JSON for each record, as `show --json` prints it.

use std::io;

use super::columns;
use super::encoder::Encoder;
use super::values::{Record, push_json, push_string};
use crate::row::word;
use crate::text::escape_json;

/// Writes lines of JSON.
#[derive(Debug, Default)]
pub(crate) struct Jsonl {
    line: Vec<u8>,
}

impl Encoder for Jsonl {
    fn begin(&mut self, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn record(&mut self, out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
        self.line.clear();
        push_record(&mut self.line, record);
        push_line(out, &self.line);
        Ok(())
    }

    fn end(&mut self, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

/// Appends a line of JSON; what could steer a terminal is escaped.
pub(crate) fn push_line(out: &mut Vec<u8>, json: &[u8]) {
    match std::str::from_utf8(json) {
        Ok(text) if !text.is_ascii() || text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) => {
            out.extend_from_slice(escape_json(text).as_bytes());
        }
        _ => out.extend_from_slice(json),
    }
    out.push(b'\n');
}

/// Appends a record as an object: its kind, then the columns of its table.
pub(crate) fn push_record(out: &mut Vec<u8>, record: &Record<'_>) {
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(word(record.table.kind()).as_bytes());
    out.push(b'"');
    let mut push = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write(out);
    };
    if let Some(why) = record.unread {
        for column in [columns::ID, columns::TENANT_ID, columns::REQUEST_ID] {
            let ty = columns::COLUMNS[column].ty;
            push(columns::COLUMNS[column].name, &|out| {
                push_json(out, ty, record.field(column));
            });
        }
        push("unread", &|out| push_string(out, why.as_bytes()));
    } else {
        for (column, field) in record.own() {
            push(column.name, &|out| push_json(out, column.ty, field));
        }
    }
    out.push(b'}');
}
