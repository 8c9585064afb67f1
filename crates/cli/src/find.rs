//! `find`: lists requests by user, tenant, time, outcome or text.

#[cfg(feature = "archive")]
mod archived;
mod request;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write as _};
use std::str::FromStr as _;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Executor as _, FromRow, Row as _};
use tracing_audit::__program::Table;

use self::request::{Request, lines};
#[cfg(feature = "archive")]
use crate::archive::ArchivePlace;
use crate::complain;
use crate::database::{Database, begin, is_bound_to_none, record_reading};
use crate::error::Error;
use crate::filter::searched_texts;
use crate::pages::Extent;
use crate::row::{RecordId, Row, table_of};
use crate::story::Rows;
use crate::{Reading, STATUSES, tables};

/// The help of `find --json` in `--help`.
const JSON_HELP: &str = "\
Prints an array of the requests, with the columns of a line and ids.

Each is {request_id, record_id, kind, began, tenant_id, tenant_key, user_id, about,
outcomes, records}, and with --archive how many of the records it alone has, archived; about is up to 2,000 characters long. For whole records use show.";

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

/// Arguments of `find`.
#[derive(Args, Debug)]
pub(crate) struct Find {
    /// Records of this user, exactly as `user_id` has it.
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Records that began at this time or later: 2026-01-01, or 2026-01-01T12:00Z. UTC.
    ///
    /// Without it, 7 days before --until, or before now.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Records that began before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Records of this outcome; may be repeated.
    #[arg(long, value_name = "STATUS", value_parser = STATUSES)]
    status: Vec<String>,
    /// Records with this text in a question, SQL, prompt, answer, summary or error, or in an event's
    /// action, target, message, reason or comment.
    ///
    /// Literally, in upper or lower case.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    text: Option<String>,
    /// Records of this kind; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    kind: Vec<String>,
    /// How many requests at most.
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Lines with all columns, however wide: texts up to 2,000 characters.
    #[arg(long)]
    full: bool,
    /// Prints an array of the requests, with the columns of a line and ids.
    #[arg(long, long_help = JSON_HELP)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
    #[cfg(feature = "archive")]
    #[command(flatten)]
    archive: ArchivePlace,
}

#[cfg(feature = "archive")]
impl Find {
    /// Whether an archive is named, which is searched where no database is named.
    pub(crate) fn is_of_archive(&self) -> bool {
        self.archive.is_named()
    }
}

/// The newest requests.
struct Found {
    requests: Vec<Request>,
    is_more: bool,
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

impl Span {
    /// Tells of a range by its ends, each with its text.
    fn new(from: &(Uuid, String), to: Option<(Uuid, String)>, arguments: &Find) -> Self {
        let (to, until) = to.unzip();
        let until = until.map_or_else(String::new, |until| format!(" and before {until}Z"));
        let default = if arguments.since.is_none() {
            " (7 days, as no --since is given)"
        } else {
            ""
        };
        Self {
            from: from.0,
            to,
            said: format!("from {}Z on{until}{default}", from.1),
        }
    }
}

/// Prints the matching requests, newest first; without a database, those of an archive.
pub(crate) async fn run(database: Option<&Database>, arguments: &Find) -> Result<(), Error> {
    let mut source = match database {
        Some(database) => Some((database, database.connect_to_trail().await?)),
        None => None,
    };
    #[cfg(feature = "archive")]
    let archive = arguments.archive.open()?;
    #[cfg(feature = "archive")]
    let found = match (&mut source, &archive) {
        (Some((database, connection)), None) => find(database, connection, arguments).await?,
        (source, Some(archive)) => {
            let source = source.as_mut();
            let source = source.map(|(database, connection)| (*database, connection));
            archived::find(source, arguments, archive).await?
        }
        (None, None) => return Err(Error::NoUrl),
    };
    #[cfg(not(feature = "archive"))]
    let found = match &mut source {
        Some((database, connection)) => find(database, connection, arguments).await?,
        None => return Err(Error::NoUrl),
    };
    let (found, span) = found;
    let Found { requests, is_more } = found;
    let out = if arguments.json {
        let objects: Vec<String> = requests.iter().map(|one| one.json(arguments)).collect();
        format!("[{}]\n", objects.join(",\n "))
    } else if requests.is_empty() {
        String::new()
    } else {
        lines(&requests, &span, arguments.full)
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    stdout.flush()?;
    if requests.is_empty() {
        let Some((database, connection)) = &mut source else {
            return Err(nothing("the archive", arguments, &span, false));
        };
        let is_bound_to_none = is_bound_to_none(connection, arguments.reading.tenant.as_deref())
            .await
            .map_err(|source| read_error(database, source))?;
        return Err(nothing(
            &database.name(),
            arguments,
            &span,
            is_bound_to_none,
        ));
    }
    if arguments.json && arguments.since.is_none() {
        complain(&format!("only records {} were looked through", span.said));
    }
    if is_more {
        complain(&format!(
            "there are more than these {}: name a narrower time, or raise --limit",
            arguments.limit
        ));
    }
    Ok(())
}

/// Finds the newest requests of the database.
async fn find(
    database: &Database,
    connection: &mut PgConnection,
    arguments: &Find,
) -> Result<(Found, Span), Error> {
    let key = arguments.reading.tenant.as_deref();
    let own = match &arguments.reading.purpose {
        Some(purpose) => {
            Some(record_reading(database, connection, purpose, None, key, None).await?)
        }
        None => None,
    };
    let failed = |source| read_error(database, source);
    let (mut transaction, tenant) = begin(connection, key).await.map_err(failed)?;
    transaction.execute(SET_UP).await.map_err(failed)?;
    let span = span(database, &mut transaction, arguments).await?;
    let mut hits = hits(
        &mut transaction,
        arguments,
        tenant,
        &span,
        own,
        arguments.limit,
    )
    .await
    .map_err(failed)?;
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let is_more = hits.len() > limit;
    hits.truncate(limit);
    let counts = outcomes(&mut transaction, &hits).await.map_err(failed)?;
    transaction.rollback().await.map_err(failed)?;
    let counts = counts.into_iter().map(|(key, outcomes)| {
        let outcomes = outcomes.into_iter();
        let outcomes = outcomes.map(|(status, count)| (status, (count, 0)));
        (key, outcomes.collect())
    });
    let source = Some((database, connection));
    let none = &mut HashMap::new();
    let requests = requests(source, key, hits, counts.collect(), none).await?;
    Ok((Found { requests, is_more }, span))
}

/// Returns the error for an empty result, with possible reasons.
fn nothing(place: &str, arguments: &Find, span: &Span, is_bound_to_none: bool) -> Error {
    if is_bound_to_none {
        let database = place.to_owned();
        return Error::NothingFound(Error::NoTenant { database }.to_string());
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
    let since = moment(database, connection, "--since", &since).await?;
    if until.as_ref().is_some_and(|(to, _)| *to <= since.0) {
        return Err(Error::NoSpan);
    }
    Ok(Span::new(&since, until, arguments))
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
    limit: u32,
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
        .bind(i64::from(limit) + 1)
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
    source: Option<(&Database, &mut PgConnection)>,
    tenant: Option<&str>,
    hits: Vec<Hit>,
    mut counts: HashMap<Key, BTreeMap<String, (i64, i64)>>,
    archived: &mut HashMap<RecordId, Row>,
) -> Result<Vec<Request>, Error> {
    let records: Vec<RecordId> = hits.iter().map(|hit| hit.record).collect();
    let mut rows = Rows::new(source, tenant, archived, records, Extent::Line);
    let mut hits = hits.into_iter();
    let mut found = Vec::new();
    while let Some(page) = rows.next().await? {
        for first in page {
            let hit = hits.by_ref().find(|hit| first.is(hit.record));
            let Some(Hit {
                tenant, request, ..
            }) = hit
            else {
                continue;
            };
            let outcomes = if request.is_some() {
                counts.remove(&Key { tenant, request }).unwrap_or_default()
            } else {
                let archived = i64::from(first.archived.is_some());
                BTreeMap::from([(first.status().to_owned(), (1, archived))])
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
