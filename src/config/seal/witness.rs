//! The witnesses that a sealer asks.

use http::Uri;

use crate::ledger::key::{Algorithm, Vkey};
use crate::ledger::witness::ADD_CHECKPOINT;

/// A witness, as it is named in settings.
#[derive(Clone, Debug)]
pub struct Witness {
    /// Where checkpoints are sent.
    pub(crate) url: Uri,
    /// Whose cosignatures are believed.
    pub(crate) vkey: Vkey,
}

impl Witness {
    /// Takes the URL below which the witness takes checkpoints, and its verifier key.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn new(url: &str, vkey: &str) -> Result<Self, String> {
        let vkey = Vkey::parse(vkey.trim())
            .map_err(|error| format!("the witness's verifier key: {error}"))?;
        if vkey.algorithm() != Algorithm::CosignatureV1 {
            return Err(format!(
                "the key of {} is a log's, not a witness's: take the one that `tracing-audit witness` prints",
                vkey.name()
            ));
        }
        let wrong = "the witness's URL is not of the form https://HOST/PATH";
        let whole: Uri = url.parse().map_err(|_| wrong.to_owned())?;
        let is_plain = whole.host().is_some_and(|host| !host.is_empty())
            && whole.query().is_none()
            && !url.contains(['@', '#']);
        match whole.scheme_str() {
            Some("http") if is_plain => {}
            Some("https") if is_plain => needs_tls()?,
            _ => return Err(wrong.to_owned()),
        }
        let url = format!("{}/{ADD_CHECKPOINT}", url.trim_end_matches('/'));
        let url = url.parse().map_err(|_| wrong.to_owned())?;
        Ok(Self { url, vkey })
    }

    /// Takes `URL=VKEY`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((url, vkey)) => Self::new(url, vkey),
            None => Err(String::from("it is not of the form URL=VKEY")),
        }
    }
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
#[allow(clippy::unnecessary_wraps, reason = "the other one fails")]
fn needs_tls() -> Result<(), String> {
    Ok(())
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
fn needs_tls() -> Result<(), String> {
    Err(String::from(crate::https::LACKING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::key::{MemoryKey, Signer as _};

    #[test]
    fn witness_is_a_url_and_a_key_for_cosignatures() {
        let key = MemoryKey::generate("witness.example/w1").unwrap();
        let vkey = key.vkey().with_algorithm(Algorithm::CosignatureV1);
        for (url, expected) in [
            (
                "http://127.0.0.1:7380",
                "http://127.0.0.1:7380/add-checkpoint",
            ),
            ("http://w.example/", "http://w.example/add-checkpoint"),
            (
                "http://w.example/a/b/",
                "http://w.example/a/b/add-checkpoint",
            ),
        ] {
            let witness = Witness::parse(&format!("{url}={vkey}")).unwrap();
            assert_eq!(witness.url.to_string(), expected);
            assert_eq!(witness.vkey, vkey);
        }
        for url in [
            "",
            "w.example",
            "/path",
            "ftp://w.example",
            "http://",
            "http://user@w.example",
            "http://w.example/#a",
        ] {
            assert!(Witness::parse(&format!("{url}={vkey}")).is_err(), "{url}");
        }
        assert!(Witness::new("http://w.example/?a", &vkey.to_string()).is_err());
        let error = Witness::parse(&format!("http://w.example={}", key.vkey())).unwrap_err();
        assert!(error.contains("a log's"), "{error}");
        assert!(Witness::parse("http://w.example").is_err());
        let is_tls = cfg!(any(feature = "tls-ring", feature = "tls-aws-lc-rs"));
        let secure = Witness::parse(&format!("https://w.example={vkey}"));
        assert_eq!(secure.is_ok(), is_tls, "{secure:?}");
    }
}
