//! The beginning of a request's body, if asked for.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Span;

use crate::request::seen::ReadBody;

/// Records the beginning of requests' bodies, as `http.request.body`, if they are text;
/// `http.request.body.size` says how many bytes the service read. Needs feature `tower`.
///
/// It is a layer of its own because it changes the type of the request's body. Add it directly inside
/// an [`AuditRequestLayer`](crate::AuditRequestLayer), on whose record the body is. Secrets in a body
/// are recorded as they are.
///
/// ```
/// use axum::{Router, routing::post};
/// use tracing_audit::{AuditRequestBodyLayer, AuditRequestLayer};
///
/// // The layer that is added last is the outermost.
/// let app: Router = Router::new()
///     .route("/ask", post(async |question: String| question))
///     .layer(AuditRequestBodyLayer::new(4096))
///     .layer(AuditRequestLayer::new());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AuditRequestBodyLayer {
    bytes: usize,
}

impl AuditRequestBodyLayer {
    /// Creates a layer that records at most so many bytes of each body: 1 to 1 MiB.
    ///
    /// ```
    /// let layer = tracing_audit::AuditRequestBodyLayer::new(4096);
    /// ```
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes: bytes.clamp(1, 1024 * 1024),
        }
    }
}

impl<S> Layer<S> for AuditRequestBodyLayer {
    type Service = AuditRequestBodyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuditRequestBodyService {
            inner,
            bytes: self.bytes,
        }
    }
}

/// A service that records the beginning of requests' bodies; made by [`AuditRequestBodyLayer`].
#[derive(Clone, Debug)]
pub struct AuditRequestBodyService<S> {
    inner: S,
    bytes: usize,
}

impl<S, Q> Service<Request<Q>> for AuditRequestBodyService<S>
where
    S: Service<Request<AuditRequestBody<Q>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> S::Future {
        let span = Span::current();
        self.inner.call(request.map(|inner| AuditRequestBody {
            inner,
            read: ReadBody::new(span, self.bytes),
        }))
    }
}

pin_project! {
    /// The body of a request of which the beginning is recorded; made by
    /// [`AuditRequestBodyService`].
    #[derive(Debug)]
    #[must_use = "bodies do nothing unless polled"]
    pub struct AuditRequestBody<Q> {
        #[pin]
        inner: Q,
        read: ReadBody,
    }
}

impl<Q: Body> Body for AuditRequestBody<Q> {
    type Data = Q::Data;
    type Error = Q::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Q::Data>, Q::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.read.see(data.chunk(), data.remaining());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
