//! Why a witness has not cosigned.

use http::StatusCode;

use crate::ledger::checkpoint::CheckpointError;
use crate::seal::error::SealError;

/// Why there is no cosignature of a witness.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// It knows more entries than the ledger has.
    #[error(
        "it has cosigned {known} entries of this log, and the ledger has {size}: the database was restored to an earlier state, or \
         somebody else signs with this key. Run `tracing-audit verify` with a checkpoint from elsewhere"
    )]
    Ahead {
        /// The size that it has cosigned.
        known: u64,
        /// The size of the ledger.
        size: u64,
    },
    /// It has cosigned another tree of this size.
    #[error(
        "it has cosigned another log of {size} entries: this one was altered, or the database was restored to an earlier state and \
         written to since, or somebody else signs with this key. Run `tracing-audit verify` with a checkpoint from elsewhere"
    )]
    OtherRoot {
        /// The size.
        size: u64,
    },
    /// The proof does not show that what it has cosigned is the beginning of the log.
    #[error(
        "the {known} entries that it has cosigned are not the beginning of this log of {size}: it was altered, or the database was \
         restored to an earlier state and written to since, or somebody else signs with this key. Run `tracing-audit verify` with a \
         checkpoint from elsewhere"
    )]
    NotConsistent {
        /// The size that it has cosigned.
        known: u64,
        /// The size of the checkpoint.
        size: u64,
    },
    /// Another sealer has had a larger tree cosigned meanwhile.
    #[error("another sealer has had {known} entries cosigned meanwhile")]
    Overtaken {
        /// That size.
        known: u64,
    },
    /// It does not know the log.
    #[error(
        "it does not know this log: have its verifier key added there (`tracing-audit witness --log`)"
    )]
    UnknownLog,
    /// It knows another key of the log.
    #[error(
        "it knows this log by another key: have this one added there (`tracing-audit witness --log`)"
    )]
    UnknownKey,
    /// It answered with another status.
    #[error("it answered with status {0}")]
    Status(StatusCode),
    /// Its answer is not as specified.
    #[error("its answer to status {0} is not as specified")]
    Answer(StatusCode),
    /// Its answer has no valid cosignature.
    #[error("its answer is no valid cosignature: {}", crate::error::causes(.0))]
    Invalid(#[source] CheckpointError),
    /// Its answer has no cosignature by its key.
    #[error("its answer has no cosignature by the key that it is known by")]
    OtherKey,
    /// It says another size each time.
    #[error("it names another size each time that it is asked")]
    Restless,
    /// There is no connection, or it broke.
    #[error("no answer: {0}")]
    Connection(String),
    /// It did not answer in time.
    #[error("no answer within {seconds} s")]
    NoAnswer {
        /// How long it had.
        seconds: u64,
    },
    /// The proof cannot be read from the database.
    #[error("the proof for it: {0}")]
    Ledger(#[from] SealError),
}

impl WitnessError {
    /// Whether the witness has cosigned what contradicts this log.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Ahead { .. } | Self::OtherRoot { .. } | Self::NotConsistent { .. }
        )
    }
}
