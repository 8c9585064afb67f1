//! `export`: hands over records as a file, with a manifest that says what it is.
//!
//! What flows through it: a [`job`] is recorded in the trail, reads the records ([`source`]) in one
//! snapshot, writes them in a format ([`encoder`]), and hands the bytes to a sink ([`output`]): here a
//! file that gets its name once it is whole ([`file`]), on the page a download ([`job::write`]).

mod columns;
mod csv;
mod encoder;
mod file;
mod html;
pub(crate) mod job;
mod jsonl;
mod ocsf;
pub(crate) mod output;
mod parquet;
mod sealed;
mod source;
mod values;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;

use self::columns::SCHEMA_VERSION;
use self::file::{BeginError, PartFile, Stdout, with_suffix};
use self::job::{Begun, Format, Job, JobError, Written};
use crate::database::{Database, Scope, is_bound_to_none};
use crate::error::Error;
use crate::filter::{Filter, FilterError, NAMES};
use crate::prove::{Provable, prove_each};
use crate::text::grouped;
use crate::verify::published::read_keys;
use crate::{STATUSES, complain, runtime, tables, tail};

/// The most records that are proven.
const MOST_PROVEN: usize = 10_000;

/// Whether this login reads all rows.
const READS_ALL: &str = "SELECT has_table_privilege('audit.batches', 'SELECT')";

/// Writes the records of a filter to a file, with a manifest that says what it is.
///
/// The filters are those of the page. The file is written as FILE.part, and gets its name
/// when it is whole and recorded. FILE.manifest.json has who exported what and why, the
/// number of records, and the file's SHA-256. The events of reading the trail are left out
/// unless --where has reads=yes. Exits with 1 when a record could not be read whole.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Export {
    /// The format of the file.
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// The file; - for standard output, which has no manifest unless --manifest names one.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Records of this request.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    request: Option<String>,
    /// Records of this user, exactly as `user_id` has it.
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Reads this tenant's rows only; a UUID, or the key the application uses.
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// Records that began at this time or later: 2026-01-01, 2026-01-01T12:00Z, or how long ago, as 24h.
    #[arg(long, value_name = "TIME", value_parser = NonEmptyStringValueParser::new())]
    since: Option<String>,
    /// Records that began before this time.
    #[arg(long, value_name = "TIME", value_parser = NonEmptyStringValueParser::new())]
    until: Option<String>,
    /// Records of this kind; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    kind: Vec<String>,
    /// Records of this outcome; may be repeated.
    #[arg(long, value_name = "STATUS", value_parser = STATUSES)]
    status: Vec<String>,
    /// Events of this family, by their `action_type`.
    #[arg(long, value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    family: Option<String>,
    /// Records of this agent, by its id or its name.
    #[arg(long, value_name = "AGENT", value_parser = NonEmptyStringValueParser::new())]
    agent: Option<String>,
    /// Records of this model.
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    model: Option<String>,
    /// Records of this session or conversation.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    session: Option<String>,
    /// Records with this text, in upper or lower case, where `find --text` looks.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    text: Option<String>,
    /// The same filters as a page's address has them: 'user=ana&status=failed'.
    #[arg(long = "where", value_name = "QUERY")]
    query: Option<String>,
    /// Why the trail is read. Recorded; a login that may read all rows must say it.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    purpose: Option<String>,
    /// Overwrites the file and its manifest, and what an export that was killed has left.
    #[arg(long)]
    force: bool,
    /// Writes the manifest to this file.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Leaves CSV fields that a spreadsheet would run as formulas as they are.
    #[arg(long)]
    raw_values: bool,
    /// Writes the proof of each record to FILE.proofs, for 10,000 records at most; `check-proof` checks them.
    #[arg(long, requires = "key")]
    proofs: bool,
    /// The log's verifier key, or a file with it, for --proofs.
    #[arg(long, value_name = "KEY", requires = "proofs")]
    key: Vec<String>,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("{option}: {source}")]
    Filter {
        option: &'static str,
        source: FilterError,
    },
    #[error("--{0} and --where contradict each other: they name the same filter with other values")]
    Contradiction(&'static str),
    #[error("this login may read all rows: say why they are exported, with --purpose")]
    NoPurpose,
    #[error("{} exists: name another file, or overwrite it with --force", .0.display())]
    Exists(PathBuf),
    #[error(
        "{} exists: another export writes it, or one was killed; remove it, or use --force",
        .0.display()
    )]
    IsWritten(PathBuf),
    #[error("--proofs: they are written beside a file, so --output must name one")]
    ProofsOfOutput,
    #[error("--proofs: {0}")]
    NoProofs(String),
    #[error("cannot write {place}: {source}; nothing that was written is kept")]
    Write { place: String, source: io::Error },
    #[error("interrupted: the export is not whole, and nothing that was written to a file is kept")]
    Interrupted,
}

/// Runs the command.
pub(crate) fn run(database: &Database, arguments: &Export) -> Result<ExitCode, Error> {
    let filter = arguments.filter()?;
    runtime()?.block_on(async {
        let export = export(database, arguments, &filter);
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
    let is_stdout = arguments.output == Path::new("-");
    if arguments.proofs && is_stdout {
        return Err(ExportError::ProofsOfOutput.into());
    }
    let keys = read_keys(&arguments.key)?;
    let mut connection = database.connect_to_trail().await?;
    check_rights(database, arguments, filter, &mut connection).await?;
    let part = |name: &Path| begin_file(name, arguments.force);
    let mut file = (!is_stdout).then(|| part(&arguments.output)).transpose()?;
    let manifest = arguments.manifest.clone();
    let manifest =
        manifest.or_else(|| (!is_stdout).then(|| with_suffix(&arguments.output, ".manifest.json")));
    let manifest = manifest.map(|name| part(&name)).transpose()?;
    let proofs = arguments
        .proofs
        .then(|| part(&with_suffix(&arguments.output, ".proofs")))
        .transpose()?;
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
    let told = told(arguments, &job, &begun, &written);
    if let Some(manifest) = manifest {
        let events = json!({ "begun": begun.event.to_string(), "ended": ended.to_string() });
        let (file, about) = proofs.map_or((None, Value::Null), |proofs| (Some(proofs.0), proofs.1));
        keep_manifest(manifest, told, events, about)?;
        if let Some(file) = file {
            keep(file)?;
        }
    }
    if let Some(file) = file {
        keep(file)?;
    }
    Ok(conclude(arguments, &written))
}

/// Checks what this login must say.
async fn check_rights(
    database: &Database,
    arguments: &Export,
    filter: &Filter,
    connection: &mut PgConnection,
) -> Result<(), Error> {
    let failed = |source| database.read_error(source);
    let reads_all: bool = sqlx::query_scalar(READS_ALL)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
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

fn keep(file: PartFile) -> Result<(), Error> {
    let name = file.name().to_owned();
    file.keep().map_err(|source| write_error(&name, source))
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
    .await?;
    file.sync().map_err(|source| write_error(&name, source))?;
    let about = json!({
        "file": name.file_name().map(|name| name.to_string_lossy()),
        "proofs": count,
        "sha256": values::hex(&hash.finalize()),
    });
    Ok((file, about))
}

/// Returns what the manifest says of an export.
fn told(arguments: &Export, job: &Job<'_>, begun: &Begun, written: &Written) -> Value {
    let filters: Vec<Value> = job
        .filter
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
        "format": job.format.name(),
        "schema_version": SCHEMA_VERSION,
        "raw_values": arguments.raw_values,
        "bytes": written.bytes,
        "sha256": written.sha256,
        "records": written.tally.total(),
        "records_by_table": written.by_table(),
        "records_unread": written.tally.unread,
        "one_snapshot": written.is_one_snapshot,
        "query": job.filter.query(),
        "filters": filters,
        "login": begun.login,
        "purpose": job.purpose,
        "database": begun.database,
        "server": job.database.name(),
        "postgres": begun.server,
        "begun": begun.at,
        "ended": written.ended,
        "ledger": ledger,
        "no_ledger": no_ledger,
    })
}

/// Writes the manifest, and gives it its name.
fn keep_manifest(
    mut file: PartFile,
    mut told: Value,
    events: Value,
    proofs: Value,
) -> Result<(), Error> {
    told["events"] = events;
    told["proofs"] = proofs;
    let name = file.name().to_owned();
    let text = format!("{told:#}\n");
    let kept = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync())
        .and_then(|()| file.keep());
    kept.map_err(|source| write_error(&name, source))
}

impl Export {
    /// Returns the filter of `--where` and of the options.
    fn filter(&self) -> Result<Filter, ExportError> {
        let query = self.query.as_deref().unwrap_or_default();
        let query = query.strip_prefix('?').unwrap_or(query);
        let mut filter = Filter::from_query(query).map_err(|source| ExportError::Filter {
            option: "--where",
            source,
        })?;
        for name in NAMES {
            let asked = self.values(name);
            let known: Vec<String> = filter
                .values()
                .into_iter()
                .filter(|(known, _)| *known == name)
                .map(|(_, value)| value.to_owned())
                .collect();
            if asked.is_empty() || known == asked {
                continue;
            }
            if !known.is_empty() {
                return Err(ExportError::Contradiction(name));
            }
            for value in asked {
                filter
                    .add(name, &value)
                    .map_err(|source| ExportError::Filter {
                        option: "an option",
                        source,
                    })?;
            }
        }
        Ok(filter)
    }

    /// Returns the values that the option of a filter has, as the filter gives them.
    fn values(&self, name: &str) -> Vec<String> {
        let one = |value: &Option<String>| value.iter().cloned().collect();
        match name {
            "kind" | "status" => {
                let mut values = if name == "kind" {
                    self.kind.clone()
                } else {
                    self.status.clone()
                };
                let mut seen = Vec::new();
                values.retain(|value| {
                    let is_new = !seen.contains(value);
                    seen.push(value.clone());
                    is_new
                });
                values
            }
            "request" => one(&self.request),
            "user" => one(&self.user),
            "tenant" => one(&self.tenant),
            "since" => one(&self.since),
            "until" => one(&self.until),
            "family" => one(&self.family),
            "agent" => one(&self.agent),
            "model" => one(&self.model),
            "session" => one(&self.session),
            "text" => one(&self.text),
            _ => Vec::new(),
        }
    }
}
