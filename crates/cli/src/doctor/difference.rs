//! A fact that differs between the database and the golden file.

use std::collections::{BTreeSet, HashMap};

use super::snapshot::Fact;

/// Facts by kind, object and name.
pub(crate) type Facts<'f> = HashMap<(&'f str, &'f str, &'f str), &'f Fact>;

/// The facts of both sides.
#[derive(Debug)]
pub(crate) struct Sides<'f> {
    pub(crate) golden: Facts<'f>,
    pub(crate) found: Facts<'f>,
}

pub(crate) fn by_key(facts: &[Fact]) -> Facts<'_> {
    facts
        .iter()
        .map(|fact| {
            let key = (fact.kind.as_str(), fact.object.as_str(), fact.name.as_str());
            (key, fact)
        })
        .collect()
}

/// How a fact differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    Missing,
    Changed,
    Extra,
}

/// A fact that differs between the two sides.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) how: How,
    pub(crate) golden: Option<Fact>,
    pub(crate) found: Option<Fact>,
}

impl Difference {
    pub(crate) fn fact(&self) -> &Fact {
        match (&self.golden, &self.found) {
            (Some(fact), _) | (None, Some(fact)) => fact,
            // One side exists, or there would be no difference.
            (None, None) => unreachable!("a difference of nothing"),
        }
    }

    pub(crate) fn kind(&self) -> &str {
        &self.fact().kind
    }

    pub(crate) fn found_statement(&self) -> &str {
        self.found
            .as_ref()
            .and_then(|fact| fact.statement.as_deref())
            .unwrap_or_default()
    }

    pub(crate) fn golden_statement(&self) -> &str {
        self.golden
            .as_ref()
            .and_then(|fact| fact.statement.as_deref())
            .unwrap_or_default()
    }

    /// Whether its text contains one of these names.
    pub(crate) fn mentions(&self, names: &BTreeSet<String>) -> bool {
        [&self.golden, &self.found]
            .into_iter()
            .flatten()
            .any(|fact| {
                names.contains(fact.name.as_str())
                    || [
                        fact.name.as_str(),
                        fact.statement.as_deref().unwrap_or_default(),
                    ]
                    .iter()
                    .flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'))
                    .any(|word| names.contains(word))
            })
    }
}

/// A privilege, parsed from the name of its fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Privilege {
    /// As a statement writes it; `None` for the owner.
    pub(crate) grantee: Option<String>,
    /// Includes the columns, if it applies to some only.
    pub(crate) what: String,
}

impl Privilege {
    pub(crate) fn of(fact: &Fact) -> Self {
        let parts: Vec<Option<String>> = serde_json::from_str(&fact.name).unwrap_or_default();
        let mut parts = parts.into_iter();
        Self {
            grantee: parts.next().flatten(),
            what: parts.flatten().collect(),
        }
    }

    pub(crate) fn grantee(&self) -> &str {
        self.grantee.as_deref().unwrap_or("its owner")
    }

    /// Whether it only lets the grantee create foreign keys.
    pub(crate) fn is_for_foreign_keys(&self) -> bool {
        self.what.starts_with("REFERENCES")
            && ![None, Some("PUBLIC")].contains(&self.grantee.as_deref())
    }
}
