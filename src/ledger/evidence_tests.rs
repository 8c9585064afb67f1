//! Tests of proofs of rows: one that holds, and what a forger may make of it.

use std::convert::Infallible;
use std::slice;
use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::ledger::checkpoint::{Checkpoint, cosign, sign};
use crate::ledger::entry::tests::example;
use crate::ledger::key::{Algorithm, MemoryKey, Signer as _};
use crate::ledger::paths::{Head, inclusion_path};
use crate::ledger::tree::{self, Subtree};

const LOG: &str = "example.com/trail";
const EXAMPLE_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const TIME: u64 = 1_796_000_000;

fn columns() -> &'static Columns {
    Columns::of("events").unwrap()
}

/// The images of the columns of a row: those of `given`, and NULL for all others.
fn row_images(columns: &[&str], given: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for column in columns {
        let value = given.iter().find(|(name, _)| name == column);
        push_image(&mut bytes, value.map(|(_, value)| *value)).unwrap();
    }
    bytes
}

fn core(writer_id: [u8; 16], seq: i64) -> Vec<u8> {
    let given: [(&str, &[u8]); 3] = [
        ("writer_id", &writer_id),
        ("seq", &seq.to_be_bytes()),
        ("status", b"ok"),
    ];
    row_images(columns().core, &given)
}

fn content(summary: &[u8]) -> Vec<u8> {
    let given: [(&str, &[u8]); 2] = [("salt", &[9; 16]), ("input_summary", summary)];
    row_images(columns().content, &given)
}

fn path_of(leaves: &[Hash], index: u64) -> Vec<Hash> {
    let node = |subtree: Subtree| {
        let (from, to) = subtree.leaves().unwrap();
        let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
        Ok::<_, Infallible>(tree::root(&leaves[range]))
    };
    inclusion_path(index, leaves.len() as u64, node).unwrap()
}

/// A log of three entries, of which the middle one is of a batch of three rows.
struct Log {
    key: MemoryKey,
    witness: MemoryKey,
    evidence: Evidence,
    proof: TlogProof,
}

impl Log {
    fn new() -> Self {
        Self::with_rows(|seq| core([1; 16], seq))
    }

    /// Makes the rows 41 to 43 with these cores, and proves row 42.
    fn with_rows(core: impl Fn(i64) -> Vec<u8>) -> Self {
        let key = MemoryKey::generate(LOG).unwrap();
        let witness = MemoryKey::generate("witness.example/w1").unwrap();
        let leaves: Vec<_> = (41..=43)
            .map(|seq| {
                let hash = leaf::digest(&content(b"asked"));
                leaf::leaf_of(&TablePrefix::new("events"), &core(seq), &hash)
            })
            .collect();
        let entry = Entry {
            root: Some(tree::root(&leaves)),
            ..example()
        };
        let evidence = Evidence {
            entry: entry.encode().unwrap(),
            columns: columns(),
            core: core(42),
            content: Content::Whole(content(b"asked")),
            leaf_index: 1,
            leaf_count: 3,
            path: path_of(&leaves, 1),
        };
        let entries = [[1; 32], entry_hash(&evidence.entry), [2; 32]];
        let checkpoint = Checkpoint {
            origin: LOG.to_owned(),
            head: Head {
                size: 3,
                root: tree::root(&entries),
            },
        };
        let mut note = sign(&checkpoint, &key, TIME).unwrap();
        cosign(&mut note, &witness, TIME + 1).unwrap();
        let proof = TlogProof {
            extra: Some(evidence.encode().unwrap()),
            index: 1,
            path: path_of(&entries, 1),
            checkpoint: note,
        };
        Self {
            key,
            witness,
            evidence,
            proof,
        }
    }

    fn witnesses(&self) -> [Vkey; 1] {
        [self.witness.vkey().with_algorithm(Algorithm::CosignatureV1)]
    }

    fn check(&self, proof: &TlogProof) -> Result<Checked, ProofError> {
        let bytes = proof.encode().unwrap();
        check_proof(
            bytes.as_bytes(),
            slice::from_ref(self.key.vkey()),
            &self.witnesses(),
            1,
        )
    }

    fn check_evidence(&self, change: impl FnOnce(&mut Evidence)) -> Result<Checked, ProofError> {
        let mut evidence = self.evidence.clone();
        change(&mut evidence);
        self.check(&TlogProof {
            extra: Some(evidence.encode().unwrap()),
            ..self.proof.clone()
        })
    }
}

#[test]
fn row_is_proven_with_its_entry_and_its_witness() {
    let log = Log::new();
    let checked = log.check(&log.proof).unwrap();
    assert_eq!(checked.index, 1);
    assert_eq!(checked.row, log.evidence);
    assert_eq!(checked.entry.service_name.as_deref(), Some("ask"));
    assert_eq!(checked.verified.signed_at, Some(TIME));
    assert_eq!(checked.verified.cosignatures[0].time, TIME + 1);
    let core = checked.row.core_values().unwrap();
    assert!(core.contains(&("status", Some(b"ok"))));
    let content = checked.row.content_values().unwrap().unwrap();
    assert!(content.contains(&("input_summary", Some(b"asked"))));
}

#[test]
fn row_is_proven_after_its_content_was_erased() {
    let log = Log::new();
    let hash = log.evidence.content.hash();
    let checked = log.check_evidence(|evidence| evidence.content = Content::Erased(hash));
    assert_eq!(checked.unwrap().row.content_values(), Ok(None));
    let forged = log.check_evidence(|evidence| evidence.content = Content::Erased([0; 32]));
    assert!(matches!(forged, Err(ProofError::RowNotInBatch)));
}

#[test]
fn changed_row_is_not_proven() {
    let log = Log::new();
    let changes: [fn(&mut Evidence); 6] = [
        |evidence| evidence.content = Content::Whole(content(b"denied")),
        |evidence| evidence.core = core([1; 16], 43),
        |evidence| evidence.columns = Columns::of("activities").unwrap(),
        |evidence| evidence.path[0] = [0; 32],
        |evidence| evidence.path.swap(0, 1),
        |evidence| evidence.leaf_index = 0,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let error = log.check_evidence(change);
        assert!(matches!(error, Err(ProofError::RowNotInBatch)), "{at}");
    }
    let changes: [fn(&mut Evidence); 4] = [
        |evidence| evidence.leaf_index = 3,
        |evidence| evidence.leaf_count = 300,
        |evidence| evidence.path.truncate(1),
        |evidence| evidence.path.push([0; 32]),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let error = log.check_evidence(change);
        assert!(matches!(error, Err(ProofError::Row(_))), "{at}");
    }
}

#[test]
fn entry_that_is_not_in_the_log_proves_nothing() {
    let log = Log::new();
    let error = log.check_evidence(|evidence| {
        let last = evidence.entry.len() - 1;
        evidence.entry[last] ^= 1;
    });
    assert!(matches!(error, Err(ProofError::EntryNotInLog(_))));
    let changes: [fn(&mut TlogProof); 5] = [
        |proof| proof.index = 0,
        |proof| proof.index = 3,
        |proof| proof.path.swap(0, 1),
        |proof| proof.path.truncate(1),
        |proof| proof.path.push([0; 32]),
    ];
    for change in changes {
        let mut proof = log.proof.clone();
        change(&mut proof);
        let error = log.check(&proof);
        assert!(matches!(error, Err(ProofError::EntryNotInLog(_))));
    }
}

#[test]
fn row_outside_of_its_entry_is_refused() {
    let another_writer = Log::with_rows(|seq| core([2; 16], seq));
    let error = another_writer.check(&another_writer.proof);
    assert!(matches!(error, Err(ProofError::OutsideEntry)));
    let other_numbers = Log::with_rows(|seq| core([1; 16], seq + 10));
    let error = other_numbers.check(&other_numbers.proof);
    assert!(matches!(error, Err(ProofError::OutsideEntry)));
    let none = Log::with_rows(|_| row_images(columns().core, &[]));
    let error = none.check(&none.proof);
    assert!(matches!(
        error,
        Err(ProofError::Column {
            column: "writer_id"
        })
    ));
}

#[test]
fn proof_without_enough_witnesses_or_evidence_is_refused() {
    let log = Log::new();
    let bytes = log.proof.to_string();
    let key = log.key.vkey();
    let witnesses = log.witnesses();
    assert!(check_proof(bytes.as_bytes(), slice::from_ref(key), &[], 0).is_ok());
    let twice = [witnesses[0].clone(), witnesses[0].clone()];
    for (witnesses, required) in [(&witnesses[..0], 1), (&witnesses, 2), (&twice, 2)] {
        let error = check_proof(bytes.as_bytes(), slice::from_ref(key), witnesses, required);
        assert!(matches!(error, Err(ProofError::TooFewWitnesses { .. })));
    }
    let proof = TlogProof {
        extra: None,
        ..log.proof.clone()
    };
    assert!(matches!(log.check(&proof), Err(ProofError::NoEvidence)));
    let other = MemoryKey::generate(LOG).unwrap();
    let error = check_proof(bytes.as_bytes(), slice::from_ref(other.vkey()), &[], 0);
    assert!(matches!(error, Err(ProofError::Checkpoint(_))));
}

#[test]
fn no_error_repeats_what_the_row_holds() {
    let log = Log::new();
    let error = log
        .check_evidence(|evidence| evidence.content = Content::Whole(content(b"denied")))
        .unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("denied") && !shown.contains("asked"),
        "{shown}"
    );
}

/// Frozen, format 1: the length and the hash of the bytes.
#[test]
fn bytes_are_golden() {
    let mut evidence = Evidence {
        entry: example().encode().unwrap(),
        columns: Columns::of("dead_letters").unwrap(),
        core: row_images(&["seq", "a", "b", "c", "d"], &[("seq", b"core")]),
        content: Content::Whole(row_images(&["salt", "a", "b"], &[("salt", b"s")])),
        leaf_index: 2,
        leaf_count: 5,
        path: vec![[7; 32], [8; 32]],
    };
    let bytes = evidence.encode().unwrap();
    assert_eq!(Evidence::decode(&bytes).unwrap(), evidence);
    let golden = |bytes: &[u8]| (bytes.len(), HEXLOWER.encode(&Sha256::digest(bytes)));
    assert_eq!(
        golden(&bytes),
        (
            411,
            "921a2c739915fc8388e91b81c05ef6d91e6ab192fb60a47d09ea264881c48556".to_owned()
        )
    );
    evidence.content = Content::Erased([9; 32]);
    let bytes = evidence.encode().unwrap();
    assert_eq!(Evidence::decode(&bytes).unwrap(), evidence);
    assert_eq!(
        golden(&bytes),
        (
            430,
            "88b0d1db8b6a8ea71707a1460938599238d22929d4b5aa4aeee1c597a8bf9591".to_owned()
        )
    );
}

#[test]
fn malformed_evidence_is_refused() {
    let evidence = Log::new().evidence;
    let bytes = evidence.encode().unwrap();
    for length in 0..bytes.len() {
        assert!(Evidence::decode(&bytes[..length]).is_err(), "{length}");
    }
    let long = [&bytes[..], &[0]].concat();
    assert_eq!(Evidence::decode(&long), Err(EvidenceError::Trailing));
    let other = [&[2], &bytes[1..]].concat();
    assert_eq!(Evidence::decode(&other), Err(EvidenceError::Format));
    let cases: [fn(&mut Evidence); 4] = [
        |evidence| evidence.core = content(b"asked"),
        |evidence| evidence.core = Vec::new(),
        |evidence| evidence.content = Content::Whole(core([1; 16], 42)),
        |evidence| evidence.content = Content::Whole(vec![0; 3]),
    ];
    for change in cases {
        let mut evidence = evidence.clone();
        change(&mut evidence);
        let bytes = evidence.encode().unwrap();
        assert!(matches!(
            Evidence::decode(&bytes),
            Err(EvidenceError::Part { .. })
        ));
    }
    let long = Evidence {
        path: vec![[0; 32]; 65],
        ..evidence
    };
    assert_eq!(long.encode(), Err(EvidenceError::PathTooLong));
}

proptest! {
    // Each verifies signatures, which takes long without optimization.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_read_is_written_as_it_was(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        static EXAMPLE: LazyLock<Log> = LazyLock::new(Log::new);
        let log = &*EXAMPLE;
        let mut bytes = log.evidence.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(evidence) = Evidence::decode(&bytes) {
            prop_assert_eq!(evidence.encode(), Ok(bytes.clone()));
        }
        if bytes != log.evidence.encode().unwrap() {
            let proof = TlogProof { extra: Some(bytes), ..log.proof.clone() };
            prop_assert!(log.check(&proof).is_err());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = Vkey::parse(EXAMPLE_KEY).unwrap();
        let _ = Evidence::decode(&bytes);
        let _ = Evidence::decode(&[&[EVIDENCE_FORMAT], &bytes[..]].concat());
        prop_assert!(check_proof(&bytes, slice::from_ref(&key), &[], 0).is_err());
    }
}
