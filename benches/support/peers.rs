//! What takes the spans besides tracing-audit, and other layers.

use std::sync::atomic::{AtomicUsize, Ordering};

use fastrace::collector::{Reporter, SpanRecord};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};
use tracing::Subscriber;
use tracing_subscriber::Layer;

/// Spans taken so far, by a peer that says so.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn taken() -> usize {
    TAKEN.load(Ordering::Relaxed)
}

/// Counts the spans and lets them go.
#[derive(Debug)]
pub(crate) struct Discard;

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

/// OpenTelemetry with a batch processor and [`Discard`]. The default queue of 2,048 spans would drop some of a burst.
pub(crate) fn opentelemetry() -> (SdkTracerProvider, SdkTracer) {
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
#[derive(Debug)]
pub(crate) struct Another;

impl<S: Subscriber> Layer<S> for Another {}
