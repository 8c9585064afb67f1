//! How the tables in a database compare with what this version writes.

use sqlx::postgres::PgConnection;
use sqlx::{Executor as _, Row as _};

use super::embedded::MIGRATIONS;

/// How the tables in a database compare with what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemaState {
    Current,
    /// The tables are missing or of an older version.
    Behind,
    /// The tables are of a newer version of the library.
    Newer(i64),
    /// The database's encoding is not UTF8.
    Encoding,
    /// This login is not a member of `audit_writer`.
    NotWriter,
    /// The tables exist, but this login has no access to them and cannot tell their version.
    Closed,
    /// The tables exist, but are not ours: nothing of them is read.
    Foreign,
}

/// Returns the state of the tables; needs no right to anything but the catalog. Names everything
/// with its schema: the login may be an administrator's, and functions that the owner of a database
/// has put before those of Postgres must not run with such rights.
pub(crate) async fn state(connection: &mut PgConnection) -> Result<SchemaState, sqlx::Error> {
    let known = MIGRATIONS[MIGRATIONS.len() - 1].version;
    // The table is read with the writer's rights, so the catalog's public part comes first. Nothing
    // is prepared: a transaction pooler may run what was prepared elsewhere.
    let row = connection
        .fetch_one(
            "SELECT pg_catalog.current_setting('server_encoding'), c.oid IS NOT NULL, \
             c.oid IS NOT NULL AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
             AND pg_catalog.has_column_privilege(c.oid, 'version', 'SELECT') AND pg_catalog.has_column_privilege(c.oid, 'success', 'SELECT'), \
             c.relkind OPERATOR(pg_catalog.=) 'r' AND c.relowner OPERATOR(pg_catalog.=) n.nspowner \
             AND pg_catalog.pg_get_userbyid(c.relowner) OPERATOR(pg_catalog.=) 'audit_owner' \
             FROM (VALUES (1)) AS one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) 'audit' \
             LEFT JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid \
             AND c.relname OPERATOR(pg_catalog.=) 'schema_migrations'",
        )
        .await?;
    if row.try_get::<&str, _>(0)? != "UTF8" {
        return Ok(SchemaState::Encoding);
    }
    if !row.try_get::<bool, _>(1)? {
        return Ok(SchemaState::Behind);
    }
    if !row.try_get::<Option<bool>, _>(3)?.unwrap_or(false) {
        return Ok(SchemaState::Foreign);
    }
    if !row.try_get::<bool, _>(2)? {
        return Ok(SchemaState::Closed);
    }
    let row = connection
        .fetch_one("SELECT pg_catalog.max(version) FROM audit.schema_migrations WHERE success")
        .await?;
    let applied: Option<i64> = row.try_get(0)?;
    Ok(match applied.unwrap_or(0) {
        newer if newer > known => SchemaState::Newer(newer),
        current if current == known => {
            let row = connection
                .fetch_one("SELECT pg_catalog.pg_has_role('audit_writer', 'USAGE')")
                .await?;
            if row.try_get(0)? {
                SchemaState::Current
            } else {
                SchemaState::NotWriter
            }
        }
        _ => SchemaState::Behind,
    })
}
