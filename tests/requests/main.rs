//! Requests to real servers, by real clients over loopback, and the rows that they leave.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod actix;
mod ends;
mod grpc;
mod outcomes;
mod secrets;
mod strangers;
mod subscribers;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use axum::Router;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use serde_json::Value;
use testkit::trail::{PATIENCE, Trail};
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::prelude::*;

/// Serves on a thread of the trail's subscriber until `requests` has returned.
fn serve(trail: &Trail, app: Router, requests: impl FnOnce(SocketAddr) + Send + 'static) {
    let subscriber = tracing_subscriber::registry().with(trail.audit.layer());
    let _default = tracing::subscriber::set_default(subscriber);
    serve_here(app, requests);
}

/// Serves on this thread.
fn serve_here(app: Router, requests: impl FnOnce(SocketAddr) + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let app: IntoMakeServiceWithConnectInfo<Router, SocketAddr> =
        app.into_make_service_with_connect_info();
    let served = async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = tokio::task::spawn_blocking(move || requests(address));
        let stop = async { requests.await.unwrap() };
        axum::serve(listener, app)
            .with_graceful_shutdown(stop)
            .await
            .unwrap();
    };
    runtime.block_on(served.with_current_subscriber());
}

/// Sends a request, and keeps the connection.
fn send(address: SocketAddr, request: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let text = format!("{request} HTTP/1.1\r\nhost: x\r\n{}", headers.concat());
    connection
        .write_all(format!("{text}\r\n").as_bytes())
        .unwrap();
    connection
}

/// Returns the whole answer, or what there is of it.
fn ask(address: SocketAddr, request: &str, headers: &[(&str, &str)]) -> String {
    ask_with_body(address, request, headers, "")
}

fn ask_with_body(
    address: SocketAddr,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let length = body.len().to_string();
    let headers = [
        headers,
        &[("connection", "close"), ("content-length", &length)],
    ];
    let mut connection = send(address, request, &headers.concat());
    connection.write_all(body.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Reads until a text has come.
fn read_until(address: SocketAddr, path: &str, end: &str) {
    let mut connection = send(address, &format!("GET {path}"), &[]);
    let mut answer = String::new();
    while !answer.contains(end) {
        let mut part = [0; 1_000];
        let len = connection.read(&mut part).unwrap();
        assert!(len > 0, "{answer}");
        answer += std::str::from_utf8(&part[..len]).unwrap();
    }
}

/// Returns the value of an answer's header.
fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Flushes, and returns the rows of a table by their id, which is by their beginning.
fn rows(trail: &Trail, table: &str) -> Vec<Value> {
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = trail.postgres.psql(&format!(
        "SELECT to_jsonb(t) FROM audit.{table} t ORDER BY id"
    ));
    rows.lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

/// Returns the rows of the requests.
fn requests(trail: &Trail) -> Vec<Value> {
    let rows = rows(trail, "activities");
    for row in &rows {
        assert_eq!(row["action_type"], "http_request", "{row}");
        assert_eq!(row["problems"], serde_json::json!([]), "{row}");
    }
    rows
}

/// Returns the only one.
fn request(trail: &Trail) -> Value {
    let mut rows = requests(trail);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    rows.remove(0)
}
