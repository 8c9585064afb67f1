//! A fact that is not the same in the database and in the golden file.

use std::collections::{BTreeSet, HashMap};

use super::snapshot::Fact;

/// Facts by what each is about: its kind, object and name.
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

/// A fact that is not the same on both sides.
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
            // One side is there, or there would be no difference.
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

    /// Whether its text names one of these.
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

/// What the name of a privilege says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Privilege {
    /// As a statement writes it; none is the owner.
    pub(crate) grantee: Option<String>,
    /// With the columns, if it is of some.
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

    /// Whether it lets somebody make foreign keys, and nothing else.
    pub(crate) fn is_for_foreign_keys(&self) -> bool {
        self.what.starts_with("REFERENCES")
            && ![None, Some("PUBLIC")].contains(&self.grantee.as_deref())
    }
}
