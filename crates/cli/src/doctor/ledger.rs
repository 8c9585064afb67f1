//! Checks whether the trail is sealed as it should be, if it is sealed at all. Whether what it holds
//! is what was sealed is for `verify` to say.

use super::finding::Finding;
use super::look::{Answer, Look};

/// The age of the newest checkpoint in seconds, and how many batches that are older than an hour are
/// not sealed; among the newest 10,000.
const CHECKPOINT: &str = "
    SELECT extract(epoch FROM clock_timestamp() - (SELECT signed_at FROM audit.checkpoint))::float8,
        (SELECT count(*) FROM (SELECT writer_id, first_seq, committed_at FROM audit.batches ORDER BY committed_at DESC LIMIT 10000) b
            WHERE b.committed_at < clock_timestamp() - interval '1 hour'
                AND NOT EXISTS (SELECT FROM audit.ledger l WHERE l.writer_id = b.writer_id AND l.first_seq = b.first_seq))";

/// A sealer signs a checkpoint every few seconds.
const MOST_SECONDS: f64 = 3600.0;

/// Reports how old the newest checkpoint is.
pub(crate) async fn check(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let answer = look.rows_of_table::<(Option<f64>, i64)>(CHECKPOINT).await?;
    let Answer::Rows(rows) = answer else {
        // Reported with the batches.
        return Ok(Vec::new());
    };
    let Some((Some(seconds), unsealed)) = rows.first().copied() else {
        return Ok(vec![Finding::ok(
            "checkpoint",
            "newest checkpoint",
            "none: the trail is not sealed",
        )]);
    };
    let age = crate::text::duration(seconds * 1000.0);
    if seconds <= MOST_SECONDS && unsealed == 0 {
        return Ok(vec![Finding::ok(
            "checkpoint",
            "newest checkpoint",
            format!("signed {age} ago"),
        )]);
    }
    Ok(vec![
        Finding::warning(
            "checkpoint",
            "newest checkpoint",
            format!("signed {age} ago; {unsealed} batches older than an hour are not sealed"),
        )
        .expected("a checkpoint every few seconds, of all batches")
        .advice("tracing-audit seal --once --key FILE")
        .explained(
            "What is changed before it is sealed is not found. See whether the sealer runs: \
             docs/tamper-evidence.md.",
        ),
    ])
}
