//! Returns new batches as they are committed, each exactly once.
//!
//! A position in the trail is a number per writer, not a time. A writer's batches have no gaps
//! between them and are committed in order, so "every batch of this writer from this `seq` on" can
//! neither miss a batch that took long to commit nor read one twice, whatever happens to the
//! connection in between.
//!
//! Time only decides which writers to poll: those with a recent batch. A writer that is missed is
//! polled when it commits again, from its last position.
//!
//! A tenant's reader cannot see the batches; a database function returns what the tenant has in
//! those that are new.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, FromRow, Row as _};
use tracing_audit::__program::Table;

use crate::complain;
use crate::database::{CATALOG_FIRST, Database, Scope, begin};
use crate::error::Error;
use crate::pages::Pages;
use crate::row::{RecordId, Row};

/// How long a query may take before the connection counts as lost: without a limit, a silently
/// dropped connection would block for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// How long the search for one batch's rows may take: a writer can claim any range of ids for a
/// batch, and the search reads every row in it.
const BATCH_TIMEOUT: &str = "SET LOCAL statement_timeout = '10s'";

/// How long the search for the newest rows goes on, once it has begun with a batch.
const NEWEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A batch whose ids span more than this is searched last of all, in milliseconds: a week.
const WIDE_MS: u128 = 7 * 24 * 60 * 60 * 1_000;

/// At the start, at most so many wide batches are searched. Later, after so many slow searches in a
/// row, wide batches are skipped.
const MAX_WIDE: u32 = 3;

/// How far back most polls look for writers, in seconds: longer than the interval between polls.
const NEAR_SECONDS: f64 = 10.0;

/// How far back one poll in [`FAR_EVERY`] looks, in seconds: longer than a batch takes to commit,
/// even when the commit waits for a standby.
const FAR_SECONDS: f64 = 300.0;

/// One poll in this many looks far back.
const FAR_EVERY: u32 = 50;

/// The least number of batches that are searched for the newest rows.
const MIN_RECENT_BATCHES: i64 = 1_000;

/// Each writer's position: the end of its last batch. One descent of the primary key for each
/// writer, however many batches it has.
const POSITIONS: &str = "
    WITH RECURSIVE position AS (
        (SELECT writer_id, last_seq FROM audit.batches
         ORDER BY writer_id DESC, first_seq DESC LIMIT 1)
        UNION ALL
        SELECT next.* FROM position, LATERAL (
            SELECT b.writer_id, b.last_seq FROM audit.batches AS b
            WHERE b.writer_id < position.writer_id
            ORDER BY b.writer_id DESC, b.first_seq DESC LIMIT 1) AS next)
    SELECT writer_id, last_seq FROM position";

/// The newest batches.
const RECENT: &str = "
    SELECT writer_id, first_seq, last_seq, first_id, last_id,
        CASE jsonb_typeof(records) WHEN 'object' THEN ARRAY(SELECT jsonb_object_keys(records)) ELSE '{}' END AS tables, dead_letters
    FROM audit.batches ORDER BY committed_at DESC, writer_id, first_seq DESC LIMIT $1";

/// The writers with a recent batch, and the server's time.
const ACTIVE: &str = "
    SELECT extract(epoch FROM clock_timestamp())::float8, array(
        SELECT DISTINCT writer_id FROM audit.batches WHERE committed_at > CASE
            WHEN $1::float8 IS NULL THEN clock_timestamp() - make_interval(secs => $2)
            ELSE to_timestamp($1) - make_interval(secs => $2) END)";

/// The batches after each writer's position, in commit order, except that a writer's own are always
/// ordered by `seq`, even when the server's clock went back.
const NEW: &str = "
    SELECT b.writer_id, first_seq, last_seq, first_id, last_id,
        CASE jsonb_typeof(records) WHEN 'object' THEN ARRAY(SELECT jsonb_object_keys(records)) ELSE '{}' END AS tables, dead_letters
    FROM unnest($1::uuid[], $2::bigint[]) AS place(writer_id, last)
    JOIN audit.batches AS b ON b.writer_id = place.writer_id AND b.first_seq > place.last
    ORDER BY max(committed_at) OVER (PARTITION BY b.writer_id ORDER BY first_seq),
        b.writer_id, first_seq";

/// Whether this role can read the batches, and which tenant it is bound to if not.
const SEES: &str = "
    SELECT has_table_privilege('audit.batches', 'SELECT'), audit.current_tenant()::text";

/// What a tenant has in recent batches that are new to it.
const TENANT_NEW: &str = "
    SELECT writer_id, first_seq, last_seq, first_id, last_id, tables
    FROM audit.tenant_batches(CASE
        WHEN $1::float8 IS NULL THEN clock_timestamp() - make_interval(secs => $2)
        ELSE to_timestamp($1) - make_interval(secs => $2) END, $3, $4)";

/// The server's time.
const NOW: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";

/// Returns the condition that selects the newest rows of a tenant, from any batch.
fn newest_of_tenant_condition() -> String {
    let newest = Table::ALL.map(|table| {
        let table = table.name();
        format!("(SELECT id FROM audit.{table} WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2)")
    });
    format!(
        "tenant_id = $1 AND id IN (SELECT newest.id FROM ({} ORDER BY id DESC LIMIT $2) AS newest)",
        newest.join(" UNION ALL ")
    )
}

/// The condition that selects a batch's rows. The ids narrow the search to a range of the primary
/// key and to the partitions it touches.
const OF_BATCH: &str = "id BETWEEN $1 AND $2 AND writer_id = $3 AND seq BETWEEN $4 AND $5
    AND ($6::uuid IS NULL OR tenant_id = $6)";

/// A batch's header.
#[derive(Debug)]
pub(crate) struct Batch {
    writer_id: Uuid,
    first_seq: i64,
    last_seq: i64,
    first_id: Option<Uuid>,
    last_id: Option<Uuid>,
    /// The tables it has rows in.
    tables: Vec<Table>,
    /// Records that Postgres refused.
    pub(crate) dead_letters: i32,
}

impl FromRow<'_, PgRow> for Batch {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let tables: Vec<String> = row.try_get("tables")?;
        // A reader of a tenant is not told of them.
        let dead_letters = match row.try_column("dead_letters") {
            Ok(_) => row.try_get("dead_letters")?,
            Err(_) => 0,
        };
        Ok(Self {
            writer_id: row.try_get("writer_id")?,
            first_seq: row.try_get("first_seq")?,
            last_seq: row.try_get("last_seq")?,
            first_id: row.try_get("first_id")?,
            last_id: row.try_get("last_id")?,
            tables: tables
                .iter()
                .filter_map(|name| Table::of_name(name))
                .collect(),
            dead_letters,
        })
    }
}

impl Batch {
    /// Whether its ids span more than a week, which no program's batch does.
    fn is_wide(&self) -> bool {
        let ms = |id: Option<Uuid>| id.map_or(0, |id| id.as_u128() >> 80);
        ms(self.last_id).saturating_sub(ms(self.first_id)) > WIDE_MS
    }

    /// Says that its rows are not printed.
    fn complain(&self) {
        let why = if self.is_wide() {
            ", since the batch claims ids that span more than a week"
        } else {
            ""
        };
        complain(&format!(
            "records {} to {} of writer {} are not printed: the search for them takes too long{why}",
            self.first_seq, self.last_seq, self.writer_id
        ));
    }
}

/// A position in the trail: what is committed after it is new.
#[derive(Debug)]
pub(crate) struct Feed<'a> {
    database: &'a Database,
    scope: Scope<'a>,
    /// Whether this role can read the batches, of all tenants.
    sees_batches: bool,
    /// The last `seq` already read, by writer.
    positions: HashMap<Uuid, i64>,
    /// The last record printed, while the rest of its batch is not yet read.
    within: Option<(Uuid, i64)>,
    /// The server's time at the last poll that looked far back.
    looked_far_at: Option<f64>,
    polls_until_far: u32,
    /// How many wide batches in a row took too long.
    slow_batches: u32,
}

impl<'a> Feed<'a> {
    /// Starts at the end of the trail. Also returns the ids of the newest rows, at most `last`.
    pub(crate) async fn begin(
        database: &'a Database,
        connection: &mut PgConnection,
        scope: impl Into<Scope<'a>>,
        last: u32,
    ) -> Result<(Self, Vec<RecordId>), Error> {
        let scope = scope.into();
        let failed = |source| database.read_error(source);
        // A single snapshot: a row is either among the newest now or new later.
        let (mut snapshot, tenant_id) = begin(connection, scope).await.map_err(failed)?;
        let (sees_batches, bound_to): (bool, Option<String>) = sqlx::query_as(SEES)
            .persistent(false)
            .fetch_one(&mut *snapshot)
            .await
            .map_err(failed)?;
        let mut feed = Self {
            database,
            scope,
            sees_batches,
            positions: HashMap::new(),
            within: None,
            looked_far_at: None,
            polls_until_far: 0,
            slow_batches: 0,
        };
        let newest = if sees_batches {
            let positions: Vec<(Uuid, i64)> = sqlx::query_as(POSITIONS)
                .persistent(false)
                .fetch_all(&mut *snapshot)
                .await
                .map_err(failed)?;
            feed.positions.extend(positions);
            newest_of_batches(&mut snapshot, tenant_id, last).await
        } else {
            let Some(bound_to) = bound_to.and_then(|id| id.parse().ok()) else {
                return Err(Error::NoTenant {
                    database: database.name(),
                });
            };
            let (_, batches) = feed
                .tenant_batches(&mut snapshot, None, FAR_SECONDS)
                .await
                .map_err(failed)?;
            for batch in &batches {
                feed.advance(batch);
            }
            newest_of_tenant(&mut snapshot, bound_to, last).await
        };
        Ok((feed, newest.map_err(failed)?))
    }

    /// Returns the batches committed since. They stay new until [`Self::advance`].
    pub(crate) async fn poll(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<Vec<Batch>, Error> {
        let far = self.polls_until_far == 0;
        let (now, batches) = self.answer(self.new_batches(connection, far)).await?;
        if far {
            self.looked_far_at = Some(now);
            self.polls_until_far = FAR_EVERY;
        }
        self.polls_until_far -= 1;
        Ok(batches)
    }

    /// Returns the ids of a batch's rows that are not printed yet, by `seq`; none, with a word about
    /// it, if looking for them takes too long.
    pub(crate) async fn records(
        &mut self,
        connection: &mut PgConnection,
        batch: &Batch,
    ) -> Result<Vec<RecordId>, Error> {
        if batch.is_wide() && self.slow_batches >= MAX_WIDE {
            batch.complain();
            return Ok(Vec::new());
        }
        let found = self.search(connection, batch).await?;
        if let Some(records) = found {
            self.slow_batches = 0;
            return Ok(records);
        }
        self.slow_batches += 1;
        batch.complain();
        Ok(Vec::new())
    }

    /// Like [`Self::records`]; `None` if it takes too long.
    async fn search(
        &self,
        connection: &mut PgConnection,
        batch: &Batch,
    ) -> Result<Option<Vec<RecordId>>, Error> {
        self.answer(async {
            let (mut transaction, tenant) = begin(connection, self.scope).await?;
            transaction.execute(BATCH_TIMEOUT).await?;
            let after = match self.within {
                Some((writer, seq)) if writer == batch.writer_id => seq,
                _ => 0,
            };
            let records = in_time(records_of(&mut transaction, batch, tenant, after).await)?;
            // No transaction is held while the rows are printed, which may take for ever.
            transaction.rollback().await?;
            Ok(records)
        })
        .await
    }

    /// Returns the next page of rows; `None` after the last.
    pub(crate) async fn page(
        &self,
        connection: &mut PgConnection,
        pages: &mut Pages,
    ) -> Result<Option<Vec<Row>>, Error> {
        self.answer(pages.next(connection, self.scope)).await
    }

    /// Marks a row as printed, so that it is not printed again if the connection is lost before the
    /// rest of its batch is read.
    pub(crate) fn advance_to(&mut self, batch: &Batch, row: &Row) {
        self.within = row.number("seq").map(|seq| (batch.writer_id, seq));
    }

    /// Marks a batch as read.
    pub(crate) fn advance(&mut self, batch: &Batch) {
        self.positions.insert(batch.writer_id, batch.last_seq);
        self.within = None;
    }

    /// Makes the next poll look far back; it is the first on a new connection.
    pub(crate) fn look_far(&mut self) {
        self.polls_until_far = 0;
    }

    async fn new_batches(
        &self,
        connection: &mut PgConnection,
        far: bool,
    ) -> Result<(f64, Vec<Batch>), sqlx::Error> {
        let (since, seconds) = match (far, self.looked_far_at) {
            (true, since) => (since, FAR_SECONDS),
            (false, _) => (None, NEAR_SECONDS),
        };
        if !self.sees_batches {
            let (mut transaction, _) = begin(connection, self.scope).await?;
            transaction.execute(BATCH_TIMEOUT).await?;
            let answer = self
                .tenant_batches(&mut transaction, since, seconds)
                .await?;
            transaction.rollback().await?;
            return Ok(answer);
        }
        let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
        transaction.execute(CATALOG_FIRST).await?;
        let (now, active): (f64, Vec<Uuid>) = sqlx::query_as(ACTIVE)
            .bind(since)
            .bind(seconds)
            .persistent(false)
            .fetch_one(&mut *transaction)
            .await?;
        let mut batches = Vec::new();
        if !active.is_empty() {
            // An unknown writer began after we did, so all its batches are new.
            let last: Vec<i64> = active
                .iter()
                .map(|writer| self.positions.get(writer).copied().unwrap_or(0))
                .collect();
            batches = sqlx::query_as(NEW)
                .bind(&active)
                .bind(&last)
                .persistent(false)
                .fetch_all(&mut *transaction)
                .await?;
        }
        transaction.rollback().await?;
        Ok((now, batches))
    }

    /// Returns what the tenant has in new batches, and the server's time before the query.
    async fn tenant_batches(
        &self,
        connection: &mut PgConnection,
        since: Option<f64>,
        seconds: f64,
    ) -> Result<(f64, Vec<Batch>), sqlx::Error> {
        let now = sqlx::query_scalar(NOW)
            .persistent(false)
            .fetch_one(&mut *connection)
            .await?;
        let (writers, positions): (Vec<Uuid>, Vec<i64>) = self.positions.iter().unzip();
        let batches = sqlx::query_as(TENANT_NEW)
            .bind(since)
            .bind(seconds)
            .bind(writers)
            .bind(positions)
            .persistent(false)
            .fetch_all(connection)
            .await?;
        Ok((now, batches))
    }

    /// Awaits a query's answer, for [`ANSWER_TIMEOUT`] at most.
    async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(answer) => answer.map_err(|source| self.database.read_error(source)),
            Err(_) => Err(self.database.no_answer(ANSWER_TIMEOUT)),
        }
    }
}

/// Returns the newest rows, from the latest batches.
async fn newest_of_batches(
    connection: &mut PgConnection,
    tenant: Option<Uuid>,
    last: u32,
) -> Result<Vec<RecordId>, sqlx::Error> {
    if last == 0 {
        return Ok(Vec::new());
    }
    let recent: Vec<Batch> = sqlx::query_as(RECENT)
        .bind(MIN_RECENT_BATCHES.max(i64::from(last)))
        .persistent(false)
        .fetch_all(&mut *connection)
        .await?;
    let last = usize::try_from(last).unwrap_or(usize::MAX);
    let mut newest: Vec<Vec<RecordId>> = Vec::new();
    let mut found = 0;
    let mut wide = 0;
    let began = Instant::now();
    connection.execute(BATCH_TIMEOUT).await?;
    for batch in recent {
        wide += u32::from(batch.is_wide());
        if batch.is_wide() && wide > MAX_WIDE {
            batch.complain();
            continue;
        }
        // Whatever takes too long costs itself alone.
        let mut attempt = connection.begin().await?;
        let records = in_time(records_of(&mut attempt, &batch, tenant, 0).await)?;
        attempt.rollback().await?;
        let Some(records) = records else {
            batch.complain();
            if began.elapsed() > NEWEST_TIMEOUT {
                break;
            }
            continue;
        };
        found += records.len();
        newest.push(records);
        if found >= last {
            break;
        }
    }
    let mut newest: Vec<RecordId> = newest.into_iter().rev().flatten().collect();
    newest.drain(..newest.len().saturating_sub(last));
    Ok(newest)
}

/// Returns `None` for a search that took too long.
fn in_time(
    found: Result<Vec<RecordId>, sqlx::Error>,
) -> Result<Option<Vec<RecordId>>, sqlx::Error> {
    match found {
        Ok(records) => Ok(Some(records)),
        Err(error) => match error.as_database_error().and_then(DatabaseError::code) {
            Some(code) if code == "57014" => Ok(None),
            _ => Err(error),
        },
    }
}

/// Returns a tenant's newest rows by id, for a role that cannot read the batches.
async fn newest_of_tenant(
    connection: &mut PgConnection,
    tenant: Uuid,
    last: u32,
) -> Result<Vec<RecordId>, sqlx::Error> {
    sqlx::query_as(select(&Table::ALL, &newest_of_tenant_condition(), "id"))
        .bind(tenant)
        .bind(i64::from(last))
        .persistent(false)
        .fetch_all(connection)
        .await
}

/// Returns a batch's rows that the role and the tenant may see, by `seq`, starting after `after`.
async fn records_of(
    connection: &mut PgConnection,
    batch: &Batch,
    tenant: Option<Uuid>,
    after: i64,
) -> Result<Vec<RecordId>, sqlx::Error> {
    if batch.tables.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(select(&batch.tables, OF_BATCH, "seq"))
        .bind(batch.first_id)
        .bind(batch.last_id)
        .bind(batch.writer_id)
        .bind(batch.first_seq.max(after.saturating_add(1)))
        .bind(batch.last_seq)
        .bind(tenant)
        .persistent(false)
        .fetch_all(connection)
        .await
}

/// Returns the statement that finds the records of `tables` matching `condition`, in `order`, all in
/// one snapshot.
///
/// Both are texts of this program, never user input.
fn select(tables: &[Table], condition: &str, order: &str) -> AssertSqlSafe<String> {
    let tables: Vec<String> = tables
        .iter()
        .map(|table| table.name())
        .map(|table| {
            format!("SELECT '{table}' AS table_name, id, seq FROM audit.{table} WHERE {condition}")
        })
        .collect();
    AssertSqlSafe(format!("{} ORDER BY {order}", tables.join(" UNION ALL ")))
}
