//! The context of a request, carried to where its spans do not reach.

use std::fmt;

use tracing::Span;
use uuid::Uuid;

use super::host::Host;
use super::lookup;
use super::span::SpanState;

/// What records inherit at one place of the program, for work that runs elsewhere: in a spawned
/// task, in a thread, or later, from a queue.
///
/// Its records have the request's id, user, tenant and the like, and are children of the record
/// around the place where it was captured, whether that is still open or not. It is a copy: what is
/// recorded on the request afterwards does not reach it, and the request's spans need not wait for
/// the work to end. With feature `tracing-opentelemetry`, the host's own trace goes on as well.
///
/// To carry it to another process, send the [`request_id`](crate::AuditContext::request_id) and the
/// [`traceparent`](crate::AuditSpanExt::traceparent).
///
/// ```
/// use std::sync::mpsc;
/// use tracing_audit::Context;
///
/// let (queue, work) = mpsc::channel::<(Context, &str)>();
/// let worker = std::thread::spawn(move || {
///     for (context, report) in work {
///         context.in_scope(|| {
///             tracing::info!(name: "audit.event", action_type = "report.sent", target_id = report);
///         });
///     }
/// });
/// queue.send((Context::capture(), "2026-10"))?;
/// # drop(queue);
/// # worker.join().unwrap();
/// # Ok::<(), mpsc::SendError<(Context, &str)>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    captured: Vec<Captured>,
    /// The request id of a job of its own.
    job: Option<String>,
    #[cfg(feature = "tracing-opentelemetry")]
    host: Option<crate::record::trace::HostSpan>,
}

/// What one layer knew.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    /// The number of the layer's table.
    pub(super) table: u64,
    inherited: Vec<u8>,
    parent: Uuid,
    root: Uuid,
    host: Host,
}

impl Context {
    /// Captures the context of the current span.
    ///
    /// ```
    /// use tracing::Instrument;
    /// use tracing_audit::Context;
    ///
    /// # async fn send_report() {}
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// tokio::spawn(send_report().instrument(Context::capture().span()));
    /// # });
    /// ```
    pub fn capture() -> Self {
        let capture = |(id, dispatch): (&_, &_)| Self {
            captured: lookup::capture(dispatch, id),
            job: None,
            #[cfg(feature = "tracing-opentelemetry")]
            host: super::host::context(id, dispatch),
        };
        let captured = Span::current().with_subscriber(capture);
        captured.unwrap_or_else(|| Self::of_job(None))
    }

    /// Makes the context of a background job, which belongs to no request: its request id is the
    /// name, a hyphen and a new UUID, so that each run is a story of its own.
    ///
    /// ```
    /// use tracing_audit::{Context, context};
    ///
    /// Context::job("nightly-cleanup").in_scope(|| {
    ///     context().user("scheduler");
    ///     // … the job
    /// });
    /// ```
    pub fn job(name: impl fmt::Display) -> Self {
        let id = crate::record::id::new(crate::clock::Moment::now().wall_us());
        Self::of_job(Some(format!("{name}-{id}")))
    }

    fn of_job(job: Option<String>) -> Self {
        Self {
            captured: Vec::new(),
            job,
            #[cfg(feature = "tracing-opentelemetry")]
            host: None,
        }
    }

    /// Opens a span in which records inherit the context; it is no record itself. Like any span, it
    /// must not be held entered over an `.await`: use `tracing`'s `instrument`.
    ///
    /// ```
    /// let span = tracing_audit::Context::capture().span();
    /// ```
    pub fn span(&self) -> Span {
        let request_id = self.job.as_deref();
        let span = tracing::info_span!(parent: None, "audit.context", request_id);
        span.with_subscriber(|(id, dispatch)| lookup::restore(dispatch, id, &self.captured));
        #[cfg(feature = "tracing-opentelemetry")]
        if let Some(host) = self.host {
            super::host::set_parent(&span, host);
        }
        span
    }

    /// Runs work within the context.
    ///
    /// ```
    /// let context = tracing_audit::Context::capture();
    /// let sum = context.in_scope(|| 1 + 1);
    /// assert_eq!(sum, 2);
    /// ```
    pub fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.span().in_scope(work)
    }
}

impl Captured {
    /// Captures what a span inside `from` would inherit.
    pub(super) fn of(table: u64, from: &SpanState) -> Self {
        let mut inner = SpanState::begin(from.limits, None, super::host::Active::default());
        inner.inherit(from, super::host::Active::default());
        let captured = Self {
            table,
            inherited: inner.buffers.inherited.clone(),
            parent: inner.parent,
            root: inner.root,
            host: inner.host,
        };
        inner.recycle();
        captured
    }

    /// Gives it to a span that has just begun.
    pub(super) fn give_to(&self, state: &mut SpanState) {
        state.buffers.inherited.clone_from(&self.inherited);
        state.parent = self.parent;
        state.root = self.root;
        state.host = self.host;
    }
}
