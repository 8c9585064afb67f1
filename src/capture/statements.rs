//! The SQL statements that a library reports while a query run is open.

use std::time::Duration;

use crate::limits::Limits;
use crate::record::buffers::Buffers;
use crate::record::encode::{Key, ty};
use crate::vocabulary::Field;

/// A statement that has ended; how, it does not say.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) rows_returned: u64,
    pub(crate) rows_affected: u64,
    pub(crate) elapsed: Duration,
    /// It only begins or ends a transaction.
    pub(crate) is_of_transaction: bool,
    /// It changes no row, so that what a driver calls affected are the rows that it read.
    only_reads: bool,
}

/// The statements of one run.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    count: u64,
    listed: Vec<serde_json::Value>,
    listed_bytes: usize,
}

/// The most bytes of SQL that are listed for one run.
const LISTED_BYTES: usize = 16 * 1024;

/// The most bytes of SQL that are listed for one statement.
const LISTED_BYTES_EACH: usize = 1024;

/// The most statements that are listed.
const LISTED: usize = 100;

impl Statement {
    pub(crate) fn new(sql: &str, rows: [u64; 2], elapsed: Duration) -> Self {
        let [rows_returned, rows_affected] = rows;
        let is_one = Self::is_one(sql);
        Self {
            sql: sql.to_owned(),
            rows_returned,
            rows_affected,
            elapsed,
            is_of_transaction: is_one && Self::is_of_transaction(sql),
            only_reads: is_one && Self::only_reads(sql),
        }
    }

    /// Returns the words of the statement in upper case, without comments at its beginning.
    fn words(sql: &str) -> impl Iterator<Item = String> + '_ {
        without_comments(sql)
            .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_uppercase)
    }

    /// Returns whether nothing but white space and comments follows a semicolon: a program may send
    /// more than one statement as one text. One within a string counts as well, which costs nothing.
    fn is_one(sql: &str) -> bool {
        let after = sql.split_once(';').map_or("", |(_, after)| after);
        without_comments(after).is_empty()
    }

    /// Returns whether it only begins or ends a transaction.
    fn is_of_transaction(sql: &str) -> bool {
        const WORDS: [&str; 9] = [
            "ABORT",
            "BEGIN",
            "COMMIT",
            "END",
            "PREPARE",
            "RELEASE",
            "ROLLBACK",
            "SAVEPOINT",
            "START",
        ];
        let mut words = Self::words(sql);
        match words.next().as_deref() {
            // A prepared statement is not a transaction.
            Some("PREPARE") => words.next().as_deref() == Some("TRANSACTION"),
            Some(word) => WORDS.contains(&word),
            None => true,
        }
    }

    /// Returns whether it changes no row.
    fn only_reads(sql: &str) -> bool {
        const CHANGE: [&str; 5] = ["DELETE", "INSERT", "INTO", "MERGE", "UPDATE"];
        let mut words = Self::words(sql);
        match words.next().as_deref() {
            Some("SELECT" | "TABLE" | "VALUES" | "SHOW" | "FETCH") => true,
            // The words may stand in a string as well: then both counts are kept.
            Some("WITH" | "EXPLAIN") => !words.any(|word| CHANGE.contains(&word.as_str())),
            _ => false,
        }
    }

    /// Writes the statement and its rows, for the fields that have no value.
    pub(crate) fn write(&self, out: &mut Buffers, limits: &Limits) {
        let has_rows_of_it = match out.own_text(Field::SqlText) {
            None => {
                let key = Key::Field(Field::SqlText);
                out.text(key, ty::TEXT, self.sql.as_bytes(), limits);
                true
            }
            Some(sql) => sql.trim() == self.sql.trim(),
        };
        if !has_rows_of_it {
            return;
        }
        let mut count = |field, rows: u64| {
            if !out.has_own(field) {
                out.fixed(Key::Field(field), ty::U64, rows.to_le_bytes(), limits);
            }
        };
        if self.only_reads {
            count(Field::RowCount, self.rows_returned);
            return;
        }
        if self.rows_returned > 0 {
            count(Field::RowCount, self.rows_returned);
        }
        count(Field::RowsAffected, self.rows_affected);
    }
}

/// Removes white space, parentheses and comments from the beginning of a statement.
fn without_comments(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest =
            rest.trim_start_matches(|char: char| char.is_whitespace() || matches!(char, '(' | ';'));
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_comment(comment);
        } else {
            return rest;
        }
    }
}

/// Returns what follows a comment that has begun; comments nest in Postgres.
fn after_comment(mut rest: &str) -> &str {
    let mut depth = 1;
    while depth > 0 {
        let Some(at) = rest.find(['*', '/']) else {
            return "";
        };
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("*/") {
            (depth, rest) = (depth - 1, after);
        } else if let Some(after) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, after);
        } else {
            rest = &rest[1..];
        }
    }
    rest
}

impl Statements {
    /// Adds a statement. Returns whether it is the first one that is not of a transaction.
    pub(super) fn add(&mut self, statement: &Statement) -> bool {
        if statement.is_of_transaction {
            return false;
        }
        self.count += 1;
        let end = statement.sql.floor_char_boundary(LISTED_BYTES_EACH);
        let sql = &statement.sql[..end];
        if self.listed.len() < LISTED && self.listed_bytes + sql.len() <= LISTED_BYTES {
            self.listed_bytes += sql.len();
            self.listed.push(serde_json::json!({
                "sql_text": sql,
                "rows_returned": statement.rows_returned,
                "rows_affected": statement.rows_affected,
                "elapsed_ms": statement.elapsed.as_secs_f64() * 1_000.0,
            }));
        }
        self.count == 1
    }

    /// Writes the list of the statements, if there were more than one.
    pub(super) fn write(self, out: &mut Buffers, limits: &Limits) {
        if self.count < 2 {
            return;
        }
        let count = Key::Extra("statement_count");
        let listed = serde_json::Value::Array(self.listed).to_string();
        out.fixed(count, ty::U64, self.count.to_le_bytes(), limits);
        out.text(
            Key::Extra("statements"),
            ty::JSON,
            listed.as_bytes(),
            limits,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sql: &str) -> Statement {
        Statement::new(sql, [0, 0], Duration::ZERO)
    }

    #[test]
    fn statement_that_reads_is_told_from_one_that_changes() {
        for sql in [
            "SELECT 1",
            "-- a comment\n (select 1)",
            "/* /* nested */ update */ VALUES (1)",
            "WITH t AS (SELECT 1) SELECT * FROM t",
            "TABLE t",
            "EXPLAIN SELECT 1",
        ] {
            assert!(statement(sql).only_reads, "{sql}");
        }
        for sql in [
            "UPDATE t SET a = 1",
            "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
            "INSERT INTO t SELECT 1",
            "EXPLAIN ANALYZE UPDATE t SET a = 1",
            "DROP TABLE t",
            "SELECT set_config('a', 'b', true); DELETE FROM t",
            "/* unclosed",
            "",
        ] {
            assert!(!statement(sql).only_reads, "{sql}");
        }
    }

    #[test]
    fn statement_of_a_transaction_is_recognised() {
        for sql in [
            "BEGIN",
            "commit;",
            "/* a */ ROLLBACK TO s",
            "PREPARE TRANSACTION 'a'",
            " ",
        ] {
            assert!(statement(sql).is_of_transaction, "{sql}");
        }
        for sql in [
            "SELECT 1",
            "PREPARE a AS SELECT 1",
            "UPDATE commit SET a = 1",
            "BEGIN; DELETE FROM t; COMMIT",
        ] {
            assert!(!statement(sql).is_of_transaction, "{sql}");
        }
    }
}
