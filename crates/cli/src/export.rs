//! `export`: hands over records as a file, with a manifest that says what it is.
//!
//! What flows through it: a [`job`] is recorded in the trail, reads the records ([`source`]) in one
//! snapshot, writes them in a format ([`encoder`]), and hands the bytes to a sink ([`output`]): here a
//! file that gets its name once it is whole ([`file`]), on the page a download ([`job`]).

#[cfg(feature = "archive")]
mod archived;
mod asked;
pub(crate) mod columns;
mod csv;
mod encoder;
mod failure;
mod file;
pub(crate) mod html;
pub(crate) mod job;
mod jsonl;
mod ocsf;
pub(crate) mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod sealed;
mod source;
pub(crate) mod values;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;

pub(crate) use self::asked::Export;
use self::columns::SCHEMA_VERSION;
pub(crate) use self::failure::ExportError;
use self::file::{BeginError, PartFile, Stdout, with_suffix};
use self::job::{Job, JobError, Written};
use crate::database::{Database, Scope, begin, is_bound_to_none};
use crate::error::Error;
use crate::filter::Filter;
use crate::prove::{Provable, prove_each};
use crate::text::grouped;
use crate::verify::published::read_keys;
use crate::{complain, runtime, tail};

/// The most records that are proven.
const MOST_PROVEN: usize = 10_000;

/// Whether this login reads all rows.
const READS_ALL: &str = "SELECT has_table_privilege('audit.batches', 'SELECT')";

/// Runs the command; without a database, on an archive alone.
pub(crate) fn run(database: Option<&Database>, arguments: &Export) -> Result<ExitCode, Error> {
    let filter = arguments.filter()?;
    runtime()?.block_on(async {
        let export = async {
            match database {
                Some(database) => export(database, arguments, &filter).await,
                #[cfg(feature = "archive")]
                None => archived::export(arguments, &filter).await,
                #[cfg(not(feature = "archive"))]
                None => Err(Error::NoUrl),
            }
        };
        tokio::select! {
            biased;
            signalled = tail::signal() => {
                signalled.map_err(Error::Runtime)?;
                Err(ExportError::Interrupted.into())
            }
            exported = export => exported,
        }
    })
}

async fn export(
    database: &Database,
    arguments: &Export,
    filter: &Filter,
) -> Result<ExitCode, Error> {
    if arguments.proofs && arguments.output == Path::new("-") {
        return Err(ExportError::ProofsOfOutput.into());
    }
    let keys = read_keys(arguments.keys())?;
    #[cfg(feature = "archive")]
    let archive = arguments.archive.open()?;
    let mut connection = database.connect_to_trail().await?;
    check_rights(database, arguments, filter, &mut connection).await?;
    let [mut file, manifest, proofs] = begin_files(arguments)?;
    let job = Job {
        database,
        scope: Scope::from(filter.tenant.as_deref()),
        filter,
        format: arguments.format,
        purpose: arguments.purpose.as_deref().unwrap_or("an export"),
        reader: Map::new(),
        is_raw: arguments.raw_values,
        most_proven: arguments.proofs.then_some(MOST_PROVEN),
        is_shown: true,
        #[cfg(feature = "archive")]
        archive: archive.as_ref(),
    };
    let failed = |error| failure(arguments, error);
    let begun = job.begin(&mut connection).await.map_err(failed)?;
    let written = if let Some(file) = &mut file {
        job.transfer(&mut connection, &begun, file).await
    } else {
        let mut stdout = Stdout::start().map_err(Error::Runtime)?;
        job.transfer(&mut connection, &begun, &mut stdout).await
    };
    let written = written.map_err(failed)?;
    let proofs = match proofs {
        Some(file) => Some(prove(database, &mut connection, &written, &keys, file).await?),
        None => None,
    };
    let ended = job.end(&mut connection, &begun, &written).await?;
    let mut told = told(arguments, filter, &begun.at, &written);
    told["login"] = json!(begun.login);
    told["purpose"] = json!(job.purpose);
    told["database"] = json!(begun.database);
    told["server"] = json!(database.name());
    told["postgres"] = json!(begun.server);
    #[cfg(feature = "archive")]
    if let Some(archive) = &archive {
        told["archive"] = archived::of_archive(archive, &written);
    }
    let events = json!({ "begun": begun.event.to_string(), "ended": ended.to_string() });
    let (proofs, about) = proofs.map_or((None, Value::Null), |(file, about)| (Some(file), about));
    let manifest = manifest
        .map(|manifest| write_manifest(manifest, told, events, about))
        .transpose()?;
    // What stands beside the file first, so that it is all there once the file has its name.
    keep_all([manifest, proofs, file])?;
    Ok(conclude(arguments, &written))
}

/// Begins the file, its manifest and its proofs, as far as they are asked for.
fn begin_files(arguments: &Export) -> Result<[Option<PartFile>; 3], Error> {
    let is_stdout = arguments.output == Path::new("-");
    let part = |name: &Path| begin_file(name, arguments.force);
    let file = (!is_stdout).then(|| part(&arguments.output)).transpose()?;
    let manifest = arguments.manifest.clone();
    let manifest =
        manifest.or_else(|| (!is_stdout).then(|| with_suffix(&arguments.output, ".manifest.json")));
    let manifest = manifest.map(|name| part(&name)).transpose()?;
    let proofs = arguments
        .proofs
        .then(|| part(&with_suffix(&arguments.output, ".proofs")))
        .transpose()?;
    Ok([file, manifest, proofs])
}

/// Checks what this login must say.
async fn check_rights(
    database: &Database,
    arguments: &Export,
    filter: &Filter,
    connection: &mut PgConnection,
) -> Result<(), Error> {
    let failed = |source| database.read_error(source);
    let (mut transaction, _) = begin(connection, None).await.map_err(failed)?;
    let reads_all: bool = sqlx::query_scalar(READS_ALL)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.rollback().await.map_err(failed)?;
    if reads_all && arguments.purpose.is_none() {
        return Err(ExportError::NoPurpose.into());
    }
    let is_bound_to_none = is_bound_to_none(connection, filter.tenant.as_deref())
        .await
        .map_err(failed)?;
    if is_bound_to_none {
        return Err(Error::NoTenant {
            database: database.name(),
        });
    }
    Ok(())
}

/// Says how many records there are, and whether all could be read.
fn conclude(arguments: &Export, written: &Written) -> ExitCode {
    let count = |count: u64| grouped(i64::try_from(count).unwrap_or(i64::MAX));
    complain(&format!(
        "{} records in {}, {} bytes, SHA-256 {}",
        count(written.tally.total()),
        place(&arguments.output),
        count(written.bytes),
        written.sha256
    ));
    if written.tally.unread == 0 {
        return ExitCode::SUCCESS;
    }
    complain(&format!(
        "{} of the records could not be read whole: in their place stands what could be, and \"unread\" says why",
        count(written.tally.unread)
    ));
    ExitCode::from(1)
}

fn begin_file(name: &Path, is_forced: bool) -> Result<PartFile, Error> {
    PartFile::begin(name, is_forced).map_err(|error| match error {
        BeginError::Exists => ExportError::Exists(name.to_owned()).into(),
        BeginError::IsWritten(part) => ExportError::IsWritten(part).into(),
        BeginError::Io(source) => Error::WriteFile {
            path: name.to_owned(),
            source,
        },
    })
}

fn write_error(name: &Path, source: io::Error) -> Error {
    let place = place(name);
    ExportError::Write { place, source }.into()
}

fn place(name: &Path) -> String {
    if name == Path::new("-") {
        return String::from("the output");
    }
    name.display().to_string()
}

fn failure(arguments: &Export, error: JobError) -> Error {
    match error {
        JobError::Trail(error) => error,
        JobError::Filter(source) => ExportError::Filter {
            option: "the filter",
            source,
        }
        .into(),
        JobError::Output(source) => write_error(&arguments.output, source),
        error @ JobError::TooManyProofs(_) => ExportError::NoProofs(error.to_string()).into(),
    }
}

/// Gives the files their names, in this order; none of them if one cannot have its name.
fn keep_all(files: [Option<PartFile>; 3]) -> Result<(), Error> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for file in files.into_iter().flatten() {
        let name = file.name().to_owned();
        if let Err(source) = file.keep() {
            for name in kept {
                // The error that is told is the first one.
                let _ = std::fs::remove_file(name);
            }
            return Err(write_error(&name, source));
        }
        kept.push(name);
    }
    Ok(())
}

/// Writes the proof of each record, one after another. Returns the file, and what the manifest says of it.
async fn prove(
    database: &Database,
    connection: &mut PgConnection,
    written: &Written,
    keys: &[tracing_audit::__program::ledger::key::Vkey],
    mut file: PartFile,
) -> Result<(PartFile, Value), Error> {
    let sealed = written.sealed.as_ref();
    let sealed = sealed.map_err(|why| ExportError::NoProofs((*why).to_owned()))?;
    let wanted = written.places.iter().map(|place| Provable {
        id: place.id,
        writer: place.writer,
        seq: place.seq,
    });
    let mut hash = Sha256::new();
    let name = file.name().to_owned();
    let count = prove_each(
        database,
        connection,
        sealed.note.as_bytes(),
        keys,
        wanted.collect(),
        |_, proof| {
            hash.update(proof);
            file.write_all(proof)
                .map_err(|source| write_error(&name, source))
        },
    )
    .await
    .map_err(|error| match error {
        // There is no file then, which is more than something that is not there.
        Error::NothingFound(_) | Error::NotProven => {
            ExportError::NoProofs(error.to_string()).into()
        }
        error => error,
    })?;
    file.sync().map_err(|source| write_error(&name, source))?;
    let about = json!({
        "file": name.file_name().map(|name| name.to_string_lossy()),
        "proofs": count,
        "sha256": values::hex(&hash.finalize()),
    });
    Ok((file, about))
}

/// Returns what the manifest says of an export, wherever its records are from.
fn told(arguments: &Export, filter: &Filter, begun: &str, written: &Written) -> Value {
    let filters: Vec<Value> = filter
        .values()
        .into_iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let file = arguments
        .output
        .file_name()
        .map(|name| name.to_string_lossy());
    let (ledger, no_ledger) = match &written.sealed {
        Ok(sealed) => (sealed.told(), None),
        Err(why) => (Value::Null, Some(*why)),
    };
    json!({
        "manifest_version": 1,
        "program": concat!("tracing-audit ", env!("CARGO_PKG_VERSION")),
        "file": file,
        "format": arguments.format.name(),
        "schema_version": SCHEMA_VERSION,
        "raw_values": arguments.raw_values,
        "bytes": written.bytes,
        "sha256": written.sha256,
        "records": written.tally.total(),
        "records_by_table": written.by_table(),
        "records_unread": written.tally.unread,
        "one_snapshot": written.is_one_snapshot,
        "query": filter.query(),
        "filters": filters,
        "login": null,
        "purpose": null,
        "database": null,
        "server": null,
        "postgres": null,
        "archive": null,
        "begun": begun,
        "ended": written.ended,
        "ledger": ledger,
        "no_ledger": no_ledger,
    })
}

/// Writes the manifest.
fn write_manifest(
    mut file: PartFile,
    mut told: Value,
    events: Value,
    proofs: Value,
) -> Result<PartFile, Error> {
    told["events"] = events;
    told["proofs"] = proofs;
    let text = format!("{told:#}\n");
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync());
    match written {
        Ok(()) => Ok(file),
        Err(source) => Err(write_error(file.name(), source)),
    }
}
