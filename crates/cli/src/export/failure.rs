//! Why there is no export.

use std::io;
use std::path::PathBuf;

use crate::filter::FilterError;

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("{option}: {source}")]
    Filter {
        option: &'static str,
        source: FilterError,
    },
    #[error("--{0} and --where contradict each other: they name the same filter with other values")]
    Contradiction(&'static str),
    #[error("this login may read all rows: say why they are exported, with --purpose")]
    NoPurpose,
    #[error("{} exists: name another file, or overwrite it with --force", .0.display())]
    Exists(PathBuf),
    #[error(
        "{} exists: another export writes it, or one was killed; remove it, or use --force",
        .0.display()
    )]
    IsWritten(PathBuf),
    #[error("--proofs: they are written beside a file, so --output must name one")]
    ProofsOfOutput,
    #[error("--proofs: {0}")]
    NoProofs(String),
    #[error("cannot write {place}: {source}; nothing that was written is kept")]
    Write { place: String, source: io::Error },
    #[error("interrupted: the export is not whole, and nothing that was written to a file is kept")]
    Interrupted,
}
