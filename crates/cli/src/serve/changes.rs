//! The page of changes: who changed what in tracked tables, with the old and the new value side by
//! side; and the history of one row.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};
use sqlx::types::Uuid;
use sqlx::{FromRow, Row as _};

use super::App;
use super::answer::{Refusal, html_answer};
use super::gate::Known;
use super::page::{
    filtered, future, line, notice, page, record_address, request_link, time, visible,
};
use super::rows::{Rows, rows, too_large};
use super::trail::cut_short;
use super::viewer::{Reading, Viewer};
use crate::database::begin;
use crate::filter::{Filter, encode};
use crate::row::Row;
use crate::search::{End, Found, Place, Search, limit_time};

/// How many changes a page shows.
const LIMIT: usize = 50;

/// How long a search may take.
const TIME: Duration = Duration::from_millis(200);

/// How long it may take if the reader asks to search further.
const LONG_TIME: Duration = Duration::from_secs(10);

/// How long the history of a row may take.
const HISTORY_TIME: Duration = Duration::from_secs(5);

/// The most changes of a row that are shown.
const MAX_HISTORY: i64 = 500;

/// How many characters of the changes of a row are read.
const MAX_CHARS: usize = 20_000;

/// The changes of a row, the newest first.
const HISTORY: &str = "
    SELECT to_char(changed_at, 'YYYY-MM-DD HH24:MI:SS.MS') AS changed_at, operation, left(changes::text, $4) AS changes, left(user_id, 300) AS user_id,
        left(login, 300) AS login, left(request_id, 4096) AS request_id, event_id
    FROM audit.row_history($1, $2) WITH ORDINALITY AS h (number, changed_at, operation, changes, user_id, request_id, login, event_id, place)
    ORDER BY place DESC LIMIT $3";

/// Shows the changes, or the history of a row if the address names one.
pub(super) async fn changes(
    State(_app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let value = |wanted: &str| {
        let mut values = form_urlencoded::parse(query.as_bytes());
        let value = values.find(|(name, _)| name == wanted);
        value
            .map(|(_, value)| value.into_owned())
            .filter(|value| !value.is_empty())
    };
    let shown = match (value("table"), value("key")) {
        (Some(table), Some(key)) => history(&viewer, &table, &key).await,
        (table, None) => list(&viewer, &query, table).await,
        (None, Some(_)) => Err(Refusal::NotFound("row without a table")),
    };
    match shown {
        Ok(body) => html_answer(
            StatusCode::OK,
            page("Changes", "/changes", Some(&viewer), &body),
        ),
        Err(refusal) => refusal.answer("/changes", Some(&viewer)),
    }
}

async fn list(viewer: &Viewer, query: &str, table: Option<String>) -> Result<Markup, Refusal> {
    let mut filter = Filter {
        changes: true,
        target_type: table,
        ..Filter::default()
    };
    let (mut place, mut limit) = (Place::Newest, TIME);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "before" => {
                let id = value.parse();
                place = Place::Before(id.map_err(|_| Refusal::NotFound("place in the trail"))?);
            }
            "long" => limit = LONG_TIME,
            "user" | "tenant" | "request" | "since" | "until" if !value.trim().is_empty() => {
                filter.add(&name, value.trim())?;
            }
            _ => {}
        }
    }
    let mut lease = viewer.lease().await?;
    let failed = |source| Refusal::from(viewer.connections.database().read_error(source));
    let search = Search {
        filter: &filter,
        place,
        limit: LIMIT,
        time: limit,
    };
    let found = search
        .run(&mut lease, viewer.scope())
        .await
        .map_err(failed)??;
    let Rows { rows, left_out } = rows(&mut lease, viewer.scope(), &found.records)
        .await
        .map_err(failed)?;
    let reading = Reading {
        page: "changes",
        filter: &filter.query(),
        request: filter.request.as_deref(),
        tenant: filter.tenant.as_deref(),
        records: rows.len(),
    };
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    Ok(html! { (list_body(&filter, place, &found, &rows)) (too_large(left_out)) })
}

fn list_body(filter: &Filter, place: Place, found: &Found, rows: &[Row]) -> Markup {
    let address = |place: Place, is_long: bool| {
        let mut address = String::from("/changes?");
        if let Some((name, id)) = place.argument() {
            let _ = write!(address, "{name}={id}");
        }
        for (name, value) in filter.values() {
            let name = match name {
                "changes" => continue,
                "target_type" => "table",
                name => name,
            };
            let _ = write!(address, "&{name}={}", encode(value));
        }
        if is_long {
            address.push_str("&long=yes");
        }
        address
    };
    let input = |name: &'static str, label: &'static str, value: Option<&str>| {
        html! { label { (label) input name=(name) value=[value] size="14"; } }
    };
    html! {
        h1 { "Changes of tracked tables" }
        form.filters method="get" action="/changes" role="search" aria-label="Filter the changes" {
            (input("table", "Table (schema.table)", filter.target_type.as_deref()))
            (input("key", "Key of a row, for its history", None))
            (input("user", "User", filter.user.as_deref()))
            (input("tenant", "Tenant", filter.tenant.as_deref()))
            (input("since", "Since (24h, 2026-01-31)", filter.since.as_deref()))
            button.main type="submit" { "Search" }
            a href="/changes" { "All" }
        }
        @if found.end == End::CutShort {
            (cut_short(found, place, |place| address(place, true)))
        } @else if rows.is_empty() {
            (notice("No change is found. Tables are tracked by audit.track."))
        }
        (future(found.future, &filter.query()))
        @for row in rows { (change(row)) }
        @if let (End::Full, Some(id)) = (found.end, found.reached) {
            p.pages { a href=(address(Place::Before(id), false)) rel="next" { "Older →" } }
        }
    }
}

/// Shows one change.
fn change(row: &Row) -> Markup {
    let text = |column| row.text(column).unwrap_or_default();
    let field = |name: &str| {
        let json = row.metadata.get(name)?;
        serde_json::from_str::<String>(json).ok()
    };
    let (table, key) = (text("target_type"), text("target_id"));
    html! {
        section.change {
            h2 {
                (visible(&field("operation").unwrap_or_default())) " of " (visible(table))
                @if !key.is_empty() {
                    " row " a href=(history_address(table, key)) { (line(key, 80)) }
                }
            }
            p.soft {
                a href=(record_address(row.table.name(), row.id())) { (time(&row.began)) }
                @if let Some(user) = row.text("user_id") { " by " (filtered("user", user)) }
                @if let Some(login) = field("login") { " (login " (line(&login, 60)) ")" }
                @if let Some(request) = row.text("request_id").filter(|id| !id.is_empty()) { " for request " (request_link(request)) }
            }
            @if let Some(changes) = row.metadata.get("changes") { (sides(changes)) }
        }
    }
}

/// Shows the fields of a change, old and new side by side.
fn sides(changes: &str) -> Markup {
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(changes) else {
        return html! {
            pre { (visible(changes)) }
            p.soft { "The change is too large to be shown by fields; the record has the whole." }
        };
    };
    let side = |value: Option<&Value>| match value {
        None => html! { span.soft { "—" } },
        Some(Value::String(text)) => visible(text),
        Some(value) => visible(&value.to_string()),
    };
    html! {
        @if !fields.is_empty() {
            div.scroll {
                table {
                    thead { tr { th { "Field" } th { "Old" } th { "New" } } }
                    tbody {
                        @for (name, value) in fields.iter().take(MAX_FIELDS) {
                            tr {
                                td { (line(name, 120)) }
                                td.removed { (side(value.get("old"))) }
                                td.added { (side(value.get("new"))) }
                            }
                        }
                    }
                }
            }
            @if fields.len() > MAX_FIELDS {
                p.soft { "… and " (fields.len() - MAX_FIELDS) " more fields; the record has all." }
            }
        }
    }
}

/// The most fields of a change that are shown.
const MAX_FIELDS: usize = 100;

/// Returns the address of a row's history.
fn history_address(table: &str, key: &str) -> String {
    format!("/changes?table={}&key={}", encode(table), encode(key))
}

/// A change of the history of a row.
struct Change {
    changed_at: String,
    operation: Option<String>,
    changes: Option<String>,
    user: Option<String>,
    login: Option<String>,
    request: Option<String>,
    event: Uuid,
}

impl FromRow<'_, sqlx::postgres::PgRow> for Change {
    fn from_row(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            changed_at: row.try_get("changed_at")?,
            operation: row.try_get("operation")?,
            changes: row.try_get("changes")?,
            user: row.try_get("user_id")?,
            login: row.try_get("login")?,
            request: row.try_get("request_id")?,
            event: row.try_get("event_id")?,
        })
    }
}

async fn history(viewer: &Viewer, table: &str, key: &str) -> Result<Markup, Refusal> {
    let missing = Refusal::NotFound("row with changes");
    if table.contains('\0') || key.contains('\0') || table.len() + key.len() > 4_096 {
        return Err(missing);
    }
    let mut lease = viewer.lease().await?;
    let failed = |source| Refusal::from(viewer.connections.database().read_error(source));
    let (mut transaction, _) = begin(&mut lease, viewer.scope()).await.map_err(failed)?;
    limit_time(&mut transaction, HISTORY_TIME)
        .await
        .map_err(failed)?;
    let mut changes: Vec<Change> = sqlx::query_as(HISTORY)
        .bind(table)
        .bind(key)
        .bind(MAX_HISTORY + 1)
        .bind(i32::try_from(MAX_CHARS).unwrap_or(i32::MAX))
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.rollback().await.map_err(failed)?;
    let most = usize::try_from(MAX_HISTORY).unwrap_or(usize::MAX);
    let is_more = changes.len() > most;
    changes.truncate(most);
    let filter = format!("table={}&key={}", encode(table), encode(key));
    let reading = Reading {
        page: "changes",
        filter: &filter,
        records: changes.len(),
        ..Reading::default()
    };
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    if changes.is_empty() {
        return Err(missing);
    }
    Ok(html! {
        h1 { "History of " (visible(table)) " row " (line(key, 200)) }
        p.soft { "The newest change first." }
        @if is_more {
            p.notice role="status" {
                "These are the newest " (MAX_HISTORY) " changes of it; "
                a href={ "/?changes=yes&target_type=" (encode(table)) "&target=" (encode(key)) } { "all of them are in the trail" }
                "."
            }
        }
        @for change in &changes {
            section.change {
                h2 { (visible(change.operation.as_deref().unwrap_or_default())) }
                p.soft {
                    a href=(record_address("events", &change.event.to_string())) { (time(&change.changed_at)) }
                    @if let Some(user) = &change.user { " by " (filtered("user", user)) }
                    @if let Some(login) = &change.login { " (login " (line(login, 60)) ")" }
                    @if let Some(request) = change.request.as_deref().filter(|id| !id.is_empty()) { " for request " (request_link(request)) }
                }
                @if let Some(changes) = &change.changes { (sides(changes)) }
            }
        }
    })
}
