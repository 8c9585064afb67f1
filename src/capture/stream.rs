//! The recorded outcome of a stream.

use std::error::Error;
use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tracing::Span;

use super::failure::Inspection;
use super::future::{Part, ok};
use crate::record::encode::Evidence;

/// Extends streams with [`audited`](Self::audited).
pub trait AuditStreamExt: Sized {
    /// Polls the stream inside `span` and records how it ended: `None` is `succeeded`, an item that
    /// is an `Err` is `failed` with the first such error as `error_message`, and a stream that is
    /// dropped before it finished is `cancelled`, as when a client goes away while an answer is
    /// sent to it token by token.
    ///
    /// Whoever wants only as many items as there are does not see the end either, as
    /// `.audited(span).take(n)` of a stream of `n`: that is `cancelled`, since a stream of which
    /// nothing is left may still be waiting, as `stream::pending` is. Say `.take(n).audited(span)`.
    ///
    /// A server that knows the length of a response asks for no more, and so never sees the
    /// stream's end: then audit the body, with its length, rather than the stream (`AuditBodyExt`).
    ///
    /// The span may be that of the function that makes the stream, as `Span::current()`: until the
    /// stream is over, an `Ok` that the function returned is not the outcome of the whole.
    ///
    /// A `status` that the span records itself takes precedence over all of these. The record is
    /// complete when the stream has ended or is dropped, whichever is first. It does not include
    /// the contents of the items: see [`AuditSpanExt::gather`](crate::AuditSpanExt::gather).
    ///
    /// Items that are a `Result` within a `Result`, as a timeout around each makes them, leave the
    /// outcome `unknown`: audit the inner stream. Items that are not a `Result` do not show whether
    /// the stream ended or was cut off, as when the sender of a channel failed. If reaching its end
    /// is a success, declare it so: `.map(Ok::<_, Infallible>)`.
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
        E: Display + 'static,
    {
        AuditedStream {
            inner: Some(self),
            part: Part::of(span),
            inspection: Inspection::default(),
            has_failed: false,
        }
    }
}

impl<S: Stream> AuditStreamExt for S {}

pin_project! {
    /// A stream inside an audit span; made by [`AuditStreamExt::audited`].
    ///
    /// It is fused: once ended, it keeps returning `None`.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct AuditedStream<S> {
        // `None` once it has ended; then the span is released as well.
        #[pin]
        inner: Option<S>,
        part: Part,
        inspection: Inspection,
        has_failed: bool,
    }

    impl<S> PinnedDrop for AuditedStream<S> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.is_some() {
                this.part.saw(Evidence::Cancelled, None);
                // The stream's destructors run inside the span.
                let _entered = this.part.span.enter();
                this.inner.set(None);
            }
        }
    }
}

impl<S> AuditedStream<S> {
    /// Has the causes of the error looked at, as
    /// [`Audited::with_causes`](crate::Audited::with_causes) does.
    ///
    /// ```
    /// use std::io;
    /// use futures_core::Stream;
    /// use tracing_audit::AuditStreamExt;
    ///
    /// # fn ask(prompt: &str) -> impl Stream<Item = io::Result<String>> { futures_util::stream::empty() }
    /// let span = tracing::info_span!("audit.prompt_run");
    /// let answer = ask("hello").audited(span).with_causes();
    /// # drop(answer);
    /// ```
    pub fn with_causes<T, E>(mut self) -> Self
    where
        S: Stream<Item = Result<T, E>>,
        E: Error + 'static,
    {
        self.inspection.with_causes::<E>();
        self
    }

    /// Sets how an error's code is determined, as
    /// [`Audited::error_code`](crate::Audited::error_code) does.
    ///
    /// ```
    /// use std::io;
    /// use futures_core::Stream;
    /// use tracing_audit::AuditStreamExt;
    ///
    /// # fn ask(prompt: &str) -> impl Stream<Item = io::Result<String>> { futures_util::stream::empty() }
    /// let span = tracing::info_span!("audit.prompt_run");
    /// let answer = ask("hello").audited(span).error_code(|error| Some(error.kind()));
    /// # drop(answer);
    /// ```
    pub fn error_code<T, E, C>(
        mut self,
        code: impl Fn(&E) -> Option<C> + Send + Sync + 'static,
    ) -> Self
    where
        S: Stream<Item = Result<T, E>>,
        E: 'static,
        C: Display,
    {
        self.inspection.error_code(code);
        self
    }
}

impl<S, T, E> Stream for AuditedStream<S>
where
    S: Stream<Item = Result<T, E>>,
    E: Display + 'static,
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
                let failure = this.inspection.of(error);
                this.part.saw(Evidence::Err, Some(&failure));
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
