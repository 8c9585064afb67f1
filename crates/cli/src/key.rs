//! `key`: makes keys that sign checkpoints, and shows what verifies.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use tracing_audit::__program::ledger::key::{MemoryKey, Signer as _};
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
        #[command(flatten)]
        place: KeyPlace,
    },
    /// Prints the key that verifies what a signing key signs.
    Show {
        /// The name of the log, if the key is in a token: a file has it.
        #[cfg(feature = "pkcs11")]
        #[arg(long, value_name = "ORIGIN", required_unless_present = "file")]
        name: Option<String>,
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
    let vkey = match command {
        KeyCommand::New { name, place } => {
            #[cfg(feature = "pkcs11")]
            let made = place.token.generate(name)?;
            #[cfg(not(feature = "pkcs11"))]
            let made = None;
            match made {
                Some(vkey) => vkey,
                None => of_file(place, |file| key_file::create(file, name))?
                    .vkey()
                    .clone(),
            }
        }
        #[cfg(feature = "pkcs11")]
        KeyCommand::Show { name, place } => {
            let name = name.as_deref().unwrap_or_default();
            match place.token.vkey(name)? {
                Some(vkey) => vkey,
                None => of_file(place, key_file::read)?.vkey().clone(),
            }
        }
        #[cfg(not(feature = "pkcs11"))]
        KeyCommand::Show { place } => of_file(place, key_file::read)?.vkey().clone(),
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
