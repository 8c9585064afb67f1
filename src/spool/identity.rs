//! The writers under which a log's records are committed to Postgres.

use redb::{ReadableTable, Table};
use uuid::Uuid;

use super::error::LogError;

/// The length of a writer's secret.
pub(crate) const SECRET_BYTES: usize = 32;

/// The writer under which a log's records are committed, and the offset of its numbers. A log gets
/// a new writer when Postgres no longer agrees with what the previous one committed.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) writer: Uuid,
    /// The secret without which nobody can add batches for this writer.
    pub(crate) secret: [u8; SECRET_BYTES],
    /// The seq in the log just before this writer's record number 1.
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
    /// Returns an identity with a new secret.
    pub(crate) fn new(writer: Uuid, base: u64) -> Result<Self, LogError> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(LogError::Random)?;
        Ok(Self {
            writer,
            secret,
            base,
        })
    }

    /// Converts a seq in the log to the writer's number.
    pub(crate) fn seq(&self, seq_in_log: u64) -> u64 {
        seq_in_log.saturating_sub(self.base)
    }

    /// Converts a writer's number to the seq in the log.
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

/// A disagreement between Postgres and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disagreement {
    /// The log's writer up to the disagreement.
    pub(crate) writer: Uuid,
    pub(crate) cause: Cause,
    /// The affected numbers of the writer, including `last_seq`; none if `last_seq` is less than
    /// `first_seq`.
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// The number of records that are lost: the local log no longer has them.
    pub(crate) lost: u64,
}

/// Why a log got a new writer. Its number is part of the format: frozen, version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Postgres has fewer records than it had committed.
    DatabaseLostRecords,
    /// Postgres has more records than were sent.
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

    /// Returns the error code of the row that reports it.
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

    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.writer.as_bytes().to_vec();
        for number in [self.first_seq, self.last_seq, self.lost] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(self.cause as u8);
        bytes
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        Some(Self {
            writer: Uuid::from_slice(&bytes[..16]).ok()?,
            cause: *Cause::ALL.get(usize::from(bytes[40]))?,
            first_seq: number(bytes, 16),
            last_seq: number(bytes, 24),
            lost: number(bytes, 32),
        })
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// A former writer of a log, and what was committed under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Former {
    pub(crate) writer: Uuid,
    /// See [`Identity`].
    pub(crate) base: u64,
    /// The seq in the log after the writer's last record in Postgres.
    pub(crate) end: u64,
}

impl Former {
    const BYTES: usize = 16 + 2 * 8;

    /// Converts a seq in the log to the writer's number.
    pub(crate) fn seq(&self, seq_in_log: u64) -> u64 {
        seq_in_log.saturating_sub(self.base)
    }

    /// Converts a writer's number to the seq in the log.
    pub(crate) fn seq_in_log(&self, seq: u64) -> u64 {
        seq.saturating_add(self.base)
    }

    fn is_empty(&self) -> bool {
        self.end <= self.base + 1
    }
}

/// A log's former writers, and the disagreements that the trail reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) formers: Vec<Former>,
    /// Each disagreement with a seq in the log: a record before that seq reports it; 0: not
    /// reported yet.
    notices: Vec<(Disagreement, u64)>,
}

impl Past {
    /// How many of each are kept.
    const REMEMBERED: usize = 64;

    /// Returns the disagreements that the trail does not report yet.
    pub(crate) fn untold(&self) -> impl Iterator<Item = Disagreement> {
        self.notices
            .iter()
            .filter(|(_, told_at)| *told_at == 0)
            .map(|(why, _)| *why)
    }

    /// Notes that the log's writer `left` was replaced because of `whys`. Returns the
    /// disagreements to report: `whys`, and those that were reported in lost records, which are the
    /// ones from the seq `lost_from` on.
    pub(crate) fn leave(
        &mut self,
        left: Former,
        whys: &[Disagreement],
        lost_from: Option<u64>,
    ) -> Vec<Disagreement> {
        self.formers.push(left);
        self.formers.retain(|former| !former.is_empty());
        let mut to_tell = Vec::new();
        for (why, told_at) in &mut self.notices {
            if lost_from.is_some_and(|from| *told_at > from) {
                *told_at = 0;
                to_tell.push(*why);
            }
        }
        self.notices.extend(whys.iter().map(|why| (*why, 0)));
        to_tell.extend(whys);
        let excess = self.formers.len().saturating_sub(Self::REMEMBERED);
        self.formers.drain(..excess);
        let excess = self.notices.len().saturating_sub(Self::REMEMBERED);
        self.notices.drain(..excess);
        to_tell
    }

    /// Notes that the trail reports a disagreement, in a record before the seq `told_at`.
    pub(crate) fn told(&mut self, why: &Disagreement, told_at: u64) {
        for (known, at) in &mut self.notices {
            if known == why && *at == 0 {
                *at = told_at.max(1);
            }
        }
    }

    pub(super) fn store(
        &self,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), LogError> {
        let mut formers = Vec::new();
        for former in &self.formers {
            formers.extend_from_slice(former.writer.as_bytes());
            formers.extend_from_slice(&former.base.to_le_bytes());
            formers.extend_from_slice(&former.end.to_le_bytes());
        }
        let mut notices = Vec::new();
        for (why, told_at) in &self.notices {
            notices.extend_from_slice(&why.encode());
            notices.extend_from_slice(&told_at.to_le_bytes());
        }
        meta.insert("formers", &formers[..])?;
        meta.insert("disagreements", &notices[..])?;
        Ok(())
    }

    pub(super) fn load(
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Self, LogError> {
        const NOTICE: usize = Disagreement::BYTES + 8;
        let mut past = Self::default();
        if let Some(value) = meta.get("formers")? {
            let (formers, rest) = value.value().as_chunks::<{ Former::BYTES }>();
            for former in formers {
                past.formers.push(Former {
                    writer: Uuid::from_slice(&former[..16]).map_err(|_| LogError::Damaged)?,
                    base: number(former, 16),
                    end: number(former, 24),
                });
            }
            if !rest.is_empty() {
                return Err(LogError::Damaged);
            }
        }
        if let Some(value) = meta.get("disagreements")? {
            let (notices, rest) = value.value().as_chunks::<NOTICE>();
            for notice in notices {
                let why = notice
                    .first_chunk()
                    .and_then(Disagreement::decode)
                    .ok_or(LogError::Damaged)?;
                past.notices
                    .push((why, number(notice, Disagreement::BYTES)));
            }
            if !rest.is_empty() {
                return Err(LogError::Damaged);
            }
        }
        Ok(past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disagreement_round_trips_through_its_encoding() {
        for cause in Cause::ALL {
            let told = Disagreement {
                writer: Uuid::from_u128(7),
                cause,
                first_seq: 3,
                last_seq: u64::MAX,
                lost: 5,
            };
            let encoded = told.encode();
            assert_eq!(
                Disagreement::decode(encoded.first_chunk().unwrap()),
                Some(told)
            );
        }
        assert_eq!(Disagreement::decode(&[9; Disagreement::BYTES]), None);
    }

    #[test]
    fn disagreement_reported_in_a_lost_record_is_reported_again() {
        let why = |writer| Disagreement {
            writer: Uuid::from_u128(writer),
            cause: Cause::DatabaseLostRecords,
            first_seq: 3,
            last_seq: 9,
            lost: 7,
        };
        let left = |writer, base, end| Former {
            writer: Uuid::from_u128(writer),
            base,
            end,
        };
        let mut past = Past::default();
        assert_eq!(past.leave(left(1, 0, 3), &[why(1)], Some(3)), [why(1)]);
        past.told(&why(1), 12);
        assert_eq!(past.untold().count(), 0);
        // The row that reported it is not lost.
        assert_eq!(past.leave(left(2, 9, 15), &[why(2)], Some(12)), [why(2)]);
        past.told(&why(2), 20);
        // A writer that belongs to another process loses no rows of this one.
        assert_eq!(past.leave(left(3, 15, 21), &[why(3)], None), [why(3)]);
        past.told(&why(3), 25);
        // Nothing is committed under the last writer.
        let again = past.leave(left(4, 20, 21), &[why(4)], Some(12));
        assert_eq!(again, [why(2), why(3), why(4)]);
        assert_eq!(past.untold().collect::<Vec<_>>(), again);
        let writers: Vec<_> = past
            .formers
            .iter()
            .map(|former| former.writer.as_u128())
            .collect();
        assert_eq!(writers, [1, 2, 3]);
    }

    #[test]
    fn debug_output_of_an_identity_omits_the_secret() {
        let identity = Identity::new(Uuid::from_u128(7), 3).unwrap();
        assert!(!format!("{identity:?}").contains("secret"));
        assert_eq!(identity.seq(5), 2);
        assert_eq!(identity.seq_in_log(2), 5);
    }
}
