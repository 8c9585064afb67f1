//! Connections for HTTP and HTTPS, with the rustls and the provider that a feature of ours selects.
//!
//! The process's default provider is not set, and not needed anywhere: which one it is, if any, is the host's business.

use hyper_util::client::legacy::connect::HttpConnector;

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
pub(crate) use with_rustls::{Connector, connector};
#[cfg(all(feature = "otlp", any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
pub(crate) use with_rustls::{builder, connector_with, native_roots};
#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
pub(crate) use without::{Connector, connector};

/// What an `https` URL needs.
#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
pub(crate) const LACKING: &str = "an https URL needs feature tls-ring or tls-aws-lc-rs of tracing-audit: \
                                  the one whose provider the program's rustls has already";

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod with_rustls {
    use std::sync::Arc;

    use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
    use rustls::crypto::CryptoProvider;
    use rustls::{
        ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, client::WantsClientCert,
    };

    use super::HttpConnector;

    /// Connects to `http` and `https` URLs.
    pub(crate) type Connector = HttpsConnector<HttpConnector>;

    /// Returns a connector that trusts the system's certificates; for `http` alone, it loads none.
    pub(crate) fn connector(is_tls: bool) -> Result<Connector, String> {
        let roots = if is_tls {
            native_roots()?
        } else {
            builder()?.with_root_certificates(RootCertStore::empty())
        };
        Ok(connector_with(roots.with_no_client_auth()))
    }

    /// Returns a connector with these settings of TLS.
    pub(crate) fn connector_with(tls: ClientConfig) -> Connector {
        HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build()
    }

    /// Begins the settings of TLS.
    pub(crate) fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
        ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())
    }

    /// Begins the settings of TLS with the system's certificates.
    pub(crate) fn native_roots() -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
        builder()?
            .with_native_roots()
            .map_err(|error| format!("the system has no certificates: {error}"))
    }

    /// Returns ring's provider if both are there, as in sqlx.
    fn provider() -> CryptoProvider {
        #[cfg(feature = "tls-ring")]
        return rustls::crypto::ring::default_provider();
        #[cfg(not(feature = "tls-ring"))]
        return rustls::crypto::aws_lc_rs::default_provider();
    }
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
mod without {
    use super::{HttpConnector, LACKING};

    /// Connects to `http` URLs.
    pub(crate) type Connector = HttpConnector;

    /// Returns a connector for `http` alone.
    pub(crate) fn connector(is_tls: bool) -> Result<Connector, String> {
        if is_tls {
            return Err(String::from(LACKING));
        }
        Ok(HttpConnector::new())
    }
}
