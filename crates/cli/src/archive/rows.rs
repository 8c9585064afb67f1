//! Reads the rows of a file: each is hashed as Postgres has sent it.

use hyper::body::Bytes;
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::images::{self, Images};
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::__program::ledger::leaf::{TablePrefix, digest, leaf_of};
use tracing_audit::__program::ledger::tree::Hash;

use super::table_file::{CONTENT_HASH, columns};
use super::values::{append_list, append_uuid, postgres_us};
use crate::export::columns::Type;

/// How many rows are decoded at once.
const AT_ONCE: usize = 2048;

/// A row of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRow {
    pub(crate) tenant: Option<Uuid>,
    pub(crate) id: Uuid,
    pub(crate) writer: Uuid,
    pub(crate) seq: i64,
    /// Its hash in the tree of its batch.
    pub(crate) leaf: Hash,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsError {
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error("it has no column {0}")]
    NoColumn(&'static str),
    #[error("a value of {0} is not written as one")]
    Value(&'static str),
    #[error("its columns have different numbers of rows")]
    Length,
}

/// Reads all rows of a file of a table, in their order.
pub(crate) fn read(table: Table, bytes: Vec<u8>) -> Result<Vec<ReadRow>, RowsError> {
    let file = SerializedFileReader::new(Bytes::from(bytes))?;
    let layout = Columns::of(table.name()).unwrap_or_else(Columns::of_dead_letters);
    let schema = file.metadata().file_metadata().schema_descr();
    let position = |name: &'static str| {
        let mut all = schema.columns().iter();
        all.position(|column| column.name() == name)
            .ok_or(RowsError::NoColumn(name))
    };
    let mut wanted = Vec::new();
    for name in layout.all() {
        let column = columns(table).find(|column| column.name == name);
        let ty = column.ok_or(RowsError::NoColumn(name))?.ty;
        wanted.push((position(name)?, name, Some(ty)));
    }
    wanted.push((position(CONTENT_HASH)?, CONTENT_HASH, None));
    let mut reader = Reader {
        prefix: TablePrefix::new(table.name()),
        core_columns: layout.core.len(),
        core: Vec::new(),
        content: Vec::new(),
        rows: Vec::new(),
    };
    for at in 0..file.num_row_groups() {
        let group = file.get_row_group(at)?;
        reader.group(&*group, &wanted)?;
    }
    Ok(reader.rows)
}

/// A column that is wanted: its place in the file, its name, and its type; none for the content's hash.
type Wanted = (usize, &'static str, Option<Type>);

/// The values of a column, some rows at once.
enum Values {
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

struct Column {
    name: &'static str,
    ty: Option<Type>,
    values: Values,
    present: Vec<i16>,
    /// The next value.
    next: usize,
}

impl Column {
    fn new(group: &dyn RowGroupReader, (at, name, ty): Wanted) -> Result<Self, RowsError> {
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

    /// Reads the next rows, and returns how many.
    fn fill(&mut self) -> Result<usize, RowsError> {
        self.present.clear();
        self.next = 0;
        let present = Some(&mut self.present);
        let (rows, ..) = match &mut self.values {
            Values::Int4(reader, values) => {
                values.clear();
                reader.read_records(AT_ONCE, present, None, values)?
            }
            Values::Int8(reader, values) => {
                values.clear();
                reader.read_records(AT_ONCE, present, None, values)?
            }
            Values::Bytes(reader, values) => {
                values.clear();
                reader.read_records(AT_ONCE, present, None, values)?
            }
            Values::Fixed(reader, values) => {
                values.clear();
                reader.read_records(AT_ONCE, present, None, values)?
            }
        };
        // A column that may not be NULL has no levels.
        if self.present.is_empty() {
            self.present.resize(rows, 1);
        }
        Ok(rows)
    }

    /// Appends the image of the next value.
    fn push_image(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), RowsError> {
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
    fn hash(&mut self, row: usize) -> Result<Option<Hash>, RowsError> {
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

struct Reader {
    prefix: TablePrefix,
    core_columns: usize,
    core: Vec<u8>,
    content: Vec<u8>,
    rows: Vec<ReadRow>,
}

impl Reader {
    fn group(&mut self, group: &dyn RowGroupReader, wanted: &[Wanted]) -> Result<(), RowsError> {
        let columns = wanted.iter().map(|wanted| Column::new(group, *wanted));
        let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
        loop {
            let mut counts = columns.iter_mut().map(Column::fill);
            let rows = counts.next().unwrap_or(Ok(0))?;
            for count in counts {
                if count? != rows {
                    return Err(RowsError::Length);
                }
            }
            if rows == 0 {
                return Ok(());
            }
            for row in 0..rows {
                self.row(&mut columns, row)?;
            }
        }
    }

    fn row(&mut self, columns: &mut [Column], row: usize) -> Result<(), RowsError> {
        self.core.clear();
        self.content.clear();
        let Some((content_hash, columns)) = columns.split_last_mut() else {
            return Err(RowsError::Length);
        };
        let (core, content) = columns.split_at_mut(self.core_columns);
        for column in core {
            column.push_image(row, &mut self.core)?;
        }
        for column in content {
            column.push_image(row, &mut self.content)?;
        }
        let content_hash = match content_hash.hash(row)? {
            Some(hash) => hash,
            None => digest(&self.content),
        };
        // The first columns of each table, as the ledger has them.
        let mut images = Images::new(&self.core);
        let mut next = || images.next().and_then(Result::ok).flatten();
        let (id, writer, seq, tenant) = (next(), next(), next(), next());
        self.rows.push(ReadRow {
            tenant: images::uuid(tenant),
            id: images::uuid(id).ok_or(RowsError::Value("id"))?,
            writer: images::uuid(writer).ok_or(RowsError::Value("writer_id"))?,
            seq: images::int8(seq).ok_or(RowsError::Value("seq"))?,
            leaf: leaf_of(&self.prefix, &self.core, &content_hash),
        });
        Ok(())
    }
}
