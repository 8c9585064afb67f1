//! The errors of the local log.

use std::panic::{self, AssertUnwindSafe};

/// The version of the format that this program supports.
pub(super) const VERSION: u32 = 1;

/// Why an operation on the local log failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("the local log failed")]
    Redb(#[source] Box<redb::Error>),
    #[error("the local log has version {0}, this program knows version {VERSION}")]
    Version(u32),
    #[error("the local log is damaged")]
    Damaged,
    /// The log's process died before it had written anything.
    #[error("the local log was never begun")]
    NotBegun,
    #[error("the local log was closed after a write that failed")]
    Closed,
    #[error("no random bytes from the system")]
    Random(#[source] getrandom::Error),
}

impl LogError {
    /// Returns whether the cause is a disk that refuses writes, which may pass, and not a wrong
    /// setting.
    pub(crate) fn may_heal(&self) -> bool {
        use std::io::ErrorKind;
        match self {
            Self::Redb(error) => match &**error {
                redb::Error::Io(error) => !matches!(
                    error.kind(),
                    ErrorKind::NotFound
                        | ErrorKind::PermissionDenied
                        | ErrorKind::AlreadyExists
                        | ErrorKind::NotADirectory
                        | ErrorKind::IsADirectory
                        | ErrorKind::InvalidInput
                        | ErrorKind::InvalidFilename
                        | ErrorKind::Unsupported
                ),
                redb::Error::PreviousIo => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Returns the system's error, if there is one.
    pub(crate) fn io(&self) -> Option<&std::io::Error> {
        match self {
            Self::Redb(error) => match &**error {
                redb::Error::Io(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns whether a process has the log open.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self, Self::Redb(error) if matches!(**error, redb::Error::DatabaseAlreadyOpen))
    }

    /// Returns whether the file itself is damaged, so that a retry is of no use.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged => true,
            Self::Redb(error) => match &**error {
                redb::Error::Io(error) => matches!(
                    error.kind(),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
                ),
                redb::Error::Corrupted(_)
                | redb::Error::RepairAborted
                // No version of this crate wrote an older file.
                | redb::Error::UpgradeRequired(_)
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableDoesNotExist(_)
                | redb::Error::TypeDefinitionChanged { .. } => true,
                _ => false,
            },
            _ => false,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for LogError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

/// Runs a read of bytes that may be damaged, on which redb may panic.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
    panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(LogError::Damaged))
}
