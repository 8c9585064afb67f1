//! Counts records of a range of time, the newest first, within a limit of time.
//!
//! No index answers how many records of a user there are, and a trail may have millions an hour. So a
//! range is gone through in slices, by ids, from its end to its beginning, each as long as can be
//! counted in the time that is left. When the time is over, it is known since when the figures are.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::types::Uuid;
use sqlx::{FromRow, QueryBuilder, Transaction};

use super::range::{Counted, Range, id_at};
use crate::database::{Scope, begin};
use crate::filter::{Bounds, Filter, FilterError};
use crate::search::{is_timeout, limit_time, tenant_id};

/// How many slices of the first one's length a range has.
const SLICES: u64 = 400;

/// How much longer than the last a slice may be: what comes may be denser.
const GROWTH: f64 = 16.0;

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

impl<'c> Counting<'c> {
    /// Reads the range of the filter.
    pub(super) async fn begin(
        connection: &'c mut PgConnection,
        scope: Scope<'_>,
        filter: &Filter,
        time: Duration,
    ) -> Result<Result<Self, FilterError>, sqlx::Error> {
        let begun = Instant::now();
        let (mut transaction, own_tenant) = begin(connection, scope).await?;
        let is_until_now = filter.until.is_none();
        let mut filter = filter.clone();
        filter.until.get_or_insert_with(|| NOW.to_owned());
        let bounds = match filter.bounds(&mut transaction).await? {
            Ok(bounds) => bounds,
            Err(error) => return Ok(Err(error)),
        };
        let tenant = match &filter.tenant {
            Some(key) => Some(tenant_id(&mut transaction, key).await?),
            None => own_tenant,
        };
        Ok(Ok(Self {
            transaction,
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
        let mut length = ((to_ms - from_ms) / SLICES).max(1);
        while reached > from_ms {
            let left = self.time.saturating_sub(self.begun.elapsed());
            let is_first = reached == to_ms;
            if left < self.time / 20 && !is_first {
                break;
            }
            let start = reached.saturating_sub(length).max(from_ms);
            let slice = Slice {
                bounds: Bounds {
                    from: Some(id_at(start)),
                    to: Some(id_at(reached)),
                },
                tenant: self.tenant,
            };
            let limit = if is_first { left.max(LEAST_TIME) } else { left };
            limit_time(&mut self.transaction, limit).await?;
            let before = Instant::now();
            let rows = statement(slice)
                .build_query_as()
                .persistent(false)
                .fetch_all(&mut *self.transaction)
                .await;
            let rows: Vec<T> = match rows {
                Ok(rows) => rows,
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(error),
            };
            if rows.len() > MOST_ROWS {
                // A millisecond that has so many is not counted.
                if length == 1 {
                    break;
                }
                length = (length / 4).max(1);
                continue;
            }
            rows.into_iter().for_each(&mut take);
            reached = start;
            let left = self.time.saturating_sub(self.begun.elapsed());
            length = next(length, before.elapsed(), left);
        }
        self.transaction.rollback().await?;
        Ok(Counted {
            cut_at_ms: (reached > from_ms).then_some(reached),
            range: self.range,
        })
    }
}

/// Returns how long the next slice is: as long as takes half of the time that is left.
fn next(length: u64, took: Duration, left: Duration) -> u64 {
    let ratio = left.as_secs_f64() / 2.0 / took.as_secs_f64().max(0.000_1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 10 to 1,600"
    )]
    let percent = (ratio.clamp(0.1, GROWTH) * 100.0) as u64;
    (length.saturating_mul(percent) / 100).max(1)
}
