//! The keys of notes: verifier keys, and the key that a log signs with.

use std::error::Error;
use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The greatest length of a key's text that is read, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// What a signature is over. Frozen: the numbers are those of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The text of a note.
    Ed25519 = 0x01,
    /// A checkpoint and the time at which it was seen (<https://c2sp.org/tlog-cosignature>).
    CosignatureV1 = 0x04,
}

/// Why a text is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It is not `name+id+base64`, or not what the kind of key begins with.
    #[error("this is not a key of the form {form}")]
    Form {
        /// The form that was expected.
        form: &'static str,
    },
    /// The name is empty, or has a space or a plus sign.
    #[error(
        "a key's name may be neither empty nor contain a space, a plus sign or a control character"
    )]
    Name,
    /// Its algorithm is not supported.
    #[error("the key's algorithm {0:#04x} is neither Ed25519 (0x01) nor cosignature/v1 (0x04)")]
    Algorithm(u8),
    /// The bytes are no Ed25519 public key, or a weak one.
    #[error("the key is not a valid Ed25519 public key")]
    PublicKey,
    /// The id is that of another key.
    #[error("the key's id does not belong to its name and public key")]
    Id,
    /// The system has no random bytes.
    #[error("the operating system gave no random bytes for the key")]
    Random(#[source] getrandom::Error),
}

/// Whether a key may have this name.
pub(super) fn is_key_name(name: &str) -> bool {
    let is_refused = |char: char| char.is_whitespace() || char == '+' || char < ' ';
    !name.is_empty() && !name.chars().any(is_refused)
}

/// A verifier key: the name, the algorithm and the public key by which signatures are recognized.
#[derive(Clone, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    algorithm: Algorithm,
    key: VerifyingKey,
    id: [u8; 4],
}

impl Vkey {
    /// Makes a key of its parts.
    ///
    /// # Errors
    /// If the name cannot be a key's, or if the bytes are no public key that can be trusted.
    pub fn new(name: &str, algorithm: Algorithm, public_key: &[u8; 32]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name);
        }
        let key = VerifyingKey::from_bytes(public_key).map_err(|_| KeyError::PublicKey)?;
        // With a weak key there are signatures that fit every message.
        if key.is_weak() {
            return Err(KeyError::PublicKey);
        }
        Ok(Self::of(name.to_owned(), algorithm, key))
    }

    fn of(name: String, algorithm: Algorithm, key: VerifyingKey) -> Self {
        let [a, b, c, d, ..] = <[u8; 32]>::from(
            Sha256::new()
                .chain_update(&name)
                .chain_update([b'\n', algorithm as u8])
                .chain_update(key.as_bytes())
                .finalize(),
        );
        Self {
            name,
            algorithm,
            key,
            id: [a, b, c, d],
        }
    }

    /// Reads a key: `name+id+base64`.
    ///
    /// # Errors
    /// If it is not one, or if its parts do not belong to each other.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let form = KeyError::Form {
            form: "name+id+base64",
        };
        let Some((name, id, bytes)) = split(text) else {
            return Err(form);
        };
        let (algorithm, public_key) = match bytes.split_first() {
            Some((0x01, key)) => (Algorithm::Ed25519, key),
            Some((0x04, key)) => (Algorithm::CosignatureV1, key),
            Some((other, _)) => return Err(KeyError::Algorithm(*other)),
            None => return Err(form),
        };
        let public_key = public_key.try_into().map_err(|_| KeyError::PublicKey)?;
        let key = Self::new(name, algorithm, public_key)?;
        if key.id == id {
            Ok(key)
        } else {
            Err(KeyError::Id)
        }
    }

    /// Returns the same public key under the same name for another algorithm.
    #[must_use]
    pub fn with_algorithm(&self, algorithm: Algorithm) -> Self {
        Self::of(self.name.clone(), algorithm, self.key)
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what its signatures are over.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Returns the four bytes that stand before a signature by this key.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Returns what tells it from other keys of its name, as `example.com/trail+52f9a8c1`.
    pub fn name_and_id(&self) -> String {
        format!("{}+{}", self.name, HEXLOWER.encode(&self.id))
    }

    /// Whether these bytes are the key's Ed25519 signature of a message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        // The strict check: all who verify agree on which signatures are valid.
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.algorithm as u8], &self.key.as_bytes()[..]].concat();
        let (id, key) = (HEXLOWER.encode(&self.id), BASE64.encode(&key));
        write!(f, "{}+{id}+{key}", self.name)
    }
}

impl fmt::Debug for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name, the id, and the algorithm with the key.
type KeyParts<'a> = (&'a str, [u8; 4], Zeroizing<Vec<u8>>);

/// Splits `name+id+base64`.
fn split(text: &str) -> Option<KeyParts<'_>> {
    if text.len() > MAX_KEY_BYTES {
        return None;
    }
    let (name, rest) = text.split_once('+')?;
    let (id, base64) = rest.split_once('+')?;
    let id = HEXLOWER.decode(id.as_bytes()).ok()?.try_into().ok()?;
    let bytes = BASE64.decode(base64.as_bytes()).ok()?;
    Some((name, id, Zeroizing::new(bytes)))
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// What holds the key did not sign.
    #[error("the key could not be used")]
    Token(#[source] Box<dyn Error + Send + Sync>),
    /// What holds the key made a signature that its public key does not verify.
    #[error("the signature was made with another key than {name}")]
    WrongKey {
        /// The name of the key that should have signed.
        name: String,
    },
}

/// A key that signs: one in memory, or one that never leaves a token.
pub trait Signer: fmt::Debug + Send + Sync {
    /// Returns the verifier key, for [`Algorithm::Ed25519`].
    fn vkey(&self) -> &Vkey;

    /// Returns the Ed25519 signature of a message.
    ///
    /// # Errors
    /// If the key could not be used.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// Signs, and verifies what was signed: what a token returns is believed no more than what a network does.
pub(super) fn sign_with(signer: &dyn Signer, message: &[u8]) -> Result<[u8; 64], SignError> {
    let signature = signer.sign(message)?;
    if signer.vkey().verify(message, &signature) {
        Ok(signature)
    } else {
        let name = signer.vkey().name().to_owned();
        Err(SignError::WrongKey { name })
    }
}

/// A signing key in memory, which is overwritten when it is dropped.
pub struct MemoryKey {
    vkey: Vkey,
    key: SigningKey,
}

const PRIVATE_FORM: &str = "PRIVATE+KEY+name+id+base64";
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

impl MemoryKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// If the name cannot be a key's, or if the system has no random bytes.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(KeyError::Random)?;
        Self::of_seed(name, &seed)
    }

    pub(super) fn of_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let vkey = Vkey::new(name, Algorithm::Ed25519, key.verifying_key().as_bytes())?;
        Ok(Self { vkey, key })
    }

    /// Reads a key as Go's `golang.org/x/mod/sumdb/note` writes it: `PRIVATE+KEY+name+id+base64`. Whitespace around it is
    /// no part of it.
    ///
    /// # Errors
    /// If it is not one, or if its parts do not belong to each other.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let form = KeyError::Form { form: PRIVATE_FORM };
        let Some((name, id, bytes)) = text.trim().strip_prefix(PRIVATE_PREFIX).and_then(split)
        else {
            return Err(form);
        };
        let seed = match bytes.split_first() {
            Some((0x01, seed)) => seed.try_into().map_err(|_| form)?,
            Some((other, _)) => return Err(KeyError::Algorithm(*other)),
            None => return Err(form),
        };
        let key = Self::of_seed(name, seed)?;
        if key.vkey.id == id {
            Ok(key)
        } else {
            Err(KeyError::Id)
        }
    }

    /// Returns the key's secret text, which [`parse`](Self::parse) reads.
    pub fn secret_text(&self) -> Zeroizing<String> {
        let bytes =
            Zeroizing::new([&[Algorithm::Ed25519 as u8], &self.key.as_bytes()[..]].concat());
        let base64 = Zeroizing::new(BASE64.encode(&bytes));
        let (name, id) = (&self.vkey.name, HEXLOWER.encode(&self.vkey.id));
        let length = PRIVATE_PREFIX.len() + name.len() + id.len() + base64.len() + 2;
        // Whole from the start: a text that grows leaves copies of itself behind.
        let mut text = Zeroizing::new(String::with_capacity(length));
        for part in [PRIVATE_PREFIX, name, "+", &id, "+", &base64] {
            text.push_str(part);
        }
        text
    }
}

impl Signer for MemoryKey {
    fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.key.sign(message).to_bytes())
    }
}

impl fmt::Debug for MemoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryKey").field(&self.vkey).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that the Go package made, with its verifier key (the package's own test).
    const GO_KEY: &str =
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const GO_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn keys_of_go_are_read_and_written() {
        let key = MemoryKey::parse(GO_KEY).unwrap();
        assert_eq!(key.vkey().to_string(), GO_VKEY);
        assert_eq!(*key.secret_text(), GO_KEY);
        assert_eq!(*key.vkey(), Vkey::parse(GO_VKEY).unwrap());
        assert_eq!(
            MemoryKey::parse(&format!(" {GO_KEY}\n")).unwrap().vkey(),
            key.vkey()
        );
    }

    #[test]
    fn secret_is_in_no_debug_output_and_no_error() {
        let key = MemoryKey::parse(GO_KEY).unwrap();
        let secret = &GO_KEY[GO_KEY.len() - 44..];
        assert!(!format!("{key:?}").contains(secret));
        let error = MemoryKey::parse(&GO_KEY.replace("c74f", "c74e")).unwrap_err();
        assert!(matches!(error, KeyError::Id));
        assert!(!format!("{error} {error:?}").contains(secret));
    }

    #[test]
    fn generated_key_signs_and_is_read_again() {
        let key = MemoryKey::generate("example.com/trail").unwrap();
        let read = MemoryKey::parse(&key.secret_text()).unwrap();
        let signature = sign_with(&key, b"message").unwrap();
        assert!(read.vkey().verify(b"message", &signature));
        assert!(!read.vkey().verify(b"massage", &signature));
        assert!(!read.vkey().verify(b"message", &signature[1..]));
        let other = MemoryKey::generate("example.com/trail").unwrap();
        assert!(!other.vkey().verify(b"message", &signature));
        assert_ne!(other.vkey().id(), key.vkey().id());
        for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\0b"] {
            assert!(matches!(MemoryKey::generate(name), Err(KeyError::Name)));
        }
    }

    #[test]
    fn same_public_key_has_another_id_for_cosignatures() {
        let key = Vkey::parse(GO_VKEY).unwrap();
        let cosigner = key.with_algorithm(Algorithm::CosignatureV1);
        assert_ne!(key.id(), cosigner.id());
        assert_eq!(key.public_key(), cosigner.public_key());
        assert_eq!(Vkey::parse(&cosigner.to_string()).unwrap(), cosigner);
    }

    #[test]
    fn malformed_keys_are_refused() {
        let weak = [[1].as_slice(), &[0; 31]].concat();
        assert!(matches!(
            Vkey::new("a", Algorithm::Ed25519, &weak.try_into().unwrap()),
            Err(KeyError::PublicKey)
        ));
        for text in [
            "",
            "+",
            "++",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            &GO_VKEY.to_uppercase(),
            &GO_VKEY.replace("c74f", "c74e"),
            &GO_VKEY.replace("+AR", "+AQ"),
            &GO_VKEY.replace("+AR", "+Bh"),
            &GO_VKEY[..GO_VKEY.len() - 1],
            &format!("{GO_VKEY}\n"),
            &format!("{}{GO_VKEY}", "a".repeat(2000)),
            GO_KEY,
        ] {
            assert!(Vkey::parse(text).is_err(), "{text}");
        }
        for text in ["", GO_VKEY, "PRIVATE+KEY+", "PRIVATE+KEY+a+00000000+AQ=="] {
            assert!(MemoryKey::parse(text).is_err(), "{text}");
        }
    }

    #[derive(Debug)]
    struct WrongToken(Vkey);

    impl Signer for WrongToken {
        fn vkey(&self) -> &Vkey {
            &self.0
        }

        fn sign(&self, _: &[u8]) -> Result<[u8; 64], SignError> {
            Ok([7; 64])
        }
    }

    #[test]
    fn wrong_signature_of_a_token_is_not_passed_on() {
        let token = WrongToken(Vkey::parse(GO_VKEY).unwrap());
        let error = sign_with(&token, b"message").unwrap_err();
        assert!(matches!(error, SignError::WrongKey { .. }));
    }
}
