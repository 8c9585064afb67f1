//! Finds the records of a filter, a page at a time, within a limit of time.
//!
//! Most filters have no index. So the newest records are looked through by their ids, as many at a
//! time as can be in the time that is left, until a page is full or the time is over: then it is
//! known how far the search came, and the next page goes on from there. No search takes longer
//! because the trail is larger.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::types::Uuid;
use sqlx::{Executor as _, FromRow, QueryBuilder, Row as _};
use tracing_audit::__program::Table;

use crate::database::{Scope, begin};
use crate::filter::{Bounds, Filter, FilterError};
use crate::row::RecordId;

/// The least id of the future, with some minutes for clocks that differ.
const SOON: &str = "SELECT audit.id_at(clock_timestamp() + interval '10 minutes')";

/// How many records are looked through first: so few that it takes some milliseconds at most.
const FIRST: i64 = 500;

/// The most that are looked through by one statement.
const MOST: i64 = 200_000;

/// The least limit of a statement, for a database that is slow to answer at all.
const LEAST_TIME: Duration = Duration::from_millis(250);

/// Has Postgres come by an index. Of a partition that is new it has no statistics, and would rather
/// read and sort what there is.
pub(crate) const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off";

/// A place in the trail, between two ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The newest records, but for those of the future: a clock that is wrong, or a writer who would
    /// hide what is new, cannot fill the first page with them.
    Newest,
    /// The records with lesser ids, the greatest first.
    Before(Uuid),
    /// The records with greater ids, the least first.
    After(Uuid),
}

/// A search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) place: Place,
    /// How many records are wanted, from 1.
    pub(crate) limit: usize,
    /// How long it may take.
    pub(crate) time: Duration,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The newest first.
    pub(crate) records: Vec<RecordId>,
    /// The last id that is dealt with: what comes after it was not looked at, or is not in `records`.
    pub(crate) reached: Option<Uuid>,
    /// Why the search ended.
    pub(crate) end: End,
    /// How many records were looked through.
    pub(crate) looked_at: i64,
    /// If there are records of the future, which are not among the newest: after which id.
    pub(crate) future: Option<Uuid>,
}

impl Found {
    /// Returns from where a search of `place` goes on. If nothing was reached, it begins again.
    pub(crate) fn goes_on_from(&self, place: Place) -> Place {
        match (place, self.reached) {
            (place, None) => place,
            (Place::After(_), Some(id)) => Place::After(id),
            (Place::Newest | Place::Before(_), Some(id)) => Place::Before(id),
        }
    }
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There is no other record.
    Exhausted,
    /// There may be others.
    Full,
    /// The time was over.
    CutShort,
}

/// A record that was looked at.
struct Looked {
    record: Option<RecordId>,
    /// If this is the last one: its id, and how many there were.
    last: Option<(Uuid, i64)>,
}

impl FromRow<'_, sqlx::postgres::PgRow> for Looked {
    fn from_row(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        let id = row.try_get("id")?;
        let count: Option<i64> = row.try_get("looked_at")?;
        let table: Option<&str> = row.try_get("table_name")?;
        let record = table
            .and_then(Table::of_name)
            .map(|table| RecordId { table, id });
        Ok(Self {
            record,
            last: count.map(|count| (id, count)),
        })
    }
}

impl Place {
    /// Returns what an address says of it: a name and an id, or nothing of the newest.
    pub(crate) fn argument(self) -> Option<(&'static str, Uuid)> {
        match self {
            Self::Newest => None,
            Self::Before(id) => Some(("before", id)),
            Self::After(id) => Some(("after", id)),
        }
    }
}

impl Search<'_> {
    /// Searches. An error of the filter is told before anything is looked at.
    pub(crate) async fn run(
        self,
        connection: &mut PgConnection,
        scope: Scope<'_>,
    ) -> Result<Result<Found, FilterError>, sqlx::Error> {
        let begun = Instant::now();
        let (mut transaction, own) = begin(connection, scope).await?;
        let bounds = self.filter.bounds(&mut transaction).await?;
        let tenant = self.filter.tenant_id(&mut transaction, own).await?;
        transaction.rollback().await?;
        let bounds = match bounds {
            Ok(bounds) => bounds,
            Err(error) => return Ok(Err(error)),
        };
        let mut found = Found {
            records: Vec::new(),
            reached: None,
            end: End::Exhausted,
            looked_at: 0,
            future: None,
        };
        if self.filter.tables().is_empty() {
            return Ok(Ok(found));
        }
        let mut bounds = bounds;
        if self.place == Place::Newest && bounds.to.is_none() {
            let (from, is_there) = future(connection, scope, self.filter, tenant).await?;
            bounds.to = Some(from);
            found.future = is_there.then_some(from);
        }
        let mut place = self.place;
        let is_of_request = self.filter.request.is_some();
        let mut many = if is_of_request { MOST } else { FIRST };
        loop {
            let left = self.time.saturating_sub(begun.elapsed());
            if left.is_zero() && found.looked_at > 0 {
                found.end = End::CutShort;
                break;
            }
            let before = Instant::now();
            let limit = left.max(LEAST_TIME);
            let step = self.step(connection, scope, bounds, tenant, place, many, limit);
            let looked = match step.await {
                Ok(looked) => looked,
                Err(error) if is_timeout(&error) => {
                    found.end = End::CutShort;
                    break;
                }
                Err(error) => return Err(error),
            };
            let took = before.elapsed();
            let mut last = None;
            let already = found.records.len();
            for looked in looked {
                last = last.or(looked.last);
                found.records.extend(looked.record);
            }
            found.records[already..].sort_by_key(|record| record.id);
            if !matches!(place, Place::After(_)) {
                found.records[already..].reverse();
            }
            let Some((id, count)) = last else { break };
            found.looked_at += count;
            found.reached = Some(id);
            place = match place {
                Place::Newest | Place::Before(_) => Place::Before(id),
                Place::After(_) => Place::After(id),
            };
            if found.records.len() > self.limit {
                let last = found.records[self.limit - 1].id;
                let ties = found.records[self.limit..]
                    .iter()
                    .take_while(|record| record.id == last);
                let kept = self.limit + ties.count();
                if kept < found.records.len() {
                    found.records.truncate(kept);
                    found.reached = Some(last);
                    found.end = End::Full;
                    break;
                }
            }
            if count < many {
                break;
            }
            // What an index finds takes no longer for being much.
            if is_of_request {
                continue;
            }
            many = next(many, took, self.time.saturating_sub(begun.elapsed()));
        }
        if matches!(self.place, Place::After(_)) {
            found.records.reverse();
        }
        Ok(Ok(found))
    }

    /// Looks through the next records, in a transaction of its own: none is held for long.
    #[expect(
        clippy::too_many_arguments,
        reason = "each says where to look and how long"
    )]
    async fn step(
        &self,
        connection: &mut PgConnection,
        scope: Scope<'_>,
        bounds: Bounds,
        tenant: Option<Uuid>,
        place: Place,
        many: i64,
        limit: Duration,
    ) -> Result<Vec<Looked>, sqlx::Error> {
        let bounds = match place {
            Place::Newest => bounds,
            Place::Before(id) => Bounds {
                to: Some(bounds.to.map_or(id, |to| to.min(id))),
                ..bounds
            },
            // The least id after it.
            Place::After(id) => {
                let next = Uuid::from_u128(id.as_u128().saturating_add(1));
                Bounds {
                    from: Some(bounds.from.map_or(next, |from| from.max(next))),
                    ..bounds
                }
            }
        };
        let mut query = self.statement(bounds, tenant, place, many);
        let (mut transaction, _) = begin(connection, scope).await?;
        limit_time(&mut transaction, limit).await?;
        transaction.execute(BY_INDEX).await?;
        let looked = query
            .build_query_as()
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.rollback().await?;
        Ok(looked)
    }

    /// Returns the statement that looks through `many` records.
    fn statement(
        &self,
        bounds: Bounds,
        tenant: Option<Uuid>,
        place: Place,
        many: i64,
    ) -> QueryBuilder<Postgres> {
        let order = match place {
            Place::After(_) => "",
            _ => " DESC",
        };
        let is_of_request = self.filter.request.is_some();
        let mut query = QueryBuilder::new("WITH looked AS MATERIALIZED (SELECT * FROM (");
        for (at, table) in self.filter.tables().into_iter().enumerate() {
            let between = if at == 0 { "" } else { " UNION ALL " };
            let name = table.name();
            query.push(format!("{between}(SELECT '{name}' AS table_name, id, "));
            self.filter.push_scanned(&mut query, table);
            query.push(format!(" AS is_hit FROM audit.{name} WHERE true"));
            self.filter.push_indexed(&mut query, bounds, tenant);
            if is_of_request {
                // Keeps the planner from walking along all ids to find a few.
                query.push(" OFFSET 0)");
            } else {
                // Each table's own first: only so does Postgres walk along the ids of each, and not sort
                // all that there are.
                query
                    .push(format!(" ORDER BY id{order} FETCH FIRST ("))
                    .push_bind(many)
                    .push(") ROWS WITH TIES)");
            }
        }
        query
            // With ties: two records of different tables may have one id, if one of them is forged.
            .push(format!(") AS records ORDER BY id{order} FETCH FIRST ("))
            .push_bind(many)
            .push(
                ") ROWS WITH TIES) SELECT table_name, id, NULL::bigint AS looked_at FROM looked WHERE is_hit
                UNION ALL SELECT * FROM (SELECT NULL, id, count(*) OVER () FROM looked ORDER BY id",
            )
            .push(if order.is_empty() { " DESC" } else { "" })
            .push(" LIMIT 1) AS last");
        query
    }
}

/// Returns the id after which records are of the future, if there are any.
async fn future(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    filter: &Filter,
    tenant: Option<Uuid>,
) -> Result<(Uuid, bool), sqlx::Error> {
    let (mut transaction, _) = begin(connection, scope).await?;
    let from: Uuid = sqlx::query_scalar(SOON)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    let bounds = Bounds {
        from: Some(from),
        to: None,
    };
    let mut query = QueryBuilder::new("SELECT false");
    for table in filter.tables() {
        query.push(format!(
            " OR EXISTS (SELECT FROM audit.{} WHERE true",
            table.name()
        ));
        filter.push_indexed(&mut query, bounds, tenant);
        query.push(")");
    }
    limit_time(&mut transaction, LEAST_TIME).await?;
    transaction.execute(BY_INDEX).await?;
    let is_there = query
        .build_query_scalar()
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await;
    transaction.rollback().await?;
    match is_there {
        Ok(is_there) => Ok((from, is_there)),
        // Said rather than left out.
        Err(error) if is_timeout(&error) => Ok((from, true)),
        Err(error) => Err(error),
    }
}

/// Returns which of these records match a filter, in their order.
pub(crate) async fn matching(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    filter: &Filter,
    records: &[RecordId],
    limit: Duration,
) -> Result<Result<Vec<RecordId>, FilterError>, sqlx::Error> {
    let (mut transaction, own) = begin(connection, scope).await?;
    let bounds = match filter.bounds(&mut transaction).await? {
        Ok(bounds) => bounds,
        Err(error) => return Ok(Err(error)),
    };
    let tenant = filter.tenant_id(&mut transaction, own).await?;
    limit_time(&mut transaction, limit).await?;
    let mut query = QueryBuilder::new("SELECT NULL AS table_name, NULL::uuid AS id WHERE false");
    for table in filter.tables() {
        let name = table.name();
        let ids = records.iter().filter(|record| record.table == table);
        let ids: Vec<Uuid> = ids.map(|record| record.id).collect();
        query
            .push(format!(
                " UNION ALL SELECT '{name}', id FROM audit.{name} WHERE id = ANY ("
            ))
            .push_bind(ids)
            .push(") AND ");
        filter.push_scanned(&mut query, table);
        filter.push_indexed(&mut query, bounds, tenant);
    }
    let found: Vec<RecordId> = query
        .build_query_as()
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    let found: HashSet<RecordId> = found.into_iter().collect();
    let is_found = |record: &&RecordId| found.contains(*record);
    Ok(Ok(records.iter().filter(is_found).copied().collect()))
}

/// Returns how many records are looked through next: as many as take half of the time that is left.
fn next(many: i64, took: Duration, left: Duration) -> i64 {
    let ratio = left.as_secs_f64() / 2.0 / took.as_secs_f64().max(0.000_1);
    // Not at once the most: what comes may be larger.
    #[expect(clippy::cast_possible_truncation, reason = "at most 20")]
    let percent = (ratio * 100.0).clamp(10.0, 2_000.0) as i64;
    (many.saturating_mul(percent) / 100).clamp(FIRST / 5, MOST)
}

/// Limits how long a statement of this transaction may run. A lower limit of the role stays.
pub(crate) async fn limit_time(
    connection: &mut PgConnection,
    limit: Duration,
) -> Result<(), sqlx::Error> {
    let ms = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1);
    sqlx::query(
        "SELECT set_config('statement_timeout', $1::text, true) FROM pg_settings
        WHERE name = 'statement_timeout' AND setting::bigint NOT BETWEEN 1 AND $1",
    )
    .bind(ms)
    .persistent(false)
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// Whether a statement took too long.
pub(crate) fn is_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.as_deref() == Some("57014")
}
