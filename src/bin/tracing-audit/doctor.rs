//! `doctor`: compares the database with what must be there, and says what is wrong and what mends it.
//!
//! The questions are asked from here, not by functions in the database: who tampers with the database does not tamper
//! with the check. Everything is read only; what this login may not see is said.

mod expected;
mod finding;
mod functions;
mod look;
mod partitions;
mod records;
mod rights;
mod role_settings;
mod roles;
mod row_security;
mod server;
mod sources;
mod tables;
mod triggers;
mod views;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::Value;

use crate::Doctor;
use crate::database::Database;
use crate::error::Error;
use crate::text::{Terminal, columns, escape, escape_json, escape_line, wrap};

use finding::{Finding, Severity, counted};
use look::Look;
use server::Schema;

/// How many lines of a statement are shown; `--json` has it whole.
const MAX_ADVICE_LINES: usize = 14;

/// Where the text of a finding begins, after its severity.
const INDENT: usize = 11;

/// The widest column of objects.
const MAX_OBJECT: usize = 22;

/// Findings of one kind of thing, under a title.
type Group = (&'static str, Vec<Finding>);

/// Looks, prints what it found, and says by the exit code whether there is a problem.
pub(crate) async fn run(database: &Database, arguments: &Doctor) -> Result<ExitCode, Error> {
    let mut connection = database.connect().await?;
    let groups = look_at_all(&mut connection)
        .await
        .map_err(|source| Error::Look {
            database: database.name(),
            source,
        })?;
    let count = |severity| {
        let all = groups.iter().flat_map(|(_, findings)| findings);
        all.filter(|finding| finding.severity == severity).count()
    };
    let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
    let is_blind = groups
        .iter()
        .flat_map(|(_, findings)| findings)
        .any(|finding| finding.is_unseen);
    let text = if arguments.json {
        json(&groups)
    } else {
        text(database, &groups, problems, warnings)
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(if problems > 0 {
        ExitCode::FAILURE
    } else if is_blind {
        // What was not seen is not well.
        ExitCode::from(2)
    } else if arguments.strict && warnings > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What a check found. One that fails is a finding itself, so that no value in the database ends the whole answer; only
/// without a connection there is none.
fn settled(
    object: &str,
    checked: Result<Vec<Finding>, sqlx::Error>,
) -> Result<Vec<Finding>, sqlx::Error> {
    let why = match checked {
        Ok(findings) => return Ok(findings),
        Err(sqlx::Error::Database(error)) => {
            let code = error.code().unwrap_or_default().into_owned();
            // The server goes down, or has ended the session.
            if code.starts_with("57P") || code.starts_with("08") {
                return Err(sqlx::Error::Database(error));
            }
            format!("SQLSTATE {code}")
        }
        Err(
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. },
        ) => "a value that is not of the kind that was asked for".to_owned(),
        Err(error) => return Err(error),
    };
    Ok(vec![
        Finding::problem("failed", object, format!("this check failed: {why}"))
            .expected("a check that ends")
            .advice(
                "See the server's log for the statement and its error: a lock that somebody holds, \
                 a table that is not what it was, or a row that holds an extreme value. \
                 The other checks were made.",
            ),
    ])
}

/// Asks everything, in one read-only transaction.
async fn look_at_all(connection: &mut sqlx::PgConnection) -> Result<Vec<Group>, sqlx::Error> {
    let mut look = Look::begin(connection).await?;
    let look = &mut look;
    let mut groups = vec![("Server", settled("server", server::check(look).await)?)];
    let (schema, state) = server::schema(look).await?;
    groups.push(("Schema", schema));
    if state == Schema::Other {
        // What another version must have is not known here.
        return Ok(groups);
    }
    let relations = look.relations().await?;
    let mut of_roles = settled("roles", roles::check(look).await)?;
    of_roles.extend(settled("role settings", role_settings::check(look).await)?);
    groups.push(("Roles", of_roles));
    let of_rights = rights::check(look, &relations).await;
    groups.push(("Rights", settled("rights", of_rights)?));
    let of_rows = row_security::check(look, &relations).await;
    let mut guards = settled("row security", of_rows)?;
    let of_triggers = triggers::check(look, &relations).await;
    guards.extend(settled("triggers", of_triggers)?);
    let of_views = views::check(look, &relations).await;
    guards.extend(settled("views", of_views)?);
    groups.push(("Guards", guards));
    let of_functions = functions::check(look).await;
    groups.push(("Functions", settled("functions", of_functions)?));
    let of_tables = tables::check(look, &relations).await;
    groups.push(("Tables", settled("tables", of_tables)?));
    let of_partitions = partitions::check(look, &relations).await;
    groups.push(("Partitions", settled("partitions", of_partitions)?));
    groups.push(("Records", records::check(look).await?));
    Ok(groups)
}

/// For programs: an array with an object for each finding.
fn json(groups: &[Group]) -> String {
    let findings: Vec<String> = groups
        .iter()
        .flat_map(|(_, findings)| findings)
        .map(|finding| escape_json(&Value::to_string(&finding.json())))
        .collect();
    format!("[{}]\n", findings.join(",\n "))
}

/// For people.
fn text(database: &Database, groups: &[Group], problems: usize, warnings: usize) -> String {
    let terminal = Terminal::of_stdout();
    let mut out = String::new();
    let _ = writeln!(out, "The audit trail in {}", escape_line(&database.name()));
    for (title, findings) in groups {
        let _ = writeln!(out, "\n{}", terminal.bold(title));
        let widest = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Ok)
            .map(|finding| columns(&finding.object))
            .max()
            .unwrap_or_default()
            .min(MAX_OBJECT);
        for finding in findings {
            write_finding(&mut out, terminal, finding, widest);
        }
    }
    let said = match (problems, warnings) {
        (0, 0) => "No problem, no warning.".to_owned(),
        (0, warnings) => format!("No problem, {}.", counted(warnings, "warning", "warnings")),
        (problems, 0) => format!("{}.", counted(problems, "problem", "problems")),
        (problems, warnings) => format!(
            "{}, {}.",
            counted(problems, "problem", "problems"),
            counted(warnings, "warning", "warnings")
        ),
    };
    let _ = writeln!(out, "\n{}", terminal.bold(&said));
    out
}

/// Writes a finding: one that is well on a line, any other with what should be and what to do.
fn write_finding(out: &mut String, terminal: Terminal, finding: &Finding, widest: usize) {
    let word = format!("{:<7}", finding.severity.word());
    let word = match finding.severity {
        Severity::Ok => terminal.dim(&word),
        Severity::Warning => terminal.caution(&word),
        Severity::Problem => terminal.alarm(&word),
    };
    let object = escape_line(&finding.object);
    let found = escape_line(&finding.found);
    let said = if finding.severity == Severity::Ok {
        let gap = " ".repeat(widest.saturating_sub(columns(&object)));
        format!("{object}{gap}  {found}")
    } else {
        format!("{object}: {found}")
    };
    let indent = " ".repeat(INDENT);
    let width = terminal
        .width
        .map_or(usize::MAX, |width| width.saturating_sub(INDENT).max(24));
    for (number, piece) in wrap(&said, width).into_iter().enumerate() {
        let before = if number == 0 {
            format!("  {word}  ")
        } else {
            indent.clone()
        };
        let _ = writeln!(out, "{before}{piece}");
    }
    if finding.severity == Severity::Ok {
        return;
    }
    // Never broken at the terminal's width: statements are copied from here.
    for (label, text) in [
        ("should be", &finding.expected),
        ("to mend it", &finding.advice),
    ] {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().take(MAX_ADVICE_LINES).enumerate() {
            let label = if number == 0 { label } else { "" };
            let label = terminal.dim(&format!("{label:<12}"));
            let _ = writeln!(out, "{indent}{label}{}", escape(line));
        }
        let left_out = lines.len().saturating_sub(MAX_ADVICE_LINES);
        if left_out > 0 {
            let _ = writeln!(out, "{indent}{:<12}… {left_out} more lines (--json)", "");
        }
    }
}
