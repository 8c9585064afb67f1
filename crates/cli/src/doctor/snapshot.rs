//! Reads the trail's parts as facts of the catalog: those of the database, and those that the
//! migrations create.

use std::fmt::Write as _;

use serde_json::Value;

use super::look::{Answer, Look};
use super::partitions::Leaf;

/// The facts that the migrations create, by the first major version of Postgres for which they
/// hold; `scripts/golden` writes them.
const GOLDEN: [(i32, &str); 2] = [
    (15, include_str!("golden/15.sql")),
    (17, include_str!("golden/17.sql")),
];

/// The newest version of Postgres whose facts are known.
pub(crate) const NEWEST: i32 = 18;

/// The prefix of the line before a fact's statement.
const HEADING: &str = "--@ ";

/// Placeholders in the golden file: what is a month's in the name of a partition, its first moment and
/// the one after it.
const SPAN: (&str, &str, &str) = ("YYYY_MM", "{from}", "{to}");

/// A fact of the catalog: see `snapshot.sql`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) kind: String,
    pub(crate) object: String,
    pub(crate) name: String,
    pub(crate) statement: Option<String>,
    pub(crate) shape: Option<String>,
    pub(crate) change: Option<String>,
    /// Only for facts of the database.
    pub(crate) undo: Option<String>,
}

impl Fact {
    /// Whether it is about a table's columns, which a partition shares with its table.
    pub(crate) fn is_of_columns(&self) -> bool {
        self.kind.starts_with("column")
    }

    fn replaced(&self, replacements: &[(String, String)]) -> Self {
        let replace = |text: &str| {
            let mut text = text.to_owned();
            for (from, to) in replacements {
                text = text.replace(from, to);
            }
            text
        };
        let replace_some = |text: &Option<String>| text.as_deref().map(replace);
        Self {
            kind: self.kind.clone(),
            object: replace(&self.object),
            name: replace(&self.name),
            statement: replace_some(&self.statement),
            shape: replace_some(&self.shape),
            change: replace_some(&self.change),
            undo: replace_some(&self.undo),
        }
    }
}

/// Returns the facts of the database.
pub(crate) async fn read(look: &mut Look<'_>) -> Result<Vec<Fact>, sqlx::Error> {
    type Row = (
        String,
        String,
        String,
        Option<String>,
        Option<String>,
        Option<String>,
        Option<String>,
    );
    let rows: Vec<Row> = look.rows(include_str!("snapshot.sql")).await?;
    Ok(rows
        .into_iter()
        .map(
            |(kind, object, name, statement, shape, change, undo)| Fact {
                kind,
                object,
                name,
                statement,
                shape,
                change,
                undo,
            },
        )
        .collect())
}

/// Statistics of values that ANALYZE stored, and that stay after it is kept from storing more; only
/// a superuser may see them.
const NOTED: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), a.attname::text,
        format('DELETE FROM pg_catalog.pg_statistic WHERE starelid = %L::pg_catalog.regclass AND staattnum = %s;',
            format('%I.%I', n.nspname, c.relname), a.attnum)
    FROM pg_statistic s JOIN pg_class c ON c.oid = s.starelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = s.starelid AND a.attnum = s.staattnum
    WHERE n.nspname IN ('audit', 'audit_parts') AND a.attstattarget = 0";

/// Returns the statistics of values that ANALYZE stored before it was kept from it, as facts.
pub(crate) async fn noted_values(look: &mut Look<'_>) -> Result<Vec<Fact>, sqlx::Error> {
    let Answer::Rows(rows) = look
        .rows_of_table::<(String, String, String)>(NOTED)
        .await?
    else {
        return Ok(Vec::new());
    };
    Ok(rows
        .into_iter()
        .map(|(object, name, undo)| Fact {
            kind: "noted values".to_owned(),
            object,
            name,
            statement: None,
            shape: None,
            change: None,
            undo: Some(undo),
        })
        .collect())
}

/// Returns the facts that a database with these partitions must have.
pub(crate) fn expected(major: i32, leaves: &[&Leaf]) -> Vec<Fact> {
    let golden = golden(major);
    let (of_leaves, mut facts): (Vec<Fact>, Vec<Fact>) = golden
        .into_iter()
        .partition(|fact| fact.object.starts_with("audit_parts."));
    let mut of_partitions = Vec::new();
    for leaf in leaves {
        let Some(span) = &leaf.span else {
            continue;
        };
        let model = format!(
            "{}_{}",
            leaf.parent,
            if span.is_default() { "default" } else { SPAN.0 }
        );
        let replacements = [
            (format!("audit_parts.{model}"), leaf.name.clone()),
            (model, leaf.right_name()),
            (SPAN.1.to_owned(), span.from.clone()),
            (SPAN.2.to_owned(), span.to.clone()),
        ];
        of_partitions.extend(
            of_leaves
                .iter()
                .filter(|fact| fact.object == replacements[0].0)
                .map(|fact| fact.replaced(&replacements)),
        );
        let parent = format!("audit.{}", leaf.parent);
        of_partitions.extend(
            facts
                .iter()
                .filter(|fact| fact.object == parent && fact.is_of_columns())
                .map(|fact| fact.replaced(&[(parent.clone(), leaf.name.clone())])),
        );
    }
    facts.extend(of_partitions);
    facts
}

/// Returns the golden facts of a version.
fn golden(major: i32) -> Vec<Fact> {
    let of_version = GOLDEN.iter().rev().find(|(from, _)| *from <= major);
    parse(of_version.unwrap_or(&GOLDEN[0]).1)
}

fn parse(text: &str) -> Vec<Fact> {
    text.split(HEADING).skip(1).filter_map(parse_fact).collect()
}

fn parse_fact(text: &str) -> Option<Fact> {
    let (heading, statement) = text.split_once('\n')?;
    let heading: Vec<Option<String>> = serde_json::from_str(heading).ok()?;
    let mut heading = heading.into_iter();
    let statement = statement.trim_end_matches('\n');
    Some(Fact {
        kind: heading.next()??,
        object: heading.next()??,
        name: heading.next()??,
        shape: heading.next()?,
        change: heading.next()?,
        statement: (!statement.is_empty()).then(|| statement.to_owned()),
        undo: None,
    })
}

/// Returns the golden file of a freshly migrated database: of the partitions, one month's and the
/// default one stand for all.
pub(crate) fn write(facts: &[Fact], leaves: &[&Leaf]) -> String {
    let mut text = String::new();
    for fact in facts {
        let leaf = leaves.iter().find(|leaf| leaf.name == fact.object);
        if leaf.is_some_and(|leaf| fact.is_of_columns() || !is_model(leaf, leaves)) {
            continue;
        }
        let replacements: Vec<(String, String)> = leaf
            .and_then(|leaf| leaf.span.as_ref())
            .filter(|span| !span.is_default())
            .map(|span| {
                vec![
                    (format!("_{}", span.name), format!("_{}", SPAN.0)),
                    (span.from.clone(), SPAN.1.to_owned()),
                    (span.to.clone(), SPAN.2.to_owned()),
                ]
            })
            .unwrap_or_default();
        let fact = fact.replaced(&replacements);
        let heading = Value::from(vec![
            Value::from(fact.kind),
            Value::from(fact.object),
            Value::from(fact.name),
            Value::from(fact.shape),
            Value::from(fact.change),
        ]);
        let _ = writeln!(text, "{HEADING}{heading}");
        if let Some(statement) = fact.statement {
            let _ = writeln!(text, "{}", statement.trim_end_matches('\n'));
        }
    }
    text
}

/// Whether it is the first month of its table, or the default partition.
fn is_model(leaf: &Leaf, leaves: &[&Leaf]) -> bool {
    let is_default = |leaf: &Leaf| {
        leaf.span
            .as_ref()
            .is_some_and(super::partitions::Span::is_default)
    };
    is_default(leaf)
        || leaves
            .iter()
            .filter(|other| other.parent == leaf.parent && !is_default(other))
            .all(|other| leaf.name <= other.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_golden_file_round_trips() {
        for (version, text) in GOLDEN {
            let facts = parse(text);
            assert_eq!(
                facts.len(),
                text.lines()
                    .filter(|line| line.starts_with(HEADING))
                    .count(),
                "{version}"
            );
            assert_eq!(write(&facts, &[]), text, "{version}");
            assert!(
                facts
                    .iter()
                    .any(|fact| fact.kind == "trigger"
                        && fact.object == "audit_parts.events_YYYY_MM"),
                "{version}"
            );
        }
    }
}
