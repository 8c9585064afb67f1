//! What was done to the trail by its own functions: removals, erasures, holds and settings. Each is
//! recorded by an event, which has a hash of the rows that keep it; the event is proven like any other.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, FromRow, Row as _};
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::day_of;
use tracing_audit::__program::ledger::tree::Hash;

use super::batches::TABLES;
use super::binary;
use super::finding::{Finding, Kind};
use super::shape::Leaves;

/// Whether an event `e` was made by a function of the trail: of a writer that never registered, whose batch nobody can add
/// who may not change the tables. A program may write that it is `postgres`, and a tracked table may have any type of action.
const IS_MADE_HERE: &str = "e.service_name = 'postgres' AND EXISTS (SELECT FROM audit.batches b WHERE b.writer_id = e.writer_id AND b.first_seq = e.seq AND b.last_seq = e.seq)
    AND NOT EXISTS (SELECT FROM audit.writers w WHERE w.writer_id = e.writer_id)";

/// A month in the name of a partition, as Postgres matches it.
const MONTH: &str = "(?:19[7-9][0-9]|[2-9][0-9]{3})_(?:0[1-9]|1[0-2])";

/// Removals by partition and time, each with: whether an event has its hash; whether it was too early, by the time for which a
/// partition is named; and whether rows of that time are still there, which were there before.
fn removals() -> String {
    let of_table = |table: &Table| {
        format!(
            "WHEN '{0}' THEN EXISTS (SELECT FROM audit.{0} e, LATERAL (
                SELECT b.committed_at FROM audit.batches b WHERE b.writer_id = e.writer_id AND b.first_seq <= e.seq ORDER BY b.first_seq DESC LIMIT 1) b
                WHERE e.id >= m.first AND e.id < m.last AND b.committed_at < r.removed_at)",
            table.name()
        )
    };
    let is_still_there: Vec<String> = Table::ALL.iter().map(of_table).collect();
    format!(
        r"
    WITH parts AS (
        SELECT h.partition, h.parent, h.removed_at, h.part, sha256(string_agg(h.sha256, '' ORDER BY h.writer_id, h.first_seq)) AS sha256, sum(h.rows) AS rows, min(h.removed_by) AS removed_by
        FROM (
            SELECT r.partition, r.parent, r.removed_at, r.writer_id, r.first_seq, r.rows, r.removed_by, sha256(convert_to(to_jsonb(r)::text, 'UTF8')) AS sha256,
                (row_number() OVER (PARTITION BY r.partition, r.parent, r.removed_at ORDER BY r.writer_id, r.first_seq) - 1) / 1000000 AS part
            FROM audit.removals r) h
        GROUP BY h.partition, h.parent, h.removed_at, h.part
    ), removals AS (
        SELECT p.partition, p.parent, p.removed_at, encode(sha256(string_agg(p.sha256, '' ORDER BY p.part)), 'hex') AS sha256, sum(p.rows) AS rows, min(p.removed_by) AS removed_by,
            -- No other names are made: of another time than it tells, a removal could be of younger rows.
            regexp_match(p.partition, concat('^', p.parent, '_({MONTH})(?:_([0-3][0-9])(?:_to_({MONTH})_([0-3][0-9]))?)?$')) AS named
        FROM parts p GROUP BY p.partition, p.parent, p.removed_at
    ), spans AS (
        SELECT r.*, to_timestamp(r.named[1], 'YYYY_MM') + coalesce(r.named[2]::integer - 1, 0) * interval '1 day' AS from_time,
            CASE WHEN r.named[2] IS NULL THEN to_timestamp(r.named[1], 'YYYY_MM') + interval '1 month'
                ELSE to_timestamp(coalesce(r.named[3], r.named[1]), 'YYYY_MM') + coalesce(r.named[4], r.named[2])::integer * interval '1 day' END AS to_time
        FROM removals r
    )
    SELECT coalesce(r.partition, ''), coalesce(to_char(r.removed_at, 'YYYY-MM-DD HH24:MI:SS'), ''), coalesce(r.removed_by, ''), coalesce(r.rows::text, ''),
        coalesce(r.to_time > r.from_time AND r.to_time <= r.from_time + interval '31 days', false) AND EXISTS (SELECT FROM audit.events e WHERE e.action_type = 'audit.partition_removed' AND e.target_type = 'partition' AND e.target_id = r.partition
            AND e.metadata ->> 'sha256' = r.sha256 AND {IS_MADE_HERE}),
        coalesce(r.removed_at > now() OR r.to_time + greatest(interval '1 day', least(interval '1000 years',
            coalesce((SELECT s.least_age FROM audit.settings s WHERE s.changed_at <= r.removed_at AND s.least_age IS NOT NULL ORDER BY s.id DESC LIMIT 1), interval '30 days'))) > r.removed_at, false),
        coalesce(CASE r.parent {} END, false), coalesce(r.parent, '')
    FROM spans r, LATERAL (SELECT
        (lpad(to_hex(greatest(extract(epoch FROM r.from_time) * 1000, 0)::bigint), 12, '0') || repeat('0', 20))::uuid AS first,
        (lpad(to_hex(greatest(extract(epoch FROM r.to_time) * 1000, 0)::bigint), 12, '0') || repeat('0', 20))::uuid AS last) m
    ORDER BY r.removed_at, r.partition",
        is_still_there.join(" ")
    )
}

/// Erasures, each with whether its event tells of these rows and fields; all rows of one have the same fields.
fn erasures() -> String {
    format!(
        "
    WITH events AS (
        SELECT e.target_id, coalesce(e.metadata ->> 'first_recorded_by', e.user_id) AS user_id, coalesce(e.metadata ->> 'first_recorded_at', e.created_at::text) AS created_at, e.metadata FROM audit.events e WHERE e.action_type = 'audit.erased' AND e.target_type = 'erasure' AND {IS_MADE_HERE}
    )
    SELECT count(*)::text, min(v.user_id), left(translate(min(v.created_at), 'T', ' '), 19) AS at,
        coalesce(bool_and(v.metadata -> 'fields' = to_jsonb(e.fields)) AND count(DISTINCT e.fields) = 1
            AND min(v.metadata ->> 'sha256') = encode(sha256(string_agg(sha256(convert_to(to_jsonb(e)::text, 'UTF8')), '' ORDER BY e.number)), 'hex'), false),
        coalesce(string_agg(DISTINCT nullif(array_to_string(e.fields, ', '), ''), ', '), '')
    FROM audit.erasures e LEFT JOIN events v ON v.target_id = e.erasure_id::text
    GROUP BY e.erasure_id
    UNION ALL
    SELECT coalesce(v.metadata ->> 'rows', ''), v.user_id, left(translate(v.created_at, 'T', ' '), 19), false, ''
    FROM events v WHERE v.metadata ->> 'rows' IS DISTINCT FROM '0' AND NOT EXISTS (SELECT FROM audit.erasures e WHERE e.erasure_id::text = v.target_id)
    ORDER BY at"
    )
}

/// Erasures of archived content, each with how many keys it has destroyed, and how many its event tells of.
fn destroyed_keys() -> String {
    format!(
        "
    WITH destroyed AS (SELECT k.erasure_id::text AS erasure, count(*) AS keys FROM audit.subject_keys k WHERE k.erasure_id IS NOT NULL GROUP BY 1),
    told AS (
        SELECT e.target_id AS erasure, (e.metadata ->> 'keys')::bigint AS keys FROM audit.events e
        WHERE e.action_type = 'audit.erased' AND e.target_type = 'erasure' AND e.metadata ? 'keys' AND {IS_MADE_HERE}
    )
    SELECT coalesce(d.keys, 0), coalesce(t.keys, 0) FROM destroyed d FULL JOIN told t USING (erasure) WHERE d.keys IS DISTINCT FROM t.keys ORDER BY 1, 2"
    )
}

/// Rows of small tables without the event that has their hash, and events whose row is not there.
fn small_tables() -> String {
    format!(
        "
    WITH events AS (
        SELECT e.action_type, e.target_id, e.metadata ->> 'sha256' AS sha256, e.id FROM audit.events e
        WHERE (e.action_type, e.target_type) IN (('audit.hold_placed', 'legal_hold'), ('audit.hold_lifted', 'legal_hold'), ('audit.setting_changed', 'setting'))
            AND e.metadata ? 'sha256' AND {IS_MADE_HERE}
    ), rows AS (
        SELECT 'legal_holds' AS name, 'audit.hold_placed' AS action_type, h.id::text AS target_id, encode(sha256(convert_to(to_jsonb(h)::text, 'UTF8')), 'hex') AS sha256 FROM audit.legal_holds h
        UNION ALL SELECT 'legal_hold_lifts', 'audit.hold_lifted', l.hold_id::text, encode(sha256(convert_to(to_jsonb(l)::text, 'UTF8')), 'hex') FROM audit.legal_hold_lifts l
        UNION ALL SELECT 'settings', 'audit.setting_changed', CASE WHEN s.partition_interval IS NULL THEN 'least_age' ELSE 'partition_interval' END, encode(sha256(convert_to(to_jsonb(s)::text, 'UTF8')), 'hex') FROM audit.settings s
    )
    SELECT r.name, r.target_id, true FROM rows r
    WHERE NOT EXISTS (SELECT FROM events e WHERE e.action_type = r.action_type AND e.target_id = r.target_id AND e.sha256 = r.sha256)
    UNION ALL
    SELECT CASE e.action_type WHEN 'audit.hold_placed' THEN 'legal_holds' WHEN 'audit.hold_lifted' THEN 'legal_hold_lifts' ELSE 'settings' END, e.target_id, false FROM events e
    WHERE NOT EXISTS (SELECT FROM rows r WHERE r.action_type = e.action_type AND r.target_id = e.target_id AND r.sha256 = e.sha256)"
    )
}

/// A range of a batch's tree whose rows were removed.
#[derive(Clone, Debug)]
pub(crate) struct Removed {
    pub(crate) from_leaf: u64,
    pub(crate) rows: u64,
    pub(crate) hashes: Vec<Hash>,
    /// The index of the table in [`TABLES`].
    pub(crate) table: Option<u8>,
    /// How many rows of the table the batch had.
    pub(crate) of_table: u64,
    /// The days of the partition, counted from 1970-01-01.
    pub(crate) days: Option<RangeInclusive<u32>>,
}

impl Removed {
    /// Whether a batch whose ids are from one to another can have had these rows: the ids are sealed,
    /// and the name of the partition is what the age of the rows is told by.
    pub(crate) fn can_be_of(&self, ids: Option<(Uuid, Uuid)>) -> bool {
        ids.zip(self.days.as_ref())
            .is_some_and(|((first, last), days)| {
                day_of(first.as_u128()) <= *days.end() && day_of(last.as_u128()) >= *days.start()
            })
    }
}

/// Returns the days of a partition, by its name; `None` if no partition of this table is named so.
fn days_of_partition(name: &[u8], parent: &[u8]) -> Option<RangeInclusive<u32>> {
    let name = std::str::from_utf8(name.strip_prefix(parent)?).ok()?;
    let (first, last) = name.strip_prefix('_').map(|days| {
        let days = days.split_once("_to_");
        days.map_or(
            (name.get(1..).unwrap_or_default(), None),
            |(first, last)| (first, Some(last)),
        )
    })?;
    let (from, to) = days_named(first)?;
    match last {
        None => Some(from..=to),
        // Of whole months there is no such name.
        Some(_) if from != to => None,
        Some(last) => days_named(last).and_then(|(first, last)| {
            (first == last && from < last && last - from < 31).then_some(from..=last)
        }),
    }
}

/// Returns the first and the last day of `YYYY_MM` or `YYYY_MM_DD`, counted from 1970-01-01.
fn days_named(text: &str) -> Option<(u32, u32)> {
    let number = |digits: Option<&str>, count| {
        let digits = digits?;
        let is_number = digits.len() == count && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|_| is_number)
    };
    let mut parts = text.split('_');
    let (year, month) = (number(parts.next(), 4)?, number(parts.next(), 2)?);
    if year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    // H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    let before = |year: u32, month: u32| {
        let (year, month) = if month > 2 {
            (year, month - 3)
        } else {
            (year - 1, month + 9)
        };
        let (era, of_era) = (year / 400, year % 400);
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 - 719_468
    };
    let first = before(year, month);
    let next = if month == 12 {
        before(year + 1, 1)
    } else {
        before(year, month + 1)
    };
    match parts.next() {
        None => Some((first, next - 1)),
        day => {
            let day = first + number(day, 2)?.checked_sub(1)?;
            (day < next && parts.next().is_none()).then_some((day, day))
        }
    }
}

/// A row: the index of its table, its id, its writer and its seq. Rows of two tables may have one id.
pub(crate) type RowKey = (u8, Uuid, Uuid, i64);

/// The hashes of a row whose content was erased.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Erased {
    /// Of the content that it had first.
    pub(crate) first: Hash,
    /// Of what is left.
    pub(crate) left: Hash,
    /// Whether all of the content was erased.
    pub(crate) is_whole: bool,
}

/// What was removed and erased.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// By writer and first seq of the batch; in the order of the tree.
    pub(crate) removed: HashMap<(Uuid, i64), Vec<Removed>>,
    pub(crate) erased: HashMap<RowKey, Erased>,
    pub(crate) findings: Vec<Finding>,
    /// What was done and is no finding, for people.
    pub(crate) notes: Vec<String>,
}

impl Recorded {
    /// Reads what rows and batches are proven with. Whether it is true is for [`judge`](Self::judge) to say.
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let mut recorded = Self::default();
        recorded.removed_ranges(connection, "true").await?;
        recorded.erased_rows(connection, "true").await?;
        Ok(recorded)
    }

    /// Like [`read`](Self::read), of batches and of rows alone that these conditions are true of: on columns of `audit.removals r`,
    /// and of `audit.erasures`.
    #[cfg(feature = "archive")]
    pub(crate) async fn read_some(
        connection: &mut PgConnection,
        batches: &str,
        rows: &str,
    ) -> Result<Self, sqlx::Error> {
        let mut recorded = Self::default();
        recorded.removed_ranges(connection, batches).await?;
        recorded.erased_rows(connection, rows).await?;
        Ok(recorded)
    }

    /// Compares removals and erasures alone with the events that tell of them. Returns those that no event tells of: what is
    /// proven with them is not.
    #[cfg(feature = "archive")]
    pub(crate) async fn unrecorded(
        connection: &mut PgConnection,
    ) -> Result<Vec<Finding>, sqlx::Error> {
        let (changed, leaves) = super::shape::read(connection).await?;
        let mut recorded = Self::default();
        recorded.removals(connection, leaves.as_ref()).await?;
        recorded.erasures(connection).await?;
        recorded.destroyed_keys(connection).await?;
        let unrecorded = [Kind::RemovalUnrecorded, Kind::ErasureUnrecorded];
        let findings = recorded.findings.into_iter();
        let findings = findings.filter(|finding| unrecorded.contains(&finding.kind));
        Ok(changed.into_iter().chain(findings).collect())
    }

    /// Compares removals and erasures with the events that tell of them, and of the whole trail holds, lifts and settings.
    ///
    /// What a part is proven with is judged as well; else whoever changes rows would say that they were erased.
    pub(super) async fn judge(
        &mut self,
        connection: &mut PgConnection,
        leaves: Option<&Leaves>,
        is_partial: bool,
        is_relied_on: bool,
    ) -> Result<(), sqlx::Error> {
        if !is_partial || is_relied_on {
            self.removals(connection, leaves).await?;
            self.erasures(connection).await?;
            self.destroyed_keys(connection).await?;
        }
        if !is_partial {
            self.small_tables(connection).await?;
        }
        Ok(())
    }

    async fn removed_ranges(
        &mut self,
        connection: &mut PgConnection,
        condition: &str,
    ) -> Result<(), sqlx::Error> {
        let query = format!("SELECT r.writer_id, r.batch, r.from_leaf, r.rows, r.hashes, r.partition, r.parent, (
                SELECT CASE WHEN jsonb_typeof(b.records -> r.parent) = 'number' THEN least((b.records -> r.parent)::numeric, 1000000000000)::bigint END
                FROM audit.batches b WHERE b.writer_id = r.writer_id AND b.first_seq = r.batch)
            FROM audit.removals r WHERE r.batch IS NOT NULL AND ({condition}) ORDER BY r.writer_id, r.batch, r.from_leaf");
        binary::read(connection, &query, |mut row| {
            let (writer, batch) = (row.uuid()?, row.i64()?);
            let (from_leaf, rows, hashes) = (row.i64()?, row.i64()?, row.field()?);
            let (partition, parent) = (row.field()?, row.field()?);
            let of_table = row.i64()?;
            let table = TABLES
                .iter()
                .position(|table| Some(table.as_bytes()) == parent);
            let days = partition
                .zip(parent)
                .and_then(|(name, parent)| days_of_partition(name, parent));
            if let (Some(writer), Some(batch), Some(hashes)) = (writer, batch, hashes) {
                let number = |n: Option<i64>| n.and_then(|n| n.try_into().ok()).unwrap_or_default();
                self.removed
                    .entry((writer, batch))
                    .or_default()
                    .push(Removed {
                        from_leaf: number(from_leaf),
                        rows: number(rows),
                        hashes: hashes.as_chunks().0.to_vec(),
                        table: table.and_then(|table| table.try_into().ok()),
                        of_table: number(of_table),
                        days,
                    });
            }
            Ok(())
        })
        .await
    }

    async fn erased_rows(
        &mut self,
        connection: &mut PgConnection,
        condition: &str,
    ) -> Result<(), sqlx::Error> {
        let query = format!(
            "SELECT id, content_hash, remaining_hash, cardinality(fields) = 0, table_name, writer_id, seq FROM audit.erasures WHERE {condition} ORDER BY number"
        );
        binary::read(connection, &query, |mut row| {
            let (id, first, left) = (row.uuid()?, row.fixed()?, row.fixed()?);
            let is_whole = row.is_true()?;
            let name = row.field()?.unwrap_or_default();
            let table = TABLES.iter().position(|table| table.as_bytes() == name);
            let table = table.and_then(|table| u8::try_from(table).ok());
            let (writer, seq) = (row.uuid()?, row.i64()?);
            if let (Some(table), Some(id), Some(writer), Some(seq), Some(first), Some(left)) =
                (table, id, writer, seq, first, left)
            {
                let key = (table, id, writer, seq);
                let erased = self.erased.entry(key).or_insert(Erased {
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

    async fn removals(
        &mut self,
        connection: &mut PgConnection,
        leaves: Option<&Leaves>,
    ) -> Result<(), sqlx::Error> {
        for row in sqlx::query(AssertSqlSafe(removals()))
            .persistent(false)
            .fetch_all(connection)
            .await?
        {
            let (partition, at, by, rows): (String, String, String, String) = (
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
            );
            let (is_recorded, is_early, is_still_there): (bool, bool, bool) =
                (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
            let parent: String = row.try_get(7)?;
            let days = days_of_partition(partition.as_bytes(), parent.as_bytes());
            let is_a_part = leaves
                .zip(days)
                .is_some_and(|(leaves, days)| leaves.has_a_wider_one(&parent, &days));
            let what = format!("{partition}: {rows} rows by {by} at {at}");
            if !is_recorded {
                let finding = Finding::new(Kind::RemovalUnrecorded, what);
                self.findings.push(finding);
            } else if is_still_there {
                let what = format!(
                    "{what}: others of that time, which were there before, are still there"
                );
                self.findings
                    .push(Finding::new(Kind::RemovalUnrecorded, what));
            } else if is_a_part {
                let what = format!("{what}: a partition of more than that time is there");
                self.findings
                    .push(Finding::new(Kind::RemovalUnrecorded, what));
            } else if is_early {
                self.findings.push(Finding::new(Kind::RemovalEarly, what));
            } else {
                self.notes.push(format!("removed {what}"));
            }
        }
        Ok(())
    }

    async fn erasures(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for row in sqlx::query(AssertSqlSafe(erasures()))
            .persistent(false)
            .fetch_all(connection)
            .await?
        {
            let (rows, is_recorded, fields): (String, bool, String) =
                (row.try_get(0)?, row.try_get(3)?, row.try_get(4)?);
            let (by, at): (Option<String>, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
            let what = format!(
                "the content of {rows} rows by {} at {}",
                by.unwrap_or_default(),
                at.unwrap_or_default()
            );
            if !is_recorded {
                let detail = format!(
                    "{what}: the rows of audit.erasures are not those that its event tells of"
                );
                self.findings
                    .push(Finding::new(Kind::ErasureUnrecorded, detail));
            } else if fields.is_empty() {
                self.notes.push(format!("erased {what}"));
            } else {
                // There is one hash of all content, which nothing of it can be compared with any more.
                self.notes.push(format!("erased {fields}, of {what}; that the rest of the content was so before is not proven"));
            }
        }
        Ok(())
    }

    /// Compares the keys of archived content that were destroyed with the events that tell of them.
    async fn destroyed_keys(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let differing: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(destroyed_keys()))
            .persistent(false)
            .fetch_all(connection)
            .await?;
        for (destroyed, told) in differing {
            let detail = format!(
                "keys of archived content: {destroyed} destroyed, and {told} that the event of an erasure tells of"
            );
            self.findings
                .push(Finding::new(Kind::ErasureUnrecorded, detail));
        }
        Ok(())
    }

    /// Compares holds, lifts and settings with the events that tell of them.
    async fn small_tables(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for row in sqlx::query(AssertSqlSafe(small_tables()))
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

#[cfg(test)]
mod tests {
    use super::days_of_partition;

    #[test]
    fn days_of_a_partition_are_those_of_its_name() {
        let days = |name: &str| days_of_partition(name.as_bytes(), b"events");
        assert_eq!(days("events_1970_01"), Some(0..=30));
        assert_eq!(days("events_2000_02"), Some(10_988..=11_016));
        assert_eq!(days("events_2026_12"), Some(20_788..=20_818));
        assert_eq!(days("events_2026_12_31"), Some(20_818..=20_818));
        assert_eq!(
            days("events_2026_12_28_to_2027_01_03"),
            Some(20_815..=20_821)
        );
        for name in [
            "events_default",
            "events_2026_13",
            "events_2026_02_29",
            "events_2026_12_00",
            "events_2026_12_1",
            "events_2026_12_01_x",
            "events_2026_12_to_2027_01",
            "events_2026_12_01_to_2027_01",
            "events_2026_12_02_to_2026_12_01",
            "events_2026_12_02_to_2026_12_02",
            "events_2026_01_01_to_2026_12_31",
            "events2026_12",
            "query_runs_2026_12",
            "events_+026_12",
        ] {
            assert_eq!(days(name), None, "{name}");
        }
    }
}
