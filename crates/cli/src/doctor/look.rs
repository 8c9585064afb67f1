//! Reads the database in one read-only transaction.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::QueryAs;
use sqlx::{Connection as _, Executor as _, FromRow, SqlSafeStr, Transaction};

use crate::database::{self, CATALOG_FIRST, Standing};

/// The first settings fix how Postgres writes expressions; the next disables compilation, which no
/// query is worth (with ten years of partitions one was compiled for 48 s).
const SET_UP: &str = "
    SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL quote_all_identifiers = off;
    SET LOCAL IntervalStyle = 'postgres'; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL standard_conforming_strings = on;
    SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0";

/// Limits the wait for a lock and the time that a large table may take.
const PATIENT: &str = "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '120s'";

/// Whether row-level security hides none of the trail's own rows from this login.
const SIGHT: &str = "
    SELECT coalesce((SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user), false)
        OR coalesce(pg_has_role(to_regrole('audit_auditor'), 'USAGE'), false)";

/// The transaction in which all checks run.
#[derive(Debug)]
pub(crate) struct Look<'c> {
    transaction: Transaction<'c, Postgres>,
    /// Whether this login sees all rows of those tables of the trail that it may read.
    pub(crate) sees_all_rows: bool,
    /// Who owns the trail: somebody else's tables are not read.
    standing: Standing,
}

impl<'c> Look<'c> {
    pub(crate) async fn begin(connection: &'c mut PgConnection) -> Result<Self, sqlx::Error> {
        Self::begin_within(connection, PATIENT).await
    }

    /// Like [`Self::begin`]; `limits` are the settings of how long to wait.
    pub(crate) async fn begin_within(
        connection: &'c mut PgConnection,
        limits: &'static str,
    ) -> Result<Self, sqlx::Error> {
        let mut transaction = connection
            .begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
            .await?;
        transaction.execute(CATALOG_FIRST).await?;
        transaction.execute(SET_UP).await?;
        transaction.execute(limits).await?;
        let sees_all_rows = sqlx::query_scalar(SIGHT)
            .persistent(false)
            .fetch_one(&mut *transaction)
            .await?;
        let standing = database::standing(&mut transaction).await?;
        Ok(Self {
            transaction,
            sees_all_rows,
            standing,
        })
    }

    /// Ends the transaction. One that is only dropped would stay open until the connection is used again.
    pub(crate) async fn end(self) -> Result<(), sqlx::Error> {
        self.transaction.rollback().await
    }

    /// Returns who owns the trail.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Returns the rows of a query of this program. If the query fails, the transaction stays
    /// usable.
    pub(crate) async fn rows<T>(&mut self, sql: impl SqlSafeStr) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut attempt = self.transaction.begin().await?;
        let rows = sqlx::query_as(sql)
            .persistent(false)
            .fetch_all(&mut *attempt)
            .await;
        attempt.rollback().await?;
        rows
    }

    /// Like [`Self::rows`], for a query with parameters.
    pub(crate) async fn asked<T>(
        &mut self,
        query: QueryAs<'_, Postgres, T, PgArguments>,
    ) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut attempt = self.transaction.begin().await?;
        let rows = query.persistent(false).fetch_all(&mut *attempt).await;
        attempt.rollback().await?;
        rows
    }

    /// Returns the major version of the server.
    pub(crate) async fn major_version(&mut self) -> Result<i32, sqlx::Error> {
        let number: Vec<(i32,)> = self
            .rows("SELECT current_setting('server_version_num')::int")
            .await?;
        Ok(number.first().map_or(0, |(number,)| number / 10_000))
    }

    /// Like [`Self::rows`], for tables that this login may be unable to read, or that may be
    /// missing or altered.
    pub(crate) async fn rows_of_table<T>(
        &mut self,
        sql: impl SqlSafeStr,
    ) -> Result<Answer<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        match self.standing {
            Standing::Ours => {}
            Standing::Absent => return Ok(Answer::Absent),
            Standing::NotOurs(_) => return Ok(Answer::Refused),
        }
        match self.rows(sql).await {
            Ok(rows) => Ok(Answer::Rows(rows)),
            Err(error) => match error.as_database_error().and_then(DatabaseError::code) {
                Some(code) if code == "42501" => Ok(Answer::Refused),
                Some(code) if ["42P01", "42703", "3F000"].contains(&&*code) => Ok(Answer::Absent),
                _ => Err(error),
            },
        }
    }
}

/// The result of reading a table.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    Rows(Vec<T>),
    /// This login has no right to read it.
    Refused,
    /// The table, or one of its columns, does not exist.
    Absent,
}
