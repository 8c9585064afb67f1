//! Checkpoints: what a log signs about its tree (<https://c2sp.org/tlog-checkpoint>), and the cosignatures that state when
//! it was seen (<https://c2sp.org/tlog-cosignature>).

use std::slice;

use data_encoding::BASE64;

use super::key::{self, Algorithm, SignError, Signer, Vkey};
use super::note::{self, Note, NoteError, NoteSignature};
use super::paths::Head;
use super::tree::Hash;

/// A time in seconds since 1970-01-01 UTC.
pub type UnixSeconds = u64;

/// The latest time that a cosignature may state.
const LAST_TIME: UnixSeconds = i64::MAX.unsigned_abs();

/// Why a checkpoint is none, or is not signed as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It is no signed note.
    #[error("the checkpoint is not a signed note")]
    Note(#[from] NoteError),
    /// The text has fewer than three lines, or an empty one.
    #[error("the checkpoint's text is not at least three lines, none of them empty")]
    Lines,
    /// The size is not a decimal number without leading zeros.
    #[error("the checkpoint's size is not a decimal number")]
    Size,
    /// The root is not the base64 of 32 bytes.
    #[error("the checkpoint's root is not the base64 of a SHA-256 hash")]
    Root,
    /// It is another log's.
    #[error("the checkpoint is of another log than {expected}")]
    Origin {
        /// The log that was expected.
        expected: String,
    },
    /// A key is for another algorithm than it is used for.
    #[error("the key {name} is not for the algorithm that it is used with")]
    KeyAlgorithm {
        /// Its name.
        name: String,
    },
    /// A witness has the log's own key.
    #[error("the witness {name} has the log's own key")]
    WitnessIsLog {
        /// The name of the witness.
        name: String,
    },
    /// The log did not sign it.
    #[error("the checkpoint has no signature by the key {keys}")]
    NotSigned {
        /// The names and ids of the log's keys.
        keys: String,
    },
    /// A signature that is said to be by a known key is not.
    #[error("the checkpoint has an invalid signature under the name {name}")]
    WrongSignature {
        /// The name of the key.
        name: String,
    },
    /// The time cannot be stated.
    #[error("the time of a cosignature is out of range")]
    Time,
    /// The key did not sign.
    #[error("the checkpoint could not be signed")]
    Sign(#[from] SignError),
}

/// What a log states about its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name of its key.
    pub origin: String,
    /// The tree.
    pub head: Head,
}

impl Checkpoint {
    /// Reads the text of a checkpoint. Lines after the first three are signed with them, and mean nothing here.
    ///
    /// # Errors
    /// If it is not one.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        if text.split('\n').any(str::is_empty) {
            return Err(CheckpointError::Lines);
        }
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Lines);
        };
        Ok(Self {
            origin: origin.to_owned(),
            head: Head {
                size: decimal(size).ok_or(CheckpointError::Size)?,
                root: base64_hash(root).ok_or(CheckpointError::Root)?,
            },
        })
    }

    /// Returns the text that is signed.
    pub fn text(&self) -> String {
        let Head { size, root } = self.head;
        format!("{}\n{size}\n{}\n", self.origin, BASE64.encode(&root))
    }
}

/// Reads a decimal number without leading zeros.
pub(super) fn decimal(digits: &str) -> Option<u64> {
    let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_decimal || (digits.starts_with('0') && digits != "0") {
        return None;
    }
    digits.parse().ok()
}

/// Reads a hash in base64.
pub(super) fn base64_hash(base64: &str) -> Option<Hash> {
    // Decoded only if it has the length of one.
    if base64.len() != BASE64.encode_len(size_of::<Hash>()) {
        return None;
    }
    BASE64.decode(base64.as_bytes()).ok()?.try_into().ok()
}

/// Signs a checkpoint as the log, and cosigns it with the same key, so that it tells how old it is.
///
/// # Errors
/// If the checkpoint is not of the log whose key this is, or if the key does not sign.
pub fn sign(
    checkpoint: &Checkpoint,
    signer: &dyn Signer,
    time: UnixSeconds,
) -> Result<Note, CheckpointError> {
    let key = signer.vkey();
    expect_algorithm(key, Algorithm::Ed25519)?;
    if checkpoint.origin != key.name() {
        let expected = key.name().to_owned();
        return Err(CheckpointError::Origin { expected });
    }
    let mut note = Note::unsigned(checkpoint.text())?;
    let signature = key::sign_with(signer, note.text().as_bytes())?;
    note.add(NoteSignature::new(key, signature.to_vec()));
    cosign(&mut note, signer, time)?;
    Ok(note)
}

/// Adds a cosignature: that the signer saw this checkpoint at that time, and none that contradicts it.
///
/// # Errors
/// If the note is no checkpoint, if the time cannot be stated, or if the key does not sign.
pub fn cosign(
    note: &mut Note,
    signer: &dyn Signer,
    time: UnixSeconds,
) -> Result<(), CheckpointError> {
    Checkpoint::parse(note.text())?;
    if time > LAST_TIME {
        return Err(CheckpointError::Time);
    }
    let signature = key::sign_with(signer, &cosigned_message(time, note.text()))?;
    let bytes = [&time.to_be_bytes()[..], &signature].concat();
    let key = signer.vkey().with_algorithm(Algorithm::CosignatureV1);
    note.add(NoteSignature::new(&key, bytes));
    Ok(())
}

fn cosigned_message(time: UnixSeconds, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

fn expect_algorithm(key: &Vkey, algorithm: Algorithm) -> Result<(), CheckpointError> {
    if key.algorithm() == algorithm {
        Ok(())
    } else {
        let name = key.name().to_owned();
        Err(CheckpointError::KeyAlgorithm { name })
    }
}

/// A checkpoint whose signatures hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the log states.
    pub checkpoint: Checkpoint,
    /// Which key of the log signed it: the first, of those that were given.
    pub key: Vkey,
    /// When the log signed it, if it says so: the latest time of that key's own cosignatures.
    pub signed_at: Option<UnixSeconds>,
    /// The witnesses that saw it, each once.
    pub cosignatures: Vec<Cosignature>,
}

/// That a witness saw a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// The key of the witness.
    pub witness: Vkey,
    /// When it saw the checkpoint: the latest time, if it said so several times.
    pub time: UnixSeconds,
}

/// Verifies a signed checkpoint: the log's signature, and those of witnesses whose keys are known. Signatures by other keys
/// are ignored.
///
/// # Errors
/// If it is not a checkpoint of the log, if the log did not sign it, or if any signature under a known key is invalid.
pub fn verify(bytes: &[u8], log: &Vkey, witnesses: &[Vkey]) -> Result<Verified, CheckpointError> {
    verify_note(&Note::parse(bytes)?, slice::from_ref(log), witnesses)
}

/// Verifies a checkpoint that is read already, as [`verify`] does, of a log that had several keys one after the other: one
/// of them must have signed. All have the name of the log.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_note(
    note: &Note,
    log: &[Vkey],
    witnesses: &[Vkey],
) -> Result<Verified, CheckpointError> {
    let checkpoint = Checkpoint::parse(note.text())?;
    let mut signed = None;
    for key in log {
        expect_algorithm(key, Algorithm::Ed25519)?;
        if checkpoint.origin != key.name() {
            let expected = key.name().to_owned();
            return Err(CheckpointError::Origin { expected });
        }
        let mut lines = note.signatures().iter().filter(|line| line.is_by(key));
        let is_signed = lines.clone().next().is_some();
        if !lines.all(|line| key.verify(note.text().as_bytes(), line.bytes())) {
            let name = key.name().to_owned();
            return Err(CheckpointError::WrongSignature { name });
        }
        let signed_at = cosigned_at(note, &key.with_algorithm(Algorithm::CosignatureV1))?;
        signed = signed.or_else(|| is_signed.then(|| (key.clone(), signed_at)));
    }
    let Some((key, signed_at)) = signed else {
        let keys: Vec<_> = log.iter().map(Vkey::name_and_id).collect();
        let keys = keys.join(", nor by ");
        return Err(CheckpointError::NotSigned { keys });
    };
    Ok(Verified {
        checkpoint,
        key,
        signed_at,
        cosignatures: cosignatures(note, log, witnesses)?,
    })
}

fn cosignatures(
    note: &Note,
    log: &[Vkey],
    witnesses: &[Vkey],
) -> Result<Vec<Cosignature>, CheckpointError> {
    let is_log = |witness: &Vkey| {
        let mut keys = log.iter();
        keys.any(|key| key.public_key() == witness.public_key())
    };
    let mut found: Vec<Cosignature> = Vec::new();
    for witness in witnesses {
        expect_algorithm(witness, Algorithm::CosignatureV1)?;
        if is_log(witness) {
            let name = witness.name().to_owned();
            return Err(CheckpointError::WitnessIsLog { name });
        }
        let Some(time) = cosigned_at(note, witness)? else {
            continue;
        };
        // A cosignature does not bind its name: one key under two names is one witness.
        let public_key = witness.public_key();
        if !found
            .iter()
            .any(|other| other.witness.public_key() == public_key)
        {
            let witness = witness.clone();
            found.push(Cosignature { witness, time });
        }
    }
    Ok(found)
}

/// Returns the latest time of the cosignatures by a key. All of them must hold.
fn cosigned_at(note: &Note, key: &Vkey) -> Result<Option<UnixSeconds>, CheckpointError> {
    let mut latest = None;
    for signature in note.signatures().iter().filter(|line| line.is_by(key)) {
        let is_valid = |(time, signature): &(UnixSeconds, &[u8])| {
            *time <= LAST_TIME && key.verify(&cosigned_message(*time, note.text()), signature)
        };
        let Some((time, _)) = timed(signature).filter(is_valid) else {
            let name = key.name().to_owned();
            return Err(CheckpointError::WrongSignature { name });
        };
        latest = latest.max(Some(time));
    }
    Ok(latest)
}

/// Splits a cosignature into its time and what signs it.
fn timed(signature: &NoteSignature) -> Option<(UnixSeconds, &[u8])> {
    let (time, signature) = signature.bytes().split_first_chunk()?;
    Some((u64::from_be_bytes(*time), signature))
}

/// Adds to a checkpoint what a witness answered, and returns by which of the known witnesses it is: the latest cosignature
/// of each. Lines by other keys are ignored.
///
/// # Errors
/// If the answer is malformed, or if any signature under a known key is invalid; the note is as it was then.
pub fn add_answer(
    note: &mut Note,
    answer: &[u8],
    log: &Vkey,
    witnesses: &[Vkey],
) -> Result<Vec<Cosignature>, CheckpointError> {
    let answered = note.with_signatures(note::parse_signatures(answer)?);
    let found = cosignatures(&answered, slice::from_ref(log), witnesses)?;
    for Cosignature { witness, time } in &found {
        let latest = answered.signatures().iter().find(|signature| {
            signature.is_by(witness) && timed(signature).is_some_and(|(at, _)| at == *time)
        });
        if let Some(latest) = latest {
            note.add(latest.clone());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::key::MemoryKey;
    use proptest::prelude::*;

    const NAME: &str = "example.com/trail";
    const TIME: UnixSeconds = 1_796_000_000;

    fn checkpoint(origin: &str) -> Checkpoint {
        Checkpoint {
            origin: origin.to_owned(),
            head: Head {
                size: 20_852_163,
                root: [7; 32],
            },
        }
    }

    fn witness_key(key: &MemoryKey) -> Vkey {
        key.vkey().with_algorithm(Algorithm::CosignatureV1)
    }

    fn verify_text(note: &Note, key: &MemoryKey, witnesses: &[Vkey]) -> Result<Verified, String> {
        verify(note.to_string().as_bytes(), key.vkey(), witnesses)
            .map_err(|error| error.to_string())
    }

    /// The checkpoint in the specification of cosignatures.
    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

    #[test]
    fn example_of_the_specification_is_read() {
        let note = Note::parse(EXAMPLE.as_bytes()).unwrap();
        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        assert_eq!(checkpoint.origin, "example.com/behind-the-sofa");
        assert_eq!(checkpoint.head.size, 20_852_163);
        assert_eq!(checkpoint.text(), note.text());
        assert_eq!(
            cosigned_message(1_679_315_147, note.text()),
            format!("cosignature/v1\ntime 1679315147\n{}", note.text()).into_bytes()
        );
    }

    #[test]
    fn signed_checkpoint_tells_its_age_and_its_witnesses() {
        let log = MemoryKey::generate(NAME).unwrap();
        let witness = MemoryKey::generate("witness.example/w1").unwrap();
        let stranger = MemoryKey::generate("witness.example/w2").unwrap();
        let mut note = sign(&checkpoint(NAME), &log, TIME).unwrap();
        cosign(&mut note, &stranger, TIME + 1).unwrap();
        let mut earlier = note.clone();
        cosign(&mut earlier, &witness, TIME + 1).unwrap();
        cosign(&mut note, &witness, TIME + 2).unwrap();
        // Two lines by one key.
        let lines = [note.signatures(), &earlier.signatures()[3..]].concat();
        let note = note.with_signatures(lines);
        let witness = witness_key(&witness);
        let expected = Verified {
            checkpoint: checkpoint(NAME),
            key: log.vkey().clone(),
            signed_at: Some(TIME),
            cosignatures: vec![Cosignature {
                witness: witness.clone(),
                time: TIME + 2,
            }],
        };
        let witnesses = [witness.clone(), witness];
        assert_eq!(verify_text(&note, &log, &witnesses), Ok(expected));
    }

    #[test]
    fn witness_under_two_names_is_one() {
        let log = MemoryKey::generate(NAME).unwrap();
        let [witness, renamed] =
            ["w1", "w2"].map(|name| MemoryKey::of_seed(name, &[9; 32]).unwrap());
        let mut note = sign(&checkpoint(NAME), &log, TIME).unwrap();
        cosign(&mut note, &witness, TIME).unwrap();
        cosign(&mut note, &renamed, TIME).unwrap();
        let witnesses = [witness_key(&witness), witness_key(&renamed)];
        let verified = verify_text(&note, &log, &witnesses).unwrap();
        assert_eq!(verified.cosignatures.len(), 1);
    }

    #[test]
    fn log_is_no_witness_of_itself() {
        let log = MemoryKey::generate(NAME).unwrap();
        let note = sign(&checkpoint(NAME), &log, TIME).unwrap();
        let error = verify(
            note.to_string().as_bytes(),
            log.vkey(),
            &[witness_key(&log)],
        );
        assert!(matches!(error, Err(CheckpointError::WitnessIsLog { .. })));
    }

    #[test]
    fn checkpoint_of_another_log_is_refused() {
        let log = MemoryKey::generate(NAME).unwrap();
        let error = sign(&checkpoint("example.com/other"), &log, TIME);
        assert!(matches!(error, Err(CheckpointError::Origin { .. })));
        // Signed by the log's key, but for another origin.
        let mut note = Note::unsigned(checkpoint("example.com/other").text()).unwrap();
        let signature = log.sign(note.text().as_bytes()).unwrap();
        note.add(NoteSignature::new(log.vkey(), signature.to_vec()));
        let error = verify(note.to_string().as_bytes(), log.vkey(), &[]);
        assert!(matches!(error, Err(CheckpointError::Origin { .. })));
    }

    #[test]
    fn signature_that_the_log_did_not_make_is_refused() {
        let log = MemoryKey::generate(NAME).unwrap();
        let witness = MemoryKey::generate("w").unwrap();
        let note = sign(&checkpoint(NAME), &log, TIME).unwrap();
        // By a key of the same name.
        let other = MemoryKey::generate(NAME).unwrap();
        let forged = sign(&checkpoint(NAME), &other, TIME).unwrap();
        let error = verify(forged.to_string().as_bytes(), log.vkey(), &[]);
        assert!(matches!(error, Err(CheckpointError::NotSigned { .. })));
        // Only cosigned.
        let mut cosigned = Note::unsigned(checkpoint(NAME).text()).unwrap();
        cosign(&mut cosigned, &log, TIME).unwrap();
        let error = verify(cosigned.to_string().as_bytes(), log.vkey(), &[]);
        assert!(matches!(error, Err(CheckpointError::NotSigned { .. })));
        // For another tree.
        let text = note.to_string().replace("20852163", "20852164");
        let error = verify(text.as_bytes(), log.vkey(), &[]);
        assert!(matches!(error, Err(CheckpointError::WrongSignature { .. })));
        // A valid one, and an invalid one that is said to be by the log or by a known witness.
        for key in [log.vkey().clone(), witness_key(&log), witness_key(&witness)] {
            let invalid = NoteSignature::new(&key, vec![7; 72]);
            let note = note.with_signatures([note.signatures(), &[invalid]].concat());
            let error = verify(
                note.to_string().as_bytes(),
                log.vkey(),
                &[witness_key(&witness)],
            );
            assert!(matches!(error, Err(CheckpointError::WrongSignature { .. })));
        }
        // A cosignature whose time is changed.
        let mut bytes = note.signatures()[1].bytes().to_vec();
        bytes[7] ^= 1;
        let mut aged = note.clone();
        aged.add(NoteSignature::new(&witness_key(&log), bytes));
        assert!(verify_text(&aged, &log, &[]).is_err());
    }

    #[test]
    fn keys_are_used_for_their_algorithm_only() {
        let log = MemoryKey::generate(NAME).unwrap();
        let witness = MemoryKey::generate("w").unwrap();
        let note = sign(&checkpoint(NAME), &log, TIME).unwrap().to_string();
        for (log, witness) in [
            (&witness_key(&log), &witness_key(&witness)),
            (log.vkey(), witness.vkey()),
        ] {
            let error = verify(note.as_bytes(), log, std::slice::from_ref(witness));
            assert!(matches!(error, Err(CheckpointError::KeyAlgorithm { .. })));
        }
    }

    #[test]
    fn malformed_checkpoints_are_refused() {
        let root = BASE64.encode(&[7; 32]);
        assert!(Checkpoint::parse(&format!("a\n0\n{root}\n")).is_ok());
        let extended = Checkpoint::parse(&format!("a\n10\n{root}\nextension\n")).unwrap();
        assert_eq!(extended.text(), format!("a\n10\n{root}\n"));
        for text in [
            "",
            "\n",
            "a\n1\n",
            &format!("a\n1\n{root}"),
            &format!("\n1\n{root}\n"),
            &format!("a\n\n{root}\n"),
            &format!("a\n1\n{root}\n\n"),
            &format!("a\n1\n{root}\n\nextension\n"),
            &format!("a\n01\n{root}\n"),
            &format!("a\n+1\n{root}\n"),
            &format!("a\n-1\n{root}\n"),
            &format!("a\n1 \n{root}\n"),
            &format!("a\n18446744073709551616\n{root}\n"),
            "a\n1\nAAAA\n",
            &format!("a\n1\n{root} \n"),
            &format!("a\n1\n{}\n", root.replace("c=", "d=")),
        ] {
            assert!(Checkpoint::parse(text).is_err(), "{text:?}");
        }
        let log = MemoryKey::generate(NAME).unwrap();
        let error = sign(&checkpoint(NAME), &log, u64::MAX);
        assert!(matches!(error, Err(CheckpointError::Time)));
    }

    #[test]
    fn answer_of_a_witness_is_added_when_it_holds() {
        let log = MemoryKey::generate(NAME).unwrap();
        let witness = MemoryKey::generate("w").unwrap();
        let known = [witness_key(&witness)];
        let mut note = sign(&checkpoint(NAME), &log, TIME).unwrap();
        let mut seen = note.clone();
        cosign(&mut seen, &witness, TIME).unwrap();
        let answer = seen.signatures()[2].to_string();
        let mut earlier = note.clone();
        cosign(&mut earlier, &witness, TIME - 1).unwrap();
        let stranger = "\u{2014} stranger AAAAAAA=\n";
        let both = format!("{stranger}{answer}{}", earlier.signatures()[2]);
        let found = add_answer(&mut note, both.as_bytes(), log.vkey(), &known).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(note, seen);
        let found = add_answer(&mut note, stranger.as_bytes(), log.vkey(), &known).unwrap();
        assert_eq!((found.len(), &note), (0, &seen));

        let other = Checkpoint {
            head: Head {
                size: 1,
                root: [8; 32],
            },
            ..checkpoint(NAME)
        };
        let mut other = sign(&other, &log, TIME).unwrap();
        let before = other.clone();
        let error = add_answer(&mut other, answer.as_bytes(), log.vkey(), &known);
        assert!(matches!(error, Err(CheckpointError::WrongSignature { .. })));
        assert_eq!(other, before);
        assert!(add_answer(&mut other, b"", log.vkey(), &known).is_err());
    }

    proptest! {
        // Signatures take long without optimization.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn text_is_read_as_it_was_written(origin in "[a-z./]{1,30}", size in any::<u64>(), root in any::<Hash>()) {
            let checkpoint = Checkpoint { origin, head: Head { size, root } };
            prop_assert_eq!(Checkpoint::parse(&checkpoint.text()).unwrap(), checkpoint);
        }

        #[test]
        fn no_change_of_a_byte_goes_unnoticed(at in 0_usize..1000, flip in 1_u8..=255) {
            let log = MemoryKey::of_seed(NAME, &[9; 32]).unwrap();
            let note = sign(&checkpoint(NAME), &log, TIME).unwrap();
            let mut bytes = note.to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            if let Ok(verified) = verify(&bytes, log.vkey(), &[]) {
                // At most a signature has become one by a key that nobody knows.
                prop_assert_eq!(verified.checkpoint, checkpoint(NAME));
            }
        }

        #[test]
        fn no_text_panics(text in "(a\n|\n|0\n|12\n|=|BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n|\\PC){0,20}") {
            let _ = Checkpoint::parse(&text);
        }
    }
}
