//! What is done with a value that a rule names.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The shortest key: what is shorter can be guessed, and with it each value.
pub(super) const KEY_BYTES: usize = 16;

/// How many bytes of an HMAC are kept: enough that two values in a trail never get the same.
const HASH_BYTES: usize = 10;

/// A value with fewer characters is masked whole where the last four would be kept.
const LEAST_CHARS: usize = 8;

/// What is done with a value that a rule of [`Redaction`](super::Redaction) names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Leave the value out: a field is not recorded, a value in JSON becomes `null`, and what a shape
    /// found in a text is cut out of it.
    Drop,
    /// Replace the value by its rule's name: `[email]`. The default.
    #[default]
    Mask,
    /// Keep the last four characters, if there are at least eight: `[card …1111]`.
    KeepLastFour,
    /// Replace the value by an HMAC-SHA256 under the key of [`Redaction::key`](super::Redaction::key):
    /// `[email #8d0c6fe1b0a7724c3a51]`. Equal values have equal hashes, so that rows can still be
    /// joined and counted; without the key nobody can try out which value a hash belongs to.
    Hash,
    /// Keep the length and the SHA-256: `[document, 5120 bytes, sha256 …]`, so that a copy can be
    /// recognised. Who can guess a value can verify the guess: not for passwords, numbers and
    /// addresses.
    Digest,
}

/// The key of [`Action::Hash`].
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Makes a key; `None` if it is too short.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < KEY_BYTES {
            return None;
        }
        Hmac::new_from_slice(bytes).ok().map(Self)
    }
}

/// Returns what stands in the place of a value; empty if it is dropped. A [`Action::Hash`] without a
/// key masks; a program that asks for it without a key does not start.
pub(super) fn replaced(action: Action, name: &str, value: &[u8], key: Option<&Key>) -> String {
    let mut text = match action {
        Action::Drop => return String::new(),
        _ => format!("[{name}"),
    };
    match (action, key) {
        (Action::KeepLastFour, _) => {
            let value = String::from_utf8_lossy(value);
            let chars = value.chars().count();
            if chars >= LEAST_CHARS {
                text.push_str(" …");
                // What would make JSON of a text another one is not kept.
                let last = value.chars().skip(chars - 4);
                text.extend(last.map(|c| if c.is_alphanumeric() { c } else { '_' }));
            }
        }
        (Action::Hash, Some(Key(key))) => {
            let hash = key.clone().chain_update(value).finalize().into_bytes();
            text.push_str(" #");
            push_hex(&mut text, &hash[..HASH_BYTES]);
        }
        (Action::Digest, _) => {
            let _ = write!(text, ", {} bytes, sha256 ", value.len());
            push_hex(&mut text, &Sha256::digest(value));
        }
        (Action::Drop | Action::Mask | Action::Hash, _) => {}
    }
    text.push(']');
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_replaces_a_value_as_it_says() {
        let key = Key::new(b"a key of 32 bytes, for the tests").unwrap();
        let replaced = |action, value: &str| replaced(action, "card", value.as_bytes(), Some(&key));
        assert_eq!(replaced(Action::Drop, "4111111111111111"), "");
        assert_eq!(replaced(Action::Mask, "4111111111111111"), "[card]");
        assert_eq!(
            replaced(Action::KeepLastFour, "4111111111111111"),
            "[card …1111]"
        );
        assert_eq!(replaced(Action::KeepLastFour, "1111"), "[card]");
        assert_eq!(
            replaced(Action::KeepLastFour, "0000000\"\\1ä"),
            "[card …__1ä]"
        );
        let hashes = ["a", "a", "b"].map(|value| replaced(Action::Hash, value));
        assert!(hashes[0] == hashes[1] && hashes[0] != hashes[2]);
        assert_eq!(hashes[0].len(), "[card #]".len() + 2 * HASH_BYTES);
        assert!(replaced(Action::Digest, "abc").starts_with("[card, 3 bytes, sha256 ba7816bf"));
        assert!(Key::new(b"short").is_none());
        assert_eq!(format!("{key:?}"), "Key");
    }
}
