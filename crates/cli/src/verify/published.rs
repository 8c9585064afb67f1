//! What was published of the log: the checkpoint that it is compared with, older ones, and tiles.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::postgres::PgConnection;
use tracing_audit::__program::ledger::checkpoint::{self, CheckpointError, Verified};
use tracing_audit::__program::ledger::key::{Algorithm, Vkey};
use tracing_audit::__program::ledger::note::Note;
use tracing_audit::__program::ledger::paths::Head;

use super::Verify;
use super::finding::{Finding, Kind};
use super::log::Log;
use super::source::Source;
use super::tiles::Tiled;
use crate::error::Error;

/// The newest checkpoint that the database has beside its log.
const NEWEST: &str = "SELECT note FROM audit.checkpoint";

/// The size of the checkpoint that the database has.
const NEWEST_SIZE: &str = "SELECT coalesce(max(size), 0) FROM audit.checkpoint";

/// What the log is compared with.
#[derive(Default)]
pub(super) struct Published {
    /// The checkpoint; `None`: nothing was given, or its signature is not the key's.
    pub(super) newest: Option<Verified>,
    older: Vec<(PathBuf, Head)>,
    pub(super) tiles: Option<Tiled>,
    pub(super) findings: Vec<Finding>,
    /// What there is to say besides.
    pub(super) notes: Vec<String>,
}

impl Published {
    /// Reads what the arguments name, and checks the signatures.
    pub(super) async fn read(
        connection: &mut PgConnection,
        arguments: &Verify,
    ) -> Result<Self, Error> {
        let mut published = Self::default();
        if arguments.key.is_empty() {
            if arguments.checkpoint.is_some() || !arguments.older.is_empty() {
                return Err(Error::NoKey);
            }
            return Ok(published);
        }
        let keys = read_keys(&arguments.key)?;
        let witnesses = arguments
            .witness_key
            .iter()
            .map(|key| read_witness_key(key))
            .collect::<Result<Vec<_>, _>>()?;
        let note = match &arguments.checkpoint {
            Some(path) => Some(read_checkpoint(path)?),
            None => newest(connection).await,
        };
        let Some(note) = note else {
            let detail = "the database has no checkpoint, and none was given";
            published
                .findings
                .push(Finding::new(Kind::CheckpointMissing, detail));
            return Ok(published);
        };
        let Some(verified) = published.check(&note, &keys, &witnesses, "the checkpoint") else {
            return Ok(published);
        };
        published.judge_age(&verified, arguments.max_age);
        let seen = verified.cosignatures.len();
        if seen < arguments.require_witness {
            let detail = format!(
                "{seen} of the witnesses have cosigned it, and {} are required",
                arguments.require_witness
            );
            published
                .findings
                .push(Finding::new(Kind::WitnessMissing, detail));
        }
        if let Some(path) = &arguments.checkpoint
            && let Some(source) = Source::of(path)?
        {
            published.tiles = Some(Tiled::new(source, verified.checkpoint.head.size));
        }
        if Some(&verified.key) != keys.first() {
            published.notes.push(format!(
                "the checkpoint is signed by the older key {}, and not by the first that is named: one that somebody else may have proves nothing",
                verified.key.name_and_id()
            ));
        }
        published.newest = Some(verified);
        for path in &arguments.older {
            let note = read_checkpoint(path)?;
            let what = path.display().to_string();
            if let Some(older) = published.check(&note, &keys, &[], &what) {
                published.older.push((path.clone(), older.checkpoint.head));
            }
        }
        Ok(published)
    }

    fn check(
        &mut self,
        note: &[u8],
        keys: &[Vkey],
        witnesses: &[Vkey],
        what: &str,
    ) -> Option<Verified> {
        let note = Note::parse(note).map_err(CheckpointError::from);
        match note.and_then(|note| checkpoint::verify_note(&note, keys, witnesses)) {
            Ok(verified) => Some(verified),
            Err(error) => {
                let kind = match error {
                    CheckpointError::NotSigned { .. }
                    | CheckpointError::WrongSignature { .. }
                    | CheckpointError::Origin { .. } => Kind::SignatureInvalid,
                    _ => Kind::CheckpointBroken,
                };
                self.findings
                    .push(Finding::new(kind, format!("{what}: {error}")));
                None
            }
        }
    }

    fn judge_age(&mut self, verified: &Verified, most: Option<Duration>) {
        let Some(most) = most else { return };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let age = verified
            .signed_at
            .map(|at| now.saturating_sub(Duration::from_secs(at)));
        if age.is_none_or(|age| age > most) {
            let detail = match age {
                Some(age) => format!(
                    "it was signed {} ago",
                    humantime::format_duration(age_of(age))
                ),
                None => String::from("it does not say when it was signed"),
            };
            self.findings
                .push(Finding::new(Kind::CheckpointStale, detail));
        }
    }

    /// Returns the sizes at which the log's root is compared, ascending.
    pub(super) fn sizes(&self) -> Vec<u64> {
        let older = self.older.iter().map(|(_, head)| head.size);
        let newest = self
            .newest
            .as_ref()
            .map(|newest| newest.checkpoint.head.size);
        let mut sizes: Vec<u64> = older.chain(newest).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Compares the log with the checkpoints. Whether the roots of its entries, as they are computed,
    /// are those that were signed is returned.
    pub(super) async fn compare(
        &mut self,
        connection: &mut PgConnection,
        log: &Log,
    ) -> Result<Option<bool>, sqlx::Error> {
        let Some(newest) = &self.newest else {
            return Ok(None);
        };
        let head = newest.checkpoint.head;
        let root_at = |size| log.roots.iter().find(|(at, ..)| *at == size);
        if log.size < head.size {
            let known: i64 = sqlx::query_scalar(NEWEST_SIZE)
                .persistent(false)
                .fetch_one(connection)
                .await?;
            // A restored database has not heard of the checkpoint.
            let kind = if u64::try_from(known).is_ok_and(|known| known >= head.size) {
                Kind::TailCut
            } else {
                Kind::Restored
            };
            let detail = format!(
                "the log has {} entries, and the checkpoint {}",
                log.size, head.size
            );
            self.findings.push(Finding::new(kind, detail));
        }
        for (path, older) in &self.older {
            let name = path.display();
            let detail = if older.size > head.size {
                format!("{name} has {} entries, more than the newer one", older.size)
            } else if root_at(older.size).is_some_and(|(_, stored, computed)| {
                *stored != older.root && *computed != older.root
            }) {
                format!("the first {} entries are not those of {name}", older.size)
            } else {
                continue;
            };
            self.findings.push(Finding::new(Kind::Fork, detail));
        }
        let Some((_, stored, computed)) = root_at(head.size) else {
            return Ok(None);
        };
        if *stored != head.root && *computed != head.root && !log.is_explained() {
            let detail = format!(
                "the first {} entries are not those of the checkpoint",
                head.size
            );
            self.findings.push(Finding::new(Kind::LogDiffers, detail));
        }
        Ok(Some(*computed == head.root))
    }
}

/// Cut to whole seconds.
fn age_of(age: Duration) -> Duration {
    Duration::from_secs(age.as_secs())
}

async fn newest(connection: &mut PgConnection) -> Option<Vec<u8>> {
    let note: Option<String> = sqlx::query_scalar(NEWEST)
        .persistent(false)
        .fetch_optional(connection)
        .await
        .ok()?;
    note.map(String::into_bytes)
}

/// Reads a verifier key: the key itself, or a file with it.
pub(crate) fn read_key(given: &str) -> Result<Vkey, Error> {
    let text = if given.contains('+') && !Path::new(given).exists() {
        given.to_owned()
    } else {
        std::fs::read_to_string(given).map_err(|source| Error::ReadFile {
            path: given.into(),
            source,
        })?
    };
    Vkey::parse(text.trim()).map_err(|source| Error::VerifierKey { source })
}

/// Reads the verifier key of a witness, or of a file with it.
fn read_witness_key(given: &str) -> Result<Vkey, Error> {
    let key = read_key(given)?;
    if key.algorithm() == Algorithm::CosignatureV1 {
        Ok(key)
    } else {
        Err(Error::NoWitnessKey(key.name().to_owned()))
    }
}

/// Reads the verifier keys that a log has and had, which have one name.
pub(crate) fn read_keys(given: &[String]) -> Result<Vec<Vkey>, Error> {
    let keys = given
        .iter()
        .map(|key| read_key(key))
        .collect::<Result<Vec<_>, _>>()?;
    let mut names = keys.iter().map(Vkey::name);
    let first = names.next().unwrap_or_default();
    match names.find(|name| *name != first) {
        None => Ok(keys),
        Some(other) => Err(Error::KeysOfTwoLogs {
            names: [first.to_owned(), other.to_owned()],
        }),
    }
}

/// Reads a checkpoint: a file, or that of a folder or bucket of tiles.
pub(crate) fn read_checkpoint(path: &Path) -> Result<Vec<u8>, Error> {
    match Source::of(path)? {
        Some(source) => source.checkpoint(),
        None => std::fs::read(path).map_err(|source| Error::ReadFile {
            path: path.to_owned(),
            source,
        }),
    }
}
