//! Shared by the tests: a real Postgres server of their own, and waiting.
#![allow(
    dead_code,
    reason = "every test program compiles this anew and uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

pub(crate) mod child;
#[cfg(feature = "otlp")]
pub(crate) mod collector;
mod folders;
pub(crate) mod heard;
mod postgres;
mod programs;
pub(crate) mod proxy;
mod query;
pub(crate) mod trail;

use std::thread;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "see dead_code above")]
pub(crate) use postgres::{ADMINISTRATOR, Postgres, Stop};
#[allow(unused_imports, reason = "see dead_code above")]
pub(crate) use query::Session;

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
pub(crate) fn wait_until(what: &str, limit: Duration, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !happened() {
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
