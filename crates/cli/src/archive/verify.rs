//! `archive verify`: compares an archive with its manifests and with the log. Needs the database for the keys of encrypted content alone.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tracing_audit::__program::Table;

use super::check::{Found, FoundKind};
use super::manifest;
use super::names::{DayOf, Object, Part};
use super::place::Place;
use super::plan::Objects;
use super::record_use;
use super::set_reader::{Keep, ReadSet, SetReader};
use crate::database::Database;
use crate::error::Error;
use crate::text::{escape_json, escape_line};
use crate::verify::published::read_keys;
use crate::{runtime, tables};

/// Why the keys are read, as it is recorded.
const PURPOSE: &str = "whether the archive can be read";

/// Finds what was changed, removed or inserted in an archive. Needs no database but for `--content`.
///
/// Reads every object, and compares its rows with the log by what is beside them. Exits
/// with 1 when anything was found.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct VerifyArchive {
    /// The folder, the bucket `s3://BUCKET/PREFIX`, or the container `az://CONTAINER/PREFIX` of Azure.
    #[arg(value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
    place: String,
    /// The log's verifier key, or a file with it; of a log whose key was rotated each that has signed.
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<String>,
    /// Of this kind only; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    kind: Vec<String>,
    /// Of this month only: 2026-09; may be repeated.
    #[arg(long, value_name = "MONTH")]
    month: Vec<String>,
    /// How many files are read at once.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Decrypts encrypted content as well, with the keys that the database has: what cannot be decrypted, and was not erased, is
    /// found.
    ///
    /// For a login of an auditor. That the keys were read is recorded in the trail.
    #[arg(long)]
    content: bool,
    /// Prints an object of {findings, rows, bytes, sets, files, notes, seconds}.
    ///
    /// A finding is {kind, object, id, writer, seq, index, detail}.
    #[arg(long)]
    json: bool,
}

/// What was verified, and found.
#[derive(Default)]
struct Summary {
    findings: Vec<Found>,
    rows: u64,
    bytes: u64,
    sets: u64,
    files: u64,
    without_root: u64,
}

impl VerifyArchive {
    pub(super) fn needs_database(&self) -> bool {
        self.content
    }
}

/// Verifies without the database.
pub(super) fn run_alone(arguments: &VerifyArchive) -> Result<ExitCode, Error> {
    runtime()?.block_on(run(None, arguments))
}

/// Verifies, and prints what was found. With the database, what is encrypted is decrypted as well.
pub(super) async fn run(
    database: Option<&Database>,
    arguments: &VerifyArchive,
) -> Result<ExitCode, Error> {
    let begun = Instant::now();
    let keys = read_keys(&arguments.key)?;
    let place = Place::of(&arguments.place)?;
    let mut reader = SetReader::new(&place, &keys, arguments.jobs.into());
    if let Some(database) = database {
        let mut connection = database.connect_to_trail().await?;
        record_use(database, &mut connection, PURPOSE, "archive verify", &place).await?;
        reader = reader.opening(database, connection);
    }
    let mut summary = verify(arguments, &place, &reader).await?;
    if summary.sets == 0 && summary.findings.is_empty() {
        return Err(Error::NothingFound(format!(
            "{} has no archive of these",
            place.name()
        )));
    }
    summary
        .findings
        .sort_by(|one, other| one.object.cmp(&other.object));
    print(&summary, arguments.json, begun.elapsed().as_secs_f64())?;
    Ok(if summary.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// The sets of each day, by its folder.
type Days = BTreeMap<String, (DayOf, BTreeMap<u32, Objects>)>;

async fn verify(
    arguments: &VerifyArchive,
    place: &Place,
    reader: &SetReader<'_>,
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let days = list(arguments, place, &mut summary.findings).await?;
    let mut wanted = Vec::new();
    for (folder, (of, sets)) in &days {
        let mut expected = 1;
        for (set, objects) in sets {
            for missing in expected..*set {
                let object = of.name(missing, Part::Manifest);
                let detail = "there is one after it";
                let found = Found::new(FoundKind::SetMissing, object, detail);
                summary.findings.push(found);
            }
            expected = set + 1;
            if objects.has_manifest {
                wanted.push((folder, *of, *set, objects));
            } else {
                let object = of.name(*set, Part::Manifest);
                let detail = "there are objects of the set without it: it is written now, or its writing was interrupted, or the manifest was removed";
                let found = Found::new(FoundKind::SetUnfinished, object, detail);
                summary.findings.push(found);
            }
        }
    }
    let mut read = stream::iter(wanted)
        .map(async |(folder, of, set, objects)| {
            let part = Part::Manifest;
            let read = reader
                .read_set(Object { of, set, part }, Keep::Nothing)
                .await;
            (folder, of, set, objects, read)
        })
        .buffered(arguments.jobs.into());
    // Where the last set of a day ended in the log.
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    while let Some((folder, of, set, objects, read)) = read.next().await {
        let read = read?;
        let end = ends.entry(folder).or_default();
        if let Some(manifest) = &read.manifest {
            if manifest.entries.start != *end {
                let object = of.name(set, Part::Manifest);
                let detail = format!(
                    "it begins at entry {}, and the set before it ends at {end}",
                    manifest.entries.start
                );
                let found = Found::new(FoundKind::SetsOutOfOrder, object, detail);
                summary.findings.push(found);
            }
            *end = manifest.entries.end;
        }
        summary.add(of, set, read, objects);
    }
    Ok(summary)
}

impl Summary {
    /// Adds what was read of a set, and which of its objects its manifest does not have.
    fn add(&mut self, of: DayOf, set: u32, read: ReadSet, objects: &Objects) {
        self.sets += 1;
        self.findings.extend(read.findings);
        self.without_root += read.without_root;
        let Some(manifest) = read.manifest else {
            return;
        };
        self.rows += manifest.rows;
        self.files += manifest.files.len() as u64;
        let files = manifest.files.iter();
        self.bytes += files.map(|file| file.content.bytes).sum::<u64>() + manifest.batches.bytes;
        let known: HashSet<_> = manifest.files.iter().map(manifest::File::part).collect();
        let parts = objects.files.iter();
        let parts = parts.map(|(within, number)| Part::File(*within, *number));
        for part in parts.filter(|part| !known.contains(part)) {
            let object = of.name(set, part);
            let detail = "the manifest of its set does not have it";
            let found = Found::new(FoundKind::ObjectUnknown, object, detail);
            self.findings.push(found);
        }
    }
}

/// Lists the objects of each day. Others are findings.
async fn list(
    arguments: &VerifyArchive,
    place: &Place,
    findings: &mut Vec<Found>,
) -> Result<Days, Error> {
    let mut days = Days::new();
    for prefix in prefixes(arguments) {
        for (name, _) in place.list(&prefix).await? {
            let Some(object) = Object::parse(&name) else {
                let detail = "it is no object of an archive";
                findings.push(Found::new(FoundKind::ObjectUnknown, name, detail));
                continue;
            };
            let (_, sets) = days
                .entry(object.of.folder())
                .or_insert_with(|| (object.of, BTreeMap::new()));
            sets.entry(object.set).or_default().add(object.part);
        }
    }
    Ok(days)
}

/// Returns what the names of the objects that are verified begin with.
fn prefixes(arguments: &VerifyArchive) -> Vec<String> {
    let (kinds, months) = (&arguments.kind, &arguments.month);
    if kinds.is_empty() && months.is_empty() {
        return vec![String::new()];
    }
    let all = Table::ALL.map(|table| table.name().to_owned());
    let kinds = if kinds.is_empty() { &all[..] } else { kinds };
    let kinds = kinds.iter().map(|kind| format!("kind={kind}/"));
    if months.is_empty() {
        return kinds.collect();
    }
    kinds
        .flat_map(|kind| {
            let months = months.iter();
            months.map(move |month| format!("{kind}month={month}/"))
        })
        .collect()
}

fn print(summary: &Summary, as_json: bool, seconds: f64) -> Result<(), Error> {
    let mut notes = Vec::new();
    if summary.without_root > 0 {
        notes.push(format!(
            "{} rows are of batches that were sealed without a root: the manifest proves them, and the log does not",
            summary.without_root
        ));
    }
    let mut out = io::stdout().lock();
    if as_json {
        let findings: Vec<Value> = summary.findings.iter().map(Found::json).collect();
        let said = json!({
            "findings": findings,
            "rows": summary.rows,
            "bytes": summary.bytes,
            "sets": summary.sets,
            "files": summary.files,
            "notes": notes,
            "seconds": seconds,
        });
        writeln!(out, "{}", escape_json(&said.to_string()))?;
        return Ok(());
    }
    for finding in &summary.findings {
        writeln!(out, "{}", escape_line(&finding.to_string()))?;
    }
    for note in notes {
        writeln!(out, "{note}")?;
    }
    let outcome = match summary.findings.len() {
        0 => String::from("nothing was changed"),
        1 => String::from("1 finding"),
        count => format!("{count} findings"),
    };
    writeln!(
        out,
        "{} rows in {} files of {} sets: {outcome} ({seconds:.1} s)",
        summary.rows, summary.files, summary.sets
    )?;
    Ok(())
}
