//! The loop that seals and signs.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::anchor::Anchor;
use super::edge::Edge;
use super::error::{AnchorError, SealError};
use super::ledger::{Ledger, MOST_BATCHES};
use super::notice::{Notice, Notify};
use super::publisher::{Publisher, extend};
use super::signed::{Signed, panic_again};
#[cfg(feature = "seal-witness")]
use super::witness::{Gatherer, WitnessError, ask_all};
use crate::config::seal::SealConfig;
use crate::database::Servers;
use crate::ledger::checkpoint::{self, Checkpoint};
use crate::ledger::paths::Head;
use crate::sink::backoff::Backoff;

/// After how long without a new batch a checkpoint is signed again: by its time a reader sees that nobody sealed anything
/// since.
const SIGN_EVERY: Duration = Duration::from_secs(2);

/// After how long it is told that the key does not sign.
const KEY_PATIENCE: Duration = Duration::from_secs(30);

/// The least time that anchors have, over a new connection, to tell what was published.
const LEAST_ANSWER: Duration = Duration::from_millis(500);

/// The same, if the anchors are to be published at in any case.
const ONCE_ANSWER: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a message calls the checkpoints that this process has signed.
const OWN: &str = "this process";

/// Seals a trail.
pub struct Sealer {
    servers: Servers,
    config: SealConfig,
    notify: Notify,
    anchors: Vec<Anchor>,
    has_disagreed: Arc<AtomicBool>,
    /// The newest checkpoint that this process has signed.
    last_signed: Option<Head>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What was done when all was sealed once.
#[derive(Debug)]
pub struct Outcome {
    /// How many batches were added to the log.
    pub sealed: u64,
    /// What was signed.
    pub head: Head,
    /// The anchors at which it was not published, and why.
    pub unpublished: Vec<(String, AnchorError)>,
    /// The witnesses that have not cosigned it, and why.
    #[cfg(feature = "seal-witness")]
    pub unwitnessed: Vec<(String, WitnessError)>,
}

/// A connection, and what is known over it.
struct Standing {
    ledger: Ledger,
    edge: Edge,
    /// Since which transaction to look for batches.
    since: String,
}

/// The newest checkpoint, for those who show and publish it.
type Newest = watch::Sender<Option<Arc<Signed>>>;

/// Which anchor was asked, and what it told.
type Told = (String, Result<Option<Head>, AnchorError>);

impl Sealer {
    /// Takes the servers of the trail and the settings. `notify` is called with each notice.
    pub fn new(servers: &Servers, config: SealConfig, notify: Notify) -> Self {
        let anchors = config.anchors.iter().cloned().map(Anchor::new).collect();
        Self {
            servers: servers.clone().for_writing(),
            config,
            notify,
            anchors,
            has_disagreed: Arc::default(),
            last_signed: None,
        }
    }

    /// Seals, signs and publishes until it is dropped, in any runtime of tokio with time and I/O.
    pub async fn run(&mut self) {
        let (newest, _) = watch::channel(None);
        let mut publishers = JoinSet::new();
        let published = self.witnessed(&newest, &mut publishers);
        for publisher in self.publishers() {
            publishers.spawn(publisher.run(published.subscribe()));
        }
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut failure = None;
        loop {
            let mut begun = || {
                backoff.reset();
                failure = None;
            };
            let Err(error) = self.session(&newest, &mut publishers, &mut begun).await;
            if error.is_disagreement() {
                backoff.go_to_longest();
            }
            let why = error.to_string();
            if failure.as_ref() != Some(&why) {
                (self.notify)(&Notice::Failed { why: why.clone() });
            }
            failure = Some(why);
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    /// Seals everything, signs, publishes at each anchor, and returns.
    ///
    /// # Errors
    /// If it is not sealed or signed. An anchor at which it is not published is part of the outcome.
    pub async fn once(&mut self) -> Result<Outcome, SealError> {
        let mut standing = self.begin(ONCE_ANSWER).await?;
        let mut sealed = 0;
        loop {
            let batches = self.seal(&mut standing).await?;
            sealed += batches;
            if batches < u64::from(MOST_BATCHES.unsigned_abs()) {
                break;
            }
        }
        #[allow(unused_mut, reason = "witnesses add to it")]
        let mut signed = self.sign(&mut standing).await?;
        #[cfg(feature = "seal-witness")]
        let unwitnessed = if self.config.has_witnesses() {
            ask_all(&self.config, &self.servers, &self.notify, &mut signed).await?
        } else {
            Vec::new()
        };
        let mut unpublished = Vec::new();
        for mut publisher in self.publishers() {
            match publisher.publish(&signed).await {
                Ok(()) => (self.notify)(&Notice::Published {
                    anchor: publisher.anchor(),
                    size: signed.head.size,
                    again: false,
                }),
                Err(error) => unpublished.push((publisher.anchor(), error)),
            }
        }
        Ok(Outcome {
            sealed,
            head: signed.head,
            unpublished,
            #[cfg(feature = "seal-witness")]
            unwitnessed,
        })
    }

    /// Returns what is published of the newest checkpoints: they themselves, or with the cosignatures of witnesses.
    #[cfg_attr(
        not(feature = "seal-witness"),
        allow(clippy::unused_self, reason = "witnesses are of it")
    )]
    fn witnessed(&self, newest: &Newest, tasks: &mut JoinSet<()>) -> Newest {
        #[cfg(feature = "seal-witness")]
        if self.config.has_witnesses() {
            let (published, _) = watch::channel(None);
            let gatherer = Gatherer::new(&self.config, &self.servers, &self.notify);
            tasks.spawn(gatherer.run(newest.subscribe(), published.clone()));
            return published;
        }
        let _ = tasks;
        newest.clone()
    }

    fn publishers(&self) -> impl Iterator<Item = Publisher> {
        self.anchors.iter().map(|anchor| {
            let publisher = Publisher::new(
                anchor.clone(),
                self.config.keys(),
                self.servers.clone(),
                Arc::clone(&self.notify),
                Arc::clone(&self.has_disagreed),
            );
            #[cfg(feature = "seal-witness")]
            let publisher = publisher.with_witnesses(&self.config.witnesses);
            publisher
        })
    }

    /// Seals and signs over one connection, as long as it lasts.
    async fn session(
        &mut self,
        newest: &Newest,
        publishers: &mut JoinSet<()>,
        begun: &mut impl FnMut(),
    ) -> Result<Infallible, SealError> {
        let mut standing = self.begin(self.config.interval.max(LEAST_ANSWER)).await?;
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signed: Option<(u64, Instant)> = None;
        loop {
            if let Some(Err(ended)) = publishers.try_join_next() {
                panic_again(ended);
            }
            // ORDERING: pairs with the store in `Publisher::publish`; only the flag itself is read.
            if self.has_disagreed.swap(false, Ordering::Relaxed) {
                let limit = self.config.interval.max(LEAST_ANSWER);
                self.compare(&mut standing.ledger, limit).await?;
            }
            let batches = self.seal(&mut standing).await?;
            let size = standing.edge.size();
            let is_due = signed.is_none_or(|(last, at)| size != last || at.elapsed() >= SIGN_EVERY);
            if is_due {
                let checkpoint = self.sign(&mut standing).await?;
                signed = Some((size, Instant::now()));
                newest.send_replace(Some(Arc::new(checkpoint)));
                begun();
            }
            if batches < u64::from(MOST_BATCHES.unsigned_abs()) {
                ticks.tick().await;
            }
        }
    }

    /// Connects, and makes sure that the log is the one that was signed before.
    async fn begin(&self, answer_within: Duration) -> Result<Standing, SealError> {
        let mut ledger = Ledger::connect(&self.servers).await?;
        self.has_disagreed.store(false, Ordering::Relaxed);
        let edge = match self.compare(&mut ledger, answer_within).await? {
            Some(edge) => edge,
            None => ledger.newest_edge().await?,
        };
        (self.notify)(&Notice::Began {
            place: ledger.place().to_owned(),
            size: edge.size(),
        });
        Ok(Standing {
            ledger,
            edge,
            since: String::from("0"),
        })
    }

    /// Compares the log with all that is known to be signed. Returns the edge of the largest of these trees.
    async fn compare(
        &self,
        ledger: &mut Ledger,
        answer_within: Duration,
    ) -> Result<Option<Edge>, SealError> {
        let mut signed = self.published(answer_within).await;
        let own = self.last_signed.map(|head| (String::from(OWN), head));
        signed.extend(own);
        signed.sort_by_key(|(_, head)| head.size);
        let mut edge = None;
        for (signed_by, head) in signed {
            edge = Some(ledger.edge_at(head, &signed_by).await?);
        }
        Ok(edge)
    }

    /// Asks all anchors at once for the newest checkpoint that is there.
    async fn published(&self, answer_within: Duration) -> Vec<(String, Head)> {
        let mut asking: JoinSet<Option<Told>> = JoinSet::new();
        for anchor in &self.anchors {
            let anchor = anchor.clone();
            let log = self.config.keys();
            asking.spawn(async move {
                let told = tokio::time::timeout(answer_within, anchor.newest(&log)).await;
                let told = told.ok()?;
                let head = told.map(|found| found.map(|found| found.checkpoint.head));
                Some((anchor.name(), head))
            });
        }
        let mut heads = Vec::new();
        let mut silent: Vec<_> = self.anchors.iter().map(Anchor::name).collect();
        while let Some(told) = asking.join_next().await {
            let (name, told) = match told {
                Ok(Some(told)) => told,
                Ok(None) => continue,
                Err(ended) => panic_again(ended),
            };
            silent.retain(|anchor| *anchor != name);
            match told {
                Ok(head) => heads.extend(head.map(|head| (name, head))),
                Err(error) => (self.notify)(&Notice::Unasked {
                    anchor: name,
                    why: error.to_string(),
                }),
            }
        }
        for anchor in silent {
            (self.notify)(&Notice::Unasked {
                anchor,
                why: format!("no answer within {answer_within:?}"),
            });
        }
        heads
    }

    /// Seals once, and lets the tree grow. Returns how many batches were sealed.
    async fn seal(&self, standing: &mut Standing) -> Result<u64, SealError> {
        let Standing {
            ledger,
            edge,
            since,
        } = standing;
        let sealed = ledger.seal(since).await?;
        *since = sealed.next;
        if sealed.size < edge.size() {
            return Err(SealError::Behind {
                place: ledger.place().to_owned(),
                size: sealed.size,
                signed_by: OWN.to_owned(),
                signed: edge.size(),
            });
        }
        if sealed.size > edge.size() {
            // Behind a pooler the server may have changed unnoticed.
            if let Some(&last) = edge.hashes(0).last()
                && ledger.hashes(edge.size() - 1, edge.size()).await? != [last]
            {
                return Err(SealError::Fork {
                    place: ledger.place().to_owned(),
                    size: edge.size(),
                    signed_by: OWN.to_owned(),
                });
            }
            extend(ledger, edge, sealed.size).await?;
        }
        if sealed.batches > 0 {
            (self.notify)(&Notice::Sealed {
                batches: sealed.batches,
                size: sealed.size,
            });
        }
        Ok(sealed.batches)
    }

    /// Signs a checkpoint of the log as it is known, and keeps it in the database.
    async fn sign(&mut self, standing: &mut Standing) -> Result<Signed, SealError> {
        let head = standing.edge.head();
        let time = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|_| SealError::Clock)?
            .as_secs();
        let origin = self.config.signer.vkey().name().to_owned();
        let checkpoint = Checkpoint {
            origin: origin.clone(),
            head,
        };
        // From here on the key may have signed it.
        self.last_signed = Some(head);
        let signer = Arc::clone(&self.config.signer);
        // A token may take its time.
        let signing = tokio::task::spawn_blocking(move || {
            checkpoint::sign(&checkpoint, signer.as_ref(), time)
        });
        let note = match tell_if_slow(&self.notify, KEY_PATIENCE, signing).await {
            Ok(note) => note?.to_string(),
            Err(ended) => panic_again(ended),
        };
        // With witnesses it is kept when they have cosigned it.
        if !self.config.has_witnesses() {
            standing
                .ledger
                .note_checkpoint(&origin, head.size, &note, time)
                .await?;
        }
        (self.notify)(&Notice::Signed { head });
        Ok(Signed { head, note, time })
    }
}

/// Waits for what signs, and tells if that takes long: a token may hang. It is not given up, so that no second one waits for
/// the same token.
async fn tell_if_slow<T>(
    notify: &Notify,
    patience: Duration,
    mut signing: JoinHandle<T>,
) -> Result<T, JoinError> {
    if let Ok(signed) = tokio::time::timeout(patience, &mut signing).await {
        return signed;
    }
    let why = format!("the key has not signed within {patience:?}: look after its token");
    notify(&Notice::Failed { why });
    signing.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_that_hangs_is_told_and_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let (told, is_told) = std::sync::mpsc::channel();
        let notify: Notify = Arc::new(move |notice| told.send(notice.to_string()).unwrap());
        let signed = runtime.block_on(async {
            // Signs once it is told that it does not.
            let signing = tokio::task::spawn_blocking(move || is_told.recv().unwrap());
            tell_if_slow(&notify, Duration::from_millis(1), signing).await
        });
        let told = signed.unwrap();
        assert!(told.contains("the key has not signed"), "{told}");
    }
}
