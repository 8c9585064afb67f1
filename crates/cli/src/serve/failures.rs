//! The page of failures: what failed in a range of time, grouped by its error, so that what has one
//! cause is one row.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use sqlx::postgres::{PgRow, Postgres};
use sqlx::types::Uuid;
use sqlx::{FromRow, QueryBuilder, Row as _};
use tracing_audit::__program::Table;
use tracing_audit::Kind;

use super::App;
use super::answer::{Refusal, html_answer};
use super::counting::{Counting, MOST_ROWS, Slice};
use super::gate::Known;
use super::page::{line, outcome, page, record_address, request_address, time};
use super::plot::{Bar, number, plot, spark};
use super::range::{Asked, Counted, Range, address, utc};
use super::viewer::{Reading, Viewer};
use crate::filter::Filter;
use crate::row::word;

/// The most errors that a page shows.
const MOST_SHOWN: usize = 100;

/// The most errors that are kept.
const MOST_ERRORS: usize = 1_000;

/// The most users and requests of an error that are told apart.
const MOST_COUNTED: usize = 500;

/// How many examples of an error are shown.
const EXAMPLES: usize = 3;

/// The longest id of a request that an example links to, in characters.
const REQUEST_CHARS: usize = 1_024;

/// How many characters of a message are compared.
const MESSAGE_CHARS: usize = 400;

/// What stands in a message for what differs between two of one cause.
const GAP: char = '…';

/// What differs: what is quoted, ids and numbers. An apostrophe in a word quotes nothing, and what is
/// quoted may be cut off.
const DIFFERING: &str = r#"(?<![[:alnum:]])'[^']*('|$)|"[^"]*("|$)|`[^`]*(`|$)|[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|0[xX][0-9a-fA-F]+|[0-9]+([.,:][0-9]+)*"#;

/// The outcomes that are failures, unless others are asked for.
const OUTCOMES: [&str; 3] = ["failed", "rejected", "unknown"];

/// What one error is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    status: String,
    code: Option<String>,
    /// The message without what differs; `None` if there is a fingerprint.
    message: Option<String>,
    fingerprint: Option<String>,
    /// What failed, if it does not say why.
    what: Option<String>,
}

/// What was counted of an error and a bar.
#[derive(Debug)]
struct Part {
    key: Key,
    bar: i32,
    records: i64,
    /// A message of a fingerprint.
    example: Option<String>,
    first_ms: i64,
    last_ms: i64,
    users: Option<Vec<i64>>,
    requests: Option<Vec<i64>>,
    /// The newest: table, id and request.
    newest: Vec<String>,
}

impl FromRow<'_, PgRow> for Part {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            key: Key {
                status: row.try_get("status")?,
                code: row.try_get("code")?,
                message: row.try_get("message")?,
                fingerprint: row.try_get("fingerprint")?,
                what: row.try_get("what")?,
            },
            bar: row.try_get("bar")?,
            records: row.try_get("records")?,
            example: row.try_get("example")?,
            first_ms: row.try_get("first_ms")?,
            last_ms: row.try_get("last_ms")?,
            users: row.try_get("users")?,
            requests: row.try_get("requests")?,
            newest: row.try_get("newest")?,
        })
    }
}

/// What is known of an error.
#[derive(Debug, Default)]
struct Error {
    records: u64,
    bars: Vec<Bar>,
    first_ms: u64,
    last_ms: u64,
    users: HashSet<i64>,
    requests: HashSet<i64>,
    newest: Vec<String>,
    example: Option<String>,
}

/// Returns the statement that counts a slice: a row for each error and bar.
fn statement(filter: &Filter, slice: Slice, edges: &[Uuid]) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(format!(
        "SELECT status::text AS status, code, message, fingerprint, what, bar, count(*) AS records, min(example) AS example,
            (extract(epoch FROM min(at)) * 1000)::bigint AS first_ms, (extract(epoch FROM max(at)) * 1000)::bigint AS last_ms,
            (array_agg(DISTINCT of_user) FILTER (WHERE of_user IS NOT NULL))[1:{most}] AS users,
            (array_agg(DISTINCT of_request) FILTER (WHERE of_request IS NOT NULL))[1:{most}] AS requests,
            (array_agg(origin || ' ' || id || ' ' || request ORDER BY id DESC))[1:{EXAMPLES}] AS newest
        FROM (SELECT NULL::audit.run_status AS status, NULL::text AS code, NULL::text AS message, NULL::text AS fingerprint, NULL::text AS what,
            NULL::integer AS bar, NULL::text AS example, NULL::timestamptz AS at, NULL::bigint AS of_user, NULL::bigint AS of_request,
            NULL::text AS origin, NULL::uuid AS id, NULL::text AS request WHERE false",
        most = MOST_COUNTED + 1
    ));
    for table in filter.tables() {
        let is_event = table.kind() == Kind::Event;
        let message = format!(
            "regexp_replace(left(error_message, {MESSAGE_CHARS}), $x${DIFFERING}$x$, '{GAP}', 'g')"
        );
        let fingerprint = if is_event {
            "CASE WHEN action_type = 'system_error' THEN left(metadata ->> 'fingerprint', 200) END"
        } else {
            "NULL::text"
        };
        let (kind, example) = if is_event {
            (
                String::from("coalesce(nullif(left(action_type, 200), ''), 'event')"),
                format!(
                    "CASE WHEN action_type = 'system_error' THEN concat_ws(': ', left(metadata ->> 'error_type', 200), {message}) END"
                ),
            )
        } else {
            (
                format!("'{}'", word(table.kind())),
                String::from("NULL::text"),
            )
        };
        query
            .push(format!(
                " UNION ALL SELECT status, left(error_code, 200), CASE WHEN {fingerprint} IS NULL THEN {message} END, {fingerprint},
                    CASE WHEN error_code IS NULL AND error_message IS NULL THEN {kind} END, width_bucket(id, "
            ))
            .push_bind(edges.to_vec())
            .push(format!(
                ") - 1, {example}, {began}, hashtextextended(user_id, 0), hashtextextended(request_id, 0), '{table}', id,
                    CASE WHEN octet_length(request_id) <= {REQUEST_CHARS} THEN request_id ELSE '' END
                FROM audit.{table} WHERE ",
                began = table.began_column(),
                table = table.name()
            ));
        filter.push_scanned(&mut query, table);
        filter.push_indexed(&mut query, slice.bounds, slice.tenant);
    }
    query.push(format!(
        ") AS records GROUP BY 1, 2, 3, 4, 5, 6 LIMIT {}",
        MOST_ROWS + 1
    ));
    query
}

/// All errors of a page.
#[derive(Debug)]
struct Errors {
    all: u64,
    bars: Vec<Bar>,
    by_key: HashMap<Key, Error>,
    /// Records of errors beyond those that are kept.
    others: u64,
}

impl Errors {
    fn new(bars: usize) -> Self {
        Self {
            all: 0,
            bars: vec![Bar::default(); bars],
            by_key: HashMap::new(),
            others: 0,
        }
    }

    fn add(&mut self, part: Part, range: &Range) {
        let at = usize::try_from(part.bar).unwrap_or(0);
        let records = u64::try_from(part.records).unwrap_or(0);
        let bars = self.bars.len();
        self.all += records;
        if let Some(bar) = self.bars.get_mut(at) {
            count(bar, &part.key, records);
        }
        let is_full = self.by_key.len() >= MOST_ERRORS;
        let key = part.key.clone();
        let error = match self.by_key.entry(part.key) {
            Entry::Vacant(_) if is_full => {
                self.others += records;
                return;
            }
            Entry::Vacant(entry) => entry.insert(Error {
                bars: vec![Bar::default(); bars],
                first_ms: u64::MAX,
                ..Error::default()
            }),
            Entry::Occupied(entry) => entry.into_mut(),
        };
        error.records += records;
        if let Some(bar) = error.bars.get_mut(at) {
            count(bar, &key, records);
        }
        // A row that was forged may begin at another time than its id says.
        let within = |ms| {
            let (begin, end) = (range.begin_of(at), range.begin_of(at + 1));
            u64::try_from(ms).unwrap_or(0).clamp(begin, end.max(begin))
        };
        error.first_ms = error.first_ms.min(within(part.first_ms));
        error.last_ms = error.last_ms.max(within(part.last_ms));
        for (set, more) in [
            (&mut error.users, part.users),
            (&mut error.requests, part.requests),
        ] {
            for hash in more.into_iter().flatten() {
                if set.len() <= MOST_COUNTED {
                    set.insert(hash);
                }
            }
        }
        error.example = error.example.take().or(part.example);
        // The newest slice and bar come first, but the bars of a slice in any order.
        error.newest.extend(part.newest);
        error.newest.sort_by(|a, b| id_of(b).cmp(id_of(a)));
        error.newest.dedup_by(|a, b| {
            let (of_a, of_b) = (request_of(a), request_of(b));
            of_a == of_b && !of_a.is_empty()
        });
        error.newest.truncate(EXAMPLES);
    }

    fn sorted(self, is_by_time: bool) -> Vec<(Key, Error)> {
        let mut all: Vec<_> = self.by_key.into_iter().collect();
        all.sort_by(|(left, a), (right, b)| {
            let by_count = b.records.cmp(&a.records);
            let by_time = b.last_ms.cmp(&a.last_ms);
            let order = if is_by_time {
                by_time.then(by_count)
            } else {
                by_count.then(by_time)
            };
            order.then_with(|| left.message.cmp(&right.message))
        });
        all
    }
}

/// Counts records in a bar; what is of unknown outcome is no failure there.
fn count(bar: &mut Bar, key: &Key, records: u64) {
    bar.records += records;
    if matches!(&*key.status, "failed" | "rejected") {
        bar.failed += records;
    }
}

/// Returns the request of an example; empty if it has none.
fn request_of(example: &str) -> &str {
    example.splitn(3, ' ').nth(2).unwrap_or_default()
}

/// Returns the id of an example.
fn id_of(example: &str) -> &str {
    example.split(' ').nth(1).unwrap_or_default()
}

/// Shows the page.
pub(super) async fn failures(
    State(_app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    match shown(&viewer, &query.unwrap_or_default()).await {
        Ok(body) => html_answer(
            StatusCode::OK,
            page("Failures", "/failures", Some(&viewer), &body),
        ),
        Err(refusal) => refusal.answer("/failures", Some(&viewer)),
    }
}

async fn shown(viewer: &Viewer, query: &str) -> Result<Markup, Refusal> {
    let asked = Asked::read(query)?;
    let is_by_time = match asked.sort.as_deref() {
        None | Some("count") => false,
        Some("newest") => true,
        Some(_) => return Err(Refusal::NotFound("column to sort by")),
    };
    let mut lease = viewer.lease().await?;
    let database = viewer.connections.database();
    let failed = |source| Refusal::from(database.read_error(source));
    let mut filter = asked.filter.clone();
    if filter.statuses.is_empty() {
        filter.statuses = OUTCOMES.map(str::to_owned).to_vec();
    }
    let scope = viewer.scope_of(filter.tenant.as_deref());
    let counting = Counting::begin(&mut lease, scope, &filter, filter.tables(), asked.time())
        .await
        .map_err(failed)??;
    let range = counting.range().clone();
    let edges = range.edges();
    let mut errors = Errors::new(range.bars());
    let counted = counting
        .run(
            |slice| statement(&filter, slice, &edges),
            |part| errors.add(part, &range),
        )
        .await
        .map_err(failed)?;
    let reading = Reading {
        page: "failures",
        filter: &asked.filter.query(),
        request: filter.request.as_deref(),
        tenant: filter.tenant.as_deref(),
        records: usize::try_from(errors.all).unwrap_or(usize::MAX),
    };
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    Ok(body(viewer, &asked, &counted, errors, is_by_time))
}

fn body(
    viewer: &Viewer,
    asked: &Asked,
    counted: &Counted,
    errors: Errors,
    is_by_time: bool,
) -> Markup {
    let (all, others) = (errors.all, errors.others);
    let bars = errors.bars.clone();
    let rows = errors.sorted(is_by_time);
    let rest = rows.len().saturating_sub(MOST_SHOWN);
    let order = |word| address("/failures", &asked.filter, Some(word));
    html! {
        h1 { "Failures" }
        (asked.form("/failures", viewer))
        (asked.told("/failures", viewer, counted, i64::try_from(all).unwrap_or(i64::MAX)))
        @if all > 0 {
            (plot("Failures", &bars, &counted.range))
            p { "Sorted by "
                a href=(order("count")) aria-current=[(!is_by_time).then_some("true")] { "how many" } " · "
                a href=(order("newest")) aria-current=[is_by_time.then_some("true")] { "the newest" }
            }
            div.scroll { table.cards {
                thead { tr { th { "Error" } th { "Over time" } th.number { "Records" } th.number { "Users" } th.number { "Requests" } th { "Seen" } th { "Newest" } } }
                tbody { @for (key, error) in rows.iter().take(MOST_SHOWN) { (row(asked, key, error, &counted.range)) } }
            } }
            @if rest > 0 { p { "And " (rest) " more." } }
            @if others > 0 {
                p.soft { (number(others)) " records are of other errors than the " (MOST_ERRORS) " that were seen last. A shorter range shows them." }
            }
            p.soft { "What is quoted, ids and numbers are left out of messages (" (GAP) "), so that what has one cause is one row." }
        }
    }
}

fn row(asked: &Asked, key: &Key, error: &Error, range: &Range) -> Markup {
    let message = key.message.as_ref().or(error.example.as_ref());
    let many = |set: &HashSet<i64>| {
        if set.len() > MOST_COUNTED {
            format!("{MOST_COUNTED} or more")
        } else {
            set.len().to_string()
        }
    };
    html! {
        tr {
            td.what {
                (outcome(&key.status)) " "
                @if let Some(code) = &key.code { code { (line(code, 60)) } " " }
                @if let Some(what) = &key.what { span.badge { (line(what, 40)) } " says no error " }
                @if let Some(message) = message { (line(message, 240)) " " }
                @if let Some(fingerprint) = &key.fingerprint { span.badge { "fingerprint " (line(fingerprint, 40)) } " " }
                a href={ "/?" (trail_filter(asked, key).query()) } { "in the trail" }
            }
            td { (spark(&error.bars, range)) }
            td.number data-label="records" { (number(error.records)) }
            td.number data-label="users" { (many(&error.users)) }
            td.number data-label="requests" { (many(&error.requests)) }
            td.seen { div { "last " (time(&utc(error.last_ms))) } div { "first " (time(&utc(error.first_ms))) } }
            td.newest data-label="newest" { @for (at, example) in error.newest.iter().enumerate() { @if at > 0 { ", " } (link(example)) } }
        }
    }
}

/// Returns the filter of the trail that finds the records of an error, as far as filters can.
fn trail_filter(asked: &Asked, key: &Key) -> Filter {
    let mut filter = asked.filter.clone();
    filter.statuses = vec![key.status.clone()];
    if filter.text.is_none() {
        // What no gap interrupts stands in each of the messages. White space is shown, and found, as
        // it is.
        let parts = key.message.iter().flat_map(|message| message.split(GAP));
        let longest = parts.map(str::trim).max_by_key(|part| part.len());
        filter.text = longest.filter(|part| part.len() >= 4).map(str::to_owned);
    }
    if let (None, Some(what)) = (&filter.family, &key.what) {
        let is_run = Table::ALL
            .into_iter()
            .find(|table| table.kind() != Kind::Event && word(table.kind()) == what);
        match is_run {
            Some(table) if filter.kinds.is_empty() => filter.kinds = vec![table],
            None if what != "event" => filter.family = Some(what.clone()),
            _ => {}
        }
    }
    if key.fingerprint.is_some() && filter.family.is_none() {
        filter.family = Some(String::from("system_error"));
    }
    filter
}

/// Returns the link to an example: its request, or if it has none, the record.
fn link(example: &str) -> Markup {
    let mut parts = example.split(' ');
    let (table, id) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let request = request_of(example);
    if request.is_empty() {
        return html! { a href=(record_address(table, id)) { "record" } };
    }
    html! { a.request href=(request_address(request)) { (line(request, 24)) } }
}
