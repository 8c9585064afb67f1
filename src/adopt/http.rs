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

/// The target of its events when a response begins, when its body has ended, and when a request
/// fails.
const TOWER_EVENTS: [&str; 3] = [
    "tower_http::trace::on_response",
    "tower_http::trace::on_eos",
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
    ("http.uri", Becomes::Made(path)),
    ("url", Becomes::Made(path)),
    ("full_path", Becomes::Made(path)),
    ("url.query", Becomes::Nothing),
    ("http.query", Becomes::Nothing),
    ("query", Becomes::Nothing),
    ("headers", Becomes::Nothing),
    ("request_headers", Becomes::Nothing),
    ("cookies", Becomes::Nothing),
    ("exception.details", Becomes::Nothing),
    ("http.response.status_code", Becomes::Made(http_status)),
    ("http.status_code", Becomes::Made(http_status)),
    ("status", Becomes::Made(http_status)),
    ("user_agent.original", Becomes::Named("user_agent.original")),
    ("http.user_agent", Becomes::Named("user_agent.original")),
    ("client.address", Becomes::Named("client.address")),
    ("http.client.address", Becomes::Named("client.address")),
    ("http.client_ip", Becomes::Named("client.address")),
];

const EVERY: &[(&str, Becomes)] = &[
    ("error.type", Becomes::Made(super::error_type)),
    ("exception.message", Becomes::Field(Field::SeenError)),
    ("otel.status_code", Becomes::Made(otel_status)),
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
    ("stream_duration", Becomes::Nothing),
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
    let uri = &uri[..uri.find(['?', '#']).unwrap_or(uri.len())];
    let path = match uri.split_once("://") {
        // Of a URL with its authority.
        Some((_, rest)) if !uri.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => uri,
    };
    out.extra("url.path", Given::Text(path));
}

/// Libraries call a request OK that was refused: it is the client's fault. So only a failure counts.
fn otel_status(value: Given<'_>, out: &mut Translation<'_>) {
    if matches!(value, Given::Text(word) if word.eq_ignore_ascii_case("error")) {
        super::otel_status(value, out);
    }
}

/// The outcome that an HTTP status stands for; a placeholder is none.
fn http_status(value: Given<'_>, out: &mut Translation<'_>) {
    if number(value).is_some_and(|code| (100..1_000).contains(&code)) {
        status(value, out);
    }
}

fn number(value: Given<'_>) -> Option<i64> {
    match value {
        Given::Int(code) => Some(code),
        Given::Text(text) => {
            // As `?` writes a status or an `Option` of one.
            let text = text.strip_prefix("Some(").unwrap_or(text);
            let digits = text.split([' ', ')']).next()?;
            digits.parse().ok()
        }
        _ => None,
    }
}

/// The outcome that a status stands for; below 100 it is one of gRPC.
fn status(value: Given<'_>, out: &mut Translation<'_>) {
    let Some(code) = number(value) else { return };
    let (name, outcome) = match (u32::try_from(code), u16::try_from(code)) {
        (Ok(grpc @ 0..100), _) => ("rpc.grpc.status_code", Outcome::of_grpc(grpc)),
        (_, Ok(http)) => ("http.response.status_code", Outcome::of_http(http)),
        _ => return,
    };
    out.extra(name, Given::Int(code));
    say(&outcome, out);
}

fn say(outcome: &Outcome, out: &mut Translation<'_>) {
    out.text(Field::Status, outcome.status.as_str());
    if let Some(code) = &outcome.error_code {
        out.text(Field::ErrorCode, code);
    }
}

/// The class of a failure: the status of HTTP, which the response has as well, that of gRPC, or the
/// error of a service.
fn failure(value: Given<'_>, out: &mut Translation<'_>) {
    let Given::Text(text) = value else { return };
    if text.starts_with("Status code: ") {
        out.text(Field::Status, "failed");
    } else if let Some(code) = text.strip_prefix("Code: ") {
        // tower-http 0.6.
        status(Given::Text(code), out);
    } else if let Some(said) = text.strip_prefix("Status: ") {
        // 0.7: the name of the code, or `Code(99)`, and a message.
        let name = said.split([':', ' ']).next().unwrap_or_default();
        let code = name
            .strip_prefix("Code(")
            .and_then(|code| code.strip_suffix(')'));
        match code.and_then(|code| code.parse().ok()) {
            Some(code) => say(&Outcome::of_grpc(code), out),
            None => say(&Outcome::of_grpc_name(name), out),
        }
    } else {
        out.text(Field::Status, "failed");
        out.text(Field::SeenError, text);
    }
}
