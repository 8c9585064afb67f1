//! Finds the records of a request, or one record, in an archive.
//!
//! **It reads no more of the files than it needs**: the manifests of the days, of each file its footer, and the bloom filters on
//! `request_id` of the groups of rows that may have one by their least and greatest id; of a group that may have one by its filter the column
//! that is asked for, and of the rows that are found the pages in which they are. What is needed next is read at once.
//!
//! The signature of each manifest is verified. Whether the files are those that the manifest names is not: that takes reading them whole
//! ([`SetReader`](super::set_reader::SetReader)).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::spawn_blocking;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::day_of;
use tracing_audit::__program::ledger::key::Vkey;

use super::failure::ArchiveError;
use super::look::{Wanted, look};
use super::manifest::{self, Manifest};
use super::names::{DayOf, Object, Part, date_text};
use super::place::Place;
use super::ranges::Ranges;
use super::rows::Picked;
use super::set_reader::joined;
use crate::error::Error;

/// How many objects are read at once.
pub(super) const AT_ONCE: usize = 8;

/// A record that was found.
#[derive(Debug)]
pub(crate) struct Archived {
    pub(crate) table: Table,
    pub(crate) picked: Picked,
    /// The manifest of its set.
    pub(crate) manifest: Object,
}

/// What was found, and where it was looked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Archived>,
    /// The manifests of all sets that may have some, as they say themselves.
    pub(super) sets: Vec<Object>,
}

/// Looks into the sets of these days, counted from 1970-01-01.
pub(super) async fn find(
    place: &Arc<Place>,
    keys: &[Vkey],
    wanted: &Wanted,
    days: RangeInclusive<u32>,
) -> Result<Found, Error> {
    let days = match wanted {
        Wanted::Record(id) => {
            let day = day_of(id.as_u128());
            day.max(*days.start())..=day.min(*days.end())
        }
        Wanted::Request(_) => days,
    };
    // What waits for a bucket waits for several of its answers at once.
    let manifests = stream::iter(manifests(place, &Table::ALL, &days).await?);
    let mut sets = manifests
        .map(|manifest| signed(place, keys, manifest))
        .buffered(AT_ONCE);
    let (mut found, mut files) = (Found::default(), Vec::new());
    while let Some((object, signed)) = sets.try_next().await? {
        let before = files.len();
        for file in signed.iter().flat_map(|signed| &signed.files) {
            let may_have = match wanted {
                Wanted::Record(id) => (file.ids.0..=file.ids.1).contains(id),
                Wanted::Request(_) => true,
            };
            if may_have {
                files.push((object, file.part(), file.content.bytes, file.rows));
            }
        }
        if files.len() > before {
            found.sets.push(object);
        }
    }
    let mut looked = stream::iter(files)
        .map(|(manifest, part, length, rows)| {
            let name = manifest.of.name(manifest.set, part);
            let ranges = Ranges::new(place, name.clone(), length);
            let (table, wanted) = (manifest.of.table, wanted.clone());
            async move {
                let picked = spawn_blocking(move || look(table, ranges, &wanted, rows)).await;
                let picked = joined(picked).map_err(|why| ArchiveError::Broken {
                    object: name,
                    why: why.to_string(),
                })?;
                Ok::<_, Error>((manifest, picked))
            }
        })
        .buffered(AT_ONCE);
    while let Some((manifest, picked)) = looked.try_next().await? {
        let table = manifest.of.table;
        found
            .records
            .extend(picked.into_iter().map(|picked| Archived {
                table,
                picked,
                manifest,
            }));
    }
    Ok(found)
}

/// Reads a manifest, if it is still there. The log must have signed it.
pub(super) async fn signed(
    place: &Place,
    keys: &[Vkey],
    manifest: Object,
) -> Result<(Object, Option<Manifest>), Error> {
    let name = manifest.name();
    let most = manifest::MOST_BYTES as u64;
    let Some(bytes) = place.get(&name, most).await? else {
        return Ok((manifest, None));
    };
    let signed = Manifest::verify(&bytes, keys)
        .ok()
        .filter(|signed| (signed.of, signed.set) == (manifest.of, manifest.set))
        .ok_or(ArchiveError::NotSigned(name))?;
    Ok((manifest, Some(signed)))
}

/// Returns the manifests of these days of these tables.
pub(super) async fn manifests(
    place: &Place,
    tables: &[Table],
    days: &RangeInclusive<u32>,
) -> Result<Vec<Object>, Error> {
    let mut found = BTreeMap::new();
    for table in tables {
        for prefix in prefixes(*table, days) {
            for (name, _) in place.list(&prefix).await? {
                let object = Object::parse(&name).filter(|object| {
                    object.part == Part::Manifest && days.contains(&object.of.day)
                });
                if let Some(object) = object {
                    found.insert(name, object);
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Returns the folders in which objects of these days are: the days, if they are few, or else all of the table.
fn prefixes(table: Table, days: &RangeInclusive<u32>) -> Vec<String> {
    const FEW: usize = 62;
    let of_day = |day| DayOf { table, day };
    if days.clone().take(FEW + 1).count() > FEW {
        return vec![format!("kind={}/", table.name())];
    }
    let mut months: Vec<String> = days
        .clone()
        .map(|day| {
            let month = &date_text(day)[..7];
            format!("kind={}/month={month}/", table.name())
        })
        .collect();
    months.dedup();
    // A month that is wanted whole is listed at once.
    if days.clone().count() > 3 {
        return months;
    }
    days.clone().map(|day| of_day(day).folder()).collect()
}
