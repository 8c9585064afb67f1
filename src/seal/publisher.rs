//! The loop that publishes at one anchor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::anchor::{Anchor, Session};
use super::edge::Edge;
use super::error::AnchorError;
use super::ledger::Ledger;
use super::notice::{Notice, Notify};
use super::signed::Signed;
#[cfg(feature = "seal-witness")]
use super::witness::keep_cosignatures;
#[cfg(feature = "seal-witness")]
use crate::config::seal::witness::Witness;
use crate::database::Servers;
use crate::ledger::checkpoint::{UnixSeconds, Verified};
use crate::ledger::key::Vkey;
use crate::ledger::paths::Head;
use crate::ledger::tiles::{Bundle, TILE_WIDTH, encode_bundle, encode_tile, tiles_between};
use crate::ledger::tree;
use crate::sink::backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How many hashes are read from the database at a time.
pub(super) const MOST_HASHES: u64 = 10_000;

/// How many entries are read at a time, and published in one step: 16 bundles.
const MOST_ENTRIES: u64 = 16 * 256;

/// How many times to begin again at once when another sealer has published meanwhile.
const OVERTAKEN: u32 = 3;

/// Publishes at one anchor.
pub(super) struct Publisher {
    anchor: Anchor,
    /// The log's keys: with the first it is signed, with the others it was.
    log: Vec<Vkey>,
    #[cfg(feature = "seal-witness")]
    witnesses: Vec<Vkey>,
    servers: Servers,
    notify: Notify,
    /// Set when the anchor has a checkpoint that the database's log contradicts.
    has_disagreed: Arc<AtomicBool>,
    ledger: Option<Ledger>,
    /// The edge of what is published.
    edge: Option<Edge>,
    /// The size that was published last, and when.
    last: Option<(u64, Instant)>,
}

impl Publisher {
    pub(super) fn new(
        anchor: Anchor,
        log: Vec<Vkey>,
        servers: Servers,
        notify: Notify,
        has_disagreed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            anchor,
            log,
            #[cfg(feature = "seal-witness")]
            witnesses: Vec::new(),
            servers,
            notify,
            has_disagreed,
            ledger: None,
            edge: None,
            last: None,
        }
    }

    /// Keeps what these witnesses have cosigned for other sealers that publish there.
    #[cfg(feature = "seal-witness")]
    pub(super) fn with_witnesses(mut self, witnesses: &[Witness]) -> Self {
        self.witnesses = witnesses
            .iter()
            .map(|witness| witness.vkey.clone())
            .collect();
        self
    }

    /// Returns where it publishes.
    pub(super) fn anchor(&self) -> String {
        self.anchor.name()
    }

    /// Publishes each newest checkpoint until there are no more.
    pub(super) async fn run(mut self, mut newest: watch::Receiver<Option<Arc<Signed>>>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut failure: Option<String> = None;
        while failure.is_some() || newest.changed().await.is_ok() {
            if failure.is_none() {
                self.pause().await;
            }
            let Some(signed) = newest.borrow_and_update().clone() else {
                continue;
            };
            if !self.is_due(&signed) {
                continue;
            }
            match self.publish(&signed).await {
                Ok(()) => {
                    backoff.reset();
                    (self.notify)(&Notice::Published {
                        anchor: self.anchor(),
                        size: signed.head.size,
                        again: failure.take().is_some(),
                    });
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    let why = error.to_string();
                    if failure.as_ref() != Some(&why) {
                        (self.notify)(&Notice::AnchorFailed {
                            anchor: self.anchor(),
                            why: why.clone(),
                            pause,
                        });
                    }
                    failure = Some(why);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Waits until another checkpoint may be published.
    async fn pause(&self) {
        let (growing, _) = self.anchor.pauses();
        if let Some((_, at)) = self.last {
            tokio::time::sleep(growing.saturating_sub(at.elapsed())).await;
        }
    }

    /// Whether a checkpoint is to be published now: not each of those that tell the time alone.
    fn is_due(&self, signed: &Signed) -> bool {
        let (_, idle) = self.anchor.pauses();
        self.last
            .is_none_or(|(size, at)| size != signed.head.size || at.elapsed() >= idle)
    }

    /// Publishes a checkpoint, and before that what it is of and is not there yet.
    pub(super) async fn publish(&mut self, signed: &Signed) -> Result<(), AnchorError> {
        let mut published = self.try_publish(signed).await;
        // By whoever was faster: the next time there may be nothing left to do.
        for _ in 0..OVERTAKEN {
            if !matches!(published, Err(AnchorError::Overtaken)) {
                break;
            }
            published = self.try_publish(signed).await;
        }
        match &published {
            Ok(()) => self.last = Some((signed.head.size, Instant::now())),
            Err(AnchorError::Ledger(error)) if error.is_disagreement() => {
                // ORDERING: pairs with the swap in `Sealer::session`; only the flag itself is read.
                self.has_disagreed.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        published
    }

    async fn try_publish(&mut self, signed: &Signed) -> Result<(), AnchorError> {
        let (session, found) = self.anchor.open().await?;
        let new = signed.head;
        if !session.takes_tiles() {
            let note = signed.note.clone();
            return session.publish(note).await;
        }
        let there = found.clone();
        let found = self.anchor.verify(found, &self.log)?;
        // What another key has signed is replaced even if it is of now.
        let is_own = |found: &&Verified| Some(&found.key) == self.log.first();
        let signed_at = found.as_ref().filter(is_own).and_then(|own| own.signed_at);
        let old = found.map_or_else(|| Edge::default().head(), |found| found.checkpoint.head);
        // Taken, so that neither is used again after an error.
        let mut ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::connect(&self.servers).await?,
        };
        let mut edge = match self.edge.take() {
            Some(edge) if edge.head() == old => edge,
            _ => ledger.edge_at(old, &self.anchor.name()).await?,
        };
        let note = match there.filter(|_| old == new) {
            Some(there) => self.newer(&there, signed, signed_at),
            None => Some(signed.note.clone()).filter(|_| old.size <= new.size),
        };
        if let Some(note) = note {
            verify_growth(&mut ledger, edge.clone(), new).await?;
            let session = write_tiles(session, &mut ledger, &mut edge, new.size).await?;
            session.publish(note).await?;
        }
        (self.ledger, self.edge) = (Some(ledger), Some(edge));
        Ok(())
    }

    /// Returns what is to be published in place of a checkpoint of the same tree; `None` if that one may stay.
    #[cfg_attr(
        not(feature = "seal-witness"),
        allow(clippy::unused_self, reason = "witnesses are of it")
    )]
    fn newer(
        &self,
        there: &[u8],
        signed: &Signed,
        signed_at: Option<UnixSeconds>,
    ) -> Option<String> {
        #[cfg(feature = "seal-witness")]
        if !self.witnesses.is_empty() {
            let own = &self.log[..self.log.len().min(1)];
            return keep_cosignatures(there, &signed.note, own, &self.witnesses);
        }
        let _ = there;
        (signed_at < Some(signed.time)).then(|| signed.note.clone())
    }
}

/// Verifies that the ledger's rows let the tree grow to what was signed, before any of them is published.
async fn verify_growth(ledger: &mut Ledger, mut edge: Edge, new: Head) -> Result<(), AnchorError> {
    extend(ledger, &mut edge, new.size).await?;
    if edge.head() == new {
        Ok(())
    } else {
        Err(AnchorError::Root { size: new.size })
    }
}

/// Lets the tree grow by rows of the ledger.
pub(super) async fn extend(
    ledger: &mut Ledger,
    edge: &mut Edge,
    size: u64,
) -> Result<(), super::error::SealError> {
    while edge.size() < size {
        let to = size.min(edge.size() + MOST_HASHES);
        for hash in ledger.hashes(edge.size(), to).await? {
            edge.append(hash, |_, _| ());
        }
    }
    Ok(())
}

/// Publishes the tiles and entries by which the log has grown.
async fn write_tiles(
    mut session: Session,
    ledger: &mut Ledger,
    edge: &mut Edge,
    size: u64,
) -> Result<Session, AnchorError> {
    let width = u64::from(TILE_WIDTH);
    let old_size = edge.size();
    // A bundle is written whole.
    let mut at = old_size / width * width;
    while at < size {
        let to = size.min(at + MOST_ENTRIES);
        let mut entries = Vec::new();
        let mut contents = Vec::new();
        let mut failed = None;
        for (index, (entry, hash)) in (at..).zip(ledger.entries(at, to).await?) {
            let entry = entry
                .filter(|entry| tree::leaf_hash(entry) == hash)
                .ok_or(AnchorError::Entry { index })?;
            entries.push(entry);
            if index >= old_size {
                edge.append(hash, |tile, hashes| match encode_tile(hashes) {
                    Ok(content) => contents.push((tile.to_string(), content)),
                    Err(error) => failed = Some(error),
                });
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        for (index, entries) in (at / width..).zip(entries.chunks(TILE_WIDTH.into())) {
            let width = u16::try_from(entries.len()).unwrap_or(TILE_WIDTH);
            let bundle = Bundle { index, width };
            contents.push((bundle.to_string(), encode_bundle(entries)?));
        }
        session = session.put(contents).await?;
        at = to;
    }
    let partial = tiles_between(old_size, size).filter(|tile| tile.width < TILE_WIDTH);
    let contents =
        partial.map(|tile| Ok((tile.to_string(), encode_tile(edge.hashes(tile.level))?)));
    let contents = contents.collect::<Result<_, AnchorError>>()?;
    session.put(contents).await
}
