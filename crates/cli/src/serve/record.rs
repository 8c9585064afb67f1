//! The page of one record: its texts, and its row as it is stored.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;

use super::App;
use super::answer::{Refusal, html_answer};
use super::gate::Known;
use super::page::{
    archive_badge, line, outcome, page, request_address, session_address, time, visible,
};
use super::seals::Seals;
use super::trail::{kind, what};
use super::viewer::{Reading, Viewer};
use crate::database::Scope;
pub(super) use crate::html::texts;
use crate::pages::{Extent, Pages, size_of};
use crate::row::{RecordId, Row};

/// The largest row that is shown as it is stored, in bytes; a larger one can be downloaded.
const SHOWN: i64 = 200_000;

/// The largest row that is downloaded as it is stored, in bytes: as JSON, a byte may become six.
const MOST_RAW: i64 = 4_000_000;

const MISSING: Refusal = Refusal::NotFound("record");

/// Shows the page.
pub(super) async fn record(
    State(app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    match shown(&app, &viewer, &query.unwrap_or_default()).await {
        Ok(body) => html_answer(StatusCode::OK, page("Record", "/", Some(&viewer), &body)),
        Err(refusal) => refusal.answer("/", Some(&viewer)),
    }
}

/// Sends the whole row, as JSON.
pub(super) async fn raw(
    State(app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    match whole(&app, &viewer, &query.unwrap_or_default()).await {
        Ok((record, json)) => {
            let name = format!("attachment; filename=\"{}.json\"", record.id);
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CONTENT_DISPOSITION, name.as_str()),
            ];
            (headers, json).into_response()
        }
        Err(refusal) => refusal.answer("/", Some(&viewer)),
    }
}

async fn whole(app: &App, viewer: &Viewer, query: &str) -> Result<(RecordId, String), Refusal> {
    let record = asked(query)?;
    let _place = app
        .heavy
        .try_acquire()
        .map_err(|_| Refusal::TooManyDownloads)?;
    let mut lease = viewer.lease().await?;
    let failed = |source| Refusal::from(viewer.connections.database().read_error(source));
    let scope = viewer.scope();
    let size = size_of(&mut lease, scope, record).await.map_err(failed)?;
    if size.is_some_and(|size| size > MOST_RAW) {
        return Err(Refusal::TooLarge);
    }
    let mut row = read(&mut lease, scope, record, Extent::Json)
        .await
        .map_err(failed)?;
    if row.is_none() {
        row = archived(app, viewer, &mut lease, record).await?;
    }
    let is_large = |row: &Row| i64::try_from(row.size()).is_ok_and(|size| size > MOST_RAW);
    if row.as_ref().is_some_and(is_large) {
        return Err(Refusal::TooLarge);
    }
    let filter = query_of(record);
    let reading = Reading {
        page: "raw",
        filter: &filter,
        request: row.as_ref().and_then(|row| row.text("request_id")),
        tenant: None,
        records: usize::from(row.is_some()),
    };
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    Ok((record, row.ok_or(MISSING)?.json()))
}

/// The record that an address names.
fn asked(query: &str) -> Result<RecordId, Refusal> {
    let (mut table, mut id) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "kind" => table = Table::of_name(&value),
            "id" => id = value.parse::<Uuid>().ok(),
            _ => {}
        }
    }
    let (Some(table), Some(id)) = (table, id) else {
        return Err(MISSING);
    };
    Ok(RecordId { table, id })
}

/// Returns the query of the address of a record.
fn query_of(record: RecordId) -> String {
    format!("kind={}&id={}", record.table.name(), record.id)
}

/// Reads one record.
async fn read(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    record: RecordId,
    extent: Extent,
) -> Result<Option<Row>, sqlx::Error> {
    let mut pages = Pages::new([record], extent);
    let mut row = None;
    while let Some(page) = pages.next(connection, scope).await? {
        row = page.into_iter().next();
    }
    Ok(row)
}

/// Reads a record that the database does not have, in the archive.
async fn archived(
    app: &App,
    viewer: &Viewer,
    connection: &mut PgConnection,
    record: RecordId,
) -> Result<Option<Row>, Refusal> {
    let read = app.archive.record(viewer, connection, record).await;
    let read = read.map_err(|source| viewer.connections.database().read_error(source))?;
    Ok(read?)
}

async fn shown(app: &App, viewer: &Viewer, query: &str) -> Result<Markup, Refusal> {
    let record = asked(query)?;
    let mut lease = viewer.lease().await?;
    let database = viewer.connections.database();
    let failed = |source| Refusal::from(database.read_error(source));
    let scope = viewer.scope();
    let mut row = read(&mut lease, scope, record, Extent::Story)
        .await
        .map_err(failed)?;
    let size = size_of(&mut lease, scope, record).await.map_err(failed)?;
    let whole = match size {
        Some(size) if size <= SHOWN => read(&mut lease, scope, record, Extent::Json)
            .await
            .map_err(failed)?,
        _ => None,
    };
    let mut whole = whole.map(|row| row.json());
    if row.is_none() {
        row = archived(app, viewer, &mut lease, record).await?;
        let is_shown = |row: &&Row| i64::try_from(row.size()).is_ok_and(|size| size <= SHOWN);
        whole = row.as_ref().filter(is_shown).map(Row::json);
    }
    let filter = query_of(record);
    let reading = Reading {
        page: "record",
        filter: &filter,
        request: row.as_ref().and_then(|row| row.text("request_id")),
        tenant: None,
        records: usize::from(row.is_some()),
    };
    let seals = Seals::of(viewer, &mut lease, &row.iter().collect::<Vec<_>>())
        .await
        .map_err(failed)?;
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    let row = row.ok_or(MISSING)?;
    Ok(body(&row, record, whole.as_deref(), &seals))
}

fn body(row: &Row, record: RecordId, whole: Option<&str>, seals: &Seals) -> Markup {
    html! {
        h1 { span.badge { (kind(row)) } " " (line(&what(row), 200)) }
        dl {
            dt { "Began" } dd { (time(&row.began)) }
            dt { "Outcome" } dd { (outcome(row.status())) (seals.badge(row)) (archive_badge(row)) }
            @if let Some(took) = row.took() { dt { "Took" } dd { (took) } }
            @if let Some(request) = row.text("request_id").filter(|id| !id.is_empty()) {
                dt { "Request" } dd { a href=(request_address(request)) { (visible(request)) } }
            }
            @for (label, session) in sessions(row) {
                dt { (label) } dd { a href=(session_address(session, None, Some(row.id()))) { (visible(session)) } }
            }
        }
        (texts(row))
        h2 { "The row as it is stored" }
        @if let Some(json) = whole { pre tabindex="0" { (visible(json)) } }
        p { a href={ "/raw?" (query_of(record)) } { "The whole row" } " as a file of JSON" }
    }
}

/// Returns the conversation and the session of a record, each with its label.
pub(super) fn sessions(row: &Row) -> impl Iterator<Item = (&'static str, &str)> {
    let both = [
        ("Conversation", "conversation_id"),
        ("Session", "llm_session_id"),
    ];
    let both = both.into_iter();
    // One that was cut when it was read is none.
    let is_whole = |id: &&str| !id.is_empty() && id.len() <= 1_000;
    both.filter_map(move |(label, column)| Some((label, row.text(column).filter(is_whole)?)))
}
