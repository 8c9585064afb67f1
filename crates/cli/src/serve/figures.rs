//! The pages of users, agents and models: how much each did, how often it failed, how long it took.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use sqlx::QueryBuilder;
use sqlx::postgres::Postgres;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::Kind;

use super::App;
use super::answer::{Refusal, html_answer};
use super::counting::{Counting, MOST_ROWS, Slice};
use super::gate::Known;
use super::page::{line, page, time};
use super::plot::{number, plot, spark};
use super::range::{Asked, Counted, address, utc};
use super::tally::{Figures, MOST_NAMES, Sort, Totals};
use super::viewer::{Access, Reading, Viewer};
use crate::filter::Filter;
use crate::text::whole_duration;

/// The most names that a page shows.
const MOST_SHOWN: usize = 100;

/// How many characters of a name are read. Longer ones that begin alike are counted together.
const NAME_CHARS: usize = 1_024;

/// Whose figures they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    User,
    Agent,
    Model,
}

impl Subject {
    fn address(self) -> &'static str {
        match self {
            Self::User => "/users",
            Self::Agent => "/agents",
            Self::Model => "/models",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::User => "Users",
            Self::Agent => "Agents",
            Self::Model => "Models",
        }
    }

    /// Returns one of them as a word, which is the name of its filter.
    fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
            Self::Model => "model",
        }
    }

    /// Returns the expressions of a table for the name, for another name beside it, and the condition
    /// that a record is of such a subject.
    fn of_table(self, table: Table) -> (&'static str, &'static str, &'static str) {
        let is_event = table.kind() == Kind::Event;
        match self {
            // What is of no user is counted as such.
            Self::User => ("user_id", "NULL::text", "true"),
            Self::Agent if is_event => (
                "coalesce(agent_id::text, target_id)",
                "CASE WHEN action_type = 'agent_execution' AND agent_id IS NOT NULL THEN left(target_id, 200) END",
                "(agent_id IS NOT NULL OR action_type = 'agent_execution' AND target_id IS NOT NULL)",
            ),
            Self::Agent => ("agent_id::text", "NULL::text", "agent_id IS NOT NULL"),
            Self::Model if is_event => (
                "metadata ->> 'model'",
                "left(metadata ->> 'provider', 200)",
                "action_type = 'llm_call' AND metadata ->> 'model' IS NOT NULL",
            ),
            Self::Model => (
                "model_name",
                "left(provider, 200)",
                "model_name IS NOT NULL",
            ),
        }
    }

    /// Returns the tables in which there may be such records.
    fn tables(self, filter: &Filter) -> Vec<Table> {
        let is_asked = |table: &Table| self != Self::Model || table.kind() != Kind::QueryRun;
        filter.tables().into_iter().filter(is_asked).collect()
    }

    /// Returns the statement that counts a slice: a row for each name and bar.
    fn statement(self, filter: &Filter, slice: Slice, edges: &[Uuid]) -> QueryBuilder<Postgres> {
        let (tokens, also) = match self {
            Self::Model => (
                "least(sum(tokens_in), 9223372036854775807)::bigint, least(sum(tokens_out), 9223372036854775807)::bigint",
                "min(also)",
            ),
            Self::Agent => ("NULL::bigint, NULL::bigint", "min(also)"),
            Self::User => ("NULL::bigint, NULL::bigint", "NULL::text"),
        };
        // Durations as they are: the greatest is no rarity that counts, and a bin would say less.
        let mut query = QueryBuilder::new(format!(
            "SELECT name, bar, count(*), count(*) FILTER (WHERE is_failed), (extract(epoch FROM max(at)) * 1000)::bigint,
                array_agg(least(greatest(took, 0), 2147483647)::integer) FILTER (WHERE took IS NOT NULL), {tokens}, {also}
            FROM (SELECT NULL::text AS name, NULL::integer AS bar, NULL::timestamptz AS at, NULL::bigint AS took, NULL::boolean AS is_failed,
                NULL::bigint AS tokens_in, NULL::bigint AS tokens_out, NULL::text AS also WHERE false"
        ));
        for table in self.tables(filter) {
            let (name, also, condition) = self.of_table(table);
            let (tokens_in, tokens_out) = tokens_of(self, table);
            let (began, took) = (table.began_column(), table.duration_column());
            query
                .push(format!(
                    " UNION ALL SELECT CASE WHEN octet_length({name}) > {NAME_CHARS} THEN left({name}, {NAME_CHARS}) ELSE {name} END,
                        width_bucket(id, "
                ))
                .push_bind(edges.to_vec())
                .push(format!(
                    ") - 1, {began}, {took}, status IN ('failed', 'rejected'), {tokens_in}, {tokens_out}, {also}
                    FROM audit.{} WHERE {condition} AND ",
                    table.name()
                ));
            filter.push_scanned(&mut query, table);
            filter.push_indexed(&mut query, slice.bounds, slice.tenant);
        }
        query.push(format!(
            ") AS records GROUP BY name, bar LIMIT {}",
            MOST_ROWS + 1
        ));
        query
    }
}

/// Returns the expressions for the tokens of a call.
fn tokens_of(subject: Subject, table: Table) -> (&'static str, &'static str) {
    match (subject, table.kind()) {
        (Subject::Model, Kind::Event) => (
            "audit.tokens_of(metadata -> 'input_token_count')",
            "audit.tokens_of(metadata -> 'output_token_count')",
        ),
        (Subject::Model, Kind::PromptRun) => (
            "CASE WHEN input_token_count >= 0 THEN input_token_count::bigint END",
            "CASE WHEN output_token_count >= 0 THEN output_token_count::bigint END",
        ),
        _ => ("NULL::bigint", "NULL::bigint"),
    }
}

/// The columns that rows are sorted by: the word in an address, and the head.
const SORTS: [(Sort, &str, &str); 9] = [
    (Sort::Name, "name", "Name"),
    (Sort::Records, "records", "Records"),
    (Sort::Failed, "failed", "Failed"),
    (Sort::Share, "share", "Share"),
    (Sort::P95, "p95", "p95"),
    (Sort::P99, "p99", "p99"),
    (Sort::TokensIn, "in", "Tokens in"),
    (Sort::TokensOut, "out", "Tokens out"),
    (Sort::Last, "last", "Last seen"),
];

/// Shows the page of users.
pub(super) async fn users(
    State(_app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    answer(&viewer, Subject::User, query).await
}

/// Shows the page of agents.
pub(super) async fn agents(
    State(_app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    answer(&viewer, Subject::Agent, query).await
}

/// Shows the page of models.
pub(super) async fn models(
    State(_app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    answer(&viewer, Subject::Model, query).await
}

async fn answer(viewer: &Viewer, subject: Subject, query: Option<String>) -> Response {
    let at = subject.address();
    match shown(viewer, subject, &query.unwrap_or_default()).await {
        Ok(body) => html_answer(
            StatusCode::OK,
            page(subject.title(), at, Some(viewer), &body),
        ),
        Err(refusal) => refusal.answer(at, Some(viewer)),
    }
}

async fn shown(viewer: &Viewer, subject: Subject, query: &str) -> Result<Markup, Refusal> {
    let asked = Asked::read(query)?;
    let sort = sort(&asked)?;
    let mut lease = viewer.lease().await?;
    let database = viewer.connections.database();
    let failed = |source| Refusal::from(database.read_error(source));
    let filter = &asked.filter;
    let scope = viewer.scope_of(filter.tenant.as_deref());
    let counting = Counting::begin(
        &mut lease,
        scope,
        filter,
        subject.tables(filter),
        asked.time(),
    )
    .await
    .map_err(failed)??;
    let range = counting.range().clone();
    let edges = range.edges();
    let mut totals = Totals::new(range.bars());
    let counted = counting
        .run(
            |slice| subject.statement(filter, slice, &edges),
            |part| totals.add(part, &range),
        )
        .await
        .map_err(failed)?;
    let reading = Reading {
        page: &subject.address()[1..],
        filter: &filter.query(),
        request: filter.request.as_deref(),
        tenant: filter.tenant.as_deref(),
        records: usize::try_from(totals.all.records).unwrap_or(usize::MAX),
    };
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    let figures = FiguresPage {
        viewer,
        subject,
        asked: &asked,
        sort,
        counted: &counted,
    };
    Ok(figures.body(totals))
}

/// Reads what the rows are sorted by.
fn sort(asked: &Asked) -> Result<Sort, Refusal> {
    let Some(said) = &asked.sort else {
        return Ok(Sort::Records);
    };
    let known = SORTS.iter().find(|(_, word, _)| word == said);
    known
        .map(|(sort, ..)| *sort)
        .ok_or(Refusal::NotFound("column to sort by"))
}

/// What the page shows.
struct FiguresPage<'a> {
    viewer: &'a Viewer,
    subject: Subject,
    asked: &'a Asked,
    sort: Sort,
    counted: &'a Counted,
}

impl FiguresPage<'_> {
    fn body(&self, totals: Totals) -> Markup {
        let at = self.subject.address();
        let (all, others) = (totals.all, totals.others);
        let bars = totals.bars.clone();
        let rows = totals.sorted(self.sort);
        let rest = rows.len().saturating_sub(MOST_SHOWN);
        let word = self.subject.word();
        let is_of_tenants = !matches!(
            self.viewer.access,
            Access::Tenant(_) | Access::Login { tenant: Some(_) }
        ) && self.asked.filter.tenant.is_none();
        html! {
            h1 { (self.subject.title()) }
            (self.asked.form(at, self.viewer))
            (self.asked.told(at, self.viewer, self.counted, i64::try_from(all.records).unwrap_or(i64::MAX)))
            @if all.records > 0 {
                (plot("Activity", &bars, &self.counted.range))
                div.scroll { table.cards {
                    thead { tr { (self.heads()) } }
                    tbody { @for (name, figures) in rows.iter().take(MOST_SHOWN) { (self.row(name.as_deref(), figures)) } }
                } }
                @if rest > 0 { p { "And " (rest) " more." } }
                @if others.records > 0 {
                    p.soft { (number(others.records)) " records are of others than the " (MOST_NAMES) " " (word) "s that were seen last. A shorter range shows them." }
                }
                p.soft {
                    "Failed is what failed or was rejected. p95: 95 of 100 records took no longer; p99 likewise."
                    @if is_of_tenants { " What has one name in several tenants is counted together, unless you choose a tenant." }
                }
            }
        }
    }

    fn has_tokens(&self) -> bool {
        self.subject == Subject::Model
    }

    fn heads(&self) -> Markup {
        html! {
            @for (sort, word, head) in SORTS {
                @if self.has_tokens() || !matches!(sort, Sort::TokensIn | Sort::TokensOut) {
                    @let is_this = sort == self.sort;
                    @let order = if sort == Sort::Name { "ascending" } else { "descending" };
                    th.number[!matches!(sort, Sort::Name | Sort::Last)] aria-sort=[is_this.then_some(order)] {
                        a href=(address(self.subject.address(), &self.asked.filter, Some(word))) { (head) }
                        @if is_this { span aria-hidden="true" { (if sort == Sort::Name { " ▲" } else { " ▼" }) } }
                    }
                    @if sort == Sort::Name { th { "Over time" } }
                }
            }
        }
    }

    fn row(&self, name: Option<&str>, figures: &Figures) -> Markup {
        let total = figures.total;
        let took = |percent| {
            figures
                .percentile(percent)
                .map(|ms| whole_duration(f64::from(ms)))
        };
        html! {
            tr {
                td { (self.name(name)) @if let Some(also) = &figures.also { " " span.soft { (line(also, 60)) } } }
                td { (spark(&figures.bars, &self.counted.range)) }
                td.number data-label="records" { (number(total.records)) }
                td.number data-label="failed" { @if total.failed > 0 { span.bad { (number(total.failed)) } } @else { "0" } }
                td.number data-label="share" { (percent(figures.share())) }
                td.number data-label="p95" { (took(95).unwrap_or_default()) }
                td.number data-label="p99" { (took(99).unwrap_or_default()) }
                @if self.has_tokens() {
                    td.number data-label="tokens in" { (figures.tokens_in.map(number).unwrap_or_default()) }
                    td.number data-label="tokens out" { (figures.tokens_out.map(number).unwrap_or_default()) }
                }
                td data-label="last seen" { (time(&utc(figures.last_ms))) }
            }
        }
    }

    /// Returns the name, as a link to its records.
    fn name(&self, name: Option<&str>) -> Markup {
        let Some(name) = name else {
            return html! { span.soft { "no " (self.subject.word()) } };
        };
        // What was cut, or is blank or odd, is no value of a filter.
        let mut filter = self.asked.filter.clone();
        let single = match self.subject {
            Subject::User => &mut filter.user,
            Subject::Agent => &mut filter.agent,
            Subject::Model => &mut filter.model,
        };
        *single = None;
        let is_whole = name.chars().nth(NAME_CHARS - 1).is_none() && name.trim() == name;
        if !is_whole || filter.add(self.subject.word(), name).is_err() || name.is_empty() {
            return line(
                if name.trim().is_empty() {
                    "(blank)"
                } else {
                    name
                },
                60,
            );
        }
        html! { a href={ "/?" (filter.query()) } { (line(name, 60)) } }
    }
}

/// Shows a share, of ten thousand, in percent.
fn percent(share: u64) -> String {
    match share {
        0 => String::from("0 %"),
        1..10 => String::from("<0.1 %"),
        10_000 => String::from("100 %"),
        _ => format!("{}.{} %", share / 100, share / 10 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_few_is_not_told_as_none() {
        assert_eq!(percent(0), "0 %");
        assert_eq!(percent(3), "<0.1 %");
        assert_eq!(percent(1_234), "12.3 %");
        assert_eq!(percent(10_000), "100 %");
    }
}
