//! The errors of the public surface, one for each boundary. None of them holds a value, a
//! prompt or a SQL text of the host's.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::database::UrlError;

/// An error with its causes, in one line. For errors that hold no value of the host's.
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
/// Its `Debug` reads as its `Display`, with the causes: that is what a `main` prints that returns
/// it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No database was named.
    #[error("no database: set AUDIT_DATABASE_URL or DATABASE_URL, or call Builder::postgres")]
    NoDatabase,
    /// The URL of the database cannot be read. It is not repeated: it may hold a password.
    #[error(
        "the database URL is malformed: it should read postgres://user:password@host:port/database, where a user or \
         password that holds one of / : @ ? # % is percent-encoded"
    )]
    DatabaseUrl,
    /// A parameter in the URL of the database, or a variable that stands for one, is not understood. Its
    /// value is not repeated.
    #[error("{}{parameter}: {why}", of_url(.parameter))]
    DatabaseParameter {
        /// The parameter's name, or the variable's.
        parameter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The URL asks for TLS (`sslmode`), and no feature for it is on.
    #[error("the database URL: {}", crate::database::LACKS_TLS)]
    NoTls,
    /// The local log cannot be opened.
    #[error(
        "cannot open the local log in {folder}: set AUDIT_SPOOL_DIR or Builder::spool to a folder that the program may write"
    )]
    Spool {
        /// The folder that was tried.
        folder: PathBuf,
        /// What the system or the log said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The worker's thread could not be started.
    #[error("cannot start the worker's thread")]
    Thread(#[source] std::io::Error),
    /// The program has a subscriber already.
    #[cfg(feature = "init")]
    #[error("the program has a subscriber already: add Audit::layer to it instead of init()")]
    Subscriber,
    /// What is set for the export to OpenTelemetry cannot be understood or used. No value is
    /// repeated: it may be a secret.
    #[cfg(feature = "otlp")]
    #[error("the export to OpenTelemetry: {setting}: {why}")]
    Otlp {
        /// The variable, or what is set in code.
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

/// Where a parameter stands, before its name; a variable of libpq's says it by its own.
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

/// Why a flush did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The time ran out. Nothing is lost: what is pending stays on its way.
    #[error("not all was committed within {waited:?}: {}", left(*pending, *orphaned_logs, cause.as_deref()))]
    Timeout {
        /// How long was waited.
        waited: Duration,
        /// Records on their way when the time ran out.
        pending: u64,
        /// Logs that earlier processes left in the same folder and that wait as well: they are not part of
        /// `pending`, and a flush does not wait for them. `tracing-audit spool list` says what is in them.
        orphaned_logs: u64,
        /// Why Postgres took no records when the time ran out, as [`Stats::fault`](crate::Stats::fault)
        /// says it; `None`: it takes them.
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

/// Says what is left after a flush.
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

/// Why [`Audit::committed`](crate::Audit::committed) did not say that a record is committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The time ran out: the record is on its way, or its span is still open.
    #[error("the record was not committed within {waited:?}")]
    Timeout {
        /// How long was waited.
        waited: Duration,
    },
    /// Postgres refused the record; it is in `audit.dead_letters` with the reason.
    #[error("Postgres refused the record; see audit.dead_letters")]
    DeadLettered,
    /// The record was dropped, since the queue was full.
    #[error("the record was dropped")]
    Dropped,
    /// The record was committed, the database has lost it since, and the local log no longer has it
    /// ([`DropCause::DatabaseLost`](crate::DropCause::DatabaseLost)).
    #[error("the record was committed, and the database has lost it since")]
    Lost,
    /// The pipeline was shut down before.
    #[error("the audit pipeline was shut down")]
    ShutDown,
    /// Records of this kind are not [`Durability::Required`](crate::Durability::Required), so that
    /// nothing is known of single ones; [`Audit::flush`](crate::Audit::flush) waits for all.
    #[error(
        "records of this kind are not required: set Builder::durability for it, or wait for all with flush"
    )]
    NotRequired,
    /// The id is none that this library gave to a record.
    #[error("the id is no record's: it must be one that audit_id or Audit::record returned")]
    NoRecord,
}

/// Why a record was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The queue had no room within the time to wait ([`WhenFull`](crate::WhenFull)).
    #[error("the audit queue is full")]
    QueueFull,
    /// The pipeline was shut down.
    #[error("the audit pipeline was shut down")]
    ShutDown,
}

/// Why the tables could not be made or brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The URL of the database cannot be read. It is not repeated: it may hold a password.
    #[error(
        "the database URL is malformed: it should read postgres://user:password@host:port/database, where a user or \
         password that holds one of / : @ ? # % is percent-encoded"
    )]
    DatabaseUrl,
    /// A parameter in the URL of the database, or a variable that stands for one, is not understood. Its
    /// value is not repeated.
    #[error("{}{parameter}: {why}", of_url(.parameter))]
    DatabaseParameter {
        /// The parameter's name, or the variable's.
        parameter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The URL asks for TLS (`sslmode`), and no feature for it is on.
    #[error("the database URL: {}", crate::database::LACKS_TLS)]
    NoTls,
    /// The database could not be reached, or refused.
    #[error("the database could not be migrated")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The tables were made by a newer version of this library.
    #[error(
        "the audit tables are of a newer version of tracing-audit (migration {0}): update this program"
    )]
    Newer(i64),
    /// What is there under the trail's names belongs to others, or a right is missing: nothing was
    /// read, run or changed. Says what stands there, whose it is, and the way out.
    #[error("nothing was done, for this is in the way: {0}")]
    NotOurs(String),
    /// A migration that was applied had another text than this program's.
    #[error(
        "migration {0} was applied with another text than this program's: use the version that migrated"
    )]
    Changed(i64),
    /// The database has another encoding than UTF8, and could not hold every text.
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
