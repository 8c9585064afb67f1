//! The page of the trail's state: partitions, legal holds, removals, dead letters, gaps, the ledger,
//! and what `doctor` finds.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::App;
use super::answer::{Refusal, html_answer};
use super::gate::Known;
use super::page::{notice, page, visible};
use super::viewer::{Access, Reading, Viewer};
use crate::database::begin;
use crate::doctor::finding::Severity;
use crate::doctor::{self, Group};
use crate::search::{is_timeout, limit_time};

/// How long each of the lists may take.
const TIME: Duration = Duration::from_secs(3);

/// The lists: title, what stands there if it is empty, heads, and the query. All columns are texts.
const LISTS: [(&str, &str, &[&str], &str); 7] = [
    (
        "Ledger",
        "Nothing is sealed: run `tracing-audit seal`.",
        &["Log", "Sealed batches", "Newest checkpoint covers", "Signed at (UTC)", "Age"],
        "SELECT left(c.origin, 200), (SELECT max(l.index) + 1 FROM audit.ledger l)::text, c.size::text,
            to_char(c.signed_at, 'YYYY-MM-DD HH24:MI:SS'), date_trunc('second', clock_timestamp() - c.signed_at)::text
        FROM audit.checkpoint c",
    ),
    (
        "Last verification",
        "None was recorded in the last 90 days: run `tracing-audit verify --record`.",
        &["At (UTC)", "By", "Outcome", "Findings", "Rows", "Of the checkpoint of", "Only since, s", "Of one tenant"],
        // By the batches that the database makes itself, of which there are few beside those of programs. The change of a tracked
        // table is of such a batch too, and of whatever type of action the table was given; its target is the table.
        "SELECT to_char(e.created_at, 'YYYY-MM-DD HH24:MI:SS'), left(e.user_id, 200), e.status::text, left(e.metadata ->> 'findings', 20), left(e.metadata ->> 'rows', 20),
            left(e.metadata ->> 'checkpoint', 20), left(e.metadata ->> 'since_s', 20), left(e.metadata ->> 'is_of_one_tenant', 20)
        FROM audit.batches b, LATERAL (
            -- Limited, so that it is looked up for each batch, from the newest on, until there is one.
            SELECT * FROM audit.events e WHERE e.id = b.first_id AND e.writer_id = b.writer_id AND e.action_type = 'audit.verify'
                AND e.target_type = 'trail' AND e.target_id IS NULL AND NOT e.metadata ? 'operation' LIMIT 1) AS e
        WHERE b.service_name = 'postgres' AND b.committed_at >= now() - interval '90 days'
            AND NOT EXISTS (SELECT FROM audit.writers w WHERE w.writer_id = b.writer_id)
        ORDER BY b.committed_at DESC LIMIT 1",
    ),
    (
        "Legal holds",
        "There is no legal hold.",
        &["Placed at (UTC)", "By", "Reason", "Tenant", "Kinds", "From", "To", "Lifted"],
        "SELECT h.placed_at::text, h.placed_by, h.reason, h.tenant_id::text, array_to_string(h.kinds, ', '), h.from_time::text, h.to_time::text,
            l.lifted_at::text || ' by ' || l.lifted_by || ': ' || l.reason
        FROM audit.legal_holds h LEFT JOIN audit.legal_hold_lifts l ON l.hold_id = h.id
        ORDER BY l.hold_id IS NOT NULL, h.placed_at DESC LIMIT 100",
    ),
    (
        "Dead letters",
        "There is no dead letter: Postgres took every record.",
        &["Since (UTC)", "Kind", "SQLSTATE", "Reason", "Writer", "Number"],
        "SELECT created_at::text, kind, sqlstate, left(reason, 300), writer_id::text, seq::text
        FROM audit.dead_letters ORDER BY created_at DESC LIMIT 50",
    ),
    (
        "Gaps",
        "No gap was reported.",
        &["At (UTC)", "Service", "What was lost"],
        "SELECT to_char(created_at, 'YYYY-MM-DD HH24:MI:SS'), left(service_name, 200), left(metadata::text, 500)
        FROM audit.events WHERE action_type = 'audit.gap' AND id >= audit.id_at(now() - interval '30 days') ORDER BY id DESC LIMIT 50",
    ),
    (
        "Removals",
        "Nothing was removed.",
        &["Partition", "Removed at (UTC)", "By", "Records"],
        "SELECT partition, max(removed_at)::text, max(removed_by), sum(rows)::text
        FROM audit.removals GROUP BY partition ORDER BY max(removed_at) DESC LIMIT 100",
    ),
    (
        "Partitions",
        "There is no partition.",
        &["Table", "Partition", "Bounds of ids", "Size"],
        // The newest of each table: of days there are thousands.
        "SELECT parent, name, pg_get_expr(bound, oid), pg_size_pretty(pg_total_relation_size(oid)) FROM (
            SELECT p.relname AS parent, c.relname AS name, c.relpartbound AS bound, c.oid, row_number() OVER (PARTITION BY p.oid ORDER BY c.relname DESC) AS place
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
            WHERE p.relnamespace = to_regnamespace('audit') AND p.relkind = 'p') newest
        WHERE place <= 100 ORDER BY parent, name DESC",
    ),
];

/// A list as it was read, or why it could not be.
type Listed = Result<Vec<Vec<String>>, &'static str>;

/// Shows the page.
pub(super) async fn state(
    State(_app): State<Arc<App>>,
    Known(viewer): Known,
    RawQuery(query): RawQuery,
) -> Response {
    let is_checked = query.is_some_and(|query| query == "doctor=yes");
    match shown(&viewer, is_checked).await {
        Ok(body) => html_answer(
            StatusCode::OK,
            page("State", "/state", Some(&viewer), &body),
        ),
        Err(refusal) => refusal.answer("/state", Some(&viewer)),
    }
}

async fn shown(viewer: &Viewer, is_checked: bool) -> Result<Markup, Refusal> {
    // The lists are of all tenants; what the catalog has of them is not for a reader of one.
    if matches!(viewer.access, Access::Tenant(_)) {
        return Ok(notice(
            "The state of the trail is for those who may read all of it.",
        ));
    }
    let mut lease = viewer.lease().await?;
    let failed = |source| Refusal::from(viewer.connections.database().read_error(source));
    let mut lists = Vec::new();
    for (_, _, _, statement) in LISTS {
        lists.push(list(viewer, &mut lease, statement).await.map_err(failed)?);
    }
    let groups = if is_checked {
        Some(doctor::findings(&mut lease).await.map_err(failed)?)
    } else {
        None
    };
    let reading = Reading {
        page: "state",
        filter: if is_checked { "doctor=yes" } else { "" },
        records: lists.iter().flatten().map(Vec::len).sum(),
        ..Reading::default()
    };
    viewer.record(&mut lease, &reading).await?;
    lease.done();
    Ok(body(&lists, groups.as_deref()))
}

/// Reads a list. What the login may not read, and what takes too long, is said in its place.
async fn list(
    viewer: &Viewer,
    connection: &mut PgConnection,
    statement: &'static str,
) -> Result<Listed, sqlx::Error> {
    let (mut transaction, _) = begin(connection, viewer.scope()).await?;
    limit_time(&mut transaction, TIME).await?;
    let rows = sqlx::query(AssertSqlSafe(statement))
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await;
    transaction.rollback().await?;
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) if is_timeout(&error) => {
            return Ok(Err("Reading this took longer than 3 seconds."));
        }
        Err(error) => {
            let code = error.as_database_error().and_then(DatabaseError::code);
            return match code.as_deref() {
                Some("42501") => Ok(Err("You may not read this.")),
                _ => Err(error),
            };
        }
    };
    let cells = |row: &sqlx::postgres::PgRow| {
        let cells = (0..row.len()).map(|at| row.try_get::<Option<String>, _>(at));
        cells
            .map(|cell| cell.map(Option::unwrap_or_default))
            .collect::<Result<Vec<_>, _>>()
    };
    rows.iter()
        .map(cells)
        .collect::<Result<Vec<_>, _>>()
        .map(Ok)
}

fn body(lists: &[Listed], groups: Option<&[Group]>) -> Markup {
    html! {
        h1 { "State of the trail" }
        @match groups {
            Some(groups) => { (findings(groups)) }
            None => {
                form method="get" action="/state" {
                    input type="hidden" name="doctor" value="yes";
                    button.main type="submit" { "Check the database (doctor)" }
                }
            }
        }
        @for ((title, empty, heads, _), list) in LISTS.iter().zip(lists) {
            section {
                h2 { (title) }
                @match list {
                    Err(why) => { p.soft { (why) } }
                    Ok(rows) if rows.is_empty() => { p.soft { (empty) } }
                    Ok(rows) => {
                        div.scroll {
                            table.cards {
                                thead { tr { @for head in *heads { th { (head) } } } }
                                tbody {
                                    @for row in rows {
                                        tr { @for (cell, head) in row.iter().zip(*heads) { td data-label=(head) { (visible(cell)) } } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        p { a href="/?family=security" { "Security events" } " · " a href="/?reads=yes&family=audit.read" { "Who read the trail" } }
    }
}

/// Shows what `doctor` found; what is as it must be is only counted.
fn findings(groups: &[Group]) -> Markup {
    let all = || groups.iter().flat_map(|(_, findings)| findings);
    let good = all()
        .filter(|finding| finding.severity == Severity::Ok)
        .count();
    html! {
        section {
            h2 { "What doctor finds" }
            p { (good) " checks are as they must be." }
            @for finding in all().filter(|finding| finding.severity != Severity::Ok) {
                div.entry.bad[finding.severity == Severity::Problem] {
                    div.label { (finding.severity.word()) " · " (finding.check) " · " (visible(&finding.object)) }
                    p { (visible(&finding.found)) @if !finding.expected.is_empty() { " — expected: " (visible(&finding.expected)) } }
                    @if !finding.explanation.is_empty() { p.soft { (visible(&finding.explanation)) } }
                    @if !finding.advice.is_empty() { pre tabindex="0" { (visible(&finding.advice)) } }
                }
            }
        }
    }
}
