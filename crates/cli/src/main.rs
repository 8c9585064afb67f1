//! The command line of the audit trail: creates its tables, finds requests, prints the story of
//! one, follows rows as they are committed, checks the database, and removes records that are old
//! enough.
//!
//! Exit codes: 0 for success, 1 if nothing was found, a check found a problem or something could
//! not be removed, 2 for an error.

#[cfg(feature = "archive")]
mod archive;
mod arguments;
mod check_proof;
#[cfg(feature = "parquet")]
mod columnar;
mod database;
mod doctor;
mod erase;
mod error;
mod export;
mod families;
mod feed;
mod filter;
mod find;
mod hold;
mod html;
mod key;
mod lacking;
mod listener;
mod metrics;
mod migrate;
mod outline;
mod pages;
mod prove;
mod record;
#[cfg(feature = "redact")]
mod redact;
mod reset;
mod retain;
mod row;
mod seal;
mod search;
mod serve;
mod settle;
mod show;
mod signer;
mod spool;
mod story;
mod tail;
mod text;
#[cfg(feature = "pkcs11")]
mod token;
mod tree;
mod verify;
mod witness;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{
    NonEmptyStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser,
};
use clap::{Args, Parser, Subcommand};
use tracing_audit::__program::Table;

use crate::database::Database;
use crate::error::Error;

/// The help of `--url` in `-h`.
const URL_HELP: &str = "The database of the trail, as postgres://user@host:port/database; else AUDIT_DATABASE_URL, else DATABASE_URL";

/// The help of `--url` in `--help`.
const URL_LONG_HELP: &str = "\
The database of the trail, as postgres://user@host:port/database.

Else AUDIT_DATABASE_URL, else DATABASE_URL. Other users of the machine can read the
arguments of a command: a password belongs in the environment or in ~/.pgpass.";

/// The values of `--kind`: the record tables, or the name of one of their records.
fn tables() -> impl TypedValueParser<Value = String> {
    let tables = Table::ALL.map(|table| PossibleValue::new(table.name()).alias(table.singular()));
    PossibleValuesParser::new(tables).map(|said| {
        let table = Table::ALL
            .into_iter()
            .find(|table| table.singular() == said);
        table.map_or(said, |table| table.name().to_owned())
    })
}

/// The values of `--status`: the labels of `audit.run_status`.
const STATUSES: [&str; 5] = ["succeeded", "failed", "cancelled", "rejected", "unknown"];

/// Reads and looks after the audit trail that tracing-audit keeps in Postgres.
#[derive(Debug, Parser)]
#[command(name = "tracing-audit", version, about)]
struct Cli {
    /// The database of the trail.
    // Clap does not read the environment: it would write the option into each usage line of an error.
    #[arg(long, global = true, value_name = "URL", help = URL_HELP, long_help = URL_LONG_HELP)]
    url: Option<String>,

    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the audit tables, or brings them up to date, and gives logins their rights.
    ///
    /// Run it as a superuser: only then the tables are kept from being altered or
    /// dropped as well. A role that may create roles and schemas will do otherwise.
    #[command(verbatim_doc_comment)]
    Migrate(Migrate),
    /// Shows the story of one request: its questions, prompts, SQL, outcomes and times.
    ///
    /// Or one record, by its id. Long texts are shortened, with a mark; --full has all.
    /// Exits with 1 when there is no such record. Characters that could
    /// steer a terminal are shown as \x1b or \u{202e}; --json has them exactly.
    #[command(verbatim_doc_comment)]
    Show(Show),
    /// Finds requests by user, tenant, time, outcome or text, and prints a line for each.
    ///
    /// Newest first. A line is: when the first record that matches began (UTC), tenant,
    /// user, what it is about, and of the whole request the outcomes, the number of
    /// records and its id, which show is given. A record of no request has - and its own
    /// id there, which show takes as well. A narrow terminal has fewer columns, --full all.
    /// Looks through the last 7 days unless --since says otherwise. Exits with 1 when
    /// nothing is found.
    #[command(verbatim_doc_comment)]
    Find(find::Find),
    /// Prints new rows as they are committed, a line each, until Ctrl-C.
    ///
    /// Begins with the newest ones. A line is: when it began (UTC), kind, outcome,
    /// duration, tenant, user, request id, and the question, SQL, prompt or action. A
    /// narrow terminal has fewer columns, --full all. Rows that one batch committed are
    /// in the order in which they finished. When the connection is lost it connects
    /// again, and goes on where it stopped. A reader of one tenant needs --tenant.
    #[command(verbatim_doc_comment)]
    Tail(Tail),
    /// Says whether the database still holds what the trail promises, and what to do if not.
    ///
    /// Compares roles, rights, row-level security, triggers, functions, tables and
    /// partitions with what the migrations make. Reads only. A superuser and an auditor
    /// see all, but an auditor no row of a default partition; for another login, what it
    /// cannot see is a warning.
    /// Exits with 1 when there is a problem, with 2 when it could not see all.
    #[command(verbatim_doc_comment)]
    Doctor(Doctor),
    Metrics(metrics::Metrics),
    /// Removes partitions that are older than records are kept; without --yes says which.
    ///
    /// A partition goes as a whole, when the last of its records is old enough, unless a
    /// legal hold or a foreign key of another table stands against it. Each
    /// removal is recorded in the trail, with a hash of what was removed. For a login of
    /// an operator. Exits with 1 when one that was to go did not.
    #[command(verbatim_doc_comment)]
    Retain(Retain),
    /// Moves rows out of the default partitions into ones of their own; without --yes says which.
    ///
    /// Rows are there that a clock dated far ahead, or more than a year back. What is to
    /// be one partition moves as a whole, in one transaction that is recorded in the trail.
    /// For a login of an operator. Exits with 1 when one that was to move did not.
    #[command(verbatim_doc_comment)]
    Settle(Settle),
    Seal(seal::Seal),
    #[command(subcommand)]
    Key(key::KeyCommand),
    Erase(erase::Erase),
    Verify(verify::Verify),
    Witness(witness::Witness),
    Prove(prove::Prove),
    CheckProof(check_proof::CheckProof),
    Serve(serve::Serve),
    Export(export::Export),
    #[cfg(feature = "archive")]
    Archive(archive::Archive),
    /// Places a legal hold: what it covers is not removed until it is lifted. Or lists all.
    ///
    /// For a login of an auditor or an operator. Recorded in the trail.
    #[command(verbatim_doc_comment)]
    Hold(hold::Hold),
    /// Lifts a legal hold.
    ///
    /// For a login of an auditor: who removes partitions lifts no hold. Recorded in the
    /// trail. Exits with 1 when there is no such hold.
    #[command(verbatim_doc_comment)]
    Release(hold::Release),
    /// Shows what redaction would make of a text; needs no database.
    ///
    /// Prints the text as it would be stored, and on standard error which rules applied,
    /// and how often. The rules are those of `AUDIT_REDACT`, as your program reads it.
    /// Exits with 1 when a rule applied.
    #[cfg(feature = "redact")]
    #[command(verbatim_doc_comment)]
    Redact(redact::Redact),
    /// Lists, shows and drains local logs that no running program looks after.
    ///
    /// For a host that is retired or a volume that is left. Never prints what the
    /// records say. Run it as the user that the program ran as.
    #[command(verbatim_doc_comment, subcommand)]
    Spool(SpoolCommand),
}

/// What to do with local logs.
#[derive(Debug, Subcommand)]
enum SpoolCommand {
    /// Lists the logs: whose, how much waits in them and since when, and who has them.
    ///
    /// Exits with 1 when there is none.
    List {
        /// The folder of a program's logs, or that of one log. Else `AUDIT_SPOOL_DIR`, else where
        /// this user's programs keep them.
        dir: Option<PathBuf>,
        /// Prints an array.
        #[arg(long)]
        json: bool,
    },
    /// Tells what is in one log: numbers, kinds and times, never what the records say.
    Show {
        /// The folder of one log.
        dir: PathBuf,
        /// Prints an object.
        #[arg(long)]
        json: bool,
    },
    /// Writes what is left in logs into Postgres, and removes them.
    ///
    /// Each record is written once, also when this is stopped by Ctrl-C and run again.
    /// A log that a running process has is left to it. Needs a login that may write to
    /// the trail. Exits with 1 when something is left, and says why, or when there is no log.
    #[command(verbatim_doc_comment)]
    Drain {
        /// The folder of a program's logs, or that of one log.
        dir: PathBuf,
        /// Says that the database was restored from a backup older than the logs.
        ///
        /// Without it, a database that has no record of a log is refused if records of it were
        /// committed: it may be another project's, where they would stay for good.
        #[arg(long)]
        after_restore: bool,
        /// Also exports what was not exported, to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT`
        /// and the other variables of OpenTelemetry name.
        ///
        /// A log whose spans the collector does not accept stays. Without this, it is removed
        /// once its records are in Postgres.
        #[cfg(feature = "otlp")]
        #[arg(long)]
        otlp: bool,
        /// Prints an array of {folder, outcome, records, `dead_lettered`, exported, why}.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `migrate`.
#[derive(Args, Debug)]
struct Migrate {
    /// Lets this login add to the trail, and do nothing else; may be repeated.
    #[arg(long = "writer-login", value_name = "LOGIN")]
    writer: Vec<String>,
    /// Lets this login read the rows of the tenant that it has set (`app.current_tenant`).
    #[arg(long = "reader-login", value_name = "LOGIN")]
    reader: Vec<String>,
    /// Lets this login read all tenants' rows, and place and lift legal holds.
    #[arg(long = "auditor-login", value_name = "LOGIN")]
    auditor: Vec<String>,
    /// Lets this login make and remove partitions, and place legal holds.
    #[arg(long = "operator-login", value_name = "LOGIN")]
    operator: Vec<String>,
    /// Lets this login seal the trail, which needs no right to read it.
    #[arg(long = "sealer-login", value_name = "LOGIN")]
    sealer: Vec<String>,
    /// Makes the roles and nothing else, before a dump is restored on a server that has none.
    #[arg(long, conflicts_with_all = ["writer", "reader", "auditor", "operator", "sealer"])]
    only_roles: bool,
    /// Prints the SQL instead, for sqlx-cli, refinery, Flyway, Atlas or psql; needs no database.
    ///
    /// For a database that has no trail. It is one statement, applied whole or not at all.
    /// Such a program keeps it with the host's own migrations, and grants the logins.
    #[arg(long, verbatim_doc_comment, conflicts_with_all = ["writer", "reader", "auditor", "operator", "sealer", "only_roles"])]
    print: bool,
    /// Removes the trail and makes it anew, empty: for a development database.
    ///
    /// Asks for the name of the database first. Refused where a legal hold is in force, where
    /// there is more than a day of records, and where something of yours depends on the trail.
    #[arg(long, conflicts_with_all = ["print", "only_roles"])]
    reset: bool,
}

/// Arguments of `show`.
#[derive(Args, Debug)]
struct Show {
    /// The request to tell the story of, or the id of one record.
    request_id: String,
    /// Whole texts, and the ids of each record.
    #[arg(long)]
    full: bool,
    /// Prints an array of the records, each whole, with its kind and its columns.
    ///
    /// A record that Postgres cannot make JSON of, or of more than 144 MiB, has the field
    /// "unread", which says why, in place of its columns; then the command exits with 2.
    ///
    /// "metadata" is what the program said: a record that nests deeper, or has a longer
    /// number, than your reader of JSON takes costs it the whole array. tail prints a line
    /// for each record.
    #[arg(long, verbatim_doc_comment)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
    #[cfg(feature = "archive")]
    #[command(flatten)]
    archive: archive::InArchive,
}

/// Arguments of `tail`.
#[derive(Args, Debug)]
struct Tail {
    /// How many of the newest rows to begin with.
    ///
    /// They are looked for in the last 1,000 batches, or N batches when that is more.
    #[arg(long, value_name = "N", default_value_t = 10)]
    last: u32,
    /// Lines with all columns, however wide: texts up to 2,000 characters.
    #[arg(long)]
    full: bool,
    /// Prints each record whole, as a line of JSON with its kind and its columns.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
}

/// Arguments of `retain`.
#[derive(Args, Debug)]
struct Retain {
    /// How long records are kept, as Postgres reads a span of time: '7 years', '18 months'.
    #[arg(long, value_name = "SPAN", value_parser = NonEmptyStringValueParser::new())]
    keep: String,
    /// Of this table only; may be repeated. Each may be kept for a time of its own.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    kind: Vec<String>,
    /// Removes what the plan says can be removed, for good.
    #[arg(long)]
    yes: bool,
    /// Prints an array of {partition, kind, from, to, rows, bytes, obstacles, removed, event}.
    #[arg(long)]
    json: bool,
}

/// Arguments of `settle`.
#[derive(Args, Debug)]
struct Settle {
    /// Of this kind only; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    kind: Vec<String>,
    /// The partitions from this time on; every partition costs all who read some time.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Moves what the plan says can be moved.
    #[arg(long)]
    yes: bool,
    /// Prints an array of {partition, kind, from, to, rows, obstacles, settled, event}.
    #[arg(long)]
    json: bool,
}

/// Arguments of `doctor`.
#[derive(Args, Debug, Default)]
struct Doctor {
    /// Prints an array of {check, severity, object, found, expected, advice, explanation, accepted}.
    ///
    /// The advice is a statement that can be run as it stands; the explanation is for people.
    #[arg(long)]
    json: bool,
    /// Exits with 1 when there is a warning, too.
    #[arg(long)]
    strict: bool,
    /// Tells the findings of this check alone; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(doctor::CHECKS), hide_possible_values = true)]
    check: Vec<String>,
    /// Accepts what is in this file: a JSON array of {check, object, reason}, each with a found or without.
    ///
    /// Such a finding is printed with the reason, and counts for nothing. One that is not
    /// found any more is a warning.
    #[arg(long, value_name = "FILE")]
    accept: Option<PathBuf>,
    /// The newest batch must be younger than this, as 15m, 2h or 1d.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_age: Option<Duration>,
    /// Each table of this schema must be tracked (audit.track); may be given several times.
    #[arg(long, value_name = "SCHEMA")]
    expect_tracked: Vec<String>,
    /// Also checks whether the trail's archive is locked: a folder, `s3://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.
    ///
    /// Else the one that the environment variable `AUDIT_ARCHIVE` names, if it is set.
    #[cfg(feature = "archive")]
    #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
    archive: Option<String>,
    /// Prints the facts that the others are compared with, for the golden files.
    #[arg(long, hide = true)]
    snapshot: bool,
}

/// Arguments of every command that reads rows.
#[derive(Args, Debug)]
struct Reading {
    /// Reads this tenant's rows only; a UUID, or the key the application uses.
    ///
    /// A role that is bound to one tenant by row-level security sees no row without it.
    #[arg(long, value_name = "KEY")]
    tenant: Option<String>,
    /// Records in the trail, before anything is read, that it is read and why.
    ///
    /// A role that may read all tenants' rows should always say it. The record tells who
    /// read, when, from where, why, and which request and tenant was asked for.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    purpose: Option<String>,
}

fn main() -> ExitCode {
    // This program is the whole process, so it installs the default crypto provider: verify-ca
    // needs one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match arguments::read() {
        Ok(cli) => cli,
        Err(sentence) => {
            complain(&sentence);
            return ExitCode::from(2);
        }
    };
    let error = match run(cli) {
        Ok(code) => return code,
        Err(error) => error,
    };
    if error.is_closed_pipe() {
        // The reader closed the pipe, as `head` does in `tail | head`.
        return ExitCode::SUCCESS;
    }
    complain(&error.to_string());
    ExitCode::from(error.exit_code())
}

/// Runs the command.
fn run(cli: Cli) -> Result<ExitCode, Error> {
    let url = cli.url.filter(|url| !url.is_empty()).or_else(|| {
        ["AUDIT_DATABASE_URL", "DATABASE_URL"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()))
    });
    if let Command::Spool(command) = &cli.command {
        return spool::run(command, url.as_deref());
    }
    #[cfg(feature = "redact")]
    if let Command::Redact(arguments) = &cli.command {
        return redact::run(arguments);
    }
    if let Command::Key(command) = &cli.command {
        return key::run(command);
    }
    if let Command::Witness(arguments) = &cli.command {
        return witness::run(arguments);
    }
    if let Command::Migrate(Migrate { print: true, .. }) = &cli.command {
        migrate::print()?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::CheckProof(arguments) = &cli.command {
        check_proof::check(arguments)?;
        return Ok(ExitCode::SUCCESS);
    }
    #[cfg(feature = "archive")]
    if let Command::Archive(arguments) = &cli.command
        && let Some(done) = archive::run_without_database(arguments)
    {
        return done;
    }
    #[cfg(feature = "archive")]
    if url.is_none() {
        match &cli.command {
            Command::Show(arguments) if arguments.archive.is_named() => {
                runtime()?.block_on(show::run(None, arguments))?;
                return Ok(ExitCode::SUCCESS);
            }
            Command::Find(arguments) if arguments.is_of_archive() => {
                runtime()?.block_on(find::run(None, arguments))?;
                return Ok(ExitCode::SUCCESS);
            }
            Command::Export(arguments) if arguments.is_of_archive() => {
                return export::run(None, arguments);
            }
            _ => {}
        }
    }
    let url = url.ok_or(Error::NoUrl)?;
    let database = Database::new(&url)?;
    match cli.command {
        Command::Migrate(arguments) => migrate::run(&database, &url, &arguments)?,
        Command::Show(arguments) => runtime()?.block_on(show::run(Some(&database), &arguments))?,
        Command::Find(arguments) => runtime()?.block_on(find::run(Some(&database), &arguments))?,
        Command::Tail(arguments) => {
            tail::end_on_signal()?;
            runtime()?.block_on(tail::run(&database, &arguments))?;
        }
        Command::Doctor(arguments) => {
            return runtime()?.block_on(doctor::run(&database, &arguments));
        }
        Command::Metrics(_) => runtime()?.block_on(metrics::run(&database))?,
        Command::Retain(arguments) => {
            return runtime()?.block_on(retain::run(&database, &arguments));
        }
        Command::Settle(arguments) => {
            return runtime()?.block_on(settle::run(&database, &arguments));
        }
        Command::Hold(arguments) => runtime()?.block_on(hold::run(&database, &arguments))?,
        Command::Verify(arguments) => {
            return runtime()?.block_on(verify::run(&database, &arguments));
        }
        Command::Seal(arguments) => return seal::run(&database, &arguments),
        Command::Serve(arguments) => return serve::run(database, arguments),
        Command::Export(arguments) => return export::run(Some(&database), &arguments),
        #[cfg(feature = "archive")]
        Command::Archive(arguments) => return archive::run(&database, &arguments),
        Command::Erase(arguments) => runtime()?.block_on(erase::run(&database, &arguments))?,
        Command::Prove(arguments) => runtime()?.block_on(prove::run(&database, &arguments))?,
        #[cfg(feature = "redact")]
        Command::Redact(_) => {}
        Command::Spool(_) | Command::CheckProof(_) | Command::Key(_) | Command::Witness(_) => {}
        Command::Release(arguments) => runtime()?.block_on(hold::release(&database, &arguments))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds a single-threaded runtime.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    // tokio panics if it gets no file handles for its signals: three pairs are what it opens.
    #[cfg(unix)]
    let held = (0..3).map(|_| std::os::unix::net::UnixStream::pair());
    #[cfg(unix)]
    drop(
        held.collect::<io::Result<Vec<_>>>()
            .map_err(Error::Runtime)?,
    );
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)
}

/// Prints a message to stderr.
fn complain(sentence: &str) {
    // If stderr is gone too, there is nowhere left to report it.
    let _ = writeln!(
        io::stderr(),
        "tracing-audit: {}",
        text::escape_line(sentence)
    );
}
