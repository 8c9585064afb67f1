//! Explains to an operator why a server cannot be reached: what happened, and what to do.
//!
//! Nothing of it is a secret or a value of the host's: a server's own message is repeated only if
//! it answers a connection attempt, and the URL's secrets are removed from it.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use sqlx::postgres::PgSslMode;

use super::tls_words::{self, words};

/// Why one server could not be reached.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    text: String,
    /// The SQLSTATE of the server's answer, if it answered.
    pub(crate) sqlstate: Option<String>,
    /// Whether somebody must fix it: it does not pass by itself.
    is_to_mend: bool,
    /// Whether TLS was begun and failed.
    is_of_tls: bool,
}

impl Cause {
    pub(super) fn to_mend(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            sqlstate: None,
            is_to_mend: true,
            is_of_tls: false,
        }
    }

    pub(super) fn unwanted(text: &str) -> Self {
        Self {
            text: String::from(text),
            // As Postgres reports it for a statement that writes.
            sqlstate: Some(String::from("25006")),
            is_to_mend: false,
            is_of_tls: false,
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
            is_of_tls: false,
        }
    }

    /// Explains an error that occurred while connecting; `tls_files` are those that it may be
    /// about.
    pub(super) fn of(error: sqlx::Error, said_ssl_mode: PgSslMode, tls_files: &str) -> Self {
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
                    is_of_tls: false,
                }
            }
            sqlx::Error::Io(error) => {
                let text = of_io(&error);
                Self {
                    is_of_tls: text.starts_with("TLS: "),
                    text,
                    sqlstate: None,
                    // rustls does not accept something.
                    is_to_mend: error.kind() == io::ErrorKind::InvalidData,
                }
            }
            sqlx::Error::Tls(error) if error.to_string() == "server does not support TLS" => {
                Self::to_mend(format!(
                    "the server offers no TLS, and sslmode={} asks for it: switch ssl on there, or set another sslmode",
                    mode(said_ssl_mode)
                ))
            }
            sqlx::Error::Tls(error) => Self {
                is_of_tls: true,
                ..Self::to_mend(match tls_words::words_of(&*error) {
                    Some(said) => format!("TLS: {said}{}", tls_words::advice(&said, tls_files)),
                    None => of_files(tls_files),
                })
            },
            // The error repeats the line of a key that cannot be parsed.
            sqlx::Error::Configuration(_) => Self::to_mend(of_files(tls_files)),
            sqlx::Error::Protocol(error) if is_of_another_protocol(&error) => Self {
                text: String::from(
                    "something answers there that does not speak Postgres' protocol: are host and port right?",
                ),
                sqlstate: None,
                is_to_mend: false,
                is_of_tls: false,
            },
            other => Self {
                text: words(&other.to_string()),
                sqlstate: None,
                is_to_mend: false,
                is_of_tls: false,
            },
        }
    }

    /// Combines the causes of both ways that `sslmode` allows.
    pub(super) fn both(with_tls: &Self, without: Self) -> Self {
        Self {
            text: format!("with TLS: {}; without TLS: {}", with_tls.text, without.text),
            sqlstate: without.sqlstate.or_else(|| with_tls.sqlstate.clone()),
            is_to_mend: with_tls.is_to_mend && without.is_to_mend,
            is_of_tls: false,
        }
    }

    /// Returns whether the other way, which has `mode`, may work: after rules of the server that
    /// refuse a connection with TLS, or without it, and after a handshake that failed.
    pub(super) fn may_be_none_of(&self, mode: PgSslMode) -> bool {
        let is_by_rule = self.sqlstate.as_deref() == Some("28000");
        if !matches!(mode, PgSslMode::Disable) {
            return is_by_rule && sqlx_core::net::tls::available();
        }
        // The first way already had no TLS.
        let was_plain = self.text.contains("no encryption") || !sqlx_core::net::tls::available();
        self.is_of_tls || is_by_rule && !was_plain
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the cause with a note appended.
    pub(super) fn and(mut self, note: &str) -> Self {
        self.text.push_str("; ");
        self.text.push_str(note);
        self
    }

    /// Returns whether the server answered and refused this login.
    pub(super) fn is_refused_login(&self) -> bool {
        self.sqlstate
            .as_deref()
            .is_some_and(|sqlstate| sqlstate.starts_with("28"))
    }

    /// Returns the cause without the secrets.
    pub(super) fn without(mut self, secrets: &[String]) -> Self {
        for secret in secrets {
            self.text = self.text.replace(secret.as_str(), "…");
        }
        self
    }
}

/// Why no server could be reached.
#[derive(Clone, Debug)]
pub struct Unreachable {
    causes: Vec<(String, Cause)>,
}

impl Unreachable {
    pub(super) fn new(causes: Vec<(String, Cause)>) -> Self {
        Self { causes }
    }

    /// Returns whether somebody must fix something; otherwise it may pass by itself.
    pub fn is_to_mend(&self) -> bool {
        self.causes.iter().all(|(_, cause)| cause.is_to_mend)
    }

    /// Returns the SQLSTATE of the last server that was tried, if it answered.
    pub fn sqlstate(&self) -> Option<&str> {
        self.causes.last()?.1.sqlstate.as_deref()
    }

    /// Returns the cause alone if there is only one server.
    #[cfg(any(feature = "__program", feature = "seal"))]
    pub fn cause(&self) -> String {
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

/// Returns a text that repeats nothing of the error, which may hold a part of a key.
fn of_files(tls_files: &str) -> String {
    if tls_files.is_empty() {
        return String::from("the settings of TLS cannot be used");
    }
    format!("TLS: the certificate or key cannot be used: look at {tls_files}")
}

/// Whether sqlx could not even read an answer, as that of an HTTP server.
fn is_of_another_protocol(error: &str) -> bool {
    ["SSLRequest", "unknown message type", "message_len"]
        .iter()
        .any(|word| error.contains(word))
}

/// Explains an error of the operating system.
pub(crate) fn of_io(error: &io::Error) -> String {
    // EMFILE and ENFILE, which have no kind.
    if matches!(error.raw_os_error(), Some(23 | 24)) {
        return String::from(
            "too many open files: raise the limit of the process (ulimit -n), or look for what leaves files open",
        );
    }
    let text = error.to_string();
    // OpenSSL reports this after a handshake whose end the server does not accept.
    if let Some(said) = tls_words::of_openssl(&text) {
        return format!("TLS: {said}{}", tls_words::advice(&said, ""));
    }
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
        io::ErrorKind::PermissionDenied => String::from(
            "permission denied: may this user use that socket or file, and does a firewall of this machine refuse it?",
        ),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => String::from(
            "no way leads there: is the address right, and is this machine in that network?",
        ),
        io::ErrorKind::TimedOut => String::from("timed out: does a firewall drop the packets?"),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => {
            String::from("the connection was closed by the other side: is that a Postgres server?")
        }
        // rustls reports what it does not accept as a source.
        io::ErrorKind::InvalidData => {
            let text = words(&match error.source() {
                Some(source) => source.to_string(),
                None => text,
            });
            format!("TLS: {text}{}", tls_words::advice(&text, ""))
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

/// Returns what to do about an error that a server returned.
fn advice(sqlstate: &str, message: &str) -> &'static str {
    match sqlstate {
        "28P01" => "; check the password in the URL, PGPASSWORD or the passfile",
        "28000" if message.contains("no encryption") && !sqlx_core::net::tls::available() => {
            "; the server wants TLS, and this build has none: enable feature tls-ring, tls-aws-lc-rs or tls-native of tracing-audit"
        }
        "28000" if message.contains("no encryption") => {
            "; the server wants TLS: set sslmode=require"
        }
        "28000" if message.contains("certificate") => {
            "; the server wants a client certificate: set sslcert and sslkey"
        }
        "28000" if message.contains("SSL encryption") => {
            "; check the login, and pg_hba.conf on the server: if it takes this one without TLS alone, set sslmode=disable"
        }
        "28000" if message.contains("not permitted to log in") => {
            "; use another login, or let this one log in: ALTER ROLE … LOGIN"
        }
        "28000" => "; check the login, and pg_hba.conf on the server",
        "3D000" => "; make the database, or name another in the URL",
        "53300" if message.contains("connections for role") => {
            "; raise this login's CONNECTION LIMIT (ALTER ROLE), or use another login"
        }
        "53300" if message.contains("connections for database") => {
            "; raise the database's CONNECTION LIMIT (ALTER DATABASE)"
        }
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
