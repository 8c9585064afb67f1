//! Reads the rows of a file: each is hashed as Postgres has sent it.

use std::collections::HashSet;

use hyper::body::Bytes;
use parquet::file::reader::{FileReader as _, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::SchemaDescriptor;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::images::{self, Images};
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::__program::ledger::leaf::{TablePrefix, digest, leaf_of};
use tracing_audit::__program::ledger::tree::Hash;

pub(crate) use super::column::RowsError;
use super::column::{AT_ONCE, Column, Values, Wanted};
use super::content::{self, Closed, Encrypted, Keys};
use super::table_file::{CONTENT_HASH, CONTENT_KEY, ENCRYPTED_CONTENT, columns};
use crate::export::columns::{COLUMN_COUNT, COLUMNS, Type};
use crate::verify::rows::blank;

/// A row of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRow {
    pub(crate) tenant: Option<Uuid>,
    pub(crate) id: Uuid,
    pub(crate) writer: Uuid,
    pub(crate) seq: i64,
    /// Its hash in the tree of its batch.
    pub(crate) leaf: Hash,
    /// Whether the key of its content is known to be destroyed.
    pub(crate) is_destroyed: bool,
}

/// Where the columns of a table are in a file.
pub(super) struct Layout {
    /// Those of the ledger, in its order.
    wanted: Vec<Wanted>,
    /// How many of them are of the core.
    core: usize,
    /// The hash of the content, the key with which it is encrypted, and what is encrypted.
    beside: [Wanted; 3],
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
        Ok(Self {
            wanted,
            core: layout.core.len(),
            beside: [
                (position(CONTENT_HASH)?, CONTENT_HASH, None),
                (position(CONTENT_KEY)?, CONTENT_KEY, Some(Type::Uuid)),
                (
                    position(ENCRYPTED_CONTENT)?,
                    ENCRYPTED_CONTENT,
                    Some(Type::Bytes),
                ),
            ],
        })
    }

    pub(super) fn column(&self, name: &'static str) -> Result<Wanted, RowsError> {
        let mut all = self.wanted.iter().copied();
        all.find(|(_, of, _)| *of == name)
            .ok_or(RowsError::NoColumn(name))
    }

    /// Returns where the columns of the content's hash, of its key and of what is encrypted are in the file.
    pub(super) fn beside(&self) -> [Wanted; 3] {
        self.beside
    }

    /// Returns where all columns are in the file.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> {
        self.wanted.iter().chain(&self.beside).map(|(at, ..)| *at)
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
pub(crate) type PickedValues = [Option<Vec<u8>>; COLUMN_COUNT];

/// A row that was picked out of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picked {
    pub(crate) values: PickedValues,
    /// What is not among the values yet, with the id of its row and its hash.
    encrypted: Option<Box<(Encrypted, Uuid, Hash)>>,
    /// Why the content is not among the values: it is as an erasure leaves it.
    pub(crate) closed: Option<Closed>,
}

impl Picked {
    /// Returns the key with which the content is encrypted.
    pub(super) fn key(&self) -> Option<Uuid> {
        self.encrypted.as_ref().map(|content| content.0.key)
    }

    /// Has the content among the values; or what an erasure leaves, and why.
    pub(super) fn open(&mut self, table: Table, keys: &Keys) {
        let Some(content) = self.encrypted.take() else {
            return;
        };
        let (encrypted, id, hash) = *content;
        let (content, closed) = keys.open(table, &encrypted, id, &hash);
        self.closed = closed;
        for (place, value) in content::fields(table, &content) {
            self.values[place] = value.map(<[u8]>::to_vec);
        }
    }
}

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
        .map(|_| Picked {
            values: [const { None }; COLUMN_COUNT],
            encrypted: None,
            closed: None,
        })
        .collect();
    let mut image = Vec::new();
    for wanted in &layout.wanted {
        let Some(place) = COLUMNS.iter().position(|column| column.name == wanted.1) else {
            continue;
        };
        let mut column = Column::new(group, *wanted)?;
        let mut at = 0;
        for (row, picked) in rows.iter().zip(&mut picked) {
            at = column.go_to(at, *row)?;
            image.clear();
            column.push_image(0, &mut image)?;
            picked.values[place] = value(&image, left)?.map(<[u8]>::to_vec);
        }
    }
    let id = COLUMNS.iter().position(|column| column.name == "id");
    let mut beside = Beside::new(group, layout)?;
    let mut at = 0;
    for (row, picked) in rows.iter().zip(&mut picked) {
        at = beside.go_to(at, *row)?;
        let (hash, encrypted) = beside.row(0)?;
        if let Some(encrypted) = encrypted {
            *left = left
                .checked_sub(encrypted.bytes.len())
                .ok_or(RowsError::TooMuch)?;
            let id = id.and_then(|at| Uuid::from_slice(picked.values[at].as_deref()?).ok());
            let id = id.ok_or(RowsError::Value("id"))?;
            let hash = hash.ok_or(RowsError::Value(CONTENT_HASH))?;
            picked.encrypted = Some(Box::new((encrypted, id, hash)));
        }
    }
    Ok(picked)
}

/// Returns the bytes of an image, which are taken from what is left; `None` for NULL.
fn value<'i>(image: &'i [u8], left: &mut usize) -> Result<Option<&'i [u8]>, RowsError> {
    let value = Images::new(image).next().and_then(Result::ok).flatten();
    let taken = value.map_or(0, <[u8]>::len);
    *left = left.checked_sub(taken).ok_or(RowsError::TooMuch)?;
    Ok(value)
}

/// The columns beside those of the ledger, in a group of rows.
pub(super) struct Beside([Column; 3]);

impl Beside {
    pub(super) fn new(group: &dyn RowGroupReader, layout: &Layout) -> Result<Self, RowsError> {
        let [hash, key, encrypted] = layout.beside;
        Ok(Self([
            Column::new(group, hash)?,
            Column::new(group, key)?,
            Column::new(group, encrypted)?,
        ]))
    }

    pub(super) fn go_to(&mut self, at: usize, row: usize) -> Result<usize, RowsError> {
        for column in &mut self.0 {
            column.go_to(at, row)?;
        }
        Ok(row + 1)
    }

    /// Returns the hash of a row's content, and what is encrypted of it.
    pub(super) fn row(
        &mut self,
        row: usize,
    ) -> Result<(Option<Hash>, Option<Encrypted>), RowsError> {
        let [hash, key, encrypted] = &mut self.0;
        let (hash, mut images) = (hash.hash(row)?, Vec::new());
        key.push_image(row, &mut images)?;
        encrypted.push_image(row, &mut images)?;
        let mut images = Images::new(&images);
        let mut next = || images.next().and_then(Result::ok).flatten();
        let encrypted = match (images::uuid(next()), next()) {
            (Some(key), Some(bytes)) => Some(Encrypted {
                key,
                bytes: bytes.to_vec(),
            }),
            (None, None) => None,
            _ => return Err(RowsError::Value(CONTENT_KEY)),
        };
        Ok((hash, encrypted))
    }
}

/// Reads the rows of a file one after the other.
struct FileReader {
    file: SerializedFileReader<Bytes>,
    layout: Layout,
    /// The next group of rows.
    group: usize,
    columns: Vec<Column>,
    beside: Option<Beside>,
    /// How many rows are decoded, and which of them is next.
    rows: usize,
    row: usize,
}

/// A row as it stands in a file, but for the columns that the ledger has.
struct Stored {
    /// Where the content begins in what was appended.
    content: usize,
    hash: Option<Hash>,
    encrypted: Option<Encrypted>,
}

impl FileReader {
    fn new(table: Table, bytes: Bytes) -> Result<Self, RowsError> {
        let file = SerializedFileReader::new(bytes)?;
        let layout = Layout::of(table, file.metadata().file_metadata().schema_descr())?;
        Ok(Self {
            file,
            layout,
            group: 0,
            columns: Vec::new(),
            beside: None,
            rows: 0,
            row: 0,
        })
    }

    /// Appends the images of the next row's columns, in the order of the ledger, as they stand in the file.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<Stored>, RowsError> {
        while self.row == self.rows {
            (self.row, self.rows) = (0, 0);
            let beside = self.beside.iter_mut().flat_map(|beside| &mut beside.0);
            let columns = self.columns.iter_mut().chain(beside);
            let mut counts = columns.map(|column| column.fill(AT_ONCE));
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
                    return Ok(None);
                }
                let group = self.file.get_row_group(self.group)?;
                self.group += 1;
                let columns = self.layout.wanted.iter();
                let columns = columns.map(|wanted| Column::new(&*group, *wanted));
                self.columns = columns.collect::<Result<_, _>>()?;
                self.beside = Some(Beside::new(&*group, &self.layout)?);
            }
        }
        let mut content = out.len();
        for (at, column) in self.columns.iter_mut().enumerate() {
            if at == self.layout.core {
                content = out.len();
            }
            column.push_image(self.row, out)?;
        }
        let beside = self.beside.as_mut().ok_or(RowsError::Length)?;
        let (hash, encrypted) = beside.row(self.row)?;
        self.row += 1;
        if encrypted.is_some() && hash.is_none() {
            return Err(RowsError::Value(CONTENT_HASH));
        }
        Ok(Some(Stored {
            content,
            hash,
            encrypted,
        }))
    }
}

/// Returns the keys with which contents in a file are encrypted.
pub(super) fn keys_of(table: Table, bytes: Bytes) -> Result<Vec<Uuid>, RowsError> {
    let file = SerializedFileReader::new(bytes)?;
    let layout = Layout::of(table, file.metadata().file_metadata().schema_descr())?;
    let (mut keys, mut image) = (HashSet::new(), Vec::new());
    for at in 0..file.num_row_groups() {
        let mut column = Column::new(&*file.get_row_group(at)?, layout.beside[1])?;
        loop {
            let rows = column.fill(AT_ONCE)?;
            if rows == 0 {
                break;
            }
            for row in 0..rows {
                image.clear();
                column.push_image(row, &mut image)?;
                let key = Images::new(&image).next().and_then(Result::ok).flatten();
                keys.extend(images::uuid(key));
            }
        }
    }
    Ok(keys.into_iter().collect())
}

/// Reads the rows of a file one after the other, as Postgres sends them.
pub(super) struct ImageReader<'k> {
    file: FileReader,
    keys: &'k Keys,
    /// What an erasure leaves of a content.
    blank: Vec<u8>,
    /// How many contents were erased, as their keys were destroyed.
    pub(super) erased: u64,
}

impl<'k> ImageReader<'k> {
    pub(super) fn new(table: Table, bytes: Bytes, keys: &'k Keys) -> Result<Self, RowsError> {
        let layout = Columns::of(table.name()).unwrap_or_else(Columns::of_dead_letters);
        Ok(Self {
            file: FileReader::new(table, bytes)?,
            keys,
            blank: blank(layout),
            erased: 0,
        })
    }

    /// Appends the images of the next row's columns, in the order of the ledger. Returns whether there was one. Of a content that was erased
    /// there is what an erasure leaves.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, RowsError> {
        let start = out.len();
        let Some(stored) = self.file.next(out)? else {
            return Ok(false);
        };
        if let (Some(encrypted), Some(hash)) = (&stored.encrypted, stored.hash) {
            let id = Images::new(&out[start..]).next().and_then(Result::ok);
            let id = images::uuid(id.flatten()).ok_or(RowsError::Value("id"))?;
            out.truncate(stored.content);
            match self.keys.decrypt(encrypted, id, &hash) {
                Ok(content) => out.extend_from_slice(&content),
                Err(Closed::Destroyed) => {
                    self.erased += 1;
                    out.extend_from_slice(&self.blank);
                }
                Err(why) => return Err(RowsError::Closed(why)),
            }
        }
        Ok(true)
    }
}

/// Reads all rows of a file of a table, in their order. With keys, what is encrypted has to be what was hashed.
pub(crate) fn read(
    table: Table,
    bytes: Bytes,
    keys: Option<&Keys>,
) -> Result<Vec<ReadRow>, RowsError> {
    let mut file = FileReader::new(table, bytes)?;
    let prefix = TablePrefix::new(table.name());
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    while let Some(stored) = {
        row.clear();
        file.next(&mut row)?
    } {
        let (core, content) = row.split_at(stored.content);
        let hash = match stored.hash {
            Some(hash) => hash,
            None => digest(content),
        };
        // The first columns of each table, as the ledger has them.
        let mut images = Images::new(core);
        let mut next = || images.next().and_then(Result::ok).flatten();
        let (id, writer, seq, tenant) = (next(), next(), next(), next());
        let id = images::uuid(id).ok_or(RowsError::Value("id"))?;
        let mut is_destroyed = false;
        if let (Some(encrypted), Some(keys)) = (&stored.encrypted, keys) {
            match keys.decrypt(encrypted, id, &hash) {
                Ok(_) => {}
                Err(Closed::Destroyed) => is_destroyed = true,
                Err(why) => return Err(RowsError::Closed(why)),
            }
        }
        rows.push(ReadRow {
            tenant: images::uuid(tenant),
            id,
            writer: images::uuid(writer).ok_or(RowsError::Value("writer_id"))?,
            seq: images::int8(seq).ok_or(RowsError::Value("seq"))?,
            leaf: leaf_of(&prefix, core, &hash),
            is_destroyed,
        });
    }
    Ok(rows)
}
