//! `witness`: cosigns checkpoints of logs, if they are consistent with what it has cosigned before.

mod cosigner;
mod server;
mod state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::net::TcpListener;
use tracing_audit::__program::ledger::key::{Algorithm, Signer as _};
use tracing_audit::__program::seal::key_file;

use self::cosigner::Cosigner;
use self::state::State;
use crate::error::Error;
use crate::verify::published::read_key;
use crate::{complain, tail};

/// Cosigns checkpoints of logs: a server by C2SP's tlog-witness, until Ctrl-C. Needs no database.
///
/// A checkpoint is cosigned only if it is consistent with the last one that was cosigned of
/// its log. So whoever requires a cosignature sees a log that was restored, forked, or signed
/// anew with a stolen key. Run it on another machine, in other hands than the database and
/// the log's key. It speaks plain HTTP: put a proxy with TLS before it.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Witness {
    /// The file with the witness's own key, which `key new --witness` wrote; nobody else may be able to read it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The verifier key of a log that is witnessed, or a file with it; may be given several times.
    ///
    /// A log that has changed its key is given with each key that is still to be believed.
    #[arg(long, value_name = "KEY", required = true)]
    log: Vec<String>,
    /// The folder with the size and the root of the last tree that was cosigned of each log.
    ///
    /// Made if the one above it is there. Never restore it from a backup: the witness would
    /// forget what it has cosigned since. If it is lost, make a new key.
    #[arg(long, value_name = "FOLDER", verbatim_doc_comment)]
    state: PathBuf,
    /// The address to listen on; checkpoints are sent to /add-checkpoint there.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7380")]
    listen: SocketAddr,
}

/// Runs the command.
pub(crate) fn run(arguments: &Witness) -> Result<ExitCode, Error> {
    let key = key_file::read(&arguments.key).map_err(|source| Error::Key {
        place: arguments.key.display().to_string(),
        source,
    })?;
    let mut logs = Vec::new();
    for log in &arguments.log {
        let vkey = read_key(log)?;
        if vkey.algorithm() != Algorithm::Ed25519 {
            return Err(Error::WitnessedKey("is a witness's, not a log's"));
        }
        // A cosignature by that key would be taken for the log's own.
        if vkey.public_key() == key.vkey().public_key() {
            return Err(Error::WitnessedKey("is this witness's own"));
        }
        logs.push(vkey);
    }
    let vkey = key.vkey().with_algorithm(Algorithm::CosignatureV1);
    let failed = |source| Error::State {
        path: arguments.state.clone(),
        source,
    };
    let state = State::open(&arguments.state).map_err(failed)?;
    let cosigner = Cosigner::new(key, logs, state).map_err(failed)?;
    let runtime = crate::runtime()?;
    runtime.block_on(async {
        let address = arguments.listen;
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        complain(&format!("the witness {vkey} listens on http://{address}"));
        let mut signalled = Ok(());
        server::serve(cosigner, listener, async {
            signalled = tail::signal().await;
        })
        .await;
        signalled.map_err(Error::Runtime)
    })?;
    Ok(ExitCode::SUCCESS)
}
