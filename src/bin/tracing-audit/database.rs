//! The database of the trail: where it is, and a connection for reading it.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnection, Postgres};
use sqlx::types::Uuid;
use sqlx::{Connection as _, Executor as _, Transaction};

use crate::error::Error;
use crate::trail::{Servers, UrlError};

/// How long the database has to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Times as text are in UTC, and the tenant that row-level security looks at is set.
/// Both for the transaction only: a pooler may hand the session to somebody else after it.
const SET_UP: &str = "
    SELECT set_config('TimeZone', 'UTC', true), CASE WHEN $1::text IS NULL THEN NULL
        ELSE set_config('app.current_tenant', audit.tenant_uuid($1)::text, true) END";

/// The first statement of every transaction. A database or a role may have another `search_path`: what its owner put
/// there would be called in place of the functions of Postgres, by who looks into the trail and may do more.
pub(crate) const CATALOG_FIRST: &str = "SET LOCAL search_path = pg_catalog, pg_temp";

/// No statistics are kept of values, so that the few rows an index finds are expected to be many: Postgres would
/// compile the query and start workers for it, for a third of a second.
const FEW_ROWS: &str = "SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0";

/// Whether there is a trail, and what in it belongs neither to the trail's roles nor to a superuser. To read a table, a
/// view or an index of somebody else's, or to call a function of theirs, may run their code with the rights of whoever
/// reads. Only the catalog of Postgres is asked.
const STRANGERS: &str = "
    WITH ours AS (SELECT oid FROM pg_roles WHERE rolname IN ('audit_owner', 'audit_maintainer') OR rolsuper),
        schemas AS (SELECT oid, nspname, nspowner FROM pg_namespace WHERE nspname IN ('audit', 'audit_parts'))
    SELECT EXISTS (SELECT FROM schemas WHERE nspname = 'audit'),
        EXISTS (SELECT FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace
            WHERE n.nspname = 'audit' AND c.relname = 'schema_migrations'), (
        SELECT format('%s belongs to %s', what, pg_get_userbyid(owner)) FROM (
            SELECT format('schema %I', nspname), nspowner FROM schemas
            UNION ALL
            SELECT format('%I.%I', n.nspname, c.relname), c.relowner FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace
            UNION ALL
            SELECT format('function %I.%I', n.nspname, p.proname), p.proowner FROM pg_proc p JOIN schemas n ON n.oid = p.pronamespace
            UNION ALL
            SELECT format('type %I.%I', n.nspname, t.typname), t.typowner FROM pg_type t JOIN schemas n ON n.oid = t.typnamespace
        ) AS found (what, owner) WHERE owner NOT IN (SELECT oid FROM ours) LIMIT 1)";

const RECORD_READING: &str = "
    SELECT audit.record_reading($1, $2, CASE WHEN $3::text IS NOT NULL THEN audit.tenant_uuid($3) END)";

/// The database of the trail.
#[derive(Debug)]
pub(crate) struct Database {
    servers: Servers,
}

impl Database {
    /// Reads the URL; connects to nothing yet.
    pub(crate) fn new(url: &str) -> Result<Self, Error> {
        let servers = url.parse().map_err(|error| match error {
            UrlError::Scheme => Error::NotPostgres,
            error => Error::BadUrl(error),
        })?;
        Ok(Self { servers })
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<PgConnection, Error> {
        match self.servers.connect(CONNECT_TIMEOUT).await {
            Ok((connection, _)) => Ok(connection),
            Err(why) => Err(Error::Connect {
                database: self.name(),
                why,
            }),
        }
    }

    /// Connects to read the trail, or to call its functions: only where all of it is the trail's own.
    pub(crate) async fn connect_to_trail(&self) -> Result<PgConnection, Error> {
        let mut connection = self.connect().await?;
        let standing = async {
            let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
            transaction.execute(CATALOG_FIRST).await?;
            let standing = look(&mut transaction).await?;
            transaction.commit().await?;
            Ok(standing)
        };
        match standing.await.map_err(|source| self.read_error(source))? {
            (Standing::NotOurs(what), _) => Err(Error::NotOurs {
                database: self.name(),
                what,
            }),
            (Standing::Ours, true) => Ok(connection),
            _ => Err(Error::NoTables {
                database: self.name(),
            }),
        }
    }

    /// Where the database is, without the password.
    pub(crate) fn name(&self) -> String {
        let first = self.servers.first();
        let user = first.get_username();
        let database = first.get_database().unwrap_or(user);
        let at: Vec<_> = self
            .servers
            .hosts()
            .iter()
            .map(|host| match host.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => format!("{}:{}", host.get_host(), host.get_port()),
            })
            .collect();
        format!("database {database} at {} (user {user})", at.join(", "))
    }

    /// A statement failed. The trail was there when the command began, so it says what the cause is: also when a
    /// partition, or a table, is gone meanwhile.
    pub(crate) fn read_error(&self, source: sqlx::Error) -> Error {
        Error::Read {
            database: self.name(),
            source,
        }
    }

    /// Something could not be done; `what` says what, as "remove a partition".
    pub(crate) fn change_error(&self, what: &'static str, source: sqlx::Error) -> Error {
        Error::Change {
            what,
            database: self.name(),
            source,
        }
    }

    /// The database took too long.
    pub(crate) fn no_answer(&self, within: Duration) -> Error {
        Error::NoAnswer {
            database: self.name(),
            seconds: within.as_secs(),
        }
    }
}

/// Whose the trail in a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ours,
    Absent,
    /// Something in it is somebody else's: what, and whose.
    NotOurs(String),
}

/// Looks whose the trail is, in a transaction that has begun with [`CATALOG_FIRST`].
pub(crate) async fn standing(connection: &mut PgConnection) -> Result<Standing, sqlx::Error> {
    look(connection).await.map(|(standing, _)| standing)
}

/// The same, and whether any migration was applied.
async fn look(connection: &mut PgConnection) -> Result<(Standing, bool), sqlx::Error> {
    let (is_there, is_migrated, stranger): (bool, bool, Option<String>) = sqlx::query_as(STRANGERS)
        .persistent(false)
        .fetch_one(connection)
        .await?;
    let standing = match stranger {
        Some(what) => Standing::NotOurs(what),
        None if is_there => Standing::Ours,
        None => Standing::Absent,
    };
    Ok((standing, is_migrated))
}

/// A read-only transaction that sees the rows as they are at its first statement, as
/// `tenant` when one is named, and the id of that tenant.
pub(crate) async fn begin<'c>(
    connection: &'c mut PgConnection,
    tenant: Option<&str>,
) -> Result<(Transaction<'c, Postgres>, Option<Uuid>), sqlx::Error> {
    let mut transaction = connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    transaction.execute(CATALOG_FIRST).await?;
    transaction.execute(FEW_ROWS).await?;
    let (_, tenant): (String, Option<String>) = sqlx::query_as(SET_UP)
        .bind(tenant)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    let tenant = tenant
        .map(|id| Uuid::from_str(&id))
        .transpose()
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok((transaction, tenant))
}

/// Whether this role reads one tenant's rows, and none is named.
const IS_BOUND_TO_NONE: &str = "
    SELECT NOT has_table_privilege('audit.batches', 'SELECT') AND audit.current_tenant() IS NULL";

/// Whether nothing can be found since the role reads one tenant's rows, and none is named.
pub(crate) async fn is_bound_to_none(
    connection: &mut PgConnection,
    tenant: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let (mut transaction, _) = begin(connection, tenant).await?;
    let is_bound_to_none = sqlx::query_scalar(IS_BOUND_TO_NONE)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    Ok(is_bound_to_none)
}

/// A transaction that may change something, in which times are in UTC.
pub(crate) async fn begin_change(
    connection: &mut PgConnection,
) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    let mut transaction = connection
        .begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        .await?;
    transaction.execute(CATALOG_FIRST).await?;
    transaction.execute("SET LOCAL TimeZone = 'UTC'").await?;
    Ok(transaction)
}

/// Records in the trail that it is read: why, and of which request and tenant. For itself, so that it is on record
/// before anything is read, and stays there whatever becomes of the reading.
pub(crate) async fn record_reading(
    database: &Database,
    connection: &mut PgConnection,
    purpose: &str,
    request: Option<&str>,
    tenant: Option<&str>,
) -> Result<(), Error> {
    let failed = |source| database.change_error("record the reading, so nothing was read,", source);
    let mut transaction = begin_change(connection).await.map_err(failed)?;
    sqlx::query(RECORD_READING)
        .bind(purpose)
        .bind(request)
        .bind(tenant)
        .persistent(false)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}
