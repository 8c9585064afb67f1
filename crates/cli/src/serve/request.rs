//! The page of a request: its story as a tree, with a waterfall of times.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use sqlx::types::Uuid;
use tracing_audit::__program::Table;

use super::App;
use super::answer::{Refusal, html_answer};
use super::download::links;
use super::gate::Known;
use super::page::{
    archive_badge, line, notice, outcome, page, record_address, session_address, time, visible,
};
use super::record::texts;
use super::rows::{MOST_BYTES, rows};
use super::seals::Seals;
use super::trail::{kind, what};
use super::viewer::{Reading, Viewer};
use crate::export::job::Format;
use crate::filter::{Filter, encode};
use crate::outline::{Outline, has_more_than};
use crate::row::{RecordId, Row};
use crate::text::{duration, grouped};
use crate::tree::{self, Node, Place};

/// How many records one page of a story shows.
const LIMIT: usize = 200;

/// The most records of a request that is shown as a story: to lay out more takes seconds, and nobody reads
/// their tree.
const MOST: i64 = 50_000;

/// The width of the waterfall, in units of its own.
const WIDTH: f64 = 1_000.0;

/// What an address asks for.
#[derive(Clone, Debug, Default)]
struct Asked {
    id: String,
    tenant: Option<String>,
    /// The number of the first record that is shown, from 0.
    from: usize,
    /// Whether all days of the archive are searched.
    is_whole: bool,
}

impl Asked {
    fn read(query: &str) -> Self {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "id" => asked.id = value.into_owned(),
                "tenant" if !value.is_empty() => asked.tenant = Some(value.into_owned()),
                "from" => asked.from = value.parse().unwrap_or(0),
                "archive" => asked.is_whole = value == "yes",
                _ => {}
            }
        }
        asked
    }

    /// Returns the query of the page that begins with that record.
    fn query(&self, from: usize) -> String {
        let mut query = format!("id={}", encode(&self.id));
        if let Some(tenant) = &self.tenant {
            query.push_str("&tenant=");
            query.push_str(&encode(tenant));
        }
        if self.is_whole {
            query.push_str("&archive=yes");
        }
        if from > 0 {
            let _ = write!(query, "&from={from}");
        }
        query
    }

    fn filter(&self) -> Filter {
        Filter {
            request: Some(self.id.clone()),
            tenant: self.tenant.clone(),
            ..Filter::default()
        }
    }

    /// Returns what is recorded of a page with so many records.
    fn reading<'a>(&'a self, query: &'a str, records: usize) -> Reading<'a> {
        Reading {
            page: "request",
            filter: query,
            request: Some(&self.id),
            tenant: self.tenant.as_deref(),
            records,
        }
    }
}

/// Says that a story is too long, and where its records are.
fn too_long(viewer: &Viewer, asked: &Asked) -> Markup {
    html! {
        h1 { "Request " (visible(&asked.id)) }
        p.notice role="status" { "This request has more than " (grouped(MOST)) " records: too many for a story." }
        p.pages { a href={ "/?" (asked.filter().query()) } { "As a list" } }
        (links(viewer, &asked.filter(), None))
    }
}

/// Shows the page.
pub(super) async fn request(
    State(app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    let asked = Asked::read(&query.unwrap_or_default());
    match shown(&app, &viewer, &asked).await {
        Ok(body) => {
            let title = format!("Request {}", asked.id);
            html_answer(StatusCode::OK, page(&title, "/", Some(&viewer), &body))
        }
        Err(refusal) => refusal.answer("/", Some(&viewer)),
    }
}

async fn shown(app: &App, viewer: &Viewer, asked: &Asked) -> Result<Markup, Refusal> {
    let missing = Refusal::NotFound("request");
    if asked.id.is_empty() || asked.id.contains('\0') || asked.id.len() > 4_096 {
        return Err(missing);
    }
    let mut lease = viewer.lease().await?;
    let database = viewer.connections.database();
    let failed = |source| Refusal::from(database.read_error(source));
    let scope = viewer.scope_of(asked.tenant.as_deref());
    if has_more_than(&mut lease, scope, &asked.id, MOST)
        .await
        .map_err(failed)?
    {
        viewer
            .record(&mut lease, &asked.reading(&asked.query(0), 0))
            .await?;
        lease.done();
        return Ok(too_long(viewer, asked));
    }
    let mut outline = Outline::of_request(&mut lease, scope, &asked.id)
        .await
        .map_err(failed)?;
    let of_archive = (asked.tenant.as_deref(), asked.is_whole);
    let archive = &app.archive;
    let archived = archive.story(viewer, scope, &mut lease, &asked.id, of_archive);
    let archived = archived.await.map_err(failed)?;
    let mut of_archive = outline.add_archived(archived.story);
    let places = tree::places(&outline.nodes, None);
    let places = places.get(asked.from..).unwrap_or_default();
    let places = &places[..places.len().min(LIMIT)];
    let records = places.iter().map(|place| place.node.record);
    let (in_archive, records): (Vec<_>, Vec<_>) =
        records.partition(|record| of_archive.contains_key(record));
    let mut read = rows(&mut lease, scope, &records).await.map_err(failed)?;
    let left_out: HashSet<RecordId> = records[records.len() - read.left_out..]
        .iter()
        .copied()
        .collect();
    read.rows.extend(
        in_archive
            .iter()
            .filter_map(|record| of_archive.remove(record)),
    );
    let places = fitting(places, &left_out, &read.rows);
    let mut rows = HashMap::new();
    for mut row in read.rows {
        outline.tell_learned(&mut row);
        if let Ok(id) = row.id().parse::<Uuid>() {
            rows.insert((row.table, id), row);
        }
    }
    let seals = Seals::of(viewer, &mut lease, &rows.values().collect::<Vec<_>>())
        .await
        .map_err(failed)?;
    let query = asked.query(asked.from);
    viewer
        .record(&mut lease, &asked.reading(&query, rows.len()))
        .await?;
    lease.done();
    let is_narrowed = !asked.is_whole && archive.is_narrowed(&asked.id);
    if outline.nodes.is_empty() {
        if archived.said.is_none() && !is_narrowed {
            return Err(missing);
        }
        return Ok(html! {
            h1 { "Request " (visible(&asked.id)) }
            (notice(archived.said.unwrap_or("No record of this request is found.")))
            (search_whole(asked, is_narrowed))
        });
    }
    let story = Story {
        asked,
        outline: &outline,
        places,
        rows: places
            .iter()
            .map(|place| rows.get(&(place.node.record.table, place.node.record.id)))
            .collect(),
        seals,
        span_us: span(&outline),
        is_narrowed,
        said: archived.said,
    };
    Ok(story.body(viewer))
}

/// Leads to all days of the archive, where some were left out.
fn search_whole(asked: &Asked, is_narrowed: bool) -> Markup {
    let whole = Asked {
        is_whole: true,
        ..asked.clone()
    };
    html! {
        @if is_narrowed {
            p.soft {
                "Of the archive the days around the time in the id are searched. "
                a href={ "/request?" (whole.query(0)) } { "Search all days" } "."
            }
        }
    }
}

/// Returns the places from the first on whose rows were read, and fit on a page.
fn fitting<'p, 'n>(
    places: &'p [Place<'n>],
    left_out: &HashSet<RecordId>,
    rows: &[Row],
) -> &'p [Place<'n>] {
    let archived = rows.iter().filter(|row| row.archived.is_some());
    let sizes: HashMap<(&str, Table), usize> = archived
        .map(|row| ((row.id(), row.table), row.size()))
        .collect();
    let mut bytes = 0;
    let count = places.iter().take_while(|place| {
        let record = place.node.record;
        let is_begun = bytes < MOST_BYTES;
        let id = record.id.to_string();
        bytes += sizes.get(&(id.as_str(), record.table)).unwrap_or(&0);
        is_begun && !left_out.contains(&record)
    });
    &places[..count.count()]
}

/// Returns the time from the first start to the last known end, in microseconds, at least 1.
fn span(outline: &Outline) -> f64 {
    let origin = outline.origin_us();
    let ends = outline.nodes.iter().map(|node| end_us(node, origin));
    ends.fold(1.0, f64::max)
}

#[expect(clippy::cast_precision_loss, reason = "drawn with a thousand units")]
fn begin_us(node: &Node, origin: i64) -> f64 {
    node.began_us.saturating_sub(origin) as f64
}

fn end_us(node: &Node, origin: i64) -> f64 {
    begin_us(node, origin) + node.took_ms.unwrap_or(0.0).max(0.0) * 1_000.0
}

/// What the page shows.
struct Story<'a> {
    asked: &'a Asked,
    outline: &'a Outline,
    places: &'a [Place<'a>],
    /// The record of each place; `None` if it was removed meanwhile.
    rows: Vec<Option<&'a Row>>,
    seals: Seals,
    span_us: f64,
    /// Whether days of the archive were left out.
    is_narrowed: bool,
    /// What the reader has to know of the archive.
    said: Option<&'static str>,
}

impl Story<'_> {
    fn body(&self, viewer: &Viewer) -> Markup {
        let all = self.outline.nodes.len();
        let (from, shown) = (self.asked.from, self.places.len());
        html! {
            h1 { "Request " (visible(&self.asked.id)) }
            dl {
                @for (label, values) in self.outline.circumstances().filter(|(_, values)| !values.is_empty()) {
                    dt { (label) } dd { (self.circumstance(label, &values)) }
                }
                dt { "began" } dd { (time(&self.outline.began)) }
                dt { "took" } dd { (self.outline.took()) }
                dt { "records" } dd { (self.outline.counts()) }
            }
            @if let Some(said) = self.said { (notice(said)) }
            @if shown < all {
                p.notice role="status" { "Records " (from + 1) " to " (from + shown) " of " (all) "." }
            }
            h2 { "Story" }
            (self.tree(0, &mut 0))
            p.pages {
                @if from > 0 {
                    a href={ "/request?" (self.asked.query(from.saturating_sub(LIMIT))) } rel="prev" { "← Earlier records" }
                }
                @if from + shown < all {
                    a href={ "/request?" (self.asked.query(from + shown)) } rel="next" { "More records →" }
                }
                a href={ "/?" (self.asked.filter().query()) } { "As a list" }
            }
            (search_whole(self.asked, self.is_narrowed))
            (links(viewer, &self.asked.filter(), Some(Format::Html)))
        }
    }

    /// Shows a circumstance; a session is a link to its records up to the last of the request.
    fn circumstance(&self, label: &str, values: &str) -> Markup {
        let sessions = self.outline.sessions(label);
        if sessions.is_empty() {
            return visible(values);
        }
        let last = self.outline.nodes.iter().map(|node| node.record.id).max();
        let last = last.map(|id| id.to_string());
        let tenant = self.asked.tenant.as_deref();
        html! {
            @for (at, session) in sessions.into_iter().enumerate() {
                @if at > 0 { ", " }
                a href=(session_address(session, tenant, last.as_deref())) { (visible(session)) }
            }
        }
    }

    /// Shows the records from `at` on that are at this level or below, as nested lists.
    fn tree(&self, depth: usize, at: &mut usize) -> Markup {
        html! {
            ol.story {
                @while self.places.get(*at).is_some_and(|place| place.depth >= depth) {
                    li {
                        @if self.places.get(*at).is_some_and(|place| place.depth == depth) {
                            (self.record(*at))
                            ({ *at += 1; "" })
                        }
                        @if self.places.get(*at).is_some_and(|place| place.depth > depth) {
                            (self.tree(depth + 1, at))
                        }
                    }
                }
            }
        }
    }

    /// Shows a record: what it is about on its own line, and its texts below.
    fn record(&self, at: usize) -> Markup {
        let place = &self.places[at];
        let node = place.node;
        let Some(row) = self.rows.get(at).copied().flatten() else {
            return html! { p.soft { "This record was removed meanwhile." } };
        };
        let offset = begin_us(node, self.outline.origin_us()) / 1_000.0;
        let is_open = at < 40;
        html! {
            details open[is_open] id={ "r" (node.record.id) } {
                summary {
                    span.head {
                        span.badge { (kind(row)) }
                        span.grow { (line(&what(row), 300)) }
                        (outcome(row.status())) (self.seals.badge(row)) (archive_badge(row))
                        span.soft { "+" (duration(offset)) }
                        span { (row.took().unwrap_or_else(|| end_word(node))) }
                        (self.bar(node))
                    }
                }
                div.body {
                    @if let Some((parent, why)) = &place.hidden_parent {
                        p.soft { "Its parent " (parent) " is " (why) "." }
                    }
                    @if let Some(user) = &row.learned_user {
                        p.soft { "Of user " (visible(user)) ", who became known later." }
                    }
                    (texts(row))
                    p { a href=(record_address(row.table.name(), row.id())) { "The record, with its row as it is stored" } }
                }
            }
        }
    }

    /// Draws when the record ran, within the whole story.
    fn bar(&self, node: &Node) -> Markup {
        let origin = self.outline.origin_us();
        let x = begin_us(node, origin) / self.span_us * WIDTH;
        let width =
            ((end_us(node, origin) - begin_us(node, origin)) / self.span_us * WIDTH).max(4.0);
        let class = if matches!(&*node.status, "failed" | "rejected") {
            "bar bad"
        } else {
            "bar"
        };
        html! {
            svg.fall viewBox="0 0 1000 20" preserveAspectRatio="none" aria-hidden="true" {
                rect.track width="1000" height="20" {}
                rect class=(class) x=(format!("{:.1}", x.min(WIDTH - 4.0))) width=(format!("{width:.1}")) height="20" {}
            }
        }
    }
}

/// Says why there is no duration.
fn end_word(node: &Node) -> String {
    // An event may be instantaneous.
    if node.record.table.has_end() {
        String::from("end not known")
    } else {
        String::new()
    }
}
