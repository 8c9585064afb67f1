//! The sqlx that we have, with TLS that the host has switched on: it is ours as well.

use sqlx as _;

fn main() {
    // The first, since sqlx asks for the default provider in `verify-ca`.
    let _ = rustls::ClientConfig::builder();
    host::records(host::Tls::Full);
}
