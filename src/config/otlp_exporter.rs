//! An exporter of the OpenTelemetry SDK that the host brings.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// The host's exporter. Copies of the settings share it.
#[derive(Clone)]
pub(crate) struct HostExporter(Arc<Mutex<Set>>);

struct Set {
    /// `None` after its shutdown.
    exporter: Option<Box<dyn Exporter>>,
    /// What it was told last.
    resource: Option<Resource>,
}

/// [`SpanExporter`] as a trait object.
trait Exporter: Send {
    fn set_resource(&mut self, resource: &Resource);
    fn export<'a>(
        &'a self,
        spans: Vec<SpanData>,
    ) -> Pin<Box<dyn Future<Output = OTelSdkResult> + Send + 'a>>;
    fn shut_down(&self, timeout: Duration);
}

impl<E: SpanExporter> Exporter for E {
    fn set_resource(&mut self, resource: &Resource) {
        SpanExporter::set_resource(self, resource);
    }

    fn export<'a>(
        &'a self,
        spans: Vec<SpanData>,
    ) -> Pin<Box<dyn Future<Output = OTelSdkResult> + Send + 'a>> {
        Box::pin(SpanExporter::export(self, spans))
    }

    fn shut_down(&self, timeout: Duration) {
        // What it could not send stays in the local log.
        let _ = SpanExporter::shutdown_with_timeout(self, timeout);
    }
}

impl HostExporter {
    pub(crate) fn new(exporter: impl SpanExporter + 'static) -> Self {
        Self(Arc::new(Mutex::new(Set {
            exporter: Some(Box::new(exporter)),
            resource: None,
        })))
    }

    /// Exports spans of one resource, and blocks the thread until the exporter answers. Must not be
    /// called within a runtime: an exporter with a blocking client panics there.
    pub(crate) fn export(&self, resource: Resource, spans: Vec<SpanData>) -> OTelSdkResult {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Set {
            exporter,
            resource: told,
        } = &mut *set;
        let Some(exporter) = exporter else {
            return Err(OTelSdkError::AlreadyShutdown);
        };
        if told.as_ref() != Some(&resource) {
            exporter.set_resource(&resource);
            *told = Some(resource);
        }
        futures_executor::block_on(exporter.export(spans))
    }

    /// Tells the exporter that no spans come any more, and drops it here: the host's thread may be
    /// one on which its client must not be dropped.
    pub(crate) fn shut_down(&self, timeout: Duration) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exporter) = set.exporter.take() {
            exporter.shut_down(timeout);
        }
    }
}
