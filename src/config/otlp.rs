//! The settings of the export: in code, or by the standard variables of OpenTelemetry.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use opentelemetry_sdk::trace::SpanExporter;

use super::otlp_exporter::HostExporter;
use super::receivers::{Names, OpenInference, Receiver};
use crate::error::BuildError;

/// Sends the trail to an OpenTelemetry collector, as spans and, if asked for, as metrics; passed to
/// [`Builder::otlp`](crate::Builder::otlp). Needs feature `otlp`.
///
/// The export reads the local log beside Postgres, at its own pace. It never delays the trail:
/// while the collector is unreachable, records wait in the log, up to
/// [`quota_bytes`](Self::quota_bytes).
///
/// ```no_run
/// use tracing_audit::{Audit, Otlp};
///
/// let audit = Audit::builder()
///     .postgres("postgres://app@localhost/app")
///     .otlp(Otlp::new("http://localhost:4318").header("authorization", "Bearer …"))
///     .start()?;
/// # Ok::<(), tracing_audit::BuildError>(())
/// ```
#[derive(Clone)]
#[must_use = "settings do nothing until they are given to a builder"]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, set by a method of its own"
)]
pub struct Otlp {
    pub(crate) endpoint: Endpoint,
    pub(crate) traces: bool,
    pub(crate) metrics: bool,
    pub(crate) metrics_every: Duration,
    pub(crate) protocol: Option<OtlpProtocol>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout: Duration,
    pub(crate) gzip: bool,
    pub(crate) ca_certificate: Option<Vec<u8>>,
    pub(crate) client_certificate: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) content: Content,
    pub(crate) payload_bytes: usize,
    pub(crate) delay: Duration,
    pub(crate) quota_bytes: u64,
    pub(crate) beside_host: bool,
    /// The host's own, instead of an endpoint.
    pub(crate) exporter: Option<HostExporter>,
    /// Variables that are ignored because their value is invalid, and why.
    pub(crate) ignored: Vec<(String, &'static str)>,
}

/// Where requests are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    /// For all signals; for HTTP, the path of a signal is appended.
    pub(crate) base: Option<String>,
    /// For one signal, used as it is.
    pub(crate) traces: Option<String>,
    pub(crate) metrics: Option<String>,
}

/// Which parts of a record's content are exported.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) query_text: QueryText,
    pub(crate) messages: bool,
    pub(crate) metadata: bool,
    pub(crate) text_bytes: usize,
    pub(crate) old_database_names: bool,
    pub(crate) names: Names,
    /// Fields that are exported under their own names; with a dot at the end, prefixes.
    pub(crate) own_names: Vec<String>,
}

/// The encoding and transport of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtlpProtocol {
    /// Protobuf over gRPC, usually on port 4317.
    Grpc,
    /// Protobuf over HTTP/1.1, usually on port 4318.
    HttpProtobuf,
}

/// How much of a query's text is exported in `db.query.text`. Postgres has the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryText {
    /// With every literal replaced by `?`, as the conventions want it; a text that cannot be parsed
    /// as SQL is not exported. The default.
    Sanitized,
    /// Unchanged, with the values in it, and with the database's error message.
    Full,
    /// Not at all.
    Omitted,
}

pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Default for Content {
    fn default() -> Self {
        Self {
            query_text: QueryText::Sanitized,
            messages: false,
            metadata: false,
            text_bytes: 16 * 1024,
            old_database_names: false,
            names: Names::default(),
            own_names: Vec::new(),
        }
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and a URL may hold secrets.
        f.debug_struct("Otlp")
            .field("protocol", &self.protocol())
            .field("traces", &self.traces)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

impl Otlp {
    /// Exports to the collector at this URL, `http://` or `https://`; for HTTP, `/v1/traces` and
    /// `/v1/metrics` are appended to it. The environment is not read.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self::at(Endpoint {
            base: Some(endpoint.into()),
            ..Endpoint::default()
        })
    }

    /// Exports by an exporter of the OpenTelemetry SDK instead of the built-in transport, such as
    /// one of `opentelemetry-otlp` or of a vendor. The environment is not read.
    ///
    /// The exporter gets the same spans, as `SpanData`, and the resource of the process that wrote
    /// them by `set_resource`. Its version of `opentelemetry_sdk` must be the one of this crate.
    /// What is said here of the endpoint, the protocol, headers, certificates and compression does
    /// not count; there are no [`metrics`](Self::metrics).
    ///
    /// An exporter says that it took a batch, or that it failed, but not which spans were refused.
    /// So the built-in transport, which counts refused spans, is the default. `Ok` means that all
    /// spans of the batch are exported. After `Err` the same batch is exported again, after a pause
    /// of 0.5 s that doubles up to 30 s, until it is taken: a span that the receiver always refuses
    /// holds up those behind it until [`quota_bytes`](Self::quota_bytes) is reached. One that does
    /// not answer within [`timeout`](Self::timeout) counts as failed; when it takes the batch later
    /// all the same, that counts.
    ///
    /// Exports run one at a time on a thread of their own that has no runtime, like those of the
    /// SDK's `BatchSpanProcessor`. An exporter with a blocking client works there. The gRPC exporter
    /// of `opentelemetry-otlp` must be built within a tokio runtime, which must go on running; one
    /// with another async client needs a runtime around each export and does not work. An exporter
    /// that never returns holds up neither the trail nor a shutdown. It is shut down with the
    /// pipeline, so each pipeline needs one of its own: copies of these settings share theirs.
    ///
    /// ```no_run
    /// use opentelemetry_sdk::trace::SpanExporter;
    /// use tracing_audit::{Audit, Otlp};
    ///
    /// fn start(exporter: impl SpanExporter + 'static) -> Result<Audit, tracing_audit::BuildError> {
    ///     Audit::builder()
    ///         .postgres("postgres://app@localhost/app")
    ///         .otlp(Otlp::exporter(exporter))
    ///         .start()
    /// }
    /// ```
    pub fn exporter(exporter: impl SpanExporter + 'static) -> Self {
        Self {
            exporter: Some(HostExporter::new(exporter)),
            ..Self::at(Endpoint::default())
        }
    }

    pub(crate) fn at(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            traces: true,
            metrics: false,
            metrics_every: Duration::from_mins(1),
            protocol: None,
            headers: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            gzip: false,
            ca_certificate: None,
            client_certificate: None,
            resource: BTreeMap::new(),
            content: Content::default(),
            payload_bytes: 3_900_000,
            delay: Duration::from_secs(1),
            quota_bytes: 512 * 1024 * 1024,
            beside_host: false,
            exporter: None,
            ignored: Vec::new(),
        }
    }

    /// Sets the protocol. Default: gRPC for an endpoint on port 4317, else HTTP.
    pub fn with_protocol(mut self, protocol: OtlpProtocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Adds a header to every request, such as one that authorizes it.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how long a request may take before it counts as failed and is retried. Default 10 s, at
    /// least 1 ms.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Sets whether requests are compressed with gzip. Default: no.
    pub fn gzip(mut self, gzip: bool) -> Self {
        self.gzip = gzip;
        self
    }

    /// Sets the certificates of the only authorities to trust, PEM. Default: the system's.
    pub fn ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_certificate = Some(pem.into());
        self
    }

    /// Sets the certificate chain and the key to authenticate with, both PEM. Default: none.
    pub fn client_certificate(mut self, pem: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.client_certificate = Some((pem.into(), key.into()));
        self
    }

    /// Adds an attribute of the resource, such as `deployment.environment.name`.
    /// [`Builder::service_name`](crate::Builder::service_name) sets `service.name`.
    pub fn resource_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource.insert(name.into(), value.into());
        self
    }

    /// Sets how much of a query's text is exported. Default: the text with its literals replaced.
    pub fn query_text(mut self, query_text: QueryText) -> Self {
        self.content.query_text = query_text;
        self
    }

    /// Sets whether prompts and answers are exported (`gen_ai.input.messages`,
    /// `gen_ai.output.messages`), and with them questions, the summaries of events, and error
    /// messages. Default: no; Postgres has them.
    pub fn capture_messages(mut self, capture: bool) -> Self {
        self.content.messages = capture;
        self
    }

    /// Sets whether the text of fields without a column is exported. Default: no, except for names
    /// and settings that the conventions define (`db.system.name`, `gen_ai.request.…`,
    /// `server.address`); numbers always are. `#[instrument]` makes a field of every argument that
    /// it is not told to skip.
    pub fn metadata(mut self, metadata: bool) -> Self {
        self.content.metadata = metadata;
        self
    }

    /// Adds what this receiver reads beside the names of the OpenTelemetry conventions, and sets
    /// the status of spans that succeeded to Ok; may be called for several. No content goes out
    /// that [`capture_messages`](Self::capture_messages) and [`query_text`](Self::query_text) do
    /// not allow. Default: the conventions' names alone.
    ///
    /// ```no_run
    /// use tracing_audit::{Otlp, Receiver};
    ///
    /// let otlp = Otlp::new("http://localhost:6006")
    ///     .for_receiver(Receiver::Phoenix)
    ///     .capture_messages(true);
    /// ```
    pub fn for_receiver(mut self, receiver: Receiver) -> Self {
        self.content.names.add(receiver);
        self
    }

    /// Sets whether attributes have the names of OpenInference, which Phoenix, Arize and others
    /// read. Default: [`OpenInference::Off`].
    pub fn openinference(mut self, names: OpenInference) -> Self {
        self.content.names.openinference = names;
        self
    }

    /// Exports fields without a column under their own names instead of `audit.metadata.…`, with
    /// their text: each name here as it is, and with a dot at its end also whatever begins with it.
    /// Default: none. Names for the content of prompts and queries still need
    /// [`capture_messages`](Self::capture_messages) or [`query_text`](Self::query_text).
    ///
    /// A field whose name begins with `otel.attr.` needs no entry: it goes out under the rest of
    /// its name.
    ///
    /// ```no_run
    /// use tracing_audit::Otlp;
    ///
    /// let otlp = Otlp::new("http://localhost:4318").own_names(["feature_flag.key", "langfuse.trace."]);
    /// ```
    pub fn own_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names.into_iter().map(Into::into);
        self.content
            .own_names
            .extend(names.filter(|name| !name.is_empty()));
        self
    }

    /// Sets how many bytes of one text are exported; a longer one is cut between two characters,
    /// and its whole length and sha256 are exported beside it. Default 16 KiB, range 256 B to 256
    /// KiB.
    pub fn text_bytes(mut self, bytes: usize) -> Self {
        self.content.text_bytes = bytes.clamp(256, 256 * 1024);
        self
    }

    /// Sets how many bytes one request holds before it is compressed. Default 3.9 MB, below the 4
    /// MiB that collectors usually accept; range 1 KiB to 64 MiB. A span is never split.
    pub fn payload_bytes(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes.clamp(1024, 64 * 1024 * 1024);
        self
    }

    /// Sets how long the export gathers records before it sends a request. Default 1 s, at most 60
    /// s.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay.min(Duration::from_mins(1));
        self
    }

    /// Sets how many bytes the local log may hold for the export alone, once Postgres has them.
    /// Above that, the oldest records are given up for the export, counted in
    /// [`ExportStats::given_up`](crate::ExportStats::given_up), and reported in a span `audit.gap`.
    /// Default 512 MiB; never more than half of
    /// [`Builder::spool_quota_bytes`](crate::Builder::spool_quota_bytes).
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = bytes;
        self
    }

    /// Sets whether metrics are exported too: the pipeline's own counters, and durations and token
    /// usage as the conventions define them. Default: no.
    pub fn metrics(mut self, metrics: bool) -> Self {
        self.metrics = metrics;
        self
    }

    /// Sets how often metrics are exported. Default 60 s, at least 100 ms.
    pub fn metrics_every(mut self, interval: Duration) -> Self {
        self.metrics_every = interval.max(Duration::from_millis(100));
        self
    }

    /// Sets whether spans are exported. Default: yes.
    pub fn traces(mut self, traces: bool) -> Self {
        self.traces = traces;
        self
    }

    /// Sets whether a record is exported although the host's tracing-opentelemetry layer has a span
    /// for it that it exports itself. Default: no, so that nothing appears twice. Needs feature
    /// `tracing-opentelemetry` to find out.
    pub fn beside_host(mut self, beside: bool) -> Self {
        self.beside_host = beside;
        self
    }

    pub(crate) fn protocol(&self) -> OtlpProtocol {
        self.protocol.unwrap_or_else(|| {
            let url = self
                .endpoint
                .traces
                .as_ref()
                .or(self.endpoint.base.as_ref());
            let port = url
                .and_then(|url| url.parse::<Uri>().ok())
                .and_then(|uri| uri.port_u16());
            if port == Some(4317) {
                OtlpProtocol::Grpc
            } else {
                OtlpProtocol::HttpProtobuf
            }
        })
    }

    /// Returns the URL for spans, or the server for gRPC.
    pub(crate) fn traces_url(&self) -> Result<Uri, BuildError> {
        self.url(self.endpoint.traces.as_deref(), "v1/traces")
    }

    /// Returns the URL for metrics, or the server for gRPC.
    pub(crate) fn metrics_url(&self) -> Result<Uri, BuildError> {
        self.url(self.endpoint.metrics.as_deref(), "v1/metrics")
    }

    fn url(&self, of_signal: Option<&str>, path: &str) -> Result<Uri, BuildError> {
        let base = self.endpoint.base.as_deref().unwrap_or_default();
        let url = match of_signal {
            Some(url) => url.to_owned(),
            None if self.protocol() == OtlpProtocol::Grpc => base.to_owned(),
            None => format!("{}/{path}", base.trim_end_matches('/')),
        };
        url.parse::<Uri>()
            .ok()
            .filter(|uri| {
                uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
            })
            .ok_or_else(|| {
                invalid(
                    "endpoint",
                    "should read http://host:port or https://host:port",
                )
            })
    }

    pub(crate) fn header_map(&self) -> Result<HeaderMap, BuildError> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
            let value = HeaderValue::from_str(value);
            let (Ok(name), Ok(mut value)) = (name, value) else {
                return Err(invalid(
                    "headers",
                    "a name or a value that no header can have",
                ));
            };
            value.set_sensitive(true);
            map.insert(name, value);
        }
        Ok(map)
    }

    /// Checks that an exporter is not asked for what it cannot do.
    pub(crate) fn check_exporter(&self) -> Result<(), BuildError> {
        if self.exporter.is_some() && self.metrics {
            return Err(invalid("metrics", "an exporter of spans takes none"));
        }
        Ok(())
    }

    /// Checks that all settings are valid.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        if self.exporter.is_some() {
            return self.check_exporter();
        }
        if self.traces {
            self.traces_url()?;
        }
        if self.metrics {
            self.metrics_url()?;
        }
        self.header_map()?;
        Ok(())
    }
}

impl Endpoint {
    pub(crate) fn add_scheme(&mut self, scheme: &str) {
        for url in [&mut self.base, &mut self.traces, &mut self.metrics] {
            if let Some(url) = url.as_mut().filter(|url| !url.contains("://")) {
                *url = format!("{scheme}://{url}");
            }
        }
    }
}

pub(crate) fn invalid(setting: impl Into<String>, why: impl Into<String>) -> BuildError {
    BuildError::Otlp {
        setting: setting.into(),
        why: why.into(),
    }
}
