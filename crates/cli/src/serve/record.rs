//! The page of one record: its texts, and its row as it is stored.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use sqlx::types::Uuid;
use tracing_audit::__program::Table;

use super::App;
use super::answer::{Refusal, html_answer};
use super::gate::Known;
use super::page::{line, outcome, page, request_address, session_address, time, visible};
use super::sql::highlighted;
use super::trail::{kind, what};
use super::viewer::{Reading, Viewer};
use crate::families::Told;
use crate::pages::{Extent, Pages};
use crate::record::entries;
use crate::row::{RecordId, Row};

/// How many bytes of a text are shown before the reader asks for the whole.
const SHOWN: usize = 100_000;

/// Shows the page.
pub(super) async fn record(
    State(_app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    match shown(&viewer, &query.unwrap_or_default()).await {
        Ok(body) => html_answer(StatusCode::OK, page("Record", "/", Some(&viewer), &body)),
        Err(refusal) => refusal.answer("/", Some(&viewer)),
    }
}

async fn shown(viewer: &Viewer, query: &str) -> Result<Markup, Refusal> {
    let mut table = None;
    let mut id = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "kind" => table = Table::of_name(&value),
            "id" => id = value.parse::<Uuid>().ok(),
            _ => {}
        }
    }
    let missing = Refusal::NotFound("record");
    let (Some(table), Some(id)) = (table, id) else {
        return Err(missing);
    };
    let mut lease = viewer.lease().await?;
    let database = viewer.connections.database();
    let failed = |source| Refusal::from(database.read_error(source));
    let record = RecordId { table, id };
    let mut rows = Vec::new();
    let mut pages = Pages::new([record], Extent::Whole);
    while let Some(page) = pages
        .next(&mut lease, viewer.scope())
        .await
        .map_err(failed)?
    {
        rows.extend(page);
    }
    let row = rows.pop();
    let filter = format!("kind={}&id={id}", table.name());
    let reading = Reading {
        page: "record",
        filter: &filter,
        request: row.as_ref().and_then(|row| row.text("request_id")),
        tenant: None,
        records: usize::from(row.is_some()),
    };
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    let row = row.ok_or(missing)?;
    Ok(body(&row))
}

fn body(row: &Row) -> Markup {
    html! {
        h1 { span.badge { (kind(row)) } " " (line(&what(row), 200)) }
        dl {
            dt { "Began" } dd { (time(&row.began)) }
            dt { "Outcome" } dd { (outcome(row.status())) }
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
        pre tabindex="0" { (visible(&row.json())) }
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

/// Shows the texts of a record, each with its label.
pub(super) fn texts(row: &Row) -> Markup {
    let mut told = Told::of(row);
    if let Some(told) = &mut told {
        told.cut_words();
    }
    html! {
        @for entry in entries(row, told.as_ref(), "in the row as it is stored") {
            div.entry.bad[matches!(entry.label, "error" | "problems" | "incomplete")] {
                div.label { (entry.label) }
                pre tabindex="0" {
                    @if entry.label == "sql" { (highlighted(cut(&entry.text))) } @else { (visible(cut(&entry.text))) }
                }
                @if entry.text.len() > SHOWN {
                    p.soft { (crate::text::grouped(i64::try_from(entry.text.len()).unwrap_or(i64::MAX))) " bytes; the whole is in the row below." }
                }
            }
        }
    }
}

/// Returns the beginning of a text.
fn cut(text: &str) -> &str {
    let mut end = SHOWN.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
