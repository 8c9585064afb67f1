//! The loop that drains every log of this process into Postgres: its own, and orphaned ones.
//!
//! **The next batch is read while Postgres works on the present one**, and is discarded unless that
//! one is committed: without this, Postgres was idle for a seventh of a batch's time. The advantage
//! that a bare COPY still has is a core: on two cores, the Postgres process waits for one a tenth
//! of the time (`/proc/PID/schedstat`), since the log's thread, the sink's thread and the program
//! share the other.

mod adoption;
mod ahead;
mod compare;
mod draining;
mod notices;
mod one;
mod others;
mod pace;
mod rest;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::ahead::Ahead;
use self::draining::{Attempt, Draining, Standing};
use self::notices::Notices;
pub(crate) use self::one::NotDrained;
use self::others::Others;
use self::pace::{Pace, single_out};
use super::batch::{Batch, Batcher, Draft};
use super::fault::{Class, Fault};
use super::writer::{NotReady, Writer};
use crate::clock::Moment;
use crate::config::Config;
use crate::delivery::commit::Progress;
use crate::delivery::export::Export;
use crate::delivery::required::Required;
use crate::record::NewRecord;
use crate::sink::backoff::Backoff;
use crate::sink::source::Source;
use crate::spool::{self, Log, LogError, Spool};
use crate::stats::{Counters, Health};

/// The pause after the first error; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The pause after Postgres refused an adopted log.
const ADOPTED_PAUSE: Duration = Duration::from_mins(1);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How many bytes of records are read ahead at a time: a tenth of a millisecond, after which
/// Postgres is polled again.
const SLICE_BYTES: usize = 64 * 1024;

/// The error code of a run whose process died before the run ended.
const PROCESS_LOST: &str = "process_lost";

/// Writes the trail's records about itself.
struct OwnRecords(Box<RecordFn>);

/// Records something; calls the given function, if any, once that is committed.
type RecordFn = dyn Fn(NewRecord, Option<Box<dyn FnOnce() + Send>>) + Send;

impl std::fmt::Debug for OwnRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnRecords").finish_non_exhaustive()
    }
}

/// Drains logs into Postgres until asked to stop.
#[derive(Debug)]
pub(crate) struct Drain {
    config: Arc<Config>,
    progress: Arc<Progress>,
    counters: Arc<Counters>,
    /// Receives the logs whose records are still to be exported.
    export: Option<Arc<Export>>,
    /// The callers that wait for single records.
    required: Arc<Required>,
    /// Writes the trail's records about itself.
    own_records: OwnRecords,
    /// This process's own log first, then the adopted one, if any.
    sources: Vec<Draining>,
    others: Others,
    batcher: Batcher,
    writer: Option<Writer>,
    ahead: Ahead,
    backoff: Backoff,
    notices: Notices,
    /// Whether a drained log is kept while the trail has yet to record that the database disagrees
    /// with it.
    keeps_disputed: bool,
    /// How many records of adopted logs Postgres refused.
    refused: u64,
    /// Why the last adopted log could not be read any further.
    unread: Option<LogError>,
}

impl Drain {
    pub(crate) fn new(
        config: Arc<Config>,
        progress: Arc<Progress>,
        counters: Arc<Counters>,
        own: Arc<Spool>,
        export: Option<Arc<Export>>,
        required: Arc<Required>,
        record: Box<RecordFn>,
    ) -> Self {
        let others = Others::new(spool::others(&own));
        let batcher = Batcher::new(
            Arc::clone(&required),
            config.activities.clone(),
            config.batch.hash,
        );
        let drain = Self {
            config,
            progress,
            counters,
            export,
            required,
            own_records: OwnRecords(record),
            sources: vec![Draining::new(Source::own(own))],
            others,
            batcher,
            writer: None,
            ahead: Ahead::NEVER,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            notices: Notices::default(),
            keeps_disputed: false,
            refused: 0,
            unread: None,
        };
        drain.count_orphans();
        drain
    }

    /// Creates a drain for one orphaned log, and nothing else.
    pub(crate) fn of_one(
        config: Arc<Config>,
        progress: Arc<Progress>,
        counters: Arc<Counters>,
        log: Arc<Spool>,
        export: Option<Arc<Export>>,
        required: Arc<Required>,
        record: Box<RecordFn>,
    ) -> Self {
        let batcher = Batcher::new(
            Arc::clone(&required),
            config.activities.clone(),
            config.batch.hash,
        );
        if export.is_some() {
            adoption::keep_for_export(log.log());
        }
        Self {
            config,
            progress,
            counters,
            export,
            required,
            own_records: OwnRecords(record),
            sources: vec![Draining::new(Source::adopted(log))],
            others: Others::default(),
            batcher,
            writer: None,
            ahead: Ahead::NEVER,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            notices: Notices::default(),
            keeps_disputed: true,
            refused: 0,
            unread: None,
        }
    }

    /// Runs until asked to stop.
    pub(crate) async fn run(mut self) {
        let mut turn = 0;
        while !self.progress.should_stop() {
            let Some(mut writer) = self.writer.take() else {
                if self.needs_connection() {
                    self.connect().await;
                } else {
                    self.wait(self.ahead.not_before).await;
                }
                continue;
            };
            if !self.prepare_partitions(&mut writer).await {
                continue;
            }
            self.adopt();
            if self.progress.is_unchecked() {
                self.sources[0].position = None;
            }
            let Some(index) = self.next_source(&mut turn) else {
                self.rest(writer).await;
                continue;
            };
            match self.write_from(index, &mut writer).await {
                Ok(()) => {
                    self.writer = Some(writer);
                    // A batch that was committed is an answer as well.
                    if self.sources[0].position.is_some() {
                        self.progress.checked();
                    }
                }
                // The connection cannot be used any more, and the next one asks for the position.
                Err(fault) => self.retreat(index, &fault).await,
            }
        }
    }

    /// Handles a batch that was not written.
    async fn retreat(&mut self, index: usize, fault: &Fault) {
        self.forget_ahead(index);
        self.sources[index].position = None;
        if self.suspect(index, fault) {
            return self.pause().await;
        }
        let source = &mut self.sources[index];
        if source.source.is_adopted() && !matches!(fault.class, Class::Retry | Class::Superseded) {
            // This process's own records may well be accepted.
            source.not_before = Some(Instant::now() + ADOPTED_PAUSE);
            notices::left_records_are_refused(source.log().writer(), fault.summary());
            return;
        }
        // If the batch was already committed, nothing is wrong with the server.
        if fault.class != Class::Superseded {
            self.note_failure(fault);
        }
        self.pause().await;
    }

    /// Marks a log's writer as suspected when Postgres says that it is another's, so that it is
    /// checked when the position is asked for; returns whether it did. Only once: a new writer is
    /// nobody else's.
    fn suspect(&mut self, index: usize, fault: &Fault) -> bool {
        let source = &mut self.sources[index];
        let is_to_be = fault.class == Class::NotOurs && source.standing != Standing::New;
        if is_to_be {
            source.standing = Standing::Suspected;
        }
        is_to_be
    }

    /// Opens a connection that can write, or reports why not and pauses.
    async fn connect(&mut self) {
        let connected = Writer::connect(&self.config.postgres, self.config.migrate).await;
        if connected.is_err() {
            self.progress.checked();
        }
        match connected {
            Ok(writer) => {
                self.writer = Some(writer);
                self.notices.plain_connection(&self.config.postgres);
            }
            Err(NotReady::Fault(fault)) => {
                self.note_failure(&fault);
                self.pause().await;
            }
            Err(NotReady::Schema(why)) => {
                self.counters.set_health(Health::Holding);
                let place = self.config.postgres.place();
                self.complain(
                    &format!("{place}: {why}"),
                    "; records are kept in the local log",
                );
                self.backoff.go_to_longest();
                self.pause().await;
            }
        }
    }

    /// Creates partitions ahead of time when that is due. No batch fails because of it: if it is
    /// not possible now, it is retried later. Returns whether the connection can still be used.
    async fn prepare_partitions(&mut self, writer: &mut Writer) -> bool {
        let now_us = Moment::now().wall_us();
        if !self.ahead.is_due(now_us) {
            return true;
        }
        match writer.prepare_partitions().await {
            Ok(()) => {
                self.ahead = Ahead::made_at(now_us);
                true
            }
            Err(fault) => {
                if self.ahead.put_off() {
                    notices::partitions_wait(fault.summary());
                }
                false
            }
        }
    }

    /// Returns the index of a log with a batch to write.
    fn next_source(&mut self, turn: &mut usize) -> Option<usize> {
        let now = Instant::now();
        // Round-robin, so that a long backlog and new records do not hold each other up.
        let count = self.sources.len();
        let next = (1..=count)
            .map(|step| (*turn + step) % count)
            .find(|&index| self.is_due(&self.sources[index], now))?;
        *turn = next;
        self.sources[next].not_before = None;
        Some(next)
    }

    /// Writes the next batch of a log, if it has one.
    async fn write_from(&mut self, index: usize, writer: &mut Writer) -> Result<(), Fault> {
        let spool = Arc::clone(self.sources[index].source.spool());
        let log = spool.log();
        let position = if let Some(position) = self.sources[index].position {
            position
        } else {
            let stands = self.ask(index, writer).await?;
            if self.sources[index].source.is_adopted()
                && let Err(error) = log.recover(PROCESS_LOST, stands, |_| ())
            {
                drop(spool);
                self.give_back(index, error);
                return Ok(());
            }
            self.resume(index, stands);
            stands
        };
        let batch = match self.read(index, log, position) {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                drop(spool);
                self.finish(index);
                self.note_success();
                return Ok(());
            }
            Err(error) if self.sources[index].source.is_adopted() => {
                drop(spool);
                self.give_back(index, error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.write(index, writer, batch, log).await
    }

    /// Reads the batch that begins at `position`, or the part of it that was not read ahead.
    fn read(&mut self, index: usize, log: &Log, position: u64) -> Result<Option<Batch>, LogError> {
        if self.sources[index]
            .ahead
            .as_ref()
            .is_some_and(|draft| draft.from() != position)
        {
            self.forget_ahead(index);
        }
        let source = &mut self.sources[index];
        let mut draft = source.ahead.take().unwrap_or_else(|| Draft::new(position));
        let max_rows = source.pace.limit(self.config.batch.rows);
        let limits = &self.config.batch;
        match self
            .batcher
            .read(&mut draft, log, max_rows, usize::MAX, limits)
        {
            // The records before the error are good; the next batch begins at the one that failed.
            Err(error) if draft.is_empty() => Err(error),
            _ => Ok(draft.end()),
        }
    }

    /// Discards what was read ahead from a log.
    fn forget_ahead(&mut self, index: usize) {
        if let Some(draft) = self.sources[index].ahead.take() {
            self.batcher.discard(draft);
        }
    }

    async fn write(
        &mut self,
        index: usize,
        writer: &mut Writer,
        mut batch: Batch,
        log: &Log,
    ) -> Result<(), Fault> {
        let began = Instant::now();
        self.sources[index].attempts.push(Attempt::new(&batch));
        let mut written = self.write_and_read_ahead(index, writer, &batch, log).await;
        if let Err(fault) = &mut written
            && fault.class == Class::Poison
        {
            self.sources[index].attempts.pop();
            writer.rollback().await?;
            self.forget_ahead(index);
            if batch.records() > 1 {
                self.sources[index].pace = single_out(&batch, fault.at);
                self.batcher.recycle(batch);
                return Ok(());
            }
            // The record was refused alone in its batch: it is kept where it can be examined.
            batch.give_up(
                log,
                fault.sqlstate.take(),
                std::mem::take(&mut fault.reason),
            )?;
            self.sources[index].attempts.push(Attempt::new(&batch));
            written = writer.write(&batch, log).await.map_err(Fault::not_poison);
        }
        if let Err(fault) = &written
            && fault.is_timeout()
            && batch.records() > 1
        {
            // The batch may be too large for the connection to the server.
            let half = usize::try_from(batch.records() / 2).unwrap_or(1);
            self.sources[index].pace = Pace::Growing(half);
        }
        if written.is_err() && !writer.may_be_committed() {
            self.sources[index].attempts.pop();
        }
        let in_default = written?;
        // Before the callers of a flush are woken.
        if in_default > 0 {
            self.counters.count_in_default(in_default);
            self.notices.rows_in_default_partition(in_default);
        }
        self.committed(index, &batch, began.elapsed());
        self.batcher.recycle(batch);
        Ok(())
    }

    /// Writes a batch, and reads the next one while Postgres is at work.
    async fn write_and_read_ahead(
        &mut self,
        index: usize,
        writer: &mut Writer,
        batch: &Batch,
        log: &Log,
    ) -> Result<u64, Fault> {
        let writing = writer.write(batch, log);
        let source = &mut self.sources[index];
        if source.pace != Pace::Full {
            // The next batch may have to be cut differently.
            return writing.await;
        }
        let (batcher, limits) = (&mut self.batcher, &self.config.batch);
        let mut draft = Draft::new(batch.last_seq + 1);
        let reading = async {
            // An error shows up again when the batch is due.
            while let Ok(true) = batcher.read(&mut draft, log, limits.rows, SLICE_BYTES, limits) {
                tokio::task::yield_now().await;
            }
        };
        let written = meanwhile(writing, reading).await;
        if draft.is_empty() {
            batcher.discard(draft);
        } else {
            source.ahead = Some(draft);
        }
        written
    }

    /// Accounts for a committed batch.
    fn committed(&mut self, index: usize, batch: &Batch, took: Duration) {
        self.counters.count_batch(batch.records(), took);
        let source = &mut self.sources[index];
        source.reached = batch.last_seq + 1;
        source.tip = Some((batch.last_seq, batch.mark()));
        source.standing = Standing::Own;
        let was_refused = !batch.dead_letters.is_empty();
        source.pace = source
            .pace
            .after_success(self.config.batch.rows, was_refused);
        if source.source.is_adopted() {
            let rows = batch.records() - batch.dead_letters.len() as u64;
            self.counters.count_adopted(rows);
        }
        // Before waiting callers are woken: they may check the health.
        self.note_success();
        self.resume(index, batch.last_seq + 1);
    }

    /// Notes that Postgres accepts records.
    fn note_success(&mut self) {
        self.backoff.reset();
        let before = self.counters.set_health(Health::Healthy);
        if before != Health::Healthy {
            // The fault may have been reported before this thread panicked.
            self.notices.forget_faults();
            self.counters.set_fault(None);
        }
        if matches!(before, Health::Retrying | Health::Holding) {
            notices::postgres_is_back();
        }
    }

    /// Sets a log's position to one that Postgres has returned or has just committed.
    fn resume(&mut self, index: usize, position: u64) {
        let source = &mut self.sources[index];
        source.position = Some(position);
        // Of the attempts that begin before it, one was committed, and none of the others can be
        // any more.
        let over = source
            .attempts
            .extract_if(.., |attempt| attempt.first_seq < position);
        let committed = over
            .filter(|attempt| attempt.last_seq + 1 == position)
            .last();
        let mut dead = Vec::new();
        if let Some(attempt) = committed {
            dead = attempt.dead;
            source.tip = Some((attempt.last_seq, attempt.mark));
            self.required.settle(attempt.fates);
        }
        if !dead.is_empty() {
            notices::records_were_refused(dead.len());
        }
        if source.source.is_adopted() {
            self.refused += dead.len() as u64;
        } else {
            self.progress.dead_lettered(&dead);
            self.progress.commit_to(position);
        }
    }

    /// Reports that writing failed, if that is news.
    fn note_failure(&mut self, fault: &Fault) {
        let health = if matches!(fault.class, Class::Hold | Class::NotOurs) {
            Health::Holding
        } else {
            Health::Retrying
        };
        self.counters.set_health(health);
        let sentence = fault.sentence(&self.config.postgres.place());
        let kept = if sentence.ends_with('?') {
            " Records are kept in the local log and retried every 5 s."
        } else {
            ". Records are kept in the local log and retried every 5 s."
        };
        self.complain(&sentence, kept);
    }

    /// Reports what is wrong with Postgres.
    fn complain(&mut self, fault: &str, kept: &'static str) {
        self.counters.set_fault(Some(fault));
        self.notices.fault(fault, kept);
    }

    /// Waits before the next attempt; a flush or a shutdown cuts the wait short.
    async fn pause(&mut self) {
        let until = Instant::now() + self.backoff.next_pause();
        self.progress.pause_until(until).await;
    }
}

/// Runs `one` to its end, and polls `other` while `one` is pending.
async fn meanwhile<T>(one: impl Future<Output = T>, other: impl Future<Output = ()>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let mut is_done = false;
    std::future::poll_fn(|context| {
        let polled = one.as_mut().poll(context);
        if polled.is_pending() && !is_done {
            is_done = other.as_mut().poll(context).is_ready();
        }
        polled
    })
    .await
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
