//! A database URL, read as libpq reads it: several hosts, sockets, IPv6, parameters.
//!
//! What is not understood is refused, since a parameter that is overlooked may be the one that
//! asks for TLS. No error repeats a value: it may be a part of the password.

use std::env;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::passfile;
use super::{Servers, TlsFile, Wanted, is_inline_pem, is_tcp};

/// Why a URL is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UrlError {
    /// It is no URL of Postgres at all.
    Scheme,
    /// It cannot be taken apart.
    Malformed(&'static str),
    /// A parameter that is not known, or a value of it.
    Parameter { name: String, why: &'static str },
}

impl std::fmt::Display for UrlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scheme => f.write_str("it does not begin with postgres://"),
            Self::Malformed(why) => f.write_str(why),
            Self::Parameter { name, why } => write!(f, "{name}: {why}"),
        }
    }
}

const ENCODE: &str = "what stands for the port is no number up to 65535; a user or password that holds one of / : @ ? # % \
                      has to be percent-encoded";

const UNKNOWN: &str = "is no parameter of a connection that is known here; is it spelt right? For settings of the session there is options";

/// Parameters of libpq that change nothing here: they are about what sqlx does not do, or about
/// sockets that are not ours to set.
const WITHOUT_EFFECT: [&str; 13] = [
    "application_name",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "sslcertmode",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
];

/// Parameters that other libraries read from the URL that a program has for all of them.
const OF_OTHERS: [&str; 13] = [
    "acquire_timeout",
    "connection_limit",
    "idle_timeout",
    "max_connections",
    "max_lifetime",
    "min_connections",
    "pgbouncer",
    "pool_max_conns",
    "pool_min_conns",
    "pool_size",
    "pool_timeout",
    "schema",
    "socket_timeout",
];

/// A host as it was said: the name, where it is if that is another, and the port.
#[derive(Clone, Default)]
struct Host {
    name: String,
    address: String,
    port: String,
}

#[derive(Default)]
struct Parts {
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
    wanted: Option<Wanted>,
    is_random: bool,
    connect_timeout: Option<Duration>,
    statement_cache: Option<usize>,
}

pub(super) fn parse(url: &str) -> Result<Servers, UrlError> {
    let rest = url
        .strip_prefix("postgresql://")
        .or_else(|| url.strip_prefix("postgres://"))
        .ok_or(UrlError::Scheme)?;
    let (before, query) = match rest.split_once('?') {
        Some((before, query)) => (before, query),
        None => (rest, ""),
    };
    // Else a part of a password could be taken for a parameter's name, and be repeated.
    if query.contains('@') && !before.contains('@') {
        return Err(UrlError::Malformed(ENCODE));
    }
    let (authority, path) = before.split_once('/').unwrap_or((before, ""));
    // Likewise a part of it for the database, and what is before it for a host and its port.
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
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let set = parts.set(&decode(name)?, decode(value)?);
        set.map_err(|error| match error {
            UrlError::Parameter { why: UNKNOWN, .. } if query.contains('@') => {
                UrlError::Malformed(ENCODE)
            }
            error => error,
        })?;
    }
    parts.into_servers()
}

/// `None` for what is empty: it is as if it were not said.
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
    Ok(Host {
        name: decode(name)?,
        address: String::new(),
        port: String::from(port),
    })
}

/// The error of a parameter; only names that are known to be no secret come here.
fn refused(name: &str, why: &'static str) -> UrlError {
    UrlError::Parameter {
        name: String::from(name),
        why,
    }
}

impl Parts {
    fn set(&mut self, name: &str, value: String) -> Result<(), UrlError> {
        match name {
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
            "port" => self.each_host(&value, name, |host, value| host.port = value)?,
            "options" => self.options.extend(said(value)),
            "sslmode" | "ssl-mode" => {
                let mode = value.parse().map_err(|_| {
                    refused(
                        name,
                        "is none of disable, allow, prefer, require, verify-ca and verify-full",
                    )
                })?;
                self.ssl_mode = Some(mode);
            }
            "ssl" if value == "true" => self.ssl_mode = Some(PgSslMode::Require),
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => self.root_certificate = said(value),
            "sslcert" | "ssl-cert" => self.certificate = said(value),
            "sslkey" | "ssl-key" => self.key = said(value),
            "connect_timeout" => {
                let seconds: i64 = value
                    .parse()
                    .map_err(|_| refused(name, "is no number of seconds"))?;
                // As libpq has it: none at all for 0 and below; here the usual one.
                self.connect_timeout = u64::try_from(seconds)
                    .ok()
                    .filter(|seconds| *seconds > 0)
                    .map(Duration::from_secs);
            }
            "target_session_attrs" => {
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
            _ if name.starts_with("options[") && name.ends_with(']') => {
                let setting = &name["options[".len()..name.len() - 1];
                self.options.push(setting_option(setting, &value));
            }
            _ => return other(name, &value),
        }
        Ok(())
    }

    /// Sets something for each host of a list. One value goes for all.
    fn each_host(
        &mut self,
        values: &str,
        name: &str,
        set: impl Fn(&mut Host, String),
    ) -> Result<(), UrlError> {
        let values: Vec<_> = values.split(',').collect();
        let (hosts, count) = (self.hosts.len(), values.len());
        if hosts < count && hosts == 1 {
            // A URL without hosts, which are all in parameters.
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

    fn into_servers(mut self) -> Result<Servers, UrlError> {
        self.take_from_environment()?;
        // Has what the PG… variables say.
        let mut options = PgConnectOptions::new_without_pgpass()
            .application_name("tracing-audit")
            // No float is read, and pgbouncer takes no parameter of a session but a few.
            .extra_float_digits(None)
            .disable_statement_logging();
        let mut secrets = Vec::new();
        if let Some(user) = &self.user {
            options = options.username(user);
        }
        if let Some(database) = &self.database {
            options = options.database(database);
        }
        if let Some(capacity) = self.statement_cache {
            options = options.statement_cache_capacity(capacity);
        }
        if !self.options.is_empty() {
            // sqlx takes settings alone, and puts `-c` before each.
            for (name, value) in settings(&self.options.join(" "))? {
                options = options.options([(name, &value)]);
                secrets.push(value);
            }
        }
        let tls_files = self.tls_files();
        if let Some(mode) = self.ssl_mode {
            options = options.ssl_mode(mode);
        }
        options = self.with_certificates(options)?;
        secrets.extend(self.password.clone());
        secrets.extend(env::var("PGPASSWORD").ok());
        let ssl_mode = options.get_ssl_mode();
        let mut hosts = Vec::new();
        for host in &self.hosts {
            let mut options = host.apply(options.clone(), ssl_mode)?;
            let password = self.password.clone().or_else(|| {
                let is_set = env::var_os("PGPASSWORD").is_some();
                (!is_set)
                    .then(|| passfile::password(self.passfile.as_deref(), &options, &host.name))
                    .flatten()
            });
            if let Some(password) = password {
                options = options.password(&password);
                secrets.push(password);
            }
            hosts.push(options);
        }
        if self.is_random {
            shuffle(&mut hosts);
        }
        secrets.retain(|secret| secret.len() > 2);
        let wanted = match self.wanted {
            Some(wanted) => wanted,
            // One that cannot be written is of little use, where there is another.
            None if hosts.len() > 1 => Wanted::Writable,
            None => Wanted::Any,
        };
        Ok(Servers {
            hosts,
            ssl_mode,
            wanted,
            connect_timeout: self.connect_timeout,
            tls_files,
            secrets,
        })
    }

    /// Takes hosts and certificates from the environment where the URL names none.
    fn take_from_environment(&mut self) -> Result<(), UrlError> {
        let var = |name: &str| env::var(name).ok().and_then(said);
        if let [host] = &self.hosts[..]
            && host.name.is_empty()
            && host.address.is_empty()
        {
            if let Some(names) = var("PGHOST") {
                self.each_host(&names, "PGHOST", |host, value| host.name = value)?;
            }
            if let Some(addresses) = var("PGHOSTADDR") {
                self.each_host(&addresses, "PGHOSTADDR", |host, value| host.address = value)?;
            }
        }
        if self.hosts.iter().all(|host| host.port.is_empty())
            && let Some(ports) = var("PGPORT")
        {
            self.each_host(&ports, "PGPORT", |host, value| host.port = value)?;
        }
        if self.passfile.is_none() {
            self.passfile = var("PGPASSFILE").map(PathBuf::from);
        }
        let certificates = [
            (&mut self.root_certificate, "PGSSLROOTCERT"),
            (&mut self.certificate, "PGSSLCERT"),
            (&mut self.key, "PGSSLKEY"),
        ];
        for (certificate, name) in certificates {
            if certificate.is_none() {
                *certificate = var(name);
            }
        }
        Ok(())
    }

    fn tls_files(&self) -> Vec<TlsFile> {
        const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
        // Of RSA, of EC, or of PKCS #8.
        const KEY: &str = "PRIVATE KEY-----";
        let root = self
            .root_certificate
            .as_deref()
            .filter(|root| *root != "system");
        [
            ("sslrootcert", CERTIFICATE, root),
            ("sslcert", CERTIFICATE, self.certificate.as_deref()),
            ("sslkey", KEY, self.key.as_deref()),
        ]
        .into_iter()
        .filter_map(|(parameter, marker, value)| TlsFile::of(parameter, marker, value?))
        .collect()
    }

    fn with_certificates(
        &self,
        mut options: PgConnectOptions,
    ) -> Result<PgConnectOptions, UrlError> {
        match self.root_certificate.as_deref() {
            None => {}
            // Those of the system are taken anyway.
            Some("system") => {
                if self
                    .ssl_mode
                    .is_some_and(|mode| !matches!(mode, PgSslMode::VerifyFull))
                {
                    return Err(refused("sslrootcert", "system needs sslmode=verify-full"));
                }
                options = options.ssl_mode(PgSslMode::VerifyFull);
            }
            Some(pem) if is_inline_pem(pem) => {
                options = options.ssl_root_cert_from_pem(pem.as_bytes().to_vec());
            }
            Some(path) => options = options.ssl_root_cert(path),
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
        if !self.port.is_empty() {
            let port = self.port.parse().ok().filter(|port: &u16| *port != 0);
            options = options.port(port.ok_or(UrlError::Malformed(ENCODE))?);
        }
        if !self.address.is_empty() {
            if matches!(ssl_mode, PgSslMode::VerifyFull) {
                return Err(refused(
                    "hostaddr",
                    "cannot be had with sslmode=verify-full",
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
        }
        // As libpq has it: nobody listens at a socket's door, and Postgres offers no TLS there.
        if !is_tcp(&options) {
            options = options.ssl_mode(PgSslMode::Disable);
        }
        Ok(options)
    }
}

/// What libpq knows and is done otherwise here, or not at all.
fn other(name: &str, value: &str) -> Result<(), UrlError> {
    let is_harmless = match name {
        "client_encoding" => {
            value.eq_ignore_ascii_case("utf8")
                || value.eq_ignore_ascii_case("utf-8")
                || value == "auto"
        }
        "gssencmode" | "channel_binding" => matches!(value, "disable" | "prefer"),
        "sslnegotiation" => value == "postgres",
        "ssl_min_protocol_version" => matches!(value, "" | "TLSv1" | "TLSv1.1" | "TLSv1.2"),
        "ssl_max_protocol_version" => matches!(value, "" | "TLSv1.3"),
        "require_auth" | "requirepeer" | "requiressl" | "sslcrl" | "sslcrldir" | "sslpassword"
        | "service" | "replication" | "ssl" => {
            value.is_empty() || value == "false" || (name == "requiressl" && value == "0")
        }
        _ if WITHOUT_EFFECT.contains(&name) || OF_OTHERS.contains(&name) => true,
        _ => {
            let is_name = name.len() < 40
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            return Err(refused(if is_name { name } else { "a parameter" }, UNKNOWN));
        }
    };
    if is_harmless {
        return Ok(());
    }
    Err(refused(name, "cannot be had with this value here"))
}

/// A setting as a part of `options`.
fn setting_option(setting: &str, value: &str) -> String {
    let mut option = format!("-c {setting}=");
    for c in value.chars() {
        if c == '\\' || c.is_whitespace() {
            option.push('\\');
        }
        option.push(c);
    }
    option
}

/// The settings in `options`: `-c name=value`, `-cname=value` and `--name=value`, with a backslash
/// before a blank that is part of a value.
fn settings(said: &str) -> Result<Vec<(String, String)>, UrlError> {
    let not_settings = || {
        refused(
            "options",
            "may hold settings alone: -c name=value or --name=value",
        )
    };
    let mut settings = Vec::new();
    let mut words = words(said).into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            let setting = word.strip_prefix("--").or_else(|| word.strip_prefix("-c"));
            setting.map(String::from)
        };
        let setting = setting.ok_or_else(not_settings)?;
        let (name, value) = setting.split_once('=').ok_or_else(not_settings)?;
        settings.push((String::from(name), String::from(value)));
    }
    Ok(settings)
}

fn words(said: &str) -> Vec<String> {
    let (mut words, mut word, mut chars) = (Vec::new(), None::<String>, said.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Another order with each start, so that many programs do not all choose the same host.
fn shuffle(hosts: &mut [PgConnectOptions]) {
    use std::hash::{BuildHasher as _, RandomState};
    for last in (1..hosts.len()).rev() {
        let random = RandomState::new().hash_one(last);
        // At most as many as there are hosts.
        let chosen = usize::try_from(random % (last as u64 + 1)).unwrap_or(0);
        hosts.swap(last, chosen);
    }
}
