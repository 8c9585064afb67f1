//! `seal`: seals the trail, signs its ledger and publishes that.

use std::io::{self, Write as _};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;
use tracing_audit::__program::seal::{Notice, Notify, Outcome, Place, SealConfig, Sealer, Witness};

use crate::database::Database;
use crate::error::Error;
use crate::signer::SignerArguments;
use crate::verify::published::read_keys;
use crate::{complain, lacking, tail, text};

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
    #[command(flatten)]
    signer: SignerArguments,
    /// A verifier key with which the log was signed before, or a file with it; may be given several times.
    ///
    /// What it has signed is accepted where checkpoints are published, and the log goes on
    /// from there with the new key, which has the same name. Not needed any more once each
    /// anchor has a checkpoint by the new key.
    #[arg(long, value_name = "KEY", verbatim_doc_comment)]
    old_key: Vec<String>,
    /// Publishes in this folder, or bucket `s3://BUCKET/PREFIX`; may be given several times.
    ///
    /// As C2SP's tlog-tiles. A folder is made if the one above it is there. A bucket should
    /// have Object Lock with a default retention; credentials, region and endpoint are those
    /// of the `AWS_*` environment variables. It gets a checkpoint every 10 s at most.
    #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new(), verbatim_doc_comment)]
    anchor: Vec<String>,
    /// Has each checkpoint cosigned by this witness (`tracing-audit witness`); may be given several times.
    ///
    /// VKEY is its verifier key. Checkpoints are published with the cosignatures that come
    /// within 2 s; a witness that is slow or away delays nothing more, and is asked again.
    #[arg(long, value_name = "URL=VKEY", value_parser = NonEmptyStringValueParser::new(), verbatim_doc_comment)]
    witness: Vec<String>,
    /// Prints each checkpoint of another size, and one a minute.
    #[arg(long)]
    stdout: bool,
    /// How often to look for batches to seal, as 500ms or 5s: 10 ms to 1 minute.
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Seals all there is, publishes at each anchor, and ends; with 1 if an anchor could not be
    /// written, or a witness did not cosign.
    #[arg(long)]
    once: bool,
    /// Tells what happens as lines of JSON, on standard error: {event, size, anchor, witness, message}.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(database: &Database, arguments: &Seal) -> Result<ExitCode, Error> {
    let anchors = anchors(arguments)?;
    let config = SealConfig::new(arguments.signer.open()?, anchors, Some(arguments.interval));
    let config = config
        .old_keys(read_keys(&arguments.old_key)?)
        .map_err(Error::OldKey)?
        .with_witnesses(witnesses(arguments)?)
        .map_err(Error::Witness)?;
    let notify: Notify = if arguments.json {
        Arc::new(|notice| {
            print_json(
                notice.name(),
                notice.size(),
                notice.anchor(),
                notice.witness(),
                notice,
            );
        })
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

fn anchors(arguments: &Seal) -> Result<Vec<Place>, Error> {
    let mut places = Vec::new();
    for anchor in &arguments.anchor {
        lacking::bucket(anchor)?;
        places.push(Place::parse(anchor).map_err(Error::Anchor)?);
    }
    places.extend(arguments.stdout.then_some(Place::Stdout));
    Ok(places)
}

fn witnesses(arguments: &Seal) -> Result<Vec<Witness>, Error> {
    let witnesses = arguments.witness.iter();
    witnesses
        .map(|witness| Witness::parse(witness).map_err(Error::Witness))
        .collect()
}

/// Tells what was done once.
fn report(outcome: &Outcome, is_json: bool) -> ExitCode {
    let Outcome { sealed, head, .. } = outcome;
    let done = format!("sealed {sealed} batches; the ledger has {}", head.size);
    if is_json {
        print_json("done", Some(head.size), None, None, &done);
    } else {
        complain(&done);
    }
    for (anchor, error) in &outcome.unpublished {
        if is_json {
            print_json("anchor_failed", None, Some(anchor), None, error);
        } else {
            complain(&format!("nothing was published at {anchor}: {error}"));
        }
    }
    for (witness, error) in &outcome.unwitnessed {
        let loud = if error.is_conflict() {
            "THE WITNESS CONTRADICTS THIS LOG: "
        } else {
            ""
        };
        if is_json {
            let event = if error.is_conflict() {
                "witness_conflict"
            } else {
                "witness_failed"
            };
            print_json(event, None, None, Some(witness), error);
        } else {
            complain(&format!(
                "{loud}the witness {witness} did not cosign: {error}"
            ));
        }
    }
    if outcome.unpublished.is_empty() && outcome.unwitnessed.is_empty() {
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
    witness: Option<&str>,
    message: &dyn std::fmt::Display,
) {
    let line = json!({"event": event, "size": size, "anchor": anchor, "witness": witness, "message": message.to_string()});
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
