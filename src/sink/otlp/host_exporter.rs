//! Hands spans to the host's own exporter, on a thread without a runtime.
//!
//! As the SDK's `BatchSpanProcessor` does: one export at a time, on a thread of its own, driven by
//! `futures_executor`, within a scope in which OpenTelemetry records nothing. So an exporter with a
//! blocking client works, and one that was made within a runtime, such as the gRPC exporter of
//! `opentelemetry-otlp`, goes on using that runtime.
//!
//! The thread may be blocked for good by an exporter that never returns. Nothing waits for it longer
//! than the timeout of a request, and the process can end.
//!
//! **An exporter fails a batch as a whole and does not say whether it would take it later.** So a
//! batch is exported again, and after [`PATIENCE`] failures it is split, down to the spans that fail
//! alone. Such a span counts as refused once it has failed [`PATIENCE`] times alone after the
//! exporter took other spans, of the same batch or a later one. While the exporter takes nothing at all, nothing is given up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fault::{Fault, PATIENCE};
use super::payload::Scoped;
use super::span_data;
use crate::config::otlp_exporter::HostExporter;
use crate::error::BuildError;
use crate::own_threads::mark_worker_thread;

/// How long a shutdown waits for that of the exporter.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// How many exports of parts of a batch may fail in a row before the rest waits for the next
/// attempt: while the exporter takes nothing, a batch is not split into single spans.
const FAILED_PARTS: u32 = 16;

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
    /// Spans of a batch that is not done yet, and that are not exported again.
    settled: HashMap<SpanKey, Outcome>,
    /// Spans that failed alone, or are the first of a batch that failed.
    suspects: HashMap<SpanKey, Suspect>,
    /// How many exports were accepted.
    successes: u64,
}

#[derive(Debug)]
struct Late {
    spans: HashSet<SpanKey>,
    answer: oneshot::Receiver<OTelSdkResult>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    Refused,
}

#[derive(Debug, Default)]
struct Suspect {
    /// How often a batch that begins with the span failed.
    batches: u32,
    /// How many exports had been accepted before the first attempt in which the span failed alone.
    successes_before: Option<u64>,
    /// How often the span has failed alone since the exporter accepted others.
    alone: u32,
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
            settled: HashMap::new(),
            suspects: HashMap::new(),
            successes: 0,
        }
    }

    /// Exports spans and returns how many of them count as refused. An exporter never runs twice at
    /// once: one that has not returned yet is waited for first, for as long as a request may take.
    pub(super) async fn spans(
        &mut self,
        resource: &Resource,
        spans: &[Scoped],
    ) -> Result<u64, Fault> {
        if let Some(mut late) = self.late.take() {
            match timeout(self.timeout, &mut late.answer).await {
                Err(_) => {
                    self.late = Some(late);
                    return Err(Fault::TimedOut);
                }
                Ok(Ok(Ok(()))) => self.accept(late.spans),
                Ok(_) => {}
            }
        }
        let rest: Vec<_> = spans
            .iter()
            .filter(|scoped| !self.settled.contains_key(&key(scoped)))
            .collect();
        self.export_parts(resource, &rest).await?;
        let outcomes = spans
            .iter()
            .filter_map(|scoped| self.settled.remove(&key(scoped)));
        let refused = outcomes.filter(|outcome| *outcome == Outcome::Refused);
        Ok(refused.count() as u64)
    }

    /// Exports spans until each is accepted or refused, or returns why some are not; splits a batch
    /// that has failed [`PATIENCE`] times.
    async fn export_parts(&mut self, resource: &Resource, spans: &[&Scoped]) -> Result<(), Fault> {
        let Some(first) = spans.first().map(|scoped| key(scoped)) else {
            return Ok(());
        };
        let successes_before = self.successes;
        let mut parts = VecDeque::from([spans]);
        let (mut failed, mut failed_in_a_row) = (None, 0);
        while let Some(part) = parts.pop_front() {
            let Err(fault) = self.send(resource, part).await else {
                self.accept(part.iter().map(|scoped| key(scoped)));
                failed_in_a_row = 0;
                continue;
            };
            if self.late.is_some() || matches!(fault, Fault::Hold { .. }) {
                return Err(fault);
            }
            failed_in_a_row += 1;
            if let [span] = part {
                if self.refuses(key(span), successes_before) {
                    continue;
                }
            } else {
                let suspect = self.suspects.entry(first.clone()).or_default();
                suspect.batches += u32::from(part.len() == spans.len());
                if suspect.batches >= PATIENCE {
                    // Last, so that a part that fails is tried again after the others.
                    let (begin, end) = part.split_at(part.len() / 2);
                    parts.extend([begin, end]);
                }
            }
            failed = Some(fault);
            if failed_in_a_row >= FAILED_PARTS {
                break;
            }
        }
        // A part that failed and was split since may have been accepted.
        let is_done = |scoped: &&Scoped| self.settled.contains_key(&key(scoped));
        match failed {
            Some(fault) if !spans.iter().all(is_done) => {
                Err(if self.successes > successes_before {
                    Fault::Partly {
                        cause: fault.cause().to_owned(),
                    }
                } else {
                    fault
                })
            }
            _ => Ok(()),
        }
    }

    fn accept(&mut self, spans: impl IntoIterator<Item = SpanKey>) {
        self.successes += 1;
        for span in spans {
            self.suspects.remove(&span);
            self.settled.insert(span, Outcome::Accepted);
        }
    }

    /// Notes that a span failed alone, in an attempt before which so many exports had been accepted;
    /// returns whether it counts as refused now.
    fn refuses(&mut self, span: SpanKey, successes_before: u64) -> bool {
        let suspect = self.suspects.entry(span.clone()).or_default();
        let before = *suspect.successes_before.get_or_insert(successes_before);
        suspect.alone += u32::from(self.successes > before);
        let is_refused = suspect.alone >= PATIENCE;
        if is_refused {
            self.suspects.remove(&span);
            self.settled.insert(span, Outcome::Refused);
        }
        is_refused
    }

    async fn send(&mut self, resource: &Resource, spans: &[&Scoped]) -> Result<(), Fault> {
        let (answer, mut answered) = oneshot::channel();
        let job = Job::Export {
            resource: span_data::resource(resource),
            spans: spans.iter().map(|scoped| span_data::span(scoped)).collect(),
            answer,
        };
        if self.thread.0.send(job).is_err() {
            return Err(Fault::Hold {
                cause: String::from("the thread of the exporter has ended"),
            });
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
        OTelSdkError::AlreadyShutdown => Fault::Hold {
            cause: String::from("the exporter is shut down"),
        },
        OTelSdkError::InternalFailure(_) => retry("the exporter reports a failure"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use opentelemetry_sdk::trace::SpanExporter;

    use super::super::payload::Gap;
    use super::*;
    use crate::config::otlp::Otlp;

    #[derive(Clone, Debug, Default)]
    struct Switched {
        is_up: Arc<AtomicBool>,
        calls: Arc<AtomicUsize>,
        taken: Arc<Mutex<Vec<SpanData>>>,
    }

    impl SpanExporter for Switched {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.calls.fetch_add(1, Ordering::Relaxed);
            if !self.is_up.load(Ordering::Relaxed) {
                return Err(OTelSdkError::InternalFailure(String::from("down")));
            }
            self.taken.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    fn scoped(count: u32) -> Vec<Scoped> {
        let gap = |n| Gap {
            records: 1,
            first_seq: 1,
            last_seq: 1,
            first_us: i64::from(n),
            last_us: i64::from(n),
        };
        let settings = Otlp::new("http://localhost:4318");
        (0..count).map(|n| gap(n).span(&settings)).collect()
    }

    #[tokio::test]
    async fn exporter_that_takes_nothing_gets_everything_once_it_is_back() {
        for count in [1, 2, 500] {
            let exporter = Switched::default();
            let thread = ExporterThread::start(HostExporter::new(exporter.clone())).unwrap();
            let mut to = ToExporter::new(thread, Duration::from_mins(1));
            let spans = scoped(count);
            let attempts = 20;
            for _ in 0..attempts {
                let answer = to.spans(&Resource::default(), &spans).await;
                assert!(matches!(answer, Err(Fault::Retry { .. })), "{answer:?}");
            }
            let calls = exporter.calls.load(Ordering::Relaxed);
            assert!(calls <= attempts * FAILED_PARTS as usize, "{calls}");
            exporter.is_up.store(true, Ordering::Relaxed);
            let answer = to.spans(&Resource::default(), &spans).await;
            assert_eq!(answer, Ok(0));
            assert_eq!(exporter.taken.lock().unwrap().len(), spans.len());
            assert!(to.settled.is_empty() && to.suspects.is_empty());
        }
    }
}
