//! A fact that is not the same in the database and in the golden file.

use std::collections::BTreeSet;

use super::snapshot::Fact;

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
    pub(crate) fn mentions(&self, names: &BTreeSet<&str>) -> bool {
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

/// Whether it lets somebody make foreign keys, and nothing else.
pub(crate) fn is_for_foreign_keys(difference: &Difference) -> bool {
    let fact = difference.fact();
    difference.how == How::Extra
        && grantee(fact) != "PUBLIC"
        && fact.name[grantee(fact).len()..].starts_with(" REFERENCES")
}

/// Who has, or had, a privilege.
pub(crate) fn grantee(fact: &Fact) -> &str {
    let end = fact
        .name
        .find(" GRANT OPTION FOR ")
        .or_else(|| {
            fact.name
                .split_once(" (")
                .map_or(fact.name.as_str(), |(before, _)| before)
                .rfind(' ')
        })
        .unwrap_or(fact.name.len());
    &fact.name[..end]
}
