//! The tables: made, brought up to date, and looked up.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _, Row as _, SqlSafeStr as _};

use crate::database::Servers;
use crate::error::MigrateError;

/// The table of the applied migrations, apart from the host's own.
const MIGRATIONS_TABLE: &str = "audit.schema_migrations";

/// What a migration begins with. Waits no longer than this for locks that others hold, such as
/// the migration of another process that starts at the same time; and keeps notices out of the
/// host's log. All of it ends with the transaction, but for the statements that sqlx prepares: a
/// transaction pooler's connection may have some of these names from others, who do not count on
/// them. And no function runs that the database's owner has put before those of Postgres.
const SETTINGS: &str = "SET LOCAL lock_timeout = '60s'; SET LOCAL client_min_messages = 'warning'; \
     SET LOCAL search_path = pg_catalog, pg_temp; SELECT pg_advisory_xact_lock(hashtextextended('tracing-audit migration', 0)); DEALLOCATE ALL";

/// The event triggers, which only a superuser can make: apart from the migrations, which may have been another's.
const GUARD: &str = include_str!("../../../migrations/guard.sql");

/// Whether this login can make the event triggers, and they are missing; then, whether the schema they lie in is as well.
/// What is there only in part was not left out but tampered with, which is for `doctor` to tell.
const LACKS_GUARD: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) 'audit_guard') \
     FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user AND rolsuper \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger \
     WHERE evtname OPERATOR(pg_catalog.=) ANY ('{audit_refuse_ddl,audit_refuse_drop}'))";

/// The embedded migrations. Built by hand: the `migrate!` macro would cost every user sqlx's
/// macros.
pub(crate) fn migrator() -> Migrator {
    let migration = |version, description, sql: &'static str| {
        let description = Cow::Borrowed(description);
        let sql = sql.into_sql_str();
        Migration::new(version, description, MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(vec![
        migration(
            1,
            "audit trail",
            include_str!("../../../migrations/0001_audit_trail.sql"),
        ),
        migration(
            2,
            "rights",
            include_str!("../../../migrations/0002_rights.sql"),
        ),
    ]);
    // Its lock is a session's, and would be left to others behind a transaction pooler.
    migrator.set_locking(false);
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator.create_schema("audit");
    migrator
}

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
}

/// Looks up the version of the tables, without a right to anything but the catalog. Names
/// everything with its schema: whoever migrates may be an administrator, and where the owner of a
/// database has put functions before those of Postgres, they must not run with such rights.
pub(crate) async fn state(connection: &mut PgConnection) -> Result<State, sqlx::Error> {
    let known = migrator()
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    // Read with the writer's rights, so through the catalog's public part first. And none of it
    // prepared: a transaction pooler may run what was prepared elsewhere.
    let row = connection
        .fetch_one(
            "SELECT pg_catalog.current_setting('server_encoding'), c.oid IS NOT NULL, \
             c.oid IS NOT NULL AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
             AND pg_catalog.has_column_privilege(c.oid, 'version', 'SELECT') AND pg_catalog.has_column_privilege(c.oid, 'success', 'SELECT') \
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

/// Brings the tables up to date. Many processes may do so at once: they wait for each other.
pub(crate) async fn run(connection: &mut PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    // Who has waited for another is to see what that one has done.
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    let mut transaction = connection.begin_with(begin).await?;
    transaction.execute(SETTINGS).await?;
    migrator()
        .run_direct(None, &mut *transaction, false)
        .await?;
    if transaction.fetch_optional(LACKS_GUARD).await?.is_some() {
        transaction.execute(GUARD).await?;
    }
    transaction.execute("DEALLOCATE ALL").await?;
    Ok(transaction.commit().await?)
}

/// Lets the login that has just made the tables write to them; a superuser may anyway.
pub(crate) async fn become_writer(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection
        .execute(
            "DO $$ BEGIN IF NOT pg_catalog.pg_has_role('audit_writer', 'USAGE') THEN \
             EXECUTE pg_catalog.format('GRANT audit_writer TO %I', current_user); END IF; END $$",
        )
        .await?;
    Ok(())
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
            runtime.block_on(migrate_with(servers))
        })
        .map_err(MigrateError::Thread)?;
    migrating.join().unwrap_or_else(|_| {
        Err(MigrateError::Database(
            "the migration's thread panicked".into(),
        ))
    })
}

async fn migrate_with(servers: Servers) -> Result<(), MigrateError> {
    let database = |error: sqlx::Error| MigrateError::Database(Box::new(error));
    let (mut connection, _) = servers
        .connect(Duration::from_secs(30))
        .await
        .map_err(|unreachable| MigrateError::Database(Box::new(unreachable)))?;
    let is_to_run = match state(&mut connection).await.map_err(database)? {
        // Nothing to do takes no right to do it.
        State::Current | State::NotWriter => match connection.fetch_optional(LACKS_GUARD).await {
            Ok(Some(row)) => row.try_get(0).map_err(database)?,
            Ok(None) => false,
            Err(error) => return Err(database(error)),
        },
        State::Newer(version) => return Err(MigrateError::Newer(version)),
        State::Encoding => return Err(MigrateError::Encoding),
        State::Behind | State::Closed => true,
    };
    if is_to_run {
        run(&mut connection)
            .await
            .map_err(|error| MigrateError::Database(Box::new(error)))?;
    }
    connection.close().await.map_err(database)
}
