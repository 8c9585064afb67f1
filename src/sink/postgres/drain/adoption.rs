//! Adopts orphaned logs: takes them over one at a time, and removes them when they are drained.

use std::path::Path;
use std::time::Instant;

use super::draining::Draining;
use super::{Drain, notices};
use crate::record::gap;
use crate::sink::source::Source;
use crate::spool::{self, Log, LogError, Positions, Sink, Spool};

impl Drain {
    /// Takes over the next orphaned log, one at a time.
    pub(super) fn adopt(&mut self) {
        while self.sources.len() == 1
            && let Some(path) = self.others.pop_free()
        {
            match Source::take_over(&path) {
                Ok(Some(source)) => {
                    if self.export.is_some() {
                        keep_for_export(source.log());
                    }
                    self.sources.push(Draining::new(source));
                }
                Ok(None) => {}
                Err(error) => self.unreadable(&path, error.is_damage(), &error),
            }
        }
    }

    /// Returns when there may be an orphaned log to take over, if one has to be waited for.
    pub(super) fn next_adoption(&self) -> Option<Instant> {
        self.others.next_look().filter(|_| self.sources.len() == 1)
    }

    /// Counts the orphaned logs: those that no process has, and the adopted one.
    pub(super) fn count_orphans(&self) {
        let Some(own) = self
            .sources
            .iter()
            .find(|source| !source.source.is_adopted())
        else {
            return;
        };
        let adopted = self
            .sources
            .iter()
            .filter(|source| source.source.is_adopted());
        let (logs, bytes) = adopted.fold(
            spool::orphans(own.source.spool().path()),
            |(logs, bytes), source| (logs + 1, bytes + source.source.spool().stored_bytes()),
        );
        self.counters.set_orphans(logs, bytes);
    }

    /// Releases an adopted log that cannot be read any further.
    pub(super) fn give_back(&mut self, index: usize, error: LogError) {
        let source = self.sources.remove(index);
        let path = source.source.spool().path().to_owned();
        // Released before it is renamed.
        drop(source);
        self.unreadable(&path, error.is_damage(), &error);
        self.unread = Some(error);
        self.count_orphans();
    }

    /// Handles a log that cannot be read: a damaged one is renamed, and the trail records that; any
    /// other stays as it is, for a process that can read it.
    fn unreadable(
        &mut self,
        path: &Path,
        is_damaged: bool,
        error: &(dyn std::error::Error + 'static),
    ) {
        let folder = if is_damaged {
            let aside = Spool::set_aside(path).unwrap_or_else(|_| path.to_owned());
            let name = aside.file_name().unwrap_or_default().to_string_lossy();
            (self.own_records.0)(gap::of_damage(&name), None);
            aside
        } else {
            path.to_owned()
        };
        notices::log_cannot_be_read(folder, is_damaged, error);
    }

    /// Removes an adopted log that is drained, or leaves it to the export.
    pub(super) fn finish(&mut self, index: usize) {
        if self.sources[index].source.is_adopted() {
            self.finish_adopted(index);
            self.count_orphans();
        }
    }

    fn finish_adopted(&mut self, index: usize) {
        let Draining {
            source, position, ..
        } = self.sources.remove(index);
        let log = source.log();
        let is_kept = self.keeps_disputed && log.is_disputed();
        let export = self
            .export
            .as_ref()
            .filter(|_| !is_kept && log.waiting(Sink::Otlp) > 0);
        if is_kept || export.is_some() {
            let position = position.unwrap_or(log.next_seq());
            // If that fails, Postgres still knows the position.
            let _ = log.set_positions(|| log.positions().with(Sink::Postgres, position));
        }
        if is_kept {
            return;
        }
        if let Some(export) = export {
            let path = source.spool().path().to_owned();
            drop(source);
            export.leave(path);
            return;
        }
        let unexported = source.log().waiting(Sink::Otlp);
        if unexported > 0 {
            notices::left_records_are_not_exported(unexported);
        }
        source.remove();
    }
}

/// Keeps what a log still holds for the export, if the process that wrote it had none: no process
/// has exported these records.
pub(super) fn keep_for_export(log: &Log) {
    let positions = log.positions();
    if positions.of(Sink::Otlp) == Positions::NOTHING {
        let first = log.first_seq();
        // If that fails, the records are in Postgres only, as without an export.
        let _ = log.set_positions(|| positions.with(Sink::Otlp, first));
    }
}
