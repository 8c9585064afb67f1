//! Tables and partitions as they are written to: their columns, constraints and indexes.

use std::collections::{BTreeMap, BTreeSet};

use super::expected::{self, STATUSES, Table};
use super::finding::{Finding, counted, or_ok};
use super::look::{Look, Part, Relation};
use super::roles::quoted;

/// Every column: its table, its name, and how it is written in a statement, without the name.
const COLUMNS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), a.attname::text, concat(format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN ' NOT NULL' END,
        CASE WHEN a.attidentity <> '' THEN ' GENERATED AS IDENTITY' END,
        CASE WHEN a.attgenerated <> '' THEN ' GENERATED ALWAYS AS ' ELSE ' DEFAULT ' END || pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE n.nspname IN ('audit', 'audit_parts') AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY 1, a.attnum";

/// Checks, foreign keys and exclusions; unique keys are looked at as indexes.
const CONSTRAINTS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), k.conname::text, pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('audit', 'audit_parts') AND k.contype IN ('c', 'f', 'x') ORDER BY 1, 2";

/// Every index: its table, its name, its definition from the method on, whether it is of use.
const INDEXES: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), format('%I.%I', xn.nspname, x.relname),
        concat(CASE WHEN i.indisunique THEN 'UNIQUE ' END, split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2)),
        i.indisvalid AND i.indisready
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace xn ON xn.oid = x.relnamespace
    WHERE n.nspname IN ('audit', 'audit_parts') AND c.relkind IN ('r', 'p') ORDER BY 1, 2";

/// Columns of whose values ANALYZE takes note, by table, though nothing needs it. -1 and NULL are the default.
const STATISTICS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), array_agg(a.attname::text ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('audit', 'audit_parts') AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attname NOT IN ('id', 'started_at', 'created_at') AND a.attstattarget IS DISTINCT FROM 0
    GROUP BY 1 ORDER BY 1";

/// Statistics over several columns.
const EXTENDED_STATISTICS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), format('%I.%I', sn.nspname, s.stxname)
    FROM pg_statistic_ext s JOIN pg_namespace sn ON sn.oid = s.stxnamespace
    JOIN pg_class c ON c.oid = s.stxrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('audit', 'audit_parts') ORDER BY 1, 2";

const STATUS_VALUES: &str = "
    SELECT string_agg(e.enumlabel::text, ', ' ORDER BY e.enumsortorder) FROM pg_enum e
    JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = 'audit' AND t.typname = 'run_status'";

/// Tables, their columns, constraints and indexes.
pub(crate) async fn check(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = tables(relations);
    findings.extend(columns(look, relations).await?);
    findings.extend(status_values(look).await?);
    findings.extend(statistics(look, relations).await?);
    findings.extend(constraints(look, relations).await?);
    findings.extend(indexes(look, relations).await?);
    Ok(findings)
}

/// All are there, survive a crash, and nothing else lies among them.
fn tables(relations: &[Relation]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in expected::TABLES {
        let is_there = relations.iter().any(
            |relation| matches!(relation.part(), Part::Table(found) if found.name == table.name),
        );
        if !is_there {
            findings.push(
                Finding::problem(
                    "tables",
                    format!("audit.{}", table.name),
                    "there is no such table",
                )
                .expected("a table of the trail")
                .advice("Bring it back from a backup. What it held is not in the trail."),
            );
        }
    }
    for relation in relations {
        let name = &relation.name;
        if relation.persistence != "p" && !matches!(relation.part(), Part::Stray) {
            findings.push(
                Finding::problem(
                    "tables",
                    name,
                    "it is UNLOGGED: a crash of the server empties it",
                )
                .expected("LOGGED")
                .advice(format!("ALTER TABLE {name} SET LOGGED;")),
            );
        }
        if relation.schema == "audit" && relation.parent.is_some() && relation.model().is_some() {
            findings.push(
                Finding::problem(
                    "tables",
                    name,
                    "it inherits from another table, or is a partition of one",
                )
                .expected("a table of its own")
                .advice(format!("ALTER TABLE {name} NO INHERIT …;")),
            );
        }
        findings.extend(stray(relation));
    }
    or_ok(
        "tables",
        findings,
        "tables",
        "all are there, and nothing else is among them",
    )
}

/// What the trail has not made, in its schemas or below its tables; tables among the partitions are told of there.
fn stray(relation: &Relation) -> Option<Finding> {
    let name = &relation.name;
    let parent = relation.parent.as_deref().unwrap_or_default();
    if !matches!(relation.part(), Part::Stray) || relation.schema == "audit_parts" {
        return None;
    }
    if relation.schema == "audit" {
        let kind = match relation.kind.as_str() {
            "v" => "VIEW",
            "m" => "MATERIALIZED VIEW",
            "f" => "FOREIGN TABLE",
            "S" => "SEQUENCE",
            _ => "TABLE",
        };
        return Some(
            Finding::problem("tables", name, "it is none of the trail's")
                .expected("nothing else in schema audit")
                .advice(format!(
                    "ALTER {kind} {name} SET SCHEMA …; or DROP {kind} {name};"
                )),
        );
    }
    let statement = if relation.bound.is_some() {
        format!("ALTER TABLE {parent} DETACH PARTITION {name};")
    } else {
        format!("ALTER TABLE {name} NO INHERIT {parent};")
    };
    Some(
        Finding::problem(
            "tables",
            name,
            format!("it is none of the trail's, and its rows are seen in {parent}"),
        )
        .expected("nothing below the tables of the trail but its own partitions")
        .advice(statement),
    )
}

/// Rows by table, in the order in which they were read.
fn by_table<T>(rows: Vec<(String, T)>) -> BTreeMap<String, Vec<T>> {
    let mut tables: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for (table, row) in rows {
        tables.entry(table).or_default().push(row);
    }
    tables
}

async fn columns(look: &mut Look<'_>, relations: &[Relation]) -> Result<Vec<Finding>, sqlx::Error> {
    let rows: Vec<(String, String, String)> = look.rows(COLUMNS).await?;
    let found = by_table(
        rows.into_iter()
            .map(|(table, name, definition)| (table, (name, definition)))
            .collect(),
    );
    let mut findings = Vec::new();
    for relation in relations {
        let Some(model) = relation.model() else {
            continue;
        };
        let columns = found.get(&relation.name).map_or(&[][..], Vec::as_slice);
        findings.extend(compare_columns(&relation.name, model, columns));
    }
    Ok(or_ok(
        "columns",
        findings,
        "columns",
        "those of the migrations, with their types and defaults",
    ))
}

fn compare_columns(table: &str, model: &Table, found: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found: BTreeMap<&str, &str> = found
        .iter()
        .map(|(name, definition)| (name.as_str(), definition.as_str()))
        .collect();
    for column in model.columns {
        let (name, expected) = column.split_once(' ').unwrap_or((column, ""));
        let object = format!("{table}.{name}");
        match found.remove(name) {
            Some(found) if found == expected => {}
            Some(found) => findings.push(
                Finding::problem("columns", object, found)
                    .expected(expected)
                    .advice(change_column(table, name, found, expected)),
            ),
            None => findings.push(
                Finding::problem(
                    "columns",
                    object,
                    "there is no such column: nothing can be written",
                )
                .expected(expected)
                .advice(format!("ALTER TABLE {table} ADD COLUMN {name} {expected};")),
            ),
        }
    }
    for (name, definition) in found {
        let (object, name) = (format!("{table}.{name}"), quoted(name));
        let is_demanded = definition.contains(" NOT NULL") && !definition.contains(" DEFAULT ");
        findings.push(if is_demanded {
            Finding::problem(
                "columns",
                object,
                "a column of somebody else's that must be given a value: nothing can be written",
            )
            .expected("no other column, or one that may be NULL")
            .advice(format!(
                "ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL;"
            ))
        } else {
            Finding::warning("columns", object, "a column of somebody else's")
                .expected("no other column")
                .advice(format!(
                    "ALTER TABLE {table} DROP COLUMN {name}; once what it holds is kept elsewhere."
                ))
        });
    }
    findings
}

/// The statement that makes a column what it should be.
fn change_column(table: &str, name: &str, found: &str, expected: &str) -> String {
    let (found_type, found_null, found_default) = parts(found);
    let (expected_type, expected_null, expected_default) = parts(expected);
    let mut changes = Vec::new();
    if found_type != expected_type {
        changes.push(format!("ALTER COLUMN {name} TYPE {expected_type}"));
    }
    if found_null != expected_null {
        let verb = if expected_null { "SET" } else { "DROP" };
        changes.push(format!("ALTER COLUMN {name} {verb} NOT NULL"));
    }
    if found_default != expected_default {
        changes.push(match expected_default {
            Some(default) => format!("ALTER COLUMN {name} SET DEFAULT {default}"),
            None => format!("ALTER COLUMN {name} DROP DEFAULT"),
        });
    }
    format!("ALTER TABLE {table} {};", changes.join(", "))
}

/// Type, whether NOT NULL, default.
fn parts(definition: &str) -> (&str, bool, Option<&str>) {
    let (rest, default) = match definition.split_once(" DEFAULT ") {
        Some((rest, default)) => (rest, Some(default)),
        None => (definition, None),
    };
    match rest.strip_suffix(" NOT NULL") {
        Some(name) => (name, true, default),
        None => (rest, false, default),
    }
}

async fn status_values(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let values: Vec<(Option<String>,)> = look.rows(STATUS_VALUES).await?;
    let found = values
        .into_iter()
        .find_map(|(values,)| values)
        .unwrap_or_default();
    if found == STATUSES {
        return Ok(Vec::new());
    }
    let finding = if STATUSES
        .split(", ")
        .all(|status| found.split(", ").any(|value| value == status))
    {
        Finding::warning("columns", "audit.run_status", found)
            .advice("A value of a type cannot be taken away. Nothing in the trail uses it.")
    } else {
        Finding::problem("columns", "audit.run_status", found)
            .advice("ALTER TYPE audit.run_status RENAME VALUE … TO …; or ADD VALUE …;")
    };
    Ok(vec![finding.expected(STATUSES)])
}

/// Row-level security does not hold for what ANALYZE notes: a reader learns of it from EXPLAIN.
async fn statistics(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    let noted: BTreeMap<String, Vec<String>> = look.rows(STATISTICS).await?.into_iter().collect();
    for relation in relations {
        let is_of_records = relation
            .model()
            .is_some_and(|model| model.time_column.is_some());
        let Some(columns) = noted.get(&relation.name).filter(|_| is_of_records) else {
            continue;
        };
        let changes: Vec<String> = columns
            .iter()
            .map(|column| format!("ALTER COLUMN {} SET STATISTICS 0", quoted(column)))
            .collect();
        findings.push(
            Finding::problem(
                "statistics",
                &relation.name,
                format!(
                    "ANALYZE notes values of {}, which a reader of another tenant learns of from EXPLAIN",
                    columns.join(", ")
                ),
            )
            .expected("statistics of the id and the time only")
            .advice(format!("ALTER TABLE {} {};", relation.name, changes.join(", "))),
        );
    }
    for (table, statistics) in look.rows::<(String, String)>(EXTENDED_STATISTICS).await? {
        findings.push(
            Finding::problem(
                "statistics",
                table,
                format!(
                    "ANALYZE notes values for {statistics}, which a reader of another tenant learns of from EXPLAIN"
                ),
            )
            .expected("no statistics over several columns")
            .advice(format!("DROP STATISTICS {statistics};")),
        );
    }
    Ok(or_ok(
        "statistics",
        findings,
        "statistics",
        "of the id and the time of records only",
    ))
}

async fn constraints(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let rows: Vec<(String, String, String)> = look.rows(CONSTRAINTS).await?;
    let found = by_table(
        rows.into_iter()
            .map(|(table, name, definition)| (table, (name, definition)))
            .collect(),
    );
    let mut findings = Vec::new();
    for relation in relations {
        let Some(model) = relation.model() else {
            continue;
        };
        let table = &relation.name;
        let found = found.get(table).map_or(&[][..], Vec::as_slice);
        // The check of a partition's month is told of with the partitions.
        let month = format!("{}_month", relation.table);
        for expected in model.constraints {
            if !found.iter().any(|(_, definition)| definition == expected) {
                findings.push(
                    Finding::problem("constraints", table, "a constraint is missing")
                        .expected(*expected)
                        .advice(format!("ALTER TABLE {table} ADD {expected};")),
                );
            }
        }
        for (name, definition) in found {
            if *name != month && !model.constraints.contains(&definition.as_str()) {
                findings.push(
                    Finding::problem(
                        "constraints",
                        table,
                        format!("constraint {name}, which may refuse records: {definition}"),
                    )
                    .expected("no other constraint")
                    .advice(format!(
                        "ALTER TABLE {table} DROP CONSTRAINT {};",
                        quoted(name)
                    )),
                );
            }
        }
    }
    Ok(or_ok(
        "constraints",
        findings,
        "constraints",
        "those of the migrations and no others",
    ))
}

async fn indexes(look: &mut Look<'_>, relations: &[Relation]) -> Result<Vec<Finding>, sqlx::Error> {
    let rows: Vec<(String, String, String, bool)> = look.rows(INDEXES).await?;
    let count = rows.len();
    let found = by_table(
        rows.into_iter()
            .map(|(table, name, definition, is_valid)| (table, (name, definition, is_valid)))
            .collect(),
    );
    let mut findings = Vec::new();
    for relation in relations {
        let Some(model) = relation.model() else {
            continue;
        };
        let table = &relation.name;
        let found = found.get(table).map_or(&[][..], Vec::as_slice);
        let there: BTreeSet<&str> = found
            .iter()
            .map(|(_, definition, _)| definition.as_str())
            .collect();
        for expected in model.indexes {
            if !there.contains(expected) {
                findings.push(missing_index(table, expected));
            }
        }
        for (name, definition, is_valid) in found {
            if !is_valid {
                findings.push(
                    Finding::warning(
                        "indexes",
                        table,
                        format!("index {name} is not valid, and of no use to queries"),
                    )
                    .expected("valid")
                    .advice(format!(
                        "REINDEX INDEX {name}; or DROP INDEX {name}; and make it again."
                    )),
                );
            }
            if definition.starts_with("UNIQUE") && !model.indexes.contains(&definition.as_str()) {
                findings.push(
                    Finding::problem(
                        "indexes",
                        table,
                        format!("unique index {name}, which may refuse records: {definition}"),
                    )
                    .expected("no other unique index")
                    .advice(format!(
                        "ALTER TABLE {table} DROP CONSTRAINT …; or DROP INDEX {name};"
                    )),
                );
            }
        }
    }
    Ok(or_ok(
        "indexes",
        findings,
        "indexes",
        format!("{} are there and valid", counted(count, "index", "indexes")),
    ))
}

/// An index that is not there: without a unique one, a record could be there twice.
fn missing_index(table: &str, expected: &str) -> Finding {
    let (finding, statement) = match expected.strip_prefix("UNIQUE btree ") {
        Some(columns) => (
            Finding::problem(
                "indexes",
                table,
                "its primary key is missing: a record may be there twice",
            ),
            format!("ALTER TABLE {table} ADD PRIMARY KEY {columns};"),
        ),
        None => (
            Finding::warning(
                "indexes",
                table,
                "an index is missing: reading takes longer",
            ),
            format!("CREATE INDEX ON {table} USING {expected};"),
        ),
    };
    finding.expected(expected).advice(statement)
}
