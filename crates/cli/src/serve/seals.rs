//! Which records are sealed, for the badge beside each.

use std::collections::HashMap;

use maud::{Markup, html};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

use super::viewer::Viewer;
use crate::database::begin;
use crate::row::Row;

/// Of each record: whether its batch is in the log, and under the newest checkpoint. No row if there
/// is no checkpoint.
const SEALED: &str = "
    SELECT r.writer, r.seq, l.index IS NOT NULL AND l.index < c.size
    FROM audit.checkpoint c, unnest($1::uuid[], $2::bigint[]) AS r (writer, seq)
    LEFT JOIN LATERAL (SELECT b.first_seq FROM audit.batches b WHERE b.writer_id = r.writer AND b.first_seq <= r.seq AND b.last_seq >= r.seq
        ORDER BY b.first_seq DESC LIMIT 1) AS b ON true
    LEFT JOIN audit.ledger l ON l.writer_id = r.writer AND l.first_seq = b.first_seq";

/// Which records are sealed; empty where there is no ledger, or the reader may not read it.
#[derive(Debug, Default)]
pub(super) struct Seals(HashMap<(Uuid, i64), bool>);

impl Seals {
    /// Looks up the seals of these rows.
    pub(super) async fn of(
        viewer: &Viewer,
        connection: &mut PgConnection,
        rows: &[&Row],
    ) -> Result<Self, sqlx::Error> {
        let (writers, numbers): (Vec<Uuid>, Vec<i64>) =
            rows.iter().filter_map(|row| place(row)).unzip();
        let (mut transaction, _) = begin(connection, viewer.scope()).await?;
        let found = sqlx::query_as(SEALED)
            .bind(writers)
            .bind(numbers)
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await;
        transaction.rollback().await?;
        let found: Vec<(Uuid, i64, bool)> = match found {
            Ok(found) => found,
            Err(error) => {
                let code = error.as_database_error().and_then(DatabaseError::code);
                return match code.as_deref() {
                    Some("42501") => Ok(Self::default()),
                    _ => Err(error),
                };
            }
        };
        let seals = found
            .into_iter()
            .map(|(writer, seq, is_sealed)| ((writer, seq), is_sealed));
        Ok(Self(seals.collect()))
    }

    /// Returns the badge of a record.
    pub(super) fn badge(&self, row: &Row) -> Markup {
        let is_sealed = place(row).and_then(|place| self.0.get(&place));
        html! {
            @match is_sealed {
                None => {}
                Some(true) => { " " span.badge.good title="Its batch is under the newest signed checkpoint; whether it was changed since, tracing-audit verify tells." { "sealed" } }
                Some(false) => { " " span.badge title="Its batch is not under a signed checkpoint yet." { "not sealed yet" } }
            }
        }
    }
}

/// Returns the writer of a record, and its number.
fn place(row: &Row) -> Option<(Uuid, i64)> {
    Some((row.text("writer_id")?.parse().ok()?, row.number("seq")?))
}
