//! The thread that seals the trail.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::SinkRuntime;
use super::threads::{either, spawn, supervise};
use crate::config::Config;
use crate::delivery::commit::Progress;
use crate::error::BuildError;
use crate::report;
use crate::seal::{Notice, Notify, Sealer};
use crate::stats::Counters;

/// Starts it, if that is set up.
pub(super) fn start(
    config: &Config,
    progress: &Arc<Progress>,
    counters: &Arc<Counters>,
) -> Result<Option<JoinHandle<()>>, BuildError> {
    let Some(settings) = config.seal.clone() else {
        return Ok(None);
    };
    let runtime = SinkRuntime::new().map_err(BuildError::Thread)?;
    let (progress, counters) = (Arc::clone(progress), Arc::clone(counters));
    let notify: Notify = Arc::new(say);
    // Kept across a panic: this alone knows what it has signed.
    let mut sealer = Sealer::new(&config.postgres, settings, notify);
    let run = move || {
        let stopping = Arc::clone(&progress);
        supervise(
            &counters,
            || stopping.should_stop(),
            |_| (),
            || runtime.block_on(either(sealer.run(), progress.wait_for_end())),
        );
    };
    spawn("tracing-audit-seal", run).map(Some)
}

/// Logs what an operator has to know.
fn say(notice: &Notice) {
    if !notice.is_change() {
        return;
    }
    let notice = notice.clone();
    report::say(move || {
        if notice.is_failure() {
            tracing::error!(target: "tracing_audit", "audit trail: {notice}");
        } else {
            tracing::info!(target: "tracing_audit", "audit trail: {notice}");
        }
    });
}
