//! The public functions that create the tables or bring them up to date.

use std::time::Duration;

use sqlx::Connection as _;

use super::migrations;
use super::schema::{SchemaState, state};
use crate::database::Servers;
use crate::error::MigrateError;

/// Creates the audit tables in the database, or brings them up to date; does nothing if they are.
/// Run by a superuser, also creates the event triggers that keep the tables from being altered or
/// dropped, even if another role created the tables.
///
/// Blocks the thread; safe in and outside any runtime. Many processes may call it at once.
///
/// # Errors
///
/// [`MigrateError`] if the URL is malformed, if the database cannot be reached or returns an error,
/// and if its tables are of a newer version of this library.
///
/// ```no_run
/// tracing_audit::migrate("postgres://admin@localhost/app")?;
/// # Ok::<(), tracing_audit::MigrateError>(())
/// ```
pub fn migrate(url: &str) -> Result<(), MigrateError> {
    on_a_thread(url, What::All)
}

/// Creates the trail's roles, and nothing else. Call it before restoring a dump of a database with
/// a trail on a server that has no such roles.
///
/// Blocks the thread; safe in and outside any runtime.
///
/// # Errors
///
/// [`MigrateError`] if the URL is malformed, if the database cannot be reached or returns an error,
/// and if roles of these names exist that can do more than a group needs.
///
/// ```no_run
/// tracing_audit::make_roles("postgres://admin@localhost/app")?;
/// # Ok::<(), tracing_audit::MigrateError>(())
/// ```
pub fn make_roles(url: &str) -> Result<(), MigrateError> {
    on_a_thread(url, What::Roles)
}

/// What to create.
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
        // When nothing is to be done, no right to do it is needed.
        SchemaState::Current | SchemaState::NotWriter => {
            let strangers =
                migrations::strangers(&mut connection, migrations::About::Guard).await?;
            if let Some(strangers) = strangers {
                return Err(MigrateError::NotOurs(strangers));
            }
            migrations::lacks_guard(&mut connection)
                .await
                .map_err(database)?
                .is_some()
        }
        SchemaState::Newer(version) => return Err(MigrateError::Newer(version)),
        SchemaState::Encoding => return Err(MigrateError::Encoding),
        SchemaState::Behind | SchemaState::Closed | SchemaState::Foreign => true,
    };
    if is_to_run {
        migrations::run(&mut connection, false).await?;
    }
    connection.close().await.map_err(database)
}
