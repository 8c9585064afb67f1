//! A log that a sink reads.
//!
//! A log that a dead process left is drained into Postgres first, then exported, each by the thread
//! of its sink and one log at a time. The folder is released in between, so that two of our threads
//! never want its lock.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::causes;
use crate::report;
use crate::spool::{DirectoryError, Log, Spool};

/// This process' own log, or one that a dead process left and that this one has taken over.
#[derive(Debug)]
pub(super) struct Source {
    spool: Arc<Spool>,
    is_adopted: bool,
}

impl Source {
    /// This process' own log.
    pub(super) fn own(spool: Arc<Spool>) -> Self {
        Self {
            spool,
            is_adopted: false,
        }
    }

    /// A log that was taken over; it is removed when it is read to its end.
    pub(super) fn adopted(spool: Arc<Spool>) -> Self {
        Self {
            spool,
            is_adopted: true,
        }
    }

    /// Takes over the log in a folder. `None`: its process lives, or the folder is gone.
    pub(super) fn take_over(folder: &Path) -> Result<Option<Self>, DirectoryError> {
        let taken = Spool::take_over(folder)?;
        Ok(taken.map(|spool| Self::adopted(Arc::new(spool))))
    }

    /// Whether another process made it.
    pub(super) fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    pub(super) fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    pub(super) fn log(&self) -> &Log {
        self.spool.log()
    }

    /// Removes an adopted log that is read to its end. Where the disk does not let it, the host's log
    /// has a warning.
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
            "audit trail: a local log that is drained cannot be removed"
        );
    });
}
