//! Checks the settings of an export, and starts it.

use std::sync::Arc;

use super::destination::Destination;
use super::drain::Drain;
use super::host_exporter::{ExporterThread, ToExporter};
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
    way: Way,
}

/// How spans leave the process.
#[derive(Debug)]
enum Way {
    Transport(Arc<transport::Transport>),
    HostExporter(ExporterThread),
}

impl Exporter {
    /// Checks the settings. Must be called within the runtime that the export will run on.
    pub(crate) fn new(settings: Otlp) -> Result<Self, BuildError> {
        settings.check_exporter()?;
        let way = match settings.exporter.clone() {
            Some(exporter) => Way::HostExporter(ExporterThread::start(exporter)?),
            None => Way::Transport(Arc::new(transport::Transport::new(&settings)?)),
        };
        Ok(Self { settings, way })
    }

    fn destination(&self) -> Destination {
        match &self.way {
            Way::Transport(transport) => Destination::Collector(Arc::clone(transport)),
            Way::HostExporter(thread) => {
                Destination::Exporter(ToExporter::new(thread.clone(), self.settings.timeout))
            }
        }
    }

    /// Starts the export. Must be called within the runtime that it will run on.
    pub(crate) fn start(
        &self,
        export: &Arc<Export>,
        counters: &Arc<Counters>,
        own: &Arc<Spool>,
        observe: &Observe,
    ) -> Drain {
        let metrics = match &self.way {
            Way::Transport(transport) if self.settings.metrics => {
                let resource = payload::resource_attributes(own.log(), &self.settings);
                let transport = Arc::clone(transport);
                Some(metrics::Metrics::start(
                    &self.settings,
                    resource,
                    transport,
                    observe,
                ))
            }
            _ => None,
        };
        Drain::new(
            self.settings.clone(),
            Arc::clone(export),
            Arc::clone(counters),
            self.destination(),
            metrics,
            Arc::clone(own),
        )
    }

    /// Starts the export of one log, whose process is dead and whose records are in Postgres. Must
    /// be called within the runtime that it will run on.
    pub(crate) fn start_one(&self, counters: &Arc<Counters>, log: Arc<Spool>) -> Drain {
        Drain::of_one(
            self.settings.clone(),
            Arc::clone(counters),
            self.destination(),
            log,
        )
    }

    /// Ends the export: no spans come any more, from this or from what it started.
    pub(crate) async fn shut_down(&self) {
        self.destination().shut_down().await;
    }
}
