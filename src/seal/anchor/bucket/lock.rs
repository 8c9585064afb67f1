//! Object Lock: what keeps the versions of objects from being removed, and for how long.
//!
//! Everything here is about **versions**: an object that is overwritten or removed in a bucket with Object Lock gets another
//! version or a marker, and the version that was meant is beneath it, locked as before.

use http::Method;
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Bucket;
use super::client::Answer;
use super::retention::Retained;
pub use super::retention::{DefaultRetention, Mode, Retention};
use super::xml::Element;
use crate::seal::error::{AnchorError, BucketFault};

/// What is escaped in a query, as S3 signs it.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// What servers answer about a version that has no retention or no legal hold.
const NONE: [&str; 3] = [
    "NoSuchObjectLockConfiguration",
    "NoSuchObjectLegalHold",
    "ObjectLockConfigurationNotFoundError",
];

/// A version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The name of the object.
    pub name: String,
    id: String,
    /// Whether it is what is read under that name.
    pub is_latest: bool,
}

impl Bucket {
    /// Retains what is created from now on until then, or as the bucket's default has it where that is longer. Can be said once.
    pub fn retain(&self, retention: Retention, default: DefaultRetention) {
        let _ = self.service.retained.set(Retained::new(retention, default));
    }

    /// Returns how long the bucket retains what is created in it.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses to say it.
    pub async fn default_retention(&self) -> Result<DefaultRetention, AnchorError> {
        let asked = self
            .ask_bucket("object-lock", "s3:GetBucketObjectLockConfiguration")
            .await?;
        Ok(match asked {
            Some(answer) if answer.status.is_success() => DefaultRetention::of(&answer.body),
            Some(answer) if answer.code == "ObjectLockConfigurationNotFoundError" => {
                DefaultRetention::NoLock
            }
            _ => DefaultRetention::Unknown,
        })
    }

    /// Returns whether the bucket keeps the versions of an object; `None`: the server does not say it.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses to say it.
    pub async fn is_versioned(&self) -> Result<Option<bool>, AnchorError> {
        let asked = self
            .ask_bucket("versioning", "s3:GetBucketVersioning")
            .await?;
        let answer = asked.filter(|answer| answer.status.is_success());
        let versioning = answer.and_then(|answer| Element::parse(&answer.body));
        Ok(versioning.map(|versioning| versioning.text_of("Status") == Some("Enabled")))
    }

    /// Returns the versions of all objects whose names begin with `prefix`, without the markers of removed ones.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses to say it.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<Version>, AnchorError> {
        let whole = self.url.key(prefix);
        let above = self.url.key("");
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let query = format!("prefix={}{after}&versions=", escaped(&whole));
            let right = "s3:ListBucketVersions";
            let asking = self.ask(&Method::GET, "", &query, "", right);
            let unreadable = || self.error("", BucketFault::Unreadable);
            let answer = asking.await?;
            self.expect("", &answer)?;
            let page = Element::parse(&answer.body).ok_or_else(unreadable)?;
            for version in page.children() {
                if !version.is("Version") {
                    continue;
                }
                let key = version.text_of("Key").ok_or_else(unreadable)?;
                let id = version.text_of("VersionId").ok_or_else(unreadable)?;
                if let Some(name) = key.strip_prefix(&above) {
                    found.push(Version {
                        name: name.to_owned(),
                        id: id.to_owned(),
                        is_latest: version.text_of("IsLatest") == Some("true"),
                    });
                }
            }
            if page.text_of("IsTruncated") != Some("true") {
                return Ok(found);
            }
            let key = page.text_of("NextKeyMarker").ok_or_else(unreadable)?;
            let next = format!("&key-marker={}", escaped(key));
            let id = page.text_of("NextVersionIdMarker").unwrap_or_default();
            let next = match id {
                "" => next,
                id => format!("{next}&version-id-marker={}", escaped(id)),
            };
            // The parameters are signed in the order of their names.
            after = next;
        }
    }

    /// Returns until when a version is retained.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses to say it.
    pub async fn retention(&self, version: &Version) -> Result<Option<Retention>, AnchorError> {
        let asking = self.ask_version(
            &Method::GET,
            version,
            "retention",
            "",
            "s3:GetObjectRetention",
        );
        let Some(answer) = unless_without(asking.await)? else {
            return Ok(None);
        };
        if NONE.contains(&answer.code.as_str()) {
            return Ok(None);
        }
        self.expect(&version.name, &answer)?;
        match Element::parse(&answer.body).and_then(|document| Retention::of(&document)) {
            Some(retention) => Ok(Some(retention)),
            None => Err(self.error(&version.name, BucketFault::Unreadable)),
        }
    }

    /// Retains a version until then; the server refuses to retain it for a shorter time than it is.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses.
    pub async fn set_retention(
        &self,
        version: &Version,
        retention: &Retention,
    ) -> Result<(), AnchorError> {
        let body = format!(
            "<Retention xmlns=\"{NAMESPACE}\"><Mode>{}</Mode><RetainUntilDate>{}</RetainUntilDate></Retention>",
            retention.mode.word(),
            retention.until_text(),
        );
        let right = "s3:PutObjectRetention";
        let asking = self.ask_version(&Method::PUT, version, "retention", &body, right);
        self.expect(&version.name, &asking.await?)
    }

    /// Returns whether a version has a legal hold, which has no end of its own.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses to say it.
    pub async fn has_legal_hold(&self, version: &Version) -> Result<bool, AnchorError> {
        let right = "s3:GetObjectLegalHold";
        let asking = self.ask_version(&Method::GET, version, "legal-hold", "", right);
        let Some(answer) = unless_without(asking.await)? else {
            return Ok(false);
        };
        if NONE.contains(&answer.code.as_str()) {
            return Ok(false);
        }
        self.expect(&version.name, &answer)?;
        match Element::parse(&answer.body)
            .and_then(|hold| hold.text_of("Status").map(str::to_owned))
        {
            Some(status) => Ok(status == "ON"),
            None => Err(self.error(&version.name, BucketFault::Unreadable)),
        }
    }

    /// Sets or lifts the legal hold of a version.
    ///
    /// # Errors
    /// If the bucket does not answer, or refuses.
    pub async fn set_legal_hold(&self, version: &Version, is_on: bool) -> Result<(), AnchorError> {
        let status = if is_on { "ON" } else { "OFF" };
        let body =
            format!("<LegalHold xmlns=\"{NAMESPACE}\"><Status>{status}</Status></LegalHold>");
        let right = "s3:PutObjectLegalHold";
        let asking = self.ask_version(&Method::PUT, version, "legal-hold", &body, right);
        self.expect(&version.name, &asking.await?)
    }

    /// Asks for a setting of the bucket; `None`: the server does not know it.
    async fn ask_bucket(
        &self,
        query: &str,
        right: &'static str,
    ) -> Result<Option<Answer>, AnchorError> {
        let query = format!("{query}=");
        match self.ask(&Method::GET, "", &query, "", right).await {
            Ok(answer) => Ok(Some(answer)),
            Err(AnchorError::Bucket {
                why:
                    BucketFault::Refused {
                        status: 400 | 405 | 501,
                        ..
                    },
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ask_version(
        &self,
        method: &Method,
        version: &Version,
        about: &str,
        body: &str,
        right: &'static str,
    ) -> Result<Answer, AnchorError> {
        let query = format!("{about}=&versionId={}", escaped(&version.id));
        self.ask(method, &version.name, &query, body, right).await
    }

    /// Asks for something about an object, or about the bucket if there is no name.
    async fn ask(
        &self,
        method: &Method,
        name: &str,
        query: &str,
        body: &str,
        right: &'static str,
    ) -> Result<Answer, AnchorError> {
        let asking = async {
            let path = match name {
                "" => Path::default(),
                name => self.path(name),
            };
            let answer = self
                .service
                .client(&self.url)?
                .send(method, &path, query, body)
                .await;
            answer.map_err(|fault| with_right(fault, right))
        };
        self.within(name, 0, asking).await
    }

    /// Returns an error unless the server has done what it was asked for.
    fn expect(&self, name: &str, answer: &Answer) -> Result<(), AnchorError> {
        if answer.status.is_success() {
            return Ok(());
        }
        let refused = BucketFault::Refused {
            cloud: self.url.cloud,
            host: answer.host.clone(),
            status: answer.status.as_u16(),
            code: answer.code.clone(),
            region: None,
        };
        Err(self.error(name, refused))
    }
}

/// Returns what a server answered, unless the bucket has no Object Lock at all.
fn unless_without(answer: Result<Answer, AnchorError>) -> Result<Option<Answer>, AnchorError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(AnchorError::Bucket {
            why: BucketFault::Refused {
                status: 400, code, ..
            },
            ..
        }) if code == "InvalidRequest" => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says which right is lacking, if that is it.
fn with_right(fault: BucketFault, right: &'static str) -> BucketFault {
    match fault {
        BucketFault::Refused {
            host,
            status: status @ (401 | 403),
            code,
            ..
        } if code == "AccessDenied" || code.is_empty() => BucketFault::NoRight {
            host,
            status,
            code,
            right,
        },
        fault => fault,
    }
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, IN_QUERY).to_string()
}
