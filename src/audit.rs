//! The handle through which a program records, flushes and shuts down.

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
use crate::record::{Escalation, LlmCall, NewRecord, ToolInvocation};
use crate::stats::Stats;

/// Starts an [`Audit`] from the environment.
///
/// | variable | what | default |
/// |---|---|---|
/// | `AUDIT_DATABASE_URL`, else `DATABASE_URL` | the database of the trail | required |
/// | `AUDIT_SPOOL_DIR` | the folder of the local log | see [`Builder::spool`] |
/// | `AUDIT_SERVICE_NAME`, else `OTEL_SERVICE_NAME` | the column `service_name` | the program's name |
/// | `AUDIT_ADOPT`: `gen_ai`, `sqlx`, `http` and variants, separated by commas | what is recorded without a tag; see [`Builder::adopt`] | nothing |
/// | `AUDIT_ACTIVITIES`, separated by commas | which events are activities; see [`Builder::activities`] | none beside the usual ones |
/// | `AUDIT_RECORD_PARAMETERS`, `true` or `1` | whether the field `parameters` of query runs is recorded; see [`Builder::record_parameters`] | no |
/// | `AUDIT_REDACT`: `secrets`, `personal`, `ip`, `sql-literals`, separated by commas (feature `redact`) | what is masked before anything is written; see [`Builder::redact`](Builder) | nothing |
/// | `OTEL_EXPORTER_OTLP_…` (feature `otlp`) | a collector to export to as well; see `Otlp::from_env` | no export |
///
/// # Errors
///
/// [`BuildError`] when no database or a malformed URL is set, when the local log cannot be opened,
/// when no thread can be started, or when the export cannot be set up. An unreachable database is
/// not an error: records are kept until it can be reached.
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

/// Starts an [`Audit`] from the environment and sets the subscriber of the whole program: a log on
/// standard error, filtered by `RUST_LOG` (default `info`), and the audit layer, from which no
/// filter hides anything. Needs feature `init`.
///
/// Warnings and errors about the trail itself, of target `tracing_audit`, are logged even if
/// `RUST_LOG` names other targets alone (`my_app=debug`). `tracing_audit=off` silences them.
///
/// # Errors
///
/// As for [`from_env`]; [`BuildError::Subscriber`] when the program already has a subscriber.
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
    let mut filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    if is_silent_about_us(&directives)
        && let Ok(directive) = "tracing_audit=warn".parse()
    {
        filter = filter.add_directive(directive);
    }
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

/// Whether the directives of an `EnvFilter` name other targets than ours, and no level for the rest.
#[cfg(feature = "init")]
fn is_silent_about_us(directives: &str) -> bool {
    use tracing_subscriber::filter::LevelFilter;

    let mut directives = directives.split(',').map(str::trim).peekable();
    directives.peek().is_some_and(|first| !first.is_empty())
        && directives.all(|directive| {
            !directive.starts_with("tracing_audit") && directive.parse::<LevelFilter>().is_err()
        })
}

#[cfg(feature = "seal")]
impl Builder {
    /// Sets with which key the program seals its trail, and where it publishes that. Default: it does not; a
    /// `tracing-audit seal` somewhere else may. Needs feature `seal`.
    pub fn seal(mut self, seal: impl Into<Option<crate::config::seal::Seal>>) -> Self {
        self.seal = seal.into();
        self
    }
}

impl Builder {
    /// Starts the worker and returns the handle.
    ///
    /// Does not wait for the database, which may come up later than the program.
    ///
    /// # Forking
    ///
    /// Start it after forking: a forked process has none of the worker's threads. Records that it
    /// makes with a handle from before the fork are not written, and `flush`, `shutdown`,
    /// `committed` and dropping the handle return at once. It may start a pipeline of its own. The
    /// parent's records are committed once, by the parent. Both processes hold the lock on the
    /// parent's local log, however: if the parent is killed, its records are committed by the first
    /// process that starts after the forked children have ended as well. A program started with
    /// [`Command`](std::process::Command) does not hold the lock.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when no database or a URL that cannot be parsed is set, when the URL asks for
    /// TLS and this build has none, when the local log cannot be opened, when no thread can be
    /// started, or when the export settings cannot be used.
    pub fn start(self) -> Result<Audit, BuildError> {
        pipeline::start(self.config()?).map(Audit::new)
    }
}

/// The handle of a running audit pipeline.
///
/// It is cheap to clone. Dropping the last clone flushes pending records, for at most
/// [`Builder::drop_timeout`]; so keep one until the end of `main`. Records that are still pending
/// then stay in the local log, and the next process commits them.
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

    /// Returns a builder, to configure the pipeline in code rather than from the environment.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns a layer that turns audit spans into records.
    ///
    /// One subscriber or several can hold several layers of one handle, and layers of several
    /// handles: each layer makes its own record of a span that it sees.
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

    /// Records an action without a span, so that no filter can hide it, and returns the record's
    /// id.
    ///
    /// The record inherits the fields (`request_id`, `tenant_id`, …) of the current span and of
    /// those that enclose it, as a span does, as far as this handle's layer has seen them.
    ///
    /// # Durability
    ///
    /// As for a span: the record is in the local log a few milliseconds later, and in Postgres once
    /// its batch is committed; [`flush`](Self::flush) waits for that.
    ///
    /// # Errors
    ///
    /// [`RecordError::QueueFull`] when the queue had no room within the time to wait,
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

    /// Records a call of a model, and returns the record's id. The same as [`record`](Self::record),
    /// with the usual values in the example.
    ///
    /// # Durability
    ///
    /// As for [`record`](Self::record).
    ///
    /// # Errors
    ///
    /// As for [`record`](Self::record).
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tracing_audit::{LlmCall, Status};
    ///
    /// # let audit = tracing_audit::from_env()?;
    /// let id = audit.log_llm_call(
    ///     LlmCall::new("claude-sonnet")
    ///         .provider("anthropic")
    ///         .user_id("alice")
    ///         .input_summary("How many orders are there?")
    ///         .output_summary("There are 42.")
    ///         .input_token_count(180)
    ///         .output_token_count(12)
    ///         .latency(Duration::from_millis(812))
    ///         .status(Status::Succeeded),
    /// )?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn log_llm_call(&self, call: LlmCall) -> Result<Uuid, RecordError> {
        self.record(call)
    }

    /// Records a call of a tool, and returns the record's id. The same as [`record`](Self::record),
    /// with the usual values in the example.
    ///
    /// # Durability
    ///
    /// As for [`record`](Self::record).
    ///
    /// # Errors
    ///
    /// As for [`record`](Self::record).
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tracing_audit::{Status, ToolInvocation};
    ///
    /// # let audit = tracing_audit::from_env()?;
    /// let id = audit.log_tool_call(
    ///     ToolInvocation::new("search_orders")
    ///         .user_id("alice")
    ///         .arguments(r#"{"customer": "Ada"}"#) // their hash is kept
    ///         .input_summary("the orders of one customer")
    ///         .output_summary("3 orders")
    ///         .latency(Duration::from_millis(20))
    ///         .status(Status::Succeeded),
    /// )?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn log_tool_call(&self, call: ToolInvocation) -> Result<Uuid, RecordError> {
        self.record(call)
    }

    /// Records that an agent called for a person, and returns the record's id. The same as
    /// [`record`](Self::record), with the usual values in the example.
    ///
    /// # Durability
    ///
    /// As for [`record`](Self::record).
    ///
    /// # Errors
    ///
    /// As for [`record`](Self::record).
    ///
    /// ```no_run
    /// use tracing_audit::Escalation;
    ///
    /// # let audit = tracing_audit::from_env()?;
    /// let id = audit.log_escalation(
    ///     Escalation::new("the refund exceeds the limit")
    ///         .escalated_to("billing")
    ///         .severity("high")
    ///         .user_id("alice")
    ///         .input_summary("Refund order 17, 4,200 EUR"),
    /// )?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn log_escalation(&self, escalation: Escalation) -> Result<Uuid, RecordError> {
        self.record(escalation)
    }

    /// Waits until every record accepted before the call is committed in Postgres (or is in
    /// `audit.dead_letters`).
    ///
    /// It does not wait for records that other processes left in their logs. Works on any async
    /// runtime.
    ///
    /// # Errors
    ///
    /// [`FlushError::Timeout`] when that takes longer than `timeout`; no record is lost by it.
    /// [`FlushError::ShutDown`] after the shutdown.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops the waiting.
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

    /// Does the same as [`flush`](Self::flush), blocking the thread. Safe inside and outside any
    /// runtime: the worker has threads of its own.
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

    /// Adds the number of orphaned logs and the fault to the error of a flush that timed out.
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
    /// [`Durability::Required`](crate::Durability::Required), so that a program can answer its user
    /// only after the trail has the record. The id comes from
    /// [`audit_id`](crate::AuditSpanExt::audit_id) or from [`record`](Self::record).
    ///
    /// The record exists once its span is closed; until then this waits for that. As soon as this
    /// returns `Ok`, the program can insert a row of its own with a foreign key to the record. The
    /// handle remembers its last 65,536 records of required kinds: for older ones, and for other
    /// handles' records, this waits until the time-out.
    ///
    /// # Errors
    ///
    /// [`CommitError`] says why the record is not, or not yet, committed. After a
    /// [`Timeout`](CommitError::Timeout) the record is still pending. Returns at once with
    /// [`NotRequired`](CommitError::NotRequired) for a record of a kind that is not required, and
    /// with [`NoRecord`](CommitError::NoRecord) for an id that is not a record's.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops the waiting.
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

    /// Does the same as [`committed`](Self::committed), blocking the thread.
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

    /// Flushes for at most `timeout`, then stops the pipeline. Later records are counted as
    /// dropped, by [`DropCause::ShutDown`](crate::DropCause::ShutDown). Runs that are still open
    /// get a record with the error code `shut_down` and are not counted again when they end.
    ///
    /// Records that could not be committed in time stay in the local log, and the next process
    /// commits them. A second call returns the report of the first. An exchange with the database
    /// that is in flight at the end of `timeout` gets a quarter of a second more; a disk that hangs
    /// delays the return by 3 s. When everything is committed, the database is asked once more, for
    /// at most a second of `timeout`, whether it still has it; if not, the local log stays, and the
    /// next process reports the loss in the trail.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the shutdown continues even if the future is dropped.
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

    /// Does the same as [`shutdown`](Self::shutdown), blocking the thread. Safe inside and outside
    /// any runtime.
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

    /// Returns a snapshot of the counters and the health.
    pub fn stats(&self) -> Stats {
        Stats::take(&self.intake().counters, &self.intake().queue)
    }
}

/// The outcome of all records at the shutdown of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Records committed in Postgres.
    pub committed: u64,
    /// Records that stay in the local log, for the next process to commit.
    pub spooled: u64,
    /// Records that Postgres refused, in `audit.dead_letters`.
    pub dead_lettered: u64,
    /// Records that were dropped; [`Stats::dropped_by`] gives the causes.
    pub dropped: u64,
    /// Orphaned logs in the same folder: earlier processes left them, they were there when this
    /// process began, and they are not committed yet. Their records are not part of the numbers
    /// above. The next process to start in the folder commits them, or `tracing-audit spool drain`
    /// does; `tracing-audit spool list` shows what they hold.
    pub orphaned_logs: u64,
    /// Bytes of the orphaned logs on disk.
    pub orphaned_bytes: u64,
}
