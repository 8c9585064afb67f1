//! `show`: the story of one request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write as _};

use tracing_audit::Kind;

use crate::Show;
use crate::database::{Database, begin, record_reading};
use crate::error::Error;
use crate::record::{LONG, Writer, human, label};
use crate::row::{Row, select};
use crate::text::{Terminal, duration, escape_line};
use crate::tree;

/// The columns that say who and where; told once when all records agree.
const CIRCUMSTANCES: [&str; 8] = [
    "tenant_id",
    "user_id",
    "user_role",
    "agent_id",
    "service_name",
    "llm_session_id",
    "conversation_id",
    "trace_id",
];

/// Prints the story of a request.
pub(crate) async fn run(database: &Database, arguments: &Show) -> Result<(), Error> {
    let rows = read(database, arguments).await?;
    let mut out = String::new();
    if arguments.reading.json {
        let rows: Vec<String> = rows.iter().map(Row::json).collect();
        let _ = writeln!(out, "[{}]", rows.join(",\n "));
    } else if !rows.is_empty() {
        write_story(&mut out, &rows, arguments);
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    stdout.flush()?;
    if rows.is_empty() {
        Err(nothing(database, arguments))
    } else {
        Ok(())
    }
}

/// The request's rows, by their start.
async fn read(database: &Database, arguments: &Show) -> Result<Vec<Row>, Error> {
    let mut connection = database.connect_to_trail().await?;
    let (request, tenant) = (&arguments.request_id, arguments.reading.tenant.as_deref());
    if let Some(purpose) = &arguments.reading.purpose {
        record_reading(database, &mut connection, purpose, Some(request), tenant).await?;
    }
    let failed = |source| database.read_error(source);
    let (mut transaction, tenant) = begin(&mut connection, tenant).await.map_err(failed)?;
    let condition = "request_id = $1 AND ($2::uuid IS NULL OR tenant_id = $2)";
    sqlx::query_as(select(&Kind::ALL, condition, "began_us, seq, id"))
        .bind(request)
        .bind(tenant)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)
}

/// Says that there is nothing, and why that may be.
fn nothing(database: &Database, arguments: &Show) -> Error {
    let request = &arguments.request_id;
    let place = database.name();
    Error::NothingFound(match &arguments.reading.tenant {
        Some(tenant) => {
            format!("there is no record of request {request:?} of tenant {tenant:?} in {place}")
        }
        None => format!(
            "there is no record of request {request:?} in {place}, or none that this role may \
             read; name the tenant with --tenant if the role is bound to one"
        ),
    })
}

/// Writes the whole story: what all records share, then the tree of them.
fn write_story(out: &mut String, rows: &[Row], arguments: &Show) {
    let terminal = Terminal::of_stdout();
    let origin_us = rows
        .iter()
        .map(|row| row.began_us)
        .min()
        .unwrap_or_default();
    let differing: Vec<&str> = CIRCUMSTANCES
        .into_iter()
        .filter(|column| {
            rows.iter()
                .any(|row| row.text(column) != rows[0].text(column))
        })
        .collect();
    let _ = writeln!(
        out,
        "{} {}",
        terminal.bold("Request"),
        terminal.bold(&escape_line(&arguments.request_id))
    );
    let writer = Writer {
        terminal,
        full: arguments.full,
        origin_us,
        differing: &differing,
    };
    let mut say = |label: &str, text: &str| writer.entry(out, "  ", label, text, LONG);
    for column in CIRCUMSTANCES {
        let values = values(rows, column);
        if !values.is_empty() {
            say(
                label(column),
                &values.into_iter().collect::<Vec<_>>().join(", "),
            );
        }
    }
    say("began", &format!("{} UTC", rows[0].began));
    say("took", &total(rows, origin_us));
    say("records", &counts(rows));
    out.push('\n');
    for place in tree::places(rows) {
        writer.write(out, &place);
    }
}

/// Every value of a column, a tenant with the application's own name for it.
fn values(rows: &[Row], column: &str) -> BTreeSet<String> {
    let value = |row: &Row| {
        let value = row.text(column)?;
        match row.tenant_key().filter(|_| column == "tenant_id") {
            Some(key) => Some(format!("{key} ({value})")),
            None => Some(value.to_owned()),
        }
    };
    rows.iter().filter_map(value).collect()
}

/// From the first start to the last end that is known.
fn total(rows: &[Row], origin_us: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown in milliseconds")]
    let end = |row: &Row| (row.began_us - origin_us) as f64 / 1000.0 + row.took_ms.unwrap_or(0.0);
    let mut total = duration(rows.iter().map(end).fold(0.0, f64::max));
    if rows
        .iter()
        .any(|row| row.took_ms.is_none() && row.kind != Kind::Event)
    {
        total.push_str(" or more: the end of a run is not known");
    }
    total
}

/// How many records of each kind, and with which outcomes.
fn counts(rows: &[Row]) -> String {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *kinds.entry(row.kind).or_default() += 1;
        *outcomes.entry(row.status()).or_default() += 1;
    }
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|(kind, n)| format!("{n} {}", human(kind, n)))
        .collect();
    let outcomes: Vec<String> = outcomes
        .into_iter()
        .map(|(outcome, n)| format!("{n} {outcome}"))
        .collect();
    format!("{}; {}", kinds.join(", "), outcomes.join(", "))
}
