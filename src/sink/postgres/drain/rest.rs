//! What happens while there is nothing to write: the connection is kept for a while, then closed.
//!
//! **A process that records nothing has no connection.** A server has room for some hundred, and
//! each takes memory there, while a service may run as a thousand processes of which few record at a
//! time. A batch that follows soon finds the connection open.

use std::time::Instant;

use super::Drain;
use super::draining::Draining;
use crate::sink::postgres::writer::Writer;

impl Drain {
    /// Waits for something to do; closes the connection if that lasts.
    pub(super) async fn rest(&mut self, writer: Writer) {
        let until = writer.last_used() + self.config.batch.kept;
        if until <= Instant::now() {
            return writer.close().await;
        }
        self.writer = Some(writer);
        let retry = self.ahead.not_before.map_or(until, |at| at.min(until));
        self.wait(Some(retry)).await;
    }

    /// Waits for something to do, until `retry` at the most.
    pub(super) async fn wait(&self, retry: Option<Instant>) {
        let retry = self
            .sources
            .iter()
            .filter_map(|source| source.not_before)
            .chain(retry)
            .chain(self.next_adoption())
            .min();
        self.progress.wait_for_work(&self.config.batch, retry).await;
    }

    /// Returns whether there is a reason to open a connection.
    pub(super) fn needs_connection(&self) -> bool {
        let now = Instant::now();
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        is_past(self.ahead.not_before)
            || is_past(self.next_adoption())
            || self.progress.is_unchecked()
            || self.sources.iter().any(|source| self.is_due(source, now))
    }

    /// Returns whether a log has a batch to write, or Postgres must be asked where it stands.
    pub(super) fn is_due(&self, source: &Draining, now: Instant) -> bool {
        match source.position {
            _ if source.not_before.is_some_and(|at| now < at) => false,
            // An adopted log is old enough to be always due.
            Some(position) if !source.source.is_adopted() => {
                self.progress.is_due(position, &self.config.batch)
            }
            _ => true,
        }
    }
}
