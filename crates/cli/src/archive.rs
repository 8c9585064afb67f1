//! `archive`: copies finished days of the trail to a folder or a bucket, as signed Parquet.
//!
//! What is written of a day of a table is a *set* ([`set`]): files of rows ([`table_file`]), the batches that prove them
//! ([`batch_list`]) and a signed manifest ([`manifest`]). Rows that come later for the day are another set, so that nothing
//! is ever written again. Which sets are to be written follows from what the place has and what the log says ([`plan`]). What may
//! be erased of a row is encrypted there, if that is asked for ([`content`]). Each manifest is recorded in the trail ([`noting`]), and what is in
//! the archive may be removed from the database ([`remove`]).
//!
//! What is there is verified whole ([`verify`], [`set_reader`]), looked through for a request ([`story`], [`finder`], [`look`]), or searched
//! by a filter ([`scan`], [`sift`], [`matching`]).

mod batch_list;
pub(crate) mod beside;
mod check;
mod chunk;
mod column;
mod content;
mod extend;
mod failure;
mod finder;
mod holds;
mod log_cover;
mod look;
mod manifest;
pub(crate) mod matching;
pub(crate) mod moment;
mod names;
mod noting;
mod place;
mod plan;
mod ranges;
mod remove;
mod restore;
mod rows;
pub(crate) mod scan;
mod set;
mod set_reader;
mod sift;
mod story;
mod table_file;
mod values;
mod verify;
mod versions;

use std::io::{self, Write as _};
use std::ops::Range;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::key::Vkey;

use self::chunk::Chunk;
use self::content::{Encryption, Layout};
pub(crate) use self::failure::ArchiveError;
use self::manifest::Manifest;
use self::names::{DayOf, date_text, day_of_date};
pub(crate) use self::place::{Lock, LockError, Place};
use self::plan::{Days, Sets, State};
use self::remove::Removal;
use self::set::{Outcome, Signed, Wanted, Writer};
pub(crate) use self::story::{ArchivePlace, InArchive, near, open_in, tenant_of};
use crate::database::{Database, record_reading};
use crate::error::Error;
use crate::retain::{self, Partition};
use crate::signer::SignerArguments;
use crate::text::{Terminal, escape_json, grouped, paragraph};
use crate::verify::begin;
use crate::verify::finding::Finding;
use crate::verify::published::read_keys;
use crate::verify::recorded::Recorded;
use crate::{complain, runtime, tables};

/// The newest checkpoint that the database has.
const CHECKPOINT: &str = "SELECT note FROM audit.checkpoint";

/// How long the name of a place may be that the trail knows: that of `audit.record_archive`.
const MOST_PLACE_BYTES: usize = 1024;

/// How many findings of a day are told.
const MOST_TOLD: usize = 100;

/// Copies finished days of the trail to a folder or a bucket, or verifies such a copy.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Archive {
    #[command(subcommand)]
    command: Option<ArchiveCommand>,
    #[command(flatten)]
    copy: CopyArguments,
}

/// What to do with an archive.
#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveCommand {
    Verify(verify::VerifyArchive),
    Extend(extend::Extend),
    Holds(holds::Holds),
    Restore(restore::Restore),
}

/// Arguments of `archive` itself.
#[derive(Args, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is an argument")]
pub(crate) struct CopyArguments {
    /// The folder, the bucket `s3://BUCKET/PREFIX`, or the container `az://CONTAINER/PREFIX` of Azure. Nothing in it is ever overwritten.
    #[arg(long, value_name = "PLACE", required = true, value_parser = NonEmptyStringValueParser::new())]
    to: Option<String>,
    /// Copies, and leaves the rows where they are.
    #[arg(long, required_unless_present = "after")]
    copy: bool,
    /// Copies, and says which partitions are of records older than this only, as '90 days'; with --yes it removes them.
    ///
    /// Each is read back first, and its rows are compared with those that the database has, behind the lock under
    /// which it is removed. Legal holds, foreign keys and the least age stand against it as they do for `retain`. For a login of an
    /// operator that is an auditor's as well.
    #[arg(long, value_name = "SPAN", conflicts_with = "copy", verbatim_doc_comment, value_parser = NonEmptyStringValueParser::new())]
    after: Option<String>,
    /// Removes what --after says can be removed.
    #[arg(long, requires = "after")]
    yes: bool,
    /// Writes also where what is written can be removed at once: in a bucket without Object Lock or default retention.
    #[arg(long)]
    unlocked: bool,
    /// Retains what is written until then, if the bucket's default is shorter: 2033-12-31, or 2033-12-31T12:00:00Z. UTC.
    #[arg(long, value_name = "DATE", value_parser = place::end)]
    retain_until: Option<SystemTime>,
    #[command(flatten)]
    signer: SignerArguments,
    /// A verifier key with which the log was signed before, or a file with it; may be given several times.
    #[arg(long, value_name = "KEY")]
    old_key: Vec<String>,
    /// How the content of rows is written, which an erasure empties: in the clear, or encrypted with keys of the database.
    ///
    /// An erasure of a user or a tenant destroys the keys, and the archive stays as it is. Whoever reads
    /// encrypted content needs the database. In the clear unless it was encrypted before.
    #[arg(
        long,
        value_name = "LAYOUT",
        value_enum,
        env = "AUDIT_ARCHIVE_CONTENT",
        verbatim_doc_comment
    )]
    content: Option<content::Layout>,
    /// Writes a file for each tenant, in a folder for it, in place of files of all tenants.
    ///
    /// For whoever gives a tenant its files, or a login the right to read them alone; takes more room, and up to 8,000 tenants a day.
    #[arg(long, verbatim_doc_comment)]
    by_tenant: bool,
    /// Begins with this day: 2026-09-14. Else with the first of which there are records.
    #[arg(long, value_name = "DATE")]
    since: Option<String>,
    /// Of this kind only; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    kind: Vec<String>,
    /// Why, as it is recorded in the trail before anything is read.
    #[arg(long, value_name = "TEXT", default_value = "the archive", value_parser = NonEmptyStringValueParser::new())]
    purpose: String,
    /// Prints an array of the sets, and of the days that are left.
    ///
    /// A set is {kind, day, set, rows, files, bytes, manifest}; a day that is left {kind, day, left, set, findings}; a partition {partition, kind, from,
    /// to, rows, bytes, obstacles, removed, event}.
    #[arg(long)]
    json: bool,
}

/// Runs what needs no database; `None`: it does.
pub(crate) fn run_without_database(arguments: &Archive) -> Option<Result<ExitCode, Error>> {
    match arguments.command.as_ref()? {
        ArchiveCommand::Verify(arguments) if !arguments.needs_database() => {
            Some(verify::run_alone(arguments))
        }
        ArchiveCommand::Extend(arguments) => Some(extend::run(arguments)),
        ArchiveCommand::Verify(_) | ArchiveCommand::Holds(_) | ArchiveCommand::Restore(_) => None,
    }
}

/// Copies what is finished.
pub(crate) fn run(database: &Database, arguments: &Archive) -> Result<ExitCode, Error> {
    runtime()?.block_on(async {
        match &arguments.command {
            Some(ArchiveCommand::Verify(arguments)) => verify::run(Some(database), arguments).await,
            Some(ArchiveCommand::Holds(arguments)) => holds::run(database, arguments).await,
            Some(ArchiveCommand::Restore(arguments)) => {
                restore::run(database, arguments).await?;
                Ok(ExitCode::SUCCESS)
            }
            _ => copy(database, &arguments.copy).await,
        }
    })
}

async fn copy(database: &Database, arguments: &CopyArguments) -> Result<ExitCode, Error> {
    let since = match arguments.since.as_deref() {
        Some(text) => day_of_date(text).ok_or_else(|| ArchiveError::NoDay(text.to_owned()))?,
        None => 0,
    };
    let signer = arguments.signer.open()?;
    let keys = [vec![signer.vkey().clone()], read_keys(&arguments.old_key)?].concat();
    let place = Place::of(arguments.to.as_deref().unwrap_or_default())?;
    if place.name().len() > MOST_PLACE_BYTES {
        let most = MOST_PLACE_BYTES;
        return Err(ArchiveError::LongPlace { most }.into());
    }
    place
        .expect_lock(arguments.unlocked, arguments.retain_until)
        .await?;
    let mut connection = database.connect_to_trail().await?;
    record_use(
        database,
        &mut connection,
        &arguments.purpose,
        "archive",
        &place,
    )
    .await?;
    let layout = content::expect_layout(database, &mut connection, arguments.content).await?;
    let (checkpoint, days) = look(database, &mut connection, &keys).await?;
    let is_wanted = |table: &Table| {
        arguments.kind.is_empty() || arguments.kind.iter().any(|kind| kind == table.name())
    };
    let tables: Vec<Table> = Table::ALL.into_iter().filter(is_wanted).collect();
    let sets = Sets::list(&place, &tables).await?;
    let gone = noting::gone(database, &mut connection, &place, &tables, &sets).await?;
    let mut run = Run {
        writer: Writer {
            database,
            place: &place,
            signer: &*signer,
            keys: &keys,
            encryption: None,
        },
        layout,
        arguments,
        signed: checkpoint,
        unrecorded: None,
        told: Vec::new(),
        has_findings: false,
        is_silent: true,
    };
    for (of, set) in gone.iter().filter(|(of, _)| of.day >= since) {
        run.tell_gone(*of, *set);
    }
    for day in days.finished(since) {
        if days.has_unsealed(day) {
            run.tell_unsealed(day);
            continue;
        }
        let mut states = Vec::new();
        let mut within: Option<(u64, u64)> = None;
        for table in &tables {
            let of = DayOf { table: *table, day };
            // It would be written anew, with another manifest than the one that the trail knows.
            if gone.range((of, 0)..=(of, u32::MAX)).next().is_some() {
                continue;
            }
            // A table without rows of the day has no set, and nothing to look for.
            let Some(entries) = days.entries(of) else {
                continue;
            };
            let state = sets.state(&place, of, &keys).await?;
            if state.begun.is_some() || state.from < entries.1 {
                within = Some(within.map_or(entries, |within| plan::union(within, entries)));
                states.push(state);
            }
        }
        if let Some(within) = within {
            run.day(&mut connection, day, within, states).await?;
        }
    }
    noting::note(database, &mut connection, &place, &tables, &keys).await?;
    if run.is_silent && !run.arguments.json {
        complain("nothing to copy: the records of each day that is over are in the archive");
    }
    if let Some(keep) = &arguments.after {
        run.remove(&mut connection, keep).await?;
    }
    run.end()
}

/// Records in the trail that a command reads it, or its keys, for an archive.
async fn record_use(
    database: &Database,
    connection: &mut PgConnection,
    purpose: &str,
    command: &str,
    place: &Place,
) -> Result<(), Error> {
    let details = json!({ "page": command, "place": place.name() }).to_string();
    let recorded = record_reading(database, connection, purpose, None, None, Some(&details));
    recorded.await.map(drop)
}

/// Reads the checkpoint, and which days there are.
async fn look(
    database: &Database,
    connection: &mut PgConnection,
    keys: &[Vkey],
) -> Result<(Signed, Days), Error> {
    let failed = |source| database.read_error(source);
    begin(connection, None).await.map_err(failed)?;
    let note: Option<String> = sqlx::query_scalar(CHECKPOINT)
        .persistent(false)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    let note = note.ok_or(ArchiveError::NoCheckpoint)?;
    let signed = plan::signed(&database.name(), note.as_bytes(), keys)?;
    let days = Days::read(connection, signed.head.size)
        .await
        .map_err(failed)?;
    connection.execute("ROLLBACK").await.map_err(failed)?;
    Ok((signed, days))
}

/// A run over all days.
struct Run<'a> {
    writer: Writer<'a>,
    layout: Layout,
    arguments: &'a CopyArguments,
    signed: Signed,
    /// What is recorded of erasures and removals and no event tells of, once it was looked for.
    unrecorded: Option<Vec<Finding>>,
    /// What `--json` prints.
    told: Vec<Value>,
    has_findings: bool,
    /// Whether nothing was told of a day yet.
    is_silent: bool,
}

impl Run<'_> {
    /// Archives what a day has that is not archived yet, in one snapshot.
    async fn day(
        &mut self,
        connection: &mut PgConnection,
        day: u32,
        within: (u64, u64),
        mut states: Vec<State>,
    ) -> Result<(), Error> {
        let database = self.writer.database;
        let failed = |source| database.read_error(source);
        if self.layout == Layout::Encrypted {
            let tables: Vec<DayOf> = states.iter().map(|state| state.of).collect();
            let encryption = Encryption::of_day(database, connection, &tables).await?;
            self.writer.encryption = Some(encryption);
        }
        begin(connection, None).await.map_err(failed)?;
        let ended = self.sets(connection, day, within, &mut states).await;
        let is_over = connection.execute("ROLLBACK").await;
        let findings = ended?;
        is_over.map_err(failed)?;
        if !findings.is_empty() {
            self.tell_findings(day, &findings);
        }
        Ok(())
    }

    /// Writes the sets of a day. Returns what keeps it from being archived, or from being archived further.
    async fn sets(
        &mut self,
        connection: &mut PgConnection,
        day: u32,
        within: (u64, u64),
        states: &mut [State],
    ) -> Result<Vec<Finding>, Error> {
        // What was begun goes on first, with the checkpoint that it was begun with.
        for state in states.iter_mut() {
            let Some(begun) = state.begun.take() else {
                continue;
            };
            let place = self.writer.place.name();
            let signed = plan::signed(&place, &begun.note, self.writer.keys)?;
            if begun.entries.end > signed.head.size {
                return Err(ArchiveError::NoBatches {
                    place,
                    object: state.of.name(state.set, names::Part::Batches),
                    why: "it has more entries than its checkpoint",
                }
                .into());
            }
            let chunk = self.chunk(connection, day, begun.entries, within, false);
            let (chunk, mut findings) = chunk.await?;
            if findings.is_empty() {
                findings = self.set(connection, &chunk, state, &signed).await?;
            }
            if !findings.is_empty() {
                return Ok(findings);
            }
        }
        let signed = self.signed.clone();
        let from = states.iter().map(|state| state.from).min();
        let mut from = from.unwrap_or_default();
        while from < within.1 {
            let entries = from..signed.head.size;
            let chunk = self.chunk(connection, day, entries, within, true);
            let (chunk, findings) = chunk.await?;
            if chunk.is_empty() || !findings.is_empty() {
                return Ok(findings);
            }
            for state in states.iter_mut() {
                if state.from < chunk.entries.end {
                    let findings = self.set(connection, &chunk, state, &signed).await?;
                    if !findings.is_empty() {
                        return Ok(findings);
                    }
                }
            }
            from = chunk.entries.end;
        }
        Ok(Vec::new())
    }

    /// Reads the batches of a day in a range of the log, and compares them with it.
    async fn chunk(
        &mut self,
        connection: &mut PgConnection,
        day: u32,
        entries: Range<u64>,
        within: (u64, u64),
        is_cut: bool,
    ) -> Result<(Chunk, Vec<Finding>), Error> {
        let database = self.writer.database;
        let failed = |source| database.read_error(source);
        let chunk = Chunk::list(connection, day, entries, within, is_cut);
        let mut chunk = chunk.await.map_err(failed)?;
        if chunk.is_empty() {
            return Ok((chunk, Vec::new()));
        }
        let mut findings = chunk.read_rows(connection, day).await.map_err(failed)?;
        if findings.is_empty() && chunk.relies_on_recorded() {
            if self.unrecorded.is_none() {
                let unrecorded = Recorded::unrecorded(connection).await.map_err(failed)?;
                self.unrecorded = Some(unrecorded);
            }
            findings = self.unrecorded.clone().unwrap_or_default();
        }
        Ok((chunk, findings))
    }

    /// Writes the next set of a day of a table, up to where a chunk ends.
    async fn set(
        &mut self,
        connection: &mut PgConnection,
        chunk: &Chunk,
        state: &mut State,
        signed: &Signed,
    ) -> Result<Vec<Finding>, Error> {
        // What was begun goes on as it was begun.
        let is_by_tenant = state
            .is_begun_by_tenant
            .take()
            .unwrap_or(self.arguments.by_tenant);
        let wanted = Wanted {
            of: state.of,
            set: state.set,
            entries: state.from..chunk.entries.end,
            is_by_tenant,
        };
        let writing = self.writer.write(connection, chunk, &wanted, signed);
        match writing.await? {
            Outcome::Differs(findings) => return Ok(findings),
            // The next set has the range of this one as well.
            Outcome::Empty => {}
            Outcome::Written(manifest) => {
                state.set += 1;
                state.from = chunk.entries.end;
                self.tell_set(&manifest);
            }
        }
        Ok(Vec::new())
    }

    /// Removes the partitions that are old enough and archived, or says which would be.
    async fn remove(&mut self, connection: &mut PgConnection, keep: &str) -> Result<(), Error> {
        let arguments = self.arguments;
        let removal = Removal {
            database: self.writer.database,
            place: self.writer.place,
            keys: self.writer.keys,
            keep,
            kinds: &arguments.kind,
            is_meant: arguments.yes,
        };
        let width = Terminal::of_stdout().width;
        let is_json = self.arguments.json;
        let told = |partition: &Partition, widest: usize| {
            if is_json {
                return Ok(());
            }
            retain::print(&retain::line(partition, widest, arguments.yes, width))
        };
        let partitions = removal.run(connection, told).await?;
        let (text, refused) = retain::summary(&partitions, keep, arguments.yes);
        if !is_json {
            retain::print(&paragraph(&text, width, ""))?;
        }
        self.has_findings |= arguments.yes && refused > 0;
        self.told.extend(partitions.iter().map(retain::object));
        Ok(())
    }

    fn tell_set(&mut self, manifest: &Manifest) {
        self.is_silent = false;
        let bytes: u64 = manifest.files.iter().map(|file| file.content.bytes).sum();
        let bytes = bytes + manifest.batches.bytes;
        let name = manifest.of.name(manifest.set, names::Part::Manifest);
        if self.arguments.json {
            self.told.push(json!({
                "kind": manifest.of.table.name(),
                "day": date_text(manifest.of.day),
                "set": manifest.set,
                "rows": manifest.rows,
                "files": manifest.files.len(),
                "bytes": bytes,
                "manifest": name,
            }));
        } else {
            let count = |count: u64| grouped(i64::try_from(count).unwrap_or(i64::MAX));
            complain(&format!(
                "{}: {} rows, {} bytes, set {}",
                manifest.of,
                count(manifest.rows),
                count(bytes),
                manifest.set
            ));
        }
    }

    fn tell_gone(&mut self, of: DayOf, set: u32) {
        self.has_findings = true;
        self.is_silent = false;
        if self.arguments.json {
            let (kind, day) = (of.table.name(), date_text(of.day));
            let left =
                json!({ "kind": kind, "day": day, "left": "gone", "set": set, "findings": [] });
            self.told.push(left);
        } else {
            complain(&format!(
                "{of} is left: set {set} was archived here, and its manifest is not here any more. Bring it back, or copy to another place"
            ));
        }
    }

    fn tell_unsealed(&mut self, day: u32) {
        self.is_silent = false;
        let day = date_text(day);
        if self.arguments.json {
            self.told
                .push(json!({ "day": day, "left": "unsealed", "findings": [] }));
        } else {
            complain(&format!(
                "{day} is left: not all of its batches are sealed and under the newest checkpoint"
            ));
        }
    }

    fn tell_findings(&mut self, day: u32, findings: &[Finding]) {
        self.has_findings = true;
        self.is_silent = false;
        let day = date_text(day);
        if self.arguments.json {
            let findings: Vec<Value> = findings.iter().take(MOST_TOLD).map(Finding::json).collect();
            self.told
                .push(json!({ "day": day, "left": "differs", "findings": findings }));
            return;
        }
        for finding in findings.iter().take(MOST_TOLD) {
            complain(&finding.to_string());
        }
        complain(&format!(
            "{day} is left: {} findings, and what was changed is archived by nobody; `tracing-audit verify` says more",
            findings.len()
        ));
    }

    fn end(self) -> Result<ExitCode, Error> {
        if self.arguments.json {
            let told = Value::Array(self.told).to_string();
            writeln!(io::stdout(), "{}", escape_json(&told))?;
        }
        Ok(if self.has_findings {
            ExitCode::from(1)
        } else {
            ExitCode::SUCCESS
        })
    }
}
