//! The program's errors, worded for the person at the terminal.
//!
//! A message never holds the database's password, a statement's parameter or text of a record.

use std::io;
use std::path::PathBuf;

use sqlx::error::DatabaseError;
use tracing_audit::__program::ledger::checkpoint::CheckpointError;
use tracing_audit::__program::ledger::evidence::ProofError;
use tracing_audit::__program::ledger::key::KeyError;
use tracing_audit::__program::{Unreachable, UrlError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No database URL was given.
    #[error("no database is named: use --url, or set AUDIT_DATABASE_URL or DATABASE_URL")]
    NoUrl,
    /// The URL is not a Postgres URL.
    #[error("the database URL does not begin with postgres://")]
    NotPostgres,
    /// The URL cannot be parsed.
    #[error("{}", of_url(.0))]
    BadUrl(UrlError),
    /// The database could not be reached, or refused the login.
    #[error("cannot connect to {database}: {}", .why.cause())]
    Connect {
        /// Where the database is.
        database: String,
        /// The cause.
        why: Unreachable,
    },
    /// The signing key cannot be used.
    #[error("the key in {place}: {source}")]
    Key {
        /// The file, or the environment variable.
        place: String,
        /// The cause, and what to do.
        source: io::Error,
    },
    /// The token with the signing key cannot be used.
    #[cfg(feature = "pkcs11")]
    #[error(transparent)]
    Token(#[from] crate::token::TokenError),
    /// An anchor is none.
    #[error("--anchor: {0}")]
    Anchor(&'static str),
    /// A witness is none.
    #[error("--witness: {0}")]
    Witness(String),
    /// A key of a log is none.
    #[error("--log: the key {0}")]
    WitnessedKey(&'static str),
    /// The key of a witness is none.
    #[error(
        "--witness-key: the key of {0} is a log's, not a witness's: take the one that `tracing-audit witness` prints"
    )]
    NoWitnessKey(String),
    /// What a witness knows cannot be used.
    #[error("the state in {}: {source}", .path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// The cause, and what to do.
        source: io::Error,
    },
    /// The page cannot be served.
    #[error(transparent)]
    Serve(#[from] crate::serve::ServeError),
    /// There is no archive, or nothing more of one.
    #[cfg(feature = "archive")]
    #[error(transparent)]
    Archive(#[from] crate::archive::ArchiveError),
    /// There is no export.
    #[error(transparent)]
    Export(#[from] crate::export::ExportError),
    /// The address is not to be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The program was built without what this needs.
    #[error("{0}: {1}")]
    Lacking(&'static str, &'static str),
    /// A bucket is none.
    #[cfg(feature = "s3")]
    #[error("{0}")]
    BucketUrl(&'static str),
    /// A bucket cannot be read, or written to.
    #[cfg(feature = "s3")]
    #[error("{0}")]
    Bucket(tracing_audit::__program::seal::AnchorError),
    /// What is archived is not locked.
    #[cfg(feature = "archive")]
    #[error(transparent)]
    Lock(#[from] crate::archive::LockError),
    /// No checkpoint is published there.
    #[cfg(feature = "s3")]
    #[error("{0} has no checkpoint: publish one with `tracing-audit seal --anchor {0}`")]
    NotPublished(String),
    /// Nothing was sealed.
    #[error(transparent)]
    Seal(#[from] tracing_audit::__program::seal::SealError),
    /// No rules of redaction were given.
    #[cfg(feature = "redact")]
    #[error("there are no rules: set AUDIT_REDACT, or use --presets secrets,personal")]
    NoRules,
    /// A word of `--presets` is unknown.
    #[cfg(feature = "redact")]
    #[error(
        "--presets: a word is none of secrets, personal, ip and sql-literals, separated by commas"
    )]
    Presets,
    /// The rules of redaction cannot be used.
    #[cfg(feature = "redact")]
    #[error(transparent)]
    Redact(#[from] tracing_audit::redact::RedactionError),
    /// A checkpoint is given, and no key.
    #[error("a checkpoint is verified with the log's key: give --key")]
    NoKey,
    /// The keys are of two logs.
    #[error("the keys are of two logs, {} and {}: all keys of a log have its name", .names[0], .names[1])]
    KeysOfTwoLogs {
        /// The names of the logs.
        names: [String; 2],
    },
    /// An old key is not one of the log.
    #[error("--old-key: {0}")]
    OldKey(String),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// There is no checkpoint.
    #[error("there is no checkpoint yet: run `tracing-audit seal`, or give --checkpoint")]
    NoCheckpoint,
    /// A checkpoint is not the log's.
    #[error("the checkpoint cannot be trusted: {source}")]
    Checkpoint {
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// What the trail has of a record is not what was sealed.
    #[error(
        "a record, or another of its batch, is not as it was sealed, so nothing can be proven: run `tracing-audit verify`"
    )]
    NotProven,
    /// A proof proves nothing.
    #[error("{}: {}", .path.display(), causes(.source))]
    NoProof {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ProofError>,
    },
    /// A verifier key cannot be read.
    #[error("this is no verifier key (NAME+ID+BASE64): {source}")]
    VerifierKey {
        /// What is wrong with it.
        source: KeyError,
    },
    /// The text to be redacted cannot be read.
    #[cfg(feature = "redact")]
    #[error("cannot read {}: {source}", .path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file of accepted findings cannot be used.
    #[error("{}: {why}; it must hold a JSON array of {{\"check\", \"object\", \"reason\"}}", .path.display())]
    Accepted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The database did not answer in time.
    #[error("{database} did not answer within {seconds} s")]
    NoAnswer {
        /// Where the database is.
        database: String,
        /// The time limit.
        seconds: u64,
    },
    /// The audit tables do not exist.
    #[error(
        "there is no audit trail in {database}: run `tracing-audit migrate` to make its tables, \
         or name the right database"
    )]
    NoTables {
        /// Where the database is.
        database: String,
    },
    /// The role reads a single tenant's rows, and no tenant is set.
    #[error(
        "this role reads one tenant's rows in {database}, and none is named: name it with --tenant"
    )]
    NoTenant {
        /// Where the database is.
        database: String,
    },
    /// An object in the trail's place belongs to someone else, so nothing was read.
    #[error(
        "the audit trail in {database} was not read: {what}, and reading it might run that role's code with your rights; \
         look at it with `tracing-audit doctor`, and give it back to audit_owner (functions: audit_maintainer) or move it away"
    )]
    NotOurs {
        /// Where the database is.
        database: String,
        /// The object and its owner.
        what: String,
    },
    /// A read failed.
    #[error("cannot read the audit trail in {database}: {}{}", cause(.source), advice(.source))]
    Read {
        /// Where the database is.
        database: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// The search exceeded its time limit.
    #[error(
        "looking through the audit trail in {database} was stopped, after 15 s at most: name a narrower time with \
         --since and --until, or a tenant with --tenant"
    )]
    TooMuch {
        /// Where the database is.
        database: String,
    },
    /// The value of a time option is not a valid time.
    #[error(
        "{option} is no time between 1970 and 9999: write 2026-01-31, or 2026-01-31T12:00Z; without a zone it is UTC"
    )]
    BadTime {
        /// The option.
        option: &'static str,
    },
    /// The time range is empty.
    #[error("--until is not after --since (7 days before --until or now, when it is not given)")]
    NoSpan,
    /// A change failed.
    #[error("cannot {what} in {database}: {}{}", cause(.source), change_advice(.source))]
    Change {
        /// The change, such as "remove a partition".
        what: &'static str,
        /// Where the database is.
        database: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// The trail was not removed.
    #[error("the audit trail in {database} was not removed: {why}")]
    Kept {
        /// Where the database is.
        database: String,
        /// Why.
        why: String,
    },
    /// A query of `doctor` failed.
    #[error("cannot look into {database}: {}", cause(.source))]
    Look {
        /// Where the database is.
        database: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// The schema could not be created or brought up to date.
    #[error("cannot migrate {database}: {}", chain(.source))]
    Migrate {
        /// Where the database is.
        database: String,
        /// The cause.
        source: tracing_audit::MigrateError,
    },
    /// A login could not be granted its role.
    #[error("cannot make the login {login} {role} in {database}: {}", cause(.source))]
    Grant {
        /// The login.
        login: String,
        /// The role that the login was to become a member of.
        role: String,
        /// Where the database is.
        database: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// A folder of local logs cannot be read.
    #[error("cannot read the local logs in {folder}: {source}")]
    Spool {
        /// The folder.
        folder: String,
        /// The system's error.
        source: io::Error,
    },
    /// Local logs cannot be drained into this database.
    #[error("cannot drain: {0}")]
    Drain(#[source] tracing_audit::BuildError),
    /// There is no collector to export to.
    #[cfg(feature = "otlp")]
    #[error(
        "no collector is named: set OTEL_EXPORTER_OTLP_ENDPOINT as for the program that wrote the logs"
    )]
    NoCollector,
    /// A login does not exist.
    #[error(
        "there is no login {login} in {database}, so nothing was migrated: make it with CREATE ROLE … LOGIN, or name the right one"
    )]
    NoLogin {
        /// The login.
        login: String,
        /// Where the database is.
        database: String,
    },
    /// Some records could not be printed as JSON.
    #[error(
        "{records} of the records could not be read whole: in their place stands an object with the field \"unread\", which says why"
    )]
    Unread {
        /// How many.
        records: usize,
    },
    /// Nothing was found.
    #[error("{0}")]
    NothingFound(String),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The runtime or the signal handler could not be set up.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

/// Returns an error's message with those of its causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

impl Error {
    /// Returns the process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NothingFound(_) | Self::NotProven | Self::NoProof { .. } => 1,
            #[cfg(feature = "pkcs11")]
            Self::Token(error) if error.is_about_pin() => 3,
            _ => 2,
        }
    }

    /// Whether the reader of our output has closed the pipe.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether a retry over a new connection may succeed.
    pub(crate) fn is_lost_connection(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Connect { why, .. } => match why.sqlstate() {
                Some(sqlstate) => is_passing(sqlstate),
                None => !why.is_to_mend(),
            },
            Self::Read { source, .. } => match source {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
                sqlx::Error::Database(error) => is_passing(&error.code().unwrap_or_default()),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Describes an error in the database URL, or in a libpq environment variable that supplies a part
/// the URL lacks.
fn of_url(error: &UrlError) -> String {
    match error {
        UrlError::Parameter { name, .. } if name.starts_with("PG") => {
            format!("the environment variable {error}")
        }
        error => format!("the database URL is not understood: {error}"),
    }
}

/// Whether the database will recover from this error by itself.
fn is_passing(code: &str) -> bool {
    // Connection failures, conflicts (such as with recovery on a standby), insufficient resources,
    // a lock timeout, shutdown or startup, the server's own I/O errors.
    ["08", "40", "53", "55P03", "57P", "58"]
        .iter()
        .any(|class| code.starts_with(class))
}

/// Returns the cause alone: sqlx puts "error returned from database:" before it.
fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} (SQLSTATE {code})", error.message()),
            None => error.message().to_owned(),
        },
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) | sqlx::Error::Tls(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Returns advice for the user, where there is any.
fn advice(error: &sqlx::Error) -> &'static str {
    let code = match error {
        sqlx::Error::Database(error) => error.code().unwrap_or_default(),
        _ => return "",
    };
    match code.as_ref() {
        "42703" | "42883" => {
            "; the audit tables are those of another version: run `tracing-audit migrate`, or use the command line of the version that writes them"
        }
        "42501" => "; connect as a role that may read the audit trail",
        "3F000" | "42P01" => {
            "; a partition may have been removed meanwhile: run this again, and look with `tracing-audit doctor` if it stays"
        }
        _ => "",
    }
}

/// Returns advice for a failed change.
fn change_advice(error: &sqlx::Error) -> &'static str {
    match error.as_database_error().and_then(DatabaseError::code) {
        Some(code) if code == "42501" => {
            "; connect as a member of audit_operator (retain, settle, hold), audit_auditor (hold, release, \
             --purpose) or audit_reader (--purpose)"
        }
        _ => advice(error),
    }
}

/// Formats an error and its causes as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        // Many errors repeat their source's message.
        if !sentence.contains(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        source = error.source();
    }
    sentence
}
