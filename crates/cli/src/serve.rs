//! `serve`: the page on which the trail is read.
//!
//! It has no rights of its own. A page is read with the rights of whoever looks at it, recorded in
//! the trail, and only then sent. What flows through it: [`gate`] finds out who looks ([`viewer`]),
//! a page reads with a connection of theirs ([`connections`]), records that, and answers ([`answer`]).

mod answer;
#[cfg_attr(not(feature = "archive"), path = "serve/no_archive.rs")]
mod archived;
mod assets;
mod attempts;
mod changes;
mod connections;
mod conversation;
mod counting;
mod download;
mod failures;
mod figures;
mod gate;
mod live;
mod login;
mod openid;
mod page;
mod people;
mod plot;
mod range;
mod record;
mod request;
mod rows;
mod seals;
mod session;
mod state;
mod tally;
mod trail;
mod trusted;
mod viewer;
mod watch;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use clap::Args;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_service::Service as _;

use self::archived::ArchiveReader;
use self::attempts::{Attempts, Source};
use self::connections::Connections;
use self::download::Downloads;
use self::openid::OpenId;
use self::people::{People, reader_rule};
use self::session::{Lifetime, Sessions};
use self::trusted::Trusted;
use self::viewer::Viewer;
use self::watch::Watch;
#[cfg(feature = "archive")]
use crate::archive::ArchivePlace;
use crate::database::Database;
use crate::error::Error;
use crate::listener::{self, Limits, read_body};
use crate::{complain, tail};

/// The most connections for the people that a proxy or an identity provider names.
const MOST_CONNECTIONS: usize = 16;

/// How many rows are sent whole at once.
const MOST_HEAVY: usize = 4;

/// The largest form, in bytes.
const MOST_BODY: usize = 16 * 1024;

/// Fewer connections than the 1,024 files that many systems allow a program, since those to Postgres are
/// files as well. A large download may take hours.
const LIMITS: Limits = Limits {
    connections: 900,
    lasts: Duration::from_hours(24),
    end: Duration::from_secs(1),
};

/// How many threads make pages.
const THREADS: usize = 4;

/// How often sessions and connections that are over are closed.
const CLEAN_EVERY: Duration = Duration::from_secs(2);

/// Serves the page on which the trail is read, until Ctrl-C.
///
/// It has no rights of its own: whoever looks at it logs in with a login of Postgres, and
/// reads with that login's rights. Each page of records, each search and each export is
/// recorded in the trail before it is shown. The database of --url is where logins are
/// tried; as its own login, refused logins are recorded. Behind a proxy that knows the
/// person: --trust-header; with a provider of OpenID Connect: --oidc-issuer. With either,
/// --url names a login of migrate that is a reader and an auditor.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// The address to listen on. An address that others can reach needs --public-url.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8417")]
    listen: SocketAddr,
    /// The address that browsers use, as <https://audit.example.com>: of the proxy that has TLS.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// The header in which a trusted proxy names the person, as X-Forwarded-User.
    ///
    /// Needs --trust-from or --trust-secret-env, and --auditor or --reader.
    #[arg(long, value_name = "HEADER", requires = "trust")]
    trust_header: Option<HeaderName>,
    /// The header in which the proxy names the person's groups, separated by commas.
    #[arg(long, value_name = "HEADER", requires = "trust_header")]
    trust_groups_header: Option<HeaderName>,
    /// The address of the proxy; may be given several times.
    #[arg(long, value_name = "IP", group = "trust")]
    trust_from: Vec<IpAddr>,
    /// The environment variable with a secret of at least 16 characters, which the proxy sends as X-Audit-Proxy-Secret.
    #[arg(long, value_name = "NAME", group = "trust")]
    trust_secret_env: Option<String>,
    #[command(flatten)]
    openid: openid::Arguments,
    /// A person, or group:NAME, who may read all rows; may be given several times.
    #[arg(long, value_name = "WHO")]
    auditor: Vec<String>,
    /// A person, or group:NAME, who may read the rows of a tenant; may be given several times.
    #[arg(long, value_name = "WHO=TENANT", value_parser = reader_rule)]
    reader: Vec<(String, String)>,
    /// The environment variable with a token of at least 16 characters, for whoever asks for /metrics.
    ///
    /// Without it, /metrics is answered unless --public-url is given.
    #[arg(long, value_name = "NAME")]
    metrics_token_env: Option<String>,
    /// How many connections to the database there are at most: of the logins of people together, and of --url's own.
    #[arg(long, value_name = "N", default_value = "40", value_parser = connections_option)]
    max_connections: usize,
    /// A session ends so long after the last page.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = humantime::parse_duration)]
    session_idle: Duration,
    /// A session ends so long after the login.
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = humantime::parse_duration)]
    session_max: Duration,
    #[cfg(feature = "archive")]
    #[command(flatten)]
    archive: ArchivePlace,
}

/// What all pages share.
#[derive(Debug)]
pub(crate) struct App {
    /// Where people log in.
    database: Database,
    /// The connections of this server's own login.
    own: Arc<Connections>,
    sessions: Sessions,
    /// The places for streams of new records, in all.
    streams: Arc<Semaphore>,
    /// The places for the connections of the logins of people.
    places: Arc<Semaphore>,
    /// The places for whole rows, which take much memory.
    heavy: Arc<Semaphore>,
    downloads: Downloads,
    attempts: Attempts,
    trusted: Option<Trusted>,
    openid: Option<OpenId>,
    /// The names of this server, with the port if it is not the usual one.
    hosts: Vec<String>,
    /// Whether browsers reach it by TLS.
    is_secure: bool,
    /// Whether it has an address beyond this machine.
    is_public: bool,
    watch: Watch,
    archive: ArchiveReader,
}

impl App {
    /// Returns whose session the request's cookie is of.
    fn session_of(&self, headers: &HeaderMap) -> Option<Arc<Viewer>> {
        self.sessions.viewer(self.token(headers)?)
    }

    /// Returns where an attempt to log in comes from.
    fn sources(&self, peer: SocketAddr, login: Option<&str>) -> Vec<Source> {
        let login = login.map(|login| Source::Login(login.to_owned()));
        // Behind a proxy all come from one address.
        let address = (!self.is_public).then(|| Source::Address(peer.ip()));
        login.into_iter().chain(address).collect()
    }

    /// Returns the token of the request's session.
    fn token<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        gate::cookie(headers, self.cookie_name())
    }

    /// Returns the name of the session's cookie.
    fn cookie_name(&self) -> &'static str {
        // The prefix keeps other hosts and paths from setting it.
        if self.is_secure {
            "__Host-audit"
        } else {
            "audit"
        }
    }

    /// Returns where somebody logs in who is not known; `None`: at the proxy.
    fn login_address(&self) -> Option<&'static str> {
        self.trusted.is_none().then_some("/login")
    }

    /// Whether the request is for this server: a foreign page may have a name of its own that leads
    /// here.
    fn is_ours(&self, headers: &HeaderMap) -> bool {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        host.is_some_and(|host| self.is_host(host))
    }

    fn is_host(&self, host: &str) -> bool {
        self.hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(host))
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(
        "--listen {0}: others can reach this address, and passwords would go over the network as they are: put a proxy \
         with TLS before it, and name its address with --public-url https://…"
    )]
    NoTls(SocketAddr),
    #[error(
        "--public-url: write the address that browsers use, as https://audit.example.com, without a path"
    )]
    PublicUrl,
    #[error("--trust-header, --oidc-issuer: say who may read, with --auditor or --reader")]
    Nobody,
    #[error(
        "--auditor and --reader: they are for people whom a proxy or a provider names, with --trust-header or --oidc-issuer"
    )]
    NoWay,
    #[error(
        "--oidc-issuer: write the provider's URL as its tokens have it, as https://login.example.com; http:// only on this computer"
    )]
    Issuer,
    #[error("--oidc-client-secret-env: the variable {0} has no secret")]
    ClientSecret(String),
    #[error("--oidc-issuer: {0}")]
    Tls(String),
    #[error("{0}: the variable {1} has no secret of at least 16 characters")]
    Secret(&'static str, String),
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
}

/// Runs the command.
pub(crate) fn run(database: Database, arguments: Serve) -> Result<ExitCode, Error> {
    // Several threads: a page that is long in the making keeps no other waiting.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(async {
        let wanted = arguments.listen;
        let listen = |source| ServeError::Listen {
            address: wanted,
            source,
        };
        let listener = TcpListener::bind(wanted).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let public = arguments.public_url.clone();
        #[cfg(feature = "archive")]
        let archive = ArchiveReader::new(arguments.archive.open()?);
        #[cfg(not(feature = "archive"))]
        let archive = ArchiveReader;
        let app = Arc::new(app(database, arguments, address, archive)?);
        complain(&match public {
            Some(url) => format!("the trail is read at {url}, through http://{address}"),
            None => format!("the trail is read at http://{address}"),
        });
        tokio::spawn(clean(Arc::clone(&app)));
        let router = routes(&app);
        let service = |client| {
            let router = router.clone();
            service_fn(move |request| {
                let router = router.clone();
                async move { Ok::<_, Infallible>(respond(router, client, request).await) }
            })
        };
        let mut signalled = Ok(());
        let end = async { signalled = tail::signal().await };
        listener::serve(listener, LIMITS, end, service).await;
        signalled.map_err(Error::Runtime)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Answers a request, once all of it is here: no page waits for what is still to come.
async fn respond(mut router: Router, client: SocketAddr, request: Request<Incoming>) -> Response {
    let (head, body) = request.into_parts();
    let body = match read_body(body, MOST_BODY).await {
        Ok(body) => body,
        Err((status, why)) => {
            let mut refused = (status, format!("{why}\n")).into_response();
            answer::secure(refused.headers_mut());
            return refused;
        }
    };
    let mut request = Request::from_parts(head, Body::from(body));
    request.extensions_mut().insert(ConnectInfo(client));
    let answer = router.call(request).await;
    answer.unwrap_or_else(|never| match never {})
}

/// Returns the pages.
fn routes(app: &Arc<App>) -> Router {
    let ways = match &app.openid {
        Some(_) => openid::routes(),
        None => Router::new().route("/login", get(login::form).post(login::log_in)),
    };
    ways.route("/", get(trail::trail))
        .route("/export", get(download::export))
        .route("/live", get(live::live))
        .route("/record", get(record::record))
        .route("/raw", get(record::raw))
        .route("/request", get(request::request))
        .route("/session", get(conversation::conversation))
        .route("/users", get(figures::users))
        .route("/agents", get(figures::agents))
        .route("/models", get(figures::models))
        .route("/failures", get(failures::failures))
        .route("/changes", get(changes::changes))
        .route("/state", get(state::state))
        .route("/healthz", get(watch::health))
        .route("/metrics", get(watch::metrics))
        .route("/logout", post(login::log_out))
        .fallback(other)
        .layer(from_fn_with_state(Arc::clone(app), gate::guard))
        .with_state(Arc::clone(app))
}

/// Answers what is no page: the files that pages use, or that there is none.
async fn other(uri: Uri) -> Response {
    assets::answer(uri.path())
        .unwrap_or_else(|| (StatusCode::NOT_FOUND, "There is no such page.\n").into_response())
}

/// Closes what is over, for as long as the server runs.
async fn clean(app: Arc<App>) {
    loop {
        tokio::time::sleep(CLEAN_EVERY).await;
        app.sessions.clean();
        app.own.close_idle();
        if let Some(openid) = &app.openid {
            openid.clean();
        }
    }
}

/// Reads the arguments.
fn app(
    database: Database,
    arguments: Serve,
    address: SocketAddr,
    archive: ArchiveReader,
) -> Result<App, ServeError> {
    let mut hosts = Vec::new();
    let mut is_secure = false;
    if let Some(url) = &arguments.public_url {
        let (host, secure) = public_host(url).ok_or(ServeError::PublicUrl)?;
        is_secure = secure;
        hosts.push(host);
    }
    if address.ip().is_loopback() {
        let port = address.port();
        hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}")));
    } else if !is_secure {
        return Err(ServeError::NoTls(address));
    }
    let token = arguments.metrics_token_env.as_deref();
    let token = token.map(|name| secret("--metrics-token-env", name));
    let people = People {
        auditors: arguments.auditor.clone(),
        readers: arguments.reader.clone(),
    };
    let is_nobody = people.auditors.is_empty() && people.readers.is_empty();
    match arguments.trust_header.is_some() || arguments.openid.are_given() {
        true if is_nobody => return Err(ServeError::Nobody),
        false if !is_nobody => return Err(ServeError::NoWay),
        _ => {}
    }
    let public = arguments.public_url.clone();
    let public = public.unwrap_or_else(|| format!("http://{address}"));
    let lifetime = Lifetime {
        idle: arguments.session_idle,
        whole: arguments.session_max,
    };
    let trusted = trusted(&arguments, people.clone())?;
    let openid = OpenId::new(arguments.openid, people, &public)?;
    let places = Arc::new(Semaphore::new(arguments.max_connections));
    Ok(App {
        own: Arc::new(Connections::new(
            database.clone(),
            MOST_CONNECTIONS.min(arguments.max_connections),
            // Of its own, so that a refused login is recorded whoever has the others.
            Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        )),
        places,
        database,
        sessions: Sessions::new(lifetime),
        streams: Arc::new(Semaphore::new(live::MOST_STREAMS)),
        heavy: Arc::new(Semaphore::new(MOST_HEAVY)),
        downloads: Downloads::default(),
        attempts: Attempts::default(),
        is_public: arguments.public_url.is_some(),
        watch: Watch::new(token.transpose()?),
        archive,
        trusted,
        openid,
        hosts,
        is_secure,
    })
}

/// Reads the host of a URL without a path, and whether it has TLS.
fn public_host(url: &str) -> Option<(String, bool)> {
    let (scheme, host) = url.split_once("://")?;
    let host = host.strip_suffix('/').unwrap_or(host);
    let is_host = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'));
    match scheme {
        "https" if is_host => Some((host.to_owned(), true)),
        "http" if is_host => Some((host.to_owned(), false)),
        _ => None,
    }
}

/// Reads a number of connections.
fn connections_option(said: &str) -> Result<usize, String> {
    match said.parse() {
        Ok(many @ 4..=1_000) => Ok(many),
        _ => Err(String::from("write a number from 4 to 1000")),
    }
}

/// Reads the secret in an environment variable.
fn secret(option: &'static str, name: &str) -> Result<String, ServeError> {
    match std::env::var(name) {
        Ok(secret) if secret.len() >= 16 => Ok(secret),
        _ => Err(ServeError::Secret(option, name.to_owned())),
    }
}

/// Reads whom a proxy is trusted to name.
fn trusted(arguments: &Serve, people: People) -> Result<Option<Trusted>, ServeError> {
    let Some(header) = arguments.trust_header.clone() else {
        return Ok(None);
    };
    let secret = match &arguments.trust_secret_env {
        None => None,
        Some(name) => Some((
            HeaderName::from_static("x-audit-proxy-secret"),
            secret("--trust-secret-env", name)?,
        )),
    };
    Ok(Some(Trusted {
        header,
        groups: arguments.trust_groups_header.clone(),
        addresses: arguments.trust_from.clone(),
        secret,
        people,
        known: Mutex::new(HashMap::new()),
    }))
}
