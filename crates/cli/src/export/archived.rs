//! An export with the records of an archive: between those of the database, each once, or alone.

use std::collections::VecDeque;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

use super::asked::Export;
use super::columns::COLUMNS;
use super::file::Stdout;
use super::job::{self, Written, about, encoder, is_story, write_story};
use super::output::{Output, Sink};
use super::source::{Between, Failure, Source, within_limit};
use super::{ExportError, begin_files, conclude, keep_all, told, write_error, write_manifest};
use crate::archive::scan::{Hit, OpenArchive, Order};
use crate::archive::{beside, matching::Matcher, moment, tenant_of};
use crate::database::Scope;
use crate::error::Error;
use crate::filter::{Bounds, Filter};
use crate::outline::Outline;
use crate::row::RecordId;

/// Why nothing is known of the ledger.
const NO_LEDGER: &str = "no database was asked";

/// Records of an archive that are to be written, ascending.
struct Waiting {
    hits: VecDeque<Hit>,
    columns: Arc<[usize]>,
}

impl Waiting {
    fn write_first<S: Sink>(&mut self, output: &mut Output<'_, S>) -> io::Result<()> {
        if let Some(hit) = self.hits.pop_front() {
            let mut record = within_limit(hit.record(&self.columns));
            let unread = hit.unread();
            record.unread = record.unread.or(unread.as_deref());
            output.record(&record)?;
            output.tally.archived += 1;
        }
        Ok(())
    }

    /// Writes all that are left.
    async fn write<S: Sink>(&mut self, output: &mut Output<'_, S>) -> io::Result<()> {
        while !self.hits.is_empty() {
            self.write_first(output)?;
            output.send_if_full().await?;
        }
        Ok(())
    }
}

impl<S: Sink> Between<S> for Waiting {
    fn before(&mut self, id: Uuid, output: &mut Output<'_, S>) -> io::Result<()> {
        while self.hits.front().is_some_and(|hit| hit.record.id < id) {
            self.write_first(output)?;
        }
        Ok(())
    }
}

/// Reads the records of the database, in the transaction that has begun, and between them those that the archive alone has.
///
/// What is removed from the database is in the archive before: what this snapshot does not have any more, the archive has when it is
/// listed now.
pub(super) async fn read<S: Sink>(
    archive: &OpenArchive,
    filter: &Filter,
    bounds: Bounds,
    tenant: Option<Uuid>,
    connection: &mut PgConnection,
    output: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let case = beside::case(connection).await?;
    let matcher = Matcher::new(filter.clone(), bounds, tenant).with_case(case);
    let columns: Vec<usize> = (0..COLUMNS.len()).collect();
    let mut scan = archive.scan(matcher, &columns, Order::OldestFirst).await?;
    let mut waiting = Waiting {
        hits: VecDeque::new(),
        columns: scan.columns(),
    };
    let mut rest = bounds;
    while let Some(mut slice) = scan.next().await? {
        beside::open(connection, &scan, &mut slice).await?;
        let records: Vec<RecordId> = slice.hits.iter().map(|hit| hit.record).collect();
        let known = beside::known(connection, &records).await?;
        let hits = slice.hits.into_iter();
        waiting.hits = hits.filter(|hit| !known.contains(&hit.record)).collect();
        // What the database has is read on up to where something is to be written between.
        if waiting.hits.is_empty() {
            continue;
        }
        let to = [slice.to, bounds.to].into_iter().flatten().min();
        let before = Bounds { to, ..rest };
        let mut source = Source::new(filter, before, tenant);
        source.read(connection, output, &mut waiting).await?;
        waiting.write(output).await?;
        let Some(to) = to else { return Ok(()) };
        rest.from = Some(to);
    }
    let mut source = Source::new(filter, rest, tenant);
    source.read(connection, output, &mut ()).await
}

/// Exports the records of an archive alone: no database is asked, and nothing is recorded.
pub(super) async fn export(arguments: &Export, filter: &Filter) -> Result<ExitCode, Error> {
    let Some(archive) = arguments.archive.open()? else {
        return Err(Error::NoUrl);
    };
    let bounds = moment::bounds(filter).map_err(|source| ExportError::Filter {
        option: "the filter",
        source,
    })?;
    let [file, manifest, _] = begin_files(arguments)?;
    let mut file = file;
    let begun = job::now();
    let written = if let Some(file) = &mut file {
        transfer(arguments, filter, &archive, bounds, &begun, file).await
    } else {
        let mut stdout = Stdout::start().map_err(Error::Runtime)?;
        transfer(arguments, filter, &archive, bounds, &begun, &mut stdout).await
    };
    let written = written.map_err(|failure| match failure {
        Failure::Trail(error) => error,
        Failure::Output(source) => write_error(&arguments.output, source),
        // There is none.
        Failure::Database(_) => Error::NoUrl,
    })?;
    let mut told = told(arguments, filter, &begun, &written);
    told["purpose"] = json!(arguments.purpose);
    told["archive"] = of_archive(&archive, &written);
    let manifest = manifest
        .map(|manifest| write_manifest(manifest, told, Value::Null, Value::Null))
        .transpose()?;
    keep_all([manifest, None, file])?;
    Ok(conclude(arguments, &written))
}

/// Returns what the manifest says of the archive.
pub(super) fn of_archive(archive: &OpenArchive, written: &Written) -> Value {
    json!({
        "place": archive.name(),
        "verified": archive.is_verified(),
        "records": written.tally.archived,
    })
}

async fn transfer<S: Sink>(
    arguments: &Export,
    filter: &Filter,
    archive: &OpenArchive,
    bounds: Bounds,
    begun: &str,
    sink: &mut S,
) -> Result<Written, Failure> {
    let why = arguments.purpose.clone().map(|why| ("why", why));
    let facts = [("exported", begun.to_owned()), ("archive", archive.name())];
    let facts = facts.into_iter().chain(why).collect();
    let about = about(arguments.format, filter, facts);
    let encoder = encoder(arguments.format, arguments.raw_values, about)?;
    let mut output = Output::new(encoder, sink, true);
    let tenant = filter.tenant.as_deref().map(tenant_of);
    if is_story(arguments.format, filter) {
        let request = filter.request.as_deref().unwrap_or_default();
        let mut outline = Outline::empty();
        let mut archived = outline.add_archived(archive.story(None, request, tenant).await?);
        write_story(None, Scope::default(), &outline, &mut archived, &mut output).await?;
    } else {
        output.begin()?;
        let matcher = Matcher::new(filter.clone(), bounds, tenant);
        let columns: Vec<usize> = (0..COLUMNS.len()).collect();
        let mut scan = archive.scan(matcher, &columns, Order::OldestFirst).await?;
        let columns = scan.columns();
        while let Some(mut slice) = scan.next().await? {
            scan.open_without_keys(&mut slice);
            let mut waiting = Waiting {
                hits: slice.hits.into(),
                columns: Arc::clone(&columns),
            };
            waiting.write(&mut output).await?;
        }
    }
    let sha256 = output.end().await?;
    Ok(Written {
        tally: output.tally,
        bytes: output.bytes,
        sha256,
        ended: job::now(),
        sealed: Err(NO_LEDGER),
        places: Vec::new(),
        is_one_snapshot: false,
    })
}
