"""Reads and verifies checkpoints: signed notes (c2sp.org/signed-note) of a log (c2sp.org/tlog-checkpoint)."""

import base64
import binascii
import hashlib
import re

import ed25519

ED25519 = 0x01
COSIGNATURE = 0x04


class NoteError(Exception):
    """The note is malformed, or no signature of the log is valid."""


class KeyFault(NoteError):
    """The key is malformed."""


class Checkpoint:
    def __init__(self, origin, size, root, signed_at):
        self.origin = origin
        self.size = size
        self.root = root
        # Seconds since 1970; None without a cosignature by the log itself.
        self.signed_at = signed_at


def decode_base64(text, what, fault=NoteError):
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or base64.b64encode(data).decode() != text:
        raise fault(f"{what} is not base64")
    return data


def key_id(name, algorithm, public_key):
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + public_key).digest()[:4]


def parse_key(vkey):
    """Returns the name and the public key of a verifier key, NAME+ID+BASE64."""
    parts = vkey.strip().split("+", 2)
    if len(parts) != 3 or not parts[0] or re.search(r"\s", parts[0]):
        raise KeyFault("the key is not of the form NAME+ID+BASE64")
    name, written_id, material = parts[0], parts[1], decode_base64(parts[2], "the key", KeyFault)
    if len(material) != 33 or material[0] not in (ED25519, COSIGNATURE):
        raise KeyFault("the key is not one of Ed25519")
    if not re.fullmatch("[0-9a-f]{8}", written_id) or bytes.fromhex(written_id) != key_id(name, material[0], material[1:]):
        raise KeyFault("the key's id is not that of its name and its bytes")
    return name, material[1:]


def split_note(note):
    """Returns the text, and each signature as its name, its key's id and its bytes."""
    try:
        decoded = note.decode()
    except UnicodeDecodeError:
        raise NoteError("the checkpoint is not UTF-8") from None
    if re.search("[\x00-\x09\x0b-\x1f]", decoded):
        raise NoteError("the checkpoint has control characters")
    text, separator, lines = decoded.rpartition("\n\n")
    if not separator or not text or not lines.endswith("\n"):
        raise NoteError("the checkpoint has no signatures")
    signatures = []
    for line in lines[:-1].split("\n"):
        match = re.fullmatch("\u2014 ([^\\s+]+) ([A-Za-z0-9+/=]+)", line)
        data = decode_base64(match[2], "a signature") if match else b""
        if len(data) < 5:
            raise NoteError("the checkpoint has a malformed signature line")
        signatures.append((match[1], data[:4], data[4:]))
    return text + "\n", signatures


def parse_body(text):
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines) or not re.fullmatch("0|[1-9][0-9]{0,18}", lines[1]):
        raise NoteError("the checkpoint is not origin, size and root")
    root = decode_base64(lines[2], "the root of the checkpoint")
    if len(root) != 32:
        raise NoteError("the root of the checkpoint is not a hash")
    return lines[0], int(lines[1]), root


def open_checkpoint(note, vkey):
    """Returns the checkpoint of a note that the log of this key has signed, and raises NoteError otherwise."""
    name, public_key = parse_key(vkey)
    text, signatures = split_note(note)
    origin, size, root = parse_body(text)
    if origin != name:
        raise NoteError(f"the checkpoint is of {origin}, not of {name}")
    is_signed, signed_at = False, None
    for signer, signer_id, signature in signatures:
        if signer == name and signer_id == key_id(name, ED25519, public_key):
            if not ed25519.is_valid(public_key, text.encode(), signature):
                raise NoteError("the signature of the checkpoint is not valid")
            is_signed = True
        elif signer == name and signer_id == key_id(name, COSIGNATURE, public_key):
            time = int.from_bytes(signature[:8], "big")
            message = f"cosignature/v1\ntime {time}\n{text}".encode()
            if time >= 2**63 or not ed25519.is_valid(public_key, message, signature[8:]):
                raise NoteError("the cosignature of the checkpoint is not valid")
            signed_at = time
    if not is_signed:
        raise NoteError("the checkpoint has no signature by this key")
    return Checkpoint(origin, size, root, signed_at)
