//! `archive extend`: retains what is archived for longer.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use tracing_audit::__program::seal::Bucket;
use tracing_audit::__program::seal::lock::{Mode, Retention, Version};

use super::place::{Place, end, expect_ahead, mode_beside};
use super::versions::{each, of_archive};
use crate::error::Error;
use crate::text::escape_line;
use crate::{runtime, tables};

/// Retains what is archived in a bucket for longer; needs no database.
///
/// Every version of every object is retained until then, in the mode in which it was. None
/// is retained for a shorter time than before: what is retained for longer stays so.
/// What could not be extended is named; then this exits with 1.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Extend {
    /// The bucket: `s3://BUCKET/PREFIX`.
    #[arg(value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
    place: String,
    /// When the retention ends: 2033-12-31, or 2033-12-31T12:00:00Z. UTC.
    #[arg(long, value_name = "DATE", value_parser = end)]
    until: SystemTime,
    /// Of this month only: 2026-09.
    #[arg(long, value_name = "MONTH", value_parser = month)]
    month: Option<String>,
    /// Of this kind only; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    kind: Vec<String>,
}

fn month(text: &str) -> Result<String, String> {
    if text.len() == "2026-09".len() && end(&format!("{text}-01")).is_ok() {
        Ok(text.to_owned())
    } else {
        Err(String::from("write it as 2026-09"))
    }
}

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extended {
    Yes,
    /// It was retained for as long already.
    WasSo,
}

pub(crate) fn run(arguments: &Extend) -> Result<ExitCode, Error> {
    runtime()?.block_on(extend(arguments))
}

async fn extend(arguments: &Extend) -> Result<ExitCode, Error> {
    expect_ahead("--until", arguments.until)?;
    let place = Place::of(&arguments.place)?;
    let (bucket, default) = place.lockable().await?;
    let mode = mode_beside(default);
    let versions = of_archive(bucket, &arguments.kind, arguments.month.as_deref()).await?;
    if versions.is_empty() {
        let place = escape_line(&place.name());
        return Err(Error::NothingFound(format!(
            "nothing of that is archived in {place}"
        )));
    }
    let until = arguments.until;
    let (done, failed) = each(bucket, versions, |bucket, _, version| {
        extend_version(bucket, version, mode, until)
    })
    .await;
    let count = |wanted| done.iter().filter(|done| **done == wanted).count();
    let mut text = format!(
        "{} objects are retained until {} now; {} were retained for as long already.\n",
        count(Extended::Yes),
        humantime::format_rfc3339_seconds(until),
        count(Extended::WasSo),
    );
    if failed > 0 {
        let _ = writeln!(text, "{failed} could not be extended.");
    }
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn extend_version(
    bucket: &Bucket,
    version: Version,
    mode: Mode,
    until: SystemTime,
) -> Result<Extended, Error> {
    let before = bucket.retention(&version).await.map_err(Error::Bucket)?;
    let mode = match before {
        Some(before) if before.until >= until => return Ok(Extended::WasSo),
        Some(before) => before.mode,
        None => mode,
    };
    let retention = Retention { mode, until };
    let set = bucket.set_retention(&version, &retention).await;
    set.map_err(Error::Bucket)?;
    Ok(Extended::Yes)
}
