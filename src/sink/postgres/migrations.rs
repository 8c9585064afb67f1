//! Applies the migrations, after checking what stands in their way.
//!
//! Everything is one transaction whose `search_path` is that of Postgres. It first asks the catalog
//! what exists and who owns it; nothing of the trail is read, called or created before that is
//! known. Then the migrations run as `audit_maintainer`, not as the role that migrates: they have
//! neither its rights nor its default privileges.
//!
//! The schemas are created in the same transaction, an empty one anew, so that nobody else can have
//! put anything into them. The lock is the schema's name itself, which is unique. Applied
//! migrations are recorded in `audit.schema_migrations`.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha384};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

use super::embedded::MIGRATIONS;
use super::schema::{self, SchemaState};
use crate::error::MigrateError;

/// The settings of a migration's transaction. It waits no longer than this for locks that others
/// hold, such as the migration of another process that starts at the same time, and keeps notices
/// out of the host's log. All settings end with the transaction, and nothing is prepared: a
/// transaction pooler may give the connection to another client a moment later. No function runs
/// that the database's owner has put before those of Postgres.
pub(super) const SETTINGS: &str = "SET LOCAL lock_timeout = '60s'; SET LOCAL client_min_messages = 'warning'; \
     SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL row_security = on; SET LOCAL statement_timeout = 0; \
     SET LOCAL standard_conforming_strings = on; \
     SET LOCAL default_tablespace = ''; SET LOCAL default_table_access_method = heap";

/// Selects what stands in the way.
pub(super) const STRANGERS: &str = include_str!("../../../migrations/strangers.sql");

/// Creates the schema; whoever creates it creates the trail.
pub(super) const CLAIM: &str = include_str!("../../../migrations/claim.sql");

/// Creates the roles of the trail.
pub(super) const ROLES: &str = include_str!("../../../migrations/roles.sql");

/// Creates the schemas and the table of applied migrations.
pub(super) const BEGIN: &str = include_str!("../../../migrations/begin.sql");

/// Revokes the memberships that were needed to hand over what was created.
pub(super) const GIVE_BACK: &str = "DO $$ BEGIN IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN \
     EXECUTE format('REVOKE audit_owner, audit_maintainer FROM %I', current_user); END IF; END $$";

/// Lets the login that has just created the tables write to them; a superuser may anyway.
const BECOME_WRITER: &str = "DO $$ BEGIN IF NOT pg_has_role('audit_writer', 'USAGE') THEN \
     EXECUTE format('GRANT audit_writer TO %I', current_user); END IF; END $$";

/// The event triggers, which only a superuser can create: apart from the migrations, which another
/// role may have run.
pub(crate) const GUARD: &str = include_str!("../../../migrations/guard.sql");

/// Selects a row if this login can create the event triggers, and they are missing together with
/// their schema or with everything that should be in it. If only a part is missing, it was not left
/// out but tampered with, which `doctor` reports.
pub(super) const LACKS_GUARD: &str = "SELECT true FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user AND rolsuper \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_proc p ON p.pronamespace OPERATOR(pg_catalog.=) n.oid \
         WHERE n.nspname OPERATOR(pg_catalog.=) 'audit_guard') \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger \
     WHERE evtname OPERATOR(pg_catalog.=) ANY ('{audit_refuse_ddl,audit_refuse_drop}'))";

/// Selects what a login lacks to create the trail: the right to create roles, or the ones that
/// exist (from Postgres 16 on, the right to create roles does not include those that another role
/// created), or the right to create schemas.
pub(super) const MISSING_RIGHT: &str = include_str!("../../../migrations/missing_right.sql");

/// Begins a migration's transaction, whatever the database's defaults are. After waiting for another
/// process, this one must see what that one has done.
const BEGIN_CHANGE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// What is in the way when a migration has waited for as long as its `lock_timeout`.
const HELD_UP: &str = "a transaction of another session that makes a schema or a role of the trail's name, or holds a lock on \
     its tables: end it, and run this again (pg_locks and pg_stat_activity say which)";

/// How many of the things that stand in the way are listed.
const NAMED: usize = 5;

/// Why a migration was not applied.
#[derive(Debug)]
pub(crate) enum NotMade {
    Database(sqlx::Error),
    /// What exists is not the trail's; the text says what.
    Refused(String),
    /// The login lacks a right to create what is missing; the text says which.
    Lacking(String),
    Newer(i64),
    /// Its text differs from this program's.
    Changed(i64),
}

impl From<sqlx::Error> for NotMade {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(DatabaseError::code);
        if code.is_some_and(|code| code == "55P03") {
            return Self::Refused(String::from(HELD_UP));
        }
        Self::Database(error)
    }
}

impl From<NotMade> for MigrateError {
    fn from(not_made: NotMade) -> Self {
        match not_made {
            NotMade::Database(error) => Self::Database(Box::new(error)),
            NotMade::Refused(what) | NotMade::Lacking(what) => Self::NotOurs(what),
            NotMade::Newer(version) => Self::Newer(version),
            NotMade::Changed(version) => Self::Changed(version),
        }
    }
}

/// Brings the tables up to date. Many processes may do so at once: they wait for each other. With
/// `is_writer`, the login may then write to what it has created.
pub(crate) async fn run(connection: &mut PgConnection, is_writer: bool) -> Result<(), NotMade> {
    let mut transaction = connection.begin_with(BEGIN_CHANGE).await?;
    transaction.execute(SETTINGS).await?;
    let is_there = is_made(&mut transaction).await?;
    let about = if is_there { About::Use } else { About::Making };
    refuse_strangers(&mut transaction, about).await?;
    if !is_there {
        refuse_without_right(&mut transaction).await?;
        transaction.execute(CLAIM).await?;
        // Another may have created it while this one waited.
        if !is_made(&mut transaction).await? {
            make(&mut transaction, is_writer).await?;
        }
    }
    if lacks_guard(&mut transaction).await?.is_some() {
        // If several superusers run at once, one creates them.
        transaction
            .execute("LOCK TABLE audit.schema_migrations IN SHARE ROW EXCLUSIVE MODE")
            .await?;
        if lacks_guard(&mut transaction).await?.is_some() {
            refuse_strangers(&mut transaction, About::Guard).await?;
            transaction
                .execute("DROP SCHEMA IF EXISTS audit_guard")
                .await?;
            transaction.execute(GUARD).await?;
        }
    }
    Ok(transaction.commit().await?)
}

async fn is_made(transaction: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let state = schema::state(transaction).await?;
    Ok(matches!(
        state,
        SchemaState::Current | SchemaState::NotWriter
    ))
}

/// Creates the roles and the schemas, and applies the missing migrations.
async fn make(transaction: &mut PgConnection, is_writer: bool) -> Result<(), NotMade> {
    // A stranger may have made this transaction wait and created roles meanwhile; what exists now
    // is this transaction's, or is checked.
    refuse_strangers(transaction, About::Making).await?;
    transaction.execute(ROLES).await?;
    refuse_strangers(transaction, About::Making).await?;
    transaction.execute(BEGIN).await?;
    transaction
        .execute(
            "SET LOCAL ROLE audit_maintainer; LOCK TABLE audit.schema_migrations IN SHARE ROW EXCLUSIVE MODE",
        )
        .await?;
    let rows = transaction
        .fetch_all(
            "SELECT version, checksum FROM audit.schema_migrations WHERE success ORDER BY version",
        )
        .await?;
    let mut applied = Vec::new();
    for row in rows {
        let (version, checksum): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        match MIGRATIONS.iter().find(|known| known.version == version) {
            None => return Err(NotMade::Newer(version)),
            Some(known) if Sha384::digest(known.sql)[..] != checksum => {
                return Err(NotMade::Changed(version));
            }
            Some(_) => applied.push(version),
        }
    }
    for migration in &MIGRATIONS {
        if applied.contains(&migration.version) {
            continue;
        }
        transaction.execute(migration.sql).await?;
        transaction.execute(AssertSqlSafe(migration.note())).await?;
    }
    transaction.execute("RESET ROLE").await?;
    if is_writer {
        transaction.execute(BECOME_WRITER).await?;
    }
    transaction.execute(GIVE_BACK).await?;
    Ok(())
}

/// Creates the roles alone.
pub(crate) async fn make_roles(connection: &mut PgConnection) -> Result<(), NotMade> {
    let mut transaction = connection.begin_with(BEGIN_CHANGE).await?;
    transaction.execute(SETTINGS).await?;
    refuse_strangers(&mut transaction, About::Roles).await?;
    refuse_without_right(&mut transaction).await?;
    transaction.execute(ROLES).await?;
    refuse_strangers(&mut transaction, About::Roles).await?;
    transaction.execute(GIVE_BACK).await?;
    Ok(transaction.commit().await?)
}

async fn refuse_without_right(transaction: &mut PgConnection) -> Result<(), NotMade> {
    match transaction.fetch_optional(MISSING_RIGHT).await? {
        Some(row) => Err(NotMade::Lacking(row.try_get(0)?)),
        None => Ok(()),
    }
}

/// What is about to be done, which decides what stands in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The trail exists and is used.
    Use,
    /// The guard is created.
    Guard,
    /// The trail and its guard are created.
    Making,
    /// Only the roles are created: what was restored without them is no obstacle.
    Roles,
}

/// Returns what stands in the way of the trail, in words; `None` if nothing does.
pub(crate) async fn strangers(
    connection: &mut PgConnection,
    about: About,
) -> Result<Option<String>, NotMade> {
    let mut transaction = connection.begin().await?;
    transaction.execute(SETTINGS).await?;
    let found = found(&mut transaction, about).await?;
    transaction.commit().await?;
    Ok(found)
}

async fn refuse_strangers(transaction: &mut PgConnection, about: About) -> Result<(), NotMade> {
    match found(transaction, about).await? {
        Some(strangers) => Err(NotMade::Refused(strangers)),
        None => Ok(()),
    }
}

/// Returns what stands in the way, in a transaction that already has its settings.
async fn found(
    transaction: &mut PgConnection,
    about: About,
) -> Result<Option<String>, sqlx::Error> {
    let matters: &[&str] = match about {
        About::Use => &["always"],
        About::Guard => &["always", "to guard"],
        About::Making => &["always", "to guard", "to make", "to claim"],
        About::Roles => &["to make"],
    };
    let mut found = Vec::new();
    for row in transaction.fetch_all(STRANGERS).await? {
        if matters.contains(&row.try_get("matters")?) {
            found.push(row);
        }
    }
    in_words(&found)
}

fn in_words(rows: &[sqlx::postgres::PgRow]) -> Result<Option<String>, sqlx::Error> {
    let mut words = String::new();
    for row in rows.iter().take(NAMED) {
        let (what, owner, way_out): (&str, &str, &str) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if !words.is_empty() {
            words.push_str("; ");
        }
        let _ = write!(words, "{what} (of {owner}): {way_out}");
    }
    // Whoever named an object must not write lines of their own into the host's log.
    let mut words: String = words
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if rows.len() > NAMED {
        words.push_str("; and more");
    }
    Ok((!words.is_empty()).then_some(words))
}

/// Returns a row if this login can create the event triggers and they are missing.
pub(crate) async fn lacks_guard(
    connection: &mut PgConnection,
) -> Result<Option<sqlx::postgres::PgRow>, sqlx::Error> {
    connection.fetch_optional(LACKS_GUARD).await
}
