//! What differs between the facts of the database and those that the migrations make: one finding for each cause, with
//! the statement that mends it, which Postgres itself has written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::difference::{Difference, How, grantee, is_for_foreign_keys};
use super::finding::{Finding, Severity, counted, or_ok};
use super::mend::{explanation, mending};
use super::partitions::Leaf;
use super::roles::quoted;
use super::snapshot::Fact;
use super::sources;
use super::words::words;

/// Each check, the line that says that it found nothing, and the kinds of facts that it is about.
const CHECKS: [(&str, &str, &[&str]); 15] = [
    ("owners", "owners", &["owner"]),
    ("privileges", "privileges", &["privilege"]),
    (
        "default_privileges",
        "default privileges",
        &["default privilege"],
    ),
    (
        "row_security",
        "row-level security",
        &["row security", "forced row security"],
    ),
    ("policies", "policies", &["policy"]),
    (
        "triggers",
        "append-only triggers",
        &["trigger", "foreign key trigger"],
    ),
    ("rules", "rules", &["rule"]),
    ("event_triggers", "event triggers", &["event trigger"]),
    ("view", "audit.trail", &["view"]),
    ("functions", "functions", &["function", "outside"]),
    (
        "tables",
        "tables",
        &["object", "table", "logged", "parent", "child", "sequence"],
    ),
    (
        "columns",
        "columns",
        &[
            "columns",
            "column",
            "column default",
            "column generated",
            "column identity",
            "column not null",
            "labels",
            "cast",
        ],
    ),
    (
        "statistics",
        "statistics",
        &["column statistics", "extended statistics", "noted values"],
    ),
    ("constraints", "constraints", &["constraint"]),
    ("indexes", "indexes", &["index", "invalid index"]),
];

/// The checks of each group that is printed.
pub(crate) const GROUPS: [(&str, &[&str]); 4] = [
    ("Rights", &["owners", "privileges", "default_privileges"]),
    (
        "Guards",
        &[
            "row_security",
            "policies",
            "triggers",
            "rules",
            "event_triggers",
            "view",
        ],
    ),
    ("Functions", &["functions"]),
    (
        "Tables",
        &["tables", "columns", "statistics", "constraints", "indexes"],
    ),
];

/// Both sides, by what each fact is about.
struct Sides<'f> {
    golden: HashMap<(&'f str, &'f str, &'f str), &'f Fact>,
    found: HashMap<(&'f str, &'f str, &'f str), &'f Fact>,
}

fn by_key(facts: &[Fact]) -> HashMap<(&str, &str, &str), &Fact> {
    facts
        .iter()
        .map(|fact| {
            (
                (fact.kind.as_str(), fact.object.as_str(), fact.name.as_str()),
                fact,
            )
        })
        .collect()
}

/// Compares, and tells each cause once, by its check.
pub(crate) fn check(
    golden: &[Fact],
    found: &[Fact],
    leaves: &[Leaf],
) -> BTreeMap<&'static str, Vec<Finding>> {
    let has_guard = found
        .iter()
        .any(|fact| fact.kind == "object" && fact.object == "audit_guard");
    let has_event_triggers = found.iter().any(|fact| fact.kind == "event trigger");
    let lacks_guard = !has_guard && !has_event_triggers;
    let golden: Vec<Fact> = golden
        .iter()
        .filter(|fact| !(lacks_guard && is_of_guard(fact)))
        .cloned()
        .collect();
    let sides = Sides {
        golden: by_key(&golden),
        found: by_key(found),
    };
    let mut findings = Vec::new();
    if lacks_guard {
        findings.push(without_guard());
    }
    let mut explained = Explained::default();
    findings.extend(tables_carried_off(&sides, &mut explained));
    findings.extend(renamed_columns(&sides, leaves, &mut explained));
    findings.extend(labels(&sides));
    let differences = differences(&sides, leaves, &explained);
    findings.extend(
        grouped(differences, leaves)
            .iter()
            .filter_map(|group| told(group, &golden, found, leaves)),
    );

    let mut checks: BTreeMap<&'static str, Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        checks.entry(finding.check).or_default().push(finding);
    }
    for (check, label, kinds) in CHECKS {
        let count = golden
            .iter()
            .filter(|fact| kinds.contains(&fact.kind.as_str()))
            .count();
        let said = match count {
            0 => "none, and none belongs there".to_owned(),
            count => format!(
                "{} as the migrations make them, and no other",
                counted(count, "is", "are")
            ),
        };
        let of_check = checks.remove(check).unwrap_or_default();
        checks.insert(check, or_ok(check, of_check, label, said));
    }
    checks
}

fn is_of_guard(fact: &Fact) -> bool {
    fact.object == "audit_guard"
        || fact.object.starts_with("audit_guard.")
        || ["audit_refuse_ddl", "audit_refuse_drop"].contains(&fact.object.as_str())
}

fn without_guard() -> Finding {
    Finding::warning(
        "event_triggers",
        "audit_guard",
        "nothing keeps the owner of the tables from altering or dropping them: no superuser migrated",
    )
    .expected("event triggers audit_refuse_ddl and audit_refuse_drop")
    .advice(sources::GUARD)
    .explained("Run `tracing-audit migrate` as a superuser, or these statements.")
}

/// What other findings tell already.
#[derive(Debug, Default)]
struct Explained<'f> {
    /// Objects that are missing or new.
    objects: BTreeSet<&'f str>,
    /// Of a table, the columns that were renamed, by their old and their new names.
    columns: BTreeMap<&'f str, BTreeSet<&'f str>>,
}

/// A table that was renamed, or moved to another schema, is known by its columns.
fn tables_carried_off<'f>(sides: &Sides<'f>, explained: &mut Explained<'f>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((kind, object, name), fact) in &sides.golden {
        if *kind != "columns"
            || sides.found.contains_key(&("table", *object, ""))
            || !name.is_empty()
        {
            continue;
        }
        let shape = |side: &HashMap<_, &'f Fact>, table| {
            side.get(&("table", table, "")).map(|fact| &fact.shape)
        };
        let carried_off = sides.found.iter().find(|((kind, other, _), found)| {
            *kind == "columns"
                && names(found) == names(fact)
                && shape(&sides.golden, other).is_none()
                && shape(&sides.found, other) == shape(&sides.golden, object)
        });
        let (Some(((_, other, _), _)), Some((schema, table))) =
            (carried_off, object.split_once('.'))
        else {
            continue;
        };
        explained.objects.extend([*object, *other]);
        let mut statements = Vec::new();
        let (other_schema, other_table) = other.rsplit_once('.').unwrap_or_default();
        if other_schema != schema {
            statements.push(format!("ALTER TABLE {other} SET SCHEMA {schema};"));
        }
        if other_table != table {
            statements.push(format!(
                "ALTER TABLE {schema}.{other_table} RENAME TO {table};"
            ));
        }
        findings.push(
            Finding::problem(
                "tables",
                *object,
                format!("it was renamed or moved, to {other}: nothing is written to it"),
            )
            .expected(*object)
            .advice(statements.join(" ")),
        );
    }
    findings
}

/// Columns that have other names, or each other's: by their places, so that no value is lost or taken for another.
fn renamed_columns<'f>(
    sides: &Sides<'f>,
    leaves: &[Leaf],
    explained: &mut Explained<'f>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, golden) in &sides.golden {
        let (Some(found), true) = (sides.found.get(key), golden.kind == "columns") else {
            continue;
        };
        // A partition's columns are named as its table's, in any order.
        if golden.shape == found.shape || leaves.iter().any(|leaf| leaf.name == golden.object) {
            continue;
        }
        let (Some(right), Some(names)) = (by_place(golden), by_place(found)) else {
            continue;
        };
        let changes = exchanged_names(&right, &names);
        if changes.is_empty() {
            continue;
        }
        for (from, to) in &changes {
            // The facts of both sides live as long as each other.
            for name in [from, to] {
                let of_fact =
                    sides
                        .golden
                        .keys()
                        .chain(sides.found.keys())
                        .find(|(kind, object, of)| {
                            *kind == "column" && *object == golden.object && of == name
                        });
                if let Some((_, object, name)) = of_fact {
                    explained.columns.entry(object).or_default().insert(name);
                }
            }
        }
        let statements = by_a_third_name(&changes, |from, to| {
            format!(
                "ALTER TABLE {} RENAME COLUMN {} TO {};",
                golden.object,
                quoted(from),
                quoted(to)
            )
        });
        let told: Vec<String> = changes
            .iter()
            .map(|(from, to)| format!("{to} is named {from}"))
            .collect();
        findings.push(
            Finding::problem(
                "columns",
                &golden.object,
                format!("columns were renamed: {}", told.join(", ")),
            )
            .expected("the columns of the migrations, in their places")
            .advice(statements),
        );
    }
    findings
}

/// The values of `audit.run_status`.
fn labels(sides: &Sides<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, golden) in &sides.golden {
        let (Some(found), true) = (sides.found.get(key), golden.kind == "labels") else {
            continue;
        };
        if golden.shape == found.shape {
            continue;
        }
        let (Some(right), Some(names)) = (by_place(golden), by_place(found)) else {
            continue;
        };
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let mut statements = by_a_third_name(&exchanged_names(&right, &names), |from, to| {
            format!(
                "ALTER TYPE {} RENAME VALUE {} TO {};",
                golden.object,
                literal(from),
                literal(to)
            )
        });
        for label in right.iter().skip(names.len()) {
            let add = format!(
                " ALTER TYPE {} ADD VALUE {};",
                golden.object,
                literal(label)
            );
            statements.push_str(&add);
        }
        let finding = if statements.is_empty() {
            Finding::warning("columns", &golden.object, names.join(", "))
                .explained("A value of a type cannot be taken away. Nothing in the trail uses it.")
        } else {
            Finding::problem("columns", &golden.object, names.join(", ")).advice(statements.trim())
        };
        findings.push(finding.expected(right.join(", ")));
    }
    findings
}

/// The names in a fact's shape, in their places; none when a place is empty.
fn by_place(fact: &Fact) -> Option<Vec<String>> {
    serde_json::from_str(fact.shape.as_deref()?).ok()
}

/// The same names, wherever they are.
fn names(fact: &Fact) -> BTreeSet<String> {
    let names: Option<Vec<Option<String>>> = fact
        .shape
        .as_deref()
        .and_then(|shape| serde_json::from_str(shape).ok());
    names.into_iter().flatten().flatten().collect()
}

/// Which names stand where others should: `(is, should be)`. A name beyond the last place that one of these needs gives
/// way.
fn exchanged_names(right: &[String], names: &[String]) -> Vec<(String, String)> {
    if names.len() < right.len() && right.starts_with(names) {
        return Vec::new();
    }
    let mut changes: Vec<(String, String)> = names
        .iter()
        .zip(right)
        .filter(|(is, should)| is != should)
        .map(|(is, should)| (is.clone(), should.clone()))
        .collect();
    for name in names.iter().skip(right.len()) {
        if changes.iter().any(|(_, should)| should == name) {
            changes.push((name.clone(), format!("{name}_of_somebody_else")));
        }
    }
    changes
}

/// The statements that rename, by a third name where one is taken.
fn by_a_third_name(changes: &[(String, String)], rename: impl Fn(&str, &str) -> String) -> String {
    let is_taken = changes
        .iter()
        .any(|(_, to)| changes.iter().any(|(from, _)| from == to));
    if !is_taken {
        return changes
            .iter()
            .map(|(from, to)| rename(from, to))
            .collect::<Vec<_>>()
            .join(" ");
    }
    let third = |number: usize| format!("exchanged_{number}");
    let away = changes
        .iter()
        .enumerate()
        .map(|(number, (from, _))| rename(from, &third(number)));
    let back = changes
        .iter()
        .enumerate()
        .map(|(number, (_, to))| rename(&third(number), to));
    let statements: Vec<String> = away.chain(back).collect();
    format!("BEGIN; {} COMMIT;", statements.join(" "))
}

/// Every other fact that differs.
fn differences<'f>(
    sides: &Sides<'f>,
    leaves: &[Leaf],
    explained: &Explained<'f>,
) -> Vec<Difference> {
    let objects_of = |facts: &HashMap<(&'f str, &'f str, &'f str), &'f Fact>| -> BTreeSet<&'f str> {
        facts
            .keys()
            .filter(|(kind, ..)| *kind == "object")
            .map(|(_, object, _)| *object)
            .collect()
    };
    let (golden_objects, found_objects) = (objects_of(&sides.golden), objects_of(&sides.found));
    let is_leaf = |object: &str| {
        leaves
            .iter()
            .any(|leaf| leaf.is_partition() && leaf.name == object)
    };
    // Of what is missing, or is none of the trail's, only that is told.
    let is_told_whole = |fact: &Fact| {
        let (kind, object) = (fact.kind.as_str(), fact.object.as_str());
        let is_on_both_sides = golden_objects.contains(object) && found_objects.contains(object);
        let is_told_by_itself = [
            "object",
            "outside",
            "child",
            "default privilege",
            "event trigger",
        ]
        .contains(&kind)
            || ["audit_refuse_ddl", "audit_refuse_drop"].contains(&object);
        explained.objects.contains(object)
            || !(is_told_by_itself || is_on_both_sides || is_leaf(object))
    };
    // The view reads all of them.
    let is_of_renamed = |difference: &Difference| {
        let object = difference.fact().object.as_str();
        explained.columns.iter().any(|(table, columns)| {
            let is_of_table = object == *table
                || object == "audit.trail"
                || leaves.iter().any(|leaf| {
                    leaf.name == object && table.strip_prefix("audit.") == Some(&leaf.parent)
                });
            is_of_table && difference.mentions(columns)
        })
    };
    let mut differences = Vec::new();
    let mut columns_told: BTreeSet<(&str, &str)> = BTreeSet::new();
    let keys: BTreeSet<_> = sides
        .golden
        .keys()
        .chain(sides.found.keys())
        .copied()
        .collect();
    for key in keys {
        let (golden, found) = (
            sides.golden.get(&key).copied(),
            sides.found.get(&key).copied(),
        );
        let how = match (golden, found) {
            (Some(golden), Some(found)) if is_same(golden, found) => continue,
            (Some(_), Some(_)) => How::Changed,
            (Some(_), None) => How::Missing,
            (None, _) => How::Extra,
        };
        let difference = Difference {
            how,
            golden: golden.cloned(),
            found: found.cloned(),
        };
        let (kind, object, name) = key;
        if is_told_whole(difference.fact())
            || ["columns", "labels"].contains(&kind)
            // What is not there has none.
            || kind == "owner" && how != How::Changed
            || is_of_renamed(&difference)
            // An index of an operator's own, for queries of theirs.
            || kind == "index" && how == How::Extra && is_harmless_index(name)
            || kind.starts_with("column ") && columns_told.contains(&(object, name))
        {
            continue;
        }
        if kind == "column" && how != How::Changed {
            columns_told.insert((object, name));
        }
        differences.push(difference);
    }
    differences
}

fn is_same(golden: &Fact, found: &Fact) -> bool {
    let of_owner = golden.kind == "privilege" && golden.name.starts_with("(owner) ");
    if of_owner || golden.kind == "object" {
        return true;
    }
    if golden.kind == "index" {
        // An operator's own index of the same columns is as good.
        return true;
    }
    golden.statement == found.statement
        && (golden.shape == found.shape || golden.statement.is_some())
}

/// Whether it keeps nothing from being written, and evaluates nothing.
fn is_harmless_index(definition: &str) -> bool {
    !definition.starts_with("UNIQUE ")
        && !definition.contains(" WHERE ")
        && definition.matches('(').count() == 1
}

/// The differences of one cause: what a table and its partitions have in common, and what somebody was given.
fn grouped(differences: Vec<Difference>, leaves: &[Leaf]) -> Vec<Vec<Difference>> {
    let mut groups: BTreeMap<(String, How, String, String), Vec<Difference>> = BTreeMap::new();
    for difference in differences {
        let fact = difference.fact();
        let leaf = leaves.iter().find(|leaf| leaf.name == fact.object);
        let object = leaf.map_or_else(
            || fact.object.clone(),
            |leaf| format!("audit.{}", leaf.parent),
        );
        let in_common = |name: &str| {
            let right = leaf.map(Leaf::right_name).unwrap_or_default();
            if right.is_empty() {
                name.to_owned()
            } else {
                name.replace(&right, "partition")
                    .replace(&fact.object, &object)
            }
        };
        let (object, name) = match fact.kind.as_str() {
            // By who has it.
            "privilege" if is_for_foreign_keys(&difference) => {
                (String::new(), format!("{} REFERENCES", grantee(fact)))
            }
            "privilege" => (String::new(), grantee(fact).to_owned()),
            "column statistics" | "noted values" => (object, String::new()),
            _ => {
                let name = in_common(&fact.name);
                (object, name)
            }
        };
        groups
            .entry((fact.kind.clone(), difference.how, object, name))
            .or_default()
            .push(difference);
    }
    groups.into_values().collect()
}

/// The check that tells of it.
fn check_of(difference: &Difference) -> &'static str {
    let kind = difference.kind();
    match (kind, difference.fact().name.as_str(), difference.how) {
        ("object", "function", _) => "functions",
        ("object", "view", How::Missing) => "view",
        ("object", "type", How::Missing) => "columns",
        ("constraint", name, _) if name.ends_with("_month") => "partitions",
        _ => CHECKS
            .iter()
            .find(|(_, _, kinds)| kinds.contains(&kind))
            .map_or("tables", |(check, ..)| *check),
    }
}

/// What a group of differences is, and what mends it.
fn told(group: &[Difference], golden: &[Fact], found: &[Fact], leaves: &[Leaf]) -> Option<Finding> {
    let first = group.first()?;
    let is_leaf = |object: &str| leaves.iter().any(|leaf| leaf.name == object);
    let of_parent: Vec<&Difference> = group
        .iter()
        .filter(|d| !is_leaf(&d.fact().object))
        .collect();
    let recurses =
        first.kind().starts_with("column") || ["constraint", "index"].contains(&first.kind());
    let acting: Vec<&Difference> = if recurses && !of_parent.is_empty() {
        of_parent.clone()
    } else {
        group.iter().collect()
    };
    let check = check_of(first);
    let (severity, mut text, expected) = words(first, group, found);
    let objects: BTreeSet<&str> = group.iter().map(|d| d.fact().object.as_str()).collect();
    let mut object = match (of_parent.first(), objects.len()) {
        _ if first.kind() == "privilege" && objects.len() > 1 => {
            format!("role {}", grantee(first.fact()))
        }
        (Some(parent), _) => parent.fact().object.clone(),
        (None, 1) => first.fact().object.clone(),
        (None, _) => {
            let leaf = leaves
                .iter()
                .find(|leaf| leaf.name == first.fact().object)?;
            format!("audit.{}", leaf.parent)
        }
    };
    let partitions = group
        .iter()
        .filter(|d| is_leaf(&d.fact().object))
        .map(|d| d.fact().object.as_str())
        .collect::<BTreeSet<_>>();
    if partitions.len() > 1 && first.kind() != "privilege" {
        text.push_str("; of ");
        text.push_str(&counted(partitions.len(), "partition", "partitions"));
    }
    if first.kind().starts_with("column") && first.kind() != "column statistics" {
        object = format!("{object}.{}", first.fact().name);
    }
    let statements: Vec<String> = acting
        .iter()
        .filter_map(|d| mending(d, golden, found))
        .collect();
    let finding = match severity {
        Severity::Ok => return Some(Finding::ok(check, object, text)),
        Severity::Warning => Finding::warning(check, object, text),
        Severity::Problem => Finding::problem(check, object, text),
    };
    let finding = finding.expected(expected).advice(statements.join("\n"));
    Some(match explanation(first, statements.is_empty()) {
        "" => finding,
        explanation => finding.explained(explanation),
    })
}
