//! An export: recorded before its first byte, and again when it has ended.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;

#[cfg(feature = "archive")]
use super::archived;
use super::csv::Csv;
use super::encoder::Encoder;
use super::html::{About, Html};
use super::jsonl::Jsonl;
use super::ocsf::Ocsf;
use super::output::{Output, Place, Sink, Tally};
#[cfg(feature = "parquet")]
use super::parquet::Parquet;
use super::sealed::Sealed;
use super::source::{Failure, Source};
#[cfg(feature = "archive")]
use crate::archive::scan::OpenArchive;
use crate::database::{Database, Scope, begin, record_reading};
use crate::error::Error;
use crate::filter::{Filter, FilterError};
use crate::outline::Outline;
use crate::pages::Extent;
use crate::row::{RecordId, Row};
use crate::story::Rows;
use crate::tree;

/// A format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table, which a spreadsheet opens without running formulas.
    Csv,
    /// A line of JSON for each record, as `show --json` prints it.
    Jsonl,
    /// Apache Parquet.
    #[cfg(feature = "parquet")]
    Parquet,
    /// Events of the Open Cybersecurity Schema Framework, a line of JSON each.
    Ocsf,
    /// One file to read in a browser, or to print.
    Html,
}

impl Format {
    /// Returns its name, which is the usual ending of such a file but for `ocsf`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            #[cfg(feature = "parquet")]
            Self::Parquet => "parquet",
            Self::Ocsf => "ocsf",
            Self::Html => "html",
        }
    }

    /// Returns its media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Jsonl | Self::Ocsf => "application/x-ndjson",
            #[cfg(feature = "parquet")]
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

/// What is exported, for whom.
#[derive(Clone, Debug)]
pub(crate) struct Job<'a> {
    pub(crate) database: &'a Database,
    /// As whom the trail is read: with the filter's tenant, if it has one.
    pub(crate) scope: Scope<'a>,
    pub(crate) filter: &'a Filter,
    pub(crate) format: Format,
    pub(crate) purpose: &'a str,
    /// What else is recorded of the reader.
    pub(crate) reader: Map<String, Value>,
    /// Whether CSV has fields that begin like formulas as they are.
    pub(crate) is_raw: bool,
    /// How many records may be proven, if they are.
    pub(crate) most_proven: Option<usize>,
    /// Whether progress is shown on a terminal.
    pub(crate) is_shown: bool,
    /// The archive whose records are exported as well.
    #[cfg(feature = "archive")]
    pub(crate) archive: Option<&'a OpenArchive>,
}

/// An export that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The event that tells of it.
    pub(crate) event: Uuid,
    pub(crate) at: String,
    /// The login, the database, and the version of its server.
    pub(crate) login: String,
    pub(crate) database: String,
    pub(crate) server: String,
}

/// An export whose bytes were all handed over.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) tally: Tally,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) ended: String,
    /// What is known of the ledger, or why nothing is.
    pub(crate) sealed: Result<Sealed, &'static str>,
    /// The records that are to be proven.
    pub(crate) places: Vec<Place>,
    /// Whether all records are of one snapshot.
    pub(crate) is_one_snapshot: bool,
}

/// Why nothing, or not all, was exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    /// The trail cannot be read, or the export not be recorded.
    #[error(transparent)]
    Trail(#[from] Error),
    /// There are no such records.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// What was written to.
    #[error("{0}")]
    Output(#[source] std::io::Error),
    /// They are too many to be proven.
    #[error("there are more than {0} such records, which is the most that are proven at once")]
    TooManyProofs(usize),
}

/// Returns the time, as it is recorded.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

impl Job<'_> {
    /// Records that the export begins.
    pub(crate) async fn begin(&self, connection: &mut PgConnection) -> Result<Begun, JobError> {
        let read = |source| self.database.read_error(source);
        // What is no filter is told before anything is recorded.
        let (mut transaction, _) = begin(connection, self.scope).await.map_err(read)?;
        self.filter.bounds(&mut transaction).await.map_err(read)??;
        let (login, database, server): (String, String, String) = sqlx::query_as(
            "SELECT session_user::text, current_database()::text, current_setting('server_version')",
        )
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await
        .map_err(read)?;
        transaction.rollback().await.map_err(read)?;
        let at = now();
        let details = json!({ "begun": at });
        let event = self.record(connection, details).await?;
        Ok(Begun {
            event,
            at,
            login,
            database,
            server,
        })
    }

    /// Records that the export ended, and what was exported. Returns the event.
    pub(crate) async fn end(
        &self,
        connection: &mut PgConnection,
        begun: &Begun,
        written: &Written,
    ) -> Result<Uuid, Error> {
        let details = json!({
            "begun": begun.at,
            "began_as": begun.event.to_string(),
            "ended": written.ended,
            "records": written.tally.total(),
            "unread": written.tally.unread,
            "bytes": written.bytes,
            "sha256": written.sha256,
        });
        self.record(connection, details).await
    }

    async fn record(
        &self,
        connection: &mut PgConnection,
        mut details: Value,
    ) -> Result<Uuid, Error> {
        if let Some(fields) = details.as_object_mut() {
            fields.extend(self.reader.clone());
            fields.insert(String::from("page"), json!("export"));
            fields.insert(String::from("format"), json!(self.format.name()));
            fields.insert(String::from("filter"), json!(self.filter.query()));
        }
        let tenant = self.scope.tenant().or(self.filter.tenant.as_deref());
        record_reading(
            self.database,
            connection,
            self.purpose,
            self.filter.request.as_deref(),
            tenant,
            Some(&details.to_string()),
        )
        .await
    }

    /// Hands over all bytes of the export.
    pub(crate) async fn transfer<S: Sink>(
        &self,
        connection: &mut PgConnection,
        begun: &Begun,
        sink: &mut S,
    ) -> Result<Written, JobError> {
        let encoder = encoder(self.format, self.is_raw, self.about(begun));
        let encoder = encoder.map_err(JobError::Output)?;
        let mut output = Output::new(encoder, sink, self.is_shown);
        output.places = self.most_proven.map(|most| (most, Vec::new()));
        let is_story = self.is_story();
        let read = if is_story {
            self.read_story(connection, &mut output).await
        } else {
            self.read_all(connection, &mut output).await
        };
        let unknown = read.map_err(|failure| self.failed(failure))?;
        let places = output.places.take().map(|(_, places)| places);
        let places = places.unwrap_or_default();
        if let Some(most) = self.most_proven.filter(|most| places.len() > *most) {
            return Err(JobError::TooManyProofs(most));
        }
        let sha256 = output.end().await.map_err(JobError::Output)?;
        Ok(Written {
            tally: output.tally,
            bytes: output.bytes,
            sha256,
            ended: now(),
            sealed: output.sealed.take().ok_or(unknown),
            places,
            is_one_snapshot: !is_story,
        })
    }

    fn failed(&self, failure: Failure) -> JobError {
        match failure {
            Failure::Database(source) => self.database.read_error(source).into(),
            Failure::Output(source) => JobError::Output(source),
            Failure::Trail(error) => error.into(),
        }
    }

    /// Whether the records are those of a request, which are shown as its story.
    fn is_story(&self) -> bool {
        is_story(self.format, self.filter)
    }

    /// Returns what the head of an HTML file says.
    fn about(&self, begun: &Begun) -> About {
        let facts = vec![
            ("exported", begun.at.clone()),
            ("by", begun.login.clone()),
            ("why", self.purpose.to_owned()),
            ("database", begun.database.clone()),
            ("recorded as", begun.event.to_string()),
        ];
        #[cfg(feature = "archive")]
        let facts = {
            let archive = self.archive.map(|archive| ("archive", archive.name()));
            facts.into_iter().chain(archive).collect()
        };
        about(self.format, self.filter, facts)
    }

    /// Reads all records in one snapshot. Returns why nothing is known of the ledger, if so.
    async fn read_all<S: Sink>(
        &self,
        connection: &mut PgConnection,
        output: &mut Output<'_, S>,
    ) -> Result<&'static str, Failure> {
        let (mut transaction, own) = begin(connection, self.scope).await?;
        let bounds = self.filter.bounds(&mut transaction).await?;
        let bounds = bounds.map_err(|error| sqlx::Error::Configuration(error.into()))?;
        let tenant = self.filter.tenant_id(&mut transaction, own).await?;
        let unknown = look_at_ledger(&mut transaction, output).await?;
        output.begin()?;
        #[cfg(feature = "archive")]
        if let Some(archive) = self.archive {
            archived::read(
                archive,
                self.filter,
                bounds,
                tenant,
                &mut transaction,
                output,
            )
            .await?;
            transaction.rollback().await?;
            return Ok(unknown);
        }
        let mut source = Source::new(self.filter, bounds, tenant);
        source.read(&mut transaction, output, &mut ()).await?;
        transaction.rollback().await?;
        Ok(unknown)
    }

    /// Reads the story of a request, as a tree. Returns why nothing is known of the ledger, if so.
    async fn read_story<S: Sink>(
        &self,
        connection: &mut PgConnection,
        output: &mut Output<'_, S>,
    ) -> Result<&'static str, Failure> {
        let (mut transaction, own) = begin(connection, self.scope).await?;
        let unknown = look_at_ledger(&mut transaction, output).await?;
        #[cfg_attr(not(feature = "archive"), expect(unused_variables))]
        let tenant = self.filter.tenant_id(&mut transaction, own).await?;
        transaction.rollback().await?;
        let request = self.filter.request.as_deref().unwrap_or_default();
        let mut outline = Outline::of_request(connection, self.scope, request).await?;
        #[cfg(feature = "archive")]
        let archived = match self.archive {
            Some(archive) => {
                let source = Some((self.database, &mut *connection, self.scope));
                archive.story(source, request, tenant).await?
            }
            None => Vec::new(),
        };
        #[cfg(not(feature = "archive"))]
        let archived = Vec::new();
        let mut archived = outline.add_archived(archived);
        let source = Some((self.database, connection));
        write_story(source, self.scope, &outline, &mut archived, output).await?;
        Ok(unknown)
    }
}

/// Writes a story, as a tree.
pub(super) async fn write_story<S: Sink>(
    source: Option<(&Database, &mut PgConnection)>,
    scope: Scope<'_>,
    outline: &Outline,
    archived: &mut HashMap<RecordId, Row>,
    output: &mut Output<'_, S>,
) -> Result<(), Failure> {
    output.begin()?;
    output.outline(outline);
    let places = tree::places(&outline.nodes, None);
    let records: Vec<RecordId> = places.iter().map(|place| place.node.record).collect();
    let mut rows = Rows::new(source, scope, archived, records, Extent::Whole);
    let mut places = places.iter();
    while let Some(page) = rows.next().await? {
        for mut row in page {
            outline.tell_learned(&mut row);
            // A record that was removed meanwhile is left out.
            if let Some(place) = places.by_ref().find(|place| row.is(place.node.record)) {
                output.row(&row, place.node.record.id, place.depth);
                output.tally.archived += u64::from(row.archived.is_some());
            }
            output.send_if_full().await?;
        }
    }
    Ok(())
}

/// Whether the records are those of a request, which are shown as its story.
pub(super) fn is_story(format: Format, filter: &Filter) -> bool {
    let of_request = Filter {
        request: filter.request.clone(),
        tenant: filter.tenant.clone(),
        ..Filter::default()
    };
    format == Format::Html && filter.request.is_some() && *filter == of_request
}

/// Returns what the head of an HTML file says: these facts, and the filter.
pub(super) fn about(
    format: Format,
    filter: &Filter,
    mut facts: Vec<(&'static str, String)>,
) -> About {
    let title = match &filter.request {
        Some(request) if is_story(format, filter) => format!("Request {request}"),
        _ => String::from("Records of the trail"),
    };
    let values = filter.values().into_iter();
    facts.extend(values.map(|(name, value)| (name, value.to_owned())));
    About { title, facts }
}

#[cfg_attr(
    not(feature = "parquet"),
    allow(clippy::unnecessary_wraps, reason = "as with the feature")
)]
pub(super) fn encoder(
    format: Format,
    is_raw: bool,
    about: About,
) -> std::io::Result<Box<dyn Encoder>> {
    Ok(match format {
        Format::Csv => Box::new(Csv::new(is_raw)),
        Format::Jsonl => Box::new(Jsonl::default()),
        Format::Ocsf => Box::new(Ocsf::default()),
        #[cfg(feature = "parquet")]
        Format::Parquet => Box::new(Parquet::new()?),
        Format::Html => Box::new(Html::new(about)),
    })
}

/// Reads what is known of the ledger, in a transaction that has begun; returns why nothing is, if so.
async fn look_at_ledger<S: Sink>(
    connection: &mut PgConnection,
    output: &mut Output<'_, S>,
) -> Result<&'static str, sqlx::Error> {
    match Sealed::read(connection).await? {
        Ok(sealed) => {
            output.sealed = Some(sealed);
            Ok("")
        }
        Err(why) => Ok(why),
    }
}

impl Written {
    /// Returns the number of records of each table.
    pub(crate) fn by_table(&self) -> Map<String, Value> {
        Table::ALL
            .iter()
            .zip(self.tally.by_table)
            .map(|(table, count)| (table.name().to_owned(), json!(count)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn each_format_has_a_media_type_of_its_own() {
        for format in Format::value_variants() {
            assert!(format.media_type().contains('/'), "{}", format.name());
        }
    }
}
