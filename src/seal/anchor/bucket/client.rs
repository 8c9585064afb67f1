//! What requests to a bucket are sent with: `object_store`, and for what that has no call of, the same signature over the same
//! connections.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use object_store::ClientOptions;
use object_store::aws::{
    AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, Checksum, S3ConditionalPut,
};
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector as _, HttpErrorKind, HttpRequestBody,
};
use object_store::path::Path;
use object_store::signer::Signer as _;
use sha2::{Digest as _, Sha256};

use super::http::{Connections, ErrorCode, host_of};
use super::limits::{fault_in, fault_of, retried, retry};
use super::sha256::Sha256Provider;
use crate::config::seal::bucket::{BucketUrl, Cloud};
use crate::seal::error::BucketFault;

/// How much of an answer is read: a page of a thousand versions is some 500 KiB.
const ANSWER_BYTES: usize = 8 << 20;

const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
const ALGORITHM: HeaderName = HeaderName::from_static("x-amz-sdk-checksum-algorithm");

/// The client of a bucket.
pub(super) struct Client {
    pub(super) store: AmazonS3,
    http: HttpClient,
    region: String,
}

/// What a server answered to a request that `object_store` does not know.
#[derive(Debug)]
pub(super) struct Answer {
    /// The host, and the port if there is one.
    pub(super) host: String,
    pub(super) status: StatusCode,
    /// The error code; may be empty.
    pub(super) code: String,
    pub(super) body: Bytes,
}

impl Client {
    /// Makes the client, from the `AWS_*` environment variables.
    ///
    /// With `headers`, each of its requests has them: those by which S3 locks an object from the moment that it is there.
    /// `object_store` has no attribute for them, but signs the headers that a client has for all requests, as S3 demands. A
    /// `PUT ?retention` afterwards would leave an object unlocked between the two, and for good after a crash.
    fn new(url: &BucketUrl, headers: Option<HeaderMap>) -> Result<Self, BucketFault> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&url.bucket)
            // Not to be switched off from outside: nothing is overwritten. And Object Lock asks for a checksum.
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_crypto_provider(Arc::new(Sha256Provider))
            .with_retry(retry());
        let is_plain = is_plain(&builder)?;
        let allows_http = builder
            .get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp))
            .is_some_and(|allowed| allowed == "true");
        let region = builder
            .get_config_value(&AmazonS3ConfigKey::Region)
            .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::DefaultRegion))
            .unwrap_or_else(|| String::from("us-east-1"));
        let mut options = ClientOptions::new().with_allow_http(allows_http);
        if let Some(headers) = headers {
            options = options.with_default_headers(headers);
            builder = builder.with_client_options(options.clone());
        }
        let cloud = url.cloud;
        let connections = Connections { cloud, is_plain };
        let http = connections.connect(&options).map_err(|error| why(&error))?;
        let store = builder
            .with_http_connector(connections)
            .build()
            .map_err(|error| why(&error))?;
        Ok(Self {
            store,
            http,
            region,
        })
    }

    /// Sends a request, again when it was not answered for now: so it must be one that may come twice.
    pub(super) async fn send(
        &self,
        method: &Method,
        path: &Path,
        query: &str,
        body: &str,
    ) -> Result<Answer, BucketFault> {
        retried(|| self.send_once(method, path, query, body)).await
    }

    async fn send_once(
        &self,
        method: &Method,
        path: &Path,
        query: &str,
        body: &str,
    ) -> Result<Answer, (HttpErrorKind, BucketFault)> {
        let unknown = |fault| (HttpErrorKind::Unknown, fault);
        let refused = |error| unknown(fault_of(&error));
        // Of what is signed here only the address is taken: which host and path a bucket and its objects have.
        let signed = self
            .store
            .signed_url(method.clone(), path, Duration::from_secs(1));
        let mut url = signed.await.map_err(refused)?;
        url.set_query(Some(query));
        let mut request = http::Request::builder()
            .method(method)
            .uri(url.as_str())
            .body(HttpRequestBody::from(body.to_owned()))
            .map_err(|_| unknown(BucketFault::Unreadable))?;
        if !body.is_empty() {
            let checksum = BASE64.encode(&Sha256::digest(body));
            let checksum = HeaderValue::from_str(&checksum);
            let checksum = checksum.map_err(|_| unknown(BucketFault::Unreadable))?;
            let headers = request.headers_mut();
            headers.insert(CHECKSUM, checksum);
            headers.insert(ALGORITHM, HeaderValue::from_static("SHA256"));
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/xml"),
            );
        }
        let credential = self.store.credentials().get_credential().await;
        let credential = credential.map_err(refused)?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_crypto(&Sha256Provider)
            .try_authorize(&mut request, None)
            .map_err(refused)?;
        let host = host_of(&request);
        let response = self.http.execute(request).await.map_err(|error| {
            let fault = fault_in(&error).cloned();
            (error.kind(), fault.unwrap_or(BucketFault::Unreadable))
        })?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| {
            let fault = fault_in(&*error).cloned();
            let fault = fault.unwrap_or(BucketFault::Unreadable);
            (HttpErrorKind::Interrupted, fault)
        })?;
        let code = parts.extensions.get().map(|ErrorCode(code)| code.clone());
        Ok(Answer {
            host,
            status: parts.status,
            code: code.unwrap_or_default(),
            body: body.to_bytes(),
        })
    }
}

/// Returns a client, which is made when it is needed first.
pub(super) fn made<'a>(
    client: &'a OnceLock<Client>,
    url: &BucketUrl,
    headers: Option<HeaderMap>,
) -> Result<&'a Client, BucketFault> {
    if let Some(client) = client.get() {
        return Ok(client);
    }
    let made = Client::new(url, headers)?;
    Ok(client.get_or_init(|| made))
}

/// Returns why there is no client.
fn why(error: &object_store::Error) -> BucketFault {
    match fault_in(error) {
        Some(fault) => fault.clone(),
        // Its text may repeat a variable.
        None => settings("object_store refuses one of them"),
    }
}

fn settings(why: &str) -> BucketFault {
    BucketFault::Settings {
        cloud: Cloud::S3,
        why: why.to_owned(),
    }
}

/// Returns whether the bucket is reached without TLS, if what the variables say can be.
fn is_plain(builder: &AmazonS3Builder) -> Result<bool, BucketFault> {
    let endpoint = builder
        .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let is_plain = endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let is_url = |endpoint: &String| {
        let uri = endpoint.parse::<http::Uri>();
        let authority = uri.as_ref().ok().and_then(|uri| uri.authority());
        (is_plain || endpoint.starts_with("https://"))
            && authority.is_some_and(|authority| !authority.as_str().contains('@'))
    };
    if !endpoint.as_ref().is_none_or(is_url) {
        return Err(settings("AWS_ENDPOINT_URL is not the URL of a server"));
    }
    let id = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId);
    let secret = builder.get_config_value(&AmazonS3ConfigKey::SecretAccessKey);
    if id.is_some() != secret.is_some() {
        return Err(settings(
            "one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set without the other",
        ));
    }
    Ok(is_plain)
}
