//! Builds the statements that repair a fact, from what Postgres wrote for both sides.

use super::difference::{Difference, How, Privilege};
use super::snapshot::Fact;

/// Returns the statement that repairs a fact.
pub(crate) fn mending(difference: &Difference, golden: &[Fact], found: &[Fact]) -> Option<String> {
    let fact = difference.fact();
    let of_object = || golden.iter().filter(|other| other.object == fact.object);
    match (difference.how, &difference.golden, &difference.found) {
        (How::Missing, Some(golden), _) if golden.kind == "object" => whole(of_object().collect()),
        (How::Missing, Some(golden), _) if golden.kind == "column" => {
            let of_column =
                of_object().filter(|other| other.name == golden.name && other.is_of_columns());
            Some(
                of_column
                    .filter_map(|other| other.statement.as_deref())
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        }
        (How::Missing, Some(golden), _) => golden.statement.clone(),
        (How::Changed, Some(golden), Some(now)) => {
            if golden.shape.is_some() && golden.shape == now.shape {
                return golden.change.clone().or_else(|| golden.statement.clone());
            }
            let undo = now.undo.as_deref()?;
            let make = if ["function", "view"].contains(&golden.kind.as_str()) {
                whole(of_object().collect())?
            } else {
                golden.statement.clone()?
            };
            Some(format!("{undo}\n{make}"))
        }
        (How::Extra, _, Some(now)) => {
            if now.kind == "column" && is_demanded(now, found) {
                let not_null = found.iter().find(|other| {
                    other.kind == "column not null"
                        && other.object == now.object
                        && other.name == now.name
                });
                return not_null.and_then(|fact| fact.undo.clone());
            }
            now.undo.clone()
        }
        _ => None,
    }
}

/// Returns the statements that create a missing object; `None` for a table, whose rows are
/// elsewhere.
fn whole(mut facts: Vec<&Fact>) -> Option<String> {
    if facts
        .iter()
        .any(|fact| ["table", "sequence", "labels"].contains(&fact.kind.as_str()))
    {
        return None;
    }
    let rank = |fact: &Fact| match fact.kind.as_str() {
        "object" => 0,
        "function" | "view" => 1,
        "owner" => 2,
        _ => 3,
    };
    facts.sort_by_key(|fact| rank(fact));
    let mut statements = Vec::new();
    for fact in facts {
        let (Some(statement), false) = (
            &fact.statement,
            fact.kind == "privilege" && Privilege::of(fact).grantee.is_none(),
        ) else {
            continue;
        };
        statements.push(statement.clone());
        if fact.kind == "function" {
            // Postgres grants everybody the right to call a new function.
            statements.push(format!(
                "REVOKE ALL ON ROUTINE {} FROM PUBLIC;",
                fact.object
            ));
        }
    }
    (!statements.is_empty()).then(|| statements.join("\n"))
}

/// Returns what to know about the statement, or what to do without one.
pub(crate) fn explanation(difference: &Difference, has_no_statement: bool) -> &'static str {
    match (difference.kind(), difference.how) {
        ("object", How::Missing) if has_no_statement => {
            "Bring it back from a backup. What it held is not in the trail."
        }
        ("table", _) => "Bring the table back from a backup: it is not what the migrations make.",
        ("column", How::Missing) => {
            "What the column held is not in the trail: look for it in a backup."
        }
        ("column", How::Extra) => "What the column holds goes with it: keep it elsewhere first.",
        ("noted values", _) => {
            "For a superuser; before, ANALYZE must be kept from noting them again."
        }
        _ if has_no_statement => "Look who has done it, and what for.",
        _ => "",
    }
}

/// Whether somebody else's column demands a value from every insert.
pub(crate) fn is_demanded(column: &Fact, found: &[Fact]) -> bool {
    let has = |kind: &str| {
        found.iter().any(|fact| {
            fact.kind == kind && fact.object == column.object && fact.name == column.name
        })
    };
    has("column not null")
        && !has("column default")
        && !has("column identity")
        && !has("column generated")
}
