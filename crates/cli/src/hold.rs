//! `hold` and `release`: legal holds, which keep records from being removed.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use sqlx::{FromRow, Row as _};
use tracing_audit::__program::Table;

use crate::database::{Database, begin, begin_change};
use crate::error::Error;
use crate::tables;
use crate::text::{Terminal, escape_json, escape_line, grouped, paragraph, wrap};

/// Arguments of `hold`.
#[derive(Args, Debug)]
pub(crate) struct Hold {
    /// Why: the case, and who asked for it. It is recorded in the trail.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    #[arg(required_unless_present = "list")]
    reason: Option<String>,
    /// Holds this tenant's records only; a UUID, or the key the application uses.
    #[arg(long, value_name = "KEY")]
    tenant: Option<String>,
    /// Also places a hold on a tenant of which there is no record yet.
    #[arg(long, requires = "tenant")]
    even_if_unknown: bool,
    /// Holds records that began at this time or later: 2026-01-01, or 2026-01-01T12:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Holds records that began before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Holds records of this kind only; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    kind: Vec<String>,
    /// Lists all holds, those in force first, in place of placing one.
    #[arg(long, conflicts_with_all = ["reason", "tenant", "even_if_unknown", "from", "to", "kind"])]
    list: bool,
    /// Prints the id of the hold with what it covers, or the list, as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `release`.
#[derive(Args, Debug)]
pub(crate) struct Release {
    /// The id of the hold, as `hold` printed it and `hold --list` does.
    #[arg(value_name = "HOLD_ID")]
    hold: String,
    /// Why it ends. It is recorded in the trail.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
}

const PLACE: &str = "
    SELECT audit.place_hold($1, CASE WHEN $2::text IS NOT NULL THEN audit.tenant_uuid($2) END,
        coalesce($3::text::timestamptz, '-infinity'), coalesce($4::text::timestamptz, 'infinity'), $5::text[], $6)::text";

/// What a new hold covers.
const COVERAGE: &str = "SELECT partitions, records FROM audit.hold_coverage($1::text::uuid)";

const LIFT: &str = "SELECT audit.lift_hold($1::text::uuid, $2)::text";

/// All holds: those in force first, newest first. Their bounds are exact, to the microsecond and
/// also before Christ.
const LIST: &str = r#"
    SELECT h.id::text, h.reason, h.tenant_id::text, h.kinds,
        CASE WHEN isfinite(h.from_time) THEN replace(to_json(h.from_time) #>> '{}', '+00:00', 'Z') END AS begins,
        CASE WHEN isfinite(h.to_time) THEN replace(to_json(h.to_time) #>> '{}', '+00:00', 'Z') END AS ends,
        h.placed_by, coalesce(to_char(h.placed_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), h.placed_at::text) AS placed_at,
        c.partitions, c.records, c.tenant_key, l.lifted_by, coalesce(to_char(l.lifted_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), l.lifted_at::text) AS lifted_at, l.reason AS lift_reason
    FROM audit.legal_holds h LEFT JOIN audit.legal_hold_lifts l ON l.hold_id = h.id
    LEFT JOIN LATERAL audit.hold_coverage(CASE WHEN l.hold_id IS NULL THEN h.id END) c ON true
    ORDER BY l.lifted_at IS NOT NULL, h.placed_at DESC, h.id"#;

/// A hold, as listed.
#[derive(Debug)]
struct Listed {
    id: String,
    reason: String,
    tenant_id: Option<String>,
    kinds: Option<Vec<String>>,
    /// `None`: from the beginning.
    begins: Option<String>,
    /// `None`: without an end.
    ends: Option<String>,
    placed_by: String,
    placed_at: String,
    /// What it covers now, while it is in force.
    partitions: Option<i64>,
    records: Option<i64>,
    /// The application's key for the tenant, if one of its records has it.
    tenant_key: Option<String>,
    lift: Option<Lift>,
}

/// How a hold ended.
#[derive(Debug)]
struct Lift {
    by: String,
    at: String,
    reason: String,
}

impl FromRow<'_, PgRow> for Listed {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let lifted_by: Option<String> = row.try_get("lifted_by")?;
        let lift = match lifted_by {
            Some(by) => Some(Lift {
                by,
                at: row.try_get("lifted_at")?,
                reason: row.try_get("lift_reason")?,
            }),
            None => None,
        };
        Ok(Self {
            id: row.try_get("id")?,
            reason: row.try_get("reason")?,
            tenant_id: row.try_get("tenant_id")?,
            kinds: row.try_get("kinds")?,
            begins: row.try_get("begins")?,
            ends: row.try_get("ends")?,
            placed_by: row.try_get("placed_by")?,
            placed_at: row.try_get("placed_at")?,
            partitions: row.try_get("partitions")?,
            records: row.try_get("records")?,
            tenant_key: row.try_get("tenant_key")?,
            lift,
        })
    }
}

/// Places a hold, or lists all.
pub(crate) async fn run(database: &Database, arguments: &Hold) -> Result<(), Error> {
    let text = if arguments.list {
        list(database, arguments.json).await?
    } else {
        place(database, arguments).await?
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

async fn place(database: &Database, arguments: &Hold) -> Result<String, Error> {
    let failed = |source| database.change_error("place a legal hold", source);
    let mut connection = database.connect_to_trail().await?;
    let mut transaction = begin_change(&mut connection).await.map_err(failed)?;
    let id: String = sqlx::query_scalar(PLACE)
        .bind(&arguments.reason)
        .bind(&arguments.tenant)
        .bind(&arguments.from)
        .bind(&arguments.to)
        .bind((!arguments.kind.is_empty()).then_some(&arguments.kind))
        .bind(arguments.even_if_unknown)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    let (partitions, records): (i64, i64) = sqlx::query_as(COVERAGE)
        .bind(&id)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(if arguments.json {
        let placed = json!({ "id": id, "partitions": partitions, "records": records });
        format!("{placed}\n")
    } else {
        format!(
            "The legal hold {id} is placed. It covers {} now. What it covers is not removed until it is lifted:\n  \
             tracing-audit release {id} --reason TEXT\n",
            coverage(partitions, records)
        )
    })
}

async fn list(database: &Database, as_json: bool) -> Result<String, Error> {
    let failed = |source| database.read_error(source);
    let mut connection = database.connect_to_trail().await?;
    let (mut transaction, _) = begin(&mut connection, None).await.map_err(failed)?;
    let holds: Vec<Listed> = sqlx::query_as(LIST)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
    if as_json {
        let holds: Vec<String> = holds.iter().map(object).collect();
        return Ok(format!("[{}]\n", holds.join(",\n ")));
    }
    if holds.is_empty() {
        return Ok("There is no legal hold.\n".to_owned());
    }
    let terminal = Terminal::of_stdout();
    let mut text = String::new();
    for hold in &holds {
        write_hold(&mut text, terminal, hold);
    }
    Ok(text)
}

/// Describes what a hold covers.
fn coverage(partitions: i64, records: i64) -> String {
    let counted = |count: i64, noun: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{} {noun}{plural}", grouped(count))
    };
    format!(
        "{} in {}",
        counted(records, "record"),
        counted(partitions, "partition")
    )
}

fn write_hold(out: &mut String, terminal: Terminal, hold: &Listed) {
    let state = if hold.lift.is_some() {
        "lifted"
    } else {
        "in force"
    };
    let head = format!("{}  {state}", hold.id);
    for (at, line) in paragraph(&head, terminal.width, "").lines().enumerate() {
        let line = match line.strip_prefix(&hold.id) {
            Some(state) if at == 0 => format!("{}{state}", terminal.bold(&hold.id)),
            _ => line.to_owned(),
        };
        let _ = writeln!(out, "{line}");
    }
    let kinds = match &hold.kinds {
        Some(kinds) => kinds.join(", "),
        None => Table::ALL.map(Table::name).join(", "),
    };
    let span = match (&hold.begins, &hold.ends) {
        (None, None) => "of any time".to_owned(),
        (Some(from), None) => format!("from {from} on"),
        (None, Some(to)) => format!("before {to}"),
        (Some(from), Some(to)) => format!("from {from} to {to}"),
    };
    let mut entry = |label: &str, text: &str| {
        let text = escape_line(text);
        let room = terminal
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(11));
        let mut label = label;
        for piece in wrap(&text, room) {
            let line = format!("  {label:<9}{piece}");
            let _ = writeln!(out, "{}", line.trim_end());
            label = "";
        }
    };
    entry("reason", &hold.reason);
    match (&hold.tenant_id, &hold.tenant_key) {
        (Some(id), Some(key)) => entry("tenant", &format!("{key} ({id})")),
        (Some(id), None) => entry("tenant", id),
        (None, _) => entry("tenant", "all"),
    }
    entry("records", &format!("{kinds}, {span}"));
    if let (Some(partitions), Some(records)) = (hold.partitions, hold.records) {
        entry("covers", &coverage(partitions, records));
    }
    entry(
        "placed",
        &format!("{} by {}", hold.placed_at, hold.placed_by),
    );
    if let Some(lift) = &hold.lift {
        entry(
            "lifted",
            &format!("{} by {}: {}", lift.at, lift.by, lift.reason),
        );
    }
}

/// Formats a hold as JSON.
fn object(hold: &Listed) -> String {
    let lift = hold.lift.as_ref();
    escape_json(&Value::to_string(&json!({
        "id": hold.id,
        "in_force": lift.is_none(),
        "reason": hold.reason,
        "tenant_id": hold.tenant_id,
        "tenant_key": hold.tenant_key,
        "partitions": hold.partitions,
        "records": hold.records,
        "kinds": hold.kinds,
        "from": hold.begins,
        "to": hold.ends,
        "placed_by": hold.placed_by,
        "placed_at": hold.placed_at,
        "lifted_by": lift.map(|lift| &lift.by),
        "lifted_at": lift.map(|lift| &lift.at),
        "lift_reason": lift.map(|lift| &lift.reason),
    })))
}

/// Lifts a hold.
pub(crate) async fn release(database: &Database, arguments: &Release) -> Result<(), Error> {
    let nothing_found = || {
        let place = database.name();
        Error::NothingFound(format!(
            "there is no legal hold {} in {place}",
            arguments.hold
        ))
    };
    let failed = |source: sqlx::Error| {
        let code = source.as_database_error().and_then(DatabaseError::code);
        if code.is_some_and(|code| code == "P0002") {
            return nothing_found();
        }
        database.change_error("lift a legal hold", source)
    };
    if Uuid::try_parse(&arguments.hold).is_err() {
        return Err(nothing_found());
    }
    let mut connection = database.connect_to_trail().await?;
    let mut transaction = begin_change(&mut connection).await.map_err(failed)?;
    sqlx::query(LIFT)
        .bind(&arguments.hold)
        .bind(&arguments.reason)
        .persistent(false)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    let text = format!(
        "The legal hold {} is lifted.\n",
        escape_line(&arguments.hold)
    );
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
