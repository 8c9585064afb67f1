//! The one table of span names, field names and outcomes.
//!
//! A span is audited when its name or its target is that of a [`Kind`]. A field whose name is in the
//! table of [`fields`] becomes the column of that name; every other field goes into `metadata`.

mod fields;
mod kinds;
mod outcome;
mod status;
#[cfg_attr(
    not(feature = "__program"),
    allow(unreachable_pub, reason = "the program has the list as well")
)]
mod tables;

pub(crate) use fields::{Field, FieldType, PARAMETERS};
pub use kinds::Kind;
pub(crate) use outcome::Outcome;
pub use status::Status;
pub(crate) use tables::Activities;
#[cfg(feature = "__program")]
pub use tables::Table;
#[cfg(not(feature = "__program"))]
pub(crate) use tables::Table;
