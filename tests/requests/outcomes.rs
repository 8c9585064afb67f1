//! What a request's row says, and the outcome of one that is refused.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleError;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use testkit::trail::{Trail, balanced};
use tracing::{Span, info_span};
use tracing_audit::{AuditRequestLayer, Identity, RequestSettings, context};

use super::{ask, ask_with_body, header, request, requests, rows, serve};

/// What the rows of the requests say of their outcomes, by their path.
fn outcomes(rows: &[Value]) -> Vec<[Value; 4]> {
    let mut said: Vec<_> = rows
        .iter()
        .map(|row| {
            let metadata = &row["metadata"];
            [
                metadata["url.path"].clone(),
                row["status"].clone(),
                row["error_code"].clone(),
                metadata["http.response.status_code"].clone(),
            ]
        })
        .collect();
    said.sort_by_key(|said| said[0].to_string());
    said
}

#[test]
fn request_is_the_parent_of_what_happens_inside_and_has_its_user() {
    async fn order(Path(number): Path<u32>) -> String {
        context().user("alice").tenant("acme").role("clerk");
        info_span!("audit.query_run", sql_text = "SELECT 1", status = "ok").in_scope(|| ());
        number.to_string()
    }
    let trail = Trail::start();
    let app = Router::new()
        .route("/orders/{number}", get(order))
        .layer(AuditRequestLayer::axum());
    serve(&trail, app, |address| {
        let answer = ask(
            address,
            "GET /orders/7?page=2&flag",
            &[("user-agent", "test/1")],
        );
        assert!(answer.ends_with("\r\n\r\n7"), "{answer}");
        assert!(header(&answer, "x-request-id").is_some());
    });
    let row = request(&trail);
    let query = &rows(&trail, "query_runs")[0];
    for row in [&row, query] {
        assert_eq!(row["user_id"], "alice", "{row}");
        assert_eq!(row["user_role"], "clerk", "{row}");
        assert_eq!(row["metadata"]["tenant_key"], "acme", "{row}");
    }
    assert_eq!(query["parent_id"], row["id"]);
    assert_eq!(query["request_id"], row["request_id"]);
    assert_eq!(query["trace_id"], row["trace_id"]);
    // A made id is a UUID, which is the trace's id as well.
    let id = row["request_id"].as_str().unwrap();
    assert_eq!(row["trace_id"], id.replace('-', ""));
    assert_eq!(
        (&row["target_type"], &row["target_id"], &row["status"]),
        (
            &json!("http.route"),
            &json!("/orders/{number}"),
            &json!("succeeded")
        )
    );
    let mut metadata = row["metadata"].clone();
    metadata.as_object_mut().unwrap().remove("tenant_key");
    assert_eq!(
        metadata,
        json!({
            "http.request.method": "GET",
            "url.path": "/orders/7",
            "url.query": "page=REDACTED&REDACTED",
            "http.route": "/orders/{number}",
            "http.response.status_code": 200,
            "user_agent.original": "test/1",
            "client.address": "127.0.0.1",
        })
    );
    balanced(&trail.audit, &trail.postgres);
}

async fn limited(request: Request, next: Next) -> Response {
    match request.uri().path() {
        "/throttled" => StatusCode::TOO_MANY_REQUESTS.into_response(),
        "/unknown-user" => StatusCode::UNAUTHORIZED.into_response(),
        _ => next.run(request).await,
    }
}

async fn panics() -> StatusCode {
    panic!("in the handler")
}

fn refusing() -> Router {
    Router::new()
        .route("/fine", get(async || StatusCode::NO_CONTENT))
        .route("/moved", get(async || StatusCode::FOUND))
        .route(
            "/forbidden",
            get(async || {
                context().user("mallory");
                (StatusCode::FORBIDDEN, "no")
            }),
        )
        .route(
            "/legal",
            get(async || StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS),
        )
        .route(
            "/proxy",
            get(async || StatusCode::PROXY_AUTHENTICATION_REQUIRED),
        )
        .route(
            "/broken",
            get(async || (StatusCode::INTERNAL_SERVER_ERROR, "oh")),
        )
        .route("/panics", get(panics))
        .route(
            "/upload",
            post(async |_: axum::body::Bytes| StatusCode::CREATED),
        )
        .layer(axum::extract::DefaultBodyLimit::max(10))
        .layer(from_fn(limited))
        .layer(AuditRequestLayer::axum())
}

/// Asks for each of the refusals once.
fn ask_for_all(address: SocketAddr) {
    for (path, status) in [
        ("/fine", "204"),
        ("/moved", "302"),
        ("/forbidden", "403"),
        ("/legal", "451"),
        ("/proxy", "407"),
        ("/broken", "500"),
        ("/upload", "405"),
        ("/nowhere", "404"),
        ("/throttled", "429"),
        ("/unknown-user", "401"),
    ] {
        let answer = ask(address, &format!("GET {path}"), &[]);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert!(header(&answer, "x-request-id").is_some(), "{answer}");
    }
    let answer = ask_with_body(address, "POST /upload", &[], "eleven byte");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(ask(address, "GET /panics", &[]), "");
}

#[test]
fn refused_request_has_its_row_and_a_denial_a_second_one() {
    let trail = Trail::start();
    serve(&trail, refusing(), ask_for_all);
    let failed = |path: &str, code: u16| {
        [
            json!(path),
            json!("failed"),
            json!(code.to_string()),
            json!(code),
        ]
    };
    let rejected = |path: &str, code: u16| {
        [
            json!(path),
            json!("rejected"),
            json!(code.to_string()),
            json!(code),
        ]
    };
    let rows_of_requests = requests(&trail);
    assert_eq!(
        outcomes(&rows_of_requests),
        [
            failed("/broken", 500),
            [json!("/fine"), json!("succeeded"), json!(null), json!(204)],
            rejected("/forbidden", 403),
            rejected("/legal", 451),
            [json!("/moved"), json!("succeeded"), json!(null), json!(302)],
            failed("/nowhere", 404),
            [
                json!("/panics"),
                json!("failed"),
                json!("panic"),
                json!(null)
            ],
            rejected("/proxy", 407),
            failed("/throttled", 429),
            rejected("/unknown-user", 401),
            failed("/upload", 405),
            failed("/upload", 413),
        ]
    );
    // What the router does not know has no target.
    let nowhere = rows_of_requests
        .iter()
        .find(|row| row["metadata"]["url.path"] == "/nowhere")
        .unwrap();
    assert_eq!(nowhere["target_type"], Value::Null);
    assert_eq!(nowhere["target_id"], Value::Null);

    let denials = rows(&trail, "events");
    assert_eq!(denials.len(), 4, "{denials:#?}");
    for denial in &denials {
        let parent = rows_of_requests
            .iter()
            .find(|row| row["id"] == denial["parent_id"])
            .unwrap();
        assert_eq!(denial["action_type"], "security");
        assert_eq!(denial["status"], "rejected");
        for column in [
            "request_id",
            "trace_id",
            "user_id",
            "target_type",
            "target_id",
            "error_code",
        ] {
            assert_eq!(denial[column], parent[column], "{column} of {denial}");
        }
        let mut metadata = parent["metadata"].clone();
        metadata["event"] = json!("access_denied");
        metadata
            .as_object_mut()
            .unwrap()
            .remove("http.response.status_code");
        assert_eq!(denial["metadata"], metadata);
        assert_eq!(metadata["http.request.method"], "GET");
        assert_eq!(metadata["client.address"], "127.0.0.1");
    }
    let users: Vec<_> = denials.iter().map(|denial| &denial["user_id"]).collect();
    assert!(users.contains(&&json!("mallory")), "{users:?}");
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn denial_has_no_second_row_where_that_is_switched_off() {
    let trail = Trail::start();
    let settings = RequestSettings::new().denials(false);
    let app = Router::new()
        .route("/", get(async || StatusCode::FORBIDDEN))
        .layer(AuditRequestLayer::axum().settings(settings));
    serve(&trail, app, |address| {
        ask(address, "GET /", &[]);
    });
    assert_eq!(request(&trail)["status"], "rejected");
    assert_eq!(rows(&trail, "events").len(), 0);
}

#[test]
fn outcome_that_the_handler_records_takes_precedence() {
    let trail = Trail::start();
    let app = Router::new()
        .route(
            "/gone-already",
            get(async || {
                Span::current().record("status", "succeeded");
                StatusCode::NOT_FOUND
            }),
        )
        .route(
            "/says-why",
            get(async || {
                Span::current().record("error_code", "out_of_stock");
                (StatusCode::CONFLICT, "none left")
            }),
        )
        .route(
            "/no-success",
            get(async || {
                Span::current().record("status", "failed");
                "sorry"
            }),
        )
        .layer(AuditRequestLayer::axum());
    serve(&trail, app, |address| {
        for path in ["/gone-already", "/no-success", "/says-why"] {
            ask(address, &format!("GET {path}"), &[]);
        }
    });
    assert_eq!(
        outcomes(&requests(&trail)),
        [
            [
                json!("/gone-already"),
                json!("succeeded"),
                json!("404"),
                json!(404)
            ],
            [
                json!("/no-success"),
                json!("failed"),
                json!(null),
                json!(200)
            ],
            [
                json!("/says-why"),
                json!("failed"),
                json!("out_of_stock"),
                json!(409)
            ],
        ]
    );
}

/// A service, or a layer, that fails instead of answering.
#[derive(Clone)]
struct Fails;

#[derive(Debug)]
struct Overloaded;

impl fmt::Display for Overloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("overloaded")
    }
}

impl tower_service::Service<Request> for Fails {
    type Response = Response;
    type Error = Overloaded;
    type Future = std::future::Ready<Result<Response, Overloaded>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Overloaded>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Err(Overloaded))
    }
}

#[test]
fn request_fails_with_the_error_of_its_service() {
    let trail = Trail::start();
    let service = tower_layer::Layer::layer(&AuditRequestLayer::new(), Fails);
    let service = HandleError::new(service, async |_| {
        Ok::<_, Infallible>(StatusCode::SERVICE_UNAVAILABLE)
    });
    let app = Router::new().route_service("/", service);
    serve(&trail, app, |address| {
        assert!(ask(address, "GET /", &[]).starts_with("HTTP/1.1 503"));
    });
    let row = request(&trail);
    assert_eq!(row["status"], "failed");
    assert_eq!(row["error_message"], "overloaded");
    assert_eq!(row["metadata"]["http.response.status_code"], Value::Null);
}

#[test]
fn hook_says_who_asks_and_its_records_are_of_the_request() {
    let trail = Trail::start();
    let layer = AuditRequestLayer::axum().identify(|parts| {
        let user = parts.headers.get("x-user").unwrap().to_str().unwrap();
        tracing::info!(name: "audit.event", action_type = "login", status = "succeeded");
        Identity::new()
            .tenant("acme")
            .user(user)
            .role("clerk")
            .agent("0198f1d3-0000-7000-8000-000000000001")
            .conversation("c-7")
    });
    let inside = async || {
        info_span!("audit.query_run", sql_text = "SELECT 1").in_scope(|| ());
        StatusCode::FORBIDDEN
    };
    let app = Router::new().route("/", get(inside)).layer(layer);
    serve(&trail, app, |address| {
        ask(address, "GET /", &[("x-user", "alice")]);
        // It panics without.
        ask(address, "GET /", &[]);
    });
    let requests = requests(&trail);
    let events = rows(&trail, "events");
    let queries = rows(&trail, "query_runs");
    let of = |action_type: &str| events.iter().find(|row| row["action_type"] == action_type);
    for row in [&requests[0], &queries[0], of("security").unwrap()] {
        assert_eq!(row["user_id"], "alice", "{row}");
        assert_eq!(row["user_role"], "clerk", "{row}");
        assert_eq!(row["conversation_id"], "c-7", "{row}");
        assert_eq!(row["agent_id"], "0198f1d3-0000-7000-8000-000000000001");
        assert_eq!(row["metadata"]["tenant_key"], "acme", "{row}");
    }
    assert_eq!(of("login").unwrap()["parent_id"], requests[0]["id"]);
    assert_eq!(requests[1]["error_code"], "panic");
}
