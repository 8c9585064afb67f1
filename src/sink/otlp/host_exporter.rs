//! Hands spans to the host's own exporter, on a thread without a runtime.
//!
//! As the SDK's `BatchSpanProcessor` does: one export at a time, on a thread of its own, driven by
//! `futures_executor`, within a scope in which OpenTelemetry records nothing. So an exporter with a
//! blocking client works, and one that was made within a runtime, such as the gRPC exporter of
//! `opentelemetry-otlp`, goes on using that runtime.
//!
//! The thread may be blocked for good by an exporter that never returns. Nothing waits for it longer
//! than the timeout of a request, and the process can end.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fault::Fault;
use super::payload::Scoped;
use super::span_data;
use crate::config::otlp_exporter::HostExporter;
use crate::error::BuildError;
use crate::own_threads::mark_worker_thread;

/// How long a shutdown waits for that of the exporter.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// What the thread is to do.
enum Job {
    Export {
        resource: opentelemetry_sdk::Resource,
        spans: Vec<SpanData>,
        answer: oneshot::Sender<OTelSdkResult>,
    },
    ShutDown {
        done: oneshot::Sender<()>,
    },
}

/// The thread that runs the host's exporter.
#[derive(Clone, Debug)]
pub(super) struct ExporterThread(mpsc::Sender<Job>);

impl ExporterThread {
    /// Starts it. It ends when nobody can ask it for anything any more.
    pub(super) fn start(exporter: HostExporter) -> Result<Self, BuildError> {
        let (jobs, asked) = mpsc::channel();
        std::thread::Builder::new()
            .name(String::from("tracing-audit-exporter"))
            .spawn(move || {
                mark_worker_thread();
                let _unheard = Context::enter_telemetry_suppressed_scope();
                for job in asked {
                    run(&exporter, job);
                }
            })
            .map_err(BuildError::Thread)?;
        Ok(Self(jobs))
    }
}

fn run(exporter: &HostExporter, job: Job) {
    match job {
        Job::Export {
            resource,
            spans,
            answer,
        } => {
            let ran = catch_unwind(AssertUnwindSafe(|| exporter.export(resource, spans)));
            // After a panic the sender is dropped, which is the answer.
            if let Ok(result) = ran {
                let _ = answer.send(result);
            }
        }
        Job::ShutDown { done } => {
            let _ = catch_unwind(AssertUnwindSafe(|| exporter.shut_down(SHUTDOWN_GRACE)));
            let _ = done.send(());
        }
    }
}

/// The host's exporter, as the loop sees it.
#[derive(Debug)]
pub(super) struct ToExporter {
    thread: ExporterThread,
    timeout: Duration,
    /// An export that was not answered in time and still runs.
    late: Option<Late>,
    /// The spans of a late export that was accepted after all: they are not exported again.
    accepted: HashSet<SpanKey>,
}

#[derive(Debug)]
struct Late {
    spans: HashSet<SpanKey>,
    answer: oneshot::Receiver<OTelSdkResult>,
}

type SpanKey = (Vec<u8>, Vec<u8>);

fn key(scoped: &Scoped) -> SpanKey {
    (scoped.span.trace_id.clone(), scoped.span.span_id.clone())
}

impl ToExporter {
    pub(super) fn new(thread: ExporterThread, timeout: Duration) -> Self {
        Self {
            thread,
            timeout,
            late: None,
            accepted: HashSet::new(),
        }
    }

    /// Exports spans. An exporter never runs twice at once: one that has not returned yet is waited
    /// for first, for as long as a request may take.
    pub(super) async fn spans(
        &mut self,
        resource: &Resource,
        spans: &[Scoped],
    ) -> Result<(), Fault> {
        if let Some(mut late) = self.late.take() {
            match timeout(self.timeout, &mut late.answer).await {
                Err(_) => {
                    self.late = Some(late);
                    return Err(Fault::TimedOut);
                }
                Ok(Ok(Ok(()))) => self.accepted.extend(late.spans),
                Ok(_) => {}
            }
        }
        let rest: Vec<_> = spans
            .iter()
            .filter(|scoped| !self.accepted.contains(&key(scoped)))
            .collect();
        if !rest.is_empty() {
            self.send(resource, &rest).await?;
        }
        for scoped in spans {
            if self.accepted.is_empty() {
                break;
            }
            self.accepted.remove(&key(scoped));
        }
        Ok(())
    }

    async fn send(&mut self, resource: &Resource, spans: &[&Scoped]) -> Result<(), Fault> {
        let (answer, mut answered) = oneshot::channel();
        let job = Job::Export {
            resource: span_data::resource(resource),
            spans: spans.iter().map(|scoped| span_data::span(scoped)).collect(),
            answer,
        };
        if self.thread.0.send(job).is_err() {
            return Err(retry("the thread of the exporter has ended"));
        }
        match timeout(self.timeout, &mut answered).await {
            Err(_) => {
                self.late = Some(Late {
                    spans: spans.iter().map(|scoped| key(scoped)).collect(),
                    answer: answered,
                });
                Err(Fault::TimedOut)
            }
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(fault(&error)),
            Ok(Err(_)) => Err(retry("the exporter panicked")),
        }
    }

    /// Shuts the exporter down, unless it does not return.
    pub(super) async fn shut_down(&self) {
        let (done, is_done) = oneshot::channel();
        if self.thread.0.send(Job::ShutDown { done }).is_ok() {
            let _ = timeout(SHUTDOWN_GRACE, is_done).await;
        }
    }
}

fn retry(cause: &str) -> Fault {
    Fault::Retry {
        after: None,
        cause: cause.to_owned(),
    }
}

/// The exporter's own text is not repeated: it may hold anything.
fn fault(error: &OTelSdkError) -> Fault {
    match error {
        OTelSdkError::Timeout(_) => Fault::TimedOut,
        OTelSdkError::AlreadyShutdown => retry("the exporter is shut down"),
        OTelSdkError::InternalFailure(_) => retry("the exporter reports a failure"),
    }
}
