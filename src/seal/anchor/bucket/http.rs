//! How `object_store` reaches a bucket: by our connections, with bounds, and errors that hold nothing of what a server says.

use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};

use super::limits::SLOWEST;
use crate::https::{self, Connector};
use crate::seal::error::BucketFault;

/// How long a server has to begin its answer, once it may have what it was sent.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How much of an answer that tells of an error is read.
const ERROR_BYTES: usize = 64 * 1024;

const USER_AGENT: &str = concat!("tracing-audit/", env!("CARGO_PKG_VERSION"));

/// Makes clients for `object_store`: for the bucket, and for what hands out credentials.
#[derive(Debug)]
pub(super) struct Connections {
    /// Whether the bucket is reached without TLS.
    pub(super) is_plain: bool,
}

impl HttpConnector for Connections {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_http = options
            .get_config_value(&ClientConfigKey::AllowHttp)
            .is_some_and(|allowed| allowed == "true");
        // The system's certificates are not asked for by whoever uses none.
        let is_tls = !(allows_http && self.is_plain);
        let connector = https::connector(is_tls).map_err(|why| object_store::Error::Generic {
            store: "S3",
            source: Box::new(BucketFault::Settings { why }),
        })?;
        Ok(HttpClient::new(Connection {
            client: Client::builder(TokioExecutor::new()).build(connector),
            allows_http,
        }))
    }
}

/// The error code in an answer that something is not there: of a key, or of a setting of it.
#[derive(Clone, Debug)]
pub(super) struct ErrorCode(pub(super) String);

/// A client whose errors are our own: the text of a server's error may have the request's signature in it.
#[derive(Debug)]
struct Connection {
    client: Client<Connector, HttpRequestBody>,
    allows_http: bool,
}

#[async_trait]
impl HttpService for Connection {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = host_of(&request);
        let is_http = request.uri().scheme_str() != Some("https");
        if is_http && !self.allows_http {
            let why =
                format!("{host} is reached without TLS: set AWS_ALLOW_HTTP=true to allow that");
            return Err(fault(HttpErrorKind::Unknown, BucketFault::Settings { why }));
        }
        request
            .headers_mut()
            .insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let sent_within = Duration::from_secs(request.body().content_length() as u64 / SLOWEST);
        let answer_within = ANSWER_WITHIN + sent_within;
        let sending = self.client.request(request);
        let response = match tokio::time::timeout(answer_within, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let kind = if error.is_connect() {
                    HttpErrorKind::Connect
                } else {
                    HttpErrorKind::Interrupted
                };
                return Err(unreached(kind, host, &error));
            }
            Err(_) => {
                let seconds = answer_within.as_secs();
                let why = BucketFault::NoAnswer { host, seconds };
                return Err(fault(HttpErrorKind::Timeout, why));
            }
        };
        let (mut parts, body) = response.into_parts();
        let is_for_the_store = parts.status.is_success()
            || [
                StatusCode::NOT_MODIFIED,
                StatusCode::CONFLICT,
                StatusCode::PRECONDITION_FAILED,
            ]
            .contains(&parts.status);
        if is_for_the_store {
            let body = body
                .map_err(move |error| unreached(HttpErrorKind::Interrupted, host.clone(), &error));
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        let body = tokio::time::timeout(ANSWER_WITHIN, Limited::new(body, ERROR_BYTES).collect());
        let body = match body.await {
            Ok(Ok(body)) => body.to_bytes(),
            // The status says enough.
            _ => Bytes::new(),
        };
        let code = code_of(&body);
        if parts.status == StatusCode::NOT_FOUND && code != "NoSuchBucket" {
            parts.extensions.insert(ErrorCode(code));
            return Ok(HttpResponse::from_parts(parts, Bytes::new().into()));
        }
        Err(refusal(&host, parts.status, &parts.headers, code))
    }
}

/// Turns an answer that is none of what the store deals with into an error.
fn refusal(host: &str, status: StatusCode, headers: &HeaderMap, code: String) -> HttpError {
    let is_passing = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED);
    let kind = if is_passing {
        HttpErrorKind::Request
    } else {
        HttpErrorKind::Unknown
    };
    let region = headers
        .get("x-amz-bucket-region")
        .and_then(|region| region.to_str().ok())
        .filter(|region| is_word(region))
        .map(str::to_owned);
    let refused = BucketFault::Refused {
        host: host.to_owned(),
        status: status.as_u16(),
        code,
        region,
    };
    fault(kind, refused)
}

fn fault(kind: HttpErrorKind, fault: BucketFault) -> HttpError {
    HttpError::new(kind, fault)
}

fn unreached(kind: HttpErrorKind, host: String, error: &(dyn StdError + 'static)) -> HttpError {
    let why = crate::error::causes(error);
    fault(kind, BucketFault::Unreachable { host, why })
}

/// Returns the host and port of a request: all of its address that is shown.
pub(super) fn host_of(request: &HttpRequest) -> String {
    let uri = request.uri();
    let host = uri.host().unwrap_or_default();
    match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Returns the error code in an answer of S3, which is one word.
fn code_of(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    body.split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code)
        .filter(|code| is_word(code))
        .unwrap_or_default()
        .to_owned()
}

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_an_error_is_one_word() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Key>x</Key></Error>";
        assert_eq!(code_of(body), "NoSuchKey");
        assert_eq!(code_of(b"<Error><Code>two words</Code></Error>"), "");
        assert_eq!(code_of(b"<html>"), "");
    }
}
