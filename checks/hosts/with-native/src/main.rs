//! rustls with its default provider, and TLS of ours by the system's library.

fn main() {
    host::records(host::Tls::Full);
    assert!(
        rustls::crypto::CryptoProvider::get_default().is_none(),
        "the process' default provider is the host's to set"
    );
    // Panics where rustls has two providers.
    let _ = rustls::ClientConfig::builder();
    host::records(host::Tls::Full);
}
