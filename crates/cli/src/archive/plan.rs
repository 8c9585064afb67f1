//! Which days are archived, and which sets of them are there.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::checkpoint::{self, CheckpointError};
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::note::Note;

use super::batch_list::{self, BatchList};
use super::failure::ArchiveError;
use super::manifest::{self, Manifest};
use super::names::{DayOf, Object, Part, Within};
use super::place::Place;
use super::set::Signed;
use crate::error::Error;

/// The batches by the days of their first and their last id, with: the day of today; whether some are not in the log below
/// a size; and for each table the least and the greatest place there of those with rows of it.
fn spans() -> String {
    let day = |id: &str| {
        format!("('x' || translate(left(b.{id}::text, 13), '-', ''))::bit(48)::bigint / 86400000")
    };
    let of_table = |table: Table| {
        let with = format!(
            "FILTER (WHERE l.index < $1 AND b.records ? '{}')",
            table.name()
        );
        format!("min(l.index) {with}, max(l.index) {with}")
    };
    format!(
        "SELECT {}, {}, floor(extract(epoch FROM now()) / 86400)::bigint, bool_or(l.index IS NULL OR l.index >= $1), {}
        FROM audit.batches b LEFT JOIN audit.ledger l ON l.writer_id = b.writer_id AND l.first_seq = b.first_seq
        WHERE b.first_id IS NOT NULL AND b.last_id IS NOT NULL
        GROUP BY 1, 2",
        day("first_id"),
        day("last_id"),
        Table::ALL.map(of_table).join(", ")
    )
}

/// The batches of some days.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u32,
    last: u32,
    has_unsealed: bool,
    /// For each table the least place in the log of those under the checkpoint, and the one after the greatest.
    entries: [Option<(u64, u64)>; Table::ALL.len()],
}

/// Which days there are.
#[derive(Debug, Default)]
pub(super) struct Days {
    spans: Vec<Span>,
    today: u32,
}

impl Days {
    /// Reads which days the batches are of, in a log of which so many entries are under a checkpoint.
    pub(super) async fn read(
        connection: &mut PgConnection,
        size: u64,
    ) -> Result<Self, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(spans()))
            .bind(i64::try_from(size).unwrap_or(i64::MAX))
            .persistent(false)
            .fetch_all(connection)
            .await?;
        let day = |day: i64| u32::try_from(day).unwrap_or_default();
        let mut days = Self::default();
        for row in rows {
            days.today = day(row.try_get(2)?);
            let mut span = Span {
                first: day(row.try_get(0)?),
                last: day(row.try_get(1)?),
                has_unsealed: row.try_get(3)?,
                entries: [None; Table::ALL.len()],
            };
            for (at, entries) in span.entries.iter_mut().enumerate() {
                let (least, greatest): (Option<i64>, Option<i64>) =
                    (row.try_get(4 + 2 * at)?, row.try_get(5 + 2 * at)?);
                let index = |index: i64| u64::try_from(index).ok();
                let end = greatest.and_then(index).map(|greatest| greatest + 1);
                *entries = least.and_then(index).zip(end);
            }
            days.spans.push(span);
        }
        Ok(days)
    }

    /// Returns the days that are over, from one on, ascending.
    pub(super) fn finished(&self, since: u32) -> Vec<u32> {
        let Some(yesterday) = self.today.checked_sub(1) else {
            return Vec::new();
        };
        let spans = self.spans.iter();
        let days: BTreeSet<u32> = spans
            .flat_map(|span| span.first.max(since)..=span.last.min(yesterday))
            .collect();
        days.into_iter().collect()
    }

    fn over(&self, day: u32) -> impl Iterator<Item = &Span> {
        let spans = self.spans.iter();
        spans.filter(move |span| (span.first..=span.last).contains(&day))
    }

    /// Whether batches of a day are not under the checkpoint yet.
    pub(super) fn has_unsealed(&self, day: u32) -> bool {
        self.over(day).any(|span| span.has_unsealed)
    }

    /// Returns the least place in the log of the batches that may have rows of a day of a table, and the one after the greatest.
    pub(super) fn entries(&self, of: DayOf) -> Option<(u64, u64)> {
        let table = Table::ALL.iter().position(|table| *table == of.table)?;
        self.over(of.day)
            .filter_map(|span| span.entries[table])
            .reduce(union)
    }
}

/// Returns the range that has both.
pub(super) fn union(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0.min(other.0), one.1.max(other.1))
}

/// Verifies a checkpoint.
pub(super) fn signed(place: &str, note: &[u8], keys: &[Vkey]) -> Result<Signed, Error> {
    let failed = |source| ArchiveError::Checkpoint {
        place: place.to_owned(),
        source,
    };
    let parsed = Note::parse(note).map_err(|error| failed(CheckpointError::from(error)))?;
    let verified = checkpoint::verify_note(&parsed, keys, &[]).map_err(failed)?;
    Ok(Signed {
        note: note.to_vec(),
        head: verified.checkpoint.head,
    })
}

/// The objects of a set.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub(super) has_manifest: bool,
    pub(super) has_batches: bool,
    pub(super) files: Vec<(Within, u32)>,
}

impl Objects {
    pub(super) fn add(&mut self, part: Part) {
        match part {
            Part::File(within, number) => self.files.push((within, number)),
            Part::Batches => self.has_batches = true,
            Part::Manifest => self.has_manifest = true,
        }
    }
}

/// The sets that a place has, by table and day.
#[derive(Debug, Default)]
pub(super) struct Sets {
    of: BTreeMap<(&'static str, u32), BTreeMap<u32, Objects>>,
}

/// How far a day of a table is archived.
#[derive(Debug)]
pub(super) struct State {
    pub(super) of: DayOf,
    /// The number of the next set.
    pub(super) set: u32,
    /// The place in the log where it begins.
    pub(super) from: u64,
    /// What an interrupted run has begun it with.
    pub(super) begun: Option<BatchList>,
    /// Whether the files that such a run has written are of one tenant each; `None`: it has written none.
    pub(super) is_begun_by_tenant: Option<bool>,
}

impl Sets {
    /// Lists what a place has of some tables.
    pub(super) async fn list(place: &Place, tables: &[Table]) -> Result<Self, Error> {
        let mut sets = Self::default();
        for table in tables {
            for (name, _) in place.list(&format!("kind={}/", table.name())).await? {
                if let Some(object) = Object::parse(&name) {
                    sets.add(object);
                }
            }
        }
        Ok(sets)
    }

    /// Whether the place has nothing of these tables.
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Whether the place has the manifest of a set.
    pub(super) fn has_manifest(&self, of: DayOf, set: u32) -> bool {
        let sets = self.of.get(&(of.table.name(), of.day));
        let objects = sets.and_then(|sets| sets.get(&set));
        objects.is_some_and(|objects| objects.has_manifest)
    }

    fn add(&mut self, object: Object) {
        let of = (object.of.table.name(), object.of.day);
        let objects = self
            .of
            .entry(of)
            .or_default()
            .entry(object.set)
            .or_default();
        objects.add(object.part);
    }

    /// Returns how far a day is archived. What the place says of it must be signed.
    pub(super) async fn state(
        &self,
        place: &Place,
        of: DayOf,
        keys: &[Vkey],
    ) -> Result<State, Error> {
        let mut state = State {
            of,
            set: 1,
            from: 0,
            begun: None,
            is_begun_by_tenant: None,
        };
        let Some(sets) = self.of.get(&(of.table.name(), of.day)) else {
            return Ok(state);
        };
        let mut last = None;
        for (set, objects) in sets {
            if *set != state.set || !objects.has_batches || last == Some(false) {
                let set = if *set == state.set { *set } else { state.set };
                return Err(ArchiveError::Orphans {
                    place: place.name(),
                    folder: of.folder(),
                    set,
                }
                .into());
            }
            last = Some(objects.has_manifest);
            if objects.has_manifest {
                state.set += 1;
            } else {
                let first = objects.files.first();
                state.is_begun_by_tenant = first.map(|(within, _)| *within != Within::Day);
            }
        }
        if state.set > 1 {
            let (manifest, _) = read_manifest(place, of, state.set - 1, keys).await?;
            state.from = manifest.entries.end;
        }
        if last == Some(false) {
            let begun = read_batches(place, of, state.set).await?;
            if begun.entries.start != state.from {
                return Err(ArchiveError::NoBatches {
                    place: place.name(),
                    object: of.name(state.set, Part::Batches),
                    why: "it does not begin where the set before it ends",
                }
                .into());
            }
            state.begun = Some(begun);
        }
        Ok(state)
    }
}

/// Reads a manifest that is there, and that one of these keys has signed. Also returns its bytes.
pub(super) async fn read_manifest(
    place: &Place,
    of: DayOf,
    set: u32,
    keys: &[Vkey],
) -> Result<(Manifest, Vec<u8>), Error> {
    let name = of.name(set, Part::Manifest);
    let bytes = place.get(&name, manifest::MOST_BYTES as u64).await?;
    let gone = || ArchiveError::Gone {
        place: place.name(),
        object: name.clone(),
    };
    let bytes = bytes.ok_or_else(gone)?;
    let manifest = Manifest::verify(&bytes, keys);
    let manifest = manifest.and_then(|manifest| {
        if (manifest.of, manifest.set) == (of, set) {
            Ok(manifest)
        } else {
            Err(manifest::ManifestError::Elsewhere)
        }
    });
    let manifest = manifest.map_err(|source| ArchiveError::NoManifest {
        place: place.name(),
        object: name.clone(),
        source,
    })?;
    Ok((manifest, bytes))
}

/// Reads the list of the batches of a set that is not whole yet.
async fn read_batches(place: &Place, of: DayOf, set: u32) -> Result<BatchList, Error> {
    let name = of.name(set, Part::Batches);
    let bytes = place.get(&name, batch_list::MOST_BYTES).await?;
    let gone = || ArchiveError::Gone {
        place: place.name(),
        object: name.clone(),
    };
    let list = BatchList::decode(&bytes.ok_or_else(gone)?);
    Ok(list.map_err(|why| ArchiveError::NoBatches {
        place: place.name(),
        object: name.clone(),
        why,
    })?)
}
