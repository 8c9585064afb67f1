//! Why the trail is not sealed, or not published.

use std::io;
use std::path::PathBuf;

#[cfg(feature = "seal-bucket")]
use crate::config::seal::bucket::Cloud;
use crate::database::Unreachable;
use crate::ledger::checkpoint::CheckpointError;
use crate::ledger::tiles::TileError;

/// Why nothing is sealed or signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// No server accepts a connection.
    #[error("cannot reach Postgres at {place}: {}", .why.cause())]
    Unreachable {
        /// Where it is.
        place: String,
        /// The cause.
        why: Unreachable,
    },
    /// The server did not answer.
    #[error("Postgres at {place} did not answer within {seconds} s")]
    NoAnswer {
        /// Where it is.
        place: String,
        /// How long it had.
        seconds: u64,
    },
    /// The server refused, or the connection broke.
    #[error("Postgres at {place}: {source}{advice}")]
    Database {
        /// Where it is.
        place: String,
        /// The error.
        source: sqlx::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The ledger does not have the rows of a log of its size.
    #[error(
        "the ledger at {place} is damaged: hashes of its first {size} entries are missing. Nothing is signed. Run \
         `tracing-audit verify`, and restore the database from a backup"
    )]
    Damaged {
        /// Where it is.
        place: String,
        /// The size of the log.
        size: u64,
    },
    /// A checkpoint was signed that is newer than the database.
    #[error(
        "the ledger at {place} has {size} entries, but {signed_by} has a signed checkpoint of {signed}: the database was \
         restored to an earlier state, or is another one. Nothing is signed. Restore the newer state; or, if that is lost, keep \
         the old anchors as they are and seal with a new key to new anchors"
    )]
    Behind {
        /// Where the database is.
        place: String,
        /// The size of its log.
        size: u64,
        /// Who has the checkpoint.
        signed_by: String,
        /// The size of the log in the checkpoint.
        signed: u64,
    },
    /// A checkpoint was signed for other entries.
    #[error(
        "the first {size} entries of the ledger at {place} are not those of the signed checkpoint of {signed_by}: the ledger was \
         altered, or the database was restored to an earlier state and written to since. Nothing is signed. Run `tracing-audit verify`, \
         and restore the state that was signed; or, if that is lost, keep the old anchors as they are and seal with a new key to new anchors"
    )]
    Fork {
        /// Where the database is.
        place: String,
        /// The size of the log in the checkpoint.
        size: u64,
        /// Who has the checkpoint.
        signed_by: String,
    },
    /// The key did not sign.
    #[error("the checkpoint was not signed: {}", crate::error::causes(.0))]
    Sign(#[from] CheckpointError),
    /// The system's clock is before 1970.
    #[error("the checkpoint was not signed: the system's clock is before 1970. Set it")]
    Clock,
}

impl SealError {
    /// Whether the database's log is not the one that was signed.
    pub fn is_disagreement(&self) -> bool {
        matches!(
            self,
            Self::Behind { .. } | Self::Fork { .. } | Self::Damaged { .. }
        )
    }
}

/// Why nothing is published at an anchor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A bucket does not answer, or refuses.
    #[cfg(feature = "seal-bucket")]
    #[error("{object}: {why}")]
    Bucket {
        /// The object.
        object: String,
        /// Why. It has no source: what a server says of a request may hold its signature.
        why: BucketFault,
    },
    /// Another process has published a checkpoint since this one began.
    #[error("another sealer keeps publishing there")]
    Overtaken,
    /// Standard output does not take the checkpoint.
    #[error("standard output: {0}")]
    Stdout(#[source] io::Error),
    /// Another process is publishing.
    #[error("another sealer has been publishing there for {seconds} s")]
    Busy {
        /// How long this one waited.
        seconds: u64,
    },
    /// Something else is there already.
    #[error(
        "{path} is there already, and is not what the log has: nothing is overwritten. Find out who wrote it, and move it away; or \
         name another anchor"
    )]
    Differs {
        /// The file or object.
        path: String,
    },
    /// The checkpoint that is there cannot be trusted.
    #[error(
        "{path} is not a checkpoint by this key ({}): nothing is published. If the log had another key before, name that as an old \
         key; else name another anchor, or move away what is there",
        crate::error::causes(.source)
    )]
    Checkpoint {
        /// The file or object.
        path: String,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// The database does not have a batch's row any more.
    #[error(
        "entry {index} of the log cannot be published: the row of its batch was removed or altered. Run `tracing-audit verify`"
    )]
    Entry {
        /// The index of the entry.
        index: u64,
    },
    /// The rows of the ledger have another root than was signed.
    #[error(
        "the ledger's rows are not those of the checkpoint of {size} entries: nothing is published. Run `tracing-audit verify`"
    )]
    Root {
        /// The size of the log in the checkpoint.
        size: u64,
    },
    /// An entry is too large to be published.
    #[error("a tile cannot be written")]
    Tile(#[from] TileError),
    /// The program ends.
    #[error("the program ends")]
    Stopped,
    /// The database cannot be read, or disagrees with the anchor.
    #[error("{0}")]
    Ledger(#[from] SealError),
}

/// Why a bucket does not do what it is asked for. It holds no credentials, and no text of a server but one word.
#[cfg(feature = "seal-bucket")]
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketFault {
    /// The environment variables do not name a bucket that can be reached.
    #[error("the {} environment variables do not say how to reach it: {why}", .cloud.variables())]
    Settings {
        /// The service.
        cloud: Cloud,
        /// What is wrong.
        why: String,
    },
    /// There is no connection, or it broke.
    #[error("cannot reach {host}: {why}{}", without_credentials(*.cloud, .host))]
    Unreachable {
        /// The service.
        cloud: Cloud,
        /// The host, and the port if there is one.
        host: String,
        /// The cause.
        why: String,
    },
    /// There was no answer in time.
    #[error("{host} did not answer within {seconds} s{}", without_credentials(*.cloud, .host))]
    NoAnswer {
        /// The service.
        cloud: Cloud,
        /// The host, and the port if there is one.
        host: String,
        /// How long it had.
        seconds: u64,
    },
    /// The server refused.
    #[error("{host} answered {status} {code}{}", advice(*.cloud, .host, *.status, .code, .region.as_deref()))]
    Refused {
        /// The service.
        cloud: Cloud,
        /// The host, and the port if there is one.
        host: String,
        /// The status of the answer.
        status: u16,
        /// The error code in the answer; may be empty.
        code: String,
        /// The region that the answer names.
        region: Option<String>,
    },
    /// The server writes what it was to write on a condition only.
    #[error(
        "the server does not heed If-None-Match and If-Match, so what is there could be overwritten: nothing is published. Name a \
         bucket of another server"
    )]
    Unconditional,
    /// The answer is not what a bucket answers.
    #[error("the answer of the server cannot be read")]
    Unreadable,
    /// An object is larger than anything that is written there.
    #[error("it has more than the {most} bytes that it may have")]
    TooLarge {
        /// How many it may have.
        most: u64,
    },
    /// The credentials may not do what has to do with locks.
    #[error("{host} answered {status} {code}: the credentials need the right {right}")]
    NoRight {
        /// The host, and the port if there is one.
        host: String,
        /// The status of the answer.
        status: u16,
        /// The error code in the answer; may be empty.
        code: String,
        /// The right.
        right: &'static str,
    },
}

/// Says why a machine's own service for credentials is asked.
#[cfg(feature = "seal-bucket")]
fn without_credentials(cloud: Cloud, host: &str) -> &'static str {
    match cloud {
        _ if !host.starts_with("169.254.") => "",
        Cloud::S3 => {
            ", which would have credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"
        }
        Cloud::Azure => {
            ", which would have credentials: neither AZURE_STORAGE_ACCOUNT_KEY nor AZURE_STORAGE_SAS_TOKEN nor AZURE_CLIENT_SECRET \
             is set"
        }
    }
}

/// Returns what to do about a refusal.
#[cfg(feature = "seal-bucket")]
fn advice(cloud: Cloud, host: &str, status: u16, code: &str, region: Option<&str>) -> String {
    match cloud {
        Cloud::S3 => advice_of_s3(status, code, region),
        Cloud::Azure => advice_of_azure(host, status, code),
    }
}

#[cfg(feature = "seal-bucket")]
fn advice_of_azure(host: &str, status: u16, code: &str) -> String {
    let advice = match (code, status) {
        _ if host.starts_with("login.") => {
            "it gives no token: check AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID"
        }
        (
            "AuthenticationFailed"
            | "AuthorizationFailure"
            | "InvalidAuthenticationInfo"
            | "NoAuthenticationInformation",
            _,
        ) => {
            "it does not accept the credentials, or not from here: check AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY or \
             AZURE_STORAGE_SAS_TOKEN, the account's network rules, and this machine's clock"
        }
        ("ContainerNotFound", _) => {
            "create the container, with a time-based retention policy, or check AZURE_STORAGE_ACCOUNT_NAME"
        }
        (_, 401 | 403) => {
            "the credentials need the role Storage Blob Data Contributor on the container, or a SAS token with the permissions to read, \
             create, write and list"
        }
        _ => return String::new(),
    };
    format!(": {advice}")
}

#[cfg(feature = "seal-bucket")]
fn advice_of_s3(status: u16, code: &str, region: Option<&str>) -> String {
    let advice = match (code, status) {
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken", _) => {
            "it does not accept the credentials: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
        }
        ("RequestTimeTooSkewed", _) => "set this machine's clock",
        ("NoSuchBucket", _) => {
            "create the bucket, with Object Lock and a default retention, or check AWS_ENDPOINT_URL and AWS_REGION"
        }
        (_, 301 | 307) | ("AuthorizationHeaderMalformed", _) => match region {
            Some(region) => return format!(": set AWS_REGION={region}"),
            None => "the bucket is in another region: set AWS_REGION",
        },
        (_, 401 | 403) => {
            "the credentials need the rights s3:GetObject and s3:PutObject below the prefix, and s3:ListBucket on the bucket"
        }
        _ => return String::new(),
    };
    format!(": {advice}")
}
