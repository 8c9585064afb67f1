//! What every host does: records, and has it committed, by each URL of `HOST_URLS` that it can.

use std::time::Duration;

use tracing_audit::{Audit, BuildError, Event};
use tracing_subscriber::prelude::*;

/// What a host can do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// None: what asks for it is refused at the start.
    None,
    /// rustls without a default provider of the process: all but `verify-ca`, and `require` with a root certificate,
    /// which is the same; they say so.
    Rustls,
    /// All of it.
    Full,
}

/// Records by each URL.
///
/// # Panics
/// When a record is not committed that should be, or a worker panics.
pub fn records(tls: Tls) {
    let urls = std::env::var("HOST_URLS").expect("scripts/hosts sets it");
    for (number, url) in urls.split_whitespace().enumerate() {
        let spool = std::env::temp_dir().join(format!("host-{}-{number}", std::process::id()));
        let mode = url.split(['=', '&']).nth(1).expect("sslmode comes first");
        let started = Audit::builder().postgres(url).spool(&spool).start();
        let is_of_authority =
            mode == "verify-ca" || mode == "require" && url.contains("sslrootcert");
        let is_asked_for = !matches!(mode, "disable" | "prefer");
        if tls == Tls::None && is_asked_for {
            assert!(
                matches!(started, Err(BuildError::NoTls)),
                "{mode}: {started:?}"
            );
            continue;
        }
        let audit = started.expect("it starts");
        let subscriber = tracing_subscriber::registry().with(audit.layer());
        let _guard = subscriber.set_default();
        audit.record(Event::new("arrives")).expect("it is taken");
        if tls == Tls::Rustls && is_of_authority {
            while audit.stats().fault().is_none() {
                std::thread::yield_now();
            }
            let fault = audit.stats().fault().expect("it stays").to_owned();
            assert!(
                fault.contains("verify-ca") && fault.contains("install_default"),
                "{fault}"
            );
            assert_eq!(audit.stats().restarts(), 0);
            audit.shutdown_blocking(Duration::ZERO);
        } else {
            let flushed = audit.flush_blocking(Duration::from_secs(30));
            let stats = audit.stats();
            assert!(flushed.is_ok(), "{mode}: {flushed:?}, {:?}", stats.fault());
            assert_eq!((stats.committed(), stats.restarts()), (1, 0), "{mode}");
            drop(audit);
        }
        let _ = std::fs::remove_dir_all(spool);
        println!("  {mode}: as it should be");
    }
}
