//! The servers of the trail's database: what a URL says about them, a connection to one of them,
//! and why there is none.
//!
//! sqlx reads only one host of a URL and no IPv6 address, and logs the values of parameters that it
//! does not know. URLs are therefore parsed here, as libpq parses them.

pub(crate) mod cause;
mod environment;
mod error;
mod options;
mod parameters;
mod passfile;
mod pem;
mod probe;
#[cfg(all(test, target_os = "linux"))]
mod server_tests;
mod servers;
#[cfg(test)]
mod tests;
mod tls;
mod tls_words;
mod url;

pub use self::cause::Unreachable;
pub use self::error::UrlError;
pub(crate) use self::probe::Probe;
pub(crate) use self::servers::LACKS_TLS;
pub use self::servers::Servers;
pub(crate) use self::tls_words::words;
