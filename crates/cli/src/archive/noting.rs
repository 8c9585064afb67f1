//! Records in the trail which manifests a place has: each once, with its hash, as an event that the ledger seals.

use std::collections::{BTreeSet, HashSet};

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::key::Vkey;

use super::failure::ArchiveError;
use super::names::{DayOf, Object, Part, date_text, day_of_date};
use super::place::Place;
use super::plan::{Sets, read_manifest};
use crate::database::{Database, begin, begin_change};
use crate::error::Error;

/// The manifests that are recorded of a place.
const KNOWN: &str =
    "SELECT parent, to_char(day, 'YYYY-MM-DD'), number FROM audit.archives WHERE place = $1";

const RECORD: &str = "SELECT audit.record_archive($1, $2, $3::text::date, $4, $5, $6)";

/// A manifest that is recorded: its table, day and number.
type Recorded = (String, String, i32);

async fn known(
    database: &Database,
    connection: &mut PgConnection,
    place: &Place,
) -> Result<Vec<Recorded>, Error> {
    let failed = |source| database.read_error(source);
    let (mut transaction, _) = begin(connection, None).await.map_err(failed)?;
    let known = sqlx::query_as(KNOWN)
        .bind(place.name())
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.rollback().await.map_err(failed)?;
    Ok(known)
}

/// Returns the sets of these tables that the trail knows of and the place has no manifest of any more.
///
/// Fails if it has nothing at all of what the trail knows: a disk that is not mounted would get an archive of its own, which is out of sight once
/// it is.
pub(super) async fn gone(
    database: &Database,
    connection: &mut PgConnection,
    place: &Place,
    tables: &[Table],
    sets: &Sets,
) -> Result<BTreeSet<(DayOf, u32)>, Error> {
    let known = known(database, connection, place).await?.into_iter();
    let known: Vec<(DayOf, u32)> = known
        .filter_map(|(kind, day, number)| {
            let table = tables.iter().find(|table| table.name() == kind)?;
            let (table, day) = (*table, day_of_date(&day)?);
            Some((DayOf { table, day }, u32::try_from(number).ok()?))
        })
        .collect();
    if sets.is_empty() && !known.is_empty() {
        let (place, known) = (place.name(), known.len());
        return Err(ArchiveError::Emptied { place, known }.into());
    }
    let is_gone = |(of, set): &(DayOf, u32)| !sets.has_manifest(*of, *set);
    Ok(known.into_iter().filter(is_gone).collect())
}

/// Records the manifests of these tables that are not recorded yet, also those of a run that was interrupted.
pub(super) async fn note(
    database: &Database,
    connection: &mut PgConnection,
    place: &Place,
    tables: &[Table],
    keys: &[Vkey],
) -> Result<(), Error> {
    let name = place.name();
    let known: HashSet<_> = known(database, connection, place)
        .await?
        .into_iter()
        .collect();
    for table in tables {
        for (object, _) in place.list(&format!("kind={}/", table.name())).await? {
            let Some(manifest) = Object::parse(&object).filter(|it| it.part == Part::Manifest)
            else {
                continue;
            };
            let number = i32::try_from(manifest.set).unwrap_or(i32::MAX);
            let day = date_text(manifest.of.day);
            if known.contains(&(table.name().to_owned(), day.clone(), number)) {
                continue;
            }
            let (signed, bytes) = read_manifest(place, manifest.of, manifest.set, keys).await?;
            let failed = |source| database.change_error("record what was archived", source);
            let mut transaction = begin_change(connection).await.map_err(failed)?;
            sqlx::query(RECORD)
                .bind(&name)
                .bind(table.name())
                .bind(day)
                .bind(number)
                .bind(Sha256::digest(&bytes).to_vec())
                .bind(i64::try_from(signed.rows).unwrap_or(i64::MAX))
                .persistent(false)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        }
    }
    Ok(())
}
