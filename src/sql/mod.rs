//! Reads SQL of any dialect for what it tells of values.
//!
//! `query` reads a text for the OTLP bridge: without its literals, and in short. What the tokens mean in
//! which dialect is `dialect`.

mod dialect;
mod query;

pub(crate) use self::query::{Query, read};
