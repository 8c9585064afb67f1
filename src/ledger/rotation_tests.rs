//! Checkpoints of a log that had several keys.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::slice;

use super::checkpoint::{Checkpoint, CheckpointError, cosign, sign, verify_note};
use super::key::{Algorithm, MemoryKey, Signer as _, Vkey};
use super::note::{Note, NoteSignature};
use super::paths::Head;

const NAME: &str = "example.com/trail";

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: NAME.to_owned(),
        head: Head {
            size: 7,
            root: [7; 32],
        },
    }
}

fn keys() -> [MemoryKey; 2] {
    [(); 2].map(|()| MemoryKey::generate(NAME).unwrap())
}

/// Returns the note with the lines of another as well.
fn with(note: &Note, other: &Note) -> Note {
    note.with_signatures([note.signatures(), other.signatures()].concat())
}

#[test]
fn checkpoint_is_by_whichever_key_has_signed_it_and_as_old_as_that_says() {
    let [old, new] = keys();
    let log = [new.vkey().clone(), old.vkey().clone()];
    for (signer, time) in [(&old, 5), (&new, 6)] {
        let note = sign(&checkpoint(), signer, time).unwrap();
        let verified = verify_note(&note, &log, &[]).unwrap();
        assert_eq!(verified.key, *signer.vkey());
        assert_eq!(verified.signed_at, Some(time));
    }
    // By both: the first that is named counts, in whichever order the lines are.
    let by_old = sign(&checkpoint(), &old, 9).unwrap();
    let by_new = sign(&checkpoint(), &new, 8).unwrap();
    for note in [with(&by_old, &by_new), with(&by_new, &by_old)] {
        let verified = verify_note(&note, &log, &[]).unwrap();
        assert_eq!((&verified.key, verified.signed_at), (&log[0], Some(8)));
        let verified = verify_note(&note, &log[1..], &[]).unwrap();
        assert_eq!((&verified.key, verified.signed_at), (&log[1], Some(9)));
    }
    // A time that the other key states is not that of this signature.
    let mut note = sign(&checkpoint(), &old, 5).unwrap();
    cosign(&mut note, &new, 1000).unwrap();
    let verified = verify_note(&note, &log, &[]).unwrap();
    assert_eq!((&verified.key, verified.signed_at), (&log[1], Some(5)));
}

#[test]
fn key_that_is_not_named_is_none_of_the_log() {
    let [old, new] = keys();
    let note = sign(&checkpoint(), &old, 5).unwrap();
    let refused = verify_note(&note, slice::from_ref(new.vkey()), &[]);
    let Err(CheckpointError::NotSigned { keys }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(keys, new.vkey().name_and_id());
    assert!(matches!(
        verify_note(&note, &[], &[]),
        Err(CheckpointError::NotSigned { .. })
    ));
    let other = MemoryKey::generate("example.com/other").unwrap();
    let log = [old.vkey().clone(), other.vkey().clone()];
    assert!(matches!(
        verify_note(&note, &log, &[]),
        Err(CheckpointError::Origin { .. })
    ));
}

#[test]
fn invalid_line_of_any_of_the_keys_is_refused() {
    let [old, new] = keys();
    let log = [new.vkey().clone(), old.vkey().clone()];
    let cosigner = |key: &Vkey| key.with_algorithm(Algorithm::CosignatureV1);
    for key in [log[1].clone(), cosigner(&log[1]), cosigner(&log[0])] {
        let mut note = sign(&checkpoint(), &new, 5).unwrap();
        note.add(NoteSignature::new(&key, vec![7; 72]));
        let refused = verify_note(&note, &log, &[]);
        assert!(matches!(
            refused,
            Err(CheckpointError::WrongSignature { .. })
        ));
    }
}

#[test]
fn older_key_of_the_log_is_no_witness() {
    let [old, new] = keys();
    let log = [new.vkey().clone(), old.vkey().clone()];
    let mut note = sign(&checkpoint(), &new, 5).unwrap();
    cosign(&mut note, &old, 5).unwrap();
    let witness = old.vkey().with_algorithm(Algorithm::CosignatureV1);
    let refused = verify_note(&note, &log, &[witness]);
    assert!(matches!(refused, Err(CheckpointError::WitnessIsLog { .. })));
}
