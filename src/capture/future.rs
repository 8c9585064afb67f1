//! The recorded outcome of a future, and the audit methods of a span.

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tracing::Span;
use uuid::Uuid;

use super::context::AuditContext;
use super::failure::{Failure, Inspection};
use super::gather::Gathered;
use super::lookup;
use super::span::SpanState;
use super::visitor;
use crate::record::encode::{Evidence, Key, ty};
use crate::vocabulary::Field;

/// Extends futures with [`audited`](Self::audited).
pub trait AuditFutureExt: Sized {
    /// Runs the future inside `span`, as `tracing::Instrument::instrument` does, and records how it
    /// ended: `Ok` is `succeeded`, `Err` is `failed` with the error as `error_message`, and a
    /// future that is dropped before it finished is `cancelled`.
    ///
    /// # The error
    ///
    /// `error_message` has the error's text and the causes that the text does not show already;
    /// `error_code` has its [SQLSTATE](crate::sqlstate), unless the span records a code itself. The
    /// causes are known of the errors of sqlx, tokio-postgres and diesel (features of those names),
    /// of [`std::io::Error`], of `Box<dyn Error>` and, with feature `anyhow`, of `anyhow::Error`. An
    /// error type of your own says where they are:
    ///
    /// - [`with_causes`](Audited::with_causes), if it is a [`std::error::Error`];
    /// - [`error_code`](Audited::error_code), if it has a code of its own.
    ///
    /// # Which evidence counts
    ///
    /// A `status` that the span records itself takes precedence over all of these; they take
    /// precedence over a result field, such as a `row_count` of the rows so far. Without `audited`,
    /// a dropped future looks like a finished one: then record result fields only once the result
    /// is complete.
    ///
    /// A timeout or a task wraps the output in a second `Result`: then audit the inner future,
    /// `timeout(limit, run_sql(sql).audited(span))`. Outside, an `Ok` may hold an `Err`, and the
    /// outcome is `unknown`, as it is for a list or a tuple of `Result`s. If the output is not a
    /// `Result`, declare reaching its end a success with
    /// `async { Ok::<_, Infallible>(future.await) }`.
    ///
    /// ```
    /// use tracing_audit::AuditFutureExt;
    ///
    /// # async fn run_sql(sql: &str) -> Result<u64, std::io::Error> { Ok(1) }
    /// async fn answer(sql: &str) -> Result<u64, std::io::Error> {
    ///     let span = tracing::info_span!("audit.query_run", sql_text = sql);
    ///     run_sql(sql).audited(span).await
    /// }
    /// # futures(answer("SELECT 1"));
    /// # fn futures(_: impl Future) {}
    /// ```
    fn audited<T, E>(self, span: Span) -> Audited<Self>
    where
        Self: Future<Output = Result<T, E>>,
        E: Display + 'static,
    {
        Audited {
            inner: Some(self),
            span,
            inspection: Inspection::default(),
        }
    }
}

impl<F: Future> AuditFutureExt for F {}

pin_project! {
    /// A future inside an audit span; made by [`AuditFutureExt::audited`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Audited<F> {
        // `None` once it has finished.
        #[pin]
        inner: Option<F>,
        span: Span,
        inspection: Inspection,
    }

    impl<F> PinnedDrop for Audited<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.is_some() {
                saw(this.span, Evidence::Cancelled, None);
                // The future's destructors run inside the span.
                let _entered = this.span.enter();
                this.inner.set(None);
            }
        }
    }
}

impl<F> Audited<F> {
    /// Has the causes of the error looked at: `error_message` gets those that the error's own text
    /// does not show, `error_code` the first [SQLSTATE](crate::sqlstate) among them. For error
    /// types of your own; the usual ones are [known](AuditFutureExt::audited).
    ///
    /// ```
    /// use std::{error::Error, fmt};
    /// use tracing_audit::AuditFutureExt;
    ///
    /// #[derive(Debug)]
    /// enum AppError {
    ///     Database(sqlx::Error),
    /// }
    ///
    /// impl fmt::Display for AppError {
    ///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    ///         f.write_str("the database has no answer")
    ///     }
    /// }
    ///
    /// impl Error for AppError {
    ///     fn source(&self) -> Option<&(dyn Error + 'static)> {
    ///         let Self::Database(error) = self;
    ///         Some(error)
    ///     }
    /// }
    ///
    /// # async fn run_sql(sql: &str) -> Result<u64, AppError> { Ok(1) }
    /// async fn answer(sql: &str) -> Result<u64, AppError> {
    ///     let span = tracing::info_span!("audit.query_run", sql_text = sql);
    ///     run_sql(sql).audited(span).with_causes().await
    /// }
    /// # drop(answer("SELECT 1"));
    /// ```
    pub fn with_causes<T, E>(mut self) -> Self
    where
        F: Future<Output = Result<T, E>>,
        E: Error + 'static,
    {
        self.inspection.with_causes::<E>();
        self
    }

    /// Sets how an error's code is determined, for `error_code`. Where `code` returns `None`, it is
    /// the [SQLSTATE](crate::sqlstate) that is known; a code that the span itself records takes
    /// precedence over both.
    ///
    /// ```
    /// use tracing_audit::AuditFutureExt;
    ///
    /// # #[derive(Debug)] struct Refused { reason: &'static str }
    /// # impl std::fmt::Display for Refused {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("refused") }
    /// # }
    /// # async fn run_sql(sql: &str) -> Result<u64, Refused> { Ok(1) }
    /// async fn answer(sql: &str) -> Result<u64, Refused> {
    ///     let span = tracing::info_span!("audit.query_run", sql_text = sql);
    ///     run_sql(sql).audited(span).error_code(|refused| Some(refused.reason)).await
    /// }
    /// # drop(answer("SELECT 1"));
    /// ```
    pub fn error_code<T, E, C>(
        mut self,
        code: impl Fn(&E) -> Option<C> + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<T, E>>,
        E: 'static,
        C: Display,
    {
        self.inspection.error_code(code);
        self
    }
}

impl<F, T, E> Future for Audited<F>
where
    F: Future<Output = Result<T, E>>,
    E: Display + 'static,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let _entered = this.span.enter();
        // INVARIANT: a future is not polled again after it is ready; a caller that does so gets
        // `Pending`, never a panic inside the host.
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let result = std::task::ready!(inner.poll(cx));
        match &result {
            Ok(_) => saw(this.span, ok::<T>(), None),
            Err(error) => {
                let failure = this.inspection.of(error);
                saw(this.span, Evidence::Err, Some(&failure));
            }
        }
        this.inner.set(None);
        Poll::Ready(result)
    }
}

/// Returns the evidence that an `Ok` with a `T` gives.
///
/// Only a type's name shows here whether it is or holds a `Result`. Should names ever change, an
/// `Ok` with a `Result` inside counts as a success, which a test would notice.
pub(super) fn ok<T>() -> Evidence {
    if std::any::type_name::<T>().contains("core::result::Result<") {
        Evidence::Nested
    } else {
        Evidence::Ok
    }
}

/// Adds evidence of an outcome to the span.
fn saw(span: &Span, evidence: Evidence, failure: Option<&Failure<'_>>) {
    saw_and(span, evidence, failure, |_| ());
}

/// Does the same after calling `change` with the span's state in each layer.
pub(super) fn saw_and(
    span: &Span,
    evidence: Evidence,
    failure: Option<&Failure<'_>>,
    change: impl Fn(&mut SpanState),
) {
    span.with_subscriber(|(id, dispatch)| {
        let Some(failure) = failure else {
            lookup::change_all(dispatch, id, |state| {
                change(state);
                state.saw(evidence);
            });
            return;
        };
        // Layers have limits of their own.
        let mut all: Vec<Box<SpanState>> = Vec::new();
        lookup::change_all(dispatch, id, |state| {
            if !all.iter().any(|seen| seen.limits == state.limits) {
                let mut seen = SpanState::scratch(state.limits);
                seen.limits = state.limits;
                all.push(seen);
            }
        });
        for seen in &mut all {
            // No lock is held here: this runs host code.
            let (key, limits) = (Key::Field(Field::SeenError), seen.limits);
            visitor::debug(&mut seen.buffers, key, &limits, format_args!("{failure}"));
            if let Some(code) = &failure.code {
                let key = Key::Field(Field::SeenCode);
                seen.buffers.text(key, ty::TEXT, code.as_bytes(), &limits);
            }
        }
        lookup::change_all(dispatch, id, |state| {
            change(state);
            state.saw(evidence);
            if let Some(seen) = all.iter().find(|seen| seen.limits == state.limits) {
                state.record(&seen.buffers, false);
            }
        });
        for seen in all {
            seen.recycle();
        }
    });
}

/// A stream or a body as a part of its span's run. Until it is over, an `Ok` of the function that
/// made it, or of another part, is not the outcome of the whole.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) span: Span,
    is_over: AtomicBool,
}

impl Part {
    pub(super) fn of(span: Span) -> Self {
        lookup::change_span(&span, SpanState::begin_part);
        Self {
            span,
            is_over: AtomicBool::new(false),
        }
    }

    /// Adds evidence of the part's outcome, and ends the part.
    pub(super) fn saw(&self, evidence: Evidence, failure: Option<&Failure<'_>>) {
        let is_first = !self.is_over.swap(true, Ordering::Relaxed);
        saw_and(&self.span, evidence, failure, |state| {
            if is_first {
                state.end_part();
            }
        });
    }

    /// Releases the span.
    pub(super) fn let_go(&mut self) {
        self.span = Span::none();
    }
}

/// Extends [`tracing::Span`] with [`audit_id`](Self::audit_id), [`gather`](Self::gather),
/// [`traceparent`](Self::traceparent) and [`audit_context`](Self::audit_context).
pub trait AuditSpanExt {
    /// Returns the id of the span's row, present or future, while the span is open: for a foreign
    /// key in the host's own tables.
    ///
    /// `None`: the span is not an audit span, is disabled, or its subscriber is not built on
    /// [`tracing_subscriber::Registry`]. With several audit layers, returns the first one's id.
    ///
    /// ```
    /// use tracing_audit::AuditSpanExt;
    ///
    /// let span = tracing::info_span!("audit.query_run");
    /// // Without a subscriber there is no record.
    /// assert_eq!(span.audit_id(), None);
    /// ```
    fn audit_id(&self) -> Option<Uuid>;

    /// Gathers text that comes in parts, such as the tokens of an answer, into one value of a
    /// field, which is recorded when the returned value is dropped. If a field is recorded or
    /// gathered more than once, the last value counts, as in `tracing`.
    ///
    /// The field need not be declared: a field of the span's kind becomes its column, any other
    /// goes into `metadata`. Gathered text may be incomplete, and so is no evidence of success;
    /// [`AuditStreamExt::audited`](crate::AuditStreamExt::audited) records how the stream ended. If
    /// the process is killed before the text is recorded, the run's row lacks it.
    ///
    /// Without a record, as without a subscriber, nothing is gathered.
    ///
    /// ```
    /// use futures_util::StreamExt;
    /// use tracing::Span;
    /// use tracing_audit::AuditSpanExt;
    ///
    /// # fn ask(prompt: &str) -> impl futures_core::Stream<Item = String> + Unpin { futures_util::stream::empty() }
    /// #[tracing::instrument(name = "audit.prompt_run", skip_all, fields(rendered_prompt = prompt))]
    /// async fn answer(prompt: &str) {
    ///     let mut tokens = ask(prompt);
    ///     let mut text = Span::current().gather("response_text");
    ///     while let Some(token) = tokens.next().await {
    ///         text.push(&token);
    ///     }
    ///     drop(text);
    ///     Span::current().record("status", "ok");
    /// }
    /// # drop(answer("hello"));
    /// ```
    fn gather(&self, field: &str) -> Gathered;

    /// Returns the [W3C `traceparent`](https://www.w3.org/TR/trace-context/) to send along with a
    /// call, while the span is open. If the other side records it as the field `traceparent` of the
    /// span around its request, its records become children of the nearest audit span here, in the
    /// same trace.
    ///
    /// With feature `tracing-opentelemetry` and such a layer in the subscriber, it names the
    /// nearest span of the host's own instead.
    ///
    /// `None`: neither this span nor one that encloses it is an audit span, or the subscriber is
    /// not built on [`tracing_subscriber::Registry`]. Then `request_id` alone puts both sides into
    /// one trace.
    ///
    /// ```
    /// use tracing::Span;
    /// use tracing_audit::AuditSpanExt;
    ///
    /// // Where the call is made:
    /// fn headers() -> Vec<(&'static str, String)> {
    ///     let traceparent = Span::current().traceparent();
    ///     traceparent.map(|value| ("traceparent", value)).into_iter().collect()
    /// }
    /// # assert!(headers().is_empty());
    ///
    /// // Where it is answered:
    /// fn request_span(request_id: &str, traceparent: Option<&str>) -> Span {
    ///     tracing::info_span!("request", request_id, traceparent)
    /// }
    /// # request_span("r", None);
    /// ```
    fn traceparent(&self) -> Option<String>;

    /// Returns the context of the request that the span belongs to, as [`context`](crate::context)
    /// does for the current span.
    ///
    /// ```
    /// use tracing_audit::AuditSpanExt;
    ///
    /// let request = tracing::info_span!("request", request_id = "r-1");
    /// request.audit_context().user("alice");
    /// ```
    fn audit_context(&self) -> AuditContext;
}

impl AuditSpanExt for Span {
    fn audit_id(&self) -> Option<Uuid> {
        let mut found = None;
        self.with_subscriber(|(id, dispatch)| {
            lookup::change_all(dispatch, id, |state| {
                if found.is_none() && state.kind.is_some() {
                    found = Some(state.id);
                }
            });
        });
        found
    }

    fn gather(&self, field: &str) -> Gathered {
        Gathered::new(self.clone(), field)
    }

    fn traceparent(&self) -> Option<String> {
        self.with_subscriber(|(id, dispatch)| {
            #[cfg(feature = "tracing-opentelemetry")]
            if let Some(host) = super::host::context(id, dispatch) {
                return Some(host.traceparent());
            }
            lookup::nearest_record(dispatch, id).map(|place| place.traceparent())
        })
        .flatten()
    }

    fn audit_context(&self) -> AuditContext {
        AuditContext::of(self.clone())
    }
}
