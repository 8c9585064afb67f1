//! `verify`: compares the trail with its ledger, and the ledger with the checkpoint that was signed.

pub(crate) mod batches;
pub(crate) mod binary;
pub(crate) mod finding;
pub(crate) mod log;
pub(crate) mod nodes;
pub(crate) mod published;
pub(crate) mod recorded;
pub(crate) mod rows;
mod shape;
mod since;
mod source;
mod tiles;

use clap::Args;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::checkpoint::Verified;

use self::batches::{Batch, Batches, differences, missing_rows};
use self::finding::{Finding, Kind, MOST_NAMED};
use self::log::{Log, Reader};
use self::published::Published;
use self::recorded::Recorded;
use self::rows::Rows;
use self::tiles::Tiles;
use crate::database::{CATALOG_FIRST, Database, begin_change};
use crate::error::Error;
use crate::text::escape_line;

/// Finds what was changed, removed or inserted in the trail since it was sealed.
///
/// Reads every row and compares it with the ledger, which `seal` makes. For an auditor's
/// login. Exits with 1 when anything was found.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Verify {
    /// The log's verifier key, or a file with it: who must have signed the checkpoint.
    ///
    /// Of a log whose key was rotated the newest first, then each whose checkpoints are
    /// to be accepted as well.
    #[arg(long, value_name = "KEY", verbatim_doc_comment)]
    key: Vec<String>,
    /// The checkpoint that the log is compared with, or where it is published: a folder, or a
    /// bucket `s3://BUCKET/PREFIX`.
    ///
    /// With the folder or bucket, what was published of the log tells which entry was changed and how.
    /// Without this, the newest one that the database has beside the log: whoever can change
    /// the log can put back an older one.
    #[arg(long, value_name = "PATH", verbatim_doc_comment)]
    checkpoint: Option<PathBuf>,
    /// An older checkpoint with which the log must agree; may be given several times.
    #[arg(long, value_name = "PATH")]
    older: Vec<PathBuf>,
    /// The checkpoint must have been signed less than this ago, as 5m.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_age: Option<Duration>,
    /// The verifier key of a witness, or a file with it; may be given several times.
    #[arg(long, value_name = "KEY")]
    witness_key: Vec<String>,
    /// How many of the witnesses must have cosigned the checkpoint.
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    require_witness: usize,
    /// Verifies what was committed since so long ago, as 1h: costs as much as that.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Verifies the batches that have rows of this tenant; a UUID, or the key the application uses.
    ///
    /// A batch is proven as a whole, so rows of others in it are verified too.
    #[arg(long, value_name = "KEY")]
    tenant: Option<String>,
    /// How many connections read rows at once.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Prints an object of {findings, rows, bytes, entries, checkpoint, key, notes, `unsealed_rows`, seconds}.
    ///
    /// A finding is {kind, table, id, writer, seq, index, detail}.
    #[arg(long)]
    json: bool,
    /// Records in the trail that it was verified, and with which outcome.
    ///
    /// The page of the trail's state shows the last one.
    #[arg(long)]
    record: bool,
}

/// Records a verification. `$1`: whether anything was found; `$2`: an object.
const RECORD: &str = "SELECT audit.record_verification($1, $2::text::jsonb)";

/// What each transaction begins with. The order of a table's rows is that of its file; a scan that
/// begins where another is would read a batch's rows far apart.
const SET_UP: &str = "SET LOCAL TimeZone = 'UTC'; SET LOCAL bytea_output = 'hex'; SET LOCAL IntervalStyle = 'postgres'; SET LOCAL synchronize_seqscans = off; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL row_security = on; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off";

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// Verifies, and prints what was found. Exits with 1 if anything was.
pub(crate) async fn run(database: &Database, arguments: &Verify) -> Result<ExitCode, Error> {
    let failed = |source| database.read_error(source);
    let begun = Instant::now();
    let mut connection = database.connect_to_trail().await?;
    // Before the snapshot: the log has all that the checkpoint has by then.
    let mut published = Published::read(&mut connection, arguments).await?;
    let snapshot = begin(&mut connection, None).await.map_err(failed)?;
    let published_sizes = published.sizes();
    let tiles = published
        .tiles
        .as_mut()
        .map(|tiles| tiles as &mut dyn Tiles);
    let reader = Reader::new(published_sizes, tiles);
    let mut log = reader
        .read(&mut connection, arguments.since)
        .await
        .map_err(failed)?;
    let is_signed = published
        .compare(&mut connection, &log)
        .await
        .map_err(failed)?;
    log.name_changed(is_signed);
    let mut findings = std::mem::take(&mut published.findings);
    findings.append(&mut log.findings);
    if let Some(tiles) = &mut published.tiles {
        findings.extend(tiles.findings());
    }
    let is_partial = arguments.since.is_some() || arguments.tenant.is_some();
    let mut recorded = Recorded::read(&mut connection).await.map_err(failed)?;
    let mut batches = std::mem::take(&mut log.batches);
    findings.extend(batches.note_removals(&mut recorded.removed));
    if let Some(tenant) = &arguments.tenant {
        let rows = rows_of_tenant(&mut connection, tenant)
            .await
            .map_err(failed)?;
        batches.choose(&rows);
    }
    if let Some(since_us) = log.since_us {
        batches.leave_out_before(since_us);
    }
    let (changed, leaves) = shape::read(&mut connection).await.map_err(failed)?;
    findings.extend(changed);
    let rows = Rows::new(&batches, &recorded.erased, leaves.as_ref(), is_partial);
    let mut connections = vec![connection];
    for _ in 1..arguments.jobs {
        let mut connection = database.connect().await?;
        begin(&mut connection, Some(&snapshot))
            .await
            .map_err(failed)?;
        connections.push(connection);
    }
    let reading = try_join_all(
        connections
            .iter_mut()
            .map(|connection| rows.read(connection)),
    );
    with_progress(&rows, reading).await.map_err(failed)?;
    rows.name_strangers(&mut connections[0])
        .await
        .map_err(failed)?;
    rows.count_unreached(&mut connections[0])
        .await
        .map_err(failed)?;
    let has_erased = rows.has_erased.load(Relaxed);
    let (count, bytes) = (rows.count.load(Relaxed), rows.bytes.load(Relaxed));
    findings.extend(rows.into_findings());
    let connection = &mut connections[0];
    let is_relied_on = has_erased || batches.has_removals();
    recorded
        .judge(connection, leaves.as_ref(), is_partial, is_relied_on)
        .await
        .map_err(failed)?;
    findings.append(&mut recorded.findings);
    let (changed, without_root) = unproven(connection, batches, is_partial)
        .await
        .map_err(failed)?;
    findings.extend(changed);
    for connection in connections {
        // What it may still have to say is of no interest.
        drop(connection.close().await);
    }
    let mut notes = [published.notes, recorded.notes].concat();
    notes.extend(limits(arguments, without_root, findings.len()));
    let summary = Summary {
        log,
        newest: published.newest,
        notes,
        rows: count,
        bytes,
        took: begun.elapsed(),
    };
    print(&findings, &summary, arguments.json)?;
    if arguments.record {
        record(database, arguments, &summary, findings.len()).await?;
    }
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Records in the trail what was verified, and how much was found; each finding is in what was printed.
async fn record(
    database: &Database,
    arguments: &Verify,
    summary: &Summary,
    findings: usize,
) -> Result<(), Error> {
    let failed = |source| database.change_error("record the verification", source);
    let newest = summary.newest.as_ref();
    let details = json!({
        "findings": findings,
        "rows": summary.rows,
        "entries": summary.log.size,
        "unsealed_rows": summary.log.unsealed_rows,
        "checkpoint": newest.map(|newest| newest.checkpoint.head.size),
        "key": newest.map(|newest| newest.key.name_and_id()),
        "since_s": arguments.since.map(|since| since.as_secs()),
        "is_of_one_tenant": arguments.tenant.is_some(),
        "seconds": summary.took.as_secs_f64(),
    });
    let mut connection = database.connect_to_trail().await?;
    let mut transaction = begin_change(&mut connection).await.map_err(failed)?;
    sqlx::query(RECORD)
        .bind(findings > 0)
        .bind(details.to_string())
        .persistent(false)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    drop(connection.close().await);
    Ok(())
}

/// Says what was not verified, or is not named.
fn limits(arguments: &Verify, without_root: u64, findings: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if without_root > 0 {
        notes.push(format!(
            "{without_root} rows of batches that were sealed without a root are there, and not proven"
        ));
    }
    if arguments.tenant.is_some() {
        notes.push(String::from("batches without a row of this tenant were left out, also where one was removed or given to another tenant: only all of the trail shows that"));
    }
    if findings >= MOST_NAMED {
        notes.push(format!(
            "of each kind, no more than {MOST_NAMED} findings are named"
        ));
    }
    notes
}

/// Returns the writer and the seq of each row of a tenant.
async fn rows_of_tenant(
    connection: &mut PgConnection,
    tenant: &str,
) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    let mut rows = Vec::new();
    for table in Table::ALL {
        let query = format!(
            "SELECT writer_id, seq FROM audit.{} WHERE tenant_id = audit.tenant_uuid($1)",
            table.name()
        );
        let of_table: Vec<(Uuid, i64)> = sqlx::query_as(AssertSqlSafe(query))
            .bind(tenant)
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
        rows.extend(of_table);
    }
    Ok(rows)
}

/// What was verified.
struct Summary {
    log: Log,
    /// The checkpoint that it was compared with.
    newest: Option<Verified>,
    notes: Vec<String>,
    rows: u64,
    bytes: u64,
    took: Duration,
}

/// Begins a transaction that sees what another sees; returns the name of its snapshot.
pub(crate) async fn begin(
    connection: &mut PgConnection,
    snapshot: Option<&str>,
) -> Result<String, sqlx::Error> {
    connection
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    if let Some(snapshot) = snapshot {
        let set = format!("SET TRANSACTION SNAPSHOT '{snapshot}'");
        connection.execute(AssertSqlSafe(set)).await?;
    }
    connection.execute(CATALOG_FIRST).await?;
    connection.execute(SET_UP).await?;
    sqlx::query_scalar("SELECT pg_export_snapshot()")
        .persistent(false)
        .fetch_one(connection)
        .await
}

/// Tells how far it is, on a terminal.
async fn with_progress<T>(rows: &Rows<'_>, reading: impl Future<Output = T>) -> T {
    let mut reading = std::pin::pin!(reading);
    let begun = Instant::now();
    let is_told = io::stderr().is_terminal();
    loop {
        match tokio::time::timeout(PROGRESS, reading.as_mut()).await {
            Ok(done) => return done,
            Err(_) if is_told => {
                let read = rows.count.load(Relaxed);
                let _ = write!(
                    io::stderr(),
                    "\r{read} rows, {} rows/s ",
                    rate(read, begun.elapsed())
                );
            }
            Err(_) => {}
        }
    }
}

fn rate(rows: u64, took: Duration) -> u64 {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    rows.saturating_mul(1000) / milliseconds
}

/// Looks into the batches whose rows are not what was sealed. Also returns how many rows are there of
/// batches that were sealed without a root.
async fn unproven(
    connection: &mut PgConnection,
    batches: Batches,
    is_partial: bool,
) -> Result<(Vec<Finding>, u64), sqlx::Error> {
    let (mut findings, mut without_root) = (Vec::new(), 0);
    let are_chosen: Vec<bool> = batches
        .all
        .iter()
        .map(|batch| batches.is_chosen(batch))
        .collect();
    for (mut batch, is_chosen) in batches.all.into_iter().zip(are_chosen) {
        if batch.index.is_none() || !is_chosen {
            continue;
        }
        if batch.is_misprinted() {
            let detail = "its fingerprints are not those of its rows, which are as they were";
            let finding = Finding::new(Kind::HeaderChanged, detail);
            findings.push(finding.of_batch(batch.writer, batch.first_seq, batch.index));
        }
        let Some(seen) = batch.unproven() else {
            continue;
        };
        if batch.root.is_none() && is_partial {
            // Where its rows are is not known: they were not looked for.
        } else if batch.root.is_none() {
            without_root += seen.len() as u64;
            findings.extend(missing_rows(&batch, &seen));
        } else {
            let prints = fingerprints(connection, &batch).await?;
            findings.extend(differences(&batch, seen, &prints));
        }
    }
    Ok((findings, without_root))
}

/// Returns the fingerprints that are stored with a batch.
pub(crate) async fn fingerprints(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<Vec<u8>, sqlx::Error> {
    let prints: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT coalesce(b.fingerprints, l.fingerprints)
         FROM audit.batches b JOIN audit.ledger l ON l.writer_id = b.writer_id AND l.first_seq = b.first_seq
         WHERE b.writer_id = $1 AND b.first_seq = $2",
    )
    .bind(batch.writer)
    .bind(batch.first_seq)
    .persistent(false)
    .fetch_one(connection)
    .await?;
    Ok(prints.unwrap_or_default())
}

fn print(findings: &[Finding], summary: &Summary, as_json: bool) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if as_json {
        let findings: Vec<_> = findings.iter().map(Finding::json).collect();
        let said = json!({
            "findings": findings,
            "rows": summary.rows,
            "bytes": summary.bytes,
            "entries": summary.log.size,
            "checkpoint": summary.newest.as_ref().map(|newest| newest.checkpoint.head.size),
            "key": summary.newest.as_ref().map(|newest| newest.key.name_and_id()),
            "notes": summary.notes,
            "unsealed_rows": summary.log.unsealed_rows,
            "seconds": summary.took.as_secs_f64(),
        });
        writeln!(out, "{said}")?;
        return Ok(());
    }
    for finding in findings {
        writeln!(out, "{}", escape_line(&finding.to_string()))?;
    }
    for note in &summary.notes {
        writeln!(out, "{}", escape_line(note))?;
    }
    match &summary.newest {
        Some(Verified {
            checkpoint, key, ..
        }) => writeln!(
            out,
            "compared with the checkpoint of {} entries by the key {}",
            checkpoint.head.size,
            escape_line(&key.name_and_id())
        )?,
        None => writeln!(
            out,
            "compared with the database's own ledger alone, which whoever changes rows can change: give --key and --checkpoint"
        )?,
    }
    let outcome = match findings.len() {
        0 => String::from("nothing was changed"),
        1 => String::from("1 finding"),
        count => format!("{count} findings"),
    };
    writeln!(
        out,
        "{} rows in {} batches: {outcome} ({:.1} s, {} rows/s)",
        summary.rows,
        summary.log.size,
        summary.took.as_secs_f64(),
        rate(summary.rows, summary.took)
    )?;
    if summary.log.unsealed_rows > 0 {
        writeln!(
            out,
            "{} rows in {} batches are not sealed yet, and were not verified",
            summary.log.unsealed_rows, summary.log.unsealed_batches
        )?;
    }
    Ok(())
}
