//! The layer below subscribers of every kind.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::Bytes;
use axum::http::{Request, Response, StatusCode};
use axum::routing::get;
use http_body_util::Empty;
use serde_json::{Value, json};
use testkit::Postgres;
use testkit::child::{child, child_processes, command};
use testkit::trail::{Folder, PATIENCE, Trail};
use tower_layer::Layer as _;
use tower_service::Service as _;
use tracing::level_filters::LevelFilter;
use tracing_audit::{AuditRequestLayer, context};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{fmt, registry};

use super::{ask, header, serve_here};

child_processes!(serves_globally);

fn app() -> Router {
    let denies = async || {
        handler().await;
        StatusCode::FORBIDDEN
    };
    Router::new()
        .route("/", get(denies))
        .layer(AuditRequestLayer::axum())
}

#[tracing::instrument]
async fn handler() {
    context().user("alice");
    tracing::info_span!("audit.query_run", sql_text = "SELECT 1", status = "ok").in_scope(|| ());
}

fn serve_one() {
    serve_here(app(), |address| {
        assert!(header(&ask(address, "GET /", &[]), "x-request-id").is_some());
    });
}

/// Returns what is to be the same below each subscriber.
fn trail_of(postgres: &Postgres) -> Vec<Value> {
    let rows = postgres.psql(
        "SELECT jsonb_build_array(what, status, error_code, user_id, parent_id IS NULL, metadata) FROM audit.trail ORDER BY what",
    );
    rows.lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

#[track_caller]
fn is_as_it_must_be(rows: &[Value]) {
    let metadata = json!({
        "http.request.method": "GET",
        "url.path": "/",
        "http.route": "/",
        "client.address": "127.0.0.1",
    });
    let mut of_request = metadata.clone();
    of_request["http.response.status_code"] = json!(403);
    let mut of_denial = metadata;
    of_denial["event"] = json!("access_denied");
    assert_eq!(
        rows,
        [
            json!(["SELECT 1", "succeeded", null, "alice", false, {}]),
            json!(["http_request", "rejected", "403", "alice", true, of_request]),
            json!(["security", "rejected", "403", "alice", false, of_denial]),
        ]
    );
}

#[test]
fn trail_is_the_same_whatever_other_layers_there_are() {
    for level in [LevelFilter::OFF, LevelFilter::WARN, LevelFilter::TRACE] {
        let trail = Trail::start();
        let log = fmt::layer().with_writer(std::io::sink).with_filter(level);
        let subscriber = registry().with(log).with(trail.audit.layer());
        tracing::subscriber::with_default(subscriber, serve_one);
        trail.audit.flush_blocking(PATIENCE).unwrap();
        is_as_it_must_be(&trail_of(&trail.postgres));
    }
}

fn serves_globally() {
    let audit = tracing_audit::from_env().unwrap();
    registry().with(audit.layer()).init();
    serve_one();
    audit.flush_blocking(PATIENCE).unwrap();
}

#[test]
fn trail_is_the_same_below_a_global_subscriber() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let child = command(child!(serves_globally), &postgres, &spool).output();
    let child = child.unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    is_as_it_must_be(&trail_of(&postgres));
}

#[test]
fn requests_pass_through_where_no_layer_wants_their_spans() {
    serve_here(app(), |address| {
        let answer = ask(address, "GET /", &[]);
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert_eq!(header(&answer, "x-request-id"), None);
    });
}

/// Answers without an allocation.
#[derive(Clone)]
struct Answers;

impl tower_service::Service<Request<()>> for Answers {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(Response::new(Empty::new())))
    }
}

#[test]
fn request_costs_no_allocation_unless_it_is_recorded_and_few_if_it_is() {
    let layer = AuditRequestLayer::new().route(|_| Some("/orders/{id}".to_owned()));
    let mut service = layer.layer(Answers);
    let mut allocations = || {
        let request = Request::get("/orders/7?page=2").header("user-agent", "test/1");
        let request = request.body(()).unwrap();
        let answer = || {
            let answer = pin!(service.call(request));
            let answer = answer.poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(answer, Poll::Ready(Ok(_))));
        };
        allocation_counter::measure(answer).count_total
    };
    let log = fmt::layer().with_writer(std::io::sink);
    let log = registry().with(log.with_filter(LevelFilter::WARN));
    let without = tracing::subscriber::with_default(log, || {
        // The first registers the callsite.
        allocations();
        allocations()
    });
    let trail = Trail::start();
    let with = trail.scoped(|| {
        // Buffers are reused from the second on.
        allocations();
        allocations()
    });
    assert_eq!(without, 0);
    // The id, the route, the query, the path, and the header of the answer.
    assert!(with <= 12, "{with}");
    assert_eq!(super::requests(&trail).len(), 2);
}

#[test]
fn log_alone_has_the_request_id() {
    let log = fmt::layer().with_writer(std::io::sink);
    tracing::subscriber::with_default(registry().with(log), serve_one);
}
