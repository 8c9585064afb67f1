//! Looking into the database: one read-only transaction, and what relations it has.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::{Connection as _, Executor as _, FromRow, SqlSafeStr, Transaction};

use crate::database::{self, CATALOG_FIRST, Standing};

use super::expected::{self, Table};

/// The first settings fix how Postgres writes expressions, the last keep this from waiting for a lock, or for a table
/// that is large, for ever.
const SET_UP: &str = "
    SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL quote_all_identifiers = off;
    SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '120s'";

/// Everything that lies in the trail's schemas, and whatever else inherits from its tables.
const RELATIONS: &str = "
    SELECT n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname), c.relkind::text,
        pg_get_userbyid(c.relowner)::text, c.relpersistence::text, c.relrowsecurity, c.relforcerowsecurity,
        coalesce(c.reloptions, '{}')::text[],
        CASE WHEN pn.nspname IS NOT NULL THEN format('%I.%I', pn.nspname, p.relname) END,
        coalesce(i.inhdetachpending, false), pg_get_expr(c.relpartbound, c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    LEFT JOIN pg_class p ON p.oid = i.inhparent LEFT JOIN pg_namespace pn ON pn.oid = p.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND (n.nspname IN ('audit', 'audit_parts') OR pn.nspname = 'audit')
    ORDER BY 1, 2";

/// What may be seen besides the catalog: whether row-level security hides nothing of the trail's own tables.
const SIGHT: &str = "
    SELECT coalesce((SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user), false)
        OR coalesce(pg_has_role(to_regrole('audit_auditor'), 'USAGE'), false)";

/// The transaction that everything is looked at in.
#[derive(Debug)]
pub(crate) struct Look<'c> {
    transaction: Transaction<'c, Postgres>,
    /// Whether this login sees all rows of the trail, as far as it may read the tables.
    pub(crate) sees_all_rows: bool,
    /// Whose the trail is: what is somebody else's is not read.
    standing: Standing,
}

impl<'c> Look<'c> {
    pub(crate) async fn begin(connection: &'c mut PgConnection) -> Result<Self, sqlx::Error> {
        let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
        transaction.execute(CATALOG_FIRST).await?;
        transaction.execute(SET_UP).await?;
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

    /// The rows of a query of this program. One that fails leaves the transaction as it was.
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

    /// The same of tables, which may be closed to this login or not be what they were.
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

    /// Everything that lies in the trail's schemas, and what else inherits from its tables.
    pub(crate) async fn relations(&mut self) -> Result<Vec<Relation>, sqlx::Error> {
        self.rows(RELATIONS).await
    }
}

/// What a table answers.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    Rows(Vec<T>),
    /// This login has no right to read it.
    Refused,
    /// The table, or a column of it, is not there.
    Absent,
}

/// A table, view or the like.
#[derive(Debug)]
pub(crate) struct Relation {
    pub(crate) schema: String,
    /// Without the schema.
    pub(crate) table: String,
    /// With the schema, as it is written in a statement.
    pub(crate) name: String,
    /// `pg_class.relkind`.
    pub(crate) kind: String,
    pub(crate) owner: String,
    pub(crate) persistence: String,
    pub(crate) has_rls: bool,
    pub(crate) forces_rls: bool,
    pub(crate) options: Vec<String>,
    /// What it is a partition of, or inherits from.
    pub(crate) parent: Option<String>,
    pub(crate) is_being_detached: bool,
    /// Its bound, if it is a partition.
    pub(crate) bound: Option<String>,
}

impl FromRow<'_, PgRow> for Relation {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        use sqlx::Row as _;
        Ok(Self {
            schema: row.try_get(0)?,
            table: row.try_get(1)?,
            name: row.try_get(2)?,
            kind: row.try_get(3)?,
            owner: row.try_get(4)?,
            persistence: row.try_get(5)?,
            has_rls: row.try_get(6)?,
            forces_rls: row.try_get(7)?,
            options: row.try_get(8)?,
            parent: row.try_get(9)?,
            is_being_detached: row.try_get(10)?,
            bound: row.try_get(11)?,
        })
    }
}

impl Relation {
    /// What it is to the trail.
    pub(crate) fn part(&self) -> Part {
        if self.schema == "audit" {
            if self.table == "schema_migrations" {
                return Part::Migrations;
            }
            if self.table == "trail" && self.kind == "v" {
                return Part::View;
            }
            if expected::WITHOUT_ROWS.contains(&(self.table.as_str(), self.kind.as_str())) {
                return Part::WithoutRows;
            }
            return match expected::table(&self.table) {
                Some(table) if self.kind == table.relkind() => Part::Table(table),
                _ => Part::Stray,
            };
        }
        let parent = self.parent.as_deref().and_then(|parent| {
            let table = expected::table(parent.strip_prefix("audit.")?)?;
            table.time_column.is_some().then_some(table)
        });
        match parent {
            Some(parent)
                if self.schema == "audit_parts" && self.kind == "r" && !self.is_being_detached =>
            {
                Part::Leaf(parent)
            }
            _ => Part::Stray,
        }
    }

    /// The table that says how it must be: its own, or its parent's.
    pub(crate) fn model(&self) -> Option<&'static Table> {
        match self.part() {
            Part::Table(table) | Part::Leaf(table) => Some(table),
            _ => None,
        }
    }
}

/// What a relation is to the trail.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// A table that is read and written by its name.
    Table(&'static Table),
    /// A partition of a record table.
    Leaf(&'static Table),
    /// `audit.trail`.
    View,
    /// The applied migrations, which belong to whoever migrates.
    Migrations,
    /// What holds no row to be read: a lock, a sequence.
    WithoutRows,
    /// Nothing that the trail has made.
    Stray,
}

/// Whether the trail has not made a table.
pub(crate) fn is_stray(relations: &[Relation], name: &str) -> bool {
    relations
        .iter()
        .any(|relation| relation.name == name && matches!(relation.part(), Part::Stray))
}
