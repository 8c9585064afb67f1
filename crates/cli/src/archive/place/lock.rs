//! What keeps an archive from being removed: the Object Lock of its bucket, or the policy of its container.

use std::time::{Duration, SystemTime};

use tracing_audit::__program::seal::azure::Immutability;
use tracing_audit::__program::seal::lock::{DefaultRetention, Mode, Retention};

use super::Place;
use crate::complain;
use crate::error::Error;

/// What the longest retention is: one in mode COMPLIANCE cannot be taken back, also not by who mistyped a year.
const LONGEST: Duration = Duration::from_hours(24 * 366 * 100);

/// Why something is not locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error(
        "{place} {why}, so what is archived there could be removed at once. Nothing was written. {}, or say --unlocked",
        .lock.remedy()
    )]
    Unlocked {
        place: String,
        why: &'static str,
        lock: Lock,
    },
    #[error(
        "{place} is in Azure, where single objects get no retention and no legal hold from here: set a time-based retention policy or \
         a legal hold on the container, with Azure's own tools (docs/archive.md)"
    )]
    Azure { place: String },
    #[error(
        "{place} is a folder, and what is in a folder cannot be locked: name a bucket with Object Lock"
    )]
    Folder { place: String },
    #[error("{place} {why}, so nothing in it can be locked")]
    Lockless { place: String, why: &'static str },
    #[error(
        "this login does not see all legal holds, and would lift in {place} what it does not see: use one of a member of \
         audit_auditor or audit_operator"
    )]
    BlindToHolds { place: String },
    #[error("{option} is not after now")]
    Past { option: &'static str },
    #[error("{option} is more than a hundred years ahead, and what is locked cannot be unlocked")]
    TooLong { option: &'static str },
}

/// What keeps a place's objects from being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Nothing: whoever may write to the folder may remove what is in it.
    Folder,
    /// The bucket's default retention.
    Bucket(DefaultRetention),
    /// The container's policy.
    Container(Immutability),
}

impl Lock {
    /// Returns what to do about a place without a lock.
    fn remedy(self) -> &'static str {
        match self {
            Self::Bucket(_) | Self::Folder => "Give the bucket Object Lock and a default retention",
            Self::Container(_) => "Give the container a time-based retention policy and lock it",
        }
    }

    /// Returns what is wrong with it, after the name of the place; `None`: nothing of it can be removed early.
    pub(crate) fn lacks(self) -> Option<&'static str> {
        match self {
            Self::Bucket(DefaultRetention::NoLock) => Some("has no Object Lock"),
            Self::Bucket(DefaultRetention::NoDefault) => {
                Some("has Object Lock, and no default retention")
            }
            Self::Bucket(DefaultRetention::Lasts { days: 0, .. }) => {
                Some("has a default retention of less than a day")
            }
            Self::Bucket(DefaultRetention::Unknown) => {
                Some("does not say whether it has Object Lock")
            }
            Self::Container(Immutability::None) => Some("has no immutability policy"),
            Self::Container(Immutability::OfBlobs) => {
                Some("has version-level immutability, and no policy of its own")
            }
            Self::Container(Immutability::Unknown) => {
                Some("does not say whether it has an immutability policy")
            }
            Self::Container(Immutability::Policy)
            | Self::Bucket(DefaultRetention::Lasts { .. })
            | Self::Folder => None,
        }
    }

    /// Returns why nothing is to be archived there, unless somebody says that it may.
    ///
    /// A folder is meant to be one: whoever names it does not expect that it is locked.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        self.lacks()
    }

    /// Returns what is to be known of it, after the name of the place.
    pub(crate) fn warning(self) -> Option<&'static str> {
        match self {
            Self::Bucket(DefaultRetention::Lasts {
                mode: Mode::Governance,
                ..
            }) => Some(
                "has a default retention in mode GOVERNANCE: whoever has the right s3:BypassGovernanceRetention can remove what is \
                 archived there. In mode COMPLIANCE nobody can",
            ),
            _ => None,
        }
    }
}

impl Place {
    /// Asks what keeps the objects from being removed.
    pub(crate) async fn lock(&self) -> Result<Lock, Error> {
        match self {
            Self::Bucket(bucket) => {
                let default = bucket.bucket.default_retention().await;
                Ok(Lock::Bucket(default.map_err(Error::Bucket)?))
            }
            Self::Azure(container) => {
                let policy = container.bucket.immutability().await;
                Ok(Lock::Container(policy.map_err(Error::Bucket)?))
            }
            Self::Folder(_) => Ok(Lock::Folder),
        }
    }

    /// Returns an error unless what is written here from now on will be locked, until `retain_until` at least if that is given.
    ///
    /// `is_unlocked_fine`: the place may be without a lock.
    pub(crate) async fn expect_lock(
        &self,
        is_unlocked_fine: bool,
        retain_until: Option<SystemTime>,
    ) -> Result<(), Error> {
        if is_unlocked_fine && retain_until.is_none() {
            return Ok(());
        }
        let place = self.name();
        let lock = if let Some(until) = retain_until {
            expect_ahead("--retain-until", until)?;
            let (bucket, default) = self.lockable().await?;
            let mode = mode_beside(default);
            bucket.retain(Retention { mode, until }, default);
            Lock::Bucket(default)
        } else {
            let lock = self.lock().await?;
            if let Some(why) = lock.refusal() {
                return Err(LockError::Unlocked { place, why, lock }.into());
            }
            lock
        };
        if let Some(warning) = lock.warning() {
            complain(&format!("{place} {warning}."));
        }
        Ok(())
    }
}

/// Returns the mode of a retention that is set in a bucket with this default.
pub(crate) fn mode_beside(default: DefaultRetention) -> Mode {
    match default {
        DefaultRetention::Lasts { mode, .. } => mode,
        _ => Mode::Compliance,
    }
}

/// Returns an error unless a retention may end then.
pub(crate) fn expect_ahead(option: &'static str, until: SystemTime) -> Result<(), LockError> {
    match until.duration_since(SystemTime::now()) {
        Err(_) => Err(LockError::Past { option }),
        Ok(ahead) if ahead > LONGEST => Err(LockError::TooLong { option }),
        Ok(_) => Ok(()),
    }
}

/// Reads a day, the begin of which is meant, or a time; in UTC.
pub(crate) fn end(text: &str) -> Result<SystemTime, String> {
    let is_day = text.len() == "2026-01-31".len();
    let read = if is_day {
        humantime::parse_rfc3339(&format!("{text}T00:00:00Z"))
    } else {
        humantime::parse_rfc3339_weak(text)
    };
    read.map_err(|_| String::from("write it as 2033-12-31 or 2033-12-31T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_locked_for_a_day_is_not_refused() {
        let lasts = |mode, days| Lock::Bucket(DefaultRetention::Lasts { mode, days });
        for (lock, is_refused, is_warned) in [
            (Lock::Bucket(DefaultRetention::NoLock), true, false),
            (Lock::Bucket(DefaultRetention::NoDefault), true, false),
            (Lock::Bucket(DefaultRetention::Unknown), true, false),
            (lasts(Mode::Compliance, 0), true, false),
            (lasts(Mode::Compliance, 1), false, false),
            (lasts(Mode::Governance, 30), false, true),
            (Lock::Container(Immutability::None), true, false),
            (Lock::Container(Immutability::OfBlobs), true, false),
            (Lock::Container(Immutability::Unknown), true, false),
            (Lock::Container(Immutability::Policy), false, false),
            (Lock::Folder, false, false),
        ] {
            assert_eq!(lock.refusal().is_some(), is_refused, "{lock:?}");
            assert_eq!(lock.warning().is_some(), is_warned, "{lock:?}");
        }
    }

    #[test]
    fn end_is_a_day_or_a_time() {
        let day = end("2033-12-31").unwrap();
        assert_eq!(day, end("2033-12-31T00:00:00Z").unwrap());
        assert_eq!(day, end("2033-12-31 00:00:00").unwrap());
        for text in [
            "",
            "2033",
            "2033-13-01",
            "31.12.2033",
            "2033-12-31T00",
            "é033-12-31",
        ] {
            assert!(end(text).is_err(), "{text}");
        }
    }

    #[test]
    fn retention_ends_after_now_and_within_a_hundred_years() {
        let now = SystemTime::now();
        assert!(expect_ahead("--until", now - Duration::from_secs(1)).is_err());
        assert!(expect_ahead("--until", now + LONGEST + Duration::from_secs(9)).is_err());
        expect_ahead("--until", now + LONGEST - Duration::from_secs(9)).unwrap();
    }
}
