//! Reads the records of an export, by ascending id, in one snapshot.
//!
//! One statement sends all of them while they are written, so that no more than a few are in memory.
//! A record that Postgres cannot send ends that statement, and nothing else: those around it are read
//! one by one, and the reading goes on behind them, in the same snapshot.

use std::future::poll_fn;
use std::io;

use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::types::Uuid;
use sqlx::{Executor as _, QueryBuilder, Row as _, ValueRef as _};
use tracing_audit::__program::Table;

use super::columns::{self, COLUMN_COUNT, COLUMNS};
use super::output::{Output, Sink};
use super::values::Record;
use crate::error::Error;
use crate::filter::{Bounds, Filter};
use crate::pages::fault_of_row;
use crate::row::RecordId;
use crate::search::is_timeout;

/// Without it, Postgres may sort all records of a table before it sends the first: an index has their
/// order. And an export takes as long as it takes.
const SET_UP: &str =
    "SET LOCAL enable_sort = off; SET LOCAL statement_timeout = 0; SAVEPOINT reading";

/// The largest record that is written whole, in bytes: more than the library writes
/// ([`Limits::MAX_BYTES`](tracing_audit::Limits::MAX_BYTES)), and as much as `show --json` prints.
const MAX_BYTES: usize = 144 * 1024 * 1024;

/// How many records are read one by one where one of them cannot be sent.
const AT_ONCE: i64 = 200;

/// The columns that are read of a record that cannot be sent whole: small ones.
const BARE: [usize; 9] = [
    columns::ID,
    columns::TENANT_ID,
    columns::AGENT_ID,
    columns::PARENT_ID,
    columns::STATUS,
    columns::STARTED_AT,
    columns::CREATED_AT,
    columns::WRITER_ID,
    columns::SEQ,
];

/// Why a record is not written whole although Postgres sent it.
const TOO_LARGE: &str = "it is too large to be read whole: more than 144 MiB";

/// Why an export failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Postgres, or the way to it.
    Database(sqlx::Error),
    /// What was written to.
    Output(io::Error),
    /// The trail, or an archive of it.
    Trail(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Trail(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Writes records of elsewhere between those of the database.
pub(super) trait Between<S> {
    /// Writes those that come before this id.
    fn before(&mut self, id: Uuid, output: &mut Output<'_, S>) -> io::Result<()>;
}

/// There are none.
impl<S> Between<S> for () {
    fn before(&mut self, _: Uuid, _: &mut Output<'_, S>) -> io::Result<()> {
        Ok(())
    }
}

/// Which records are read, and how far the reading has come.
#[derive(Debug)]
pub(crate) struct Source<'f> {
    filter: &'f Filter,
    bounds: Bounds,
    tenant: Option<Uuid>,
    /// The last id that was read, and the tables that had a record with it: two have the same if one
    /// is forged.
    last: Option<(Uuid, Vec<Table>)>,
}

impl<'f> Source<'f> {
    pub(crate) fn new(filter: &'f Filter, bounds: Bounds, tenant: Option<Uuid>) -> Self {
        Self {
            filter,
            bounds,
            tenant,
            last: None,
        }
    }

    /// Reads all records, in a transaction that has begun.
    pub(super) async fn read<S: Sink>(
        &mut self,
        connection: &mut PgConnection,
        output: &mut Output<'_, S>,
        between: &mut impl Between<S>,
    ) -> Result<(), Failure> {
        if self.filter.tables().is_empty() {
            return Ok(());
        }
        connection.execute(SET_UP).await?;
        loop {
            match self.stream(connection, output, between).await {
                Ok(()) => break,
                // Whoever cancels the statement wants the export to end.
                Err(Failure::Database(error))
                    if fault_of_row(&error).is_some() && !is_timeout(&error) => {}
                Err(failure) => return Err(failure),
            }
            connection.execute("ROLLBACK TO SAVEPOINT reading").await?;
            if !self.step(connection, output, between).await? {
                break;
            }
        }
        connection.execute("RELEASE SAVEPOINT reading").await?;
        Ok(())
    }

    /// Reads on until the end, or until a record cannot be sent.
    async fn stream<S: Sink>(
        &mut self,
        connection: &mut PgConnection,
        output: &mut Output<'_, S>,
        between: &mut impl Between<S>,
    ) -> Result<(), Failure> {
        let mut query = self.statement(|query, table| {
            for column in &COLUMNS {
                query.push(", ").push(column.sql(table));
            }
        });
        query.push(" ORDER BY id");
        let mut rows = query.build().persistent(false).fetch(connection);
        while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
            let row = row?;
            if let Some(record) = record(&row, None)?
                && self.is_next(record.id(), record.table)
            {
                between.before(record.id(), output)?;
                output.record(&record)?;
            }
            drop(row);
            output.send_if_full().await?;
        }
        Ok(())
    }

    /// Reads the next few records one by one. Returns whether there were any.
    async fn step<S: Sink>(
        &mut self,
        connection: &mut PgConnection,
        output: &mut Output<'_, S>,
        between: &mut impl Between<S>,
    ) -> Result<bool, Failure> {
        let mut query = self.statement(|query, _| {
            query.push(", id");
        });
        // With ties: those of one id are dealt with together.
        query
            .push(" ORDER BY id FETCH FIRST (")
            .push_bind(AT_ONCE)
            .push(") ROWS WITH TIES");
        let found: Vec<(i32, Uuid)> = query
            .build_query_as()
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
        let mut is_any = false;
        for (number, id) in found {
            let Some(table) = table_of(number) else {
                continue;
            };
            if !self.is_next(id, table) {
                continue;
            }
            is_any = true;
            between.before(id, output)?;
            let wanted = RecordId { table, id };
            let all: Vec<usize> = (0..COLUMNS.len()).collect();
            match one(connection, wanted, &all).await {
                Ok(Some(row)) => {
                    if let Some(record) = record(&row, None)? {
                        output.record(&record)?;
                    }
                }
                Ok(None) => {}
                Err(error) if is_timeout(&error) => return Err(error.into()),
                Err(error) => {
                    let why = fault_of_row(&error).ok_or(error)?;
                    connection.execute("ROLLBACK TO SAVEPOINT reading").await?;
                    if let Some(row) = one(connection, wanted, &BARE).await?
                        && let Some(record) = record(&row, Some(&why))?
                    {
                        output.record(&record)?;
                    }
                }
            }
            output.send_if_full().await?;
        }
        Ok(is_any)
    }

    /// Returns the statement that reads the records that are left, in any order.
    fn statement(
        &self,
        mut push_columns: impl FnMut(&mut QueryBuilder<Postgres>, Table),
    ) -> QueryBuilder<Postgres> {
        let from = self.last.as_ref().map(|(id, _)| *id).or(self.bounds.from);
        let bounds = Bounds {
            from,
            ..self.bounds
        };
        let mut query = QueryBuilder::new("SELECT * FROM (");
        for (at, table) in self.filter.tables().into_iter().enumerate() {
            if at > 0 {
                query.push(" UNION ALL ");
            }
            query.push(format!("(SELECT {} AS table_number", number_of(table)));
            push_columns(&mut query, table);
            query.push(format!(" FROM audit.{} WHERE ", table.name()));
            self.filter.push_scanned(&mut query, table);
            self.filter.push_indexed(&mut query, bounds, self.tenant);
            // Each in the order of its index, so that they can be merged.
            query.push(" ORDER BY id");
            if self.filter.request.is_some() {
                // Keeps the planner from walking along all ids to find a few.
                query.push(" OFFSET 0");
            }
            query.push(")");
        }
        query.push(") AS records");
        query
    }

    /// Whether this record was not read yet; it counts as read from now on.
    fn is_next(&mut self, id: Uuid, table: Table) -> bool {
        match &mut self.last {
            Some((last, tables)) if *last == id => {
                let is_next = !tables.contains(&table);
                if is_next {
                    tables.push(table);
                }
                is_next
            }
            Some((last, tables)) => {
                *last = id;
                tables.clear();
                tables.push(table);
                true
            }
            None => {
                self.last = Some((id, vec![table]));
                true
            }
        }
    }
}

/// Reads some columns of one record.
async fn one(
    connection: &mut PgConnection,
    record: RecordId,
    wanted: &[usize],
) -> Result<Option<PgRow>, sqlx::Error> {
    let RecordId { table, id } = record;
    let mut query =
        QueryBuilder::<Postgres>::new(format!("SELECT {} AS table_number", number_of(table)));
    for (at, column) in COLUMNS.iter().enumerate() {
        query.push(", ");
        if wanted.contains(&at) {
            query.push(column.sql(table));
        } else {
            query.push("NULL");
        }
    }
    query
        .push(format!(" FROM audit.{} WHERE id = ", table.name()))
        .push_bind(id);
    query
        .build()
        .persistent(false)
        .fetch_optional(connection)
        .await
}

/// Returns the record of a row: its table's number, and the columns.
fn record<'r>(row: &'r PgRow, unread: Option<&'r str>) -> Result<Option<Record<'r>>, sqlx::Error> {
    let number = row.try_get_raw(0)?;
    let number = number.as_bytes().map_err(sqlx::Error::Decode)?;
    let Some(table) = number
        .try_into()
        .ok()
        .map(i32::from_be_bytes)
        .and_then(table_of)
    else {
        return Ok(None);
    };
    let mut fields = [None; COLUMN_COUNT];
    for (at, field) in fields.iter_mut().enumerate() {
        let value = row.try_get_raw(at + 1)?;
        if !value.is_null() {
            *field = Some(value.as_bytes().map_err(sqlx::Error::Decode)?);
        }
    }
    Ok(Some(within_limit(Record {
        table,
        fields,
        unread,
    })))
}

/// Returns the record, without what is too large.
pub(super) fn within_limit(mut record: Record<'_>) -> Record<'_> {
    let fields = record.fields.iter().flatten();
    let bytes: usize = fields.map(|field| field.len()).sum();
    if bytes > MAX_BYTES {
        record.unread = Some(TOO_LARGE);
        for (at, field) in record.fields.iter_mut().enumerate() {
            if !BARE.contains(&at) {
                *field = None;
            }
        }
    }
    record
}

fn number_of(table: Table) -> usize {
    Table::ALL
        .iter()
        .position(|known| *known == table)
        .unwrap_or_default()
}

fn table_of(number: i32) -> Option<Table> {
    Table::ALL.get(usize::try_from(number).ok()?).copied()
}
