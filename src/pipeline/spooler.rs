//! The spool thread: moves records from the queue to the spool, and answers the handle.
//!
//! It polls: every 5 ms while records come, every 100 ms when idle. Waking it would be a system
//! call on the application's thread.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clocks::Clocks;
use super::in_flight::InFlightRuns;
use super::threads::{Panics, STOP_GRACE};
use crate::config::Config;
use crate::delivery::commit::Progress;
use crate::delivery::export::Export;
use crate::error::FlushError;
use crate::intake::{Intake, StopReply};
use crate::record::{NewRecord, encode, gap, id};
use crate::report;
use crate::spool::{Admitted, Positions, Sink, Spool};
use crate::stats::{DropCause, Stats};

/// How often the queue is emptied while records come: the most that a killed process loses.
const BUSY_POLL: Duration = Duration::from_millis(5);

/// How often the queue is polled when no record came for [`IDLE_AFTER`]. The application's threads
/// do not wake this one, since that would be a system call.
const IDLE_POLL: Duration = Duration::from_millis(100);

const IDLE_AFTER: Duration = Duration::from_secs(1);

/// The longest time that a shutdown waits for the answer whether Postgres still has what is committed.
const CHECK_GRACE: Duration = Duration::from_secs(1);

/// The longest time that a shutdown waits for the export, of orphaned logs too: otherwise processes
/// that live shorter than a request takes would never export one.
const EXPORT_GRACE: Duration = Duration::from_secs(2);

/// Drops that no row reports yet.
#[derive(Clone, Copy, Debug)]
struct Drops {
    count: u64,
    began: Instant,
    /// When the count last changed.
    grew: Instant,
}

/// Whether drops are still to be reported.
#[derive(Clone, Copy, Debug)]
enum Untold {
    Nothing,
    Run(Drops),
    /// No row reports drops any more: after the shutdown they never end.
    Over,
}

/// The error code of a run that was open when the pipeline was shut down.
const SHUT_DOWN: &str = "shut_down";

/// A run of drops is over after this long without one.
const QUIET: Duration = Duration::from_millis(100);

/// How long drops continue before a row reports them while there are more.
const LONGEST_GAP: Duration = Duration::from_secs(10);

/// The pause after the local log refused a write.
const SPOOL_RETRY: Duration = Duration::from_millis(100);

/// The longest pause after a panic: no other thread empties the queue meanwhile.
const LONGEST_PANIC_PAUSE: Duration = Duration::from_secs(5);

/// Moves records from the queue to the spool, and answers the handle.
#[derive(Debug)]
pub(super) struct Spooler {
    intake: Arc<Intake>,
    config: Arc<Config>,
    progress: Arc<Progress>,
    export: Option<Arc<Export>>,
    spool: Arc<Spool>,
    /// Taken from the queue and not yet in the spool.
    admitted: Admitted,
    /// Runs that have begun and not ended.
    in_flight: InFlightRuns,
    untold: Untold,
    /// Whether the disk refused the last write.
    is_failing: bool,
    /// Whether all that the queue held at the last poll is in the spool.
    emptied: bool,
    /// The stored runs that were ended and counted as records.
    ended: u64,
    /// Whether records are no longer accepted: the rest goes into the spool, over its quota or not.
    stopping: bool,
    last_record: Instant,
    clocks: Clocks,
    panics: Panics,
    /// When the last step panicked, and how long to wait after it.
    panicked: Option<(Instant, Duration)>,
    /// When to retry after the spool refused a write.
    retry_at: Option<Instant>,
}

impl Spooler {
    pub(super) fn new(
        intake: Arc<Intake>,
        config: Arc<Config>,
        progress: Arc<Progress>,
        export: Option<Arc<Export>>,
        spool: Arc<Spool>,
    ) -> Self {
        let now = Instant::now();
        Self {
            intake,
            config,
            progress,
            export,
            admitted: Admitted::default(),
            in_flight: InFlightRuns::default(),
            untold: Untold::Nothing,
            // The failure is logged at once, and the write retried.
            is_failing: !spool.is_made(),
            spool,
            emptied: false,
            ended: 0,
            stopping: false,
            last_record: now,
            clocks: Clocks::new(now),
            retry_at: None,
            panics: Panics::new(),
            panicked: None,
        }
    }

    /// Runs until a command stops it.
    pub(super) fn run(mut self, sinks: &[JoinHandle<()>]) {
        let mut stops = Vec::new();
        while stops.is_empty() {
            stops = self.safe_step();
            let now = Instant::now();
            let somebody_waits =
                self.progress.expire(now, || self.pending()) | self.intake.required.expire(now);
            if self.clocks.look(now) {
                let has_records = self.intake.queue.accepted() > 0;
                self.intake
                    .canary
                    .look(now, &self.intake.counters, has_records);
            }
            if stops.is_empty() {
                let busy = somebody_waits || now.duration_since(self.last_record) < IDLE_AFTER;
                std::thread::park_timeout(if busy { BUSY_POLL } else { IDLE_POLL });
            }
        }
        self.stop(sinks, stops);
    }

    /// Takes a step; a panic in it causes a pause before the next one.
    fn safe_step(&mut self) -> Vec<(Instant, StopReply)> {
        let now = Instant::now();
        if let Some((at, pause)) = self.panicked {
            let somebody_waits = {
                let commands = self.intake.commands();
                self.stopping || !commands.flushes.is_empty() || !commands.stops.is_empty()
            };
            let pause = if somebody_waits {
                pause.min(SPOOL_RETRY)
            } else {
                pause
            };
            if now.duration_since(at) < pause {
                return Vec::new();
            }
        }
        let step = std::panic::catch_unwind(AssertUnwindSafe(|| self.step()));
        step.unwrap_or_else(|_| {
            let now = Instant::now();
            self.retry_at = Some(now + SPOOL_RETRY);
            let ran = self
                .panicked
                .map_or(Duration::MAX, |(at, _)| now.duration_since(at));
            let (pause, _) = self.panics.count(&self.intake.counters, ran);
            // Until a write shows that the log accepts records again.
            self.is_failing = true;
            self.intake.counters.set_spool_blocked(true);
            self.panicked = Some((now, pause.min(LONGEST_PANIC_PAUSE)));
            Vec::new()
        })
    }

    /// Moves the records and accepts the flushes that came; returns the stops that came.
    fn step(&mut self) -> Vec<(Instant, StopReply)> {
        let (flushes, hurry) = {
            let mut commands = self.intake.commands();
            (
                std::mem::take(&mut commands.flushes),
                std::mem::take(&mut commands.hurry),
            )
        };
        // After the commands are taken, so that all records accepted before them are moved now.
        self.move_records();
        if hurry {
            self.progress.hurry();
        }
        for (deadline, waited, reply) in flushes {
            if self.emptied {
                self.progress.wait_for_all(deadline, waited, reply);
            } else if Instant::now() >= deadline {
                // The spool refuses: the records are neither there nor in Postgres.
                let pending = self.pending();
                reply(Err(FlushError::timeout(waited, pending)));
            } else {
                self.intake
                    .commands()
                    .flushes
                    .push((deadline, waited, reply));
            }
        }
        // Last, so that a panic loses none.
        std::mem::take(&mut self.intake.commands().stops)
    }

    fn pending(&self) -> u64 {
        Stats::take(&self.intake.counters, &self.intake.queue).pending()
    }

    fn is_drained(&self) -> bool {
        self.emptied && self.progress.position() >= self.spool.log().next_seq()
    }

    /// Returns the position of each sink.
    fn positions(&self) -> Positions {
        let positions = Positions::BEGINNING.with(Sink::Postgres, self.progress.position());
        match &self.export {
            Some(export) => positions.with(Sink::Otlp, export.position()),
            None => positions,
        }
    }

    /// Discards the oldest records that only the export needs while the log exceeds the export's
    /// quota; records that Postgres still needs stay.
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

    /// Moves records from the queue into the spool, and removes committed ones from the spool.
    fn move_records(&mut self) {
        let now = Instant::now();
        self.emptied = false;
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.keep_export_within_quota();
        let log = self.spool.log();
        let has_room = self.stopping || log.bytes() < self.config.spool_quota_bytes;
        // Records that an earlier write refused go first; the queue may hold more then.
        let is_drained = self.admitted.is_empty() && has_room && self.take_queues(now);
        let log = self.spool.log();
        let runs = self.in_flight.unstored();
        let has_news = !self.admitted.is_empty() || !runs.is_empty() || self.is_failing;
        if !has_news && !log.is_removable(self.positions()) {
            if !has_room {
                self.blocked("the local log has reached its quota", None);
            }
            self.emptied = is_drained;
            self.note_emptied();
            return;
        }
        match self.spool.append(&self.admitted, || self.positions(), runs) {
            Ok(()) => {
                self.in_flight.mark_stored();
                self.is_failing = false;
                self.retry_at = None;
                self.emptied = is_drained;
                self.note_emptied();
                self.intake.counters.set_spool_bytes(log.bytes());
                if has_room && self.intake.counters.set_spool_blocked(false) {
                    report::say(|| {
                        tracing::info!(target: "tracing_audit", "audit trail: the local log takes records again");
                    });
                }
                self.made_readable();
            }
            Err(error) => {
                self.is_failing = true;
                self.retry_at = Some(now + SPOOL_RETRY);
                self.blocked("cannot write the local log", Some(&error));
                self.keep_in_memory(is_drained);
            }
        }
    }

    fn note_emptied(&self) {
        if self.emptied {
            self.intake.counters.queue_was_emptied();
        }
    }

    /// Takes the records from the queues, and reports the drops. Returns whether these were all: a
    /// thread that is suspended may hold some.
    fn take_queues(&mut self, now: Instant) -> bool {
        let intake = &self.intake;
        let is_any_tracked = intake.is_tracked.is_any();
        // Runs in flight first: a run that is seen here ends later.
        let mut are_young = false;
        if is_any_tracked && !self.in_flight.is_over() {
            let (begun, young) = intake.look_for_runs(self.stopping);
            are_young = young;
            let pass = |(id, frame)| (id, self.config.redactor.pass_run(frame));
            self.in_flight.begin(begun.into_iter().map(pass));
        }
        let mut taken = Vec::new();
        let are_all = intake.queue.drain(&mut taken);
        // In hand before anything is done with them: a panic loses none, and one of a redactor stays
        // there.
        let first = self.admitted.len();
        for frames in taken {
            self.admitted.admit(self.config.redactor.pass(frames));
        }
        #[cfg(test)]
        tests::panic_if_asked();
        if is_any_tracked {
            for frame in self.admitted.since(first) {
                if self.in_flight.is_empty() {
                    break;
                }
                if let Some((_, id)) = encode::kind_and_id(frame) {
                    self.in_flight.end(id);
                }
            }
            for id in intake.refused_ends().abandoned.drain(..) {
                self.in_flight.end(id);
            }
        }
        if !self.admitted.is_empty() || are_young {
            self.last_record = now;
        }
        self.tell_losses(now);
        are_all
    }

    /// Makes a row for each run of drops: when it is over, or has lasted long.
    fn tell_losses(&mut self, now: Instant) {
        let count = self.intake.counters.untold();
        let drops = match self.untold {
            Untold::Over => return,
            Untold::Run(drops) if drops.count == count => drops,
            Untold::Run(drops) => Drops {
                count,
                grew: now,
                ..drops
            },
            Untold::Nothing => Drops {
                count,
                began: now,
                grew: now,
            },
        };
        let is_over = now.duration_since(drops.grew) >= QUIET
            || now.duration_since(drops.began) >= LONGEST_GAP;
        let is_told = count > 0 && (is_over || self.stopping);
        if is_told {
            for loss in self.intake.counters.take_losses() {
                self.make(&gap::of_drops(
                    loss.cause.as_str(),
                    loss.kinds,
                    loss.first_us,
                    loss.last_us,
                ));
            }
        }
        self.untold = match count {
            _ if self.stopping => Untold::Over,
            0 => Untold::Nothing,
            _ if is_told => Untold::Nothing,
            _ => Untold::Run(drops),
        };
    }

    /// Adds a record that the pipeline itself makes.
    fn make(&mut self, record: &NewRecord) {
        self.intake.counters.count_made(1);
        let frames = record.encode(&self.intake.limits);
        self.admitted.admit(self.config.redactor.pass(frames));
    }

    /// Makes records of the runs that are still open, whose ends come too late. Waits until all
    /// records are taken from the queue, since the record of a run may be among them, unless this
    /// is the last moment (`now`). Returns whether it is done.
    fn end_runs(&mut self, now: bool) -> bool {
        if !self.in_flight.is_over() {
            if !self.emptied && !now {
                return false;
            }
            let mut refused = self.intake.refused_ends();
            // Held for both: a run whose record is refused meanwhile is either dropped or ended
            // here.
            for id in refused.abandoned.drain(..) {
                self.in_flight.end(id);
            }
            let (ended, unsaved) = self.in_flight.end_all();
            // A later wait for one of them is answered as for any record.
            for id in &ended {
                if id::kind(*id).is_some_and(|kind| self.intake.required.has(kind)) {
                    self.intake.required.accept(*id);
                }
            }
            refused.have_records = ended;
            drop(refused);
            for begun in unsaved {
                if let Some(lost) = begun.into_lost(SHUT_DOWN) {
                    self.intake.counters.count_made(1);
                    self.admitted.admit(lost);
                }
            }
            self.move_records();
        }
        self.end_stored_runs()
    }

    /// Does the same for stored runs; returns whether none is left. Only when no record is in hand:
    /// a failed write must be retried unchanged.
    fn end_stored_runs(&mut self) -> bool {
        if self.is_failing || !self.admitted.is_empty() {
            return false;
        }
        let (counters, counted) = (&self.intake.counters, &mut self.ended);
        let recovered = self.spool.log().recover(SHUT_DOWN, 1, |records| {
            // Some may have been counted when an earlier write failed.
            counters.count_made(records.saturating_sub(*counted));
            *counted = records.max(*counted);
        });
        if recovered.is_ok() {
            self.made_readable();
        } else {
            // The next write reopens the log.
            self.is_failing = true;
        }
        recovered.is_ok()
    }

    /// Keeps what the disk refuses in memory for the sinks, as long as there is room.
    fn keep_in_memory(&mut self, is_drained: bool) {
        let log = self.spool.log();
        let kept = log.keep_in_memory(&self.admitted, self.config.intake.queue_bytes);
        if !self.admitted.is_empty() && matches!(kept, Ok(true)) {
            self.made_readable();
        }
        self.emptied = is_drained && self.admitted.is_empty();
    }

    /// Makes the records in hand readable for the sinks.
    fn made_readable(&mut self) {
        let next_seq = self.spool.log().next_seq();
        // First, so that the export counts whatever a flush reports as committed.
        if let Some(export) = &self.export {
            export.appended(next_seq);
        }
        self.progress.appended(next_seq);
        self.config.redactor.count_stored(self.admitted.records());
        for frames in self.admitted.take() {
            self.intake.queue.recycle(frames.bytes);
        }
    }

    /// Logs that the spool accepts no records, if that is new.
    fn blocked(&self, why: &'static str, error: Option<&dyn Error>) {
        if self.intake.counters.set_spool_blocked(true) {
            let error = error.map(crate::error::causes);
            report::say(move || {
                tracing::error!(
                    target: "tracing_audit",
                    error,
                    "audit trail: {why}; records stay in memory until Postgres has them, and are dropped and counted when memory is full"
                );
            });
        }
    }

    /// Closes the queue, waits for pending records until the latest deadline, and ends.
    fn stop(mut self, sinks: &[JoinHandle<()>], mut stops: Vec<(Instant, StopReply)>) {
        self.stopping = true;
        self.intake.queue.close();
        let deadline = stops
            .iter()
            .map(|(deadline, _)| *deadline)
            .max()
            .unwrap_or_else(Instant::now);
        // Empties the queues now, whether or not a retry is due: runs that have just begun are
        // ended with the others.
        self.retry_at = None;
        stops.append(&mut self.safe_step());
        let mut are_runs_ended = self.end_runs(false);
        self.progress.hurry();
        let mut is_checked = self.progress.position() == 1;
        while !(self.is_drained() && is_checked) && Instant::now() < deadline {
            if self.is_drained() {
                // The database may have gone back since; the log may still have what it has lost.
                is_checked = true;
                let until = Instant::now() + CHECK_GRACE;
                self.progress.check_until(until.min(deadline));
                continue;
            }
            std::thread::park_timeout(BUSY_POLL);
            stops.append(&mut self.safe_step());
            are_runs_ended = are_runs_ended || self.end_runs(false);
            self.progress.hurry();
            self.progress.expire(Instant::now(), || self.pending());
        }
        are_runs_ended = are_runs_ended || self.end_runs(true);
        self.progress.stop();
        if let Some(export) = &self.export {
            // A collector blocks nobody: it gets a moment, and only if it is reachable.
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
        if !self.emptied || self.is_failing {
            // An earlier write may succeed by now: once for it, and once more for the queue.
            self.retry_at = None;
            self.move_records();
            if !self.emptied {
                self.retry_at = None;
                self.move_records();
            }
        }
        let log = self.spool.log();
        let exported = self
            .export
            .as_ref()
            .is_none_or(|export| export.is_done(log.next_seq()));
        // A log that is not drained stays for the next process, with its folder; so does one that a
        // sink still holds, and one that the database disagrees with while the trail does not say so:
        // a disagreement that is found now comes too late for a record of this process.
        let is_done =
            are_finished() && self.is_drained() && exported && are_runs_ended && !log.is_disputed();
        if !is_done && self.admitted.is_empty() && self.positions() != log.positions() {
            // If this fails, the next process exports some records again.
            let _ = log.set_positions(|| self.positions());
        }
        // The disk refused these until the end: nothing else can keep them.
        let mut lost = log.in_memory(self.progress.position());
        if !self.emptied {
            let mut taken = Vec::new();
            let _ = self.intake.queue.drain(&mut taken);
            lost += taken.iter().map(|frames| frames.records).sum::<u64>();
            lost += self.admitted.records();
        }
        self.intake.counters.count_drops(DropCause::LocalLog, lost);
        let Self {
            intake,
            spool,
            progress,
            ..
        } = self;
        progress.expire(deadline.max(Instant::now()), || 0);
        if is_done && let Some(Err(error)) = Arc::into_inner(spool).map(Spool::remove) {
            report::say(move || {
                tracing::warn!(
                    target: "tracing_audit",
                    error = crate::error::causes(&error),
                    "audit trail: cannot remove the local log"
                );
            });
        }
        for (_, reply) in stops {
            reply(());
        }
        // Commands that came meanwhile are answered when the thread ends.
        drop(intake);
    }
}

#[cfg(test)]
#[path = "spooler_tests.rs"]
mod tests;
