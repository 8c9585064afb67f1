//! Counts records of a range of time, the newest first, within a limit of time.
//!
//! No index answers how many records of a user there are, and a trail may have millions an hour. So a
//! range is gone through in slices, by ids, from its end to its beginning, each of as many records as
//! can be counted in the time that is left. When the time is over, it is known since when the figures
//! are.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::types::Uuid;
use sqlx::{Executor as _, FromRow, QueryBuilder, Transaction};
use tracing_audit::__program::Table;

use super::range::{Counted, Range, id_at, ms_of};
use crate::database::{Scope, begin};
use crate::filter::{Bounds, Filter, FilterError};
use crate::search::{BY_INDEX, is_timeout, limit_time};

/// How many records the first slice has: so few that it takes some milliseconds.
const FIRST: i64 = 2_000;

/// The most records of a slice.
const MOST: i64 = 1_000_000;

/// The most rows that a slice may give. Of a slice that gives more, a part is counted first.
pub(super) const MOST_ROWS: usize = 100_000;

/// The least limit of the first statement, for a database that is slow to answer at all.
const LEAST_TIME: Duration = Duration::from_millis(250);

/// The end of a range that nobody gave.
const NOW: &str = "0s";

/// A count that is under way, in one transaction: all slices are of one state of the trail.
#[derive(Debug)]
pub(super) struct Counting<'c> {
    transaction: Transaction<'c, Postgres>,
    filter: Filter,
    tables: Vec<Table>,
    range: Range,
    tenant: Option<Uuid>,
    time: Duration,
    begun: Instant,
}

/// What a statement counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    pub(super) bounds: Bounds,
    /// The tenant whose records are counted.
    pub(super) tenant: Option<Uuid>,
}

/// How far back a slice goes.
#[derive(Clone, Copy, Debug)]
enum HowFar {
    /// About so many records.
    Back(i64),
    /// To this millisecond.
    To(u64),
}

impl<'c> Counting<'c> {
    /// Reads the range of the filter; counts in these tables.
    pub(super) async fn begin(
        connection: &'c mut PgConnection,
        scope: Scope<'_>,
        filter: &Filter,
        tables: Vec<Table>,
        time: Duration,
    ) -> Result<Result<Self, FilterError>, sqlx::Error> {
        let begun = Instant::now();
        let (mut transaction, own) = begin(connection, scope).await?;
        let is_until_now = filter.until.is_none();
        let mut filter = filter.clone();
        filter.until.get_or_insert_with(|| NOW.to_owned());
        let bounds = match filter.bounds(&mut transaction).await? {
            Ok(bounds) => bounds,
            Err(error) => return Ok(Err(error)),
        };
        transaction.execute(BY_INDEX).await?;
        let tenant = filter.tenant_id(&mut transaction, own).await?;
        Ok(Ok(Self {
            transaction,
            filter,
            tables,
            range: Range::new(bounds, is_until_now),
            tenant,
            time,
            begun,
        }))
    }

    /// Returns the range.
    pub(super) fn range(&self) -> &Range {
        &self.range
    }

    /// Counts: gives the rows of each slice's `statement` to `take`, the newest slice first. A statement
    /// gives at most one row more than [`MOST_ROWS`].
    pub(super) async fn run<T>(
        mut self,
        statement: impl Fn(Slice) -> QueryBuilder<Postgres>,
        mut take: impl FnMut(T),
    ) -> Result<Counted, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let Range { from_ms, to_ms, .. } = self.range;
        let mut reached = to_ms;
        let mut many = FIRST;
        let mut is_crowded = false;
        // Where the next slice begins, if that is known.
        let mut begins = None;
        while reached > from_ms {
            let left = self.time.saturating_sub(self.begun.elapsed());
            let is_first = reached == to_ms;
            if left < self.time / 10 && !is_first {
                break;
            }
            let before = Instant::now();
            let until = before + if is_first { left.max(LEAST_TIME) } else { left };
            let how_far = begins.take().map_or(HowFar::Back(many), HowFar::To);
            let (start, mut rows) = match self.slice(&statement, reached, how_far, until).await {
                Ok(counted) => counted,
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(error),
            };
            if rows.len() > MOST_ROWS {
                if usize::try_from(many).is_ok_and(|many| many > MOST_ROWS) {
                    many /= 4;
                    continue;
                }
                // Fewer records were asked for: the slice begins with a millisecond that has as many names, as
                // nobody's but an attacker's. It is counted by itself, and some of it alone.
                if start + 1 < reached {
                    begins = Some(start + 1);
                    many = 1;
                    continue;
                }
                rows.truncate(MOST_ROWS);
                is_crowded = true;
            }
            rows.into_iter().for_each(&mut take);
            reached = start;
            let left = self.time.saturating_sub(self.begun.elapsed());
            many = next(many, before.elapsed(), left);
        }
        self.transaction.rollback().await?;
        Ok(Counted {
            cut_at_ms: (reached > from_ms).then_some(reached),
            is_crowded,
            range: self.range,
        })
    }

    /// Counts records before `reached`; returns since when, and the rows.
    async fn slice<T>(
        &mut self,
        statement: impl Fn(Slice) -> QueryBuilder<Postgres>,
        reached: u64,
        how_far: HowFar,
        until: Instant,
    ) -> Result<(u64, Vec<T>), sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let left = || until.saturating_duration_since(Instant::now());
        limit_time(&mut self.transaction, left()).await?;
        let mut bounds = Bounds {
            from: Some(id_at(self.range.from_ms)),
            to: Some(id_at(reached)),
        };
        let start = match how_far {
            HowFar::To(start) => start,
            HowFar::Back(many) => {
                let back: Option<Uuid> = self
                    .so_many_back(bounds, many)
                    .build_query_scalar()
                    .persistent(false)
                    .fetch_optional(&mut *self.transaction)
                    .await?;
                back.map_or(self.range.from_ms, ms_of)
            }
        };
        bounds.from = Some(id_at(start));
        let slice = Slice {
            bounds,
            tenant: self.tenant,
        };
        limit_time(&mut self.transaction, left()).await?;
        let rows = statement(slice)
            .build_query_as()
            .persistent(false)
            .fetch_all(&mut *self.transaction)
            .await?;
        Ok((start, rows))
    }

    /// Returns the statement that finds the id so many records back: by the keys alone.
    fn so_many_back(&self, bounds: Bounds, many: i64) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new("SELECT id FROM ((SELECT NULL::uuid AS id WHERE false)");
        for table in &self.tables {
            query.push(format!(
                " UNION ALL (SELECT id FROM audit.{} WHERE true",
                table.name()
            ));
            self.filter.push_indexed(&mut query, bounds, self.tenant);
            // Each table's own first: only so does Postgres walk along the ids of each, and not sort all
            // that there are.
            query
                .push(" ORDER BY id DESC LIMIT ")
                .push_bind(many + 1)
                .push(")");
        }
        query
            .push(") AS records ORDER BY id DESC LIMIT 1 OFFSET ")
            .push_bind(many);
        query
    }
}

/// Returns how many records the next slice has: as many as take half of the time that is left.
fn next(many: i64, took: Duration, left: Duration) -> i64 {
    let ratio = left.as_secs_f64() / 2.0 / took.as_secs_f64().max(0.000_1);
    #[expect(clippy::cast_possible_truncation, reason = "from 10 to 1,000")]
    let percent = (ratio.clamp(0.1, 10.0) * 100.0) as i64;
    (many.saturating_mul(percent) / 100).clamp(1, MOST)
}
