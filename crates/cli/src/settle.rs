//! `settle`: moves rows from the default partitions to partitions of their own.

use std::process::ExitCode;

use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row as _};

use crate::Settle;
use crate::database::{Database, begin_change};
use crate::error::Error;
use crate::retain::{print, refusal, told};
use crate::text::{Layout, Terminal, escape_json, escape_line, grouped, paragraph};

/// The partitions that rows of a default partition belong in, oldest first, and what prevents the move.
const PLAN: &str = r#"
    SELECT parent, partition, to_char(from_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS begins,
        to_char(to_time, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS ends, rows, obstacles
    FROM audit.plan_settling($1::text[])
    WHERE to_time > coalesce($2::text::timestamptz, '-infinity') ORDER BY from_time, parent"#;

const SETTLE: &str = "SELECT audit.settle_partition($1, $2::text::timestamptz)::text";

/// A partition that rows of a default partition belong in.
#[derive(Debug)]
struct Partition {
    parent: String,
    name: String,
    begins: String,
    ends: String,
    rows: i64,
    /// What prevents the move.
    obstacles: Vec<String>,
    /// The id of the event that records the move.
    settled: Option<String>,
}

impl FromRow<'_, PgRow> for Partition {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            parent: row.try_get("parent")?,
            name: row.try_get("partition")?,
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
    let mut partitions = plan(&mut connection, arguments)
        .await
        .map_err(|source| database.change_error("plan what is to be settled", source))?;
    let width = Terminal::of_stdout().width;
    for partition in &mut partitions {
        if arguments.yes && partition.obstacles.is_empty() {
            match settle(&mut connection, partition).await {
                Ok(event) => partition.settled = Some(event),
                Err(error) => {
                    let reason = refusal(&error)
                        .ok_or_else(|| database.change_error("settle a partition", error))?;
                    partition.obstacles.push(reason);
                }
            }
        }
        if !arguments.json {
            print(&line(partition, arguments.yes, width))?;
        }
    }
    let refused = partitions
        .iter()
        .filter(|partition| !partition.obstacles.is_empty())
        .count();
    print(&if arguments.json {
        json(&partitions)
    } else {
        paragraph(
            &summary(partitions.len(), refused, arguments.yes),
            width,
            "",
        )
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
) -> Result<Vec<Partition>, sqlx::Error> {
    let mut transaction = begin_change(connection).await?;
    let partitions = sqlx::query_as(PLAN)
        .bind((!arguments.kind.is_empty()).then_some(&arguments.kind))
        .bind(&arguments.from)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    Ok(partitions)
}

/// Moves the rows of one, in its own transaction, and returns the id of the event that records it.
async fn settle(
    connection: &mut PgConnection,
    partition: &Partition,
) -> Result<String, sqlx::Error> {
    let mut transaction = begin_change(connection).await?;
    let event = sqlx::query_scalar(SETTLE)
        .bind(&partition.parent)
        .bind(&partition.begins)
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

/// Formats one as one line, with what prevents the move below it.
fn line(partition: &Partition, moves: bool, width: Option<usize>) -> String {
    let (done, event) = match &partition.settled {
        Some(event) => ("settled", Some(format!("event {event}"))),
        None if partition.obstacles.is_empty() => ("would be settled", None),
        None if moves => ("not settled", None),
        None => ("would stay", None),
    };
    let cells = [
        escape_line(&partition.name),
        format!("{:>12} rows", grouped(partition.rows)),
        format!("in {}_default", escape_line(&partition.parent)),
        done.to_owned(),
    ];
    told(&LINE, &cells, event, &partition.obstacles, width)
}

/// Summarizes the result.
fn summary(partitions: usize, refused: usize, moves: bool) -> String {
    let movable = partitions - refused;
    match (partitions, moves) {
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

/// Formats them as JSON.
fn json(partitions: &[Partition]) -> String {
    let object = |partition: &Partition| {
        json!({
            "partition": partition.name,
            "kind": partition.parent,
            "from": partition.begins,
            "to": partition.ends,
            "rows": partition.rows,
            "obstacles": partition.obstacles,
            "settled": partition.settled.is_some(),
            "event": partition.settled,
        })
    };
    let partitions: Vec<String> = partitions
        .iter()
        .map(|partition| escape_json(&Value::to_string(&object(partition))))
        .collect();
    format!("[{}]\n", partitions.join(",\n "))
}
