//! What a witness is asked and keeps, and when it cosigns (<https://c2sp.org/tlog-witness>): the server's side of
//! [`witness`](super::witness).

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256};

use super::checkpoint::{self, Checkpoint, CheckpointError, base64_hash, decimal};
use super::key::Vkey;
use super::note::{MAX_NOTE_BYTES, Note, NoteError};
use super::paths::{self, Head, VerifyError};
use super::tree::{self, Hash};

/// The greatest number of hashes of a request, by the specification.
pub const MAX_HASHES: usize = 63;

/// The greatest size of a request that is read, in bytes: the old size, the hashes and the checkpoint.
pub const MAX_REQUEST_BYTES: usize = 64 + MAX_HASHES * 45 + MAX_NOTE_BYTES;

/// Why bytes are no request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It is larger than [`MAX_REQUEST_BYTES`].
    #[error("the request has {bytes} bytes, more than {MAX_REQUEST_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No empty line stands between the proof and the checkpoint.
    #[error("the request has no empty line before the checkpoint")]
    NoCheckpoint,
    /// The first line is not `old` and a decimal number.
    #[error("the first line is not `old` and the size of a tree")]
    OldSize,
    /// A line of the proof is not the base64 of a hash.
    #[error("line {line} is not the base64 of a SHA-256 hash")]
    Hash {
        /// Which one, from 1.
        line: usize,
    },
    /// The proof has more than [`MAX_HASHES`].
    #[error("the proof has more than {MAX_HASHES} hashes")]
    TooManyHashes,
    /// The rest is no signed note.
    #[error("the checkpoint is not a signed note: {0}")]
    Note(#[source] NoteError),
    /// The note is no checkpoint.
    #[error("{0}")]
    Checkpoint(#[source] CheckpointError),
}

/// The request to cosign a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the tree that the witness cosigned last, as the client has it.
    pub old_size: u64,
    /// What proves that this tree is the beginning of the new one.
    pub path: Vec<Hash>,
    /// The signed checkpoint.
    pub note: Note,
    /// What it states.
    pub checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// Reads the body of a request. No signature is verified.
    ///
    /// # Errors
    /// If it is none, or is larger than what is read.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge { bytes: body.len() });
        }
        let end = body
            .windows(2)
            .position(|two| two == b"\n\n")
            .ok_or(RequestError::NoCheckpoint)?;
        let (head, note) = (&body[..end], &body[end + 2..]);
        let head = std::str::from_utf8(head).map_err(|_| RequestError::OldSize)?;
        let mut lines = head.split('\n');
        let old_size = lines
            .next()
            .and_then(|line| decimal(line.strip_prefix("old ")?))
            .ok_or(RequestError::OldSize)?;
        let mut path = Vec::new();
        for (line, number) in lines.zip(2..) {
            if path.len() == MAX_HASHES {
                return Err(RequestError::TooManyHashes);
            }
            path.push(base64_hash(line).ok_or(RequestError::Hash { line: number })?);
        }
        let note = Note::parse(note).map_err(RequestError::Note)?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(RequestError::Checkpoint)?;
        Ok(Self {
            old_size,
            path,
            note,
            checkpoint,
        })
    }

    /// Decides whether the checkpoint may be cosigned, by a witness that knows this tree of the log and trusts these keys of
    /// its origin. Returns the tree that it knows from then on, which it must keep before it answers.
    ///
    /// # Errors
    /// Why it is not to be cosigned.
    pub fn verify(&self, known: Head, keys: &[Vkey]) -> Result<Head, Refusal> {
        if checkpoint::verify_note(&self.note, keys, &[]).is_err() {
            return Err(Refusal::NotSigned);
        }
        let new = self.checkpoint.head;
        if self.old_size > new.size {
            return Err(Refusal::OldSize);
        }
        if self.old_size != known.size {
            return Err(Refusal::OtherSize { known: known.size });
        }
        if new.size == known.size && new.root != known.root {
            return Err(Refusal::OtherRoot { known: known.size });
        }
        paths::verify_consistency(known, new, &self.path).map_err(Refusal::NotConsistent)?;
        Ok(new)
    }
}

/// Why a checkpoint is not cosigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No known key of the log has signed it.
    #[error("no key of this log that is known here has signed the checkpoint")]
    NotSigned,
    /// The old size is beyond the checkpoint's.
    #[error("the old size is greater than the checkpoint's")]
    OldSize,
    /// The last tree that was cosigned has another size than the client has.
    #[error("the last checkpoint that was cosigned has {known} entries")]
    OtherSize {
        /// Its size.
        known: u64,
    },
    /// Another root was cosigned at this size.
    #[error("another root was cosigned at the size of {known} entries")]
    OtherRoot {
        /// The size.
        known: u64,
    },
    /// The proof does not show that the tree that was cosigned last is the beginning of this one.
    #[error("the proof does not hold: {0}")]
    NotConsistent(#[source] VerifyError),
}

/// What a witness knows of a log of which it has cosigned nothing: the empty tree.
pub fn nothing() -> Head {
    Head {
        size: 0,
        root: tree::root(&[]),
    }
}

/// The first line of what a witness keeps. Frozen, version 1.
const STATE: &str = "tracing-audit witness 1";

/// Why bytes are not what a witness has kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not what a witness wrote about this log, or it is damaged")]
pub struct StateError;

/// Returns the name of the file with what a witness knows of a log.
pub fn state_file(origin: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(origin))
}

/// Writes what a witness knows of a log. Frozen, version 1: `tracing-audit witness 1`, the origin, the size, the root in
/// base64, and the SHA-256 of these four lines in base64, each with a newline.
pub fn encode_state(origin: &str, known: Head) -> String {
    let text = Checkpoint {
        origin: origin.to_owned(),
        head: known,
    }
    .text();
    let lines = format!("{STATE}\n{text}");
    let sum = BASE64.encode(&Sha256::digest(&lines));
    format!("{lines}{sum}\n")
}

/// Reads what a witness knows of a log.
///
/// # Errors
/// If it is damaged, or about another log.
pub fn decode_state(bytes: &[u8], origin: &str) -> Result<Head, StateError> {
    let read = || {
        let text = std::str::from_utf8(bytes).ok()?;
        let (_, rest) = text.split_once('\n')?;
        let lines: Vec<_> = rest.split('\n').collect();
        let [_, size, root, _, ""] = lines[..] else {
            return None;
        };
        Some(Head {
            size: decimal(size)?,
            root: base64_hash(root)?,
        })
    };
    // Byte by byte: the sum is verified with it.
    read()
        .filter(|head| encode_state(origin, *head).as_bytes() == bytes)
        .ok_or(StateError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::checkpoint::{cosign, sign};
    use crate::ledger::key::{MemoryKey, Signer as _};
    use crate::ledger::tree::Subtree;
    use crate::ledger::witness::add_checkpoint_body;
    use proptest::prelude::*;

    const LOG: &str = "example.com/trail";

    fn key(seed: u8) -> MemoryKey {
        MemoryKey::of_seed(LOG, &[seed; 32]).unwrap()
    }

    fn leaves(size: u64, from: u64, salt: u8) -> Vec<Hash> {
        (0..size)
            .map(|at| {
                tree::leaf_hash(
                    &[&at.to_be_bytes()[..], &[if at < from { 0 } else { salt }]].concat(),
                )
            })
            .collect()
    }

    fn head(leaves: &[Hash]) -> Head {
        Head {
            size: leaves.len() as u64,
            root: tree::root(leaves),
        }
    }

    fn note(head: Head, key: &MemoryKey) -> Note {
        let origin = LOG.to_owned();
        sign(&Checkpoint { origin, head }, key, 1).unwrap()
    }

    fn path(leaves: &[Hash], old: u64) -> Vec<Hash> {
        let node = |node: Subtree| {
            let (from, to) = (node.index << node.level, (node.index + 1) << node.level);
            let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
            Ok::<_, std::convert::Infallible>(tree::root(&leaves[range]))
        };
        paths::consistency_path(old, leaves.len() as u64, node).unwrap()
    }

    fn request(old: u64, leaves: &[Hash], key: &MemoryKey) -> AddCheckpoint {
        let body = add_checkpoint_body(old, &path(leaves, old), &note(head(leaves), key));
        AddCheckpoint::parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn request_is_read_as_the_client_writes_it() {
        let leaves = leaves(7, 7, 0);
        let asked = request(3, &leaves, &key(1));
        assert_eq!(asked.old_size, 3);
        assert_eq!(asked.path, path(&leaves, 3));
        assert_eq!(asked.checkpoint.head, head(&leaves));
        assert_eq!(asked.note, note(head(&leaves), &key(1)));
    }

    #[test]
    fn body_that_is_not_written_as_specified_is_refused() {
        let hash = BASE64.encode(&[7; 32]);
        let note = note(nothing(), &key(1)).to_string();
        let parse = |head: &str| AddCheckpoint::parse(format!("{head}{note}").as_bytes());
        assert!(parse("old 0\n\n").is_ok());
        assert!(parse(&format!("old 18446744073709551615\n{hash}\n\n")).is_ok());
        for head in [
            "",
            "\n",
            "\n\n",
            "old\n\n",
            "old \n\n",
            "old 05\n\n",
            "old +5\n\n",
            "old -1\n\n",
            "old 5 \n\n",
            "old  5\n\n",
            "old 5\r\n\n",
            "Old 5\n\n",
            "old 18446744073709551616\n\n",
            "old 5\n",
            "old 5\nAAAA\n\n",
            "size 5\n\n",
            &format!("old 5\n{hash} \n\n"),
            &format!("old 5\n {hash}\n\n"),
            &format!("old 5\n{}\n\n", hash.replace('=', "")),
            &format!("old 5\n{}\n", format!("{hash}\n").repeat(64)),
        ] {
            assert!(parse(head).is_err(), "{head:?}");
        }
        assert!(parse(&format!("old 5\n{}\n", format!("{hash}\n").repeat(63))).is_ok());
        for note in ["", "\n", "a\n1\n\n", "a\n\n\u{2014} a AAAAAAA=\n"] {
            let body = format!("old 0\n\n{note}");
            assert!(AddCheckpoint::parse(body.as_bytes()).is_err(), "{note:?}");
        }
        let large = vec![b'a'; MAX_REQUEST_BYTES + 1];
        assert!(matches!(
            AddCheckpoint::parse(&large),
            Err(RequestError::TooLarge { .. })
        ));
    }

    #[test]
    fn checkpoint_is_cosigned_only_if_a_known_key_signed_it_and_it_follows_what_is_known() {
        let leaves = leaves(9, 9, 0);
        let known = head(&leaves[..4]);
        let keys = [key(1).vkey().clone(), key(2).vkey().clone()];
        for seed in [1, 2] {
            let asked = request(4, &leaves, &key(seed));
            assert_eq!(asked.verify(known, &keys), Ok(head(&leaves)));
        }
        let verify = |asked: AddCheckpoint| asked.verify(known, &keys).unwrap_err();
        assert_eq!(
            verify(request(4, &leaves, &key(3))),
            Refusal::NotSigned,
            "another key of that name"
        );
        let mut cosigned_only = note(head(&leaves), &key(3));
        cosign(&mut cosigned_only, &key(1), 5).unwrap();
        let body = add_checkpoint_body(4, &path(&leaves, 4), &cosigned_only);
        assert_eq!(
            verify(AddCheckpoint::parse(body.as_bytes()).unwrap()),
            Refusal::NotSigned,
            "a cosignature is no signature of the log"
        );
        let mut asked = request(4, &leaves, &key(1));
        asked.old_size = 10;
        assert_eq!(verify(asked), Refusal::OldSize);
        for old in [0, 3, 5, 9] {
            let other = Refusal::OtherSize { known: 4 };
            assert_eq!(verify(request(old, &leaves, &key(1))), other, "{old}");
        }
        assert_eq!(
            request(4, &leaves[..4], &key(1)).verify(known, &keys),
            Ok(known)
        );
        let other = self::leaves(4, 3, 1);
        assert_eq!(
            verify(request(4, &other, &key(1))),
            Refusal::OtherRoot { known: 4 }
        );
        let fork = self::leaves(9, 3, 1);
        assert!(matches!(
            verify(request(4, &fork, &key(1))),
            Refusal::NotConsistent(_)
        ));
        let mut too_much = request(4, &leaves[..4], &key(1));
        too_much.path.push([0; 32]);
        assert!(matches!(verify(too_much), Refusal::NotConsistent(_)));
        let first = request(0, &leaves, &key(1));
        assert_eq!(first.verify(nothing(), &keys), Ok(head(&leaves)));
        let mut with_path = first;
        with_path.path.push([0; 32]);
        assert!(matches!(
            with_path.verify(nothing(), &keys),
            Err(Refusal::NotConsistent(_))
        ));
    }

    #[test]
    fn state_is_written_as_it_is_frozen_and_every_changed_bit_is_seen() {
        let known = head(&leaves(5, 5, 0));
        let text = encode_state(LOG, known);
        assert_eq!(
            text,
            "tracing-audit witness 1\nexample.com/trail\n5\nnTxZKkEM6jdF8CUA0IQxDAL7DfC2hhJwRmI3pQs+h0M=\nazH+ZhZaXnLEnDL7fwNvRtAnS2v2iJ+8l7waN08gxP8=\n"
        );
        assert_eq!(
            state_file(LOG),
            "fc2de77cd696e37b589fe42324e69fb2c6eb100558581644e46aff8d000d3de5"
        );
        assert_eq!(decode_state(text.as_bytes(), LOG), Ok(known));
        assert!(decode_state(text.as_bytes(), "example.com/other").is_err());
        assert!(decode_state(b"", LOG).is_err());
        for at in 0..text.len() {
            assert!(decode_state(&text.as_bytes()[..at], LOG).is_err(), "{at}");
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                assert!(decode_state(&bytes, LOG).is_err(), "{at} {bit}");
            }
        }
    }

    proptest! {
        // Each step signs and verifies.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn no_two_trees_that_differ_are_cosigned(steps in prop::collection::vec((0_u64..12, 0_u64..12, 0_u8..3, any::<bool>()), 1..30)) {
            let keys = [key(1).vkey().clone()];
            let mut known = nothing();
            // What was cosigned last, leaf by leaf.
            let mut tree: Vec<Hash> = Vec::new();
            for (size, from, salt, asks_for_known) in steps {
                let new = leaves(size, from, salt);
                let old = if asks_for_known { known.size } else { from };
                if old > size {
                    continue;
                }
                let is_next = new.starts_with(&tree);
                match request(old, &new, &key(1)).verify(known, &keys) {
                    Ok(head) => {
                        prop_assert!(is_next && old == known.size);
                        (known, tree) = (head, new);
                    }
                    Err(_) => prop_assert!(!is_next || old != known.size),
                }
            }
        }

    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = AddCheckpoint::parse(&bytes);
            let _ = decode_state(&bytes, LOG);
        }
    }
}
