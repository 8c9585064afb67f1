//! Reads SQL of any dialect for what it tells of values.
//!
//! `query` reads a text for the OTLP bridge: without its literals, and in short; what it is not sure of is
//! not exported. `literals` finds them for redaction where they stand; what it is not sure of is one. What the
//! tokens mean in which dialect is `dialect`.

mod dialect;
#[cfg(feature = "redact")]
mod literals;
#[cfg(feature = "otlp")]
mod query;

#[cfg(feature = "redact")]
pub(crate) use self::literals::{Kind, is_statement, literals};
#[cfg(feature = "otlp")]
pub(crate) use self::query::{Query, read};
