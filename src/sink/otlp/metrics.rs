//! The exported metrics: the pipeline's own, and those of models and databases from the records.
//!
//! The OpenTelemetry SDK aggregates them, and [`super::transport`] sends them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider as _};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use tokio::sync::{mpsc, oneshot};

use super::conventions as names;
use super::span::Facts;
use super::transport::Transport;
use crate::config::otlp::Otlp;
use crate::record::row::{Cell, Row};
use crate::stats::{DropCause, ExportStats, Stats};
use crate::vocabulary::{Field, Kind, Status};

/// How long sending the last metrics may take when the export ends.
const LAST: Duration = Duration::from_secs(1);

/// Returns the state that the pipeline's own metrics are read from.
pub(crate) type Observe = Arc<dyn Fn() -> Observed + Send + Sync>;

/// The state of the pipeline.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) stats: Stats,
    /// How long the oldest record has been waiting for Postgres.
    pub(crate) oldest_pending: Duration,
}

/// The instruments, and the thread that reads them.
pub(super) struct Metrics {
    provider: SdkMeterProvider,
    query: Histogram<f64>,
    model: Histogram<f64>,
    tokens: Histogram<u64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A request, and the channel for its outcome.
type Request = (ExportMetricsServiceRequest, oneshot::Sender<OTelSdkResult>);

/// Passes metrics from the SDK's thread to the export's thread, which has the connection.
struct Exporter(mpsc::Sender<Request>);

impl PushMetricExporter for Exporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let (reply, replied) = oneshot::channel();
        let request = ExportMetricsServiceRequest::from(metrics);
        let sent = self.0.send((request, reply)).await;
        sent.map_err(|_| OTelSdkError::AlreadyShutdown)?;
        replied.await.map_err(|_| OTelSdkError::AlreadyShutdown)?
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

impl Metrics {
    /// Starts to export metrics. Must be called within a runtime.
    pub(super) fn start(
        settings: &Otlp,
        resource: Vec<(String, String)>,
        transport: Arc<Transport>,
        observe: &Observe,
    ) -> Self {
        let (sender, mut requests) = mpsc::channel::<Request>(1);
        tokio::spawn(async move {
            while let Some((request, reply)) = requests.recv().await {
                // In a task of its own, so that a panic costs this request alone.
                let sending = Arc::clone(&transport);
                let sending = tokio::spawn(async move { sending.metrics(request).await });
                let sent = match sending.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(fault)) => Err(fault.cause().to_owned()),
                    Err(_) => {
                        transport.renew();
                        Err(String::from("a panic"))
                    }
                };
                // The next metrics contain these, since they are cumulative.
                let _ = reply.send(sent.map_err(OTelSdkError::InternalFailure));
            }
        });
        let reader = PeriodicReader::builder(Exporter(sender))
            .with_interval(settings.metrics_every)
            .build();
        let resource = Resource::builder_empty()
            .with_attributes(
                resource
                    .into_iter()
                    .map(|(name, value)| KeyValue::new(name, value)),
            )
            .build();
        let provider = SdkMeterProvider::builder()
            .with_reader(reader)
            .with_resource(resource)
            .build();
        let meter = provider.meter(env!("CARGO_PKG_NAME"));
        pipeline(&meter, observe);
        let seconds = |name, bounds: &[f64], description| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_boundaries(bounds.to_vec())
                .with_description(description)
                .build()
        };
        Self {
            query: seconds(
                names::QUERY_DURATION,
                names::QUERY_SECONDS,
                "Duration of query runs",
            ),
            model: seconds(
                names::MODEL_DURATION,
                names::MODEL_SECONDS,
                "Duration of prompt runs",
            ),
            tokens: meter
                .u64_histogram(names::TOKEN_USAGE)
                .with_unit("{token}")
                .with_boundaries(names::TOKENS.to_vec())
                .with_description("Tokens of prompts and of answers")
                .build(),
            provider,
        }
    }

    /// Adds a record to the metrics.
    pub(super) fn record(&self, row: &Row<'_>, facts: &Facts) {
        // A run that was refused before it began took no time; how long a lost one took is unknown.
        let (false, Some(duration_us)) = (row.status == Status::Rejected, row.duration_us) else {
            return;
        };
        let seconds = Duration::from_micros(u64::try_from(duration_us).unwrap_or(0)).as_secs_f64();
        match row.kind {
            Kind::QueryRun => {
                let attributes = [
                    (names::DB_SYSTEM, &facts.system),
                    (names::DB_NAMESPACE, &facts.namespace),
                    (names::DB_QUERY_SUMMARY, &facts.summary),
                    (names::DB_STATUS_CODE, &facts.status_code),
                    (names::ERROR_TYPE, &facts.error_type),
                ];
                self.query.record(seconds, &known(&attributes));
            }
            Kind::PromptRun => {
                let call = [
                    (names::OPERATION, &facts.operation),
                    (names::PROVIDER, &facts.provider),
                    (names::REQUEST_MODEL, &facts.model),
                    (names::RESPONSE_MODEL, &facts.response_model),
                ];
                let call = known(&call);
                let mut timed = call.clone();
                timed.extend(known(&[(names::ERROR_TYPE, &facts.error_type)]));
                self.model.record(seconds, &timed);
                for (field, word) in [
                    (Field::InputTokenCount, "input"),
                    (Field::OutputTokenCount, "output"),
                ] {
                    if let Cell::Int(count) = row.cell(field)
                        && let Ok(count) = u64::try_from(*count)
                    {
                        let mut used = call.clone();
                        used.push(KeyValue::new(names::TOKEN_TYPE, word));
                        self.tokens.record(count, &used);
                    }
                }
            }
            Kind::Event => {}
        }
    }

    /// Sends the last metrics and ends.
    pub(super) async fn shut_down(self) {
        let (done, ended) = oneshot::channel();
        // The provider waits for its own thread, which waits for this one.
        let ending = std::thread::Builder::new()
            .name(String::from("tracing-audit-metrics"))
            .spawn(move || {
                let _ = self.provider.shutdown_with_timeout(LAST);
                drop(self);
                let _ = done.send(());
            });
        if ending.is_ok() {
            let _ = tokio::time::timeout(LAST, ended).await;
        }
    }
}

/// Returns the attributes that have a value.
fn known(attributes: &[(&'static str, &String)]) -> Vec<KeyValue> {
    attributes
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| KeyValue::new(*name, (*value).clone()))
        .collect()
}

/// Creates the instruments for the pipeline itself.
fn pipeline(meter: &Meter, observe: &Observe) {
    for (name, description, read) in COUNTERS {
        let observe = Arc::clone(observe);
        meter
            .u64_observable_counter(*name)
            .with_unit("{record}")
            .with_description(*description)
            .with_callback(move |observer| observer.observe(read(&observe().stats), &[]))
            .build();
    }
    for (name, unit, description, read) in GAUGES {
        let observe = Arc::clone(observe);
        meter
            .u64_observable_gauge(*name)
            .with_unit(*unit)
            .with_description(*description)
            .with_callback(move |observer| observer.observe(read(&observe().stats), &[]))
            .build();
    }
    let drops = Arc::clone(observe);
    meter
        .u64_observable_counter("audit.records.dropped")
        .with_unit("{record}")
        .with_description("Records that were given up, by cause")
        .with_callback(move |observer| {
            let stats = drops().stats;
            for cause in DropCause::ALL {
                let attributes = [KeyValue::new("audit.drop.cause", cause.as_str())];
                observer.observe(stats.dropped_by(cause), &attributes);
            }
        })
        .build();
    let time = Arc::clone(observe);
    meter
        .f64_observable_counter("audit.batch.duration")
        .with_unit("s")
        .with_description("Time that committed batches took, in all")
        .with_callback(move |observer| {
            observer.observe(time().stats.batch_time().as_secs_f64(), &[]);
        })
        .build();
    let age = Arc::clone(observe);
    meter
        .f64_observable_gauge("audit.pending.age")
        .with_unit("s")
        .with_description("Age of the oldest record on its way to Postgres")
        .with_callback(move |observer| {
            observer.observe(age().oldest_pending.as_secs_f64(), &[]);
        })
        .build();
}

/// Reads one number of a snapshot.
type Reading = fn(&Stats) -> u64;

/// The values that only grow, with their descriptions.
const COUNTERS: &[(&str, &str, Reading)] = &[
    (
        "audit.records.accepted",
        "Records that were given to the trail",
        Stats::accepted,
    ),
    (
        "audit.records.committed",
        "Records that are committed in Postgres",
        Stats::committed,
    ),
    (
        "audit.records.dead_lettered",
        "Records that Postgres refused",
        Stats::dead_lettered,
    ),
    (
        "audit.records.adopted",
        "Records of earlier processes that were committed",
        Stats::adopted,
    ),
    (
        "audit.export.exported",
        "Records that a collector has taken",
        |stats| export(stats, ExportStats::exported),
    ),
    (
        "audit.export.refused",
        "Records that a collector has refused",
        |stats| export(stats, ExportStats::refused),
    ),
    (
        "audit.export.given_up",
        "Records that were given up on their way to a collector",
        |stats| export(stats, ExportStats::given_up),
    ),
    (
        "audit.batches",
        "Batches committed in Postgres",
        Stats::batches,
    ),
];

/// The values that go up and down, with their units and descriptions.
const GAUGES: &[(&str, &str, &str, Reading)] = &[
    (
        "audit.records.pending",
        "{record}",
        "Records on their way to Postgres",
        Stats::pending,
    ),
    (
        "audit.export.pending",
        "{record}",
        "Records on their way to a collector",
        |stats| export(stats, ExportStats::pending),
    ),
    (
        "audit.queue.records",
        "{record}",
        "Records waiting for the worker",
        |stats| stats.queue_size().0,
    ),
    (
        "audit.queue.size",
        "By",
        "Bytes waiting for the worker",
        |stats| stats.queue_size().1,
    ),
    (
        "audit.spool.size",
        "By",
        "Bytes in the local log",
        Stats::spool_bytes,
    ),
    (
        "audit.batch.records",
        "{record}",
        "Records of the last batch",
        Stats::last_batch,
    ),
];

fn export(stats: &Stats, read: fn(&ExportStats) -> u64) -> u64 {
    stats.export().as_ref().map_or(0, read)
}
