//! Formats one record of the story: its line in the tree, and its texts.

use std::fmt::Write as _;

use tracing_audit::Kind;

use crate::families::Told;
use crate::row::Row;
use crate::text::{Layout, Terminal, clip, columns, duration, escape, escape_line, wrap};
use crate::tree::Place;

/// The column in which a record's texts begin.
const LABEL_WIDTH: usize = 13;

/// The least width of a text beside its label; with less room it goes below.
const MIN_WIDTH: usize = 24;

/// How far a text is indented below its label.
const BELOW: usize = 2;

/// A record's own line: its kind with the branch before it, what it is about, outcome, start and
/// duration.
const TITLE: Layout<5> = Layout {
    least: [60, 12, 9, 6, 6],
    shrink: &[1, 0, 2, 3, 4],
    drop: &[3, 1, 4, 2],
};

/// How much of a text is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    lines: usize,
    chars: usize,
}

/// For SQL, questions and errors, which readers look for: nearly always whole.
pub(crate) const LONG: Limit = Limit {
    lines: 60,
    chars: 6_000,
};

/// For prompts and answers, which are long and mostly known.
const SHORT: Limit = Limit {
    lines: 8,
    chars: 600,
};

/// Formats records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    /// The properties of the output.
    pub(crate) terminal: Terminal,
    /// Whether to print whole texts and ids.
    pub(crate) full: bool,
    /// When the story begins, in microseconds since 1970.
    pub(crate) origin_us: i64,
    /// The columns that differ between the records, and are therefore shown with each.
    pub(crate) differing: &'a [&'static str],
}

impl Writer<'_> {
    /// Appends a record at its place in the tree.
    pub(crate) fn write(&self, out: &mut String, place: &Place<'_>, row: &Row) {
        let mut told = Told::of(row);
        let words = told.as_ref().map(|told| told.words.clone());
        let is_whole = self.title(out, place, row, words.or_else(|| row.subject()));
        if let Some(told) = told.as_mut().filter(|_| !is_whole) {
            told.cut_words();
        }
        let mut say =
            |label: &str, text: &str, limit| self.entry(out, &place.gutter, label, text, limit);
        if let Some((parent, why)) = place.hidden_parent {
            say("parent", &format!("{parent} ({why})"), LONG);
        }
        if self.full {
            for column in ["id", "span_id"] {
                say(column, row.text(column).unwrap_or_default(), LONG);
            }
        }
        for column in self.differing {
            let learned = match (*column, &row.learned_user) {
                ("user_id", Some(user)) => Some(format!("{user} (learned later)")),
                _ => None,
            };
            let value = learned.as_deref().or(row.text(column));
            say(label(column), value.unwrap_or("none"), LONG);
        }
        for entry in entries(row, told.as_ref(), "--full") {
            let Entry {
                label,
                text,
                limit,
                length,
            } = entry;
            self.text(out, &place.gutter, label, &text, limit, length);
        }
    }

    /// Appends the record's own line. On a narrow terminal what it is about is cut first, then the
    /// times are left out. Returns whether it says all of what the record is about.
    fn title(
        &self,
        out: &mut String,
        place: &Place<'_>,
        row: &Row,
        subject: Option<String>,
    ) -> bool {
        let kind = human(row.table.kind(), 1);
        #[expect(clippy::cast_precision_loss, reason = "shown in milliseconds")]
        let offset = (row.began_us - self.origin_us) as f64 / 1000.0;
        let took = match row.took() {
            Some(took) => took,
            // An event may be instantaneous.
            None if !row.table.has_end() => String::new(),
            None => "end not known".to_owned(),
        };
        let status = escape_line(row.status());
        let cells = [
            format!("{}{kind}", place.branch),
            subject.map(|s| escape_line(&s)).unwrap_or_default(),
            status,
            format!("+{}", duration(offset)),
            took,
        ];
        let widths = TITLE.fit(
            cells.each_ref().map(|cell| columns(cell)),
            self.terminal.width,
        );
        let is_whole = widths[1].is_some_and(|width| clip(&cells[1], width) == cells[1]);
        let mut line = String::new();
        for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let Some(cell) = width
                .map(|width| clip(cell, width))
                .filter(|c| !c.is_empty())
            else {
                continue;
            };
            let painted = match at {
                0 => {
                    let kind = cell.strip_prefix(&place.branch).unwrap_or(&cell);
                    let branch = &cell[..cell.len() - kind.len()];
                    format!("{branch}{}", self.terminal.bold(kind))
                }
                2 => self.terminal.outcome(row.status(), &cell),
                3 | 4 => self.terminal.dim(&cell),
                _ => cell,
            };
            let gap = match at {
                0 => "",
                1 => " ",
                _ => "  ",
            };
            let _ = write!(line, "{gap}{painted}");
        }
        let _ = writeln!(out, "{line}");
        is_whole
    }

    /// Appends a labelled text, unless it is empty.
    pub(crate) fn entry(
        &self,
        out: &mut String,
        gutter: &str,
        label: &str,
        text: &str,
        limit: Limit,
    ) {
        self.text(out, gutter, label, text, limit, None);
    }

    /// Like [`Self::entry`], for a text that may have been cut already, from `length` characters.
    fn text(
        &self,
        out: &mut String,
        gutter: &str,
        label: &str,
        text: &str,
        limit: Limit,
        length: Option<usize>,
    ) {
        if text.is_empty() {
            return;
        }
        // Even with --full, if the row is too large to be read whole.
        let (shown, left_out) = if self.full && length.is_none() {
            (text, 0)
        } else {
            abridge(text, limit, length)
        };
        let room = self
            .terminal
            .width
            .map(|width| width.saturating_sub(columns(gutter) + LABEL_WIDTH));
        let below = room.is_some_and(|room| room < MIN_WIDTH);
        let room = match self.terminal.width {
            Some(width) if below => Some(width.saturating_sub(columns(gutter) + BELOW).max(1)),
            _ => room,
        };
        let paint = match label {
            "error" | "problems" | "incomplete" => Terminal::alarm,
            _ => Terminal::dim,
        };
        let mut put = |label: &str, piece: &str| {
            let _ = writeln!(out, "{}", format!("{gutter}{label}{piece}").trim_end());
        };
        let (mut before, after) = if below {
            put("", &paint(self.terminal, label));
            (" ".repeat(BELOW), " ".repeat(BELOW))
        } else {
            let padded =
                |label: &str| paint(self.terminal, &format!("{label:0$} ", LABEL_WIDTH - 1));
            (padded(label), padded(""))
        };
        let mut put = |piece: &str| {
            put(&before, piece);
            before.clone_from(&after);
        };
        for line in shown.lines().map(escape) {
            match room {
                Some(room) => wrap(&line, room).into_iter().for_each(&mut put),
                None => put(&line),
            }
        }
        if left_out > 0 {
            let more = if self.full {
                "the row is too large"
            } else {
                "--full"
            };
            let note = format!("… {left_out} more characters ({more})");
            for piece in wrap(&note, room.unwrap_or(usize::MAX)) {
                put(&self.terminal.dim(piece));
            }
        }
    }
}

/// A text of a record, below its own line.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) label: &'static str,
    pub(crate) text: String,
    pub(crate) limit: Limit,
    /// The original length in characters, if the text was cut when it was read.
    pub(crate) length: Option<usize>,
}

/// Returns the texts of a record that are not empty, in the order in which a reader reads them.
/// `whole` names what shows all fields of the metadata.
pub(crate) fn entries(row: &Row, told: Option<&Told>, whole: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut say = |label, text: String, limit, length| {
        if !text.is_empty() {
            entries.push(Entry {
                label,
                text,
                limit,
                length,
            });
        }
    };
    say(
        "incomplete",
        row.unread.clone().unwrap_or_default(),
        LONG,
        None,
    );
    // What an approval is about, as for a query.
    let is_approval = row.text("action_type") == Some("approval");
    let input = if is_approval { "summary" } else { "input" };
    for (label, column, limit) in [
        ("question", "question_text", LONG),
        ("summary", "sql_summary", LONG),
        ("sql", "sql_text", LONG),
        ("datasource", "datasource_id", LONG),
        ("result", "", LONG),
        ("model", "", LONG),
        ("role", "role", LONG),
        ("prompt", "rendered_prompt", SHORT),
        ("response", "response_text", SHORT),
        (input, "input_summary", LONG),
        ("output", "output_summary", LONG),
    ] {
        let text = match label {
            "result" => result(row),
            "model" => model(row),
            _ => row.text(column).unwrap_or_default().to_owned(),
        };
        say(label, text, limit, row.length(column));
    }
    for (label, text) in told.into_iter().flat_map(Told::labelled) {
        say(label, text.to_owned(), LONG, None);
    }
    let error: Vec<&str> = ["error_code", "error_message"]
        .iter()
        .filter_map(|c| row.text(c))
        .collect();
    say("error", error.join(": "), LONG, None);
    let problems: Vec<_> = row.problems().collect();
    say("problems", problems.join("\n"), LONG, None);
    let redactions: Vec<_> = row.redactions().collect();
    say("redacted", redactions.join("\n"), LONG, None);
    say("metadata", metadata(row, told, whole), LONG, None);
    if let Some(archived) = &row.archived {
        say(
            "content",
            archived.closed.clone().unwrap_or_default(),
            LONG,
            None,
        );
        say("archive", archived.said.clone(), LONG, None);
    }
    entries
}

/// Returns a line for each field of the metadata that is told nowhere else. Values stay JSON, which
/// shows their type.
fn metadata(row: &Row, told: Option<&Told>, whole: &str) -> String {
    let is_told = |name: &str| told.is_some_and(|told| told.has(name));
    let is_tenant = |name: &str| name == "tenant_key" && row.tenant_key().is_some();
    let fields = row.metadata.iter();
    let fields = fields.filter(|(name, _)| !is_tenant(name) && !is_told(name));
    let mut lines: Vec<String> = fields
        .map(|(name, value)| format!("{} = {value}", escape_line(name)))
        .collect();
    if let Some(fields) = row.length("metadata") {
        lines.truncate(LONG.lines - 1);
        let more = fields - lines.len();
        lines.push(format!("… {more} more fields ({whole})"));
    }
    lines.join("\n")
}

/// Returns the beginning of a text, and how many characters are left out. `length` is its original
/// length if it was cut already.
pub(crate) fn abridge(text: &str, limit: Limit, length: Option<usize>) -> (&str, usize) {
    let by_lines = text
        .split_inclusive('\n')
        .take(limit.lines)
        .map(str::len)
        .sum();
    let by_chars = text
        .char_indices()
        .nth(limit.chars)
        .map_or(text.len(), |(at, _)| at);
    let (shown, rest) = text.split_at(by_chars.min(by_lines));
    if let Some(length) = length {
        return (shown, length.saturating_sub(shown.chars().count()));
    }
    let left_out = rest.chars().count();
    // Not for a few characters: the note would take as much room.
    if left_out < 40 && rest.lines().count() < 4 {
        (text, 0)
    } else {
        (shown, left_out)
    }
}

/// Describes what the database returned.
fn result(row: &Row) -> String {
    let parts = [("row_count", "returned"), ("rows_affected", "affected")];
    let parts = parts.iter().filter_map(|(column, what)| {
        let count = row.number(column)?;
        Some(format!(
            "{count} {} {what}",
            if count == 1 { "row" } else { "rows" }
        ))
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Describes the model, and how much went in and out.
fn model(row: &Row) -> String {
    let mut model = row.text("model_name").unwrap_or_default().to_owned();
    if let Some(provider) = row.text("provider") {
        let _ = write!(model, " ({provider})");
    }
    let tokens = [("input_token_count", "in"), ("output_token_count", "out")];
    let tokens: Vec<String> = tokens
        .iter()
        .filter_map(|(column, way)| Some(format!("{} {way}", row.number(column)?)))
        .collect();
    if !tokens.is_empty() {
        let _ = write!(model, "  tokens: {}", tokens.join(", "));
    }
    model.trim_start().to_owned()
}

/// Returns a kind in words, singular or plural.
pub(crate) fn human(kind: Kind, count: usize) -> &'static str {
    match (kind, count) {
        (Kind::QueryRun, 1) => "query run",
        (Kind::QueryRun, _) => "query runs",
        (Kind::PromptRun, 1) => "prompt run",
        (Kind::PromptRun, _) => "prompt runs",
        (Kind::Event, 1) => "event",
        (Kind::Event, _) => "events",
        (other, _) => other.span_name(),
    }
}

/// Returns the label of a column in the story.
pub(crate) fn label(column: &'static str) -> &'static str {
    match column {
        "user_id" => "user",
        "user_role" => "user role",
        "agent_id" => "agent",
        "service_name" => "service",
        "llm_session_id" => "session",
        "conversation_id" => "conversation",
        "tenant_id" => "tenant",
        "trace_id" => "trace",
        other => other,
    }
}
