//! Who a request is by: recorded on the span that stands for the whole request, and carried to where
//! the request's spans do not reach.

use std::fmt;

use tracing::Span;

use super::captured::Captured;
use super::{lookup, visitor};
use crate::clock::Moment;
use crate::limits::Limits;
use crate::record::buffers::Buffers;
use crate::record::encode::Key;
use crate::record::id;
use crate::vocabulary::Field;

/// What the records of a request have in common: user, tenant, agent and the like.
///
/// Made by [`context`], for the current span, or by
/// [`AuditSpanExt::audit_context`](crate::AuditSpanExt::audit_context). It keeps the span open.
///
/// A value is recorded on the outermost of the enclosing spans that have the same `request_id`, so
/// that all records of the request get it: those that begin later, and those that are open and have
/// no value yet. It also takes the place of what the spans in between have, such as the argument of
/// an instrumented function. The span need not declare the field. Unlike with
/// `Span::current().record`, it makes no difference which other layers the subscriber has. Records
/// that ended before keep what they had, and so does a run whose program ends before it.
///
/// **Give each request's span a `request_id`.** Without one, the value is recorded on the nearest
/// span that is audited or has an inherited field (such as `tenant_id`): one further out may serve
/// other users as well. In a job with one `request_id` that works for several users or tenants,
/// give each its own span with the field itself, not by `context()`, which is the whole job's.
///
/// Outside of all such spans there is nothing to record the value on, and it is ignored:
/// [`is_recorded`](Self::is_recorded) tells. A span's handle from which it was made stands for that
/// span alone: if no layer wants the span, there is nothing either, where [`context`] knows the span
/// around it.
#[derive(Clone, Debug)]
pub struct AuditContext {
    span: Span,
}

/// Returns the context of the request that the current span belongs to.
///
/// ```
/// # fn check(_token: &str) -> Option<(&'static str, &'static str)> { Some(("alice", "acme")) }
/// #[tracing::instrument(skip_all)]
/// fn login(token: &str) -> bool {
///     let Some((user, tenant)) = check(token) else {
///         return false;
///     };
///     tracing_audit::context().user(user).tenant(tenant);
///     true
/// }
///
/// let _request = tracing::info_span!("request", request_id = "r-1").entered();
/// assert!(login("token"));
/// // From here on, the request's records are by alice, of acme.
/// ```
pub fn context() -> AuditContext {
    AuditContext::of(Span::current())
}

impl AuditContext {
    pub(super) fn of(span: Span) -> Self {
        Self { span }
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Records the user: `user_id`.
    ///
    /// ```
    /// tracing_audit::context().user("alice");
    /// ```
    pub fn user(&self, user_id: impl fmt::Display) -> &Self {
        self.set("user_id", user_id)
    }

    /// Records what the user may do: `user_role`.
    ///
    /// ```
    /// tracing_audit::context().user("alice").role("admin");
    /// ```
    pub fn role(&self, user_role: impl fmt::Display) -> &Self {
        self.set("user_role", user_role)
    }

    /// Records the tenant, a UUID or any key: `tenant_id`.
    ///
    /// ```
    /// tracing_audit::context().tenant("acme");
    /// ```
    pub fn tenant(&self, tenant_id: impl fmt::Display) -> &Self {
        self.set("tenant_id", tenant_id)
    }

    /// Records the agent, a UUID: `agent_id`.
    ///
    /// ```
    /// tracing_audit::context().agent("0198f1d3-0000-7000-8000-000000000001");
    /// ```
    pub fn agent(&self, agent_id: impl fmt::Display) -> &Self {
        self.set("agent_id", agent_id)
    }

    /// Records a value by its name: `tenant_id`, `user_id`, `user_role`, `agent_id`, `request_id`,
    /// `llm_session_id`, `conversation_id` or `traceparent`. Any other goes into the `metadata` of
    /// each record of the request, as text of at most 1 KiB ([`Limits::key_bytes`]); of all of them
    /// together 16 KiB are kept, or a quarter of a record's limit, and what is beyond that is named
    /// in the records' `problems` as `context`.
    ///
    /// [`Limits::key_bytes`]: crate::Limits::key_bytes
    ///
    /// If a value is recorded more than once, the last counts.
    ///
    /// ```
    /// tracing_audit::context().set("conversation_id", "c-7").set("plan", "gold");
    /// ```
    pub fn set(&self, name: &str, value: impl fmt::Display) -> &Self {
        let limits = Limits::default();
        let limits = limits.with_field_bytes(limits.key_bytes());
        let mut written = Buffers::default();
        // No lock is held while the host's code runs, which may panic or write without end.
        let end = name.floor_char_boundary(limits.key_bytes());
        let name = &name[..end];
        let key = Field::of_name(name, None).map_or(Key::Extra(name), Key::Field);
        visitor::display(&mut written, key, &limits, format_args!("{value}"));
        let entries = [written.context, written.body].concat();
        self.span.with_subscriber(|(id, dispatch)| {
            lookup::set_on_request(dispatch, id, name, &entries);
        });
        self
    }

    /// Returns whether there is a span that values are recorded on.
    ///
    /// ```
    /// // Without a subscriber there is none.
    /// assert!(!tracing_audit::context().is_recorded());
    /// ```
    pub fn is_recorded(&self) -> bool {
        let is_there = |(id, dispatch): (&_, &_)| lookup::has_request(dispatch, id);
        self.span.with_subscriber(is_there).unwrap_or(false)
    }

    /// Returns the id of the request, for an answer's header or a message to another service.
    ///
    /// ```
    /// // Without a subscriber there is none.
    /// assert_eq!(tracing_audit::context().request_id(), None);
    /// ```
    pub fn request_id(&self) -> Option<String> {
        let find = |(id, dispatch): (&_, &_)| lookup::request_id(dispatch, id);
        self.span.with_subscriber(find).flatten()
    }
}

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
        let id = id::new(Moment::now().wall_us());
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
