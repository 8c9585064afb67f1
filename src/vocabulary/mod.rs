//! The one table of span names, field names and outcomes.
//!
//! A span is audited when its name or its target is that of a [`Kind`]. A field whose name is in the
//! table of [`fields`] becomes the column of that name; every other field goes into `metadata`.

mod fields;
mod kinds;
mod status;
mod tables;

pub(crate) use fields::{Field, FieldType};
pub use kinds::Kind;
pub use status::Status;
pub(crate) use tables::Activities;
pub use tables::Table;
