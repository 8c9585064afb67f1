"""Has the witness of the program cosign a log of the PyPI package aics-tlog, and checks the cosignatures with that.

    witness.py PROGRAM FOLDER

The requests are written here, by C2SP's tlog-witness; checkpoints, proofs and what verifies the cosignatures are aics-tlog's.
"""

import base64
import pathlib
import re
import subprocess
import sys
import urllib.error
import urllib.request

from aics_tlog import (
    Checkpoint,
    MerkleTree,
    format_vkey,
    parse_note,
    parse_vkey,
    sign_checkpoint,
    verify_checkpoint,
    vkey_from_ed25519,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIZES = [1, 2, 3, 7, 8, 255, 256, 257, 300, 5_000]
LOG = "log.example/trail"
WITNESS = "witness.example/w1"


class Log:
    def __init__(self, key, entries):
        self.key, self.entries = key, entries

    def tree(self, size):
        return MerkleTree(self.entries[:size])

    def note(self, size):
        checkpoint = Checkpoint(LOG, size, self.tree(size).root())
        return sign_checkpoint(checkpoint, self.key, LOG).serialise()

    def request(self, old, new):
        path = self.tree(new).consistency_proof(old, new) if old else []
        lines = "".join(base64.b64encode(hash).decode() + "\n" for hash in path)
        return f"old {old}\n{lines}\n{self.note(new)}"


def post(url, body):
    request = urllib.request.Request(f"{url}/add-checkpoint", data=body.encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode(), refused.headers["Content-Type"]


def check(url, log, log_key, witness_key):
    old = 0
    for new in SIZES:
        # What contradicts what it has cosigned is refused, and changes nothing.
        fork = Log(log.key, [b"other"] * new)
        if old:
            assert post(url, fork.request(old, new))[0] == 422, (old, new)
            assert post(url, fork.request(old, old))[::2] == (409, "text/x.tlog.size")
            assert post(url, log.request(0, new)) == (409, f"{old}\n", "text/x.tlog.size")
        for asked in (old, new):
            status, lines, _ = post(url, log.request(asked, new))
            assert status == 200, (status, lines)
            note = parse_note((log.note(new) + lines).encode())
            result = verify_checkpoint(note, log_key, [witness_key], quorum=1, expected_origin=LOG)
            assert result.ok and result.size == new, result.error
            assert list(result.timestamps) == [WITNESS]
        old = new


def main():
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True)
    key = Ed25519PrivateKey.generate()
    log_key = vkey_from_ed25519(LOG, key.public_key())
    made = [program, "key", "new", "--witness", "--name", WITNESS, folder / "key"]
    witness_key = parse_vkey(subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip())
    started = [program, "witness", "--key", folder / "key", "--state", folder / "state", "--listen", "127.0.0.1:0"]
    witness = subprocess.Popen([*started, "--log", format_vkey(log_key)], stderr=subprocess.PIPE, text=True)
    try:
        url = next(found[0] for line in witness.stderr if (found := re.search(r"http://[0-9.:]+", line)))
        check(url, Log(key, [f"entry {index}".encode() for index in range(SIZES[-1])]), log_key, witness_key)
    finally:
        witness.terminate()
    print(f"aics-tlog accepts the cosignatures of {len(SIZES)} of its checkpoints by our witness, which refuses what contradicts them.")


main()
