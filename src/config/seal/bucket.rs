//! The address of a bucket.

use std::fmt;

/// A service that keeps objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// S3, of whomever.
    S3,
    /// Azure Blob Storage, whose buckets are called containers.
    Azure,
}

impl Cloud {
    /// Returns what begins the address of a bucket.
    const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Azure => "az://",
        }
    }

    /// Returns which environment variables say how it is reached.
    pub(crate) const fn variables(self) -> &'static str {
        match self {
            Self::S3 => "AWS_*",
            Self::Azure => "AZURE_*",
        }
    }
}

/// A bucket, and what the names of all objects in it begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl {
    pub(crate) cloud: Cloud,
    pub(crate) bucket: String,
    /// Without a slash at its ends; empty: none.
    pub(crate) prefix: String,
}

impl BucketUrl {
    /// Whether a text is meant to be the address of an S3-compatible bucket.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(Cloud::S3.scheme())
    }

    /// Whether a text is meant to be the address of a container in Azure.
    #[cfg(feature = "__azure")]
    pub fn is_meant_in_azure(text: &str) -> bool {
        text.starts_with(Cloud::Azure.scheme())
    }

    /// Reads `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// If it is not that. What was given is not repeated: a key may have been put into it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text
            .strip_prefix(Cloud::S3.scheme())
            .ok_or("a bucket is given as s3://BUCKET/PREFIX")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let in_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(in_bucket) {
            return Err(
                "s3:// is not followed by the name of a bucket (3 to 63 of a-z, 0-9, '-' and '.'); credentials and the endpoint \
                 are taken from the AWS_* environment variables",
            );
        }
        Self::at(Cloud::S3, bucket, prefix)
    }

    /// Reads `az://CONTAINER` or `az://CONTAINER/PREFIX`.
    ///
    /// # Errors
    /// If it is not that. What was given is not repeated: a key may have been put into it.
    #[cfg(feature = "__azure")]
    pub fn parse_in_azure(text: &str) -> Result<Self, &'static str> {
        let rest = text
            .strip_prefix(Cloud::Azure.scheme())
            .ok_or("a container is given as az://CONTAINER/PREFIX")?;
        let (container, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(3..=63).contains(&container.len()) || !container.chars().all(in_name) {
            return Err(
                "az:// is not followed by the name of a container (3 to 63 of a-z, 0-9 and '-'); the account and its credentials are \
                 taken from the AZURE_* environment variables",
            );
        }
        Self::at(Cloud::Azure, container, prefix)
    }

    fn at(cloud: Cloud, bucket: &str, prefix: &str) -> Result<Self, &'static str> {
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
            cloud,
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
        let scheme = self.cloud.scheme();
        write!(f, "{scheme}{}{slash}{}", self.bucket, self.prefix)
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

    #[cfg(feature = "__azure")]
    #[test]
    fn container_of_azure_is_read_and_a_key_in_it_is_not_repeated() {
        let url = BucketUrl::parse_in_azure("az://audit-1/x/y=1/").unwrap();
        assert_eq!(url.to_string(), "az://audit-1/x/y=1");
        assert_eq!(url.key("checkpoint"), "x/y=1/checkpoint");
        for text in [
            "az://ab",
            "az://a.b.c",
            "az://account:secret@audit/x",
            "az://audit?sig=secret",
            "az://audit/x?sig=secret",
            "s3://audit/secret",
        ] {
            let why = BucketUrl::parse_in_azure(text).unwrap_err();
            assert!(!why.to_lowercase().contains("secret"), "{why}");
        }
    }
}
