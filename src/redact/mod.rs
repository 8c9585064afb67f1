//! Redaction: what secrets and personal values become before a record is written anywhere.
//!
//! The rules are applied once, on the worker, at the one door by which records enter the local log
//! (`Rules::pass`): everything behind it (the log, Postgres, OTLP, dead letters, messages) has only
//! what passed. The types hold this: the spool takes `Passed`, which only this room makes.
//!
//! - `place`: rules by field name and JSON path; `json`: the walk through JSON
//! - `scan`: rules by shape, with `literals`, `shapes`, `numbers`, `email` and `checksums`
//! - `action`: what becomes of a value
//! - `rules`: the rules as a program sets them up; `ruleset`: ready to be applied
//! - `engine` and `value`: a record and a value with the rules applied; `tally`: what its row
//!   says of it; `counts`: what all rules did
//!
//! Shapes are found by literals first: a clean record costs one pass over its bytes. A
//! rule of entropy, which finds anything that looks random, is left out on purpose: ids and hashes are
//! what a trail is searched by.

mod passed;

#[cfg(feature = "redact")]
mod action;
#[cfg(feature = "redact")]
mod checksums;
#[cfg(feature = "redact")]
mod counts;
#[cfg(feature = "redact")]
mod custom;
#[cfg(feature = "redact")]
mod email;
#[cfg(feature = "redact")]
mod engine;
#[cfg(feature = "redact")]
mod json;
#[cfg(feature = "redact")]
mod literals;
#[cfg(feature = "redact")]
mod numbers;
#[cfg(feature = "redact")]
mod place;
#[cfg(feature = "redact")]
mod rules;
#[cfg(feature = "redact")]
mod ruleset;
#[cfg(feature = "redact")]
mod scan;
#[cfg(feature = "redact")]
mod shapes;
#[cfg(feature = "redact")]
mod tally;
#[cfg(feature = "redact")]
mod value;

#[cfg(feature = "redact")]
pub(crate) use self::counts::Counts;
pub(crate) use self::passed::{Passed, PassedRun, Rules};
#[cfg(feature = "redact")]
pub use self::{
    action::Action,
    counts::RedactionStats,
    custom::Redactor,
    place::Place,
    rules::{Checker, Redacted, Redaction, RedactionError, Shape},
};
