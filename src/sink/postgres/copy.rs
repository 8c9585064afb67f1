//! The binary format of COPY ("Binary Format" in `PostgreSQL`'s manual, page COPY): a signature,
//! then each row as the number of its columns and each column behind its length.

use uuid::Uuid;

use crate::ledger::layout::Columns;
use crate::ledger::leaf::{self, Leaf, TablePrefix};
use crate::record::row::{Cell, Row};
use crate::vocabulary::{Field, Table};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Microseconds from 1970 to 2000, where `PostgreSQL`'s time begins.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The type of the elements of `text[]`.
const TEXT_OID: i32 = 25;

/// A column, and where its value comes from.
#[derive(Clone, Copy, Debug)]
enum Column {
    Id,
    ParentId,
    TraceId,
    SpanId,
    ServiceName,
    Field(Field),
    Status,
    /// The start time, under this name.
    Began(&'static str),
    FinishedAt,
    /// The duration in milliseconds, under this name.
    Took(&'static str),
    Metadata,
    Problems,
    Redactions,
    WriterId,
    Seq,
    Salt,
}

impl Column {
    const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::ParentId => "parent_id",
            Self::TraceId => "trace_id",
            Self::SpanId => "span_id",
            Self::ServiceName => "service_name",
            Self::Field(field) => field.name(),
            Self::Status => "status",
            Self::Began(name) | Self::Took(name) => name,
            Self::FinishedAt => "finished_at",
            Self::Metadata => "metadata",
            Self::Problems => "problems",
            Self::Redactions => "redactions",
            Self::WriterId => "writer_id",
            Self::Seq => "seq",
            Self::Salt => "salt",
        }
    }
}

/// Returns the columns of a table, in the order in which they are sent: that in which they are
/// hashed, so that what is sent is hashed as it is.
fn columns(table: Table) -> Vec<Column> {
    let known = known_columns(table);
    let place = |name| known.iter().find(|column| column.name() == name).copied();
    hashed_columns(table).all().filter_map(place).collect()
}

/// Returns which columns of a table are hashed: all.
fn hashed_columns(table: Table) -> &'static Columns {
    // INVARIANT: each record table is in the ledger.
    #[expect(clippy::expect_used, reason = "a test goes over all tables")]
    Columns::of(table.name()).expect("a record table without a layout")
}

/// Returns the columns of a table, in any order.
fn known_columns(table: Table) -> Vec<Column> {
    use crate::vocabulary::FieldType;
    let mut columns = vec![
        Column::Id,
        Column::ParentId,
        Column::TraceId,
        Column::SpanId,
        Column::ServiceName,
        Column::Status,
    ];
    columns.extend([
        Column::Began(table.began_column()),
        Column::Took(table.duration_column()),
    ]);
    if table.has_end() {
        columns.push(Column::FinishedAt);
    }
    columns.extend(
        Field::ALL
            .iter()
            .filter(|field| {
                field.belongs_to(table.kind()) && field.field_type() != FieldType::Special
            })
            .map(|field| Column::Field(*field)),
    );
    columns.extend([
        Column::Metadata,
        Column::Problems,
        Column::Redactions,
        Column::WriterId,
        Column::Seq,
        Column::Salt,
    ]);
    columns
}

/// Returns the names of a table's columns, as COPY expects them.
pub(crate) fn column_list(table: Table) -> String {
    columns(table)
        .iter()
        .map(|column| column.name())
        .collect::<Vec<_>>()
        .join(", ")
}

/// What the spool and the writer add to a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Provenance<'a> {
    pub(crate) writer: Uuid,
    pub(crate) service: &'a str,
    pub(crate) seq: u64,
    pub(crate) salt: [u8; 16],
}

/// Writes the rows of one table.
#[derive(Debug)]
pub(crate) struct Encoder {
    columns: Vec<Column>,
    column_count: i16,
    /// How many of the columns are the core.
    core_count: usize,
    prefix: TablePrefix,
}

impl Encoder {
    pub(crate) fn new(table: Table) -> Self {
        let columns = columns(table);
        let column_count = i16::try_from(columns.len()).unwrap_or(i16::MAX);
        Self {
            columns,
            column_count,
            core_count: hashed_columns(table).core.len(),
            prefix: TablePrefix::new(table.name()),
        }
    }

    /// Begins the data of a COPY.
    pub(crate) fn begin(out: &mut Vec<u8>) {
        out.extend_from_slice(SIGNATURE);
    }

    /// Ends the data of a COPY.
    pub(crate) fn end(out: &mut Vec<u8>) {
        out.extend_from_slice(&TRAILER);
    }

    /// Appends a row; returns its hashes.
    pub(crate) fn hashed_row(
        &self,
        out: &mut Vec<u8>,
        row: &Row<'_>,
        provenance: &Provenance<'_>,
    ) -> Leaf {
        let core = out.len() + size_of_val(&self.column_count);
        let content = self.row(out, row, provenance);
        leaf::leaf(&self.prefix, &out[core..content], &out[content..])
    }

    /// Appends a row; returns where its content begins.
    pub(crate) fn row(
        &self,
        out: &mut Vec<u8>,
        row: &Row<'_>,
        provenance: &Provenance<'_>,
    ) -> usize {
        out.extend_from_slice(&self.column_count.to_be_bytes());
        let (core, content) = self.columns.split_at(self.core_count);
        append(out, core, row, provenance);
        let content_at = out.len();
        append(out, content, row, provenance);
        content_at
    }
}

/// Appends the values of columns.
fn append(out: &mut Vec<u8>, columns: &[Column], row: &Row<'_>, provenance: &Provenance<'_>) {
    for &column in columns {
        match column {
            Column::Id => bytes(out, row.id.as_bytes()),
            Column::ParentId => match &row.parent_id {
                Some(id) => bytes(out, id.as_bytes()),
                None => null(out),
            },
            Column::TraceId => hex::<16, 32>(out, row.place.trace_id),
            Column::SpanId => hex::<8, 16>(out, row.place.span_id),
            Column::ServiceName => bytes(out, provenance.service.as_bytes()),
            Column::Field(field) => match row.cell(field) {
                Cell::Null => null(out),
                Cell::Text(text) => bytes(out, text.as_bytes()),
                Cell::Int(int) => bytes(out, &int.to_be_bytes()),
                Cell::Uuid(id) => bytes(out, id.as_bytes()),
            },
            Column::Status => bytes(out, row.status.as_str().as_bytes()),
            Column::Began(_) => timestamp(out, row.started_us),
            Column::FinishedAt => match row.finished_us() {
                Some(finished_us) => timestamp(out, finished_us),
                None => null(out),
            },
            Column::Took(_) => match row.duration_us {
                Some(duration_us) => bytes(out, &(duration_us / 1_000).to_be_bytes()),
                None => null(out),
            },
            Column::Metadata => {
                let at = begin(out);
                // The version of jsonb's own binary format.
                out.push(1);
                out.extend_from_slice(row.metadata.as_bytes());
                end(out, at);
            }
            Column::Problems => texts(out, &row.problems),
            Column::Redactions => texts(out, &row.redactions),
            Column::WriterId => bytes(out, provenance.writer.as_bytes()),
            Column::Seq => bytes(out, &provenance.seq.to_be_bytes()),
            Column::Salt => bytes(out, &provenance.salt),
        }
    }
}

fn length(len: usize) -> [u8; 4] {
    i32::try_from(len).unwrap_or(i32::MAX).to_be_bytes()
}

pub(super) fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1_i32).to_be_bytes());
}

pub(super) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&length(value.len()));
    out.extend_from_slice(value);
}

/// Begins a column whose length is known only afterwards; returns where its data starts.
fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len()
}

fn end(out: &mut [u8], at: usize) {
    let len = length(out.len() - at);
    out[at - 4..at].copy_from_slice(&len);
}

/// `DIGITS` is twice `BYTES`.
fn hex<const BYTES: usize, const DIGITS: usize>(out: &mut Vec<u8>, value: [u8; BYTES]) {
    const OF: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(value) {
        pair.copy_from_slice(&[OF[usize::from(byte >> 4)], OF[usize::from(byte & 15)]]);
    }
    bytes(out, &digits);
}

fn timestamp(out: &mut Vec<u8>, us_since_1970: i64) {
    bytes(out, &(us_since_1970 - POSTGRES_EPOCH_US).to_be_bytes());
}

fn texts(out: &mut Vec<u8>, texts: &[String]) {
    let at = begin(out);
    let dimensions = i32::from(!texts.is_empty());
    for header in [dimensions, 0, TEXT_OID] {
        out.extend_from_slice(&header.to_be_bytes());
    }
    if dimensions == 1 {
        out.extend_from_slice(&length(texts.len()));
        out.extend_from_slice(&1_i32.to_be_bytes());
        for text in texts {
            bytes(out, text.as_bytes());
        }
    }
    end(out, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_the_migration_is_sent() {
        let migration = include_str!("../../../migrations/0001_audit_trail.sql");
        let declaration = |table: &str| {
            let (_, rest) = migration
                .split_once(&format!("CREATE TABLE audit.{table} ("))
                .unwrap();
            rest.split_once("PRIMARY KEY").unwrap().0
        };
        for table in Table::ALL {
            let mut declared = declaration(table.name());
            // A table with the columns of another.
            if let Some(like) = declared.strip_prefix("LIKE audit.") {
                declared = declaration(like.split_whitespace().next().unwrap());
            }
            let mut declared: Vec<_> = declared
                .lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().next())
                .collect();
            declared.sort_unstable();
            let mut sent: Vec<_> = columns(table).iter().map(|column| column.name()).collect();
            sent.sort_unstable();
            assert_eq!(sent, declared, "{table:?}");
        }
    }

    #[test]
    fn migrations_are_ascii_so_that_every_client_encoding_can_send_them() {
        assert!(include_str!("../../../migrations/0001_audit_trail.sql").is_ascii());
    }

    #[test]
    fn arrays_and_timestamps_have_the_binary_copy_encoding() {
        let mut out = Vec::new();
        texts(&mut out, &[]);
        assert_eq!(out, [0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]);
        out.clear();
        timestamp(&mut out, POSTGRES_EPOCH_US + 1);
        assert_eq!(out, [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
