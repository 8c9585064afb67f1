//! The page of the trail: records, newest first, by any filter.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use sqlx::types::Uuid;
use tracing_audit::__program::Table;

use super::App;
use super::answer::{Refusal, html_answer};
use super::archived::Archived;
use super::download::links;
use super::gate::Known;
use super::page::{
    archive_badge, filtered, future, line, notice, outcome, page, record_address, request_link,
    session_address, time, visible,
};
use super::record::sessions;
use super::seals::Seals;
use super::viewer::{Access, Reading, Viewer};
use crate::STATUSES;
use crate::filter::Filter;
pub(super) use crate::html::{kind, what};
use crate::pages::Extent;
use crate::row::Row;
use crate::search::{End, Found, Place, Search};
use crate::story::Rows;
use crate::text::grouped;

/// How many records a page shows.
const LIMIT: usize = 50;

/// How long a search may take before the page says how far it came.
const TIME: Duration = Duration::from_millis(200);

/// How long it may take if the reader asks to search further.
const LONG_TIME: Duration = Duration::from_secs(10);

/// The families that have a view, for the list to choose from.
const FAMILIES: [&str; 14] = [
    "agent_execution",
    "approval",
    "change",
    "escalation",
    "feedback",
    "http_request",
    "llm_call",
    "log",
    "mandate",
    "security",
    "system_error",
    "system_metric",
    "tool_invocation",
    "transaction",
];

/// What an address asks for.
#[derive(Debug)]
struct Asked {
    filter: Filter,
    place: Place,
    time: Duration,
    /// Whether the archive is searched as well.
    archive: bool,
}

impl Asked {
    fn read(query: &str) -> Result<Self, Refusal> {
        let mut asked = Self {
            filter: Filter::default(),
            place: Place::Newest,
            time: TIME,
            archive: false,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let id = || {
                value
                    .parse::<Uuid>()
                    .map_err(|_| Refusal::NotFound("place in the trail"))
            };
            match &*name {
                "before" => asked.place = Place::Before(id()?),
                "after" => asked.place = Place::After(id()?),
                "long" => asked.time = LONG_TIME,
                "archive" => asked.archive = value == "yes",
                _ if value.trim().is_empty() => {}
                name => asked.filter.add(name, value.trim())?,
            }
        }
        Ok(asked)
    }

    /// Returns what is recorded of it.
    fn recorded(&self) -> String {
        let mut query = self.filter.query();
        if self.archive {
            let before = if query.is_empty() { "" } else { "&" };
            query.extend([before, "archive=yes"]);
        }
        query
    }

    /// Returns the address of another place.
    fn address(&self, place: Place, is_long: bool) -> String {
        self.address_with(place, is_long, self.archive)
    }

    /// Returns the address of a place, with the archive or without.
    fn address_with(&self, place: Place, is_long: bool, archive: bool) -> String {
        let mut parts = vec![self.filter.query()];
        parts.extend(archive.then(|| String::from("archive=yes")));
        parts.extend(place.argument().map(|(name, id)| format!("{name}={id}")));
        parts.extend(is_long.then(|| String::from("long=yes")));
        parts.retain(|part| !part.is_empty());
        if parts.is_empty() {
            return String::from("/");
        }
        format!("/?{}", parts.join("&"))
    }
}

/// Shows the page.
pub(super) async fn trail(
    State(app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    match shown(&app, &viewer, &query.unwrap_or_default()).await {
        Ok(body) => html_answer(StatusCode::OK, page("Trail", "/", Some(&viewer), &body)),
        Err(refusal) => refusal.answer("/", Some(&viewer)),
    }
}

async fn shown(app: &App, viewer: &Viewer, query: &str) -> Result<Markup, Refusal> {
    let asked = Asked::read(query)?;
    let mut lease = viewer.lease().await?;
    let database = viewer.connections.database();
    let failed = |source| Refusal::from(database.read_error(source));
    let search = Search {
        filter: &asked.filter,
        place: asked.place,
        limit: LIMIT,
        time: asked.time,
    };
    let mut found = search
        .run(&mut lease, viewer.scope())
        .await
        .map_err(failed)??;
    let mut archived = Archived::default();
    if asked.archive {
        let place = (asked.place, LIMIT);
        let added = app
            .archive
            .add_to_list(viewer, &mut lease, &asked.filter, place, &mut found);
        archived = added.await.map_err(failed)??;
    }
    let records = found.records.iter().copied();
    let scope = viewer.scope();
    let source = Some((database, &mut *lease));
    let mut pages = Rows::new(source, scope, &mut archived.rows, records, Extent::Line);
    let mut rows = Vec::new();
    while let Some(page) = pages.next().await? {
        rows.extend(page);
    }
    let seals = Seals::of(viewer, &mut lease, &rows.iter().collect::<Vec<_>>())
        .await
        .map_err(failed)?;
    let reading = Reading {
        page: "trail",
        filter: &asked.recorded(),
        request: asked.filter.request.as_deref(),
        tenant: asked.filter.tenant.as_deref(),
        records: rows.len(),
    };
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    let shown = Shown {
        viewer,
        asked: &asked,
        found: &found,
        rows: &rows,
        seals: &seals,
        has_archive: app.archive.is_there(),
        said: archived.said,
    };
    Ok(shown.body())
}

/// What the page shows.
struct Shown<'a> {
    viewer: &'a Viewer,
    asked: &'a Asked,
    found: &'a Found,
    rows: &'a [Row],
    seals: &'a Seals,
    has_archive: bool,
    /// What the reader has to know of the archive.
    said: Option<&'static str>,
}

impl Shown<'_> {
    fn body(&self) -> Markup {
        let Self {
            viewer,
            asked,
            found,
            rows,
            seals,
            ..
        } = *self;
        let newest = found.records.first().map(|record| record.id);
        let oldest = match (asked.place, found.end) {
            (Place::After(_), _) => found.records.last().map(|record| record.id),
            (_, End::Exhausted) => None,
            (_, End::Full | End::CutShort) => found.reached,
        };
        let is_newest = asked.place == Place::Newest;
        let live = (is_newest && !asked.archive).then(|| {
            let query = asked.filter.query();
            format!("/live?{query}")
        });
        html! {
            h1 { "Trail" }
            (form(asked, self.has_archive))
            (future(found.future, &asked.filter.query()))
            (said(viewer, asked, found))
            @if let Some(said) = self.said { (notice(said)) }
            @if is_newest && !asked.archive {
                p.soft { button #pause type="button" hidden { "Pause" } " " span #live aria-live="polite" {} }
            }
            div.scroll {
                table.cards {
                    thead { tr { th { "Began" } th { "Tenant" } th { "User" } th { "What" } th { "Outcome" } th.number { "Took" } th { "Request" } } }
                    tbody data-live=[live] { (table_rows(rows, seals)) }
                }
            }
            p.pages {
                @if let (Some(newest), false) = (newest, is_newest) {
                    a href=(asked.address(Place::After(newest), false)) rel="prev" { "← Newer" }
                    a href=(asked.address(Place::Newest, false)) { "Newest" }
                }
                @if let Some(oldest) = oldest {
                    a href=(asked.address(Place::Before(oldest), false)) rel="next" { "Older →" }
                }
            }
            @if self.has_archive {
                (self.archive_link(oldest.is_none()))
            }
            (links(viewer, &asked.filter, None))
        }
    }

    /// Leads into the archive, and says what is of both.
    fn archive_link(&self, is_end: bool) -> Markup {
        let asked = self.asked;
        html! {
            @if asked.archive {
                p.soft { "The database and the archive are searched. What is downloaded here is of the database alone: `tracing-audit export --archive` has both." }
            } @else if is_end && !matches!(asked.place, Place::After(_)) {
                // What goes first from the database is not what is oldest: tables are kept for different times.
                p.notice role="status" {
                    "The database has no older records. "
                    a href=(asked.address_with(asked.place, false, true)) { "Search the archive" }
                    " as well."
                }
            }
        }
    }
}

/// Says what the reader has to know of the search.
fn said(viewer: &Viewer, asked: &Asked, found: &Found) -> Markup {
    let is_bound_to_none = viewer.access == Access::Login { tenant: None };
    html! {
        @if found.end == End::CutShort {
            (cut_short(found, asked.place, |place| asked.address(place, true)))
        } @else if found.records.is_empty() && is_bound_to_none {
            (notice("No record is found. If your login reads one tenant's records, log out, and name the tenant when you log in."))
        } @else if found.records.is_empty() {
            (notice("No record is found."))
        }
    }
}

/// Says how far a search of `place` came until its time was over, and how to search on.
pub(super) fn cut_short(found: &Found, place: Place, longer: impl Fn(Place) -> String) -> Markup {
    let (way, begin) = match (place, found.reached) {
        (_, None) => ("", "Search"),
        (Place::After(_), _) => (", up to ", "Search on from there"),
        (Place::Newest | Place::Before(_), _) => (", back to ", "Search on from there"),
    };
    html! {
        p.notice role="status" {
            "The search was cut short after " (grouped(found.looked_at)) " records" (way)
            @if let Some(id) = found.reached { (time(&began(id))) }
            ": there may be others. "
            a href=(longer(found.goes_on_from(place))) { (begin) " for 10 seconds" }
            ", or name a narrower time."
        }
    }
}

/// Returns the time in an id, as it is shown.
pub(super) fn began(id: Uuid) -> String {
    let ms = u64::try_from(id.as_u128() >> 80).unwrap_or_default();
    let at = std::time::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at)
        .to_string()
        .trim_end_matches('Z')
        .replace('T', " ")
}

/// Returns the rows of the table; the stream of new ones sends the same.
pub(super) fn table_rows(rows: &[Row], seals: &Seals) -> Markup {
    html! {
        @for row in rows {
            tr {
                td { a href=(record_address(row.table.name(), row.id())) { (time(&row.began)) } }
                td data-label="tenant" { (tenant(row)) }
                td data-label="user" { @if let Some(user) = row.text("user_id") { (filtered("user", user)) } }
                td.what { span.badge { (kind(row)) } " " (line(&what(row), 240)) }
                td { (outcome(row.status())) (seals.badge(row)) (archive_badge(row)) }
                td.number data-label="took" { (row.took().unwrap_or_default()) }
                td data-label="request" { @if let Some(request) = row.text("request_id").filter(|id| !id.is_empty()) { (request_link(request)) }
                    @if let Some((_, session)) = sessions(row).next() { " " a.soft href=(session_address(session, None, Some(row.id()))) title="The conversation up to here" { "session" } }
                }
            }
        }
    }
}

fn tenant(row: &Row) -> Markup {
    let tenant = row.tenant_key().or_else(|| row.text("tenant_id"));
    html! { @if let Some(tenant) = tenant { (filtered("tenant", tenant)) } }
}

/// The filters, as a form without which no script is needed.
fn form(asked: &Asked, has_archive: bool) -> Markup {
    let filter = &asked.filter;
    let input = |name: &'static str, label: &'static str| {
        html! { label { (label) input name=(name) value=[filter.single(name)] size="14"; } }
    };
    let is_more = ["family", "agent", "model", "session", "request", "until"]
        .into_iter()
        .any(|name| filter.single(name).is_some())
        || filter.reads
        || asked.archive
        || filter.kinds.len() > 1
        || filter.statuses.len() > 1;
    html! {
        form.filters method="get" action="/" role="search" aria-label="Filter the trail" {
            label.wide { "Text in a question, SQL, prompt or error" input name="text" value=[filter.single("text")] type="search"; }
            (input("user", "User"))
            (input("tenant", "Tenant"))
            label { "Kind"
                select name="kind" {
                    option value="" { "all" }
                    @for table in Table::ALL {
                        option value=(table.name()) selected[filter.kinds.contains(&table)] { (table.name().replace('_', " ")) }
                    }
                }
            }
            label { "Outcome"
                select name="status" {
                    option value="" { "all" }
                    @for status in STATUSES {
                        option value=(status) selected[filter.statuses.iter().any(|asked| asked == status)] { (status) }
                    }
                }
            }
            label { "Since (24h, 2026-01-31)" input name="since" value=[filter.single("since")] size="14"; }
            details open[is_more] {
                summary { "More" }
                div.filters {
                    label { "Family" input name="family" value=[filter.single("family")] list="families" size="14"; }
                    datalist #families { @for family in FAMILIES { option value=(family) {} } }
                    (input("agent", "Agent"))
                    (input("model", "Model"))
                    (input("session", "Session"))
                    (input("request", "Request"))
                    (input("until", "Until"))
                    label.check { input type="checkbox" name="reads" value="yes" checked[filter.reads]; "readings of the trail, too" }
                    @if has_archive {
                        label.check { input type="checkbox" name="archive" value="yes" checked[asked.archive]; "the archive, too" }
                    }
                }
            }
            button.main type="submit" { "Search" }
            a href="/" { "All" }
        }
        @if !filter.values().is_empty() {
            p.soft { "Filtered by "
                @for (at, (name, value)) in filter.values().into_iter().enumerate() {
                    @if at > 0 { ", " }
                    (name) " " strong { (visible(value)) }
                }
                "."
            }
        }
    }
}
