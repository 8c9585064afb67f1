//! What was done to the trail by its own functions: removals, erasures, holds and settings. Each is
//! recorded by an event, which has a hash of the rows that keep it; the event is proven like any other.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use sqlx::{FromRow, Row as _};
use tracing_audit::__program::ledger::month_of;
use tracing_audit::__program::ledger::tree::Hash;

use super::binary;
use super::finding::{Finding, Kind};

/// Removals by partition and time, each with the hash of its event, and whether it was too early.
/// A partition is named for its month.
const REMOVALS: &str = "
    WITH parts AS (
        SELECT h.partition, h.removed_at, h.part, sha256(string_agg(h.sha256, '' ORDER BY h.writer_id, h.first_seq)) AS sha256, sum(h.rows) AS rows, min(h.removed_by) AS removed_by
        FROM (
            SELECT r.partition, r.removed_at, r.writer_id, r.first_seq, r.rows, r.removed_by, sha256(convert_to(to_jsonb(r)::text, 'UTF8')) AS sha256,
                (row_number() OVER (PARTITION BY r.partition, r.removed_at ORDER BY r.writer_id, r.first_seq) - 1) / 1000000 AS part
            FROM audit.removals r) h
        GROUP BY h.partition, h.removed_at, h.part
    ), removals AS (
        SELECT p.partition, p.removed_at, encode(sha256(string_agg(p.sha256, '' ORDER BY p.part)), 'hex') AS sha256, sum(p.rows) AS rows, min(p.removed_by) AS removed_by
        FROM parts p GROUP BY p.partition, p.removed_at
    )
    SELECT r.partition, to_char(r.removed_at, 'YYYY-MM-DD HH24:MI:SS'), r.removed_by, r.rows::bigint,
        EXISTS (SELECT FROM audit.events e WHERE e.action_type = 'audit.partition_removed' AND e.service_name = 'postgres' AND e.target_id = r.partition AND e.metadata ->> 'sha256' = r.sha256),
        r.partition ~ '_[0-9]{4}_[0-9]{2}$' AND to_timestamp(right(r.partition, 7), 'YYYY_MM') + interval '1 month'
            + greatest(interval '1 day', coalesce((SELECT s.least_age FROM audit.settings s WHERE s.changed_at <= r.removed_at ORDER BY s.id DESC LIMIT 1), interval '30 days')) > r.removed_at
            OR r.removed_at > now()
    FROM removals r ORDER BY r.removed_at, r.partition";

const ERASURES: &str = "
    SELECT e.erasure_id, count(*), min(v.user_id), to_char(min(v.created_at), 'YYYY-MM-DD HH24:MI:SS'), bool_and(v.id IS NOT NULL)
        AND min(v.metadata ->> 'sha256') = encode(sha256(string_agg(sha256(convert_to(to_jsonb(e)::text, 'UTF8')), '' ORDER BY e.number)), 'hex'), min(e.fields)
    FROM audit.erasures e LEFT JOIN audit.events v ON v.action_type = 'audit.erased' AND v.service_name = 'postgres' AND v.target_id = e.erasure_id::text
    GROUP BY e.erasure_id
    UNION ALL
    SELECT v.target_id::uuid, (v.metadata ->> 'rows')::bigint, v.user_id, to_char(v.created_at, 'YYYY-MM-DD HH24:MI:SS'), false, '{}'
    FROM audit.events v WHERE v.action_type = 'audit.erased' AND v.service_name = 'postgres' AND v.target_id ~ '^[0-9a-f-]{36}$'
        AND NOT EXISTS (SELECT FROM audit.erasures e WHERE e.erasure_id::text = v.target_id)
    ORDER BY 4";

/// Rows of small tables without the event that has their hash, and events whose row is not there.
const SMALL: &str = "
    WITH events AS (
        SELECT e.action_type, e.target_id, e.metadata ->> 'sha256' AS sha256, e.id FROM audit.events e
        WHERE e.service_name = 'postgres' AND e.action_type IN ('audit.hold_placed', 'audit.hold_lifted', 'audit.setting_changed') AND e.metadata ? 'sha256'
    ), rows AS (
        SELECT 'legal_holds' AS name, 'audit.hold_placed' AS action_type, h.id::text AS target_id, encode(sha256(convert_to(to_jsonb(h)::text, 'UTF8')), 'hex') AS sha256 FROM audit.legal_holds h
        UNION ALL SELECT 'legal_hold_lifts', 'audit.hold_lifted', l.hold_id::text, encode(sha256(convert_to(to_jsonb(l)::text, 'UTF8')), 'hex') FROM audit.legal_hold_lifts l
        UNION ALL SELECT 'settings', 'audit.setting_changed', 'least_age', encode(sha256(convert_to(to_jsonb(s)::text, 'UTF8')), 'hex') FROM audit.settings s
    )
    SELECT r.name, r.target_id, true FROM rows r
    WHERE NOT EXISTS (SELECT FROM events e WHERE e.action_type = r.action_type AND e.target_id = r.target_id AND e.sha256 = r.sha256)
    UNION ALL
    SELECT CASE e.action_type WHEN 'audit.hold_placed' THEN 'legal_holds' WHEN 'audit.hold_lifted' THEN 'legal_hold_lifts' ELSE 'settings' END, e.target_id, false FROM events e
    WHERE NOT EXISTS (SELECT FROM rows r WHERE r.action_type = e.action_type AND r.target_id = e.target_id AND r.sha256 = e.sha256)";

/// A range of a batch's tree whose rows were removed.
#[derive(Clone, Debug)]
pub(super) struct Removed {
    pub(super) from_leaf: u64,
    pub(super) rows: u64,
    pub(super) hashes: Vec<Hash>,
    /// The month of the partition, counted from the year 0.
    month: Option<u32>,
}

impl Removed {
    /// Whether a batch whose ids are from one to another can have had these rows: the ids are sealed,
    /// and the name of the partition is what the age of the rows is told by.
    pub(super) fn can_be_of(&self, ids: Option<(Uuid, Uuid)>) -> bool {
        let months = ids.map(|(first, last)| month_of(first.as_u128())..=month_of(last.as_u128()));
        months
            .zip(self.month)
            .is_some_and(|(months, month)| months.contains(&month))
    }
}

/// Returns the month of a partition, by the end of its name.
fn month_of_partition(name: &[u8]) -> Option<u32> {
    let (_, end) = name.split_last_chunk::<7>()?;
    let (year, month) = std::str::from_utf8(end).ok()?.split_once('_')?;
    let (year, month): (u32, u32) = (year.parse().ok()?, month.parse().ok()?);
    (year * 12 + month).checked_sub(1)
}

/// The hashes of a row whose content was erased.
#[derive(Clone, Copy, Debug)]
pub(super) struct Erased {
    /// Of the content that it had first.
    pub(super) first: Hash,
    /// Of what is left.
    pub(super) left: Hash,
    /// Whether all of the content was erased.
    pub(super) is_whole: bool,
}

/// What was removed and erased.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// By writer and first seq of the batch; in the order of the tree.
    pub(super) removed: HashMap<(Uuid, i64), Vec<Removed>>,
    /// By the id of the row.
    pub(super) erased: HashMap<Uuid, Erased>,
    pub(super) findings: Vec<Finding>,
    /// What was done and is no finding, for people.
    pub(super) notes: Vec<String>,
}

impl Recorded {
    /// `is_whole`: whether all of it is judged, and not only known for the sake of some batches.
    pub(super) async fn read(
        connection: &mut PgConnection,
        is_whole: bool,
    ) -> Result<Self, sqlx::Error> {
        let mut recorded = Self::default();
        recorded.removed_ranges(connection).await?;
        recorded.erased_rows(connection).await?;
        if !is_whole {
            return Ok(recorded);
        }
        recorded.removals(connection).await?;
        recorded.erasures(connection).await?;
        recorded.small_tables(connection).await?;
        Ok(recorded)
    }

    async fn removed_ranges(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let query = "SELECT writer_id, batch, from_leaf, rows, hashes, partition FROM audit.removals WHERE batch IS NOT NULL ORDER BY writer_id, batch, from_leaf";
        binary::read(connection, query, |mut row| {
            let (writer, batch) = (row.uuid()?, row.i64()?);
            let (from_leaf, rows, hashes) = (row.i64()?, row.i64()?, row.field()?);
            let month = row.field()?.and_then(month_of_partition);
            if let (Some(writer), Some(batch), Some(hashes)) = (writer, batch, hashes) {
                let number = |n: Option<i64>| n.and_then(|n| n.try_into().ok()).unwrap_or_default();
                self.removed
                    .entry((writer, batch))
                    .or_default()
                    .push(Removed {
                        from_leaf: number(from_leaf),
                        rows: number(rows),
                        hashes: hashes.as_chunks().0.to_vec(),
                        month,
                    });
            }
            Ok(())
        })
        .await
    }

    async fn erased_rows(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let query = "SELECT id, content_hash, remaining_hash, cardinality(fields) = 0 FROM audit.erasures ORDER BY number";
        binary::read(connection, query, |mut row| {
            let (id, first, left) = (row.uuid()?, row.fixed()?, row.fixed()?);
            let is_whole = row.is_true()?;
            if let (Some(id), Some(first), Some(left)) = (id, first, left) {
                let erased = self.erased.entry(id).or_insert(Erased {
                    first,
                    left,
                    is_whole,
                });
                erased.left = left;
                erased.is_whole |= is_whole;
            }
            Ok(())
        })
        .await
    }

    async fn removals(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for row in sqlx::query(REMOVALS)
            .persistent(false)
            .fetch_all(connection)
            .await?
        {
            let (partition, at, by, rows, is_recorded, is_early): (
                String,
                String,
                String,
                i64,
                bool,
                bool,
            ) = FromRow::from_row(&row)?;
            let what = format!("{partition}: {rows} rows by {by} at {at}");
            if !is_recorded {
                let finding = Finding::new(Kind::RemovalUnrecorded, what);
                self.findings.push(finding);
            } else if is_early {
                self.findings.push(Finding::new(Kind::RemovalEarly, what));
            } else {
                self.notes.push(format!("removed {what}"));
            }
        }
        Ok(())
    }

    async fn erasures(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for row in sqlx::query(ERASURES)
            .persistent(false)
            .fetch_all(connection)
            .await?
        {
            let rows: i64 = row.try_get(1)?;
            let (by, at): (Option<String>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
            let what = format!(
                "the content of {rows} rows by {} at {}",
                by.unwrap_or_default(),
                at.unwrap_or_default()
            );
            if row.try_get::<Option<bool>, _>(4)? == Some(true) {
                let fields: Vec<String> = row.try_get(5)?;
                self.notes.push(if fields.is_empty() {
                    format!("erased {what}")
                } else {
                    // There is one hash of all content, which nothing of it can be compared with any more.
                    format!("erased {}, of {what}; that the rest of the content was so before is not proven", fields.join(", "))
                });
            } else {
                let detail = format!(
                    "{what}: the rows of audit.erasures are not those that its event tells of"
                );
                self.findings
                    .push(Finding::new(Kind::ErasureUnrecorded, detail));
            }
        }
        Ok(())
    }

    async fn small_tables(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for row in sqlx::query(SMALL)
            .persistent(false)
            .fetch_all(connection)
            .await?
        {
            let (name, target, is_there): (String, Option<String>, bool) = FromRow::from_row(&row)?;
            let target = target.unwrap_or_default();
            let (kind, what) = if is_there {
                (Kind::RowEdited, "no event has its hash")
            } else {
                (Kind::RowMissing, "an event has a hash that no row has")
            };
            self.findings
                .push(Finding::new(kind, format!("audit.{name} {target}: {what}")));
        }
        Ok(())
    }
}
