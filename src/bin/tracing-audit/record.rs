//! One record of the story: its line in the tree, and what it says.

use std::fmt::Write as _;

use tracing_audit::Kind;

use crate::row::Row;
use crate::text::{Terminal, clip, columns, duration, escape, escape_line, wrap};
use crate::tree::Place;

/// The column in which the texts of a record begin.
const LABEL_WIDTH: usize = 13;

/// The narrowest column of text, however little room is left.
const MIN_WIDTH: usize = 24;

/// How much of a text is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    lines: usize,
    chars: usize,
}

/// SQL, questions and errors, which is what one looks for: nearly always whole.
pub(crate) const LONG: Limit = Limit {
    lines: 60,
    chars: 6_000,
};

/// Prompts and answers, which are long and mostly known.
const SHORT: Limit = Limit {
    lines: 8,
    chars: 600,
};

/// Writes records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    /// Where the output goes.
    pub(crate) terminal: Terminal,
    /// Whether texts are whole and ids are shown.
    pub(crate) full: bool,
    /// When the story begins, in microseconds since 1970.
    pub(crate) origin_us: i64,
    /// Columns that differ between the records, and so are shown with each.
    pub(crate) differing: &'a [&'static str],
}

impl Writer<'_> {
    /// Writes a record where it stands in the tree.
    pub(crate) fn write(&self, out: &mut String, place: &Place<'_>) {
        self.title(out, place);
        let row = place.row;
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
            say(label(column), row.text(column).unwrap_or("none"), LONG);
        }
        let of = |column| row.text(column).unwrap_or_default();
        let (result, model) = (result(row), model(row));
        for (label, text, limit) in [
            ("question", of("question_text"), LONG),
            ("summary", of("sql_summary"), LONG),
            ("sql", of("sql_text"), LONG),
            ("datasource", of("datasource_id"), LONG),
            ("result", &result, LONG),
            ("model", &model, LONG),
            ("role", of("role"), LONG),
            ("prompt", of("rendered_prompt"), SHORT),
            ("response", of("response_text"), SHORT),
            ("input", of("input_summary"), LONG),
            ("output", of("output_summary"), LONG),
        ] {
            say(label, text, limit);
        }
        let error: Vec<&str> = ["error_code", "error_message"]
            .iter()
            .filter_map(|c| row.text(c))
            .collect();
        say("error", &error.join(": "), LONG);
        let problems: Vec<_> = row.problems().collect();
        say("problems", &problems.join("\n"), LONG);
        // Values are JSON, so that their type can be told, and one line each.
        let metadata = row.metadata.iter().filter(|field| field.0 != "tenant_key");
        let metadata: Vec<String> = metadata
            .map(|(name, value)| format!("{} = {value}", escape_line(name)))
            .collect();
        say("metadata", &metadata.join("\n"), LONG);
    }

    /// The record's own line.
    fn title(&self, out: &mut String, place: &Place<'_>) {
        let row = place.row;
        let kind = human(row.kind, 1);
        #[expect(clippy::cast_precision_loss, reason = "shown in milliseconds")]
        let offset = (row.began_us - self.origin_us) as f64 / 1000.0;
        let took = match row.took_ms {
            Some(ms) => duration(ms),
            // An event may be a moment.
            None if row.kind == Kind::Event => String::new(),
            None => "end not known".to_owned(),
        };
        let times = format!("+{}  {took}", duration(offset));
        let status = escape_line(row.status());
        let mut subject = row.subject().map(|s| escape_line(&s)).unwrap_or_default();
        if let Some(width) = self.terminal.width {
            let taken = columns(&place.branch) + columns(kind) + columns(&status) + columns(&times);
            subject = clip(&subject, width.saturating_sub(taken + 5).max(MIN_WIDTH));
        }
        let _ = write!(out, "{}{}", place.branch, self.terminal.bold(kind));
        if !subject.is_empty() {
            let _ = write!(out, " {subject}");
        }
        let status = self.terminal.outcome(row.status(), &status);
        let _ = writeln!(out, "  {status}  {}", self.terminal.dim(times.trim_end()));
    }

    /// A labelled text; nothing when the text is empty.
    pub(crate) fn entry(
        &self,
        out: &mut String,
        gutter: &str,
        label: &str,
        text: &str,
        limit: Limit,
    ) {
        if text.is_empty() {
            return;
        }
        let (shown, left_out) = if self.full {
            (text, 0)
        } else {
            abridge(text, limit)
        };
        let room = self.terminal.width.map(|width| {
            width
                .saturating_sub(columns(gutter) + LABEL_WIDTH)
                .max(MIN_WIDTH)
        });
        let paint = match label {
            "error" | "problems" => Terminal::alarm,
            _ => Terminal::dim,
        };
        let mut label = label;
        let mut put = |piece: &str| {
            let padded = paint(self.terminal, &format!("{label:0$} ", LABEL_WIDTH - 1));
            let _ = writeln!(out, "{}", format!("{gutter}{padded}{piece}").trim_end());
            label = "";
        };
        for line in shown.lines().map(escape) {
            match room {
                Some(room) => wrap(&line, room).into_iter().for_each(&mut put),
                None => put(&line),
            }
        }
        if left_out > 0 {
            put(&self
                .terminal
                .dim(&format!("… {left_out} more characters (--full)")));
        }
    }
}

/// The beginning of a text, and how many characters are left out.
fn abridge(text: &str, limit: Limit) -> (&str, usize) {
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
    let left_out = rest.chars().count();
    // Not for the sake of a few characters: the note would take as much room.
    if left_out < 40 && rest.lines().count() < 4 {
        (text, 0)
    } else {
        (shown, left_out)
    }
}

/// What came back from the database.
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

/// Which model was asked, and how much went in and out.
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

/// A kind in words, of one or of several.
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

/// What a column is called in the story.
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
