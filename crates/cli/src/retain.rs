//! `retain`: removes partitions whose records are all past their retention.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row as _};

use crate::Retain;
use crate::database::{Database, begin_change};
use crate::error::Error;
use crate::text::{Layout, Terminal, columns, escape_json, escape_line, grouped, pad, paragraph};

/// The partitions that are old enough, oldest first, and what prevents their removal.
const PLAN: &str = r#"
    SELECT parent, partition, to_char(from_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS begins,
        to_char(to_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS ends, rows, bytes, obstacles
    FROM audit.plan_retention($1::text::interval, $2::text[]) ORDER BY from_time, parent"#;

const REMOVE: &str = "SELECT audit.remove_partition($1, $2::text::interval)::text";

/// A partition that is old enough to go.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) begins: String,
    pub(crate) ends: String,
    pub(crate) rows: i64,
    bytes: i64,
    /// What prevents its removal.
    pub(crate) obstacles: Vec<String>,
    /// The id of the event that records its removal.
    pub(crate) removed: Option<String>,
}

impl FromRow<'_, PgRow> for Partition {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            parent: row.try_get("parent")?,
            name: row.try_get("partition")?,
            begins: row.try_get("begins")?,
            ends: row.try_get("ends")?,
            rows: row.try_get("rows")?,
            bytes: row.try_get("bytes")?,
            obstacles: row.try_get("obstacles")?,
            removed: None,
        })
    }
}

/// Prints what would be removed, or removes it.
pub(crate) async fn run(database: &Database, arguments: &Retain) -> Result<ExitCode, Error> {
    let mut connection = database.connect_to_trail().await?;
    let mut partitions = plan(&mut connection, &arguments.keep, &arguments.kind)
        .await
        .map_err(|source| database.change_error("plan what is to be removed", source))?;
    let widest = widest(&partitions);
    let width = Terminal::of_stdout().width;
    for partition in &mut partitions {
        if arguments.yes && partition.obstacles.is_empty() {
            match remove(&mut connection, partition, arguments).await {
                Ok(event) => partition.removed = Some(event),
                Err(error) => {
                    let reason = refusal(&error)
                        .ok_or_else(|| database.change_error("remove a partition", error))?;
                    partition.obstacles.push(reason);
                }
            }
        }
        if !arguments.json {
            print(&line(partition, widest, arguments.yes, width))?;
        }
    }
    let (text, refused) = summary(&partitions, &arguments.keep, arguments.yes);
    print(&if arguments.json {
        json(&partitions)
    } else {
        paragraph(&text, width, "")
    })?;
    Ok(if arguments.yes && refused > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Returns the partitions that are old enough. Changes nothing.
pub(crate) async fn plan(
    connection: &mut PgConnection,
    keep: &str,
    kinds: &[String],
) -> Result<Vec<Partition>, sqlx::Error> {
    let kinds = (!kinds.is_empty()).then_some(kinds);
    let mut transaction = begin_change(connection).await?;
    let partitions = sqlx::query_as(PLAN)
        .bind(keep)
        .bind(kinds)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    Ok(partitions)
}

/// Removes one partition, in its own transaction, and returns the id of the event that records it.
async fn remove(
    connection: &mut PgConnection,
    partition: &Partition,
    arguments: &Retain,
) -> Result<String, sqlx::Error> {
    let mut transaction = begin_change(connection).await?;
    let event = sqlx::query_scalar(REMOVE)
        .bind(&partition.name)
        .bind(&arguments.keep)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(event)
}

/// Returns why a partition was not removed, if the next one may be: a hold placed meanwhile, a lock
/// that another session holds, another session that has removed it, a row that Postgres cannot
/// hash. `None` if the next one would meet the same: a connection that is lost, a missing right, a
/// server that takes no changes, functions of another version.
pub(crate) fn refusal(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    let code = error.code()?;
    let starts_with = |classes: &[&str]| classes.iter().any(|class| code.starts_with(class));
    if starts_with(&["08", "57P", "42501", "25006", "0A", "42883", "3F"]) {
        return None;
    }
    Some(if starts_with(&["55", "2BP01", "23503"]) {
        // The trail's own words, or those of Postgres for the same.
        error.message().to_owned()
    } else if starts_with(&["22", "23"]) {
        // The message may repeat a value.
        format!("Postgres refused it (SQLSTATE {code})")
    } else {
        format!("{} (SQLSTATE {code})", error.message())
    })
}

/// Prints a part of the output and flushes it.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// A line: the partition, its span, its rows, its size, and what happens to it.
const LINE: Layout<5> = Layout {
    least: [18, 24, 17, 9, 16],
    shrink: &[4, 0, 1, 2, 3],
    drop: &[3, 1, 2, 4],
};

/// Returns how wide the widest name is: lines are aligned across all partitions, though each removal is printed as soon as it is
/// done.
pub(crate) fn widest(partitions: &[Partition]) -> usize {
    let names = partitions.iter();
    let widths = names.map(|partition| columns(&escape_line(&partition.name)));
    widths.max().unwrap_or_default()
}

/// Formats a partition as one line, with what prevents its removal below it.
pub(crate) fn line(
    partition: &Partition,
    widest: usize,
    removes: bool,
    width: Option<usize>,
) -> String {
    let date = |time: &str| time.get(..10).unwrap_or(time).to_owned();
    let (done, event) = match &partition.removed {
        Some(event) => ("removed", Some(format!("event {event}"))),
        None if partition.obstacles.is_empty() => ("would be removed", None),
        None if removes => ("not removed", None),
        None => ("would stay", None),
    };
    let cells = [
        pad(&escape_line(&partition.name), widest),
        format!("{} to {}", date(&partition.begins), date(&partition.ends)),
        format!("{:>12} rows", grouped(partition.rows)),
        format!("{:>9}", size(partition.bytes)),
        done.to_owned(),
    ];
    told(&LINE, &cells, event, &partition.obstacles, width)
}

/// Formats a line of cells, with the event that records the change and the obstacles below it.
pub(crate) fn told<const N: usize>(
    layout: &Layout<N>,
    cells: &[String; N],
    event: Option<String>,
    obstacles: &[String],
    width: Option<usize>,
) -> String {
    let widths = layout.fit(cells.each_ref().map(|cell| columns(cell)), width);
    let cells = cells.iter().zip(widths);
    let cells: Vec<String> = cells
        .filter_map(|(cell, width)| Some(pad(cell, width?)))
        .collect();
    let mut text = cells.join("  ").trim_end().to_owned();
    let mut below = Vec::new();
    if let Some(event) = event {
        let beside = format!("{text}, {event}");
        if width.is_none_or(|width| columns(&beside) <= width) {
            text = beside;
        } else {
            below.push(event);
        }
    }
    text.push('\n');
    below.extend(obstacles.iter().map(|obstacle| escape_line(obstacle)));
    for line in below {
        text.push_str(&paragraph(&line, width, "  "));
    }
    text
}

/// Summarizes the result. Also returns how many partitions are not removed because of something.
pub(crate) fn summary(partitions: &[Partition], keep: &str, removes: bool) -> (String, usize) {
    let refused = partitions.iter();
    let refused = refused
        .filter(|partition| !partition.obstacles.is_empty())
        .count();
    (said(partitions, refused, keep, removes), refused)
}

fn said(partitions: &[Partition], refused: usize, keep: &str, removes: bool) -> String {
    let keep = escape_line(keep);
    if partitions.is_empty() {
        return format!("No partition is of records older than {keep} only. Nothing was removed.");
    }
    let removable = partitions.len() - refused;
    if removes {
        return format!("{removable} removed, {refused} not removed.");
    }
    let advice = if removable > 0 {
        "run this again with --yes to remove what can be"
    } else {
        "there is nothing that --yes would remove"
    };
    format!("{removable} would be removed, {refused} would stay. Nothing was removed: {advice}.")
}

/// Returns a partition as JSON.
pub(crate) fn object(partition: &Partition) -> Value {
    json!({
        "partition": partition.name,
        "kind": partition.parent,
        "from": partition.begins,
        "to": partition.ends,
        "rows": partition.rows,
        "bytes": partition.bytes,
        "obstacles": partition.obstacles,
        "removed": partition.removed.is_some(),
        "event": partition.removed,
    })
}

/// Formats the partitions as JSON.
fn json(partitions: &[Partition]) -> String {
    let partitions: Vec<String> = partitions
        .iter()
        .map(|partition| escape_json(&object(partition).to_string()))
        .collect();
    format!("[{}]\n", partitions.join(",\n "))
}

/// Formats a size in the unit that reads best.
fn size(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(size < 9.95);
    format!("{size:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::{grouped, size};

    #[test]
    fn counts_have_thousands_separators_and_sizes_have_units() {
        let counts = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let sizes = [0, 1_023, 1_024, 65_536, 9_961_472, 5 << 40].map(size);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "64 KiB", "9.5 MiB", "5.0 TiB"]
        );
    }
}
