//! What `object_store` signs requests with: SHA-256 as the rest of this crate has it, whichever provider TLS uses.

use hmac::{Hmac, KeyInit as _, Mac as _};
use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
};
use object_store::{Error, Result};
use sha2::{Digest as _, Sha256};

/// SHA-256, and HMAC with it. There is nothing in S3 that needs more.
#[derive(Debug)]
pub(super) struct Sha256Provider;

impl CryptoProvider for Sha256Provider {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Hashing::<Sha256>::default())),
            _ => Err(lacking()),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => {
                let state = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| lacking())?;
                let digest = <[u8; 32]>::default();
                Ok(Box::new(Hashing { state, digest }))
            }
            _ => Err(lacking()),
        }
    }

    fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Result<Box<dyn Signer>> {
        Err(lacking())
    }
}

fn lacking() -> Error {
    Error::NotSupported {
        source: "only SHA-256 is there".into(),
    }
}

/// A hash on its way, and what it was when it was finished last.
#[derive(Default)]
struct Hashing<S> {
    state: S,
    digest: [u8; 32],
}

impl DigestContext for Hashing<Sha256> {
    fn update(&mut self, data: &[u8]) {
        self.state.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.digest = self.state.finalize_reset().into();
        Ok(&self.digest)
    }
}

impl HmacContext for Hashing<Hmac<Sha256>> {
    fn update(&mut self, data: &[u8]) {
        self.state.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.digest = self.state.clone().finalize().into_bytes().into();
        Ok(&self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        let mut digest = Sha256Provider.digest(DigestAlgorithm::Sha256).unwrap();
        digest.update(b"a");
        digest.update(b"bc");
        // FIPS 180-2, B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(digest.finish().unwrap()), expected);
        let hmac = Sha256Provider.hmac(DigestAlgorithm::Sha256, b"Jefe");
        let mut hmac = hmac.unwrap();
        hmac.update(b"what do ya want for nothing?");
        // RFC 4231, 4.3.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(hmac.finish().unwrap()), expected);
    }

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }
}
