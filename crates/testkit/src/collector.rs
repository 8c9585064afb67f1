//! A collector: a real OTLP receiver over gRPC or HTTP, with configurable behaviour.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::trail::PATIENCE;
use crate::wait_until;

/// The protocol of a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

/// How the collector answers requests with spans.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Accepts the request.
    Take,
    /// Accepts the request, and discards its spans.
    Forget,
    /// Refuses with this gRPC code, or this HTTP status.
    Refuse {
        /// The code over gRPC.
        grpc: Code,
        /// The status over HTTP.
        http: u16,
        /// The delay it asks of the client.
        after: Option<Duration>,
    },
    /// Accepts the request after a delay.
    Slow(Duration),
    /// Accepts the request at once, and answers after a delay.
    Late(Duration),
    /// Accepts requests of at most this many bytes.
    AtMost(usize),
    /// Refuses every request with a span of this name.
    NotNamed(&'static str),
    /// Accepts the request if this header has this value.
    Header(&'static str, &'static str),
    /// Accepts the request, and answers that it rejected this many of its spans.
    Partial(i64),
}

/// What the collector received.
#[derive(Debug, Default)]
struct Received {
    behaviour: Option<Behaviour>,
    spans: Vec<Exported>,
    metrics: Vec<Metric>,
    /// When requests with spans arrived, accepted or not.
    requests: Vec<Instant>,
    largest: usize,
}

/// A span with its resource.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The span.
    pub span: Span,
    /// The attributes of its resource, as text.
    pub resource: BTreeMap<String, String>,
}

impl Exported {
    /// Returns its trace id, in hex.
    pub fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Returns its span id, in hex.
    pub fn span_id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// Returns the span id of its parent, in hex; empty if it has none.
    pub fn parent_span_id(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// Returns the attributes, as text.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        attributes(&self.span.attributes)
    }

    /// Returns an attribute, as text; empty if it has none of this name.
    pub fn attribute(&self, name: &str) -> String {
        self.attributes().remove(name).unwrap_or_default()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Returns attributes by their names, as text.
pub fn attributes(of: &[KeyValue]) -> BTreeMap<String, String> {
    of.iter()
        .map(|attribute| {
            let value = attribute.value.clone().and_then(|value| value.value);
            let text = match value {
                Some(any_value::Value::StringValue(text)) => text,
                Some(any_value::Value::IntValue(int)) => int.to_string(),
                other => format!("{other:?}"),
            };
            (attribute.key.clone(), text)
        })
        .collect()
}

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    protocol: Protocol,
    address: SocketAddr,
    /// Holds the port while nothing listens on it: otherwise it could be given to another program,
    /// or to a client that would then connect to itself.
    _port: TcpSocket,
    tls: Option<Tls>,
    received: Arc<Mutex<Received>>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// The certificate of a collector, and that of the authority that issued it.
#[derive(Clone, Debug)]
pub struct Tls {
    certificate: String,
    key: String,
    /// The certificate of the authority, which a client has to trust.
    pub authority: String,
}

impl Tls {
    /// Issues a certificate of an unknown authority, for `localhost`.
    pub fn private() -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(params, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new([String::from("localhost")])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            authority: authority.pem(),
        }
    }
}

impl Collector {
    /// Starts a collector.
    pub fn start(protocol: Protocol) -> Self {
        let mut collector = Self::absent(protocol);
        collector.start_again();
        collector
    }

    /// Returns a collector that is not running yet, but has its address.
    pub fn absent(protocol: Protocol) -> Self {
        let port = TcpSocket::new_v4().unwrap();
        // So that the listener can bind the port at the same time.
        port.set_reuseaddr(true).unwrap();
        port.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .unwrap();
        Self {
            protocol,
            address: port.local_addr().unwrap(),
            _port: port,
            tls: None,
            received: Arc::default(),
            running: None,
        }
    }

    /// Returns a collector behind TLS.
    pub fn with_tls(protocol: Protocol, tls: Tls) -> Self {
        let mut collector = Self::absent(protocol);
        collector.tls = Some(tls);
        collector.start_again();
        collector
    }

    /// Stops it at once, whatever it is doing, and cuts its connections.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().unwrap();
        }
    }

    /// Starts it again, at the same address.
    pub fn start_again(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (protocol, address, tls) = (self.protocol, self.address, self.tls.clone());
        let service = Service(Arc::clone(&self.received));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.unwrap();
                ready.send(()).unwrap();
                let serving = async move {
                    match protocol {
                        Protocol::Grpc => service.serve_grpc(listener, tls).await,
                        Protocol::Http => service.serve_http(listener, tls).await,
                    }
                };
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        is_ready.recv().unwrap();
        self.running = Some((stop, thread));
    }

    /// Listens on its port and never answers: the system accepts connections by itself.
    pub fn mute(&self) -> std::net::TcpListener {
        std::net::TcpListener::bind(self.address).unwrap()
    }

    /// Returns its protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns its address.
    pub fn url(&self) -> String {
        let port = self.address.port();
        match self.tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        }
    }

    /// Sets its behaviour from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.received.lock().unwrap().behaviour = Some(behaviour);
    }

    /// Returns the spans accepted so far.
    pub fn spans(&self) -> Vec<Exported> {
        self.received.lock().unwrap().spans.clone()
    }

    /// Returns the metrics accepted so far.
    pub fn metrics(&self) -> Vec<Metric> {
        self.received.lock().unwrap().metrics.clone()
    }

    /// Returns how many requests with spans arrived, accepted or not.
    pub fn requests(&self) -> usize {
        self.received.lock().unwrap().requests.len()
    }

    /// Returns when they arrived.
    pub fn request_times(&self) -> Vec<Instant> {
        self.received.lock().unwrap().requests.clone()
    }

    /// Returns the bytes of the largest request with spans.
    pub fn largest(&self) -> usize {
        self.received.lock().unwrap().largest
    }

    /// Returns how many different spans were accepted so far.
    pub fn different(&self) -> usize {
        let received = self.received.lock().unwrap();
        let ids = received.spans.iter().map(|span| &span.span.span_id);
        ids.collect::<HashSet<_>>().len()
    }

    /// Waits for this many different spans; returns the spans.
    pub fn wait_for(&self, count: usize) -> Vec<Exported> {
        wait_until(&format!("{count} spans are there"), PATIENCE, || {
            self.different() >= count
        });
        self.spans()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the settings of an export to a [`Collector`], with a short delay.
///
/// It is a macro because a function would need the library's feature `otlp` here, and with it every
/// test of the library would have that feature.
#[macro_export]
macro_rules! otlp_to {
    ($collector:expr) => {
        tracing_audit::Otlp::new($collector.url())
            .with_protocol(match $collector.protocol() {
                $crate::collector::Protocol::Grpc => tracing_audit::OtlpProtocol::Grpc,
                $crate::collector::Protocol::Http => tracing_audit::OtlpProtocol::HttpProtobuf,
            })
            .delay(std::time::Duration::from_millis(20))
    };
}

#[derive(Clone)]
struct Service(Arc<Mutex<Received>>);

/// Why a request is refused.
struct Refusal {
    grpc: Code,
    http: u16,
    after: Option<Duration>,
}

impl Service {
    async fn serve_grpc(self, listener: TcpListener, tls: Option<Tls>) {
        let mut server = Server::builder();
        if let Some(tls) = tls {
            // tonic's server needs the process's default provider, and with all features there are
            // two.
            let _ = crypto::ring::default_provider().install_default();
            let identity = Identity::from_pem(tls.certificate, tls.key);
            server = server
                .tls_config(ServerTlsConfig::new().identity(identity))
                .unwrap();
        }
        server
            .add_service(
                TraceServiceServer::new(self.clone())
                    .accept_compressed(tonic::codec::CompressionEncoding::Gzip),
            )
            .add_service(
                MetricsServiceServer::new(self)
                    .accept_compressed(tonic::codec::CompressionEncoding::Gzip),
            )
            .serve_with_incoming(TcpIncoming::from(listener))
            .await
            .unwrap();
    }

    async fn serve_http(self, listener: TcpListener, tls: Option<Tls>) {
        let router = axum::Router::new()
            .route("/v1/traces", post(http_traces))
            .route("/v1/metrics", post(http_metrics))
            .layer(axum::extract::DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(self);
        match tls {
            None => axum::serve(listener, router).await.unwrap(),
            Some(tls) => axum::serve(TlsListener::new(listener, &tls), router)
                .await
                .unwrap(),
        }
    }

    async fn traces(
        &self,
        request: ExportTraceServiceRequest,
        header: impl Fn(&str) -> Option<String>,
    ) -> Result<ExportTraceServiceResponse, Refusal> {
        let bytes = request.encoded_len();
        let behaviour = {
            let mut received = self.0.lock().unwrap();
            received.requests.push(Instant::now());
            received.largest = received.largest.max(bytes);
            received.behaviour.clone().unwrap_or(Behaviour::Take)
        };
        let refused = |grpc, http| {
            Err(Refusal {
                grpc,
                http,
                after: None,
            })
        };
        let mut answer = ExportTraceServiceResponse::default();
        let mut late = Duration::ZERO;
        match behaviour {
            Behaviour::Refuse { grpc, http, after } => return Err(Refusal { grpc, http, after }),
            Behaviour::Forget => return Ok(answer),
            Behaviour::Slow(pause) => tokio::time::sleep(pause).await,
            Behaviour::Late(pause) => late = pause,
            Behaviour::AtMost(most) if bytes > most => {
                return refused(Code::ResourceExhausted, 413);
            }
            Behaviour::NotNamed(name) if has_span(&request, name) => {
                return refused(Code::InvalidArgument, 400);
            }
            Behaviour::Header(name, value) if header(name).as_deref() != Some(value) => {
                return refused(Code::Unauthenticated, 401);
            }
            Behaviour::Take
            | Behaviour::AtMost(_)
            | Behaviour::NotNamed(_)
            | Behaviour::Header(..) => {}
            Behaviour::Partial(rejected_spans) => {
                answer.partial_success = Some(ExportTracePartialSuccess {
                    rejected_spans,
                    error_message: String::from("some were not to our liking"),
                });
            }
        }
        self.take_spans(request);
        tokio::time::sleep(late).await;
        Ok(answer)
    }

    fn take_spans(&self, request: ExportTraceServiceRequest) {
        let mut received = self.0.lock().unwrap();
        for resource_spans in request.resource_spans {
            let resource = resource_spans
                .resource
                .map(|resource| attributes(&resource.attributes))
                .unwrap_or_default();
            for span in resource_spans
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                received.spans.push(Exported {
                    span,
                    resource: resource.clone(),
                });
            }
        }
    }

    fn take_metrics(&self, request: ExportMetricsServiceRequest) {
        self.0.lock().unwrap().metrics.extend(
            request
                .resource_metrics
                .into_iter()
                .flat_map(|resource| resource.scope_metrics)
                .flat_map(|scope| scope.metrics),
        );
    }
}

/// A listener for HTTP behind TLS.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsListener {
    fn new(listener: TcpListener, tls: &Tls) -> Self {
        // Like the client, does not touch the process's default provider.
        let provider = Arc::new(crypto::ring::default_provider());
        let certificate = CertificateDer::from_pem_slice(tls.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, client) = self.listener.accept().await.unwrap();
            // A client that does not trust the certificate aborts the handshake.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, client);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn has_span(request: &ExportTraceServiceRequest, name: &str) -> bool {
    request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .any(|span| span.name == name)
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        match self.traces(request.into_inner(), header).await {
            Ok(answer) => Ok(tonic::Response::new(answer)),
            Err(Refusal { grpc, after, .. }) => Err(match after {
                Some(after) => Status::with_error_details(
                    grpc,
                    "not now",
                    ErrorDetails::with_retry_info(Some(after)),
                ),
                None => Status::new(grpc, "no"),
            }),
        }
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        self.take_metrics(request.into_inner());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Decodes the message in a body, which may be compressed.
fn decode<T: prost::Message + Default>(headers: &HeaderMap, body: &Bytes) -> T {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    if headers
        .get("content-encoding")
        .is_some_and(|how| how == "gzip")
    {
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&body[..]), &mut plain)
            .unwrap();
        return T::decode(&plain[..]).unwrap();
    }
    T::decode(&body[..]).unwrap()
}

async fn http_traces(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
    match service.traces(decode(&headers, &body), header).await {
        Ok(answer) => answer.encode_to_vec().into_response(),
        Err(Refusal { http, after, .. }) => {
            let status = StatusCode::from_u16(http).unwrap();
            match after {
                Some(after) => {
                    let seconds = after.as_secs().to_string();
                    (status, [("retry-after", seconds)]).into_response()
                }
                None => status.into_response(),
            }
        }
    }
}

async fn http_metrics(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> Response {
    service.take_metrics(decode(&headers, &body));
    ExportMetricsServiceResponse::default()
        .encode_to_vec()
        .into_response()
}
