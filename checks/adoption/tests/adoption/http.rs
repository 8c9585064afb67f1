//! Requests that tower-http and axum-tracing-opentelemetry trace.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use testkit::child::{
    child, child_processes, command, kill, say_ready_and_wait_to_be_killed, start_until_ready,
};
use testkit::trail::{Folder, PATIENCE, Trail, pipeline};
use testkit::{Postgres, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing::info_span;
use tracing_audit::{Adopt, Event};
use tracing_subscriber::prelude::*;

use super::{rows, scoped, select};

child_processes!(serves_until_killed);

pub(crate) fn router() -> Router {
    async fn order(Path(id): Path<u32>) -> Result<String, StatusCode> {
        if id == 0 {
            return Err(StatusCode::FORBIDDEN);
        }
        tracing_audit::context().user("alice");
        info_span!(
            "audit.query_run",
            sql_text = "SELECT 1",
            row_count = 1,
            status = "ok"
        );
        Ok(id.to_string())
    }
    Router::new()
        .route("/orders/{id}", get(order))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
}

/// Asks for each path over a connection of its own.
pub(crate) async fn ask(router: Router, paths: &[&str]) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    for path in paths {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: shop\r\ncookie: secret-cookie\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    }
    server.abort();
}

pub(crate) const PATHS: [&str; 4] = [
    "/orders/7?token=secret-token&next=https://shop.example/secret-reset",
    "/orders/0",
    "/broken",
    "/nowhere",
];

const COLUMNS: &str = "action_type, user_id, status, error_code, metadata->>'adopted' AS adopted,
    metadata->>'http.request.method' AS method, metadata->>'url.path' AS path, request_id = id::text AS is_named";

fn expected() -> [Value; 4] {
    let row = |path: &str, user: Option<&str>, status: &str, code: Option<&str>| {
        json!({"action_type": "http_request", "user_id": user, "status": status, "error_code": code,
            "adopted": "http", "method": "GET", "path": path, "is_named": true})
    };
    [
        row("/orders/7", Some("alice"), "succeeded", None),
        row("/orders/0", None, "rejected", Some("403")),
        row("/broken", None, "failed", Some("500")),
        row("/nowhere", None, "failed", Some("404")),
    ]
}

fn assert_requests(trail: &Trail) {
    assert_eq!(rows(trail, COLUMNS, "activities"), expected());
    // The query is a part of the request.
    let query = "user_id, request_id IN (SELECT request_id FROM audit.activities) AS is_of_request,
        parent_id IN (SELECT id FROM audit.activities) AS is_inside";
    assert_eq!(
        rows(trail, query, "query_runs"),
        [json!({"user_id": "alice", "is_of_request": true, "is_inside": true})]
    );
    let all = trail.postgres.psql("SELECT t::text FROM audit.trail t");
    assert!(!all.contains("secret"), "{all}");
}

fn trail() -> Trail {
    Trail::start_with(|builder| builder.adopt(Adopt::http()))
}

#[test]
fn request_of_tower_http_has_its_outcome_and_its_user() {
    let trail = trail();
    let layer = tower_http::trace::TraceLayer::new_for_http();
    scoped(&trail, ask(router().layer(layer), &PATHS));
    assert_requests(&trail);
}

#[test]
fn the_same_of_the_previous_version() {
    let trail = trail();
    let layer = tower_http_0_6::trace::TraceLayer::new_for_http();
    scoped(&trail, ask(router().layer(layer), &PATHS));
    assert_requests(&trail);
}

#[test]
fn headers_and_queries_that_the_span_has_are_left_out() {
    let trail = trail();
    let spans = tower_http::trace::DefaultMakeSpan::new().include_headers(true);
    let layer = tower_http::trace::TraceLayer::new_for_http().make_span_with(spans);
    scoped(&trail, ask(router().layer(layer), &PATHS));
    assert_requests(&trail);
}

#[test]
fn request_of_axum_tracing_opentelemetry_has_its_route() {
    let trail = trail();
    let layer = axum_tracing_opentelemetry::middleware::OtelAxumLayer::default();
    scoped(&trail, ask(router().layer(layer), &PATHS));
    assert_requests(&trail);
    let routes = rows(&trail, "target_id", "activities");
    assert_eq!(routes[0], json!({"target_id": "/orders/{id}"}));
}

#[test]
fn span_of_the_programs_own_is_a_request_by_its_name() {
    let trail =
        Trail::start_with(|builder| builder.adopt(Adopt::http().span_named("http_request")));
    let layer = tower_http::trace::TraceLayer::new_for_http().make_span_with(
        |request: &axum::http::Request<_>| {
            let route = request.extensions().get::<axum::extract::MatchedPath>();
            let route = route.map(axum::extract::MatchedPath::as_str);
            info_span!("http_request", method = ?request.method(), path = request.uri().path(), matched_path = ?route)
        },
    );
    scoped(&trail, ask(router().layer(layer), &PATHS));
    assert_requests(&trail);
    let routes = rows(&trail, "target_id", "activities");
    assert_eq!(routes[0], json!({"target_id": "/orders/{id}"}));
    assert_eq!(routes[3], json!({"target_id": null}));
}

#[test]
fn request_of_a_client_is_none_of_the_servers() {
    let trail = trail();
    trail.scoped(|| {
        info_span!(
            "HTTP request",
            http.request.method = "GET",
            otel.kind = "client"
        );
        info_span!("HTTP request", http.request.method = "GET", otel.kind = ?Some("x"));
    });
    assert_eq!(rows(&trail, "action_type", "activities").len(), 1);
}

#[test]
fn refused_request_that_a_library_calls_ok_is_none_and_a_request_in_a_span_has_an_id() {
    use tracing::field::Empty;
    let trail = trail();
    trail.scoped(|| {
        let connection = info_span!("connection", user_id = "of the connection");
        connection.in_scope(|| {
            // As tracing-actix-web does.
            let refused = info_span!(
                "HTTP request",
                http.method = "GET",
                http.target = "/orders",
                http.status_code = 0,
                otel.status_code = Empty,
                http.request.header.authorization = "secret",
            );
            refused.record("http.status_code", 403);
            refused.record("otel.status_code", "OK");
        });
        let calls = |report: fn(&tracing::Span)| {
            let call = info_span!("grpc", http.request.method = "POST", url.path = "/orders.Orders/List");
            report(&call);
        };
        // As tower-http 0.7 and 0.6 report a call by gRPC.
        calls(|call| {
            tracing::info!(target: "tower_http::trace::on_response", parent: call, status = 7);
            tracing::info!(target: "tower_http::trace::on_failure", parent: call,
                classification = %"Status: PermissionDenied: not yours", "response failed");
        });
        calls(|call| {
            tracing::info!(target: "tower_http::trace::on_failure", parent: call,
                classification = %"Code: 16", "response failed");
        });
        calls(|call| {
            tracing::info!(target: "tower_http::trace::on_eos", parent: call, status = 0, "end of stream");
        });
    });
    let found = rows(
        &trail,
        "status, error_code, error_message, request_id = id::text AS is_named",
        "activities",
    );
    let row = |status: &str, code: Option<&str>| json!({"status": status, "error_code": code, "error_message": null, "is_named": true});
    assert_eq!(
        found,
        [
            row("rejected", Some("403")),
            row("rejected", Some("PERMISSION_DENIED")),
            row("rejected", Some("UNAUTHENTICATED")),
            row("succeeded", None),
        ]
    );
    let all = trail.postgres.psql("SELECT t::text FROM audit.trail t");
    assert!(!all.contains("secret"), "{all}");
}

fn serves_until_killed() {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let request = info_span!(
        "HTTP request",
        http.request.method = "GET",
        url.path = "/slow"
    );
    let _entered = request.enter();
    // The request is stored by the time that a later record is committed.
    for _ in 0..3 {
        audit.record(Event::new("after")).unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
    }
    say_ready_and_wait_to_be_killed()
}

#[test]
fn request_of_a_killed_process_has_its_row() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = command(child!(serves_until_killed), &postgres, &spool);
    kill(start_until_ready(child.env("AUDIT_ADOPT", "http, gen_ai")));
    // The next process writes what is in the log.
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("the row is there", PATIENCE, || {
        !select(&postgres, "id", "activities").is_empty()
    });
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        select(
            &postgres,
            "status, error_code, metadata->>'url.path' AS path",
            "activities"
        ),
        [json!({"status": "unknown", "error_code": "process_lost", "path": "/slow"})]
    );
}

#[test]
fn unknown_word_in_the_environment_is_an_error() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = command(child!(serves_until_killed), &postgres, &spool);
    let output = child
        .env("AUDIT_ADOPT", "http,secret-word")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() && said.contains("AUDIT_ADOPT"),
        "{said}"
    );
    assert!(!said.contains("secret-word"), "{said}");
}
