//! `migrate`: creates the audit tables or updates them, and prints the resulting schema.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::Migrate;
use crate::database::Database;
use crate::error::Error;
use crate::reset;

/// Whether the trail's table of migrations belongs to the trail: one that somebody else owns is not
/// read.
const IS_OURS: &str = "
    SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE n.nspname OPERATOR(pg_catalog.=) 'audit' AND c.relname OPERATOR(pg_catalog.=) 'schema_migrations'
            AND c.relkind OPERATOR(pg_catalog.=) 'r' AND n.nspowner OPERATOR(pg_catalog.=) c.relowner
            AND pg_catalog.pg_get_userbyid(c.relowner) OPERATOR(pg_catalog.=) 'audit_owner')";

/// The first of these logins that does not exist.
const ABSENT: &str = "
    SELECT login FROM pg_catalog.unnest($1::pg_catalog.text[]) AS given (login)
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) given.login::pg_catalog.name) LIMIT 1";

/// The version of the schema: the last migration that was applied.
const VERSION: &str = "
    SELECT version, description FROM audit.schema_migrations
    WHERE success ORDER BY version DESC LIMIT 1";

/// The record tables and the number of partitions of each.
const TABLES: &str = "
    SELECT c.relname::text, (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'audit' AND c.relkind = 'p' ORDER BY 1";

/// Prints the SQL, for a program that keeps the host's migrations.
pub(crate) fn print() -> Result<(), Error> {
    let script = tracing_audit::migration_script();
    Ok(io::stdout().lock().write_all(script.as_bytes())?)
}

/// Migrates, and prints what the schema is now.
pub(crate) fn run(database: &Database, url: &str, arguments: &Migrate) -> Result<(), Error> {
    let failed = |source| Error::Migrate {
        database: database.name(),
        source,
    };
    if arguments.only_roles {
        tracing_audit::make_roles(url).map_err(failed)?;
        let mut out = io::stdout().lock();
        writeln!(out, "The roles of the audit trail are there.")?;
        return Ok(());
    }
    let runtime = crate::runtime()?;
    let mut connection = runtime.block_on(database.connect())?;
    let logins = [
        ("audit_writer", &arguments.writer),
        ("audit_reader", &arguments.reader),
        ("audit_auditor", &arguments.auditor),
        ("audit_operator", &arguments.operator),
        ("audit_sealer", &arguments.sealer),
    ];
    // Checked before anything is created.
    let all = logins.iter().flat_map(|(_, logins)| *logins);
    runtime.block_on(look_for(database, &mut connection, all.cloned().collect()))?;
    if arguments.reset {
        runtime.block_on(reset::run(database))?;
    }
    let before = runtime.block_on(version(&mut connection));
    drop(connection);
    tracing_audit::migrate(url).map_err(failed)?;
    let mut summary = runtime.block_on(summary(database, before))?;
    for (role, logins) in logins {
        for login in logins {
            let inherits = runtime.block_on(grant(database, role, login))?;
            let _ = write!(summary, "  {login} is {role}");
            if !inherits {
                let _ = write!(
                    summary,
                    " and has not its rights, for it does not inherit: ALTER ROLE {} INHERIT",
                    quoted(login)
                );
            }
            summary.push('\n');
        }
    }
    io::stdout().lock().write_all(summary.as_bytes())?;
    Ok(())
}

/// Checks that all of these logins exist.
async fn look_for(
    database: &Database,
    connection: &mut PgConnection,
    logins: Vec<String>,
) -> Result<(), Error> {
    let absent: Option<String> = sqlx::query_scalar(ABSENT)
        .bind(logins)
        .persistent(false)
        .fetch_optional(connection)
        .await
        .map_err(|source| database.change_error("look for the logins", source))?;
    match absent {
        Some(login) => Err(Error::NoLogin {
            login,
            database: database.name(),
        }),
        None => Ok(()),
    }
}

/// Quotes a name as Postgres does, unless it needs no quotes.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
    if name.chars().all(is_plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes a login a member of one of the trail's roles; returns whether it has the role's rights.
async fn grant(database: &Database, role: &str, login: &str) -> Result<bool, Error> {
    let failed = |source| Error::Grant {
        login: login.to_owned(),
        role: role.to_owned(),
        database: database.name(),
        source,
    };
    let mut connection = database.connect().await?;
    // From Postgres 16 on, the role's creator is already a member, but without the role's rights.
    let statement: String = sqlx::query_scalar(
        "SELECT pg_catalog.format('GRANT %I TO %I', $1::pg_catalog.text, $2::pg_catalog.text) \
         OPERATOR(pg_catalog.||) CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 \
         OPERATOR(pg_catalog.>=) 160000 THEN ' WITH INHERIT TRUE' ELSE '' END",
    )
    .bind(role)
    .bind(login)
    .persistent(false)
    .fetch_one(&mut connection)
    .await
    .map_err(failed)?;
    connection
        .execute(AssertSqlSafe(statement))
        .await
        .map_err(failed)?;
    sqlx::query_scalar(
        "SELECT pg_catalog.pg_has_role($1::pg_catalog.text::pg_catalog.name, $2::pg_catalog.text::pg_catalog.name, 'USAGE')",
    )
    .bind(login)
    .bind(role)
    .persistent(false)
    .fetch_one(&mut connection)
    .await
    .map_err(failed)
}

/// Returns the last applied migration; `None` if the tables do not exist or may not be read.
async fn version(connection: &mut PgConnection) -> Option<(i64, String)> {
    let is_ours = sqlx::query_scalar(IS_OURS)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await;
    if !is_ours.unwrap_or(false) {
        return None;
    }
    // A role that may not read this table may still run `migrate` when there is nothing to apply.
    sqlx::query_as(VERSION)
        .persistent(false)
        .fetch_optional(connection)
        .await
        .ok()
        .flatten()
}

/// Describes the resulting schema.
async fn summary(database: &Database, before: Option<(i64, String)>) -> Result<String, Error> {
    let mut connection = database.connect().await?;
    let now = version(&mut connection).await;
    // An administrator must not run functions that the database's owner put before those of
    // Postgres.
    connection
        .execute("BEGIN; SET LOCAL search_path = pg_catalog, pg_temp")
        .await
        .map_err(|source| database.read_error(source))?;
    let tables: Vec<(String, i64)> = sqlx::query_as(TABLES)
        .persistent(false)
        .fetch_all(&mut connection)
        .await
        .map_err(|source| database.read_error(source))?;
    let mut text = String::new();
    let what = match (&before, &now) {
        (Some(before), Some(now)) if before == now => "was up to date already",
        (Some(_), _) => "was brought up to date",
        (None, _) => "is ready",
    };
    let _ = write!(text, "The audit trail in {} {what}", database.name());
    if let Some((number, description)) = now {
        let _ = write!(text, ": version {number}, {description}");
    }
    text.push_str(".\n");
    for (table, partitions) in tables {
        let noun = if partitions == 1 {
            "partition"
        } else {
            "partitions"
        };
        let _ = writeln!(text, "  audit.{table:<12} {partitions} {noun}");
    }
    Ok(text)
}
