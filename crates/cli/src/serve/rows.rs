//! Reads the rows of a page, until it has as much text as a page may have.
//!
//! A writer can put megabytes into each of a hundred records. What does not fit is left out, and the
//! page says so: each record has a page of its own.

use maud::{Markup, html};
use sqlx::postgres::PgConnection;

use crate::database::Scope;
use crate::pages::{Extent, Pages};
use crate::row::{RecordId, Row};

/// How many rows are read at once: at first, and at the most. Each may have a megabyte or two.
const AT_FIRST: usize = 5;
const AT_MOST: usize = 40;

/// How many bytes of rows a page shows.
pub(super) const MOST_BYTES: usize = 2_000_000;

/// Reads as many of these records as a page shows, with their texts.
pub(super) async fn rows(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    records: &[RecordId],
) -> Result<Rows, sqlx::Error> {
    let mut read = Vec::new();
    let mut bytes = 0;
    let mut tried = 0;
    let mut at_once = AT_FIRST;
    while tried < records.len() && bytes < MOST_BYTES {
        let some = &records[tried..records.len().min(tried + at_once)];
        tried += some.len();
        let mut pages = Pages::new(some.iter().copied(), Extent::Story);
        let mut largest = 1;
        while let Some(page) = pages.next(connection, scope).await? {
            let sizes = page.iter().map(Row::size);
            bytes += sizes.clone().sum::<usize>();
            largest = sizes.fold(largest, usize::max);
            read.extend(page);
        }
        // More at once where rows are small, which is faster.
        let fitting = MOST_BYTES.saturating_sub(bytes) / largest;
        at_once = fitting.clamp(AT_FIRST, AT_MOST.min(at_once * 2));
    }
    Ok(Rows {
        rows: read,
        left_out: records.len() - tried,
    })
}

/// The rows of a page.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
    /// How many records did not fit, the last ones.
    pub(super) left_out: usize,
}

/// Says how many records did not fit.
pub(super) fn too_large(left_out: usize) -> Markup {
    html! {
        @if left_out > 0 {
            p.notice role="status" {
                (left_out) " more records are too large to be shown with these: open them from the list."
            }
        }
    }
}
