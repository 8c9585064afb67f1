//! HTTP requests that a server answers.

use tracing::Metadata;

use super::{Becomes, plan_by};
use crate::capture::callsite::{Adopted, Plan};
use crate::capture::translate::{Given, Translation};
use crate::config::adopt::AdoptHttp;
use crate::vocabulary::{Field, Kind, Outcome};

/// The attribute that tells a server's span from a client's.
pub(super) const SPAN_KIND: &str = "otel.kind";

/// Where tower-http makes the spans of its `TraceLayer`.
const TOWER_SPAN: &str = "tower_http::trace::make_span";

/// The target of its events when a response begins, and when a request fails.
const TOWER_EVENTS: [&str; 2] = [
    "tower_http::trace::on_response",
    "tower_http::trace::on_failure",
];

/// Returns whether the callsite makes the spans of requests.
pub(super) fn is_request(metadata: &Metadata<'_>, settings: &AdoptHttp) -> bool {
    let declares = |name| metadata.fields().field(name).is_some();
    metadata.target() == TOWER_SPAN
        || declares("http.request.method")
        || declares("http.method")
        || settings.names.contains(&metadata.name())
}

/// Returns whether the event reports how a request was answered.
pub(super) fn is_report(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && TOWER_EVENTS.contains(&metadata.target())
}

pub(super) fn plan(metadata: &Metadata<'_>) -> Plan {
    let said = [(Field::ActionType, "http_request")];
    plan_by(
        &[REQUEST, EVERY],
        metadata,
        Adopted::Http,
        Kind::Event,
        &said,
    )
}

pub(super) fn plan_of_report(metadata: &Metadata<'_>) -> Plan {
    plan_by(&[REPORT], metadata, Adopted::Http, Kind::Event, &[])
}

/// The attributes of a request, by the conventions' names and by the usual ones.
const REQUEST: &[(&str, Becomes)] = &[
    ("http.request.method", Becomes::Named("http.request.method")),
    ("http.method", Becomes::Named("http.request.method")),
    ("method", Becomes::Named("http.request.method")),
    ("http.route", Becomes::Made(route)),
    ("matched_path", Becomes::Made(route)),
    ("route", Becomes::Made(route)),
    ("url.path", Becomes::Made(path)),
    ("path", Becomes::Made(path)),
    ("uri", Becomes::Made(path)),
    ("url.full", Becomes::Made(path)),
    ("http.target", Becomes::Made(path)),
    ("http.url", Becomes::Made(path)),
    ("url.query", Becomes::Nothing),
    ("headers", Becomes::Nothing),
    ("http.response.status_code", Becomes::Made(status)),
    ("http.status_code", Becomes::Made(status)),
    ("status", Becomes::Made(status)),
    ("user_agent.original", Becomes::Named("user_agent.original")),
    ("http.user_agent", Becomes::Named("user_agent.original")),
    ("client.address", Becomes::Named("client.address")),
    ("http.client.address", Becomes::Named("client.address")),
    ("http.client_ip", Becomes::Named("client.address")),
];

const EVERY: &[(&str, Becomes)] = &[
    ("error.type", Becomes::Made(super::error_type)),
    ("exception.message", Becomes::Field(Field::SeenError)),
    ("otel.status_code", Becomes::Made(super::otel_status)),
    ("otel.kind", Becomes::Nothing),
    ("otel.name", Becomes::Nothing),
    ("span.type", Becomes::Nothing),
    ("trace_id", Becomes::Nothing),
];

/// What tower-http reports.
const REPORT: &[(&str, Becomes)] = &[
    ("status", Becomes::Made(status)),
    ("classification", Becomes::Made(failure)),
    ("latency", Becomes::Nothing),
    ("response_headers", Becomes::Nothing),
    ("message", Becomes::Nothing),
];

#[cfg(test)]
pub(super) const TABLES: &[&[(&str, Becomes)]] = &[REQUEST, EVERY, REPORT];

/// The route, such as `/orders/{id}`, is what is asked for; the path may hold secrets.
fn route(value: Given<'_>, out: &mut Translation<'_>) {
    let Given::Text(text) = value else { return };
    // As `?` writes an `Option`.
    let text = text
        .strip_prefix("Some(\"")
        .and_then(|text| text.strip_suffix("\")"))
        .unwrap_or(text);
    if text != "None" {
        out.extra("http.route", Given::Text(text));
        out.text(Field::TargetType, "http.route");
        out.text(Field::TargetId, text);
    }
}

/// Keeps the path of a URI: its query may hold secrets.
fn path(value: Given<'_>, out: &mut Translation<'_>) {
    let Given::Text(uri) = value else { return };
    let rest = match uri.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => uri,
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    out.extra("url.path", Given::Text(&rest[..end]));
}

/// The outcome that a status stands for; below 100 it is one of gRPC.
fn status(value: Given<'_>, out: &mut Translation<'_>) {
    let code = match value {
        Given::Int(code) => code,
        Given::Text(text) => {
            let digits = text.trim_start_matches("Some(");
            let end = digits
                .find(|char: char| !char.is_ascii_digit())
                .unwrap_or(digits.len());
            let Ok(code) = digits[..end].parse() else {
                return;
            };
            code
        }
        _ => return,
    };
    let (name, outcome) = match (u32::try_from(code), u16::try_from(code)) {
        (Ok(grpc @ 0..100), _) => ("rpc.grpc.status_code", Outcome::of_grpc(grpc)),
        (_, Ok(http)) => ("http.response.status_code", Outcome::of_http(http)),
        _ => return,
    };
    out.extra(name, Given::Int(code));
    out.text(Field::Status, outcome.status.as_str());
    if let Some(code) = &outcome.error_code {
        out.text(Field::ErrorCode, code);
    }
}

/// The class of a failure: a status that the response has, or the error of a service.
fn failure(value: Given<'_>, out: &mut Translation<'_>) {
    let Given::Text(text) = value else { return };
    out.text(Field::Status, "failed");
    if !text.starts_with("Status code: ") && !text.starts_with("Code: ") {
        out.text(Field::SeenError, text);
    }
}
