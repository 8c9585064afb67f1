//! Finds what was renamed, moved or swapped, by its columns, its places or its definition, and
//! advises giving the old name back. It never advises recreating or dropping instead, so that no
//! row and no value is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::difference::{Facts, Sides};
use super::finding::Finding;
use super::partitions::Leaf;
use super::snapshot::Fact;
use super::statements::{in_one, quoted, renames};

/// A column: its name and its type.
type Column = (String, String);

/// What these findings already explain.
#[derive(Debug, Default)]
pub(crate) struct Explained {
    /// Objects as a whole.
    pub(crate) objects: BTreeSet<String>,
    /// The renamed columns by table, under both their old and their new names.
    pub(crate) columns: BTreeMap<String, BTreeSet<String>>,
    /// Single facts by kind, object and name.
    pub(crate) facts: BTreeSet<(String, String, String)>,
    /// The names of functions that others call.
    pub(crate) functions: BTreeSet<String>,
    /// Whether tables have swapped places: their rows, columns and partitions can be checked only
    /// after that is repaired.
    pub(crate) is_exchanged: bool,
}

/// Finds everything with another name or place.
pub(crate) fn check(sides: &Sides<'_>, leaves: &[Leaf]) -> (Vec<Finding>, Explained) {
    let mut explained = Explained::default();
    let mut findings = tables(sides, leaves, &mut explained);
    if explained.is_exchanged {
        return (findings, explained);
    }
    findings.extend(columns(sides, leaves, &mut explained));
    findings.extend(labels(sides));
    findings.extend(parts(sides, &mut explained));
    findings.extend(functions(sides, &mut explained));
    findings.extend(views(sides, &mut explained));
    (findings, explained)
}

/// A table as found, or as expected.
struct Table<'f> {
    names: BTreeSet<String>,
    shape: Option<&'f str>,
}

fn table<'f>(facts: &Facts<'f>, object: &'f str) -> Option<Table<'f>> {
    let shape = facts.get(&("table", object, ""))?.shape.as_deref();
    let columns = facts.get(&("columns", object, ""))?;
    Some(Table {
        names: places(columns)
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
            .collect(),
        shape,
    })
}

/// The tables that are in other tables' places.
#[derive(Debug, Default)]
struct Moves {
    /// Pairs `(is, should be)`.
    of_tables: Vec<(String, String)>,
    /// The tables that occupy these places.
    in_the_way: Vec<String>,
    /// Pairs `(copy, of)`, where the original is in its place.
    copies: Vec<(String, String)>,
}

fn moves(sides: &Sides<'_>, leaves: &[Leaf]) -> Moves {
    let is_leaf = |object: &str| leaves.iter().any(|leaf| leaf.name == object);
    let tables_of = |facts: &Facts<'_>| -> BTreeSet<String> {
        let tables = facts
            .keys()
            .filter(|(kind, object, _)| *kind == "table" && !is_leaf(object));
        tables.map(|(_, object, _)| (*object).to_owned()).collect()
    };
    let is_same =
        |one: &Table<'_>, other: &Table<'_>| one.names == other.names && one.shape == other.shape;
    let is_right = |object: &str| {
        let golden = table(&sides.golden, object);
        let found = table(&sides.found, object);
        golden.is_some_and(|golden| found.is_some_and(|found| is_same(&golden, &found)))
    };
    let is_of_trail = |object: &str| {
        let owner = sides.found.get(&("owner", object, ""));
        let statement = owner.and_then(|owner| owner.statement.as_deref());
        statement.is_some_and(|statement| statement.ends_with(" OWNER TO audit_owner;"))
    };
    let found_tables = tables_of(&sides.found);
    let mut moves = Moves::default();
    for object in tables_of(&sides.golden) {
        let Some(right) = table(&sides.golden, &object) else {
            continue;
        };
        let other = found_tables.iter().find(|other| {
            **other != object
                && !is_right(other)
                && table(&sides.found, other).is_some_and(|found| is_same(&found, &right))
        });
        let Some(other) = other else {
            continue;
        };
        let is_there = sides.found.contains_key(&("table", object.as_str(), ""));
        if is_right(&object) && (is_of_trail(&object) || !is_of_trail(other)) {
            moves.copies.push((other.clone(), object));
            continue;
        }
        if is_there {
            moves.in_the_way.push(object.clone());
        }
        moves.of_tables.push((other.clone(), object));
    }
    moves
}

/// Reports tables that are elsewhere, or in other tables' places.
fn tables(sides: &Sides<'_>, leaves: &[Leaf], explained: &mut Explained) -> Vec<Finding> {
    let Moves {
        of_tables: moves,
        in_the_way,
        copies,
    } = moves(sides, leaves);
    let mut findings = Vec::new();
    for (copy, of) in copies {
        findings.push(
            Finding::problem(
                "tables",
                &copy,
                format!("it has the columns of {of}, and is none of the trail's"),
            )
            .expected("one table of these columns")
            .explained(
                "Look which of both holds the rows of the trail, and give that one the name before \
                 you move the other away.",
            ),
        );
        explained.objects.insert(copy);
    }
    explained.is_exchanged = !in_the_way.is_empty();
    let (mut away, mut back) = (Vec::new(), Vec::new());
    for object in &in_the_way {
        if !moves.iter().any(|(from, _)| from == object) {
            let name = parts_of(sides, object).1;
            let name = name.trim_matches('"');
            away.push(format!(
                "ALTER TABLE {object} RENAME TO \"{name}_of_somebody_else\";"
            ));
        }
    }
    for (number, (from, to)) in moves.iter().enumerate() {
        let (schema, mut name) = parts_of(sides, from);
        let (right_schema, right_name) = to.split_once('.').unwrap_or_default();
        if explained.is_exchanged {
            name = format!("exchanged_{number}");
            away.push(format!("ALTER TABLE {from} RENAME TO {name};"));
        }
        if schema != right_schema {
            back.push(format!(
                "ALTER TABLE {schema}.{name} SET SCHEMA {right_schema};"
            ));
        }
        if name != right_name {
            back.push(format!(
                "ALTER TABLE {right_schema}.{name} RENAME TO {right_name};"
            ));
        }
        explained.objects.extend([from.clone(), to.clone()]);
    }
    if let Some((_, first)) = moves.first() {
        let finding = Finding::problem(
            "tables",
            first,
            format!("{}: nothing is written where it belongs", named(&moves)),
        )
        .expected("each under its name")
        .advice(in_one(&[away, back].concat()));
        findings.push(if explained.is_exchanged {
            finding.explained("What else is wrong with the tables is told when this is mended.")
        } else {
            finding
        });
    }
    findings
}

/// Lists the present names with the expected ones.
fn named(changes: &[(String, String)]) -> String {
    let told: Vec<String> = changes
        .iter()
        .map(|(from, to)| format!("{to} is named {from}"))
        .collect();
    told.join(", ")
}

/// Returns the schema and the name of an existing table, as written in a statement.
fn parts_of(sides: &Sides<'_>, object: &str) -> (String, String) {
    let fact = sides.found.get(&("table", object, ""));
    let parts = fact.and_then(|fact| serde_json::from_str(fact.change.as_deref()?).ok());
    parts.unwrap_or_default()
}

/// Reports columns that have other names, or each other's, going by their places.
fn columns(sides: &Sides<'_>, leaves: &[Leaf], explained: &mut Explained) -> Vec<Finding> {
    let mut changes_of: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for (key, golden) in &sides.golden {
        if let (Some(found), "columns") = (sides.found.get(key), golden.kind.as_str()) {
            let changes = renamed_columns(&places(golden), &places(found));
            if !changes.is_empty() {
                changes_of.insert(&golden.object, changes);
            }
        }
    }
    let mut findings = Vec::new();
    for (object, changes) in &changes_of {
        let names = changes
            .iter()
            .flat_map(|(from, to)| [from.clone(), to.clone()]);
        explained
            .columns
            .entry((*object).to_owned())
            .or_default()
            .extend(names);
        let leaf = leaves.iter().find(|leaf| leaf.name == **object);
        let parent = leaf.map(|leaf| format!("audit.{}", leaf.parent));
        // Renamed together with its table's columns.
        if parent
            .as_deref()
            .is_some_and(|parent| changes_of.contains_key(parent))
        {
            continue;
        }
        let mut statements = renames(changes, |from, to| {
            format!(
                "ALTER TABLE {object} RENAME COLUMN {} TO {};",
                quoted(from),
                quoted(to)
            )
        });
        // A partition's columns are named like its table's, as long as it is attached.
        if let (Some(leaf), Some(parent)) = (leaf, parent) {
            statements.insert(
                0,
                format!("ALTER TABLE {parent} DETACH PARTITION {object};"),
            );
            statements.push(leaf.attach());
        }
        findings.push(
            Finding::problem("columns", *object, format!("columns were renamed: {}", named(changes)))
                .expected("the columns of the migrations, in their places")
                .advice(in_one(&statements))
                .explained("Look at some values first: this assumes that the columns are still in the order of the migrations."),
        );
    }
    findings
}

/// Returns pairs `(is, should be)` of names among columns of the same type. Columns in a different
/// order, as after one was recreated and everything restored, do not count as renamed.
fn renamed_columns(right: &[Option<Column>], found: &[Option<Column>]) -> Vec<(String, String)> {
    let pairs = || right.iter().flatten().zip(found);
    let type_of = |name: &str| {
        found
            .iter()
            .flatten()
            .find(|(other, _)| other == name)
            .map(|(_, kind)| kind)
    };
    let are_all_there = right
        .iter()
        .flatten()
        .all(|(name, kind)| type_of(name) == Some(kind));
    let is_other_order =
        pairs().any(|((_, kind), found)| found.as_ref().is_none_or(|(_, other)| other != kind));
    if are_all_there && is_other_order {
        return Vec::new();
    }
    let mut changes: Vec<(String, String)> = pairs()
        .filter_map(|((name, kind), found)| {
            let (is, other) = found.as_ref()?;
            (is != name && other == kind).then(|| (is.clone(), name.clone()))
        })
        .collect();
    // A column beyond those of the migrations gives up its name; a name that any other column holds
    // cannot be given.
    let beyond: Vec<&str> = found
        .iter()
        .skip(right.len())
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    changes.retain(|(_, to)| {
        let holder = found.iter().flatten().any(|(name, _)| name == to);
        !holder
            || beyond.contains(&to.as_str())
            || pairs().any(|((_, kind), found)| {
                found
                    .as_ref()
                    .is_some_and(|(is, other)| is == to && other == kind)
            })
    });
    // One of our names stands elsewhere only if another name has its place; otherwise the columns
    // after a dropped one have moved up.
    loop {
        let before = changes.len();
        let given: BTreeSet<String> = changes.iter().map(|(_, to)| to.clone()).collect();
        changes.retain(|(from, _)| {
            given.contains(from) || !right.iter().flatten().any(|(name, _)| name == from)
        });
        if changes.len() == before {
            break;
        }
    }
    for name in beyond {
        if changes.iter().any(|(_, to)| to == name) {
            changes.push((name.to_owned(), format!("{name}_of_somebody_else")));
        }
    }
    changes
}

/// Returns the columns in a fact's shape by place; `None` for a dropped one.
fn places(fact: &Fact) -> Vec<Option<Column>> {
    fact.shape
        .as_deref()
        .and_then(|shape| serde_json::from_str(shape).ok())
        .unwrap_or_default()
}

/// Checks the labels of `audit.run_status`. An additional one does not affect stored rows; a
/// missing one was renamed.
fn labels(sides: &Sides<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, golden) in &sides.golden {
        let (Some(found), "labels") = (sides.found.get(key), golden.kind.as_str()) else {
            continue;
        };
        if golden.shape == found.shape {
            continue;
        }
        let list = |fact: &Fact| -> Vec<String> {
            fact.shape
                .as_deref()
                .and_then(|shape| serde_json::from_str(shape).ok())
                .unwrap_or_default()
        };
        let (right, names) = (list(golden), list(found));
        let said = names.join(", ");
        let is_complete = right.iter().all(|label| names.contains(label));
        let finding = if is_complete && names.len() > right.len() {
            Finding::warning("columns", &golden.object, said)
                .explained("A value of a type cannot be taken away. Nothing in the trail uses it.")
        } else {
            let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
            let changes: Vec<(String, String)> = if names.len() == right.len() {
                let pairs = names.into_iter().zip(right.clone());
                pairs.filter(|(is, should)| is != should).collect()
            } else {
                Vec::new()
            };
            let statements = renames(&changes, |from, to| {
                format!(
                    "ALTER TYPE {} RENAME VALUE {} TO {};",
                    golden.object,
                    literal(from),
                    literal(to)
                )
            });
            let finding =
                Finding::problem("columns", &golden.object, said).advice(in_one(&statements));
            if changes.is_empty() {
                finding.explained("Values were renamed or lack, and others were added: rename those that stand for ours.")
            } else {
                finding
            }
        };
        findings.push(finding.expected(right.join(", ")));
    }
    findings
}

/// Reports constraints, policies and triggers that exist under another name.
fn parts(sides: &Sides<'_>, explained: &mut Explained) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, golden) in &sides.golden {
        let (kind, object, name) = *key;
        if !["constraint", "policy", "trigger"].contains(&kind) || sides.found.contains_key(key) {
            continue;
        }
        let body = body_of(golden, name);
        let renamed = sides.found.iter().find(|(other, found)| {
            other.0 == kind
                && other.1 == object
                && !sides.golden.contains_key(*other)
                && body.is_some()
                && body_of(found, &quoted_name(found)) == body
        });
        let Some((other, found)) = renamed else {
            continue;
        };
        let is = quoted_name(found);
        let statement = match kind {
            "constraint" => format!("ALTER TABLE {object} RENAME CONSTRAINT {is} TO {name};"),
            kind => format!(
                "ALTER {} {is} ON {object} RENAME TO {name};",
                kind.to_uppercase()
            ),
        };
        for (kind, object, name) in [*key, *other] {
            explained
                .facts
                .insert((kind.to_owned(), object.to_owned(), name.to_owned()));
        }
        let check = match kind {
            "constraint" => "constraints",
            "policy" => "policies",
            _ => "triggers",
        };
        findings.push(
            Finding::problem(
                check,
                object,
                format!("{kind} {name} was renamed to {}", other.2),
            )
            .expected(name)
            .advice(statement),
        );
    }
    findings
}

/// Returns the quoted name of a part, taken from the statement that removes it.
fn quoted_name(fact: &Fact) -> String {
    let undo = fact.undo.as_deref().unwrap_or_default();
    let rest = ["DROP CONSTRAINT ", "DROP POLICY ", "DROP TRIGGER "]
        .iter()
        .find_map(|words| undo.split_once(words))
        .map_or("", |(_, rest)| rest);
    let on = format!(" ON {};", fact.object);
    rest.strip_suffix(&on)
        .or_else(|| rest.strip_suffix(';'))
        .unwrap_or(rest)
        .to_owned()
}

/// Returns what follows the name in the statement that creates it.
fn body_of(fact: &Fact, name: &str) -> Option<String> {
    let made = match fact.kind.as_str() {
        // Whether it is enabled is checked separately.
        "trigger" => fact.shape.as_deref()?,
        _ => fact.statement.as_deref()?,
    };
    let begin = match fact.kind.as_str() {
        "constraint" => format!("ALTER TABLE {} ADD CONSTRAINT {name} ", fact.object),
        kind => format!("CREATE {} {name} ", kind.to_uppercase()),
    };
    made.strip_prefix(&begin).map(str::to_owned)
}

/// Reports functions in the trail's schemas that exist under another name.
fn functions(sides: &Sides<'_>, explained: &mut Explained) -> Vec<Finding> {
    let body = |fact: &Fact| {
        let statement = fact.statement.as_deref()?;
        statement.split_once('(').map(|(_, rest)| rest.to_owned())
    };
    let mut findings = Vec::new();
    for (key, golden) in &sides.golden {
        if key.0 != "function" || sides.found.contains_key(key) {
            continue;
        }
        let renamed = sides.found.iter().find(|(other, found)| {
            other.0 == "function"
                && !sides.golden.contains_key(*other)
                && body(found) == body(golden)
        });
        let (Some((other, _)), Some((name, _))) = (renamed, golden.object.split_once('(')) else {
            continue;
        };
        let bare = name.split_once('.').map_or(name, |(_, bare)| bare);
        explained
            .objects
            .extend([golden.object.clone(), other.1.to_owned()]);
        explained.functions.insert(
            other
                .1
                .split_once('(')
                .map_or(other.1, |(name, _)| name)
                .to_owned(),
        );
        findings.push(
            Finding::problem(
                "functions",
                &golden.object,
                format!("it was renamed to {}", other.1),
            )
            .expected(&golden.object)
            .advice(format!("ALTER FUNCTION {} RENAME TO {bare};", other.1)),
        );
    }
    findings
}

/// Reports a view under another name, or with renamed columns.
fn views(sides: &Sides<'_>, explained: &mut Explained) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, golden) in &sides.golden {
        if key.0 != "view" {
            continue;
        }
        let object = golden.object.as_str();
        let Some(found) = sides.found.get(key) else {
            let renamed = sides.found.iter().find(|(other, found)| {
                other.0 == "view"
                    && found.shape == golden.shape
                    && !sides.golden.contains_key(*other)
            });
            if let (Some((other, _)), Some((_, bare))) = (renamed, object.split_once('.')) {
                explained
                    .objects
                    .extend([object.to_owned(), other.1.to_owned()]);
                findings.push(
                    Finding::problem("view", object, format!("it was renamed to {}", other.1))
                        .expected(object)
                        .advice(format!("ALTER VIEW {} RENAME TO {bare};", other.1)),
                );
            }
            continue;
        };
        let (right, is) = (places(golden), places(found));
        let changes = renamed_columns(&right, &is);
        if right.len() != is.len() || changes.is_empty() {
            continue;
        }
        explained
            .facts
            .insert(("view".to_owned(), object.to_owned(), String::new()));
        let statements = renames(&changes, |from, to| {
            format!(
                "ALTER VIEW {object} RENAME COLUMN {} TO {};",
                quoted(from),
                quoted(to)
            )
        });
        findings.push(
            Finding::problem(
                "view",
                object,
                format!("columns were renamed: {}", named(&changes)),
            )
            .expected("the columns of the migrations")
            .advice(in_one(&statements)),
        );
    }
    findings
}

#[cfg(test)]
#[path = "renamed_tests.rs"]
mod tests;
