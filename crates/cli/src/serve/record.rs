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
use super::page::{line, outcome, page, request_address, time, visible};
use super::trail::{kind, what};
use super::viewer::{Reading, Viewer};
pub(super) use crate::html::texts;
use crate::pages::{Extent, Pages};
use crate::row::{RecordId, Row};

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
        }
        (texts(row))
        h2 { "The row as it is stored" }
        pre tabindex="0" { (visible(&row.json())) }
    }
}
