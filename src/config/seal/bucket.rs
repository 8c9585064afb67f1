//! The address of a bucket.

use std::fmt;

/// What begins the address of a bucket.
const SCHEME: &str = "s3://";

/// An S3-compatible bucket, and what the names of all objects in it begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl {
    pub(crate) bucket: String,
    /// Without a slash at its ends; empty: none.
    pub(crate) prefix: String,
}

impl BucketUrl {
    /// Whether a text is meant to be the address of a bucket.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Reads `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// If it is not that. What was given is not repeated: a key may have been put into it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or("a bucket is given as s3://BUCKET/PREFIX")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let in_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(in_bucket) {
            return Err(
                "s3:// is not followed by the name of a bucket (3 to 63 of a-z, 0-9, '-' and '.'); credentials and the endpoint \
                 are taken from the AWS_* environment variables",
            );
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_name = |name: &str| {
            !matches!(name, "" | "." | "..")
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-=".contains(c))
        };
        if !prefix.is_empty() && (prefix.len() > 512 || !prefix.split('/').all(is_name)) {
            return Err(
                "what follows the bucket's name is not a prefix (names of A-Z, a-z, 0-9, '.', '_', '-' and '=', with '/' between \
                 them)",
            );
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// Returns the key of an object.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.prefix)
        }
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{SCHEME}{}{slash}{}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_and_prefix_are_read() {
        for (text, bucket, prefix, key) in [
            ("s3://audit", "audit", "", "checkpoint"),
            ("s3://audit/", "audit", "", "checkpoint"),
            ("s3://a.b-1/x/y=1/", "a.b-1", "x/y=1", "x/y=1/checkpoint"),
        ] {
            let url = BucketUrl::parse(text).unwrap();
            assert_eq!((url.bucket.as_str(), url.prefix.as_str()), (bucket, prefix));
            assert_eq!(url.key("checkpoint"), key);
            assert_eq!(BucketUrl::parse(&url.to_string()).unwrap(), url);
        }
    }

    #[test]
    fn what_is_no_bucket_is_refused_and_not_repeated() {
        for text in [
            "s3://",
            "s3://ab",
            "s3://AKIASECRET:secret@bucket/x",
            "s3://bucket/a//b",
            "s3://bucket/../x",
            "s3://bucket/x?key=secret",
            "https://bucket.s3.amazonaws.com",
        ] {
            let why = BucketUrl::parse(text).unwrap_err();
            assert!(!why.to_lowercase().contains("secret"), "{why}");
        }
    }
}
