//! The same in actix-web.

use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use actix_web::body::{BodySize, SizedStream};
use actix_web::error::{ErrorForbidden, ErrorImATeapot, ErrorUnauthorized};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Bytes};
use actix_web::{App, Error, HttpResponse, HttpServer};
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use testkit::trail::{PATIENCE, Trail, balanced};
use testkit::wait_until;
use tracing::info_span;
use tracing_audit::{AuditRequest, Identity, RequestSettings, TakeIds, context};
use tracing_subscriber::prelude::*;

use super::{ask, ask_with_body, header, read_until, requests, rows, send};

type Stream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Bytes, Infallible>>>>;

fn tokens() -> Stream {
    Box::pin(stream::iter(["Forty", "-", "two"]).map(|token| Ok(Bytes::from(token))))
}

fn never_all() -> Stream {
    Box::pin(tokens().chain(stream::pending()))
}

async fn order(number: web::Path<u32>) -> String {
    context().user("alice");
    info_span!("audit.query_run", sql_text = "SELECT 1", status = "ok").in_scope(|| ());
    number.to_string()
}

async fn short() -> HttpResponse {
    let parts = stream::iter([Ok::<_, Infallible>(Bytes::from("Forty"))]);
    let body = SizedStream::new(9, parts);
    assert_eq!(
        actix_web::body::MessageBody::size(&body),
        BodySize::Sized(9)
    );
    HttpResponse::Ok().body(body)
}

fn routes(config: &mut web::ServiceConfig) {
    let denied = async || Err::<String, Error>(ErrorForbidden("not yours"));
    let broken = async || {
        let parts = [Ok(Bytes::from("Forty")), Err(ErrorImATeapot("no more"))];
        HttpResponse::Ok().streaming(stream::iter(parts))
    };
    config
        .route("/orders/{number}", web::get().to(order))
        .route("/denied", web::get().to(denied))
        .route("/echo", web::post().to(async |body: String| body))
        .route(
            "/stream",
            web::get().to(async || HttpResponse::Ok().streaming(tokens())),
        )
        .route(
            "/never-all",
            web::get().to(async || HttpResponse::Ok().streaming(never_all())),
        )
        .route(
            "/never",
            web::get().to(async || std::future::pending::<HttpResponse>().await),
        )
        .route("/broken", web::get().to(broken))
        .route("/short", web::get().to(short));
}

/// Serves on this thread until `requests` has returned; counts the requests.
fn serve(
    trail: &Trail,
    audited: &AuditRequest,
    begun: &Arc<AtomicUsize>,
    requests: impl FnOnce(SocketAddr) + Send + 'static,
) {
    let subscriber = tracing_subscriber::registry().with(trail.audit.layer());
    let dispatch = tracing::Dispatch::new(subscriber);
    let (audited, begun) = (audited.clone(), Arc::clone(begun));
    actix_web::rt::System::new().block_on(async move {
        let app = move || {
            // A worker has a thread of its own.
            std::mem::forget(tracing::dispatcher::set_default(&dispatch));
            let begun = Arc::clone(&begun);
            App::new()
                .configure(routes)
                .wrap(from_fn(async |request, next| {
                    let request: actix_web::dev::ServiceRequest = request;
                    if request.path() == "/never-reached" {
                        return Err(ErrorUnauthorized("who are you?"));
                    }
                    let next: actix_web::middleware::Next<_> = next;
                    next.call(request).await
                }))
                .wrap(audited.clone())
                .wrap(from_fn(move |request, next| {
                    begun.fetch_add(1, Relaxed);
                    let next: actix_web::middleware::Next<_> = next;
                    next.call(request)
                }))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .h1_allow_half_closed(false)
            .disable_signals()
            .bind("127.0.0.1:0")
            .unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        let running = actix_web::rt::spawn(server);
        let done = actix_web::rt::task::spawn_blocking(move || requests(address));
        done.await.unwrap();
        handle.stop(true).await;
        running.await.unwrap().unwrap();
    });
}

fn said(rows: &[Value]) -> Value {
    let mut said: Vec<_> = rows
        .iter()
        .map(|row| {
            json!([
                row["metadata"]["url.path"],
                row["target_id"],
                row["status"],
                row["error_code"],
                row["error_message"]
            ])
        })
        .collect();
    said.sort_by_key(Value::to_string);
    said.into()
}

#[test]
fn request_to_actix_web_has_its_record() {
    let trail = Trail::start();
    let audited = AuditRequest::new()
        .request_body_bytes(3)
        .settings(
            RequestSettings::new()
                .take_ids(TakeIds::Always)
                .request_headers(["authorization", "accept"]),
        )
        .identify(|request| match request.headers().get("x-tenant") {
            Some(tenant) => Identity::new().tenant(tenant.to_str().unwrap()),
            None => Identity::new(),
        });
    let begun = Arc::default();
    serve(&trail, &audited, &begun, |address| {
        let headers = [
            ("x-request-id", "r-1"),
            ("x-tenant", "acme"),
            ("authorization", "hunter2"),
            ("accept", "text/plain"),
        ];
        let answer = ask(address, "GET /orders/7?page=2", &headers);
        assert!(answer.ends_with("\r\n\r\n7"), "{answer}");
        assert_eq!(header(&answer, "x-request-id"), Some("r-1"));
        assert!(ask(address, "GET /denied", &[]).starts_with("HTTP/1.1 403"));
        assert!(ask(address, "GET /never-reached", &[]).starts_with("HTTP/1.1 401"));
        assert!(ask(address, "GET /nowhere", &[]).starts_with("HTTP/1.1 404"));
        assert!(ask_with_body(address, "POST /echo", &[], "Forty-two").ends_with("Forty-two"));
        assert!(ask(address, "GET /stream", &[]).contains("two"));
        ask(address, "GET /broken", &[]);
        ask(address, "GET /short", &[]);
    });
    let rows_of_requests = requests(&trail);
    assert_eq!(
        said(&rows_of_requests),
        json!([
            ["/broken", "/broken", "failed", null, "no more"],
            ["/denied", "/denied", "rejected", "403", "not yours"],
            ["/echo", "/echo", "succeeded", null, null],
            ["/never-reached", null, "rejected", "401", "who are you?"],
            ["/nowhere", null, "failed", "404", null],
            ["/orders/7", "/orders/{number}", "succeeded", null, null],
            [
                "/short",
                "/short",
                "failed",
                null,
                "the body ended after 5 of 9 bytes"
            ],
            ["/stream", "/stream", "succeeded", null, null],
        ])
    );
    let first = &rows_of_requests[0];
    let query = &rows(&trail, "query_runs")[0];
    assert_eq!(query["parent_id"], first["id"]);
    for row in [first, query] {
        assert_eq!(row["request_id"], "r-1");
        assert_eq!(row["user_id"], "alice");
        assert_eq!(row["metadata"]["tenant_key"], "acme");
    }
    assert_eq!(
        first["metadata"],
        json!({
            "tenant_key": "acme",
            "http.request.method": "GET",
            "http.request.header.authorization": "REDACTED",
            "http.request.header.accept": "text/plain",
            "url.path": "/orders/7",
            "url.query": "page=REDACTED",
            "http.route": "/orders/{number}",
            "http.response.status_code": 200,
            "client.address": "127.0.0.1",
        })
    );
    let echo = rows_of_requests
        .iter()
        .find(|row| row["target_id"] == "/echo")
        .unwrap();
    assert_eq!(echo["metadata"]["http.request.body"], "For");
    assert_eq!(echo["metadata"]["http.request.body.size"], 9);
    let denials = rows(&trail, "events");
    assert_eq!(denials.len(), 2, "{denials:#?}");
    for denial in denials {
        assert_eq!(denial["action_type"], "security");
        assert_eq!(denial["status"], "rejected");
    }
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn aborted_request_to_actix_web_is_cancelled() {
    const ABORTED: usize = 1_000;
    let trail = Trail::start();
    let begun = Arc::new(AtomicUsize::new(0));
    let (audit, seen) = (trail.audit.clone(), Arc::clone(&begun));
    serve(&trail, &AuditRequest::new(), &begun, move |address| {
        let threads = (0..4).map(|_| {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                let mut kinds = (0..3).cycle();
                while seen.load(Relaxed) < ABORTED {
                    match kinds.next() {
                        Some(0) => drop(send(address, "GET /never", &[])),
                        Some(1) => read_until(address, "/never-all", "two"),
                        _ => {
                            let mut connection = send(address, "GET /never-all", &[]);
                            connection.read_exact(&mut [0]).unwrap();
                        }
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
}
