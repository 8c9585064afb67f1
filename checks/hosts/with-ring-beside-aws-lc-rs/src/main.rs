//! Both providers, as a program has them whose libraries do not agree: it has to choose.

fn main() {
    host::records(host::Tls::Rustls);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nobody else has set one");
    let _ = rustls::ClientConfig::builder();
    host::records(host::Tls::Full);
}
