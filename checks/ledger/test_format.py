"""Computes the example of docs/ledger-format.md anew, byte by byte, and tries the signatures.

    python3 -m unittest discover checks/ledger
"""

import base64
import hashlib
import pathlib
import unittest
import uuid
from datetime import date, datetime, timezone

import ed25519
import note
import verify

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "ledger-format.md"
WRITER = uuid.UUID("0a0b0c0d-0000-4000-8000-000000000001").bytes
EVENT = uuid.UUID("019c167f-cbff-7000-8000-000000000001").bytes
LOST = uuid.UUID("019c167f-cc00-7000-8000-000000000002").bytes
# The first key of RFC 8032, 7.1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
ORIGIN = "example.com/trail"
SIGNED_AT = 1769904001


def image(data):
    if data is None:
        return verify.NULL_IMAGE
    data = data.encode() if isinstance(data, str) else data
    return len(data).to_bytes(4, "big") + data


def integer(number, size=8):
    return image(number.to_bytes(size, "big", signed=True))


def json(text):
    return image(b"\x01" + text.encode())


def time(text):
    since = datetime.fromisoformat(text) - datetime(2000, 1, 1, tzinfo=timezone.utc)
    return integer((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds)


EMPTY_LIST = image(bytes.fromhex("000000000000000000000019"))


def public_key_of(seed):
    scalar = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little") & (2**254 - 8) | 2**254
    return scalar, ed25519.encode(ed25519.multiply(scalar, ed25519.BASE))


def sign(seed, message):
    scalar, public_key = public_key_of(seed)
    nonce = int.from_bytes(hashlib.sha512(hashlib.sha512(seed).digest()[32:] + message).digest(), "little") % ed25519.ORDER
    commitment = ed25519.encode(ed25519.multiply(nonce, ed25519.BASE))
    challenge = int.from_bytes(hashlib.sha512(commitment + public_key + message).digest(), "little")
    return commitment + ((nonce + challenge * scalar) % ed25519.ORDER).to_bytes(32, "little")


def signature_line(name, algorithm, public_key, signature):
    encoded = base64.b64encode(note.key_id(name, algorithm, public_key) + signature).decode()
    return f"\u2014 {name} {encoded}\n"


def sign_checkpoint(text, time_signed=SIGNED_AT):
    public_key = public_key_of(SEED)[1]
    cosignature = sign(SEED, f"cosignature/v1\ntime {time_signed}\n{text}".encode())
    return (text + "\n" + signature_line(ORIGIN, note.ED25519, public_key, sign(SEED, text.encode()))
            + signature_line(ORIGIN, note.COSIGNATURE, public_key, time_signed.to_bytes(8, "big") + cosignature))


def vkey():
    public_key = public_key_of(SEED)[1]
    material = base64.b64encode(b"\x01" + public_key).decode()
    return f"{ORIGIN}+{note.key_id(ORIGIN, note.ED25519, public_key).hex()}+{material}"


def example():
    """Yields the name and the bytes of each step of the example."""
    empty = image(None)
    core = [image(EVENT), image(WRITER), integer(1), empty, empty, empty, empty, image("r-1"), empty, empty, image("shop"),
            image("succeeded"), time("2026-01-31T23:59:59.999+00:00"), integer(12), image("login")]
    content = [image(bytes(range(16))), image("alice"), empty, empty, empty, empty, empty, empty, empty, empty,
               json('{"ip": "10.0.0.1"}'), EMPTY_LIST, EMPTY_LIST]
    event, event_content = verify.hash_row("events", core, content)
    yield "core of the event", b"".join(core)
    yield "content of the event", b"".join(content)
    yield "content hash of the event", event_content
    yield "leaf of the event", event
    core = [image(WRITER), integer(2), image(LOST), image("audit.event"), image("22P05")]
    content = [image(bytes(range(16, 32))), image("refused"), image(b"\x01\x02")]
    letter, letter_content = verify.hash_row("dead_letters", core, content)
    yield "core of the dead letter", b"".join(core)
    yield "content of the dead letter", b"".join(content)
    yield "content hash of the dead letter", letter_content
    yield "leaf of the dead letter", letter
    root = verify.tree_root([event, letter])
    yield "root of the batch", root
    yield "fingerprints", b"".join(part[:4] for part in (event, event_content, letter, letter_content))
    registration = verify.sha256(image(WRITER) + image("app") + image(verify.sha256(bytes(32))) + image("shop") + time("2026-02-01T00:00:00+00:00"))
    yield "registration", registration
    entry = b"\x01" + b"".join([
        image(WRITER), integer(1), integer(2), json('{"events": 1}'), integer(1, 4), image(EVENT), image(EVENT), empty,
        image("shop"), image("0.1.0"), time("2026-02-01T00:00:00.25+00:00"), image((1234).to_bytes(8, "big")),
        image(root), empty, image(registration)])
    yield "entry", entry
    yield "entry hash", verify.sha256(b"\x00" + entry)


class Format(unittest.TestCase):
    def test_page_has_the_bytes_of_the_example(self):
        page = "".join(PAGE.read_text().split())
        for name, data in example():
            self.assertIn(data.hex(), page, name)
        root = base64.b64encode(dict(example())["entry hash"]).decode()
        signed = sign_checkpoint(f"{ORIGIN}\n1\n{root}\n")
        self.assertIn(signed, PAGE.read_text())
        self.assertIn(vkey(), PAGE.read_text())
        checkpoint = note.open_checkpoint(signed.encode(), vkey())
        self.assertEqual((checkpoint.size, checkpoint.root, checkpoint.signed_at), (1, dict(example())["entry hash"], SIGNED_AT))

    def test_tree_is_that_of_rfc_6962(self):
        inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
        leaves = [verify.sha256(b"\x00" + bytes.fromhex(data)) for data in inputs]
        self.assertEqual(verify.tree_root([]).hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        self.assertEqual(verify.tree_root(leaves[:7]).hex(), "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c")
        self.assertEqual(verify.tree_root(leaves).hex(), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328")

    def test_ranges_that_lie_over_each_other_have_another_root(self):
        leaves = [hashlib.sha256(bytes([n])).digest() for n in range(4)]
        root = verify.root_of((1, leaf) for leaf in leaves)
        self.assertEqual(verify.root_of(verify.thinned([leaves[0], leaves[2], leaves[3]], [(1, 1, leaves[1])])), root)
        forged = [(0, 2, leaves[0] + leaves[1]), (1, 1, leaves[1])]
        self.assertNotEqual(verify.root_of(verify.thinned(leaves[2:], forged)), root)

    def test_day_of_an_id_is_that_of_the_calendar(self):
        for at in ("1970-01-01T00:00", "1970-01-31T23:59:59.999", "1999-12-31T23:59", "2000-02-29T12:00", "2024-02-29T23:59", "2026-03-01T00:00",
                   "2100-02-28T23:59", "2100-03-01T00:00", "9999-12-31T23:59:59.999"):
            moment = datetime.fromisoformat(at + "+00:00")
            since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
            milliseconds = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
            self.assertEqual(verify.day_of(milliseconds.to_bytes(6, "big")), (moment.date() - date(1970, 1, 1)).days, at)

    def test_list_without_a_null_is_hashed_without_its_mark(self):
        without = bytes.fromhex("0000001600000001000000000000001900000001000000010000000178")[4:]
        marked = without[:4] + b"\0\0\0\x01" + without[8:]
        self.assertEqual(verify.list_image(image(marked)), image(without))
        with_null = bytes.fromhex("00000001000000010000001900000001 00000001 ffffffff")
        self.assertEqual(verify.list_image(image(with_null)), image(with_null))

    def test_tile_paths_are_those_of_tlog_tiles(self):
        self.assertEqual(verify.tile_path(1234067), "x001/x234/067")
        self.assertEqual(verify.tile_path(0), "000")
        files = list(verify.expected_tiles(70000))
        self.assertEqual(sum(name.startswith("tile/0/") for name in files), 274)
        self.assertEqual([name for name in files if not name.startswith(("tile/0/", "tile/entries/"))],
                         ["tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"])
        self.assertEqual(list(verify.expected_tiles(256)), ["tile/0/000", "tile/entries/000", "tile/1/000.p/1"])


class Signatures(unittest.TestCase):
    def test_signatures_of_rfc_8032_are_valid(self):
        for key, message, signature in (
            ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
             "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
            ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
             "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
            ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
             "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
        ):
            key, message, signature = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
            self.assertTrue(ed25519.is_valid(key, message, signature))
            self.assertFalse(ed25519.is_valid(key, message + b"x", signature))
            for at in (0, 31, 32, 63):
                changed = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1:]
                self.assertFalse(ed25519.is_valid(key, message, changed))
            response = int.from_bytes(signature[32:], "little") + ed25519.ORDER
            self.assertFalse(ed25519.is_valid(key, message, signature[:32] + response.to_bytes(32, "little")))

    def test_keys_of_small_order_and_other_encodings_are_refused(self):
        neutral = (1).to_bytes(32, "little")
        for key in (neutral, bytes(32), (ed25519.P - 1).to_bytes(32, "little"), (ed25519.P + 1).to_bytes(32, "little"),
                    (1 | 1 << 255).to_bytes(32, "little"), b"\xff" * 32):
            self.assertFalse(ed25519.is_valid(key, b"", neutral + bytes(32)))
        self.assertIsNone(ed25519.decode((ed25519.P + 1).to_bytes(32, "little")))
        self.assertIsNone(ed25519.decode((1 | 1 << 255).to_bytes(32, "little")))

    def test_note_of_the_specification_is_valid(self):
        name, key = note.parse_key("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
        text, signatures = note.split_note("This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n".encode())
        self.assertEqual(signatures[0][1], note.key_id(name, note.ED25519, key))
        self.assertTrue(ed25519.is_valid(key, text.encode(), signatures[0][2]))

    def test_changed_checkpoint_is_refused(self):
        root = base64.b64encode(bytes(32)).decode()
        signed = sign_checkpoint(f"{ORIGIN}\n7\n{root}\n")
        note.open_checkpoint(signed.encode(), vkey())
        lines = signed.split("\n")
        stranger = signature_line("witness.example", 4, bytes(32), bytes(72))
        note.open_checkpoint((signed + stranger).encode(), vkey())
        for changed in (
            signed.replace("\n7\n", "\n8\n"), signed.replace("\n7\n", "\n07\n"), signed.replace(ORIGIN, "example.com/other"),
            signed.replace(lines[4] + "\n", ""), "\n".join(lines[:4]), signed[:-1], signed + "\n", signed.replace("\n", "\r\n"),
            sign_checkpoint(f"{ORIGIN}\n7\n{root[:-4]}\n"), sign_checkpoint(f"{ORIGIN}\n7\n"), sign_checkpoint(f"example.com/other\n7\n{root}\n"),
            signed.replace(lines[5], lines[5][:-4] + "AAA="), "", "\n\n",
        ):
            with self.assertRaises(note.NoteError, msg=changed):
                note.open_checkpoint(changed.encode(), vkey())


if __name__ == "__main__":
    unittest.main()
