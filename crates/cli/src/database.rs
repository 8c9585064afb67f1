//! Locates the trail's database, and opens connections and transactions on it.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnection, Postgres};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Transaction};
use tracing_audit::__program::{Servers, UrlError};

use crate::error::Error;

/// How long the database may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Sets UTC for times as text, and the tenant for row-level security. Both hold for the transaction
/// only: a pooler may hand the session to another client afterwards.
const SET_UP: &str = "
    SELECT set_config('TimeZone', 'UTC', true), CASE WHEN $1::text IS NULL THEN NULL
        ELSE set_config('app.current_tenant', audit.tenant_uuid($1)::text, true) END";

/// The first statement of every transaction. A database or a role may have another `search_path`,
/// and then functions that its owner put there would run in place of those of Postgres, with the
/// greater rights of whoever reads the trail.
pub(crate) const CATALOG_FIRST: &str = "SET LOCAL search_path = pg_catalog, pg_temp";

/// Without statistics of values, Postgres overestimates the few rows that an index finds: it would
/// compile the query and start workers for it, which takes a third of a second.
const FEW_ROWS: &str = "SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL row_security = on";

/// Whether there is a trail, and which of its objects belong neither to the trail's roles nor to a
/// superuser. Reading somebody else's table, view or index, or calling their function, may run
/// their code with the reader's rights. This query reads only the catalog of Postgres.
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
    SELECT audit.record_reading($1, $2, CASE WHEN $3::text IS NOT NULL THEN audit.tenant_uuid($3) END, $4::text::jsonb)";

/// The database of the trail.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    servers: Servers,
}

impl Database {
    /// Parses the URL, without connecting.
    pub(crate) fn new(url: &str) -> Result<Self, Error> {
        let servers = url.parse().map_err(|error| match error {
            UrlError::Scheme => Error::NotPostgres,
            error => Error::BadUrl(error),
        })?;
        Ok(Self { servers })
    }

    /// Returns it for another login.
    pub(crate) fn with_login(&self, login: &str, password: &str) -> Self {
        Self {
            servers: self.servers.clone().with_login(login, password),
        }
    }

    /// Returns its servers.
    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
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

    /// Connects to read the trail or to call its functions. Fails unless every object of it belongs
    /// to the trail.
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

    /// Returns where the database is, without the password.
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

    /// Converts the error of a failed statement. The trail existed when the command began, so the
    /// error names the cause, also if a partition or a table is gone by now.
    pub(crate) fn read_error(&self, source: sqlx::Error) -> Error {
        Error::Read {
            database: self.name(),
            source,
        }
    }

    /// Converts the error of a failed change; `what` names it, such as "remove a partition".
    pub(crate) fn change_error(&self, what: &'static str, source: sqlx::Error) -> Error {
        Error::Change {
            what,
            database: self.name(),
            source,
        }
    }

    /// Returns the error for an exceeded time limit.
    pub(crate) fn no_answer(&self, within: Duration) -> Error {
        Error::NoAnswer {
            database: self.name(),
            seconds: within.as_secs(),
        }
    }
}

/// Who owns the trail in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ours,
    Absent,
    /// An object in it belongs to somebody else: which, and to whom.
    NotOurs(String),
}

/// Checks who owns the trail, in a transaction that began with [`CATALOG_FIRST`].
pub(crate) async fn standing(connection: &mut PgConnection) -> Result<Standing, sqlx::Error> {
    look(connection).await.map(|(standing, _)| standing)
}

/// Like [`standing`]; also returns whether any migration was applied.
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

/// As whom the trail is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope<'a> {
    /// The tenant whose rows alone a reader sees, by its key.
    tenant: Option<&'a str>,
    /// The role to read as; `None`: the login itself.
    role: Option<Role>,
}

/// A role that reads the trail, by the migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads the rows of one tenant.
    Reader,
    /// Reads all rows.
    Auditor,
}

impl<'a> Scope<'a> {
    /// Reads as `role`, which the login must be a member of.
    pub(crate) fn of_role(role: Role, tenant: Option<&'a str>) -> Self {
        Self {
            tenant,
            role: Some(role),
        }
    }

    /// Returns the key of the tenant.
    pub(crate) fn tenant(self) -> Option<&'a str> {
        self.tenant
    }
}

impl<'a> From<Option<&'a str>> for Scope<'a> {
    fn from(tenant: Option<&'a str>) -> Self {
        Self { tenant, role: None }
    }
}

/// Begins a read-only transaction on a snapshot taken at its first statement. Also returns the id of
/// the tenant whose rows are read.
pub(crate) async fn begin<'c>(
    connection: &'c mut PgConnection,
    scope: impl Into<Scope<'_>>,
) -> Result<(Transaction<'c, Postgres>, Option<Uuid>), sqlx::Error> {
    let scope = scope.into();
    // Local, so that no pooler hands the session to another client with it.
    let role = match scope.role {
        None => "",
        Some(Role::Reader) => "; SET LOCAL ROLE audit_reader",
        Some(Role::Auditor) => "; SET LOCAL ROLE audit_auditor",
    };
    // At once: a page has some of these transactions.
    let statements = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {CATALOG_FIRST}; {FEW_ROWS}{role}"
    );
    let mut transaction = connection.begin_with(AssertSqlSafe(statements)).await?;
    let (_, tenant): (String, Option<String>) = sqlx::query_as(SET_UP)
        .bind(scope.tenant)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    let tenant = tenant
        .map(|id| Uuid::from_str(&id))
        .transpose()
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok((transaction, tenant))
}

/// Whether this role reads a single tenant's rows, and no tenant is set.
const IS_BOUND_TO_NONE: &str = "
    SELECT NOT has_table_privilege('audit.batches', 'SELECT') AND audit.current_tenant() IS NULL";

/// Whether nothing can be found because the role reads a single tenant's rows and no tenant is set.
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

/// Begins a read-write transaction, with times in UTC.
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

/// Records in the trail that it is read: why, and which request and tenant; `details` is a JSON object
/// with what else is told of it. Commits before anything is read or leaves, so that the record stays
/// whatever becomes of the reading.
pub(crate) async fn record_reading(
    database: &Database,
    connection: &mut PgConnection,
    purpose: &str,
    request: Option<&str>,
    tenant: Option<&str>,
    details: Option<&str>,
) -> Result<Uuid, Error> {
    let failed = |source| database.change_error("record the reading, so nothing was read,", source);
    let mut transaction = begin_change(connection).await.map_err(failed)?;
    let id = sqlx::query_scalar(RECORD_READING)
        .bind(purpose)
        .bind(request)
        .bind(tenant)
        .bind(details)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(id)
}
