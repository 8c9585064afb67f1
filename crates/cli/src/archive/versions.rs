//! The versions of an archive's objects in a bucket, on which the locks are.

use std::future::ready;

use futures_util::{StreamExt as _, stream};
use tracing_audit::__program::Table;
use tracing_audit::__program::seal::Bucket;
use tracing_audit::__program::seal::lock::Version;

use crate::complain;
use crate::error::Error;

/// How many versions are asked about at once.
const AT_ONCE: usize = 16;

/// The day of a table to which an object belongs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct OfDay {
    pub(super) kind: String,
    pub(super) day: String,
}

impl OfDay {
    /// Reads it from an object's name; `None`: it is none of an archive.
    pub(super) fn of(name: &str) -> Option<Self> {
        let mut parts = name.split('/');
        let kind = parts.next()?.strip_prefix("kind=")?;
        let month = parts.next()?.strip_prefix("month=")?;
        let day = parts.next()?.strip_prefix("day=")?;
        let is_table = Table::ALL.iter().any(|table| table.name() == kind);
        let is_day = humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).is_ok();
        let is_object = parts.next().is_some_and(|file| !file.is_empty());
        (is_table && is_day && day.get(..7) == Some(month) && is_object).then(|| Self {
            kind: kind.to_owned(),
            day: day.to_owned(),
        })
    }

    /// Whether it is of one of the kinds, if there are any, and of the month, if there is one.
    pub(super) fn is_of(&self, kinds: &[String], month: Option<&str>) -> bool {
        (kinds.is_empty() || kinds.contains(&self.kind))
            && month.is_none_or(|month| self.day.get(..7) == Some(month))
    }
}

/// Does something with each version, and returns what came of it. What fails is told, with the object's name; also returns how
/// many did.
pub(super) async fn each<'a, T, F: Future<Output = Result<T, Error>>>(
    bucket: &'a Bucket,
    versions: Vec<(OfDay, Version)>,
    doing: impl Fn(&'a Bucket, OfDay, Version) -> F,
) -> (Vec<T>, usize) {
    let all = versions.len();
    let done = stream::iter(versions)
        .map(|(of, version)| doing(bucket, of, version))
        .buffer_unordered(AT_ONCE)
        .filter_map(|done| {
            // It has the name of its object.
            ready(done.map_err(|error| complain(&error.to_string())).ok())
        });
    let done: Vec<T> = done.collect().await;
    let failed = all - done.len();
    (done, failed)
}

/// Returns the versions of the objects of an archive.
pub(super) async fn of_archive(
    bucket: &Bucket,
    kinds: &[String],
    month: Option<&str>,
) -> Result<Vec<(OfDay, Version)>, Error> {
    let prefixes: Vec<String> = match kinds {
        [] => vec![String::new()],
        kinds => kinds
            .iter()
            .map(|kind| match month {
                Some(month) => format!("kind={kind}/month={month}/"),
                None => format!("kind={kind}/"),
            })
            .collect(),
    };
    let mut found = Vec::new();
    for prefix in prefixes {
        let versions = bucket.versions(&prefix).await.map_err(Error::Bucket)?;
        found.extend(versions.into_iter().filter_map(|version| {
            let of = OfDay::of(&version.name)?;
            of.is_of(kinds, month).then_some((of, version))
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn day_is_read_from_a_name() {
        let of = OfDay::of("kind=events/month=2026-09/day=2026-09-14/_0001.manifest").unwrap();
        assert_eq!(
            (of.kind.as_str(), of.day.as_str()),
            ("events", "2026-09-14")
        );
        assert!(of.is_of(&[], None) && of.is_of(&[String::from("events")], Some("2026-09")));
        assert!(!of.is_of(&[String::from("query_runs")], None));
        assert!(!of.is_of(&[], Some("2026-10")));
        for name in [
            "",
            "checkpoint",
            "kind=other/month=2026-09/day=2026-09-14/a",
            "kind=events/month=2026-10/day=2026-09-14/a",
            "kind=events/month=2026-02/day=2026-02-30/a",
            "kind=events/month=2026-09/day=2026-09-14",
            "kind=events/month=2026-09/day=2026-09-14/",
            "kind=events/month=2026-09/day='; DROP TABLE a/a",
        ] {
            assert_eq!(OfDay::of(name), None, "{name}");
        }
    }
}
