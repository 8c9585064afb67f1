//! Detects a filter of the whole subscriber that hides audit spans, which nothing else would
//! report.
//!
//! Such a filter (`.with(EnvFilter::from_default_env())`) decides before any layer is called, so no
//! layer sees a span that it hides. Instead, the canary asks the subscriber whether a span like the
//! host's is enabled, on a thread of its own: a filter runs host code, and asking leaves its answer
//! behind on the thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;
use tracing::dispatcher::{self, WeakDispatch};

use crate::fork::Process;
use crate::report;
use crate::stats::Counters;

/// How long a subscriber has existed before it is asked: by then it is complete and in use.
const AFTER: Duration = Duration::from_secs(1);

/// The subscribers that have one of our layers and have not been asked yet.
pub(crate) struct Canary {
    subscribers: Mutex<Vec<(Instant, WeakDispatch)>>,
    process: Process,
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canary").finish_non_exhaustive()
    }
}

impl Canary {
    pub(crate) fn new(process: Process) -> Self {
        Self {
            subscribers: Mutex::default(),
            process,
        }
    }

    /// Adds a subscriber that one of our layers has become part of.
    pub(crate) fn watch(&self, subscriber: WeakDispatch) {
        // Fails only in a forked process, where no worker would ask the subscriber anyway.
        if let Some(mut subscribers) = self.process.lock(&self.subscribers) {
            subscribers.push((Instant::now(), subscriber));
        }
    }

    /// Asks the subscribers that are due. With `has_records`, audit spans get through all the same,
    /// such as those that are tagged by their name.
    pub(crate) fn look(&self, now: Instant, counters: &Arc<Counters>, has_records: bool) {
        let mut subscribers = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due: Vec<_> = subscribers
            .extract_if(.., |(since, _)| now.duration_since(*since) >= AFTER)
            .filter_map(|(_, subscriber)| subscriber.upgrade())
            .collect();
        drop(subscribers);
        for subscriber in due {
            let counters = Arc::clone(counters);
            report::say(move || {
                let is_seen = dispatcher::with_default(
                    &subscriber,
                    || tracing::span_enabled!(target: "audit.query_run", Level::INFO),
                );
                if is_seen || has_records {
                    return;
                }
                counters.set_hidden();
                dispatcher::with_default(&subscriber, || {
                    tracing::error!(
                        target: "tracing_audit",
                        "audit trail: a filter of the whole subscriber hides audit spans, so they make no records. Put the \
                         filter on the layer that it is meant for, with Layer::with_filter"
                    );
                });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Dispatch;

    use super::*;

    #[test]
    fn forked_process_registers_a_subscriber_while_the_list_stays_locked() {
        let canary = Canary::new(Process::another());
        let held = canary.subscribers.lock().unwrap();
        canary.watch(Dispatch::none().downgrade());
        drop(held);
    }
}
