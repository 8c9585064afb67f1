//! Reads rows a page at a time, so that no row, however large, affects any other.
//!
//! A writer can add a row of many megabytes, or one whose JSON is larger than Postgres can build.
//! So texts that are printed in part are cut in Postgres, rows that are wanted whole are measured
//! before they are read, and a page that fails is read again row by row: the row that fails is
//! reported as unreadable.
//!
//! Each page has its own transaction: none is held while rows are printed, which may take for ever,
//! and rows never change.

use std::collections::{HashMap, VecDeque};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};
use tracing_audit::__program::Table;

use crate::database::{Scope, begin};
use crate::row::{RecordId, Row};

/// How much of each row is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What fits on a line.
    Line,
    /// What a story shows of each text.
    Story,
    /// Everything. A row that is too large is read as for a story.
    Whole,
    /// Everything, as JSON. A row that is too large is not read.
    Json,
    /// The few columns that can be read of any row, however large.
    Bare,
}

/// The largest row that is read whole, in bytes: more than the library writes
/// ([`Limits::MAX_BYTES`](tracing_audit::Limits::MAX_BYTES)), and small enough that its JSON, in
/// which a byte may become six, stays below the gigabyte that Postgres can build.
const MAX_ROW_BYTES: i64 = 144 * 1024 * 1024;

/// The bytes of a page of whole rows.
const MAX_PAGE_BYTES: i64 = 8 * 1024 * 1024;

/// The most rows of a page.
const MAX_PAGE_ROWS: usize = 100;

/// How many characters of an id are read for a line; users copy it from there.
const ID_CHARS: usize = 8_192;

/// How many characters of any other text are read for a line.
const LINE_CHARS: usize = 2_000;

/// How many characters of a text are read for a story, which shows fewer.
const STORY_CHARS: usize = 6_100;

/// How many characters of a field's name, a problem or a redaction are read for a story: the library
/// writes fewer.
const NOTE_CHARS: usize = 600;

/// How many fields of `metadata`, problems and redactions are read for a story.
const STORY_FIELDS: usize = 60;

/// The application's key for the tenant, unless it is that of another: a program may have put a field
/// of that name into `metadata`. Postgres may be unable to convert a key to text that is neither a
/// string nor a number.
pub(crate) const TENANT_KEY: &str =
    "(CASE WHEN jsonb_typeof(metadata -> 'tenant_key') IN ('string', 'number')
    AND (tenant_id IS NULL OR audit.tenant_uuid(metadata ->> 'tenant_key') = tenant_id) THEN metadata ->> 'tenant_key' END)";

/// How long reading a page may take.
const PAGE_TIMEOUT: &str = "SET LOCAL statement_timeout = '20s'";

/// Rows still to be read, in order.
#[derive(Debug)]
pub(crate) struct Pages {
    extent: Extent,
    /// Not yet measured.
    records: VecDeque<RecordId>,
    /// With their sizes, or why Postgres cannot measure them.
    measured: VecDeque<(RecordId, Result<i64, String>)>,
}

impl Pages {
    pub(crate) fn new(records: impl IntoIterator<Item = RecordId>, extent: Extent) -> Self {
        Self {
            extent,
            records: records.into_iter().collect(),
            measured: VecDeque::new(),
        }
    }

    /// Returns the rows of the next page, in order; `None` after the last. A row that was removed
    /// meanwhile is left out.
    pub(crate) async fn next(
        &mut self,
        connection: &mut PgConnection,
        scope: impl Into<Scope<'_>>,
    ) -> Result<Option<Vec<Row>>, sqlx::Error> {
        let scope = scope.into();
        if !matches!(self.extent, Extent::Whole | Extent::Json) {
            let page = take(&mut self.records);
            if page.is_empty() {
                return Ok(None);
            }
            return page_of(connection, scope, &page, self.extent)
                .await
                .map(Some);
        }
        if self.measured.is_empty() {
            let page = take(&mut self.records);
            if page.is_empty() {
                return Ok(None);
            }
            self.measured = sizes(connection, scope, page).await?;
        }
        let mut page = Vec::new();
        let mut bytes = 0;
        while let Some((record, Ok(size))) = self.measured.front() {
            bytes += size;
            if *size > MAX_ROW_BYTES || bytes > MAX_PAGE_BYTES && !page.is_empty() {
                break;
            }
            page.push(*record);
            self.measured.pop_front();
        }
        if !page.is_empty() {
            return page_of(connection, scope, &page, self.extent)
                .await
                .map(Some);
        }
        // The next row is too large.
        let Some((record, size)) = self.measured.pop_front() else {
            return Ok(None);
        };
        if self.extent == Extent::Whole {
            return page_of(connection, scope, &[record], Extent::Story)
                .await
                .map(Some);
        }
        let why = size.map_or_else(
            |why| why,
            |bytes| format!("it is too large to be read whole: {bytes} bytes"),
        );
        let row = bare(connection, scope, record, why).await?;
        Ok(Some(row.into_iter().collect()))
    }
}

/// Takes the first records, at most a page of them.
fn take(records: &mut VecDeque<RecordId>) -> Vec<RecordId> {
    let count = records.len().min(MAX_PAGE_ROWS);
    records.drain(..count).collect()
}

/// Reads the rows of a page. If that fails, reads each on its own.
async fn page_of(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    page: &[RecordId],
    extent: Extent,
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = match read(connection, scope, page, extent).await {
        Ok(rows) => rows,
        Err(error) => {
            let why = fault_of_row(&error).ok_or(error)?;
            if let [record] = page {
                let row = remains(connection, scope, *record, extent, why).await?;
                return Ok(row.into_iter().collect());
            }
            let mut rows = Vec::new();
            for record in page {
                let record = std::slice::from_ref(record);
                rows.extend(Box::pin(page_of(connection, scope, record, extent)).await?);
            }
            return Ok(rows);
        }
    };
    let mut rows: HashMap<(Table, String), Row> = rows
        .into_iter()
        .map(|row| ((row.table, row.id().to_owned()), row))
        .collect();
    let in_order = page
        .iter()
        .filter_map(|record| rows.remove(&(record.table, record.id.to_string())));
    Ok(in_order.collect())
}

/// Reads what it can of a row that could not be read as requested.
async fn remains(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    record: RecordId,
    extent: Extent,
    why: String,
) -> Result<Option<Row>, sqlx::Error> {
    if matches!(extent, Extent::Story | Extent::Whole) {
        match read(connection, scope, &[record], Extent::Line).await {
            Ok(mut rows) => {
                return Ok(rows.pop().map(|mut row| {
                    row.unread = Some(why);
                    row
                }));
            }
            Err(error) if fault_of_row(&error).is_some() => {}
            Err(error) => return Err(error),
        }
    }
    bare(connection, scope, record, why).await
}

/// Reads the few columns that can be read of any row.
async fn bare(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    record: RecordId,
    why: String,
) -> Result<Option<Row>, sqlx::Error> {
    let mut rows = read(connection, scope, &[record], Extent::Bare).await?;
    Ok(rows.pop().map(|mut row| {
        row.unread = Some(why);
        row
    }))
}

/// Returns Postgres' error about a value that it cannot process, or that takes it too long.
pub(crate) fn fault_of_row(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    let code = error.code()?;
    let concerns_it = ["22", "53200", "54", "57014", "XX"]
        .iter()
        .any(|class| code.starts_with(class));
    concerns_it.then(|| {
        format!(
            "Postgres cannot read it: {} (SQLSTATE {code})",
            error.message()
        )
    })
}

/// Reads rows, in any order.
async fn read(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    records: &[RecordId],
    extent: Extent,
) -> Result<Vec<Row>, sqlx::Error> {
    ask(connection, scope, records, |table, at| {
        select(table, at, extent)
    })
    .await
}

/// Measures one record, in uncompressed bytes; `None` if Postgres cannot, or there is none.
pub(crate) async fn size_of(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    record: RecordId,
) -> Result<Option<i64>, sqlx::Error> {
    let measured = sizes(connection, scope, vec![record]).await?;
    Ok(measured.into_iter().find_map(|(_, size)| size.ok()))
}

/// Measures each record, in uncompressed bytes.
async fn sizes(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    records: Vec<RecordId>,
) -> Result<VecDeque<(RecordId, Result<i64, String>)>, sqlx::Error> {
    let fault = match measure(connection, scope, &records).await {
        Ok(sizes) => {
            let size = |record: &RecordId| Ok(sizes.get(record).copied().unwrap_or(0));
            return Ok(records
                .iter()
                .map(|record| (*record, size(record)))
                .collect());
        }
        Err(error) => fault_of_row(&error).ok_or(error)?,
    };
    if let [record] = records[..] {
        return Ok(VecDeque::from([(record, Err(fault))]));
    }
    let mut measured = VecDeque::new();
    for record in records {
        measured.append(&mut Box::pin(sizes(connection, scope, vec![record])).await?);
    }
    Ok(measured)
}

async fn measure(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    records: &[RecordId],
) -> Result<HashMap<RecordId, i64>, sqlx::Error> {
    let sizes: Vec<(String, sqlx::types::Uuid, i64)> =
        ask(connection, scope, records, size).await?;
    let record = |table: &str, id| {
        let table = Table::of_name(table)?;
        Some(RecordId { table, id })
    };
    Ok(sizes
        .into_iter()
        .filter_map(|(table, id, size)| Some((record(&table, id)?, size)))
        .collect())
}

/// Queries each table that has one of the records, in one transaction. `statement` gets the number
/// of the parameter that holds the table's ids.
async fn ask<T>(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    records: &[RecordId],
    statement: impl Fn(Table, usize) -> String,
) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    let mut statements = Vec::new();
    let mut ids = Vec::new();
    for table in Table::ALL {
        let of_table = records.iter().filter(|record| record.table == table);
        let of_table: Vec<_> = of_table.map(|record| record.id).collect();
        if !of_table.is_empty() {
            ids.push(of_table);
            statements.push(statement(table, ids.len()));
        }
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (mut transaction, _) = begin(connection, scope).await?;
    transaction.execute(PAGE_TIMEOUT).await?;
    let mut query = sqlx::query_as(AssertSqlSafe(statements.join(" UNION ALL "))).persistent(false);
    for of_table in ids {
        query = query.bind(of_table);
    }
    let rows = query.fetch_all(&mut *transaction).await?;
    transaction.rollback().await?;
    Ok(rows)
}

/// Returns the statement that measures rows.
fn size(table: Table, parameter: usize) -> String {
    let texts: Vec<String> = table
        .text_columns()
        .map(|column| format!("coalesce(octet_length({column}), 0)::bigint"))
        .collect();
    format!(
        "SELECT '{table}' AS table_name, id, octet_length(metadata::text)::bigint
            + coalesce(octet_length(array_to_string(problems, ' ')), 0) + coalesce(octet_length(array_to_string(redactions, ' ')), 0)
            + (cardinality(problems) + cardinality(redactions)) * 5::bigint + octet_length(salt) * 2 + {}
        FROM audit.{table} WHERE id = ANY (${parameter})",
        texts.join(" + "),
        table = table.name()
    )
}

/// Returns the statement that reads rows.
fn select(table: Table, parameter: usize, extent: Extent) -> String {
    let (began, took) = (table.began_column(), duration(table));
    let is_usual = is_usual(began);
    let (json, metadata, lengths, tenant_key) = match extent {
        Extent::Whole | Extent::Json => whole(),
        Extent::Bare => (
            "json_build_object('id', id, 'tenant_id', tenant_id, 'status', status, 'seq', seq,
                'request_id', left(request_id, 100))::text"
                .to_owned(),
            "NULL".to_owned(),
            "NULL".to_owned(),
            "NULL".to_owned(),
        ),
        Extent::Line | Extent::Story => in_part(table, extent),
    };
    format!(
        "SELECT '{table}' AS table_name, {json} AS json, {metadata}::text AS metadata, {lengths}::text AS lengths,
            {tenant_key}::text AS tenant_key,
            CASE WHEN {is_usual} THEN to_char({began}, 'YYYY-MM-DD HH24:MI:SS.MS') ELSE {began}::text END AS began,
            CASE WHEN {is_usual} THEN (extract(epoch FROM {began}) * 1000000)::bigint ELSE 0 END AS began_us,
            {took} AS took_ms
        FROM audit.{table} AS t WHERE id = ANY (${parameter})",
        table = table.name()
    )
}

/// Returns the expression for a record's duration in milliseconds, with microsecond precision where
/// known.
pub(crate) fn duration(table: Table) -> String {
    let began = table.began_column();
    let duration = table.duration_column();
    if !table.has_end() {
        return format!("{duration}::float8");
    }
    format!(
        "CASE WHEN {} AND {} THEN extract(epoch FROM finished_at - {began})::float8 * 1000
            ELSE {duration}::float8 END",
        is_usual("finished_at"),
        is_usual(began)
    )
}

/// Returns the condition that a time is one that arithmetic works on. A time written by hand that
/// is infinite or has a year out of range must not fail the statement.
pub(crate) fn is_usual(time: &str) -> String {
    format!("{time} BETWEEN '0001-01-01Z' AND '9999-12-31Z'")
}

/// Returns the expression that cuts a text, adding an ellipsis if something is left out.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    format!(
        "left({text}, {chars}) || CASE WHEN {} THEN '…' ELSE '' END",
        is_cut(text, chars)
    )
}

/// Returns the condition that a text is longer. Neither side reads more of it than it needs.
fn is_cut(text: &str, chars: usize) -> String {
    format!("octet_length(left({text}, {chars})) < octet_length({text})")
}

/// Returns the expressions for a whole row: the row, its metadata, the lengths of cut texts, and
/// the tenant's key. Metadata fields are read as text, so that numbers of any length are shown
/// exactly.
fn whole() -> (String, String, String, String) {
    (
        "row_to_json(t)::text".to_owned(),
        "(SELECT json_object_agg(key, value::text) FROM jsonb_each(
            CASE jsonb_typeof(metadata) WHEN 'object' THEN metadata ELSE jsonb_build_object('metadata', metadata) END))"
            .to_owned(),
        "NULL".to_owned(),
        TENANT_KEY.to_owned(),
    )
}

/// Returns how many characters of a text are read for a line.
pub(crate) fn line_characters(column: &str) -> usize {
    match column {
        "user_id" | "request_id" => ID_CHARS,
        _ => LINE_CHARS,
    }
}

/// Returns the same expressions for a row that is read in part.
fn in_part(table: Table, extent: Extent) -> (String, String, String, String) {
    let chars = |column: &str| match extent {
        Extent::Line => line_characters(column),
        _ => STORY_CHARS,
    };
    // A text whose omitted characters the story counts gets no ellipsis.
    let is_counted = |column: &str| {
        extent == Extent::Story
            && matches!(
                column,
                "question_text"
                    | "sql_text"
                    | "rendered_prompt"
                    | "response_text"
                    | "input_summary"
                    | "output_summary"
                    | "sql_summary"
            )
    };
    let mut cells: Vec<String> = table.small_columns().map(str::to_owned).collect();
    let mut lengths = Vec::new();
    for column in table.text_columns() {
        let chars = chars(column);
        if is_counted(column) {
            cells.push(format!("left({column}, {chars}) AS {column}"));
            lengths.push(format!(
                "'{column}', CASE WHEN {} THEN length({column}) END",
                is_cut(column, chars)
            ));
        } else {
            cells.push(format!("{} AS {column}", cut(column, chars)));
        }
    }
    let tenant_key = format!("({})", cut(TENANT_KEY, ID_CHARS));
    if extent == Extent::Line {
        let json = format!(
            "(SELECT row_to_json(c)::text FROM (SELECT {}) AS c)",
            cells.join(", ")
        );
        return (json, "NULL".to_owned(), "NULL".to_owned(), tenant_key);
    }
    for texts in ["problems", "redactions"] {
        cells.push(format!(
            "ARRAY(SELECT {} FROM unnest({texts}) AS text LIMIT {STORY_FIELDS}) || CASE WHEN cardinality({texts}) > {STORY_FIELDS}
                THEN ARRAY['… ' || cardinality({texts}) - {STORY_FIELDS} || ' more (--full)'] ELSE '{{}}' END AS {texts}",
            cut("text", NOTE_CHARS)
        ));
    }
    let metadata = format!(
        "(SELECT json_object_agg({}, {}) FROM (SELECT key, value::text AS value FROM jsonb_each(
            CASE jsonb_typeof(metadata) WHEN 'object' THEN metadata ELSE jsonb_build_object('metadata', metadata) END)
            LIMIT {STORY_FIELDS}) AS fields)",
        cut("key", NOTE_CHARS),
        cut("value", STORY_CHARS)
    );
    lengths.push(format!(
        "'metadata', CASE jsonb_typeof(metadata) WHEN 'object' THEN
            (SELECT nullif(greatest(count(*), {STORY_FIELDS}), {STORY_FIELDS}) FROM jsonb_object_keys(metadata)) END"
    ));
    (
        format!(
            "(SELECT row_to_json(c)::text FROM (SELECT {}) AS c)",
            cells.join(", ")
        ),
        metadata,
        format!(
            "json_strip_nulls(json_build_object({}))",
            lengths.join(", ")
        ),
        tenant_key,
    )
}
