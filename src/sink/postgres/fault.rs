//! Classifies errors of Postgres, once, by SQLSTATE.
//!
//! | class | SQLSTATE | action |
//! |---|---|---|
//! | retry | no answer, 08, 25006 (read only), 40, 53, 55P03, 57, 58, XX | retry on a new connection, after a pause that grows to 5 s |
//! | hold | 0A, 22001, 23502, 23514 without a constraint (no partition), 28, 3D, 3F, 42, 55000 (partition detached), everything else; a COPY that adds fewer rows than were sent | keep everything, report it once, retry every 5 s: an administrator must fix it |
//! | poison | 22, 23, 54 | put that record into `audit.dead_letters`, commit the others |
//! | superseded | 23505 on `batches_pkey`, AT001 | the batch or another one is already there: ask for the position |
//! | not ours | AT002 | the writer is another's: write the records with a new writer |

use std::borrow::Cow;

use crate::database::{Unreachable, cause};
use crate::spool::LogError;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Retry,
    Hold,
    Poison,
    Superseded,
    NotOurs,
}

const TIMED_OUT: &str = "no answer in time";

/// The error of a batch, with what is needed to handle it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) class: Class,
    pub(crate) sqlstate: Option<String>,
    /// The row that was refused: its leaf in the batch, and its line in the COPY, from 1.
    pub(crate) at: Option<(usize, usize)>,
    /// The line alone, as the server reports it.
    line: Option<usize>,
    /// The server's message. May hold values of the host's: for `audit.dead_letters` alone.
    pub(crate) reason: String,
    /// What happened where Postgres reports no error; holds no value of the host's.
    unreported: Option<Box<Unreported>>,
}

/// A fault that is no error of Postgres.
#[derive(Debug)]
enum Unreported {
    /// No connection was made; names each server that was tried, with its cause.
    Unreachable(String),
    /// The connection was lost while in use.
    Cut(String),
    /// Postgres took a COPY and left out rows of it.
    LeftOut(String),
    /// Nothing is wrong with Postgres: the records to write cannot be read.
    LocalLog(String),
}

impl Fault {
    /// Returns the fault of an exchange that missed its deadline.
    pub(crate) fn timed_out() -> Self {
        Self {
            class: Class::Retry,
            sqlstate: None,
            at: None,
            line: None,
            reason: String::from(TIMED_OUT),
            unreported: None,
        }
    }

    /// Returns the fault of a connection that could not be made.
    pub(crate) fn unreachable(why: &Unreachable) -> Self {
        let sqlstate = why.sqlstate().map(String::from);
        let class = match &sqlstate {
            _ if why.is_to_mend() => Class::Hold,
            Some(sqlstate) => class(sqlstate, None),
            None => Class::Retry,
        };
        Self {
            class,
            sqlstate,
            at: None,
            line: None,
            reason: why.to_string(),
            unreported: Some(Box::new(Unreported::Unreachable(why.to_string()))),
        }
    }

    /// Returns the fault of a server that did not answer, and that a probe could not reach either.
    pub(crate) fn gone(why: String) -> Self {
        Self {
            class: Class::Retry,
            sqlstate: None,
            at: None,
            line: None,
            reason: why.clone(),
            unreported: Some(Box::new(Unreported::Cut(why))),
        }
    }

    /// Returns the fault of a COPY that added another number of rows to a table than were sent.
    pub(crate) fn left_out(table: &str, sent: usize, taken: u64) -> Self {
        let why = format!(
            "it took {taken} of {sent} rows of a batch for audit.{table}: a trigger or a rule there leaves some out; \
             run `tracing-audit doctor`"
        );
        Self {
            class: Class::Hold,
            sqlstate: None,
            at: None,
            line: None,
            reason: why.clone(),
            unreported: Some(Box::new(Unreported::LeftOut(why))),
        }
    }

    /// Returns the same fault, located in the COPY of one of the batch's leaves.
    pub(crate) fn in_leaf(self, number: usize) -> Self {
        Self {
            at: self.line.map(|line| (number, line)),
            ..self
        }
    }

    /// Returns the fault of a server in recovery, as Postgres itself reports it for a statement
    /// that writes.
    pub(crate) fn standby() -> Self {
        Self {
            class: Class::Retry,
            sqlstate: Some(String::from("25006")),
            at: None,
            line: None,
            reason: String::from("the server is a standby"),
            unreported: None,
        }
    }

    /// Returns the same fault for a record that is already given up: there is nothing more to
    /// single out.
    pub(crate) fn not_poison(self) -> Self {
        let class = if self.class == Class::Poison {
            Class::Hold
        } else {
            self.class
        };
        Self { class, ..self }
    }

    /// Returns the same fault once it is handled: all that is left is to ask for the position.
    pub(crate) fn dealt_with(self) -> Self {
        Self {
            class: Class::Superseded,
            ..self
        }
    }

    /// Returns whether a smaller batch may succeed.
    pub(crate) fn is_timeout(&self) -> bool {
        match self.sqlstate.as_deref() {
            Some(sqlstate) => matches!(sqlstate, "57014" | "25P03" | "25P04"),
            None => self.reason == TIMED_OUT,
        }
    }

    /// Returns a text for a log line: nothing in it can be part of a value of the host's.
    pub(crate) fn summary(&self) -> Cow<'static, str> {
        match (self.unreported.as_deref(), &self.sqlstate) {
            (
                Some(
                    Unreported::Unreachable(why)
                    | Unreported::Cut(why)
                    | Unreported::LeftOut(why)
                    | Unreported::LocalLog(why),
                ),
                _,
            ) => Cow::Owned(why.clone()),
            (None, Some(sqlstate)) => match meaning(sqlstate) {
                "" => Cow::Owned(format!("SQLSTATE {sqlstate}")),
                meaning => Cow::Owned(format!("{meaning} (SQLSTATE {sqlstate})")),
            },
            (None, None) if self.is_timeout() => Cow::Borrowed("no answer within a minute"),
            (None, None) => Cow::Borrowed("an answer that is not understood"),
        }
    }

    /// Returns the summary as a sentence, for the database at `place`.
    pub(crate) fn sentence(&self, place: &str) -> String {
        match self.unreported.as_deref() {
            Some(Unreported::Unreachable(why)) => format!("cannot reach Postgres at {why}"),
            Some(Unreported::Cut(why)) => {
                format!("the connection to Postgres at {place} was unreported: {why}")
            }
            Some(Unreported::LocalLog(why)) => why.clone(),
            Some(Unreported::LeftOut(_)) | None => format!(
                "Postgres at {place} does not take records: {}",
                self.summary()
            ),
        }
    }
}

/// Returns what a SQLSTATE means to an operator.
fn meaning(sqlstate: &str) -> &'static str {
    match sqlstate {
        "22001" | "22P03" | "22P04" | "23502" | "42703" | "42804" | "42883" | "42P01" | "3F000" => {
            "a table or function is not as the migrations make it; run `tracing-audit doctor`"
        }
        "23514" | "55000" => "a partition is missing or detached; run `tracing-audit doctor`",
        "08P01" => "it does not take part of the protocol, as a pooler in mode statement",
        "25006" => {
            "the server is read-only, as a standby is, or default_transaction_read_only is set for the login"
        }
        "25P03" | "25P04" => {
            "a time limit for transactions is set too low for the login (idle_in_transaction_session_timeout, transaction_timeout)"
        }
        "40001" | "40P01" => "another transaction was in the way",
        "42501" => "a right of the login is missing; run `tracing-audit doctor`",
        "53100" => "its disk is full",
        "53200" => "it is out of memory",
        "53300" => "it has too many connections",
        "55P03" => "a lock was not had in time",
        "57014" => "it took too long, or was cancelled",
        "57P01" | "57P02" | "57P03" => "it shuts down, starts, or ended the connection",
        "58030" => "it cannot read or write its files",
        _ => "",
    }
}

impl From<LogError> for Fault {
    fn from(error: LogError) -> Self {
        Self {
            class: Class::Retry,
            sqlstate: None,
            at: None,
            line: None,
            reason: error.to_string(),
            unreported: Some(Box::new(Unreported::LocalLog(format!(
                "the local log cannot be read, or not be written: {}",
                crate::error::causes(&error)
            )))),
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return Self {
                class: Class::Retry,
                sqlstate: None,
                at: None,
                line: None,
                reason: error.to_string(),
                unreported: match &error {
                    sqlx::Error::Io(error) => Some(Box::new(Unreported::Cut(cause::of_io(error)))),
                    _ => None,
                },
            };
        };
        let sqlstate = database.code().unwrap_or_default().into_owned();
        let line = database
            .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
            .and_then(|error| error.r#where())
            .and_then(copy_line);
        Self {
            class: class(&sqlstate, database.constraint()),
            at: None,
            line,
            reason: database.message().to_owned(),
            unreported: None,
            sqlstate: Some(sqlstate),
        }
    }
}

fn class(sqlstate: &str, constraint: Option<&str>) -> Class {
    match (sqlstate, sqlstate.get(..2).unwrap_or_default()) {
        ("23505", _) if constraint == Some("batches_pkey") => Class::Superseded,
        ("AT001", _) => Class::Superseded,
        ("AT002", _) => Class::NotOurs,
        // A partition is missing: PostgreSQL names no constraint in that case.
        ("23514", _) if constraint.is_none() => Class::Hold,
        // A column was added or made narrower: our records lack no column and have none that is too
        // long, so it is the table that must be fixed.
        ("22001" | "22P03" | "22P04" | "23502", _) => Class::Hold,
        ("25006" | "55P03", _) | (_, "08" | "40" | "53" | "57" | "58" | "XX") => Class::Retry,
        (_, "22" | "23" | "54") => Class::Poison,
        _ => Class::Hold,
    }
}

/// Returns the line in an error's context, such as `COPY query_runs_2026_11, line 3, column id`.
fn copy_line(context: &str) -> Option<usize> {
    let (_, rest) = context
        .lines()
        .find_map(|line| line.strip_prefix("COPY "))?
        .split_once(", line ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_are_classified() {
        assert_eq!(class("23505", Some("batches_pkey")), Class::Superseded);
        assert_eq!(class("AT001", None), Class::Superseded);
        assert_eq!(class("AT002", None), Class::NotOurs);
        assert_eq!(
            class("23505", Some("query_runs_2026_11_pkey")),
            Class::Poison
        );
        assert_eq!(class("23514", None), Class::Hold);
        assert_eq!(class("23514", Some("a_check")), Class::Poison);
        for retry in [
            "08006", "25006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01",
            "58030", "XX000",
        ] {
            assert_eq!(class(retry, None), Class::Retry, "{retry}");
        }
        for hold in [
            "22001", "23502", "42P01", "42501", "42703", "3D000", "28P01", "0A000", "",
        ] {
            assert_eq!(class(hold, None), Class::Hold, "{hold}");
        }
        for poison in ["22021", "22P05", "54000"] {
            assert_eq!(class(poison, None), Class::Poison, "{poison}");
        }
    }

    #[test]
    fn local_log_failure_is_not_blamed_on_postgres() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let fault = Fault::from(LogError::from(full));
        assert_eq!(fault.class, Class::Retry);
        let said = fault.sentence("db:5432/app");
        assert!(
            said.contains("local log") && said.contains("storage"),
            "{said}"
        );
        assert!(
            !said.contains("Postgres") && !said.contains("db:5432"),
            "{said}"
        );
    }

    #[test]
    fn copy_line_number_is_parsed_from_the_error_context() {
        assert_eq!(
            copy_line("COPY query_runs_2026_11, line 3, column id"),
            Some(3)
        );
        assert_eq!(copy_line("COPY query_runs_2026_11, line 17"), Some(17));
        let nested = "SQL statement \"x\"\nCOPY query_runs_2026_11, line 2: \"a, line 9\"";
        assert_eq!(copy_line(nested), Some(2));
        assert_eq!(copy_line("PL/pgSQL function f() line 3 at RAISE"), None);
    }
}
