//! Checks the partitions: the needed ones exist, each is attached to its table under the name of
//! its time, and no default partition has rows. No advice takes a row out of the trail.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, Row as _};
use tracing_audit::__program::Table;

use super::finding::{Finding, counted, listed, or_ok};
use super::look::{Answer, Look};

/// The days from today until the end of next month by the server's clock, by their first moments.
pub(crate) const DAYS: &str = "SELECT d::text FROM generate_series(date_trunc('day', now()),
    date_trunc('month', now()) + interval '2 months' - interval '1 day', interval '1 day') d ORDER BY d";

/// Every partition of a record table, every table in the partitions' schema, and every table that
/// was a partition according to its name and owner. Its time shows in the bound, in the name, and in
/// the name of the check on its times, which survives renaming, as what stands behind the table's
/// name there; `any_table` stands for the names of the record tables, `any_span` for a month, a day
/// or a first and a last day; `span` is the one it must be: the bound's, unless the name and the
/// check agree on another.
const LEAVES: &str = "
    WITH candidate AS (
        SELECT c.oid, n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner) AS owner, p.relname AS parent,
            coalesce(i.inhdetachpending, false) AS is_pending, pg_get_expr(c.relpartbound, c.oid) AS bound,
            substring(c.relname FROM '^(?:any_table)_(any_span|default)$') AS name_span,
            (SELECT substring(k.conname FROM '^(?:any_table)_(any_span)_time$')
                FROM pg_constraint k WHERE k.conrelid = c.oid AND k.conname ~ '_time$' ORDER BY 1 LIMIT 1) AS check_span,
            coalesce(p.relname::text, substring(c.relname FROM '^(any_table)_'),
                (SELECT substring(k.conname FROM '^(any_table)_any_span_time$')
                FROM pg_constraint k WHERE k.conrelid = c.oid AND k.conname ~ '_time$' ORDER BY 1 LIMIT 1)) AS named_table,
            -- What is not attached must have the columns of the table that it was a part of.
            -- Where two tables have the same, the name of its check on the size tells, which survives renaming.
            CASE WHEN p.oid IS NULL THEN (SELECT like_it.relname FROM pg_class like_it WHERE like_it.relnamespace = to_regnamespace('audit') AND like_it.relkind = 'p'
                AND (SELECT array_agg(a.attname ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = like_it.oid AND a.attnum > 0 AND NOT a.attisdropped)
                    = (SELECT array_agg(a.attname ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
                ORDER BY EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.conname = like_it.relname || '_size') DESC,
                    starts_with(c.relname, like_it.relname || '_') DESC, like_it.relname LIMIT 1) END AS like_table,
            p.oid IS NOT NULL AND c.relispartition AS is_partition
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
        LEFT JOIN pg_class p ON p.oid = i.inhparent AND p.relnamespace = to_regnamespace('audit')
        WHERE c.relkind IN ('r', 'p', 'f') AND (n.nspname = 'audit_parts' OR p.oid IS NOT NULL
            OR c.relkind = 'r' AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'writer_id')
                AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'salt'))),
    known AS (
        SELECT *, CASE WHEN is_partition THEN named_table ELSE like_table END AS of_table FROM candidate
        -- Elsewhere only what the trail has made. Its owner or its trigger tells, since nobody else may give a table either;
        -- a name, columns or a check anybody may give to a table of theirs.
        WHERE nspname = 'audit_parts' OR is_partition OR like_table IS NOT NULL AND (owner = 'audit_owner'
            OR EXISTS (SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_roles r ON r.oid = f.proowner
                WHERE t.tgrelid = candidate.oid AND t.tgname = 'append_only' AND f.pronamespace = to_regnamespace('audit')
                    AND (r.rolname = 'audit_maintainer' OR r.rolsuper)))),
    begun AS (
        SELECT k.*, CASE WHEN k.bound = 'DEFAULT' THEN 'default'
            WHEN b.first = date_trunc('month', b.first) AND b.last = b.first + interval '1 month' THEN to_char(b.first, 'YYYY_MM')
            WHEN b.last > b.first + interval '1 day' THEN to_char(b.first, 'YYYY_MM_DD') || to_char(b.last - interval '1 day', '\"_to_\"YYYY_MM_DD')
            ELSE to_char(b.first, 'YYYY_MM_DD') END AS begun_span
        FROM known k, regexp_match(k.bound, '^FOR VALUES FROM \\(''([0-9a-f]{8}-[0-9a-f]{4})-.*TO \\(''([0-9a-f]{8}-[0-9a-f]{4})-') AS of_bound (ids),
            LATERAL (SELECT to_timestamp(('x0000' || replace(ids[1], '-', ''))::bit(64)::bigint / 1000) AS first,
                to_timestamp(('x0000' || replace(ids[2], '-', ''))::bit(64)::bigint / 1000) AS last) b),
    bounded AS (
        SELECT b.*, m.bound AS begun_bound FROM begun b, LATERAL (SELECT audit_bound(b.begun_span)) m (bound)),
    judged AS (
        SELECT *, CASE
            WHEN bound = begun_bound AND (begun_span = name_span OR check_span IS NULL OR check_span IS DISTINCT FROM name_span
                OR check_span = begun_span) THEN begun_span
            -- Without a name of its own it can only be the default one, if there is none.
            WHEN bound IS NULL THEN coalesce(check_span, name_span, CASE WHEN NOT EXISTS (
                SELECT FROM begun b WHERE b.of_table = bounded.of_table AND b.bound = 'DEFAULT') THEN 'default' END)
            ELSE coalesce(name_span, check_span) END AS span
        FROM bounded)
    SELECT quote_ident(nspname), quote_ident(relname), nspname::text, relname::text, relkind::text, owner::text, of_table, parent IS NOT NULL AS is_attached, is_pending,
        bound, span, audit_bound(span) AS right_bound, name_span IS NOT NULL OR check_span IS NOT NULL AS is_known,
        audit_from(span)::text, audit_to(span)::text
    FROM judged ORDER BY 1";

/// A month, a day, or a first and a last day.
const SPAN: &str = "(?:19[7-9]|[2-9][0-9]{2})[0-9]_(?:0[1-9]|1[0-2])(?:_(?:0[1-9]|[12][0-9]|3[01])(?:_to_(?:19[7-9]|[2-9][0-9]{2})[0-9]_(?:0[1-9]|1[0-2])_(?:0[1-9]|[12][0-9]|3[01]))?)?";

/// The first moment of a span, and the one after it; NULL for the default partition's. They replace
/// `audit_from(span)` and `audit_to(span)` above.
const FROM: &str = "(to_timestamp(left(nullif($, 'default'), 7), 'YYYY_MM') + coalesce(nullif(substr($, 9, 2), '')::integer - 1, 0) * interval '1 day')";
const TO: &str = "CASE length(nullif($, 'default')) WHEN 7 THEN to_timestamp($, 'YYYY_MM') + interval '1 month'
    ELSE to_timestamp(left(right(nullif($, 'default'), 10), 7), 'YYYY_MM') + right(nullif($, 'default'), 2)::integer * interval '1 day' END";

/// The bound of a span, as Postgres writes it; replaces `audit_bound(span)` above.
const BOUND: &str = "CASE WHEN $ = 'default' THEN 'DEFAULT' ELSE format('FOR VALUES FROM (''%s'') TO (''%s'')',
    (lpad(to_hex(extract(epoch FROM audit_from($))::bigint * 1000), 12, '0') || repeat('0', 20))::uuid,
    (lpad(to_hex(extract(epoch FROM audit_to($))::bigint * 1000), 12, '0') || repeat('0', 20))::uuid) END";

/// Whether the rows are replicated from another server, which creates the partitions there.
const IS_SUBSCRIBER: &str =
    "SELECT EXISTS (SELECT FROM pg_subscription_rel s JOIN pg_class c ON c.oid = s.srrelid
    WHERE c.relnamespace IN (to_regnamespace('audit'), to_regnamespace('audit_parts')))";

/// The size of each default partition, and whether this login may read it.
pub(crate) const DEFAULTS: &str = "
    SELECT c.relname::text, pg_relation_size(c.oid), has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'audit_parts' AND c.relkind = 'r' AND c.relname ~ '_default$' ORDER BY 1";

/// The time of a partition; the default partition stands for all time without its own.
#[derive(Debug, Default)]
pub(crate) struct Span {
    /// `YYYY_MM`, `YYYY_MM_DD`, `YYYY_MM_DD_to_YYYY_MM_DD` or `default`.
    pub(crate) name: String,
    /// Its bound, as written in a statement.
    pub(crate) bound: String,
    /// Its first moment and the one after it, as Postgres writes them; empty for the default
    /// partition.
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Span {
    pub(crate) fn is_default(&self) -> bool {
        self.name == "default"
    }

    /// Whether a moment is in it, as Postgres writes it in UTC; the default partition has none.
    pub(crate) fn has(&self, moment: &str) -> bool {
        // Of four digits of the year, so that the text is in the order of time.
        self.from.as_str() <= moment && moment < self.to.as_str()
    }
}

/// A table that is a partition, or should be one.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// With its schema, as written in a statement.
    pub(crate) name: String,
    quoted_schema: String,
    quoted_table: String,
    schema: String,
    table: String,
    kind: String,
    owner: String,
    /// The record table it belongs to, without the schema.
    pub(crate) parent: String,
    is_attached: bool,
    is_pending: bool,
    bound: String,
    pub(crate) span: Option<Span>,
    /// Whether its name or its check shows that the trail created it.
    is_known: bool,
}

impl FromRow<'_, PgRow> for Leaf {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let text = |place: usize| -> Result<String, sqlx::Error> {
            Ok(row.try_get::<Option<String>, _>(place)?.unwrap_or_default())
        };
        let span = row.try_get::<Option<String>, _>(10)?;
        let (quoted_schema, quoted_table) = (text(0)?, text(1)?);
        Ok(Self {
            name: format!("{quoted_schema}.{quoted_table}"),
            quoted_schema,
            quoted_table,
            schema: row.try_get(2)?,
            table: row.try_get(3)?,
            kind: row.try_get(4)?,
            owner: row.try_get(5)?,
            parent: text(6)?,
            is_attached: row.try_get(7)?,
            is_pending: row.try_get(8)?,
            bound: text(9)?,
            span: match span {
                Some(name) => Some(Span {
                    name,
                    bound: text(11)?,
                    from: text(13)?,
                    to: text(14)?,
                }),
                None => None,
            },
            is_known: row.try_get(12)?,
        })
    }
}

impl Leaf {
    /// Whether the trail created it, wherever it is now.
    fn is_ours(&self) -> bool {
        self.kind == "r"
            && !self.parent.is_empty()
            && (self.owner == "audit_owner" || self.is_known || !self.is_attached)
    }

    /// Whether it is a partition whose rights and triggers are checked.
    pub(crate) fn is_partition(&self) -> bool {
        self.is_ours() && self.is_attached && !self.is_pending
    }

    /// Whether its rows are no longer visible in its table.
    pub(crate) fn is_detached(&self) -> bool {
        (self.is_pending || !self.is_attached) && self.is_ours()
    }

    /// Returns the statement that makes it a partition again.
    pub(crate) fn attach(&self) -> String {
        let bound = self
            .span
            .as_ref()
            .map_or(self.bound.as_str(), |span| &span.bound);
        format!(
            "ALTER TABLE audit.{} ATTACH PARTITION {} {bound};",
            self.parent, self.name
        )
    }

    /// Returns the name that the trail gives it, without the schema.
    pub(crate) fn right_name(&self) -> String {
        self.span.as_ref().map_or_else(
            || self.table.clone(),
            |span| format!("{}_{}", self.parent, span.name),
        )
    }
}

/// Returns every table that is a partition, should be one, or is in the partitions' schema.
pub(crate) async fn leaves(look: &mut Look<'_>) -> Result<Vec<Leaf>, sqlx::Error> {
    let of = |what: &str, span: &str| what.replace('$', span);
    let mut sql = LEAVES
        .replace("any_table", &Table::ALL.map(Table::name).join("|"))
        .replace("any_span", SPAN);
    for (name, what) in [("bound", BOUND), ("from", FROM), ("to", TO)] {
        for span in ["b.begun_span", "span"] {
            sql = sql.replace(&format!("audit_{name}({span})"), &of(what, span));
        }
    }
    look.rows(AssertSqlSafe(sql)).await
}

/// Checks the partitions of all record tables.
pub(crate) async fn check(
    look: &mut Look<'_>,
    leaves: &[Leaf],
) -> Result<Vec<Finding>, sqlx::Error> {
    let is_subscriber = look.rows::<(bool,)>(IS_SUBSCRIBER).await? == [(true,)];
    let mut findings = Vec::new();
    if !is_subscriber {
        let days: Vec<(String,)> = look.rows(DAYS).await?;
        findings.extend(ahead(leaves, &days));
    }
    findings.extend(attached(leaves));
    findings.extend(defaults(look, leaves, is_subscriber).await?);
    Ok(findings)
}

/// Checks that each day until the end of next month has a partition.
fn ahead(leaves: &[Leaf], days: &[(String,)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in Table::ALL.map(Table::name) {
        // One that is elsewhere, or has another name, is reported as that.
        let is_there = |day: &str| {
            leaves.iter().any(|leaf| {
                leaf.parent == table
                    && leaf.is_ours()
                    && leaf.span.as_ref().is_some_and(|span| span.has(day))
            })
        };
        // The first and the last of days that follow each other.
        let mut lacking: Vec<(&str, &str)> = Vec::new();
        let mut was_there = true;
        for (day,) in days {
            let is_there = is_there(day);
            match lacking.last_mut() {
                Some((_, last)) if !is_there && !was_there => *last = day,
                _ if !is_there => lacking.push((day, day)),
                _ => {}
            }
            was_there = is_there;
        }
        if lacking.is_empty() {
            continue;
        }
        let date = |moment: &str| moment.split(' ').next().unwrap_or(moment).to_owned();
        let spans: Vec<String> = lacking
            .iter()
            .map(|(first, last)| format!("{} to {}", date(first), date(last)))
            .collect();
        findings.push(
            Finding::warning(
                "partitions_ahead",
                format!("audit.{table}"),
                format!("it has no partition yet for {}", spans.join(" and ")),
            )
            .expected("made ahead, as a running writer does")
            .advice(format!(
                "SELECT audit.ensure_partition(parent, from_time) FROM audit.lacking_partitions() WHERE parent = '{table}';"
            )),
        );
    }
    or_ok(
        "partitions_ahead",
        findings,
        "partitions",
        "those until the end of next month are there",
    )
}

/// Checks that every partition belongs to the trail, and that every table of the trail's is a
/// partition, under its name and of its time.
fn attached(leaves: &[Leaf]) -> Vec<Finding> {
    // If one was created anew, the one that held the rows cannot simply be attached again.
    let is_replaced = |leaf: &Leaf| {
        let has_its_place = |other: &Leaf| {
            other.is_attached
                && other.parent == leaf.parent
                && other.right_name() == leaf.right_name()
        };
        !leaf.is_attached && leaves.iter().any(has_its_place)
    };
    let (ours, others): (Vec<&Leaf>, Vec<&Leaf>) = leaves.iter().partition(|leaf| leaf.is_ours());
    let mut findings: Vec<Finding> = others.iter().filter_map(|leaf| stray(leaf)).collect();
    let taken: BTreeSet<&str> = ours.iter().map(|leaf| leaf.table.as_str()).collect();
    // Swapped names are swapped back by way of a third.
    let mut exchanged: BTreeMap<&str, Vec<&Leaf>> = BTreeMap::new();
    for leaf in &ours {
        let name = leaf.right_name();
        if is_replaced(leaf) {
            findings.push(replaced(leaf));
        } else if name != leaf.table && taken.contains(name.as_str()) && leaf.is_attached {
            exchanged.entry(&leaf.parent).or_default().push(leaf);
        } else {
            findings.extend(misplaced(leaf));
        }
    }
    findings.extend(
        exchanged
            .into_iter()
            .map(|(parent, leaves)| exchange(parent, &leaves)),
    );
    or_ok(
        "partitions",
        findings,
        "partitions",
        format!(
            "{} are attached where they belong",
            counted(ours.len(), "partition", "partitions")
        ),
    )
}

/// Reports a table that the trail did not create and that is a partition or in the partitions'
/// schema.
fn stray(leaf: &Leaf) -> Option<Finding> {
    let name = &leaf.name;
    if leaf.is_attached {
        let parent = format!("audit.{}", leaf.parent);
        return Some(
            Finding::problem(
                "tables",
                name,
                format!("it is none of the trail's, and its rows are seen in {parent}"),
            )
            .expected("nothing below the tables of the trail but its own partitions")
            .advice(format!("ALTER TABLE {parent} DETACH PARTITION {name};"))
            .explained(
                "Its rows are seen no more then, and stay in that table: look at them first.",
            ),
        );
    }
    (leaf.schema == "audit_parts").then(|| {
        Finding::problem("partitions", name, "it is no partition of the trail")
            .expected("nothing else in schema audit_parts")
            .advice(format!("ALTER TABLE {name} SET SCHEMA public;"))
    })
}

/// Reports a table that is no longer a partition and whose place another has taken.
fn replaced(leaf: &Leaf) -> Finding {
    let Leaf { name, parent, .. } = leaf;
    Finding::problem(
        "partitions",
        name,
        format!("it is detached from audit.{parent}, and another has its time: its rows are in nobody's trail"),
    )
    .expected(format!("audit_parts.{}, with the rows of both", leaf.right_name()))
    .explained(
        "Detach the one that has its time, attach this one under its name, and add the rows of the \
         other to it. Both hold rows of the trail, or may.",
    )
}

/// Reports a partition in the wrong place, under the wrong name, not attached, or of the wrong
/// time.
fn misplaced(leaf: &Leaf) -> Option<Finding> {
    let Leaf { name, parent, .. } = leaf;
    let Some(span) = &leaf.span else {
        return Some(
            Finding::problem(
                "partitions",
                name,
                if leaf.is_attached {
                    format!("a partition of audit.{parent} of no whole days: {}", leaf.bound)
                } else {
                    format!("it has the columns of audit.{parent}, is no partition, and tells no time")
                },
            )
            .expected(format!("the bound of a month, a week or a day, and its name, such as {parent}_YYYY_MM"))
            .explained(
                "Attach it anew with the bound of the time that its rows are of; they are part of the trail.",
            ),
        );
    };
    let right_name = leaf.right_name();
    let (mut told, mut statements) = (Vec::new(), Vec::new());
    let mut place = name.clone();
    if leaf.is_pending {
        told.push(format!("its removal from audit.{parent} was begun and not finished: nothing can be written to it"));
        statements.push(format!(
            "ALTER TABLE audit.{parent} DETACH PARTITION {place} FINALIZE;"
        ));
    }
    if leaf.schema != "audit_parts" {
        told.push("it was moved out of schema audit_parts".to_owned());
        statements.push(format!("ALTER TABLE {place} SET SCHEMA audit_parts;"));
        place = format!("audit_parts.{}", leaf.quoted_table);
    }
    if leaf.table != right_name {
        told.push("it was renamed".to_owned());
        statements.push(format!("ALTER TABLE {place} RENAME TO {right_name};"));
        place = format!("audit_parts.{right_name}");
    }
    if !leaf.is_attached {
        told.push(format!(
            "it is detached from audit.{parent}: its rows are in nobody's trail, and those of that time are not written"
        ));
    }
    if leaf.is_attached && !leaf.is_pending && leaf.bound != span.bound {
        told.push(format!(
            "it holds another time than its name says: {}",
            leaf.bound
        ));
        statements.push(format!(
            "ALTER TABLE audit.{parent} DETACH PARTITION {place};"
        ));
    }
    if !leaf.is_attached || leaf.is_pending || leaf.bound != span.bound {
        statements.push(format!(
            "ALTER TABLE audit.{parent} ATTACH PARTITION {place} {};",
            span.bound
        ));
    }
    if told.is_empty() {
        return None;
    }
    let statement = if statements.len() > 1 {
        format!("BEGIN; {} COMMIT;", statements.join(" "))
    } else {
        statements.join(" ")
    };
    Some(
        Finding::problem("partitions", name, told.join("; "))
            .expected(format!(
                "audit_parts.{right_name}, a partition of audit.{parent} {}",
                span.bound
            ))
            .advice(statement),
    )
}

/// Reports partitions that have each other's names.
fn exchange(parent: &str, leaves: &[&Leaf]) -> Finding {
    let mut statements = vec!["BEGIN;".to_owned()];
    for (number, leaf) in leaves.iter().enumerate() {
        statements.push(format!(
            "ALTER TABLE {} RENAME TO exchanged_{number};",
            leaf.name
        ));
    }
    for (number, leaf) in leaves.iter().enumerate() {
        statements.push(format!(
            "ALTER TABLE {}.exchanged_{number} RENAME TO {};",
            leaf.quoted_schema,
            leaf.right_name()
        ));
    }
    statements.push("COMMIT;".to_owned());
    let names: Vec<&str> = leaves.iter().map(|leaf| leaf.table.as_str()).collect();
    Finding::problem(
        "partitions",
        format!("audit.{parent}"),
        format!("partitions with the names of others: {}", listed(&names)),
    )
    .expected("each under the name of its time")
    .advice(statements.join(" "))
}

/// Checks that the default partitions exist and are empty.
async fn defaults(
    look: &mut Look<'_>,
    leaves: &[Leaf],
    is_subscriber: bool,
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    let found: BTreeMap<String, (i64, bool)> = look
        .rows::<(String, i64, bool)>(DEFAULTS)
        .await?
        .into_iter()
        .map(|(name, bytes, may_read)| (name, (bytes, may_read)))
        .collect();
    for record_table in Table::ALL {
        let (table, time) = (record_table.name(), record_table.began_column());
        let leaf = format!("{table}_default");
        let name = format!("audit_parts.{leaf}");
        let is_there = leaves
            .iter()
            .any(|leaf| leaf.parent == table && leaf.span.as_ref().is_some_and(Span::is_default));
        match found.get(&leaf) {
            _ if !is_there => findings.push(
                Finding::problem(
                    "default_partition",
                    &name,
                    "there is no default partition: a record of a clock that is ahead cannot \
                     be written",
                )
                .expected("a default partition, empty")
                .advice(format!(
                    "CREATE TABLE {name} (LIKE audit.{table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS); \
                     SELECT audit.make_leaf_safe('{name}'); ALTER TABLE audit.{table} ATTACH PARTITION {name} DEFAULT;"
                )),
            ),
            Some((0, _)) | None => {}
            // The rows go where they went on the other server.
            _ if is_subscriber => {}
            Some((_, false)) => findings.push(
                Finding::warning(
                    "default_partition",
                    &name,
                    "rows were written to it; this login may not read which",
                )
                .expected("empty")
                .explained("Run this as a superuser."),
            ),
            Some((_, true)) => findings.extend(default_rows(look, time, &name).await?),
        }
    }
    Ok(or_ok(
        "default_partition",
        findings,
        "default partitions",
        if is_subscriber {
            "empty, or as on the server that is replicated"
        } else {
            "empty"
        },
    ))
}

/// Reports the rows of a default partition, if it has any.
async fn default_rows(
    look: &mut Look<'_>,
    time: &str,
    name: &str,
) -> Result<Option<Finding>, sqlx::Error> {
    let sql = format!(
        "SELECT count(*), array(SELECT DISTINCT coalesce(to_char({time}, 'YYYY-MM'), 'no month') FROM {name} WHERE {time} IS NOT NULL ORDER BY 1 LIMIT 12),
            array(SELECT DISTINCT coalesce(service_name, '(none)') FROM {name} ORDER BY 1 LIMIT 12) FROM {name}"
    );
    let Answer::Rows(rows) = look
        .rows_of_table::<(i64, Vec<String>, Vec<String>)>(AssertSqlSafe(sql))
        .await?
    else {
        return Ok(None);
    };
    let Some((count, months, services)) = rows.into_iter().next() else {
        return Ok(None);
    };
    if count == 0 {
        return Ok(None);
    }
    let count = counted(usize::try_from(count).unwrap_or_default(), "row", "rows");
    Ok(Some(
        Finding::problem(
            "default_partition",
            name,
            format!(
                "{count} of {}, of service {}",
                listed(&months),
                listed(&services)
            ),
        )
        .expected("empty")
        .explained(
            "Set the clocks right where these services run. The rows are part of the trail; \
                 a time that has rows here gets no partition of its own until \
                 `tracing-audit settle --yes` moves them there.",
        ),
    ))
}
