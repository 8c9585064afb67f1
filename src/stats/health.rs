//! Why records are dropped, and how the way to Postgres is.

use std::time::Duration;

/// How long a record may wait, beyond the age at which a batch is written.
pub(super) const LAGGING_AFTER: Duration = Duration::from_secs(15);

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropCause {
    /// The queue had no room within the time to wait.
    QueueFull,
    /// The record was made after the shutdown. The end of a run that was open then is none: the run
    /// has a record, with the error code `shut_down`.
    ShutDown,
    /// The local log could not be written, and Postgres not be reached, until the end.
    LocalLog,
    /// Another layer panicked when the span was closed, so that nobody told of its end: noticed
    /// when the Registry gives its number to another span. A run that the local log knew of by
    /// then has its row instead ([`Builder::runs_in_flight`](crate::Builder::runs_in_flight)).
    EndUnseen,
    /// The record was committed, the database has lost it since, and the local log no longer has it:
    /// the database was restored to an earlier state, or a replica took over that had not received
    /// it. The trail says so in a row `audit.gap`.
    DatabaseLost,
}

impl DropCause {
    /// Every cause.
    pub const ALL: [Self; 5] = [
        Self::QueueFull,
        Self::ShutDown,
        Self::LocalLog,
        Self::EndUnseen,
        Self::DatabaseLost,
    ];

    /// Returns the cause as a word, as it stands in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ShutDown => "shut_down",
            Self::LocalLog => "local_log",
            Self::EndUnseen => "end_unseen",
            Self::DatabaseLost => "database_lost",
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::QueueFull => 0,
            Self::ShutDown => 1,
            Self::LocalLog => 2,
            Self::EndUnseen => 3,
            Self::DatabaseLost => 4,
        }
    }
}

/// How the way to Postgres is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// The database was not reached yet.
    Starting,
    /// Batches are being committed as they come.
    Healthy,
    /// The database cannot be reached or is busy, or the thread that writes into it has panicked; it is tried again, and
    /// everything is kept.
    Retrying,
    /// The database refuses what only an administrator can mend (tables, rights, a partition);
    /// everything is kept, and it goes on by itself when that is mended.
    Holding,
    /// The spool cannot be written, or has reached its quota, or its thread has panicked; records wait in the queue.
    SpoolBlocked,
    /// A record has been waiting for longer than [`Stats::LAGGING_AFTER`] and the age of a batch: the
    /// database or the disk does not answer, a worker hangs, or there is more than it can take.
    Lagging,
    /// The database did not agree with what this program has committed: it has lost records, or has
    /// records of this program's that were never sent. The trail has a row `audit.gap` for each time,
    /// what the local log still has is written again, and new records are committed as always. It is
    /// so instead of [`Healthy`](Self::Healthy) until the program is started again, for somebody should
    /// look; what keeps records from being committed is said first ([`Stats::inconsistencies`] says
    /// this also then).
    Inconsistent,
    /// The pipeline has ended.
    Stopped,
}

impl Health {
    pub(super) const ALL: [Self; 8] = [
        Self::Starting,
        Self::Healthy,
        Self::Retrying,
        Self::Holding,
        Self::SpoolBlocked,
        Self::Lagging,
        Self::Inconsistent,
        Self::Stopped,
    ];
}
