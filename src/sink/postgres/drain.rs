//! The loop that drains every log of this process into Postgres: its own, and those that dead
//! processes left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Batch, Batcher};
use super::fault::{Class, Fault};
use super::writer::{NotReady, Writer};
use crate::config::Config;
use crate::pipeline::Progress;
use crate::spool::directory::Directory;
use crate::spool::{Log, LogError, Sink};
use crate::stats::{Counters, Health};

/// The pause after the first error, which doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A log that is drained.
#[derive(Debug)]
struct Source {
    log: Arc<Log>,
    /// `None`: this process' own log. A log that was taken over is removed when it is drained.
    adopted: Option<Directory>,
    /// The seq of the next record to write; `None`: Postgres must be asked.
    position: Option<u64>,
    /// How many records the next batch may have: fewer while one that Postgres refuses is
    /// being singled out.
    max_rows: usize,
    /// Dead letters that may have been committed: the seq of the last record of their batch,
    /// and how many.
    in_doubt: Option<(u64, u64)>,
}

/// Drains logs into Postgres until it is told to stop.
#[derive(Debug)]
pub(crate) struct Drain {
    config: Arc<Config>,
    progress: Arc<Progress>,
    counters: Arc<Counters>,
    sources: Vec<Source>,
    batcher: Batcher,
    writer: Option<Writer>,
    pause: Duration,
}

impl Drain {
    /// Takes over the logs that dead processes left, besides this process' own.
    pub(crate) fn new(
        config: Arc<Config>,
        progress: Arc<Progress>,
        counters: Arc<Counters>,
        own: Arc<Log>,
    ) -> Self {
        let adopted = Directory::adopt(&config.spool_root, |folder, error| {
            tracing::error!(
                target: "tracing_audit",
                folder = %folder.display(),
                error = &error as &dyn std::error::Error,
                "audit trail: a local log that another process left cannot be opened; it stays as it is"
            );
        });
        let source = |log, adopted| Source {
            log,
            adopted,
            position: None,
            max_rows: usize::MAX,
            in_doubt: None,
        };
        let sources = std::iter::once(source(own, None))
            .chain(
                adopted
                    .into_iter()
                    .map(|(directory, log)| source(Arc::new(log), Some(directory))),
            )
            .collect();
        Self {
            config,
            progress,
            counters,
            sources,
            batcher: Batcher::new(),
            writer: None,
            pause: FIRST_PAUSE,
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
            if writer.is_stale() {
                continue;
            }
            let Some(index) = self.next_source(&mut turn) else {
                self.writer = Some(writer);
                self.progress.wait_for_work(&self.config.batch).await;
                continue;
            };
            match self.write_from(index, &mut writer).await {
                Ok(()) => self.writer = Some(writer),
                // The connection is of no use any more, and the next one asks where the trail
                // stands.
                Err(fault) => {
                    self.sources[index].position = None;
                    // The batch is there already: no fault of the server's.
                    if fault.class != Class::Superseded {
                        self.failed(&fault);
                    }
                    self.pause().await;
                }
            }
        }
    }

    /// Makes a connection that can write, or says why not and pauses.
    async fn connect(&mut self) {
        match Writer::connect(&self.config.postgres, self.config.migrate).await {
            Ok(writer) => self.writer = Some(writer),
            Err(NotReady::Fault(fault)) => {
                self.failed(&fault);
                self.pause().await;
            }
            Err(NotReady::Schema(why)) => {
                if self.counters.set_health(Health::Holding) != Health::Holding {
                    tracing::warn!(target: "tracing_audit", "audit trail: {why}; records are kept in the local log");
                }
                self.pause = LONGEST_PAUSE;
                self.pause().await;
            }
        }
    }

    /// A log with a batch to write.
    fn next_source(&self, turn: &mut usize) -> Option<usize> {
        // In turn, so that a long backlog and the present do not hold each other up.
        let count = self.sources.len();
        let next = (1..=count)
            .map(|step| (*turn + step) % count)
            .find(|&index| {
                let source = &self.sources[index];
                match source.position {
                    // A log that was taken over is old enough.
                    Some(position) if source.adopted.is_none() => {
                        self.progress.is_due(position, &self.config.batch)
                    }
                    _ => true,
                }
            })?;
        *turn = next;
        Some(next)
    }

    /// Writes the next batch of a log, if it has one.
    async fn write_from(&mut self, index: usize, writer: &mut Writer) -> Result<(), Fault> {
        let log = Arc::clone(&self.sources[index].log);
        let position = if let Some(position) = self.sources[index].position {
            position
        } else {
            let stands = writer.position(log.writer()).await?;
            self.compare(index, stands);
            let position = stands.max(log.first_seq());
            self.resume(index, position);
            position
        };
        let max_rows = self.sources[index].max_rows.min(self.config.batch.rows);
        let batch = match self
            .batcher
            .read(&log, position, max_rows, &self.config.batch)
        {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                drop(log);
                self.finish(index);
                return Ok(());
            }
            Err(error) if self.sources[index].adopted.is_some() => {
                self.set_aside(index, &error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.write(index, writer, batch, &log).await
    }

    async fn write(
        &mut self,
        index: usize,
        writer: &mut Writer,
        mut batch: Batch,
        log: &Log,
    ) -> Result<(), Fault> {
        let mut written = writer.write(&batch, &self.batcher, log).await;
        if let Err(fault) = &mut written
            && fault.class == Class::Poison
        {
            writer.rollback().await?;
            if batch.records() > 1 {
                self.sources[index].max_rows = single_out(&batch, fault.at.as_ref());
                self.batcher.recycle(batch);
                return Ok(());
            }
            // Alone in its batch, and refused: the record is kept where it can be looked at.
            batch.give_up(
                log,
                fault.sqlstate.take(),
                std::mem::take(&mut fault.reason),
            )?;
            self.sources[index].in_doubt = Some((batch.last_seq, 1));
            written = writer
                .write(&batch, &self.batcher, log)
                .await
                .map_err(Fault::not_poison);
        } else if !batch.dead_letters.is_empty() {
            self.sources[index].in_doubt = Some((batch.last_seq, batch.dead_letters.len() as u64));
        }
        written?;
        self.committed(index, &batch);
        self.batcher.recycle(batch);
        Ok(())
    }

    /// Takes a committed batch into account.
    fn committed(&mut self, index: usize, batch: &Batch) {
        self.counters.count_batch();
        let source = &mut self.sources[index];
        // Those before a refused one are written: now that one alone. It is written too: on.
        let singled_out = source.max_rows == 1 || source.max_rows == usize::MAX;
        source.max_rows = if singled_out { usize::MAX } else { 1 };
        if source.adopted.is_some() {
            self.counters
                .count_adopted(batch.records() - batch.dead_letters.len() as u64);
        }
        self.resume(index, batch.last_seq + 1);
        let before = self.counters.set_health(Health::Healthy);
        if matches!(before, Health::Retrying | Health::Holding) {
            tracing::info!(target: "tracing_audit", "audit trail: Postgres takes records again");
        }
        self.pause = FIRST_PAUSE;
    }

    /// Says so when Postgres knows of fewer records than it had committed: it was restored from
    /// a backup, or a replica took over that had not received them.
    fn compare(&self, index: usize, stands: u64) {
        let source = &self.sources[index];
        let own = source.adopted.is_none().then(|| self.progress.position());
        let known = source.log.position(Sink::Postgres).max(own.unwrap_or(1));
        if stands < known {
            tracing::error!(
                target: "tracing_audit",
                writer = %source.log.writer(),
                records = known - stands,
                written_again = known.saturating_sub(source.log.first_seq().max(stands)),
                "audit trail: the database has lost records that it had committed"
            );
        }
    }

    /// Sets a log's position, as Postgres has said it or has just committed it.
    fn resume(&mut self, index: usize, position: u64) {
        let source = &mut self.sources[index];
        source.position = Some(position);
        let dead = match source.in_doubt.take() {
            Some((last_seq, dead)) if last_seq < position => dead,
            _ => 0,
        };
        if dead > 0 {
            tracing::error!(target: "tracing_audit", records = dead, "audit trail: records were refused; see audit.dead_letters");
        }
        if source.adopted.is_none() {
            self.counters.count_dead_letters(dead);
            self.progress.commit_to(position);
        }
    }

    /// Leaves a log that was taken over as it is, since it cannot be read.
    fn set_aside(&mut self, index: usize, error: &LogError) {
        let source = self.sources.remove(index);
        tracing::error!(
            target: "tracing_audit",
            writer = %source.log.writer(),
            error = error as &dyn std::error::Error,
            "audit trail: a local log that another process left cannot be read; it stays as it is"
        );
    }

    /// Removes a log that was taken over and is drained.
    fn finish(&mut self, index: usize) {
        if self.sources[index].adopted.is_none() {
            return;
        }
        let Source { log, adopted, .. } = self.sources.remove(index);
        drop(log);
        if let Some(directory) = adopted
            && let Err(error) = directory.remove()
        {
            tracing::warn!(
                target: "tracing_audit",
                error = &error as &dyn std::error::Error,
                "audit trail: a drained local log cannot be removed"
            );
        }
    }

    /// Says that writing failed, when that is news.
    fn failed(&mut self, fault: &Fault) {
        let health = if fault.class == Class::Hold {
            Health::Holding
        } else {
            Health::Retrying
        };
        if self.counters.set_health(health) != health {
            tracing::warn!(
                target: "tracing_audit",
                cause = %fault.summary(),
                "audit trail: Postgres does not take records; they are kept in the local log"
            );
        }
    }

    /// Waits before the next attempt; a flush or a shutdown does not wait for its end.
    async fn pause(&mut self) {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.progress.pause_until(until).await;
    }
}

/// How many records the next batch may have, so that the one that Postgres refused comes to
/// stand alone: those before it first, where it is known, else half of them.
fn single_out(batch: &Batch, at: Option<&(String, usize)>) -> usize {
    let refused = at.and_then(|(table, line)| {
        let leaf = batch
            .leaves
            .iter()
            .find(|leaf| leaf.month.partition_of(leaf.kind) == *table)?;
        leaf.seqs.get(line.checked_sub(1)?).copied()
    });
    let before = match refused {
        Some(seq) => seq - batch.first_seq,
        None => batch.records() / 2,
    };
    usize::try_from(before).unwrap_or(usize::MAX).max(1)
}
