//! A log that a sink reads: this process's own, or an orphaned one.
//!
//! An orphaned log (one that a dead process left) is drained into Postgres first and then exported,
//! each by the thread of its sink and one log at a time. The folder is released in between, so that
//! two of our threads never compete for its lock.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::causes;
use crate::report;
use crate::spool::{DirectoryError, Log, Spool};

/// This process's own log, or an orphaned log that this process has taken over.
#[derive(Debug)]
pub(super) struct Source {
    spool: Arc<Spool>,
    is_adopted: bool,
}

impl Source {
    /// Wraps this process's own log.
    pub(super) fn own(spool: Arc<Spool>) -> Self {
        Self {
            spool,
            is_adopted: false,
        }
    }

    /// Wraps a log that was taken over; it is removed once it is read to its end.
    pub(super) fn adopted(spool: Arc<Spool>) -> Self {
        Self {
            spool,
            is_adopted: true,
        }
    }

    /// Takes over the log in a folder. Returns `None` if its process is alive or the folder is
    /// gone.
    pub(super) fn take_over(folder: &Path) -> Result<Option<Self>, DirectoryError> {
        let taken = Spool::take_over(folder)?;
        Ok(taken.map(|spool| Self::adopted(Arc::new(spool))))
    }

    /// Returns whether another process created the log.
    pub(super) fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    pub(super) fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    pub(super) fn log(&self) -> &Log {
        self.spool.log()
    }

    /// Removes an adopted log that is read to its end. If that fails, logs a warning to the host's
    /// log.
    pub(super) fn remove(self) {
        let removed = Arc::into_inner(self.spool).map_or(Ok(()), Spool::remove);
        if let Err(error) = removed {
            warn_not_removed(&error);
        }
    }
}

fn warn_not_removed(error: &io::Error) {
    let error = causes(error);
    report::say(move || {
        tracing::warn!(
            target: "tracing_audit",
            error,
            "audit trail: cannot remove a drained local log"
        );
    });
}
