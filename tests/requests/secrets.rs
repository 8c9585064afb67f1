//! What is never recorded.

use axum::Router;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{AppendHeaders, IntoResponse as _};
use axum::routing::get;
use serde_json::json;
use testkit::trail::{PATIENCE, Trail, record_tables};
use tracing_audit::{AuditRequestLayer, RequestSettings};

use super::{ask, request, serve};

const SECRET: &str = "hunter2";

#[test]
fn secret_is_in_no_column_even_if_its_header_is_listed() {
    const SECRETS: [&str; 6] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "X-Auth-Token",
        "sec-websocket-key",
    ];
    let trail = Trail::start();
    let settings = RequestSettings::new()
        .request_headers(SECRETS.into_iter().chain(["accept", "x-list"]))
        .response_headers(["Set-Cookie", "content-type", "x-marked"])
        .query_parameters(["token", "page", "api_key"]);
    let answers = async || {
        let mut marked = HeaderValue::from_static(SECRET);
        marked.set_sensitive(true);
        let cookies = AppendHeaders([
            ("set-cookie", "session=hunter2"),
            ("set-cookie", "b=hunter2"),
        ]);
        let mut response = (StatusCode::FORBIDDEN, cookies, "no").into_response();
        response.headers_mut().insert("x-marked", marked);
        response
    };
    let app = Router::new()
        .route("/", get(answers))
        .layer(AuditRequestLayer::axum().settings(settings));
    serve(&trail, app, |address| {
        let mut headers: Vec<_> = SECRETS.iter().map(|name| (*name, SECRET)).collect();
        headers.extend([("accept", "text/plain"), ("x-list", "a"), ("x-list", "b")]);
        let query = "GET /?page=2&token=hunter2&api_key=hunter2&name=hunter2&hunter2";
        let answer = ask(address, query, &headers);
        assert!(answer.contains("session=hunter2"), "{answer}");
    });
    let row = request(&trail);
    let metadata = &row["metadata"];
    assert_eq!(
        metadata["url.query"],
        "page=2&token=REDACTED&api_key=REDACTED&name=REDACTED&REDACTED"
    );
    for name in SECRETS {
        let key = format!("http.request.header.{}", name.to_lowercase());
        assert_eq!(metadata[&key], "REDACTED", "{name}");
    }
    assert_eq!(metadata["http.request.header.accept"], "text/plain");
    assert_eq!(metadata["http.request.header.x-list"], "a, b");
    assert_eq!(metadata["http.response.header.set-cookie"], "REDACTED");
    assert_eq!(metadata["http.response.header.x-marked"], "REDACTED");
    assert_eq!(
        metadata["http.response.header.content-type"],
        "text/plain; charset=utf-8"
    );
    for table in record_tables(&trail.postgres) {
        let rows = trail
            .postgres
            .psql(&format!("SELECT t FROM audit.{table} t"));
        assert!(!rows.contains(SECRET), "{table}: {rows}");
    }
}

#[test]
fn path_agent_and_address_are_left_out_if_switched_off() {
    let trail = Trail::start();
    let settings = RequestSettings::new()
        .path(false)
        .user_agent(false)
        .client_address(false);
    let app = Router::new()
        .route("/reset/{token}", get(async || StatusCode::FORBIDDEN))
        .layer(AuditRequestLayer::axum().settings(settings));
    serve(&trail, app, |address| {
        ask(address, "GET /reset/hunter2", &[("user-agent", "test")]);
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let expected = json!({"http.request.method": "GET", "http.route": "/reset/{token}"});
    let mut of_denial = expected.clone();
    of_denial["event"] = json!("access_denied");
    let rows = super::rows(&trail, "events");
    assert_eq!(rows[0]["metadata"], of_denial);
    let mut metadata = request(&trail)["metadata"].clone();
    metadata
        .as_object_mut()
        .unwrap()
        .remove("http.response.status_code");
    assert_eq!(metadata, expected);
}
