//! The layer, its hooks, and the service that it makes.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::response::{AuditRequestFuture, AuditResponseBody};
use crate::request::run::{Head, Headers, RequestRun};
use crate::request::{Identity, RequestSettings};

/// Opens a span around each request of a service, and records it: `audit.event` with
/// `action_type = 'http_request'`, in `audit.activities`. Needs feature `tower`.
///
/// All records made while the request is served inherit its `request_id`, and what a hook or
/// [`context`](crate::context) says of the user, and are its children. The response has the id in
/// the header `x-request-id`. The run ends with the response's body: it is `cancelled` if the client
/// goes away before, at whatever point. [`RequestSettings`] says what is recorded, and which outcome
/// stands for which response.
///
/// Add it as the outermost layer, so that requests which another layer refuses have their record. In
/// axum, use [`Router::layer`] after all routes: then the route is known, which
/// [`AuditRequestLayer::axum`] records.
///
/// Without an audit layer in the subscriber, and without another that wants the span, requests and
/// responses pass through as they are.
///
/// [`Router::layer`]: https://docs.rs/axum/0.8/axum/struct.Router.html#method.layer
///
/// ```
/// use axum::{Router, routing::get};
/// use tracing_audit::{AuditRequestLayer, Identity};
///
/// let layer = AuditRequestLayer::new()
///     .route(|parts| Some(parts.extensions.get::<axum::extract::MatchedPath>()?.as_str().to_owned()))
///     .identify(|parts| match parts.headers.get("x-tenant").and_then(|value| value.to_str().ok()) {
///         Some(tenant) => Identity::new().tenant(tenant),
///         None => Identity::new(),
///     });
/// let app: Router = Router::new().route("/orders/{id}", get(async || "…")).layer(layer);
/// ```
#[derive(Clone)]
pub struct AuditRequestLayer {
    settings: Arc<RequestSettings>,
    id_header: HeaderName,
    hooks: Hooks,
}

type Hook<T> = Option<Arc<dyn Fn(&Parts) -> T + Send + Sync>>;

/// What only the host knows how to read from a request's head.
#[derive(Clone, Default)]
struct Hooks {
    route: Hook<Option<String>>,
    peer: Hook<Option<IpAddr>>,
    identify: Hook<Identity>,
}

impl fmt::Debug for AuditRequestLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditRequestLayer")
            .field("settings", &self.settings)
            .field("id_header", &self.id_header)
            .finish_non_exhaustive()
    }
}

impl Default for AuditRequestLayer {
    fn default() -> Self {
        Self {
            settings: Arc::default(),
            id_header: HeaderName::from_static("x-request-id"),
            hooks: Hooks::default(),
        }
    }
}

impl AuditRequestLayer {
    /// Creates a layer with the default settings and without hooks.
    ///
    /// ```
    /// let layer = tracing_audit::AuditRequestLayer::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a layer for axum, which records the route (`MatchedPath`) and, if the server is made
    /// with `into_make_service_with_connect_info::<SocketAddr>()`, the peer's address. Needs feature
    /// `axum`.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use tracing_audit::AuditRequestLayer;
    ///
    /// let app: Router = Router::new()
    ///     .route("/orders/{id}", get(async || "…"))
    ///     .layer(AuditRequestLayer::axum());
    /// ```
    #[cfg(feature = "axum")]
    pub fn axum() -> Self {
        use axum::extract::{ConnectInfo, MatchedPath};
        Self::new()
            .route(|parts| {
                let route = parts.extensions.get::<MatchedPath>()?;
                Some(route.as_str().to_owned())
            })
            .peer(|parts| {
                let peer = parts
                    .extensions
                    .get::<ConnectInfo<std::net::SocketAddr>>()?;
                Some(peer.0.ip())
            })
    }

    /// Creates a layer for gRPC services, as those of tonic: the path of a call, which names the
    /// service and the method, is the route. That of a call to an unknown method is whatever the
    /// client sent.
    ///
    /// ```
    /// use tonic::transport::Server;
    /// use tracing_audit::AuditRequestLayer;
    ///
    /// let server = Server::builder().layer(AuditRequestLayer::grpc());
    /// # drop(server);
    /// ```
    pub fn grpc() -> Self {
        Self::new().route(|parts| Some(parts.uri.path().to_owned()))
    }

    /// Sets what is recorded, and what of a request is believed.
    ///
    /// ```
    /// use tracing_audit::{AuditRequestLayer, RequestSettings};
    ///
    /// let settings = RequestSettings::new().trusted_proxies(["10.0.0.0/8"])?;
    /// let layer = AuditRequestLayer::new().settings(settings);
    /// # Ok::<(), tracing_audit::InvalidNetwork>(())
    /// ```
    #[must_use]
    pub fn settings(mut self, settings: RequestSettings) -> Self {
        self.settings = Arc::new(settings);
        self
    }

    /// Sets the header with the request's id, in requests and responses. Default: `x-request-id`.
    ///
    /// ```
    /// use axum::http::HeaderName;
    /// use tracing_audit::AuditRequestLayer;
    ///
    /// let layer = AuditRequestLayer::new()
    ///     .request_id_header(HeaderName::from_static("x-correlation-id"));
    /// ```
    #[must_use]
    pub fn request_id_header(mut self, name: HeaderName) -> Self {
        self.id_header = name;
        self
    }

    /// Sets how the route is found, such as `/orders/{id}`: the target of the record. Not the path,
    /// which would make each customer's a target of its own. Default: none. See
    /// [`AuditRequestLayer::axum`] and [`AuditRequestLayer::grpc`].
    ///
    /// ```
    /// use tracing_audit::AuditRequestLayer;
    ///
    /// # struct Matched(&'static str);
    /// let layer = AuditRequestLayer::new()
    ///     .route(|parts| Some(parts.extensions.get::<Matched>()?.0.to_owned()));
    /// ```
    #[must_use]
    pub fn route(
        mut self,
        route: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.route = Some(Arc::new(route));
        self
    }

    /// Sets how the address of the connection's other end is found. Default: none, so that no
    /// address is recorded and no proxy is trusted. See [`AuditRequestLayer::axum`].
    ///
    /// ```
    /// use tonic::transport::server::TcpConnectInfo;
    /// use tracing_audit::AuditRequestLayer;
    ///
    /// let layer = AuditRequestLayer::grpc().peer(|parts| {
    ///     let connection = parts.extensions.get::<TcpConnectInfo>()?;
    ///     Some(connection.remote_addr()?.ip())
    /// });
    /// ```
    #[must_use]
    pub fn peer(mut self, peer: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.hooks.peer = Some(Arc::new(peer));
        self
    }

    /// Sets how it is found who asks, if the head of the request shows it. It is called within the
    /// request's span, so it may make records. What is known only later is recorded by
    /// [`context`](crate::context), wherever the login is checked. Default: nobody.
    ///
    /// ```
    /// use tracing_audit::{AuditRequestLayer, Identity};
    ///
    /// # #[derive(Clone)]
    /// # struct Session { user: String }
    /// // Set by a login layer around this one.
    /// let layer = AuditRequestLayer::new().identify(|parts| match parts.extensions.get::<Session>() {
    ///     Some(session) => Identity::new().user(&session.user),
    ///     None => Identity::new(),
    /// });
    /// ```
    #[must_use]
    pub fn identify(
        mut self,
        identify: impl Fn(&Parts) -> Identity + Send + Sync + 'static,
    ) -> Self {
        self.hooks.identify = Some(Arc::new(identify));
        self
    }

    fn begin(&self, parts: &Parts) -> Option<RequestRun> {
        let hooks = &self.hooks;
        let head = Head {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query(),
            route: &|| hooks.route.as_ref()?(parts),
            peer: &|| hooks.peer.as_ref()?(parts),
            id_header: self.id_header.as_str(),
            headers: &parts.headers,
        };
        let run = RequestRun::begin(&self.settings, &head)?;
        if let Some(identify) = &hooks.identify {
            run.identify(|| identify(parts));
        }
        Some(run)
    }
}

impl<S> Layer<S> for AuditRequestLayer {
    type Service = AuditRequestService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuditRequestService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service that records its requests; made by [`AuditRequestLayer`].
#[derive(Clone, Debug)]
pub struct AuditRequestService<S> {
    inner: S,
    layer: AuditRequestLayer,
}

impl<S, Q, B> Service<Request<Q>> for AuditRequestService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Error: Display,
    B: Body,
    B::Error: Display,
{
    type Response = Response<AuditResponseBody<B>>;
    type Error = S::Error;
    type Future = AuditRequestFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let run = self.layer.begin(&parts);
        let request = Request::from_parts(parts, body);
        let inner = match &run {
            Some(run) => run.span().in_scope(|| self.inner.call(request)),
            None => self.inner.call(request),
        };
        AuditRequestFuture::new(inner, run, self.layer.id_header.clone())
    }
}

impl Headers for HeaderMap {
    fn each<'a>(&'a self, name: &str, see: &mut dyn FnMut(&'a [u8], bool)) {
        for value in self.get_all(name) {
            see(value.as_bytes(), value.is_sensitive());
        }
    }
}
