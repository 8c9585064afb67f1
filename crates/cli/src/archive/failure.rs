//! Why there is no archive, or nothing more of one.

use tracing_audit::__program::ledger::checkpoint::CheckpointError;
use tracing_audit::__program::ledger::key::SignError;
use tracing_audit::__program::ledger::note::NoteError;

use super::manifest::ManifestError;

/// Why nothing was archived.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("there is no checkpoint yet, which proves an archive: run `tracing-audit seal`")]
    NoCheckpoint,
    #[error("{0} is no day: write it as 2026-09-14")]
    NoDay(String),
    #[error("the name of the place has more than the {most} bytes that the trail records of it")]
    LongPlace { most: usize },
    #[error("--since is a day after --until")]
    NoDays,
    #[error(
        "{place} has nothing of an archive, and the trail knows of {known} manifests there: is it mounted? If all of it was removed on purpose, archive to another place"
    )]
    Emptied { place: String, known: usize },
    #[error("{place}: {object} is there and is not what this would write: {advice}")]
    Differs {
        place: String,
        object: String,
        advice: &'static str,
    },
    #[error(
        "{place}: {object} reads back otherwise than it was written; nothing of its set counts"
    )]
    ReadBack { place: String, object: String },
    #[error("{place}: {object} is not there any more")]
    Gone { place: String, object: String },
    #[error("{place}: {object}: {source}")]
    NoManifest {
        place: String,
        object: String,
        source: ManifestError,
    },
    #[error("{place}: {object}: it is no list of batches: {why}")]
    NoBatches {
        place: String,
        object: String,
        why: &'static str,
    },
    #[error(
        "{place}: {folder} has objects of set {set} and no list of its batches: they are of no archive's run"
    )]
    Orphans {
        place: String,
        folder: String,
        set: u32,
    },
    #[error(
        "more than {most} tenants have {of}, so they cannot have files of their own: archive the day without --by-tenant"
    )]
    TooManyTenants { of: String, most: u32 },
    #[error("the manifest for {of}: {source}")]
    Manifest { of: String, source: NoteError },
    #[error("--month: {0} is no month: write it as 2026-09")]
    NoMonth(String),
    #[error(
        "the schema audit_restored is another login's, who could change what is restored: restore as that login, or have it removed"
    )]
    OthersSchema,
    #[error("{0} is not signed by one of the keys that were given: nothing of it is shown")]
    NotSigned(String),
    #[error("more than 1,000,000 requests match: name a narrower time with --since and --until")]
    TooManyRequests,
    #[error("the request has more records in the archive than are shown at once")]
    TooManyRecords,
    #[error("the time for searching the archive was over")]
    TooLong,
    #[error("{object} cannot be read: {why}")]
    Broken { object: String, why: String },
    #[error("the archive is not as it was sealed, so nothing is shown: {finding}")]
    NotProven { finding: String },
    #[error("the manifest cannot be signed: {0}")]
    Sign(#[source] SignError),
    #[error("the checkpoint in {place}: {source}")]
    Checkpoint {
        place: String,
        source: CheckpointError,
    },
    #[error(
        "the log in the database is not that of the checkpoint that it has; `tracing-audit verify` says more"
    )]
    OtherLog,
    #[error(
        "the content was archived encrypted before; say --content encrypted again, or --content clear"
    )]
    ClearAfterEncrypted,
    #[error("{of}: a file of Parquet cannot be written: {source}")]
    Encode { of: String, source: std::io::Error },
}
