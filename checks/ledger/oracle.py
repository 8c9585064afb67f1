"""Checks our logs with the PyPI package aics-tlog, and writes one with it for ours to check.

    oracle.py FOLDER

FOLDER/ours and FOLDER/theirs have the same layout:

    log-key, witness-key                the verifier keys
    tile/...                            tiles and entry bundles, for each size at which there is a checkpoint
    checkpoint/SIZE                     signed by the log, cosigned by the log's key and by the witness
    consistency/OLD-NEW                 a hash in base64 on each line
    proof/INDEX.tlog-proof              with the entry as its extra data

src/ledger/oracle.rs writes the first and reads the second. aics-tlog has no proof files: they are split into lines here,
and what is in them is verified by it.
"""

import base64
import filecmp
import pathlib
import sys

from aics_tlog import (
    Checkpoint,
    DirectoryTileStore,
    FileSystemTileReader,
    IncrementalTileWriter,
    MerkleTree,
    Note,
    audit_tiles,
    consistency_proof_from_tiles,
    cosignature_vkey,
    format_vkey,
    inclusion_proof_from_tiles,
    parse_note,
    parse_vkey,
    read_entry,
    sign_checkpoint,
    sign_cosignature,
    verify_checkpoint,
    verify_consistency,
    verify_cosignature,
    verify_leaf_inclusion,
    vkey_from_ed25519,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# The same as in src/ledger/oracle.rs.
SIZES = [1, 2, 255, 256, 300, 5_000, 70_000]
PROVEN = [0, 1, 255, 256, 65_535, 69_999]
LOG = "log.example/trail"
WITNESS = "witness.example/w1"
TIME = 1_796_000_000

PROOF_HEADER = "c2sp.org/tlog-proof@v1"


def entry(index):
    return f"entry {index}".encode()


def encoded(data):
    return base64.b64encode(data).decode()


def decoded(text):
    return base64.b64decode(text, validate=True)


def hashes(text):
    return [decoded(line) for line in text.splitlines()]


def lines(path):
    return "".join(encoded(hash) + "\n" for hash in path)


def pairs():
    return [(old, new) for old in SIZES for new in SIZES if old <= new]


def check_checkpoint(ours, size, log_key, witness_key):
    """Verifies all signatures of a checkpoint, and returns its root."""
    data = (ours / f"checkpoint/{size}").read_bytes()
    note = parse_note(data)
    assert note.to_bytes() == data
    result = verify_checkpoint(note, log_key, [witness_key], quorum=1, expected_origin=LOG)
    assert result.ok and result.size == size, result.error
    assert result.timestamps == {WITNESS: TIME + size}
    # The log's own cosignature, which tells when it signed.
    cosigner = cosignature_vkey(LOG, log_key.public_key)
    own = [line.signature for line in note.signatures if (line.name, line.key_id) == (LOG, cosigner.key_id)]
    assert len(own) == 1 and int.from_bytes(own[0][:8], "big") == TIME
    assert verify_cosignature(own[0], LOG, log_key.public_key, LOG, size, result.root)
    # That it looked.
    other_size = note.text.replace(f"\n{size}\n", f"\n{size + 1}\n")
    forged = Note(text=other_size, signatures=note.signatures)
    assert not verify_checkpoint(forged, log_key, [witness_key], quorum=1).ok
    return result.root


def check_proof(ours, index, root):
    header, extra, place, *rest = (ours / f"proof/{index}.tlog-proof").read_text().split("\n")
    assert (header, place) == (PROOF_HEADER, f"index {index}")
    path = rest[: rest.index("")]
    note = "\n".join(rest[len(path) + 1 :])
    assert note == (ours / f"checkpoint/{SIZES[-1]}").read_text()
    path = [decoded(line) for line in path]
    leaf = decoded(extra.removeprefix("extra "))
    assert leaf == entry(index)
    assert verify_leaf_inclusion(leaf, index, SIZES[-1], path, root)
    assert not verify_leaf_inclusion(leaf + b"0", index, SIZES[-1], path, root)


def check(ours):
    log_key = parse_vkey((ours / "log-key").read_text())
    witness_key = parse_vkey((ours / "witness-key").read_text())
    roots = {size: check_checkpoint(ours, size, log_key, witness_key) for size in SIZES}
    reader = FileSystemTileReader(ours)
    for size, root in roots.items():
        audit_tiles(reader, size, root)
    for old, new in pairs():
        path = hashes((ours / f"consistency/{old}-{new}").read_text())
        assert verify_consistency(old, new, roots[old], roots[new], path), (old, new)
        assert path == consistency_proof_from_tiles(reader, old, new, tile_size=SIZES[-1])
    for index in PROVEN:
        check_proof(ours, index, roots[SIZES[-1]])
        assert read_entry(reader, index, SIZES[-1]) == entry(index)


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)


def make(theirs):
    log_key, witness_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    write(theirs / "log-key", format_vkey(vkey_from_ed25519(LOG, log_key.public_key())))
    write(theirs / "witness-key", format_vkey(cosignature_vkey(WITNESS, witness_key.public_key())))
    writer = IncrementalTileWriter(DirectoryTileStore(theirs, fsync=False), prune_partials=False)
    entries = [entry(index) for index in range(SIZES[-1])]
    for size in SIZES:
        writer.append(entries[writer.size : size])
        root = writer.root()
        signed = sign_checkpoint(Checkpoint(LOG, size, root), log_key, LOG)
        own = sign_cosignature(log_key, LOG, TIME, LOG, size, root)[1]
        witness = sign_cosignature(witness_key, WITNESS, TIME + size, LOG, size, root)[1]
        note = Note(text=signed.text, signatures=(*signed.signatures, own, witness))
        write(theirs / f"checkpoint/{size}", note.to_bytes())
    tree = MerkleTree(entries)
    for old, new in pairs():
        write(theirs / f"consistency/{old}-{new}", lines(tree.consistency_proof(old, new)))
    reader = FileSystemTileReader(theirs)
    for index in PROVEN:
        path = inclusion_proof_from_tiles(reader, index, SIZES[-1])
        head = f"{PROOF_HEADER}\nextra {encoded(entry(index))}\nindex {index}\n"
        write(theirs / f"proof/{index}.tlog-proof", f"{head}{lines(path)}\n{note.serialise()}")


def files_of(log):
    found = [file for kind in ("tile", "consistency") for file in (log / kind).rglob("*") if file.is_file()]
    return {str(file.relative_to(log)) for file in found}


def compare(ours, theirs):
    """Compares what has the same bytes whoever writes it."""
    files = files_of(ours)
    assert files == files_of(theirs), files ^ files_of(theirs)
    same, different, errors = filecmp.cmpfiles(ours, theirs, files, shallow=False)
    assert not different and not errors, different + errors
    return len(same)


def main():
    folder = pathlib.Path(sys.argv[1])
    check(folder / "ours")
    make(folder / "theirs")
    same = compare(folder / "ours", folder / "theirs")
    found = f"{len(SIZES)} checkpoints, {len(pairs())} consistency proofs and {len(PROVEN)} proof files"
    print(f"aics-tlog accepts {found} of ours; {same} files of its own log have the same bytes.")


main()
