//! The statements that sqlx reports in events of target `sqlx::query` (0.8 and 0.9).
//!
//! The event has the SQL in `db.statement`, or in `summary` if it is no longer than four words. It
//! is made when a statement has ended, however it ended.

use std::fmt;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use crate::capture::statements::Statement;
use crate::limits::Limits;
use crate::record::buffers::Buffers;
use crate::record::encode::{Key, ty};

const TARGET: &str = "sqlx::query";

/// Returns whether this is such an event, or the question whether somebody wants one.
pub(super) fn is_of(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET
}

/// Reads a statement; `None`: the event reports none.
pub(crate) fn statement(event: &Event<'_>) -> Option<Statement> {
    let mut read = Read::default();
    event.record(&mut read);
    let sql = match read.statement.trim() {
        "" => read.summary.trim(),
        whole => whole,
    };
    let rows = [read.rows_returned, read.rows_affected];
    let elapsed = Duration::try_from_secs_f64(read.elapsed_secs).unwrap_or_default();
    (!sql.is_empty()).then(|| Statement::new(sql, rows, elapsed))
}

/// Writes what a query run of one statement begins with.
pub(crate) fn write(statement: &Statement, out: &mut Buffers, limits: &Limits) {
    let key = Key::Extra(super::ADOPTED);
    out.text(key, ty::TEXT, b"sqlx", limits);
    statement.write(out, limits);
}

#[derive(Debug, Default)]
struct Read {
    summary: String,
    statement: String,
    rows_affected: u64,
    rows_returned: u64,
    elapsed_secs: f64,
}

impl Visit for Read {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "rows_affected" => self.rows_affected = value,
            "rows_returned" => self.rows_returned = value,
            _ => {}
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.elapsed_secs = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
