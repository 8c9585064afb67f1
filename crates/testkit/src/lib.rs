//! What the tests and benches share: Postgres servers of their own, child processes, a proxy, a
//! collector, and what a bench measures with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on fails, and a bench ends"
)]
#![allow(
    clippy::missing_errors_doc,
    reason = "an error is what the server answers"
)]
#![allow(
    clippy::new_without_default,
    reason = "a folder is another one each time"
)]

pub mod benches;
mod chance;
pub mod child;
#[cfg(feature = "collector")]
pub mod collector;
mod dump;
mod folders;
pub mod heard;
pub mod page;
mod pgbouncer;
mod postgres;
mod programs;
pub mod proxy;
mod query;
pub mod trail;

use std::thread;
use std::time::{Duration, Instant};

pub use chance::{Chance, let_run};
pub use pgbouncer::Pgbouncer;
pub use postgres::{ADMINISTRATOR, Postgres, Stop};
pub use query::Session;

/// The database that every server starts with.
const DATABASE: &str = "audit";

/// Longer than a server takes to start (including recovery), to stop, or to run a test's statement;
/// shorter than anyone waits for a test that hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// Returns as soon as `happened` returns true; fails the test, naming `what`, if that takes longer
/// than `limit`.
///
/// This is the only pause in the tests.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !happened() {
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
