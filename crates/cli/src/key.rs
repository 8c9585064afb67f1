//! `key`: makes keys that sign checkpoints.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use tracing_audit::__program::ledger::key::{Algorithm, Signer as _};
use tracing_audit::__program::seal::key_file;

use crate::error::Error;

/// Makes keys that sign checkpoints of the ledger.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Writes a new signing key to a file that only this user can read, and prints the key that verifies.
    ///
    /// A file that is there already is never overwritten. Whoever verifies needs what is
    /// printed, from a source that the database's administrators cannot alter.
    #[command(verbatim_doc_comment)]
    New {
        /// The name of the log, with which its checkpoints begin: a domain and a path, as example.com/trail.
        #[arg(long, value_name = "ORIGIN")]
        name: String,
        /// Makes the key of a witness, for `tracing-audit witness`: the name is that of the witness.
        #[arg(long)]
        witness: bool,
        /// The file.
        file: PathBuf,
    },
}

/// Runs the command.
pub(crate) fn run(command: &KeyCommand) -> Result<ExitCode, Error> {
    let KeyCommand::New {
        name,
        witness,
        file,
    } = command;
    let key = key_file::create(file, name).map_err(|source| Error::Key {
        place: file.display().to_string(),
        source,
    })?;
    let algorithm = match witness {
        true => Algorithm::CosignatureV1,
        false => Algorithm::Ed25519,
    };
    let vkey = key.vkey().with_algorithm(algorithm);
    writeln!(io::stdout(), "{vkey}").map_err(Error::Output)?;
    Ok(ExitCode::SUCCESS)
}
