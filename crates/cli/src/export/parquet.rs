//! Apache Parquet: typed columns, compressed, in groups of rows that fit into memory.

use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type as Schema;

use super::columns::{COLUMNS, SCHEMA_VERSION, Type};
use super::encoder::Encoder;
use super::values::{Record, json, number, push_texts, push_uuid};
use crate::row::word;

/// The most rows of a group.
const MAX_ROWS: usize = 100_000;

/// The bytes of values with which a group is full.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// 2000-01-01, in microseconds since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;

/// The values of a column in a group of rows.
#[derive(Debug)]
enum Values {
    Int4(Vec<i32>),
    Int8(Vec<i64>),
    Bytes(Vec<ByteArray>),
}

/// A column of a group of rows: its values, and of each row whether it has one.
#[derive(Debug)]
struct Cells {
    values: Values,
    present: Vec<i16>,
}

impl Cells {
    fn of(ty: Type) -> Self {
        let values = match ty {
            Type::Int4 => Values::Int4(Vec::new()),
            Type::Int8 | Type::Time => Values::Int8(Vec::new()),
            _ => Values::Bytes(Vec::new()),
        };
        Self {
            values,
            present: Vec::new(),
        }
    }

    fn push_bytes(&mut self, bytes: Option<Vec<u8>>) {
        self.present.push(i16::from(bytes.is_some()));
        if let (Values::Bytes(values), Some(bytes)) = (&mut self.values, bytes) {
            values.push(ByteArray::from(bytes));
        }
    }

    fn push_number(&mut self, number: Option<i64>) {
        self.present.push(i16::from(number.is_some()));
        match (&mut self.values, number) {
            (Values::Int4(values), Some(number)) => {
                values.push(i32::try_from(number).unwrap_or_default());
            }
            (Values::Int8(values), Some(number)) => values.push(number),
            _ => {}
        }
    }
}

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
        let mut fields = vec![field("kind", Type::Text).map_err(failed)?];
        for column in &COLUMNS {
            fields.push(field(column.name, column.ty).map_err(failed)?);
        }
        fields.push(field("unread", Type::Text).map_err(failed)?);
        let schema = Schema::group_type_builder("record")
            .with_fields(fields.into_iter().map(Arc::new).collect())
            .build()
            .map_err(failed)?;
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
        let writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties));
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
            write(writer, &std::mem::replace(&mut self.cells, cells())).map_err(failed)?;
            (self.rows, self.bytes) = (0, 0);
        }
        writer.flush()?;
        out.append(writer.inner_mut());
        Ok(())
    }
}

fn cells() -> Vec<Cells> {
    let columns = COLUMNS.iter().map(|column| column.ty);
    let all = [Type::Text].into_iter().chain(columns).chain([Type::Text]);
    all.map(Cells::of).collect()
}

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}

fn field(name: &str, ty: Type) -> Result<Schema, ParquetError> {
    let (physical, logical) = match ty {
        Type::Int4 => (Physical::INT32, None),
        Type::Int8 => (Physical::INT64, None),
        Type::Time => (
            Physical::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::MICROS)),
        ),
        Type::Bytes => (Physical::BYTE_ARRAY, None),
        Type::Uuid | Type::Text | Type::Json | Type::Texts => {
            (Physical::BYTE_ARRAY, Some(LogicalType::String))
        }
    };
    Schema::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical)
        .build()
}

fn write(writer: &mut SerializedFileWriter<Vec<u8>>, cells: &[Cells]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for Cells { values, present } in cells {
        let Some(mut column) = group.next_column()? else {
            break;
        };
        match values {
            Values::Int4(values) => {
                column
                    .typed::<Int32Type>()
                    .write_batch(values, Some(present), None)?
            }
            Values::Int8(values) => {
                column
                    .typed::<Int64Type>()
                    .write_batch(values, Some(present), None)?
            }
            Values::Bytes(values) => {
                column
                    .typed::<ByteArrayType>()
                    .write_batch(values, Some(present), None)?
            }
        };
        column.close()?;
    }
    group.close()?;
    Ok(())
}

/// Returns the bytes of a value that is no number.
fn bytes_of(ty: Type, field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match ty {
        Type::Uuid => push_uuid(&mut bytes, field),
        Type::Texts => push_texts(&mut bytes, field),
        Type::Json => bytes.extend_from_slice(json(field)),
        _ => bytes.extend_from_slice(field),
    }
    bytes
}

impl Encoder for Parquet {
    fn begin(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.flush(out)
    }

    fn record(&mut self, out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
        let last = self.cells.len() - 1;
        self.cells[0].push_bytes(Some(word(record.table.kind()).as_bytes().to_vec()));
        for ((column, field), cells) in COLUMNS.iter().zip(record.fields).zip(&mut self.cells[1..])
        {
            self.bytes += field.map_or(2, |field| field.len() + 32);
            match column.ty {
                Type::Int4 | Type::Int8 => cells.push_number(field.and_then(number)),
                Type::Time => {
                    let us = field.and_then(number);
                    cells.push_number(us.map(|us| us.saturating_add(EPOCH_US)));
                }
                ty => cells.push_bytes(field.map(|field| bytes_of(ty, field))),
            }
        }
        self.cells[last].push_bytes(record.unread.map(|why| why.as_bytes().to_vec()));
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
