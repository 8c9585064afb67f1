//! Reads the findings that somebody has reviewed and accepted, from a file with a reason for each.

use std::path::Path;

use serde_json::Value;

use super::finding::{Finding, Severity};
use crate::error::Error;

/// An accepted finding. Without `found` it matches whatever the check found.
#[derive(Debug)]
pub(crate) struct Accepted {
    check: String,
    object: String,
    found: Option<String>,
    reason: String,
}

impl Accepted {
    /// Parses an entry; other fields that `doctor --json` prints are ignored.
    fn read(entry: &Value) -> Result<Self, String> {
        let text = |name: &str| entry[name].as_str().map(str::to_owned);
        let needed = |name: &str| {
            text(name)
                .filter(|text| !text.trim().is_empty())
                .ok_or_else(|| format!("has no {name}"))
        };
        Ok(Self {
            check: needed("check")?,
            object: needed("object")?,
            found: text("found"),
            reason: needed("reason")?,
        })
    }

    fn is_of(&self, finding: &Finding) -> bool {
        self.check == finding.check
            && self.object == finding.object
            && self
                .found
                .as_ref()
                .is_none_or(|found| *found == finding.found)
    }
}

/// Reads a file of accepted findings: a JSON array.
pub(crate) fn read(path: &Path) -> Result<Vec<Accepted>, Error> {
    let failed = |why: String| Error::Accepted {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let entries: Vec<Value> =
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    entries
        .iter()
        .zip(1..)
        .map(|(entry, number)| {
            Accepted::read(entry).map_err(|why| failed(format!("entry {number} {why}")))
        })
        .collect()
}

/// Marks the accepted findings, and returns a warning for each entry that no finding matches.
pub(crate) fn apply<'f>(
    accepted: &[Accepted],
    findings: impl Iterator<Item = &'f mut Finding>,
) -> Vec<Finding> {
    let mut used = vec![false; accepted.len()];
    for finding in findings.filter(|finding| finding.severity != Severity::Ok) {
        for (one, used) in accepted.iter().zip(&mut used) {
            if one.is_of(finding) {
                *used = true;
                finding.accepted.get_or_insert_with(|| one.reason.clone());
            }
        }
    }
    accepted
        .iter()
        .zip(used)
        .filter(|(_, used)| !used)
        .map(|(one, _)| {
            Finding::warning(
                "accepted",
                &one.object,
                format!("what was accepted of check {} is not found", one.check),
            )
            .expected("no acceptance of what is not there")
            .explained("Take the entry out of the file, so that it hides nothing that comes later.")
        })
        .collect()
}
