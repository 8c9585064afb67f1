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
use crate::config::seal::bucket::Cloud;
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
    pub(super) cloud: Cloud,
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
        let cloud = self.cloud;
        let connector = https::connector(is_tls).map_err(|why| object_store::Error::Generic {
            store: "bucket",
            source: Box::new(BucketFault::Settings { cloud, why }),
        })?;
        Ok(HttpClient::new(Connection {
            cloud,
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
    cloud: Cloud,
    client: Client<Connector, HttpRequestBody>,
    allows_http: bool,
}

#[async_trait]
impl HttpService for Connection {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let cloud = self.cloud;
        let host = host_of(&request);
        let is_http = request.uri().scheme_str() != Some("https");
        if is_http && !self.allows_http {
            let variable = cloud.variables().replace('*', "ALLOW_HTTP");
            let why = format!("{host} is reached without TLS: set {variable}=true to allow that");
            let why = BucketFault::Settings { cloud, why };
            return Err(fault(HttpErrorKind::Unknown, why));
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
                return Err(unreached(cloud, kind, host, &error));
            }
            Err(_) => {
                let seconds = answer_within.as_secs();
                let why = BucketFault::NoAnswer {
                    cloud,
                    host,
                    seconds,
                };
                return Err(fault(HttpErrorKind::Timeout, why));
            }
        };
        let (mut parts, body) = response.into_parts();
        if let Some(status) = for_the_store(cloud, parts.status, &parts.headers) {
            parts.status = status;
            let body = body.map_err(move |error| {
                unreached(cloud, HttpErrorKind::Interrupted, host.clone(), &error)
            });
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        let body = tokio::time::timeout(ANSWER_WITHIN, Limited::new(body, ERROR_BYTES).collect());
        let body = match body.await {
            Ok(Ok(body)) => body.to_bytes(),
            // The status says enough.
            _ => Bytes::new(),
        };
        let code = code_in(&parts.headers).unwrap_or_else(|| code_of(&body));
        let is_without_bucket = ["ContainerNotFound", "NoSuchBucket"].contains(&code.as_str());
        if parts.status == StatusCode::NOT_FOUND && !is_without_bucket {
            parts.extensions.insert(ErrorCode(code));
            return Ok(HttpResponse::from_parts(parts, Bytes::new().into()));
        }
        Err(refusal(cloud, &host, parts.status, &parts.headers, code))
    }
}

/// Returns the status of an answer that `object_store` knows what to do with, as it knows it.
fn for_the_store(cloud: Cloud, status: StatusCode, headers: &HeaderMap) -> Option<StatusCode> {
    let is_for_the_store = match cloud {
        // Azure has other conflicts than that an object is there, as with a container that is being removed.
        Cloud::Azure if status == StatusCode::CONFLICT || status == StatusCode::FORBIDDEN => {
            return match code_in(headers)?.as_str() {
                // The last is said to a SAS token that may create and not overwrite, whatever the condition.
                "BlobAlreadyExists" | "BlobImmutableDueToPolicy" | "UnauthorizedBlobOverwrite" => {
                    Some(StatusCode::CONFLICT)
                }
                _ => None,
            };
        }
        _ => {
            status.is_success()
                || [
                    StatusCode::NOT_MODIFIED,
                    StatusCode::CONFLICT,
                    StatusCode::PRECONDITION_FAILED,
                ]
                .contains(&status)
        }
    };
    is_for_the_store.then_some(status)
}

/// Turns an answer that is none of what the store deals with into an error.
fn refusal(
    cloud: Cloud,
    host: &str,
    status: StatusCode,
    headers: &HeaderMap,
    code: String,
) -> HttpError {
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
        cloud,
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

fn unreached(
    cloud: Cloud,
    kind: HttpErrorKind,
    host: String,
    error: &(dyn StdError + 'static),
) -> HttpError {
    let why = crate::error::causes(error);
    fault(kind, BucketFault::Unreachable { cloud, host, why })
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

/// Returns the error code that Azure says in a header; its answers to `HEAD` have no other.
fn code_in(headers: &HeaderMap) -> Option<String> {
    let code = headers.get("x-ms-error-code")?.to_str().ok()?;
    is_word(code).then(|| code.to_owned())
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
    fn conflict_of_azure_is_that_a_blob_is_there() {
        for (status, code, expected) in [
            (409, "BlobAlreadyExists", Some(409)),
            (409, "BlobImmutableDueToPolicy", Some(409)),
            (403, "UnauthorizedBlobOverwrite", Some(409)),
            (409, "ContainerBeingDeleted", None),
            (403, "AuthorizationPermissionMismatch", None),
            (403, "", None),
            (412, "ConditionNotMet", Some(412)),
            (404, "BlobNotFound", None),
            (201, "", Some(201)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-ms-error-code", HeaderValue::from_static(code));
            let status = StatusCode::from_u16(status).unwrap();
            let told = for_the_store(Cloud::Azure, status, &headers);
            assert_eq!(told.map(|status| status.as_u16()), expected, "{code}");
        }
    }

    #[test]
    fn code_of_an_error_is_one_word() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Key>x</Key></Error>";
        assert_eq!(code_of(body), "NoSuchKey");
        assert_eq!(code_of(b"<Error><Code>two words</Code></Error>"), "");
        assert_eq!(code_of(b"<html>"), "");
    }
}
