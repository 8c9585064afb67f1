//! Decides what is cosigned, and keeps that before it answers.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing_audit::__program::ledger::checkpoint;
use tracing_audit::__program::ledger::cosigner::{AddCheckpoint, Refusal, nothing};
use tracing_audit::__program::ledger::key::{MemoryKey, Signer as _, Vkey};
use tracing_audit::__program::ledger::paths::Head;

use super::state::State;
use crate::complain;

/// The type of an answer that names a size.
const SIZE_TYPE: &str = "text/x.tlog.size";

const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// What a request is answered with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn text(status: u16, text: impl std::fmt::Display) -> Self {
        Self {
            status,
            content_type: TEXT_TYPE,
            body: format!("{text}\n"),
        }
    }
}

/// Cosigns checkpoints of the logs that it knows.
#[derive(Debug)]
pub(super) struct Cosigner {
    key: MemoryKey,
    state: State,
    logs: BTreeMap<String, Log>,
}

/// A log of which checkpoints are cosigned.
#[derive(Debug)]
struct Log {
    keys: Vec<Vkey>,
    /// Held while a request is decided, kept and signed: one after the other, for each log.
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    head: Head,
    /// What was told last, so that who repeats a request does not fill the host's log.
    told: String,
}

impl Cosigner {
    /// Reads what is known of the logs.
    pub(super) fn new(key: MemoryKey, keys: Vec<Vkey>, state: State) -> io::Result<Self> {
        let mut logs = BTreeMap::new();
        for vkey in keys {
            let origin = vkey.name().to_owned();
            if let Some(Log { keys, .. }) = logs.get_mut(&origin) {
                keys.push(vkey);
                continue;
            }
            let known = state.read(&origin)?;
            complain(&match known {
                Some(head) => format!("{origin}: {} entries were cosigned last", head.size),
                None => {
                    format!("{origin}: nothing was cosigned yet, the first checkpoint is believed")
                }
            });
            let known = Known {
                head: known.unwrap_or_else(nothing),
                told: String::new(),
            };
            let log = Log {
                keys: vec![vkey],
                known: Mutex::new(known),
            };
            logs.insert(origin, log);
        }
        Ok(Self { key, state, logs })
    }

    /// Answers the request to cosign a checkpoint. Blocks while it writes, and while another request of this log is answered.
    pub(super) fn add_checkpoint(&self, body: &[u8]) -> Answer {
        let mut asked = match AddCheckpoint::parse(body) {
            Ok(asked) => asked,
            Err(error) => return Answer::text(400, error),
        };
        let origin = asked.checkpoint.origin.clone();
        let Some(log) = self.logs.get(&origin) else {
            return Answer::text(404, "this log is not known here");
        };
        let mut known = log.lock();
        let new = match asked.verify(known.head, &log.keys) {
            Ok(new) => new,
            Err(refusal) => {
                known.tell_refusal(&origin, refusal, &asked);
                return refused(refusal);
            }
        };
        if new != known.head {
            if let Err(error) = self.state.write(&origin, new) {
                known.tell(format!(
                    "{origin}: nothing is cosigned: the state cannot be written: {error}"
                ));
                return Answer::text(500, "what would be cosigned cannot be kept here");
            }
            known.head = new;
        }
        match self.cosign(&mut asked) {
            Ok(line) => Answer {
                status: 200,
                content_type: TEXT_TYPE,
                body: line,
            },
            Err(why) => {
                known.tell(format!("{origin}: nothing is cosigned: {why}"));
                Answer::text(500, "nothing can be cosigned here")
            }
        }
    }

    /// Returns the line with the cosignature.
    fn cosign(&self, asked: &mut AddCheckpoint) -> Result<String, String> {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|_| "the system's clock is before 1970")?
            .as_secs();
        checkpoint::cosign(&mut asked.note, &self.key, time).map_err(|error| error.to_string())?;
        // It is added below the others.
        let lines = asked.note.signatures();
        lines
            .last()
            .filter(|line| line.name() == self.key.vkey().name())
            .map(ToString::to_string)
            .ok_or_else(|| String::from("there is no cosignature"))
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // What is known is set last: after a panic it is at most older than what is kept, and what is kept was not answered.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Tells that a log which its key signed contradicts what was cosigned: with the checkpoint, which may prove it.
    fn tell_refusal(&mut self, origin: &str, refusal: Refusal, asked: &AddCheckpoint) {
        let what = match refusal {
            Refusal::OtherRoot { .. } => "THE LOG WAS FORKED",
            Refusal::NotConsistent(_) => "the log was forked, or the request has a wrong proof",
            _ => return,
        };
        self.tell(format!(
            "{origin}: {what}: {refusal}. Not cosigned, with {} entries cosigned before: {}",
            self.head.size, asked.note
        ));
    }

    fn tell(&mut self, sentence: String) {
        if self.told != sentence {
            complain(&sentence);
            self.told = sentence;
        }
    }
}

/// Returns the answer to a request that is refused.
fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::OtherSize { known } | Refusal::OtherRoot { known } => Answer {
            status: 409,
            content_type: SIZE_TYPE,
            body: format!("{known}\n"),
        },
        Refusal::NotSigned => Answer::text(403, refusal),
        Refusal::NotConsistent(_) => Answer::text(422, refusal),
        // That of an old size beyond the checkpoint's; and what may come.
        _ => Answer::text(400, refusal),
    }
}
