//! The response, and the end of the run with its body.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::request::body::Progress;
use crate::request::run::RequestRun;

pin_project! {
    /// The future of a response; made by [`AuditRequestService`](super::AuditRequestService).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, the request is recorded as `cancelled`.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct AuditRequestFuture<F> {
        // `None` once it has finished.
        #[pin]
        inner: Option<F>,
        run: Option<RequestRun>,
        id_header: HeaderName,
    }

    impl<F> PinnedDrop for AuditRequestFuture<F> {
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

impl<F> AuditRequestFuture<F> {
    pub(super) fn new(inner: F, run: Option<RequestRun>, id_header: HeaderName) -> Self {
        Self {
            inner: Some(inner),
            run,
            id_header,
        }
    }
}

impl<F, B, E> Future for AuditRequestFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Display,
    B: Body,
{
    type Output = Result<Response<AuditResponseBody<B>>, E>;

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
                    run.fail(&error);
                }
                Err(error)
            }
        })
    }
}

fn answered<B: Body>(
    response: Response<B>,
    run: Option<RequestRun>,
    id_header: &HeaderName,
) -> Response<AuditResponseBody<B>> {
    let (mut parts, body) = response.into_parts();
    let length = body.size_hint().exact().or_else(|| {
        let length = parts.headers.get(CONTENT_LENGTH)?;
        length.to_str().ok()?.parse().ok()
    });
    let run = run.and_then(|mut run| {
        if let Ok(id) = HeaderValue::from_str(run.id()) {
            parts.headers.insert(id_header, id);
        }
        let has_body = !body.is_end_stream();
        let goes_on = run.answered(parts.status.as_u16(), &parts.headers, has_body);
        goes_on.then_some(run)
    });
    let body = AuditResponseBody {
        inner: Some(body),
        run,
        progress: Progress::new(length),
    };
    Response::from_parts(parts, body)
}

pin_project! {
    /// The body of a response, whose end is the end of the request's run; made by
    /// [`AuditRequestService`](super::AuditRequestService).
    #[derive(Debug)]
    #[must_use = "bodies do nothing unless polled"]
    pub struct AuditResponseBody<B>
    where
        B: Body,
    {
        // `None` once it has ended.
        #[pin]
        inner: Option<B>,
        // `None` once the run is over.
        run: Option<RequestRun>,
        progress: Progress,
    }

    impl<B> PinnedDrop for AuditResponseBody<B>
    where
        B: Body,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let Some(mut run) = this.run.take() else {
                return;
            };
            let is_at_its_end = this.inner.as_ref().as_pin_ref().is_none_or(|inner| inner.is_end_stream());
            let end = this.progress.at_drop(is_at_its_end);
            {
                // The body's destructors run inside the span.
                let _entered = run.span().enter();
                this.inner.set(None);
            }
            run.end(end);
        }
    }
}

impl<B> Body for AuditResponseBody<B>
where
    B: Body,
    B::Error: Display,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let entered = this.run.as_ref().map(|run| run.span().enter());
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(inner.as_mut().poll_frame(cx));
        drop(entered);
        let is_over = match &frame {
            Some(Err(error)) => {
                if let Some(mut run) = this.run.take() {
                    run.fail_body(error);
                }
                false
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.progress.take(data.remaining());
                    if let Some(run) = this.run.as_mut() {
                        run.see_body(data.chunk(), data.remaining());
                    }
                } else if let (Some(run), Some(trailers)) =
                    (this.run.as_mut(), frame.trailers_ref())
                {
                    run.trailers(trailers);
                }
                // Nothing follows trailers, and a server does not ask whether.
                frame.is_trailers() || inner.is_end_stream()
            }
            None => true,
        };
        if is_over {
            this.inner.set(None);
            if let Some(mut run) = this.run.take() {
                run.end(this.progress.at_end());
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
