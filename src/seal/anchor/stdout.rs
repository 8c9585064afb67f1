//! Standard output as an anchor: checkpoints for a log that others keep.

use std::io::{self, Write as _};

use crate::seal::error::AnchorError;

/// Writes a checkpoint, and an empty line after it.
pub(super) fn write(note: &str) -> Result<(), AnchorError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{note}")
        .and_then(|()| stdout.flush())
        .map_err(AnchorError::Stdout)
}
