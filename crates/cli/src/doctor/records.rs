//! Checks what the tables hold by counting: records that Postgres refused, and gaps between
//! batches.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tracing_audit::__program::Table;
use tracing_audit::Kind;

use super::finding::{Finding, Severity, or_ok};
use super::look::{Answer, Look};
use super::settled;

const DEAD_LETTERS: &str = "
    SELECT coalesce(sqlstate, 'none'), count(*) FROM audit.dead_letters GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20";

/// Among the newest 10,000 batches: how many there are, how many do not begin where the writer's
/// previous batch ended, how many writers that concerns, and one of these. A sum of 64-bit numbers
/// may need more bits.
pub(crate) const GAPS: &str = "
    WITH recent AS (SELECT writer_id, first_seq FROM audit.batches ORDER BY committed_at DESC LIMIT 10000),
    gap AS (
        SELECT r.writer_id FROM recent r LEFT JOIN LATERAL (
            SELECT b.last_seq FROM audit.batches b
            WHERE b.writer_id = r.writer_id AND b.first_seq < r.first_seq ORDER BY b.first_seq DESC LIMIT 1) p ON true
        WHERE r.first_seq::numeric <> coalesce(p.last_seq, 0)::numeric + 1)
    SELECT (SELECT count(*) FROM recent), count(*), count(DISTINCT writer_id), min(writer_id::text) FROM gap";

/// A row of [`GAPS`].
pub(crate) type Gaps = (i64, i64, i64, Option<String>);

/// Returns the query that counts, among the newest 1,000 batches and, for each month, the last with
/// rows in each table and with dead letters: how many claim more rows than exist, how many records that is, how many writers,
/// and one of these. Rows removed by retention are in `audit.removals`. Of batches whose ids span
/// more than a week only the newest ten are checked: a writer may claim ids of all time, and each
/// such claim would mean scanning all rows.
fn lost_statement() -> String {
    let last_of_month = |condition: &str| {
        format!(
            "(SELECT DISTINCT ON (date_trunc('month', committed_at, 'UTC')) * FROM audit.batches
                WHERE {condition} ORDER BY date_trunc('month', committed_at, 'UTC'), committed_at DESC)"
        )
    };
    let chosen = Table::ALL
        .map(|table| last_of_month(&format!("records ? '{}'", table.name())))
        .join(" UNION ");
    // Of a table with rows of the batch that were removed by the rules, nothing is counted.
    let lost = Table::ALL.map(|table| {
        let table = table.name();
        format!(
            "CASE WHEN b.records ->> '{table}' ~ '^[1-9][0-9]{{0,9}}$' AND (b.is_wide IS NOT TRUE OR b.place <= 10) AND NOT EXISTS (
                SELECT FROM audit.removals x
                WHERE x.parent = '{table}' AND x.writer_id = b.writer_id AND x.first_seq <= b.last_seq AND x.last_seq >= b.first_seq)
            THEN greatest((b.records ->> '{table}')::bigint - (
                SELECT count(*) FROM audit.{table} r WHERE r.id BETWEEN b.first_id AND b.last_id
                AND r.writer_id = b.writer_id AND r.seq BETWEEN b.first_seq AND b.last_seq), 0) ELSE 0 END"
        )
    });
    format!(
        "WITH chosen AS (
            (SELECT * FROM audit.batches ORDER BY committed_at DESC LIMIT 1000)
            UNION {chosen}
            UNION {dead_letters}),
        measured AS (
            SELECT *, ('x' || translate(left(last_id::text, 13), '-', ''))::bit(48)::bigint
                - ('x' || translate(left(first_id::text, 13), '-', ''))::bit(48)::bigint > 604800000 AS is_wide FROM chosen),
        looked_at AS (
            SELECT *, row_number() OVER (PARTITION BY is_wide ORDER BY committed_at DESC) AS place FROM measured),
        counted AS (
            SELECT b.writer_id, {lost}
                + greatest(b.dead_letters - (
                    SELECT count(*) FROM audit.dead_letters d WHERE d.writer_id = b.writer_id AND d.seq BETWEEN b.first_seq AND b.last_seq), 0) AS lost
            FROM looked_at b)
        SELECT count(*), coalesce(sum(lost), 0)::bigint, count(DISTINCT writer_id), min(writer_id::text)
        FROM counted WHERE lost > 0",
        dead_letters = last_of_month("dead_letters > 0"),
        lost = lost.join(" + "),
    )
}

/// The least id of the moment an hour from now. Rows beyond it are dated ahead, and counted apart:
/// whoever may write could else hide others behind them.
const AHEAD: &str = "(lpad(to_hex((extract(epoch FROM now() + interval '1 hour') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid";

/// Returns the query that counts, among the newest 10,000 rows of each table and as many that are
/// dated ahead, those that no batch counts, with one of their writers. A writer can add a row
/// without a batch, or under another's id and no batch.
fn uncounted_statement() -> String {
    let recent = Table::ALL.map(|table| {
        let table = table.name();
        format!(
            "(SELECT '{table}', writer_id, seq FROM audit.{table} WHERE id < {AHEAD} ORDER BY id DESC LIMIT 10000)
            UNION ALL (SELECT '{table}', writer_id, seq FROM audit.{table} WHERE id >= {AHEAD} ORDER BY id LIMIT 10000)"
        )
    });
    format!(
        "WITH recent (table_name, writer_id, seq) AS ({})
        SELECT table_name, count(*), min(r.writer_id::text) FROM recent r LEFT JOIN LATERAL (
            SELECT b.last_seq FROM audit.batches b WHERE b.writer_id = r.writer_id AND b.first_seq <= r.seq ORDER BY b.first_seq DESC LIMIT 1) b ON true
        WHERE b.last_seq IS NULL OR b.last_seq < r.seq GROUP BY table_name ORDER BY table_name",
        recent.join(" UNION ALL ")
    )
}

/// Returns the query that counts, among the newest 10,000 events and as many that are dated ahead,
/// those that claim to come from the database but come from a program, with one of the programs'
/// writers. The database takes a new, unregistered writer for each of its own.
fn forged_statement() -> String {
    let newest: Vec<String> = Table::ALL
        .into_iter()
        .filter(|table| table.kind() == Kind::Event)
        .map(|table| {
            let rows = format!(
                "SELECT writer_id, service_name, action_type FROM audit.{}",
                table.name()
            );
            format!(
                "({rows} WHERE id < {AHEAD} ORDER BY id DESC LIMIT 10000)
                UNION ALL ({rows} WHERE id >= {AHEAD} ORDER BY id LIMIT 10000)"
            )
        })
        .collect();
    format!(
        "SELECT count(*), min(w.writer_id::text) FROM ({}) e
        JOIN audit.writers w ON w.writer_id = e.writer_id
        WHERE e.service_name = 'postgres' AND e.action_type LIKE 'audit.%'",
        newest.join(" UNION ALL ")
    )
}

/// The age of the newest batch, in seconds; null if its time is not finite.
pub(crate) const NEWEST: &str = "
    SELECT CASE WHEN isfinite(committed_at) THEN extract(epoch FROM clock_timestamp() - committed_at)::float8 END
    FROM audit.batches ORDER BY committed_at DESC LIMIT 1";

/// What to do when no batch is written.
const SILENT: &str = "See whether the programs that write run and reach this database: their local logs hold \
    what they could not write (`tracing-audit spool list`).";

/// Checks dead letters, continuity, and the newest batch.
///
/// A newest batch older than `max_age` is a problem. Without `is_whole`, a partition with rows is
/// reported as detached, so its rows are not reported as missing here.
pub(crate) async fn check(
    look: &mut Look<'_>,
    max_age: Option<Duration>,
    is_whole: bool,
) -> Result<Vec<Finding>, sqlx::Error> {
    // Otherwise row-level security would make tables look empty.
    if !look.sees_all_rows {
        return Ok(vec![
            Finding::unseen("dead_letters", "audit.dead_letters"),
            Finding::unseen("batches", "audit.batches"),
        ]);
    }
    let mut findings = settled("audit.dead_letters", dead_letters(look).await)?;
    findings.extend(settled("audit.batches", batches(look).await)?);
    if is_whole {
        findings.extend(settled("batch_rows", lost(look).await)?);
    }
    findings.extend(settled("uncounted rows", uncounted(look).await)?);
    findings.extend(settled("newest batch", newest(look, max_age).await)?);
    Ok(findings)
}

async fn dead_letters(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let counts = match look.rows_of_table::<(String, i64)>(DEAD_LETTERS).await? {
        Answer::Rows(counts) => counts,
        Answer::Refused => return Ok(vec![Finding::unseen("dead_letters", "audit.dead_letters")]),
        // Reported with the tables.
        Answer::Absent => return Ok(Vec::new()),
    };
    let findings = counts
        .into_iter()
        .map(|(code, count)| {
            Finding::warning(
                "dead_letters",
                "audit.dead_letters",
                format!("{count} refused with SQLSTATE {code}"),
            )
            .expected("no record that Postgres refuses")
            .advice(format!(
                "SELECT writer_id, seq, kind, reason FROM audit.dead_letters WHERE {};",
                match code.as_str() {
                    "none" => "sqlstate IS NULL".to_owned(),
                    // A program may say anything: what no code is has no place in a statement to copy.
                    code if !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                        "sqlstate !~ '^[0-9A-Za-z]*$'".to_owned()
                    }
                    code => format!("sqlstate = '{code}'"),
                }
            ))
            .explained("This says why, and which. They stay part of the trail.")
        })
        .collect();
    Ok(or_ok("dead_letters", findings, "dead letters", "none"))
}

async fn batches(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let gaps = match look.rows_of_table::<Gaps>(GAPS).await? {
        Answer::Rows(gaps) => gaps,
        Answer::Refused => return Ok(vec![Finding::unseen("batches", "audit.batches")]),
        Answer::Absent => return Ok(Vec::new()),
    };
    let mut findings = Vec::new();
    for (looked_at, gaps, writers, writer) in gaps {
        findings.push(match writer {
            None => Finding::ok(
                "batches",
                "batches",
                format!("no gap in the newest {looked_at}"),
            ),
            Some(writer) => Finding::warning(
                "batches",
                "audit.batches",
                format!(
                    "{gaps} of the newest {looked_at} do not begin where the one before ended, \
                 of {writers} writers; one of them is {writer}"
                ),
            )
            .expected("the batches of a writer follow each other without a gap")
            .advice(format!(
                "SELECT * FROM audit.batches WHERE writer_id = '{writer}' ORDER BY first_seq;"
            ))
            .explained(
                "This shows what is missing: rows of the table were removed, or put in by hand.",
            ),
        });
    }
    Ok(findings)
}

/// Reports batches without their rows.
async fn lost(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    type Lost = (i64, i64, i64, Option<String>);
    let lost = match look
        .rows_of_table::<Lost>(AssertSqlSafe(lost_statement()))
        .await?
    {
        Answer::Rows(lost) => lost,
        Answer::Refused => return Ok(vec![Finding::unseen("batch_rows", "audit.batches")]),
        Answer::Absent => return Ok(Vec::new()),
    };
    let findings = lost
        .into_iter()
        .filter_map(|(batches, rows, writers, writer)| {
            let writer = writer?;
            Some(
                Finding::problem(
                    "batch_rows",
                    "audit.batches",
                    format!(
                        "{rows} rows that {batches} batches of {writers} writers wrote are not \
                         there, and no removal tells of them; one of the writers is {writer}"
                    ),
                )
                .expected("the rows of each batch, or a row of audit.removals that tells of them")
                .advice(format!(
                    "SELECT * FROM audit.batches WHERE writer_id = '{writer}' ORDER BY first_seq;"
                ))
                .explained(
                    "This shows which. Look for a partition that was dropped or detached, and \
                     restore the rows from a backup.",
                ),
            )
        })
        .collect();
    Ok(or_ok(
        "batch_rows",
        findings,
        "rows of batches",
        "there, or removed by the rules",
    ))
}

/// Reports rows without their batch, and events that only claim to come from the database.
async fn uncounted(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    let Answer::Rows(uncounted) = look
        .rows_of_table::<(String, i64, String)>(AssertSqlSafe(uncounted_statement()))
        .await?
    else {
        // Reported with the batches.
        return Ok(Vec::new());
    };
    for (kind, rows, writer) in uncounted {
        findings.push(
            Finding::problem(
                "uncounted_rows",
                format!("audit.{kind}"),
                format!("{rows} of the newest rows are counted by no batch; one of their writers is {writer}"),
            )
            .expected("rows that a batch of their writer counts")
            .advice(format!("SELECT * FROM audit.{kind} WHERE writer_id = '{writer}' ORDER BY seq;"))
            .explained("This shows them: rows that were put in by hand, by somebody who may write."),
        );
    }
    if let Answer::Rows(forged) = look
        .rows_of_table::<(i64, Option<String>)>(AssertSqlSafe(forged_statement()))
        .await?
        && let Some((events, Some(writer))) = forged.into_iter().next()
    {
        findings.push(
            Finding::problem(
                "uncounted_rows",
                "audit.events",
                format!(
                    "{events} of the newest events say that the database made them, and came from \
                     a program; one of the writers is {writer}"
                ),
            )
            .expected("events of service postgres by the functions of the trail alone")
            .advice(format!(
                "SELECT * FROM audit.writers WHERE writer_id = '{writer}';"
            ))
            .explained("This tells the login that wrote them."),
        );
    }
    Ok(or_ok(
        "uncounted_rows",
        findings,
        "rows",
        "the newest are counted by a batch each",
    ))
}

/// Reports when the newest batch was committed.
async fn newest(
    look: &mut Look<'_>,
    max_age: Option<Duration>,
) -> Result<Vec<Finding>, sqlx::Error> {
    let Answer::Rows(newest) = look.rows_of_table::<(Option<f64>,)>(NEWEST).await? else {
        // Reported with the batches.
        return Ok(Vec::new());
    };
    Ok(vec![match newest.first() {
        None if max_age.is_some() => {
            Finding::problem("newest_batch", "newest batch", "none was written yet")
                .expected("one that is younger than --max-age")
                .explained(SILENT)
        }
        None => Finding::ok("newest_batch", "newest batch", "none was written yet"),
        Some((None,)) => Finding::warning(
            "newest_batch",
            "newest batch",
            "written at a time that is not finite",
        )
        .expected("a time that is past")
        .advice("SELECT * FROM audit.batches WHERE NOT isfinite(committed_at);")
        .explained("This shows it: a row that was put in by hand."),
        Some((Some(seconds),)) => {
            let age = crate::text::duration(seconds * 1000.0);
            if max_age.is_some_and(|max_age| *seconds > max_age.as_secs_f64()) {
                return Ok(vec![
                    Finding::problem("newest_batch", "newest batch", format!("written {age} ago"))
                        .expected("one that is younger than --max-age")
                        .explained(SILENT),
                ]);
            }
            let severity = if *seconds < 0.0 {
                Severity::Warning
            } else {
                Severity::Ok
            };
            match severity {
                Severity::Ok => {
                    Finding::ok("newest_batch", "newest batch", format!("written {age} ago"))
                }
                _ => Finding::warning(
                    "newest_batch",
                    "newest batch",
                    format!("written {} after now", age.trim_start_matches('-')),
                )
                .expected("a time that is past")
                .explained("See whether the server's clock was set back."),
            }
        }
    }])
}
