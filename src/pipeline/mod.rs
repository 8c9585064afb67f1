//! Starts the pipeline: connects its stages and owns their threads.
//!
//! Two threads, so that a slow database never blocks the local log: one moves records from the
//! queue to the spool, the other drains the spools into Postgres on a runtime of its own. They
//! share [`Progress`]. A third thread exports, if that is set up, and blocks neither; its state is
//! in [`Export`].

mod clocks;
mod in_flight;
#[cfg(feature = "seal")]
mod seal;
mod spooler;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use self::spooler::Spooler;
pub(crate) use self::threads::SinkRuntime;
use self::threads::{STOP_GRACE, either, spawn, supervise};
use crate::config::Config;
use crate::delivery::commit::{FlushReply, Progress};
use crate::delivery::export::Export;
use crate::error::BuildError;
use crate::fork::Process;
use crate::intake::Intake;
use crate::own_threads::is_worker_thread;
use crate::record::id;
use crate::report;
#[cfg(feature = "otlp")]
use crate::sink::otlp;
use crate::sink::postgres::drain::Drain;
use crate::spool::root::Root;
use crate::spool::{Positions, Sink, Spool};
use crate::stats::Counters;
#[cfg(feature = "otlp")]
use crate::stats::Stats;

/// Returns how long a caller waits for the worker, which itself gives up after `timeout`: a disk
/// that hangs blocks the worker, but not its callers.
pub(crate) fn patience(timeout: Duration) -> Duration {
    timeout.saturating_add(STOP_GRACE + Duration::from_secs(1))
}

/// A running pipeline; dropping it flushes and stops it.
#[derive(Debug)]
pub(crate) struct Pipeline {
    intake: Arc<Intake>,
    drop_timeout: Duration,
}

impl Pipeline {
    pub(crate) fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    pub(crate) fn shutdown_blocking(&self, timeout: Duration) {
        if is_worker_thread() {
            // The thread would wait for itself.
            return;
        }
        let (reply, replied) = std::sync::mpsc::sync_channel(1);
        self.intake.shutdown(
            timeout,
            Box::new(move |()| {
                let _ = reply.try_send(());
            }),
        );
        // An error means that the worker has ended, or that its disk no longer responds.
        let _ = replied.recv_timeout(patience(timeout));
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.shutdown_blocking(self.drop_timeout);
    }
}

/// Ends the pipeline when the worker's thread ends, however it ends.
struct EndsPipeline(Arc<Intake>);

impl Drop for EndsPipeline {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The settings that an operator looks for first.
struct Started {
    place: String,
    login: String,
    root: PathBuf,
}

impl Started {
    /// Logs in one line where the trail goes.
    fn say(self) {
        report::say(move || {
            let Self { place, login, root } = self;
            tracing::info!(
                target: "tracing_audit",
                "audit trail: writing to Postgres at {place} as {login}, local log in {}, tracing-audit {}",
                root.display(),
                env!("CARGO_PKG_VERSION")
            );
        });
    }
}

/// Starts the threads of a pipeline.
pub(crate) fn start(config: Config) -> Result<Pipeline, BuildError> {
    // This process may be one of several that were forked from the same parent.
    id::seed_again();
    threads::note_panics();
    let cannot_open = |folder: PathBuf, source| BuildError::Spool { folder, source };
    let database = config.postgres.first();
    let root = Root::choose(config.spool_folder.clone(), &config.service_name, database)
        .map_err(|error| cannot_open(std::env::temp_dir(), Box::new(error)))?;
    // The export settings are checked before anything is made.
    #[cfg(feature = "otlp")]
    let exporter = exporter(&config)?;
    let positions = match config.export_quota_bytes {
        Some(_) => Positions::BEGINNING.with(Sink::Otlp, 1),
        None => Positions::BEGINNING,
    };
    if let Some(note) = root.note {
        report::say(move || {
            tracing::warn!(target: "tracing_audit", "audit trail: {note}");
        });
    }
    let root = root.path;
    let spool = Spool::create(&root, &config.service_name, positions)
        .map_err(|error| cannot_open(root.clone(), Box::new(error)))?;
    let started = Started {
        place: config.postgres.place(),
        login: config.postgres.login().to_owned(),
        root,
    };
    let counters = Counters::new(config.batch.age, config.spool_quota_bytes);
    #[cfg(feature = "redact")]
    let counters = counters.with_redaction(config.redactor.counts());
    let counters = Arc::new(counters);
    let intake = Arc::new(Intake::new(
        &config.intake,
        Arc::clone(&counters),
        Process::current(),
    ));
    let drop_timeout = config.drop_timeout;
    let config = Arc::new(config);
    let progress = Arc::new(Progress::new(Arc::clone(&counters)));
    let export = config
        .export_quota_bytes
        .map(|_| Arc::new(Export::new(Arc::clone(&counters))));
    let spool = Arc::new(spool);
    let sink = start_postgres(&config, &progress, &spool, export.as_ref(), &intake)?;
    #[cfg_attr(
        not(any(feature = "otlp", feature = "seal")),
        expect(unused_mut, reason = "there is one sink")
    )]
    let mut sinks = vec![sink];
    #[cfg(feature = "otlp")]
    if let (Some(exporter), Some(export)) = (exporter, &export) {
        let observe = observe(&intake, &progress);
        let started = start_export(exporter, export, &counters, &spool, observe);
        sinks.push(started.inspect_err(|_| progress.stop())?);
    }
    #[cfg(feature = "seal")]
    {
        let started = seal::start(&config, &progress, &counters);
        sinks.extend(started.inspect_err(|_| stop_sinks(&progress, export.as_deref()))?);
    }
    let stop = {
        let (progress, export) = (Arc::clone(&progress), export.clone());
        move || stop_sinks(&progress, export.as_deref())
    };
    let spooler = Spooler::new(Arc::clone(&intake), config, progress, export, spool);
    // Held until the thread is known, so that no command comes before it.
    let mut commands = intake.commands();
    let ending = Arc::clone(&intake);
    let worker = spawn("tracing-audit-spool", move || {
        // Made on the thread: a thread that cannot be started ends nothing.
        let _ending = EndsPipeline(ending);
        spooler.run(&sinks);
    })
    .inspect_err(|_| stop())?;
    commands.worker = Some(worker.thread().clone());
    drop(commands);
    started.say();
    Ok(Pipeline {
        intake,
        drop_timeout,
    })
}

fn stop_sinks(progress: &Progress, export: Option<&Export>) {
    progress.stop();
    if let Some(export) = export {
        export.stop();
    }
}

/// Starts the thread that drains the spools into Postgres.
fn start_postgres(
    config: &Arc<Config>,
    progress: &Arc<Progress>,
    spool: &Arc<Spool>,
    export: Option<&Arc<Export>>,
    intake: &Arc<Intake>,
) -> Result<JoinHandle<()>, BuildError> {
    let runtime = SinkRuntime::new().map_err(BuildError::Thread)?;
    let (config, progress, spool) = (Arc::clone(config), Arc::clone(progress), Arc::clone(spool));
    let (export, intake) = (export.cloned(), Arc::clone(intake));
    let (counters, stopping) = (Arc::clone(&intake.counters), Arc::clone(&progress));
    let run = move || {
        let telling = Arc::clone(&intake);
        let drain = Drain::new(
            Arc::clone(&config),
            Arc::clone(&progress),
            Arc::clone(&intake.counters),
            Arc::clone(&spool),
            export.clone(),
            Arc::clone(&intake.required),
            Box::new(move |record, told| {
                // A record that finds the queue full is counted.
                if telling.record(&record).is_ok()
                    && let Some(told) = told
                {
                    let reply: FlushReply = Box::new(move |flushed| {
                        if flushed.is_ok() {
                            told();
                        }
                    });
                    telling.flush(TELL_TIMEOUT, reply);
                }
            }),
        );
        // A server that no longer responds is waited for until the sink must stop.
        runtime.block_on(either(drain.run(), progress.wait_for_end()));
    };
    spawn("tracing-audit-postgres", move || {
        supervise(
            &counters,
            || stopping.should_stop(),
            |fault| counters.sink_panicked(fault),
            run,
        );
    })
}

/// How long to wait until a row about a disagreement is committed; after that, the next process
/// reports it again.
const TELL_TIMEOUT: Duration = Duration::from_hours(24);

/// An export, and the runtime that it will run on.
#[cfg(feature = "otlp")]
type ReadyExporter = (otlp::Exporter, SinkRuntime);

/// Checks the export settings and returns the export, if it is set up.
#[cfg(feature = "otlp")]
fn exporter(config: &Config) -> Result<Option<ReadyExporter>, BuildError> {
    let Some(settings) = config.otlp.clone() else {
        return Ok(None);
    };
    let runtime = SinkRuntime::new().map_err(BuildError::Thread)?;
    let exporter = {
        let _entered = runtime.enter();
        otlp::Exporter::new(settings)?
    };
    Ok(Some((exporter, runtime)))
}

#[cfg(feature = "otlp")]
fn observe(intake: &Arc<Intake>, progress: &Arc<Progress>) -> otlp::Observe {
    let (intake, progress) = (Arc::clone(intake), Arc::clone(progress));
    Arc::new(move || otlp::Observed {
        stats: Stats::take(&intake.counters, &intake.queue),
        oldest_pending: progress.oldest_pending(),
    })
}

#[cfg(feature = "otlp")]
fn start_export(
    (exporter, runtime): ReadyExporter,
    export: &Arc<Export>,
    counters: &Arc<Counters>,
    spool: &Arc<Spool>,
    observe: otlp::Observe,
) -> Result<JoinHandle<()>, BuildError> {
    counters.export.turn_on();
    let (export, counters, spool) = (Arc::clone(export), Arc::clone(counters), Arc::clone(spool));
    spawn("tracing-audit-otlp", move || {
        // Kept across a panic: only this knows what was exported and what is still to be reported.
        let mut drain: Option<otlp::Drain> = None;
        let run = || {
            let _entered = runtime.enter();
            if let Some(drain) = &drain {
                drain.renew();
            }
            let drain =
                drain.get_or_insert_with(|| exporter.start(&export, &counters, &spool, &observe));
            runtime.block_on(drain.run());
        };
        let panicked = |_: &str| {
            export.mark_failing(false);
            counters.export.set_failing(true);
        };
        supervise(&counters, || export.should_stop(), panicked, run);
    })
}

#[cfg(test)]
mod tests;
