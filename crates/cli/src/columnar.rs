//! Columns of Parquet: what `export --format parquet` and an archive write alike.

use std::io;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{
    ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type as Schema, TypePtr};

use crate::export::columns::Type;
use crate::export::values::{json, number, push_texts, push_uuid};

/// 2000-01-01, in microseconds since 1970.
pub(crate) const EPOCH_US: i64 = 946_684_800_000_000;

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Int4,
    Int8,
    /// Microseconds since 1970, UTC.
    Time,
    /// UTF-8.
    Text,
    Bytes,
    /// 32 bytes.
    Hash,
}

impl From<Type> for Shape {
    fn from(ty: Type) -> Self {
        match ty {
            Type::Int4 => Self::Int4,
            Type::Int8 => Self::Int8,
            Type::Time => Self::Time,
            Type::Uuid | Type::Text | Type::Json | Type::Texts => Self::Text,
            Type::Bytes => Self::Bytes,
        }
    }
}

/// The values of a column in a group of rows: one after the other.
#[derive(Debug)]
enum Values {
    Int4(Vec<i32>),
    Int8(Vec<i64>),
    Bytes {
        all: Vec<u8>,
        ends: Vec<usize>,
        is_fixed: bool,
    },
}

/// A column of a group of rows: its values, and of each row whether it has one.
#[derive(Debug)]
pub(crate) struct Cells {
    values: Values,
    present: Vec<i16>,
}

impl Cells {
    pub(crate) fn of(shape: Shape) -> Self {
        let values = match shape {
            Shape::Int4 => Values::Int4(Vec::new()),
            Shape::Int8 | Shape::Time => Values::Int8(Vec::new()),
            Shape::Text | Shape::Bytes | Shape::Hash => Values::Bytes {
                all: Vec::new(),
                ends: Vec::new(),
                is_fixed: shape == Shape::Hash,
            },
        };
        Self {
            values,
            present: Vec::new(),
        }
    }

    /// Adds bytes.
    pub(crate) fn push_bytes(&mut self, bytes: Option<&[u8]>) {
        self.push_with(bytes, Vec::extend_from_slice);
    }

    /// Adds what is appended of a value that is there.
    pub(crate) fn push_with(
        &mut self,
        value: Option<&[u8]>,
        append: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) {
        self.present.push(i16::from(value.is_some()));
        if let (Values::Bytes { all, ends, .. }, Some(value)) = (&mut self.values, value) {
            append(all, value);
            ends.push(all.len());
        }
    }

    /// Adds a number.
    pub(crate) fn push_number(&mut self, number: Option<i64>) {
        self.present.push(i16::from(number.is_some()));
        match (&mut self.values, number) {
            (Values::Int4(values), Some(number)) => {
                values.push(i32::try_from(number).unwrap_or_default());
            }
            (Values::Int8(values), Some(number)) => values.push(number),
            _ => {}
        }
    }

    /// Adds a value as Postgres sends it; `None` for NULL. `time` makes microseconds since 1970 of those since 2000.
    pub(crate) fn push(&mut self, ty: Type, field: Option<&[u8]>, time: impl Fn(i64) -> i64) {
        match ty {
            Type::Int4 | Type::Int8 => self.push_number(field.and_then(number)),
            Type::Time => self.push_number(field.and_then(number).map(time)),
            Type::Uuid => self.push_with(field, push_uuid),
            Type::Texts => self.push_with(field, push_texts),
            Type::Json => self.push_with(field, |out, image| out.extend_from_slice(json(image))),
            Type::Text | Type::Bytes => self.push_bytes(field),
        }
    }
}

/// Returns the schema of a file with these columns.
pub(crate) fn schema<'a>(
    name: &str,
    columns: impl Iterator<Item = (&'a str, Shape)>,
) -> io::Result<TypePtr> {
    let fields = columns
        .map(|(name, shape)| Ok(Arc::new(field(name, shape)?)))
        .collect::<Result<Vec<_>, ParquetError>>()
        .map_err(failed)?;
    let schema = Schema::group_type_builder(name).with_fields(fields).build();
    Ok(Arc::new(schema.map_err(failed)?))
}

fn field(name: &str, shape: Shape) -> Result<Schema, ParquetError> {
    let (physical, logical) = match shape {
        Shape::Int4 => (Physical::INT32, None),
        Shape::Int8 => (Physical::INT64, None),
        Shape::Time => (
            Physical::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::MICROS)),
        ),
        Shape::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Shape::Bytes => (Physical::BYTE_ARRAY, None),
        Shape::Hash => (Physical::FIXED_LEN_BYTE_ARRAY, None),
    };
    Schema::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical)
        .with_length(if shape == Shape::Hash { 32 } else { -1 })
        .build()
}

/// Writes a group of rows.
pub(crate) fn write_group(
    writer: &mut SerializedFileWriter<Vec<u8>>,
    cells: Vec<Cells>,
) -> io::Result<()> {
    write(writer, cells).map_err(failed)
}

fn write(
    writer: &mut SerializedFileWriter<Vec<u8>>,
    cells: Vec<Cells>,
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for Cells { values, present } in cells {
        let Some(mut column) = group.next_column()? else {
            break;
        };
        match values {
            Values::Int4(values) => {
                column
                    .typed::<Int32Type>()
                    .write_batch(&values, Some(&present), None)?;
            }
            Values::Int8(values) => {
                column
                    .typed::<Int64Type>()
                    .write_batch(&values, Some(&present), None)?;
            }
            Values::Bytes {
                all,
                ends,
                is_fixed,
            } => {
                let values = slices(all, &ends);
                if is_fixed {
                    let values: Vec<_> = values.map(FixedLenByteArray::from).collect();
                    column.typed::<FixedLenByteArrayType>().write_batch(
                        &values,
                        Some(&present),
                        None,
                    )?;
                } else {
                    let values: Vec<_> = values.collect();
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&values, Some(&present), None)?;
                }
            }
        }
        column.close()?;
    }
    group.close()?;
    Ok(())
}

/// Cuts bytes at these ends.
fn slices(all: Vec<u8>, ends: &[usize]) -> impl Iterator<Item = ByteArray> {
    let all = ByteArray::from(all);
    let mut from = 0;
    ends.iter().map(move |end| {
        let begin = std::mem::replace(&mut from, *end);
        all.slice(begin, end - begin)
    })
}

/// Makes an error of the library's one.
pub(crate) fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}
