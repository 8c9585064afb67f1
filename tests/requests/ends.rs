//! The end of a run: with the response's body, or when the client goes away.

use std::convert::Infallible;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::{Value, json};
use testkit::child::{
    child, child_processes, command, kill, say_ready_and_wait_to_be_killed, start_until_ready,
};
use testkit::trail::{Folder, pipeline};
use testkit::trail::{PATIENCE, Trail, balanced};
use testkit::{Postgres, wait_until};
use tracing_audit::Event;
use tracing_audit::{AuditRequestLayer, RequestSettings};
use tracing_subscriber::prelude::*;

use super::{ask, ask_with_body, read_until, request, requests, send, serve};

fn tokens() -> impl Stream<Item = Result<&'static str, Infallible>> + Send {
    stream::iter(["Forty", "-", "two"]).map(Ok)
}

fn never_all() -> impl Stream<Item = Result<&'static str, Infallible>> + Send {
    tokens().chain(stream::pending())
}

fn fails() -> impl Stream<Item = Result<&'static str, String>> + Send {
    stream::iter([Ok("Forty"), Err("the model is gone".to_owned())])
}

/// The routes, and how many requests have reached them: a connection that is gone before its request
/// was read makes none.
fn counted() -> (Router, Arc<AtomicUsize>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let app = routes().layer(from_fn(move |request: Request, next: Next| {
        count.fetch_add(1, Relaxed);
        next.run(request)
    }));
    (app, begun)
}

async fn waits(request: Request, next: Next) -> Response {
    if request.uri().path() == "/never-reached" {
        std::future::pending::<()>().await;
    }
    next.run(request).await
}

fn routes() -> Router {
    let upgrade = || async {
        let headers = [
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    };
    Router::new()
        .route("/full", any(async || "Forty-two"))
        .route("/stream", get(async || Body::from_stream(tokens())))
        .route("/never-all", get(async || Body::from_stream(never_all())))
        .route("/fails", get(async || Body::from_stream(fails())))
        .route(
            "/never-all-of-404",
            get(async || (StatusCode::NOT_FOUND, Body::from_stream(never_all()))),
        )
        .route("/never", get(async || std::future::pending::<()>().await))
        .route("/never-reached", get(async || "never"))
        .route("/upload", any(async |body: String| body))
        .route("/panics-within", get(async || Body::from_stream(panics())))
        .route(
            "/short",
            get(async || {
                let body = Body::from_stream(stream::iter([Ok::<_, Infallible>("Forty")]));
                ([(header::CONTENT_LENGTH, 9)], body)
            }),
        )
        .route(
            "/length",
            get(async || {
                (
                    [(header::CONTENT_LENGTH, 9)],
                    Body::from_stream(never_all()),
                )
            }),
        )
        .route("/not-modified", get(async || StatusCode::NOT_MODIFIED))
        .route("/socket", get(upgrade))
        .layer(from_fn(waits))
        .layer(AuditRequestLayer::axum())
}

fn panics() -> impl Stream<Item = Result<&'static str, Infallible>> + Send {
    tokens().map(|token| {
        if token == Ok("-") {
            panic!("in the body")
        } else {
            token
        }
    })
}

/// What the rows say, by their path.
fn said(rows: &[Value]) -> Value {
    let mut said: Vec<_> = rows
        .iter()
        .map(|row| {
            let metadata = &row["metadata"];
            json!([
                metadata["url.path"],
                row["status"],
                row["error_message"],
                metadata["http.response.status_code"]
            ])
        })
        .collect();
    said.sort_by_key(Value::to_string);
    said.into()
}

#[test]
fn response_that_was_taken_to_its_end_succeeds_and_a_broken_one_fails() {
    let trail = Trail::start();
    serve(&trail, routes(), |address| {
        for path in ["/full", "/stream", "/length"] {
            let answer = ask(address, &format!("GET {path}"), &[]);
            assert!(answer.contains("two"), "{answer}");
        }
        for path in ["/fails", "/short", "/panics-within"] {
            assert!(!ask(address, &format!("GET {path}"), &[]).contains("two"));
        }
    });
    assert_eq!(
        said(&requests(&trail)),
        json!([
            ["/fails", "failed", "the model is gone", 200],
            ["/full", "succeeded", null, 200],
            ["/length", "succeeded", null, 200],
            ["/panics-within", "failed", null, 200],
            ["/short", "failed", "the body ended after 5 of 9 bytes", 200],
            ["/stream", "succeeded", null, 200],
        ])
    );
}

#[test]
fn response_without_a_body_ends_with_its_head() {
    let trail = Trail::start();
    let audit = trail.audit.clone();
    serve(&trail, routes(), move |address| {
        for path in ["/full", "/never-all"] {
            let answer = ask(address, &format!("HEAD {path}"), &[]);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        assert!(ask(address, "GET /not-modified", &[]).starts_with("HTTP/1.1 304"));
        let headers = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut socket = send(address, "GET /socket", &headers);
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        // The connection is still open.
        wait_until("the row", PATIENCE, || audit.stats().accepted() == 4);
    });
    assert_eq!(
        said(&requests(&trail)),
        json!([
            ["/full", "succeeded", null, 200],
            ["/never-all", "succeeded", null, 200],
            ["/not-modified", "succeeded", null, 304],
            ["/socket", "succeeded", null, 101],
        ])
    );
}

#[test]
fn request_is_cancelled_when_its_client_goes_away() {
    let trail = Trail::start();
    let audit = trail.audit.clone();
    let (app, begun) = counted();
    serve(&trail, app, move |address| {
        read_until(address, "/never-all", "two");
        read_until(address, "/never-all-of-404", "two");
        let requests: [(&str, &[(&str, &str)]); 3] = [
            ("GET /never", &[]),
            ("GET /never-reached", &[]),
            // Before all of its body is sent.
            ("POST /upload", &[("content-length", "9")]),
        ];
        for (earlier, (request, headers)) in requests.into_iter().enumerate() {
            let connection = send(address, request, headers);
            wait_until("the request is there", PATIENCE, || {
                begun.load(Relaxed) == earlier + 3
            });
            drop(connection);
        }
        wait_until("the server notices", PATIENCE, || {
            audit.stats().accepted() == 5
        });
    });
    let rows = requests(&trail);
    let mut said = said(&rows);
    // Whether the handler or the server notices first that the upload was cut.
    let upload = said[4].take();
    assert!(
        upload == json!(["/upload", "cancelled", null, null])
            || upload == json!(["/upload", "failed", null, 400]),
        "{upload}"
    );
    assert_eq!(
        said,
        json!([
            ["/never", "cancelled", null, null],
            ["/never-all", "cancelled", null, 200],
            // The response had said what the outcome is.
            ["/never-all-of-404", "failed", null, 404],
            ["/never-reached", "cancelled", null, null],
            null,
        ])
    );
}

#[test]
fn bodies_are_recorded_up_to_a_limit_if_asked_for() {
    let trail = Trail::start();
    let settings = RequestSettings::new().response_body_bytes(8);
    let app = Router::new()
        .route("/", any(async |body: String| format!("{body}{body}")))
        .layer(tracing_audit::AuditRequestBodyLayer::new(6))
        .layer(AuditRequestLayer::axum().settings(settings));
    serve(&trail, app, |address| {
        let answer = ask_with_body(address, "POST /", &[], "Forty-2");
        assert!(answer.ends_with("Forty-2Forty-2"), "{answer}");
    });
    let metadata = &request(&trail)["metadata"];
    assert_eq!(metadata["http.request.body"], "Forty-");
    assert_eq!(metadata["http.request.body.size"], 7);
    assert_eq!(metadata["http.response.body"], "Forty-2F");
    assert_eq!(metadata["http.response.body.size"], 14);
}

#[test]
fn every_one_of_ten_thousand_aborted_requests_has_its_row() {
    const ABORTED: usize = 10_000;
    const THREADS: usize = 4;
    let trail = Trail::start();
    let audit = trail.audit.clone();
    let (app, begun) = counted();
    let seen = Arc::clone(&begun);
    serve(&trail, app, move |address| {
        let threads = (0..THREADS).map(|_| {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                let mut kinds = (0..4).cycle();
                while seen.load(Relaxed) < ABORTED {
                    match kinds.next() {
                        Some(0) => drop(send(address, "GET /never", &[])),
                        Some(1) => drop(send(address, "GET /never-reached", &[])),
                        Some(2) => drop(send(address, "GET /never-all", &[])),
                        _ => read_until(address, "/never-all", "two"),
                    }
                }
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().unwrap();
        }
        wait_until("the server notices", PATIENCE, || {
            audit.stats().accepted() == seen.load(Relaxed) as u64
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let begun = begun.load(Relaxed);
    assert!(begun >= ABORTED, "{begun}");
    let said = trail
        .postgres
        .psql("SELECT status, count(*) FROM audit.activities GROUP BY 1");
    assert_eq!(said.trim(), format!("cancelled|{begun}"));
    balanced(&trail.audit, &trail.postgres);
}

child_processes!(serves_until_killed);

fn serves_until_killed() {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let (begun, is_begun) = std::sync::mpsc::channel();
    let app = Router::new().route(
        "/slow",
        get(async move || {
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
        }),
    );
    super::serve_here(app.layer(AuditRequestLayer::axum()), move |address| {
        let _connection = send(address, "GET /slow", &[]);
        is_begun.recv().unwrap();
        // The request is stored by the time that a later record is committed.
        for _ in 0..3 {
            audit.record(Event::new("after")).unwrap();
            audit.flush_blocking(PATIENCE).unwrap();
        }
        say_ready_and_wait_to_be_killed()
    });
}

#[test]
fn request_of_a_killed_process_has_its_row() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = command(child!(serves_until_killed), &postgres, &spool);
    kill(start_until_ready(&mut child));
    // The next process writes what is in the log.
    let audit = pipeline(&postgres, &spool, |builder| builder);
    let row = || {
        postgres.psql(
            "SELECT concat_ws(' ', status, error_code, metadata->>'url.path') FROM audit.activities",
        )
    };
    wait_until("the row is there", PATIENCE, || !row().is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(row().trim(), "unknown process_lost /slow");
}
