//! What takes the spans besides tracing-audit, and other layers.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrace::collector::{Reporter, SpanRecord};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_audit::Audit;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::prelude::*;

/// Spans taken so far, by a peer that says so.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Returns how many spans the peers have taken so far.
pub fn taken() -> usize {
    TAKEN.load(Ordering::Relaxed)
}

/// Counts the spans and lets them go.
#[derive(Debug)]
pub struct Discard;

impl SpanExporter for Discard {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        TAKEN.fetch_add(batch.len(), Ordering::Relaxed);
        Ok(())
    }
}

impl Reporter for Discard {
    fn report(&mut self, spans: Vec<SpanRecord>) {
        TAKEN.fetch_add(spans.len(), Ordering::Relaxed);
    }
}

/// Writes what comes, and counts the lines: each comes by itself.
#[derive(Debug)]
pub struct CountLines<W>(pub W);

impl<W: Write> Write for CountLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.0.write(line)?;
        TAKEN.fetch_add(usize::from(line.ends_with(b"\n")), Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// OpenTelemetry with a batch processor and [`Discard`]. The default queue of 2,048 spans would drop some of a burst.
pub fn opentelemetry() -> (SdkTracerProvider, SdkTracer) {
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(32_768)
        .build();
    let processor = BatchSpanProcessor::builder(Discard)
        .with_batch_config(config)
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    let tracer = provider.tracer("bench");
    (provider, tracer)
}

/// A layer such as an application has besides: it wants every span and does nothing with it.
#[derive(Clone, Copy, Debug)]
pub struct Another;

impl<S: Subscriber> Layer<S> for Another {}

/// A filter of one layer, which wants the spans of requests, and for each new one is asked anew, as that of tracing-audit is: what
/// tracing-subscriber takes for such a layer, whatever the layer does.
#[derive(Clone, Copy, Debug)]
pub struct OfRequests;

impl<S> Filter<S> for OfRequests {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.name() == "request"
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.name() == "request" {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }
}

/// What takes the spans of a process: the Registry with a layer that does nothing, or with one more. By itself the Registry
/// never forgets a span that is closed: it does so when the layers have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The Registry with a layer that does nothing.
    Registry,
    /// The same with tracing-audit.
    Audit,
    /// The same with tracing-opentelemetry.
    OpenTelemetry,
}

/// What has to live as long as spans come.
#[derive(Debug)]
pub struct Installed {
    /// The pipeline, where there is one.
    pub audit: Option<Audit>,
    provider: Option<SdkTracerProvider>,
}

impl Host {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Registry, Self::Audit, Self::OpenTelemetry];

    /// Returns its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registry => "Registry + another",
            Self::Audit => "the same + tracing-audit",
            Self::OpenTelemetry => "the same + tracing-opentelemetry",
        }
    }

    /// Sets it as the subscriber of this process.
    pub fn install(self, url: &str, spool: &str) -> Installed {
        let (mut audit, mut provider) = (None, None);
        let registry = tracing_subscriber::registry().with(Another);
        match self {
            Self::Registry => registry.init(),
            Self::Audit => {
                let started = Audit::builder().postgres(url).spool(spool).start();
                let started = audit.insert(started.expect("the pipeline starts"));
                registry.with(started.layer()).init();
            }
            Self::OpenTelemetry => {
                let (started, tracer) = opentelemetry();
                provider = Some(started);
                let layer = tracing_opentelemetry::layer().with_tracer(tracer);
                registry.with(layer).init();
            }
        }
        Installed { audit, provider }
    }
}

impl Installed {
    /// Fails when of so many spans some were lost.
    pub fn finish(self, spans: usize) {
        if let Some(audit) = self.audit {
            audit
                .flush_blocking(Duration::from_mins(10))
                .expect("the records are committed");
            super::assert_all_committed(&audit);
        }
        if let Some(provider) = self.provider {
            provider.force_flush().expect("the spans are exported");
            assert!(taken() >= spans, "{} of {spans} spans were taken", taken());
        }
    }
}
