//! Checks whether the trail is sealed as it should be, if it is sealed at all. Whether what it holds
//! is what was sealed is for `verify` to say.

use super::finding::Finding;
use super::look::{Answer, Look};

/// The age of the newest checkpoint, in seconds.
pub(crate) const CHECKPOINT: &str =
    "SELECT extract(epoch FROM clock_timestamp() - signed_at)::float8 FROM audit.checkpoint";

/// Among the newest 10,000 batches: how many are not sealed, how many of these are older than an
/// hour, and the age of the oldest of these, in seconds.
pub(crate) const UNSEALED: &str = "
    SELECT count(*), count(*) FILTER (WHERE committed_at < clock_timestamp() - interval '1 hour'),
        extract(epoch FROM clock_timestamp() - min(committed_at) FILTER (WHERE isfinite(committed_at)))::float8
    FROM (SELECT writer_id, first_seq, committed_at FROM audit.batches ORDER BY committed_at DESC LIMIT 10000) b
    WHERE NOT EXISTS (SELECT FROM audit.ledger l WHERE l.writer_id = b.writer_id AND l.first_seq = b.first_seq)";

/// A row of [`UNSEALED`].
pub(crate) type Unsealed = (i64, i64, Option<f64>);

/// A sealer signs a checkpoint every few seconds.
const MOST_SECONDS: f64 = 3600.0;

/// Reports how old the newest checkpoint is.
pub(crate) async fn check(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let signed = look.rows_of_table::<(f64,)>(CHECKPOINT).await?;
    let unsealed = look.rows_of_table::<Unsealed>(UNSEALED).await?;
    let (Answer::Rows(signed), Answer::Rows(unsealed)) = (signed, unsealed) else {
        // Reported with the batches.
        return Ok(Vec::new());
    };
    let unsealed = unsealed.first().map_or(0, |(_, unsealed, _)| *unsealed);
    let Some((seconds,)) = signed.first().copied() else {
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
