//! Reads the rows of a file: each is hashed as Postgres has sent it.

use hyper::body::Bytes;
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::images::{self, Images};
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::__program::ledger::leaf::{TablePrefix, digest, leaf_of};
use tracing_audit::__program::ledger::tree::Hash;

use super::table_file::{CONTENT_HASH, columns};
use super::values::{append_list, append_uuid, postgres_us};
use crate::export::columns::{COLUMNS, Type};

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
    #[error("its columns have different numbers of rows, or other than its manifest says")]
    Length,
    #[error("it is not written as Parquet is")]
    Misread,
    #[error("it says that it has more of the request than a file of an archive can have")]
    TooMuch,
}

/// Where the columns of a table are in a file: those of the ledger, in its order.
pub(super) struct Layout {
    wanted: Vec<Wanted>,
}

impl Layout {
    pub(super) fn of(table: Table, schema: &SchemaDescriptor) -> Result<Self, RowsError> {
        let layout = Columns::of(table.name()).unwrap_or_else(Columns::of_dead_letters);
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
        Ok(Self { wanted })
    }

    fn column(&self, name: &'static str) -> Result<Wanted, RowsError> {
        let mut all = self.wanted.iter().copied();
        all.find(|(_, of, _)| *of == name)
            .ok_or(RowsError::NoColumn(name))
    }

    /// Returns where all columns are in the file.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> {
        self.wanted.iter().map(|(at, ..)| *at)
    }

    /// Returns where a column is in the file.
    pub(super) fn position(&self, name: &'static str) -> Result<usize, RowsError> {
        self.column(name).map(|(at, ..)| at)
    }
}

/// Returns which rows of a group have this text in a column.
pub(super) fn matching(
    group: &dyn RowGroupReader,
    layout: &Layout,
    column: &'static str,
    text: &[u8],
) -> Result<Vec<usize>, RowsError> {
    let mut column = Column::new(group, layout.column(column)?)?;
    let all = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < all {
        let rows = column.fill(AT_ONCE.min(all - at))?;
        if rows == 0 {
            return Err(RowsError::Length);
        }
        let Values::Bytes(_, values) = &column.values else {
            return Err(RowsError::NoColumn(column.name));
        };
        let mut values = values.iter();
        for (row, present) in column.present.iter().enumerate() {
            if *present != 0 && values.next().is_some_and(|value| value.data() == text) {
                found.push(at + row);
            }
        }
        at += rows;
    }
    Ok(found)
}

/// A row's values as Postgres sends them, in the order of [`COLUMNS`]; `None` for NULL and for columns of other tables.
pub(super) type Picked = [Option<Vec<u8>>; COLUMNS.len()];

/// Reads these rows of a group, ascending. Of each column the pages in which they are. `left` is how many bytes they may have,
/// and becomes what is left of it.
pub(super) fn pick(
    group: &dyn RowGroupReader,
    layout: &Layout,
    rows: &[usize],
    left: &mut usize,
) -> Result<Vec<Picked>, RowsError> {
    let mut picked: Vec<Picked> = rows
        .iter()
        .map(|_| [const { None }; COLUMNS.len()])
        .collect();
    let mut image = Vec::new();
    for wanted in &layout.wanted {
        let Some(place) = COLUMNS.iter().position(|column| column.name == wanted.1) else {
            continue;
        };
        let mut column = Column::new(group, *wanted)?;
        let mut at = 0;
        for (row, values) in rows.iter().zip(&mut picked) {
            column.skip(row - at)?;
            if column.fill(1)? != 1 {
                return Err(RowsError::Length);
            }
            at = row + 1;
            image.clear();
            column.push_image(0, &mut image)?;
            let taken = image.len() - 4;
            *left = left.checked_sub(taken).ok_or(RowsError::TooMuch)?;
            values[place] = (image[..4] != [0xff; 4]).then(|| image[4..].to_vec());
        }
    }
    Ok(picked)
}

/// Reads the rows of a file one after the other, as Postgres sends them.
pub(super) struct ImageReader {
    file: SerializedFileReader<Bytes>,
    layout: Layout,
    /// The next group of rows.
    group: usize,
    columns: Vec<Column>,
    /// How many rows are decoded, and which of them is next.
    rows: usize,
    row: usize,
}

impl ImageReader {
    pub(super) fn new(table: Table, bytes: Vec<u8>) -> Result<Self, RowsError> {
        let file = SerializedFileReader::new(Bytes::from(bytes))?;
        let layout = Layout::of(table, file.metadata().file_metadata().schema_descr())?;
        Ok(Self {
            file,
            layout,
            group: 0,
            columns: Vec::new(),
            rows: 0,
            row: 0,
        })
    }

    /// Appends the images of the next row's columns, in the order of the ledger. Returns whether there was one.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, RowsError> {
        while self.row == self.rows {
            (self.row, self.rows) = (0, 0);
            let mut counts = self.columns.iter_mut().map(|column| column.fill(AT_ONCE));
            if let Some(rows) = counts.next() {
                self.rows = rows?;
                for count in counts {
                    if count? != self.rows {
                        return Err(RowsError::Length);
                    }
                }
            }
            if self.rows == 0 {
                if self.group == self.file.num_row_groups() {
                    return Ok(false);
                }
                let group = self.file.get_row_group(self.group)?;
                self.group += 1;
                let columns = self.layout.wanted.iter();
                let columns = columns.map(|wanted| Column::new(&*group, *wanted));
                self.columns = columns.collect::<Result<_, _>>()?;
            }
        }
        for column in &mut self.columns {
            column.push_image(self.row, out)?;
        }
        self.row += 1;
        Ok(true)
    }
}

/// Reads all rows of a file of a table, in their order.
pub(crate) fn read(table: Table, bytes: Bytes) -> Result<Vec<ReadRow>, RowsError> {
    let file = SerializedFileReader::new(bytes)?;
    let schema = file.metadata().file_metadata().schema_descr();
    let mut wanted = Layout::of(table, schema)?.wanted;
    let hash = schema.columns().iter();
    let hash = hash
        .clone()
        .position(|column| column.name() == CONTENT_HASH);
    wanted.push((
        hash.ok_or(RowsError::NoColumn(CONTENT_HASH))?,
        CONTENT_HASH,
        None,
    ));
    let layout = Columns::of(table.name()).unwrap_or_else(Columns::of_dead_letters);
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

    /// Passes over so many rows.
    fn skip(&mut self, rows: usize) -> Result<(), RowsError> {
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
    fn fill(&mut self, most: usize) -> Result<usize, RowsError> {
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
            let mut counts = columns.iter_mut().map(|column| column.fill(AT_ONCE));
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
