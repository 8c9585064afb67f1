//! The guide's pages: what is promised, and how to set up, guard and run it.
//!
//! The [crate's documentation](crate) is where to begin.

#![allow(
    clippy::doc_markdown,
    reason = "pages are for readers of the repository as well, where PyPI is no code"
)]

// A link of a page leads to another file there, and to another module here: of two definitions of a link, the first
// counts.

#[doc = "[Where it ends]: crate::guide::rights#where-it-ends"]
#[doc = ""]
#[doc = include_str!("../docs/guarantees.md")]
pub mod guarantees {}

#[doc = "[Adoption]: crate::guide::adoption"]
#[doc = "[Guarantees]: crate::guide::guarantees"]
#[doc = "[Redaction]: crate::guide::redaction"]
#[doc = "[OpenTelemetry]: crate::guide::opentelemetry"]
#[doc = "[The local log]: crate::guide::operations#the-local-log"]
#[doc = ""]
#[doc = include_str!("../docs/settings.md")]
pub mod settings {}

#[doc = include_str!("../docs/adoption.md")]
pub mod adoption {}

#[doc = "[Adopted spans]: crate::guide::adoption"]
#[doc = "[Settings]: crate::guide::settings#requestsettings"]
#[doc = "[Limits]: crate::guide::settings#limits"]
#[doc = "[Queries]: crate::guide::queries"]
#[doc = ""]
#[doc = include_str!("../docs/families.md")]
pub mod families {}

#[doc = "[families of events]: crate::guide::families"]
#[doc = "[rights]: crate::guide::rights"]
#[doc = ""]
#[doc = include_str!("../docs/queries.md")]
pub mod queries {}

#[doc = include_str!("../docs/rights.md")]
pub mod rights {}

#[doc = "[Settings]: crate::guide::settings#otlp"]
#[doc = ""]
#[doc = include_str!("../docs/opentelemetry.md")]
pub mod opentelemetry {}

#[cfg(feature = "redact")]
#[doc = include_str!("../docs/redaction.md")]
pub mod redaction {}

#[doc = include_str!("../docs/monitoring.md")]
pub mod monitoring {}

#[doc = "[Rights]: crate::guide::rights"]
#[doc = ""]
#[doc = include_str!("../docs/operations.md")]
pub mod operations {}
