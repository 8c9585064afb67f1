//! Compares the position in Postgres with the log, and trusts it no further than the log confirms.
//!
//! The last batch of a writer shows how far it has come, and each batch has a mark by which the log
//! recognizes its own: another program may have a copy of the log, with the writer and its secret.
//! All writers that a log has had are checked, since a database may go back to before the last of
//! them.
//!
//! **A position is trusted as far as the batches are the log's own.** A writer has a secret, which
//! is stored in its log; `audit.add_batch` accepts a batch only from a caller that knows it, and
//! only where the last batch ended. A log can be copied together with its secret, so each batch
//! also has a mark: a hash of the salt of its last record. Two copies of a log share no record from
//! the first one that differs. Ids and counts would not do, because the copy ends the runs that
//! were open under their ids.
//!
//! If Postgres is behind what it had committed, or has other batches, the log gets a new writer
//! ([`crate::spool`]): its id, its secret and the seq that its numbers begin after change in one
//! transaction, together with the reason, which becomes a row `audit.gap`. Earlier writers are
//! remembered and checked as well, since the database may go back once more. The log's own numbers
//! stay, so other sinks notice nothing. The secret is a bind parameter, which costs two exchanges
//! for each batch: a literal could be read in `pg_stat_activity` by anyone with the same login.

use std::iter::once;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::clock::Moment;
use crate::record::gap;
use crate::record::id;
use crate::report;
use crate::sink::postgres::batch::mark;
use crate::sink::postgres::fault::{Class, Fault};
use crate::sink::postgres::writer::{Writer, Written};
use crate::spool::{Cause, Disagreement, Former, Held, Identity, LogError};

use super::Drain;
use super::draining::Standing;

/// More records than a process can hold in memory while its disk does not accept them.
const MOST_IN_MEMORY: u64 = 1 << 32;

/// Records of one writer that Postgres had and has lost, by the log's numbers.
struct Loss {
    writer: Former,
    stands: u64,
}

/// Why a log gets a new writer, and from which record on.
struct Turn {
    /// The seq of the first record that the new writer writes.
    from: u64,
    /// The seq after the last record of the old writer that Postgres has.
    end: u64,
    /// The seq from which on Postgres has none; `None`: it may have all.
    lost_from: Option<u64>,
    whys: Vec<Disagreement>,
    /// What Postgres has lost, by writer.
    losses: Vec<Loss>,
}

impl Drain {
    /// Asks Postgres for a log's position, and compares it with the log. If they disagree, the
    /// trail records it, and the log gets a new writer. Returns the seq at which the next batch
    /// begins.
    pub(super) async fn ask(&mut self, index: usize, writer: &mut Writer) -> Result<u64, Fault> {
        let source = &self.sources[index];
        let spool = Arc::clone(source.source.spool());
        let (log, known) = (spool.log(), source.known(&self.progress));
        let (identity, past) = (log.identity(), log.past());
        let writers = past.formers.iter().map(|former| former.writer);
        let writers: Vec<_> = once(identity.writer).chain(writers).collect();
        let positions = writer.positions(&writers).await?;
        let Some((&position, earlier)) = positions.split_first() else {
            return Err(Fault::timed_out());
        };
        let stands = identity.seq_in_log(position);
        let present = Former {
            writer: identity.writer,
            base: identity.base,
            end: known.max(log.first_seq()),
        };
        let formers = past.formers.into_iter().zip(earlier);
        let losses: Vec<_> = formers
            .map(|(former, position)| Loss {
                writer: former,
                stands: former.seq_in_log(*position),
            })
            .chain(once(Loss {
                writer: present,
                stands,
            }))
            .filter(|loss| loss.stands < loss.writer.end)
            .collect();
        if !losses.is_empty() {
            return Ok(self.lose(index, &log.hold(), stands, present, losses)?);
        }
        if position > 1 {
            let since = identity.seq(known.saturating_sub(1)).max(1);
            match writer.batches(&identity, since).await {
                Ok(batches) => {
                    if let Some(first) = self.first_foreign(index, &identity, &batches, known)? {
                        let held = log.hold();
                        return Ok(self.leave_position(index, &held, &identity, first, stands)?);
                    }
                }
                Err(fault) if fault.class == Class::NotOurs => {
                    self.change_writer(index, &log.hold(), known)?;
                    // The next attempt has a new connection and the new writer.
                    return Err(fault.dealt_with());
                }
                Err(fault) => return Err(fault),
            }
        } else if self.sources[index].standing == Standing::Suspected {
            return Ok(self.change_writer(index, &log.hold(), known)?);
        }
        let source = &mut self.sources[index];
        if source.standing == Standing::Suspected {
            source.standing = Standing::Own;
        }
        if source.source.is_adopted() && !source.has_told {
            // Its process may have died before it recorded this.
            let untold: Vec<_> = log.past().untold().collect();
            if !untold.is_empty() {
                self.counters.count_disagreement(0);
            }
            for why in untold {
                self.tell_disagreement(index, why);
            }
        }
        Ok(stands)
    }

    /// Returns the seq of the first record of a batch that is not made of the log's records.
    fn first_foreign(
        &self,
        index: usize,
        identity: &Identity,
        batches: &[Written],
        known: u64,
    ) -> Result<Option<u64>, LogError> {
        let mut end = known;
        for batch in batches {
            let last = identity.seq_in_log(batch.last_seq);
            if !self.is_ours(index, last, batch.mark.as_deref())? {
                return Ok(Some(identity.seq_in_log(batch.first_seq).min(end)));
            }
            end = last + 1;
        }
        Ok(None)
    }

    /// Returns whether the batch that ends with a record is made of the log's records. If its last
    /// record is the log's, all are, since two copies of a log share no record from the first one
    /// that differs.
    fn is_ours(&self, index: usize, last: u64, said: Option<&[u8]>) -> Result<bool, LogError> {
        let source = &self.sources[index];
        let log = source.log();
        let is = |mark: &[u8; 32]| said == Some(&mark[..]);
        if let Some((seq, mark)) = &source.tip
            && *seq == last
        {
            return Ok(is(mark));
        }
        if source
            .attempts
            .iter()
            .any(|attempt| attempt.last_seq == last && is(&attempt.mark))
        {
            return Ok(true);
        }
        let next = log.next_seq();
        if last >= next {
            // Postgres may know more of an adopted log than the disk does: its process may have
            // written from memory. That skips no record of this log.
            return Ok(source.source.is_adopted() && last - next < MOST_IN_MEMORY);
        }
        let mut found = None;
        log.read(last, |stored| {
            found = (stored.seq == last).then(|| mark(&stored.salt));
            ControlFlow::Break(())
        })?;
        // A record that is no longer in the log was committed by it.
        Ok(found.is_none_or(|mark| is(&mark)))
    }

    /// Handles a database that has lost records: it was restored from a backup, or a replica took
    /// over that had not received them.
    fn lose(
        &mut self,
        index: usize,
        held: &Held<'_>,
        stands: u64,
        present: Former,
        losses: Vec<Loss>,
    ) -> Result<u64, LogError> {
        let first = self.sources[index].log().first_seq();
        let whys = losses.iter().map(|Loss { writer, stands }| Disagreement {
            writer: writer.writer,
            cause: Cause::DatabaseLostRecords,
            first_seq: writer.seq(*stands),
            last_seq: writer.seq(writer.end - 1),
            lost: writer.end.min(first).saturating_sub(*stands),
        });
        let in_log = losses.iter().filter(|loss| loss.writer.end > first);
        let from = in_log.map(|loss| loss.stands.max(first)).min();
        let turn = Turn {
            from: from.unwrap_or(present.end),
            end: stands.min(present.end),
            lost_from: losses.iter().map(|loss| loss.stands).min(),
            whys: whys.collect(),
            losses,
        };
        self.rebase(index, held, turn)
    }

    /// Handles batches of the writer, from the record `first` on, that the log has not sent.
    fn leave_position(
        &mut self,
        index: usize,
        held: &Held<'_>,
        identity: &Identity,
        first: u64,
        stands: u64,
    ) -> Result<u64, LogError> {
        let from = first.max(self.sources[index].log().first_seq());
        let why = Disagreement {
            writer: identity.writer,
            cause: Cause::PositionNotOurs,
            first_seq: identity.seq(first),
            last_seq: identity.seq(stands - 1),
            lost: from - first,
        };
        let turn = Turn {
            from,
            end: first,
            lost_from: Some(first),
            whys: vec![why],
            losses: Vec::new(),
        };
        self.rebase(index, held, turn)
    }

    /// Has a new writer write the records that are not known to be committed, since Postgres takes
    /// their present writer for another's.
    fn change_writer(
        &mut self,
        index: usize,
        held: &Held<'_>,
        known: u64,
    ) -> Result<u64, LogError> {
        let log = self.sources[index].log();
        let (identity, from) = (log.identity(), known.max(log.first_seq()));
        let seq = identity.seq(from);
        let why = Disagreement {
            writer: identity.writer,
            cause: Cause::WriterNotOurs,
            first_seq: seq,
            last_seq: seq.saturating_sub(1),
            lost: 0,
        };
        let turn = Turn {
            from,
            end: from,
            lost_from: None,
            whys: vec![why],
            losses: Vec::new(),
        };
        self.rebase(index, held, turn)?;
        self.sources[index].standing = Standing::New;
        Ok(from)
    }

    /// Has a new writer write the records from a seq on, and reports it. Returns the seq.
    fn rebase(&mut self, index: usize, held: &Held<'_>, turn: Turn) -> Result<u64, LogError> {
        self.forget_ahead(index);
        let source = &mut self.sources[index];
        let log = source.log();
        let Turn { from, whys, .. } = &turn;
        let from = *from;
        let old = log.identity();
        let left = Former {
            writer: old.writer,
            base: old.base,
            end: turn.end,
        };
        let writer = id::new(Moment::now().wall_us());
        let mut to_tell = Vec::new();
        log.rebase(held, writer, from, |past| {
            for former in &mut past.formers {
                let lost = |loss: &&Loss| loss.writer.writer == former.writer;
                if let Some(loss) = turn.losses.iter().find(lost) {
                    former.end = loss.stands;
                }
            }
            to_tell = past.leave(left, whys, turn.lost_from);
        })?;
        source.reached = from;
        source.tip = None;
        source.attempts.clear();
        source.standing = Standing::Own;
        if source.source.is_adopted() {
            self.counters.count_disagreement(0);
        } else {
            let lost = whys.iter().map(|why| why.lost).sum();
            self.counters.count_disagreement(lost);
            let lost_from = turn.lost_from.unwrap_or(from);
            self.required.go_back(lost_from, from);
            self.progress.go_back(lost_from, from);
        }
        let written_again = self.sources[index].log().next_seq().saturating_sub(from);
        for why in turn.whys {
            report::say(move || {
                tracing::error!(
                    target: "tracing_audit",
                    cause = why.cause.as_str(),
                    writer = %why.writer,
                    first_seq = why.first_seq,
                    last_seq = why.last_seq,
                    records_lost = why.lost,
                    written_again,
                    new_writer = %writer,
                    "audit trail: the database lacks batches that were committed to it, or has others in their place; the trail records that (audit.gap), and what the local log still has is written again"
                );
            });
        }
        for why in to_tell {
            self.tell_disagreement(index, why);
        }
        Ok(from)
    }

    /// Records a disagreement in the trail; the log keeps it until that row is committed.
    fn tell_disagreement(&mut self, index: usize, why: Disagreement) {
        let source = &mut self.sources[index];
        source.has_told = true;
        // The row about an adopted log is in another log.
        let progress = (!source.source.is_adopted()).then(|| Arc::clone(&self.progress));
        let spool = Arc::downgrade(source.source.spool());
        let told = move || {
            if let Some(spool) = spool.upgrade() {
                let told_at = progress.map_or(u64::MAX, |progress| progress.position());
                // If that fails, the disagreement is recorded once more.
                let _ = spool.log().told(&why, told_at);
            }
        };
        let seqs = (why.first_seq, why.last_seq);
        let record = gap::of_disagreement(why.cause.as_str(), why.writer, seqs, why.lost);
        (self.own_records.0)(record, Some(Box::new(told)));
    }
}
