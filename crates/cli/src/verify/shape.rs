//! The tables that are verified: whether they are tables of the trail, and show all of their rows to who verifies them. A view,
//! a policy or a type of somebody's own could show others another trail than the one that is verified.

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use std::collections::HashMap;
use std::ops::RangeInclusive;

use tracing_audit::__program::ledger::day_of;

use super::finding::{Finding, Kind};

/// What is not as the migrations make it, by the catalog alone. `doctor` compares more, and says how it is mended.
const CHANGED: &str = "
    WITH reader AS (SELECT rolsuper OR rolbypassrls AS sees_all FROM pg_roles WHERE rolname = current_user),
    tables AS (
        SELECT c.oid, format('audit.%I', n.name) AS name, n.is_parent, c.relkind, c.relrowsecurity
        FROM (VALUES ('query_runs', true), ('prompt_runs', true), ('events', true), ('activities', true), ('dead_letters', false), ('batches', false), ('writers', false),
            ('removals', false), ('erasures', false), ('legal_holds', false), ('legal_hold_lifts', false), ('settings', false), ('ledger', false), ('ledger_nodes', false)) n (name, is_parent)
        LEFT JOIN pg_class c ON c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'audit') AND c.relname = n.name
    ), policies AS (
        SELECT p.polrelid, p.polname, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) = 'true' AS shows_all FROM pg_policy p
        WHERE p.polcmd IN ('r', '*') AND EXISTS (SELECT FROM unnest(p.polroles) r WHERE r = 0 OR pg_has_role(r, 'USAGE'))
    )
    SELECT concat(name, ' is no table') FROM tables WHERE relkind IS DISTINCT FROM (CASE WHEN is_parent THEN 'p' ELSE 'r' END)::\"char\"
    UNION ALL
    SELECT format('%s has the child %s, which is no table of the trail''s', t.name, i.inhrelid::regclass)
    FROM tables t JOIN pg_inherits i ON i.inhparent = t.oid JOIN pg_class c ON c.oid = i.inhrelid WHERE NOT (t.is_parent AND c.relkind = 'r')
    UNION ALL
    SELECT format('the column %I of %s is not of its type, or computed', a.attname, t.name)
    FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type y ON y.oid = a.atttypid
    WHERE t.relkind IN ('r', 'p') AND (a.attgenerated <> ''
        OR NOT (y.typnamespace = 'pg_catalog'::regnamespace OR a.attname = 'status' AND y.typname = 'run_status' AND y.typtype = 'e'))
    UNION ALL
    SELECT format('the policy %I of %s hides rows', p.polname, t.name) FROM tables t JOIN policies p ON p.polrelid = t.oid WHERE NOT p.polpermissive
    UNION ALL
    SELECT format('no policy of %s shows all rows to %I', t.name, current_user) FROM tables t, reader
    WHERE t.relrowsecurity AND NOT reader.sees_all AND NOT EXISTS (SELECT FROM policies p WHERE p.polrelid = t.oid AND p.polpermissive AND p.shows_all)
    ORDER BY 1";

/// The partitions with their bounds, as Postgres skips them by.
const LEAVES: &str = "
    SELECT c.oid::bigint, p.relname::text, coalesce(pg_get_expr(c.relpartbound, c.oid), '')
    FROM pg_class p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
    WHERE p.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'audit') AND p.relkind = 'p'";

/// Names what is not as the migrations make it; if nothing is, also returns the partitions.
pub(super) async fn read(
    connection: &mut PgConnection,
) -> Result<(Vec<Finding>, Option<Leaves>), sqlx::Error> {
    let changed = changed(connection).await?;
    let leaves = if changed.is_empty() {
        Some(Leaves::read(connection).await?)
    } else {
        None
    };
    Ok((changed, leaves))
}

async fn changed(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let changed: Vec<String> = sqlx::query_scalar(CHANGED)
        .persistent(false)
        .fetch_all(connection)
        .await?;
    Ok(changed
        .into_iter()
        .map(|what| Finding::new(Kind::TablesChanged, what))
        .collect())
}

/// Which ids a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bounds {
    /// From one up to before another.
    Range(Uuid, Uuid),
    /// Those that no other has.
    Default,
}

/// The partitions, by their oid.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    leaves: HashMap<u32, (String, Bounds)>,
}

impl Leaves {
    async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let rows: Vec<(i64, String, String)> = sqlx::query_as(LEAVES)
            .persistent(false)
            .fetch_all(connection)
            .await?;
        let leaf = |(oid, parent, bounds): (i64, String, String)| {
            Some((u32::try_from(oid).ok()?, (parent, bounds_of(&bounds)?)))
        };
        Ok(Self {
            leaves: rows.into_iter().filter_map(leaf).collect(),
        })
    }

    /// Whether a partition has these days, or some of them, and others besides: none of a time that is
    /// a part of it was ever there.
    pub(super) fn has_a_wider_one(&self, parent: &str, days: &RangeInclusive<u32>) -> bool {
        self.leaves.values().any(|(of, bounds)| {
            let Bounds::Range(from, to) = bounds else {
                return false;
            };
            let (first, last) = (
                day_of(from.as_u128()),
                day_of(to.as_u128().saturating_sub(1)),
            );
            let is_within = first >= *days.start() && last <= *days.end();
            of == parent && first <= *days.end() && last >= *days.start() && !is_within
        })
    }

    /// Whether a row with this id stands in a partition where no reader looks for it.
    pub(super) fn is_misplaced(&self, leaf: u32, id: Uuid) -> bool {
        match self.leaves.get(&leaf) {
            Some((_, Bounds::Range(from, to))) => id < *from || id >= *to,
            Some((parent, Bounds::Default)) => self.leaves.values().any(|(other, bounds)| {
                matches!(bounds, Bounds::Range(from, to) if other == parent && id >= *from && id < *to)
            }),
            None => false,
        }
    }
}

/// Reads bounds as Postgres writes them.
fn bounds_of(text: &str) -> Option<Bounds> {
    if text == "DEFAULT" {
        return Some(Bounds::Default);
    }
    let (from, to) = text
        .strip_prefix("FOR VALUES FROM ('")?
        .strip_suffix("')")?
        .split_once("') TO ('")?;
    Some(Bounds::Range(from.parse().ok()?, to.parse().ok()?))
}
