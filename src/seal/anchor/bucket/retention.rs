//! How long versions of objects are retained, and in which mode.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::client::{Client, made};
use super::xml::Element;
use crate::config::seal::bucket::BucketUrl;
use crate::seal::error::BucketFault;

const MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
const UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");

const DAY: Duration = Duration::from_hours(24);

/// Who may end a retention early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody.
    Compliance,
    /// Whoever has the right `s3:BypassGovernanceRetention`.
    Governance,
}

impl Mode {
    /// Returns what S3 calls it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Compliance => "COMPLIANCE",
            Self::Governance => "GOVERNANCE",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Compliance, Self::Governance]
            .into_iter()
            .find(|mode| mode.word() == word)
    }
}

/// Until when a version cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Who may end it early.
    pub mode: Mode,
    /// When it ends.
    pub until: SystemTime,
}

impl Retention {
    /// Returns the end as S3 writes it, rounded up to a second: some servers keep no less.
    pub(super) fn until_text(&self) -> String {
        let since = self.until.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        humantime::format_rfc3339_seconds(until).to_string()
    }

    /// Returns what locks an object by the request that creates it.
    fn headers(&self) -> Result<HeaderMap, BucketFault> {
        let until = HeaderValue::from_str(&self.until_text());
        let mut headers = HeaderMap::new();
        headers.insert(MODE, HeaderValue::from_static(self.mode.word()));
        headers.insert(UNTIL, until.map_err(|_| BucketFault::Unreadable)?);
        Ok(headers)
    }

    pub(super) fn of(element: &Element) -> Option<Self> {
        let until = element.text_of("RetainUntilDate")?;
        Some(Self {
            mode: Mode::of(element.text_of("Mode")?)?,
            until: humantime::parse_rfc3339(until).ok()?,
        })
    }
}

/// How long the versions are retained of which nobody says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultRetention {
    /// The bucket has no Object Lock.
    NoLock,
    /// It has Object Lock, and no default.
    NoDefault,
    /// This long, from when a version is there.
    Lasts {
        /// Who may end it early.
        mode: Mode,
        /// How many days; a year has 365.
        days: u64,
    },
    /// The server does not say it.
    Unknown,
}

impl DefaultRetention {
    pub(super) fn of(document: &[u8]) -> Self {
        let Some(lock) = Element::parse(document) else {
            return Self::Unknown;
        };
        if lock.text_of("ObjectLockEnabled") != Some("Enabled") {
            return Self::NoLock;
        }
        let rule = lock.child("Rule");
        let Some(rule) = rule.and_then(|rule| rule.child("DefaultRetention")) else {
            return Self::NoDefault;
        };
        let number = |name| rule.text_of(name).map(str::parse::<u64>);
        let days = match (number("Days"), number("Years")) {
            (Some(Ok(days)), None) => days,
            (None, Some(Ok(years))) => years.saturating_mul(365),
            _ => return Self::Unknown,
        };
        match rule.text_of("Mode").and_then(Mode::of) {
            Some(mode) => Self::Lasts { mode, days },
            None => Self::Unknown,
        }
    }
}

/// How long what is created is retained at least, as `Bucket::retain` was told.
pub(super) struct Retained {
    retention: Retention,
    default: DefaultRetention,
    client: OnceLock<Client>,
}

impl Retained {
    pub(super) fn new(retention: Retention, default: DefaultRetention) -> Self {
        Self {
            retention,
            default,
            client: OnceLock::new(),
        }
    }

    /// Returns what creates objects with this retention; `None`: the default is as long.
    pub(super) fn client(&self, url: &BucketUrl) -> Option<Result<&Client, BucketFault>> {
        if let DefaultRetention::Lasts { mode, days } = self.default {
            let lasts = DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX));
            let ends = SystemTime::now().checked_add(lasts);
            let is_as_strict = mode == self.retention.mode;
            if is_as_strict && ends.is_none_or(|ends| ends >= self.retention.until) {
                return None;
            }
        }
        let headers = self.retention.headers();
        Some(headers.and_then(|headers| made(&self.client, url, Some(headers))))
    }
}
