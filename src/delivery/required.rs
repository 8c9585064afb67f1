//! The fates of records whose kind is [`Durability::Required`](crate::Durability::Required), and
//! the callers that wait for them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::commit::deadline;
use crate::error::CommitError;
use crate::fork::Process;
use crate::record::id;
use crate::vocabulary::Kind;

/// How many records' fates are remembered.
const REMEMBERED: usize = 65_536;

/// The fate of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Holds its seq in the local log.
    Committed(u64),
    DeadLettered(u64),
    Dropped,
    /// It was committed, and the database has lost it since.
    Lost,
}

/// Called when the fate of a record is known, or at the time-out.
pub(crate) type CommitReply = Box<dyn FnOnce(Result<(), CommitError>) + Send>;

/// The records of the required kinds.
#[derive(Debug)]
pub(crate) struct Required {
    kinds: [bool; Kind::ALL.len()],
    state: Mutex<Records>,
    process: Process,
}

#[derive(Default)]
struct Records {
    /// `None`: accepted and pending.
    fates: HashMap<Uuid, Option<Fate>>,
    /// The same ids, oldest first.
    order: VecDeque<Uuid>,
    waiting: HashMap<Uuid, Vec<Waiting>>,
    ended: bool,
}

struct Waiting {
    deadline: Instant,
    waited: Duration,
    reply: CommitReply,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("records", &self.fates.len())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Required {
    pub(crate) fn new(kinds: [bool; Kind::ALL.len()]) -> Self {
        Self {
            kinds,
            state: Mutex::default(),
            process: Process::current(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Records> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.kinds[kind.index()]
    }

    /// Remembers a record that is about to be handed over, or that is made for a run in flight when
    /// the program ends.
    pub(crate) fn accept(&self, id: Uuid) {
        let Some(mut state) = self.process.lock(&self.state) else {
            return;
        };
        // A run in flight when the program ends already has a record when its span is closed.
        let std::collections::hash_map::Entry::Vacant(unknown) = state.fates.entry(id) else {
            return;
        };
        unknown.insert(None);
        state.order.push_back(id);
        if state.order.len() > REMEMBERED
            && let Some(oldest) = state.order.pop_front()
        {
            // Callers that wait for it still get a reply.
            state.fates.remove(&oldest);
        }
    }

    /// Sets the fates of records that are remembered, and replies to the callers that wait.
    pub(crate) fn settle(&self, fates: impl IntoIterator<Item = (Uuid, Fate)>) {
        let mut answers = Vec::new();
        let Some(mut state) = self.process.lock(&self.state) else {
            return;
        };
        for (id, fate) in fates {
            if let Some(known) = state.fates.get_mut(&id) {
                *known = Some(fate);
            }
            let waiting = state.waiting.remove(&id).unwrap_or_default();
            answers.extend(waiting.into_iter().map(|waiting| (waiting, fate)));
        }
        drop(state);
        for (waiting, fate) in answers {
            (waiting.reply)(outcome(fate));
        }
    }

    /// Handles that the database has lost the records from the seq `lost_from` on: those before
    /// `from` are lost, and the others are pending, because they are to be written again.
    pub(crate) fn go_back(&self, lost_from: u64, from: u64) {
        let Some(mut state) = self.process.lock(&self.state) else {
            return;
        };
        for fate in state.fates.values_mut() {
            if let Some(Fate::Committed(seq) | Fate::DeadLettered(seq)) = *fate
                && seq >= lost_from
            {
                *fate = (seq < from).then_some(Fate::Lost);
            }
        }
    }

    /// Calls `reply` when the record is committed or cannot be, or after `timeout`.
    pub(crate) fn wait(&self, id: Uuid, timeout: Duration, reply: CommitReply) {
        let Some(kind) = id::kind(id) else {
            return reply(Err(CommitError::NoRecord));
        };
        if !self.has(kind) {
            return reply(Err(CommitError::NotRequired));
        }
        let mut state = self.state();
        let answer = match state.fates.get(&id) {
            Some(Some(fate)) => outcome(*fate),
            _ if state.ended => Err(CommitError::ShutDown),
            _ => {
                state.waiting.entry(id).or_default().push(Waiting {
                    deadline: deadline(timeout),
                    waited: timeout,
                    reply,
                });
                return;
            }
        };
        drop(state);
        reply(answer);
    }

    /// Replies to the callers whose deadline has passed; returns whether others still wait.
    pub(crate) fn expire(&self, now: Instant) -> bool {
        let mut state = self.state();
        if state.waiting.is_empty() {
            return false;
        }
        let mut late = Vec::new();
        for waiting in state.waiting.values_mut() {
            late.extend(waiting.extract_if(.., |waiting| waiting.deadline <= now));
        }
        state.waiting.retain(|_, waiting| !waiting.is_empty());
        let left = !state.waiting.is_empty();
        drop(state);
        for late in late {
            (late.reply)(Err(CommitError::Timeout {
                waited: late.waited,
            }));
        }
        left
    }

    /// Replies to all callers that wait: nothing will be committed any more.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waiting in waiting.into_values().flatten() {
            (waiting.reply)(Err(CommitError::ShutDown));
        }
    }
}

fn outcome(fate: Fate) -> Result<(), CommitError> {
    match fate {
        Fate::Committed(_) => Ok(()),
        Fate::DeadLettered(_) => Err(CommitError::DeadLettered),
        Fate::Dropped => Err(CommitError::Dropped),
        Fate::Lost => Err(CommitError::Lost),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Returns the id of a query run.
    fn id_of(number: u128) -> Uuid {
        Uuid::from_u128(0x7 << 76 | 0b10 << 62 | number << 8 | 1)
    }

    fn ask(required: &Required, id: u128) -> mpsc::Receiver<Result<(), CommitError>> {
        let (reply, replied) = mpsc::channel();
        required.wait(
            id_of(id),
            Duration::from_secs(1),
            Box::new(move |result| drop(reply.send(result))),
        );
        replied
    }

    #[test]
    fn callers_before_and_after_a_commit_get_the_fate_of_their_record() {
        let required = Required::new([true, false, false]);
        for id in 1..=3 {
            required.accept(id_of(id));
        }
        let before = [ask(&required, 1), ask(&required, 1), ask(&required, 4)];
        let fates = [Fate::Committed(1), Fate::DeadLettered(2), Fate::Dropped];
        required.settle((1..).map(id_of).zip(fates));
        assert_eq!(before[0].try_recv(), Ok(Ok(())));
        assert_eq!(before[1].try_recv(), Ok(Ok(())));
        // Its span may still be open.
        assert!(before[2].try_recv().is_err());
        assert_eq!(ask(&required, 1).try_recv(), Ok(Ok(())));
        assert_eq!(
            ask(&required, 2).try_recv(),
            Ok(Err(CommitError::DeadLettered))
        );
        assert_eq!(ask(&required, 3).try_recv(), Ok(Err(CommitError::Dropped)));
        assert!(required.expire(Instant::now()));
        assert!(!required.expire(Instant::now() + Duration::from_secs(2)));
        assert!(matches!(
            before[2].try_recv(),
            Ok(Err(CommitError::Timeout { .. }))
        ));
        let last = ask(&required, 5);
        required.end();
        assert_eq!(last.try_recv(), Ok(Err(CommitError::ShutDown)));
    }

    #[test]
    fn record_that_the_database_lost_is_reported_lost_or_in_flight_again() {
        let required = Required::new([true, false, false]);
        for id in 1..=6 {
            required.accept(id_of(id));
        }
        let fates = [2, 3, 4, 5].map(Fate::Committed);
        required.settle((1..).map(id_of).zip(fates));
        required.settle([(id_of(5), Fate::DeadLettered(6)), (id_of(6), Fate::Dropped)]);
        required.go_back(3, 5);
        assert_eq!(ask(&required, 1).try_recv(), Ok(Ok(())));
        for lost in [2, 3] {
            let answer = ask(&required, lost).try_recv();
            assert_eq!(answer, Ok(Err(CommitError::Lost)));
        }
        let again = [ask(&required, 4), ask(&required, 5)];
        assert!(again.iter().all(|answer| answer.try_recv().is_err()));
        assert_eq!(ask(&required, 6).try_recv(), Ok(Err(CommitError::Dropped)));
        required.settle([(id_of(4), Fate::Committed(5))]);
        assert_eq!(again[0].try_recv(), Ok(Ok(())));
    }

    #[test]
    fn memory_is_bounded_for_records_without_a_waiting_caller() {
        let required = Required::new([true, false, false]);
        for id in 0..2 * REMEMBERED as u128 {
            required.accept(id_of(id));
        }
        assert_eq!(required.state().fates.len(), REMEMBERED);
        // A caller that waits for a forgotten record still gets a reply.
        let waits = ask(&required, 0);
        required.settle([(id_of(0), Fate::Committed(1))]);
        assert_eq!(waits.try_recv(), Ok(Ok(())));
    }
}
