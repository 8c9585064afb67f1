//! One HTML file that needs nothing else: to hand over, or to print.
//!
//! There is no script in it, and none would run: its policy allows its own style and nothing more.

use std::fmt::Write as _;
use std::io;
use std::ops::RangeInclusive;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::columns;
use super::encoder::Encoder;
use super::jsonl::push_record;
use super::values::{Record, push, push_json, push_time};
use crate::html::{kind, line, outcome, texts, time, visible, what};
use crate::outline::Outline;
use crate::row::Row;

/// The style of the page, and what a printer needs.
const STYLE: &str = concat!(
    include_str!("../serve/assets/style.css"),
    "details[open] > summary, li > details { break-inside: avoid-page; }\n",
    "@media print { :root { --paper: #fff; --ink: #000; --soft: #444; --shade: #fff; } pre { border-color: #999; } }\n",
);

/// The times that pages compute with, from year 1 to the last day of year 9999, in microseconds since 1970.
const USUAL_US: RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_214_400_000_000;

/// The characters of base64.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What the head of the file says.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) title: String,
    /// Labels and texts.
    pub(crate) facts: Vec<(&'static str, String)>,
}

/// Writes an HTML file.
#[derive(Debug)]
pub(crate) struct Html {
    about: About,
    records: u64,
}

impl Html {
    pub(crate) fn new(about: About) -> Self {
        Self { about, records: 0 }
    }
}

fn append(out: &mut Vec<u8>, markup: &Markup) {
    out.extend_from_slice(markup.0.as_bytes());
    out.push(b'\n');
}

/// Indents the records of a story.
fn levels() -> String {
    (0..=10).fold(String::new(), |mut levels, depth| {
        let by = 1.25 * f64::from(depth);
        let _ = writeln!(levels, ".depth-{depth} {{ margin-left: {by}rem; }}");
        levels
    })
}

/// Returns base64, as a policy names the hash of a style.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4_usize {
            let digit = bits >> (18 - 6 * at) & 63;
            let digit = DIGITS[usize::try_from(digit).unwrap_or_default()];
            text.push(if at > chunk.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

impl Encoder for Html {
    fn begin(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let style = format!("{STYLE}{}", levels());
        let hash = base64(&Sha256::digest(&style));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
        );
        let head = html! {
            (DOCTYPE)
            // The end tags follow after the records.
            (PreEscaped("<html lang=\"en\">"))
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { (visible(&self.about.title)) " · audit trail" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                style { (PreEscaped(&style)) }
            }
            (PreEscaped("<body><main>"))
            h1 { (visible(&self.about.title)) }
            dl {
                @for (label, text) in &self.about.facts { dt { (label) } dd { (visible(text)) } }
            }
        };
        append(out, &head);
        Ok(())
    }

    fn record(&mut self, out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
        self.row(out, &row(record), 0);
        Ok(())
    }

    fn outline(&mut self, out: &mut Vec<u8>, outline: &Outline) {
        let shared = html! {
            h2 { "Story" }
            dl {
                @for (label, values) in outline.circumstances().filter(|(_, values)| !values.is_empty()) {
                    dt { (label) } dd { (visible(&values)) }
                }
                dt { "began" } dd { (time(&outline.began)) }
                dt { "took" } dd { (outline.took()) }
                dt { "records" } dd { (outline.counts()) }
            }
        };
        append(out, &shared);
    }

    fn row(&mut self, out: &mut Vec<u8>, row: &Row, depth: usize) {
        self.records += 1;
        let class = format!("depth-{depth}");
        let record = html! {
            article.record class=(class) id={ "r" (row.id()) } {
                h3 {
                    span.badge { (kind(row)) } " "
                    (line(&what(row), 300)) " "
                    (outcome(row.status())) " "
                    span.soft { (time(&row.began)) @if let Some(took) = row.took() { " · " (took) } }
                }
                @if let Some(user) = &row.learned_user {
                    p.soft { "Of user " (visible(user)) ", who became known later." }
                }
                (texts(row))
                details {
                    summary { "The row as it is stored" }
                    pre { (visible(&row.json())) }
                }
            }
        };
        append(out, &record);
    }

    fn end(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let end = html! {
            p.soft { "The end: " (self.records) " records." }
            (PreEscaped("</main></body></html>"))
        };
        append(out, &end);
        Ok(())
    }
}

/// Returns a record as stories and pages have it.
pub(crate) fn row(record: &Record<'_>) -> Row {
    let mut json = Vec::new();
    let began_us = record.began_us().unwrap_or_default();
    if record.unread.is_some() {
        let own = record.own().filter(|(_, field)| field.is_some());
        json.push(b'{');
        for (at, (column, field)) in own.enumerate() {
            let before = if at == 0 { "\"" } else { ",\"" };
            push(&mut json, format_args!("{before}{}\":", column.name));
            push_json(&mut json, column.ty, field);
        }
        json.push(b'}');
    } else {
        push_record(&mut json, record);
        // The row has the kind of its table.
        let own = json.iter().position(|byte| *byte == b',');
        json.splice(..own.map_or(0, |at| at + 1), *b"{");
    }
    let mut began = Vec::new();
    let at = if record.field(columns::STARTED_AT).is_some() {
        columns::STARTED_AT
    } else {
        columns::CREATED_AT
    };
    push_time(&mut began, record.field(at).unwrap_or_default(), "");
    let mut began = String::from_utf8_lossy(&began).replace('T', " ");
    // To the millisecond, as everywhere.
    if began.len() == 19 {
        began.push('.');
    }
    while began.len() < 23 {
        began.push('0');
    }
    began.truncate(23);
    let end = record.time_us(columns::FINISHED_AT);
    let is_usual = |us: &i64| USUAL_US.contains(us);
    let between = end
        .filter(|end| is_usual(end) && is_usual(&began_us))
        .map(|end| end.saturating_sub(began_us));
    let told = record
        .number(columns::DURATION_MS)
        .or_else(|| record.number(columns::LATENCY_MS));
    #[expect(clippy::cast_precision_loss, reason = "shown in milliseconds")]
    let took_ms = between
        .map(|us| us as f64 / 1_000.0)
        .or(told.map(|ms| ms as f64));
    let json = String::from_utf8_lossy(&json).into_owned();
    let mut row = Row::of_json(
        record.table,
        json,
        record.metadata(),
        (began, began_us),
        took_ms,
    );
    row.unread = record.unread.map(str::to_owned);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
