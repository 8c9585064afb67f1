//! What can go wrong, in sentences for the person at the terminal.
//!
//! A sentence never holds the database's password, a parameter of a statement or
//! text of a record.

use std::io;
use std::path::PathBuf;

use sqlx::error::DatabaseError;

use crate::trail::{Unreachable, UrlError};

/// Why a command ended without doing what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No database was named.
    #[error("no database is named: use --url, or set AUDIT_DATABASE_URL or DATABASE_URL")]
    NoUrl,
    /// The URL is of another kind of database.
    #[error("the database URL does not begin with postgres://")]
    NotPostgres,
    /// The URL cannot be read as one.
    #[error("{}", of_url(.0))]
    BadUrl(UrlError),
    /// The database could not be reached, or refused the login.
    #[error("cannot connect to {database}: {}", .why.cause())]
    Connect {
        /// Where the database is.
        database: String,
        /// Why not.
        why: Unreachable,
    },
    /// The file of what is accepted cannot be used.
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
        /// How long it had.
        seconds: u64,
    },
    /// The audit tables are not there.
    #[error(
        "there is no audit trail in {database}: run `tracing-audit migrate` to make its tables, \
         or name the right database"
    )]
    NoTables {
        /// Where the database is.
        database: String,
    },
    /// Nobody said of which tenant, and the role sees no other.
    #[error(
        "this role reads one tenant's rows in {database}, and none is named: name it with --tenant"
    )]
    NoTenant {
        /// Where the database is.
        database: String,
    },
    /// Something where the trail should be is somebody else's, and was not read.
    #[error(
        "the audit trail in {database} was not read: {what}, and reading it might run that role's code with your rights; \
         look at it with `tracing-audit doctor`, and give it back to audit_owner (functions: audit_maintainer) or move it away"
    )]
    NotOurs {
        /// Where the database is.
        database: String,
        /// What, and whose.
        what: String,
    },
    /// A statement failed.
    #[error("cannot read the audit trail in {database}: {}{}", cause(.source), advice(.source))]
    Read {
        /// Where the database is.
        database: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// What was asked for is too much to look through.
    #[error(
        "looking through the audit trail in {database} was stopped, after 15 s at most: name a narrower time with \
         --since and --until, or a tenant with --tenant"
    )]
    TooMuch {
        /// Where the database is.
        database: String,
    },
    /// A time that was given is none.
    #[error(
        "{option} is no time between 1970 and 9999: write 2026-01-31, or 2026-01-31T12:00Z; without a zone it is UTC"
    )]
    BadTime {
        /// The option.
        option: &'static str,
    },
    /// A span of time has nothing in it.
    #[error("--until is not after --since (7 days before --until or now, when it is not given)")]
    NoSpan,
    /// Something could not be done.
    #[error("cannot {what} in {database}: {}{}", cause(.source), change_advice(.source))]
    Change {
        /// What, as "remove a partition".
        what: &'static str,
        /// Where the database is.
        database: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// A question of `doctor` failed.
    #[error("cannot look into {database}: {}", cause(.source))]
    Look {
        /// Where the database is.
        database: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// The schema could not be made or brought up to date.
    #[error("cannot migrate {database}: {}", chain(.source))]
    Migrate {
        /// Where the database is.
        database: String,
        /// Why not.
        source: tracing_audit::MigrateError,
    },
    /// A login could not be given its rights.
    #[error("cannot make the login {login} {role} in {database}: {}", cause(.source))]
    Grant {
        /// The login.
        login: String,
        /// The role that it was to be a member of.
        role: String,
        /// Where the database is.
        database: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// A folder of local logs cannot be read.
    #[error("cannot read the local logs in {folder}: {source}")]
    Spool {
        /// The folder.
        folder: String,
        /// What the system said.
        source: io::Error,
    },
    /// Local logs cannot be drained into this database.
    #[error("cannot drain: {0}")]
    Drain(#[source] tracing_audit::BuildError),
    /// A login is not there.
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
    /// There is nothing to show.
    #[error("{0}")]
    NothingFound(String),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The runtime or the signal handler could not be set up.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

impl Error {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NothingFound(_) => 1,
            _ => 2,
        }
    }

    /// Whether the reader of our output went away.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the same thing may work over a new connection.
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

/// What is wrong with where the database is said to be. A variable of libpq's stands for what the URL does not say.
fn of_url(error: &UrlError) -> String {
    match error {
        UrlError::Parameter { name, .. } if name.starts_with("PG") => {
            format!("the environment variable {error}")
        }
        error => format!("the database URL is not understood: {error}"),
    }
}

/// Whether the database will get over this by itself.
fn is_passing(code: &str) -> bool {
    // Connection faults, conflicts (with recovery on a standby), too few resources,
    // a lock not had in time, shut down or starting, the server's own I/O.
    ["08", "40", "53", "55P03", "57P", "58"]
        .iter()
        .any(|class| code.starts_with(class))
}

/// The cause alone: sqlx puts "error returned from database:" before it.
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

/// What the user can do about it, where that is known.
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

/// The same for what is not reading.
fn change_advice(error: &sqlx::Error) -> &'static str {
    match error.as_database_error().and_then(DatabaseError::code) {
        Some(code) if code == "42501" => {
            "; connect as a member of audit_operator (retain, settle, hold), audit_auditor (hold, release, \
             --purpose) or audit_reader (--purpose)"
        }
        _ => advice(error),
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        // Many errors repeat their source in their own words.
        if !sentence.contains(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        source = error.source();
    }
    sentence
}
