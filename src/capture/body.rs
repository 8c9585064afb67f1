//! The honest outcome of an HTTP body.

use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tracing::Span;

use super::future::saw;
use crate::record::encode::Evidence;

/// Extends HTTP bodies with [`audited`](Self::audited). Needs feature `http-body`.
pub trait AuditBodyExt: Body + Sized {
    /// Polls the body inside `span` and records how it ended: all of it taken is `succeeded`, an
    /// error is `failed` with the first such as `error_message`, and a body that is dropped before
    /// it finished is `cancelled`, as when the client goes away.
    ///
    /// All of it is taken when it ends, when it says that nothing is left, or when its length has
    /// been taken: HTTP servers ask no further then. Taken by the server, that is: whether the
    /// client has read it, HTTP does not tell. A body that is dropped before anybody asked for any
    /// of it, as that of an answer to a HEAD request, shows nothing of an outcome.
    ///
    /// A `status` that the span says itself is stronger than any of these. The record is complete
    /// when the body has ended or is dropped, whichever is first.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tracing_audit::AuditBodyExt;
    ///
    /// let span = tracing::info_span!("audit.event", action_type = "report.sent");
    /// let body = Full::new(axum::body::Bytes::from("…")).audited(span);
    /// let response = axum::http::Response::new(body);
    /// # drop(response);
    /// ```
    fn audited(self, span: Span) -> AuditedBody<Self>
    where
        Self::Error: Display,
    {
        AuditedBody {
            left: self.size_hint().exact(),
            inner: Some(self),
            span,
            seen: Seen::Nothing,
        }
    }
}

impl<B: Body> AuditBodyExt for B {}

/// What was seen of a body's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nobody has asked for any of it.
    Nothing,
    Begun,
    /// An error, or that all was taken.
    Outcome(Evidence),
}

pin_project! {
    /// An HTTP body inside an audit span; made by [`AuditBodyExt::audited`].
    #[derive(Debug)]
    #[must_use = "bodies do nothing unless polled"]
    pub struct AuditedBody<B>
    where
        B: Body,
    {
        // `None` once it has ended; then the span is let go of as well.
        #[pin]
        inner: Option<B>,
        span: Span,
        // Bytes that are to come, if the body has a length.
        left: Option<u64>,
        seen: Seen,
    }

    impl<B> PinnedDrop for AuditedBody<B>
    where
        B: Body,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let Some(inner) = this.inner.as_ref().as_pin_ref() else {
                return;
            };
            let has_all = inner.is_end_stream() || *this.left == Some(0);
            match this.seen {
                Seen::Outcome(_) => {}
                _ if has_all => saw(this.span, Evidence::Ok, None),
                Seen::Begun => saw(this.span, Evidence::Cancelled, None),
                Seen::Nothing => {}
            }
            // What the body drops, it drops inside the span.
            let _entered = this.span.enter();
            this.inner.set(None);
        }
    }
}

impl<B: Body> AuditedBody<B> {
    /// Says how many bytes are sent, of a body that does not know it itself while the answer has a
    /// header `content-length`: a server asks for no more than those.
    ///
    /// ```
    /// use std::io;
    /// use axum::{body::Body, http::header, response::IntoResponse};
    /// use futures_core::Stream;
    /// use tracing_audit::AuditBodyExt;
    ///
    /// fn download(
    ///     length: u64,
    ///     parts: impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static,
    /// ) -> impl IntoResponse {
    ///     let span = tracing::info_span!("audit.event", action_type = "download");
    ///     let body = Body::from_stream(parts).audited(span).with_length(length);
    ///     ([(header::CONTENT_LENGTH, length)], Body::new(body))
    /// }
    /// # drop(download(0, futures_util::stream::empty()));
    /// ```
    pub fn with_length(mut self, bytes: u64) -> Self {
        self.left = Some(bytes);
        self
    }
}

impl<B> Body for AuditedBody<B>
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
        let entered = this.span.enter();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        if *this.seen == Seen::Nothing {
            *this.seen = Seen::Begun;
        }
        let frame = ready!(inner.as_mut().poll_frame(cx));
        let is_over = match &frame {
            Some(Err(error)) => {
                if *this.seen != Seen::Outcome(Evidence::Err) {
                    *this.seen = Seen::Outcome(Evidence::Err);
                    saw(this.span, Evidence::Err, Some(error));
                }
                false
            }
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (this.left.as_mut(), frame.data_ref()) {
                    *left = left.saturating_sub(data.remaining() as u64);
                }
                inner.is_end_stream()
            }
            None => true,
        };
        if (is_over || *this.left == Some(0)) && *this.seen == Seen::Begun {
            *this.seen = Seen::Outcome(Evidence::Ok);
            saw(this.span, Evidence::Ok, None);
        }
        if is_over {
            this.inner.set(None);
            drop(entered);
            *this.span = Span::none();
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
