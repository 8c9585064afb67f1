//! What a format is to the export: the bytes of its beginning, of each record, and of its end.

use std::io;

use super::values::Record;
use crate::outline::Outline;
use crate::row::Row;

/// Writes records in a format.
pub(crate) trait Encoder: Send {
    /// Appends what comes before the records.
    fn begin(&mut self, out: &mut Vec<u8>) -> io::Result<()>;

    /// Appends a record, or keeps it until there are enough.
    fn record(&mut self, out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()>;

    /// Appends what the records of a story share; a format that tells no stories has nothing.
    fn outline(&mut self, _out: &mut Vec<u8>, _outline: &Outline) {}

    /// Appends a record of a story, so many levels below the first.
    fn row(&mut self, _out: &mut Vec<u8>, _row: &Row, _depth: usize) {}

    /// Appends what comes after the records.
    fn end(&mut self, out: &mut Vec<u8>) -> io::Result<()>;
}
