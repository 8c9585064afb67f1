//! Records as a tree that a person reads when an assertion fails.

use std::collections::{HashMap, HashSet};
use std::fmt;

use uuid::Uuid;

use super::columns::Record;
use crate::record::row::Cell;
use crate::vocabulary::{Field, Kind};

/// How many characters of a value are shown.
const SHOWN_CHARS: usize = 300;

/// Writes the records: those of a request below its id, each below the one that encloses it.
pub(super) fn write(f: &mut fmt::Formatter<'_>, records: &[Record]) -> fmt::Result {
    let ids: HashSet<Uuid> = records.iter().map(Record::id).collect();
    let mut requests: Vec<Option<&str>> = Vec::new();
    let (mut tops, mut inside) = (Vec::new(), HashMap::<Uuid, Vec<&Record>>::new());
    for record in records {
        if let Some(parent) = record.parent_id().filter(|parent| ids.contains(parent)) {
            inside.entry(parent).or_default().push(record);
            continue;
        }
        if !requests.contains(&record.request_id()) {
            requests.push(record.request_id());
        }
        tops.push(record);
    }
    for request in requests {
        match request {
            Some(id) => writeln!(f, "  request {id}")?,
            None => writeln!(f, "  no request")?,
        }
        let mut left: Vec<(&Record, usize)> = Vec::new();
        let of_request = tops.iter().rev();
        left.extend(
            of_request
                .filter(|top| top.request_id() == request)
                .map(|top| (*top, 2)),
        );
        while let Some((record, depth)) = left.pop() {
            write_one(f, record, depth)?;
            let children = inside.get(&record.id()).into_iter().flatten().rev();
            left.extend(children.map(|child| (*child, depth + 1)));
        }
    }
    Ok(())
}

/// Writes a record at this depth: a line that names it, and one for each value.
fn write_one(f: &mut fmt::Formatter<'_>, record: &Record, depth: usize) -> fmt::Result {
    let margin = "  ".repeat(depth);
    let kind = match record.kind() {
        Kind::QueryRun => "query run",
        Kind::PromptRun => "prompt run",
        Kind::Event => "event",
    };
    write!(f, "{margin}{kind}  {}", record.status())?;
    if let Some(took) = record.duration() {
        write!(f, "  {:.1} ms", took.as_secs_f64() * 1_000.0)?;
    }
    writeln!(f)?;
    for &field in Field::ALL {
        if field == Field::RequestId {
            continue;
        }
        let value = match record.cell(field) {
            Cell::Null => continue,
            Cell::Text(text) => one_line(text),
            Cell::Int(int) => int.to_string(),
            Cell::Uuid(id) => id.to_string(),
        };
        writeln!(f, "{margin}    {} {value}", field.name())?;
    }
    let metadata = record.metadata();
    if metadata
        .as_object()
        .is_some_and(|object| !object.is_empty())
    {
        writeln!(
            f,
            "{margin}    metadata {}",
            one_line(&metadata.to_string())
        )?;
    }
    for problem in record.problems() {
        writeln!(f, "{margin}    problem {}", one_line(problem))?;
    }
    for redaction in record.redactions() {
        writeln!(f, "{margin}    redacted {}", one_line(redaction))?;
    }
    Ok(())
}

/// Returns the beginning of a text with its line breaks escaped.
fn one_line(text: &str) -> String {
    let mut chars = text.chars();
    let beginning: String = chars.by_ref().take(SHOWN_CHARS).collect();
    let line = beginning.replace('\n', "\\n").replace('\r', "\\r");
    let rest = chars.count();
    if rest > 0 {
        format!("{line}… and {rest} characters more")
    } else {
        line
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(request) = self.request_id() {
            writeln!(f, "request {request}")?;
        }
        write_one(f, self, 0)
    }
}
