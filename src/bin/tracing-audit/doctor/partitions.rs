//! The partitions: those that are needed are there, what is there is attached where it belongs, and none is a catch-all
//! with rows.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use super::expected::{Table, record_tables};
use super::finding::{Finding, counted, listed, or_ok};
use super::look::{Answer, Look, Part, Relation};

/// This month and the next by the server's clock: the end of a partition's name, and the first moment.
const MONTHS: &str = "SELECT to_char(m, 'YYYY_MM'), m::text FROM (
    SELECT date_trunc('month', now()) + make_interval(months => n) AS m FROM generate_series(0, 1) n) months ORDER BY m";

/// What each monthly partition must have, from its name: its bound, and the check of its month with `{time}` for the
/// column.
const LEAVES: &str = "
    WITH leaf AS (
        SELECT c.oid, c.relname, to_timestamp(right(c.relname, 7), 'YYYY_MM') AS month
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'audit_parts' AND c.relname ~ '_[0-9]{4}_(0[1-9]|1[0-2])$'),
    bound AS (
        SELECT oid, relname, month, month + interval '1 month' AS next FROM leaf)
    SELECT relname::text,
        format('FOR VALUES FROM (''%s'') TO (''%s'')',
            (lpad(to_hex(extract(epoch FROM month)::bigint * 1000), 12, '0') || repeat('0', 20))::uuid,
            (lpad(to_hex(extract(epoch FROM next)::bigint * 1000), 12, '0') || repeat('0', 20))::uuid),
        format('CHECK ((({time} >= ''%s''::timestamp with time zone) AND ({time} < ''%s''::timestamp with time zone)))', month, next),
        (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
            WHERE k.conrelid = bound.oid AND k.conname = bound.relname || '_month')
    FROM bound ORDER BY 1";

/// Size of each default partition, and whether this login may read it.
const DEFAULTS: &str = "
    SELECT c.relname::text, pg_relation_size(c.oid), has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'audit_parts' AND c.relkind = 'r' AND c.relname ~ '_default$' ORDER BY 1";

/// A monthly partition as its name says it must be.
struct Leaf {
    bound: String,
    check: String,
    has_check: Option<String>,
}

/// The partitions of all record tables.
pub(crate) async fn check(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let months: Vec<(String, String)> = look.rows(MONTHS).await?;
    let leaves: BTreeMap<String, Leaf> = look
        .rows::<(String, String, String, Option<String>)>(LEAVES)
        .await?
        .into_iter()
        .map(|(name, bound, check, has_check)| {
            let leaf = Leaf {
                bound,
                check,
                has_check,
            };
            (name, leaf)
        })
        .collect();
    let mut findings = ahead(relations, &months);
    findings.extend(attached(relations, &leaves));
    findings.extend(defaults(look, relations).await?);
    Ok(findings)
}

/// This month's and the next month's are there.
fn ahead(relations: &[Relation], months: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in record_tables() {
        let lacking: Vec<&(String, String)> = months
            .iter()
            .filter(|(month, _)| {
                let leaf = format!("{}_{month}", table.name);
                !relations.iter().any(|relation| relation.table == leaf)
            })
            .collect();
        if lacking.is_empty() {
            continue;
        }
        let names: Vec<&str> = lacking.iter().map(|(month, _)| month.as_str()).collect();
        let statements: Vec<String> = lacking
            .iter()
            .map(|(_, moment)| {
                format!(
                    "SELECT audit.ensure_partition('{}', '{moment}');",
                    table.name
                )
            })
            .collect();
        findings.push(
            Finding::warning(
                "partitions_ahead",
                format!("audit.{}", table.name),
                format!("it has no partition yet for {}", names.join(" and ")),
            )
            .expected("made ahead, as a running writer does")
            .advice(statements.join(" ")),
        );
    }
    or_ok(
        "partitions_ahead",
        findings,
        "partitions",
        "those of this month and of the next are there",
    )
}

/// Everything in schema `audit_parts` is a partition of the table and of the month that its name says.
fn attached(relations: &[Relation], leaves: &BTreeMap<String, Leaf>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut count = 0;
    for relation in relations {
        if relation.schema != "audit_parts" {
            continue;
        }
        match relation.part() {
            Part::Leaf(parent) => {
                count += 1;
                findings.extend(misplaced(relation, parent, leaves));
            }
            _ => findings.push(detached(relation, leaves)),
        }
    }
    or_ok(
        "partitions",
        findings,
        "partitions",
        format!(
            "{} are attached where they belong",
            counted(count, "partition", "partitions")
        ),
    )
}

/// A partition that is not of the table or the month that its name says.
fn misplaced(relation: &Relation, parent: &Table, leaves: &BTreeMap<String, Leaf>) -> Vec<Finding> {
    let name = &relation.name;
    let bound = relation.bound.as_deref().unwrap_or_default();
    if relation.table == format!("{}_default", parent.name) && bound == "DEFAULT" {
        return Vec::new();
    }
    let is_of_parent = relation
        .table
        .strip_prefix(parent.name)
        .is_some_and(|month| month.len() == "_YYYY_MM".len());
    let Some(leaf) = leaves.get(&relation.table).filter(|_| is_of_parent) else {
        let finding = Finding::problem(
            "partitions",
            name,
            format!("a partition of audit.{}, and no name for one", parent.name),
        )
        .expected(format!("{}_YYYY_MM or {0}_default", parent.name))
        .advice(format!(
            "ALTER TABLE audit.{} DETACH PARTITION {name}; if the trail has not made it.",
            parent.name
        ));
        return vec![finding];
    };
    let mut findings = Vec::new();
    if bound != leaf.bound {
        findings.push(
            Finding::problem(
                "partitions",
                name,
                format!("it holds another month than its name says: {bound}"),
            )
            .expected(&leaf.bound)
            .advice(format!(
                "ALTER TABLE audit.{0} DETACH PARTITION {name}; ALTER TABLE audit.{0} \
                     ATTACH PARTITION {name} {1};",
                parent.name, leaf.bound
            )),
        );
    }
    let time = parent.time_column.unwrap_or_default();
    let expected = leaf.check.replace("{time}", time);
    let constraint = format!("{}_month", relation.table);
    let add = format!("ALTER TABLE {name} ADD CONSTRAINT {constraint} {expected};");
    match &leaf.has_check {
        Some(found) if *found == expected => {}
        Some(found) => findings.push(
            Finding::problem(
                "partitions",
                name,
                format!("constraint {constraint} is another one, and may refuse records: {found}"),
            )
            .expected(expected)
            .advice(format!(
                "ALTER TABLE {name} DROP CONSTRAINT {constraint}; {add}"
            )),
        ),
        None => findings.push(
            Finding::warning(
                "partitions",
                name,
                format!(
                    "constraint {constraint} is missing: a query by time reads this partition as \
                 well"
                ),
            )
            .expected(expected)
            .advice(add),
        ),
    }
    findings
}

/// What lies among the partitions and is none.
fn detached(relation: &Relation, leaves: &BTreeMap<String, Leaf>) -> Finding {
    let name = &relation.name;
    if relation.is_being_detached {
        let parent = relation.parent.as_deref().unwrap_or_default();
        return Finding::problem(
            "partitions",
            name,
            format!(
                "its removal from {parent} was begun and not finished: nothing can be written to it"
            ),
        )
        .expected("a partition")
        .advice(format!(
            "ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE; then attach it again."
        ));
    }
    let parent = record_tables().find(|table| {
        relation
            .table
            .strip_prefix(table.name)
            .is_some_and(|end| end == "_default" || leaves.contains_key(&relation.table))
    });
    match parent {
        Some(parent) if relation.parent.is_none() && relation.kind == "r" => {
            let bound = leaves
                .get(&relation.table)
                .map_or("DEFAULT", |leaf| leaf.bound.as_str());
            Finding::problem(
                "partitions",
                name,
                format!(
                    "it is detached from audit.{}: its rows are in nobody's trail, and that \
                 month's are not written",
                    parent.name
                ),
            )
            .expected("a partition")
            .advice(format!(
                "ALTER TABLE audit.{} ATTACH PARTITION {name} {bound};",
                parent.name
            ))
        }
        _ => Finding::problem("partitions", name, "it is no partition of the trail")
            .expected("nothing else in schema audit_parts")
            .advice("Move it to another schema, or attach it to the table whose rows it holds."),
    }
}

/// The default partitions are there, and empty.
async fn defaults(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    let found: BTreeMap<String, (i64, bool)> = look
        .rows::<(String, i64, bool)>(DEFAULTS)
        .await?
        .into_iter()
        .map(|(name, bytes, may_read)| (name, (bytes, may_read)))
        .collect();
    for table in record_tables() {
        let leaf = format!("{}_default", table.name);
        let name = format!("audit_parts.{leaf}");
        let is_there = relations.iter().any(|relation| relation.name == name);
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
                    "CREATE TABLE {name} (LIKE audit.{0} INCLUDING DEFAULTS INCLUDING \
                         CONSTRAINTS); SELECT audit.make_leaf_safe('{name}'); ALTER TABLE \
                         audit.{0} ATTACH PARTITION {name} DEFAULT;",
                    table.name
                )),
            ),
            Some((0, _)) | None => {}
            Some((_, false)) => findings.push(
                Finding::warning(
                    "default_partition",
                    &name,
                    "rows were written to it; this login may not read which",
                )
                .expected("empty")
                .advice("Run this as a superuser."),
            ),
            Some((_, true)) => findings.extend(default_rows(look, table, &name).await?),
        }
    }
    Ok(or_ok(
        "default_partition",
        findings,
        "default partitions",
        "empty",
    ))
}

/// What a default partition holds.
async fn default_rows(
    look: &mut Look<'_>,
    table: &Table,
    name: &str,
) -> Result<Option<Finding>, sqlx::Error> {
    let time = table.time_column.unwrap_or_default();
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
        .advice(
            "Set the clocks right where these services run. The rows are part of the trail; \
                 a month that has rows here gets no partition of its own until \
                 `tracing-audit settle --yes` moves them there.",
        ),
    ))
}
