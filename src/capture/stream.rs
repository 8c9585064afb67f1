//! A stream's honest outcome.

use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tracing::Span;

use super::future::{Part, ok};
use crate::record::encode::Evidence;

/// Extends streams with [`audited`](Self::audited).
pub trait AuditStreamExt: Sized {
    /// Polls the stream inside `span` and records how it ended: `None` is `succeeded`, an item
    /// that is an `Err` is `failed` with the first such error as `error_message`, and a stream
    /// that is dropped before it finished is `cancelled`, as when the client goes away that an
    /// answer is sent to token by token.
    ///
    /// A server that knows an answer's length asks for no more, and so never sees the stream's end: then
    /// audit the body, with its length, rather than the stream (`AuditBodyExt`).
    ///
    /// The span may be that of the function that makes the stream, as `Span::current()`: while the
    /// stream is not over, that the function returned `Ok` says nothing of the whole.
    ///
    /// A `status` that the span says itself is stronger than any of these. The record is complete
    /// when the stream has ended or is dropped, whichever is first; what the items held is not
    /// part of it: see [`AuditSpanExt::gather`](crate::AuditSpanExt::gather).
    ///
    /// Items that are a `Result` within a `Result`, as a timeout for each makes them, leave the
    /// outcome `unknown`: audit the stream inside. Items that are no `Result` leave open whether the
    /// stream ended or was cut off, as that of a channel does whose sender failed. If its end is the
    /// whole of it, say so: `.map(Ok::<_,
    /// Infallible>)`.
    ///
    /// ```
    /// use std::io;
    /// use futures_core::Stream;
    /// use tracing::{field::Empty, info_span};
    /// use tracing_audit::{AuditSpanExt, AuditStreamExt};
    ///
    /// # fn ask(prompt: &str) -> impl Stream<Item = io::Result<String>> { futures_util::stream::empty() }
    /// fn answer(prompt: &str) -> impl Stream<Item = io::Result<String>> {
    ///     use futures_util::StreamExt;
    ///
    ///     let span = info_span!("audit.prompt_run", rendered_prompt = prompt, response_text = Empty);
    ///     let mut text = span.gather("response_text");
    ///     let tokens = ask(prompt).inspect(move |token| {
    ///         if let Ok(token) = token {
    ///             text.push(token);
    ///         }
    ///     });
    ///     tokens.audited(span)
    /// }
    /// # drop(answer("hello"));
    /// ```
    fn audited<T, E>(self, span: Span) -> AuditedStream<Self>
    where
        Self: Stream<Item = Result<T, E>>,
        E: Display,
    {
        AuditedStream {
            inner: Some(self),
            part: Part::of(span),
            has_failed: false,
        }
    }
}

impl<S: Stream> AuditStreamExt for S {}

pin_project! {
    /// A stream inside an audit span; made by [`AuditStreamExt::audited`].
    ///
    /// It is fused: after its end it goes on ending.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct AuditedStream<S> {
        // `None` once it has ended; then the span is let go of as well.
        #[pin]
        inner: Option<S>,
        part: Part,
        has_failed: bool,
    }

    impl<S> PinnedDrop for AuditedStream<S> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.is_some() {
                this.part.saw(Evidence::Cancelled, None);
                // What the stream drops, it drops inside the span.
                let _entered = this.part.span.enter();
                this.inner.set(None);
            }
        }
    }
}

impl<S, T, E> Stream for AuditedStream<S>
where
    S: Stream<Item = Result<T, E>>,
    E: Display,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        let entered = this.part.span.enter();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let item = ready!(inner.poll_next(cx));
        match &item {
            Some(Err(error)) if !*this.has_failed => {
                *this.has_failed = true;
                this.part.saw(Evidence::Err, Some(error));
            }
            Some(_) => {}
            None => {
                this.part.saw(ok::<T>(), None);
                this.inner.set(None);
                drop(entered);
                this.part.let_go();
            }
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner
            .as_ref()
            .map_or((0, Some(0)), futures_core::Stream::size_hint)
    }
}
