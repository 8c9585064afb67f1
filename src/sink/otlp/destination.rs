//! What the spans are sent to: a collector, or the host's own exporter.

use std::sync::Arc;

use opentelemetry_proto::tonic::resource::v1::Resource;

use super::fault::Fault;
use super::host_exporter::ToExporter;
use super::payload::{self, Scoped};
use super::transport::Transport;

/// What the spans are sent to.
#[derive(Debug)]
pub(super) enum Destination {
    Collector(Arc<Transport>),
    Exporter(ToExporter),
}

impl Destination {
    /// Sends spans of one log. Returns how many of them were refused.
    pub(super) async fn spans(
        &mut self,
        resource: &Resource,
        spans: &[Scoped],
    ) -> Result<u64, Fault> {
        match self {
            Self::Collector(transport) => transport.spans(payload::request(resource, spans)).await,
            Self::Exporter(exporter) => exporter.spans(resource, spans).await,
        }
    }

    /// Returns whether a batch is read again after a failure, with the records that came since: what
    /// becomes of them shows whether the exporter fails because of the batch.
    pub(super) fn reads_again(&self) -> bool {
        matches!(self, Self::Exporter(_))
    }

    /// Opens a new connection the next time.
    pub(super) fn renew(&self) {
        if let Self::Collector(transport) = self {
            transport.renew();
        }
    }

    /// Ends it: no spans come any more.
    pub(super) async fn shut_down(&self) {
        if let Self::Exporter(exporter) = self {
            exporter.shut_down().await;
        }
    }
}
