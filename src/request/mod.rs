//! The record of an HTTP request, whatever framework serves it: `tower.rs` and `actix.rs` hand over
//! what they see.
//!
//! - [`run`]: the run of one request, from its head to the end of the response's body
//! - [`settings`]: what is recorded; [`identity`]: who asks
//! - [`client`]: the client's address behind proxies; [`secret`]: what is never recorded
//! - [`body`]: how far a body has come, and the beginning of one; [`seen`]: that beginning, recorded
//!
//! **The target is the route, not the path.** `/orders/{id}` groups the requests for one purpose,
//! and holds no customer's id. The path is in `metadata`. A request without a route has no target:
//! its path is whatever a stranger sent.
//!
//! **The record is an activity, a denial is an event beside it.** Activities are kept for months
//! and events for years, and who was refused is asked years later.

pub(crate) mod body;
mod client;
mod identity;
pub(crate) mod run;
mod secret;
pub(crate) mod seen;
pub(crate) mod settings;

pub use identity::Identity;
pub use settings::{InvalidNetwork, RequestSettings, TakeIds};
