//! Compares the facts of the database with those of the migrations: returns one finding for each
//! cause, with the statement that repairs it, written by Postgres itself.

use std::collections::{BTreeMap, BTreeSet};

use tracing_audit::__program::migrations;

use super::difference::{Difference, Facts, How, Privilege, Sides, by_key};
use super::finding::{Finding, Severity, counted, or_ok};
use super::mend::{explanation, mending};
use super::partitions::Leaf;
use super::renamed::{self, Explained};
use super::snapshot::Fact;
use super::words::words;

/// Each check, its label when it found nothing, and the kinds of facts it covers.
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
        &["trigger", "foreign key trigger", "hidden"],
    ),
    ("rules", "rules", &["rule"]),
    ("event_triggers", "event triggers", &["event trigger"]),
    ("view", "views", &["view"]),
    ("functions", "functions", &["function", "outside"]),
    (
        "tables",
        "tables",
        &[
            "object",
            "table",
            "logged",
            "storage",
            "parent",
            "child",
            "sequence",
            "extension",
        ],
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

/// The checks of each printed group.
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

/// The result of the comparison.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) checks: BTreeMap<&'static str, Vec<Finding>>,
    /// Whether tables have swapped places, so that nothing more can be said about them.
    pub(crate) is_exchanged: bool,
}

/// Compares the facts, and returns one finding for each cause, by check.
pub(crate) fn check(golden: &[Fact], found: &[Fact], leaves: &[Leaf]) -> Compared {
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
    let (renamed, explained) = renamed::check(&sides, leaves);
    findings.extend(renamed);
    if !explained.is_exchanged {
        let differences = differences(&sides, leaves, &explained);
        findings.extend(
            grouped(differences, leaves)
                .iter()
                .filter_map(|group| told(group, &golden, found, leaves)),
        );
    }

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
    Compared {
        checks,
        is_exchanged: explained.is_exchanged,
    }
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
    .advice(migrations::GUARD)
    .explained("Run `tracing-audit migrate` as a superuser, or these statements.")
}

/// Returns the names of the objects.
fn objects_of<'f>(facts: &Facts<'f>) -> BTreeSet<&'f str> {
    facts
        .keys()
        .filter(|(kind, ..)| *kind == "object")
        .map(|(_, object, _)| *object)
        .collect()
}

/// Returns the differing facts that are not explained yet.
fn differences(sides: &Sides<'_>, leaves: &[Leaf], explained: &Explained) -> Vec<Difference> {
    let (golden_objects, found_objects) = (objects_of(&sides.golden), objects_of(&sides.found));
    let is_leaf = |object: &str| {
        leaves
            .iter()
            .any(|leaf| leaf.is_partition() && leaf.name == object)
    };
    // For an object that is missing, or foreign to the trail, only that is reported.
    let is_told_whole = |fact: &Fact| {
        let (kind, object) = (fact.kind.as_str(), fact.object.as_str());
        let is_on_both_sides = golden_objects.contains(object) && found_objects.contains(object);
        let is_told_by_itself = [
            "object",
            "outside",
            "child",
            "default privilege",
            "event trigger",
            "extension",
        ]
        .contains(&kind)
            || ["audit_refuse_ddl", "audit_refuse_drop"].contains(&object);
        explained.objects.contains(object)
            || !(is_told_by_itself || is_on_both_sides || is_leaf(object))
    };
    let is_renamed = |difference: &Difference| {
        let fact = difference.fact();
        let key = (fact.kind.clone(), fact.object.clone(), fact.name.clone());
        explained.facts.contains(&key)
            || explained.functions.iter().any(|name| {
                difference
                    .found_statement()
                    .contains(&format!("FUNCTION {name}("))
            })
            || explained.columns.iter().any(|(table, columns)| {
                // The views read all columns.
                let is_of_table = fact.object == *table
                    || fact.kind == "view"
                    || leaves.iter().any(|leaf| {
                        leaf.name == fact.object
                            && table.strip_prefix("audit.") == Some(&leaf.parent)
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
        let is_harmless = kind == "index"
            && how == How::Extra
            && found.is_some_and(|fact| fact.shape.as_deref() == Some("harmless"));
        if is_told_whole(difference.fact())
            || ["columns", "labels"].contains(&kind)
            // A missing or extra object has no owner to compare.
            || kind == "owner" && how != How::Changed
            || is_renamed(&difference)
            || is_harmless
            || kind.starts_with("column ") && columns_told.contains(&(object, name))
        {
            continue;
        }
        if kind == "column" && how != How::Changed {
            columns_told.insert((object, name));
        }
        differences.push(difference);
    }
    // Facts that mention a column change with its type.
    let retyped: BTreeMap<String, BTreeSet<String>> = differences
        .iter()
        .filter(|difference| difference.kind() == "column" && difference.how == How::Changed)
        .map(Difference::fact)
        .fold(BTreeMap::new(), |mut tables, fact| {
            let columns: &mut BTreeSet<String> = tables.entry(fact.object.clone()).or_default();
            columns.insert(fact.name.clone());
            tables
        });
    differences.retain(|difference| {
        let of_columns = ["constraint", "policy", "column default"].contains(&difference.kind());
        let is_of_retyped = retyped
            .get(&difference.fact().object)
            .is_some_and(|columns| difference.mentions(columns));
        !(of_columns && difference.how == How::Changed && is_of_retyped)
    });
    differences
}

fn is_same(golden: &Fact, found: &Fact) -> bool {
    let of_owner = golden.kind == "privilege" && Privilege::of(golden).grantee.is_none();
    if of_owner || golden.kind == "object" {
        return true;
    }
    if golden.kind == "index" {
        // An operator's own index of the same columns is as good.
        return true;
    }
    // Postgres writes an operator with its schema where another cast makes it ambiguous; the cast is
    // reported by itself.
    if golden.kind == "view"
        && let Some(statement) = &found.statement
    {
        let unqualified = statement.replace("OPERATOR(pg_catalog.=)", "=");
        return golden.statement.as_ref() == Some(&unqualified);
    }
    golden.statement == found.statement
        && (golden.shape == found.shape || golden.statement.is_some())
}

/// Groups differences with one cause: what a table and its partitions have in common, and what one
/// role was granted.
fn grouped(differences: Vec<Difference>, leaves: &[Leaf]) -> Vec<Vec<Difference>> {
    let referring: Vec<Privilege> = differences
        .iter()
        .filter(|difference| difference.kind() == "privilege" && difference.how == How::Extra)
        .map(|difference| Privilege::of(difference.fact()))
        .filter(Privilege::is_for_foreign_keys)
        .map(|privilege| Privilege {
            what: "USAGE".to_owned(),
            ..privilege
        })
        .collect();
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
            // By grantee.
            "privilege" => {
                let of_fact = Privilege::of(fact);
                let mut name = of_fact.grantee().to_owned();
                if difference.how == How::Extra
                    && (of_fact.is_for_foreign_keys()
                        // USAGE of the schema, which the foreign keys need.
                        || fact.object == "audit" && of_fact.what == "USAGE" && referring.contains(&of_fact))
                {
                    name.push_str(" REFERENCES");
                }
                (String::new(), name)
            }
            "column statistics" | "noted values" | "foreign key trigger" => (object, String::new()),
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

/// Returns the check that reports a difference.
fn check_of(difference: &Difference) -> &'static str {
    let kind = difference.kind();
    match (kind, difference.fact().name.as_str(), difference.how) {
        ("object", "function", _) => "functions",
        ("object", "view", How::Missing) => "view",
        ("object", "type", How::Missing) => "columns",
        ("constraint", name, _) if name.ends_with("_time") => "partitions",
        _ => CHECKS
            .iter()
            .find(|(_, _, kinds)| kinds.contains(&kind))
            .map_or("tables", |(check, ..)| *check),
    }
}

/// Describes a group of differences, with the statements that repair it.
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
            match Privilege::of(first.fact()).grantee {
                Some(role) => format!("role {role}"),
                None => "owners".to_owned(),
            }
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
