//! `doctor`: compares the database with what the trail needs, and prints what is wrong and the
//! statement that repairs it.
//!
//! All queries come from this program, not from functions in the database, so that tampering with
//! the database does not affect the check. It only reads, and reports what this login may not see.
//!
//! **The expected state is part of the program**: a checking function in the database would be the
//! first to be changed. One query (`doctor/snapshot.sql`) returns the catalog as facts, each with
//! the statement that creates it and the one that removes it, written and quoted by Postgres. A
//! golden file for each version of Postgres holds the facts of a freshly migrated database
//! (`scripts/golden` writes it, a test compares it). So nothing has to be listed to be found, and
//! no advice is written by hand. Every partition has the facts of one month's, under other names.

mod accepted;
#[cfg(feature = "archive")]
mod archive;
mod compare;
mod difference;
pub(crate) mod finding;
mod leaks;
pub(crate) mod ledger;
pub(crate) mod look;
mod mend;
pub(crate) mod partitions;
pub(crate) mod records;
mod renamed;
mod role_settings;
mod roles;
mod server;
mod snapshot;
mod statements;
pub(crate) mod tracked;
mod words;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::Value;

use crate::Doctor;
use crate::database::Database;
use crate::error::Error;
use crate::text::{Terminal, columns, escape, escape_json, escape_line, paragraph, wrap};

use compare::Compared;
use finding::{Finding, Severity, counted};
use look::Look;
use partitions::Leaf;
use server::Schema;

/// The names that `--check` accepts.
pub(crate) const CHECKS: [&str; 41] = [
    "accepted",
    "archive",
    "batch_rows",
    "batches",
    "bypass",
    "checkpoint",
    "clock",
    "closed_roles",
    "columns",
    "constraints",
    "dead_letters",
    "default_partition",
    "default_privileges",
    "encoding",
    "event_triggers",
    "functions",
    "indexes",
    "leaks",
    "logins",
    "members",
    "newest_batch",
    "owners",
    "partitions",
    "partitions_ahead",
    "policies",
    "postgres_version",
    "privileges",
    "role_settings",
    "roles",
    "row_security",
    "rules",
    "schema_checksum",
    "schema_version",
    "server_settings",
    "statistics",
    "tables",
    "tracked_tables",
    "triggers",
    "uncounted_rows",
    "view",
    "writer_logins",
];

/// How many lines of a statement are printed; `--json` has all.
const MAX_ADVICE_LINES: usize = 14;

/// The column in which a finding's text begins, after its severity.
const INDENT: usize = 11;

/// The narrowest terminal on which a text is printed beside its label; on narrower ones it goes
/// below, with a smaller indent: a UUID literal fits into 40 columns.
const MIN_BESIDE: usize = 60;
const NARROW_INDENT: usize = 2;

/// The greatest width of the column of objects.
const MAX_OBJECT: usize = 22;

/// The findings about one subject, under a title.
pub(crate) type Group = (&'static str, Vec<Finding>);

/// Runs the checks and prints the findings; the exit code says whether there is a problem.
pub(crate) async fn run(database: &Database, arguments: &Doctor) -> Result<ExitCode, Error> {
    let accepted = match &arguments.accept {
        Some(path) => accepted::read(path)?,
        None => Vec::new(),
    };
    crate::lacking::archive()?;
    let mut connection = database.connect().await?;
    let failed = |source| Error::Look {
        database: database.name(),
        source,
    };
    if arguments.snapshot {
        let text = write_snapshot(&mut connection).await.map_err(failed)?;
        io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let (mut groups, is_whole) = look_until_still(&mut connection, arguments)
        .await
        .map_err(failed)?;
    #[cfg(feature = "archive")]
    groups.push((
        "Archive",
        archive::check(arguments.archive.as_deref()).await?,
    ));
    let all = groups.iter_mut().flat_map(|(_, findings)| findings);
    let unused = accepted::apply(&accepted, all);
    if !unused.is_empty() {
        groups.push(("Accepted", unused));
    }
    if !arguments.check.is_empty() {
        for (_, findings) in &mut groups {
            // A failed check may be the requested one, and so may a check that did not run.
            findings.retain(|finding| {
                finding.check == "failed"
                    || !is_whole && finding.severity == Severity::Problem
                    || arguments.check.iter().any(|name| name == finding.check)
            });
        }
        groups.retain(|(_, findings)| !findings.is_empty());
    }
    let count = |severity| {
        let all = groups.iter().flat_map(|(_, findings)| findings);
        all.filter(|finding| finding.severity == severity && finding.accepted.is_none())
            .count()
    };
    let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
    let is_blind = groups
        .iter()
        .flat_map(|(_, findings)| findings)
        .any(|finding| finding.is_unseen && finding.accepted.is_none());
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
        // What could not be checked does not count as good.
        ExitCode::from(2)
    } else if arguments.strict && warnings > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Runs all checks, and returns what they found by subject.
pub(crate) async fn findings(
    connection: &mut sqlx::PgConnection,
) -> Result<Vec<Group>, sqlx::Error> {
    let (groups, _) = look_until_still(connection, &Doctor::default()).await?;
    Ok(groups)
}

/// Returns what a check found. A failed check becomes a finding, so that no value in the database
/// can prevent the whole answer; only a lost connection does.
fn settled(
    object: &str,
    checked: Result<Vec<Finding>, sqlx::Error>,
) -> Result<Vec<Finding>, sqlx::Error> {
    let why = match checked {
        Ok(findings) => return Ok(findings),
        Err(error) => why_failed(error)?,
    };
    Ok(vec![
        Finding::problem("failed", object, format!("this check failed: {why}"))
            .expected("a check that ends")
            .explained(
                "See the server's log for the statement and its error: a lock that somebody holds, \
                 a table that is not what it was, or a row that holds an extreme value. \
                 The other checks were made.",
            ),
    ])
}

/// Returns why a query failed; the error itself if the connection is lost.
pub(crate) fn why_failed(error: sqlx::Error) -> Result<String, sqlx::Error> {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default().into_owned();
            // The server is shutting down, or has ended the session.
            if code.starts_with("57P") || code.starts_with("08") {
                return Err(sqlx::Error::Database(error));
            }
            Ok(format!("SQLSTATE {code}"))
        }
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
            Ok("a value that is not of the kind that was asked for".to_owned())
        }
        error => Err(error),
    }
}

/// The partitions, by which a look knows that they have changed meanwhile.
const PARTITIONS: &str = "
    SELECT coalesce(string_agg(concat_ws(' ', c.oid, c.relname, i.inhparent, i.inhdetachpending), ',' ORDER BY c.oid), '')
    FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE c.relnamespace = to_regnamespace('audit_parts') AND c.relkind IN ('r', 'p', 'f')";

/// How often the checks run at most while partitions are made, removed or settled.
const MAX_LOOKS: u32 = 3;

/// Runs all checks; again if the partitions have changed meanwhile, for then a part of what they
/// found is of before and a part of after.
async fn look_until_still(
    connection: &mut sqlx::PgConnection,
    arguments: &Doctor,
) -> Result<(Vec<Group>, bool), sqlx::Error> {
    let mut looks = 0;
    loop {
        looks += 1;
        let mut look = Look::begin(connection).await?;
        let before: Vec<(String,)> = look.rows(PARTITIONS).await?;
        let found = look_at_all(&mut look, arguments).await?;
        let after: Vec<(String,)> = look.rows(PARTITIONS).await?;
        if before == after || looks == MAX_LOOKS {
            return Ok(found);
        }
    }
}

/// Runs all checks, in one read-only transaction. Also returns whether all of them could run.
async fn look_at_all(
    look: &mut Look<'_>,
    arguments: &Doctor,
) -> Result<(Vec<Group>, bool), sqlx::Error> {
    let mut groups = vec![("Server", settled("server", server::check(look).await)?)];
    let renamed = settled("names", server::renamed(look).await)?;
    if !renamed.is_empty() {
        // Their contents are checked once they have their names back.
        groups.push(("Schema", renamed));
        return Ok((groups, false));
    }
    let (schema, state) = server::schema(look).await?;
    groups.push(("Schema", schema));
    if state == Schema::Other {
        // This program does not know what another version must contain.
        return Ok((groups, false));
    }
    let mut of_roles = settled("roles", roles::check(look).await)?;
    of_roles.extend(settled("role settings", role_settings::check(look).await)?);
    groups.push(("Roles", of_roles));
    let leaves = match partitions::leaves(look).await {
        Ok(leaves) => leaves,
        failed => {
            groups.push((
                "Partitions",
                settled("partitions", failed.map(|_| Vec::new()))?,
            ));
            Vec::new()
        }
    };
    let mut of_partitions = Vec::new();
    match compared(look, &leaves).await {
        Ok(Compared {
            mut checks,
            is_exchanged,
        }) => {
            for (title, names) in compare::GROUPS {
                let findings = names
                    .iter()
                    .flat_map(|name| checks.remove(name).unwrap_or_default());
                groups.push((title, findings.collect()));
            }
            // The findings about the partitions' own constraints.
            of_partitions.extend(checks.into_values().flatten());
            if is_exchanged {
                // Another table stands here, so its partitions and rows tell nothing.
                return Ok((groups, false));
            }
        }
        failed => groups.push(("Catalog", settled("catalog", failed.map(|_| Vec::new()))?)),
    }
    let of_leaks = leaks::check(look).await;
    groups.push(("Ways around", settled("views", of_leaks)?));
    let is_whole = !leaves.iter().any(Leaf::is_detached);
    let as_partitions = partitions::check(look, &leaves).await;
    of_partitions.extend(settled("partitions", as_partitions)?);
    groups.push(("Partitions", of_partitions));
    groups.push((
        "Records",
        records::check(look, arguments.max_age, is_whole).await?,
    ));
    let of_ledger = settled("checkpoint", ledger::check(look).await)?;
    groups.push(("Ledger", of_ledger));
    let of_tracked = tracked::check(look, &arguments.expect_tracked).await;
    groups.push(("Tracked tables", settled("tracked tables", of_tracked)?));
    Ok((groups, true))
}

/// Compares the catalog with the golden file of its version of Postgres.
async fn compared(look: &mut Look<'_>, leaves: &[Leaf]) -> Result<Compared, sqlx::Error> {
    let mut found = snapshot::read(look).await?;
    found.extend(snapshot::noted_values(look).await?);
    let partitions: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.is_partition()).collect();
    let golden = snapshot::expected(look.major_version().await?, &partitions);
    Ok(compare::check(&golden, &found, leaves))
}

/// Returns the golden file of this version of Postgres, from a freshly migrated database.
async fn write_snapshot(connection: &mut sqlx::PgConnection) -> Result<String, sqlx::Error> {
    let mut look = Look::begin(connection).await?;
    let leaves = partitions::leaves(&mut look).await?;
    let facts = snapshot::read(&mut look).await?;
    Ok(snapshot::write(&facts, &leaves.iter().collect::<Vec<_>>()))
}

/// Formats the findings as JSON: an array with an object for each.
fn json(groups: &[Group]) -> String {
    let findings: Vec<String> = groups
        .iter()
        .flat_map(|(_, findings)| findings)
        .map(|finding| escape_json(&Value::to_string(&finding.json())))
        .collect();
    format!("[{}]\n", findings.join(",\n "))
}

/// Formats the findings as text.
fn text(database: &Database, groups: &[Group], problems: usize, warnings: usize) -> String {
    let terminal = Terminal::of_stdout();
    let mut out = String::new();
    let head = format!("The audit trail in {}", escape_line(&database.name()));
    out.push_str(&paragraph(&head, terminal.width, ""));
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

/// Appends a finding: one line if it is good, else also what is expected and what to do.
fn write_finding(out: &mut String, terminal: Terminal, finding: &Finding, widest: usize) {
    let word = format!("{:<8}", finding.word());
    let word = match finding.severity {
        _ if finding.accepted.is_some() => terminal.dim(&word),
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
    let room = |indent: usize| {
        terminal
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(indent).max(1))
    };
    for (number, piece) in wrap(&said, room(INDENT)).into_iter().enumerate() {
        let before = if number == 0 {
            format!("  {word} ")
        } else {
            indent.clone()
        };
        let _ = writeln!(out, "{before}{piece}");
    }
    if finding.severity == Severity::Ok {
        return;
    }
    let is_narrow = terminal.width.is_some_and(|width| width < MIN_BESIDE);
    let beside = if is_narrow {
        NARROW_INDENT
    } else {
        INDENT + 12
    };
    let nothing = String::new();
    for (label, text) in [
        ("accepted", finding.accepted.as_ref().unwrap_or(&nothing)),
        ("should be", &finding.expected),
        ("to mend it", &finding.advice),
        ("note", &finding.explanation),
    ] {
        if text.is_empty() {
            continue;
        }
        let left_out = text.lines().count().saturating_sub(MAX_ADVICE_LINES);
        let shown: Vec<&str> = text
            .lines()
            .take(MAX_ADVICE_LINES)
            .map(str::trim_end)
            .collect();
        let mut lines: Vec<String> = if label == "to mend it" {
            // Users copy statements from here.
            sql_lines(&shown, room(beside))
        } else {
            let lines = shown.iter().map(|line| escape(line));
            lines
                .flat_map(|line| {
                    wrap(&line, room(beside))
                        .into_iter()
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                })
                .collect()
        };
        if left_out > 0 {
            let more = format!("… {left_out} more lines (--json)");
            lines.extend(wrap(&more, room(beside)).into_iter().map(str::to_owned));
        }
        if is_narrow {
            let before = " ".repeat(NARROW_INDENT);
            let _ = writeln!(out, "{before}{}:", terminal.dim(label));
        }
        for (number, line) in lines.iter().enumerate() {
            let before = match number {
                _ if is_narrow => " ".repeat(NARROW_INDENT),
                0 => format!("{indent}{}", terminal.dim(&format!("{label:<12}"))),
                _ => " ".repeat(beside),
            };
            let _ = writeln!(out, "{}", format!("{before}{line}").trim_end());
        }
    }
}

/// Breaks the lines of statements where that changes nothing: at blanks, parentheses and commas
/// outside names and literals. A statement with a body or a comment is not broken, so that it still
/// means the same when it is copied.
fn sql_lines(lines: &[&str], room: usize) -> Vec<String> {
    let is_fixed = |line: &&str| {
        ["$", "--", "/*", "\\"]
            .iter()
            .any(|mark| line.contains(mark))
    };
    if lines.iter().any(is_fixed) {
        return lines.iter().map(|line| escape(line)).collect();
    }
    let mut broken = Vec::new();
    let mut quote = None;
    for line in lines {
        let mut current = String::new();
        let mut word = String::new();
        let put = |broken: &mut Vec<String>, current: &mut String, word: &mut String| {
            let is_full = columns(current) + columns(word) > room && !current.trim().is_empty();
            if is_full {
                broken.push(std::mem::take(current));
                let word = word.trim_start();
                if columns(word) + 2 <= room {
                    current.push_str("  ");
                }
                current.push_str(word);
            } else {
                current.push_str(word);
            }
            word.clear();
        };
        for c in escape(line).chars() {
            match quote {
                Some(open) if c == open => quote = None,
                None if c == '\'' || c == '"' => quote = Some(c),
                _ => {}
            }
            // A blank belongs to the word after it, and never begins a line.
            if c == ' ' && quote.is_none() {
                put(&mut broken, &mut current, &mut word);
            }
            word.push(c);
            if matches!(c, '(' | ',') && quote.is_none() {
                put(&mut broken, &mut current, &mut word);
            }
        }
        put(&mut broken, &mut current, &mut word);
        broken.push(current);
    }
    broken
}
