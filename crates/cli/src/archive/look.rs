//! Looks for the records of a request, or for one record, in a file of an archive.
//!
//! **The file may be anybody's**: it is looked into before it is verified. So it may have no more rows than its manifest says,
//! what is taken out of it has a limit, and where the reader of Parquet panics the file is broken, and no more than that.

use std::cell::Cell;
use std::iter;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Once};

use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::properties::ReaderProperties;
use parquet::file::serialized_reader::SerializedRowGroupReader;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;

use super::ranges::ReadAhead;
use super::rows::{self, Layout, Picked, RowsError};

/// How many bytes are taken out of a file: some more than a whole one has.
const MOST_BYTES: usize = 1 << 30;

/// What is looked for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The records of a request.
    Request(String),
    /// A record.
    Record(Uuid),
}

thread_local! {
    /// Whether a panic of this thread is told to nobody.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Looks into a file that has so many rows.
pub(super) fn look<R: ReadAhead + 'static>(
    table: Table,
    file: R,
    wanted: &Wanted,
    rows: u64,
) -> Result<Vec<Picked>, RowsError> {
    guarded(|| pick(table, file, wanted, rows))
}

/// Reads in a file that may be anybody's.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T, RowsError>) -> Result<T, RowsError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                tell(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let looked = panic::catch_unwind(AssertUnwindSafe(read));
    IS_QUIET.set(false);
    looked.unwrap_or(Err(RowsError::Misread))
}

fn pick<R: ReadAhead + 'static>(
    table: Table,
    file: R,
    wanted: &Wanted,
    rows: u64,
) -> Result<Vec<Picked>, RowsError> {
    let footer = footer(&file, rows)?;
    let layout = Layout::of(table, footer.file_metadata().schema_descr())?;
    let (column, value) = match wanted {
        Wanted::Request(id) => ("request_id", id.clone()),
        Wanted::Record(id) => ("id", id.to_string()),
    };
    let at = layout.position(column)?;
    let groups = (0..footer.num_row_groups()).collect();
    let groups = may_have(&footer, &file, groups, at, std::slice::from_ref(&value))?;
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let footer = with_pages(footer, &file)?;
    let (file, properties) = (
        Arc::new(file),
        Arc::new(ReaderProperties::builder().build()),
    );
    let (mut found, mut left) = (Vec::new(), MOST_BYTES);
    for number in groups {
        let of_group = footer.row_group(number);
        let (from, length) = of_group.column(at).byte_range();
        file.hold(iter::once(from..from.saturating_add(length)).collect())?;
        let group = SerializedRowGroupReader::new(
            Arc::clone(&file),
            of_group,
            footer.page_index_for_row_group(number),
            Arc::clone(&properties),
        )?;
        let places = rows::matching(&group, &layout, column, value.as_bytes())?;
        if !places.is_empty() {
            let index = footer.page_index_for_row_group(number);
            let pages = layout.positions().flat_map(|at| {
                let (from, _) = of_group.column(at).byte_range();
                let pages = index.page_locations(at).map_or(&[][..], Vec::as_slice);
                pages_of(from, pages, &places)
            });
            file.hold(pages.collect())?;
            found.extend(rows::pick(&group, &layout, &places, &mut left)?);
        }
        file.let_go();
    }
    Ok(found)
}

/// Reads the footer of a file that has so many rows.
pub(super) fn footer(file: &impl ReadAhead, rows: u64) -> Result<ParquetMetaData, RowsError> {
    let footer = ParquetMetaDataReader::new().parse_and_finish(file)?;
    let groups = footer.row_groups().iter();
    let there = groups.map(|group| u64::try_from(group.num_rows()).ok());
    let there = there.reduce(|sum, rows| sum?.checked_add(rows?)).flatten();
    if there == Some(rows) {
        Ok(footer)
    } else {
        Err(RowsError::Length)
    }
}

/// Reads where the pages are; not what they have least and greatest.
pub(super) fn with_pages(
    footer: ParquetMetaData,
    file: &impl ReadAhead,
) -> Result<ParquetMetaData, RowsError> {
    let mut reader = ParquetMetaDataReader::new_with_metadata(footer)
        .with_offset_index_policy(PageIndexPolicy::Optional);
    reader.read_page_indexes(file)?;
    Ok(reader.finish()?)
}

/// Returns which of these groups of rows may have one of these values in a column, by their statistics and bloom filters.
pub(super) fn may_have(
    footer: &ParquetMetaData,
    file: &impl ReadAhead,
    mut groups: Vec<usize>,
    at: usize,
    values: &[String],
) -> Result<Vec<usize>, RowsError> {
    let column = |number: usize| footer.row_group(number).column(at);
    groups.retain(|number| {
        column(*number).statistics().is_none_or(|all| {
            values.iter().any(|value| {
                let value = value.as_bytes();
                all.min_bytes_opt().is_none_or(|least| least <= value)
                    && all.max_bytes_opt().is_none_or(|greatest| greatest >= value)
            })
        })
    });
    let filters = groups.iter().filter_map(|number| {
        let from = u64::try_from(column(*number).bloom_filter_offset()?).ok()?;
        let length = u64::try_from(column(*number).bloom_filter_length()?).ok()?;
        Some(from..from.saturating_add(length))
    });
    file.hold(filters.collect())?;
    let mut left = Vec::new();
    for number in groups {
        let filter = Sbbf::read_from_column_chunk(column(number), file)?;
        let has = |filter: Sbbf| values.iter().any(|value| filter.check(value.as_str()));
        if filter.is_none_or(has) {
            left.push(number);
        }
    }
    file.let_go();
    Ok(left)
}

/// Returns where the pages of a column begin and end that have these rows, ascending, and its dictionary.
pub(super) fn pages_of(from: u64, pages: &[PageLocation], rows: &[usize]) -> Vec<Range<u64>> {
    let place = |number: i64| u64::try_from(number).unwrap_or_default();
    let end = |page: &PageLocation| {
        let length = u64::try_from(page.compressed_page_size).unwrap_or_default();
        place(page.offset).saturating_add(length)
    };
    let Some(first) = pages.first() else {
        return Vec::new();
    };
    let dictionary = from..place(first.offset);
    let mut wanted: Vec<_> = (!dictionary.is_empty())
        .then_some(dictionary)
        .into_iter()
        .collect();
    let mut last = None;
    for row in rows {
        let after = pages.partition_point(|page| place(page.first_row_index) <= *row as u64);
        let page = after.checked_sub(1).and_then(|at| pages.get(at));
        if let Some(page) = page.filter(|page| last.replace(page.offset) != Some(page.offset)) {
            wanted.push(place(page.offset)..end(page));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use hyper::body::Bytes;
    use parquet::file::properties::WriterProperties;
    use parquet::file::reader::FileReader as _;
    use parquet::file::serialized_reader::SerializedFileReader;
    use parquet::file::writer::SerializedFileWriter;

    use super::*;
    use crate::archive::matching::Matcher;
    use crate::archive::sift::{self, sift};
    use crate::archive::table_file::{columns, schema};
    use crate::columnar::{self, Cells, Shape};
    use crate::export::columns::ID;
    use crate::filter::{Bounds, Filter};

    /// Returns a file of so many rows of a request.
    #[allow(
        clippy::unwrap_used,
        reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
    )]
    fn file(table: Table, rows: usize) -> Vec<u8> {
        let mut writer = SerializedFileWriter::new(
            Vec::new(),
            schema(table).unwrap(),
            WriterProperties::builder().build().into(),
        )
        .unwrap();
        let cells = columns(table).map(|column| {
            let mut cells = Cells::of(Shape::from(column.ty));
            for _ in 0..rows {
                let value = (column.name == "request_id").then_some(&b"req"[..]);
                cells.push(column.ty, value, |us| us);
            }
            cells
        });
        let mut cells: Vec<Cells> = cells.collect();
        let mut hashes = Cells::of(Shape::Hash);
        (0..rows).for_each(|_| hashes.push_bytes(None));
        cells.push(hashes);
        // Of what is encrypted: the key, and the content.
        for shape in [Shape::Text, Shape::Bytes] {
            let mut none = Cells::of(shape);
            (0..rows).for_each(|_| none.push_bytes(None));
            cells.push(none);
        }
        columnar::write_group(&mut writer, cells).unwrap();
        writer.into_inner().unwrap()
    }

    fn find(table: Table, bytes: Vec<u8>, rows: u64) -> Result<usize, RowsError> {
        let wanted = Wanted::Request(String::from("req"));
        look(table, Bytes::from(bytes), &wanted, rows).map(|found| found.len())
    }

    #[test]
    fn file_with_other_rows_than_its_manifest_says_is_not_read() {
        for table in Table::ALL {
            let file = file(table, 3);
            assert_eq!(find(table, file.clone(), 3).unwrap(), 3);
            for rows in [0, 2, 4, u64::MAX] {
                let refused = find(table, file.clone(), rows);
                assert!(matches!(refused, Err(RowsError::Length)), "{refused:?}");
            }
        }
    }

    #[test]
    fn no_more_is_taken_than_the_limit() {
        let table = Table::ALL[0];
        let file = SerializedFileReader::new(Bytes::from(file(table, 100))).unwrap();
        let layout = Layout::of(table, file.metadata().file_metadata().schema_descr()).unwrap();
        let group = file.get_row_group(0).unwrap();
        let rows: Vec<usize> = (0..100).collect();
        let pick = |mut left| rows::pick(&*group, &layout, &rows, &mut left);
        assert_eq!(pick(300).unwrap().len(), 100);
        assert!(matches!(pick(299), Err(RowsError::TooMuch)));
    }

    #[test]
    fn broken_files_are_said_to_be_and_end_nothing() {
        let table = Table::ALL[0];
        let whole = file(table, 20);
        let filter = Filter::from_query("request=req&text=none").unwrap();
        let searched = sift::Wanted {
            matcher: Arc::new(Matcher::new(filter, Bounds::default(), None)),
            from: Uuid::nil(),
            to: None,
            columns: Arc::from([ID]),
            left: Arc::new(AtomicUsize::new(1 << 20)),
            until: None,
        };
        let mut misread = 0;
        for at in (0..whole.len()).step_by(3) {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let sifted = sift(table, Bytes::from(bytes.clone()), &searched, 20);
                misread += usize::from(matches!(sifted, Err(RowsError::Misread)));
                misread += usize::from(matches!(find(table, bytes, 20), Err(RowsError::Misread)));
            }
        }
        // Else nothing here was caught.
        assert!(misread > 0);
    }

    #[test]
    fn pages_of_rows_are_read_once_with_the_dictionary() {
        let page = |offset, first_row_index| PageLocation {
            offset,
            compressed_page_size: 10,
            first_row_index,
        };
        let pages = [page(50, 0), page(60, 100), page(70, 200)];
        assert_eq!(
            pages_of(40, &pages, &[99, 200, 201]),
            [40..50, 50..60, 70..80]
        );
        assert_eq!(
            pages_of(50, &pages, &[100]),
            std::slice::from_ref(&(60..70))
        );
        assert_eq!(pages_of(50, &[], &[100]), []);
    }
}
