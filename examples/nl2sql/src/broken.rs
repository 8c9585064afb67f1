//! Statements that are broken on purpose: the mistakes models make, and the ways a
//! run can end other than well. A trail is worth most for these.

use std::time::Duration;

/// What is run: SQL, and the time it is given.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    /// The server cancels the statement after this time (SQLSTATE 57014).
    pub(crate) timeout: Duration,
    /// The client loses patience after this time and drops the run unfinished.
    pub(crate) patience: Option<Duration>,
    pub(crate) broken: bool,
}

const TIMEOUT: Duration = Duration::from_secs(30);

impl Statement {
    pub(crate) fn as_given(sql: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            timeout: TIMEOUT,
            patience: None,
            broken: false,
        }
    }

    /// The `nth` broken variant of a statement that is fine; the kinds take turns.
    pub(crate) fn broken(sql: &str, nth: usize) -> Self {
        // The given statement may end in a comment, so what follows it starts a new line.
        let with_answer = |rest: &str| format!("WITH answer AS (\n{sql}\n)\n{rest}");
        let mut statement = Self {
            broken: true,
            ..Self::as_given("")
        };
        statement.sql = match nth % 7 {
            // undefined_table, 42P01
            0 => with_answer("SELECT * FROM anwser"),
            // syntax_error, 42601
            1 => format!("{sql}\n)"),
            // division_by_zero, 22012
            2 => with_answer("SELECT 1 / (count(*) - count(*)) FROM answer"),
            // query_canceled, 57014
            3 => {
                statement.timeout = Duration::from_millis(50);
                with_answer("SELECT pg_sleep(30), count(*) FROM answer")
            }
            // invalid_text_representation, 22P02
            4 => with_answer("SELECT 'many'::integer FROM answer"),
            // Not a question at all: rejected before it reaches the database.
            5 => format!("CREATE TABLE left_behind AS\n{sql}"),
            // The client hangs up: the run ends as cancelled, not as failed.
            _ => {
                statement.timeout = Duration::from_secs(2);
                statement.patience = Some(Duration::from_millis(50));
                with_answer("SELECT pg_sleep(30), count(*) FROM answer")
            }
        };
        statement
    }
}
