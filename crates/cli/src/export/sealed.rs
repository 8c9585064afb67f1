//! Which of the exported records are under the newest checkpoint of the ledger, if there is one.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

/// The newest checkpoint.
const CHECKPOINT: &str = "SELECT origin, size, note FROM audit.checkpoint";

/// Whether this login may read the ledger.
const MAY_READ: &str = "SELECT has_table_privilege('audit.checkpoint', 'SELECT') AND has_table_privilege('audit.ledger', 'SELECT')
    AND has_table_privilege('audit.batches', 'SELECT')";

/// The batches that are not under a checkpoint of so many entries. Most batches are, so these are few.
const NOT_SEALED: &str = "SELECT b.writer_id, b.first_seq, b.last_seq FROM audit.batches b
    LEFT JOIN audit.ledger l ON l.writer_id = b.writer_id AND l.first_seq = b.first_seq AND l.index < $1
    WHERE l.index IS NULL LIMIT $2";

/// So many such batches are remembered.
const MOST: usize = 100_000;

/// The checkpoint, and what is not under it.
#[derive(Debug)]
pub(crate) struct Sealed {
    origin: String,
    size: i64,
    /// As it was signed.
    pub(crate) note: String,
    /// By writer, the ranges of the batches that are not sealed; `None`: they are too many.
    open: Option<HashMap<Uuid, Vec<(i64, i64)>>>,
    records_in_open: u64,
    first_in_open: Option<Uuid>,
}

impl Sealed {
    /// Reads it in a transaction that has begun. `Err` says why nothing is known.
    pub(crate) async fn read(
        connection: &mut PgConnection,
    ) -> Result<Result<Self, &'static str>, sqlx::Error> {
        let may_read: bool = sqlx::query_scalar(MAY_READ)
            .persistent(false)
            .fetch_one(&mut *connection)
            .await?;
        if !may_read {
            return Ok(Err("this login may not read the ledger"));
        }
        let checkpoint: Option<(String, i64, String)> = sqlx::query_as(CHECKPOINT)
            .persistent(false)
            .fetch_optional(&mut *connection)
            .await?;
        let Some((origin, size, note)) = checkpoint else {
            return Ok(Err("the trail has no checkpoint"));
        };
        let rows: Vec<(Uuid, i64, i64)> = sqlx::query_as(NOT_SEALED)
            .bind(size)
            .bind(i64::try_from(MOST + 1).unwrap_or(i64::MAX))
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
        let open = (rows.len() <= MOST).then(|| {
            let mut open: HashMap<Uuid, Vec<(i64, i64)>> = HashMap::new();
            for (writer, first, last) in rows {
                open.entry(writer).or_default().push((first, last));
            }
            for ranges in open.values_mut() {
                ranges.sort_unstable();
            }
            open
        });
        Ok(Ok(Self {
            origin,
            size,
            note,
            open,
            records_in_open: 0,
            first_in_open: None,
        }))
    }

    /// Counts a record that was written.
    pub(crate) fn count(&mut self, id: Uuid, writer: Uuid, seq: i64) {
        let Some(ranges) = self.open.as_ref().and_then(|open| open.get(&writer)) else {
            return;
        };
        let at = ranges.partition_point(|(first, _)| *first <= seq);
        if at > 0 && ranges[at - 1].1 >= seq {
            self.records_in_open += 1;
            self.first_in_open = self.first_in_open.or(Some(id));
        }
    }

    /// Returns what the manifest says of it.
    pub(crate) fn told(&self) -> Value {
        let counted = self.open.is_some();
        json!({
            "origin": self.origin,
            "size": self.size,
            "checkpoint": self.note,
            "all_sealed": counted.then_some(self.records_in_open == 0),
            "records_not_sealed": counted.then_some(self.records_in_open),
            "first_not_sealed": self.first_in_open.map(|id| id.to_string()),
            "why_not_counted": (!counted).then(|| format!("more than {MOST} batches are not sealed")),
        })
    }
}
