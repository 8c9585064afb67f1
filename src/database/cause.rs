//! Why a server is not reached, in words for an operator: what happened, and what to do.
//!
//! Nothing of it is a secret or a value of the host's: a server's own words are repeated only where
//! they answer a connection that is being made, and what the URL keeps secret is taken out of them.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use sqlx::postgres::PgSslMode;

/// How long the words of a server may be.
const WORDS_CHARS: usize = 300;

/// Why one server was not reached.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    text: String,
    /// What the server said, if it answered.
    pub(crate) sqlstate: Option<String>,
    /// It does not go by itself.
    is_to_mend: bool,
}

impl Cause {
    pub(super) fn to_mend(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            sqlstate: None,
            is_to_mend: true,
        }
    }

    pub(super) fn unwanted(text: &str) -> Self {
        Self {
            text: String::from(text),
            // As Postgres says it to a statement that writes.
            sqlstate: Some(String::from("25006")),
            is_to_mend: false,
        }
    }

    pub(super) fn no_answer(limit: Duration) -> Self {
        Self {
            text: format!(
                "no answer within {} s: does a firewall drop the packets, or is the server stuck?",
                limit.as_secs().max(1)
            ),
            sqlstate: None,
            is_to_mend: false,
        }
    }

    /// What an error means that came while a connection was made.
    pub(super) fn of(error: sqlx::Error, ssl_mode: PgSslMode) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let sqlstate = error.code().unwrap_or_default().into_owned();
                let advice = advice(&sqlstate, error.message());
                Self {
                    text: format!("{} (SQLSTATE {sqlstate}){advice}", words(error.message())),
                    is_to_mend: ["28", "3D", "42"]
                        .iter()
                        .any(|class| sqlstate.starts_with(class)),
                    sqlstate: Some(sqlstate),
                }
            }
            sqlx::Error::Io(error) => Self {
                text: of_io(&error),
                sqlstate: None,
                is_to_mend: false,
            },
            sqlx::Error::Tls(error) => {
                let error = words(&error.to_string());
                Self::to_mend(match error.as_str() {
                    "server does not support TLS" => format!(
                        "the server offers no TLS, and sslmode={} asks for it: switch ssl on there, or set another sslmode",
                        mode(ssl_mode)
                    ),
                    _ => format!("TLS: {error}{}", tls_advice(&error)),
                })
            }
            sqlx::Error::Configuration(error) => Self::to_mend(words(&error.to_string())),
            other => Self {
                text: words(&other.to_string()),
                sqlstate: None,
                is_to_mend: false,
            },
        }
    }

    /// Whether the server answered and refused this login.
    pub(super) fn is_refused_login(&self) -> bool {
        self.sqlstate
            .as_deref()
            .is_some_and(|sqlstate| sqlstate.starts_with("28"))
    }

    /// The same without what must not be said.
    pub(super) fn without(mut self, secrets: &[String]) -> Self {
        for secret in secrets {
            self.text = self.text.replace(secret.as_str(), "…");
        }
        self
    }
}

/// Why no server was reached.
#[derive(Clone, Debug)]
pub(crate) struct Unreachable {
    causes: Vec<(String, Cause)>,
}

impl Unreachable {
    pub(super) fn new(causes: Vec<(String, Cause)>) -> Self {
        Self { causes }
    }

    /// Whether somebody must mend something; else it may go by itself.
    pub(crate) fn is_to_mend(&self) -> bool {
        self.causes.iter().all(|(_, cause)| cause.is_to_mend)
    }

    /// What the last server said that was tried, if it answered.
    pub(crate) fn sqlstate(&self) -> Option<&str> {
        self.causes.last()?.1.sqlstate.as_deref()
    }

    #[allow(dead_code, reason = "for the command line")]
    /// The cause alone, where there is but one server.
    pub(crate) fn cause(&self) -> String {
        match &self.causes[..] {
            [(_, cause)] => cause.text.clone(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (place, cause)) in self.causes.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{place}: {}", cause.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Unreachable {}

/// The words of another, in one line and not without end.
fn words(said: &str) -> String {
    let mut words: String = said
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WORDS_CHARS)
        .collect();
    words.truncate(words.trim_end().len());
    words
}

/// What an error of the system means.
pub(crate) fn of_io(error: &io::Error) -> String {
    // EMFILE and ENFILE, which have no kind.
    if matches!(error.raw_os_error(), Some(23 | 24)) {
        return String::from(
            "too many open files: raise the limit of the process (ulimit -n), or look for what leaves files open",
        );
    }
    let text = error.to_string();
    if text.contains("failed to lookup address information") {
        let why = text.rsplit(": ").next().unwrap_or_default();
        return format!(
            "the name of the host cannot be resolved: {}; is it right, and is there a DNS server?",
            words(why)
        );
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => String::from(
            "connection refused: nothing listens there; does Postgres run, on this address and port?",
        ),
        io::ErrorKind::NotFound => String::from("no such file: is the path right?"),
        io::ErrorKind::PermissionDenied => String::from("permission denied"),
        io::ErrorKind::TimedOut => String::from("timed out: does a firewall drop the packets?"),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => {
            String::from("the connection was closed by the other side: is that a Postgres server?")
        }
        // So rustls says what it does not like, as a source.
        io::ErrorKind::InvalidData => {
            let text = words(&match error.source() {
                Some(source) => source.to_string(),
                None => text,
            });
            format!("TLS: {text}{}", tls_advice(&text))
        }
        _ => {
            let text = words(&text);
            match text.split_once(" (os error ") {
                Some((text, _)) => text.to_lowercase(),
                None => text,
            }
        }
    }
}

/// What to do about a certificate.
fn tls_advice(said: &str) -> &'static str {
    let said = said.to_lowercase();
    let is = |word: &str| said.contains(word);
    if is("unknownissuer") || is("unable to get") || is("self-signed") || is("self signed") {
        "; set sslrootcert to the certificate of the authority that signed the server's"
    } else if is("name") && (is("valid") || is("mismatch")) {
        "; the server's certificate is for another name: use the host name that is in it"
    } else if is("expired") {
        "; renew the server's certificate, or set this machine's clock"
    } else {
        ""
    }
}

/// What to do about what a server said.
fn advice(sqlstate: &str, message: &str) -> &'static str {
    match sqlstate {
        "28P01" => "; check the password in the URL, PGPASSWORD or the passfile",
        "28000" if message.contains("no encryption") && !sqlx_core::net::tls::available() => {
            "; the server wants TLS, and this build has none: enable feature tls-ring, tls-aws-lc-rs or tls-native of tracing-audit"
        }
        "28000" if message.contains("no encryption") => {
            "; the server wants TLS: set sslmode=require"
        }
        "28000" => "; check the login, and pg_hba.conf on the server",
        "3D000" => "; make the database, or name another in the URL",
        "53300" => "; raise max_connections, or leave some to this program",
        "57P03" => "; it starts or stops, and is tried again",
        "42501" => "; GRANT CONNECT ON DATABASE to this login",
        _ => "",
    }
}

fn mode(ssl_mode: PgSslMode) -> &'static str {
    match ssl_mode {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}
