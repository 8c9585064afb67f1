//! Drains one orphaned log, for a caller that waits for it.
//!
//! **A database that lacks a log's committed records is refused.** Either the URL is wrong, or the
//! database was restored from a backup older than the log; only the caller can tell. If a wrong
//! database were treated as a restored one, it would keep the records for good, and the trail would
//! report that the right one had lost them.

use super::super::fault::Class;
use super::super::fault::Fault;
use super::super::writer::{NotReady, Writer};
use super::Drain;
use crate::spool::LogError;

/// Why a log was not drained.
#[derive(Debug)]
pub(crate) enum NotDrained {
    /// The database has no record of the log, although records of it were committed; nothing was
    /// changed.
    Unknown,
    /// The log cannot be read any further, or what it needs cannot be written to it.
    Log(LogError),
    /// Postgres does not take the records; in one line.
    Postgres(String),
}

impl Drain {
    /// Runs until that log is drained; errors that may pass are retried for some seconds. `written`
    /// receives, for each batch, how many records are rows and how many were refused.
    /// `is_restored`: the database may be one that does not know the log.
    pub(crate) async fn run_one(
        mut self,
        is_restored: bool,
        written: &mut impl FnMut(u64, u64),
    ) -> Result<(), NotDrained> {
        /// The pauses between them are 6 s together.
        const ATTEMPTS: u32 = 8;
        let (mut attempts, mut told) = (0, (0, 0));
        while !self.sources.is_empty() {
            let fault = match self.attempt(is_restored).await {
                Ok(true) => {
                    let now = (self.counters.adopted(), self.refused);
                    written(now.0 - told.0, now.1 - told.1);
                    told = now;
                    attempts = 0;
                    continue;
                }
                Ok(false) => return Err(NotDrained::Unknown),
                Err(NotReady::Schema(why)) => {
                    return Err(NotDrained::Postgres(format!(
                        "{}: {why}",
                        self.config.postgres.place()
                    )));
                }
                Err(NotReady::Fault(fault)) => fault,
            };
            self.forget_ahead(0);
            self.sources[0].position = None;
            self.suspect(0, &fault);
            attempts += 1;
            if attempts >= ATTEMPTS || fault.class == Class::Hold {
                let place = self.config.postgres.place();
                return Err(NotDrained::Postgres(fault.sentence(&place)));
            }
            self.pause().await;
        }
        match self.unread {
            Some(error) => Err(NotDrained::Log(error)),
            None => Ok(()),
        }
    }

    /// Writes the next batch of the log, over a new connection if there is none. Returns whether
    /// the database may have the log's records.
    async fn attempt(&mut self, is_restored: bool) -> Result<bool, NotReady> {
        let mut writer = if let Some(writer) = self.writer.take() {
            writer
        } else {
            let servers = &self.config.postgres;
            let mut writer = Writer::connect(servers, self.config.migrate).await?;
            if !is_restored && !self.is_known(&mut writer).await? {
                return Ok(false);
            }
            writer
        };
        self.write_from(0, &mut writer).await?;
        self.writer = Some(writer);
        Ok(true)
    }

    /// Returns whether the database knows a writer of the log, or the log knows of no record in any
    /// database.
    async fn is_known(&self, writer: &mut Writer) -> Result<bool, Fault> {
        let source = &self.sources[0];
        let log = source.log();
        let identity = log.identity();
        let mut writers: Vec<_> = log.past().formers.iter().map(|past| past.writer).collect();
        if identity.seq(source.known(&self.progress).max(log.first_seq())) > 1 {
            writers.push(identity.writer);
        }
        if writers.is_empty() {
            return Ok(true);
        }
        // Something may have been committed under it that the log has not noted.
        writers.push(identity.writer);
        let positions = writer.positions(&writers).await?;
        Ok(positions.iter().any(|position| *position > 1))
    }
}
