//! The causes of dropped records, and the health of the pipeline.

use std::time::Duration;

/// How long a record may wait beyond the age at which a batch is due.
pub(super) const LAGGING_AFTER: Duration = Duration::from_secs(15);

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropCause {
    /// The queue had no room within the time to wait.
    QueueFull,
    /// The record was made after the shutdown. The end of a run that was open at the shutdown does
    /// not count: the run has a record, with the error code `shut_down`.
    ShutDown,
    /// The local log could not be written and Postgres could not be reached, until the pipeline
    /// ended.
    LocalLog,
    /// Another layer panicked when the span was closed, so that its end was never reported: noticed
    /// when the Registry reuses the span's number for another. If the local log knew of the run by
    /// then, the run gets its row instead
    /// ([`Builder::runs_in_flight`](crate::Builder::runs_in_flight)).
    EndUnseen,
    /// The record was committed, the database has lost it since, and the local log no longer has
    /// it: the database was restored to an earlier state, or a replica took over that had not
    /// received it. A row `audit.gap` in the trail reports it.
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

    /// Returns the cause as a word, as used in metrics.
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

/// The health of the pipeline on its way to Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// The database has not been reached yet.
    Starting,
    /// Batches are committed as they come.
    Healthy,
    /// The database cannot be reached or is busy, or the thread that writes to it has panicked; the
    /// sink retries, and every record is kept.
    Retrying,
    /// The database refuses for a reason that only an administrator can fix (tables, rights, a
    /// partition); every record is kept, and writing resumes by itself once it is fixed.
    Holding,
    /// The spool cannot be written, or has reached its quota, or its thread has panicked; records
    /// wait in the queue.
    SpoolBlocked,
    /// A record has been waiting for longer than [`Stats::LAGGING_AFTER`](super::Stats::LAGGING_AFTER) plus the age of a batch:
    /// the database or the disk does not answer, a worker hangs, or there are more records than
    /// they can take.
    Lagging,
    /// The database disagrees with what this program has committed: it has lost records, or has
    /// records of this program that were never sent. The trail has a row `audit.gap` for each time,
    /// records that are still in the local log are written again, and new records are committed as
    /// always. This stands in place of [`Healthy`](Self::Healthy) until the program is restarted,
    /// because an operator should look into it. A fault that keeps records from being committed
    /// takes precedence; [`Stats::inconsistencies`](super::Stats::inconsistencies) counts these even then.
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

    /// Returns the state as a word, as used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Retrying => "retrying",
            Self::Holding => "holding",
            Self::SpoolBlocked => "spool_blocked",
            Self::Lagging => "lagging",
            Self::Inconsistent => "inconsistent",
            Self::Stopped => "stopped",
        }
    }
}
