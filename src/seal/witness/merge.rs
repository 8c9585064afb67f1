//! Brings together what several sealers have had cosigned of one tree.

use crate::ledger::checkpoint::{self, CheckpointError, Cosignature, Verified};
use crate::ledger::key::Vkey;
use crate::ledger::note::{Note, NoteSignature};

/// Returns what is to be published where a checkpoint of the same tree is: the newer of both, with the newest cosignature of
/// each witness. `None` if that is there already.
///
/// Another sealer may have published there, with cosignatures that this one does not have. What another key of the log has
/// signed is replaced.
pub(in crate::seal) fn keep_cosignatures(
    there: &[u8],
    ours: &str,
    log: &[Vkey],
    witnesses: &[Vkey],
) -> Option<String> {
    // What is there may have a line that is not valid: then ours takes its place.
    let merged = merged(there, ours, log, witnesses).unwrap_or_else(|_| ours.to_owned());
    (merged.as_bytes() != there).then_some(merged)
}

fn merged(
    there: &[u8],
    ours: &str,
    log: &[Vkey],
    witnesses: &[Vkey],
) -> Result<String, CheckpointError> {
    let read = |bytes: &[u8]| {
        let note = Note::parse(bytes)?;
        let verified = checkpoint::verify_note(&note, log, witnesses)?;
        Ok::<_, CheckpointError>((note, verified))
    };
    let (there, ours) = (read(there)?, read(ours.as_bytes())?);
    let (mut newer, older) = if there.1.signed_at >= ours.1.signed_at {
        (there, ours)
    } else {
        (ours, there)
    };
    for cosignature in &older.1.cosignatures {
        if time_of(&newer.1, &cosignature.witness) < Some(cosignature.time)
            && let Some(line) = line_of(&older.0, cosignature)
        {
            newer.0.add(line.clone());
        }
    }
    Ok(newer.0.to_string())
}

/// Returns when a witness has cosigned a checkpoint, if it has.
fn time_of(verified: &Verified, witness: &Vkey) -> Option<u64> {
    let mut found = verified.cosignatures.iter();
    found
        .find(|found| found.witness == *witness)
        .map(|found| found.time)
}

/// Returns the line of a cosignature.
fn line_of<'a>(note: &'a Note, cosignature: &Cosignature) -> Option<&'a NoteSignature> {
    note.signatures().iter().find(|line| {
        line.is_by(&cosignature.witness)
            && line.bytes().starts_with(&cosignature.time.to_be_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::checkpoint::{Checkpoint, cosign, sign};
    use crate::ledger::key::{Algorithm, MemoryKey, Signer as _};
    use crate::ledger::paths::Head;

    #[test]
    fn newer_checkpoint_keeps_the_newest_cosignature_of_each_witness() {
        let log = MemoryKey::generate("log").unwrap();
        let [one, other, stranger] =
            ["one", "other", "stranger"].map(|name| MemoryKey::generate(name).unwrap());
        let witnesses =
            [&one, &other].map(|key| key.vkey().with_algorithm(Algorithm::CosignatureV1));
        let note = |signed_at: u64, cosigned: &[(&MemoryKey, u64)]| {
            let checkpoint = Checkpoint {
                origin: String::from("log"),
                head: Head {
                    size: 1,
                    root: [7; 32],
                },
            };
            let mut note = sign(&checkpoint, &log, signed_at).unwrap();
            for (key, time) in cosigned {
                cosign(&mut note, *key, *time).unwrap();
            }
            note.to_string()
        };
        let merged = |there: &str, ours: &str| {
            let merged = keep_cosignatures(there.as_bytes(), ours, log.vkey(), &witnesses)?;
            let found = checkpoint::verify(merged.as_bytes(), log.vkey(), &witnesses).unwrap();
            let times: Vec<_> = witnesses
                .iter()
                .map(|witness| time_of(&found, witness))
                .collect();
            Some((found.signed_at.unwrap(), times))
        };
        let there = note(10, &[(&one, 10), (&other, 5), (&stranger, 9)]);
        assert_eq!(merged(&there, &there), None);
        assert_eq!(merged(&there, &note(9, &[(&one, 9)])), None);
        let ours = note(12, &[(&other, 12)]);
        assert_eq!(merged(&there, &ours), Some((12, vec![Some(10), Some(12)])));
        // An older checkpoint with a newer cosignature.
        let ours = note(9, &[(&other, 12)]);
        assert_eq!(merged(&there, &ours), Some((10, vec![Some(10), Some(12)])));
        // The same checkpoint, cosigned since.
        let plain = note(10, &[]);
        assert_eq!(merged(&plain, &there), Some((10, vec![Some(10), Some(5)])));
        // What is there has a cosignature that is not valid.
        let valid = note(10, &[(&one, 10)]);
        let mut forged = valid.clone().into_bytes();
        let at = forged.len() - 10;
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(merged(&forged, &plain), Some((10, vec![None, None])));
    }
}
