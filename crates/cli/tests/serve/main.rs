//! `tracing-audit serve`: who sees what, that it is recorded, and that nothing of the trail comes to life in a browser.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod access;
#[cfg(feature = "archive")]
mod archived;
mod bombs;
mod desk;
mod failures;
mod faults;
mod figures;
mod login;
mod pages;
mod session;
mod setting;
