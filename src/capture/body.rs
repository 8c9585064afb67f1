//! The recorded outcome of an HTTP body.

use std::error::Error;
use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tracing::Span;

use super::failure::{Failure, Inspection};
use super::future::Part;
use crate::record::encode::Evidence;

/// Extends HTTP bodies with [`audited`](Self::audited). Needs feature `http-body`.
pub trait AuditBodyExt: Body + Sized {
    /// Polls the body inside `span` and records how it ended: `succeeded` if all of it was taken,
    /// `failed` with the first error as `error_message` if it returned an error, and `cancelled` if
    /// it is dropped before it finished, as when the client goes away.
    ///
    /// All of it was taken when it ends, when it reports that nothing is left, or when its length
    /// has been taken: HTTP servers ask no further then. Taken by the server, that is: HTTP does
    /// not show whether the client has read it. A body that is dropped before it was polled, such
    /// as that of a response to a HEAD request, gives no evidence of an outcome: `unknown`. A body
    /// that ends before its length is `failed`, because the client gets a truncated response.
    ///
    /// The span may be that of the function that makes the body, as `Span::current()`: until the
    /// body is over, an `Ok` that the function returned is not the outcome of the whole.
    ///
    /// A `status` that the span records itself takes precedence over all of these. The record is
    /// complete when the body has ended or is dropped, whichever is first.
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
        Self::Error: Display + 'static,
    {
        AuditedBody {
            length: self.size_hint().exact(),
            taken: 0,
            inner: Some(self),
            part: Part::of(span),
            inspection: Inspection::default(),
            seen: Seen::Nothing,
        }
    }
}

impl<B: Body> AuditBodyExt for B {}

/// What is known about a body's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// The body has not been polled.
    Nothing,
    Begun,
    /// An error, or all of it was taken.
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
        // `None` once it has ended; then the span is released as well.
        #[pin]
        inner: Option<B>,
        part: Part,
        inspection: Inspection,
        // The total of bytes that are sent, if known.
        length: Option<u64>,
        taken: u64,
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
            let left = this.length.map(|length| length.saturating_sub(*this.taken));
            match this.seen {
                Seen::Outcome(_) => {}
                _ if left == Some(0) => this.part.saw(Evidence::Ok, None),
                _ if !inner.is_end_stream() && *this.seen == Seen::Begun => {
                    this.part.saw(Evidence::Cancelled, None);
                }
                _ if inner.is_end_stream() && left.is_none() => {
                    this.part.saw(Evidence::Ok, None);
                }
                Seen::Begun => ended_early(this.part, *this.taken, *this.length),
                // Nobody got any of it, so a recorded result field is no evidence of success.
                Seen::Nothing => this.part.saw(Evidence::Nested, None),
            }
            // The body's destructors run inside the span.
            let _entered = this.part.span.enter();
            this.inner.set(None);
        }
    }
}

/// Records a failure: the server had to truncate the response.
#[cold]
fn ended_early(part: &Part, taken: u64, length: Option<u64>) {
    let length = length.unwrap_or(taken);
    let error = format_args!("the body ended after {taken} of {length} bytes");
    part.saw(Evidence::Err, Some(&Failure::of_text(&error)));
}

impl<B: Body> AuditedBody<B> {
    /// Sets how many bytes are sent, for a body that does not know it while the response has a
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
        self.length = Some(bytes);
        self
    }

    /// Has the causes of the error looked at, as
    /// [`Audited::with_causes`](crate::Audited::with_causes) does.
    ///
    /// ```
    /// use axum::body::Body;
    /// use tracing_audit::AuditBodyExt;
    ///
    /// let span = tracing::info_span!("audit.event", action_type = "download");
    /// let body = Body::empty().audited(span).with_causes();
    /// # drop(body);
    /// ```
    pub fn with_causes(mut self) -> Self
    where
        B::Error: Error + 'static,
    {
        self.inspection.with_causes::<B::Error>();
        self
    }

    /// Sets how an error's code is determined, as
    /// [`Audited::error_code`](crate::Audited::error_code) does.
    ///
    /// ```
    /// use axum::body::Body;
    /// use tracing_audit::AuditBodyExt;
    ///
    /// let span = tracing::info_span!("audit.event", action_type = "download");
    /// let body = Body::empty().audited(span).error_code(|_| Some("cut_off"));
    /// # drop(body);
    /// ```
    pub fn error_code<C: Display>(
        mut self,
        code: impl Fn(&B::Error) -> Option<C> + Send + Sync + 'static,
    ) -> Self
    where
        B::Error: 'static,
    {
        self.inspection.error_code(code);
        self
    }
}

impl<B> Body for AuditedBody<B>
where
    B: Body,
    B::Error: Display + 'static,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let entered = this.part.span.enter();
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
                    let failure = this.inspection.of(error);
                    this.part.saw(Evidence::Err, Some(&failure));
                }
                false
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    *this.taken = this.taken.saturating_add(data.remaining() as u64);
                }
                // Nothing follows trailers, and a server does not ask whether.
                frame.is_trailers() || inner.is_end_stream()
            }
            None => true,
        };
        let has_all = this.length.is_none_or(|length| *this.taken >= length);
        if *this.seen == Seen::Begun && has_all && (is_over || this.length.is_some()) {
            *this.seen = Seen::Outcome(Evidence::Ok);
            this.part.saw(Evidence::Ok, None);
        } else if *this.seen == Seen::Begun && is_over {
            *this.seen = Seen::Outcome(Evidence::Err);
            ended_early(this.part, *this.taken, *this.length);
        }
        if is_over {
            this.inner.set(None);
            drop(entered);
            this.part.let_go();
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
