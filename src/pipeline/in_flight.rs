//! Runs that have begun and not yet ended, as the spool's thread sees them.
//!
//! The frame of a run that begins comes by a queue of its own. Most runs end before the next
//! look at the queues, and leave no trace here; one that is still there at the next look is
//! stored, so that the next process knows of it should this one die.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::queue::Chunk;
use crate::record::encode;
use crate::spool::Runs;

/// Looks at the queues after which a run that ended before its beginning was seen is forgotten.
const FORGET_AFTER: u64 = 3;

/// Runs that have begun and not yet ended.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Began since the last look, or could not be stored yet.
    young: HashMap<Uuid, (u64, Vec<u8>)>,
    stored: HashSet<Uuid>,
    /// Ended, by the look at which that was seen, before they were seen to begin: the two
    /// queues are emptied one after the other.
    early: HashMap<Uuid, u64>,
    /// What the spool is to be told, kept until it was.
    news: Runs,
    look: u64,
}

impl InFlight {
    /// Takes what the queues held: runs that began, then records. `is_tracked` says by its code
    /// whether a kind is.
    pub(super) fn take(
        &mut self,
        begun: &[Chunk],
        ended: &[Chunk],
        is_tracked: impl Fn(u8) -> bool,
    ) {
        self.look += 1;
        for frame in begun.iter().flat_map(Chunk::frames) {
            if let Some((_, id)) = encode::kind_and_id(frame)
                && self.early.remove(&id).is_none()
            {
                self.young.insert(id, (self.look, frame.to_vec()));
            }
        }
        for frame in ended.iter().flat_map(Chunk::frames) {
            if let Some((kind, id)) = encode::kind_and_id(frame)
                && is_tracked(kind)
            {
                self.end(id);
            }
        }
        let look = self.look;
        self.early.retain(|_, seen| look - *seen < FORGET_AFTER);
    }

    /// A run has ended.
    pub(super) fn end(&mut self, id: Uuid) {
        if self.stored.remove(&id) {
            self.news.ended.push(id);
        } else if self.young.remove(&id).is_none() {
            self.early.insert(id, self.look);
        }
    }

    /// What the spool is to be told.
    pub(super) fn news(&mut self) -> &Runs {
        let look = self.look;
        let old: Vec<_> = self
            .young
            .iter()
            .filter(|(_, (seen, _))| *seen < look)
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            if let Some((_, frame)) = self.young.remove(&id) {
                self.stored.insert(id);
                self.news.begun.push((id, frame));
            }
        }
        &self.news
    }

    /// The spool was told.
    pub(super) fn told(&mut self) {
        self.news = Runs::default();
    }

    /// Whether the next look should be soon: there are runs that are not stored yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.young.is_empty()
    }

    /// Forgets all runs; returns the frames of those that are not stored.
    pub(super) fn end_all(&mut self) -> Vec<Vec<u8>> {
        self.stored.clear();
        let unsaved = std::mem::take(&mut self.news.begun);
        let young = self.young.drain().map(|(_, (_, frame))| frame);
        young
            .chain(unsaved.into_iter().map(|(_, frame)| frame))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::encode::{Evidence, Header};
    use crate::vocabulary::Kind;

    fn frames(ids: &[u128]) -> Vec<Chunk> {
        let mut chunk = Chunk::default();
        for id in ids {
            let header = Header {
                kind: Kind::QueryRun,
                evidence: Evidence::None,
                id: Uuid::from_u128(*id),
                parent: Uuid::nil(),
                root: Uuid::nil(),
                started_us: 0,
                duration_us: 0,
            };
            let mut frame = Vec::new();
            encode::begun(&mut frame, &header, &[], &[], &[]);
            chunk.push(&frame);
        }
        vec![chunk]
    }

    fn look(runs: &mut InFlight, begun: &[u128], ended: &[u128]) -> (Vec<u128>, Vec<u128>) {
        runs.take(&frames(begun), &frames(ended), |_| true);
        let news = runs.news();
        let mut begun: Vec<_> = news.begun.iter().map(|(id, _)| id.as_u128()).collect();
        begun.sort_unstable();
        let ended = news.ended.iter().map(Uuid::as_u128).collect();
        runs.told();
        (begun, ended)
    }

    #[test]
    fn a_run_that_ends_soon_is_never_stored() {
        let mut runs = InFlight::default();
        assert_eq!(look(&mut runs, &[1], &[1]), (vec![], vec![]));
        // Ended before its beginning was seen.
        assert_eq!(look(&mut runs, &[], &[2]), (vec![], vec![]));
        assert_eq!(look(&mut runs, &[2], &[]), (vec![], vec![]));
        assert_eq!(look(&mut runs, &[], &[]), (vec![], vec![]));
        assert!(!runs.is_waiting());
    }

    #[test]
    fn a_run_that_goes_on_is_stored_until_it_ends() {
        let mut runs = InFlight::default();
        assert_eq!(look(&mut runs, &[1, 2], &[]), (vec![], vec![]));
        assert!(runs.is_waiting());
        assert_eq!(look(&mut runs, &[3], &[]), (vec![1, 2], vec![]));
        assert_eq!(look(&mut runs, &[], &[1]), (vec![3], vec![1]));
        assert_eq!(look(&mut runs, &[], &[2, 3]), (vec![], vec![2, 3]));
    }

    #[test]
    fn what_the_spool_was_not_told_is_kept() {
        let mut runs = InFlight::default();
        runs.take(&frames(&[1]), &[], |_| true);
        runs.take(&[], &[], |_| true);
        assert_eq!(runs.news().begun.len(), 1);
        runs.take(&[], &frames(&[1]), |_| true);
        let news = runs.news();
        assert_eq!((news.begun.len(), news.ended.len()), (1, 1));
    }

    #[test]
    fn what_ended_without_a_beginning_is_forgotten() {
        let mut runs = InFlight::default();
        for id in 0..100 {
            look(&mut runs, &[], &[id]);
        }
        assert!(runs.early.len() < 5);
    }
}
