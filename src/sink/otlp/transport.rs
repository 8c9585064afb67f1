//! Sends a request to a collector over gRPC or HTTP, and reads the answer.
//!
//! The generated messages and services are those of `opentelemetry-proto`. The exporters of
//! `opentelemetry-otlp` are not used: they return a text instead of a code, report a partial
//! success only in a log line, do not read `OTEL_EXPORTER_OTLP_CERTIFICATE`, and give a request up
//! after three attempts.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use prost::bytes::Bytes;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use super::fault::Fault;
use super::tls;
use crate::config::otlp::{Otlp, OtlpProtocol, invalid};
use crate::error::BuildError;
use crate::https::Connector;

/// How much of an answer is read; the answers of collectors are short.
const ANSWER_BYTES: usize = 64 * 1024;

const USER_AGENT: &str = concat!("tracing-audit/", env!("CARGO_PKG_VERSION"));

/// Sends requests to a collector. Connects when the first one is sent.
#[derive(Debug)]
pub(super) struct Transport {
    timeout: Duration,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Grpc {
        traces: Box<Server>,
        metrics: Box<Server>,
        headers: MetadataMap,
        gzip: bool,
    },
    Http {
        client: Box<HttpClient>,
        traces: Uri,
        metrics: Uri,
        headers: HeaderMap,
        gzip: bool,
    },
}

/// A gRPC server, and the connection to it.
#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    channel: Mutex<Channel>,
}

impl Server {
    fn channel(&self) -> Channel {
        self.channel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Opens a new connection the next time: one that does not answer may be dead without any
    /// notice of it.
    fn renew(&self) {
        let channel = self.endpoint.connect_lazy();
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }
}

/// An HTTP client, and the connector that it is made from.
#[derive(Debug)]
struct HttpClient {
    connector: Connector,
    client: Mutex<PooledClient>,
}

type PooledClient = Client<Connector, Full<Bytes>>;

impl HttpClient {
    fn new(connector: Connector) -> Self {
        Self {
            client: Mutex::new(Self::pooled(connector.clone())),
            connector,
        }
    }

    fn pooled(connector: Connector) -> PooledClient {
        Client::builder(TokioExecutor::new()).build(connector)
    }

    fn client(&self) -> PooledClient {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone()
    }

    fn renew(&self) {
        let client = Self::pooled(self.connector.clone());
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

impl Transport {
    /// Checks the settings and builds a client from them. Must be called within a runtime.
    pub(super) fn new(settings: &Otlp) -> Result<Self, BuildError> {
        // Metrics may have no endpoint of their own if none are exported; the same goes for spans.
        let traces = if settings.traces {
            settings.traces_url()?
        } else {
            settings.metrics_url()?
        };
        let metrics = if settings.metrics {
            settings.metrics_url()?
        } else {
            traces.clone()
        };
        let mut headers = settings.header_map()?;
        let way = match settings.protocol() {
            OtlpProtocol::Grpc => Way::Grpc {
                traces: Box::new(server(settings, traces)?),
                metrics: Box::new(server(settings, metrics)?),
                headers: MetadataMap::from_headers(headers),
                gzip: settings.gzip,
            },
            OtlpProtocol::HttpProtobuf => {
                headers
                    .entry(header::USER_AGENT)
                    .or_insert(HeaderValue::from_static(USER_AGENT));
                let is_tls = |url: &Uri| url.scheme_str() == Some("https");
                let connector = tls::connector(settings, is_tls(&traces) || is_tls(&metrics))?;
                Way::Http {
                    client: Box::new(HttpClient::new(connector)),
                    traces,
                    metrics,
                    headers,
                    gzip: settings.gzip,
                }
            }
        };
        Ok(Self {
            timeout: settings.timeout,
            way,
        })
    }

    /// Opens new connections from now on: after a panic in the middle of one, a client may panic at
    /// every request.
    pub(super) fn renew(&self) {
        match &self.way {
            Way::Grpc {
                traces, metrics, ..
            } => {
                traces.renew();
                metrics.renew();
            }
            Way::Http { client, .. } => client.renew(),
        }
    }

    /// Sends spans; returns how many of them the collector has refused.
    pub(super) async fn spans(&self, request: ExportTraceServiceRequest) -> Result<u64, Fault> {
        let answer: ExportTraceServiceResponse = match &self.way {
            Way::Grpc {
                traces,
                headers,
                gzip,
                ..
            } => {
                let mut client = TraceServiceClient::new(traces.channel());
                if *gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let request = grpc_request(headers, request);
                self.grpc(traces, client.export(request)).await?
            }
            Way::Http { traces, .. } => self.http(traces, &request).await?,
        };
        Ok(answer.partial_success.map_or(0, |partial| {
            u64::try_from(partial.rejected_spans).unwrap_or(0)
        }))
    }

    /// Sends metrics; returns how many data points the collector has refused.
    pub(super) async fn metrics(&self, request: ExportMetricsServiceRequest) -> Result<u64, Fault> {
        let answer: ExportMetricsServiceResponse = match &self.way {
            Way::Grpc {
                metrics,
                headers,
                gzip,
                ..
            } => {
                let mut client = MetricsServiceClient::new(metrics.channel());
                if *gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let request = grpc_request(headers, request);
                self.grpc(metrics, client.export(request)).await?
            }
            Way::Http { metrics, .. } => self.http(metrics, &request).await?,
        };
        Ok(answer.partial_success.map_or(0, |partial| {
            u64::try_from(partial.rejected_data_points).unwrap_or(0)
        }))
    }

    async fn grpc<T>(
        &self,
        server: &Server,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                // The request may not have reached the collector. A channel whose task was lost to
                // a panic never reaches it again, and reports no more than this.
                if status.code() == Code::Unknown || std::error::Error::source(&status).is_some() {
                    server.renew();
                }
                Err(Fault::of_grpc(&status))
            }
            Err(_) => {
                server.renew();
                Err(Fault::TimedOut)
            }
        }
    }

    async fn http<T: Message + Default>(
        &self,
        url: &Uri,
        message: &impl Message,
    ) -> Result<T, Fault> {
        let Way::Http {
            client,
            headers,
            gzip,
            ..
        } = &self.way
        else {
            return Ok(T::default());
        };
        let mut body = message.encode_to_vec();
        let mut request = Request::post(url.clone());
        if *gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            body = encoder
                .write_all(&body)
                .and_then(|()| encoder.finish())
                .unwrap_or(body);
            request = request.header(header::CONTENT_ENCODING, "gzip");
        }
        let mut request = request
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Fault::Hold {
                cause: error.to_string(),
            })?;
        request.headers_mut().extend(headers.clone());
        let exchange = async {
            let answer = client
                .client()
                .request(request)
                .await
                .map_err(|error| lost(&error))?;
            let (parts, body) = answer.into_parts();
            if !parts.status.is_success() {
                return Err(Fault::of_http(parts.status, &parts.headers));
            }
            let content_type = parts.headers.get(header::CONTENT_TYPE);
            let is_page = content_type
                .and_then(|value| value.to_str().ok())
                .is_some_and(|value| value.starts_with("text/html"));
            if is_page {
                // From a proxy that wants a login, for example.
                return Err(Fault::Hold {
                    cause: String::from("a web page instead of an answer"),
                });
            }
            // What was accepted stays accepted, whatever happens to the rest of the answer.
            let body = Limited::new(body, ANSWER_BYTES).collect().await;
            let body = body
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            Ok(T::decode(body).unwrap_or_default())
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::TimedOut),
        }
    }
}

fn lost(error: &dyn std::error::Error) -> Fault {
    Fault::Retry {
        after: None,
        cause: crate::error::causes(error),
    }
}

fn grpc_request<T>(headers: &MetadataMap, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = headers.clone();
    request
}

fn server(settings: &Otlp, url: Uri) -> Result<Server, BuildError> {
    let is_tls = url.scheme_str() == Some("https");
    let mut endpoint = Endpoint::from(url)
        .user_agent(USER_AGENT)
        .map_err(|error| invalid("endpoint", crate::error::causes(&error)))?;
    if is_tls {
        endpoint = tls::endpoint(settings, endpoint)?;
    }
    Ok(Server {
        channel: Mutex::new(endpoint.connect_lazy()),
        endpoint,
    })
}
