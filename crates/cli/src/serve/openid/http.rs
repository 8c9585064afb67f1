//! Requests to the provider, over the library's own connections.
//!
//! The client that comes with `openidconnect` would switch on features of the program's reqwest.

use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use openidconnect::url::{Host, Url};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use tracing_audit::__program::https::{Connector, connector};

use crate::error::causes;

/// How long the provider has for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer. Of the largest providers, keys and metadata have some 20 kB.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

const USER_AGENT: &str = concat!("tracing-audit/", env!("CARGO_PKG_VERSION"));

/// Sends requests to the provider.
#[derive(Debug)]
pub(super) struct Http {
    client: Client<Connector, Full<Bytes>>,
    /// Whether the provider is asked by TLS alone.
    is_tls: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("it names an address without TLS, or none: {0}")]
    NoTls(String),
    #[error("{0}")]
    Connection(String),
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("an answer of more than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    #[error("it answers {0}")]
    Status(StatusCode),
}

impl Http {
    /// Prepares requests; fails if the system has no certificates.
    pub(super) fn new(is_tls: bool) -> Result<Self, String> {
        let mut client = Client::builder(TokioExecutor::new());
        // Logins are rare: a connection that is kept would be dead by the next one.
        client.pool_max_idle_per_host(0);
        Ok(Self {
            client: client.build(connector(is_tls)?),
            is_tls,
        })
    }

    /// Whether this address of the provider may be used.
    pub(super) fn is_allowed(&self, url: &Url) -> bool {
        url.scheme() == "https" || (!self.is_tls && is_loopback(url))
    }

    /// Sends a request. An error of the provider's own (5xx) counts as no answer; redirections are
    /// not followed.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = request.uri().to_string();
        if !Url::parse(&url).is_ok_and(|url| self.is_allowed(&url)) {
            return Err(HttpError::NoTls(url));
        }
        tokio::time::timeout(ANSWER_TIMEOUT, self.ask(request))
            .await
            .map_err(|_| HttpError::NoAnswer)?
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut request = request.map(|body| Full::new(Bytes::from(body)));
        let agent = HeaderValue::from_static(USER_AGENT);
        request.headers_mut().insert(header::USER_AGENT, agent);
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| HttpError::Connection(causes(&error)))?;
        let (head, body) = answer.into_parts();
        if head.status.is_server_error() {
            return Err(HttpError::Status(head.status));
        }
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                HttpError::TooLong
            } else {
                HttpError::Connection(causes(&*error))
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes().to_vec()))
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// Whether it is plain HTTP to this computer.
pub(super) fn is_loopback(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && is_here
}
