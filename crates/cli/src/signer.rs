//! What signs in the name of the log: a key in a file, in the environment, or in a PKCS#11 token.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use tracing_audit::__program::ledger::key::{MemoryKey, Signer};
use tracing_audit::__program::seal::key_file;

use crate::error::Error;
#[cfg(feature = "pkcs11")]
use crate::token::TokenArguments;

/// Which key signs.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("signer").required(true)))]
pub(crate) struct SignerArguments {
    /// The file with the signing key, which `key new` wrote; nobody else may be able to read it.
    #[arg(long, value_name = "FILE", group = "signer")]
    key: Option<PathBuf>,
    /// The environment variable with the text of the signing key.
    #[arg(long, value_name = "NAME", group = "signer")]
    key_env: Option<String>,
    #[cfg(feature = "pkcs11")]
    #[command(flatten)]
    token: TokenArguments,
    /// The name of the log, if its key is in a token: as example.com/trail.
    #[cfg(feature = "pkcs11")]
    #[arg(long, value_name = "ORIGIN", requires = "key_pkcs11")]
    key_name: Option<String>,
}

impl SignerArguments {
    /// Returns what signs.
    pub(crate) fn open(&self) -> Result<Arc<dyn Signer>, Error> {
        #[cfg(feature = "pkcs11")]
        {
            let name = self.key_name.as_deref();
            if let Some(token) = self.token.open(name)? {
                return Ok(Arc::new(token));
            }
        }
        Ok(Arc::new(self.key()?))
    }

    /// Reads the signing key.
    fn key(&self) -> Result<MemoryKey, Error> {
        let (place, read) = match (&self.key, &self.key_env) {
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
}
