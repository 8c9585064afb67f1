//! Looks for the records of a request, or for one record, in a file of an archive.
//!
//! **The file may be anybody's**: it is looked into before it is verified. So it may have no more rows than its manifest says,
//! what is taken out of it has a limit, and where the reader of Parquet panics the file is broken, and no more than that.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{ChunkReader, FileReader as _};
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use sqlx::types::Uuid;
use tracing_audit::__program::Table;

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
pub(super) fn look<R: ChunkReader + 'static>(
    table: Table,
    file: R,
    wanted: &Wanted,
    rows: u64,
) -> Result<Vec<Picked>, RowsError> {
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
    let looked = panic::catch_unwind(AssertUnwindSafe(|| pick(table, file, wanted, rows)));
    IS_QUIET.set(false);
    looked.unwrap_or(Err(RowsError::Misread))
}

fn pick<R: ChunkReader + 'static>(
    table: Table,
    file: R,
    wanted: &Wanted,
    rows: u64,
) -> Result<Vec<Picked>, RowsError> {
    let properties = ReaderProperties::builder().set_read_bloom_filter(true);
    let options = ReadOptionsBuilder::new()
        .with_page_index()
        .with_reader_properties(properties.build())
        .build();
    let file = SerializedFileReader::new_with_options(file, options)?;
    let groups = file.metadata().row_groups().iter();
    let there = groups.map(|group| u64::try_from(group.num_rows()).ok());
    let there = there.reduce(|sum, rows| sum?.checked_add(rows?)).flatten();
    if there != Some(rows) {
        return Err(RowsError::Length);
    }
    let layout = Layout::of(table, file.metadata().file_metadata().schema_descr())?;
    let (column, value) = match wanted {
        Wanted::Request(id) => ("request_id", id.clone()),
        Wanted::Record(id) => ("id", id.to_string()),
    };
    let at = layout.position(column)?;
    let (mut found, mut left) = (Vec::new(), MOST_BYTES);
    for number in 0..file.num_row_groups() {
        let may_have = file
            .metadata()
            .row_group(number)
            .column(at)
            .statistics()
            .is_none_or(|all| {
                let value = value.as_bytes();
                all.min_bytes_opt().is_none_or(|least| least <= value)
                    && all.max_bytes_opt().is_none_or(|greatest| greatest >= value)
            });
        if !may_have {
            continue;
        }
        let group = file.get_row_group(number)?;
        let is_ruled_out = group
            .get_column_bloom_filter(at)
            .is_some_and(|filter| !filter.check(&value.as_str()));
        if is_ruled_out {
            continue;
        }
        let places = rows::matching(&*group, &layout, column, value.as_bytes())?;
        if !places.is_empty() {
            found.extend(rows::pick(&*group, &layout, &places, &mut left)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;

    use super::*;
    use crate::archive::table_file::{columns, schema};
    use crate::columnar::{self, Cells, Shape};

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
        let mut misread = 0;
        for at in (0..whole.len()).step_by(3) {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                misread += usize::from(matches!(find(table, bytes, 20), Err(RowsError::Misread)));
            }
        }
        // Else nothing here was caught.
        assert!(misread > 0);
    }
}
