//! `settle`: moves rows from the default partitions to months of their own.

use std::process::ExitCode;

use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row as _};

use crate::Settle;
use crate::database::{Database, begin_change};
use crate::error::Error;
use crate::retain::{print, refusal, told};
use crate::text::{Layout, Terminal, escape_json, escape_line, grouped, paragraph};

/// The months with rows in a default partition, oldest first, and what prevents the move.
const PLAN: &str = r#"
    SELECT parent, partition, to_char(from_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS begins,
        to_char(to_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS ends, rows, obstacles
    FROM audit.plan_settling($1::text[])
    WHERE to_time > coalesce($2::text::timestamptz, '-infinity') ORDER BY from_time, parent"#;

const SETTLE: &str = "SELECT audit.settle_month($1, $2::text::timestamptz)::text";

/// A month with rows in a default partition.
#[derive(Debug)]
struct Month {
    parent: String,
    partition: String,
    begins: String,
    ends: String,
    rows: i64,
    /// What prevents the move.
    obstacles: Vec<String>,
    /// The id of the event that records the move.
    settled: Option<String>,
}

impl FromRow<'_, PgRow> for Month {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            parent: row.try_get("parent")?,
            partition: row.try_get("partition")?,
            begins: row.try_get("begins")?,
            ends: row.try_get("ends")?,
            rows: row.try_get("rows")?,
            obstacles: row.try_get("obstacles")?,
            settled: None,
        })
    }
}

/// Prints what would be moved, or moves it.
pub(crate) async fn run(database: &Database, arguments: &Settle) -> Result<ExitCode, Error> {
    let mut connection = database.connect_to_trail().await?;
    let mut months = plan(&mut connection, arguments)
        .await
        .map_err(|source| database.change_error("plan what is to be settled", source))?;
    let width = Terminal::of_stdout().width;
    for month in &mut months {
        if arguments.yes && month.obstacles.is_empty() {
            match settle(&mut connection, month).await {
                Ok(event) => month.settled = Some(event),
                Err(error) => {
                    let reason = refusal(&error)
                        .ok_or_else(|| database.change_error("settle a month", error))?;
                    month.obstacles.push(reason);
                }
            }
        }
        if !arguments.json {
            print(&line(month, arguments.yes, width))?;
        }
    }
    let refused = months
        .iter()
        .filter(|month| !month.obstacles.is_empty())
        .count();
    print(&if arguments.json {
        json(&months)
    } else {
        paragraph(&summary(months.len(), refused, arguments.yes), width, "")
    })?;
    Ok(if arguments.yes && refused > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Returns what is in the default partitions. Changes nothing.
async fn plan(
    connection: &mut PgConnection,
    arguments: &Settle,
) -> Result<Vec<Month>, sqlx::Error> {
    let mut transaction = begin_change(connection).await?;
    let months = sqlx::query_as(PLAN)
        .bind((!arguments.kind.is_empty()).then_some(&arguments.kind))
        .bind(&arguments.from)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    Ok(months)
}

/// Moves one month, in its own transaction, and returns the id of the event that records it.
async fn settle(connection: &mut PgConnection, month: &Month) -> Result<String, sqlx::Error> {
    let mut transaction = begin_change(connection).await?;
    let event = sqlx::query_scalar(SETTLE)
        .bind(&month.parent)
        .bind(&month.begins)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(event)
}

/// A line: the future partition, its rows, where they are, and what happens to them.
const LINE: Layout<4> = Layout {
    least: [18, 17, 20, 16],
    shrink: &[3, 0, 1, 2],
    drop: &[2, 1, 3],
};

/// Formats a month as one line, with what prevents the move below it.
fn line(month: &Month, moves: bool, width: Option<usize>) -> String {
    let (done, event) = match &month.settled {
        Some(event) => ("settled", Some(format!("event {event}"))),
        None if month.obstacles.is_empty() => ("would be settled", None),
        None if moves => ("not settled", None),
        None => ("would stay", None),
    };
    let cells = [
        escape_line(&month.partition),
        format!("{:>12} rows", grouped(month.rows)),
        format!("in {}_default", escape_line(&month.parent)),
        done.to_owned(),
    ];
    told(&LINE, &cells, event, &month.obstacles, width)
}

/// Summarizes the result.
fn summary(months: usize, refused: usize, moves: bool) -> String {
    let movable = months - refused;
    match (months, moves) {
        (0, _) => "The default partitions have no such row. Nothing was changed.".to_owned(),
        (_, true) => format!("{movable} settled, {refused} not settled."),
        (_, false) if movable > 0 => format!(
            "{movable} would be settled, {refused} would stay. Nothing was changed: run this again with --yes to settle what can be."
        ),
        (_, false) => format!(
            "0 would be settled, {refused} would stay. Nothing was changed: there is nothing that --yes would settle."
        ),
    }
}

/// Formats the months as JSON.
fn json(months: &[Month]) -> String {
    let object = |month: &Month| {
        json!({
            "partition": month.partition,
            "kind": month.parent,
            "from": month.begins,
            "to": month.ends,
            "rows": month.rows,
            "obstacles": month.obstacles,
            "settled": month.settled.is_some(),
            "event": month.settled,
        })
    };
    let months: Vec<String> = months
        .iter()
        .map(|month| escape_json(&Value::to_string(&object(month))))
        .collect();
    format!("[{}]\n", months.join(",\n "))
}
