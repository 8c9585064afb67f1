//! What this program was built without.
//!
//! Each feature brings libraries whose compilation takes longer than all the rest; most need none of them.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

use crate::error::Error;

/// What on a command line needs a feature, and whether the program has it.
const WORDS: [(&str, bool); 8] = [
    ("--archive", cfg!(feature = "archive")),
    ("--key-name", cfg!(feature = "pkcs11")),
    ("--key-pkcs11", cfg!(feature = "pkcs11")),
    ("--otlp", cfg!(feature = "otlp")),
    ("--pin-env", cfg!(feature = "pkcs11")),
    ("archive", cfg!(feature = "archive")),
    ("parquet", cfg!(feature = "parquet")),
    ("redact", cfg!(feature = "redact")),
];

/// How a program with everything is had.
const FULL: &str =
    "this program was built without it: `cargo install tracing-audit-cli --features full`";

/// Says so if an argument is unknown because this program was built without it.
pub(crate) fn explain(mut error: clap::Error) -> clap::Error {
    let kinds = [
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
        ContextKind::InvalidValue,
    ];
    let is_lacking = kinds.into_iter().any(|kind| match error.get(kind) {
        Some(ContextValue::String(said)) => {
            let said = said.split(['=', ' ']).next();
            WORDS.iter().any(|(word, has)| Some(*word) == said && !has)
        }
        _ => false,
    });
    if is_lacking {
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedValue);
        let tip = ContextValue::StyledStrs(vec![StyledStr::from(FULL)]);
        error.insert(ContextKind::Suggested, tip);
    }
    error
}

/// Returns an error if this is the address of a bucket, and the program cannot reach one.
pub(crate) fn bucket(place: &str) -> Result<(), Error> {
    if cfg!(not(feature = "s3")) && place.starts_with("s3://") {
        return Err(Error::Lacking("a bucket cannot be reached", FULL));
    }
    Ok(())
}

/// Returns an error if an archive is to be looked at, and the program has no archives.
pub(crate) fn archive() -> Result<(), Error> {
    let is_named = || std::env::var_os("AUDIT_ARCHIVE").is_some_and(|place| !place.is_empty());
    if cfg!(not(feature = "archive")) && is_named() {
        let what = "AUDIT_ARCHIVE names an archive, which cannot be looked at";
        return Err(Error::Lacking(what, FULL));
    }
    Ok(())
}
