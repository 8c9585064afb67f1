//! What a request's headers say of its id, its trace and its client, and of whom that is believed.

use axum::Router;
use axum::http::HeaderName;
use axum::routing::get;
use serde_json::{Value, json};
use testkit::trail::Trail;
use tracing_audit::{AuditRequestLayer, RequestSettings, TakeIds};

use super::{ask, header, requests, serve};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn app(settings: RequestSettings) -> Router {
    Router::new()
        .route("/", get(async || "x"))
        .layer(AuditRequestLayer::axum().settings(settings))
}

/// Asks with an id and a trace, and returns the row.
fn row_with_ids(settings: RequestSettings) -> Value {
    let trail = Trail::start();
    serve(&trail, app(settings), |address| {
        let headers = [("x-request-id", "order-7"), ("traceparent", TRACEPARENT)];
        ask(address, "GET /", &headers);
    });
    super::request(&trail)
}

#[test]
fn ids_are_taken_from_proxies_or_everyone_as_the_settings_say() {
    let through_proxy = RequestSettings::new()
        .trusted_proxies(["127.0.0.0/8"])
        .unwrap();
    for settings in [
        through_proxy.clone().take_ids(TakeIds::FromProxies),
        RequestSettings::new().take_ids(TakeIds::Always),
    ] {
        let row = row_with_ids(settings);
        assert_eq!(row["request_id"], "order-7");
        assert_eq!(row["trace_id"], TRACE);
    }
    for settings in [
        RequestSettings::new(),
        RequestSettings::new()
            .trusted_proxies(["10.0.0.0/8"])
            .unwrap()
            .take_ids(TakeIds::FromProxies),
        through_proxy,
    ] {
        let row = row_with_ids(settings);
        assert_ne!(row["request_id"], "order-7");
        assert_ne!(row["trace_id"], TRACE);
    }
}

#[test]
fn id_that_is_long_or_not_plain_text_is_not_taken_and_the_answer_has_the_id_of_the_row() {
    let trail = Trail::start();
    let settings = RequestSettings::new().take_ids(TakeIds::Always);
    serve(&trail, app(settings), |address| {
        let longest = "x".repeat(128);
        let answer = ask(address, "GET /", &[("x-request-id", &longest)]);
        assert_eq!(header(&answer, "x-request-id"), Some(&*longest));
        let long = "x".repeat(129);
        for bad in ["", " ", "a b", "ä", &long] {
            let headers = [("x-request-id", bad), ("traceparent", "00-1-2-3")];
            let answer = ask(address, "GET /", &headers);
            let id = header(&answer, "x-request-id").unwrap();
            assert_eq!(id.len(), 36, "{id}");
        }
    });
    let rows = requests(&trail);
    assert_eq!(rows.len(), 6);
    for row in &rows[1..] {
        let id = row["request_id"].as_str().unwrap();
        assert_eq!(row["trace_id"], id.replace('-', ""), "{row}");
    }
}

#[test]
fn id_is_in_the_header_of_the_hosts_choice() {
    let trail = Trail::start();
    let name = HeaderName::from_static("x-correlation-id");
    let layer = AuditRequestLayer::new()
        .request_id_header(name)
        .settings(RequestSettings::new().take_ids(TakeIds::Always));
    let app = Router::new().route("/", get(async || "x")).layer(layer);
    serve(&trail, app, |address| {
        let headers = [("x-correlation-id", "c-1"), ("x-request-id", "r-1")];
        let answer = ask(address, "GET /", &headers);
        assert_eq!(header(&answer, "x-correlation-id"), Some("c-1"));
        assert_eq!(header(&answer, "x-request-id"), None);
    });
    assert_eq!(super::request(&trail)["request_id"], "c-1");
}

#[test]
fn client_is_who_called_the_trusted_proxies() {
    let settings = [
        (RequestSettings::new(), json!("127.0.0.1"), json!(null)),
        (
            RequestSettings::new()
                .trusted_proxies(["10.0.0.0/8"])
                .unwrap(),
            json!("127.0.0.1"),
            json!(null),
        ),
        (
            RequestSettings::new()
                .trusted_proxies(["127.0.0.1", "10.0.0.0/8"])
                .unwrap(),
            json!("203.0.113.7"),
            json!("127.0.0.1"),
        ),
    ];
    for (settings, client, proxy) in settings {
        let trail = Trail::start();
        serve(&trail, app(settings), |address| {
            let forwarded = "198.51.100.1, 203.0.113.7, 10.1.1.1";
            ask(address, "GET /", &[("x-forwarded-for", forwarded)]);
        });
        let metadata = &super::request(&trail)["metadata"];
        assert_eq!(metadata["client.address"], client);
        assert_eq!(metadata["network.peer.address"], proxy);
    }
}
