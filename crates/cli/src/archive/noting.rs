//! Records in the trail which manifests a place has: each once, with its hash, as an event that the ledger seals.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::key::Vkey;

use super::failure::ArchiveError;
use super::manifest::{self, Manifest};
use super::names::{Object, Part, date_text};
use super::place::Place;
use crate::database::{Database, begin_change};
use crate::error::Error;

/// The manifests that are recorded of a place.
const KNOWN: &str = "SELECT parent, day::text, number FROM audit.archives WHERE place = $1";

const RECORD: &str = "SELECT audit.record_archive($1, $2, $3::text::date, $4, $5, $6)";

/// Records the manifests of these tables that are not recorded yet, also those of a run that was interrupted.
pub(super) async fn note(
    database: &Database,
    connection: &mut PgConnection,
    place: &Place,
    tables: &[Table],
    keys: &[Vkey],
) -> Result<(), Error> {
    let name = place.name();
    let known: Vec<(String, String, i32)> = sqlx::query_as(KNOWN)
        .bind(&name)
        .persistent(false)
        .fetch_all(&mut *connection)
        .await
        .map_err(|source| database.read_error(source))?;
    let known: HashSet<_> = known.into_iter().collect();
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
            let most = manifest::MOST_BYTES as u64;
            let Some(bytes) = place.get(&object, most).await? else {
                continue;
            };
            let signed = Manifest::verify(&bytes, keys).map_err(|source| {
                let place = name.clone();
                ArchiveError::NoManifest {
                    place,
                    object,
                    source,
                }
            })?;
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
