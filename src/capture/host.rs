//! The spans that the host's own OpenTelemetry tracer makes, alongside our records.
//!
//! With feature `tracing-opentelemetry`, a record takes the trace of the host's span that is active
//! when it begins, and the ids of the host's span for the record itself, if the host's
//! tracing-opentelemetry layer makes one. Without the feature, this module does nothing.
//!
//! The host's span for a record is looked up when the record's span is entered, not when it begins:
//! the look-up starts the host's span, and then the host could no longer set its parent.

#[cfg(not(feature = "tracing-opentelemetry"))]
pub(crate) use without::{Active, Host, active};

#[cfg(feature = "tracing-opentelemetry")]
pub(crate) use with::{Active, Host, active, context, of_span, set_parent};

#[cfg(not(feature = "tracing-opentelemetry"))]
#[allow(clippy::unused_self, reason = "as with the feature")]
mod without {
    /// The host's spans that a record knows of.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Host {}

    /// The host's active span.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Active {}

    pub(crate) fn active() -> Active {
        Active {}
    }

    impl Host {
        pub(crate) fn begin(_active: Active, _enclosing: Option<&Self>) -> Self {
            Self {}
        }

        pub(crate) fn write(self, _body: &mut Vec<u8>) {}
    }
}

#[cfg(feature = "tracing-opentelemetry")]
mod with {
    use opentelemetry::Context;
    use opentelemetry::trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    };
    use tracing::Dispatch;
    use tracing::span::Id;
    use tracing_opentelemetry::{OpenTelemetrySpanExt as _, get_otel_context};
    use tracing_subscriber::Registry;
    use tracing_subscriber::registry::LookupSpan as _;

    use crate::record::encode::{self, Key, ty};
    use crate::record::trace::HostSpan;
    use crate::vocabulary::Field;

    /// The host's spans that a record knows of.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Host {
        /// The span that was active when the record began.
        active: Option<HostSpan>,
        /// The span for the record itself.
        own: Option<HostSpan>,
        is_looked_for: bool,
    }

    /// The host's active span.
    pub(crate) type Active = Option<HostSpan>;

    impl Host {
        /// Returns the state of a record that begins while `active` is active, within the record
        /// `enclosing`.
        pub(crate) fn begin(active: Active, enclosing: Option<&Self>) -> Self {
            let known = enclosing.and_then(|enclosing| enclosing.active);
            let active = match (active, known) {
                (Some(active), Some(known)) => Some(HostSpan {
                    // The enclosing record also began within it, and so is nearer.
                    is_nearest: active.span_id != known.span_id,
                    ..active
                }),
                (Some(active), None) => Some(active),
                (None, Some(known)) => Some(HostSpan {
                    is_nearest: false,
                    ..known
                }),
                (None, None) => None,
            };
            Self {
                active,
                own: None,
                is_looked_for: false,
            }
        }

        pub(crate) fn is_looked_for(&self) -> bool {
            self.is_looked_for
        }

        pub(crate) fn found(&mut self, own: Option<HostSpan>) {
            self.own = own;
            self.is_looked_for = true;
        }

        /// Appends both spans as entries of a frame.
        pub(crate) fn write(self, body: &mut Vec<u8>) {
            for (field, span) in [
                (Field::HostContext, self.active),
                (Field::HostSpan, self.own),
            ] {
                if let Some(span) = span {
                    let bytes = span.to_bytes();
                    encode::text(body, Key::Field(field), ty::BYTES, &bytes, bytes.len());
                }
            }
        }
    }

    fn host_span(context: &SpanContext) -> Option<HostSpan> {
        context.is_valid().then(|| HostSpan {
            trace_id: context.trace_id().to_bytes(),
            span_id: context.span_id().to_bytes(),
            is_sampled: context.is_sampled(),
            is_nearest: true,
        })
    }

    /// Destroyed before OpenTelemetry's thread-local, because it is created after it.
    struct Alive;

    impl Drop for Alive {
        fn drop(&mut self) {}
    }

    thread_local! {
        static ALIVE: Alive = {
            Context::map_current(|_| ());
            Alive
        };
    }

    /// Returns the host's active span on this thread; `None` also while the thread is ending, when
    /// the look-up would end the program.
    pub(crate) fn active() -> Active {
        let asking = || {
            let current = || Context::map_current(|cx| host_span(cx.span().span_context()));
            ALIVE.try_with(|_| current()).ok().flatten()
        };
        std::panic::catch_unwind(asking).ok().flatten()
    }

    /// Makes a span of the host's the parent of its span for this span of `tracing`.
    pub(crate) fn set_parent(span: &tracing::Span, parent: HostSpan) {
        let context = SpanContext::new(
            TraceId::from_bytes(parent.trace_id),
            SpanId::from_bytes(parent.span_id),
            TraceFlags::default().with_sampled(parent.is_sampled),
            false,
            TraceState::default(),
        );
        let parent = Context::new().with_remote_span_context(context);
        // Fails where the subscriber has no such layer, which then needs no parent.
        let _ = span.set_parent(parent);
    }

    /// Returns the host's span for this span of `tracing`. The caller must hold no lock on that
    /// span.
    pub(crate) fn of_span(id: &Id, dispatch: &Dispatch) -> Option<HostSpan> {
        host_span(get_otel_context(id, dispatch)?.span().span_context())
    }

    /// Returns the host's span for this span of `tracing` or else for the nearest that encloses it.
    pub(crate) fn context(id: &Id, dispatch: &Dispatch) -> Option<HostSpan> {
        let mut nearest = dispatch.downcast_ref::<Registry>()?.span(id);
        while let Some(span) = nearest {
            if let Some(found) = of_span(&span.id(), dispatch) {
                return Some(found);
            }
            nearest = span.parent();
        }
        None
    }
}
