//! Apache Parquet: typed columns, compressed, in groups of rows that fit into memory.

use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;

use super::columns::{COLUMNS, SCHEMA_VERSION};
use super::encoder::Encoder;
use super::values::Record;
use crate::columnar::{self, Cells, EPOCH_US, Shape, failed};
use crate::row::word;

/// The most rows of a group.
const MAX_ROWS: usize = 100_000;

/// The bytes of values with which a group is full.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Writes a Parquet file.
pub(crate) struct Parquet {
    /// Writes to memory, from where the bytes are taken; `None` once the file has ended.
    writer: Option<SerializedFileWriter<Vec<u8>>>,
    /// The kind, the columns, and why a record was not read.
    cells: Vec<Cells>,
    rows: usize,
    bytes: usize,
}

impl Parquet {
    pub(crate) fn new() -> io::Result<Self> {
        let schema = columnar::schema("record", shapes())?;
        let version = KeyValue::new(
            String::from("tracing_audit.schema_version"),
            SCHEMA_VERSION.to_string(),
        );
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("tracing-audit ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(vec![version]))
            // What would be kept in memory until the end, for each page of the file.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties));
        Ok(Self {
            writer: Some(writer.map_err(failed)?),
            cells: cells(),
            rows: 0,
            bytes: 0,
        })
    }

    /// Writes the group of rows, and hands over the bytes.
    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if self.rows > 0 {
            columnar::write_group(writer, std::mem::replace(&mut self.cells, cells()))?;
            (self.rows, self.bytes) = (0, 0);
        }
        writer.flush()?;
        out.append(writer.inner_mut());
        Ok(())
    }
}

fn cells() -> Vec<Cells> {
    shapes().map(|(_, shape)| Cells::of(shape)).collect()
}

/// Returns the names and shapes of all columns.
fn shapes() -> impl Iterator<Item = (&'static str, Shape)> {
    let columns = COLUMNS
        .iter()
        .map(|column| (column.name, Shape::from(column.ty)));
    let all = [("kind", Shape::Text)].into_iter().chain(columns);
    all.chain([("unread", Shape::Text)])
}

impl Encoder for Parquet {
    fn begin(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.flush(out)
    }

    fn record(&mut self, out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
        let last = self.cells.len() - 1;
        self.cells[0].push_bytes(Some(word(record.table.kind()).as_bytes()));
        for ((column, field), cells) in COLUMNS.iter().zip(record.fields).zip(&mut self.cells[1..])
        {
            self.bytes += field.map_or(2, |field| field.len() + 32);
            cells.push(column.ty, field, |us| us.saturating_add(EPOCH_US));
        }
        self.cells[last].push_bytes(record.unread.map(str::as_bytes));
        self.rows += 1;
        if self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES {
            self.flush(out)?;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.flush(out)?;
        if let Some(writer) = self.writer.take() {
            let mut rest = writer.into_inner().map_err(failed)?;
            out.append(&mut rest);
        }
        Ok(())
    }
}
