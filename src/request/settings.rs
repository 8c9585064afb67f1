//! What is recorded of a request, and what of it is believed.

use std::fmt;

use super::client::{self, Proxies};

/// What is recorded of each request, for `AuditRequestLayer::settings` (feature `tower`) and
/// `AuditRequest::settings` (feature `actix-web`).
///
/// Always recorded are the method, the path, the route, the status code, the user agent and the
/// client's address, by the names of the
/// [OpenTelemetry conventions](https://opentelemetry.io/docs/specs/semconv/http/http-spans/).
/// Headers, bodies and values in the query are recorded only if asked for. (Of requests' bodies, by
/// `AuditRequestBodyLayer` or `AuditRequest::request_body_bytes`.)
///
/// **Secrets are never recorded**, even if they are asked for: of a header such as `authorization`,
/// `proxy-authorization`, `cookie`, `set-cookie` or `x-api-key`, one whose name holds a word such as
/// `token`, `secret`, `session` or `password`, or one that the program
/// [marks](https://docs.rs/http/1/http/header/struct.HeaderValue.html#method.set_sensitive), the row
/// says `REDACTED`. The same holds for query parameters with such names, and for `code`, `key`,
/// `otp`, `pin`, `sas` and `sig`. Paths and bodies are not searched for secrets.
///
/// # The outcome
///
/// | response | `status` | `error_code` |
/// |---|---|---|
/// | 1xx, 2xx, 3xx, and its body was taken to its end | `succeeded` | none |
/// | the same, and its body failed or ended too early | `failed` | none; `error_message` says why |
/// | the same, and the client went away before it ended | `cancelled` | none |
/// | 401, 403, 407, 451 | `rejected` | the code, as `403` |
/// | other 4xx, 5xx | `failed` | the code, as `404` |
/// | gRPC: `OK` | as for 2xx | none |
/// | gRPC: `PERMISSION_DENIED`, `UNAUTHENTICATED` | `rejected` | the name |
/// | gRPC: `CANCELLED` | `cancelled` | the name |
/// | gRPC: other codes | `failed` | the name, as `NOT_FOUND` |
/// | none: the client went away | `cancelled` | none |
/// | none: the service returned an error | `failed` | none; `error_message` says why |
/// | none: it panicked | `failed` | `panic` |
///
/// A `status`, an `error_code` or an `error_message` that the handler records on the request's span
/// takes precedence.
///
/// ```
/// use tracing_audit::RequestSettings;
///
/// let settings = RequestSettings::new()
///     .trusted_proxies(["10.0.0.0/8"])?
///     .request_headers(["accept-language"])
///     .query_parameters(["page"]);
/// # Ok::<(), tracing_audit::InvalidNetwork>(())
/// ```
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct RequestSettings {
    pub(super) take_ids: TakeIds,
    pub(super) proxies: Proxies,
    pub(super) request_headers: Box<[ChosenHeader]>,
    pub(super) response_headers: Box<[ChosenHeader]>,
    pub(super) query_parameters: Box<[Box<str>]>,
    pub(super) path: bool,
    pub(super) user_agent: bool,
    pub(super) client_address: bool,
    pub(super) denials: bool,
    pub(super) response_body_bytes: usize,
}

/// A header that is recorded.
#[derive(Clone, Debug)]
pub(super) struct ChosenHeader {
    /// In lower case.
    pub(super) name: Box<str>,
    /// The name in `metadata`.
    pub(super) key: Box<str>,
}

/// The most bytes that are kept of a body, on request.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Whose request ids and traces are taken from a request's headers.
///
/// ```
/// use tracing_audit::{RequestSettings, TakeIds};
///
/// // A service that only other services of ours reach.
/// let settings = RequestSettings::new().take_ids(TakeIds::Always);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakeIds {
    /// Nobody's. The default.
    #[default]
    Never,
    /// Those that a [trusted proxy](RequestSettings::trusted_proxies) sends. It must remove what
    /// strangers send, or make ids of its own: most proxies pass both headers on as they come.
    FromProxies,
    /// Everyone's.
    Always,
}

/// A text that is no address and no network, given as a trusted proxy.
///
/// ```
/// let error = tracing_audit::RequestSettings::new().trusted_proxies(["proxy"]).unwrap_err();
/// assert_eq!(error.to_string(), "not an address or a network such as 10.0.0.0/8: proxy");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address or a network such as 10.0.0.0/8: {network}")]
pub struct InvalidNetwork {
    network: String,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            take_ids: TakeIds::default(),
            proxies: Proxies::default(),
            request_headers: Box::default(),
            response_headers: Box::default(),
            query_parameters: Box::default(),
            path: true,
            user_agent: true,
            client_address: true,
            denials: true,
            response_body_bytes: 0,
        }
    }
}

impl RequestSettings {
    /// Creates the default settings.
    ///
    /// ```
    /// let settings = tracing_audit::RequestSettings::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whose `x-request-id` and `traceparent` are taken. A request without an id, or with one
    /// that is not taken, gets a new one, a UUID. An id that is longer than 128 bytes or has other
    /// characters than visible ASCII is not taken.
    ///
    /// A stranger who may choose the id can put his records into another request's story, and one
    /// who may choose the trace can make them children of another service's. So the default is
    /// [`TakeIds::Never`]. Within a network of your own services, choose [`TakeIds::Always`]; behind a
    /// proxy that makes the ids itself, [`TakeIds::FromProxies`].
    ///
    /// ```
    /// use tracing_audit::{RequestSettings, TakeIds};
    ///
    /// let settings = RequestSettings::new().take_ids(TakeIds::Always);
    /// ```
    #[must_use]
    pub fn take_ids(mut self, take_ids: TakeIds) -> Self {
        self.take_ids = take_ids;
        self
    }

    /// Sets the proxies in front of the service, as addresses or networks (`10.0.0.0/8`). If the peer
    /// is one of them, the client's address is the first from the right in `X-Forwarded-For` that is
    /// none of them; the header `Forwarded` is not read. Default: none, so the peer is the client.
    ///
    /// # Errors
    ///
    /// [`InvalidNetwork`] if a text is neither.
    ///
    /// ```
    /// use tracing_audit::RequestSettings;
    ///
    /// let settings = RequestSettings::new().trusted_proxies(["10.0.0.0/8", "fd00::/8"])?;
    /// # Ok::<(), tracing_audit::InvalidNetwork>(())
    /// ```
    pub fn trusted_proxies(
        mut self,
        networks: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidNetwork> {
        let mut all = Vec::new();
        for network in networks {
            let network = network.as_ref();
            all.push(client::network(network).ok_or_else(|| InvalidNetwork {
                network: network.to_owned(),
            })?);
        }
        self.proxies = Proxies::new(all);
        Ok(self)
    }

    /// Sets the headers of requests that go into `metadata`, as `http.request.header.NAME`. Of each
    /// the first 1 KiB is kept. Default: none.
    ///
    /// ```
    /// let settings = tracing_audit::RequestSettings::new().request_headers(["accept-language"]);
    /// ```
    #[must_use]
    pub fn request_headers(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.request_headers = chosen(names, "http.request.header.");
        self
    }

    /// Sets the headers of responses that go into `metadata`, as `http.response.header.NAME`. Of each
    /// the first 1 KiB is kept. Default: none.
    ///
    /// ```
    /// let settings = tracing_audit::RequestSettings::new().response_headers(["content-type"]);
    /// ```
    #[must_use]
    pub fn response_headers(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.response_headers = chosen(names, "http.response.header.");
        self
    }

    /// Sets the query parameters whose values are recorded, by their exact names. Of any other,
    /// `url.query` has `REDACTED` in place of the value. Default: none.
    ///
    /// ```
    /// let settings = tracing_audit::RequestSettings::new().query_parameters(["page", "sort"]);
    /// ```
    #[must_use]
    pub fn query_parameters(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.query_parameters = names.into_iter().map(|name| name.as_ref().into()).collect();
        self
    }

    /// Sets whether `url.path` is recorded. Turn it off if secrets stand in paths, as in
    /// `/reset/TOKEN`: the route is recorded anyway. Default: `true`.
    ///
    /// ```
    /// let settings = tracing_audit::RequestSettings::new().path(false);
    /// ```
    #[must_use]
    pub fn path(mut self, is_recorded: bool) -> Self {
        self.path = is_recorded;
        self
    }

    /// Sets whether `user_agent.original` is recorded. Default: `true`.
    ///
    /// ```
    /// let settings = tracing_audit::RequestSettings::new().user_agent(false);
    /// ```
    #[must_use]
    pub fn user_agent(mut self, is_recorded: bool) -> Self {
        self.user_agent = is_recorded;
        self
    }

    /// Sets whether `client.address` is recorded, and `network.peer.address` if a proxy is between.
    /// An address is personal data in many countries. Default: `true`.
    ///
    /// ```
    /// let settings = tracing_audit::RequestSettings::new().client_address(false);
    /// ```
    #[must_use]
    pub fn client_address(mut self, is_recorded: bool) -> Self {
        self.client_address = is_recorded;
        self
    }

    /// Sets whether a denial (401, 403, 407, 451; gRPC `PERMISSION_DENIED`, `UNAUTHENTICATED`) has a
    /// record beside that of the request: `action_type = 'security'` in `audit.events`, where
    /// records are kept for longer than in `audit.activities`. Default: `true`.
    ///
    /// ```
    /// let settings = tracing_audit::RequestSettings::new().denials(false);
    /// ```
    #[must_use]
    pub fn denials(mut self, are_recorded: bool) -> Self {
        self.denials = are_recorded;
        self
    }

    /// Sets how many bytes of a response's body are recorded, as `http.response.body`, if it is
    /// text; `http.response.body.size` says how many were sent. 0 to 1 MiB. Default: 0, nothing.
    ///
    /// ```
    /// let settings = tracing_audit::RequestSettings::new().response_body_bytes(4096);
    /// ```
    #[must_use]
    pub fn response_body_bytes(mut self, bytes: usize) -> Self {
        self.response_body_bytes = bytes.min(MAX_BODY_BYTES);
        self
    }
}

fn chosen(
    names: impl IntoIterator<Item = impl AsRef<str>>,
    prefix: impl fmt::Display,
) -> Box<[ChosenHeader]> {
    names
        .into_iter()
        .map(|name| {
            let name = name.as_ref().trim().to_ascii_lowercase();
            ChosenHeader {
                key: format!("{prefix}{name}").into(),
                name: name.into(),
            }
        })
        .collect()
}
