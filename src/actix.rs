//! A span and a record for each request of an actix-web application.

use std::fmt::{self, Write as _};
use std::future::{Future, Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage as _};
use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::request::body::Progress;
use crate::request::run::{Head, Headers, RequestRun};
use crate::request::seen::ReadBody;
use crate::request::{Identity, RequestSettings};
use crate::vocabulary::Outcome;

/// A middleware that opens a span around each request and records it: `audit.event` with
/// `action_type = 'http_request'`, in `audit.activities`. Needs feature `actix-web`.
///
/// All records made while the request is served inherit its `request_id`, and what a hook or
/// [`context`](crate::context) says of the user, and are its children. The response has the id in
/// the header `x-request-id`; not if a middleware inside returns an error, whose response actix-web
/// makes outside. The run ends with the response's body: it is `cancelled` if the client goes away
/// before and actix-web notices, which serves a request to its end unless it is told
/// [`h1_allow_half_closed(false)`]. [`RequestSettings`] says what is recorded, and which outcome
/// stands for which response.
///
/// Wrap it last, so that it is the outermost: then requests which another middleware refuses have
/// their record.
///
/// [`h1_allow_half_closed(false)`]: actix_web::HttpServer::h1_allow_half_closed
///
/// ```
/// use actix_web::{App, HttpResponse, web};
/// use tracing_audit::{AuditRequest, Identity};
///
/// let audited = AuditRequest::new().identify(|request| {
///     match request.headers().get("x-tenant").and_then(|value| value.to_str().ok()) {
///         Some(tenant) => Identity::new().tenant(tenant),
///         None => Identity::new(),
///     }
/// });
/// let app = App::new()
///     .route("/orders/{id}", web::get().to(HttpResponse::Ok))
///     .wrap(audited);
/// # drop(app);
/// ```
#[derive(Clone)]
pub struct AuditRequest {
    settings: Arc<RequestSettings>,
    id_header: HeaderName,
    request_body_bytes: usize,
    identify: Option<Identify>,
}

type Identify = Arc<dyn Fn(&ServiceRequest) -> Identity + Send + Sync>;

impl fmt::Debug for AuditRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditRequest")
            .field("settings", &self.settings)
            .field("id_header", &self.id_header)
            .finish_non_exhaustive()
    }
}

impl Default for AuditRequest {
    fn default() -> Self {
        Self {
            settings: Arc::default(),
            id_header: HeaderName::from_static("x-request-id"),
            request_body_bytes: 0,
            identify: None,
        }
    }
}

impl AuditRequest {
    /// Creates a middleware with the default settings.
    ///
    /// ```
    /// let audited = tracing_audit::AuditRequest::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is recorded, and what of a request is believed.
    ///
    /// ```
    /// use tracing_audit::{AuditRequest, RequestSettings};
    ///
    /// let settings = RequestSettings::new().trusted_proxies(["10.0.0.0/8"])?;
    /// let audited = AuditRequest::new().settings(settings);
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
    /// use actix_web::http::header::HeaderName;
    /// use tracing_audit::AuditRequest;
    ///
    /// let name = HeaderName::from_static("x-correlation-id");
    /// let audited = AuditRequest::new().request_id_header(name);
    /// ```
    #[must_use]
    pub fn request_id_header(mut self, name: HeaderName) -> Self {
        self.id_header = name;
        self
    }

    /// Sets how many bytes of a request's body are recorded, as `http.request.body`, if it is text;
    /// `http.request.body.size` says how many the service read. Secrets in a body are recorded as
    /// they are. 0 to 1 MiB. Default: 0, nothing.
    ///
    /// ```
    /// let audited = tracing_audit::AuditRequest::new().request_body_bytes(4096);
    /// ```
    #[must_use]
    pub fn request_body_bytes(mut self, bytes: usize) -> Self {
        self.request_body_bytes = bytes.min(1024 * 1024);
        self
    }

    /// Sets how it is found who asks, if the head of the request shows it. It is called within the
    /// request's span, so it may make records. What is known only later is recorded by
    /// [`context`](crate::context), wherever the login is checked. Default: nobody.
    ///
    /// ```
    /// use tracing_audit::{AuditRequest, Identity};
    ///
    /// let audited = AuditRequest::new().identify(|request| match request.cookie_user() {
    ///     Some(user) => Identity::new().user(user),
    ///     None => Identity::new(),
    /// });
    /// # trait CookieUser { fn cookie_user(&self) -> Option<String> { None } }
    /// # impl CookieUser for actix_web::dev::ServiceRequest {}
    /// ```
    #[must_use]
    pub fn identify(
        mut self,
        identify: impl Fn(&ServiceRequest) -> Identity + Send + Sync + 'static,
    ) -> Self {
        self.identify = Some(Arc::new(identify));
        self
    }

    fn begin(&self, request: &mut ServiceRequest) -> Option<RequestRun> {
        let query = request.query_string();
        let head = Head {
            method: request.method().as_str(),
            path: request.uri().path(),
            query: (!query.is_empty()).then_some(query),
            route: &|| request.match_pattern(),
            peer: &|| Some(request.peer_addr()?.ip()),
            id_header: self.id_header.as_str(),
            headers: request.headers(),
        };
        let run = RequestRun::begin(&self.settings, &head)?;
        if let Some(identify) = &self.identify {
            run.identify(|| identify(request));
        }
        if self.request_body_bytes > 0 {
            let read = ReadPayload {
                inner: request.take_payload(),
                read: ReadBody::new(run.span().clone(), self.request_body_bytes),
            };
            request.set_payload(Payload::Stream {
                payload: Box::pin(read),
            });
        }
        Some(run)
    }
}

impl<S, B> Transform<S, ServiceRequest> for AuditRequest
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<AuditedMessageBody<B>>;
    type Error = Error;
    type Transform = AuditRequestMiddleware<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(AuditRequestMiddleware {
            inner,
            audited: self.clone(),
        }))
    }
}

/// A service that records its requests; made by [`AuditRequest`].
#[derive(Debug)]
pub struct AuditRequestMiddleware<S> {
    inner: S,
    audited: AuditRequest,
}

impl<S, B> Service<ServiceRequest> for AuditRequestMiddleware<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<AuditedMessageBody<B>>;
    type Error = Error;
    type Future = AuditedResponse<S::Future>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let run = self.audited.begin(&mut request);
        let inner = match &run {
            Some(run) => run.span().in_scope(|| self.inner.call(request)),
            None => self.inner.call(request),
        };
        AuditedResponse {
            inner: Some(inner),
            run,
            id_header: self.audited.id_header.clone(),
        }
    }
}

pin_project! {
    /// The future of a response; made by [`AuditRequestMiddleware`].
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, the request is recorded as `cancelled`.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct AuditedResponse<F> {
        // `None` once it has finished.
        #[pin]
        inner: Option<F>,
        run: Option<RequestRun>,
        id_header: HeaderName,
    }

    impl<F> PinnedDrop for AuditedResponse<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(run) = this.run {
                // The future's destructors run inside the span.
                let _entered = run.span().enter();
                this.inner.set(None);
            }
        }
    }
}

impl<F, B> Future for AuditedResponse<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<AuditedMessageBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let entered = this.run.as_ref().map(|run| run.span().enter());
        // INVARIANT: a future is not polled again after it is ready; a caller that does so gets
        // `Pending`, never a panic inside the host.
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let result = ready!(inner.poll(cx));
        this.inner.set(None);
        drop(entered);
        let run = this.run.take();
        Poll::Ready(match result {
            Ok(response) => Ok(answered(response, run, this.id_header)),
            Err(error) => {
                if let Some(mut run) = run {
                    // The response that actix-web makes of it.
                    let code = error.as_response_error().status_code().as_u16();
                    explain(&run, &error, code);
                    run.answered(code, &HeaderMap::new(), false);
                }
                Err(error)
            }
        })
    }
}

/// Records the error that a response was made of, if it is the service's own word: a denial or a
/// failure. Of a request that cannot be understood, the error repeats what the client sent.
fn explain(run: &RequestRun, error: &Error, code: u16) {
    if code < 500 && !Outcome::of_http(code).is_denial() {
        return;
    }
    let mut why = String::new();
    // The host's code, which may fail or panic.
    let shown = catch_unwind(AssertUnwindSafe(|| write!(why, "{error}")));
    if matches!(shown, Ok(Ok(()))) {
        run.explain(&why);
    }
}

fn answered<B: MessageBody>(
    mut response: ServiceResponse<B>,
    run: Option<RequestRun>,
    id_header: &HeaderName,
) -> ServiceResponse<AuditedMessageBody<B>> {
    let size = response.response().body().size();
    let length = match size {
        BodySize::Sized(length) => Some(length),
        BodySize::None => Some(0),
        BodySize::Stream => {
            let length = response.headers().get(CONTENT_LENGTH);
            length.and_then(|length| length.to_str().ok()?.parse().ok())
        }
    };
    let run = run.and_then(|mut run| {
        if let Ok(id) = HeaderValue::from_str(run.id()) {
            response.headers_mut().insert(id_header.clone(), id);
        }
        let code = response.status().as_u16();
        if let Some(error) = response.response().error() {
            explain(&run, error, code);
        }
        let has_body = !matches!(size, BodySize::None | BodySize::Sized(0));
        let goes_on = run.answered(code, response.headers(), has_body);
        goes_on.then_some(run)
    });
    response.map_body(|_, body| AuditedMessageBody {
        inner: Some(body),
        size,
        run,
        progress: Progress::new(length),
    })
}

pin_project! {
    /// The body of a response, whose end is the end of the request's run; made by
    /// [`AuditRequestMiddleware`].
    #[derive(Debug)]
    pub struct AuditedMessageBody<B> {
        // `None` once it has ended.
        #[pin]
        inner: Option<B>,
        size: BodySize,
        // `None` once the run is over.
        run: Option<RequestRun>,
        progress: Progress,
    }

    impl<B> PinnedDrop for AuditedMessageBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let Some(mut run) = this.run.take() else {
                return;
            };
            let end = this.progress.at_drop(this.inner.is_none());
            {
                // The body's destructors run inside the span.
                let _entered = run.span().enter();
                this.inner.set(None);
            }
            run.end(end);
        }
    }
}

impl<B: MessageBody> MessageBody for AuditedMessageBody<B> {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let mut this = self.project();
        let entered = this.run.as_ref().map(|run| run.span().enter());
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let part = ready!(inner.poll_next(cx));
        drop(entered);
        Poll::Ready(match part {
            Some(Ok(data)) => {
                this.progress.take(data.len());
                if let Some(run) = this.run.as_mut() {
                    run.see_body(&data, data.len());
                }
                if this.progress.is_whole()
                    && let Some(mut run) = this.run.take()
                {
                    run.end(this.progress.at_end());
                }
                Some(Ok(data))
            }
            Some(Err(error)) => {
                let error = error.into();
                if let Some(mut run) = this.run.take() {
                    run.fail_body(&error);
                }
                Some(Err(error))
            }
            None => {
                this.inner.set(None);
                if let Some(mut run) = this.run.take() {
                    run.end(this.progress.at_end());
                }
                None
            }
        })
    }
}

pin_project! {
    /// A request's payload of which the beginning is recorded.
    struct ReadPayload {
        #[pin]
        inner: Payload,
        read: ReadBody,
    }
}

impl Stream for ReadPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let part = ready!(this.inner.poll_next(cx));
        if let Some(Ok(data)) = &part {
            this.read.see(data, data.len());
        }
        Poll::Ready(part)
    }
}

impl Headers for HeaderMap {
    fn each<'a>(&'a self, name: &str, see: &mut dyn FnMut(&'a [u8], bool)) {
        for value in self.get_all(name) {
            see(value.as_bytes(), value.is_sensitive());
        }
    }
}
