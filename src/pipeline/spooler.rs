//! The thread that moves records from the queue to the spool, and answers to the handle.

use std::error::Error;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::export::Export;
use super::progress::Progress;
use super::{STOP_GRACE, Shared, StopReply};
use crate::capture::clock;
use crate::config::Config;
use crate::error::FlushError;
use crate::queue::Chunk;
use crate::report;
use crate::spool::{Positions, Sink, Spool};
use crate::stats::{DropCause, Stats};

/// How often the queue is emptied while records come: what a killed process loses at the most.
const BUSY_POLL: Duration = Duration::from_millis(5);

/// How often the queue is looked at when no record came for [`IDLE_AFTER`]. The application's
/// threads wake nobody, since that would be a system call.
const IDLE_POLL: Duration = Duration::from_millis(100);

const IDLE_AFTER: Duration = Duration::from_secs(1);

/// How often the wall clock is looked up.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// How long the end waits for the export, at the most.
const EXPORT_GRACE: Duration = Duration::from_secs(2);

/// The pause after the local log refused to be written.
const SPOOL_RETRY: Duration = Duration::from_millis(100);

/// Moves records from the queue to the spool, and answers to the handle.
#[derive(Debug)]
pub(super) struct Spooler {
    shared: Arc<Shared>,
    config: Arc<Config>,
    progress: Arc<Progress>,
    export: Option<Arc<Export>>,
    spool: Arc<Spool>,
    /// Taken from the queue and not yet in the spool.
    chunks: Vec<Chunk>,
    /// Whether all that was in the queue when it was last looked at is in the spool.
    emptied: bool,
    /// No more records come: what is there goes into the spool, over its quota or not.
    stopping: bool,
    last_record: Instant,
    last_clock: Instant,
    /// The spool refused; when to try again.
    retry_at: Option<Instant>,
}

impl Spooler {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: Arc<Config>,
        progress: Arc<Progress>,
        export: Option<Arc<Export>>,
        spool: Arc<Spool>,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            config,
            progress,
            export,
            spool,
            chunks: Vec::new(),
            emptied: false,
            stopping: false,
            last_record: now,
            last_clock: now,
            retry_at: None,
        }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self, sinks: &[JoinHandle<()>]) {
        let mut stops = Vec::new();
        while stops.is_empty() {
            stops = self.step();
            let now = Instant::now();
            let somebody_waits = self.progress.expire(now, || self.pending());
            if now.duration_since(self.last_clock) >= CLOCK_EVERY {
                clock::synchronize();
                self.last_clock = now;
            }
            if stops.is_empty() {
                let busy = somebody_waits || now.duration_since(self.last_record) < IDLE_AFTER;
                std::thread::park_timeout(if busy { BUSY_POLL } else { IDLE_POLL });
            }
        }
        self.stop(sinks, stops);
    }

    /// Moves what there is, and takes the flushes that came; returns the stops that came.
    fn step(&mut self) -> Vec<(Instant, StopReply)> {
        let (flushes, stops) = {
            let mut commands = self.shared.commands();
            (
                std::mem::take(&mut commands.flushes),
                std::mem::take(&mut commands.stops),
            )
        };
        // After the commands were taken: what was accepted before them is moved now.
        self.move_records();
        for (deadline, waited, reply) in flushes {
            if self.emptied {
                self.progress.wait_for_all(deadline, waited, reply);
            } else if Instant::now() >= deadline {
                // The spool refuses: the records are neither there nor in Postgres.
                let pending = self.pending();
                reply(Err(FlushError::Timeout { waited, pending }));
            } else {
                self.shared
                    .commands()
                    .flushes
                    .push((deadline, waited, reply));
            }
        }
        stops
    }

    fn pending(&self) -> u64 {
        Stats::take(&self.shared.counters, &self.shared.queue).pending()
    }

    fn is_drained(&self) -> bool {
        self.emptied && self.progress.position() >= self.spool.log().next_seq()
    }

    /// How far each sink has come.
    fn positions(&self) -> Positions {
        let positions = Positions::BEGINNING.with(Sink::Postgres, self.progress.position());
        match &self.export {
            Some(export) => positions.with(Sink::Otlp, export.position()),
            None => positions,
        }
    }

    /// Has the export give up what it takes too much room for, the oldest first; what Postgres
    /// still needs is not its to give up.
    fn keep_export_within_quota(&self) {
        let log = self.spool.log();
        if let (Some(export), Some(quota)) = (&self.export, self.config.export_quota_bytes)
            && log.bytes() > quota
            && export.position() < self.progress.position()
            && let Ok(excess) = log.excess(quota, self.progress.position())
        {
            export.give_up_to(excess.min(self.progress.position()));
        }
    }

    /// Moves what the queue holds into the spool, and removes there what is committed.
    fn move_records(&mut self) {
        let now = Instant::now();
        self.emptied = false;
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.keep_export_within_quota();
        let log = self.spool.log();
        let has_room = self.stopping || log.bytes() < self.config.spool_quota_bytes;
        // Chunks that an earlier write refused come first; the queue may hold more then.
        let is_drained = self.chunks.is_empty() && has_room;
        if is_drained {
            self.shared.queue.drain(&mut self.chunks);
        }
        let positions = self.positions();
        if self.chunks.is_empty() && !log.is_removable(positions) {
            if !has_room {
                self.blocked("the local log has reached its quota", None);
            }
            self.emptied = is_drained;
            return;
        }
        match log.append(&self.chunks, positions) {
            Ok(()) => {
                if !self.chunks.is_empty() {
                    self.last_record = now;
                }
                self.retry_at = None;
                self.emptied = is_drained;
                self.shared.counters.set_spool_bytes(log.bytes());
                // First, so that the export counts whatever a flush says is in Postgres.
                if let Some(export) = &self.export {
                    export.appended(log.next_seq());
                }
                self.progress.appended(log.next_seq());
                if has_room && self.shared.counters.set_spool_blocked(false) {
                    report::say(|| {
                        tracing::info!(target: "tracing_audit", "audit trail: the local log takes records again");
                    });
                }
                for chunk in self.chunks.drain(..) {
                    self.shared.queue.recycle(chunk.bytes);
                }
            }
            Err(error) => {
                self.retry_at = Some(now + SPOOL_RETRY);
                self.blocked("the local log cannot be written", Some(&error));
            }
        }
    }

    /// Says that the spool takes no records, when that is news.
    fn blocked(&self, why: &'static str, error: Option<&dyn Error>) {
        if self.shared.counters.set_spool_blocked(true) {
            let error = error.map(report::causes);
            report::say(move || {
                tracing::error!(
                    target: "tracing_audit",
                    error,
                    "audit trail: {why}; records wait in memory, and are dropped and counted when it is full"
                );
            });
        }
    }

    /// Takes no more records, waits for what is pending until the latest deadline, and ends.
    fn stop(mut self, sinks: &[JoinHandle<()>], mut stops: Vec<(Instant, StopReply)>) {
        self.stopping = true;
        self.shared.queue.close();
        let deadline = stops
            .iter()
            .map(|(deadline, _)| *deadline)
            .max()
            .unwrap_or_else(Instant::now);
        stops.append(&mut self.step());
        self.progress.hurry();
        while !self.is_drained() && Instant::now() < deadline {
            std::thread::park_timeout(BUSY_POLL);
            stops.append(&mut self.step());
            self.progress.hurry();
            self.progress.expire(Instant::now(), || self.pending());
        }
        self.progress.stop();
        if let Some(export) = &self.export {
            // Nobody is held up by a collector: it gets a moment, if it is there at all.
            export.end();
            let until = deadline.min(Instant::now() + EXPORT_GRACE);
            while export.is_worth_waiting_for() && Instant::now() < until {
                std::thread::park_timeout(BUSY_POLL);
            }
            export.stop();
        }
        let until = Instant::now() + STOP_GRACE;
        let are_finished = || sinks.iter().all(JoinHandle::is_finished);
        while !are_finished() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if !self.emptied {
            // An earlier write may have been made good by now: once more, for the queue.
            self.retry_at = None;
            self.move_records();
            if !self.emptied {
                self.move_records();
            }
        }
        let drained = self.is_drained();
        if !self.emptied {
            // The disk took them until the end neither: nothing else can keep them.
            self.shared.queue.drain(&mut self.chunks);
            let lost = self.chunks.iter().map(|chunk| chunk.records).sum();
            self.shared.counters.count_drops(DropCause::LocalLog, lost);
        }
        let positions = self.positions();
        let Self {
            shared,
            spool,
            progress,
            export,
            ..
        } = self;
        progress.expire(deadline.max(Instant::now()), || 0);
        let next_seq = spool.log().next_seq();
        let exported = export.is_none_or(|export| export.is_done(next_seq));
        // An undrained log and its folder stay for the next process; so do those that a sink
        // still holds.
        if !are_finished() || !drained || !exported {
            if positions != spool.log().positions() {
                // What this does not tell the next process, it exports once more.
                let _ = spool.log().append(&[], positions);
            }
        } else if let Some(Err(error)) = Arc::into_inner(spool).map(Spool::remove) {
            report::say(move || {
                tracing::warn!(
                    target: "tracing_audit",
                    error = report::causes(&error),
                    "audit trail: the local log cannot be removed"
                );
            });
        }
        for (_, reply) in stops {
            reply(());
        }
        // What came meanwhile is answered as the thread ends.
        drop(shared);
    }
}
