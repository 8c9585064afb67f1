//! `key`: makes keys that sign checkpoints, and shows what verifies.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use tracing_audit::__program::ledger::key::{Algorithm, MemoryKey, Signer as _};
use tracing_audit::__program::seal::key_file;

use crate::error::Error;
#[cfg(feature = "pkcs11")]
use crate::token::TokenArguments;

/// Makes keys that sign checkpoints of the ledger, and shows what verifies them.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Makes a new signing key, in a file that only this user can read or in a token, and prints the key that verifies.
    ///
    /// A key that is there already is never overwritten. Whoever verifies needs what is
    /// printed, from a source that the database's administrators cannot alter.
    #[command(verbatim_doc_comment)]
    New {
        /// The name of the log, with which its checkpoints begin: a domain and a path, as example.com/trail.
        #[arg(long, value_name = "ORIGIN")]
        name: String,
        /// Makes the key of a witness, for `tracing-audit witness`: the name is that of the witness.
        #[arg(long)]
        witness: bool,
        #[command(flatten)]
        place: KeyPlace,
    },
    /// Prints the key that verifies what a signing key signs.
    Show {
        /// The name of the log, if the key is in a token: a file has it.
        #[cfg(feature = "pkcs11")]
        #[arg(long, value_name = "ORIGIN", required_unless_present = "file")]
        name: Option<String>,
        /// Prints it as that of a witness.
        #[arg(long)]
        witness: bool,
        #[command(flatten)]
        place: KeyPlace,
    },
}

/// Where a signing key is.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("signer").required(true)))]
pub(crate) struct KeyPlace {
    /// The file.
    #[arg(group = "signer")]
    file: Option<PathBuf>,
    #[cfg(feature = "pkcs11")]
    #[command(flatten)]
    token: TokenArguments,
}

/// Runs the command.
pub(crate) fn run(command: &KeyCommand) -> Result<ExitCode, Error> {
    let (vkey, is_witness) = match command {
        KeyCommand::New {
            name,
            witness,
            place,
        } => {
            #[cfg(feature = "pkcs11")]
            let made = place.token.generate(name)?;
            #[cfg(not(feature = "pkcs11"))]
            let made = None;
            let vkey = match made {
                Some(vkey) => vkey,
                None => of_file(place, |file| key_file::create(file, name))?
                    .vkey()
                    .clone(),
            };
            (vkey, *witness)
        }
        #[cfg(feature = "pkcs11")]
        KeyCommand::Show {
            name,
            witness,
            place,
        } => {
            let name = name.as_deref().unwrap_or_default();
            let vkey = match place.token.vkey(name)? {
                Some(vkey) => vkey,
                None => of_file(place, key_file::read)?.vkey().clone(),
            };
            (vkey, *witness)
        }
        #[cfg(not(feature = "pkcs11"))]
        KeyCommand::Show { witness, place } => {
            (of_file(place, key_file::read)?.vkey().clone(), *witness)
        }
    };
    let vkey = if is_witness {
        vkey.with_algorithm(Algorithm::CosignatureV1)
    } else {
        vkey
    };
    writeln!(io::stdout(), "{vkey}").map_err(Error::Output)?;
    Ok(ExitCode::SUCCESS)
}

fn of_file(
    place: &KeyPlace,
    key: impl FnOnce(&Path) -> io::Result<MemoryKey>,
) -> Result<MemoryKey, Error> {
    let file = place.file.as_deref().unwrap_or(Path::new(""));
    key(file).map_err(|source| Error::Key {
        place: file.display().to_string(),
        source,
    })
}
