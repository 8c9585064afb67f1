//! The Parquet of a set: rows, sorted by tenant and id, as files that are built in memory.
//!
//! The same rows give the same bytes, so that what was interrupted goes on without a file being written twice.

use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{
    BloomFilterPosition, EnabledStatistics, WriterProperties, WriterPropertiesPtr,
};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, TypePtr};
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::__program::ledger::tree::Hash;

use super::content::Encrypted;
use super::manifest::SCHEMA_VERSION;
use super::values::{push_list, unix_us};
use crate::columnar::{self, Cells, Shape, failed};
use crate::export::columns::{COLUMNS, Column, Type};
use crate::verify::binary::Fields;

/// The key of the version of the columns in the metadata of a file.
pub(crate) const VERSION_KEY: &str = "tracing_audit.archive_schema_version";

/// The most rows of a group.
const MOST_GROUP_ROWS: usize = 100_000;

/// With how many rows a group ends where another tenant begins.
const TENANT_ROWS: usize = 10_000;

/// The bytes of values with which a group is full.
const MOST_GROUP_BYTES: usize = 64 << 20;

/// The rows and the bytes with which a file is full.
const MOST_FILE_ROWS: u64 = 1_000_000;
const MOST_FILE_BYTES: usize = 64 << 20;

/// The column that the leaf of a row is computed with whose content was erased, or is encrypted.
pub(crate) const CONTENT_HASH: &str = "content_hash";

/// The key with which the content of a row is encrypted, and what is encrypted.
pub(crate) const CONTENT_KEY: &str = "content_key";
pub(crate) const ENCRYPTED_CONTENT: &str = "encrypted_content";

/// The columns beside those of the ledger.
const BESIDE: [(&str, Shape); 3] = [
    (CONTENT_HASH, Shape::Hash),
    (CONTENT_KEY, Shape::Text),
    (ENCRYPTED_CONTENT, Shape::Bytes),
];

/// Returns the columns of a table, and how they are stored.
pub(crate) fn columns(table: Table) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| column.is_of(table))
}

/// Returns the schema of a table's files.
pub(crate) fn schema(table: Table) -> io::Result<TypePtr> {
    let columns = columns(table).map(|column| (column.name, Shape::from(column.ty)));
    columnar::schema(table.name(), columns.chain(BESIDE))
}

/// A file that is whole.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) bytes: Vec<u8>,
    pub(super) about: About,
}

/// What the rows of a file are.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) rows: u64,
    pub(super) ids: (Uuid, Uuid),
    pub(super) tenants: (Option<Uuid>, Option<Uuid>),
}

/// Makes files of rows.
pub(super) struct Files {
    /// Whether a file ends where another tenant begins.
    is_by_tenant: bool,
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    /// Of each column, which of a row's fields it has.
    order: Vec<(usize, Type)>,
    id: usize,
    tenant: usize,
    /// The first field of the content.
    content: usize,
    fields: usize,
    writer: Option<SerializedFileWriter<Vec<u8>>>,
    cells: Vec<Cells>,
    group_rows: usize,
    group_bytes: usize,
    about: Option<About>,
}

impl Files {
    pub(super) fn new(table: Table, is_by_tenant: bool) -> io::Result<Self> {
        let layout = Columns::of(table.name()).unwrap_or_else(Columns::of_dead_letters);
        let position = |name: &str| layout.all().position(|column| column == name);
        let order = columns(table)
            .map(|column| Some((position(column.name)?, column.ty)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| io::Error::other("a column is not one of the ledger's"))?;
        let at = |name: &str| position(name).unwrap_or_default();
        Ok(Self {
            is_by_tenant,
            schema: schema(table)?,
            properties: Arc::new(properties(table)),
            order,
            id: at("id"),
            tenant: at("tenant_id"),
            content: layout.core.len(),
            fields: layout.all().count(),
            writer: None,
            cells: Vec::new(),
            group_rows: 0,
            group_bytes: 0,
            about: None,
        })
    }

    /// Adds a row, as Postgres sends it in the order of the ledger, and what stands beside it. Returns a file if one is full without it.
    pub(super) fn push(
        &mut self,
        mut row: Fields<'_>,
        content_hash: Option<&Hash>,
        encrypted: Option<&Encrypted>,
    ) -> io::Result<Option<Finished>> {
        let bytes = row.bytes().len();
        let mut fields = Vec::with_capacity(self.fields);
        for at in 0..self.fields {
            let field = row.field().map_err(io::Error::other)?;
            fields.push(field.filter(|_| encrypted.is_none() || at < self.content));
        }
        let uuid = |at: usize| fields[at].and_then(|bytes| Uuid::from_slice(bytes).ok());
        let (id, tenant) = (uuid(self.id).unwrap_or_default(), uuid(self.tenant));
        let is_next_tenant = self.about.is_some_and(|about| about.tenants.1 != tenant);
        let is_full = self.group_rows >= MOST_GROUP_ROWS
            || self.group_rows > 0 && self.group_bytes + bytes > MOST_GROUP_BYTES
            || is_next_tenant && (self.is_by_tenant || self.group_rows >= TENANT_ROWS);
        let mut finished = None;
        if is_full {
            self.end_group()?;
            let written = self
                .writer
                .as_ref()
                .map_or(0, SerializedFileWriter::bytes_written);
            let rows = self.about.map_or(0, |about| about.rows);
            let is_over = is_next_tenant && self.is_by_tenant;
            if is_over || written >= MOST_FILE_BYTES || rows >= MOST_FILE_ROWS {
                finished = self.finish()?;
            }
        }
        if self.cells.is_empty() {
            let shapes = self.order.iter().map(|(_, ty)| Shape::from(*ty));
            let beside = BESIDE.map(|(_, shape)| shape);
            self.cells = shapes.chain(beside).map(Cells::of).collect();
        }
        for ((at, ty), cells) in self.order.iter().zip(&mut self.cells) {
            match ty {
                Type::Texts => cells.push_with(fields[*at], push_list),
                ty => cells.push(*ty, fields[*at], unix_us),
            }
        }
        if let Some([hash, key, content]) = self.cells.get_mut(self.order.len()..) {
            let key_id = encrypted.map(|encrypted| encrypted.key.to_string());
            hash.push_bytes(content_hash.map(|hash| &hash[..]));
            key.push_bytes(key_id.as_deref().map(str::as_bytes));
            content.push_bytes(encrypted.map(|encrypted| &encrypted.bytes[..]));
        }
        self.group_rows += 1;
        self.group_bytes += bytes;
        let about = self.about.get_or_insert(About {
            rows: 0,
            ids: (id, id),
            tenants: (tenant, tenant),
        });
        about.rows += 1;
        about.ids = (about.ids.0.min(id), about.ids.1.max(id));
        about.tenants.1 = tenant;
        Ok(finished)
    }

    /// Ends the last file.
    pub(super) fn finish(&mut self) -> io::Result<Option<Finished>> {
        self.end_group()?;
        let (Some(writer), Some(about)) = (self.writer.take(), self.about.take()) else {
            return Ok(None);
        };
        let bytes = writer.into_inner().map_err(failed)?;
        Ok(Some(Finished { bytes, about }))
    }

    fn end_group(&mut self) -> io::Result<()> {
        if self.group_rows == 0 {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            writer => writer.insert(
                SerializedFileWriter::new(
                    Vec::new(),
                    Arc::clone(&self.schema),
                    Arc::clone(&self.properties),
                )
                .map_err(failed)?,
            ),
        };
        columnar::write_group(writer, std::mem::take(&mut self.cells))?;
        (self.group_rows, self.group_bytes) = (0, 0);
        Ok(())
    }
}

fn properties(table: Table) -> WriterProperties {
    let version = KeyValue::new(String::from(VERSION_KEY), SCHEMA_VERSION.to_string());
    let at = |name: &str| {
        let at = columns(table).position(|column| column.name == name);
        i32::try_from(at.unwrap_or_default()).unwrap_or_default()
    };
    let sorted_by = |name: &str| SortingColumn {
        column_idx: at(name),
        descending: false,
        nulls_first: true,
    };
    let request = ColumnPath::from("request_id");
    let mut builder = WriterProperties::builder();
    for column in columns(table) {
        // What differs from row to row would fill a dictionary first.
        let encoding = match column.name {
            "id" => Encoding::DELTA_BYTE_ARRAY,
            "salt" => Encoding::DELTA_LENGTH_BYTE_ARRAY,
            _ if column.ty == Type::Time => Encoding::DELTA_BINARY_PACKED,
            _ => continue,
        };
        let path = ColumnPath::from(column.name);
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, encoding);
    }
    // What is encrypted is compressed already, and no two contents are the same.
    let encrypted = ColumnPath::from(ENCRYPTED_CONTENT);
    builder
        .set_column_dictionary_enabled(encrypted.clone(), false)
        .set_column_compression(encrypted.clone(), Compression::UNCOMPRESSED)
        .set_column_statistics_enabled(encrypted, EnabledStatistics::None)
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("tracing-audit ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(vec![version]))
        .set_sorting_columns(Some(vec![sorted_by("tenant_id"), sorted_by("id")]))
        // The page index is made of the statistics of pages.
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_bloom_filter_enabled(request.clone(), true)
        .set_column_bloom_filter_fpp(request.clone(), 0.01)
        .set_column_bloom_filter_max_ndv(request, MOST_GROUP_ROWS as u64)
        // With the index of the pages and the footer, so that one reading has them all; also where a dictionary has the ids.
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_bloom_filter_for_dictionary_encoded_chunks(true)
        .build()
}
