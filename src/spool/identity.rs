//! Who writes a log's records into Postgres.

use redb::{ReadableTable, Table};
use uuid::Uuid;

use super::log::LogError;

/// The length of a writer's secret.
pub(crate) const SECRET_BYTES: usize = 32;

/// The writer that a log's records are written by, and where its own numbers begin. A log has another
/// one when Postgres no longer agrees with what was written by the one before.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) writer: Uuid,
    /// What nobody else can add batches for this writer without.
    pub(crate) secret: [u8; SECRET_BYTES],
    /// The seq in the log before the record that is number 1 of this writer.
    pub(crate) base: u64,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("writer", &self.writer)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// With a new secret.
    pub(crate) fn new(writer: Uuid, base: u64) -> Result<Self, LogError> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(LogError::Random)?;
        Ok(Self {
            writer,
            secret,
            base,
        })
    }

    /// The writer's number of a record.
    pub(crate) fn seq(&self, seq_in_log: u64) -> u64 {
        seq_in_log.saturating_sub(self.base)
    }

    /// The log's number of a record.
    pub(crate) fn seq_in_log(&self, seq: u64) -> u64 {
        seq.saturating_add(self.base)
    }

    pub(super) fn store(
        &self,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), LogError> {
        meta.insert("writer", &self.writer.as_bytes()[..])?;
        meta.insert("secret", &self.secret[..])?;
        meta.insert("base", &self.base.to_le_bytes()[..])?;
        Ok(())
    }

    pub(super) fn load(
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Self, LogError> {
        Ok(Self {
            writer: Uuid::from_bytes(value(meta, "writer")?),
            secret: value(meta, "secret")?,
            base: u64::from_le_bytes(value(meta, "base")?),
        })
    }
}

fn value<const BYTES: usize>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<[u8; BYTES], LogError> {
    meta.get(name)?
        .and_then(|value| value.value().try_into().ok())
        .ok_or(LogError::Damaged)
}

/// Where Postgres and the log no longer agreed, kept until the trail says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disagreement {
    /// The writer as it was until then.
    pub(crate) writer: Uuid,
    pub(crate) cause: Cause,
    /// The writer's numbers that are concerned, the last one included; none when it is less than the
    /// first one.
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// Records that are gone: the local log does not have them any more.
    pub(crate) lost: u64,
}

/// Why a log has another writer. Its number is part of the format: frozen, version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Postgres knows of fewer records than it had committed.
    DatabaseLostRecords,
    /// Postgres knows of more records than were sent.
    PositionNotOurs,
    /// Postgres has another secret for the writer, or none.
    WriterNotOurs,
}

impl Cause {
    const ALL: [Self; 3] = [
        Self::DatabaseLostRecords,
        Self::PositionNotOurs,
        Self::WriterNotOurs,
    ];

    /// The error code of the row that tells of it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::DatabaseLostRecords => "database_lost_records",
            Self::PositionNotOurs => "position_not_ours",
            Self::WriterNotOurs => "writer_not_ours",
        }
    }
}

impl Disagreement {
    const BYTES: usize = 16 + 3 * 8 + 1;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.writer.as_bytes().to_vec();
        for number in [self.first_seq, self.last_seq, self.lost] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(self.cause as u8);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        Some(Self {
            writer: Uuid::from_slice(&bytes[..16]).ok()?,
            cause: *Cause::ALL.get(usize::from(bytes[40]))?,
            first_seq: number(16),
            last_seq: number(24),
            lost: number(32),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disagreement_survives_its_encoding() {
        for cause in Cause::ALL {
            let told = Disagreement {
                writer: Uuid::from_u128(7),
                cause,
                first_seq: 3,
                last_seq: u64::MAX,
                lost: 5,
            };
            assert_eq!(Disagreement::decode(&told.encode()), Some(told));
        }
        assert_eq!(Disagreement::decode(&[0; 7]), None);
        assert_eq!(Disagreement::decode(&[9; Disagreement::BYTES]), None);
    }

    #[test]
    fn secret_is_not_in_what_is_said_of_a_writer() {
        let identity = Identity::new(Uuid::from_u128(7), 3).unwrap();
        assert!(!format!("{identity:?}").contains("secret"));
        assert_eq!(identity.seq(5), 2);
        assert_eq!(identity.seq_in_log(2), 5);
    }
}
