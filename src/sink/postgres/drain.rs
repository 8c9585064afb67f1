//! The loop that drains every log of this process into Postgres: its own, and those that dead
//! processes left.

mod compare;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::batch::{Batch, Batcher, Draft};
use super::fault::{Class, Fault};
use super::writer::{NotReady, Writer};
use crate::clock::Moment;
use crate::config::Config;
use crate::delivery::commit::Progress;
use crate::delivery::export::Export;
use crate::delivery::required::{Fate, Required};
use crate::record::NewRecord;
use crate::record::gap;
use crate::report;
use crate::spool::{self, Log, LogError, Runs, Sink, Spool};
use crate::stats::{Counters, Health};

/// The pause after the first error, which doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The pause after Postgres refused a log that was taken over.
const ADOPTED_PAUSE: Duration = Duration::from_mins(1);

/// How often it is said that rows are in default partitions.
const ALARM_EVERY: Duration = Duration::from_hours(1);

/// How often it is said again why Postgres takes no records.
const SAID_AGAIN_EVERY: Duration = Duration::from_mins(5);

/// How many causes are told apart that come and go.
const CAUSES: usize = 8;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often partitions are made ahead.
const AHEAD_EVERY_US: i64 = 3_600_000_000;

/// The pause after partitions could not be made ahead, which doubles with each time.
const FIRST_AHEAD_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause before partitions are made ahead again.
const LONGEST_AHEAD_PAUSE: Duration = Duration::from_mins(1);

/// Bytes of records that are read ahead at a time: a tenth of a millisecond, after which Postgres
/// is looked at again.
const SLICE_BYTES: usize = 64 * 1024;

/// The error code of a run whose process died before it ended.
const PROCESS_LOST: &str = "process_lost";

/// A log that is drained.
#[derive(Debug)]
struct Source {
    spool: Arc<Spool>,
    /// Another process made it, which is dead; it is removed when it is drained.
    is_adopted: bool,
    /// The seq of the next record to write; `None`: Postgres must be asked.
    position: Option<u64>,
    pace: Pace,
    /// The batch that is being written, after those of which it is not known whether they were
    /// committed: a COMMIT goes on after its connection is lost.
    attempts: Vec<Attempt>,
    /// The seq of the last record that was committed here, and its batch's mark.
    tip: Option<(u64, [u8; 32])>,
    /// The batch after the one that was written last, as far as it was read meanwhile. Of use only if
    /// that one was committed.
    ahead: Option<Draft>,
    /// Not before this, since it failed.
    not_before: Option<Instant>,
    /// Of a log that was taken over: the seq after the last record that was committed here.
    reached: u64,
    /// The trail was told why the log has another writer.
    has_told: bool,
    standing: Standing,
}

/// Whether Postgres takes a log's writer for the log's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Own,
    /// It says that it is another's: that is looked at when it says where the writer stands.
    Suspected,
    /// It was another's; the log has a new one, which has had no batch yet.
    New,
}

/// A batch that was sent, and what becomes of its records when it is committed.
#[derive(Debug)]
struct Attempt {
    first_seq: u64,
    last_seq: u64,
    mark: [u8; 32],
    fates: Vec<(Uuid, Fate)>,
    /// The seqs of its dead letters.
    dead: Vec<u64>,
}

impl Attempt {
    fn new(batch: &Batch) -> Self {
        Self {
            first_seq: batch.first_seq,
            last_seq: batch.last_seq,
            mark: batch.mark(),
            fates: batch.fates(),
            dead: batch.dead_letters.iter().map(|letter| letter.seq).collect(),
        }
    }
}

/// How many records the next batch may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Full,
    /// Those before a record that Postgres refused; that one alone comes next.
    Before(usize),
    Alone,
    /// After a refused record, of which there may be more, or a batch that took too long: few,
    /// and twice as many with each batch that is written.
    Growing(usize),
}

impl Pace {
    /// Where batches begin to grow again.
    const FEW: usize = 64;

    fn limit(self, rows: usize) -> usize {
        match self {
            Self::Full => rows,
            Self::Alone => 1,
            Self::Before(limit) | Self::Growing(limit) => limit.clamp(1, rows),
        }
    }

    /// `was_refused`: what was written is the dead letter of a record that stood alone.
    fn after_success(self, rows: usize, was_refused: bool) -> Self {
        match self {
            Self::Before(_) => Self::Alone,
            // Where many are refused, the next is as well: not one more batch for each.
            Self::Alone if was_refused => Self::Alone,
            Self::Alone => Self::Growing(Self::FEW),
            Self::Growing(limit) if limit < rows => Self::Growing(limit * 2),
            Self::Full | Self::Growing(_) => Self::Full,
        }
    }
}

impl Source {
    fn new(spool: Arc<Spool>, is_adopted: bool) -> Self {
        Self {
            spool,
            is_adopted,
            position: None,
            pace: Pace::Full,
            attempts: Vec::new(),
            tip: None,
            ahead: None,
            not_before: None,
            reached: 1,
            has_told: false,
            standing: Standing::Own,
        }
    }

    /// The seq after the last record that is known to be committed.
    fn known(&self, progress: &Progress) -> u64 {
        if self.is_adopted {
            self.log().position(Sink::Postgres).max(self.reached)
        } else {
            progress.position()
        }
    }

    fn log(&self) -> &Log {
        self.spool.log()
    }
}

/// When partitions are made ahead.
#[derive(Debug)]
struct Ahead {
    /// By the clock then; `None`: not yet.
    made_us: Option<i64>,
    /// Not before this, since it failed.
    not_before: Option<Instant>,
    pause: Duration,
}

impl Ahead {
    const NEVER: Self = Self {
        made_us: None,
        not_before: None,
        pause: FIRST_AHEAD_PAUSE,
    };

    fn is_due(&self, now_us: i64) -> bool {
        let is_old = |made_us| now_us.saturating_sub(made_us) >= AHEAD_EVERY_US || now_us < made_us;
        self.made_us.is_none_or(is_old) && self.not_before.is_none_or(|at| at <= Instant::now())
    }

    /// Returns whether it is the first failure.
    fn has_failed(&mut self) -> bool {
        let is_first = self.not_before.is_none();
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_AHEAD_PAUSE);
        is_first
    }
}

/// Records what is to be told in the trail itself.
struct Tell(Box<TellFn>);

/// Records something; calls what it is given, if anything, when that is committed.
type TellFn = dyn Fn(NewRecord, Option<Box<dyn FnOnce() + Send>>) + Send;

impl std::fmt::Debug for Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tell").finish_non_exhaustive()
    }
}

/// Drains logs into Postgres until it is told to stop.
#[derive(Debug)]
pub(crate) struct Drain {
    config: Arc<Config>,
    progress: Arc<Progress>,
    counters: Arc<Counters>,
    /// Who is told of logs whose records are still to be exported.
    export: Option<Arc<Export>>,
    /// Who waits for single records.
    required: Arc<Required>,
    /// Records what is to be told in the trail itself.
    tell: Tell,
    /// This process' own log first, then one that was taken over, if any.
    sources: Vec<Source>,
    /// Folders of other processes, not yet looked at.
    others: VecDeque<PathBuf>,
    batcher: Batcher,
    writer: Option<Writer>,
    ahead: Ahead,
    pause: Duration,
    /// When it was last said that rows are in default partitions.
    alarmed: Option<Instant>,
    /// What was said of Postgres since it last took records, and when.
    said: Vec<(String, Instant)>,
    is_plain_said: bool,
    /// Whether a log stays of which the trail has still to be told that the database does not agree with it.
    keeps_disputed: bool,
}

impl Drain {
    pub(crate) fn new(
        config: Arc<Config>,
        progress: Arc<Progress>,
        counters: Arc<Counters>,
        own: Arc<Spool>,
        export: Option<Arc<Export>>,
        required: Arc<Required>,
        tell: Box<TellFn>,
    ) -> Self {
        let others = spool::others(&own).into();
        let drain = Self {
            config,
            progress,
            counters,
            export,
            required: Arc::clone(&required),
            tell: Tell(tell),
            sources: vec![Source::new(own, false)],
            others,
            batcher: Batcher::new(required),
            writer: None,
            ahead: Ahead::NEVER,
            pause: FIRST_PAUSE,
            alarmed: None,
            said: Vec::new(),
            is_plain_said: false,
            keeps_disputed: false,
        };
        drain.count_orphans();
        drain
    }

    /// Drains one log that a dead process left, and nothing else.
    pub(crate) fn of_one(
        config: Arc<Config>,
        progress: Arc<Progress>,
        counters: Arc<Counters>,
        log: Arc<Spool>,
        required: Arc<Required>,
        tell: Box<TellFn>,
    ) -> Self {
        Self {
            config,
            progress,
            counters,
            export: None,
            required: Arc::clone(&required),
            tell: Tell(tell),
            sources: vec![Source::new(log, true)],
            others: VecDeque::new(),
            batcher: Batcher::new(required),
            writer: None,
            ahead: Ahead::NEVER,
            pause: FIRST_PAUSE,
            alarmed: None,
            said: Vec::new(),
            is_plain_said: false,
            keeps_disputed: true,
        }
    }

    /// Runs until that log is drained; what may pass is tried again for some seconds. `written` is told of each
    /// batch. An error says why not, in one line.
    pub(crate) async fn run_one(mut self, written: &mut impl FnMut(u64)) -> Result<(), String> {
        /// Doubling from 50 ms to 5 s, these take 10 s or so.
        const ATTEMPTS: u32 = 8;
        let mut attempts = 0;
        while !self.sources.is_empty() {
            let before = self.counters.adopted();
            let fault = match self.attempt().await {
                Ok(()) => {
                    written(self.counters.adopted() - before);
                    attempts = 0;
                    continue;
                }
                Err(NotReady::Schema(why)) => return Err(why.into_owned()),
                Err(NotReady::Fault(fault)) => fault,
            };
            self.forget_ahead(0);
            self.sources[0].position = None;
            self.suspect(0, &fault);
            attempts += 1;
            if attempts >= ATTEMPTS || fault.class == Class::Hold {
                return Err(fault.sentence(&self.config.postgres.place()));
            }
            self.pause().await;
        }
        Ok(())
    }

    /// Writes the next batch of the first log, over a new connection if there is none.
    async fn attempt(&mut self) -> Result<(), NotReady> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => Writer::connect(&self.config.postgres, self.config.migrate).await?,
        };
        self.write_from(0, &mut writer).await?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Takes over the next log that a dead process left, one at a time.
    fn adopt(&mut self) {
        while self.sources.len() == 1
            && let Some(path) = self.others.pop_front()
        {
            match Spool::take_over(&path) {
                Ok(Some(spool)) => self.sources.push(Source::new(Arc::new(spool), true)),
                Ok(None) => {}
                Err(error) => self.unreadable(&path, error.is_damage(), &error),
            }
        }
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut turn = 0;
        while !self.progress.should_stop() {
            let Some(mut writer) = self.writer.take() else {
                self.connect().await;
                continue;
            };
            if writer.is_stale() || !self.prepare_partitions(&mut writer).await {
                continue;
            }
            self.adopt();
            let Some(index) = self.next_source(&mut turn) else {
                self.writer = Some(writer);
                self.wait().await;
                continue;
            };
            match self.write_from(index, &mut writer).await {
                Ok(()) => self.writer = Some(writer),
                // The connection is of no use any more, and the next one asks where the trail
                // stands.
                Err(fault) => self.retreat(index, &fault).await,
            }
        }
    }

    /// Counts the logs that dead processes left: those that nobody has, and the one that was taken over.
    fn count_orphans(&self) {
        let Some(own) = self.sources.iter().find(|source| !source.is_adopted) else {
            return;
        };
        let adopted = self.sources.iter().filter(|source| source.is_adopted);
        let (logs, bytes) = adopted
            .fold(spool::orphans(own.spool.path()), |(logs, bytes), source| {
                (logs + 1, bytes + source.spool.stored_bytes())
            });
        self.counters.set_orphans(logs, bytes);
    }

    /// Waits for something to do.
    async fn wait(&self) {
        let retry = self
            .sources
            .iter()
            .filter_map(|source| source.not_before)
            .chain(self.ahead.not_before)
            .min();
        self.progress.wait_for_work(&self.config.batch, retry).await;
    }

    /// Deals with a batch that was not written.
    async fn retreat(&mut self, index: usize, fault: &Fault) {
        self.forget_ahead(index);
        self.sources[index].position = None;
        if self.suspect(index, fault) {
            return self.pause().await;
        }
        let source = &mut self.sources[index];
        if source.is_adopted && !matches!(fault.class, Class::Retry | Class::Superseded) {
            // This process' own records may well be written.
            source.not_before = Some(Instant::now() + ADOPTED_PAUSE);
            let (writer, cause) = (source.log().writer(), fault.summary());
            report::say(move || {
                tracing::warn!(
                    target: "tracing_audit",
                    %writer,
                    %cause,
                    "audit trail: Postgres does not take the records that another process left; they are kept"
                );
            });
            return;
        }
        // When the batch was there already, nothing is wrong with the server.
        if fault.class != Class::Superseded {
            self.failed(fault);
        }
        self.pause().await;
    }

    /// Has it looked at whose a writer is that Postgres takes for another's; returns whether that is to be
    /// done. Once: a new writer is nobody's.
    fn suspect(&mut self, index: usize, fault: &Fault) -> bool {
        let source = &mut self.sources[index];
        let is_to_be = fault.class == Class::NotOurs && source.standing != Standing::New;
        if is_to_be {
            source.standing = Standing::Suspected;
        }
        is_to_be
    }

    /// Makes a connection that can write, or says why not and pauses.
    async fn connect(&mut self) {
        match Writer::connect(&self.config.postgres, self.config.migrate).await {
            Ok(writer) => {
                self.writer = Some(writer);
                self.say_if_plain();
            }
            Err(NotReady::Fault(fault)) => {
                self.failed(&fault);
                self.pause().await;
            }
            Err(NotReady::Schema(why)) => {
                self.counters.set_health(Health::Holding);
                self.complain(&why, "; records are kept in the local log");
                self.pause = LONGEST_PAUSE;
                self.pause().await;
            }
        }
    }

    /// Says once that what is sent can be read on the way, since this build has no TLS.
    fn say_if_plain(&mut self) {
        let servers = &self.config.postgres;
        if self.is_plain_said || !servers.is_plain_for_want_of_tls() {
            return;
        }
        self.is_plain_said = true;
        let place = servers.place();
        report::say(move || {
            tracing::warn!(
                target: "tracing_audit",
                "audit trail: the connection to Postgres at {place} is not encrypted: this build has no TLS; enable feature \
                 tls-ring, tls-aws-lc-rs or tls-native of tracing-audit, or set sslmode=disable"
            );
        });
    }

    /// Makes partitions ahead when that is due. No batch fails for it: where it cannot be done now, it is done later.
    /// Returns whether the connection is still of use.
    async fn prepare_partitions(&mut self, writer: &mut Writer) -> bool {
        let now_us = Moment::now().wall_us();
        if !self.ahead.is_due(now_us) {
            return true;
        }
        match writer.prepare_partitions(now_us).await {
            Ok(()) => {
                self.ahead = Ahead {
                    made_us: Some(now_us),
                    ..Ahead::NEVER
                };
                true
            }
            Err(fault) => {
                if self.ahead.has_failed() {
                    let cause = fault.summary();
                    report::say(move || {
                        tracing::warn!(
                            target: "tracing_audit",
                            %cause,
                            "audit trail: partitions cannot be made ahead now; it is tried again"
                        );
                    });
                }
                false
            }
        }
    }

    /// A log with a batch to write.
    fn next_source(&mut self, turn: &mut usize) -> Option<usize> {
        let now = Instant::now();
        // In turn, so that a long backlog and the present do not hold each other up.
        let count = self.sources.len();
        let next = (1..=count)
            .map(|step| (*turn + step) % count)
            .find(|&index| {
                let source = &self.sources[index];
                match source.position {
                    _ if source.not_before.is_some_and(|at| now < at) => false,
                    // A log that was taken over is old enough.
                    Some(position) if !source.is_adopted => {
                        self.progress.is_due(position, &self.config.batch)
                    }
                    _ => true,
                }
            })?;
        *turn = next;
        self.sources[next].not_before = None;
        Some(next)
    }

    /// Writes the next batch of a log, if it has one.
    async fn write_from(&mut self, index: usize, writer: &mut Writer) -> Result<(), Fault> {
        let spool = Arc::clone(&self.sources[index].spool);
        let log = spool.log();
        let position = if let Some(position) = self.sources[index].position {
            position
        } else {
            let stands = self.ask(index, writer).await?;
            if self.sources[index].is_adopted
                && let Err(error) = log.recover(PROCESS_LOST, stands, |_| ())
            {
                drop(spool);
                self.give_back(index, &error);
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
                self.works();
                return Ok(());
            }
            Err(error) if self.sources[index].is_adopted => {
                drop(spool);
                self.give_back(index, &error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.write(index, writer, batch, log).await
    }

    /// Reads the batch that begins at `position`, or what is missing of it.
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
            // What could be read is good; the next batch begins at what could not.
            Err(error) if draft.is_empty() => Err(error),
            _ => Ok(draft.end()),
        }
    }

    /// Throws away what was read ahead of a log.
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
            // Alone in its batch, and refused: the record is kept where it can be looked at.
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
            // It may be too much for the way to the server.
            let half = usize::try_from(batch.records() / 2).unwrap_or(1);
            self.sources[index].pace = Pace::Growing(half);
        }
        if written.is_err() && !writer.may_be_committed() {
            self.sources[index].attempts.pop();
        }
        let in_default = written?;
        // Before who waits for a flush is told.
        self.alarm(in_default);
        self.committed(index, &batch, began.elapsed());
        self.batcher.recycle(batch);
        Ok(())
    }

    /// Writes a batch; while Postgres is at work, reads the one after it.
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
            // The next batch may have to be another one.
            return writing.await;
        }
        let (batcher, limits) = (&mut self.batcher, &self.config.batch);
        let mut draft = Draft::new(batch.last_seq + 1);
        let reading = async {
            // An error is found again when the batch is due.
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

    /// Takes a committed batch into account.
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
        if source.is_adopted {
            let rows = batch.records() - batch.dead_letters.len() as u64;
            self.counters.count_adopted(rows);
        }
        // Before those who wait are told: they may look at the health.
        self.works();
        self.resume(index, batch.last_seq + 1);
    }

    /// Says that rows are in default partitions, when that is news.
    fn alarm(&mut self, in_default: u64) {
        if in_default == 0 {
            return;
        }
        self.counters.count_in_default(in_default);
        let now = Instant::now();
        if self
            .alarmed
            .is_some_and(|at| now.duration_since(at) < ALARM_EVERY)
        {
            return;
        }
        self.alarmed = Some(now);
        report::say(move || {
            tracing::error!(
                target: "tracing_audit",
                rows = in_default,
                "audit trail: rows are in a default partition, since their time is far ahead of the server's or more than a year ago: is a clock wrong? `tracing-audit settle` moves them to their months"
            );
        });
    }

    /// Postgres takes what there is, or has taken it.
    fn works(&mut self) {
        self.pause = FIRST_PAUSE;
        let before = self.counters.set_health(Health::Healthy);
        if before != Health::Healthy {
            // It may have been said before this thread panicked.
            self.said.clear();
            self.counters.set_fault(None);
        }
        if matches!(before, Health::Retrying | Health::Holding) {
            report::say(|| {
                tracing::info!(target: "tracing_audit", "audit trail: Postgres takes records again");
            });
        }
    }

    /// Sets a log's position, as Postgres has said it or has just committed it.
    fn resume(&mut self, index: usize, position: u64) {
        let source = &mut self.sources[index];
        source.position = Some(position);
        // Of those that begin before it, one was committed, and no other can be any more.
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
            let records = dead.len();
            report::say(move || {
                tracing::error!(
                    target: "tracing_audit",
                    records,
                    "audit trail: records were refused; see audit.dead_letters"
                );
            });
        }
        if !source.is_adopted {
            self.progress.dead_lettered(&dead);
            self.progress.commit_to(position);
        }
    }

    /// Lets go of a log that was taken over and cannot be read any further.
    fn give_back(&mut self, index: usize, error: &LogError) {
        let source = self.sources.remove(index);
        let path = source.spool.path().to_owned();
        // Let go before it gets another name.
        drop(source);
        self.unreadable(&path, error.is_damage(), error);
        self.count_orphans();
    }

    /// Deals with a log that cannot be read: a damaged one gets another name, and the trail says
    /// so; any other stays as it is, for a process that can read it.
    fn unreadable(
        &mut self,
        path: &Path,
        is_damaged: bool,
        error: &(dyn std::error::Error + 'static),
    ) {
        let error = crate::error::causes(error);
        let folder = if is_damaged {
            let aside = Spool::set_aside(path).unwrap_or_else(|_| path.to_owned());
            let name = aside.file_name().unwrap_or_default().to_string_lossy();
            (self.tell.0)(gap::of_damage(&name), None);
            aside
        } else {
            path.to_owned()
        };
        report::say(move || {
            tracing::error!(
                target: "tracing_audit",
                folder = %folder.display(),
                is_damaged,
                error,
                "audit trail: a local log that another process left cannot be read; a damaged one is set aside, any other stays as it is"
            );
        });
    }

    /// Removes a log that was taken over and is drained, or leaves it to the export.
    fn finish(&mut self, index: usize) {
        if self.sources[index].is_adopted {
            self.finish_adopted(index);
            self.count_orphans();
        }
    }

    fn finish_adopted(&mut self, index: usize) {
        let Source {
            spool, position, ..
        } = self.sources.remove(index);
        if self.keeps_disputed && spool.log().is_disputed() {
            return;
        }
        if let Some(export) = &self.export
            && spool.log().waiting(Sink::Otlp) > 0
        {
            let log = spool.log();
            let position = position.unwrap_or(log.next_seq());
            let positions = log.positions().with(Sink::Postgres, position);
            // If that fails, Postgres will say where it stands.
            let _ = log.append(&[], positions, &Runs::default());
            let path = spool.path().to_owned();
            drop(spool);
            export.leave(path);
            return;
        }
        let unexported = spool.log().waiting(Sink::Otlp);
        if unexported > 0 {
            report::say(move || {
                tracing::warn!(
                    target: "tracing_audit",
                    records = unexported,
                    "audit trail: another process left records to export, and no export is set up here: they are in Postgres alone"
                );
            });
        }
        if let Some(Err(error)) = Arc::into_inner(spool).map(Spool::remove) {
            report::say(move || {
                tracing::warn!(
                    target: "tracing_audit",
                    error = crate::error::causes(&error),
                    "audit trail: a drained local log cannot be removed"
                );
            });
        }
    }

    /// Says that writing failed, when that is news.
    fn failed(&mut self, fault: &Fault) {
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

    /// Says what is wrong with Postgres: when it begins or its cause changes, and again while it
    /// lasts.
    fn complain(&mut self, fault: &str, kept: &'static str) {
        self.counters.set_fault(Some(fault));
        let now = Instant::now();
        self.said
            .retain(|(_, at)| now.duration_since(*at) < SAID_AGAIN_EVERY);
        if self.said.iter().any(|(said, _)| said == fault) {
            return;
        }
        if self.said.len() >= CAUSES {
            self.said.remove(0);
        }
        self.said.push((fault.to_owned(), now));
        let fault = fault.to_owned();
        report::say(move || {
            tracing::warn!(target: "tracing_audit", "audit trail: {fault}{kept}");
        });
    }

    /// Waits before the next attempt; a flush or a shutdown does not wait for its end.
    async fn pause(&mut self) {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.progress.pause_until(until).await;
    }
}

/// Does the one, and the other as far as it comes while the one waits.
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

/// How the next batches are cut, so that the record that Postgres refused comes to stand alone:
/// those before it first, where it is known, else half of them.
fn single_out(batch: &Batch, at: Option<(usize, usize)>) -> Pace {
    let refused = at.and_then(|(leaf, line)| {
        let leaf = batch.leaves.get(leaf)?;
        leaf.seqs.get(line.checked_sub(1)?).copied()
    });
    let count = |records: u64| usize::try_from(records).unwrap_or(usize::MAX);
    match refused {
        Some(seq) if seq == batch.first_seq => Pace::Alone,
        Some(seq) => Pace::Before(count(seq - batch.first_seq)),
        None => Pace::Growing(count(batch.records() / 2)),
    }
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
