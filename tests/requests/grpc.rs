//! gRPC: real calls by tonic, whose outcome is in the trailers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response as HttpResponse;
use axum::routing::post;
use http_body::Frame;
use http_body_util::StreamBody;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use serde_json::{Value, json};
use testkit::trail::{PATIENCE, Trail, balanced};
use testkit::wait_until;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tracing_audit::{AuditRequestLayer, context};
use tracing_subscriber::prelude::*;

use super::{ask, requests, rows};

const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Behaves as the call's header asks.
struct Service(Arc<AtomicUsize>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        context().user("alice");
        match request
            .metadata()
            .get("behave")
            .map(|value| value.to_str().unwrap())
        {
            Some("fail") => Err(Status::not_found("no such thing: ä")),
            Some("deny") => Err(Status::permission_denied("not yours")),
            Some("never") => {
                self.0.fetch_add(1, Relaxed);
                std::future::pending().await
            }
            _ => Ok(Response::new(ExportTraceServiceResponse::default())),
        }
    }
}

async fn call(channel: &Channel, behave: &'static str) -> Result<(), Status> {
    let mut request = Request::new(ExportTraceServiceRequest::default());
    request
        .metadata_mut()
        .insert("behave", behave.parse().unwrap());
    let mut client = TraceServiceClient::new(channel.clone());
    client.export(request).await.map(|_| ())
}

#[test]
fn outcome_of_a_call_is_its_grpc_status() {
    let trail = Trail::start();
    let subscriber = tracing_subscriber::registry().with(trail.audit.layer());
    let _default = tracing::subscriber::set_default(subscriber);
    let layer = AuditRequestLayer::grpc().peer(|parts| {
        let connection = parts.extensions.get::<TcpConnectInfo>()?;
        Some(connection.remote_addr()?.ip())
    });
    let waiting = Arc::new(AtomicUsize::new(0));
    let service = TraceServiceServer::with_interceptor(
        Service(Arc::clone(&waiting)),
        |request: Request<()>| match request.metadata().get("behave") {
            Some(behave) if behave == "stranger" => Err(Status::unauthenticated("who?")),
            _ => Ok(request),
        },
    );
    let audit = trail.audit.clone();
    let served = async {
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let incoming = TcpIncoming::bind(address).unwrap();
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let calls = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
                call(&channel, "").await.unwrap();
                for (behave, code) in [
                    ("fail", Code::NotFound),
                    ("deny", Code::PermissionDenied),
                    ("stranger", Code::Unauthenticated),
                ] {
                    assert_eq!(call(&channel, behave).await.unwrap_err().code(), code);
                }
                let client = tokio::spawn({
                    let channel = channel.clone();
                    async move { call(&channel, "never").await }
                });
                let is_there = move || waiting.load(Relaxed) == 1;
                let wait = move || wait_until("the call is there", PATIENCE, is_there);
                tokio::task::spawn_blocking(wait).await.unwrap();
                client.abort();
                let is_told = move || audit.stats().accepted() == 7;
                let wait = move || wait_until("the server notices", PATIENCE, is_told);
                tokio::task::spawn_blocking(wait).await.unwrap();
            });
            // The server waits for its connections.
            runtime.shutdown_timeout(Duration::ZERO);
        });
        Server::builder()
            .layer(layer)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, async { calls.await.unwrap() })
            .await
            .unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(served);

    let rows_of_requests = requests(&trail);
    let said: Vec<_> = rows_of_requests
        .iter()
        .map(|row| {
            assert_eq!(row["target_id"], METHOD);
            assert_eq!(row["metadata"]["http.route"], METHOD);
            assert_eq!(row["metadata"]["client.address"], "127.0.0.1");
            json!([
                row["status"],
                row["error_code"],
                row["error_message"],
                row["metadata"]["rpc.grpc.status_code"],
                row["user_id"]
            ])
        })
        .collect();
    assert_eq!(
        said,
        [
            json!(["succeeded", null, null, 0, "alice"]),
            json!(["failed", "NOT_FOUND", "no such thing: ä", 5, "alice"]),
            json!(["rejected", "PERMISSION_DENIED", "not yours", 7, "alice"]),
            json!(["rejected", "UNAUTHENTICATED", "who?", 16, null]),
            json!(["cancelled", null, null, null, "alice"]),
        ]
    );
    let denials = rows(&trail, "events");
    let said: Vec<_> = denials.iter().map(|row| &row["error_code"]).collect();
    assert_eq!(said, ["PERMISSION_DENIED", "UNAUTHENTICATED"]);
    balanced(&trail.audit, &trail.postgres);
}

/// A call that has begun to answer, with these trailers.
fn answers_with(trailers: &'static [(&'static str, &'static str)]) -> Router {
    let answer = async move || {
        let trailers: HeaderMap = trailers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let frames = [
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from("part"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let mut answer = HttpResponse::new(Body::new(body));
        let grpc = HeaderValue::from_static("application/grpc");
        answer.headers_mut().insert("content-type", grpc);
        answer
    };
    Router::new()
        .route("/package.Service/Method", post(answer))
        .layer(AuditRequestLayer::axum())
}

#[test]
fn outcome_of_a_call_that_answered_in_part_is_in_its_trailers() {
    let expected: [(&[_], Value); 3] = [
        (&[("grpc-status", "0")], json!(["succeeded", null])),
        (&[("grpc-status", "13")], json!(["failed", "INTERNAL"])),
        // Whether it succeeded is not known.
        (&[("other", "0")], json!(["unknown", null])),
    ];
    for (trailers, expected) in expected {
        let trail = Trail::start();
        super::serve(&trail, answers_with(trailers), |address| {
            let headers = [("te", "trailers")];
            ask(address, "POST /package.Service/Method", &headers);
        });
        let row = super::request(&trail);
        assert_eq!(json!([row["status"], row["error_code"]]), expected);
    }
}

#[test]
fn request_that_says_it_is_a_call_has_the_outcome_of_its_answer() {
    let trail = Trail::start();
    let app = Router::new()
        .route("/", post(async || "fine"))
        .layer(AuditRequestLayer::axum());
    super::serve(&trail, app, |address| {
        let headers = [("content-type", "application/grpc")];
        ask(address, "POST /", &headers);
        ask(address, "POST /nowhere", &headers);
    });
    let rows = requests(&trail);
    assert_eq!(rows[0]["status"], "succeeded");
    assert_eq!(
        json!([rows[1]["status"], rows[1]["target_id"]]),
        json!(["failed", null])
    );
}
