//! The tables: made, brought up to date, and looked up.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _, Row as _};

use super::migrations::{self, MIGRATIONS};
use crate::database::Servers;
use crate::error::MigrateError;

/// How the tables in a database compare with what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Current,
    /// Missing or of an older version.
    Behind,
    /// Of a newer version of the library.
    Newer(i64),
    /// The database is not in UTF8.
    Encoding,
    /// This login is no member of `audit_writer`.
    NotWriter,
    /// There, and closed to this login, which cannot tell of which version they are.
    Closed,
    /// There, and not ours: nothing of them is read.
    Foreign,
}

/// Looks up the version of the tables, without a right to anything but the catalog. Names
/// everything with its schema: whoever migrates may be an administrator, and where the owner of a
/// database has put functions before those of Postgres, they must not run with such rights.
pub(crate) async fn state(connection: &mut PgConnection) -> Result<State, sqlx::Error> {
    let known = MIGRATIONS[MIGRATIONS.len() - 1].version;
    // Read with the writer's rights, so through the catalog's public part first. And none of it
    // prepared: a transaction pooler may run what was prepared elsewhere.
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
        return Ok(State::Encoding);
    }
    if !row.try_get::<bool, _>(1)? {
        return Ok(State::Behind);
    }
    if !row.try_get::<Option<bool>, _>(3)?.unwrap_or(false) {
        return Ok(State::Foreign);
    }
    if !row.try_get::<bool, _>(2)? {
        return Ok(State::Closed);
    }
    let row = connection
        .fetch_one("SELECT pg_catalog.max(version) FROM audit.schema_migrations WHERE success")
        .await?;
    let applied: Option<i64> = row.try_get(0)?;
    Ok(match applied.unwrap_or(0) {
        newer if newer > known => State::Newer(newer),
        current if current == known => {
            let row = connection
                .fetch_one("SELECT pg_catalog.pg_has_role('audit_writer', 'USAGE')")
                .await?;
            if row.try_get(0)? {
                State::Current
            } else {
                State::NotWriter
            }
        }
        _ => State::Behind,
    })
}

/// Makes the audit tables in the database, or brings them up to date; does nothing when they
/// are. A superuser makes the event triggers as well that keep the tables from being altered or
/// dropped, where another role has made the tables.
///
/// Blocks the thread; safe in and outside any runtime. Many processes may call it at once.
///
/// # Errors
///
/// [`MigrateError`] when the URL is malformed, when the database cannot be reached or refuses,
/// and when its tables are of a newer version of this library.
///
/// ```no_run
/// tracing_audit::migrate("postgres://admin@localhost/app")?;
/// # Ok::<(), tracing_audit::MigrateError>(())
/// ```
pub fn migrate(url: &str) -> Result<(), MigrateError> {
    on_a_thread(url, What::All)
}

/// Makes the roles of the trail, and nothing else: before a dump of a database with a trail is
/// restored on a server that has none.
///
/// Blocks the thread; safe in and outside any runtime.
///
/// # Errors
///
/// [`MigrateError`] when the URL is malformed, when the database cannot be reached or refuses,
/// and when roles of these names are there that can do more than a group needs.
///
/// ```no_run
/// tracing_audit::make_roles("postgres://admin@localhost/app")?;
/// # Ok::<(), tracing_audit::MigrateError>(())
/// ```
pub fn make_roles(url: &str) -> Result<(), MigrateError> {
    on_a_thread(url, What::Roles)
}

/// What is to be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    All,
    Roles,
}

fn on_a_thread(url: &str, what: What) -> Result<(), MigrateError> {
    let servers = url.parse::<Servers>()?.for_writing();
    if servers.lacks_tls() {
        return Err(MigrateError::NoTls);
    }
    // A thread of its own, since a runtime cannot be entered from within another.
    let migrating = std::thread::Builder::new()
        .name(String::from("tracing-audit-migrate"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(MigrateError::Thread)?;
            runtime.block_on(migrate_with(servers, what))
        })
        .map_err(MigrateError::Thread)?;
    migrating.join().unwrap_or_else(|_| {
        Err(MigrateError::Database(
            "the migration's thread panicked".into(),
        ))
    })
}

async fn migrate_with(servers: Servers, what: What) -> Result<(), MigrateError> {
    let database = |error: sqlx::Error| MigrateError::Database(Box::new(error));
    let (mut connection, _) = servers
        .connect(Duration::from_secs(30))
        .await
        .map_err(|unreachable| MigrateError::Database(Box::new(unreachable)))?;
    if what == What::Roles {
        migrations::make_roles(&mut connection).await?;
        return connection.close().await.map_err(database);
    }
    let is_to_run = match state(&mut connection).await.map_err(database)? {
        // Nothing to do takes no right to do it.
        State::Current | State::NotWriter => {
            let strangers = migrations::strangers(&mut connection, migrations::About::Use).await?;
            if let Some(strangers) = strangers {
                return Err(MigrateError::NotOurs(strangers));
            }
            migrations::lacks_guard(&mut connection)
                .await
                .map_err(database)?
                .is_some()
        }
        State::Newer(version) => return Err(MigrateError::Newer(version)),
        State::Encoding => return Err(MigrateError::Encoding),
        State::Behind | State::Closed | State::Foreign => true,
    };
    if is_to_run {
        migrations::run(&mut connection, false).await?;
    }
    connection.close().await.map_err(database)
}
