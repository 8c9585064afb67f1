//! A container of Azure Blob Storage: reached as the `AZURE_*` environment variables say, and what Azure tells of its lock.
//!
//! What keeps blobs there is a policy of the container, or of each blob in one with version-level immutability; both are set by
//! Azure's tools. Whether a policy is locked, and how long it lasts, only the management API tells, with credentials of another
//! kind: here is asked what the storage account itself answers.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Method, Request, StatusCode};
use object_store::azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector as _, HttpErrorKind, HttpRequestBody,
};
use object_store::{ClientOptions, Error};

use super::http::{Connections, ErrorCode, host_of};
use super::limits::{fault_in, fault_of, retried, retry};
use super::sha256::Sha256Provider;
use super::{Bucket, Service, Store};
use crate::config::seal::bucket::{BucketUrl, Cloud};
use crate::seal::error::{AnchorError, BucketFault};

/// What lets somebody read the properties of a container.
const RIGHT: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/read, which the SAS token of a container does not give";

/// What Azure tells of the lock of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immutability {
    /// It has no policy.
    None,
    /// It has none, and its blobs may have their own.
    OfBlobs,
    /// It has one: locked or not, and for however long.
    Policy,
    /// The server does not say it.
    Unknown,
}

impl Immutability {
    fn of(headers: &HeaderMap) -> Self {
        let is = |name| headers.get(name).map(|value| value == "true");
        match is("x-ms-has-immutability-policy") {
            Some(true) => Self::Policy,
            Some(false) if is("x-ms-immutable-storage-with-versioning-enabled") == Some(true) => {
                Self::OfBlobs
            }
            Some(false) => Self::None,
            None => Self::Unknown,
        }
    }
}

/// How a container is reached.
#[derive(Default)]
pub struct Azure {
    /// Made when it is needed first: by then there is a runtime.
    client: OnceLock<Client>,
}

struct Client {
    store: MicrosoftAzure,
    http: HttpClient,
    account: String,
    container: String,
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the client, which has the credentials.
        f.debug_struct("Azure").finish_non_exhaustive()
    }
}

impl Azure {
    fn client(&self, url: &BucketUrl) -> Result<&Client, BucketFault> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let made = Client::new(url)?;
        Ok(self.client.get_or_init(|| made))
    }
}

impl Service for Azure {
    fn store(&self, url: &BucketUrl) -> Result<&dyn Store, BucketFault> {
        Ok(&self.client(url)?.store)
    }
}

impl Bucket<Azure> {
    /// Takes the address of a container. The account and its credentials are those of the `AZURE_*` environment variables when it is
    /// first used.
    pub fn in_azure(url: BucketUrl) -> Self {
        Self::at(url, Azure::default())
    }

    /// Returns what Azure tells of the lock of the container.
    ///
    /// # Errors
    /// If it does not answer, or refuses to say it.
    pub async fn immutability(&self) -> Result<Immutability, AnchorError> {
        let asking = async {
            let client = self.service.client(&self.url)?;
            retried(|| client.properties()).await
        };
        let headers = self.within("", 0, asking).await?;
        Ok(Immutability::of(&headers))
    }
}

impl Client {
    fn new(url: &BucketUrl) -> Result<Self, BucketFault> {
        let builder = from_env();
        let account = builder.get_config_value(&AzureConfigKey::AccountName);
        let account = account.ok_or_else(|| settings("AZURE_STORAGE_ACCOUNT_NAME is not set"))?;
        let endpoint = endpoint(&builder, &account)?;
        let allows_http = builder
            .get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp))
            .is_some_and(|allowed| allowed == "true");
        let connections = Connections {
            cloud: Cloud::Azure,
            is_plain: endpoint.starts_with("http://"),
        };
        let options = ClientOptions::new().with_allow_http(allows_http);
        let http = connections.connect(&options).map_err(|error| why(&error))?;
        let container = format!("{}/{}", endpoint.trim_end_matches('/'), url.bucket);
        let store = builder
            .with_endpoint(endpoint)
            .with_container_name(&url.bucket)
            .with_crypto_provider(Arc::new(Sha256Provider))
            .with_retry(retry())
            .with_http_connector(connections)
            .build()
            .map_err(|error| why(&error))?;
        Ok(Self {
            store,
            http,
            account,
            container,
        })
    }

    /// Asks for the properties of the container, once.
    async fn properties(&self) -> Result<HeaderMap, (HttpErrorKind, BucketFault)> {
        let unknown = |fault| (HttpErrorKind::Unknown, fault);
        let refused = |error| unknown(fault_of(&error));
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(format!("{}?restype=container", self.container))
            .body(HttpRequestBody::from(String::new()))
            .map_err(|_| unknown(BucketFault::Unreadable))?;
        let host = host_of(&request);
        let credential = self.store.credentials().get_credential().await;
        let credential = credential.map_err(refused)?;
        AzureAuthorizer::new(&credential, &self.account)
            .with_crypto(&Sha256Provider)
            .try_authorize(&mut request)
            .map_err(refused)?;
        let response = self.http.execute(request).await.map_err(|error| {
            let fault = fault_in(&error).cloned().unwrap_or(BucketFault::Unreadable);
            (error.kind(), with_right(fault))
        })?;
        let (parts, _) = response.into_parts();
        if parts.status.is_success() {
            return Ok(parts.headers);
        }
        let code = parts.extensions.get().map(|ErrorCode(code)| code.clone());
        Err(unknown(BucketFault::Refused {
            cloud: Cloud::Azure,
            host,
            status: parts.status.as_u16(),
            code: code.unwrap_or_default(),
            region: None,
        }))
    }
}

/// Returns what the environment says: as `MicrosoftAzureBuilder::from_env` reads it, but that a variable that is set to nothing is
/// not set, and with two that Azure's own command line reads.
fn from_env() -> MicrosoftAzureBuilder {
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in std::env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        let key = match name {
            "AZURE_STORAGE_ACCOUNT" => Some(AzureConfigKey::AccountName),
            "AZURE_STORAGE_KEY" => Some(AzureConfigKey::AccessKey),
            "IDENTITY_ENDPOINT" => Some(AzureConfigKey::MsiEndpoint),
            name if name.starts_with("AZURE_") => name.to_ascii_lowercase().parse().ok(),
            _ => None,
        };
        if let Some(key) = key {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

/// Says which right is lacking, if that is it.
fn with_right(fault: BucketFault) -> BucketFault {
    match fault {
        BucketFault::Refused {
            host, status, code, ..
        } if status == StatusCode::FORBIDDEN && code.ends_with("Mismatch") => {
            let right = RIGHT;
            BucketFault::NoRight {
                host,
                status,
                code,
                right,
            }
        }
        fault => fault,
    }
}

/// Returns where the account is.
fn endpoint(builder: &MicrosoftAzureBuilder, account: &str) -> Result<String, BucketFault> {
    for (key, variable) in [
        (AzureConfigKey::UseEmulator, "AZURE_STORAGE_USE_EMULATOR"),
        (
            AzureConfigKey::UseFabricEndpoint,
            "AZURE_USE_FABRIC_ENDPOINT",
        ),
    ] {
        if builder
            .get_config_value(&key)
            .is_some_and(|value| value == "true")
        {
            let why = format!("{variable} is not heeded here: set AZURE_STORAGE_ENDPOINT");
            return Err(settings(&why));
        }
    }
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !account.chars().all(is_name) {
        return Err(settings(
            "AZURE_STORAGE_ACCOUNT_NAME is not the name of an account (a-z and 0-9)",
        ));
    }
    let Some(endpoint) = builder.get_config_value(&AzureConfigKey::Endpoint) else {
        return Ok(format!("https://{account}.blob.core.windows.net"));
    };
    let uri = endpoint.parse::<http::Uri>().ok();
    let is_url = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if !is_url {
        return Err(settings(
            "AZURE_STORAGE_ENDPOINT is not the URL of a server",
        ));
    }
    Ok(endpoint)
}

/// Returns why there is no client.
fn why(error: &Error) -> BucketFault {
    match fault_in(error) {
        Some(fault) => fault.clone(),
        // Its text may repeat a variable.
        None => settings("object_store refuses one of them"),
    }
}

fn settings(why: &str) -> BucketFault {
    BucketFault::Settings {
        cloud: Cloud::Azure,
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_that_is_told_is_one() {
        let has = "x-ms-has-immutability-policy";
        let of_blobs = "x-ms-immutable-storage-with-versioning-enabled";
        for (said, expected) in [
            (
                &[(has, "true"), (of_blobs, "false")][..],
                Immutability::Policy,
            ),
            (&[(has, "true"), (of_blobs, "true")], Immutability::Policy),
            (&[(has, "false"), (of_blobs, "true")], Immutability::OfBlobs),
            (&[(has, "false"), (of_blobs, "false")], Immutability::None),
            (&[(has, "false")], Immutability::None),
            (&[(of_blobs, "true")], Immutability::Unknown),
            (&[], Immutability::Unknown),
        ] {
            let headers = said.iter().map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            });
            let headers: HeaderMap = headers.collect();
            assert_eq!(Immutability::of(&headers), expected, "{said:?}");
        }
    }
}
