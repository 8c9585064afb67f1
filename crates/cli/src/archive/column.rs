//! A column of a group of rows, read as Postgres sends its values.

use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::RowGroupReader;
use tracing_audit::__program::ledger::tree::Hash;

use super::content::Closed;
use super::values::{append_list, append_uuid, postgres_us};
use crate::export::columns::Type;

/// How many rows are decoded at once.
pub(super) const AT_ONCE: usize = 2048;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsError {
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error("it has no column {0}")]
    NoColumn(&'static str),
    #[error("a value of {0} is not written as one")]
    Value(&'static str),
    #[error("its columns have different numbers of rows, or other than its manifest says")]
    Length,
    #[error("it is not written as Parquet is")]
    Misread,
    #[error("a row: {0}")]
    Closed(Closed),
    #[error("it says that it has more of the request than a file of an archive can have")]
    TooMuch,
    #[error("the time for it is over")]
    TooLong,
}

/// A column that is wanted: its place in the file, its name, and its type; none for the content's hash.
pub(super) type Wanted = (usize, &'static str, Option<Type>);

/// The values of a column, some rows at once.
pub(super) enum Values {
    Int4(
        Box<parquet::column::reader::ColumnReaderImpl<Int32Type>>,
        Vec<i32>,
    ),
    Int8(
        Box<parquet::column::reader::ColumnReaderImpl<Int64Type>>,
        Vec<i64>,
    ),
    Bytes(
        Box<parquet::column::reader::ColumnReaderImpl<ByteArrayType>>,
        Vec<ByteArray>,
    ),
    Fixed(
        Box<parquet::column::reader::ColumnReaderImpl<FixedLenByteArrayType>>,
        Vec<parquet::data_type::FixedLenByteArray>,
    ),
}

pub(super) struct Column {
    pub(super) name: &'static str,
    ty: Option<Type>,
    pub(super) values: Values,
    pub(super) present: Vec<i16>,
    /// The next value.
    next: usize,
}

impl Column {
    pub(super) fn new(
        group: &dyn RowGroupReader,
        (at, name, ty): Wanted,
    ) -> Result<Self, RowsError> {
        let values = match (group.get_column_reader(at)?, ty) {
            (reader @ ColumnReader::Int32ColumnReader(_), Some(Type::Int4)) => {
                Values::Int4(Box::new(get_typed_column_reader(reader)), Vec::new())
            }
            (reader @ ColumnReader::Int64ColumnReader(_), Some(Type::Int8 | Type::Time)) => {
                Values::Int8(Box::new(get_typed_column_reader(reader)), Vec::new())
            }
            (reader @ ColumnReader::ByteArrayColumnReader(_), Some(ty))
                if !matches!(ty, Type::Int4 | Type::Int8 | Type::Time) =>
            {
                Values::Bytes(Box::new(get_typed_column_reader(reader)), Vec::new())
            }
            (reader @ ColumnReader::FixedLenByteArrayColumnReader(_), None) => {
                Values::Fixed(Box::new(get_typed_column_reader(reader)), Vec::new())
            }
            _ => return Err(RowsError::NoColumn(name)),
        };
        Ok(Self {
            name,
            ty,
            values,
            present: Vec::new(),
            next: 0,
        })
    }

    /// Reads one row, where the row `at` is the next. Returns which is the next then.
    pub(super) fn go_to(&mut self, at: usize, row: usize) -> Result<usize, RowsError> {
        self.skip(row - at)?;
        if self.fill(1)? != 1 {
            return Err(RowsError::Length);
        }
        Ok(row + 1)
    }

    /// Passes over so many rows.
    pub(super) fn skip(&mut self, rows: usize) -> Result<(), RowsError> {
        let skipped = match &mut self.values {
            Values::Int4(reader, _) => reader.skip_records(rows)?,
            Values::Int8(reader, _) => reader.skip_records(rows)?,
            Values::Bytes(reader, _) => reader.skip_records(rows)?,
            Values::Fixed(reader, _) => reader.skip_records(rows)?,
        };
        if skipped == rows {
            Ok(())
        } else {
            Err(RowsError::Length)
        }
    }

    /// Reads the next rows, so many at most, and returns how many.
    pub(super) fn fill(&mut self, most: usize) -> Result<usize, RowsError> {
        self.present.clear();
        self.next = 0;
        let present = Some(&mut self.present);
        let (rows, ..) = match &mut self.values {
            Values::Int4(reader, values) => {
                values.clear();
                reader.read_records(most, present, None, values)?
            }
            Values::Int8(reader, values) => {
                values.clear();
                reader.read_records(most, present, None, values)?
            }
            Values::Bytes(reader, values) => {
                values.clear();
                reader.read_records(most, present, None, values)?
            }
            Values::Fixed(reader, values) => {
                values.clear();
                reader.read_records(most, present, None, values)?
            }
        };
        // A column that may not be NULL has no levels.
        if self.present.is_empty() {
            self.present.resize(rows, 1);
        }
        Ok(rows)
    }

    /// Appends the image of the next value.
    pub(super) fn push_image(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), RowsError> {
        if self.present.get(row).copied().unwrap_or_default() == 0 {
            out.extend_from_slice(&[0xff; 4]);
            return Ok(());
        }
        let at = self.next;
        self.next += 1;
        let missing = || RowsError::Value(self.name);
        match &self.values {
            Values::Int4(_, values) => {
                out.extend_from_slice(&[0, 0, 0, 4]);
                out.extend_from_slice(&values.get(at).ok_or_else(missing)?.to_be_bytes());
            }
            Values::Int8(_, values) => {
                let value = *values.get(at).ok_or_else(missing)?;
                let value = match self.ty {
                    Some(Type::Time) => postgres_us(value),
                    _ => value,
                };
                out.extend_from_slice(&[0, 0, 0, 8]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Values::Bytes(_, values) => {
                let value = values.get(at).ok_or_else(missing)?.data();
                let start = out.len();
                out.extend_from_slice(&[0; 4]);
                match self.ty {
                    Some(Type::Uuid) => append_uuid(out, value).ok_or_else(missing)?,
                    Some(Type::Texts) => append_list(out, value).ok_or_else(missing)?,
                    Some(Type::Json) => {
                        out.push(1);
                        out.extend_from_slice(value);
                    }
                    _ => out.extend_from_slice(value),
                }
                let length = i32::try_from(out.len() - start - 4).map_err(|_| missing())?;
                out[start..start + 4].copy_from_slice(&length.to_be_bytes());
            }
            Values::Fixed(..) => return Err(missing()),
        }
        Ok(())
    }

    /// Returns the next hash.
    pub(super) fn hash(&mut self, row: usize) -> Result<Option<Hash>, RowsError> {
        if self.present.get(row).copied().unwrap_or_default() == 0 {
            return Ok(None);
        }
        let at = self.next;
        self.next += 1;
        match &self.values {
            Values::Fixed(_, values) => {
                let hash = values
                    .get(at)
                    .and_then(|value| value.data().try_into().ok());
                hash.map(Some).ok_or(RowsError::Value(self.name))
            }
            _ => Err(RowsError::Value(self.name)),
        }
    }
}
