//! Reads libpq's environment variables, for what the URL leaves out.
//!
//! Each stands for a parameter and has the meaning of that parameter: it is obeyed, or it is an
//! error that names the variable. sqlx reads some of them as well, and skips what it does not
//! understand.

use std::ffi::OsString;
use std::path::PathBuf;

use super::error::{UrlError, refused};

/// The variables, in an order in which they can be applied. Missing are `PGOPTIONS`, which sqlx
/// passes on as it is, and those that have no effect on a connection of this library: `PGAPPNAME`,
/// `PGCLIENTENCODING`, `PGDATESTYLE`, `PGTZ` and `PGGEQO`.
pub(super) const VARIABLES: [(&str, &str); 30] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGSSLMODE", "sslmode"),
    // Old; the one before takes precedence.
    ("PGREQUIRESSL", "requiressl"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLCOMPRESSION", "sslcompression"),
    ("PGSSLSNI", "sslsni"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGSERVICE", "service"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGMINPROTOCOLVERSION", "min_protocol_version"),
    ("PGMAXPROTOCOLVERSION", "max_protocol_version"),
];

/// The environment that a program runs in.
pub(super) struct Environment<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The user's home folder.
    pub(super) home: Option<PathBuf>,
}

impl Environment<'_> {
    /// Returns the environment of this process.
    pub(super) fn of_process() -> Self {
        Self {
            variable: &|name| std::env::var_os(name),
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
        }
    }

    /// Returns the value of a variable; `None` if it is unset or empty.
    pub(super) fn said(&self, name: &str) -> Result<Option<String>, UrlError> {
        let Some(value) = (self.variable)(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let value = value
            .into_string()
            .map_err(|_| refused(name, "is no UTF-8"))?;
        Ok(Some(value))
    }

    /// Returns whether a variable is set, even to an empty value.
    pub(super) fn is_set(&self, name: &str) -> bool {
        (self.variable)(name).is_some()
    }

    /// Returns the user's file of trusted authorities, if it exists: libpq uses it if no other is
    /// named.
    pub(super) fn root_certificate(&self) -> Option<String> {
        let home = self.home.as_ref()?;
        let path = home.join(if cfg!(windows) {
            "AppData/Roaming/postgresql/root.crt"
        } else {
            ".postgresql/root.crt"
        });
        path.is_file().then(|| path.to_str().map(String::from))?
    }
}
