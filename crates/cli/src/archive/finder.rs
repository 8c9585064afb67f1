//! Finds the records of a request, or one record, in an archive.
//!
//! **It reads no more of the files than it needs**: the manifests of the days, of each file its end (the footer, the bloom filters on
//! `request_id` and the index of its pages), of a group of rows that may have one the column that is asked for, and of the
//! rows that are found the pages in which they are.
//!
//! The signature of each manifest is verified. Whether the files are those that the manifest names is not: that takes reading them whole
//! ([`SetReader`](super::set_reader::SetReader)).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
use crate::error::Error;

/// A record that was found.
#[derive(Debug)]
pub(crate) struct Archived {
    pub(crate) table: Table,
    /// Its values as Postgres sends them, in the order of [`COLUMNS`](crate::export::columns::COLUMNS).
    pub(crate) values: Picked,
    /// The manifest of its set.
    pub(crate) manifest: Object,
}

/// What was found, and what it took.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Archived>,
    /// How many files may have had some.
    pub(crate) files: u64,
    /// How many bytes were read.
    pub(crate) bytes: u64,
}

/// Looks into the sets of these days, counted from 1970-01-01.
pub(crate) async fn find(
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
    let mut found = Found::default();
    let read = Arc::new(AtomicU64::new(0));
    for manifest in manifests(place, &days).await? {
        let name = manifest.name();
        let most = manifest::MOST_BYTES as u64;
        let Some(bytes) = place.get(&name, most).await? else {
            continue;
        };
        found.bytes += bytes.len() as u64;
        let signed = Manifest::verify(&bytes, keys)
            .ok()
            .filter(|signed| (signed.of, signed.set) == (manifest.of, manifest.set))
            .ok_or_else(|| ArchiveError::NotSigned(name))?;
        for file in &signed.files {
            let may_have = match wanted {
                Wanted::Record(id) => (file.ids.0..=file.ids.1).contains(id),
                Wanted::Request(_) => true,
            };
            if !may_have {
                continue;
            }
            found.files += 1;
            let name = signed.of.name(signed.set, Part::File(file.number));
            let ranges = Ranges::new(place, name.clone(), file.content.bytes, &read);
            let (table, wanted, rows) = (signed.of.table, wanted.clone(), file.rows);
            let looking = move || look(table, ranges, &wanted, rows);
            let picked = tokio::task::spawn_blocking(looking).await;
            let picked = super::set_reader::joined(picked).map_err(|why| ArchiveError::Broken {
                object: name,
                why: why.to_string(),
            })?;
            found
                .records
                .extend(picked.into_iter().map(|values| Archived {
                    table,
                    values,
                    manifest,
                }));
        }
    }
    // ORDERING: all threads that count have ended.
    found.bytes += read.load(Ordering::Relaxed);
    Ok(found)
}

/// Returns the manifests of these days.
async fn manifests(place: &Place, days: &RangeInclusive<u32>) -> Result<Vec<Object>, Error> {
    let mut found = BTreeMap::new();
    for table in Table::ALL {
        for prefix in prefixes(table, days) {
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
