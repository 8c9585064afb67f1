//! The handle that a program holds.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;
use uuid::Uuid;

use crate::config::Builder;
use crate::error::{BuildError, CommitError, FlushError, RecordError};
use crate::intake::Intake;
use crate::layer::{self, AuditLayer};
use crate::pipeline::{self, Pipeline, patience};
use crate::record::NewRecord;
use crate::stats::Stats;

/// Starts an [`Audit`] from the environment.
///
/// | variable | what | default |
/// |---|---|---|
/// | `AUDIT_DATABASE_URL`, else `DATABASE_URL` | the database of the trail | required |
/// | `AUDIT_SPOOL_DIR` | the folder of the local log | see [`Builder::spool`] |
/// | `AUDIT_SERVICE_NAME`, else `OTEL_SERVICE_NAME` | the column `service_name` | the program's name |
/// | `OTEL_EXPORTER_OTLP_…` (feature `otlp`) | a collector to export to as well; see `Otlp::from_env` | no export |
///
/// # Errors
///
/// [`BuildError`] when no database or a malformed URL is set, when the local log cannot be
/// opened, when no thread can be started, or when the export cannot be set up. A database that cannot be reached is no error:
/// records are kept until it can.
///
/// ```no_run
/// use tracing_subscriber::prelude::*;
///
/// let audit = tracing_audit::from_env()?;
/// tracing_subscriber::registry()
///     .with(audit.layer())
///     .with(tracing_subscriber::fmt::layer())
///     .init();
/// # Ok::<(), tracing_audit::BuildError>(())
/// ```
pub fn from_env() -> Result<Audit, BuildError> {
    Builder::from_env()?.start()
}

/// Starts an [`Audit`] from the environment, and sets a subscriber for the whole program: a log
/// on standard error, filtered by `RUST_LOG` (default `info`), and the audit layer, which no
/// filter hides anything from. Needs feature `init`.
///
/// # Errors
///
/// As for [`from_env`]; [`BuildError::Subscriber`] when the program has a subscriber already.
///
/// ```no_run
/// let audit = tracing_audit::init()?;
/// tracing::info!("ready");
/// # drop(audit);
/// # Ok::<(), tracing_audit::BuildError>(())
/// ```
#[cfg(feature = "init")]
pub fn init() -> Result<Audit, BuildError> {
    use tracing_subscriber::filter::{EnvFilter, LevelFilter};
    use tracing_subscriber::prelude::*;

    let audit = from_env()?;
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(filter);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(log)
        .try_init()
        .map_err(|_| BuildError::Subscriber)?;
    Ok(audit)
}

impl Builder {
    /// Starts the worker and returns the handle.
    ///
    /// Does not wait for the database: it may come up later than the program.
    ///
    /// # Forking
    ///
    /// Start it after forking: a forked process has none of the worker's threads. What it records
    /// with a handle from before the fork goes nowhere, and `flush`, `shutdown`, `committed` and
    /// dropping the handle return at once. It may start a pipeline of its own. What its parent
    /// records stays the parent's, once; only the lock on the parent's local log is held by both,
    /// so that what a killed parent left is committed by the first process that is started after
    /// its forked children have ended as well. A program that is started with
    /// [`Command`](std::process::Command) does not hold it.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when no database or a URL that is not understood is set, when it asks for TLS
    /// and this build has none, when the local log cannot be
    /// opened, when no thread can be started, or when what is set for the export cannot be used.
    pub fn start(self) -> Result<Audit, BuildError> {
        pipeline::start(self.config()?).map(Audit::new)
    }
}

/// The handle of a running audit pipeline.
///
/// It is cheap to clone. When the last clone is dropped, what is pending is flushed, for at
/// most [`Builder::drop_timeout`]; so keep one until the end of `main`. What is still pending
/// then is in the local log and is committed by the next process.
#[derive(Clone)]
pub struct Audit {
    pipeline: Arc<Pipeline>,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Audit {
    fn new(pipeline: Pipeline) -> Self {
        Self {
            pipeline: Arc::new(pipeline),
        }
    }

    pub(crate) fn intake(&self) -> &Arc<Intake> {
        self.pipeline.intake()
    }

    /// Returns a builder, for what is set in code rather than in the environment.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Makes the layer that turns audit spans into records.
    ///
    /// Several layers of one handle, and layers of several handles, can be in one subscriber or
    /// in several: each layer makes its own record of a span that it sees.
    ///
    /// ```no_run
    /// use tracing_subscriber::prelude::*;
    ///
    /// # let audit = tracing_audit::from_env()?;
    /// tracing_subscriber::registry().with(audit.layer()).init();
    /// # Ok::<(), tracing_audit::BuildError>(())
    /// ```
    pub fn layer<S>(&self) -> AuditLayer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        layer::new(Arc::clone(self.intake()))
    }

    /// Records without a span, so that no filter can hide it, and returns the record's id.
    ///
    /// What the current span and those that enclose it say (`request_id`, `tenant_id`, …) is
    /// inherited, as for a span, as far as this handle's layer has seen them.
    ///
    /// # Durability
    ///
    /// As for a span: the record is in the local log a few milliseconds later, and in Postgres
    /// when the batch is committed; [`flush`](Self::flush) waits for that.
    ///
    /// # Errors
    ///
    /// [`RecordError::QueueFull`] when there was no room within the time to wait,
    /// [`RecordError::ShutDown`] after the shutdown. The record is counted as dropped.
    ///
    /// ```no_run
    /// use tracing_audit::{Event, Status};
    ///
    /// # let audit = tracing_audit::from_env()?;
    /// let id = audit.record(
    ///     Event::new("report.exported")
    ///         .target("report", "2026-10")
    ///         .request_id("req-7")
    ///         .status(Status::Succeeded)
    ///         .metadata("format", "pdf"),
    /// )?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record(&self, record: impl Into<NewRecord>) -> Result<Uuid, RecordError> {
        self.intake().record(&record.into())
    }

    /// Waits until what was accepted before the call is committed in Postgres (or is in
    /// `audit.dead_letters`).
    ///
    /// Needs no particular runtime.
    ///
    /// # Errors
    ///
    /// [`FlushError::Timeout`] when that takes longer than `timeout`; nothing is lost by it.
    /// [`FlushError::ShutDown`] after the shutdown.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the waiting and nothing else.
    ///
    /// ```no_run
    /// # async fn run(audit: tracing_audit::Audit) -> Result<(), tracing_audit::FlushError> {
    /// audit.flush(std::time::Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let (reply, replied) = tokio::sync::oneshot::channel();
        self.intake()
            .flush(timeout, Box::new(move |result| drop(reply.send(result))));
        let flushed = replied.await.unwrap_or(Err(FlushError::ShutDown));
        flushed.map_err(|error| self.explain(error))
    }

    /// The same as [`flush`](Self::flush), blocking the thread. Safe in and outside any runtime:
    /// the worker has threads of its own.
    ///
    /// # Errors
    ///
    /// As for [`flush`](Self::flush).
    pub fn flush_blocking(&self, timeout: Duration) -> Result<(), FlushError> {
        let (reply, replied) = std::sync::mpsc::sync_channel(1);
        self.intake().flush(
            timeout,
            Box::new(move |result| drop(reply.try_send(result))),
        );
        let flushed = match replied.recv_timeout(patience(timeout)) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(FlushError::ShutDown),
            Err(RecvTimeoutError::Timeout) => {
                Err(FlushError::timeout(timeout, self.stats().pending()))
            }
        };
        flushed.map_err(|error| self.explain(error))
    }

    /// Adds what else waits, and why, to a flush that took too long.
    fn explain(&self, error: FlushError) -> FlushError {
        match error {
            FlushError::Timeout {
                waited, pending, ..
            } => FlushError::Timeout {
                waited,
                pending,
                orphaned_logs: self.intake().counters.orphans().0,
                cause: self.stats().fault().map(Arc::from),
            },
            error => error,
        }
    }

    /// Waits until the record with this id is committed in Postgres, for kinds that are
    /// [`Durability::Required`](crate::Durability::Required): so that a program can answer its
    /// user only after the trail has it. The id is that of
    /// [`audit_id`](crate::AuditSpanExt::audit_id) or of [`record`](Self::record).
    ///
    /// The record is there once its span is closed; until then this waits for that. A row of the
    /// program's own with a foreign key to it can be inserted as soon as this returns `Ok`. Of what
    /// was committed long ago (65,536 records), and of other handles' records, nothing is known:
    /// this waits for them until the time is over.
    ///
    /// # Errors
    ///
    /// [`CommitError`] says why it is not, or not yet, committed. After a
    /// [`Timeout`](CommitError::Timeout) the record is still on its way. At once,
    /// [`NotRequired`](CommitError::NotRequired) for a record of a kind that is not required, and
    /// [`NoRecord`](CommitError::NoRecord) for an id that is no record's.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the waiting and nothing else.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tracing_audit::{Audit, AuditFutureExt, AuditSpanExt};
    ///
    /// # async fn pay() -> Result<(), std::io::Error> { Ok(()) }
    /// async fn transfer(audit: &Audit) -> Result<(), Box<dyn std::error::Error>> {
    ///     let span = tracing::info_span!("audit.event", action_type = "transfer");
    ///     let id = span.audit_id();
    ///     let paid = pay().audited(span).await; // closes the span, with the outcome
    ///     if let Some(id) = id {
    ///         audit.committed(id, Duration::from_secs(2)).await?;
    ///     }
    ///     Ok(paid?)
    /// }
    /// # let _ = transfer;
    /// ```
    pub async fn committed(&self, id: Uuid, timeout: Duration) -> Result<(), CommitError> {
        let (reply, replied) = tokio::sync::oneshot::channel();
        self.intake().committed(
            id,
            timeout,
            Box::new(move |result| drop(reply.send(result))),
        );
        replied.await.unwrap_or(Err(CommitError::ShutDown))
    }

    /// The same as [`committed`](Self::committed), blocking the thread.
    ///
    /// # Errors
    ///
    /// As for [`committed`](Self::committed).
    pub fn committed_blocking(&self, id: Uuid, timeout: Duration) -> Result<(), CommitError> {
        let (reply, replied) = std::sync::mpsc::sync_channel(1);
        self.intake().committed(
            id,
            timeout,
            Box::new(move |result| drop(reply.try_send(result))),
        );
        match replied.recv_timeout(patience(timeout)) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(CommitError::ShutDown),
            Err(RecvTimeoutError::Timeout) => Err(CommitError::Timeout { waited: timeout }),
        }
    }

    /// Flushes for at most `timeout`, then stops the pipeline: what is recorded afterwards is
    /// counted as dropped, by [`DropCause::ShutDown`](crate::DropCause::ShutDown). Runs that are
    /// open have a record, with the error code `shut_down`, and are not counted again when they end.
    ///
    /// What could not be committed in time stays in the local log, and the next process commits
    /// it. A second call returns the first one's report. An exchange with the database that is under
    /// way at the end of `timeout` gets a quarter of a second more; a disk that hangs holds the call up
    /// for 3 s.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the shutdown goes on when the future is dropped.
    ///
    /// ```no_run
    /// # async fn run(audit: tracing_audit::Audit) {
    /// let report = audit.shutdown(std::time::Duration::from_secs(10)).await;
    /// if report.spooled > 0 {
    ///     eprintln!("{} records are left for the next start", report.spooled);
    /// }
    /// # }
    /// ```
    pub async fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let (reply, replied) = tokio::sync::oneshot::channel();
        self.intake().shutdown(
            timeout,
            Box::new(move |()| {
                let _ = reply.send(());
            }),
        );
        let _ = replied.await;
        self.report()
    }

    /// The same as [`shutdown`](Self::shutdown), blocking the thread. Safe in and outside any
    /// runtime.
    pub fn shutdown_blocking(&self, timeout: Duration) -> ShutdownReport {
        self.pipeline.shutdown_blocking(timeout);
        self.report()
    }

    fn report(&self) -> ShutdownReport {
        let stats = self.stats();
        let (orphaned_logs, orphaned_bytes) = self.intake().counters.orphans();
        ShutdownReport {
            committed: stats.committed(),
            spooled: stats.pending(),
            dead_lettered: stats.dead_lettered(),
            dropped: stats.dropped(),
            orphaned_logs,
            orphaned_bytes,
        }
    }

    /// Returns what became of the records so far.
    pub fn stats(&self) -> Stats {
        Stats::take(&self.intake().counters, &self.intake().queue)
    }
}

/// What became of all records, when the pipeline was shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Records committed in Postgres.
    pub committed: u64,
    /// Records that are left in the local log, for the next process to commit.
    pub spooled: u64,
    /// Records that Postgres refused, in `audit.dead_letters`.
    pub dead_lettered: u64,
    /// Records given up; [`Stats::dropped_by`] says why.
    pub dropped: u64,
    /// Logs in the same folder that earlier processes left, as far as they were there when this one began, and that
    /// are not committed yet: what they hold is not part of the numbers above. The next process to start there commits it, or `tracing-audit spool drain`;
    /// `tracing-audit spool list` says what it is.
    pub orphaned_logs: u64,
    /// Bytes of these logs on the disk.
    pub orphaned_bytes: u64,
}
