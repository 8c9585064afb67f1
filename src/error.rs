//! The errors of the public API, one enum per boundary. None of them holds a value, a prompt or SQL
//! text of the host's.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::database::UrlError;

/// Returns an error and its causes in one line. Only for errors that hold no value of the host's.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

/// Why an [`Audit`](crate::Audit) could not be started.
///
/// `Debug` prints the same text as `Display`, followed by the causes: that is what a `main` prints
/// when it returns this error.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No database is configured.
    #[error("no database: set AUDIT_DATABASE_URL or DATABASE_URL, or call Builder::postgres")]
    NoDatabase,
    /// The database URL cannot be parsed. It is not repeated, because it may hold a password.
    #[error(
        "the database URL is malformed: it should read postgres://user:password@host:port/database, where a user or \
         password that holds one of / : @ ? # % is percent-encoded"
    )]
    DatabaseUrl,
    /// A parameter in the database URL, or an environment variable that stands for one, is invalid.
    /// Its value is not repeated.
    #[error("{}{parameter}: {why}", of_url(.parameter))]
    DatabaseParameter {
        /// The name of the parameter or of the variable.
        parameter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The URL asks for TLS (`sslmode`), but no TLS feature is enabled.
    #[error("the database URL: {}", crate::database::LACKS_TLS)]
    NoTls,
    /// The local log cannot be opened.
    #[error(
        "cannot open the local log in {folder}: set AUDIT_SPOOL_DIR or Builder::spool to a folder that the program may write"
    )]
    Spool {
        /// The folder that was tried.
        folder: PathBuf,
        /// The error of the operating system or of the log.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A word in the environment variable `AUDIT_ADOPT` is unknown.
    #[error(
        "AUDIT_ADOPT: a word is none of gen_ai, gen_ai.whole_messages, sqlx, sqlx.every_statement and http, separated by commas"
    )]
    Adopt,
    /// The rules of [`Builder::redact`](crate::Builder::redact), or those in the environment, cannot be
    /// used.
    #[cfg(feature = "redact")]
    #[error("redaction")]
    Redact(#[from] crate::redact::RedactionError),
    /// `AUDIT_REDACT` is set, and the program is built without feature `redact`.
    #[error("AUDIT_REDACT is set: it needs feature redact of tracing-audit")]
    NoRedaction,
    /// The worker thread could not be started.
    #[error("cannot start the worker's thread")]
    Thread(#[source] std::io::Error),
    /// The program already has a subscriber.
    #[cfg(feature = "init")]
    #[error("the program has a subscriber already: add Audit::layer to it instead of init()")]
    Subscriber,
    /// The settings of the sealer cannot be used. No value is repeated, because it may be a secret.
    #[cfg(feature = "seal")]
    #[error("the sealer: {setting}: {why}")]
    Seal {
        /// What was set.
        setting: String,
        /// What is wrong with it.
        why: String,
    },
    /// The settings of the OpenTelemetry export are invalid or cannot be used. No value is
    /// repeated, because it may be a secret.
    #[cfg(feature = "otlp")]
    #[error("the export to OpenTelemetry: {setting}: {why}")]
    Otlp {
        /// The environment variable, or the setting made in code.
        setting: String,
        /// What is wrong with it.
        why: String,
    },
}

impl std::fmt::Debug for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&causes(self))
    }
}

/// Returns what precedes a parameter's name in a message: the URL, or "environment variable" for
/// one of libpq's.
fn of_url(parameter: &str) -> &'static str {
    if parameter.starts_with("PG") {
        "the environment variable "
    } else {
        "the database URL: "
    }
}

impl From<UrlError> for BuildError {
    fn from(error: UrlError) -> Self {
        match error {
            UrlError::Scheme | UrlError::Malformed(_) => Self::DatabaseUrl,
            UrlError::Parameter { name, why } => Self::DatabaseParameter {
                parameter: name,
                why: why.to_owned(),
            },
        }
    }
}

/// Why a flush failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The time ran out. Nothing is lost: the pending records stay in flight.
    #[error("not all was committed within {waited:?}: {}", left(*pending, *orphaned_logs, cause.as_deref()))]
    Timeout {
        /// How long the flush waited.
        waited: Duration,
        /// The number of records in flight when the time ran out.
        pending: u64,
        /// The number of orphaned logs: logs that earlier processes left in the same folder and
        /// that are still to be delivered. They are not part of `pending`, and a flush does not
        /// wait for them. `tracing-audit spool list` shows what is in them.
        orphaned_logs: u64,
        /// Why Postgres did not accept records when the time ran out, as in
        /// [`Stats::fault`](crate::Stats::fault); `None` if it accepts them.
        cause: Option<Arc<str>>,
    },
    /// The pipeline was shut down.
    #[error("the audit pipeline was shut down")]
    ShutDown,
}

impl FlushError {
    pub(crate) fn timeout(waited: Duration, pending: u64) -> Self {
        Self::Timeout {
            waited,
            pending,
            orphaned_logs: 0,
            cause: None,
        }
    }
}

/// Describes what is still pending after a flush.
fn left(pending: u64, orphaned_logs: u64, cause: Option<&str>) -> String {
    let mut text = format!("{pending} {} still pending", records(pending));
    if orphaned_logs > 0 {
        let noun = if orphaned_logs == 1 { "log" } else { "logs" };
        let _ = write!(text, ", beside {orphaned_logs} {noun} of earlier processes");
    }
    if let Some(cause) = cause {
        text.push_str("; ");
        text.push_str(cause);
    }
    text
}

fn records(count: u64) -> &'static str {
    if count == 1 {
        "record is"
    } else {
        "records are"
    }
}

/// Why [`Audit::committed`](crate::Audit::committed) did not confirm that a record is committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The time ran out: the record is still in flight, or its span is still open.
    #[error("the record was not committed within {waited:?}")]
    Timeout {
        /// How long the call waited.
        waited: Duration,
    },
    /// Postgres refused the record; it is in `audit.dead_letters` with the reason.
    #[error("Postgres refused the record; see audit.dead_letters")]
    DeadLettered,
    /// The record was dropped because the queue was full.
    #[error("the record was dropped")]
    Dropped,
    /// The record was committed, the database has lost it since, and the local log no longer has it
    /// ([`DropCause::DatabaseLost`](crate::DropCause::DatabaseLost)).
    #[error("the record was committed, and the database has lost it since")]
    Lost,
    /// The pipeline was shut down first.
    #[error("the audit pipeline was shut down")]
    ShutDown,
    /// Records of this kind are not [`Durability::Required`](crate::Durability::Required), so
    /// single records are not tracked; [`Audit::flush`](crate::Audit::flush) waits for all.
    #[error(
        "records of this kind are not required: set Builder::durability for it, or wait for all with flush"
    )]
    NotRequired,
    /// The id is not one that this library gave to a record.
    #[error("the id is no record's: it must be one that audit_id or Audit::record returned")]
    NoRecord,
}

/// Why a record was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The queue stayed full for the whole waiting time ([`WhenFull`](crate::WhenFull)).
    #[error("the audit queue is full")]
    QueueFull,
    /// The pipeline was shut down.
    #[error("the audit pipeline was shut down")]
    ShutDown,
}

/// Why the tables could not be created or brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The database URL cannot be parsed. It is not repeated, because it may hold a password.
    #[error(
        "the database URL is malformed: it should read postgres://user:password@host:port/database, where a user or \
         password that holds one of / : @ ? # % is percent-encoded"
    )]
    DatabaseUrl,
    /// A parameter in the database URL, or an environment variable that stands for one, is invalid.
    /// Its value is not repeated.
    #[error("{}{parameter}: {why}", of_url(.parameter))]
    DatabaseParameter {
        /// The name of the parameter or of the variable.
        parameter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The URL asks for TLS (`sslmode`), but no TLS feature is enabled.
    #[error("the database URL: {}", crate::database::LACKS_TLS)]
    NoTls,
    /// The database could not be reached, or returned an error.
    #[error("the database could not be migrated")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The tables were created by a newer version of this library.
    #[error(
        "the audit tables are of a newer version of tracing-audit (migration {0}): update this program"
    )]
    Newer(i64),
    /// Something under the trail's names belongs to others, or a right is missing: nothing was
    /// read, run or changed. The text says what is in the way, who owns it and what to do.
    #[error("nothing was done, for this is in the way: {0}")]
    NotOurs(String),
    /// An applied migration has a different text from this program's.
    #[error(
        "migration {0} was applied with another text than this program's: use the version that migrated"
    )]
    Changed(i64),
    /// The database's encoding is not UTF8, so it could not hold every text.
    #[error("the database's encoding is not UTF8: make one with ENCODING 'UTF8'")]
    Encoding,
    /// The thread for the work could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl From<UrlError> for MigrateError {
    fn from(error: UrlError) -> Self {
        match error {
            UrlError::Scheme | UrlError::Malformed(_) => Self::DatabaseUrl,
            UrlError::Parameter { name, why } => Self::DatabaseParameter {
                parameter: name,
                why: why.to_owned(),
            },
        }
    }
}
