//! Looks through a file of an archive for the records that a search looks for.
//!
//! What rules out most is read first: the footer's statistics, the bloom filters, of the groups that are left the short columns that the
//! search asks of, of the rows that are left its long texts, and of the records that are found what is wanted of them.

use std::iter;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{ReaderProperties, ReaderPropertiesPtr};
use parquet::file::reader::RowGroupReader;
use parquet::file::serialized_reader::SerializedRowGroupReader;
use parquet::file::statistics::Statistics;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::__program::ledger::tree::Hash;

use super::column::{AT_ONCE, Column};
use super::content::Encrypted;
use super::look::{self, guarded, may_have, pages_of};
use super::matching::{Among, Matcher};
use super::ranges::ReadAhead;
use super::rows::{Beside, Layout, RowsError};
use crate::export::columns::{COLUMN_COUNT, COLUMNS, ID};
use crate::export::values::Record;

/// What a record takes besides its values, about, in bytes.
const RECORD_BYTES: usize = 200;

/// What is looked for in a file.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) matcher: Arc<Matcher>,
    /// From this id on, and before that one.
    pub(super) from: Uuid,
    pub(super) to: Option<Uuid>,
    /// What is read of each record that is found; its id is the first.
    pub(super) columns: Arc<[usize]>,
    /// How many bytes may be read of all files together.
    pub(super) left: Arc<AtomicUsize>,
    /// When the time for it is over.
    pub(super) until: Option<Instant>,
}

impl Wanted {
    /// Returns what is read of a record of a table.
    fn columns_of(&self, table: Table) -> impl Iterator<Item = usize> + Clone + '_ {
        let columns = self.columns.iter().copied();
        columns.filter(move |at| COLUMNS[*at].is_of(table))
    }

    /// Takes bytes of those that may be read.
    fn take(&self, bytes: usize) -> Result<(), RowsError> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
        if taken.is_err() {
            // The others need not go on either.
            self.left.store(0, Ordering::Relaxed);
            return Err(RowsError::TooMuch);
        }
        Ok(())
    }

    fn expect_time(&self) -> Result<(), RowsError> {
        if self.left.load(Ordering::Relaxed) == 0 {
            return Err(RowsError::TooMuch);
        }
        match self.until {
            Some(until) if Instant::now() >= until => Err(RowsError::TooLong),
            _ => Ok(()),
        }
    }
}

/// A record that was found, or may be one once its content is read.
#[derive(Debug)]
pub(super) struct Sifted {
    /// The images of its columns: of those that are wanted; of all that stand beside what is encrypted, if something is.
    pub(super) images: Vec<u8>,
    /// Its content, and the content's hash.
    pub(super) encrypted: Option<Box<(Encrypted, Hash)>>,
}

/// Returns the columns that are read of a record of a table whose content is encrypted.
pub(super) fn all_columns(table: Table) -> impl Iterator<Item = usize> {
    (0..COLUMNS.len()).filter(move |at| COLUMNS[*at].is_of(table))
}

/// Looks through a file that has so many rows.
pub(super) fn sift<R: ReadAhead + 'static>(
    table: Table,
    file: R,
    wanted: &Wanted,
    rows: u64,
) -> Result<Vec<Sifted>, RowsError> {
    guarded(|| {
        let footer = look::footer(&file, rows)?;
        let layout = Layout::of(table, footer.file_metadata().schema_descr())?;
        let groups = groups(table, &footer, &file, &layout, wanted)?;
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let sieve = Sieve {
            table,
            footer: look::with_pages(footer, &file)?,
            file: Arc::new(file),
            properties: Arc::new(ReaderProperties::builder().build()),
            layout,
            wanted,
        };
        let mut found = Vec::new();
        for number in groups {
            wanted.expect_time()?;
            found.extend(sieve.group(number)?);
            sieve.file.let_go();
        }
        Ok(found)
    })
}

/// Returns the groups of rows that may have such records.
fn groups(
    table: Table,
    footer: &ParquetMetaData,
    file: &impl ReadAhead,
    layout: &Layout,
    wanted: &Wanted,
) -> Result<Vec<usize>, RowsError> {
    let at = layout.position(COLUMNS[ID].name)?;
    let (from, to) = (wanted.from.to_string(), wanted.to.map(|id| id.to_string()));
    let mut groups: Vec<usize> = (0..footer.num_row_groups()).collect();
    groups.retain(|number| {
        let statistics = footer.row_group(*number).column(at).statistics();
        statistics.is_none_or(|all| {
            let is_after = |from: &str| {
                let greatest = all.max_bytes_opt();
                greatest.is_none_or(|greatest| greatest >= from.as_bytes())
            };
            let is_before = |to: &str| {
                let least = all.min_bytes_opt();
                least.is_none_or(|least| least < to.as_bytes())
            };
            is_after(&from) && to.as_deref().is_none_or(is_before)
        })
    });
    if let Among::Records(records) = &wanted.matcher.among {
        let of_table = records.iter().filter(|record| record.table == table);
        let ids: Vec<String> = of_table.map(|record| record.id.to_string()).collect();
        groups = may_have(footer, file, groups, at, &ids)?;
    }
    let (key_at, ..) = layout.beside()[1];
    let of_table = Columns::of(table.name()).unwrap_or_else(Columns::of_dead_letters);
    // What is encrypted is in no statistics.
    let (mut encrypted, mut clear): (Vec<usize>, Vec<usize>) =
        groups.into_iter().partition(|number| {
            let group = footer.row_group(*number);
            let nulls = group.column(key_at).statistics();
            let nulls = nulls.and_then(Statistics::null_count_opt);
            nulls != u64::try_from(group.num_rows()).ok()
        });
    for (name, values) in wanted.matcher.equal(table) {
        let at = layout.position(name)?;
        clear = may_have(footer, file, clear, at, &values)?;
        if !of_table.content.contains(&name) {
            encrypted = may_have(footer, file, encrypted, at, &values)?;
        }
    }
    let mut groups = [clear, encrypted].concat();
    groups.sort_unstable();
    Ok(groups)
}

/// A file that is looked through.
struct Sieve<'w, R: ReadAhead + 'static> {
    table: Table,
    footer: ParquetMetaData,
    file: Arc<R>,
    properties: ReaderPropertiesPtr,
    layout: Layout,
    wanted: &'w Wanted,
}

impl<R: ReadAhead + 'static> Sieve<'_, R> {
    /// Looks through a group of rows.
    fn group(&self, number: usize) -> Result<Vec<Sifted>, RowsError> {
        let (table, wanted) = (self.table, self.wanted);
        let of_group = self.footer.row_group(number);
        let group = SerializedRowGroupReader::new(
            Arc::clone(&self.file),
            of_group,
            self.footer.page_index_for_row_group(number),
            Arc::clone(&self.properties),
        )?;
        let (first, then) = wanted.matcher.columns(table);
        let key = self.layout.beside()[1];
        let mut chunks = Vec::new();
        let positions = first
            .iter()
            .map(|at| self.layout.position(COLUMNS[*at].name));
        for at in positions.chain([Ok(key.0)]) {
            let (from, length) = of_group.column(at?).byte_range();
            chunks.push(from..from.saturating_add(length));
        }
        self.file.hold(chunks)?;
        let all = usize::try_from(of_group.num_rows()).unwrap_or_default();
        let is_closed = has_value(Column::new(&group, key)?, all)?;
        let loose = wanted.matcher.without_content(table);
        let may_match = |row: usize, record: &Record<'_>| {
            let id = record.id();
            let matcher = if is_closed[row] {
                &loose
            } else {
                &*wanted.matcher
            };
            id >= wanted.from && wanted.to.is_none_or(|to| id < to) && matcher.may_match(record)
        };
        let whole = iter::once(0..all).filter(|rows| !rows.is_empty());
        let whole: Vec<_> = whole.collect();
        let rows = passing(&group, &self.layout, table, &first, &whole, may_match)?;
        let (closed, mut clear): (Vec<usize>, Vec<usize>) =
            rows.into_iter().partition(|row| is_closed[*row]);
        if !then.is_empty() && !clear.is_empty() {
            wanted.expect_time()?;
            self.hold_pages(number, self.positions(then.iter().copied())?, &clear)?;
            let matches = |_: usize, record: &Record<'_>| wanted.matcher.matches(record);
            let runs = runs(&clear);
            clear = passing(&group, &self.layout, table, &then, &runs, matches)?;
        }
        let columns: Vec<usize> = wanted.columns_of(table).collect();
        let images = self.gather(&group, number, &columns, &clear)?;
        let clear = images.into_iter().map(|images| Sifted {
            images,
            encrypted: None,
        });
        let mut found: Vec<Sifted> = clear.collect();
        let columns: Vec<usize> = all_columns(table).collect();
        let images = self.gather(&group, number, &columns, &closed)?;
        let contents = self.contents(&group, number, &closed)?;
        found.extend(
            images
                .into_iter()
                .zip(contents)
                .map(|(images, content)| Sifted {
                    images,
                    encrypted: Some(Box::new(content)),
                }),
        );
        Ok(found)
    }

    /// Reads columns of these rows, from what may be read.
    fn gather(
        &self,
        group: &dyn RowGroupReader,
        number: usize,
        columns: &[usize],
        rows: &[usize],
    ) -> Result<Vec<Vec<u8>>, RowsError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = self.wanted;
        wanted.take(rows.len().saturating_mul(RECORD_BYTES))?;
        let columns = columns.iter().copied();
        self.hold_pages(number, self.positions(columns.clone())?, rows)?;
        let before = wanted.left.load(Ordering::Relaxed);
        let mut left = before;
        let gathered = gather(group, &self.layout, columns, rows, &mut left);
        wanted.take(match &gathered {
            Err(RowsError::TooMuch) => usize::MAX,
            _ => before - left,
        })?;
        gathered
    }

    /// Reads the contents of rows of which they are encrypted.
    fn contents(
        &self,
        group: &dyn RowGroupReader,
        number: usize,
        rows: &[usize],
    ) -> Result<Vec<(Encrypted, Hash)>, RowsError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let positions = self.layout.beside().map(|(at, ..)| at);
        self.hold_pages(number, positions.to_vec(), rows)?;
        let mut beside = Beside::new(group, &self.layout)?;
        let (mut contents, mut at) = (Vec::new(), 0);
        for row in rows {
            at = beside.go_to(at, *row)?;
            let (Some(hash), Some(encrypted)) = beside.row(0)? else {
                return Err(RowsError::Length);
            };
            self.wanted.take(encrypted.bytes.len())?;
            contents.push((encrypted, hash));
        }
        Ok(contents)
    }

    /// Returns where columns are in the file.
    fn positions(&self, columns: impl Iterator<Item = usize>) -> Result<Vec<usize>, RowsError> {
        columns
            .map(|at| self.layout.position(COLUMNS[at].name))
            .collect()
    }

    /// Reads the pages ahead that have these rows.
    fn hold_pages(
        &self,
        number: usize,
        positions: Vec<usize>,
        rows: &[usize],
    ) -> Result<(), RowsError> {
        let of_group = self.footer.row_group(number);
        let index = self.footer.page_index_for_row_group(number);
        let mut wanted = Vec::new();
        for at in positions {
            let (from, _) = of_group.column(at).byte_range();
            let pages = index.page_locations(at).map_or(&[][..], Vec::as_slice);
            wanted.extend(pages_of(from, pages, rows));
        }
        self.file.hold(wanted)?;
        Ok(())
    }
}

/// Returns of each of the first rows whether it has a value in a column.
fn has_value(mut column: Column, rows: usize) -> Result<Vec<bool>, RowsError> {
    let mut present = Vec::with_capacity(rows.min(AT_ONCE));
    while present.len() < rows {
        if column.fill(AT_ONCE.min(rows - present.len()))? == 0 {
            return Err(RowsError::Length);
        }
        present.extend(column.present.iter().map(|level| *level != 0));
    }
    Ok(present)
}

/// Returns ascending rows as ranges of those that follow each other.
fn runs(rows: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match runs.last_mut() {
            Some(run) if run.end == *row => run.end += 1,
            _ => runs.push(*row..row + 1),
        }
    }
    runs
}

/// Returns which of these rows of a group, ascending, pass a test by some of their columns.
fn passing(
    group: &dyn RowGroupReader,
    layout: &Layout,
    table: Table,
    columns: &[usize],
    rows: &[Range<usize>],
    mut test: impl FnMut(usize, &Record<'_>) -> bool,
) -> Result<Vec<usize>, RowsError> {
    let readers = columns.iter().map(|at| {
        let wanted = layout.column(COLUMNS[*at].name)?;
        Ok((*at, Column::new(group, wanted)?))
    });
    let mut readers = readers.collect::<Result<Vec<_>, RowsError>>()?;
    let (mut found, mut at, mut image, mut ends) = (Vec::new(), 0, Vec::new(), Vec::new());
    for run in rows {
        for (_, column) in &mut readers {
            column.skip(run.start - at)?;
        }
        at = run.start;
        while at < run.end {
            let most = AT_ONCE.min(run.end - at);
            let mut counts = readers.iter_mut().map(|(_, column)| column.fill(most));
            let count = counts.next().unwrap_or(Err(RowsError::Length))?;
            for other in counts {
                if other? != count {
                    return Err(RowsError::Length);
                }
            }
            if count == 0 {
                return Err(RowsError::Length);
            }
            for row in 0..count {
                image.clear();
                ends.clear();
                for (place, column) in &mut readers {
                    let start = image.len();
                    column.push_image(row, &mut image)?;
                    ends.push((*place, start));
                }
                let mut record = Record {
                    table,
                    fields: [None; COLUMN_COUNT],
                    unread: None,
                };
                let mut end = image.len();
                for (place, start) in ends.iter().rev() {
                    let value = &image[*start..end];
                    record.fields[*place] = (value[..4] != [0xff; 4]).then(|| &value[4..]);
                    end = *start;
                }
                if test(at + row, &record) {
                    found.push(at + row);
                }
            }
            at += count;
        }
    }
    Ok(found)
}

/// Reads some columns of these rows of a group, ascending: of each row their images, one after the other. Of each column the pages in
/// which they are. `left` is how many bytes they may have, and becomes what is left of it.
fn gather(
    group: &dyn RowGroupReader,
    layout: &Layout,
    columns: impl Iterator<Item = usize>,
    rows: &[usize],
    left: &mut usize,
) -> Result<Vec<Vec<u8>>, RowsError> {
    let mut images = vec![Vec::new(); rows.len()];
    for place in columns {
        let mut column = Column::new(group, layout.column(COLUMNS[place].name)?)?;
        let mut at = 0;
        for (row, image) in rows.iter().zip(&mut images) {
            at = column.go_to(at, *row)?;
            let before = image.len();
            column.push_image(0, image)?;
            let taken = image.len() - before;
            *left = left.checked_sub(taken).ok_or(RowsError::TooMuch)?;
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_follow_each_other_are_one_run() {
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [0..3, 5..6, 7..9]);
        assert!(runs(&[]).is_empty());
    }
}
