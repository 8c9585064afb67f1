//! A span and a record for each request of a tower service: axum, tonic, or any other whose requests
//! and responses are those of the crate `http`.
//!
//! - [`layer`]: the layer, its hooks, and the service that it makes
//! - [`response`]: the response's body, whose end is the end of the run
//! - [`request_body`]: the beginning of a request's body, if asked for

mod layer;
mod request_body;
mod response;

pub use layer::{AuditRequestLayer, AuditRequestService};
pub use request_body::{AuditRequestBody, AuditRequestBodyLayer, AuditRequestBodyService};
pub use response::{AuditRequestFuture, AuditResponseBody};
