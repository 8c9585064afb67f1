//! HTTP requests, by the names that the request layers use.

use super::definition::{self, family};
use crate::vocabulary::Outcome;

family! {
    /// An HTTP request, with `action_type` `http_request`; goes to `audit.activities`.
    ///
    /// For a service that no request layer covers: the layers of the features `axum`, `tower` and
    /// `actix-web` record requests themselves, under the same names.
    ///
    /// This builder keeps values as they are, so leave secrets out. The layers redact headers and
    /// query parameters that usually hold secrets.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tracing_audit::HttpRequest;
    ///
    /// let request = HttpRequest::new("GET", "/orders/7")
    ///     .route("/orders/{id}")
    ///     .status_code(200)
    ///     .client_address("198.51.100.7")
    ///     .request_header("accept", "application/json")
    ///     .latency(Duration::from_millis(12));
    /// ```
    HttpRequest, "http_request";
    /// Sets the method.
    method = text("http.request.method");
    /// Sets the path.
    path = text("url.path");
    /// Sets the query, without the question mark.
    pub query = text("url.query");
    pub route = by_hand("http.route", "text");
    pub status_code = by_hand("http.response.status_code", "integer");
    /// Sets the client's program, the header `user-agent`.
    pub user_agent = text("user_agent.original");
    /// Sets the client's address.
    pub client_address = text("client.address");
    /// Sets the address of the connection's other end, if that is a proxy.
    pub peer_address = text("network.peer.address");
    pub request_header = by_hand("http.request.header.NAME", "text");
    pub response_header = by_hand("http.response.header.NAME", "text");
    pub request_body = by_hand("http.request.body, http.request.body.size", "text, integer");
    pub response_body = by_hand("http.response.body, http.response.body.size", "text, integer");
    /// Sets the execution of an agent that it belongs to, by its id.
    pub execution_id = text("execution_id");
}

impl HttpRequest {
    /// Makes a record of a request with this method and this path. The path is without the query.
    pub fn new(method: impl Into<String>, path: impl Into<String>) -> Self {
        Self::event().method(method).path(path)
    }

    /// Sets the route, such as `/orders/{id}`; it is the target as well.
    pub fn route(mut self, route: impl Into<String>) -> Self {
        const ROUTE: &str = "http.route";
        let route = route.into();
        self.0.target(ROUTE, route.clone());
        self.0.extra(ROUTE, route);
        self
    }

    /// Sets the status code of the response.
    ///
    /// Unless they are set, the status follows from it: 100 to 399 `succeeded`; 401, 403, 407 and
    /// 451 `rejected`; others `failed`. The error code is the number unless it succeeded.
    pub fn status_code(mut self, code: u16) -> Self {
        self.0.extra("http.response.status_code", code);
        self.0.outcome(Outcome::of_http(code));
        self
    }

    /// Sets a header of the request.
    pub fn request_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.header("http.request.header.", name, value.into());
        self
    }

    /// Sets a header of the response.
    pub fn response_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.header("http.response.header.", name, value.into());
        self
    }

    /// Sets the body of the request, cut to [`SUMMARY_CHARS`](crate::SUMMARY_CHARS). Its length in
    /// bytes is `http.request.body.size`.
    pub fn request_body(mut self, body: impl Into<String>) -> Self {
        self.body("http.request.body", body.into());
        self
    }

    /// Sets the body of the response, cut to [`SUMMARY_CHARS`](crate::SUMMARY_CHARS). Its length in
    /// bytes is `http.response.body.size`.
    pub fn response_body(mut self, body: impl Into<String>) -> Self {
        self.body("http.response.body", body.into());
        self
    }

    fn header(&mut self, prefix: &str, name: &str, value: String) {
        let name = name.to_ascii_lowercase();
        self.0.extra(format!("{prefix}{name}"), value);
    }

    fn body(&mut self, name: &str, body: String) {
        self.0.extra(format!("{name}.size"), body.len());
        self.0.extra(name, definition::summary(body));
    }
}
