//! The `tracing` layer: its callbacks, each a few lines that hand over to `capture` and `queue`.
//!
//! **The layer brings its own per-layer filter.** Without one, the Registry would enable every span
//! of the host and of its libraries for our sake. With it, a span that is not audited and has no
//! inherited field stays disabled. The filter answers `sometimes`, never `always` (tracing issue
//! 2519).
//!
//! **It asks the filter only about new spans and events.** tracing-subscriber's `Filtered` looks up
//! the span in the Registry at each callback, to find whether its filter enabled it. Here the table
//! of open spans tells: it has the states of the spans that the filter enabled, and no others.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Filtered, LevelFilter};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use crate::adopt::{self, Adoptions};
use crate::capture::callsite::{self, Adopted, CallsiteRole, Outcome, Plan, PlanRef};
use crate::capture::host;
use crate::capture::open::Open;
use crate::capture::returned::Returned;
use crate::capture::span::SpanState;
use crate::capture::statements::Statement;
use crate::capture::visitor::Visitor;
use crate::intake::Intake;
use crate::limits::Limits;
use crate::own_threads::is_worker_thread;
use crate::record::buffers::Buffers;
use crate::record::encode::Evidence;
use crate::vocabulary::Kind;

/// The layer that [`Audit::layer`](crate::Audit::layer) returns.
///
/// It carries its own per-layer filter: a callsite that is neither audited nor has inherited fields
/// stays as disabled as it was without the layer, at no cost. Other layers' filters do not hide
/// audit spans from it; a *global* filter (`.with(EnvFilter…)`, `LevelFilter` as a layer) does, so
/// put such a filter on the other layers, with [`Layer::with_filter`].
///
/// Install it when the subscriber is made. In a `tracing_subscriber::reload` layer it is not
/// supported: a filter that is put in later has no number of its own, on which tracing-subscriber
/// panics, and while it is taken out, spans are not recorded and
/// [`Stats::is_hidden`](crate::Stats::is_hidden) may not say so.
pub struct AuditLayer<S>(Filtered<Recorder, Tagged, S>);

pub(crate) fn new<S>(intake: Arc<Intake>) -> AuditLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let adopted = Adoptions::new(&intake.adopt).map(Arc::new);
    let recorder = Recorder {
        open: intake.open(),
        intake,
        adopted: adopted.clone(),
        #[cfg(feature = "tracing-opentelemetry")]
        dispatch: std::sync::OnceLock::new(),
    };
    AuditLayer(Filtered::new(recorder, Tagged { adopted }))
}

impl<S> fmt::Debug for AuditLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLayer").finish_non_exhaustive()
    }
}

impl<S> AuditLayer<S> {
    /// Returns `false` for a span without a state, mostly.
    #[inline]
    fn is_ours(&self, id: &Id) -> bool {
        self.0.inner().open.may_have(id)
    }
}

impl<S> Layer<S> for AuditLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        self.0.on_register_dispatch(subscriber);
    }

    fn on_layer(&mut self, subscriber: &mut S) {
        self.0.on_layer(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, ctx: Context<'_, S>) -> bool {
        self.0.enabled(metadata, ctx)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint()
    }

    fn event_enabled(&self, event: &Event<'_>, ctx: Context<'_, S>) -> bool {
        self.0.event_enabled(event, ctx)
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        self.0.on_event(event, ctx);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        self.0.inner().open.forget_earlier(id);
        self.0.on_new_span(attributes, id, ctx);
    }

    // These do not ask the filter: a span without a state in the table is not ours. A record says
    // nothing of `on_follows_from` and `on_id_change`.

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        if self.is_ours(id) {
            self.0.inner().on_record(id, values, ctx);
        }
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        if self.is_ours(id) {
            self.0.inner().on_enter(id, ctx);
        }
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        if self.is_ours(id) {
            self.0.inner().on_exit(id, ctx);
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        if self.is_ours(&id) {
            self.0.inner().on_close(id, ctx);
        }
    }

    /// Tells tracing-subscriber that this layer has a filter of its own.
    #[allow(unsafe_code, reason = "the method that is forwarded is unsafe")]
    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        if id == TypeId::of::<Self>() {
            return Some(std::ptr::from_ref(self).cast());
        }
        // SAFETY: the contract is the same. `Filtered` returns a pointer to a value of that type
        // that it holds, and so lives as long as `self`.
        unsafe { self.0.downcast_raw(id) }
    }
}

/// The filter of an [`AuditLayer`]: enables audit spans and events, spans with inherited fields,
/// the events in which an instrumented function reports its outcome, and what is adopted.
#[derive(Debug)]
struct Tagged {
    adopted: Option<Arc<Adoptions>>,
}

impl Tagged {
    fn adopts(&self, metadata: &Metadata<'_>) -> bool {
        self.adopted
            .as_ref()
            .is_some_and(|adopted| adopted.is_of_interest(metadata))
    }

    fn wants_span(&self, metadata: &Metadata<'_>) -> bool {
        callsite::plan(metadata).is_some() || self.adopts(metadata)
    }
}

impl<S> Filter<S> for Tagged {
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if callsite::is_of_interest(metadata) || self.adopts(metadata) {
            // Not `always`, which would skip `enabled` below: code that asks whether something is
            // enabled and then does not make it (`log_enabled!`, as sqlx does after each query)
            // leaves the filters' answers behind in tracing-subscriber (its issue 2519), and the
            // next span would be taken for disabled.
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        // Only a span's metadata is sure to belong to a callsite: `log` records bring short-lived
        // ones.
        if metadata.is_span() {
            self.wants_span(metadata)
        } else {
            callsite::is_of_interest(metadata) || self.adopts(metadata)
        }
    }
}

/// The layer inside an [`AuditLayer`], which records the spans that the filter enables.
struct Recorder {
    intake: Arc<Intake>,
    open: Arc<Open>,
    adopted: Option<Arc<Adoptions>>,
    /// The subscriber that this layer is part of.
    #[cfg(feature = "tracing-opentelemetry")]
    dispatch: std::sync::OnceLock<tracing::dispatcher::WeakDispatch>,
}

impl Recorder {
    /// Returns the host's OpenTelemetry span that is active for a new span: that of the explicit
    /// parent if there is one, else the thread's.
    #[cfg(feature = "tracing-opentelemetry")]
    fn active(&self, parent: Option<&Id>) -> host::Active {
        match (parent, self.dispatch()) {
            (Some(parent), Some(dispatch)) => host::context(parent, &dispatch),
            _ => host::active(),
        }
    }

    #[cfg(not(feature = "tracing-opentelemetry"))]
    #[allow(clippy::unused_self, reason = "as with the feature")]
    fn active(&self, _parent: Option<&Id>) -> host::Active {
        host::active()
    }

    #[cfg(feature = "tracing-opentelemetry")]
    fn dispatch(&self) -> Option<Dispatch> {
        self.dispatch.get()?.upgrade()
    }

    /// Finds the subscriber when `on_register_dispatch` was not called: tracing-subscriber 0.3.23
    /// does not forward it from a layer in an `Option` or a `Vec`. The thread's current subscriber
    /// may differ from the span's.
    #[cfg(feature = "tracing-opentelemetry")]
    fn find_dispatch(&self, id: &Id) {
        if self.dispatch.get().is_none() && self.open.has(id) {
            tracing::dispatcher::get_default(|subscriber| {
                if self.open.is_named_by(id, subscriber) {
                    let _ = self.dispatch.set(subscriber.downgrade());
                }
            });
        }
    }

    /// Looks up the host's span for the record itself. Not when the record begins: the look-up
    /// starts the host's span, and then its parent can no longer be set.
    #[cfg(feature = "tracing-opentelemetry")]
    fn look_for_hosts(&self, id: &Id) {
        let is_to_do = |state: &mut SpanState| state.kind.is_some() && !state.host.is_looked_for();
        if self.open.with(id, is_to_do) == Some(true)
            && let Some(dispatch) = self.dispatch()
        {
            // No lock is held here.
            let found = host::of_span(id, &dispatch);
            self.open.with(id, |state| state.host.found(found));
        }
    }

    /// Records the outcome that an instrumented function reports in an event. Returns whether the
    /// event was such a report.
    fn outcome<S>(
        &self,
        event: &Event<'_>,
        plan: &Plan,
        outcome: Outcome,
        ctx: &Context<'_, S>,
    ) -> bool
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = ctx.event_span(event) else {
            return false;
        };
        // The filter may have disabled the current span, and the event may be that span's.
        if event.is_contextual() && ctx.current_span().id() != Some(&span.id()) {
            return false;
        }
        // `#[instrument]` makes the span and the events at one place in the source. An event from
        // another place is a callee's, whose failure this span may have handled.
        let (event_is, span_is) = (event.metadata(), span.metadata());
        if event_is.line() != span_is.line()
            || event_is.file() != span_is.file()
            || event_is.target() != span_is.target()
        {
            return false;
        }
        let limits = &self.intake.limits;
        let mut said = SpanState::scratch(*limits);
        let evidence = match outcome {
            Outcome::Err => Evidence::Err,
            Outcome::Ok => {
                let mut returned = Returned::default();
                event.record(&mut returned);
                returned.evidence()
            }
        };
        if evidence == Evidence::Err {
            event.record(&mut Visitor::new(plan, limits, &mut said.buffers));
        }
        self.open.with(&span.id(), |state| {
            state.record_reported(&said.buffers);
            state.saw(evidence);
        });
        said.recycle();
        true
    }

    /// Returns the plan of a new span; `None`: the audit layer ignores it.
    fn plan(&self, attributes: &Attributes<'_>) -> Option<PlanRef> {
        let plan = callsite::plan(attributes.metadata());
        let is_tagged = |plan: &PlanRef| matches!(plan.role, CallsiteRole::Audited(_));
        match &self.adopted {
            Some(adopted) if !plan.as_ref().is_some_and(is_tagged) => {
                adopted.plan(attributes).or(plan)
            }
            _ => plan,
        }
    }

    /// Adopts what an event reports of a record, or makes a record of it.
    #[cold]
    fn adopt<S>(&self, adopted: &Adoptions, event: &Event<'_>, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if let Some(sqlx) = adopted.sqlx(event) {
            let Some(statement) = adopt::sqlx::statement(event) else {
                return;
            };
            let is_of_run = self.open.with_record(ctx.event_span(event), |record| {
                let is_run = record.kind == Some(Kind::QueryRun);
                if is_run {
                    record.ran(&statement);
                }
                is_run
            });
            let is_run = sqlx.every_statement && !statement.is_of_transaction;
            if is_run && is_of_run != Some(true) {
                self.statement(&statement, event, ctx);
            }
        } else if let Some(plan) = adopted.report(event) {
            let Some(span) = ctx.event_span(event) else {
                return;
            };
            let is_request = |state: &mut SpanState| state.is(Adopted::Http);
            if self.open.with(&span.id(), is_request) == Some(true) {
                // No lock is held here.
                self.append(&span.id(), |limits, later| {
                    let mut visitor = Visitor::new(&plan, limits, later);
                    event.record(&mut visitor);
                    (visitor.saw_result, visitor.saw_status)
                });
            }
        }
    }

    /// Makes a query run of a statement that has ended.
    fn statement<S>(&self, statement: &Statement, event: &Event<'_>, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut state = self.begin_inside(Kind::QueryRun, event, ctx);
        let limits = self.intake.limits;
        adopt::sqlx::write(statement, &mut state.buffers, &limits);
        state.mark_ended_after(statement.elapsed);
        let _ = self.intake.hand_over(Kind::QueryRun, state);
    }

    /// Begins a record that has no span, inside the span that an event belongs to.
    fn begin_inside<S>(&self, kind: Kind, event: &Event<'_>, ctx: &Context<'_, S>) -> Box<SpanState>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let active = self.active(event.parent());
        let mut state = SpanState::begin(self.intake.limits, Some(kind), active);
        self.open.with_nearest(ctx.event_span(event), |enclosing| {
            state.inherit(enclosing, active);
        });
        state
    }

    /// Appends what `write` writes, which returns whether it saw a result, and a status.
    fn append(&self, id: &Id, write: impl FnOnce(&Limits, &mut Buffers) -> (bool, bool)) {
        let limits = &self.intake.limits;
        let mut later = SpanState::scratch(*limits);
        let (saw_result, saw_status) = write(limits, &mut later.buffers);
        self.open.with(id, |state| {
            state.record(&later.buffers, saw_result);
            state.has_said_status |= saw_status;
        });
        later.recycle();
    }

    /// Makes a record of a `tracing` event.
    fn instant<S>(&self, event: &Event<'_>, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(plan) = callsite::event_plan(event.metadata()) else {
            return;
        };
        let mut state = self.begin_inside(Kind::Event, event, ctx);
        event.record(&mut Visitor::new(
            &plan,
            &self.intake.limits,
            &mut state.buffers,
        ));
        state.mark_instant();
        // A full queue is counted; an event has no caller to return the error to.
        let _ = self.intake.hand_over(Kind::Event, state);
    }
}

impl<S> Layer<S> for Recorder
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        self.open.attach_to(subscriber);
        self.intake.canary.watch(subscriber.downgrade());
        // A layer belongs to one subscriber.
        #[cfg(feature = "tracing-opentelemetry")]
        let _ = self.dispatch.set(subscriber.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let plan = (!is_worker_thread())
            .then(|| self.plan(attributes))
            .flatten();
        let Some(plan) = plan else { return };
        let kind = match plan.role {
            CallsiteRole::Audited(kind) => Some(kind),
            _ => None,
        };
        let active = match kind {
            Some(_) => self.active(attributes.parent()),
            None => host::Active::default(),
        };
        let mut state = SpanState::begin(self.intake.limits, kind, active);
        state.buffers.context.extend_from_slice(&plan.said.context);
        state.buffers.body.extend_from_slice(&plan.said.body);
        // The state is not in the table yet and no lock is held: a value's `Debug` may log and open
        // spans.
        attributes.record(&mut Visitor::new(
            &plan,
            &self.intake.limits,
            &mut state.buffers,
        ));
        state.metadata = Some(attributes.metadata());
        state.plan = Some(plan);
        let current = attributes.is_contextual().then(|| ctx.current_span());
        let parent = match &current {
            Some(current) => current.id().map(|id| (id, current.metadata())),
            // `None` if the filter disabled the parent, which then has no state.
            None => attributes.parent().map(|id| (id, ctx.metadata(id))),
        };
        self.open.keep(id, state, parent, active, || ctx.span(id));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let rest = self.open.with(id, |state| {
            let has_rest = state.record_plain(values);
            has_rest.then(|| state.plan.clone()).flatten()
        });
        let Some(Some(plan)) = rest else { return };
        // No lock is held here.
        self.append(id, |limits, later| {
            let mut visitor = Visitor::rest(&plan, limits, later);
            values.record(&mut visitor);
            (visitor.saw_result, visitor.saw_status)
        });
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        if is_worker_thread() {
            return;
        }
        let Some(plan) = callsite::plan(event.metadata()) else {
            if let Some(adopted) = &self.adopted {
                self.adopt(adopted, event, &ctx);
            }
            return;
        };
        if let CallsiteRole::Outcome(outcome) = plan.role
            && (self.outcome(event, &plan, outcome, &ctx)
                || !callsite::is_tagged_event(event.metadata()))
        {
            return;
        }
        self.instant(event, &ctx);
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        #[cfg(feature = "tracing-opentelemetry")]
        {
            self.find_dispatch(id);
            self.look_for_hosts(id);
        }
        if std::thread::panicking() {
            self.open.with(id, |state| state.entered_amid_panic = true);
        }
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        if std::thread::panicking() {
            self.open.with(id, SpanState::leave_by_panic);
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        // For a span that was never entered. If the host's layer is called first, its span is gone.
        #[cfg(feature = "tracing-opentelemetry")]
        self.look_for_hosts(&id);
        let Some(mut state) = self.open.take(&id) else {
            return;
        };
        let Some(kind) = state.kind else {
            state.recycle();
            return;
        };
        if std::thread::panicking() {
            state.close_by_panic();
        }
        state.list_statements();
        if state.may_miss_context() {
            let now = state.late.now();
            let around = self
                .open
                .around(ctx.span(&id).and_then(|span| span.parent()));
            state.inherit_late(&around, now);
        }
        // A full queue is counted; a closing span has no caller to return the error to.
        let _ = self.intake.hand_over(kind, state);
    }
}
