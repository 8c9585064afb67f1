//! TLS to a collector, with rustls and the provider that a feature of ours selects.
//!
//! The process's default provider is not set, and not needed anywhere: which one it is, if any, is
//! the host's business.

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
pub(super) use with_rustls::{Connector, connector, endpoint};
#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
pub(super) use without::{Connector, connector, endpoint};

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod with_rustls {
    use std::sync::Arc;

    use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
    use hyper_util::client::legacy::connect::HttpConnector;
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
    use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

    use crate::config::otlp::{Otlp, invalid};
    use crate::error::BuildError;

    pub(in super::super) type Connector = HttpsConnector<HttpConnector>;

    pub(in super::super) fn connector(
        settings: &Otlp,
        is_tls: bool,
    ) -> Result<Connector, BuildError> {
        let tls = if is_tls {
            config(settings)?
        } else {
            // Certificates are not loaded where none are needed.
            builder()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        };
        Ok(HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build())
    }

    /// Returns the same endpoint, over TLS. tonic uses the process's default provider if the host
    /// has set one, else ours.
    pub(in super::super) fn endpoint(
        settings: &Otlp,
        endpoint: Endpoint,
    ) -> Result<Endpoint, BuildError> {
        // Read here as for HTTP, so that an invalid certificate is reported at the start.
        config(settings)?;
        let mut tls = ClientTlsConfig::new();
        tls = match &settings.ca_certificate {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &settings.client_certificate {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        endpoint
            .tls_config(tls)
            .map_err(|error| invalid("certificate", crate::error::causes(&error)))
    }

    /// Returns ring's provider if both are there, as in sqlx.
    fn provider() -> CryptoProvider {
        #[cfg(feature = "tls-ring")]
        return rustls::crypto::ring::default_provider();
        #[cfg(not(feature = "tls-ring"))]
        return rustls::crypto::aws_lc_rs::default_provider();
    }

    fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, BuildError> {
        ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("TLS", error.to_string()))
    }

    fn config(settings: &Otlp) -> Result<ClientConfig, BuildError> {
        let builder = builder()?;
        let builder = if let Some(pem) = &settings.ca_certificate {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| invalid("certificate", "is no PEM"))?;
                roots
                    .add(certificate)
                    .map_err(|error| invalid("certificate", error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(invalid("certificate", "holds no certificate"));
            }
            builder.with_root_certificates(roots)
        } else {
            builder
                .with_native_roots()
                .map_err(|error| invalid("certificate", format!("the system has none: {error}")))?
        };
        match &settings.client_certificate {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key)) => {
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(certificate).collect();
                let chain = chain.map_err(|_| invalid("client certificate", "is no PEM"))?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| invalid("client key", "is no PEM"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| invalid("client certificate", error.to_string()))
            }
        }
    }
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
mod without {
    use hyper_util::client::legacy::connect::HttpConnector;
    use tonic::transport::Endpoint;

    use crate::config::otlp::{Otlp, invalid};
    use crate::error::BuildError;

    const LACKING: &str = "an https endpoint needs feature tls-ring or tls-aws-lc-rs of tracing-audit: \
                           the one whose provider the program's rustls has already";

    pub(in super::super) type Connector = HttpConnector;

    pub(in super::super) fn connector(_: &Otlp, is_tls: bool) -> Result<Connector, BuildError> {
        if is_tls {
            return Err(invalid("endpoint", LACKING));
        }
        Ok(HttpConnector::new())
    }

    pub(in super::super) fn endpoint(_: &Otlp, _: Endpoint) -> Result<Endpoint, BuildError> {
        Err(invalid("endpoint", LACKING))
    }
}
