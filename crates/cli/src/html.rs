//! How a text of the trail is shown in HTML, on the page and in files.
//!
//! Whatever comes from the trail was typed by somebody who may be hostile. It is always a text, never
//! HTML: maud escapes it, and [`visible`] shows the characters that would reorder or hide text.

mod sql;

use maud::{Markup, PreEscaped, html};

use crate::families::Told;
use crate::record::entries;
use crate::row::{Row, word};
use crate::tail::summary;
use crate::text::{grouped, is_harmful};

use self::sql::highlighted;

/// How many bytes of a text are shown before the reader asks for the whole.
const SHOWN: usize = 100_000;

/// How many hidden characters of a text are shown by their numbers; of more, there is a mark for each.
const MOST_NUMBERS: usize = 100;

/// Shows a text; characters that would reorder or hide text are shown by their numbers.
pub(crate) fn visible(text: &str) -> Markup {
    let is_shown = |c: char| !is_harmful(c) || matches!(c, '\n' | '\t');
    if text.chars().all(is_shown) {
        return html! { (text) };
    }
    let mut out = String::with_capacity(text.len() + 64);
    let mut from = 0;
    let unseen = text.char_indices().filter(|(_, c)| !is_shown(*c));
    for (number, (at, c)) in unseen.enumerate() {
        out.push_str(&html! { (text[from..at]) }.into_string());
        from = at + c.len_utf8();
        if number < MOST_NUMBERS {
            let number = format!("U+{:04X}", u32::from(c));
            out.push_str(&html! { span.unseen { (number) } }.into_string());
        } else {
            // A number is ten times as long as the character.
            out.push('\u{fffd}');
        }
    }
    out.push_str(&html! { (text[from..]) }.into_string());
    PreEscaped(out)
}

/// Shows a text on one line: white space as blanks, cut after so many characters.
pub(crate) fn line(text: &str, chars: usize) -> Markup {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(chars) {
        Some((at, _)) => html! { (visible(&words[..at])) "…" },
        None => visible(&words),
    }
}

/// Shows a time in UTC, `YYYY-MM-DD HH:MM:SS.mmm`; the script adds the viewer's own zone.
pub(crate) fn time(utc: &str) -> Markup {
    let is_usual = utc.len() == 23 && utc.is_ascii();
    let instant = format!("{}Z", utc.replace(' ', "T"));
    html! {
        @if is_usual {
            time datetime=(instant) { (utc) span.zone { " UTC" } }
        } @else {
            (visible(utc)) span.zone { " UTC" }
        }
    }
}

/// Shows an outcome, by a word and a sign that needs no colour.
pub(crate) fn outcome(status: &str) -> Markup {
    let (class, sign) = match status {
        "succeeded" => ("good", "✓"),
        "failed" => ("bad", "✗"),
        "rejected" => ("bad", "⊘"),
        "cancelled" => ("soft", "–"),
        _ => ("soft", "?"),
    };
    html! { span class={ "outcome " (class) } { span.sign aria-hidden="true" { (sign) } " " (visible(status)) } }
}

/// Returns what a record is, as a word: the family of an event.
pub(crate) fn kind(row: &Row) -> Markup {
    let family = row.text("action_type").filter(|family| !family.is_empty());
    line(family.unwrap_or_else(|| word(row.table.kind())), 40)
}

/// Returns what a record is about.
pub(crate) fn what(row: &Row) -> String {
    match Told::of(row) {
        Some(told) => told.words,
        None => summary(row),
    }
}

/// Shows the texts of a record, each with its label.
pub(crate) fn texts(row: &Row) -> Markup {
    let mut told = Told::of(row);
    if let Some(told) = &mut told {
        told.cut_words();
    }
    html! {
        @for entry in entries(row, told.as_ref(), "in the row as it is stored") {
            @let is_sql = entry.label == "sql";
            @let is_short = is_short(&entry.text) && !is_sql;
            @let text = cut(&entry.text);
            @let chars = entry.length.unwrap_or_else(|| entry.text.chars().count());
            @let more = chars.saturating_sub(text.chars().count());
            div.entry.short[is_short].bad[matches!(entry.label, "error" | "problems" | "incomplete")] {
                div.label { (entry.label) }
                @if is_sql {
                    pre tabindex="0" { (highlighted(text)) }
                } @else if is_short {
                    div { (visible(text)) }
                } @else {
                    pre tabindex="0" { (visible(text)) }
                }
                @if more > 0 {
                    p.soft { "… " (grouped(i64::try_from(more).unwrap_or(i64::MAX))) " more characters, in the row as it is stored." }
                }
            }
        }
    }
}

/// Whether a text fits on a line beside its label.
fn is_short(text: &str) -> bool {
    text.len() <= 120 && !text.contains('\n')
}

/// Returns the beginning of a text.
fn cut(text: &str) -> &str {
    let mut end = SHOWN.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
