//! The page of a session or conversation: its records in order, request by request.
//!
//! No index finds them, so they are searched for as any records are: from the newest back, or from a
//! record that the reader came from, for as long as a page may take. The page says how far it looked.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use sqlx::types::Uuid;
use tracing_audit::Kind;

use super::App;
use super::answer::{Refusal, html_answer};
use super::gate::Known;
use super::page::{
    future, line, notice, outcome, page, record_address, request_address, session_address, time,
    visible,
};
use super::record::texts;
use super::rows::{Rows, rows, too_large};
use super::trail::{cut_short, kind, what};
use super::viewer::{Reading, Viewer};
use crate::filter::Filter;
use crate::row::Row;
use crate::search::{End, Found, Place, Search};

/// How many records a page shows.
const LIMIT: usize = 100;

/// How long a search may take before the page says how far it came.
const TIME: Duration = Duration::from_millis(250);

/// How long it may take if the reader asks to search further.
const LONG_TIME: Duration = Duration::from_secs(10);

/// What an address asks for.
#[derive(Debug)]
struct Asked {
    /// Has the session, and the tenant if one is chosen.
    filter: Filter,
    place: Place,
    is_long: bool,
}

impl Asked {
    fn read(query: &str) -> Result<Self, Refusal> {
        let mut asked = Self {
            filter: Filter::default(),
            place: Place::Newest,
            is_long: false,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let id = || {
                let id = value.parse::<Uuid>();
                id.map_err(|_| Refusal::NotFound("place in the conversation"))
            };
            match &*name {
                "before" => asked.place = Place::Before(id()?),
                "after" => asked.place = Place::After(id()?),
                // The least id after it.
                "upto" => {
                    let next = id()?.as_u128().saturating_add(1);
                    asked.place = Place::Before(Uuid::from_u128(next));
                }
                "long" => asked.is_long = true,
                _ if value.trim().is_empty() => {}
                "id" => asked.filter.add("session", value.trim())?,
                "tenant" => asked.filter.add("tenant", value.trim())?,
                _ => {}
            }
        }
        Ok(asked)
    }

    fn session(&self) -> &str {
        self.filter.session.as_deref().unwrap_or_default()
    }

    /// Returns the address of another place.
    fn address(&self, place: Place, is_long: bool) -> String {
        let mut address = session_address(self.session(), self.filter.tenant.as_deref(), None);
        if let Some((name, id)) = place.argument() {
            let _ = write!(address, "&{name}={id}");
        }
        if is_long {
            address.push_str("&long=yes");
        }
        address
    }
}

/// Shows the page.
pub(super) async fn conversation(
    State(_app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    match shown(&viewer, &query.unwrap_or_default()).await {
        Ok(body) => html_answer(StatusCode::OK, page("Session", "/", Some(&viewer), &body)),
        Err(refusal) => refusal.answer("/", Some(&viewer)),
    }
}

async fn shown(viewer: &Viewer, query: &str) -> Result<Markup, Refusal> {
    let asked = Asked::read(query)?;
    if asked.session().is_empty() {
        return Err(Refusal::NotFound("session"));
    }
    let mut lease = viewer.lease().await?;
    let database = viewer.connections.database();
    let failed = |source| Refusal::from(database.read_error(source));
    let tenant = asked.filter.tenant.as_deref();
    let scope = viewer.scope_of(tenant);
    let search = Search {
        filter: &asked.filter,
        place: asked.place,
        limit: LIMIT,
        time: if asked.is_long { LONG_TIME } else { TIME },
    };
    let found = search.run(&mut lease, scope).await.map_err(failed)??;
    // Read as it was spoken.
    let records: Vec<_> = found.records.iter().rev().copied().collect();
    let Rows { rows, left_out } = rows(&mut lease, scope, &records).await.map_err(failed)?;
    let reading = Reading {
        page: "session",
        filter: &asked.filter.query(),
        request: None,
        tenant,
        records: rows.len(),
    };
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    Ok(html! {
        (future(found.future, &asked.filter.query()))
        (body(&asked, &found, &rows))
        (too_large(left_out))
    })
}

fn body(asked: &Asked, found: &Found, rows: &[Row]) -> Markup {
    let is_forward = matches!(asked.place, Place::After(_));
    let (newest, oldest) = (found.records.first(), found.records.last());
    // What comes before the page, and after it.
    let earlier = match (is_forward, found.end) {
        (true, _) => oldest.map(|record| record.id),
        (false, End::Full) => found.reached,
        (false, End::Exhausted | End::CutShort) => None,
    };
    let later = match (is_forward, found.end) {
        (true, End::Full) => found.reached,
        (true, _) => None,
        (false, _) if asked.place == Place::Newest => None,
        (false, _) => newest.map(|record| record.id),
    };
    let turns = rows.chunk_by(|a, b| a.text("request_id") == b.text("request_id"));
    html! {
        // The name of what is not found is not said again.
        h1 { "Session" @if !rows.is_empty() { " " (line(asked.session(), 200)) } }
        @if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            p.soft { (rows.len()) " records, from " (time(&first.began)) " to " (time(&last.began)) "." }
        }
        (said(asked, found))
        p.pages {
            @if let Some(earlier) = earlier { a href=(asked.address(Place::Before(earlier), false)) rel="prev" { "← Earlier" } }
        }
        ol.chat { @for rows in turns { (turn(rows)) } }
        p.pages {
            @if let Some(later) = later {
                a href=(asked.address(Place::After(later), false)) rel="next" { "Later →" }
            }
            a href={ "/?" (asked.filter.query()) } { "As a list" }
        }
    }
}

/// Says what the reader has to know of the search.
fn said(asked: &Asked, found: &Found) -> Markup {
    html! {
        @if found.end == End::CutShort {
            (cut_short(found, asked.place, |place| asked.address(place, true)))
        } @else if found.records.is_empty() {
            (notice("No record of this session is found."))
        }
    }
}

/// Shows the records of one request that follow each other.
fn turn(rows: &[Row]) -> Markup {
    let request = rows.first().and_then(|row| row.text("request_id"));
    html! {
        li {
            h2 {
                @if let Some(request) = request.filter(|id| !id.is_empty()) {
                    "Request " a href=(request_address(request)) { (line(request, 80)) }
                } @else {
                    "Without a request"
                }
            }
            @for row in rows { (record(row)) }
        }
    }
}

fn record(row: &Row) -> Markup {
    let head = html! {
        span.head {
            span.badge { (kind(row)) }
            span.grow { (line(&what(row), 300)) }
            (outcome(row.status()))
            a href=(record_address(row.table.name(), row.id())) { (time(&row.began)) }
            @if let Some(took) = row.took() { span.soft { (took) } }
        }
    };
    // What was asked and answered is what a reader looks for.
    if row.table.kind() != Kind::Event {
        return html! { div.turn { (head) div.body { (texts(row)) } } };
    }
    let user = row.text("user_id");
    html! {
        details.turn {
            summary { (head) }
            div.body {
                @if let Some(user) = user { p.soft { "user " (visible(user)) } }
                (texts(row))
            }
        }
    }
}
