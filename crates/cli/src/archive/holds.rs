//! `archive holds`: the legal holds of the trail, on the objects of its archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use sqlx::postgres::PgConnection;
use tracing_audit::__program::seal::Bucket;
use tracing_audit::__program::seal::lock::Version;

use super::place::{LockError, Place};
use super::versions::{OfDay, each, of_archive};
use crate::database::{Database, begin};
use crate::error::Error;

/// Sets the legal holds of the trail on the objects of its archive, and lifts what is over.
///
/// An object has a legal hold while a hold of the trail covers any record of its day, be it
/// of one tenant alone: then nobody can remove it, also after its retention. To be run
/// after each `hold` and `release`. For a login of an auditor or an operator.
/// What could not be done is named; then this exits with 1.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Holds {
    /// The bucket: `s3://BUCKET/PREFIX`.
    #[arg(value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
    place: String,
}

/// Whether this login sees every hold. One that row-level security keeps some from would lift them.
const SEES_ALL: &str = "
    SELECT r.rolsuper OR r.rolbypassrls OR pg_has_role(r.oid, 'audit_auditor', 'USAGE') OR pg_has_role(r.oid, 'audit_operator', 'USAGE')
    FROM pg_roles r WHERE r.rolname = current_user";

/// Which of some days of tables a hold covers that is in force: as `audit.held` has it, which is for the trail's functions.
const HELD: &str = "
    SELECT o.kind, o.day FROM unnest($1::text[], $2::text[]) o (kind, day)
    WHERE EXISTS (
        SELECT FROM audit.legal_holds h
        WHERE h.from_time < (o.day::date + 1)::timestamp AT TIME ZONE 'UTC' AND h.to_time > o.day::date::timestamp AT TIME ZONE 'UTC'
            AND (h.kinds IS NULL OR o.kind = ANY (h.kinds))
            AND NOT EXISTS (SELECT FROM audit.legal_hold_lifts l WHERE l.hold_id = h.id))";

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    Held,
    Lifted,
    WasSo,
}

pub(crate) async fn run(database: &Database, arguments: &Holds) -> Result<ExitCode, Error> {
    let place = Place::of(&arguments.place)?;
    let (bucket, _) = place.lockable().await?;
    let versions = of_archive(bucket, &[], None).await?;
    let days: BTreeSet<&OfDay> = versions.iter().map(|(of, _)| of).collect();
    let mut connection = database.connect_to_trail().await?;
    let held = held(database, &mut connection, &place, &days).await?;
    let (done, failed) = each(bucket, versions, |bucket, of, version| {
        let is_held = held.contains(&of);
        async move { Ok((of, set(bucket, version, is_held).await?)) }
    })
    .await;
    let text = text(&done, failed);
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Returns which days a hold covers.
async fn held(
    database: &Database,
    connection: &mut PgConnection,
    place: &Place,
    days: &BTreeSet<&OfDay>,
) -> Result<BTreeSet<OfDay>, Error> {
    let failed = |source| database.read_error(source);
    let kinds: Vec<&str> = days.iter().map(|of| of.kind.as_str()).collect();
    let dates: Vec<&str> = days.iter().map(|of| of.day.as_str()).collect();
    let (mut transaction, _) = begin(connection, None).await.map_err(failed)?;
    let sees_all: Option<bool> = sqlx::query_scalar(SEES_ALL)
        .persistent(false)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
    if sees_all != Some(true) {
        let place = place.name();
        return Err(LockError::BlindToHolds { place }.into());
    }
    let held: Vec<(String, String)> = sqlx::query_as(HELD)
        .bind(kinds)
        .bind(dates)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.rollback().await.map_err(failed)?;
    let held = held.into_iter().map(|(kind, day)| OfDay { kind, day });
    Ok(held.collect())
}

async fn set(bucket: &Bucket, version: Version, is_held: bool) -> Result<Done, Error> {
    let was_held = bucket.has_legal_hold(&version).await;
    if was_held.map_err(Error::Bucket)? == is_held {
        return Ok(Done::WasSo);
    }
    let set = bucket.set_legal_hold(&version, is_held).await;
    set.map_err(Error::Bucket)?;
    Ok(if is_held { Done::Held } else { Done::Lifted })
}

/// Tells what was done: a line for each day of a table, and how many were as they are.
fn text(done: &[(OfDay, Done)], failed: usize) -> String {
    let mut counts: BTreeMap<(&OfDay, Done), u64> = BTreeMap::new();
    for (of, done) in done {
        *counts.entry((of, *done)).or_default() += 1;
    }
    let mut out = String::new();
    let mut was_so = 0;
    for ((of, done), count) in counts {
        let word = match done {
            Done::Held => "held",
            Done::Lifted => "lifted",
            Done::WasSo => {
                was_so += count;
                continue;
            }
        };
        let OfDay { kind, day } = of;
        let _ = writeln!(out, "{word:<7} {day}  {kind}: {count} objects");
    }
    let _ = writeln!(out, "{was_so} objects were as they should be.");
    if failed > 0 {
        let _ = writeln!(out, "{failed} could not be held or lifted.");
    }
    out
}
