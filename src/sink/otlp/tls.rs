//! TLS to a collector.

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
pub(super) use with_rustls::{connector, endpoint};
#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
pub(super) use without::{connector, endpoint};

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod with_rustls {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore};
    use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

    use crate::config::otlp::{Otlp, invalid};
    use crate::error::BuildError;
    use crate::https::{self, Connector};

    pub(in super::super) fn connector(
        settings: &Otlp,
        is_tls: bool,
    ) -> Result<Connector, BuildError> {
        // Certificates are not loaded where none are needed.
        if is_tls {
            Ok(https::connector_with(config(settings)?))
        } else {
            https::connector(false).map_err(|why| invalid("TLS", why))
        }
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

    fn config(settings: &Otlp) -> Result<ClientConfig, BuildError> {
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
            let builder = https::builder().map_err(|why| invalid("TLS", why))?;
            builder.with_root_certificates(roots)
        } else {
            https::native_roots().map_err(|why| invalid("certificate", why))?
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
    use tonic::transport::Endpoint;

    use crate::config::otlp::{Otlp, invalid};
    use crate::error::BuildError;
    use crate::https::{self, Connector, LACKING};

    pub(in super::super) fn connector(_: &Otlp, is_tls: bool) -> Result<Connector, BuildError> {
        https::connector(is_tls).map_err(|why| invalid("endpoint", why))
    }

    pub(in super::super) fn endpoint(_: &Otlp, _: Endpoint) -> Result<Endpoint, BuildError> {
        Err(invalid("endpoint", LACKING))
    }
}
