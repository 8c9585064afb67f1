//! Parses a database URL as libpq does: several hosts, sockets, IPv6, parameters.
//!
//! Whatever is not understood is refused, since an overlooked parameter may be the one that asks
//! for TLS. No error repeats a value: it may be a part of the password.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::environment::{Environment, VARIABLES};
use super::error::{UrlError, refused};
use super::options::{setting_option, settings};
use super::parameters::{UNKNOWN, other};
use super::passfile;
use super::servers::{Servers, Wanted, is_tcp};
use super::tls::{TlsFile, is_inline_pem};

const ENCODE: &str = "what stands for the port is no number up to 65535; a user or password that holds one of / : @ ? # % \
                      has to be percent-encoded";

/// A host as given: the name, its address if that is given too, and the port.
#[derive(Clone, Default)]
struct Host {
    name: String,
    address: String,
    port: String,
}

#[derive(Default)]
struct Parts {
    /// The parameters that have a value, in libpq's spelling: no variable stands for them.
    named: Vec<String>,
    hosts: Vec<Host>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    passfile: Option<PathBuf>,
    options: Vec<String>,
    ssl_mode: Option<PgSslMode>,
    root_certificate: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    sends_no_certificate: bool,
    wanted: Option<Wanted>,
    /// The parameter or variable that set it.
    wanted_by: &'static str,
    is_random: bool,
    connect_timeout: Option<Duration>,
    statement_cache: Option<usize>,
}

impl std::str::FromStr for Servers {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        parse(url, &Environment::of_process())
    }
}

pub(super) fn parse(url: &str, environment: &Environment<'_>) -> Result<Servers, UrlError> {
    let rest = url
        .strip_prefix("postgresql://")
        .or_else(|| url.strip_prefix("postgres://"))
        .ok_or(UrlError::Scheme)?;
    let (before, query) = match rest.split_once('?') {
        Some((before, query)) => (before, query),
        None => (rest, ""),
    };
    // Otherwise, a part of a password could be taken for a parameter's name, and be repeated.
    if query.contains('@') && !before.contains('@') {
        return Err(UrlError::Malformed(ENCODE));
    }
    let (authority, path) = before.split_once('/').unwrap_or((before, ""));
    // Likewise, a part of it could be taken for the database, and what is before it for a host and
    // its port.
    if path.contains('@') {
        return Err(UrlError::Malformed(ENCODE));
    }
    let mut parts = Parts::default();
    let host_list = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            parts.user = said(decode(user)?);
            parts.password = password.map(decode).transpose()?.and_then(said);
            hosts
        }
        None => authority,
    };
    parts.hosts = host_list
        .split(',')
        .map(host_and_port)
        .collect::<Result<_, _>>()?;
    parts.database = said(decode(path.trim_start_matches('/'))?);
    if parts.hosts.iter().any(|host| !host.port.is_empty()) {
        parts.named.push(String::from("port"));
    }
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    for (number, parameter) in parameters.enumerate() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let set = parts.name(&decode(name)?, decode(value)?, number + 1);
        set.map_err(|error| match error {
            UrlError::Parameter { why: UNKNOWN, .. } if query.contains('@') => {
                UrlError::Malformed(ENCODE)
            }
            error => error,
        })?;
    }
    parts.take_from_environment(environment)?;
    parts.into_servers(environment)
}

/// Returns `None` for an empty value, which counts as not given.
fn said(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

fn decode(text: &str) -> Result<String, UrlError> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| UrlError::Malformed("what is percent-encoded in it is no UTF-8"))?;
    if text.contains('\0') {
        return Err(UrlError::Malformed("it holds a NUL"));
    }
    Ok(text.into_owned())
}

fn host_and_port(host: &str) -> Result<Host, UrlError> {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let (name, after) = rest
            .split_once(']')
            .ok_or(UrlError::Malformed("an IPv6 address in it has no ]"))?;
        let port = after.strip_prefix(':').unwrap_or(after);
        if !after.is_empty() && !after.starts_with(':') {
            return Err(UrlError::Malformed(ENCODE));
        }
        (name, port)
    } else {
        host.split_once(':').unwrap_or((host, ""))
    };
    // Checked before any parameter: it may be a password that no host follows.
    if !port.is_empty() && !is_port(port) {
        return Err(UrlError::Malformed(ENCODE));
    }
    Ok(Host {
        name: decode(name)?,
        address: String::new(),
        port: String::from(port),
    })
}

fn is_port(said: &str) -> bool {
    said.parse().is_ok_and(|port: u16| port != 0)
}

/// Returns libpq's spelling of a parameter.
fn spelling(name: &str) -> &str {
    match name {
        "ssl-mode" => "sslmode",
        "ssl-root-cert" | "ssl-ca" => "sslrootcert",
        "ssl-cert" => "sslcert",
        "ssl-key" => "sslkey",
        _ if name.starts_with("options[") && name.ends_with(']') => "options",
        name => name,
    }
}

impl Parts {
    /// Sets a parameter of the URL, and notes that the URL sets it.
    fn name(&mut self, name: &str, value: String, number: usize) -> Result<(), UrlError> {
        if !value.is_empty() {
            self.named.push(String::from(spelling(name)));
            if matches!(
                (name, value.as_str()),
                ("ssl", "true") | ("requiressl", "1")
            ) {
                self.named.push(String::from("sslmode"));
            }
        }
        self.set(name, value, number)
    }

    /// Sets one parameter, the `number`th of the URL.
    fn set(&mut self, name: &str, value: String, number: usize) -> Result<(), UrlError> {
        match spelling(name) {
            "user" => self.user = said(value),
            "password" => self.password = said(value),
            "dbname" => self.database = said(value),
            "passfile" => self.passfile = said(value).map(PathBuf::from),
            "host" => self.each_host(&value, name, |host, value| host.name = value)?,
            "hostaddr" => {
                let is_address = |value: &str| value.is_empty() || value.parse::<IpAddr>().is_ok();
                if !value.split(',').all(is_address) {
                    return Err(refused(name, "is no IP address"));
                }
                self.each_host(&value, name, |host, value| host.address = value)?;
            }
            "port" => {
                if !value
                    .split(',')
                    .all(|port| port.is_empty() || is_port(port))
                {
                    return Err(refused(name, "is no number from 1 to 65535"));
                }
                self.each_host(&value, name, |host, value| host.port = value)?;
            }
            "options" => match name.strip_prefix("options[") {
                Some(setting) => {
                    let setting = setting.strip_suffix(']').unwrap_or(setting);
                    self.options.push(setting_option(setting, &value));
                }
                None => self.options.extend(said(value)),
            },
            "sslmode" => {
                let mode = value.parse().map_err(|_| {
                    refused(
                        name,
                        "is none of disable, allow, prefer, require, verify-ca and verify-full",
                    )
                })?;
                self.ssl_mode = Some(mode);
            }
            "ssl" if value == "true" => self.ssl_mode = Some(PgSslMode::Require),
            "requiressl" if value == "1" => {
                self.ssl_mode.get_or_insert(PgSslMode::Require);
            }
            "sslrootcert" => self.root_certificate = said(value),
            "sslcert" => self.certificate = said(value),
            "sslkey" => self.key = said(value),
            "sslcertmode" if value == "disable" => self.sends_no_certificate = true,
            "connect_timeout" => {
                let seconds: i64 = value
                    .trim()
                    .parse()
                    .map_err(|_| refused(name, "is no number of seconds"))?;
                // In libpq, 0 and below mean no timeout; here they mean the usual one.
                self.connect_timeout = u64::try_from(seconds)
                    .ok()
                    .filter(|seconds| *seconds > 0)
                    .map(Duration::from_secs);
            }
            "target_session_attrs" => {
                self.wanted_by = "target_session_attrs";
                self.wanted = Some(match value.as_str() {
                    "any" => Wanted::Any,
                    "read-write" => Wanted::Writable,
                    "read-only" => Wanted::ReadOnly,
                    "primary" => Wanted::Primary,
                    "standby" => Wanted::Standby,
                    "prefer-standby" => Wanted::PreferStandby,
                    _ => {
                        return Err(refused(
                            name,
                            "is none of any, read-write, read-only, primary, standby and prefer-standby",
                        ));
                    }
                });
            }
            "load_balance_hosts" => match value.as_str() {
                "disable" => self.is_random = false,
                "random" => self.is_random = true,
                _ => return Err(refused(name, "is neither disable nor random")),
            },
            "statement-cache-capacity" => {
                let capacity = value.parse().map_err(|_| refused(name, "is no number"))?;
                self.statement_cache = Some(capacity);
            }
            _ => return other(name, &value, number),
        }
        Ok(())
    }

    /// Sets something for each host of a list. One value applies to all.
    fn each_host(
        &mut self,
        values: &str,
        name: &str,
        set: impl Fn(&mut Host, String),
    ) -> Result<(), UrlError> {
        let values: Vec<_> = values.split(',').collect();
        let (hosts, count) = (self.hosts.len(), values.len());
        if hosts < count && hosts == 1 {
            // The URL has no hosts: all of them are in parameters.
            self.hosts.resize(count, self.hosts[0].clone());
        }
        if count != 1 && count != self.hosts.len() {
            return Err(refused(name, "has not as many entries as there are hosts"));
        }
        for (number, host) in self.hosts.iter_mut().enumerate() {
            set(host, String::from(values[number % count]));
        }
        Ok(())
    }

    fn into_servers(self, environment: &Environment<'_>) -> Result<Servers, UrlError> {
        // Holds what sqlx reads of the variables: each is set again below.
        let mut options = PgConnectOptions::new_without_pgpass()
            .application_name("tracing-audit")
            // No float is read, and pgbouncer accepts only a few session parameters.
            .extra_float_digits(None)
            .disable_statement_logging();
        let mut secrets = Vec::new();
        if let Some(user) = &self.user {
            options = options.username(user);
        } else if environment.is_set("PGUSER") {
            return Err(refused("PGUSER", "is set to nothing"));
        }
        if let Some(database) = &self.database {
            options = options.database(database);
        } else if environment.is_set("PGDATABASE") {
            // As in libpq, if that is set to an empty value.
            let user = String::from(options.get_username());
            options = options.database(&user);
        }
        if let Some(capacity) = self.statement_cache {
            options = options.statement_cache_capacity(capacity);
        }
        if !self.options.is_empty() {
            // sqlx accepts only settings, and puts `-c` before each.
            for (name, value) in settings(&self.options.join(" "))? {
                options = options.options([(name, &value)]);
                secrets.push(value);
            }
        }
        let of_environment = environment.said("PGOPTIONS")?.unwrap_or_default();
        let of_environment = settings(&of_environment).unwrap_or_default();
        secrets.extend(of_environment.into_iter().map(|(_, value)| value));
        let tls_files = self.tls_files();
        let ssl_mode = self.effective_ssl_mode()?;
        options = self.with_certificates(options.ssl_mode(ssl_mode), environment)?;
        secrets.extend(self.password.clone());
        let mut passfile_note = None;
        let mut hosts = Vec::new();
        for host in &self.hosts {
            let mut options = host.apply(options.clone(), ssl_mode)?;
            let mut password = self.password.clone();
            if password.is_none() {
                let found = passfile::password(self.passfile.as_deref(), &options, &host.name);
                secrets.extend(found.password.clone());
                password = found.password;
                passfile_note = passfile_note.or(found.note);
            }
            if let Some(password) = password {
                options = options.password(&password);
            }
            hosts.push(options);
        }
        if self.is_random {
            shuffle(&mut hosts);
        }
        secrets.retain(|secret| secret.len() > 2);
        let wanted = match self.wanted {
            Some(wanted) => wanted,
            // A server that cannot be written is of little use if there is another.
            None if hosts.len() > 1 => Wanted::Writable,
            None => Wanted::Any,
        };
        Ok(Servers {
            hosts,
            ssl_mode,
            said_ssl_mode: self.ssl_mode.unwrap_or_default(),
            wanted,
            wanted_by: self.wanted_by,
            connect_timeout: self.connect_timeout,
            tls_files,
            passfile_note,
            secrets,
        })
    }

    /// Takes from the environment what the URL leaves out.
    fn take_from_environment(&mut self, environment: &Environment<'_>) -> Result<(), UrlError> {
        for (variable, parameter) in VARIABLES {
            let is_said = match parameter {
                "host" => {
                    let is_said = |host: &Host| !host.name.is_empty() || !host.address.is_empty();
                    self.hosts.len() > 1 || self.hosts.iter().any(is_said)
                }
                "user" => self.user.is_some(),
                "password" => self.password.is_some(),
                "dbname" => self.database.is_some(),
                "requiressl" => self.ssl_mode.is_some(),
                parameter => self.named.iter().any(|named| named == parameter),
            };
            if is_said {
                continue;
            }
            let Some(value) = environment.said(variable)? else {
                continue;
            };
            let set = self.set(parameter, value, 0);
            set.map_err(|error| match error {
                UrlError::Parameter { why, .. } => refused(variable, why),
                error => error,
            })?;
            if parameter == "target_session_attrs" {
                self.wanted_by = variable;
            }
        }
        let is_without = matches!(
            self.ssl_mode,
            None | Some(PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer)
        );
        if self.root_certificate.is_none() && !is_without {
            self.root_certificate = environment.root_certificate();
        }
        Ok(())
    }

    /// Returns the mode that applies. As in libpq, a root certificate is used for verification if
    /// encryption is required, and the system's only if the server's name is verified as well.
    fn effective_ssl_mode(&self) -> Result<PgSslMode, UrlError> {
        match (self.ssl_mode, self.root_certificate.as_deref()) {
            (None | Some(PgSslMode::VerifyFull), Some("system")) => Ok(PgSslMode::VerifyFull),
            (Some(_), Some("system")) => {
                Err(refused("sslrootcert", "system needs sslmode=verify-full"))
            }
            (Some(PgSslMode::Require), Some(_)) => Ok(PgSslMode::VerifyCa),
            (mode, _) => Ok(mode.unwrap_or_default()),
        }
    }

    fn tls_files(&self) -> Vec<TlsFile> {
        let root = self
            .root_certificate
            .as_deref()
            .filter(|root| *root != "system");
        [
            ("sslrootcert", root),
            ("sslcert", self.certificate.as_deref()),
            ("sslkey", self.key.as_deref()),
        ]
        .into_iter()
        .filter_map(|(parameter, value)| Some(TlsFile::new(parameter, value?)))
        .collect()
    }

    fn with_certificates(
        &self,
        mut options: PgConnectOptions,
        environment: &Environment<'_>,
    ) -> Result<PgConnectOptions, UrlError> {
        match self.root_certificate.as_deref() {
            // The system's roots are used anyway. sqlx has taken the variable for a path.
            None | Some("system") if environment.is_set("PGSSLROOTCERT") => {
                if cfg!(feature = "tls-native") {
                    return Err(refused(
                        "PGSSLROOTCERT",
                        "cannot be had with this value in a build with tls-native: unset it, and set sslrootcert in the URL",
                    ));
                }
                options = options.ssl_root_cert_from_pem(Vec::new());
            }
            None | Some("system") => {}
            Some(pem) if is_inline_pem(pem) => {
                options = options.ssl_root_cert_from_pem(pem.as_bytes().to_vec());
            }
            Some(path) => options = options.ssl_root_cert(path),
        }
        if self.sends_no_certificate && self.certificate.is_some() {
            return Err(refused(
                "sslcertmode",
                "disable leaves no use for sslcert: leave that out",
            ));
        }
        for (file, variable) in [(&self.certificate, "PGSSLCERT"), (&self.key, "PGSSLKEY")] {
            // sqlx takes an empty value for the path of a file.
            if file.is_none() && environment.is_set(variable) {
                return Err(refused(variable, "is set to nothing: unset it"));
            }
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(refused(
                "sslcert, sslkey",
                "one is of no use without the other",
            ));
        }
        options = match self.certificate.as_deref() {
            None => options,
            Some(pem) if is_inline_pem(pem) => options.ssl_client_cert_from_pem(pem),
            Some(path) => options.ssl_client_cert(path),
        };
        Ok(match self.key.as_deref() {
            None => options,
            Some(pem) if is_inline_pem(pem) => options.ssl_client_key_from_pem(pem),
            Some(path) => options.ssl_client_key(path),
        })
    }
}

impl Host {
    fn apply(
        &self,
        mut options: PgConnectOptions,
        ssl_mode: PgSslMode,
    ) -> Result<PgConnectOptions, UrlError> {
        // A port that is not given is this one, even if another host has one.
        options = options.port(self.port.parse().unwrap_or(5432));
        if !self.address.is_empty() {
            if matches!(ssl_mode, PgSslMode::VerifyFull) {
                return Err(refused(
                    "hostaddr",
                    "cannot be had with sslmode=verify-full; where the URL has none, it is from PGHOSTADDR",
                ));
            }
            options = options.host(&self.address);
        } else if self.name.starts_with('/') {
            options = options.socket(&self.name);
        } else if !self.name.is_empty() {
            if self
                .name
                .contains(|c: char| c.is_whitespace() || c.is_control())
            {
                return Err(UrlError::Malformed("a host's name in it has a blank"));
            }
            options = options.host(&self.name);
        } else if options.get_host().is_empty() {
            // The variable is set to an empty value.
            options = options.host("localhost");
        }
        // As in libpq: nobody can listen in on a socket, and Postgres offers no TLS there.
        if !is_tcp(&options) {
            options = options.ssl_mode(PgSslMode::Disable);
        }
        Ok(options)
    }
}

/// Shuffles the hosts anew at each start, so that many programs do not all choose the same one.
fn shuffle(hosts: &mut [PgConnectOptions]) {
    use std::hash::{BuildHasher as _, RandomState};
    for last in (1..hosts.len()).rev() {
        let random = RandomState::new().hash_one(last);
        // At most as many as there are hosts.
        let chosen = usize::try_from(random % (last as u64 + 1)).unwrap_or(0);
        hosts.swap(last, chosen);
    }
}
