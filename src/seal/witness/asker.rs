//! The task of one witness: shows it each newest checkpoint, and tells what it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, watch};

use super::client::Client;
use super::error::WitnessError;
use super::proofs::Proofs;
use crate::ledger::note::NoteSignature;
use crate::ledger::paths::Head;
use crate::seal::notice::{Notice, Notify};
use crate::seal::signed::Signed;
use crate::sink::backoff::Backoff;

/// After how long a witness is shown the same tree again.
const SHOW_EVERY: Duration = Duration::from_mins(1);

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What came of showing a checkpoint to a witness.
#[derive(Debug)]
pub(super) struct Answer {
    /// Which witness.
    pub(super) index: usize,
    pub(super) head: Head,
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Cosigned(NoteSignature),
    /// Another sealer's is newer.
    Overtaken,
    Failed,
}

/// Asks one witness.
pub(super) struct Asker {
    pub(super) index: usize,
    pub(super) client: Client,
    pub(super) proofs: Arc<Mutex<Proofs>>,
    pub(super) notify: Notify,
    pub(super) answers: mpsc::UnboundedSender<Answer>,
}

impl Asker {
    /// Shows the newest checkpoint, one after the other, until there are no more.
    pub(super) async fn run(mut self, mut newest: watch::Receiver<Option<Arc<Signed>>>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut failure: Option<String> = None;
        let mut cosigned: Option<(Head, Instant)> = None;
        while failure.is_some() || newest.changed().await.is_ok() {
            let Some(signed) = newest.borrow_and_update().clone() else {
                continue;
            };
            let is_fresh =
                |(head, at): (Head, Instant)| head == signed.head && at.elapsed() < SHOW_EVERY;
            if failure.is_none() && cosigned.is_some_and(is_fresh) {
                continue;
            }
            let begun = Instant::now();
            let asked = self.client.cosign(signed.head, &signed.note, &self.proofs);
            let outcome = match asked.await {
                Ok(cosignature) => {
                    backoff.reset();
                    cosigned = Some((signed.head, Instant::now()));
                    (self.notify)(&Notice::Cosigned {
                        witness: self.client.name().to_owned(),
                        size: signed.head.size,
                        again: failure.take().is_some(),
                    });
                    Outcome::Cosigned(cosignature)
                }
                Err(WitnessError::Overtaken { .. }) => Outcome::Overtaken,
                Err(error) => {
                    if error.is_conflict() {
                        backoff.go_to_longest();
                    }
                    let pause = backoff.next_pause();
                    let last = failure.replace(error.to_string());
                    self.tell(&error, last.as_deref(), pause);
                    self.answer(signed.head, begun, Outcome::Failed);
                    tokio::time::sleep(pause).await;
                    continue;
                }
            };
            self.answer(signed.head, begun, outcome);
        }
    }

    /// Tells why there is no cosignature, if it is not what was told last.
    fn tell(&self, error: &WitnessError, last: Option<&str>, pause: Duration) {
        let why = error.to_string();
        if last != Some(why.as_str()) {
            (self.notify)(&Notice::NotCosigned {
                witness: self.client.name().to_owned(),
                why,
                is_conflict: error.is_conflict(),
                pause,
            });
        }
    }

    fn answer(&self, head: Head, begun: Instant, outcome: Outcome) {
        let answer = Answer {
            index: self.index,
            head,
            took: begun.elapsed(),
            outcome,
        };
        // If nobody listens any more, the sealer ends.
        let _ = self.answers.send(answer);
    }
}
