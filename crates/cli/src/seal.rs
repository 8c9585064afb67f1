//! `seal`: seals the trail, signs its ledger and publishes that.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;
use tracing_audit::__program::ledger::key::MemoryKey;
use tracing_audit::__program::seal::{
    Notice, Notify, Outcome, Place, SealConfig, Sealer, key_file,
};

use crate::database::Database;
use crate::error::Error;
use crate::{complain, tail, text};

/// Seals the trail: adds its batches to the ledger, signs it and publishes that, until Ctrl-C.
///
/// Any number of these may run at once, and programs that seal their own trail. For a
/// login of `migrate --sealer-login`, which needs no right to read the trail. Without an
/// anchor the newest checkpoint is in the database alone, where it proves nothing.
/// An anchor that is away is caught up when it is back, and delays no other. Nothing is
/// signed while the database's ledger is not the one that was signed before.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Seal {
    /// The file with the signing key, which `key new` wrote; nobody else may be able to read it.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "key_env",
        conflicts_with = "key_env"
    )]
    key: Option<PathBuf>,
    /// The environment variable with the text of the signing key.
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,
    /// Publishes in this folder, or bucket `s3://BUCKET/PREFIX`; may be given several times.
    ///
    /// As C2SP's tlog-tiles. A folder is made if the one above it is there. A bucket should
    /// have Object Lock with a default retention; credentials, region and endpoint are those
    /// of the `AWS_*` environment variables. It gets a checkpoint every 10 s at most.
    #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new(), verbatim_doc_comment)]
    anchor: Vec<String>,
    /// Prints each checkpoint of another size, and one a minute.
    #[arg(long)]
    stdout: bool,
    /// How often to look for batches to seal, as 500ms or 5s: 10 ms to 1 minute.
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Seals all there is, publishes at each anchor, and ends; with 1 if an anchor could not be written.
    #[arg(long)]
    once: bool,
    /// Tells what happens as lines of JSON, on standard error: {event, size, anchor, message}.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(database: &Database, arguments: &Seal) -> Result<ExitCode, Error> {
    let config = SealConfig::new(
        Arc::new(key(arguments)?),
        anchors(arguments)?,
        Some(arguments.interval),
    );
    let notify: Notify = if arguments.json {
        Arc::new(|notice| print_json(notice.name(), notice.size(), notice.anchor(), notice))
    } else {
        Arc::new(|notice: &Notice| {
            if notice.is_change() {
                complain(&notice.to_string());
            }
        })
    };
    let mut sealer = Sealer::new(database.servers(), config, notify);
    let runtime = crate::runtime()?;
    let ended = if arguments.once {
        let outcome = runtime.block_on(sealer.once());
        outcome
            .map_err(Error::from)
            .map(|outcome| report(&outcome, arguments.json))
    } else {
        runtime
            .block_on(until_signal(sealer.run()))
            .map_err(Error::Runtime)
            .map(|()| ExitCode::SUCCESS)
    };
    // A disk that hangs keeps nobody here.
    runtime.shutdown_background();
    ended
}

/// Reads the signing key.
fn key(arguments: &Seal) -> Result<MemoryKey, Error> {
    let (place, read) = match (&arguments.key, &arguments.key_env) {
        (Some(path), _) => (path.display().to_string(), key_file::read(path)),
        (None, name) => {
            let name = name.as_deref().unwrap_or_default();
            let read = match std::env::var(name) {
                Ok(text) => key_file::parse(&text),
                Err(_) => Err(io::Error::other("the variable is not set, or is not UTF-8")),
            };
            (format!("the environment variable {name}"), read)
        }
    };
    read.map_err(|source| Error::Key { place, source })
}

fn anchors(arguments: &Seal) -> Result<Vec<Place>, Error> {
    let mut places = Vec::new();
    for anchor in &arguments.anchor {
        places.push(Place::parse(anchor).map_err(Error::Anchor)?);
    }
    places.extend(arguments.stdout.then_some(Place::Stdout));
    Ok(places)
}

/// Tells what was done once.
fn report(outcome: &Outcome, is_json: bool) -> ExitCode {
    let Outcome { sealed, head, .. } = outcome;
    let done = format!("sealed {sealed} batches; the ledger has {}", head.size);
    if is_json {
        print_json("done", Some(head.size), None, &done);
    } else {
        complain(&done);
    }
    for (anchor, error) in &outcome.unpublished {
        if is_json {
            print_json("anchor_failed", None, Some(anchor), error);
        } else {
            complain(&format!("nothing was published at {anchor}: {error}"));
        }
    }
    if outcome.unpublished.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

/// Prints an event as a line of JSON.
fn print_json(
    event: &str,
    size: Option<u64>,
    anchor: Option<&str>,
    message: &dyn std::fmt::Display,
) {
    let line =
        json!({"event": event, "size": size, "anchor": anchor, "message": message.to_string()});
    // If stderr is gone, there is nowhere left to report it.
    let _ = writeln!(io::stderr(), "{}", text::escape_json(&line.to_string()));
}

/// Runs something until the program is told to end.
async fn until_signal(running: impl Future<Output = ()>) -> io::Result<()> {
    let (mut running, mut signal) = (pin!(running), pin!(tail::signal()));
    std::future::poll_fn(|context| {
        if let Poll::Ready(signalled) = signal.as_mut().poll(context) {
            return Poll::Ready(signalled);
        }
        running.as_mut().poll(context).map(Ok)
    })
    .await
}
