//! A request that was found, as a line and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::{Find, Span};
use crate::STATUSES;
use crate::row::{Row, word};
use crate::tail::summary;
use crate::text::{Layout, Terminal, columns, escape_json, escape_line, pad, paragraph};

/// The width of what a request is about, in columns.
const MAX_SUMMARY: usize = 100;

/// The width of a tenant's or a user's name, in columns.
const MAX_NAME: usize = 64;

/// A line: time, tenant, user, what it is about, outcomes, number of records, and the id to pass to
/// `show`.
const LINE: Layout<7> = Layout {
    least: [16, 8, 8, 12, 11, 9, 12],
    shrink: &[3, 1, 2, 0, 4, 5, 6],
    drop: &[5, 1, 2, 4, 3, 0],
};

/// A request with matching records: the first of them, and the outcomes of all records of the
/// request, each with how many records have it, and how many of those an archive alone has.
pub(super) struct Request {
    pub(super) first: Row,
    pub(super) outcomes: BTreeMap<String, (i64, i64)>,
}

impl Request {
    /// Returns the id of the request; `None` if the record has none.
    fn id(&self) -> Option<&str> {
        self.first.text("request_id").filter(|id| !id.is_empty())
    }

    /// Returns the number of its records.
    fn records(&self) -> i64 {
        self.outcomes.values().map(|(count, _)| count).sum()
    }

    /// Returns how many of them an archive alone has.
    fn archived(&self) -> i64 {
        self.outcomes.values().map(|(_, archived)| archived).sum()
    }

    /// Returns what it is about.
    fn about(&self) -> String {
        let about = summary(&self.first);
        if about.trim().is_empty() {
            let prompt = self.first.text("rendered_prompt");
            return prompt.unwrap_or_default().to_owned();
        }
        about.trim().to_owned()
    }

    /// Returns it as a line of JSON.
    #[cfg_attr(not(feature = "archive"), expect(unused_variables, unused_mut))]
    pub(super) fn json(&self, arguments: &Find) -> String {
        let first = &self.first;
        let outcomes = self.outcomes.iter();
        let outcomes = outcomes.map(|(status, (count, _))| (status.as_str(), *count));
        let mut object = json!({
            "request_id": self.id(),
            "record_id": first.id(),
            "kind": word(first.table.kind()),
            // As in `show --json`.
            "began": first.text("started_at").or(first.text("created_at")),
            "tenant_id": first.text("tenant_id"),
            "tenant_key": first.tenant_key(),
            "user_id": first.text("user_id"),
            "about": self.about(),
            "outcomes": outcomes.collect::<BTreeMap<_, _>>(),
            "records": self.records(),
        });
        #[cfg(feature = "archive")]
        if arguments.is_of_archive() {
            object["archived"] = json!(self.archived());
        }
        escape_json(&object.to_string())
    }

    /// Returns the cells of its line; the fourth is what it is about.
    fn cells(&self) -> [String; 7] {
        let first = &self.first;
        let name = |text: &str| {
            let text = escape_line(text);
            if text.is_empty() {
                "-".to_owned()
            } else {
                text
            }
        };
        let tenant = first.tenant_key().or_else(|| first.text("tenant_id"));
        let mut outcomes = Vec::new();
        // In the order of the enum type, then those that a later version may add.
        let known = STATUSES.iter().copied();
        let new = self.outcomes.keys().map(String::as_str);
        for status in known.chain(new.filter(|status| !STATUSES.contains(status))) {
            if let Some((count, _)) = self.outcomes.get(status) {
                outcomes.push(format!("{count} {}", escape_line(status)));
            }
        }
        let mut records = match self.records() {
            1 => "1 record".to_owned(),
            count => format!("{count} records"),
        };
        if self.archived() > 0 {
            let _ = write!(records, ", {} archived", self.archived());
        }
        let request = match self.id() {
            // Never cut: it is passed to `show`.
            Some(id) => escape_line(id),
            None => format!("- {}", first.id()),
        };
        [
            format!("{}Z", escape_line(&first.began)),
            name(tenant.unwrap_or_default()),
            name(first.text("user_id").unwrap_or_default()),
            escape_line(&self.about()),
            outcomes.join(", "),
            records,
            request,
        ]
    }
}

/// Formats the searched time range and a line for each request. On a narrow terminal, what a
/// request is about and the names are cut first; then columns are left out, the id last.
pub(super) fn lines(found: &[Request], span: &Span, full: bool) -> String {
    let terminal = Terminal::of_stdout();
    let width = terminal.width.filter(|_| !full);
    let rows: Vec<[String; 7]> = found.iter().map(Request::cells).collect();
    let mut natural = [0; 7];
    for row in &rows {
        for (width, cell) in natural.iter_mut().zip(row) {
            *width = columns(cell).max(*width);
        }
    }
    if !full {
        for (at, most) in [(1, MAX_NAME), (2, MAX_NAME), (3, MAX_SUMMARY)] {
            natural[at] = natural[at].min(most);
        }
    }
    let widths = LINE.fit(natural, width);
    let head = format!("Requests with matching records {}, newest first", span.said);
    let mut out = String::new();
    for line in paragraph(&head, width, "").lines() {
        let _ = writeln!(out, "{}", terminal.dim(line));
    }
    for row in rows {
        let mut line = Vec::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let Some(width) = width else { continue };
            // A time is cut at its end without an ellipsis.
            let cell = match at {
                0 => cell.get(..width).unwrap_or(cell),
                _ => cell,
            };
            line.push(pad(cell, width));
        }
        let _ = writeln!(out, "{}", line.join("  ").trim_end());
    }
    out
}
