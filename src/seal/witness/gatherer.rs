//! Lets cosignatures come together in the note that is published.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::asker::{Answer, Asker, Outcome};
use super::client::Client;
use super::error::WitnessError;
use super::proofs::Proofs;
use crate::config::seal::SealConfig;
use crate::config::seal::witness::Witness;
use crate::database::Servers;
use crate::ledger::key::Vkey;
use crate::ledger::note::{Note, NoteSignature};
use crate::seal::error::SealError;
use crate::seal::notice::{Notice, Notify};
use crate::seal::signed::{Signed, panic_again};

/// How long a checkpoint waits for its cosignatures before it is published.
const GRACE: Duration = Duration::from_secs(2);

/// Shows what was signed to all witnesses, and hands on what is to be published.
pub(in crate::seal) struct Gatherer {
    log: Vkey,
    witnesses: Vec<Witness>,
    proofs: Arc<Mutex<Proofs>>,
    notify: Notify,
}

impl Gatherer {
    pub(in crate::seal) fn new(config: &SealConfig, servers: &Servers, notify: &Notify) -> Self {
        Self {
            log: config.signer.vkey().clone(),
            witnesses: config.witnesses.clone(),
            proofs: Arc::new(Mutex::new(Proofs::new(servers.clone()))),
            notify: Arc::clone(notify),
        }
    }

    /// Takes each newest signed checkpoint, and hands it on with its cosignatures, until there are no more.
    pub(in crate::seal) async fn run(
        self,
        mut newest: watch::Receiver<Option<Arc<Signed>>>,
        gathered: watch::Sender<Option<Arc<Signed>>>,
    ) {
        let (shown, _) = watch::channel(None);
        let (tell, mut answers) = mpsc::unbounded_channel();
        let mut askers = JoinSet::new();
        for (index, witness) in self.witnesses.iter().enumerate() {
            let asker = Asker {
                index,
                client: Client::new(witness.clone(), self.log.clone()),
                proofs: Arc::clone(&self.proofs),
                notify: Arc::clone(&self.notify),
                answers: tell.clone(),
            };
            askers.spawn(asker.run(shown.subscribe()));
        }
        let mut round = Round::new(self.witnesses.len());
        let mut failure = None;
        loop {
            tokio::select! {
                changed = newest.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let Some(signed) = newest.borrow_and_update().clone() else { continue };
                    round.begin(Arc::clone(&signed));
                    shown.send_replace(Some(signed));
                    round.wait(&mut answers).await;
                }
                Some(answer) = answers.recv() => {
                    if !round.take(answer) {
                        continue;
                    }
                }
                Some(Err(ended)) = askers.join_next() => panic_again(ended),
            }
            let Some(cosigned) = round.cosigned() else {
                continue;
            };
            gathered.send_replace(Some(Arc::clone(&cosigned)));
            let kept = keep(&self.log, &self.proofs, &cosigned).await;
            let why = kept.err().map(|error| error.to_string());
            if let Some(why) = why.clone().filter(|why| failure.as_ref() != Some(why)) {
                (self.notify)(&Notice::NotKept { why });
            }
            failure = why;
        }
    }
}

/// Keeps a checkpoint in the database.
async fn keep(log: &Vkey, proofs: &Mutex<Proofs>, signed: &Signed) -> Result<(), SealError> {
    let mut proofs = proofs.lock().await;
    proofs
        .note_checkpoint(log.name(), signed.head.size, &signed.note, signed.time)
        .await
}

/// What has come together for the newest checkpoint.
struct Round {
    signed: Option<Arc<Signed>>,
    witnesses: Vec<Standing>,
}

/// How a witness stands in a round.
#[derive(Clone, Default)]
struct Standing {
    /// Whether it answered in time the last time that it answered.
    is_late: bool,
    has_answered: bool,
    cosignature: Option<NoteSignature>,
}

impl Round {
    fn new(witnesses: usize) -> Self {
        Self {
            signed: None,
            witnesses: vec![Standing::default(); witnesses],
        }
    }

    /// Begins with another checkpoint. Cosignatures of the same tree stay.
    fn begin(&mut self, signed: Arc<Signed>) {
        let is_same = |last: &Arc<Signed>| last.head == signed.head;
        let is_same = self.signed.as_ref().is_some_and(is_same);
        for witness in &mut self.witnesses {
            if !is_same {
                witness.cosignature = None;
            }
            witness.has_answered = witness.cosignature.is_some();
        }
        self.signed = Some(signed);
    }

    /// Waits for the witnesses that answer in time.
    async fn wait(&mut self, answers: &mut mpsc::UnboundedReceiver<Answer>) {
        let deadline = Instant::now() + GRACE;
        while self.witnesses.iter().any(Standing::is_awaited) {
            if let Ok(Some(answer)) = timeout_at(deadline, answers.recv()).await {
                self.take(answer);
            } else {
                for witness in self
                    .witnesses
                    .iter_mut()
                    .filter(|witness| witness.is_awaited())
                {
                    witness.is_late = true;
                }
            }
        }
    }

    /// Takes an answer. Returns whether it adds to what is published.
    fn take(&mut self, answer: Answer) -> bool {
        let witness = &mut self.witnesses[answer.index];
        let has_failed = matches!(answer.outcome, Outcome::Failed);
        witness.is_late = has_failed || answer.took > GRACE;
        if self
            .signed
            .as_ref()
            .is_none_or(|signed| signed.head != answer.head)
        {
            return false;
        }
        witness.has_answered = true;
        let Outcome::Cosigned(cosignature) = answer.outcome else {
            return false;
        };
        witness.cosignature = Some(cosignature);
        true
    }

    /// Returns the checkpoint with the cosignatures that are there.
    fn cosigned(&self) -> Option<Arc<Signed>> {
        let signed = self.signed.as_ref()?;
        let mut note = Note::parse(signed.note.as_bytes()).ok()?;
        for witness in &self.witnesses {
            if let Some(cosignature) = &witness.cosignature {
                note.add(cosignature.clone());
            }
        }
        Some(Arc::new(Signed {
            head: signed.head,
            note: note.to_string(),
            time: signed.time,
        }))
    }
}

impl Standing {
    fn is_awaited(&self) -> bool {
        !self.is_late && !self.has_answered
    }
}

/// Asks all witnesses at once for cosignatures of a checkpoint, adds them, and keeps it in the database. Returns the witnesses
/// that did not cosign it, and why.
///
/// # Errors
/// If it is not kept.
pub(in crate::seal) async fn ask_all(
    config: &SealConfig,
    servers: &Servers,
    notify: &Notify,
    signed: &mut Signed,
) -> Result<Vec<(String, WitnessError)>, SealError> {
    let log = config.signer.vkey();
    let proofs = Arc::new(Mutex::new(Proofs::new(servers.clone())));
    let mut asking = JoinSet::new();
    for (index, witness) in config.witnesses.iter().enumerate() {
        let mut client = Client::new(witness.clone(), log.clone());
        let (head, note, proofs) = (signed.head, signed.note.clone(), Arc::clone(&proofs));
        asking.spawn(async move {
            let cosigned = client.cosign(head, &note, &proofs).await;
            (index, client.name().to_owned(), cosigned)
        });
    }
    let mut round = Round::new(config.witnesses.len());
    let mut missing = Vec::new();
    while let Some(answered) = asking.join_next().await {
        match answered {
            Ok((index, witness, Ok(cosignature))) => {
                let size = signed.head.size;
                round.witnesses[index].cosignature = Some(cosignature);
                (notify)(&Notice::Cosigned {
                    witness,
                    size,
                    again: false,
                });
            }
            Ok((_, witness, Err(error))) => missing.push((witness, error)),
            Err(ended) => panic_again(ended),
        }
    }
    round.signed = Some(Arc::new(Signed {
        head: signed.head,
        note: std::mem::take(&mut signed.note),
        time: signed.time,
    }));
    if let Some(cosigned) = round.cosigned() {
        signed.note.clone_from(&cosigned.note);
    }
    keep(log, &proofs, signed).await?;
    Ok(missing)
}
