//! The settings of the sealer.
#![cfg_attr(
    not(feature = "__program"),
    allow(dead_code, unreachable_pub, reason = "the program has more places")
)]

#[cfg(feature = "seal-bucket")]
pub(crate) mod bucket;
#[cfg(feature = "seal-witness")]
pub(crate) mod witness;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

#[cfg(feature = "seal-bucket")]
use self::bucket::BucketUrl;
#[cfg(feature = "seal-witness")]
use self::witness::Witness;
use crate::error::BuildError;
use crate::ledger::key::{Algorithm, MemoryKey, Signer, Vkey};

const DEFAULT_INTERVAL: Duration = Duration::from_millis(500);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_INTERVAL: Duration = Duration::from_mins(1);

/// Where checkpoints are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An S3-compatible bucket.
    #[cfg(feature = "seal-bucket")]
    Bucket(BucketUrl),
    /// A folder of this machine, or one that is mounted.
    Folder(PathBuf),
    /// Standard output: checkpoints alone.
    Stdout,
}

impl Place {
    /// Reads the path of a folder, or the address `s3://BUCKET/PREFIX` of a bucket.
    ///
    /// # Errors
    /// If it is another URL.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        #[cfg(feature = "seal-bucket")]
        if BucketUrl::is_meant(text) {
            return BucketUrl::parse(text).map(Self::Bucket);
        }
        match text.split_once("://") {
            None if text.is_empty() => Err("it is empty"),
            None => Ok(Self::Folder(PathBuf::from(text))),
            Some(_) if cfg!(feature = "seal-bucket") => {
                Err("it is neither the path of a folder nor s3://BUCKET/PREFIX")
            }
            Some(_) => Err("it is not the path of a folder"),
        }
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
    old_keys: Vec<String>,
    anchors: Vec<Result<Place, &'static str>>,
    folders: Vec<PathBuf>,
    #[cfg(feature = "seal-witness")]
    witnesses: Vec<(String, String)>,
    interval: Option<Duration>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("Seal")
            .field("old_keys", &self.old_keys)
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
            old_keys: Vec::new(),
            anchors: Vec::new(),
            folders: Vec::new(),
            #[cfg(feature = "seal-witness")]
            witnesses: Vec::new(),
            interval: None,
        }
    }

    /// Adds a key with which the log was signed before this one: the verifier key that `tracing-audit key new` printed,
    /// `example.com/trail+52f9a8c1+…`, of the same name. What it has signed is accepted where checkpoints are published, and
    /// the log goes on from there with the new key. It can be left out once each anchor has a checkpoint by the new key.
    ///
    /// Default: none, and a checkpoint by another key is never replaced.
    pub fn old_key(mut self, vkey: impl Into<String>) -> Self {
        self.old_keys.push(vkey.into());
        self
    }

    /// Adds a folder in which checkpoints, tiles and entries are published, as files of C2SP's tlog-tiles. It should be where
    /// neither the database's administrators nor the program can alter files: a mounted share that keeps them for good.
    ///
    /// The folder is made if the one above it is there.
    pub fn anchor_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folders.push(path.into());
        self
    }

    /// Adds a witness (feature `seal-witness`): a server by C2SP's tlog-witness, as `tracing-audit witness` is one, that cosigns
    /// each checkpoint if it is consistent with what it has cosigned before. `url` is the one below which it takes checkpoints;
    /// `vkey` is its verifier key.
    ///
    /// Checkpoints are published with the cosignatures that come within 2 s. A witness that is slow or away delays nothing more.
    /// An `https` URL needs feature `tls-ring` or `tls-aws-lc-rs`.
    #[cfg(feature = "seal-witness")]
    pub fn witness(mut self, url: impl Into<String>, vkey: impl Into<String>) -> Self {
        self.witnesses.push((url.into(), vkey.into()));
        self
    }

    /// Adds an S3-compatible bucket, as `s3://BUCKET/PREFIX`, in which checkpoints, tiles and entries are published. Its Object
    /// Lock with a default retention keeps what is there from everybody, also from whoever has these credentials
    /// (docs/tamper-evidence.md says how it is set up).
    ///
    /// Credentials, region and endpoint are taken from the environment variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` and so on, or from the service of the machine that has them. While the log
    /// grows, a checkpoint is published every 10 s, else once a minute: every request costs. An `https` endpoint, and so
    /// AWS itself, needs feature `tls-ring` or `tls-aws-lc-rs`.
    #[cfg(feature = "seal-bucket")]
    pub fn anchor_bucket(mut self, url: &str) -> Self {
        self.anchors.push(BucketUrl::parse(url).map(Place::Bucket));
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
            let place = anchor.map_err(|why| error("the anchor", why.to_owned()))?;
            anchors.push(place);
        }
        let config = SealConfig::new(Arc::new(key), anchors, self.interval);
        let old_keys = self
            .old_keys
            .iter()
            .map(|key| Vkey::parse(key.trim()).map_err(|source| source.to_string()))
            .collect::<Result<Vec<_>, _>>();
        let config = old_keys
            .and_then(|keys| config.old_keys(keys))
            .map_err(|why| error("the old key", why))?;
        #[cfg(feature = "seal-witness")]
        let config = {
            let witnesses = self.witnesses.iter();
            let witnesses = witnesses.map(|(url, vkey)| Witness::new(url, vkey));
            witnesses
                .collect::<Result<_, _>>()
                .and_then(|witnesses| config.with_witnesses(witnesses))
                .map_err(|why| error("the witness", why))?
        };
        Ok(config)
    }
}

/// The settings of a sealer, checked.
#[derive(Clone, Debug)]
pub struct SealConfig {
    pub(crate) signer: Arc<dyn Signer>,
    old_keys: Vec<Vkey>,
    pub(crate) anchors: Vec<Place>,
    #[cfg(feature = "seal-witness")]
    pub(crate) witnesses: Vec<Witness>,
    pub(crate) interval: Duration,
}

impl SealConfig {
    /// Takes the key, the anchors, and how often to seal.
    pub fn new(signer: Arc<dyn Signer>, anchors: Vec<Place>, interval: Option<Duration>) -> Self {
        let interval = interval.unwrap_or(DEFAULT_INTERVAL);
        Self {
            signer,
            old_keys: Vec::new(),
            anchors,
            #[cfg(feature = "seal-witness")]
            witnesses: Vec::new(),
            interval: interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
        }
    }

    /// Takes the keys with which the log was signed before.
    ///
    /// # Errors
    /// If one of them is not a key of the log.
    pub fn old_keys(mut self, keys: Vec<Vkey>) -> Result<Self, String> {
        let log = self.signer.vkey().name();
        for key in &keys {
            if key.name() != log {
                let name = key.name();
                return Err(format!(
                    "it is of the log {name}, and the new one of {log}: all keys of a log have its name"
                ));
            }
            if key.algorithm() != Algorithm::Ed25519 {
                return Err(String::from("it is the key of a witness, not of a log"));
            }
        }
        self.old_keys = keys;
        Ok(self)
    }

    /// Returns the log's keys: with the first it is signed, with the others it was.
    pub(crate) fn keys(&self) -> Vec<Vkey> {
        let old_keys = self.old_keys.iter().cloned();
        std::iter::once(self.signer.vkey().clone())
            .chain(old_keys)
            .collect()
    }

    /// Adds the witnesses that are asked.
    ///
    /// # Errors
    /// If one has the log's key, or two have the same.
    #[cfg(feature = "seal-witness")]
    pub fn with_witnesses(mut self, witnesses: Vec<Witness>) -> Result<Self, String> {
        // A cosignature does not bind its name.
        let mut keys = vec![self.signer.vkey().public_key()];
        for Witness { vkey, .. } in &witnesses {
            if keys.contains(&vkey.public_key()) {
                return Err(format!(
                    "the key of {} is the log's, or another witness's",
                    vkey.name()
                ));
            }
            keys.push(vkey.public_key());
        }
        self.witnesses = witnesses;
        Ok(self)
    }

    /// Whether any witness is asked.
    #[cfg_attr(
        not(feature = "seal-witness"),
        allow(clippy::unused_self, reason = "witnesses are of it")
    )]
    pub(crate) fn has_witnesses(&self) -> bool {
        #[cfg(feature = "seal-witness")]
        return !self.witnesses.is_empty();
        #[cfg(not(feature = "seal-witness"))]
        false
    }
}

#[cfg(all(test, feature = "seal-bucket"))]
mod tests {
    use super::*;

    #[test]
    fn bucket_is_an_anchor_and_its_address_has_no_credentials() {
        let key = MemoryKey::generate("example.com/trail").unwrap();
        let seal = |url| Seal::new(key.secret_text().as_str()).anchor_bucket(url);
        let config = seal("s3://audit/trail").config().unwrap();
        let url = BucketUrl::parse("s3://audit/trail").unwrap();
        assert_eq!(config.anchors, [Place::Bucket(url)]);
        let wrong = seal("s3://id:password@audit/trail");
        let shown = format!("{wrong:?} {:?}", wrong.clone().config().unwrap_err());
        assert!(shown.contains("AWS_*"), "{shown}");
        assert!(!shown.contains("password"), "{shown}");
    }
}
