//! The databases that are asked: made from their schema files once, read-only afterwards.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    time::Duration,
};

use sha2::{Digest, Sha256};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use crate::{Result, broken::Statement, questions::Question};

/// Connections per database: eleven databases stay well below the 100 a server has by default.
const CONNECTIONS: u32 = 4;

/// What the comment on a database of ours begins with, so that no other is ever dropped.
const MARK: &str = "nl2sql example, schema file ";

#[derive(Debug)]
pub(crate) struct Database {
    /// What the trail calls `datasource_id`: the same on every run.
    pub(crate) id: Uuid,
    /// The tables and their columns, as the prompt shows them.
    pub(crate) tables: String,
    pool: PgPool,
}

impl Database {
    /// Runs a statement and fetches all its rows; returns how many there were.
    ///
    /// SQL that was written by a model is not trusted: it runs in a read-only
    /// transaction, with a time limit, and nothing of it stays.
    pub(crate) async fn count_rows(&self, statement: &Statement) -> sqlx::Result<usize> {
        let mut transaction = self.pool.begin_with("BEGIN READ ONLY").await?;
        sqlx::query("SELECT set_config('statement_timeout', $1, true)")
            .bind(statement.timeout.as_millis().to_string())
            .execute(&mut *transaction)
            .await?;
        // As a prepared statement it can't smuggle a second one in.
        let rows = sqlx::query(AssertSqlSafe(statement.sql.as_str()))
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.rollback().await?;
        Ok(rows.len())
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Opens the database of every question, after making those that are missing or out of date.
pub(crate) async fn open(
    url: &str,
    schemas: &Path,
    questions: &[Question],
) -> Result<HashMap<String, Database>> {
    let server: PgConnectOptions = url.parse()?;
    let mut admin = PgConnection::connect_with(&server).await?;
    // Two runs that start together must not load the same database twice. The lock
    // ends with the connection.
    sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))")
        .bind(MARK)
        .execute(&mut admin)
        .await?;

    let mut databases = HashMap::new();
    for db in questions
        .iter()
        .map(|question| question.db.as_str())
        .collect::<BTreeSet<_>>()
    {
        if !db
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            return Err(format!(
                "{db:?} does not name a database: lower-case letters, digits and _ only"
            )
            .into());
        }
        let file = schemas.join(format!("{db}.sql"));
        let schema = std::fs::read_to_string(&file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let name = format!("nl2sql_{db}");
        let options = server.clone().database(&name);
        if make(&mut admin, &name, &schema, &options)
            .await
            .map_err(|error| format!("{}: {error}", file.display()))?
        {
            eprintln!("loaded {} into database {name}", file.display());
        }
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(Duration::from_mins(2))
            .connect_with(options)
            .await?;
        let tables = tables(&pool).await?;
        databases.insert(
            db.to_owned(),
            Database {
                id: stable_uuid("datasource", &name),
                tables,
                pool,
            },
        );
    }
    admin.close().await?;
    Ok(databases)
}

/// Makes one database unless it is there, made from the same schema file. Returns whether it
/// made it.
async fn make(
    admin: &mut PgConnection,
    name: &str,
    schema: &str,
    options: &PgConnectOptions,
) -> sqlx::Result<bool> {
    let mark = format!("{MARK}{}", stable_uuid("schema", schema));
    let found: Option<Option<String>> = sqlx::query_scalar(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1",
    )
    .bind(name)
    .fetch_optional(&mut *admin)
    .await?;
    match &found {
        Some(Some(comment)) if *comment == mark => return Ok(false),
        Some(Some(comment)) if comment.starts_with(MARK) => {
            sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name}")))
                .execute(&mut *admin)
                .await?;
        }
        _ => {}
    }
    // A database without the mark is what an interrupted run left behind, and empty; in
    // one that somebody else filled, the schema file fails on the tables that are there.
    if !matches!(found, Some(None)) {
        // The same sorting on every machine, whatever the server's locale.
        let create = format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        sqlx::query(AssertSqlSafe(create)).execute(admin).await?;
    }
    let mut connection = PgConnection::connect_with(options).await?;
    // One transaction: the mark is there if, and only if, all of the schema file is.
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(AssertSqlSafe(schema))
        .execute(&mut *transaction)
        .await?;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "COMMENT ON DATABASE {name} IS '{mark}'"
    )))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(true)
}

async fn tables(pool: &PgPool) -> sqlx::Result<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I(%s)', table_schema, table_name,
                string_agg(column_name, ', ' ORDER BY ordinal_position))
         FROM information_schema.columns
         WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
         GROUP BY table_schema, table_name ORDER BY table_schema, table_name",
    )
    .fetch_all(pool)
    .await?;
    Ok(tables.join("\n"))
}

/// The `UUIDv8` of a name: what the trail promises for a tenant key, and good enough for a
/// datasource. Computed here and not asked of the library, which is held against it.
pub(crate) fn stable_uuid(kind: &str, name: &str) -> Uuid {
    let hash = Sha256::digest(format!("{kind}:{name}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
