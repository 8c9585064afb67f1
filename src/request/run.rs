//! The run of one request, from its head to the end of the response's body.

use std::cell::OnceCell;
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::sync::Arc;

use tracing::Span;
use tracing::field::Empty;

use super::body::{Beginning, BodyEnd};
use super::identity::Identity;
use super::secret;
use super::seen::record_body;
use super::settings::{ChosenHeader, RequestSettings, TakeIds};
use crate::capture::AuditSpanExt as _;
use crate::capture::conclude::{Conclusion, conclude};
use crate::clock::Moment;
use crate::record::coerce;
use crate::record::encode::Evidence;
use crate::record::id;
use crate::vocabulary::{Outcome, Status};

/// The most bytes that are kept of a header's value, a path or a query.
const TEXT_BYTES: usize = 1024;

/// The most bytes of a request's id that is taken.
const ID_BYTES: usize = 128;

/// The headers of a request or a response.
pub(crate) trait Headers {
    /// Calls `see` with each value of a header, in the order in which they were sent, and with
    /// whether the program marked it as a secret.
    fn each<'a>(&'a self, name: &str, see: &mut dyn FnMut(&'a [u8], bool));
}

/// The head of a request.
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    /// Finds the route. Called only if a layer wants the request's span, as the next.
    pub(crate) route: &'a dyn Fn() -> Option<String>,
    /// Finds the address of the connection's other end.
    pub(crate) peer: &'a dyn Fn() -> Option<IpAddr>,
    /// The name of the header with the request's id.
    pub(crate) id_header: &'a str,
    pub(crate) headers: &'a dyn Headers,
}

/// What both records of a denied request say.
#[derive(Debug)]
struct Known {
    method: &'static str,
    path: Option<Box<str>>,
    route: Option<String>,
    client: Option<IpAddr>,
}

/// The run of one request. Dropped before it ended, it is cancelled.
pub(crate) struct RequestRun {
    span: Span,
    settings: Arc<RequestSettings>,
    id: String,
    known: Known,
    /// A gRPC call, whose outcome is in the trailers.
    is_grpc: bool,
    /// `None`: there is no response yet.
    outcome: Option<Outcome>,
    /// The outcome of a gRPC call is known.
    has_grpc_status: bool,
    body: Option<Beginning>,
    is_over: bool,
}

impl fmt::Debug for RequestRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestRun")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// What the head of a request says, computed only if a layer wants the span.
struct Begun<'a> {
    id: String,
    traceparent: Option<&'a str>,
    method: &'static str,
    method_original: Option<&'a str>,
    path: Option<&'a str>,
    query: Option<String>,
    route: Option<String>,
    user_agent: Option<&'a str>,
    client: Option<IpAddr>,
    /// The peer, if it is a proxy that called for the client.
    proxy: Option<IpAddr>,
}

impl<'a> Begun<'a> {
    fn new(settings: &RequestSettings, head: &'a Head<'_>) -> Self {
        let peer = (head.peer)();
        let is_by_proxy = peer.is_some_and(|peer| settings.proxies.are_trusted(peer));
        let takes_ids = match settings.take_ids {
            TakeIds::Never => false,
            TakeIds::FromProxies => is_by_proxy,
            TakeIds::Always => true,
        };
        let taken = |name| one(head.headers, name).filter(|_| takes_ids);
        let id = taken(head.id_header).filter(|id| is_id(id));
        let method = known_method(head.method);
        let route = (head.route)();
        let client = peer.filter(|_| settings.client_address).map(|peer| {
            let mut forwarded = Vec::new();
            if is_by_proxy {
                let mut see = |value, _| forwarded.push(value);
                head.headers.each("x-forwarded-for", &mut see);
            }
            settings.proxies.client(peer, &forwarded)
        });
        Self {
            id: id.map_or_else(
                || id::new(Moment::now().wall_us()).to_string(),
                str::to_owned,
            ),
            traceparent: taken("traceparent").filter(|text| coerce::traceparent(text).is_some()),
            method,
            method_original: (method == OTHER_METHOD).then(|| cut(head.method)),
            path: settings.path.then(|| cut(head.path)),
            query: head
                .query
                .map(|query| secret::query(query, &settings.query_parameters, TEXT_BYTES)),
            route: route.map(|mut route| {
                route.truncate(cut(&route).len());
                route
            }),
            user_agent: one(head.headers, "user-agent")
                .filter(|_| settings.user_agent)
                .map(cut),
            client,
            proxy: peer.filter(|peer| client.is_some_and(|client| client != peer.to_canonical())),
        }
    }
}

impl RequestRun {
    /// Opens the request's span. `None`: no layer wants it.
    pub(crate) fn begin(settings: &Arc<RequestSettings>, head: &Head<'_>) -> Option<Self> {
        let cell = OnceCell::new();
        let begun = || cell.get_or_init(|| Begun::new(settings, head));
        // The fields are evaluated only if a layer wants the span.
        let span = tracing::info_span!(
            target: "audit.event",
            "http_request",
            action_type = "http_request",
            request_id = begun().id.as_str(),
            traceparent = begun().traceparent,
            target_type = begun().route.as_ref().map(|_| ROUTE),
            target_id = begun().route.as_deref(),
            http.request.method = begun().method,
            http.request.method_original = begun().method_original,
            http.route = begun().route.as_deref(),
            url.path = begun().path,
            url.query = begun().query.as_deref(),
            user_agent.original = begun().user_agent,
            client.address = begun().client.map(display),
            network.peer.address = begun().proxy.map(display),
            http.response.status_code = Empty,
            rpc.grpc.status_code = Empty,
            // What the handler may record on the current span.
            tenant_id = Empty,
            user_id = Empty,
            user_role = Empty,
            agent_id = Empty,
            llm_session_id = Empty,
            conversation_id = Empty,
            status = Empty,
            error_code = Empty,
            error_message = Empty,
        );
        // With tracing's feature `log`, the fields are evaluated for a log without a subscriber, too.
        let begun = cell.into_inner().filter(|_| !span.is_disabled())?;
        let run = Self {
            span,
            settings: Arc::clone(settings),
            known: Known {
                method: begun.method,
                path: begun.path.filter(|_| settings.denials).map(Box::from),
                route: begun.route.filter(|_| settings.denials),
                client: begun.client,
            },
            id: begun.id,
            is_grpc: false,
            has_grpc_status: false,
            outcome: None,
            body: None,
            is_over: false,
        };
        run.record_headers(&settings.request_headers, head.headers);
        Some(run)
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Returns the request's id, for the response's header.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Records who asks, as a hook says it inside the span.
    pub(crate) fn identify(&self, identify: impl FnOnce() -> Identity) {
        self.span.in_scope(identify).record(&self.span);
    }

    /// Records the head of the response. Returns whether the run goes on until the end of a body.
    pub(crate) fn answered(&mut self, code: u16, headers: &dyn Headers, has_body: bool) -> bool {
        self.span.record("http.response.status_code", code);
        self.record_headers(&self.settings.response_headers, headers);
        self.see(Outcome::of_http(code));
        // Not by the request's type: a stranger could keep the outcome from being known.
        self.is_grpc = one(headers, "content-type")
            .is_some_and(|content| content.starts_with("application/grpc"));
        // A gRPC call that fails at once has its trailers in the head.
        self.trailers(headers);
        let is_without = matches!(code, 100..=199 | 204 | 304)
            || self.known.method == "HEAD"
            || self.known.method == "CONNECT" && (200..300).contains(&code);
        if !has_body || is_without {
            self.end(BodyEnd::Whole);
            return false;
        }
        if self.settings.response_body_bytes > 0 {
            self.body = Some(Beginning::new(self.settings.response_body_bytes));
        }
        true
    }

    /// Sees a part of the response's body: `len` bytes that begin with `data`.
    pub(crate) fn see_body(&mut self, data: &[u8], len: usize) {
        if let Some(body) = &mut self.body {
            body.see(data, len);
        }
    }

    /// Records the outcome of a gRPC call, if the trailers say it.
    pub(crate) fn trailers(&mut self, headers: &dyn Headers) {
        if !self.is_grpc {
            return;
        }
        let Some(code) = one(headers, "grpc-status").and_then(|code| code.parse().ok()) else {
            return;
        };
        self.span.record("rpc.grpc.status_code", code);
        self.has_grpc_status = true;
        if let Some(message) = one(headers, "grpc-message").filter(|_| code != 0) {
            let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
            self.explain(&message);
        }
        self.see(Outcome::of_grpc(code));
    }

    /// Records why the response is no success.
    pub(crate) fn explain(&self, why: &str) {
        let end = Conclusion {
            error_message: Some(cut(why)),
            ..Conclusion::of(Evidence::None)
        };
        conclude(&self.span, &end);
    }

    fn see(&mut self, outcome: Outcome) {
        let is_known = self.outcome.as_ref().is_some_and(Outcome::is_denial);
        if outcome.is_denial() && !is_known && self.settings.denials {
            self.record_denial(&outcome);
        }
        self.outcome = Some(outcome);
    }

    /// Records that there is no response, but an error.
    #[cfg(feature = "tower")]
    pub(crate) fn fail(&mut self, error: &dyn Display) {
        self.conclude(&Conclusion {
            error: Some(error),
            ..Conclusion::of(Evidence::Err)
        });
    }

    /// Records that the response's body failed.
    pub(crate) fn fail_body(&mut self, error: &dyn Display) {
        self.finish(Evidence::Err, Some(error));
    }

    /// Records the end of the response's body, or of the run that has none.
    pub(crate) fn end(&mut self, end: BodyEnd) {
        match end {
            // Whether the call succeeded would be in trailers that were not seen.
            BodyEnd::Whole if self.is_grpc && !self.has_grpc_status => {
                self.finish(Evidence::Nested, None);
            }
            BodyEnd::Whole => self.finish(Evidence::Ok, None),
            BodyEnd::Dropped => self.finish(Evidence::Cancelled, None),
            BodyEnd::Short { taken, length } => {
                let error = format_args!("the body ended after {taken} of {length} bytes");
                self.finish(Evidence::Err, Some(&error));
            }
        }
    }

    fn finish(&mut self, evidence: Evidence, error: Option<&dyn Display>) {
        let outcome = self.outcome.take();
        // Of a success, the body's end decides.
        let failure = outcome.filter(|outcome| outcome.status != Status::Succeeded);
        self.conclude(&Conclusion {
            status: failure.as_ref().map(|outcome| outcome.status),
            error_code: failure
                .as_ref()
                .and_then(|outcome| outcome.error_code.as_deref()),
            error,
            ..Conclusion::of(evidence)
        });
    }

    fn conclude(&mut self, end: &Conclusion<'_>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if let Some(body) = self.body.take() {
            record_body(&self.span, "http.response.body", &body);
        }
        conclude(&self.span, end);
        // The record is complete once no one else holds the span.
        self.span = Span::none();
    }

    fn record_headers(&self, chosen: &[ChosenHeader], headers: &dyn Headers) {
        for header in chosen {
            let (mut values, mut is_marked) = (Vec::new(), false);
            headers.each(&header.name, &mut |value, is_secret| {
                values.push(value);
                is_marked |= is_secret;
            });
            if !values.is_empty() {
                let value = secret::header(&header.name, &values, is_marked);
                self.span.gather(&header.key).push(cut(&value));
            }
        }
    }

    /// Records a denial, as a child of the request.
    #[cold]
    fn record_denial(&self, outcome: &Outcome) {
        let known = &self.known;
        let (status, error_code) = (outcome.status.as_str(), outcome.error_code.as_deref());
        self.span.with_subscriber(|(_, dispatch)| {
            // As a span of the request's own subscriber, whatever this thread's is.
            tracing::dispatcher::with_default(dispatch, || {
                drop(tracing::info_span!(
                    target: "audit.event",
                    parent: &self.span,
                    "security",
                    action_type = "security",
                    event = "access_denied",
                    status,
                    error_code,
                    target_type = known.route.as_ref().map(|_| ROUTE),
                    target_id = known.route.as_deref(),
                    http.request.method = known.method,
                    http.route = known.route.as_deref(),
                    url.path = known.path.as_deref(),
                    client.address = known.client.map(display),
                ));
            });
        });
    }
}

impl Drop for RequestRun {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(BodyEnd::Dropped);
        }
    }
}

/// The type of a request's target.
const ROUTE: &str = "http.route";

/// What the conventions say in place of a method that they do not know.
const OTHER_METHOD: &str = "_OTHER";

fn known_method(method: &str) -> &'static str {
    const METHODS: [&str; 10] = [
        "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY",
    ];
    let known = METHODS.into_iter().find(|known| *known == method);
    known.unwrap_or(OTHER_METHOD)
}

/// Returns a header's value, if it is text and there is one.
fn one<'a>(headers: &'a dyn Headers, name: &str) -> Option<&'a str> {
    let mut first = None;
    headers.each(name, &mut |value, _| {
        first.get_or_insert(value);
    });
    std::str::from_utf8(first?).ok()
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}
