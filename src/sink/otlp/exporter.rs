//! Checks the settings of an export, and starts it.

use std::sync::Arc;

use super::drain::Drain;
use super::metrics::{self, Observe};
use super::{payload, transport};
use crate::config::otlp::Otlp;
use crate::delivery::export::Export;
use crate::error::BuildError;
use crate::spool::Spool;
use crate::stats::Counters;

/// An export whose settings were checked and that can be started.
#[derive(Debug)]
pub(crate) struct Exporter {
    settings: Otlp,
    transport: Arc<transport::Transport>,
}

impl Exporter {
    /// Checks the settings. Must be called within the runtime that the export will run on.
    pub(crate) fn new(settings: Otlp) -> Result<Self, BuildError> {
        Ok(Self {
            transport: Arc::new(transport::Transport::new(&settings)?),
            settings,
        })
    }

    /// Starts the export. Must be called within the runtime that it will run on.
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

    /// Starts the export of one log, whose process is dead and whose records are in Postgres. Must
    /// be called within the runtime that it will run on.
    pub(crate) fn start_one(self, counters: &Arc<Counters>, log: Arc<Spool>) -> Drain {
        Drain::of_one(self.settings, Arc::clone(counters), self.transport, log)
    }
}
