//! What the tables hold, in numbers: records that Postgres refused, and whether the batches follow each other.

use super::finding::{Finding, Severity, or_ok};
use super::look::{Answer, Look};

const DEAD_LETTERS: &str = "
    SELECT coalesce(sqlstate, 'none'), count(*) FROM audit.dead_letters GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20";

/// Of the newest 10,000 batches, how many there are, how many do not begin where the writer's batch before ended, how many
/// writers that concerns, and one of these.
const GAPS: &str = "
    WITH recent AS (SELECT writer_id, first_seq FROM audit.batches ORDER BY committed_at DESC LIMIT 10000),
    gap AS (
        SELECT r.writer_id FROM recent r LEFT JOIN LATERAL (
            SELECT b.last_seq FROM audit.batches b
            WHERE b.writer_id = r.writer_id AND b.first_seq < r.first_seq ORDER BY b.first_seq DESC LIMIT 1) p ON true
        WHERE r.first_seq <> coalesce(p.last_seq, 0) + 1)
    SELECT (SELECT count(*) FROM recent), count(*), count(DISTINCT writer_id), min(writer_id::text) FROM gap";

/// How long ago the newest batch was committed, in seconds.
const NEWEST: &str = "
    SELECT extract(epoch FROM clock_timestamp() - committed_at)::float8 FROM audit.batches ORDER BY committed_at DESC LIMIT 1";

/// Dead letters, continuity, and the newest batch.
pub(crate) async fn check(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    // Else row-level security would show empty tables.
    if !look.sees_all_rows {
        return Ok(vec![
            Finding::unseen("dead_letters", "audit.dead_letters"),
            Finding::unseen("batches", "audit.batches"),
        ]);
    }
    let mut findings = dead_letters(look).await?;
    findings.extend(batches(look).await?);
    Ok(findings)
}

async fn dead_letters(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let counts = match look.rows_of_table::<(String, i64)>(DEAD_LETTERS).await? {
        Answer::Rows(counts) => counts,
        Answer::Refused => return Ok(vec![Finding::unseen("dead_letters", "audit.dead_letters")]),
        // Told of with the tables.
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
                "SELECT writer_id, seq, kind, reason FROM audit.dead_letters WHERE {}; \
                     says why, and which. They stay part of the trail.",
                match code.as_str() {
                    "none" => "sqlstate IS NULL".to_owned(),
                    code => format!("sqlstate = '{}'", code.replace('\'', "''")),
                }
            ))
        })
        .collect();
    Ok(or_ok("dead_letters", findings, "dead letters", "none"))
}

async fn batches(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    type Gaps = (i64, i64, i64, Option<String>);
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
                "SELECT * FROM audit.batches WHERE writer_id = '{writer}' ORDER BY \
                     first_seq; shows what is missing: rows of the table were removed, or \
                     put in by hand."
            )),
        });
    }
    let newest: Vec<(f64,)> = look.rows(NEWEST).await?;
    findings.push(match newest.first() {
        None => Finding::ok("newest_batch", "newest batch", "none was written yet"),
        Some((seconds,)) => {
            let age = crate::text::duration(seconds * 1000.0);
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
                .advice("See whether the server's clock was set back."),
            }
        }
    });
    Ok(findings)
}
