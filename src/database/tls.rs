//! The certificates and the key that TLS needs, looked at before sqlx reads them: it does not say
//! which file is wrong, and repeats lines of it.

use std::path::Path;

use super::cause::{self, Cause};
use super::pem::{self, Wanted};

/// Whether sqlx does TLS by the system's library, which is OpenSSL on Linux.
const IS_NATIVE: bool = cfg!(feature = "tls-native");

/// What a parameter says: the path of a PEM file, or the text itself.
///
/// It has no `Debug`, since it may be a key.
#[derive(Clone)]
pub(super) struct TlsFile {
    parameter: &'static str,
    wanted: Wanted,
    value: String,
}

/// As libpq and sqlx tell a PEM text from the path of a file, and more: a text that is taken for a
/// path would be repeated as one.
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

    /// Looks whether it can be used.
    pub(super) fn check(&self) -> Result<(), Cause> {
        let parameter = self.parameter;
        if is_inline_pem(&self.value) {
            return pem::look(self.value.as_bytes(), self.wanted, IS_NATIVE).map_err(|flaw| {
                let words = flaw.words(self.wanted);
                Cause::to_mend(format!("the PEM text of {parameter} {words}"))
            });
        }
        let path = Path::new(&self.value);
        // A FIFO would be waited for, for ever.
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

    /// What an operator looks for. A path is repeated only where it is one for sure: a key without
    /// its first and last line would be taken for one as well.
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

    /// The parameter with its file, for an error of which nobody knows whose it is.
    pub(super) fn told(&self) -> String {
        if !is_inline_pem(&self.value) && Path::new(&self.value).is_absolute() {
            format!("{} ({})", self.parameter, self.value)
        } else {
            String::from(self.parameter)
        }
    }
}

/// The words of an error of TLS; `None` for those that may hold lines of a file, as of a key.
pub(super) fn words_of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let text = error.to_string();
    if let Some(said) = of_openssl(&text) {
        return Some(said);
    }
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
    if error.is::<rustls::Error>() {
        return Some(cause::words(&text));
    }
    let is_of_the_system = IS_NATIVE && !text.starts_with("Invalid certificate");
    is_of_the_system.then(|| cause::words(&text))
}

/// What OpenSSL means by `error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:…`, if it is
/// OpenSSL that speaks: the reasons, and what stands in parentheses behind them.
pub(super) fn of_openssl(text: &str) -> Option<String> {
    let mut reasons = Vec::new();
    for part in text.split(", ") {
        let Some((_, error)) = part.split_once("error:") else {
            continue;
        };
        // The number, the library, the function, and then the reason.
        let reason = error.split(':').nth(3)?.trim();
        if !reason.is_empty() && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    if reasons.is_empty() {
        return None;
    }
    let mut said = reasons.join(", ");
    if let Some((_, detail)) = text.rsplit_once(" (")
        && let Some(detail) = detail.strip_suffix(')')
        && !detail.starts_with("os error")
    {
        said = format!("{said}: {detail}");
    }
    Some(cause::words(&said))
}

/// What to do about an error of TLS.
pub(super) fn advice(said: &str, tls_files: &str) -> String {
    let said = said.to_lowercase();
    let is = |word: &str| said.contains(word);
    // The server's, about the client.
    if is("alert") {
        let advice = if is("unknown ca") || is("unknownca") {
            "; the server does not know the authority that signed the certificate of sslcert: it has to be in its ssl_ca_file"
        } else if is("required") {
            "; the server wants a client certificate: set sslcert and sslkey"
        } else if is("certificate") {
            "; the server does not take the certificate of sslcert: is it valid now, and for clients?"
        } else {
            ""
        };
        return String::from(advice);
    }
    if is("keymismatch") || is("key values mismatch") {
        return String::from("; the key of sslkey is not that of the certificate in sslcert");
    }
    let of_a_file = [
        "asn1",
        "badencoding",
        "bad base64",
        "header too long",
        "no start line",
        "not enough data",
        "wrong tag",
    ];
    let is_of_a_file = said == "unsupported" || of_a_file.iter().any(|word| is(word));
    let advice = if is("unknownissuer")
        || is("unable to get")
        || is("self-signed")
        || is("self signed")
        || is("verify failed")
    {
        "; set sslrootcert to the certificate of the authority that signed the server's"
    } else if is("name") && (is("valid") || is("mismatch")) {
        "; the server's certificate is for another name: use the host name that is in it"
    } else if is("expired") {
        "; renew the server's certificate, or set this machine's clock"
    } else if is_of_a_file && !tls_files.is_empty() {
        return format!("; one of these is damaged: {tls_files}");
    } else {
        ""
    };
    String::from(advice)
}
