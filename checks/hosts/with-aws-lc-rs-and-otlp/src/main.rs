//! rustls with its default provider, and ours with the same.

fn main() {
    host::records(host::Tls::Rustls);
    assert!(
        rustls::crypto::CryptoProvider::get_default().is_none(),
        "the process' default provider is the host's to set"
    );
    // Panics where rustls has two providers.
    let _ = rustls::ClientConfig::builder();
    host::records(host::Tls::Full);
}
