//! The servers that a URL names, and a connection to one of them.

use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Row as _};

use super::cause::{Cause, Unreachable};
use super::probe::Probe;
use super::tls::TlsFile;

/// Which of several servers is acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Writable,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// The servers that a URL names, in the order in which they are tried.
#[derive(Clone)]
pub struct Servers {
    pub(super) hosts: Vec<PgConnectOptions>,
    pub(super) ssl_mode: PgSslMode,
    /// The mode as it was set, for messages: `require` with a root certificate verifies like
    /// `verify-ca`, so `ssl_mode` differs.
    pub(super) said_ssl_mode: PgSslMode,
    pub(super) wanted: Wanted,
    /// The parameter or variable that sets it.
    pub(super) wanted_by: &'static str,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) tls_files: Vec<TlsFile>,
    /// Why the passfile has no password, if somebody can fix that.
    pub(super) passfile_note: Option<String>,
    /// Texts that no message may hold.
    pub(super) secrets: Vec<String>,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options show the password in their Debug.
        f.debug_tuple("Servers").field(&self.place()).finish()
    }
}

impl Servers {
    /// Returns the server that is tried first.
    pub fn first(&self) -> &PgConnectOptions {
        // INVARIANT: `url::parse` makes at least one.
        &self.hosts[0]
    }

    /// Returns all of them.
    #[cfg(feature = "__program")]
    pub fn hosts(&self) -> &[PgConnectOptions] {
        &self.hosts
    }

    /// Returns them for another login and its password. A client certificate stays as it is: whoever
    /// takes a connection as proof of the password must see that the server asks for one.
    #[cfg(feature = "__program")]
    #[must_use]
    pub fn with_login(mut self, login: &str, password: &str) -> Self {
        self.hosts = self
            .hosts
            .into_iter()
            .map(|host| host.username(login).password(password))
            .collect();
        self.passfile_note = None;
        self.secrets = vec![password.to_owned()];
        self
    }

    /// Returns where they are: `db.internal:5432/app`, several separated by commas.
    pub(crate) fn place(&self) -> String {
        let places: Vec<_> = self.hosts.iter().map(place).collect();
        places.join(", ")
    }

    /// Returns the login.
    pub(crate) fn login(&self) -> &str {
        self.first().get_username()
    }

    /// Returns whether the trail can be written to the acceptable servers.
    pub(crate) fn can_be_written(&self) -> bool {
        !matches!(self.wanted, Wanted::ReadOnly | Wanted::Standby)
    }

    /// Returns the parameter or variable that says which servers are acceptable.
    pub(crate) fn wanted_by(&self) -> &'static str {
        self.wanted_by
    }

    /// Accepts only a server that can be written, if there are several to choose from.
    pub(crate) fn for_writing(mut self) -> Self {
        if self.hosts.len() > 1 {
            self.wanted = Wanted::Writable;
        }
        self
    }

    /// Returns whether TLS is asked for and this build has none.
    pub(crate) fn lacks_tls(&self) -> bool {
        let is_asked_for = matches!(
            self.ssl_mode,
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
        );
        is_asked_for && !sqlx_core::net::tls::available() && self.hosts.iter().any(is_tcp)
    }

    /// Returns whether the traffic can be read on the network, only because this build has no TLS.
    pub(crate) fn is_plain_for_want_of_tls(&self) -> bool {
        matches!(self.ssl_mode, PgSslMode::Prefer)
            && !sqlx_core::net::tls::available()
            && self
                .hosts
                .iter()
                .any(|host| is_tcp(host) && !is_local(host))
    }

    /// Connects to the first acceptable server, each address within `limit` unless the URL says
    /// otherwise.
    ///
    /// # Errors
    /// If no server can be reached, or none is acceptable.
    pub async fn connect(&self, limit: Duration) -> Result<(PgConnection, Probe), Unreachable> {
        let limit = self.connect_timeout.unwrap_or(limit);
        let passes: &[Wanted] = match self.wanted {
            Wanted::PreferStandby => &[Wanted::Standby, Wanted::Any],
            ref wanted => std::slice::from_ref(wanted),
        };
        let mut causes = Vec::new();
        for wanted in passes {
            causes.clear();
            for host in &self.hosts {
                let mut cause = match self.connect_within(limit, host, *wanted).await {
                    Ok(connected) => return Ok(connected),
                    Err(cause) => cause,
                };
                let is_refused = cause.is_refused_login();
                if is_refused && let Some(note) = &self.passfile_note {
                    cause = cause.and(note);
                }
                causes.push((place(host), cause.without(&self.secrets)));
                if is_refused {
                    // As in libpq: a server that answers and refuses the login speaks for all.
                    break;
                }
            }
        }
        Err(Unreachable::new(causes))
    }

    /// Connects to a server by its name. If that is not answered and the name has several
    /// addresses, tries each of them: the system stays with the first one until long after `limit`.
    async fn connect_within(
        &self,
        limit: Duration,
        host: &PgConnectOptions,
        wanted: Wanted,
    ) -> Result<(PgConnection, Probe), Cause> {
        let connecting = self.connect_to(host, wanted);
        if let Ok(connected) = tokio::time::timeout(limit, connecting).await {
            return Ok((connected?, Probe::of(host)));
        }
        let mut addresses = addresses(host, limit).await;
        // The first one is the one that has just been tried, if the order is the same.
        addresses.reverse();
        self.connect_to_any(&addresses, limit, host, wanted).await
    }

    /// Connects to the first of these addresses that accepts, each within `limit`, after the name
    /// was not answered.
    pub(super) async fn connect_to_any(
        &self,
        addresses: &[IpAddr],
        limit: Duration,
        host: &PgConnectOptions,
        wanted: Wanted,
    ) -> Result<(PgConnection, Probe), Cause> {
        let silent = Cause::no_answer(limit);
        if addresses.len() < 2 {
            return Err(silent);
        }
        // The certificate has to be for the name, and sqlx verifies it for what it connects to.
        if matches!(self.ssl_mode, PgSslMode::VerifyFull) {
            return Err(silent.and(&format!(
                "the name has {} addresses, and sslmode=verify-full leaves no choice among them: \
                 name each server by a name of its own",
                addresses.len()
            )));
        }
        let mut why = None;
        for address in addresses {
            let host = host.clone().host(&address.to_string());
            let connecting = self.connect_to(&host, wanted);
            match tokio::time::timeout(limit, connecting).await {
                Ok(Ok(connection)) => return Ok((connection, Probe::of(&host))),
                Ok(Err(cause)) if cause.is_refused_login() => return Err(cause),
                Ok(Err(cause)) => {
                    why = Some(cause.and(&format!("the last address tried was {address}")));
                }
                Err(_) => {}
            }
        }
        let addresses = addresses.len();
        Err(why.unwrap_or(silent).and(&format!(
            "each of the {addresses} addresses of the name was tried"
        )))
    }

    async fn connect_to(
        &self,
        host: &PgConnectOptions,
        wanted: Wanted,
    ) -> Result<PgConnection, Cause> {
        let describe = |error| self.cause(error);
        let mut connection = self.open(host).await?;
        if wanted == Wanted::Any {
            return Ok(connection);
        }
        let state = sqlx::raw_sql(
            "SELECT pg_catalog.pg_is_in_recovery(), \
             pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on'",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(describe)?;
        let is_standby: bool = state.try_get(0).map_err(describe)?;
        let is_read_only: bool = state.try_get::<bool, _>(1).map_err(describe)? || is_standby;
        match wanted {
            Wanted::Writable if is_read_only => Err(Cause::unwanted("the server is read-only")),
            Wanted::ReadOnly if !is_read_only => {
                Err(Cause::unwanted("the server is not read-only"))
            }
            Wanted::Primary if is_standby => Err(Cause::unwanted("the server is a standby")),
            Wanted::Standby if !is_standby => Err(Cause::unwanted("the server is no standby")),
            _ => Ok(connection),
        }
    }

    /// Opens a connection according to `sslmode`. If that leaves a choice and the server refuses
    /// one way, the other is tried: sqlx tries only one.
    async fn open(&self, host: &PgConnectOptions) -> Result<PgConnection, Cause> {
        if !is_tcp(host) {
            return host.connect().await.map_err(|error| self.cause(error));
        }
        let (first, second) = match self.ssl_mode {
            PgSslMode::Prefer => (PgSslMode::Prefer, Some(PgSslMode::Disable)),
            PgSslMode::Allow => (PgSslMode::Disable, Some(PgSslMode::Require)),
            mode => (mode, None),
        };
        let cause = match self.open_by(host, first).await {
            Ok(connection) => return Ok(connection),
            Err(cause) => cause,
        };
        let Some(second) = second.filter(|mode| cause.may_be_none_of(*mode)) else {
            return Err(cause);
        };
        match self.open_by(host, second).await {
            Ok(connection) => Ok(connection),
            Err(other) if matches!(second, PgSslMode::Disable) => Err(Cause::both(&cause, other)),
            Err(other) => Err(Cause::both(&other, cause)),
        }
    }

    async fn open_by(
        &self,
        host: &PgConnectOptions,
        mode: PgSslMode,
    ) -> Result<PgConnection, Cause> {
        if !matches!(mode, PgSslMode::Disable) {
            self.check_tls(mode)?;
        }
        let options = host.clone().ssl_mode(mode);
        let connecting = options.connect();
        let connected = if matches!(mode, PgSslMode::VerifyCa) {
            // rustls cannot be asked for its provider where only the host's sqlx brings it.
            unless_it_panics(connecting)
                .await
                .ok_or_else(|| self.needs_provider())?
        } else {
            connecting.await
        };
        connected.map_err(|error| self.cause(error))
    }

    /// Explains why rustls has no provider.
    fn needs_provider(&self) -> Cause {
        let mode = match self.said_ssl_mode {
            PgSslMode::Require => {
                "sslmode=require with a root certificate verifies like verify-ca, which"
            }
            _ => "sslmode=verify-ca",
        };
        Cause::to_mend(format!(
            "{mode} needs a default provider of rustls, and the program has set none: call \
             rustls::crypto::ring::default_provider().install_default() (or aws_lc_rs) in its main, \
             use sslmode=verify-full, or build with feature tls-native of tracing-audit"
        ))
    }

    fn cause(&self, error: sqlx::Error) -> Cause {
        let files: Vec<_> = self.tls_files.iter().map(TlsFile::told).collect();
        Cause::of(error, self.said_ssl_mode, &files.join(", "))
    }

    /// Reports what sqlx would not report, or would panic about.
    fn check_tls(&self, mode: PgSslMode) -> Result<(), Cause> {
        if self.lacks_tls() {
            return Err(Cause::to_mend(LACKS_TLS));
        }
        if !sqlx_core::net::tls::available() {
            return Ok(());
        }
        for file in &self.tls_files {
            file.check()?;
        }
        // In this mode alone, sqlx asks for the process's default provider of rustls, which panics
        // if there is no unambiguous one, and otherwise sets one that the host may want to set.
        if matches!(mode, PgSslMode::VerifyCa) && lacks_provider() {
            return Err(self.needs_provider());
        }
        Ok(())
    }
}

#[cfg(all(
    any(feature = "tls-ring", feature = "tls-aws-lc-rs"),
    not(feature = "tls-native")
))]
fn lacks_provider() -> bool {
    rustls::crypto::CryptoProvider::get_default().is_none()
}

#[cfg(not(all(
    any(feature = "tls-ring", feature = "tls-aws-lc-rs"),
    not(feature = "tls-native")
)))]
const fn lacks_provider() -> bool {
    false
}

/// Returns the outcome; `None` if it panics.
pub(super) async fn unless_it_panics<T>(doing: impl Future<Output = T>) -> Option<T> {
    let mut doing = pin!(doing);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| doing.as_mut().poll(context))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

/// Returns the addresses of a host that is named; none if that is not known within `limit`.
async fn addresses(host: &PgConnectOptions, limit: Duration) -> Vec<IpAddr> {
    let name = host.get_host();
    if !is_tcp(host) || name.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    let looking = tokio::net::lookup_host((name, host.get_port()));
    let mut addresses = Vec::new();
    if let Ok(Ok(found)) = tokio::time::timeout(limit, looking).await {
        for address in found.map(|found| found.ip()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
}

/// What to do if TLS is asked for and this build has none.
pub(crate) const LACKS_TLS: &str = "sslmode asks for TLS, and this build has none: enable feature tls-ring or \
     tls-aws-lc-rs of tracing-audit (the one whose provider the program's rustls has already), or tls-native";

/// Returns where a server is: `db.internal:5432/app`.
pub(super) fn place(host: &PgConnectOptions) -> String {
    let database = host.get_database().unwrap_or(host.get_username());
    let port = host.get_port();
    match host.get_socket() {
        Some(socket) => format!("{}:{port}/{database}", socket.display()),
        None if host.get_host().contains(':') => {
            format!("[{}]:{port}/{database}", host.get_host())
        }
        None => format!("{}:{port}/{database}", host.get_host()),
    }
}

pub(super) fn is_tcp(host: &PgConnectOptions) -> bool {
    host.get_socket().is_none() && !host.get_host().starts_with('/')
}

/// Returns whether nobody else sees what is sent to the host.
pub(super) fn is_local(host: &PgConnectOptions) -> bool {
    let name = host.get_host();
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
