//! The settings of the sealer.
#![cfg_attr(
    not(feature = "__program"),
    allow(dead_code, unreachable_pub, reason = "the program has more places")
)]

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::BuildError;
use crate::ledger::key::{MemoryKey, Signer};

const DEFAULT_INTERVAL: Duration = Duration::from_millis(500);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_INTERVAL: Duration = Duration::from_mins(1);

/// Where checkpoints are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine, or one that is mounted.
    Folder(PathBuf),
    /// Standard output: checkpoints alone.
    Stdout,
    /// A bucket, as `s3://bucket/prefix`.
    #[cfg(feature = "seal-bucket")]
    Bucket(String),
}

impl Place {
    /// Reads a place: the URL of a bucket, or the path of a folder.
    ///
    /// # Errors
    /// If it is a URL of another kind, or of a bucket and this build knows none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text.split_once("://") {
            None if text.is_empty() => Err("it is empty"),
            None => Ok(Self::Folder(PathBuf::from(text))),
            Some(("s3", place)) if !place.is_empty() && !place.starts_with('/') => {
                Self::bucket(text)
            }
            Some(_) => Err("it is neither s3://bucket/prefix nor the path of a folder"),
        }
    }

    #[cfg(feature = "seal-bucket")]
    #[allow(clippy::unnecessary_wraps, reason = "it is not for every build")]
    fn bucket(url: &str) -> Result<Self, &'static str> {
        Ok(Self::Bucket(url.to_owned()))
    }

    #[cfg(not(feature = "seal-bucket"))]
    fn bucket(_: &str) -> Result<Self, &'static str> {
        Err("a bucket needs feature seal-bucket of tracing-audit")
    }
}

/// Configures the sealer of a trail: with which key checkpoints of its ledger are signed, and where they are published.
///
/// The program seals its own trail then, on a thread `tracing-audit-seal`, until it shuts down. Several processes may do so,
/// with the same key, and `tracing-audit seal` as well: all see one log. The database login needs the role `audit_sealer`
/// (`tracing-audit migrate --sealer-login`).
///
/// A key that the program has, whoever takes over the program has too. He can sign what he likes then; but what is published
/// already, where he cannot alter it, still proves what was there before. A sealer on another machine, with the program
/// `tracing-audit seal`, keeps the key away from the application.
///
/// ```no_run
/// use tracing_audit::{Audit, Seal};
///
/// let key = std::env::var("TRAIL_KEY").expect("TRAIL_KEY is set"); // PRIVATE+KEY+example.com/trail+…
/// let audit = Audit::builder()
///     .postgres("postgres://app@localhost/app")
///     .seal(Seal::new(key).anchor_folder("/mnt/worm/trail"))
///     .start()?;
/// # Ok::<(), tracing_audit::BuildError>(())
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until it is given to Builder::seal"]
pub struct Seal {
    key: Zeroizing<String>,
    anchors: Vec<String>,
    folders: Vec<PathBuf>,
    interval: Option<Duration>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("Seal")
            .field("anchors", &self.anchors)
            .field("folders", &self.folders)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl Seal {
    /// Creates the settings of a sealer that signs with this key: the text `PRIVATE+KEY+…` that `tracing-audit key new` writes.
    ///
    /// It is checked by [`Builder::start`](crate::Builder::start).
    pub fn new(key: impl Into<String>) -> Self {
        Self {
            key: Zeroizing::new(key.into()),
            anchors: Vec::new(),
            folders: Vec::new(),
            interval: None,
        }
    }

    /// Adds a folder in which checkpoints, tiles and entries are published, as files of C2SP's tlog-tiles. It should be where
    /// neither the database's administrators nor the program can alter files: a mounted share that keeps them for good.
    ///
    /// The folder is made if the one above it is there.
    pub fn anchor_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folders.push(path.into());
        self
    }

    /// Adds a bucket, as `s3://bucket/prefix`, in which the same is published; best one with Object Lock. Credentials, region
    /// and endpoint are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …). At most one
    /// checkpoint in 5 s is published there, and one a minute while nothing is added. Needs feature `seal-bucket`.
    #[cfg(feature = "seal-bucket")]
    pub fn anchor_bucket(mut self, url: impl Into<String>) -> Self {
        self.anchors.push(url.into());
        self
    }

    /// Sets how often batches are sealed that were committed meanwhile. Default 500 ms, range 10 ms to 1 minute. A
    /// checkpoint is signed at once when batches were sealed, and after 2 s without any.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    pub(crate) fn config(self) -> Result<SealConfig, BuildError> {
        let error = |setting: &str, why: String| BuildError::Seal {
            setting: setting.to_owned(),
            why,
        };
        let key =
            MemoryKey::parse(&self.key).map_err(|source| error("the key", source.to_string()))?;
        let mut anchors = self
            .folders
            .into_iter()
            .map(Place::Folder)
            .collect::<Vec<_>>();
        for anchor in self.anchors {
            let place = Place::parse(&anchor).map_err(|why| error("the anchor", why.to_owned()))?;
            anchors.push(place);
        }
        Ok(SealConfig::new(Arc::new(key), anchors, self.interval))
    }
}

/// The settings of a sealer, checked.
#[derive(Clone, Debug)]
pub struct SealConfig {
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) anchors: Vec<Place>,
    pub(crate) interval: Duration,
}

impl SealConfig {
    /// Takes the key, the anchors, and how often to seal.
    pub fn new(signer: Arc<dyn Signer>, anchors: Vec<Place>, interval: Option<Duration>) -> Self {
        let interval = interval.unwrap_or(DEFAULT_INTERVAL);
        Self {
            signer,
            anchors,
            interval: interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
        }
    }
}
