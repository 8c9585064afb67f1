//! Checks the certificates and the key for TLS before sqlx reads them: sqlx does not say which file
//! is wrong, and repeats lines of it.

use std::path::Path;

use super::cause::{self, Cause};
use super::pem::{self, Wanted};
use super::tls_words::IS_NATIVE;

/// The value of a parameter: the path of a PEM file, or the text itself.
///
/// It has no `Debug`, since it may be a key.
#[derive(Clone)]
pub(super) struct TlsFile {
    parameter: &'static str,
    wanted: Wanted,
    value: String,
}

/// Returns whether a value is PEM text rather than the path of a file. It finds all that libpq and
/// sqlx find, and more: a text that is taken for a path would be repeated as one.
pub(super) fn is_inline_pem(value: &str) -> bool {
    value.contains("-----BEGIN") || value.contains('\n')
}

impl TlsFile {
    pub(super) fn new(parameter: &'static str, value: &str) -> Self {
        let wanted = if parameter == "sslkey" {
            Wanted::Key
        } else {
            Wanted::Certificates
        };
        Self {
            parameter,
            wanted,
            value: String::from(value),
        }
    }

    /// Checks that it can be used.
    pub(super) fn check(&self) -> Result<(), Cause> {
        let parameter = self.parameter;
        if is_inline_pem(&self.value) {
            return pem::look(self.value.as_bytes(), self.wanted, IS_NATIVE).map_err(|flaw| {
                let words = flaw.words(self.wanted);
                Cause::to_mend(format!("the PEM text of {parameter} {words}"))
            });
        }
        let path = Path::new(&self.value);
        // Reading a FIFO would wait for ever.
        let content = match std::fs::metadata(path) {
            Ok(data) if !data.is_file() => {
                return Err(Cause::to_mend(format!(
                    "{} is no regular file",
                    self.name(true)
                )));
            }
            Ok(_) => std::fs::read(path),
            Err(error) => Err(error),
        };
        let content = content.map_err(|error| {
            let name = self.name(path.exists());
            Cause::to_mend(format!("{name} cannot be read: {}", cause::of_io(&error)))
        })?;
        pem::look(&content, self.wanted, IS_NATIVE).map_err(|flaw| {
            let words = flaw.words(self.wanted);
            Cause::to_mend(format!("{} {words}", self.name(true)))
        })
    }

    /// Returns what an operator looks for. A path is repeated only if it certainly is one: a key
    /// without its first and last line would be taken for one as well.
    fn name(&self, is_there: bool) -> String {
        let path = Path::new(&self.value);
        if is_there || path.is_absolute() {
            format!("the file of {}, {},", self.parameter, path.display())
        } else {
            format!(
                "the file of {}, whose path is not absolute,",
                self.parameter
            )
        }
    }

    /// Returns the parameter with its file, for an error that may be about any of the files.
    pub(super) fn told(&self) -> String {
        if !is_inline_pem(&self.value) && Path::new(&self.value).is_absolute() {
            format!("{} ({})", self.parameter, self.value)
        } else {
            String::from(self.parameter)
        }
    }
}
