//! `find`: lists requests by user, tenant, time, outcome or text.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::str::FromStr as _;

use serde_json::json;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Executor as _, FromRow, Row as _};
use tracing_audit::__program::Table;

use crate::complain;
use crate::database::{Database, begin, is_bound_to_none, record_reading};
use crate::error::Error;
use crate::filter::searched_texts;
use crate::pages::{Extent, Pages};
use crate::row::{RecordId, Row, table_of, word};
use crate::tail::summary;
use crate::text::{Layout, Terminal, columns, escape_json, escape_line, pad, paragraph};
use crate::{Find, STATUSES};

/// Limits how long a statement may run, and fixes the format in which times are written and read.
/// A lower limit of the role stays.
const SET_UP: &str = "SET LOCAL DateStyle = 'ISO, MDY';
    SELECT pg_catalog.set_config('statement_timeout', '15s', true) FROM pg_catalog.pg_settings
    WHERE name OPERATOR(pg_catalog.=) 'statement_timeout'
        AND setting::pg_catalog.int8 NOT BETWEEN 1 AND 15000";

/// Reads a time: the least id at that time, and the time as text; both null if it is out of range.
const MOMENT: &str = "
    SELECT CASE WHEN is_usual THEN audit.id_at(at)::text END,
        CASE WHEN is_usual THEN to_char(at, 'YYYY-MM-DD HH24:MI:SS') END
    FROM (SELECT at, at BETWEEN '1970-01-01Z' AND '9999-12-31 23:59:59.999Z' AS is_usual
        FROM (SELECT $1::text::timestamptz AS at) AS given) AS looked_at";

/// The default start of the search.
const WEEK_BEFORE: &str = "
    SELECT greatest(coalesce($1::text::timestamptz, now()) - interval '7 days', '1970-01-01Z')::text";

/// How many characters of each text `--text` searches: all that the library writes
/// ([`Limits::MAX_BYTES`](tracing_audit::Limits::MAX_BYTES)). Postgres cannot convert a text twice
/// as long to lower case.
const LOOKED_AT: usize = 128 * 1024 * 1024;

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
/// request.
struct Request {
    first: Row,
    outcomes: BTreeMap<String, i64>,
}

/// Identifies the request of a record. A record without a request stands for itself.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: Option<Uuid>,
    request: Option<String>,
}

/// The first matching record of a request, and the request.
struct Hit {
    record: RecordId,
    tenant: Option<Uuid>,
    request: Option<String>,
}

impl FromRow<'_, PgRow> for Hit {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            record: RecordId {
                table: table_of(row)?,
                id: row.try_get("id")?,
            },
            tenant: row.try_get("tenant_id")?,
            request: row.try_get("request")?,
        })
    }
}

/// The time range that was searched.
struct Span {
    from: Uuid,
    /// `None`: up to the newest record, even one that a clock dated ahead.
    to: Option<Uuid>,
    /// The range as shown to the user.
    said: String,
}

/// Prints the matching requests, newest first.
pub(crate) async fn run(database: &Database, arguments: &Find) -> Result<(), Error> {
    let tenant = arguments.reading.tenant.as_deref();
    let mut connection = database.connect_to_trail().await?;
    let own = match &arguments.reading.purpose {
        Some(purpose) => {
            Some(record_reading(database, &mut connection, purpose, None, tenant, None).await?)
        }
        None => None,
    };
    let failed = |source| read_error(database, source);
    let key = tenant;
    let (mut transaction, tenant) = begin(&mut connection, tenant).await.map_err(failed)?;
    transaction.execute(SET_UP).await.map_err(failed)?;
    let span = span(database, &mut transaction, arguments).await?;
    let mut hits = hits(&mut transaction, arguments, tenant, &span, own)
        .await
        .map_err(failed)?;
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let is_more = hits.len() > limit;
    hits.truncate(limit);
    let counts = outcomes(&mut transaction, &hits).await.map_err(failed)?;
    transaction.rollback().await.map_err(failed)?;
    let found = requests(&mut connection, key, hits, counts)
        .await
        .map_err(failed)?;

    let out = if arguments.json {
        let objects: Vec<String> = found.iter().map(Request::json).collect();
        format!("[{}]\n", objects.join(",\n "))
    } else if found.is_empty() {
        String::new()
    } else {
        lines(&found, &span, arguments.full)
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    stdout.flush()?;
    if found.is_empty() {
        let is_bound_to_none = is_bound_to_none(&mut connection, key)
            .await
            .map_err(failed)?;
        return Err(nothing(database, arguments, &span, is_bound_to_none));
    }
    if arguments.json && arguments.since.is_none() {
        complain(&format!("only records {} were looked through", span.said));
    }
    if is_more {
        complain(&format!(
            "there are more than these {limit}: name a narrower time, or raise --limit"
        ));
    }
    Ok(())
}

/// Returns the error for an empty result, with possible reasons.
fn nothing(database: &Database, arguments: &Find, span: &Span, is_bound_to_none: bool) -> Error {
    let place = database.name();
    if is_bound_to_none {
        return Error::NothingFound(Error::NoTenant { database: place }.to_string());
    }
    let advice = match &arguments.since {
        None => "; look further back with --since",
        Some(_) => "",
    };
    Error::NothingFound(format!(
        "no record {} in {place} matches{advice}",
        span.said
    ))
}

/// Converts the error of a failed statement; a timeout gets its own advice.
fn read_error(database: &Database, source: sqlx::Error) -> Error {
    let code = source.as_database_error().and_then(DatabaseError::code);
    if code.as_deref() == Some("57014") {
        return Error::TooMuch {
            database: database.name(),
        };
    }
    database.read_error(source)
}

/// Returns the time range to search.
async fn span(
    database: &Database,
    connection: &mut PgConnection,
    arguments: &Find,
) -> Result<Span, Error> {
    let until = match &arguments.until {
        Some(time) => Some(moment(database, connection, "--until", time).await?),
        None => None,
    };
    let since = match &arguments.since {
        Some(time) => time.clone(),
        None => sqlx::query_scalar(WEEK_BEFORE)
            .bind(&arguments.until)
            .persistent(false)
            .fetch_one(&mut *connection)
            .await
            .map_err(|source| read_error(database, source))?,
    };
    let (from, since) = moment(database, connection, "--since", &since).await?;
    let (to, until) = until.unzip();
    if to.is_some_and(|to| to <= from) {
        return Err(Error::NoSpan);
    }
    let until = until.map_or_else(String::new, |until| format!(" and before {until}Z"));
    let default = if arguments.since.is_none() {
        " (7 days, as no --since is given)"
    } else {
        ""
    };
    Ok(Span {
        from,
        to,
        said: format!("from {since}Z on{until}{default}"),
    })
}

/// Parses a time as Postgres does, in UTC.
async fn moment(
    database: &Database,
    connection: &mut PgConnection,
    option: &'static str,
    time: &str,
) -> Result<(Uuid, String), Error> {
    let read = sqlx::query_as(MOMENT)
        .bind(time)
        .persistent(false)
        .fetch_one(connection)
        .await;
    let (id, said): (Option<String>, Option<String>) = read.map_err(|source| {
        let code = source.as_database_error().and_then(DatabaseError::code);
        match code.as_deref() {
            // Not a time, out of range, or in an unknown time zone.
            Some("22007" | "22008" | "22009" | "22023") => Error::BadTime { option },
            _ => read_error(database, source),
        }
    })?;
    id.and_then(|id| Uuid::from_str(&id).ok())
        .zip(said)
        .ok_or(Error::BadTime { option })
}

/// Returns the first matching record of each request, newest first, and one request more than the
/// limit. The record of this very reading, `own`, is none.
async fn hits(
    connection: &mut PgConnection,
    arguments: &Find,
    tenant: Option<Uuid>,
    span: &Span,
    own: Option<Uuid>,
) -> Result<Vec<Hit>, sqlx::Error> {
    let tables: Vec<String> = Table::ALL
        .into_iter()
        .filter(|table| {
            arguments.kind.is_empty() || arguments.kind.iter().any(|name| name == table.name())
        })
        .map(matching)
        .collect();
    // Compares ids, not times: a record's time may be one that arithmetic fails on.
    let statement = format!(
        "SELECT * FROM (
            SELECT DISTINCT ON (tenant_id, request, CASE WHEN request IS NULL THEN id END)
                table_name, id, tenant_id, request
            FROM ({}) AS matching
            ORDER BY tenant_id, request, CASE WHEN request IS NULL THEN id END, id
        ) AS firsts ORDER BY id DESC LIMIT $7",
        tables.join(" UNION ALL ")
    );
    sqlx::query_as(AssertSqlSafe(statement))
        .bind(span.from)
        .bind(span.to)
        .bind(tenant)
        .bind(&arguments.user)
        .bind(&arguments.status)
        .bind(&arguments.text)
        .bind(i64::from(arguments.limit) + 1)
        .bind(own)
        .persistent(false)
        .fetch_all(connection)
        .await
}

/// Returns the query for the matching records of one table.
fn matching(table: Table) -> String {
    let texts: Vec<String> = searched_texts(table)
        .map(|text| format!("position(lower($6) IN lower(left({text}, {LOOKED_AT}))) > 0"))
        .collect();
    format!(
        "SELECT '{table}' AS table_name, id, tenant_id, nullif(request_id, '') AS request FROM audit.{table}
        WHERE id >= $1 AND ($2::uuid IS NULL OR id < $2) AND ($8::uuid IS NULL OR id <> $8) AND ($3::uuid IS NULL OR tenant_id = $3)
            AND ($4::text IS NULL OR user_id = $4)
            AND (cardinality($5::text[]) = 0 OR status::text = ANY ($5))
            AND ($6::text IS NULL OR {})",
        texts.join(" OR "),
        table = table.name()
    )
}

/// Reads the requests: what each is about, and the outcomes of all its records, matching or not.
async fn requests(
    connection: &mut PgConnection,
    tenant: Option<&str>,
    hits: Vec<Hit>,
    mut counts: HashMap<Key, BTreeMap<String, i64>>,
) -> Result<Vec<Request>, sqlx::Error> {
    let mut pages = Pages::new(hits.iter().map(|hit| hit.record), Extent::Line);
    let mut hits = hits.into_iter();
    let mut found = Vec::new();
    while let Some(rows) = pages.next(connection, tenant).await? {
        for first in rows {
            let hit = hits.by_ref().find(|hit| first.is(hit.record));
            let Some(Hit {
                tenant, request, ..
            }) = hit
            else {
                continue;
            };
            let outcomes = match request {
                Some(_) => counts.remove(&Key { tenant, request }).unwrap_or_default(),
                None => BTreeMap::from([(first.status().to_owned(), 1)]),
            };
            found.push(Request { first, outcomes });
        }
    }
    Ok(found)
}

/// Counts the requests' records by outcome, using the index on request ids.
async fn outcomes(
    connection: &mut PgConnection,
    hits: &[Hit],
) -> Result<HashMap<Key, BTreeMap<String, i64>>, sqlx::Error> {
    let requests: Vec<&str> = hits
        .iter()
        .filter_map(|hit| hit.request.as_deref())
        .collect();
    let tables: Vec<String> = Table::ALL
        .into_iter()
        .map(|table| {
            format!(
                "SELECT tenant_id, request_id, status FROM audit.{} WHERE request_id = ANY ($1)",
                table.name()
            )
        })
        .collect();
    let statement = format!(
        "SELECT tenant_id, request_id, status::text, count(*) FROM ({}) AS records GROUP BY 1, 2, 3",
        tables.join(" UNION ALL ")
    );
    let rows: Vec<(Option<Uuid>, Option<String>, String, i64)> =
        sqlx::query_as(AssertSqlSafe(statement))
            .bind(&requests)
            .persistent(false)
            .fetch_all(connection)
            .await?;
    let mut counts: HashMap<Key, BTreeMap<String, i64>> = HashMap::new();
    for (tenant, request, status, count) in rows {
        counts
            .entry(Key { tenant, request })
            .or_default()
            .insert(status, count);
    }
    Ok(counts)
}

impl Request {
    /// Returns the id of the request; `None` if the record has none.
    fn id(&self) -> Option<&str> {
        self.first.text("request_id").filter(|id| !id.is_empty())
    }

    /// Returns the number of its records.
    fn records(&self) -> i64 {
        self.outcomes.values().sum()
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
    fn json(&self) -> String {
        let first = &self.first;
        let object = json!({
            "request_id": self.id(),
            "record_id": first.id(),
            "kind": word(first.table.kind()),
            // As in `show --json`.
            "began": first.text("started_at").or(first.text("created_at")),
            "tenant_id": first.text("tenant_id"),
            "tenant_key": first.tenant_key(),
            "user_id": first.text("user_id"),
            "about": self.about(),
            "outcomes": self.outcomes,
            "records": self.records(),
        });
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
            if let Some(count) = self.outcomes.get(status) {
                outcomes.push(format!("{count} {}", escape_line(status)));
            }
        }
        let records = match self.records() {
            1 => "1 record".to_owned(),
            count => format!("{count} records"),
        };
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
fn lines(found: &[Request], span: &Span, full: bool) -> String {
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
