//! The trail as OTLP spans and metrics: a second reader of the spool, at a pace of its own.
//!
//! - [`conventions`]: the names, in one table
//! - [`span`]: a row as a span, with [`attributes`] and [`sql`]; pure
//! - [`payload`]: records into a request
//! - [`transport`], [`tls`], [`fault`]: a request and what its answer means
//! - [`drain`]: the loop
//! - [`metrics`]: counters, durations, token usage

mod attributes;
mod conventions;
mod drain;
mod fault;
mod metrics;
mod payload;
mod span;
mod sql;
mod tls;
mod transport;

use std::sync::Arc;

pub(crate) use self::drain::Drain;
pub(crate) use self::metrics::{Observe, Observed};
use crate::config::otlp::Otlp;
use crate::delivery::export::Export;
use crate::error::BuildError;
use crate::spool::Spool;
use crate::stats::Counters;

/// An export that was checked and can be run.
#[derive(Debug)]
pub(crate) struct Exporter {
    settings: Otlp,
    transport: Arc<transport::Transport>,
}

impl Exporter {
    /// Checks what is set. To be called within the runtime that it will run on.
    pub(crate) fn new(settings: Otlp) -> Result<Self, BuildError> {
        Ok(Self {
            transport: Arc::new(transport::Transport::new(&settings)?),
            settings,
        })
    }

    /// Takes up the export. To be called within the runtime that it will run on.
    pub(crate) fn start(
        &self,
        export: &Arc<Export>,
        counters: &Arc<Counters>,
        own: &Arc<Spool>,
        observe: &Observe,
    ) -> Drain {
        let metrics = self.settings.metrics.then(|| {
            let resource = payload::resource_attributes(own.log(), &self.settings);
            let transport = Arc::clone(&self.transport);
            metrics::Metrics::start(&self.settings, resource, transport, observe)
        });
        Drain::new(
            self.settings.clone(),
            Arc::clone(export),
            Arc::clone(counters),
            Arc::clone(&self.transport),
            metrics,
            Arc::clone(own),
        )
    }
}
