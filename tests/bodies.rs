//! The outcome of an answer that is sent part by part, as HTTP servers send it: through axum and
//! hyper, over a connection.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing::get};
use futures_util::stream::{self, Stream, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};
use testkit::trail::{PATIENCE, Trail};
use testkit::wait_until;
use tracing::instrument::WithSubscriber as _;
use tracing::{Span, field::Empty, info_span};
use tracing_audit::{AuditBodyExt, AuditFutureExt, AuditStreamExt, Kind};
use tracing_subscriber::prelude::*;

fn prompt(name: &'static str) -> Span {
    info_span!(
        "audit.prompt_run",
        model_name = name,
        output_token_count = Empty
    )
}

fn tokens() -> impl Stream<Item = Result<&'static str, Infallible>> + Send {
    // Like a model's answer: each part comes only when it is polled for.
    stream::iter(["Forty", "-", "two"]).map(|token| {
        Span::current().record("output_token_count", 1);
        Ok(token)
    })
}

fn never_all() -> impl Stream<Item = Result<&'static str, Infallible>> + Send {
    tokens().chain(stream::pending())
}

fn fails() -> impl Stream<Item = Result<&'static str, String>> + Send {
    stream::iter([Ok("Forty"), Err("the model is gone".to_owned())])
}

fn audited(body: Body, name: &'static str) -> Response {
    Response::new(Body::new(AuditBodyExt::audited(body, prompt(name))))
}

fn routes() -> Router {
    Router::new()
        .route(
            "/all",
            get(async || audited(Body::from_stream(tokens()), "/all")),
        )
        .route(
            "/stream",
            get(async || {
                Response::new(Body::from_stream(AuditStreamExt::audited(
                    tokens(),
                    prompt("/stream"),
                )))
            }),
        )
        .route(
            "/never-all",
            get(async || audited(Body::from_stream(never_all()), "/never-all")),
        )
        .route(
            "/stream-never-all",
            get(async || {
                let tokens = AuditStreamExt::audited(never_all(), prompt("/stream-never-all"));
                Response::new(Body::from_stream(tokens))
            }),
        )
        .route(
            "/fails",
            get(async || audited(Body::from_stream(fails()), "/fails")),
        )
        .route("/empty", get(async || audited(Body::empty(), "/empty")))
        .route(
            "/full",
            get(async || audited(Body::from("Forty-two"), "/full")),
        )
        .route(
            "/not-modified",
            get(async || {
                let mut response = audited(Body::empty(), "/not-modified");
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }),
        )
        .route(
            "/short",
            get(async || {
                let body = Body::from_stream(stream::iter([Ok::<_, Infallible>("Forty")]));
                let body = AuditBodyExt::audited(body, prompt("/short")).with_length(9);
                ([(header::CONTENT_LENGTH, 9)], Body::new(body)).into_response()
            }),
        )
        .route(
            "/head-and-body",
            get(async || {
                let head = async {
                    let body =
                        AuditBodyExt::audited(Body::from_stream(never_all()), Span::current());
                    Ok::<_, Infallible>(Response::new(Body::new(body)))
                };
                let head = AuditFutureExt::audited(head, prompt("/head-and-body"));
                head.await.unwrap()
            }),
        )
        .route(
            "/length",
            get(async || {
                let body = Body::from_stream(never_all());
                let body = AuditBodyExt::audited(body, prompt("/length")).with_length(9);
                ([(header::CONTENT_LENGTH, 9)], Body::new(body)).into_response()
            }),
        )
}

/// Serves until `requests` has returned.
fn serve(trail: &Trail, requests: impl FnOnce(SocketAddr) + Send + 'static) {
    let subscriber = tracing_subscriber::registry().with(trail.audit.layer());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let served = async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = tokio::task::spawn_blocking(move || requests(address));
        let stop = async { requests.await.unwrap() };
        axum::serve(listener, routes())
            .with_graceful_shutdown(stop)
            .await
            .unwrap();
    };
    // The connections are tasks of their own, on this thread.
    let _default = tracing::subscriber::set_default(subscriber);
    runtime.block_on(served.with_current_subscriber());
}

fn ask(address: SocketAddr, method: &str, path: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    connection
}

/// Returns the whole answer.
fn answer(address: SocketAddr, method: &str, path: &str) -> String {
    let mut answer = Vec::new();
    // A failed answer has no proper end.
    let _ = ask(address, method, path).read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Disconnects after a part of the answer.
fn go_away(address: SocketAddr, path: &str) {
    let mut connection = ask(address, "GET", path);
    let mut answer = String::new();
    while !answer.contains("two") {
        let mut part = [0; 1_000];
        let len = connection.read(&mut part).unwrap();
        assert!(len > 0, "{answer}");
        answer += std::str::from_utf8(&part[..len]).unwrap();
    }
}

fn outcomes(trail: &Trail) -> Value {
    let mut outcomes: Vec<_> = trail
        .rows(Kind::PromptRun)
        .iter()
        .map(|row| json!([row["model_name"], row["status"], row["error_message"]]))
        .collect();
    outcomes.sort_by_key(Value::to_string);
    outcomes.into()
}

#[test]
fn response_read_to_its_end_succeeds_and_response_with_an_error_fails() {
    let trail = Trail::start();
    serve(&trail, |address| {
        for path in ["/all", "/stream", "/full"] {
            let answer = answer(address, "GET", path);
            assert!(answer.contains("two"), "{answer}");
        }
        assert!(answer(address, "GET", "/length").ends_with("Forty-two"));
        assert!(answer(address, "GET", "/empty").ends_with("\r\n\r\n"));
        assert!(answer(address, "GET", "/not-modified").contains("304"));
        assert!(answer(address, "GET", "/fails").contains("Forty"));
    });
    assert_eq!(
        outcomes(&trail),
        json!([
            ["/all", "succeeded", null],
            ["/empty", "succeeded", null],
            ["/fails", "failed", "the model is gone"],
            ["/full", "succeeded", null],
            ["/length", "succeeded", null],
            ["/not-modified", "succeeded", null],
            ["/stream", "succeeded", null],
        ])
    );
}

#[test]
fn response_is_cancelled_when_its_client_disconnects() {
    let trail = Trail::start();
    let audit = trail.audit.clone();
    serve(&trail, move |address| {
        go_away(address, "/never-all");
        go_away(address, "/stream-never-all");
        go_away(address, "/head-and-body");
        wait_until("the server notices", PATIENCE, || {
            audit.stats().accepted() == 3
        });
    });
    assert_eq!(
        outcomes(&trail),
        json!([
            ["/head-and-body", "cancelled", null],
            ["/never-all", "cancelled", null],
            ["/stream-never-all", "cancelled", null],
        ])
    );
}

#[test]
fn body_that_ends_before_its_length_fails() {
    let trail = Trail::start();
    let audit = trail.audit.clone();
    serve(&trail, move |address| {
        let mut connection = ask(address, "GET", "/short");
        let _ = connection.read_to_end(&mut Vec::new());
        wait_until("the server notices", PATIENCE, || {
            audit.stats().accepted() == 1
        });
    });
    trail.scoped(|| {
        let body = |name, parts: &'static [&'static str], length| {
            let parts = stream::iter(parts.iter().copied()).map(Ok::<_, Infallible>);
            let body = AuditBodyExt::audited(Body::from_stream(parts), prompt(name));
            let mut body = pin!(body.with_length(length));
            let mut context = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(_)) =
                http_body::Body::poll_frame(body.as_mut(), &mut context)
            {}
        };
        body("at once", &[], 9);
        body("enough", &["Forty", "-two"], 9);
        body("more", &["Forty", "-two", "…"], 9);
        let empty = AuditBodyExt::audited(Body::empty(), prompt("never polled"));
        drop(empty.with_length(9));
    });
    assert_eq!(
        outcomes(&trail),
        json!([
            ["/short", "failed", "the body ended after 5 of 9 bytes"],
            ["at once", "failed", "the body ended after 0 of 9 bytes"],
            ["enough", "succeeded", null],
            ["more", "succeeded", null],
            ["never polled", "unknown", null],
        ])
    );
}

#[test]
fn body_that_is_never_polled_has_an_unknown_status() {
    let trail = Trail::start();
    trail.scoped(|| {
        let span = prompt("unasked");
        span.record("output_token_count", 3);
        drop(AuditBodyExt::audited(Body::from("Forty-two"), span));
    });
    assert_eq!(outcomes(&trail), json!([["unasked", "unknown", null]]));
}

#[test]
fn head_response_has_an_unknown_status_unless_its_body_is_empty() {
    let trail = Trail::start();
    serve(&trail, |address| {
        for path in ["/never-all", "/full", "/empty"] {
            assert!(answer(address, "HEAD", path).contains("200 OK"));
        }
    });
    assert_eq!(
        outcomes(&trail),
        json!([
            ["/empty", "succeeded", null],
            ["/full", "unknown", null],
            ["/never-all", "unknown", null],
        ])
    );
}

#[test]
fn audited_body_forwards_size_hint_frames_and_trailers() {
    let trail = Trail::start();
    trail.scoped(|| {
        let full = Full::new(Bytes::from("abc")).audited(prompt("full"));
        assert_eq!(http_body::Body::size_hint(&full).exact(), Some(3));
        assert!(!http_body::Body::is_end_stream(&full));
        let mut cx = Context::from_waker(Waker::noop());
        let mut full = Box::pin(full);
        let frame = http_body::Body::poll_frame(full.as_mut(), &mut cx);
        let Poll::Ready(Some(Ok(frame))) = frame else {
            panic!("{frame:?}")
        };
        assert_eq!(frame.into_data().unwrap(), "abc");
        // Its record is complete although the body still exists.
        assert_eq!(outcomes(&trail), json!([["full", "succeeded", null]]));
        assert!(http_body::Body::is_end_stream(&*full));
        assert_eq!(http_body::Body::size_hint(&*full).exact(), Some(0));
        assert!(matches!(
            http_body::Body::poll_frame(full.as_mut(), &mut cx),
            Poll::Ready(None)
        ));
        let trailers = HeaderMap::from_iter([(header::ETAG, "x".parse().unwrap())]);
        let frames = [
            Ok::<_, Infallible>(Frame::data(Bytes::from("abc"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let body = AuditBodyExt::audited(StreamBody::new(stream::iter(frames)), prompt("trailers"));
        let mut collected = pin!(body.collect());
        let Poll::Ready(Ok(collected)) = collected.as_mut().poll(&mut cx) else {
            panic!("all of it is there")
        };
        assert_eq!(collected.trailers(), Some(&trailers));
        // Reaching the length is no success if what follows fails.
        let frames = [Ok(Frame::data(Bytes::from("abc"))), Err("trailers")];
        let body = AuditBodyExt::audited(StreamBody::new(stream::iter(frames)), prompt("z fails"));
        let mut collected = pin!(body.with_length(3).collect());
        assert!(matches!(
            collected.as_mut().poll(&mut cx),
            Poll::Ready(Err(_))
        ));
    });
    assert_eq!(
        outcomes(&trail),
        json!([
            ["full", "succeeded", null],
            ["trailers", "succeeded", null],
            ["z fails", "failed", "trailers"],
        ])
    );
}
