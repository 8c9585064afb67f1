//! The shared vocabulary of the stages: what a record is, as bytes and as a row.
//!
//! A record is encoded once, on the thread that closed its span ([`encode`]). Those bytes
//! are what the queue carries and the spool stores. [`decode`] reads them back, [`row`]
//! turns them into the typed values of a row (each by [`coerce`], a key that a `Debug` wrote by
//! [`debug_text`]), with what could not be stored
//! as it was said named in `problems`; [`trace`] says which trace it belongs to.

pub(crate) mod buffers;
mod builders;
pub(crate) mod coerce;
pub(crate) mod debug_text;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod frames;
pub(crate) mod gap;
pub(crate) mod id;
pub(crate) mod lost;
pub(crate) mod row;
pub(crate) mod trace;

pub use builders::{Event, NewRecord, PromptRun, QueryRun};
