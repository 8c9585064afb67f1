//! Where records go from the spool. Each sink reads the spool at a pace of its own and keeps a
//! position of its own.

#[cfg(feature = "otlp")]
pub(crate) mod otlp;
pub(crate) mod postgres;
