//! What a sealer says of itself. It holds nothing of what rows say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;

use crate::ledger::paths::Head;

/// Something that happened, which an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The database was reached, and its log is the one that was signed before.
    Began {
        /// Where the database is.
        place: String,
        /// The size of the log.
        size: u64,
    },
    /// An anchor did not tell in time what was published there.
    Unasked {
        /// Which one.
        anchor: String,
        /// Why.
        why: String,
    },
    /// Batches were added to the log.
    Sealed {
        /// How many.
        batches: u64,
        /// The size of the log.
        size: u64,
    },
    /// A checkpoint was signed.
    Signed {
        /// What it states.
        head: Head,
    },
    /// Nothing is sealed or signed for now.
    Failed {
        /// Why, and what to do.
        why: String,
    },
    /// A checkpoint, with all that belongs to it, was published.
    Published {
        /// Where.
        anchor: String,
        /// The size of the log.
        size: u64,
        /// Whether publishing there had failed before.
        again: bool,
    },
    /// Nothing is published at an anchor for now.
    AnchorFailed {
        /// Which one.
        anchor: String,
        /// Why, and what to do.
        why: String,
        /// How long until the next attempt.
        pause: Duration,
    },
    /// A witness has cosigned a checkpoint.
    #[cfg(feature = "seal-witness")]
    Cosigned {
        /// Which one.
        witness: String,
        /// The size of the log.
        size: u64,
        /// Whether it had not before.
        again: bool,
    },
    /// A witness does not cosign.
    #[cfg(feature = "seal-witness")]
    NotCosigned {
        /// Which one.
        witness: String,
        /// Why, and what to do.
        why: String,
        /// Whether it has cosigned what contradicts this log.
        is_conflict: bool,
        /// How long until it is asked again.
        pause: Duration,
    },
    /// The newest checkpoint is not kept beside the log.
    #[cfg(feature = "seal-witness")]
    NotKept {
        /// Why, and what to do.
        why: String,
    },
}

/// Is called with each notice, on the sealer's thread: it must not block.
pub type Notify = Arc<dyn Fn(&Notice) + Send + Sync>;

impl Notice {
    /// Returns what happened, in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Began { .. } => "began",
            Self::Unasked { .. } => "unasked",
            Self::Sealed { .. } => "sealed",
            Self::Signed { .. } => "signed",
            Self::Failed { .. } => "failed",
            Self::Published { .. } => "published",
            Self::AnchorFailed { .. } => "anchor_failed",
            #[cfg(feature = "seal-witness")]
            Self::Cosigned { .. } => "cosigned",
            #[cfg(feature = "seal-witness")]
            Self::NotCosigned {
                is_conflict: true, ..
            } => "witness_conflict",
            #[cfg(feature = "seal-witness")]
            Self::NotCosigned { .. } => "witness_failed",
            #[cfg(feature = "seal-witness")]
            Self::NotKept { .. } => "not_kept",
        }
    }

    /// Whether something does not work, or works again: what is said without being asked.
    pub fn is_change(&self) -> bool {
        match self {
            Self::Began { .. }
            | Self::Unasked { .. }
            | Self::Failed { .. }
            | Self::AnchorFailed { .. } => true,
            Self::Published { again, .. } => *again,
            #[cfg(feature = "seal-witness")]
            Self::Cosigned { again, .. } => *again,
            #[cfg(feature = "seal-witness")]
            Self::NotCosigned { .. } | Self::NotKept { .. } => true,
            Self::Sealed { .. } | Self::Signed { .. } => false,
        }
    }

    /// Whether something does not work.
    pub fn is_failure(&self) -> bool {
        #[cfg(feature = "seal-witness")]
        if matches!(self, Self::NotCosigned { .. } | Self::NotKept { .. }) {
            return true;
        }
        matches!(self, Self::Failed { .. } | Self::AnchorFailed { .. })
    }

    /// Returns the size of the log, where it is known.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Began { size, .. } | Self::Sealed { size, .. } | Self::Published { size, .. } => {
                Some(*size)
            }
            Self::Signed { head } => Some(head.size),
            #[cfg(feature = "seal-witness")]
            Self::Cosigned { size, .. } => Some(*size),
            _ => None,
        }
    }

    /// Returns the witness that it is about.
    #[cfg(feature = "seal-witness")]
    pub fn witness(&self) -> Option<&str> {
        match self {
            Self::Cosigned { witness, .. } | Self::NotCosigned { witness, .. } => Some(witness),
            _ => None,
        }
    }

    /// Returns the anchor that it is about.
    pub fn anchor(&self) -> Option<&str> {
        match self {
            Self::Unasked { anchor, .. }
            | Self::Published { anchor, .. }
            | Self::AnchorFailed { anchor, .. } => Some(anchor),
            _ => None,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Began { place, size } => {
                write!(
                    f,
                    "sealing the trail at {place}, whose ledger has {size} batches"
                )
            }
            Self::Unasked { anchor, why } => write!(
                f,
                "the newest checkpoint at {anchor} is not known, and is compared before anything is published there: {why}"
            ),
            Self::Sealed { batches, size } => {
                write!(f, "sealed {batches} batches; the ledger has {size}")
            }
            Self::Signed { head } => write!(
                f,
                "signed a checkpoint of {} batches with root {}",
                head.size,
                BASE64.encode(&head.root)
            ),
            Self::Failed { why } => write!(f, "nothing is sealed: {why}. Trying again"),
            Self::Published {
                anchor,
                size,
                again,
            } => {
                let again = if *again { " again" } else { "" };
                write!(f, "published{again} at {anchor}: {size} batches")
            }
            Self::AnchorFailed { anchor, why, pause } => write!(
                f,
                "nothing is published at {anchor}: {why}. Trying again in {pause:?}; other anchors are not delayed"
            ),
            #[cfg(feature = "seal-witness")]
            Self::Cosigned {
                witness,
                size,
                again,
            } => {
                let again = if *again { " again" } else { "" };
                write!(f, "the witness {witness} cosigns{again}: {size} batches")
            }
            #[cfg(feature = "seal-witness")]
            Self::NotCosigned {
                witness,
                why,
                is_conflict,
                pause,
            } => {
                let loud = if *is_conflict {
                    "THE WITNESS CONTRADICTS THIS LOG: "
                } else {
                    ""
                };
                write!(
                    f,
                    "{loud}the witness {witness} does not cosign: {why}. Asking again in {pause:?}; checkpoints are published without it"
                )
            }
            #[cfg(feature = "seal-witness")]
            Self::NotKept { why } => {
                write!(
                    f,
                    "the newest checkpoint is not kept in the database: {why}"
                )
            }
        }
    }
}
